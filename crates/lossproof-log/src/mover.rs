//! Moves batches out of sealed segments into cold files, compacts partitions on the way, writes the
//! checkpoint that stands for these segments, and gives them back. What it reads is read as
//! recovery would read it, from the checkpoint before and the segments, so that nothing in memory
//! is taken for what is on the disk.
//!
//! # Invariants
//! - MOVE-1: in this order: the cold file is durable, the checkpoint is durable, both slots name
//!   it (CHECKPOINT-1), readers are sent to the cold file, the segments are given back.
//! - MOVE-2: only segments are moved that are synced as a whole (LOG-2): not the last one.
//! - MOVE-3: nothing is removed that could not be read. Damage of a sealed segment that was not
//!   known at the start, all of it, ends the moving until the next start, which reports it; a
//!   damaged cold file stays as it is, and so does a partition that cannot be compacted for it;
//!   everything else is moved, and the scrub reports it at once. What only the move can read is the
//!   next start's to serve.
//! - MOVE-4: after a failed write or sync nothing is moved any more until the next start; only
//!   where space or files run short it is tried again, and not once a slot may name the new
//!   checkpoint: its files are not this run's to remove any more. What a checkpoint stands for and
//!   could not be given back is so before anything else is moved: no checkpoint goes back.
//! - MOVE-5: one move takes a bounded part of what there is to move, the oldest first: it lists
//!   every batch of it in memory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lossproof_env::{Planted, planted};
use thiserror::Error;

use crate::accept::without;
use crate::checkpoint::{self, Checkpoint, CheckpointWriter, write_facts};
use crate::cold::{self, ColdFile, ColdWriter};
use crate::commit::PartitionId;
use crate::compaction::{Compacted, CompactionError, Order, Pass};
use crate::error::{FullCause, OffsetRange, OpenError, ReadError};
use crate::frame::{COLD_KEY, Life};
use crate::helper::Helper;
use crate::pace::Pace;
use crate::partition::{IndexEntry, Partition, View};
use crate::paths::Paths;
use crate::reader::{ReadSegment, verifies};
use crate::recovery::{Located, Recovery};
use crate::report::Finding;
use crate::rescue::Plan;
use crate::scrub::Scrubber;
use crate::shared::Shared;
use crate::slots::Slots;
use crate::waste::{named_files, scattered, wasteful};
use crate::writer::shortage;
use crate::zeroer::Zeroer;

/// Sealed segments are moved when there are so many, however small they are; and one move takes no
/// more of them (MOVE-5).
pub(crate) const SEALED_MAX: usize = 16;

/// What fails where a cold file cannot be written.
const COPY: &str = "write a cold file";

/// How long to leave a full disk alone, at first and at most: each try takes the ballast.
pub(crate) const SHORT_PAUSE: Duration = Duration::from_secs(1);
const SHORT_PAUSE_MAX: Duration = Duration::from_secs(8);

/// Why nothing was moved.
#[derive(Debug, Error)]
pub(crate) enum MoveError {
    #[error("cannot {action} while moving batches: {source}")]
    Io { action: &'static str, source: io::Error },
    #[error("cannot name the new checkpoint: {0}")]
    Slots(io::Error),
    #[error("{0}")]
    Read(OpenError),
    #[error("damage was found while moving batches, and the journal is kept: {0}")]
    Damage(String),
    #[error("a cold file is damaged and stays as it is: {what}")]
    ColdDamage { file: u32, what: String },
    /// In the middle of a pass, which had read all of the partition before.
    #[error("a partition cannot be compacted: {0}")]
    Compaction(#[from] CompactionError),
    #[error("nothing is moved until the next start")]
    Stopped,
}

impl MoveError {
    /// `file` holds what cannot be read (MOVE-3).
    fn damage(file: u32, what: String) -> Self {
        if file >= COLD_KEY { Self::ColdDamage { file, what } } else { Self::Damage(what) }
    }

    pub(crate) fn is_full_disk(&self) -> bool {
        let (Self::Io { source, .. } | Self::Read(OpenError::Io { source, .. })) = self else {
            return false;
        };
        shortage(source) == Some(FullCause::Disk)
    }

    /// Whether the same may succeed later (MOVE-4).
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::Read(OpenError::Io { source, .. }) => {
                shortage(source).is_some()
            }
            _ => false,
        }
    }
}

pub(crate) fn failed(action: &'static str) -> impl FnOnce(io::Error) -> MoveError {
    move |source| MoveError::Io { action, source }
}

/// What the mover starts from.
#[derive(Debug)]
pub(crate) struct Mover {
    pub(crate) shared: Arc<Shared>,
    pub(crate) paths: Paths,
    pub(crate) slots: Slots,
    pub(crate) current: Option<Checkpoint>,
    pub(crate) producer_id_high: u32,
    /// What the start of the log has reported.
    pub(crate) known: Vec<Finding>,
    /// Partitions that it names and does not know, though nobody had deleted them.
    pub(crate) unplaced: HashSet<PartitionId>,
    /// Who takes segments that are given back.
    pub(crate) zeroer: Option<Arc<Zeroer>>,
    /// Of the next file of either kind.
    pub(crate) sequence: u64,
    /// Of the first file of this run.
    pub(crate) first_sequence: u64,
    /// So many segments at a time: fewer where there is no room for the copy of more.
    pub(crate) most: usize,
    /// What the last move with the ballast was to take, in vain, and what there was of that.
    pub(crate) vain: Option<(Plan, u64)>,
    /// That something runs short is said once.
    pub(crate) said_short: bool,
    /// How long to wait when it does so next.
    pub(crate) pause: Duration,
    /// A write or sync has failed, or damage was found (MOVE-3, MOVE-4).
    pub(crate) halted: bool,
}

/// What one move makes durable.
struct Moved {
    checkpoint: Checkpoint,
    copied: Copied,
    /// The cold files that the checkpoint names.
    kept: BTreeSet<u32>,
}

/// What was copied into a cold file.
struct Copied {
    /// Segments and cold files that are not needed any more.
    sources: BTreeSet<u32>,
    cold: Option<ColdFile>,
    /// The partitions of which everything was written anew, and how far they are compacted now.
    compacted: BTreeMap<PartitionId, Compacted>,
    /// All files that these were in.
    left: BTreeSet<u32>,
}

impl Copied {
    /// The files of which nothing of a partition is needed any more.
    fn left_by(&self, id: PartitionId) -> &BTreeSet<u32> {
        if self.compacted.contains_key(&id) { &self.left } else { &self.sources }
    }

    /// Where the batches of a partition are now.
    fn index(&self, id: PartitionId) -> &[IndexEntry] {
        let index = self.cold.as_ref().and_then(|cold| cold.index.get(&id));
        index.map_or(&[], Vec::as_slice)
    }

    /// Sends readers there.
    fn publish(&self, view: &View) {
        for id in view.partition_ids() {
            view.replace(id, self.left_by(id), self.index(id));
            if let Some((partition, compacted)) = view.partition(id).zip(self.compacted.get(&id)) {
                partition.set_compacted(*compacted);
            }
        }
    }
}

impl Mover {
    /// Who reads through what is not moved.
    pub(crate) fn scrubber(&self) -> Scrubber {
        let quarantine = self.paths.quarantine.clone();
        Scrubber::new(self.shared.clone(), quarantine, self.known.clone())
    }

    /// Whether there is enough to move.
    pub(crate) fn is_due(&self) -> bool {
        let is_due = self.has_enough();
        if !is_due {
            // Nobody has need of what there was no room for.
            self.shared.ballast.note_move_short(false);
        }
        is_due
    }

    fn has_enough(&self) -> bool {
        let shared = &self.shared;
        let sealed = shared.segments.sealed();
        let index_is_long = self.is_long(&shared.view);
        shared.segments.sealed_bytes() >= shared.config.checkpoint_bytes
            || sealed.len() >= SEALED_MAX
            || index_is_long && !sealed.is_empty()
            || shared.mover.has_orders()
            || shared.mover.has_findings()
            || shared.mover.take_garbage()
                && !wasteful(shared, &shared.view, &shared.segments).is_empty()
            || shared.ballast.is_disk_full() && self.what_fits().is_some()
    }

    /// Whether the index has so many entries that there should be fewer.
    fn is_long(&self, view: &View) -> bool {
        view.index_entries() > self.shared.config.index_entries_max / 2
    }

    /// The thread's life: it ends when the log does, or when it must not go on (MOVE-3, MOVE-4).
    pub(crate) fn serve(mut self) {
        let mut patience = None;
        loop {
            self.shared.mover.wait(patience);
            if self.shared.mover.is_stopped() {
                return;
            }
            let ControlFlow::Continue(next) = self.turn() else { return };
            patience = next;
        }
    }

    /// Moves what is due; how long until the next turn, where nobody wakes the thread before.
    pub(crate) fn turn(&mut self) -> ControlFlow<(), Option<Duration>> {
        if !self.is_due() {
            if !self.shared.ballast.is_disk_full() {
                self.vain = None;
            }
            // Nobody tells when the ballast has more than was tried with in vain.
            return ControlFlow::Continue(self.vain.is_some().then_some(SHORT_PAUSE_MAX));
        }
        match self.run() {
            // There may be more (MOVE-5).
            Ok(()) => {
                (self.said_short, self.pause) = (false, SHORT_PAUSE);
                ControlFlow::Continue(Some(Duration::ZERO))
            }
            Err(MoveError::Stopped) => ControlFlow::Break(()),
            Err(error) if error.is_shortage() => {
                if !std::mem::replace(&mut self.said_short, true) {
                    tracing::warn!(%error, "segments are kept; tried again when there is room");
                }
                let next = (self.pause * 2).min(SHORT_PAUSE_MAX);
                ControlFlow::Continue(Some(std::mem::replace(&mut self.pause, next)))
            }
            Err(error) => {
                let kept = format!("segments are kept until the next start: {error}");
                self.shared.note_ended(Helper::Move, kept);
                ControlFlow::Break(())
            }
        }
    }

    fn check_stop(&self) -> Result<(), MoveError> {
        let stopped =
            self.halted || self.shared.mover.is_stopped() || self.shared.fenced().is_some();
        if stopped { Err(MoveError::Stopped) } else { Ok(()) }
    }

    /// Moves sealed segments, the oldest first; on a full disk those for which there is room. Where
    /// a cold file turns out to be damaged, or a partition cannot be read again for its compaction,
    /// all is begun anew without it: once for each.
    pub(crate) fn run(&mut self) -> Result<(), MoveError> {
        let has_findings = self.shared.mover.take_findings();
        let moved = loop {
            let moved = match self.move_sealed(None) {
                Err(error) if error.is_full_disk() => {
                    if self.takes_fewer() {
                        continue;
                    }
                    self.move_what_fits(error)
                }
                Ok(()) => {
                    self.most = (self.most * 2).min(SEALED_MAX);
                    self.shared.ballast.note_move_short(false);
                    self.vain = None;
                    Ok(())
                }
                moved => moved,
            };
            match moved {
                Err(MoveError::ColdDamage { file, what }) if self.shared.note_damaged(file) => {
                    tracing::error!(%what, "a cold file is damaged and stays as it is");
                }
                // It has been told of, and its order is gone.
                Err(MoveError::Compaction(_)) => {}
                moved => break moved,
            }
        };
        if moved.is_ok() {
            self.shared.mover.note_moved();
        }
        if has_findings && moved.is_err() {
            self.shared.mover.put_back_findings(); // SCRUB-2
        }
        self.halted |= moved.as_ref().is_err_and(|error| !error.is_shortage());
        moved
    }

    /// Moves all that there is, part after part, whether or not it is due; on a full disk what
    /// there is room for.
    pub(crate) fn run_all(&mut self) -> Result<(), MoveError> {
        self.run()?;
        let mut left = self.left();
        while left != (0, 0) {
            match self.run() {
                Err(error) if error.is_shortage() => break,
                moved => moved?,
            }
            let before = std::mem::replace(&mut left, self.left());
            if left == before {
                break;
            }
        }
        Ok(())
    }

    /// Sealed segments and cold files that could be moved.
    fn left(&self) -> (usize, usize) {
        let Shared { view, segments, .. } = &*self.shared;
        (segments.sealed().len(), wasteful(&self.shared, view, segments).len())
    }

    /// Half as many segments as the last move took; false where that was a single one. What is kept
    /// to be used again gives its space first.
    fn takes_fewer(&mut self) -> bool {
        if self.zeroer.as_ref().is_some_and(|zeroer| zeroer.remove_free().is_err()) {
            return false;
        }
        let took = self.share(&self.shared.segments.sealed());
        self.most = (took / 2).max(1);
        took > 1
    }

    /// How many of `files` one move takes, at least one where there is any (MOVE-5).
    fn share(&self, files: &[Arc<ReadSegment>]) -> usize {
        let most = self.shared.config.segment_bytes.saturating_mul(SEALED_MAX as u64);
        let mut bytes = 0;
        let fits = files.iter().take(self.most).take_while(|segment| {
            bytes += segment.file.len().unwrap_or(0);
            bytes <= most
        });
        fits.count().max(1).min(files.len())
    }

    pub(crate) fn move_sealed(&mut self, plan: Option<&Plan>) -> Result<(), MoveError> {
        self.check_stop()?;
        self.give_back_rest()?;
        let journal = self.shared.segments.journal();
        let Some((_, sealed)) = journal.split_last() else { return Ok(()) };
        let count = plan.map_or_else(|| self.share(sealed), |plan| plan.sealed.min(sealed.len()));
        let Some((next, sealed)) = journal[..=count].split_last() else { return Ok(()) };
        let is_sealed = |it: &Arc<ReadSegment>| it.life.segment < next.life.segment;
        assert!(sealed.iter().all(is_sealed), "MOVE-2");
        let recovery = self.fold(sealed, next.first_frame)?;
        // A plan has room for what gives back space, and for nothing else.
        let mut orders = plan.map_or_else(|| self.shared.mover.take_orders(), |_| BTreeMap::new());
        let moved = self.write(recovery, sealed, next.first_frame, (plan, &mut orders));
        let Moved { checkpoint, copied, kept } = match moved {
            Ok(moved) => moved,
            Err(error) => {
                self.remove_unnamed(&BTreeSet::new());
                if matches!(error, MoveError::ColdDamage { .. } | MoveError::Compaction(_)) {
                    self.shared.mover.put_back_orders(orders);
                }
                return Err(error);
            }
        };
        if planted(Planted::SegmentsGivenBackEarly) {
            self.give_back(&copied.sources)?;
        }
        let is_in_one = planted(Planted::CheckpointInOneSlot);
        let write = if is_in_one { Slots::write } else { Slots::write_both };
        write(&mut self.slots, &checkpoint).map_err(MoveError::Slots)?; // CHECKPOINT-1
        self.current = Some(checkpoint);
        if let Some(cold) = &copied.cold {
            self.shared.segments.insert(cold.segment.clone());
        }
        copied.publish(&self.shared.view);
        self.give_back(&copied.sources)?;
        self.forget_cold(&kept);
        if !copied.compacted.is_empty() || copied.sources.iter().any(|file| *file >= COLD_KEY) {
            // There may be more cold files that hold little.
            self.shared.mover.note_garbage();
        }
        Ok(())
    }

    /// Writes cold file and checkpoint; both are durable, and nobody uses them yet.
    fn write(
        &mut self,
        mut recovery: Recovery,
        sealed: &[Arc<ReadSegment>],
        end: u64,
        (plan, orders): (Option<&Plan>, &mut BTreeMap<PartitionId, Order>),
    ) -> Result<Moved, MoveError> {
        let mut sources: BTreeSet<u32> =
            sealed.iter().map(|segment| segment.life.file_key()).collect();
        let mut colds = wasteful(&self.shared, &recovery.view, &recovery.segments);
        // Those that hold nothing are not named any more, and go without being looked at.
        let named = named_files(&recovery.view);
        colds.retain(|cold| named.contains(&cold.life.file_key()));
        colds.retain(|cold| plan.is_none_or(|plan| plan.colds.contains(&cold.life.file_key())));
        if plan.is_none() {
            colds.truncate(self.share(&colds));
        }
        if plan.is_none() && colds.is_empty() && self.is_long(&recovery.view) {
            colds = scattered(&self.shared, &recovery.view, &recovery.segments);
        }
        for cold in colds {
            let key = cold.life.file_key();
            let located = recovery.locate_cold(&cold);
            located.map_err(|error| MoveError::damage(key, error.to_string()))?;
            sources.insert(key);
        }
        let copied = self.copy(&mut recovery, sources, orders)?;
        for id in recovery.view.partition_ids() {
            check_whole(&recovery.view, id, copied.left_by(id), copied.index(id))?;
        }
        copied.publish(&recovery.view);
        let kept = named_files(&recovery.view);
        let before = self.current.map_or((0, 0), |it| (it.through_frame, it.through_segment));
        let through_segment = sealed.last().map_or(before.1, |segment| segment.life.segment);
        let through = (end - 1, through_segment);
        assert!(through.0 >= before.0 && through.1 >= before.1, "MOVE-4");
        let checkpoint = self.write_checkpoint(&recovery, copied.cold.as_ref(), &kept, through)?;
        Ok(Moved { checkpoint, copied, kept })
    }

    /// Copies into a cold file what stays of the partitions that are to be compacted, and every
    /// located batch of the others that is still wanted (COLD-1, COLD-2).
    fn copy(
        &mut self,
        recovery: &mut Recovery,
        sources: BTreeSet<u32>,
        orders: &mut BTreeMap<PartitionId, Order>,
    ) -> Result<Copied, MoveError> {
        let mut located = recovery.located.take().unwrap_or_default();
        located.retain(|batch| is_wanted(&recovery.view, batch));
        let (journal, cold) = (recovery.segments.journal(), recovery.segments.cold());
        let there = journal.iter().chain(&cold).map(|file| file.life.file_key());
        let left = there.chain(recovery.segments.missing.keys().copied()).collect();
        let mut copied = Copied { sources, cold: None, compacted: BTreeMap::new(), left };
        if located.is_empty() && orders.is_empty() {
            return Ok(copied);
        }
        let sequence = self.take_sequence();
        let env = &self.shared.env;
        let life = Life::cold(self.shared.directory_id, sequence, env.rng.next_u64());
        let path = cold::path_of(&self.paths.cold, sequence);
        let mut writer = ColdWriter::create(&*env.disk, path, life).map_err(failed(COPY))?;
        copied.compacted = self.compact(recovery, orders, &mut writer)?;
        located.retain(|batch| !copied.compacted.contains_key(&batch.entry.partition));
        located.sort_unstable_by_key(|batch| (batch.entry.partition, batch.entry.base_offset));
        let mut pace = Pace::begin(&self.shared);
        for batch in &located {
            self.check_stop()?;
            pace.give_way();
            let bytes = read_located(recovery, batch)?;
            writer.push(batch.entry, bytes).map_err(failed(COPY))?;
        }
        copied.cold = Some(writer.finish().map_err(failed(COPY))?);
        env.disk.sync_dir(&self.paths.cold).map_err(failed(COPY))?;
        Ok(copied)
    }

    /// Compacts what was asked for; what cannot be stays as it is (COMPACTION-5). Where that turns
    /// out when a part of it is written already, its order goes, and the move with it.
    fn compact(
        &self,
        recovery: &Recovery,
        orders: &mut BTreeMap<PartitionId, Order>,
        writer: &mut ColdWriter,
    ) -> Result<BTreeMap<PartitionId, Compacted>, MoveError> {
        let keys_max = self.shared.config.compaction_keys_max;
        let is_stopped = || self.check_stop().is_err();
        let mut compacted = BTreeMap::new();
        for (id, order) in orders.clone() {
            let Some(partition) = recovery.view.partition(id) else { continue };
            if self.shared.mover.is_called_off(id) {
                continue;
            }
            let of = (id, &*partition);
            let pass = match Pass::plan(&recovery.segments, of, &order, keys_max, is_stopped) {
                Ok(Some(pass)) => pass,
                Ok(None) => continue,
                Err(CompactionError::Stopped) => return Err(MoveError::Stopped),
                Err(error) => {
                    tracing::error!(partition = %id, %error, "not compacted: nothing is removed");
                    continue;
                }
            };
            let done = pass.rewrite(|entry, bytes| {
                self.check_stop()?;
                writer.push(entry, bytes).map_err(failed(COPY))
            });
            if let Err(MoveError::Compaction(error)) = &done {
                self.note_unreadable(recovery, of, error);
                orders.remove(&id);
            }
            compacted.insert(id, done?);
        }
        Ok(compacted)
    }

    /// Tells of a partition that could be read the first time only. A cold file that is in the way
    /// stays as it is, and the scrub reads it next (SCRUB-4).
    fn note_unreadable(
        &self,
        recovery: &Recovery,
        (id, partition): (PartitionId, &Partition),
        error: &CompactionError,
    ) {
        tracing::error!(partition = %id, %error, "not compacted: nothing is removed");
        let file = match error {
            CompactionError::Read(ReadError::Damaged { range, .. }) => {
                let entry = partition.entry_at(range.first);
                entry.filter(|it| it.range().contains(range.first)).map(|it| it.segment)
            }
            CompactionError::Read(ReadError::Io { path, .. }) => {
                let cold = recovery.segments.cold().into_iter().find(|it| it.path == *path);
                cold.map(|it| it.life.file_key())
            }
            _ => None,
        };
        if let Some(file) = file.filter(|file| *file >= COLD_KEY) {
            self.shared.note_damaged(file);
        }
    }

    fn write_checkpoint(
        &mut self,
        recovery: &Recovery,
        cold: Option<&ColdFile>,
        kept: &BTreeSet<u32>,
        (through_frame, through_segment): (u64, u64),
    ) -> Result<Checkpoint, MoveError> {
        let sequence = self.take_sequence();
        let disk = &*self.shared.env.disk;
        let incarnation = self.shared.env.rng.next_u64();
        let life = Life::checkpoint(self.shared.directory_id, sequence, incarnation);
        let paths = checkpoint::paths_of(&self.paths.checkpoint, sequence);
        let write = || {
            let mut writer = CheckpointWriter::create(disk, &paths, life)?;
            write_facts(&mut writer, recovery, cold, kept)?;
            let finished = writer.finish()?;
            disk.sync_dir(&self.paths.checkpoint)?;
            Ok(finished)
        };
        let (bytes, frames) = write().map_err(failed("write a checkpoint"))?;
        Ok(Checkpoint { sequence, incarnation, bytes, frames, through_frame, through_segment })
    }

    fn take_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    /// What the move before could not give back (MOVE-4).
    fn give_back_rest(&self) -> Result<(), MoveError> {
        let through = self.current.map_or(0, |current| current.through_segment);
        let mut rest = self.shared.segments.journal();
        rest.retain(|segment| segment.life.segment <= through);
        let rest: BTreeSet<u32> = rest.iter().map(|segment| segment.life.file_key()).collect();
        if rest.is_empty() { Ok(()) } else { self.give_back(&rest) }
    }

    /// Gives back segments: to be used again, or to be removed.
    fn give_back(&self, sources: &BTreeSet<u32>) -> Result<(), MoveError> {
        let (disk, segments) = (&*self.shared.env.disk, &self.shared.segments);
        let removing = || failed("remove what was moved");
        let journal = segments.journal();
        let old = journal.iter().filter(|it| sources.contains(&it.life.file_key()));
        for segment in old {
            let (key, path) = (segment.life.file_key(), &segment.path);
            let is_full = segment.file.len().is_ok_and(|it| it == self.shared.config.segment_bytes);
            let wanted = is_full && !self.shared.ballast.is_disk_full();
            if let Some(zeroer) = self.zeroer.as_ref().filter(|it| wanted && it.has_room()) {
                segments.remove(key);
                zeroer.offer(path.clone());
            } else {
                disk.remove(path).map_err(removing())?;
                segments.remove(key);
            }
        }
        disk.sync_dir(&self.paths.journal).map_err(removing())
    }

    /// Removes cold files and checkpoints that nothing names any more.
    fn forget_cold(&self, kept: &BTreeSet<u32>) {
        let segments = &self.shared.segments;
        let mut retired = BTreeSet::new();
        for cold in segments.cold() {
            if !kept.contains(&cold.life.file_key()) {
                segments.remove(cold.life.file_key());
                retired.insert(cold.path.clone());
            }
        }
        self.remove_unnamed(&retired);
    }

    /// Removes `retired`, and files of this run that no checkpoint names. Others that stand there
    /// were missing at the start and may be the only copy: they are the next start's to judge. What
    /// cannot be removed now is so at the next open.
    fn remove_unnamed(&self, retired: &BTreeSet<PathBuf>) {
        let cold = self.shared.segments.cold();
        let is_named = |path: &Path| cold.iter().any(|cold| cold.path == path);
        let is_own =
            |path: &Path| cold::sequence_of(path).is_some_and(|it| it >= self.first_sequence);
        let goes = |path: &Path| retired.contains(path) || is_own(path) && !is_named(path);
        let disk = &*self.shared.env.disk;
        let removed = remove_files(disk, &self.paths, self.current.as_ref(), &goes);
        if let Err(error) = removed {
            tracing::warn!(%error, "files that are not needed any more could not be removed");
        }
    }
}

/// Removes files of checkpoints but the current one's, and those cold files that `goes` says.
pub(crate) fn remove_files(
    disk: &dyn lossproof_env::Disk,
    paths: &Paths,
    current: Option<&Checkpoint>,
    goes: &dyn Fn(&Path) -> bool,
) -> io::Result<()> {
    let mut removed = false;
    for path in disk.list(&paths.cold)? {
        if cold::sequence_of(&path).is_some() && goes(&path) {
            disk.remove(&path)?;
            removed = true;
        }
    }
    if removed {
        disk.sync_dir(&paths.cold)?;
    }
    let sequence = current.map(|current| current.sequence);
    let is_old =
        |path: &PathBuf| checkpoint::sequence_of(path).is_some_and(|found| Some(found) != sequence);
    let old: Vec<PathBuf> = disk.list(&paths.checkpoint)?.into_iter().filter(is_old).collect();
    for path in &old {
        disk.remove(path)?;
    }
    if old.is_empty() { Ok(()) } else { disk.sync_dir(&paths.checkpoint) }
}

/// The bytes of a batch, verified (COLD-2).
fn read_located(recovery: &Recovery, batch: &Located) -> Result<Bytes, MoveError> {
    // It was located in one of them.
    let source = recovery.segments.get(batch.file);
    let source =
        source.ok_or_else(|| MoveError::Damage(format!("file {} is not open", batch.file)))?;
    let mut bytes = vec![0; batch.entry.length as usize];
    let read = source.file.read_exact_at(&mut bytes, batch.at);
    let believed = planted(Planted::DamageMoved);
    if read.is_err() || !believed && !verifies(&batch.entry, &bytes, &source.life) {
        let (path, entry) = (source.path.display(), batch.entry);
        let what = format!("{path} at {}: offset {}", batch.at, entry.base_offset);
        return Err(MoveError::damage(batch.file, what));
    }
    Ok(bytes.into())
}

/// Whether a batch stands where the index says, and above the log start.
fn is_wanted(view: &View, batch: &Located) -> bool {
    let Some(partition) = view.partition(batch.entry.partition) else { return false };
    let entry = partition.entry_at(batch.entry.base_offset);
    batch.entry.last_offset >= partition.bounds().0
        && partition.accepted_at(batch.entry.base_offset).is_none()
        && entry.is_some_and(|entry| {
            entry.segment == batch.file && entry.base_offset <= batch.entry.base_offset
        })
}

/// Everything that the index says of `sources` must be among what was copied (MOVE-3).
fn check_whole(
    view: &View,
    id: PartitionId,
    sources: &BTreeSet<u32>,
    moved: &[IndexEntry],
) -> Result<(), MoveError> {
    let Some(partition) = view.partition(id) else { return Ok(()) };
    let log_start = partition.bounds().0;
    let accepted = partition.view().accepted;
    let copied: Vec<OffsetRange> = moved.iter().map(IndexEntry::range).collect();
    let entries = partition.entries().into_iter();
    for entry in entries.filter(|entry| sources.contains(&entry.segment)) {
        let whole = OffsetRange { first: entry.base_offset.max(log_start), ..entry.range() };
        let missing = without(whole, &copied).into_iter();
        if let Some(lost) = missing.flat_map(|range| without(range, &accepted)).next() {
            let what = format!("partition {id} from offset {} on", lost.first);
            return Err(MoveError::damage(entry.segment, what));
        }
    }
    Ok(())
}
