//! Looking at a log that is stopped, all of it, without changing anything.
//!
//! # Invariants
//! - LOOK-1: nothing on the disk is changed, and nobody can open the log meanwhile.
//! - LOOK-2: what a start would find is found by that very start, on a disk that keeps nothing;
//!   what a start leaves for later, cold files and second copies, is read here.
//! - LOOK-3: an offset that is not told to be lost can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossproof_env::{DiskLock, Environment, ScratchDisk};

use crate::accept::without;
use crate::checkpoint::{self, Checkpoint};
use crate::commit::{PartitionId, StateKind};
use crate::committer::Committer;
use crate::config::{LogConfig, Purpose};
use crate::error::{OffsetRange, OpenError};
use crate::frame::{BLOCK, EntryKind, Life};
use crate::log::Log;
use crate::mark::Mark;
use crate::meta;
use crate::open;
use crate::partition::{IndexEntry, PartitionView, View};
use crate::paths::Paths;
use crate::quarantine;
use crate::reader::{self, ReadSegment, verifies};
use crate::recovery::failed;
use crate::report::{Finding, PartitionRange, RecoveryReport, push_joined};
use crate::scan::{FoundFrame, Piece, Scan};
use crate::segment::{DATA_AT, HeaderState, header_copies};
use crate::shared::Shared;
use crate::slots;
use crate::waste::named_files;

/// A log that was looked at. For as long as it lives nobody can start it.
#[derive(Debug)]
pub struct Checked {
    /// The log as a start would bring it up; it takes no commits.
    pub log: Log,
    /// Whose it is.
    pub purpose: Purpose,
    pub report: CheckReport,
    _lock: Option<Box<dyn DiskLock>>,
}

/// What a look at all of a log has found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckReport {
    /// What a start would report.
    pub recovery: RecoveryReport,
    /// What a start would not have noticed yet.
    pub flaws: Vec<Flaw>,
    /// Acknowledged offsets that cannot be read, by partition and offset; none twice.
    pub lost: Vec<PartitionRange>,
    /// Partitions among these that are not known any more.
    unplaced: BTreeSet<PartitionId>,
    /// Keyed entries of these kinds may be missing or old.
    pub lost_states: Vec<StateKind>,
    /// What a person has given up, by partition and offset.
    pub accepted: Vec<PartitionRange>,
    pub accepted_states: Vec<StateKind>,
    /// Ends in doubt that earlier starts have cut, as they are listed in quarantine.
    pub cut_before: Vec<String>,
    /// What is there, and not given to committed readers because of that (HIDDEN-1).
    pub hidden: Vec<PartitionRange>,
    /// Acknowledged frames at the end are gone: a start takes no writes.
    pub end_lost: bool,
    /// It was copied or restored: a start refuses it, unless it is adopted.
    pub is_copy: bool,
    /// What is worth knowing, and is no damage.
    pub notes: Vec<String>,
    pub looked_at: LookedAt,
}

impl CheckReport {
    /// Whether anything that was durable does not read back, be it a second copy.
    pub fn is_damaged(&self) -> bool {
        self.end_lost || !self.recovery.damage.is_empty() || !self.flaws.is_empty()
    }

    /// Whether what is lost of a partition is there, and the partition is not: that is given up
    /// with the entries of [`StateKind::Metadata`], among which its creation was.
    pub fn is_unplaced(&self, partition: PartitionId) -> bool {
        self.unplaced.contains(&partition)
    }
}

/// A piece that does not verify and that no crash leaves so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flaw {
    pub kind: FlawKind,
    pub path: PathBuf,
    pub position: u64,
    pub bytes: u64,
    /// What cannot be read for it. Nothing where there is another copy.
    pub lost: Vec<PartitionRange>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FlawKind {
    /// Frames of a cold file.
    ColdDamaged,
    /// One of the two files of the checkpoint.
    CheckpointCopy,
    /// One of the two headers of a file.
    HeaderCopy,
    /// One of the two copies of the identity.
    MetaCopy,
}

impl fmt::Display for FlawKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ColdDamaged => "cold-damaged",
            Self::CheckpointCopy => "checkpoint-copy",
            Self::HeaderCopy => "header-copy",
            Self::MetaCopy => "meta-copy",
        })
    }
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LookedAt {
    pub segments: u64,
    /// Frames of the journal.
    pub frames: u64,
    pub cold_files: u64,
    /// Batches in cold files.
    pub cold_batches: u64,
    pub bytes: u64,
}

/// How far a look has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CheckProgress {
    pub bytes: u64,
    pub bytes_total: u64,
}

/// Looks at the log in `directory`: what a start would report (LOOK-2), every frame of every cold
/// file, both files of the checkpoint, and all second copies.
pub fn check(
    env: &Environment,
    directory: &Path,
    config: LogConfig,
    progress: &mut dyn FnMut(CheckProgress),
) -> Result<Checked, OpenError> {
    let paths = Paths::of(directory);
    let lock = keep_out(env, &paths)?;
    let scratch = ScratchDisk::new(env.disk.clone()).discarding(&paths.quarantine);
    let scratch = Environment { disk: Arc::new(scratch), ..env.clone() };
    let (committer, mover, mut recovery) = open::open(&scratch, directory, config)?;
    let log = Log::of(committer.shared.clone());
    let RecoveryReport { damage, accepted, in_doubt, .. } = &mut recovery;
    for finding in damage.iter_mut().chain(accepted).chain(in_doubt) {
        let copy = finding.quarantined.take();
        let is_there = |path: &PathBuf| env.disk.exists(path).unwrap_or(false);
        finding.quarantined = copy.filter(is_there);
    }
    let mut look = Look {
        env,
        paths: &paths,
        shared: &committer.shared,
        own: committer.writer.active.sequence,
        report: CheckReport { recovery, ..CheckReport::default() },
        total: 0,
        progress,
    };
    look.measure(mover.current.as_ref())?;
    look.journal(mover.current.as_ref())?;
    look.cold_files()?;
    if let Some(current) = &mover.current {
        look.checkpoint(current)?;
    }
    look.identity()?;
    look.slots()?;
    let mut report = look.report;
    let foreign = unplaced(&committer, &report.recovery.damage);
    report.unplaced = foreign.iter().map(|held| held.partition).collect();
    report.lost = lost(&committer.shared, &report, foreign);
    let kinds = StateKind::ALL.into_iter().filter(|kind| log.state_is_damaged(*kind));
    report.lost_states = kinds.collect();
    report.end_lost = log.fenced().is_some();
    let view = &committer.shared.view;
    report.accepted = ranges_of(view, |known| &known.accepted);
    report.accepted.extend(unplaced(&committer, &report.recovery.accepted));
    report.accepted.sort_unstable_by_key(|it| (it.partition, it.range));
    report.accepted_states = view.state(crate::state::StateTable::accepted_kinds);
    report.hidden = log.hidden();
    report.cut_before = cut_before(env, &paths, &report.recovery)?;
    let purpose =
        meta::read(env, directory)?.map_or(Purpose::Any, |it| Purpose::of_code(it.purpose));
    Ok(Checked { log, purpose, report, _lock: lock })
}

/// What this very start would cut is listed where one was killed at that.
fn cut_before(
    env: &Environment,
    paths: &Paths,
    recovery: &RecoveryReport,
) -> Result<Vec<String>, OpenError> {
    let listed = quarantine::cuts(&*env.disk, &paths.quarantine);
    let mut listed = listed.map_err(failed("read the list in", &paths.quarantine))?;
    let now: Vec<String> = recovery.in_doubt.iter().map(Finding::to_string).collect();
    listed.retain(|line| !now.iter().any(|it| line.ends_with(it)));
    Ok(listed)
}

/// Keeps others from starting what is looked at (LOOK-1), as far as there is a log.
fn keep_out(env: &Environment, paths: &Paths) -> Result<Option<Box<dyn DiskLock>>, OpenError> {
    if !open::is_there(&*env.disk, paths)? {
        return Err(OpenError::NoLog { directory: paths.directory.clone() });
    }
    match env.disk.lock_shared(&paths.lock) {
        Ok(lock) => Ok(Some(lock)),
        // As in a copy that somebody made without it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::Locked { path: paths.directory.clone() })
        }
        Err(error) => Err(failed("lock", &paths.lock)(error)),
    }
}

/// A look in progress.
struct Look<'a> {
    env: &'a Environment,
    paths: &'a Paths,
    /// What the start came to.
    shared: &'a Shared,
    /// Sequence of the segment that the start has made for itself; of the journal it is only where
    /// the journal goes on (RECOVERY-5).
    own: u64,
    report: CheckReport,
    total: u64,
    progress: &'a mut dyn FnMut(CheckProgress),
}

impl Look<'_> {
    /// Those of the journal that were there before.
    fn segments(&self) -> Vec<Arc<ReadSegment>> {
        let mut segments = self.shared.segments.journal();
        segments.retain(|segment| segment.life.segment != self.own);
        segments
    }

    fn measure(&mut self, current: Option<&Checkpoint>) -> Result<(), OpenError> {
        let files = self.segments().into_iter().chain(self.shared.segments.cold());
        for file in files {
            self.total += file.file.len().map_err(failed("measure", &file.path))?;
        }
        self.total += 2 * current.map_or(0, |current| current.bytes);
        Ok(())
    }

    fn advance(&mut self, bytes: u64) {
        self.report.looked_at.bytes += bytes;
        let CheckReport { looked_at: LookedAt { bytes, .. }, .. } = self.report;
        (self.progress)(CheckProgress { bytes, bytes_total: self.total });
    }

    fn flaw(&mut self, kind: FlawKind, path: &Path, (position, end): (u64, u64)) -> &mut Flaw {
        let path = path.strip_prefix(&self.paths.directory).unwrap_or(path).to_owned();
        let flaw = Flaw { kind, path, position, bytes: end - position, lost: Vec::new() };
        let flaws = &mut self.report.flaws;
        flaws.push(flaw);
        let last = flaws.len() - 1;
        &mut flaws[last]
    }

    /// The frames were read by the start; its headers have second copies.
    fn journal(&mut self, current: Option<&Checkpoint>) -> Result<(), OpenError> {
        for segment in self.segments() {
            let ReadSegment { life, path, file, .. } = &*segment;
            let length = file.len().map_err(failed("measure", path))?;
            let copies = header_copies(&**file, life.directory_id, life.segment);
            let [first, second] = copies.map_err(failed("read", path))?;
            // The second is written once the first is durable: a crash ruins the second only.
            if !is_valid(first) && is_valid(second) {
                self.flaw(FlawKind::HeaderCopy, path, (0, BLOCK));
            }
            self.report.looked_at.segments += 1;
            self.advance(length);
        }
        let through = current.map_or(0, |current| current.through_frame);
        self.report.looked_at.frames = self.report.recovery.last_frame.saturating_sub(through);
        Ok(())
    }

    /// Both headers of a file that was synced as a whole before anything named it.
    fn headers(&mut self, kind: FlawKind, file: &ReadSegment) -> Result<(), OpenError> {
        let ReadSegment { life, path, file, .. } = file;
        let copies = header_copies(&**file, life.directory_id, life.segment);
        for (at, copy) in (0..).step_by(BLOCK as usize).zip(copies.map_err(failed("read", path))?) {
            if !is_valid(copy) {
                self.flaw(kind, path, (at, at + BLOCK));
            }
        }
        Ok(())
    }

    fn cold_files(&mut self) -> Result<(), OpenError> {
        let named = named_files(&self.shared.view);
        for cold in self.shared.segments.cold() {
            // Of a file of which nothing is wanted any more nothing is missed.
            if named.contains(&cold.life.file_key()) {
                self.headers(FlawKind::HeaderCopy, &cold)?;
            }
            self.cold_file(&cold).map_err(failed("read", &cold.path))?;
            self.report.looked_at.cold_files += 1;
            self.advance(cold.file.len().map_err(failed("measure", &cold.path))?);
        }
        Ok(())
    }

    /// Reads every frame of a cold file, and compares what verifies with what the index says of
    /// it (LOOK-3).
    fn cold_file(&mut self, cold: &ReadSegment) -> io::Result<()> {
        let mut scan = Scan::new(cold.file.clone(), cold.life)?;
        let mut covered = Covered::default();
        let mut bad = Vec::new();
        let mut position = DATA_AT;
        while let Some(piece) = scan.piece_at(position, 0)? {
            if let Piece::Frame(frame) = &piece {
                covered.add(&mut scan, frame)?;
            }
            if !piece.is_whole() {
                bad.push((position, piece.end()));
            }
            position = piece.end();
        }
        self.report.looked_at.cold_batches += covered.batches;
        let missing = self.uncovered(cold.life.file_key(), &covered)?;
        if bad.is_empty() && missing.iter().any(|gap| !gap.lost.is_empty()) {
            // Everything there is whole, and it is not what should be there.
            bad.push((DATA_AT, missing.iter().map(Gap::end).max().unwrap_or(scan.length)));
        }
        for piece in bad {
            let concerned: Vec<&Gap> = missing.iter().filter(|gap| gap.reaches(piece)).collect();
            let lost: Vec<PartitionRange> =
                concerned.iter().flat_map(|gap| &gap.lost).copied().collect();
            // Where all that it held was given up, it is no news.
            if concerned.is_empty() || !lost.is_empty() {
                self.flaw(FlawKind::ColdDamaged, &cold.path, piece).lost = lost;
            }
        }
        Ok(())
    }

    /// What the index says of a file and is not there.
    fn uncovered(&self, file: u32, covered: &Covered) -> io::Result<Vec<Gap>> {
        let mut missing = Vec::new();
        let view = &self.shared.view;
        for id in view.partition_ids() {
            let Some(partition) = view.partition(id) else { continue };
            let (log_start, _) = partition.bounds();
            let accepted = partition.view().accepted;
            let entries = partition.entries().into_iter().filter(|entry| entry.segment == file);
            for entry in entries {
                let first = entry.base_offset.max(log_start);
                let gaps = covered.gaps(id, OffsetRange { first, ..entry.range() });
                if gaps.is_empty() {
                    continue;
                }
                // Of a frame without its end more can be read than the frame tells.
                let mut lost = Vec::new();
                let Shared { segments, .. } = self.shared;
                let unreadable = reader::unreadable(segments, id, &partition, &entry);
                for range in unreadable.map_err(io::Error::other)? {
                    push_joined(&mut lost, PartitionRange { partition: id, range });
                }
                let is_given_up = |gap: &OffsetRange| without(*gap, &accepted) != [*gap];
                if !lost.is_empty() || gaps.iter().any(is_given_up) {
                    missing.push(Gap { entry, lost });
                }
            }
        }
        Ok(missing)
    }

    /// Both files of the checkpoint, each by itself: the start is content with either.
    fn checkpoint(&mut self, current: &Checkpoint) -> Result<(), OpenError> {
        let Checkpoint { sequence, incarnation, bytes, .. } = *current;
        let life = Life::checkpoint(self.shared.directory_id, sequence, incarnation);
        for path in checkpoint::paths_of(&self.paths.checkpoint, sequence) {
            if !self.env.disk.exists(&path).map_err(failed("look at", &path))? {
                self.flaw(FlawKind::CheckpointCopy, &path, (0, bytes));
                continue;
            }
            let file = self.env.disk.open_read_only(&path).map_err(failed("open", &path))?;
            let copy = ReadSegment { life, path, file, first_frame: 1, recycled: false };
            self.headers(FlawKind::CheckpointCopy, &copy)?;
            self.checkpoint_frames(&copy, bytes).map_err(failed("read", &copy.path))?;
            self.advance(bytes);
        }
        Ok(())
    }

    fn checkpoint_frames(&mut self, copy: &ReadSegment, end: u64) -> io::Result<()> {
        let mut scan = Scan::new(copy.file.clone(), copy.life)?;
        let mut position = DATA_AT;
        while position < end {
            let piece = scan.piece_at(position, 0)?;
            let next = piece.as_ref().map_or(end, Piece::end);
            if !piece.is_some_and(|piece| piece.is_whole()) {
                self.flaw(FlawKind::CheckpointCopy, &copy.path, (position, next));
            }
            position = next;
        }
        Ok(())
    }

    fn identity(&mut self) -> Result<(), OpenError> {
        let path = meta::path_of(&self.paths.directory);
        for at in meta::damaged_copies(self.env, &self.paths.directory)? {
            self.flaw(FlawKind::MetaCopy, &path, (at, at + BLOCK));
        }
        let Some(known) = meta::read(self.env, &self.paths.directory)? else { return Ok(()) };
        let stamp = self.env.disk.stamp(&path).map_err(failed("look at", &path))?;
        let asked = self.env.disk.machine_id();
        let machine = asked.map_err(failed("ask for the machine id of", &self.paths.directory))?;
        let (disk, journal) = (&*self.env.disk, &self.paths.journal);
        let mark = slots::read::<Mark>(disk, journal, self.shared.directory_id);
        let mark_count = mark.map_err(failed("read", journal))?.map_or(0, |mark| mark.open_count);
        let difference = meta::difference(&known, stamp, machine.as_deref(), mark_count);
        if let Some(what) = difference {
            let note =
                format!("it was copied or restored ({what}): a start refuses it without --adopt");
            self.report.notes.push(note);
            self.report.is_copy = true;
        }
        Ok(())
    }

    fn slots(&mut self) -> Result<(), OpenError> {
        let (disk, id) = (&*self.env.disk, self.shared.directory_id);
        let Paths { journal, checkpoint, .. } = self.paths;
        let marks =
            slots::unreadable::<Mark>(disk, journal, id).map_err(failed("read", journal))?;
        let named = slots::unreadable::<Checkpoint>(disk, checkpoint, id);
        for path in marks.iter().chain(&named.map_err(failed("read", checkpoint))?) {
            let path = path.strip_prefix(&self.paths.directory).unwrap_or(path);
            let path = path.display();
            let note = format!("{path} does not verify, as after a torn write; the other counts");
            self.report.notes.push(note);
        }
        Ok(())
    }
}

fn is_valid(state: HeaderState) -> bool {
    matches!(state, HeaderState::Valid(_))
}

/// Offsets that are not where the index says.
struct Gap {
    entry: IndexEntry,
    /// As far as they were not given up.
    lost: Vec<PartitionRange>,
}

impl Gap {
    fn end(&self) -> u64 {
        (u64::from(self.entry.block) + u64::from(self.entry.blocks)) * BLOCK
    }

    /// Whether the index names a piece from one position to another.
    fn reaches(&self, (position, end): (u64, u64)) -> bool {
        u64::from(self.entry.block) * BLOCK < end && position < self.end()
    }
}

/// Offsets of which the batches verify, in the order of the file.
#[derive(Debug, Default)]
struct Covered {
    ranges: BTreeMap<PartitionId, Vec<OffsetRange>>,
    batches: u64,
}

impl Covered {
    fn add(&mut self, scan: &mut Scan, frame: &FoundFrame) -> io::Result<()> {
        let payloads = scan.payloads(frame)?;
        for (entry, payload) in frame.entries.iter().zip(payloads) {
            let is_good = entry.kind == EntryKind::Batch
                && payload.is_some_and(|payload| verifies(entry, &payload, &scan.life));
            if !is_good {
                continue;
            }
            self.batches += 1;
            let ranges = self.ranges.entry(entry.partition).or_default();
            match ranges.last_mut() {
                Some(last) if last.last + 1 == entry.base_offset => last.last = entry.last_offset,
                _ => ranges.push(OffsetRange { first: entry.base_offset, last: entry.last_offset }),
            }
        }
        Ok(())
    }

    /// What is missing of `whole`: those of a partition come in the order of their offsets.
    fn gaps(&self, id: PartitionId, whole: OffsetRange) -> Vec<OffsetRange> {
        without(whole, self.ranges.get(&id).map_or(&[][..], Vec::as_slice))
    }
}

fn ranges_of(
    view: &View,
    which: impl Fn(&PartitionView) -> &Vec<OffsetRange>,
) -> Vec<PartitionRange> {
    let mut all = Vec::new();
    for id in view.partition_ids() {
        let Some(known) = view.partition(id).map(|partition| partition.view()) else { continue };
        all.extend(
            which(&known).iter().map(|range| PartitionRange { partition: id, range: *range }),
        );
    }
    all
}

/// What findings tell of partitions that are not known, though nobody has deleted them.
pub(crate) fn unplaced(committer: &Committer, findings: &[Finding]) -> Vec<PartitionRange> {
    let is_it = |held: &&PartitionRange| {
        let id = held.partition;
        committer.shared.view.partition(id).is_none() && !committer.staging.is_deleted(id)
    };
    findings.iter().flat_map(|finding| &finding.partitions).filter(is_it).copied().collect()
}

/// All that cannot be read, joined: what the start knows of its partitions, what it had to pass
/// over since it knows no partition for it, and what it has not noticed yet.
fn lost(
    shared: &Shared,
    report: &CheckReport,
    foreign: Vec<PartitionRange>,
) -> Vec<PartitionRange> {
    let known = ranges_of(&shared.view, |known| &known.damaged).into_iter();
    let later = report.flaws.iter().flat_map(|flaw| flaw.lost.iter().copied());
    let mut all: Vec<PartitionRange> = known.chain(foreign).chain(later).collect();
    all.sort_unstable_by_key(|it| (it.partition, it.range));
    all.dedup_by(|next, last| {
        let joins = last.partition == next.partition
            && next.range.first <= last.range.last.saturating_add(1);
        if joins {
            last.range.last = last.range.last.max(next.range.last);
        }
        joins
    });
    all
}
