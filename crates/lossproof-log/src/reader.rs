//! Reading batches back: each is checked before it leaves here.
//!
//! # Invariants
//! - READ-1: a batch is returned only if its partition, offsets and checksum agree in frame,
//!   directory and batch.
//! - READ-2: offsets that cannot be read are answered as an error, never skipped.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use lossproof_env::DiskFile;

use crate::batch::BatchHeader;
use crate::commit::{LaneRange, PartitionId};
use crate::error::{OffsetRange, ReadError};
use crate::frame::{BLOCK, Copy, Entry, EntryKind, FrameHeader, HEADER_BYTES, Life};
use crate::partition::{IndexEntry, Partition};

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
    /// Whole batches without a gap; the first holds the offset that was asked for. Empty only at
    /// the high watermark.
    pub batches: Vec<StoredBatch>,
    pub high_watermark: i64,
    pub log_start: i64,
}

/// A segment as readers use it.
#[derive(Debug)]
pub(crate) struct ReadSegment {
    pub(crate) life: Life,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// All segments, by sequence.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    open: RwLock<HashMap<u32, Arc<ReadSegment>>>,
}

impl Segments {
    pub(crate) fn insert(&self, segment: ReadSegment) {
        let key = segment.life.segment as u32;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(key, Arc::new(segment));
    }

    fn get(&self, sequence: u32) -> Option<Arc<ReadSegment>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(&sequence).cloned()
    }
}

/// At most this much is read ahead at a time.
const WINDOW_BYTES_MAX: u64 = 128 << 10;

/// Part of a segment, read at once; what lies outside is read by itself.
struct Window<'a> {
    segment: &'a ReadSegment,
    start: u64,
    bytes: Bytes,
}

/// Why a piece of a segment could not be had.
enum Fault {
    /// The bytes are not there, or not what was written.
    Damage,
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Damage } else { Self::Io(error) }
    }
}

impl<'a> Window<'a> {
    fn open(segment: &'a ReadSegment, start: u64, length: u64) -> Result<Self, Fault> {
        let bytes = read_bytes(&*segment.file, start, length.min(WINDOW_BYTES_MAX) as usize)?;
        Ok(Self { segment, start, bytes })
    }

    fn get(&self, at: u64, length: usize) -> Result<Bytes, Fault> {
        let from = (at - self.start) as usize;
        match from.checked_add(length) {
            Some(to) if to <= self.bytes.len() => Ok(self.bytes.slice(from..to)),
            _ => Ok(read_bytes(&*self.segment.file, at, length)?),
        }
    }
}

fn read_bytes(file: &dyn DiskFile, at: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes.into())
}

/// One read in progress.
struct Cursor<'a> {
    id: PartitionId,
    partition: &'a Partition,
    next_offset: i64,
    high_watermark: i64,
    bytes_left: usize,
    batches: Vec<StoredBatch>,
}

impl Cursor<'_> {
    /// Takes a batch if it is the next one and fits; breaks where the read has to end.
    fn take(&mut self, entry: &Entry, payload: &Bytes, life: &Life) -> ControlFlow<Stop> {
        if entry.last_offset < self.next_offset {
            return ControlFlow::Continue(());
        }
        if entry.last_offset >= self.high_watermark {
            return ControlFlow::Break(Stop::Enough);
        }
        if entry.base_offset > self.next_offset && !self.batches.is_empty() {
            return ControlFlow::Break(Stop::Damage);
        }
        if !self.batches.is_empty() && payload.len() > self.bytes_left {
            return ControlFlow::Break(Stop::Enough);
        }
        if self.partition.damage_at(entry.base_offset).is_some() || !verifies(entry, payload, life)
        {
            self.next_offset = self.next_offset.max(entry.base_offset);
            return ControlFlow::Break(Stop::Damage);
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
    Damage,
}

/// Reads from `from` on; see [`Log::read`](crate::Log::read).
pub(crate) fn read(
    segments: &Segments,
    id: PartitionId,
    partition: &Partition,
    from: i64,
    max_bytes: usize,
) -> Result<Slice, ReadError> {
    let (log_start, high_watermark) = partition.bounds();
    if from < log_start || from > high_watermark {
        return Err(ReadError::OffsetOutOfRange { offset: from, log_start, high_watermark });
    }
    let mut cursor = Cursor {
        id,
        partition,
        next_offset: from,
        high_watermark,
        bytes_left: max_bytes,
        batches: Vec::new(),
    };
    let stop = loop {
        if cursor.next_offset >= high_watermark {
            break Stop::Enough;
        }
        if !cursor.batches.is_empty() && cursor.bytes_left == 0 {
            break Stop::Enough;
        }
        if partition.damage_at(cursor.next_offset).is_some() {
            break Stop::Damage;
        }
        let Some(entry) = partition.entry_at(cursor.next_offset) else { break Stop::Damage };
        let before = cursor.next_offset;
        if entry.base_offset > before {
            break Stop::Damage;
        }
        match read_run(segments, &entry, &mut cursor)? {
            ControlFlow::Break(stop) => break stop,
            // A run that does not hold what the index says of it.
            ControlFlow::Continue(()) if cursor.next_offset == before => break Stop::Damage,
            ControlFlow::Continue(()) => {}
        }
    };
    let Cursor { batches, next_offset, .. } = cursor;
    match stop {
        Stop::Damage if batches.is_empty() => {
            Err(ReadError::Damaged { partition: id, range: damage_around(partition, next_offset) })
        }
        _ => Ok(Slice { batches, high_watermark, log_start }),
    }
}

/// The range to report for an offset that cannot be read; remembered, so that all hear of it.
fn damage_around(partition: &Partition, offset: i64) -> OffsetRange {
    if let Some(known) = partition.damage_at(offset) {
        return known;
    }
    let range = OffsetRange { first: offset, last: offset };
    partition.note_damage(range);
    range
}

fn read_run(
    segments: &Segments,
    index: &IndexEntry,
    cursor: &mut Cursor<'_>,
) -> Result<ControlFlow<Stop>, ReadError> {
    let Some(segment) = segments.get(index.segment) else {
        return Ok(ControlFlow::Break(Stop::Damage));
    };
    match walk_run(&segment, index, cursor) {
        Ok(flow) => Ok(flow),
        Err(Fault::Damage) => Ok(ControlFlow::Break(Stop::Damage)),
        Err(Fault::Io(source)) => Err(ReadError::Io { path: segment.path.clone(), source }),
    }
}

fn walk_run(
    segment: &ReadSegment,
    index: &IndexEntry,
    cursor: &mut Cursor<'_>,
) -> Result<ControlFlow<Stop>, Fault> {
    let mut position = u64::from(index.block) * BLOCK;
    let end = position + u64::from(index.blocks) * BLOCK;
    let window = Window::open(segment, position, end - position)?;
    while position < end {
        let header = window.get(position, HEADER_BYTES)?;
        let header =
            FrameHeader::decode(&header, &segment.life, Copy::Front).ok_or(Fault::Damage)?;
        let directory = window.get(position + HEADER_BYTES as u64, header.directory_bytes())?;
        let entries = header.entries(&directory, &segment.life).ok_or(Fault::Damage)?;
        let mut at = position + header.payload_at() as u64;
        for entry in &entries {
            let wanted = entry.kind == EntryKind::Batch
                && entry.partition == cursor.id
                && entry.last_offset >= cursor.next_offset;
            if wanted {
                let payload = window.get(at, entry.length as usize)?;
                if let ControlFlow::Break(stop) = cursor.take(entry, &payload, &segment.life) {
                    return Ok(ControlFlow::Break(stop));
                }
            }
            at += u64::from(entry.length);
        }
        position += u64::from(header.length);
    }
    Ok(ControlFlow::Continue(()))
}
