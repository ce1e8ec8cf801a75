//! Reading the journal back. What is kept is judged by what is known to have been durable.
//!
//! # Invariants
//! - RECOVERY-1: acknowledged data that cannot be read is reported with its ranges and kept;
//!   it is never cut and never skipped in silence.
//! - RECOVERY-2: only what lies beyond the highest frame known to be durable is ever cut, and its
//!   bytes and ranges are kept and reported.
//! - RECOVERY-3: frames beyond the durable mark are used only after they were written anew and
//!   synced: after a failed sync the page cache shows bytes that are not on disk.
//! - RECOVERY-4: offsets that may have been given before are never given again, and neither are
//!   producer ids of a block that was lost in the middle. (What is cut at the end, and told as in
//!   doubt, may have held a block that was given: that one is given again.)
//! - RECOVERY-5: where the end is lost and nobody gives it up, a start leaves the journal as it is:
//!   the next one finds the same, or the end, where that has come back.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use lossproof_env::{Environment, Planted, planted};

use crate::commit::{PartitionId, StateKind};
use crate::effect::{BatchPlace, Effect, state_kind};
use crate::error::{OffsetRange, OpenError};
use crate::frame::{BLOCK, Entry, EntryKind, FrameHeader, Item, Payload};
use crate::gather::Gathered;
use crate::misfits::Misfits;
use crate::pace::Pace;
use crate::partition::{Place, View};
use crate::quarantine;
use crate::reader::{ReadSegment, Segments};
use crate::report::{Finding, FindingKind, PartitionRange};
use crate::scan::{FoundFrame, Scan};
use crate::segment::DATA_AT;
use crate::staging::Staging;
use crate::state::Places;

/// Partitions that a commit may have created, and then some.
const IDS_SKIPPED: u64 = 1 << 32;

/// A frame beyond the durable mark, to be written anew.
#[derive(Debug)]
pub(crate) struct KeptFrame {
    pub(crate) header: FrameHeader,
    pub(crate) entries: Vec<Entry>,
    pub(crate) payloads: Vec<Bytes>,
}

impl KeptFrame {
    pub(crate) fn items(&self) -> Vec<Item> {
        let pairs = self.entries.iter().zip(&self.payloads);
        let item = |(entry, payload): (&Entry, &Bytes)| Item {
            entry: *entry,
            payload: Payload::Plain(payload.clone()),
        };
        pairs.map(item).collect()
    }
}

/// Where an older segment ends.
#[derive(Debug)]
pub(crate) struct SegmentEnd {
    pub(crate) path: PathBuf,
    pub(crate) key: u32,
    /// Behind the last frame that counts where it stands.
    pub(crate) counted: u64,
    /// Behind the last byte that is not zero.
    pub(crate) used: u64,
}

#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) env: Environment,
    quarantine: PathBuf,
    pub(crate) staging: Staging,
    pub(crate) view: View,
    pub(crate) segments: Segments,
    /// Number of the next frame.
    pub(crate) expected: u64,
    /// The highest frame known to be durable.
    pub(crate) durable: u64,
    pub(crate) run: u32,
    pub(crate) running_ms: u64,
    pub(crate) kept: Vec<KeptFrame>,
    pub(crate) damage: Vec<Finding>,
    pub(crate) in_doubt: Vec<Finding>,
    /// The journal was cut; nothing behind the cut is looked at.
    ended: bool,
    /// Acknowledged frames at the end are gone with their directories.
    pub(crate) end_lost: bool,
    /// A block of producer ids may have been lost, and no later one was read, which is higher.
    pub(crate) ids_unclear: bool,
    /// Partitions that may have had batches in lost frames, with nothing read of them since.
    pub(crate) suspects: HashSet<PartitionId>,
    pub(crate) ends: Vec<SegmentEnd>,
    /// Of the segment that is being walked.
    misfits: Misfits,
    /// Where the batches are that were applied, for who wants to know.
    pub(crate) located: Option<Vec<Located>>,
    /// Of a move; a start has nobody to give way to.
    pub(crate) pace: Option<Pace>,
}

/// A verified batch, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub(crate) entry: Entry,
    /// Segment or cold file, as in the index.
    pub(crate) file: u32,
    pub(crate) at: u64,
}

pub(crate) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

impl Recovery {
    pub(crate) fn new(env: &Environment, quarantine: &Path, producer_id_high: u32) -> Self {
        Self {
            env: env.clone(),
            quarantine: quarantine.to_owned(),
            staging: Staging::new(producer_id_high),
            view: View::default(),
            segments: Segments::default(),
            expected: 1,
            durable: 0,
            run: 0,
            running_ms: 0,
            kept: Vec::new(),
            damage: Vec::new(),
            in_doubt: Vec::new(),
            ended: false,
            end_lost: false,
            ids_unclear: false,
            suspects: HashSet::new(),
            ends: Vec::new(),
            misfits: Misfits::default(),
            located: None,
            pace: None,
        }
    }

    /// Walks all segments in order, up to the frame before `end` where that is given.
    pub(crate) fn walk(&mut self, gathered: Gathered, end: Option<u64>) -> Result<(), OpenError> {
        self.durable = self.durable.max(gathered.durable);
        self.damage.extend(gathered.damage);
        self.end_lost = gathered.end_lost;
        let limits: Vec<Option<u64>> =
            gathered.segments.iter().skip(1).map(|next| Some(next.first_frame)).collect();
        let limits = limits.into_iter().chain([end]);
        for (segment, limit) in gathered.segments.iter().zip(limits) {
            if self.ended {
                break;
            }
            self.walk_segment(segment, limit).map_err(failed("read", &segment.path))?;
        }
        if gathered.segments.is_empty() && self.durable >= self.expected {
            self.lose(0, 0, 0, self.durable);
            self.end_lost = true;
        }
        Ok(())
    }

    fn walk_segment(&mut self, found: &Arc<ReadSegment>, limit: Option<u64>) -> io::Result<()> {
        let mut scan = Scan::new(found.file.clone(), found.life)?.recycled(found.recycled);
        self.segments.insert(found.clone());
        if found.first_frame > self.expected {
            self.lose(found.life.segment, DATA_AT, 0, found.first_frame - 1);
        }
        // Where the headers are lost, so may be what stood behind them.
        let front = scan.front_header(DATA_AT)?;
        let is_first = |header: &FrameHeader| header.number == found.first_frame;
        let mut position = DATA_AT;
        if !front.as_ref().is_some_and(is_first) {
            let begin = scan.behind_damage(DATA_AT, found.first_frame)?;
            position = begin.filter(|(_, it)| is_first(it)).map_or(DATA_AT, |(at, _)| at);
        }
        let mut counted = DATA_AT;
        while limit.is_none_or(|limit| self.expected < limit) {
            if let Some(pace) = &mut self.pace {
                pace.give_way();
            }
            let frame = scan.frame_at(position, self.expected)?;
            let frame = frame.filter(|frame| frame.header.number == self.expected);
            match frame {
                Some(frame) if self.counts_in_place(&frame) => {
                    position = frame.end();
                    counted = position;
                    self.durable = self.durable.max(self.expected);
                    self.take(&mut scan, found, &frame)?;
                }
                Some(frame) if self.expected > self.durable && frame.whole => {
                    position = frame.end();
                    self.keep(&mut scan, frame)?;
                }
                _ if self.expected > self.durable || planted(Planted::CutDamagedAcked) => {
                    self.cut(&mut scan, found, position)?;
                    self.ended = true;
                    break;
                }
                _ => {
                    position = self.skip_damage(&mut scan, found, position, limit)?;
                    counted = position;
                    if self.expected > self.durable && limit.is_none() && self.end_lost {
                        break;
                    }
                }
            }
        }
        self.tell_misfits(found)?;
        let used = scan.data_end(position)?;
        let (path, key) = (found.path.clone(), found.life.file_key());
        self.ends.push(SegmentEnd { path, key, counted, used });
        Ok(())
    }

    /// Whether a frame is used where it stands: only if it is known to be durable (RECOVERY-3).
    fn counts_in_place(&self, frame: &FoundFrame) -> bool {
        let known = self.expected <= self.durable;
        let cut_anyway = planted(Planted::CutDamagedAcked) && !frame.whole;
        let trusted = planted(Planted::TrustPageCache) && frame.whole;
        known && !cut_anyway || trusted
    }

    /// Goes on behind acknowledged frames of which not even the directory is left.
    fn skip_damage(
        &mut self,
        scan: &mut Scan,
        found: &ReadSegment,
        position: u64,
        limit: Option<u64>,
    ) -> io::Result<u64> {
        let next = scan.behind_damage(position, self.expected + 1)?;
        let next = next.filter(|(_, header)| limit.is_none_or(|limit| header.number < limit));
        if let Some((at, header)) = next {
            let last = (header.number - 1).min(self.durable);
            self.lose_piece(found, position, at, last)?;
            return Ok(at);
        }
        let end = scan.nonzero_end(position)?;
        let last = limit.map_or(self.durable, |limit| limit - 1);
        self.lose_piece(found, position, end, last)?;
        self.end_lost |= limit.is_none();
        Ok(end)
    }

    fn lose_piece(
        &mut self,
        found: &ReadSegment,
        position: u64,
        end: u64,
        last_frame: u64,
    ) -> io::Result<()> {
        self.lose(found.life.segment, position, end - position, last_frame);
        if end > position
            && let Some(mut finding) = self.damage.pop()
        {
            self.quarantine(found, &mut finding)?;
            self.damage.push(finding);
        }
        Ok(())
    }

    /// Frames up to `last_frame` are gone: every partition and every kind of state may have had
    /// something in them (RECOVERY-1).
    pub(crate) fn lose(&mut self, segment: u64, position: u64, bytes: u64, last_frame: u64) {
        self.damage.push(Finding {
            kind: FindingKind::FramesLost,
            segment,
            position,
            bytes,
            first_frame: self.expected,
            last_frame,
            partitions: Vec::new(),
            states: StateKind::ALL.to_vec(),
            quarantined: None,
        });
        let places = Places::of_frames(self.expected, last_frame);
        self.expected = last_frame + 1;
        self.note_unclear(places);
    }

    fn note_unclear(&mut self, places: Places) {
        self.run += 1;
        self.ids_unclear = true;
        self.suspects = self.staging.partitions.keys().copied().collect();
        self.view.change_state(|table| {
            for kind in StateKind::ALL {
                table.note_damage(kind, places);
            }
        });
        // Partitions may have been created there, whose ids are not to be given again.
        let highest = self.view.unused_partition_id().0.saturating_add(IDS_SKIPPED);
        self.note_used(PartitionId(highest));
    }

    /// Takes a frame that is known to be durable, where it stands.
    fn take(&mut self, scan: &mut Scan, found: &ReadSegment, frame: &FoundFrame) -> io::Result<()> {
        if !frame.whole {
            self.run += 1;
        }
        let place = Place {
            segment: found.life.segment as u32,
            block: (frame.position / BLOCK) as u32,
            blocks: frame.header.length / BLOCK as u32,
            run: self.run,
        };
        let mut origin = Origin::new(found.life.segment, frame.position, frame.header);
        let mut finding = origin.finding(FindingKind::FrameDamaged);
        let mut at = frame.position + frame.header.payload_at() as u64;
        for (entry, payload) in frame.entries.iter().zip(scan.payloads(frame)?) {
            origin.entry += 1;
            let overlooked = planted(Planted::DamageOverlooked);
            // What was found whole was verified in the very memory that it is taken from.
            let verified = frame.whole || overlooked;
            let good = payload.filter(|bytes| verified || scan.life.crc(bytes) == entry.crc);
            let applied = self.apply(&origin, entry, good.as_ref(), &place, &mut finding);
            let is_batch = applied && entry.kind == EntryKind::Batch;
            if let Some(located) = self.located.as_mut().filter(|_| is_batch) {
                located.push(Located { entry: *entry, file: found.life.file_key(), at });
            }
            at += u64::from(entry.length);
        }
        self.expected = frame.header.number + 1;
        if !frame.whole {
            self.run += 1;
            self.quarantine(found, &mut finding)?;
            self.damage.push(finding);
        }
        Ok(())
    }

    fn quarantine(&self, found: &ReadSegment, finding: &mut Finding) -> io::Result<()> {
        let disk = &*self.env.disk;
        let path = quarantine::keep(disk, &self.quarantine, &*found.file, finding)?;
        finding.quarantined = Some(path);
        Ok(())
    }

    /// What may have been created under this id is not taken for what gets it later.
    fn note_used(&mut self, id: PartitionId) {
        self.view.raise_highest_id(id);
        self.staging.raise_used(id);
    }

    /// An acknowledged entry of a readable directory that cannot be read itself.
    fn lose_entry(&mut self, origin: &Origin, entry: &Entry, finding: &mut Finding) {
        self.note_used(entry.partition);
        if let Some(kind) = state_kind(entry.kind) {
            finding.states.push(kind);
            let place = Places::of_entry(origin.header.number, origin.entry);
            self.view.change_state(|table| table.note_damage(kind, place));
            self.ids_unclear |= kind == StateKind::Metadata;
            return;
        }
        let PartitionRange { range, .. } = range_of(entry);
        finding.partitions.push(range_of(entry));
        self.close_gap(entry.partition, entry.base_offset);
        if let Some(partition) = self.view.partition(entry.partition) {
            partition.note_damage(range);
            partition.raise_end(range.last.saturating_add(1));
        }
        if let Some(staged) = self.staging.partitions.get_mut(&entry.partition)
            && !planted(Planted::OffsetGivenAgain)
        {
            staged.next_offset = staged.next_offset.max(range.last.saturating_add(1));
        }
    }

    /// Offsets between what was read of a partition and its next batch were lost.
    fn close_gap(&mut self, id: PartitionId, base_offset: i64) {
        self.suspects.remove(&id);
        let Some(staged) = self.staging.partitions.get(&id) else { return };
        if base_offset <= staged.next_offset {
            return;
        }
        let range = OffsetRange { first: staged.next_offset, last: base_offset - 1 };
        if let Some(partition) = self.view.partition(id) {
            partition.note_damage(range);
            partition.raise_end(base_offset);
        }
        self.tell_lost(PartitionRange { partition: id, range }, |it| it == FindingKind::FramesLost);
    }

    /// Adds `lost` to the last finding that may be its cause. Where there is none, a checkpoint has
    /// replaced what was found then: it is as lost as before.
    fn tell_lost(&mut self, lost: PartitionRange, is_cause: impl Fn(FindingKind) -> bool) {
        let before = FindingKind::DamagedBefore;
        let last = self.damage.iter().rposition(|it| is_cause(it.kind));
        let last = last.or_else(|| self.damage.iter().rposition(|it| it.kind == before));
        if let Some(finding) = last.and_then(|at| self.damage.get_mut(at)) {
            finding.partitions.push(lost);
        } else {
            let finding = Finding::whole_file(before, 0, 0);
            self.damage.push(Finding { partitions: vec![lost], ..finding });
        }
    }

    /// What was removed had been given, whatever is left of it: no offset of it is given again
    /// (ACCEPT-3). Where the log went on behind it stays as unclear as it was.
    fn raise_end(&mut self, id: PartitionId, log_start: i64) {
        let staged = self.staging.partitions.get_mut(&id);
        let Some(staged) = staged.filter(|staged| staged.next_offset < log_start) else { return };
        staged.next_offset = log_start;
        if let Some(partition) = self.view.partition(id) {
            partition.raise_end(log_start);
        }
    }

    /// Applies one entry of a frame that counts; `payload` only where it verified. False where it
    /// cannot be.
    fn apply(
        &mut self,
        origin: &Origin,
        entry: &Entry,
        payload: Option<&Bytes>,
        place: &Place,
        finding: &mut Finding,
    ) -> bool {
        let now_ms = origin.header.running_ms;
        self.running_ms = self.running_ms.max(now_ms);
        let Some((effect, header)) = payload.and_then(|bytes| Effect::decode(entry, bytes)) else {
            self.lose_entry(origin, entry, finding);
            return false;
        };
        if let Effect::Batch(batch) = &effect {
            if let Some(kind) = self.misfit(batch) {
                self.misfits.add(origin.finding(kind), range_of(entry));
                self.note_used(batch.id);
                return false;
            }
            self.close_gap(batch.id, batch.base_offset);
            self.note_epoch(batch.id, header.as_ref().map_or(0, |header| header.leader_epoch));
        }
        if let Effect::AcceptOffsets { id, end: Some(end), .. } = effect {
            // ACCEPT-5: what has been lost since, in front of it, is not given up with it.
            self.close_gap(id, end);
        }
        if let Effect::LogStart { id, offset } = effect {
            self.raise_end(id, offset);
        }
        self.ids_unclear &= !matches!(effect, Effect::ProducerIds(_));
        let sender = header.as_ref().filter(|_| !planted(Planted::DedupeWindowLost));
        self.staging.apply(&effect, sender, now_ms);
        self.view.apply(&effect, place);
        true
    }

    /// A batch is never of a higher epoch than its partition: who has raised it may be lost.
    fn note_epoch(&mut self, id: PartitionId, epoch: i32) {
        let staged = self.staging.partitions.get_mut(&id);
        if let Some(staged) = staged.filter(|staged| staged.leader_epoch < epoch) {
            staged.leader_epoch = epoch;
            if let Some(partition) = self.view.partition(id) {
                partition.raise_epoch_to(epoch);
            }
        }
    }

    fn misfit(&self, batch: &BatchPlace) -> Option<FindingKind> {
        match self.staging.partitions.get(&batch.id) {
            None => Some(FindingKind::UnknownPartition),
            Some(staged) if batch.base_offset < staged.next_offset => Some(FindingKind::Misplaced),
            Some(_) => None,
        }
    }

    /// Applies a kept frame at its new place, which is where it will be found by who moves it.
    pub(crate) fn apply_kept(&mut self, kept: &KeptFrame, place: &Place) {
        let (segment, position) = (u64::from(place.segment), u64::from(place.block) * BLOCK);
        let mut origin = Origin::new(segment, position, kept.header);
        let mut finding = origin.finding(FindingKind::FrameDamaged);
        for (entry, payload) in kept.entries.iter().zip(&kept.payloads) {
            origin.entry += 1;
            self.apply(&origin, entry, Some(payload), place, &mut finding);
        }
        if !finding.partitions.is_empty() || !finding.states.is_empty() {
            self.damage.push(finding);
        }
    }

    /// Tells of the batches without a place among those that were written anew.
    pub(crate) fn tell_kept_misfits(&mut self) {
        self.damage.extend(self.misfits.take());
    }

    /// Keeps and tells of the batches of a segment that have no place, since the next checkpoint
    /// gives the segment back without them (RECOVERY-1).
    fn tell_misfits(&mut self, found: &ReadSegment) -> io::Result<()> {
        let mut piece = self.misfits.piece();
        if let Some(piece) = piece.as_mut().filter(|_| !planted(Planted::MisfitsNotKept)) {
            self.quarantine(found, piece)?;
        }
        let path = piece.and_then(|piece| piece.quarantined);
        let misfits = self.misfits.take();
        self.damage.extend(misfits.map(|it| Finding { quarantined: path.clone(), ..it }));
        Ok(())
    }

    /// Remembers a whole frame beyond the durable mark for being written anew (RECOVERY-3).
    fn keep(&mut self, scan: &mut Scan, frame: FoundFrame) -> io::Result<()> {
        let payloads = scan.payloads(&frame)?.into_iter().map(Option::unwrap_or_default).collect();
        self.expected = frame.header.number + 1;
        self.kept.push(KeptFrame { header: frame.header, entries: frame.entries, payloads });
        Ok(())
    }

    /// The journal ends here: what follows was never known to be durable (RECOVERY-2).
    fn cut(&mut self, scan: &mut Scan, found: &ReadSegment, position: u64) -> io::Result<()> {
        let end = scan.data_end(position)?;
        if end == position {
            return Ok(());
        }
        let mut finding = Finding {
            kind: FindingKind::TailCut,
            segment: found.life.segment,
            position,
            bytes: end - position,
            first_frame: self.expected,
            last_frame: self.expected,
            partitions: Vec::new(),
            states: Vec::new(),
            quarantined: None,
        };
        let mut at = position;
        while let Some((begin, header)) = scan.next_frame(at, self.expected)? {
            finding.last_frame = finding.last_frame.max(header.number);
            if let Some(frame) = scan.frame_of(begin, header)? {
                for entry in &frame.entries {
                    note_entry(entry, &mut finding);
                }
            }
            at = begin + u64::from(header.length);
        }
        self.quarantine(found, &mut finding)?;
        self.in_doubt.push(finding);
        Ok(())
    }

    /// Closes partitions whose log end is not known (RECOVERY-4).
    pub(crate) fn close_suspects(&mut self, gives_up: bool) {
        if self.end_lost && !gives_up {
            // Whatever was read of them, the kept frames too, came before what is lost. Where that
            // is given up, a frame is left out which says so; the next one is a frame as any other
            // (ACCEPT-5).
            self.note_unclear(Places::of_frames(self.expected, self.expected));
        }
        let mut suspects: Vec<PartitionId> = self.suspects.drain().collect();
        suspects.sort_unstable();
        for id in suspects {
            let Some(staged) = self.staging.partitions.get_mut(&id) else { continue };
            let range = OffsetRange { first: staged.next_offset, last: i64::MAX };
            staged.closed = Some(range);
            if let Some(partition) = self.view.partition(id) {
                partition.note_damage(range);
            }
            self.tell_lost(PartitionRange { partition: id, range }, FindingKind::is_open);
        }
    }
}

impl Recovery {
    /// The last word (RECOVERY-1): what is told by nothing else is told here.
    pub(crate) fn tell_unexplained(&mut self) {
        let mut partitions = Vec::new();
        for id in self.view.partition_ids() {
            let Some(partition) = self.view.partition(id) else { continue };
            for range in partition.unexplained() {
                partition.note_damage(range);
                partitions.push(PartitionRange { partition: id, range });
            }
        }
        if !partitions.is_empty() {
            let finding = Finding::whole_file(FindingKind::OffsetsMissing, 0, 0);
            self.damage.push(Finding { partitions, ..finding });
        }
    }

    /// Looks up where the batches of a cold file stand, which its frames tell.
    pub(crate) fn locate_cold(&mut self, cold: &ReadSegment) -> io::Result<()> {
        let mut scan = Scan::new(cold.file.clone(), cold.life)?;
        let located = self.located.get_or_insert_default();
        let mut position = DATA_AT;
        while let Some((begin, header)) = scan.next_frame(position, 0)? {
            let Some(frame) = scan.frame_of(begin, header)? else {
                position = begin + BLOCK;
                continue;
            };
            let mut at = begin + frame.header.payload_at() as u64;
            for entry in &frame.entries {
                located.push(Located { entry: *entry, file: cold.life.file_key(), at });
                at += u64::from(entry.length);
            }
            position = frame.end();
        }
        Ok(())
    }
}

/// Where a frame was found.
struct Origin {
    segment: u64,
    position: u64,
    header: FrameHeader,
    /// Of the entry that is looked at, from 1 on.
    entry: u64,
}

impl Origin {
    fn new(segment: u64, position: u64, header: FrameHeader) -> Self {
        Self { segment, position, header, entry: 0 }
    }

    fn finding(&self, kind: FindingKind) -> Finding {
        Finding {
            kind,
            segment: self.segment,
            position: self.position,
            bytes: u64::from(self.header.length),
            first_frame: self.header.number,
            last_frame: self.header.number,
            partitions: Vec::new(),
            states: Vec::new(),
            quarantined: None,
        }
    }
}

fn note_entry(entry: &Entry, finding: &mut Finding) {
    match state_kind(entry.kind) {
        Some(kind) if !finding.states.contains(&kind) => finding.states.push(kind),
        Some(_) => {}
        None => finding.partitions.push(range_of(entry)),
    }
}

/// What a batch's entry says that it holds.
fn range_of(entry: &Entry) -> PartitionRange {
    let range = OffsetRange { first: entry.base_offset, last: entry.last_offset };
    PartitionRange { partition: entry.partition, range }
}
