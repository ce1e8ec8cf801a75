//! Reads through what nobody may have read for long: cold files and full segments.
//!
//! # Invariants
//! - SCRUB-1: a round verifies every frame of every cold file and full segment that is there when
//!   it begins, no faster than its rate, and begins a period after the one before.
//! - SCRUB-2: damage is kept and reported as by a start, and its offsets are offline from then on,
//!   over restarts too, until a start can read and verify all of them; nothing is repaired, and
//!   nothing removed.
//! - SCRUB-3: what was moved or given back while it was read is not judged.
//! - SCRUB-4: a file in which moving has met damage is read next, whatever the time.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use crate::commit::StateKind;
use crate::effect::state_kind;
use crate::frame::{BLOCK, COLD_KEY, Entry, Life};
use crate::quarantine;
use crate::reader::{self, ReadSegment};
use crate::report::{Finding, FindingKind, PartitionRange};
use crate::scan::{FoundFrame, Headers, Scan};
use crate::segment::DATA_AT;
use crate::shared::Shared;

/// So much is read at a time; the rate decides how long after it nothing is.
const STEP_BYTES: u64 = 1 << 20;
/// A start has enough to do; and how long to leave a log alone that has nothing to verify.
const REST: Duration = Duration::from_mins(1);

/// Where in a file the next frame begins.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: u32,
    position: u64,
    number: u64,
}

#[derive(Debug)]
pub(crate) struct Scrubber {
    shared: Arc<Shared>,
    quarantine: PathBuf,
    /// What the start of the log and earlier rounds have reported.
    known: Vec<Finding>,
    /// Keys of the files of this round that were not begun.
    files: Vec<u32>,
    place: Option<Place>,
    /// Those of the file in work, where it is damaged: it is read through for them once.
    headers: Option<(Life, Headers)>,
    /// Files that were read because of what moving has met (SCRUB-4).
    suspects: BTreeSet<u32>,
    in_round: bool,
    next_round_at: Duration,
    due_at: Duration,
}

impl Scrubber {
    pub(crate) fn new(shared: Arc<Shared>, quarantine: PathBuf, known: Vec<Finding>) -> Self {
        let now = shared.env.clock.monotonic();
        Self {
            shared,
            quarantine,
            known,
            files: Vec::new(),
            place: None,
            headers: None,
            suspects: BTreeSet::new(),
            in_round: false,
            next_round_at: now + REST,
            due_at: now + REST,
        }
    }

    /// The thread's life.
    pub(crate) fn serve(mut self) {
        while !self.shared.scrub.is_stopped() {
            let patience = self.step();
            self.shared.scrub.wait(Some(patience));
        }
    }

    /// Verifies the next piece if it is time to; how long it is until the one after.
    pub(crate) fn step(&mut self) -> Duration {
        let clock = self.shared.env.clock.clone();
        let now = clock.monotonic();
        if now >= self.due_at || self.suspect().is_some() {
            self.due_at = now + self.verify_next(now);
        }
        self.due_at.saturating_sub(clock.monotonic()).max(Duration::from_millis(1))
    }

    fn verify_next(&mut self, now: Duration) -> Duration {
        let place = self.place.take().or_else(|| self.next_file());
        let Some(place) = place.or_else(|| self.begin_round(now)) else {
            // What was left of a round may have been moved: the mover has verified it.
            return self.end_round(now).max(REST);
        };
        let (verified, besides) = match self.verify(place) {
            Ok(read) => read,
            Err(error) => {
                // The next round tries it again; a medium that does not answer is told as damage.
                tracing::warn!(%error, "a file could not be read through");
                (STEP_BYTES, 0)
            }
        };
        self.shared.counters.scrub.bytes.fetch_add(verified, Ordering::Relaxed);
        let rate = self.shared.config.scrub_bytes_per_second.max(1);
        let pause = Duration::from_micros((verified + besides).saturating_mul(1_000_000) / rate);
        if self.place.is_none() && self.files.is_empty() {
            return self.end_round(now).max(pause);
        }
        pause
    }

    /// A file that is to be read out of turn (SCRUB-4).
    fn suspect(&self) -> Option<u32> {
        let damaged = self.shared.damaged_colds();
        damaged.into_iter().find(|key| !self.suspects.contains(key))
    }

    fn next_file(&mut self) -> Option<Place> {
        let suspect = self.suspect();
        self.suspects.extend(suspect);
        self.files.extend(suspect);
        while let Some(key) = self.files.pop() {
            if let Some(segment) = self.shared.segments.get(key) {
                return Some(Place { key, position: DATA_AT, number: segment.first_frame });
            }
        }
        None
    }

    /// Begins anywhere, so that a log that is opened often is verified as a whole all the same.
    fn begin_round(&mut self, now: Duration) -> Option<Place> {
        if now < self.next_round_at {
            return None;
        }
        let segments = &self.shared.segments;
        let files = [segments.sealed(), segments.cold()].concat();
        let bytes = files.iter().filter_map(|it| it.file.len().ok()).sum();
        self.shared.counters.scrub.begin(bytes);
        self.files = files.iter().map(|it| it.life.file_key()).collect();
        let count = self.files.len().max(1) as u64;
        self.files.rotate_left((self.shared.env.rng.next_u64() % count) as usize);
        let first = self.next_file()?;
        self.in_round = true;
        self.next_round_at = now + self.shared.config.scrub_period;
        Some(first)
    }

    /// How long to wait for the next one (SCRUB-1).
    fn end_round(&mut self, now: Duration) -> Duration {
        if std::mem::take(&mut self.in_round) {
            let wall_ms = self.shared.env.clock.wall_ms();
            self.shared.counters.scrub.finished_ms.store(wall_ms, Ordering::Relaxed);
        }
        self.next_round_at.saturating_sub(now)
    }

    /// Verifies frames from `place` on, up to a step; how many bytes that were, and how many were
    /// read beside them.
    fn verify(&mut self, place: Place) -> io::Result<(u64, u64)> {
        let Some(segment) = self.shared.segments.get(place.key) else { return Ok((0, 0)) };
        let limit = self.first_frame_behind(place.key);
        let mut scan = Scan::new(segment.file.clone(), segment.life)?.recycled(segment.recycled);
        let known = self.headers.take().filter(|(life, _)| *life == segment.life);
        scan.known = known.map(|(_, headers)| headers);
        let had_headers = scan.known.is_some();
        let mut at = place;
        while at.position < scan.length && limit.is_none_or(|limit| at.number < limit) {
            if at.position - place.position >= STEP_BYTES {
                self.place = Some(at);
                break;
            }
            let found = scan.frame_at(at.position, at.number)?;
            let found = found.filter(|it| it.header.number == at.number);
            let (position, number) = match &found {
                Some(frame) => (frame.end(), at.number + 1),
                None => behind_damage(&mut scan, at, limit)?,
            };
            let is_whole = found.as_ref().is_some_and(|frame| frame.whole);
            if !is_whole && !self.judge(&segment, found.as_ref(), at, (position, number)) {
                break;
            }
            at = Place { position, number, ..at };
        }
        let besides = if had_headers || scan.known.is_none() { 0 } else { scan.length };
        self.headers = scan.known.map(|headers| (segment.life, headers));
        Ok((at.position - place.position, besides))
    }

    /// The first frame of the next segment: of a cold file the length says where it ends.
    fn first_frame_behind(&self, key: u32) -> Option<u64> {
        let journal = self.shared.segments.journal();
        let next = journal.iter().find(|it| it.life.file_key() > key);
        next.filter(|_| key < COLD_KEY).map(|next| next.first_frame)
    }

    /// Reports damage of a file that is still in use; whether it is.
    fn judge(
        &mut self,
        segment: &Arc<ReadSegment>,
        found: Option<&FoundFrame>,
        from: Place,
        to: (u64, u64),
    ) -> bool {
        let is_there = self.shared.segments.get(from.key);
        if !is_there.is_some_and(|it| Arc::ptr_eq(&it, segment)) {
            return false; // SCRUB-3
        }
        self.report(segment, found, from, to);
        true
    }

    /// Keeps and tells of the frames from `from` to below `to`, a position and a frame (SCRUB-2).
    fn report(
        &mut self,
        segment: &ReadSegment,
        found: Option<&FoundFrame>,
        from: Place,
        to: (u64, u64),
    ) {
        let is_cold = from.key >= COLD_KEY;
        let kind = match found {
            _ if is_cold => FindingKind::ColdDamaged,
            Some(_) => FindingKind::FrameDamaged,
            None => FindingKind::FramesLost,
        };
        let file = u64::from(segment.life.file_sequence());
        let finding = Finding {
            position: from.position,
            first_frame: from.number,
            last_frame: to.1 - 1,
            partitions: self.lose(from, to.0),
            states: states_in(segment, found),
            ..Finding::whole_file(kind, file, to.0 - from.position)
        };
        if self.known.iter().any(|known| known.covers(&finding)) {
            return;
        }
        let is_known = finding.partitions.iter().all(|held| self.was_told_at_start(held));
        if is_known && !finding.partitions.is_empty() {
            // A checkpoint tells of it.
            self.known.push(finding);
            return;
        }
        let disk = &*self.shared.env.disk;
        let kept = quarantine::keep(disk, &self.quarantine, &*segment.file, &finding);
        let open_count = self.shared.identity.open_count;
        let listed = std::slice::from_ref(&finding);
        let listed = quarantine::list(disk, &self.quarantine, open_count, listed);
        tracing::error!(%finding, "damage was found and is kept; a check says what is lost");
        self.shared.counters.scrub.findings.fetch_add(1, Ordering::Relaxed);
        if is_cold {
            self.shared.mover.note_findings();
        }
        self.known.push(finding);
        if let Err(error) = kept.map(drop).and(listed) {
            // It is told above, and by the next checkpoint; the rest of the file is to be read yet.
            tracing::error!(%error, "what is damaged could not be copied to quarantine");
        }
    }

    fn was_told_at_start(&self, held: &PartitionRange) -> bool {
        let told_of_offsets = [FindingKind::DamagedBefore, FindingKind::ColdMissing];
        let mut before = self.known.iter().filter(|it| told_of_offsets.contains(&it.kind));
        before.any(|told| told.names(held))
    }

    /// The offsets that cannot be read of what the index says is between `from` and `end`, and of
    /// what shares an index entry with it.
    fn lose(&self, from: Place, end: u64) -> Vec<PartitionRange> {
        let Shared { view, segments, .. } = &*self.shared;
        let mut lost = Vec::new();
        for id in view.partition_ids() {
            let Some(partition) = view.partition(id) else { continue };
            let concerned = |entry: &crate::partition::IndexEntry| {
                let begin = u64::from(entry.block) * BLOCK;
                let length = u64::from(entry.blocks) * BLOCK;
                entry.segment == from.key && begin < end && begin + length > from.position
            };
            for entry in partition.entries().into_iter().filter(concerned) {
                // What cannot be told now is an error to whoever reads it, and for the next round.
                let unreadable = reader::unreadable(segments, id, &partition, &entry);
                for range in unreadable.unwrap_or_default() {
                    partition.note_loss(range);
                    lost.push(PartitionRange { partition: id, range });
                }
            }
        }
        lost
    }
}

/// Where the next frame begins that can be told, and its number; else where the file ends.
fn behind_damage(scan: &mut Scan, at: Place, limit: Option<u64>) -> io::Result<(u64, u64)> {
    let wanted = at.number + 1;
    let next = if at.key >= COLD_KEY {
        // What it holds is older than itself, and no copy of a frame of it.
        scan.next_frame(at.position, wanted)?
    } else {
        scan.behind_damage(at.position, wanted)?
    };
    let next = next.filter(|(_, header)| limit.is_none_or(|limit| header.number < limit));
    Ok(match (next, limit) {
        (Some((position, header)), _) => (position, header.number),
        (None, Some(limit)) => (scan.data_end(at.position)?.max(at.position + BLOCK), limit),
        (None, None) => (scan.length, at.number + 1),
    })
}

/// Keyed entries of a damaged frame that do not verify, or that it may have held.
fn states_in(segment: &ReadSegment, found: Option<&FoundFrame>) -> Vec<StateKind> {
    let ReadSegment { life, file, .. } = segment;
    let Some(frame) = found else {
        let is_cold = life.file_key() >= COLD_KEY;
        return if is_cold { Vec::new() } else { StateKind::ALL.to_vec() };
    };
    let read = Scan::new(file.clone(), *life).and_then(|mut scan| scan.payloads(frame));
    let payloads = read.unwrap_or_default().into_iter().chain(std::iter::repeat(None));
    let is_lost = |(entry, payload): &(&Entry, Option<Bytes>)| {
        payload.as_ref().is_none_or(|bytes| life.crc(bytes) != entry.crc)
    };
    let lost = frame.entries.iter().zip(payloads).filter(is_lost);
    lost.filter_map(|(entry, _)| state_kind(entry.kind)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lossproof_env::{Fault, ManualClock, SimDisk};

    use super::*;
    use crate::testing::{DATA, create, open, open_at};
    use crate::{Commit, LogConfig, PartitionId, Stepper};

    /// Writes frames of one block, up to so many segments.
    fn fill(shared: &Shared, stepper: &mut Stepper, segments: usize) -> Vec<Arc<ReadSegment>> {
        while shared.segments.journal_len() < segments {
            let value = bytes::Bytes::from(vec![b'x'; 3_000]);
            let change = Commit::state(StateKind::Cursor, "key", Some(value));
            stepper.submit(vec![change]).remove(0).unwrap();
            stepper.zero();
        }
        shared.segments.journal()
    }

    /// SCRUB-3: what is read of a file is looked at only after it was read, and by then another
    /// life may have begun in it.
    #[test]
    fn what_was_given_back_while_it_was_read_is_not_judged() {
        let (log, mut stepper) = open(&SimDisk::new(), LogConfig::small());
        stepper.submit(vec![create(PartitionId(1))]).remove(0).unwrap();
        let shared = log.shared().clone();
        let journal = fill(&shared, &mut stepper, 3);
        let (given_back, kept) = (&journal[0], &journal[2]);
        stepper.checkpoint().unwrap();
        let quarantine = Path::new(DATA).join("quarantine");
        let mut scrubber = Scrubber::new(shared.clone(), quarantine, Vec::new());
        for (segment, expected) in [(given_back, 0), (kept, 1)] {
            let (key, number) = (segment.life.file_key(), segment.first_frame);
            let place = Place { key, position: DATA_AT, number };
            let judged = scrubber.judge(segment, None, place, (DATA_AT + BLOCK, number + 1));
            assert_eq!(judged, expected == 1);
            assert_eq!(log.figures().scrub.findings, expected);
        }
    }

    /// The trap: of a file with many frames that are gone the rest is read for each of them.
    #[test]
    fn a_file_with_many_lost_frames_is_read_a_few_times() {
        let disk = SimDisk::new();
        let config = LogConfig { segment_bytes: 4 << 20, ..LogConfig::small() };
        let (log, mut stepper) = open(&disk, config);
        let shared = log.shared().clone();
        let segment = fill(&shared, &mut stepper, 2)[0].clone();
        let (first, length) = (segment.first_frame, segment.file.len().unwrap());
        let lost = |index: u64| (DATA_AT + 2 * index * BLOCK, first + 2 * index);
        for (position, _) in (0..50).map(lost) {
            disk.damage(&segment.path, position, &[0; BLOCK as usize]).unwrap();
        }
        for key in [segment.life.file_key(), COLD_KEY] {
            let mut scan = Scan::new(segment.file.clone(), segment.life).unwrap();
            let before = disk.read_bytes();
            for (position, number) in (0..50).map(lost) {
                let next = behind_damage(&mut scan, Place { key, position, number }, None);
                assert_eq!(next.unwrap(), (position + BLOCK, number + 1));
                assert!(scan.frame_at(position + BLOCK, number + 1).unwrap().is_some());
            }
            let read = disk.read_bytes() - before;
            assert!(read < 3 * length, "{key}: {read} bytes of {length}");
            let is_near = key == COLD_KEY;
            assert_eq!(read < length, is_near, "{key}: {read} bytes of {length}");
        }
    }

    /// SCRUB-1: over all steps, and within the rate.
    #[test]
    fn a_file_with_a_lost_frame_in_each_step_is_read_twice() {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
        let config = LogConfig { segment_bytes: 8 << 20, ..LogConfig::small() };
        let rate = config.scrub_bytes_per_second;
        let (log, mut stepper) = open_at(&disk, &clock, config);
        let shared = log.shared().clone();
        let segment = fill(&shared, &mut stepper, 2)[0].clone();
        let length = segment.file.len().unwrap();
        for position in (0..length / STEP_BYTES).map(|step| step * STEP_BYTES + DATA_AT) {
            disk.damage(&segment.path, position, &[0; BLOCK as usize]).unwrap();
        }
        let mut scrubber =
            Scrubber::new(shared.clone(), Path::new(DATA).join("quarantine"), Vec::new());
        clock.advance(REST);
        let (before, mut waited) = (disk.read_bytes(), Duration::ZERO);
        for _ in 0..2 * length / STEP_BYTES {
            let pause = scrubber.step();
            if log.figures().scrub.finished_ms.is_some() {
                break;
            }
            clock.advance(pause);
            waited += pause;
        }
        let read = disk.read_bytes() - before;
        assert_eq!(log.figures().scrub.findings, length / STEP_BYTES);
        assert!(read < 3 * length, "{read} bytes of {length}");
        let most = (waited.as_micros() as u64 * rate / 1_000_000) + 4 * STEP_BYTES;
        assert!(read <= most, "{read} bytes, {most} at most in {waited:?}");
    }

    /// SCRUB-2, over restarts too: what no checkpoint could be told of is still to be told.
    #[test]
    fn findings_are_not_forgotten_where_a_move_fails() {
        let disk = SimDisk::new();
        let (log, mut stepper) = open(&disk, LogConfig::small());
        let mover = &log.shared().mover;
        mover.note_findings();
        stepper.checkpoint().unwrap();
        assert!(!mover.has_findings(), "the checkpoint tells of them");
        mover.note_findings();
        disk.inject(Fault::sync(0));
        stepper.checkpoint().unwrap_err();
        assert!(mover.has_findings(), "SCRUB-2");
    }
}
