//! What a checkpoint consists of: everything that the journal's frames up to it have left, as
//! facts that put the same state together again.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::commit::{FlushPolicy, PartitionId, StateKind};
use crate::compaction::Compacted;
use crate::effect::{Effect, flush_code, flush_from};
use crate::epochs::EpochFact;
use crate::error::OffsetRange;
use crate::frame::{Entry, EntryKind, Item, Payload};
use crate::partition::IndexEntry;
use crate::producer::{ProducerFact, SentBatch, WINDOW};
use crate::state::Places;
use crate::transactions::{Aborted, AbortedTransaction, Doubtful, OpenTransaction, Transactions};

/// Index entries or producers in one fact.
pub(crate) const MANY: usize = 2_000;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    /// First, and once.
    Log(LogFact),
    /// A file that index entries name. They come after it.
    Cold(ColdFact),
    /// Before everything else that concerns it.
    Partition(PartitionId, PartitionFact),
    Index(PartitionId, Vec<IndexEntry>),
    Compacted(PartitionId, Compacted),
    Producers(PartitionId, Vec<ProducerFact>),
    /// Some of them, of each sort in order.
    Transactions(PartitionId, Transactions),
    State {
        kind: StateKind,
        key: Bytes,
        value: Bytes,
    },
    /// Entries of this kind were lost to damage, at these places of the journal.
    StateDamaged(StateKind, Vec<Places>),
    /// Offsets that cannot be read and are given up.
    Accepted(PartitionId, Vec<OffsetRange>),
    /// What was missing of this kind was given up.
    StateAccepted(StateKind),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LogFact {
    pub(crate) running_ms: u64,
    pub(crate) next_producer_id: i64,
    /// Every partition id up to this one was used.
    pub(crate) highest_id: PartitionId,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ColdFact {
    pub(crate) sequence: u64,
    pub(crate) incarnation: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PartitionFact {
    pub(crate) topic_id: [u8; 16],
    pub(crate) index: i32,
    pub(crate) flush: FlushPolicy,
    pub(crate) log_start: i64,
    pub(crate) next_offset: i64,
    /// Those that are remembered, the present one last.
    pub(crate) epochs: Vec<EpochFact>,
    /// It may have had batches in lost frames, with nothing read of it since.
    pub(crate) suspect: bool,
    /// Its log end is not known: nothing may be appended.
    pub(crate) closed: Option<OffsetRange>,
    pub(crate) damaged: Vec<OffsetRange>,
}

const TAG_LOG: u8 = 1;
const TAG_COLD: u8 = 2;
const TAG_PARTITION: u8 = 3;
const TAG_INDEX: u8 = 4;
const TAG_PRODUCERS: u8 = 5;
const TAG_STATE_DAMAGED: u8 = 6;
const TAG_TRANSACTIONS: u8 = 7;
const TAG_COMPACTED: u8 = 8;
const TAG_ACCEPTED: u8 = 9;
const TAG_STATE_ACCEPTED: u8 = 10;

/// Stands for no offset.
const NONE: i64 = -1;

impl Fact {
    pub(crate) fn to_item(&self) -> Item {
        if let Self::State { kind, key, value } = self {
            let (key, value) = (key.clone(), Some(value.clone()));
            return Effect::State { kind: *kind, key, value }.to_item();
        }
        let mut entry = Entry::plain(EntryKind::Checkpoint);
        let mut out = BytesMut::new();
        match self {
            Self::Log(fact) => {
                out.put_u8(TAG_LOG);
                out.put_u64(fact.running_ms);
                out.put_i64(fact.next_producer_id);
                out.put_u64(fact.highest_id.0);
            }
            Self::Cold(fact) => {
                out.put_u8(TAG_COLD);
                out.put_u64(fact.sequence);
                out.put_u64(fact.incarnation);
                out.put_u64(fact.bytes);
            }
            Self::Partition(id, fact) => {
                entry.partition = *id;
                out.put_u8(TAG_PARTITION);
                fact.put(&mut out);
            }
            Self::Index(id, entries) => {
                entry.partition = *id;
                out.put_u8(TAG_INDEX);
                for entry in entries {
                    put_index_entry(entry, &mut out);
                }
            }
            Self::Compacted(id, compacted) => {
                entry.partition = *id;
                out.put_u8(TAG_COMPACTED);
                put_compacted(compacted, &mut out);
            }
            Self::Producers(id, producers) => {
                entry.partition = *id;
                out.put_u8(TAG_PRODUCERS);
                for producer in producers {
                    producer.put(&mut out);
                }
            }
            Self::Transactions(id, transactions) => {
                entry.partition = *id;
                out.put_u8(TAG_TRANSACTIONS);
                transactions.put(&mut out);
            }
            Self::StateDamaged(kind, missing) => {
                out.put_u8(TAG_STATE_DAMAGED);
                out.put_u8(kind.code());
                Places::put_all(missing, &mut out);
            }
            Self::Accepted(id, ranges) => {
                entry.partition = *id;
                out.put_u8(TAG_ACCEPTED);
                for range in ranges {
                    put_range(*range, &mut out);
                }
            }
            Self::StateAccepted(kind) => {
                out.put_u8(TAG_STATE_ACCEPTED);
                out.put_u8(kind.code());
            }
            Self::State { .. } => {}
        }
        Item { entry, payload: Payload::Plain(out.freeze()) }
    }

    /// `None` for what is no fact of this version.
    pub(crate) fn decode(entry: &Entry, payload: &Bytes) -> Option<Self> {
        if entry.kind != EntryKind::Checkpoint {
            return match Effect::decode(entry, payload)?.0 {
                Effect::State { kind, key, value: Some(value) } => {
                    Some(Self::State { kind, key, value })
                }
                _ => None,
            };
        }
        let mut from = payload.clone();
        let id = entry.partition;
        let fact = match from.try_get_u8().ok()? {
            TAG_LOG => Self::Log(LogFact {
                running_ms: from.try_get_u64().ok()?,
                next_producer_id: from.try_get_i64().ok()?,
                highest_id: PartitionId(from.try_get_u64().ok()?),
            }),
            TAG_COLD => Self::Cold(ColdFact {
                sequence: from.try_get_u64().ok()?,
                incarnation: from.try_get_u64().ok()?,
                bytes: from.try_get_u64().ok()?,
            }),
            TAG_PARTITION => Self::Partition(id, PartitionFact::get(&mut from)?),
            TAG_INDEX => Self::Index(id, get_all(&mut from, get_index_entry)?),
            TAG_COMPACTED => Self::Compacted(id, get_compacted(&mut from)?),
            TAG_PRODUCERS => Self::Producers(id, get_all(&mut from, ProducerFact::get)?),
            TAG_TRANSACTIONS => Self::Transactions(id, Transactions::get(&mut from)?),
            TAG_STATE_DAMAGED => {
                let kind = StateKind::from_code(from.try_get_u8().ok()?)?;
                let missing = Places::get_all(&std::mem::take(&mut from))?;
                // Of a directory of before: they count as any frame that there is none of.
                let unknown = || vec![Places::of_frames(0, 0)];
                Self::StateDamaged(kind, if missing.is_empty() { unknown() } else { missing })
            }
            TAG_ACCEPTED => Self::Accepted(id, get_all(&mut from, get_range)?),
            TAG_STATE_ACCEPTED => {
                Self::StateAccepted(StateKind::from_code(from.try_get_u8().ok()?)?)
            }
            _ => return None,
        };
        from.is_empty().then_some(fact)
    }
}

/// Reads to the end of `from`.
fn get_all<T>(from: &mut Bytes, get: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let mut all = Vec::new();
    while !from.is_empty() {
        all.push(get(from)?);
    }
    Some(all)
}

fn put_range(range: OffsetRange, out: &mut BytesMut) {
    out.put_i64(range.first);
    out.put_i64(range.last);
}

fn get_range(from: &mut Bytes) -> Option<OffsetRange> {
    Some(OffsetRange { first: from.try_get_i64().ok()?, last: from.try_get_i64().ok()? })
}

impl PartitionFact {
    fn put(&self, out: &mut BytesMut) {
        out.put_slice(&self.topic_id);
        out.put_i32(self.index);
        out.put_u8(flush_code(self.flush));
        out.put_i64(self.log_start);
        out.put_i64(self.next_offset);
        out.put_u8(self.epochs.len() as u8);
        for EpochFact { epoch, start } in &self.epochs {
            out.put_i32(*epoch);
            out.put_i64(*start);
        }
        out.put_u8(u8::from(self.suspect));
        out.put_u8(u8::from(self.closed.is_some()));
        for range in self.closed.iter().chain(&self.damaged) {
            put_range(*range, out);
        }
    }

    fn get(from: &mut Bytes) -> Option<Self> {
        let mut topic_id = [0; 16];
        from.try_copy_to_slice(&mut topic_id).ok()?;
        let index = from.try_get_i32().ok()?;
        let flush = flush_from(from.try_get_u8().ok()?)?;
        let (log_start, next_offset) = (from.try_get_i64().ok()?, from.try_get_i64().ok()?);
        let epochs: Option<Vec<EpochFact>> =
            (0..from.try_get_u8().ok()?).map(|_| get_epoch(from)).collect();
        let suspect = from.try_get_u8().ok()? == 1;
        let is_closed = from.try_get_u8().ok()? == 1;
        let closed = if is_closed { Some(get_range(from)?) } else { None };
        Some(Self {
            topic_id,
            index,
            flush,
            log_start,
            next_offset,
            epochs: epochs?,
            suspect,
            closed,
            damaged: get_all(from, get_range)?,
        })
    }
}

fn get_epoch(from: &mut Bytes) -> Option<EpochFact> {
    Some(EpochFact { epoch: from.try_get_i32().ok()?, start: from.try_get_i64().ok()? })
}

fn put_compacted(compacted: &Compacted, out: &mut BytesMut) {
    out.put_i64(compacted.end);
    out.put_i64(compacted.settled);
    out.put_i64(compacted.settled_ms);
    out.put_u8(u8::from(compacted.tombstones));
}

fn get_compacted(from: &mut Bytes) -> Option<Compacted> {
    Some(Compacted {
        end: from.try_get_i64().ok()?,
        settled: from.try_get_i64().ok()?,
        settled_ms: from.try_get_i64().ok()?,
        tombstones: from.try_get_u8().ok()? == 1,
    })
}

fn put_index_entry(entry: &IndexEntry, out: &mut BytesMut) {
    out.put_i64(entry.base_offset);
    out.put_i64(entry.max_timestamp);
    out.put_u32(entry.span);
    out.put_u32(entry.segment);
    out.put_u32(entry.block);
    out.put_u32(entry.blocks);
    out.put_u32(entry.bytes);
}

fn get_index_entry(from: &mut Bytes) -> Option<IndexEntry> {
    Some(IndexEntry {
        base_offset: from.try_get_i64().ok()?,
        max_timestamp: from.try_get_i64().ok()?,
        span: from.try_get_u32().ok()?,
        segment: from.try_get_u32().ok()?,
        block: from.try_get_u32().ok()?,
        blocks: from.try_get_u32().ok()?,
        bytes: from.try_get_u32().ok()?,
    })
}

const OPEN: u8 = 1;
const ABORTED: u8 = 2;
// 3 was that without the losses.
const DOUBTFUL: u8 = 4;

impl Transactions {
    /// The first `MANY` or fewer of what is left, for one fact; `None` where nothing is.
    pub(crate) fn split_first(&mut self) -> Option<Self> {
        let mut room = MANY;
        let part = Self {
            open: take_front(&mut self.open, &mut room),
            aborted: take_front(&mut self.aborted, &mut room),
            doubtful: take_front(&mut self.doubtful, &mut room),
        };
        (room < MANY).then_some(part)
    }

    fn put(&self, out: &mut BytesMut) {
        let mut put_open = |sort: u8, open: &OpenTransaction, losses: &[i64]| {
            out.put_u8(sort);
            out.put_i64(open.producer_id);
            out.put_i64(open.first_offset);
            for loss in losses {
                out.put_i64(*loss);
            }
        };
        self.open.iter().for_each(|open| put_open(OPEN, open, &[]));
        for Doubtful { transaction, first_loss, last_loss } in &self.doubtful {
            put_open(DOUBTFUL, transaction, &[*first_loss, *last_loss]);
        }
        for Aborted { transaction, stable } in &self.aborted {
            out.put_u8(ABORTED);
            out.put_i64(transaction.producer_id);
            out.put_i64(transaction.first_offset);
            out.put_i64(transaction.last_offset);
            out.put_i64(*stable);
        }
    }

    fn get(from: &mut Bytes) -> Option<Self> {
        let mut all = Self::default();
        while !from.is_empty() {
            let sort = from.try_get_u8().ok()?;
            let producer_id = from.try_get_i64().ok()?;
            let first_offset = from.try_get_i64().ok()?;
            let open = OpenTransaction { producer_id, first_offset };
            match sort {
                OPEN => all.open.push(open),
                DOUBTFUL => all.doubtful.push(Doubtful {
                    transaction: open,
                    first_loss: from.try_get_i64().ok()?,
                    last_loss: from.try_get_i64().ok()?,
                }),
                ABORTED => {
                    let last_offset = from.try_get_i64().ok()?;
                    let transaction = AbortedTransaction { first_offset, last_offset, producer_id };
                    all.aborted.push(Aborted { transaction, stable: from.try_get_i64().ok()? });
                }
                _ => return None,
            }
        }
        Some(all)
    }
}

fn take_front<T>(all: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    let count = all.len().min(*room);
    *room -= count;
    all.drain(..count).collect()
}

impl ProducerFact {
    fn put(&self, out: &mut BytesMut) {
        out.put_i64(self.producer_id);
        out.put_i16(self.epoch);
        out.put_i64(self.transaction_start.unwrap_or(NONE));
        out.put_u64(self.used_ms);
        out.put_u8(self.batches.len() as u8);
        for batch in &self.batches {
            out.put_i32(batch.first_sequence);
            out.put_i32(batch.last_sequence);
            out.put_i64(batch.base_offset);
            out.put_i64(batch.last_offset);
        }
    }

    fn get(from: &mut Bytes) -> Option<Self> {
        let producer_id = from.try_get_i64().ok()?;
        let epoch = from.try_get_i16().ok()?;
        let transaction_start = Some(from.try_get_i64().ok()?).filter(|start| *start != NONE);
        let used_ms = from.try_get_u64().ok()?;
        let count = usize::from(from.try_get_u8().ok()?);
        if count > WINDOW {
            return None;
        }
        let batch = |from: &mut Bytes| {
            Some(SentBatch {
                first_sequence: from.try_get_i32().ok()?,
                last_sequence: from.try_get_i32().ok()?,
                base_offset: from.try_get_i64().ok()?,
                last_offset: from.try_get_i64().ok()?,
            })
        };
        let batches: Option<Vec<SentBatch>> = (0..count).map(|_| batch(from)).collect();
        Some(Self { producer_id, epoch, transaction_start, used_ms, batches: batches? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Fact> {
        let range = OffsetRange { first: 3, last: i64::MAX };
        let partition = PartitionFact {
            topic_id: [7; 16],
            index: 2,
            flush: FlushPolicy::UnsafeEverySecond,
            log_start: 1,
            next_offset: 9,
            epochs: vec![EpochFact { epoch: 1, start: 5 }, EpochFact { epoch: 4, start: 9 }],
            suspect: true,
            closed: Some(range),
            damaged: vec![OffsetRange { first: 2, last: 2 }, range],
        };
        let entry = IndexEntry {
            base_offset: 1,
            max_timestamp: -1,
            span: 7,
            segment: 1 << 31,
            block: 2,
            blocks: 3,
            bytes: 4,
        };
        let sent =
            SentBatch { first_sequence: 0, last_sequence: 2, base_offset: 1, last_offset: 3 };
        let batches = vec![sent, sent];
        let producer =
            ProducerFact { producer_id: 8, epoch: 1, transaction_start: None, used_ms: 5, batches };
        let open = OpenTransaction { producer_id: 8, first_offset: 3 };
        let doubtful = Doubtful { transaction: open, first_loss: 5, last_loss: 9 };
        let transaction = AbortedTransaction { first_offset: 1, last_offset: 2, producer_id: 8 };
        let aborted = Aborted { transaction, stable: 3 };
        vec![
            Fact::Log(LogFact {
                running_ms: 1,
                next_producer_id: 1 << 40,
                highest_id: PartitionId(9),
            }),
            Fact::Cold(ColdFact { sequence: 1, incarnation: 2, bytes: 3 }),
            Fact::Partition(PartitionId(4), partition),
            Fact::Index(PartitionId(4), vec![entry, entry]),
            Fact::Compacted(
                PartitionId(4),
                Compacted { end: 9, settled: 5, settled_ms: 1 << 40, tombstones: true },
            ),
            Fact::Producers(
                PartitionId(4),
                vec![producer.clone(), ProducerFact { transaction_start: Some(3), ..producer }],
            ),
            Fact::Transactions(
                PartitionId(4),
                Transactions {
                    open: vec![open],
                    aborted: vec![aborted, aborted],
                    doubtful: vec![doubtful, doubtful],
                },
            ),
            Fact::StateDamaged(StateKind::Cursor, vec![Places::of_frames(2, 9)]),
            Fact::Accepted(PartitionId(4), vec![OffsetRange { first: 2, last: 2 }, range]),
            Fact::StateAccepted(StateKind::Offsets),
            Fact::State {
                kind: StateKind::Offsets,
                key: Bytes::from_static(b"key"),
                value: Bytes::from_static(b"value"),
            },
        ]
    }

    #[test]
    fn facts_come_back_as_they_went() {
        for fact in samples() {
            let item = fact.to_item();
            let Payload::Plain(payload) = item.payload else { panic!("no batch here") };
            assert_eq!(Fact::decode(&item.entry, &payload), Some(fact.clone()));
            for cut in 0..payload.len() {
                let short = Fact::decode(&item.entry, &payload.slice(..cut));
                assert_ne!(short, Some(fact.clone()), "cut at {cut}");
            }
        }
    }
}
