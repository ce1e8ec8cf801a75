//! Compaction: of each key only the last record stays. A pass reads a partition, as any reader
//! does, and writes what stays of it into the next cold file.
//!
//! # Invariants
//! - COMPACTION-1: a record goes only where a later, committed record of its key stays, where its
//!   transaction was aborted, or, without a value, where its time is over (COMPACTION-4). One
//!   without a key stays, and one that a loss hides which was given up (HIDDEN-1). What stays keeps
//!   its offset and its bytes.
//! - COMPACTION-2: nothing is touched at or above the last stable offset, as it was when the pass
//!   was asked for, nor above that of the journal's part that moves.
//! - COMPACTION-3: offsets stay dense: a batch keeps its range; those of which nothing is left
//!   become, together with their neighbours, one without records.
//! - COMPACTION-4: a record without a value hides the older ones of its key; it goes when these
//!   have been gone for the time that was asked for.
//! - COMPACTION-5: a partition that cannot be read whole is left as it is, byte for byte.
//! - COMPACTION-6: a pass remembers a bounded number of keys, or those of one batch; where there
//!   are more, it ends early and leaves the rest to the next one.

use std::collections::HashMap;
use std::collections::hash_map::{Entry as MapEntry, RandomState};
use std::hash::BuildHasher;
use std::vec;

use bytes::Bytes;
use lossproof_env::{Planted, planted};
use lossproof_wire::batch::{
    BatchError, BatchHeader, KeyedRecord, Limits, Retained, empty_batch, retain, visit_keys,
};
use thiserror::Error;

use crate::commit::PartitionId;
use crate::error::ReadError;
use crate::frame::{Entry, EntryKind, NO_RECORDS};
use crate::partition::Partition;
use crate::reader::{Segments, StoredBatch, Unread, read};
use crate::transactions::AbortedTransaction;

/// So much is held of a batch that is taken apart, and as much again of what stays. A partition
/// with a larger one is left as it is (COMPACTION-5).
pub const COMPACTED_BYTES_MAX: u64 = 64 << 20;

fn limits() -> Limits {
    Limits { uncompressed_bytes_max: COMPACTED_BYTES_MAX, ..Limits::default() }
}

/// Read at once.
const READ_BYTES: usize = 1 << 20;

/// A wish to compact a partition, up to the last stable offset of this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Compaction {
    /// The wall clock of who asks, in milliseconds.
    pub now_ms: i64,
    /// From the first record on that is younger, nothing is compacted; `None`: as far as it goes.
    pub before_ms: Option<i64>,
    /// How long a record without a value stays, once the older ones of its key are gone.
    pub delete_retention_ms: u64,
}

/// The same with the offset at which it ends (COMPACTION-2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) wish: Compaction,
    pub(crate) end: i64,
}

/// How far a partition is compacted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Compacted {
    /// No two committed records below have the same key.
    pub(crate) end: i64,
    /// Below this offset it was so at `settled_ms` already, by the wall clock.
    pub(crate) settled: i64,
    pub(crate) settled_ms: i64,
    /// Records without a value are left below `end`.
    pub(crate) tombstones: bool,
}

impl Compacted {
    /// Whether the records without a value below `settled` have had their time (COMPACTION-4).
    pub(crate) fn is_over(&self, wish: &Compaction) -> bool {
        let passed = u64::try_from(wish.now_ms.saturating_sub(self.settled_ms)).unwrap_or(0);
        self.settled > 0 && passed >= wish.delete_retention_ms
    }
}

/// Why a partition is not compacted (COMPACTION-5).
#[derive(Debug, Error)]
pub(crate) enum CompactionError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the batch at offset {offset} cannot be taken apart: {reason}")]
    Batch { offset: i64, reason: BatchError },
    #[error("the log ends")]
    Stopped,
}

/// The batches of a partition below an offset, in order.
struct Batches<'a> {
    segments: &'a Segments,
    id: PartitionId,
    partition: &'a Partition,
    next: i64,
    end: i64,
    read: vec::IntoIter<StoredBatch>,
}

impl Iterator for Batches<'_> {
    type Item = Result<StoredBatch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.len() == 0 && self.next < self.end {
            let (segments, unread) = (self.segments, Unread::IsError);
            match read(segments, self.id, self.partition, self.next, READ_BYTES, unread) {
                Ok(slice) => self.read = slice.batches.into_iter(),
                Err(error) => {
                    self.next = self.end;
                    return Some(Err(error));
                }
            }
        }
        let batch = self.read.next()?;
        self.next = batch.last_offset + 1;
        Some(Ok(batch))
    }
}

/// Where each key stands last. Keys are known by 16 bytes of a keyed hash that nobody can foresee.
struct LastOffsets {
    hasher: RandomState,
    offsets: HashMap<[u64; 2], i64>,
}

impl LastOffsets {
    fn new() -> Self {
        Self { hasher: RandomState::new(), offsets: HashMap::new() }
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hasher.hash_one((0_u8, key)), self.hasher.hash_one((1_u8, key))]
    }

    /// False where it is a key more than `keys_max` (COMPACTION-6).
    fn note(&mut self, key: &[u8], offset: i64, keys_max: usize) -> bool {
        let (hash, is_full) = (self.hash(key), self.offsets.len() >= keys_max);
        match self.offsets.entry(hash) {
            MapEntry::Vacant(_) if is_full => return false,
            MapEntry::Occupied(_) if planted(Planted::CompactionKeepsOlder) => {}
            place => {
                place.insert_entry(offset);
            }
        }
        true
    }

    fn of(&self, key: &[u8]) -> Option<i64> {
        self.offsets.get(&self.hash(key)).copied()
    }
}

/// What is to become of a batch.
enum Fate {
    Stays,
    Shrinks(Bytes),
    Goes,
}

/// A pass over one partition.
pub(crate) struct Pass<'a> {
    segments: &'a Segments,
    id: PartitionId,
    partition: &'a Partition,
    wish: Compaction,
    before: Compacted,
    last: LastOffsets,
    /// Transactions that count as aborted because of a loss that was given up.
    decided: Vec<AbortedTransaction>,
    /// Batches from here on are copied as they are.
    end: i64,
}

impl<'a> Pass<'a> {
    /// Reads the whole partition, so that nothing is begun that cannot be brought to its end
    /// (COMPACTION-5). `None` where there is nothing to do.
    pub(crate) fn plan(
        segments: &'a Segments,
        (id, partition): (PartitionId, &'a Partition),
        order: &Order,
        keys_max: usize,
        is_stopped: impl Fn() -> bool,
    ) -> Result<Option<Self>, CompactionError> {
        let before = partition.compacted();
        let (wish, last, stable) = (order.wish, LastOffsets::new(), partition.view().last_stable);
        let end = order.end.min(stable); // COMPACTION-2
        let end = if planted(Planted::CompactionPassesStable) { i64::MAX } else { end };
        let decided = partition.transactions().decided();
        let mut pass = Self { segments, id, partition, wish, before, last, decided, end };
        for batch in pass.batches() {
            if is_stopped() {
                return Err(CompactionError::Stopped);
            }
            let batch = batch?;
            if batch.base_offset >= before.end && batch.last_offset < pass.end {
                pass.look_at(&batch, keys_max)?;
            }
        }
        let (_, log_end) = partition.bounds();
        pass.end = pass.end.min(log_end);
        let is_due = before.tombstones && before.is_over(&wish) && pass.end == before.end;
        Ok((pass.end > before.end || is_due).then_some(pass))
    }

    /// All that there is of the partition.
    fn batches(&self) -> Batches<'a> {
        let (log_start, log_end) = self.partition.bounds();
        Batches {
            segments: self.segments,
            id: self.id,
            partition: self.partition,
            next: log_start,
            end: log_end,
            read: Vec::new().into_iter(),
        }
    }

    /// Remembers the keys of a batch that has not been compacted yet, or ends the pass at it
    /// (COMPACTION-6).
    fn look_at(&mut self, batch: &StoredBatch, keys_max: usize) -> Result<(), CompactionError> {
        let header = header_of(batch)?;
        let is_young = self.wish.before_ms.is_some_and(|before| header.max_timestamp >= before);
        if is_young {
            self.end = batch.base_offset;
            return Ok(());
        }
        if header.attributes.is_control() || self.is_aborted(&header) {
            return Ok(());
        }
        // The first one is taken whole: else no pass would ever come beyond it.
        let is_first = batch.base_offset == self.before.end;
        let keys_max = if is_first { usize::MAX } else { keys_max };
        let last = &mut self.last;
        let mut is_full = false;
        visit_keys(&batch.bytes, &limits(), |record| {
            let noted = record.key.is_none_or(|key| last.note(key, record.offset, keys_max));
            is_full |= !noted;
        })
        .map_err(|reason| CompactionError::Batch { offset: batch.base_offset, reason })?;
        if is_full {
            // What was noted of it still is the last of its key, and stays where it is.
            self.end = batch.base_offset;
        }
        Ok(())
    }

    /// Whether a batch belongs to a transaction that was aborted, as its marker may.
    fn is_aborted(&self, header: &BatchHeader) -> bool {
        if !header.attributes.is_transactional() {
            return false;
        }
        let base_offset = header.base_offset;
        // Below the log start nobody knows; there its records are shown to nobody, nor any that
        // they could take the place of.
        let aborted = self.partition.aborted(base_offset, base_offset + 1).unwrap_or_default();
        aborted.iter().any(|it| is_part_of(header, it))
    }

    /// Whether it belongs to a transaction that counts as aborted because of a loss that was given
    /// up: it may have been committed.
    fn is_decided(&self, header: &BatchHeader) -> bool {
        self.decided.iter().any(|it| is_part_of(header, it))
    }

    /// Hands all that stays of the partition to `push`, and says how far it is compacted then.
    pub(crate) fn rewrite<E: From<CompactionError>>(
        &self,
        push: impl FnMut(Entry, Bytes) -> Result<(), E>,
    ) -> Result<Compacted, E> {
        let is_over = self.before.is_over(&self.wish);
        let gone_below = if is_over { self.before.settled } else { 0 };
        let mut tombstones = false;
        let mut output = Output { id: self.id, hole: None, push };
        for batch in self.batches() {
            let batch = batch.map_err(CompactionError::from)?;
            let mut stays = |record: KeyedRecord<'_>| {
                let stays = self.stays(record, gone_below);
                tombstones |= stays && record.is_tombstone;
                stays
            };
            match self.fate(&batch, &mut stays)? {
                Fate::Stays => output.take(&batch, batch.bytes.clone())?,
                Fate::Shrinks(bytes) => output.take(&batch, bytes)?,
                Fate::Goes => output.leave_out(&batch)?,
            }
        }
        output.fill()?;
        let begins = is_over || self.before.settled == 0;
        let (settled, settled_ms) = if begins {
            (self.end, self.wish.now_ms)
        } else {
            (self.before.settled, self.before.settled_ms)
        };
        Ok(Compacted { end: self.end, settled, settled_ms, tombstones })
    }

    fn fate(
        &self,
        batch: &StoredBatch,
        stays: &mut dyn FnMut(KeyedRecord<'_>) -> bool,
    ) -> Result<Fate, CompactionError> {
        if batch.last_offset >= self.end {
            return Ok(Fate::Stays);
        }
        let header = header_of(batch)?;
        if header.attributes.is_control() {
            // A client ends each transaction of the list of aborted ones at its marker; that one
            // was committed it need not be told.
            return Ok(if self.is_aborted(&header) { Fate::Stays } else { Fate::Goes });
        }
        if self.is_decided(&header) {
            // Readable, and named to whoever gave up the loss that hides it (HIDDEN-1).
            return Ok(Fate::Stays);
        }
        if self.is_aborted(&header) {
            return Ok(Fate::Goes);
        }
        let left = retain(&batch.bytes, &limits(), stays)
            .map_err(|reason| CompactionError::Batch { offset: batch.base_offset, reason })?;
        Ok(match left {
            Retained::All => Fate::Stays,
            Retained::Some(bytes) => Fate::Shrinks(bytes),
            Retained::Nothing => Fate::Goes,
        })
    }

    /// COMPACTION-1, COMPACTION-4.
    fn stays(&self, record: KeyedRecord<'_>, gone_below: i64) -> bool {
        let Some(key) = record.key else { return true };
        let is_last = self.last.of(key).is_none_or(|last| last == record.offset);
        is_last && !(record.is_tombstone && record.offset < gone_below)
    }
}

fn is_part_of(header: &BatchHeader, transaction: &AbortedTransaction) -> bool {
    let AbortedTransaction { first_offset, last_offset, producer_id } = *transaction;
    header.attributes.is_transactional()
        && header.producer_id == producer_id
        && (first_offset..=last_offset).contains(&header.base_offset)
}

fn header_of(batch: &StoredBatch) -> Result<BatchHeader, CompactionError> {
    BatchHeader::parse(&batch.bytes)
        .map_err(|reason| CompactionError::Batch { offset: batch.base_offset, reason })
}

fn entry_of(id: PartitionId, batch: &StoredBatch, bytes: &[u8]) -> Result<Entry, CompactionError> {
    let header = BatchHeader::parse(bytes)
        .map_err(|reason| CompactionError::Batch { offset: batch.base_offset, reason })?;
    let max_timestamp = if header.record_count == 0 { NO_RECORDS } else { header.max_timestamp };
    Ok(Entry {
        partition: id,
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        max_timestamp,
        identity: batch.identity,
        ..Entry::plain(EntryKind::Batch)
    })
}

/// What a pass hands on: batches whose ranges follow each other (COMPACTION-3).
struct Output<P> {
    id: PartitionId,
    hole: Option<Hole>,
    push: P,
}

impl<P, E> Output<P>
where
    P: FnMut(Entry, Bytes) -> Result<(), E>,
    E: From<CompactionError>,
{
    fn take(&mut self, batch: &StoredBatch, bytes: Bytes) -> Result<(), E> {
        self.fill()?;
        (self.push)(entry_of(self.id, batch, &bytes)?, bytes)
    }

    fn leave_out(&mut self, batch: &StoredBatch) -> Result<(), E> {
        let grows = self.hole.as_mut().is_some_and(|hole| hole.take(batch));
        if !grows {
            self.fill()?;
            self.hole = Some(Hole::of(batch)?);
        }
        Ok(())
    }

    /// Puts a batch without records where others were.
    fn fill(&mut self) -> Result<(), E> {
        let Some(hole) = self.hole.take() else { return Ok(()) };
        let batch = hole.batch()?;
        let bytes = batch.bytes.clone();
        (self.push)(entry_of(self.id, &batch, &bytes)?, bytes)
    }
}

/// Neighbouring batches of which nothing is left.
struct Hole {
    base_offset: i64,
    last_offset: i64,
    leader_epoch: i32,
}

impl Hole {
    fn of(batch: &StoredBatch) -> Result<Self, CompactionError> {
        let leader_epoch = header_of(batch)?.partition_leader_epoch;
        let (base_offset, last_offset) = (batch.base_offset, batch.last_offset);
        Ok(Self { base_offset, last_offset, leader_epoch })
    }

    /// Grows by a batch, as far as the field for the last offset goes, and not over offsets that
    /// were given up: no read has both sides of them (READ-4).
    fn take(&mut self, batch: &StoredBatch) -> bool {
        let adjoins = batch.base_offset == self.last_offset + 1;
        let fits = adjoins && batch.last_offset - self.base_offset <= i64::from(i32::MAX);
        if fits {
            self.last_offset = batch.last_offset;
        }
        fits
    }

    fn batch(&self) -> Result<StoredBatch, CompactionError> {
        let Self { base_offset, last_offset, leader_epoch } = *self;
        let bytes = empty_batch(base_offset, (last_offset - base_offset) as i32, leader_epoch)
            .map_err(|reason| CompactionError::Batch { offset: base_offset, reason })?;
        Ok(StoredBatch { base_offset, last_offset, bytes, identity: None })
    }
}
