//! Reading batches back: each is checked before it leaves here.
//!
//! # Invariants
//! - READ-1: a batch is returned only if its partition, offsets and checksum agree in frame,
//!   directory and batch.
//! - READ-2: offsets that cannot be read are answered as an error, never skipped.
//! - READ-3: what was moved while it was read is looked for where it is now: an error is believed
//!   only while the index still names the place it comes from, and the partition is there.
//! - READ-4: a read goes on behind what was given up, and none has batches from both sides of it:
//!   a client that leaves out a transaction which was aborted with the range forgets that with the
//!   next read.
//! - READ-5: the batches of a read keep at most a quarter more memory than they fill.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};

use lossproof_env::DiskFile;

use crate::batch::BatchHeader;
use crate::commit::{LaneRange, PartitionId};
use crate::error::{OffsetRange, ReadError};
use crate::frame::{BLOCK, COLD_KEY, Copy, Entry, EntryKind, FrameHeader, HEADER_BYTES, Life};
use crate::partition::{IndexEntry, Partition};
use crate::scan::{FoundFrame, Scan, is_unreadable};
use crate::snapshot::ColdFact;

/// A batch as it is stored: base offset and leader epoch set, everything else as it came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub bytes: Bytes,
    pub identity: Option<LaneRange>,
}

/// What a read gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Slice {
    /// Whole batches without a gap; the first holds the offset that was asked for, or is the next
    /// one behind a range that was given up. Empty only at the high watermark.
    pub batches: Vec<StoredBatch>,
    /// Where it goes on: behind these batches, or behind what was given up at the high watermark.
    pub next_offset: i64,
    pub high_watermark: i64,
    pub log_start: i64,
    /// Memory that the batches keep, in bytes: that of others is in it, which was read with them
    /// (READ-5).
    pub held: usize,
}

/// A segment, or a cold file, as readers use it.
#[derive(Debug)]
pub(crate) struct ReadSegment {
    pub(crate) life: Life,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) first_frame: u64,
    pub(crate) recycled: bool,
}

/// All segments and cold files, by key, in the order of their sequences; cold files come last.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// Cold files that a checkpoint names and that are not there, by key.
    pub(crate) missing: BTreeMap<u32, ColdFact>,
    open: RwLock<BTreeMap<u32, Arc<ReadSegment>>>,
}

impl Segments {
    pub(crate) fn insert(&self, segment: Arc<ReadSegment>) {
        let key = segment.life.file_key();
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(key, segment);
    }

    pub(crate) fn get(&self, key: u32) -> Option<Arc<ReadSegment>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(crate) fn remove(&self, key: u32) -> Option<Arc<ReadSegment>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&key)
    }

    /// Those of the journal, the last of which may be in use.
    pub(crate) fn journal(&self) -> Vec<Arc<ReadSegment>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.range(..COLD_KEY).map(|(_, segment)| segment.clone()).collect()
    }

    /// Those of the journal that nothing is added to.
    pub(crate) fn sealed(&self) -> Vec<Arc<ReadSegment>> {
        let mut sealed = self.journal();
        sealed.pop();
        sealed
    }

    /// What these take; one whose length cannot be had counts for nothing.
    pub(crate) fn sealed_bytes(&self) -> u64 {
        self.sealed().iter().filter_map(|segment| segment.file.len().ok()).sum()
    }

    /// How many of them are the journal's.
    pub(crate) fn journal_len(&self) -> usize {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.range(..COLD_KEY).count()
    }

    pub(crate) fn cold(&self) -> Vec<Arc<ReadSegment>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.range(COLD_KEY..).map(|(_, segment)| segment.clone()).collect()
    }
}

/// Read at once where it is looked which offsets are lost.
pub(crate) const JUDGED_BYTES: usize = 256 << 10;

/// At most this much is read ahead at a time.
const WINDOW_BYTES_MAX: u64 = 128 << 10;

/// Part of a segment, read at once; what lies outside is read by itself.
struct Window<'a> {
    segment: &'a ReadSegment,
    start: u64,
    bytes: Bytes,
}

impl<'a> Window<'a> {
    /// Of up to `length` bytes, and of no more than `room` allows to be taken from it.
    fn open(segment: &'a ReadSegment, start: u64, length: u64, room: u64) -> Self {
        let length = length.min(WINDOW_BYTES_MAX).min(room.max(BLOCK)) as usize;
        // Where it cannot be read as a whole, what is wanted of it is read by itself.
        let bytes = read_bytes(&*segment.file, start, length).ok().flatten().unwrap_or_default();
        Self { segment, start, bytes }
    }

    fn end(&self) -> u64 {
        self.start + (self.bytes.len() as u64).max(1)
    }

    /// `None` where the file ends before.
    fn get(&self, at: u64, length: usize) -> io::Result<Option<Bytes>> {
        let from = (at - self.start) as usize;
        match from.checked_add(length).filter(|to| *to <= self.bytes.len()) {
            Some(to) => Ok(Some(self.bytes.slice(from..to))),
            None => read_bytes(&*self.segment.file, at, length),
        }
    }
}

fn read_bytes(file: &dyn DiskFile, at: u64, length: usize) -> io::Result<Option<Bytes>> {
    match file.read_vec_at(length, at) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// What becomes of what the medium does not give back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unread {
    /// An error: it may come back.
    IsError,
    /// Damage, as at a start: for who looks for damage, or for a person who gives it up.
    IsDamage,
}

/// One read in progress.
struct Cursor<'a> {
    id: PartitionId,
    partition: &'a Partition,
    unread: Unread,
    next_offset: i64,
    high_watermark: i64,
    bytes_left: usize,
    batches: Vec<StoredBatch>,
    /// What is read at the moment, as a whole.
    window: Bytes,
    /// How many of the batches come from what was read before that, and what they keep.
    settled: usize,
    held: usize,
}

impl<'a> Cursor<'a> {
    /// Of the offsets from the first one to below the second, which is a high watermark.
    fn new(
        id: PartitionId,
        partition: &'a Partition,
        (next_offset, high_watermark): (i64, i64),
        bytes_left: usize,
        unread: Unread,
    ) -> Self {
        Self {
            id,
            partition,
            unread,
            next_offset,
            high_watermark,
            bytes_left,
            batches: Vec::new(),
            window: Bytes::new(),
            settled: 0,
            held: 0,
        }
    }

    fn into_slice(mut self, log_start: i64) -> Slice {
        self.enter(Bytes::new());
        let Self { batches, next_offset, high_watermark, held, .. } = self;
        Slice { batches, next_offset, high_watermark, log_start, held }
    }

    /// Goes on to another window: of the last one all is kept, or copies of what was taken
    /// (READ-5).
    fn enter(&mut self, window: Bytes) {
        let left = mem::replace(&mut self.window, window);
        let place = left.as_ptr_range();
        let taken = self.batches.get_mut(self.settled..).unwrap_or_default().iter_mut();
        let (shared, alone): (Vec<_>, Vec<_>) =
            taken.partition(|batch| place.contains(&batch.bytes.as_ptr()));
        let length = |of: &[&mut StoredBatch]| of.iter().map(|it| it.bytes.len()).sum::<usize>();
        let (shared_bytes, alone_bytes) = (length(&shared), length(&alone));
        let copies = shared_bytes + shared_bytes / 4 < left.len();
        let mut copy = BytesMut::with_capacity(if copies { shared_bytes } else { 0 });
        for batch in shared.into_iter().filter(|_| copies) {
            copy.extend_from_slice(&batch.bytes);
            batch.bytes = copy.split().freeze();
        }
        self.held += alone_bytes + if copies { shared_bytes } else { left.len() };
        self.settled = self.batches.len();
    }

    fn is_full(&self) -> bool {
        !self.batches.is_empty() && self.bytes_left == 0
    }

    /// How long the next batch may be: the first one is taken whatever its length.
    fn room(&self) -> u64 {
        if self.batches.is_empty() { u64::MAX } else { self.bytes_left as u64 }
    }

    /// Goes on without what the medium does not give back; `unread` is told of it where it is no
    /// damage. Any other error is one of the whole read.
    fn miss<T>(&self, error: io::Error, unread: &mut Option<io::Error>) -> io::Result<Option<T>> {
        if !is_unreadable(&error) {
            return Err(error);
        }
        if self.unread == Unread::IsError {
            unread.get_or_insert(error);
        }
        Ok(None)
    }

    /// Takes a batch if it is the next one and fits; breaks where the read has to end.
    fn take(&mut self, entry: &Entry, payload: &Bytes, life: &Life) -> ControlFlow<Stop> {
        let is_first = self.batches.is_empty();
        if !is_first && self.partition.accepted_at(self.next_offset).is_some() {
            return ControlFlow::Break(Stop::Enough); // READ-4
        }
        // Before it is looked how far this read goes: what is missing may stand before a batch that
        // was acknowledged after it began.
        let missing_to = entry.base_offset.min(self.high_watermark) - 1;
        if missing_to >= self.next_offset {
            let lost = OffsetRange { first: self.next_offset, last: missing_to };
            return ControlFlow::Break(Stop::Damage(lost));
        }
        if entry.last_offset >= self.high_watermark {
            return ControlFlow::Break(Stop::Enough);
        }
        if let Some(known) = self.partition.damage_at(entry.base_offset) {
            return ControlFlow::Break(Stop::Damage(known));
        }
        if !verifies(entry, payload, life) {
            let lost = OffsetRange { first: entry.base_offset, last: entry.last_offset };
            return ControlFlow::Break(Stop::Damage(lost));
        }
        self.bytes_left = self.bytes_left.saturating_sub(payload.len());
        self.next_offset = entry.last_offset + 1;
        self.batches.push(StoredBatch {
            base_offset: entry.base_offset,
            last_offset: entry.last_offset,
            bytes: payload.clone(),
            identity: entry.identity,
        });
        ControlFlow::Continue(())
    }
}

/// Whether `payload` is the batch that `entry` promises (READ-1).
pub(crate) fn verifies(entry: &Entry, payload: &[u8], life: &Life) -> bool {
    life.crc(payload) == entry.crc
        && BatchHeader::parse(payload).is_ok_and(|header| {
            let delta = i64::from(header.last_offset_delta);
            header.base_offset == entry.base_offset
                && header.base_offset.checked_add(delta) == Some(entry.last_offset)
        })
}

enum Stop {
    Enough,
    /// The next offsets cannot be read.
    Damage(OffsetRange),
}

/// Reads from `from` on; see [`Log::read`](crate::Log::read).
pub(crate) fn read(
    segments: &Segments,
    id: PartitionId,
    partition: &Partition,
    from: i64,
    max_bytes: usize,
    unread: Unread,
) -> Result<Slice, ReadError> {
    let (log_start, high_watermark) = partition.bounds();
    if from < log_start || from > high_watermark {
        return Err(ReadError::OffsetOutOfRange { offset: from, log_start, high_watermark });
    }
    let mut cursor = Cursor::new(id, partition, (from, high_watermark), max_bytes, unread);
    match gather(segments, &mut cursor)? {
        Stop::Damage(range) if cursor.batches.is_empty() => {
            let (log_start, high_watermark) = partition.bounds();
            if from < log_start {
                // It has been raised since.
                return Err(ReadError::OffsetOutOfRange {
                    offset: from,
                    log_start,
                    high_watermark,
                });
            }
            Err(ReadError::Damaged { partition: id, range })
        }
        _ => Ok(cursor.into_slice(log_start)),
    }
}

/// The offsets of an index entry from the log start on that cannot be read and are not given up, in
/// order.
pub(crate) fn unreadable(
    segments: &Segments,
    id: PartitionId,
    partition: &Partition,
    entry: &IndexEntry,
) -> Result<Vec<OffsetRange>, ReadError> {
    let mut lost = Vec::new();
    let mut next = entry.base_offset.max(partition.bounds().0);
    while next <= entry.last_offset() {
        if let Some(gone) = partition.accepted_at(next) {
            next = gone.last + 1;
            continue;
        }
        next = match read(segments, id, partition, next, JUDGED_BYTES, Unread::IsDamage) {
            Ok(slice) => match slice.batches.last() {
                Some(last) => last.last_offset + 1,
                None => break,
            },
            Err(ReadError::Damaged { range, .. }) => {
                let last = range.last.min(entry.last_offset());
                lost.push(OffsetRange { first: range.first.max(next), last });
                last + 1
            }
            Err(error) => return Err(error),
        };
    }
    Ok(lost)
}

/// Takes run after run, as far as it goes.
fn gather(segments: &Segments, cursor: &mut Cursor<'_>) -> Result<Stop, ReadError> {
    let Cursor { partition, high_watermark, .. } = *cursor;
    loop {
        if let Some(known) = partition.damage_at(cursor.next_offset) {
            return Ok(Stop::Damage(known));
        }
        if let Some(gone) = partition.accepted_at(cursor.next_offset) {
            // READ-4
            if !cursor.batches.is_empty() {
                return Ok(Stop::Enough);
            }
            cursor.next_offset = gone.last + 1;
            continue;
        }
        if cursor.is_full() || cursor.next_offset >= high_watermark {
            return Ok(Stop::Enough);
        }
        let before = cursor.next_offset;
        let rest = OffsetRange { first: before, last: high_watermark - 1 };
        let Some(entry) = partition.entry_at(before) else {
            return Ok(Stop::Damage(rest));
        };
        let walked = read_run(segments, &entry, cursor);
        let failed = !matches!(walked, Ok(ControlFlow::Break(Stop::Enough)))
            && cursor.next_offset <= entry.last_offset();
        if failed && partition.entry_at(cursor.next_offset) != Some(entry) {
            continue; // READ-3
        }
        match walked {
            Ok(ControlFlow::Break(stop)) => return Ok(stop),
            // The run does not hold what the index says of it.
            Ok(ControlFlow::Continue(())) if failed => {
                let lost = OffsetRange { first: cursor.next_offset, last: entry.last_offset() };
                return Ok(Stop::Damage(lost));
            }
            Ok(ControlFlow::Continue(())) => {}
            Err(error) if cursor.batches.is_empty() => return Err(error),
            // What stands before it is given; the error comes with the next read.
            Err(_) => return Ok(Stop::Enough),
        }
    }
}

fn read_run(
    segments: &Segments,
    index: &IndexEntry,
    cursor: &mut Cursor<'_>,
) -> Result<ControlFlow<Stop>, ReadError> {
    let Some(segment) = segments.get(index.segment) else {
        return Ok(ControlFlow::Continue(()));
    };
    walk_run(&segment, index, cursor)
        .map_err(|source| ReadError::Io { path: segment.path.clone(), source })
}

fn walk_run(
    segment: &ReadSegment,
    index: &IndexEntry,
    cursor: &mut Cursor<'_>,
) -> io::Result<ControlFlow<Stop>> {
    let mut position = u64::from(index.block) * BLOCK;
    let end = position + u64::from(index.blocks) * BLOCK;
    let mut window = Window::open(segment, position, end - position, cursor.room());
    cursor.enter(window.bytes.clone());
    // The first error that stands for damage only as long as nobody says so.
    let mut unread = None;
    while position < end {
        if position >= window.end() {
            window = Window::open(segment, position, end - position, cursor.room());
            cursor.enter(window.bytes.clone());
        }
        let looked = frame_in(&window, position).or_else(|error| cursor.miss(error, &mut unread));
        // What can be had of a damaged frame, or the next one: the batches in between are missed by
        // their offsets.
        let found = match looked? {
            Some(frame) => Some(frame),
            None => salvage(segment, position, end)?,
        };
        let Some(frame) = found else { break };
        position = frame.position;
        let mut at = position + frame.header.payload_at() as u64;
        for entry in &frame.entries {
            let wanted = entry.kind == EntryKind::Batch
                && entry.partition == cursor.id
                && entry.last_offset >= cursor.next_offset;
            if wanted {
                if u64::from(entry.length) > cursor.room() {
                    // It is for the next read, which has to fetch it anyhow.
                    return Ok(ControlFlow::Break(Stop::Enough));
                }
                let payload = window.get(at, entry.length as usize);
                let payload = payload.or_else(|error| cursor.miss(error, &mut unread))?;
                let payload = payload.unwrap_or_default();
                match (cursor.take(entry, &payload, &segment.life), unread) {
                    (ControlFlow::Continue(()), still) => unread = still,
                    (ControlFlow::Break(Stop::Damage(_)), Some(error)) => return Err(error),
                    (ControlFlow::Break(stop), _) => return Ok(ControlFlow::Break(stop)),
                }
            }
            at += u64::from(entry.length);
        }
        position = frame.end();
    }
    match unread {
        Some(error) if cursor.next_offset <= index.last_offset() => Err(error),
        _ => Ok(ControlFlow::Continue(())),
    }
}

/// The frame at `position`, if its first header and directory verify.
fn frame_in(window: &Window<'_>, position: u64) -> io::Result<Option<FoundFrame>> {
    let life = &window.segment.life;
    let Some(header) = window.get(position, HEADER_BYTES)? else { return Ok(None) };
    let Some(header) = FrameHeader::decode(&header, life, Copy::Front) else { return Ok(None) };
    let directory = window.get(position + HEADER_BYTES as u64, header.directory_bytes())?;
    let entries = directory.and_then(|bytes| header.entries(&bytes, life));
    Ok(entries.map(|entries| FoundFrame { header, entries, position, whole: false }))
}

/// A frame with a damaged first header or directory by the second, else the next frame in the run.
fn salvage(segment: &ReadSegment, position: u64, end: u64) -> io::Result<Option<FoundFrame>> {
    let mut scan = Scan::new(segment.file.clone(), segment.life)?;
    let headers = scan.headers(position, end)?;
    let mut from = position;
    while let Some((begin, header)) = headers.first(from, 0) {
        if let Some(frame) = scan.frame_of(begin, header)? {
            return Ok(Some(frame));
        }
        from = begin + u64::from(header.length);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lossproof_env::SimDisk;

    use super::*;
    use crate::LogConfig;
    use crate::testing::{append, create, open};

    const ID: PartitionId = PartitionId(1);

    /// READ-2: the batch behind what cannot be read was acknowledged after the read began. That it
    /// may not be given yet says nothing of what is missing before it.
    #[test]
    fn what_cannot_be_read_is_no_end_though_the_log_has_grown_meanwhile() {
        let disk = SimDisk::new();
        let (log, mut stepper) = open(&disk, LogConfig::small());
        stepper.submit(vec![create(ID)]).remove(0).unwrap();
        for value in [b"before", b"struck"] {
            stepper.submit(vec![append(ID, 1, value)]).remove(0).unwrap();
        }
        let partition = log.shared().view.partition(ID).unwrap();
        let bounds = partition.bounds();
        stepper.submit(vec![append(ID, 1, b"behind")]).remove(0).unwrap();
        assert_eq!((bounds, partition.bounds()), ((0, 2), (0, 3)));
        let path = Path::new("/data/journal/0000000000000001.wal");
        let bytes = disk.bytes(path).unwrap();
        let at = bytes.windows(6).position(|it| it == b"struck").unwrap() as u64 / BLOCK * BLOCK;
        disk.make_unreadable(path, at..at + BLOCK).unwrap();
        let segments = &log.shared().segments;
        let read = |from, unread| {
            let mut cursor = Cursor::new(ID, &partition, (from, bounds.1), 1, unread);
            gather(segments, &mut cursor).map(|stop| (stop, cursor.into_slice(bounds.0)))
        };
        let failed = read(1, Unread::IsError);
        assert!(matches!(failed, Err(ReadError::Io { .. })));
        let struck = OffsetRange { first: 1, last: 1 };
        let damaged = read(1, Unread::IsDamage);
        assert!(matches!(damaged, Ok((Stop::Damage(range), _)) if range == struck));
        let (_, before) = read(0, Unread::IsError).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((before.batches.len(), before.next_offset), (1, 1));
        let (_, at_end) = read(2, Unread::IsError).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((at_end.batches.len(), at_end.next_offset), (0, 2));
    }
}
