//! What readers see: partitions with their index, and the keyed state. Changed by the commit
//! thread alone, and only with what has been acknowledged.
//!
//! # Invariants
//! - VIEW-1: nothing at or above a partition's high watermark is ever handed to a reader.
//! - VIEW-2: an index entry covers frames of one segment that all verified.
//! - VIEW-3: offsets below the high watermark are either indexed, or in a range that is damaged or
//!   given up.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::accept::{add_range, without};
use crate::commit::{FlushPolicy, PartitionId};
use crate::compaction::Compacted;
use crate::effect::{BatchPlace, Effect};
use crate::epochs::{EpochEnd, EpochFact, Epochs};
use crate::error::OffsetRange;
use crate::frame::{BLOCK, NO_RECORDS};
use crate::snapshot::PartitionFact;
use crate::state::StateTable;
use crate::transactions::{AbortedTransaction, Transactions};

/// Neighbouring frames share an index entry up to this many blocks of journal.
const RUN_BLOCKS_MAX: u32 = (128 << 10) / BLOCK as u32;

/// A frame in its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) block: u32,
    pub(crate) blocks: u32,
    /// Frames of different runs are never put into one index entry; goes up at each damage.
    pub(crate) run: u32,
}

/// Where some neighbouring batches of a partition are: in the frames of `blocks` blocks from
/// `block` on, among those of other partitions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct IndexEntry {
    pub(crate) base_offset: i64,
    pub(crate) max_timestamp: i64,
    /// Last offset minus `base_offset`.
    pub(crate) span: u32,
    /// Segment or cold file.
    pub(crate) segment: u32,
    pub(crate) block: u32,
    pub(crate) blocks: u32,
    /// Of the batches themselves.
    pub(crate) bytes: u32,
}

impl IndexEntry {
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.span)
    }

    pub(crate) fn range(&self) -> OffsetRange {
        OffsetRange { first: self.base_offset, last: self.last_offset() }
    }
}

/// Adds a batch to an index, to the last entry if it is the same run of frames and no longer than
/// `blocks_max`; true if it took a new one (VIEW-2).
pub(crate) fn add_to_index(
    entries: &mut Vec<IndexEntry>,
    batch: &BatchPlace,
    place: &Place,
    same_run: bool,
    blocks_max: u32,
) -> bool {
    if let Some(last) = entries.last_mut() {
        let blocks = place.block + place.blocks - last.block.min(place.block);
        let same_frame = last.block + last.blocks == place.block + place.blocks;
        let (bytes, overflows) = last.bytes.overflowing_add(batch.bytes);
        let joins = last.segment == place.segment
            && same_run
            && last.last_offset() + 1 == batch.base_offset
            && batch.last_offset - last.base_offset <= i64::from(u32::MAX)
            && !overflows
            && (same_frame || blocks <= blocks_max);
        if joins {
            last.span = (batch.last_offset - last.base_offset) as u32;
            last.blocks = blocks;
            last.max_timestamp = last.max_timestamp.max(batch.max_timestamp);
            last.bytes = bytes;
            return false;
        }
    }
    entries.push(IndexEntry {
        base_offset: batch.base_offset,
        max_timestamp: batch.max_timestamp,
        span: (batch.last_offset - batch.base_offset) as u32,
        segment: place.segment,
        block: place.block,
        blocks: place.blocks,
        bytes: batch.bytes,
    });
    true
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) topic_id: [u8; 16],
    pub(crate) index: i32,
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    flush: FlushPolicy,
    log_start: i64,
    high_watermark: i64,
    epochs: Epochs,
    entries: Vec<IndexEntry>,
    /// Run of the last entry.
    run: u32,
    damaged: Vec<OffsetRange>,
    /// In order; none overlap.
    accepted: Vec<OffsetRange>,
    transactions: Transactions,
    compacted: Compacted,
}

impl Inner {
    fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.bytes)).sum()
    }

    /// From the entry on that holds `offset`, or is the next one.
    fn entries_from(&self, offset: i64) -> &[IndexEntry] {
        let at = self.entries.partition_point(|entry| entry.last_offset() < offset);
        self.entries.get(at..).unwrap_or_default()
    }
}

/// What compaction would find in a partition: what it may look at, which is not in the last segment
/// of the journal and belongs to no transaction that is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dirt {
    /// Bytes of what is compacted already.
    pub clean_bytes: u64,
    /// Bytes of what is not, and of what shares an index entry with it.
    pub dirty_bytes: u64,
    /// Where that begins.
    pub from: i64,
    /// Where the last segment's part of it begins, which can be compacted once that is sealed.
    pub unsealed_from: Option<i64>,
    /// Since when, by the wall clock, records without a value have waited to go.
    pub tombstones_since_ms: Option<i64>,
}

/// A partition as it stands at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartitionView {
    pub topic_id: [u8; 16],
    /// The partition's number in its topic.
    pub index: i32,
    pub flush: FlushPolicy,
    pub log_start: i64,
    /// One above the last acknowledged offset.
    pub high_watermark: i64,
    /// Everything below belongs to no transaction, or to one that has ended: as far as committed
    /// reads go.
    pub last_stable: i64,
    pub leader_epoch: i32,
    /// Offsets that were acknowledged and cannot be read any more.
    pub damaged: Vec<OffsetRange>,
    /// Offsets that were acknowledged, cannot be read, and were given up by a person: readers go
    /// on behind them.
    pub accepted: Vec<OffsetRange>,
}

impl Partition {
    fn new(topic_id: [u8; 16], index: i32, flush: FlushPolicy) -> Self {
        let inner = Inner {
            flush,
            log_start: 0,
            high_watermark: 0,
            epochs: Epochs::new(),
            entries: Vec::new(),
            run: 0,
            damaged: Vec::new(),
            accepted: Vec::new(),
            transactions: Transactions::default(),
            compacted: Compacted::default(),
        };
        Self { topic_id, index, inner: RwLock::new(inner) }
    }

    fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn view(&self) -> PartitionView {
        self.read(|inner| PartitionView {
            topic_id: self.topic_id,
            index: self.index,
            flush: inner.flush,
            log_start: inner.log_start,
            high_watermark: inner.high_watermark,
            last_stable: inner.transactions.last_stable(inner.high_watermark).max(inner.log_start),
            leader_epoch: inner.epochs.present(),
            damaged: inner.damaged.clone(),
            accepted: inner.accepted.clone(),
        })
    }

    /// Log start and high watermark.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        self.read(|inner| (inner.log_start, inner.high_watermark))
    }

    /// For a checkpoint.
    pub(crate) fn epochs(&self) -> Vec<EpochFact> {
        self.read(|inner| inner.epochs.facts())
    }

    pub(crate) fn epoch_end(&self, epoch: i32) -> Option<EpochEnd> {
        self.read(|inner| inner.epochs.end_of(epoch, inner.high_watermark))
    }

    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.read(|inner| inner.epochs.at(offset))
    }

    /// The first index entry that ends at or after `offset`.
    pub(crate) fn entry_at(&self, offset: i64) -> Option<IndexEntry> {
        self.read(|inner| {
            let at = inner.entries.partition_point(|entry| entry.last_offset() < offset);
            inner.entries.get(at).copied()
        })
    }

    /// The first index entry from `from` on that holds a timestamp of at least `timestamp`. One
    /// that the log start cuts may have had it below.
    pub(crate) fn entry_at_timestamp(&self, from: i64, timestamp: i64) -> Option<IndexEntry> {
        self.read(|inner| {
            let mut entries = inner.entries_from(from).iter();
            entries.find(|entry| entry.max_timestamp >= timestamp).copied()
        })
    }

    /// The index entry from `from` on that holds the highest timestamp, but for those in `looked`;
    /// the earliest of several. It may have been of what is below the log start, or given up.
    pub(crate) fn entry_of_max_timestamp(
        &self,
        from: i64,
        looked: &[IndexEntry],
    ) -> Option<IndexEntry> {
        self.read(|inner| {
            let entries = inner.entries_from(from).iter();
            let entries =
                entries.filter(|it| it.max_timestamp != NO_RECORDS && !looked.contains(it));
            entries.copied().reduce(|best, entry| {
                if entry.max_timestamp > best.max_timestamp { entry } else { best }
            })
        })
    }

    pub(crate) fn damage_at(&self, offset: i64) -> Option<OffsetRange> {
        self.read(|inner| inner.damaged.iter().find(|range| range.contains(offset)).copied())
    }

    /// What cannot be read any more of batches that were applied: nothing is in doubt but they.
    pub(crate) fn note_loss(&self, range: OffsetRange) {
        self.write(|inner| {
            let unknown = without(range, &inner.damaged).into_iter();
            let news: Vec<_> = unknown.flat_map(|part| without(part, &inner.accepted)).collect();
            inner.damaged.extend_from_slice(&news);
            inner.damaged.sort_unstable();
        });
    }

    /// Takes back what was noted of a range, while nobody reads.
    pub(crate) fn forget_damage(&self, range: OffsetRange) {
        self.write(|inner| inner.damaged.retain(|known| *known != range));
    }

    /// The range that was given up and holds `offset`.
    pub(crate) fn accepted_at(&self, offset: i64) -> Option<OffsetRange> {
        self.read(|inner| inner.accepted.iter().find(|range| range.contains(offset)).copied())
    }

    pub(crate) fn note_damage(&self, range: OffsetRange) {
        self.write(|inner| {
            for range in without(range, &inner.accepted) {
                if !inner.damaged.contains(&range) {
                    inner.damaged.push(range);
                    inner.damaged.sort_unstable();
                    inner.transactions.doubt(range);
                }
            }
        });
    }

    /// Gives up `range`: readers go on behind it.
    fn accept(&self, range: OffsetRange) {
        self.raise_end(range.last + 1); // ACCEPT-3
        self.write(|inner| {
            // Where it was not known how far it went, it went this far.
            let is_ended = |known: &&OffsetRange| known.is_open() && range.contains(known.first);
            let damaged = inner.damaged.iter().filter(|known| !is_ended(known));
            let left = damaged.flat_map(|known| without(*known, &[range]));
            // What was deleted of it is nobody's to give up.
            inner.damaged = left.filter(|left| left.last >= inner.log_start).collect();
            add_range(&mut inner.accepted, range);
            inner.transactions.accept(range);
        });
    }

    /// What a checkpoint knows to be given up.
    pub(crate) fn restore_accepted(&self, ranges: &[OffsetRange]) {
        self.write(|inner| ranges.iter().for_each(|range| add_range(&mut inner.accepted, *range)));
    }

    /// Offsets of which nothing is known: neither where they stand nor that they are damaged, given
    /// up, or compacted away. There are none, or recovery has passed over something (VIEW-3).
    pub(crate) fn unexplained(&self) -> Vec<OffsetRange> {
        self.read(|inner| {
            let first = inner.log_start.max(inner.compacted.end);
            let whole = OffsetRange { first, last: inner.high_watermark - 1 };
            let mut known: Vec<OffsetRange> = inner.entries.iter().map(IndexEntry::range).collect();
            known.extend(&inner.damaged);
            known.extend(&inner.accepted);
            known.sort_unstable();
            if whole.last < first { Vec::new() } else { without(whole, &known) }
        })
    }

    /// Damaged offsets count as given out: the log goes on behind them (VIEW-3).
    pub(crate) fn raise_end(&self, end: i64) {
        self.write(|inner| {
            if end > inner.high_watermark {
                inner.epochs.skip(inner.high_watermark, end);
                inner.high_watermark = end;
            }
        });
    }

    fn set_flush(&self, flush: FlushPolicy) {
        self.write(|inner| inner.flush = flush);
    }

    pub(crate) fn raise_epoch_to(&self, epoch: i32) {
        self.write(|inner| inner.epochs.raise_to(epoch, inner.high_watermark));
    }

    fn raise_epoch(&self) {
        self.write(|inner| inner.epochs.raise(inner.high_watermark));
    }

    /// Aborted transactions with batches from `from` to below `to`, by first offset. `None` once
    /// the log start is above `from`: those below it are forgotten, and who has read records of
    /// them before could not know them (TXN-2).
    pub(crate) fn aborted(&self, from: i64, to: i64) -> Option<Vec<AbortedTransaction>> {
        self.read(|inner| (from >= inner.log_start).then(|| inner.transactions.aborted(from, to)))
    }

    /// Adds a batch to the index; true if that took a new entry (VIEW-2).
    fn append(&self, batch: &BatchPlace, place: &Place) -> bool {
        self.write(|inner| {
            assert!(batch.base_offset >= inner.high_watermark, "VIEW-1: offsets only go up");
            if batch.base_offset > inner.high_watermark {
                inner.epochs.skip(inner.high_watermark, batch.base_offset);
            }
            inner.high_watermark = batch.last_offset + 1;
            if let Some(part) = &batch.part {
                inner.transactions.take(part, batch.base_offset);
            }
            let same_run = inner.run == place.run;
            inner.run = place.run;
            add_to_index(&mut inner.entries, batch, place, same_run, RUN_BLOCKS_MAX)
        })
    }

    /// Hides everything below `offset`; how many index entries and transactions go with it.
    fn raise_log_start(&self, offset: i64) -> (usize, usize) {
        self.write(|inner| {
            inner.log_start = inner.log_start.max(offset);
            let log_start = inner.log_start;
            inner.damaged.retain(|range| range.last >= log_start);
            inner.accepted.retain(|range| range.last >= log_start);
            let gone = inner.entries.partition_point(|entry| entry.last_offset() < log_start);
            inner.entries.drain(..gone);
            (gone, inner.transactions.forget_below(log_start))
        })
    }

    /// Bytes of all batches from the log start on, and of those that share an index entry with it.
    pub(crate) fn bytes(&self) -> u64 {
        self.read(Inner::bytes)
    }

    /// Bytes of the batches from `offset` on, and of those that share an index entry with it; no
    /// further than to `enough`.
    pub(crate) fn bytes_from(&self, offset: i64, enough: u64) -> u64 {
        self.read(|inner| {
            let mut bytes = 0;
            for entry in inner.entries_from(offset) {
                bytes += u64::from(entry.bytes);
                if bytes >= enough {
                    break;
                }
            }
            bytes
        })
    }

    /// Where the log has to start so that nothing is left whose newest record is older than
    /// `before_ms`, and no more than `bytes_max` but for a part. Goes by whole index entries, keeps
    /// rather too much, and stops at what is damaged.
    pub(crate) fn expired(&self, before_ms: Option<i64>, bytes_max: Option<u64>) -> i64 {
        self.read(|inner| {
            // Of the same moment as the entries: counted before an append, what is left would fall
            // below zero at the last of them.
            let mut bytes = inner.bytes();
            let mut log_start = inner.log_start;
            for entry in &inner.entries {
                let is_old = before_ms.is_some_and(|before_ms| {
                    // Below 0: the client gave none.
                    let is_dated = entry.max_timestamp >= 0 || entry.max_timestamp == NO_RECORDS;
                    is_dated && entry.max_timestamp < before_ms
                });
                let gap = OffsetRange { first: log_start, last: entry.base_offset - 1 };
                let is_given_up = without(gap, &inner.accepted).is_empty();
                let rest = bytes - u64::from(entry.bytes);
                let is_too_much = bytes_max.is_some_and(|bytes_max| rest >= bytes_max);
                let is_dense = entry.base_offset <= log_start || is_given_up;
                let is_lost = |lost: &OffsetRange| {
                    lost.first <= entry.last_offset() && lost.last >= log_start
                };
                let is_damaged = inner.damaged.iter().any(is_lost);
                if !is_dense || is_damaged || !is_old && !is_too_much {
                    break;
                }
                log_start = entry.last_offset() + 1;
                bytes = rest;
            }
            // Of an open transaction it is not known yet what it comes to.
            let stable = inner.transactions.last_stable(inner.high_watermark);
            log_start.min(stable).max(inner.log_start)
        })
    }

    pub(crate) fn compacted(&self) -> Compacted {
        self.read(|inner| inner.compacted)
    }

    pub(crate) fn set_compacted(&self, compacted: Compacted) {
        self.write(|inner| inner.compacted = compacted);
    }

    /// What there is to compact outside of the journal's segment `last`.
    pub(crate) fn dirt(&self, last: u32) -> Dirt {
        self.read(|inner| {
            let from = inner.compacted.end.max(inner.log_start);
            let stable = inner.transactions.last_stable(inner.high_watermark);
            let bytes = |is_dirty: bool| {
                let movable = inner.entries.iter().filter(|it| it.segment != last);
                let stable = movable.filter(|it| it.base_offset < stable);
                let alike = stable.filter(|it| (it.last_offset() >= from) == is_dirty);
                alike.map(|entry| u64::from(entry.bytes)).sum()
            };
            let unsealed = inner.entries.iter().find(|it| it.segment == last);
            let unsealed_from = unsealed.map(|entry| entry.base_offset.max(inner.log_start));
            Dirt {
                unsealed_from: unsealed_from.filter(|from| *from < stable),
                clean_bytes: bytes(false),
                dirty_bytes: if from < stable { bytes(true) } else { 0 },
                from,
                tombstones_since_ms: inner
                    .compacted
                    .tombstones
                    .then_some(inner.compacted.settled_ms),
            }
        })
    }

    pub(crate) fn entries(&self) -> Vec<IndexEntry> {
        self.read(|inner| inner.entries.clone())
    }

    /// Puts what the checkpoint knows in place of what a new partition begins with.
    pub(crate) fn restore(&self, fact: &PartitionFact) {
        self.write(|inner| {
            inner.log_start = fact.log_start;
            inner.high_watermark = fact.next_offset;
            inner.epochs = Epochs::restore(&fact.epochs);
            inner.damaged.clone_from(&fact.damaged);
        });
    }

    pub(crate) fn transactions(&self) -> Transactions {
        self.read(|inner| inner.transactions.clone())
    }

    /// Adds entries to the end of the index; none is joined to what comes after.
    fn restore_entries(&self, entries: &[IndexEntry]) {
        self.write(|inner| inner.entries.extend_from_slice(entries));
    }

    /// Puts `moved`, in order, in the place of all entries in `files`, as far as they are still
    /// wanted; how many entries there were before, and are now.
    pub(crate) fn replace(&self, files: &BTreeSet<u32>, moved: &[IndexEntry]) -> (usize, usize) {
        self.write(|inner| {
            let before = inner.entries.len();
            let log_start = inner.log_start;
            inner.entries.retain(|entry| !files.contains(&entry.segment));
            inner.entries.extend(moved.iter().filter(|entry| entry.last_offset() >= log_start));
            inner.entries.sort_by_key(|entry| entry.base_offset);
            (before, inner.entries.len())
        })
    }

    pub(crate) fn transaction_start(&self, producer_id: i64) -> Option<i64> {
        self.read(|inner| {
            let mut open = inner.transactions.open.iter();
            open.find(|it| it.producer_id == producer_id).map(|it| it.first_offset)
        })
    }

    fn entries_len(&self) -> usize {
        self.read(|inner| inner.entries.len())
    }

    fn transactions_len(&self) -> usize {
        self.read(|inner| inner.transactions.len())
    }
}

/// All that readers see.
#[derive(Debug, Default)]
pub(crate) struct View {
    partitions: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    state: RwLock<StateTable>,
    index_entries: AtomicUsize,
    /// Open and aborted transactions; changed by the commit thread alone.
    transactions: AtomicUsize,
    highest_id: AtomicU64,
}

impl View {
    /// One above every partition id that was ever used.
    pub(crate) fn unused_partition_id(&self) -> PartitionId {
        PartitionId(self.highest_id.load(Ordering::Relaxed) + 1)
    }

    /// Every id up to this one counts as used (STAGE-2).
    pub(crate) fn raise_highest_id(&self, id: PartitionId) {
        self.highest_id.fetch_max(id.0, Ordering::Relaxed);
    }

    /// What a checkpoint says of the index of a partition.
    pub(crate) fn restore_entries(&self, id: PartitionId, entries: &[IndexEntry]) {
        if let Some(partition) = self.partition(id) {
            partition.restore_entries(entries);
            self.index_entries.fetch_add(entries.len(), Ordering::Relaxed);
        }
    }

    /// Nothing of what an entry stands for is wanted any more.
    pub(crate) fn forget_entry(&self, id: PartitionId, entry: &IndexEntry) {
        let Some(partition) = self.partition(id) else { return };
        let is_it =
            |it: &IndexEntry| (it.segment, it.base_offset) == (entry.segment, entry.base_offset);
        let gone = partition.write(|inner| {
            let before = inner.entries.len();
            inner.entries.retain(|it| !is_it(it));
            before - inner.entries.len()
        });
        self.index_entries.fetch_sub(gone, Ordering::Relaxed);
    }

    /// What a checkpoint says of the transactions of a partition.
    pub(crate) fn restore_transactions(&self, id: PartitionId, more: Transactions) {
        if let Some(partition) = self.partition(id) {
            self.transactions.fetch_add(more.len(), Ordering::Relaxed);
            partition.write(|inner| inner.transactions.extend(more));
        }
    }

    /// [`Partition::replace`]; a partition that was deleted meanwhile stays so.
    pub(crate) fn replace(&self, id: PartitionId, files: &BTreeSet<u32>, moved: &[IndexEntry]) {
        // Held until it is counted, so that a deletion counts what was there before or after.
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(partition) = partitions.get(&id) {
            let (before, after) = partition.replace(files, moved);
            self.index_entries.fetch_add(after, Ordering::Relaxed);
            self.index_entries.fetch_sub(before, Ordering::Relaxed);
        }
    }

    pub(crate) fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn partition_ids(&self) -> Vec<PartitionId> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<PartitionId> = partitions.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn state<T>(&self, look: impl FnOnce(&StateTable) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change_state<T>(&self, change: impl FnOnce(&mut StateTable) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn index_entries(&self) -> usize {
        self.index_entries.load(Ordering::Relaxed)
    }

    pub(crate) fn transactions(&self) -> usize {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Makes an acknowledged effect visible.
    pub(crate) fn apply(&self, effect: &Effect, place: &Place) {
        match effect {
            Effect::Create { id, topic_id, index, flush } => {
                let partition = Arc::new(Partition::new(*topic_id, *index, *flush));
                self.with_partitions(|table| table.insert(*id, partition));
                self.highest_id.fetch_max(id.0, Ordering::Relaxed);
            }
            Effect::Delete { id } => {
                let size = |partition: Arc<Partition>| {
                    (partition.entries_len(), partition.transactions_len())
                };
                let gone = self.with_partitions(|table| table.remove(id).map(size));
                let (entries, transactions) = gone.unwrap_or_default();
                self.index_entries.fetch_sub(entries, Ordering::Relaxed);
                self.transactions.fetch_sub(transactions, Ordering::Relaxed);
            }
            Effect::LogStart { id, offset } => {
                let partition = self.partition(*id);
                let gone = partition.map(|partition| partition.raise_log_start(*offset));
                let (entries, transactions) = gone.unwrap_or_default();
                self.index_entries.fetch_sub(entries, Ordering::Relaxed);
                self.transactions.fetch_sub(transactions, Ordering::Relaxed);
            }
            Effect::Flush { id, flush } => {
                if let Some(partition) = self.partition(*id) {
                    partition.set_flush(*flush);
                }
            }
            Effect::EpochRaise => {
                for id in self.partition_ids() {
                    if let Some(partition) = self.partition(id) {
                        partition.raise_epoch();
                    }
                }
            }
            Effect::Batch(batch) => {
                let Some(partition) = self.partition(batch.id) else { return };
                let before = batch.part.map(|_| partition.transactions_len());
                if partition.append(batch, place) {
                    self.index_entries.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(before) = before {
                    self.transactions.fetch_add(partition.transactions_len(), Ordering::Relaxed);
                    self.transactions.fetch_sub(before, Ordering::Relaxed);
                }
            }
            Effect::State { kind, key, value } => {
                self.change_state(|table| table.apply(*kind, key, value.as_ref()));
            }
            Effect::AcceptOffsets { id, range, .. } => {
                let Some(partition) = self.partition(*id) else { return };
                let before = partition.transactions_len();
                partition.accept(*range);
                self.transactions.fetch_add(partition.transactions_len(), Ordering::Relaxed);
                self.transactions.fetch_sub(before, Ordering::Relaxed);
            }
            Effect::AcceptState { kind, missing } => {
                self.change_state(|table| table.accept(*kind, missing));
            }
            Effect::ProducerIds(_) => {}
        }
    }

    fn with_partitions<T>(
        &self,
        change: impl FnOnce(&mut HashMap<PartitionId, Arc<Partition>>) -> T,
    ) -> T {
        change(&mut self.partitions.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: i64, last_offset: i64) -> BatchPlace {
        let (id, max_timestamp) = (PartitionId(1), base_offset);
        BatchPlace { id, base_offset, last_offset, max_timestamp, bytes: 100, part: None }
    }

    fn place(block: u32, run: u32) -> Place {
        Place { segment: 1, block, blocks: 2, run }
    }

    #[test]
    fn neighbouring_frames_share_an_entry_up_to_a_bound() {
        // VIEW-2
        let partition = Partition::new([0; 16], 0, FlushPolicy::Commit);
        assert!(partition.append(&batch(0, 1), &place(2, 0)));
        assert!(!partition.append(&batch(2, 2), &place(2, 0)), "same frame");
        assert!(!partition.append(&batch(3, 3), &place(4, 0)), "next frame");
        assert!(partition.append(&batch(4, 4), &place(6, 1)), "another run");
        assert!(partition.append(&batch(6, 6), &place(8, 1)), "a gap");
        assert!(partition.append(&batch(7, 7), &place(8 + RUN_BLOCKS_MAX, 1)), "far away");
        let first = partition.entry_at(3).unwrap();
        assert_eq!((first.base_offset, first.last_offset(), first.blocks), (0, 3, 4));
        assert_eq!(partition.entry_at(5).unwrap().base_offset, 6);
        assert_eq!(partition.bounds(), (0, 8));
        // VIEW-3
        assert_eq!(partition.unexplained(), [OffsetRange { first: 5, last: 5 }]);
        partition.raise_end(12);
        partition.note_damage(OffsetRange { first: 9, last: i64::MAX });
        let holes = [OffsetRange { first: 5, last: 5 }, OffsetRange { first: 8, last: 8 }];
        assert_eq!(partition.unexplained(), holes);
        partition.accept(holes[0]);
        partition.raise_log_start(6);
        assert_eq!(partition.unexplained(), holes[1..]);
        partition.note_damage(holes[1]);
        assert_eq!(partition.unexplained(), []);
    }
}
