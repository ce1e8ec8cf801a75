//! What idempotent producers have sent: five batches each, per partition.
//!
//! # Invariants
//! - PRODUCER-1: a batch is taken only if it is the next of its producer, so that a retry is
//!   never appended twice and a gap never passes.
//! - PRODUCER-2: a producer that is not known must start at sequence 0; state ends only with
//!   expiry, or for want of room, so an unknown one that goes on has been forgotten or has lost
//!   batches.
//! - PRODUCER-3: a marker fences every lower epoch; a producer with an open transaction is never
//!   forgotten.
//! - PRODUCER-4: for want of room the longest idle go first, and none that has appended lately: it
//!   may send that again, for an answer that was lost.

use std::collections::{HashMap, VecDeque};

use lossproof_env::{Planted, planted};

use crate::batch::{BatchHeader, sequence_after};
use crate::commit::{PartitionId, ProducerView};
use crate::config::LogConfig;
use crate::error::CommitCause;

/// As many requests as a client may have in flight with idempotence.
pub(crate) const WINDOW: usize = 5;

/// Clients give up on a batch much sooner (`delivery.timeout.ms`, `message.timeout.ms`).
const RETRIED_MS: u64 = 15 * 60 * 1000;
/// So much of the table is cleared at once, so that not every newcomer looks through all of it.
const CLEARED_SHARE: usize = 100;
/// Where nobody can go, this long is not looked again.
const LOOK_AGAIN_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SentBatch {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
}

#[derive(Clone, Debug)]
struct Producer {
    epoch: i16,
    /// Oldest first, at most [`WINDOW`]; empty after a marker with a new epoch.
    batches: VecDeque<SentBatch>,
    /// First offset of its open transaction.
    transaction_start: Option<i64>,
    used_ms: u64,
}

/// A producer as a checkpoint keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ProducerFact {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) transaction_start: Option<i64>,
    pub(crate) used_ms: u64,
    pub(crate) batches: Vec<SentBatch>,
}

/// What a batch is to its producer's state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Judgement {
    Next,
    /// The first batch of a producer that is not in the table yet.
    First,
    Duplicate {
        base_offset: i64,
        last_offset: i64,
    },
}

#[derive(Debug, Default)]
pub(crate) struct ProducerTable {
    partitions: HashMap<PartitionId, HashMap<i64, Producer>>,
    count: usize,
    /// No producer can have expired before this time.
    expiry_from_ms: u64,
    /// Nobody is looked for who may go before it, before this time.
    room_from_ms: u64,
}

impl ProducerTable {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// All producers of a partition, for a checkpoint.
    pub(crate) fn facts(&self, partition: PartitionId) -> Vec<ProducerFact> {
        let table = self.partitions.get(&partition).into_iter().flatten();
        let fact = |(producer_id, producer): (&i64, &Producer)| ProducerFact {
            producer_id: *producer_id,
            epoch: producer.epoch,
            transaction_start: producer.transaction_start,
            used_ms: producer.used_ms,
            batches: producer.batches.iter().copied().collect(),
        };
        let mut facts: Vec<ProducerFact> = table.map(fact).collect();
        facts.sort_unstable_by_key(|fact| fact.producer_id);
        facts
    }

    pub(crate) fn restore(&mut self, partition: PartitionId, fact: ProducerFact) {
        let ProducerFact { producer_id, epoch, transaction_start, used_ms, batches } = fact;
        let producer = Producer { epoch, batches: batches.into(), transaction_start, used_ms };
        let before = self.partitions.entry(partition).or_default().insert(producer_id, producer);
        self.count += usize::from(before.is_none());
    }

    /// Judges a batch; changes nothing (PRODUCER-1, PRODUCER-2).
    pub(crate) fn judge(
        &self,
        partition: PartitionId,
        batch: &BatchHeader,
    ) -> Result<Judgement, CommitCause> {
        let (producer_id, found) = (batch.producer_id, batch.base_sequence);
        let out_of_order =
            |expected| CommitCause::OutOfOrderSequence { partition, producer_id, expected, found };
        let known = self.partitions.get(&partition).and_then(|table| table.get(&producer_id));
        let Some(producer) = known else {
            return if batch.is_marker() {
                Ok(Judgement::Next)
            } else if found == 0 || planted(Planted::UnknownProducerAccepted) {
                Ok(Judgement::First)
            } else {
                Err(CommitCause::UnknownProducer { partition, producer_id, found })
            };
        };
        if batch.producer_epoch < producer.epoch {
            return Err(CommitCause::InvalidProducerEpoch {
                partition,
                producer_id,
                known: producer.epoch,
                found: batch.producer_epoch,
            });
        }
        if batch.is_marker() {
            return Ok(Judgement::Next);
        }
        if producer.transaction_start.is_some() && batch.part.is_none() {
            return Err(CommitCause::InTransaction { partition, producer_id });
        }
        if batch.producer_epoch > producer.epoch {
            return if found == 0 { Ok(Judgement::Next) } else { Err(out_of_order(0)) };
        }
        let last_sequence = batch.last_sequence();
        let original = producer.batches.iter().find(|sent| {
            sent.first_sequence == found
                && sent.last_sequence == last_sequence
                && sent.last_offset - sent.base_offset == i64::from(batch.last_offset_delta)
        });
        if let Some(sent) = original {
            return Ok(Judgement::Duplicate {
                base_offset: sent.base_offset,
                last_offset: sent.last_offset,
            });
        }
        let expected = producer.batches.back().map_or(0, |b| sequence_after(b.last_sequence, 1));
        if found == expected { Ok(Judgement::Next) } else { Err(out_of_order(expected)) }
    }

    /// Takes a batch that was appended, or is being so, into its producer's window; a marker ends
    /// the producer's transaction (PRODUCER-3). A marker for one that is not known leaves nothing:
    /// there is nothing to end, and the coordinator knows the epoch.
    pub(crate) fn record(
        &mut self,
        partition: PartitionId,
        batch: &BatchHeader,
        base_offset: i64,
        now_ms: u64,
    ) {
        let sent = SentBatch {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(batch.last_offset_delta),
        };
        let table = self.partitions.entry(partition).or_default();
        if batch.is_marker() && !table.contains_key(&batch.producer_id) {
            return;
        }
        let count = &mut self.count;
        let producer = table.entry(batch.producer_id).or_insert_with(|| {
            *count += 1;
            Producer {
                epoch: batch.producer_epoch,
                batches: VecDeque::new(),
                transaction_start: None,
                used_ms: now_ms,
            }
        });
        producer.used_ms = now_ms;
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if batch.is_marker() {
            producer.transaction_start = None;
            return;
        }
        if batch.part.is_some() {
            producer.transaction_start.get_or_insert(base_offset);
        }
        if producer.batches.len() == WINDOW {
            producer.batches.pop_front();
        }
        producer.batches.push_back(sent);
    }

    pub(crate) fn is_in_transaction(&self, partition: PartitionId, producer_id: i64) -> bool {
        let known = self.partitions.get(&partition).and_then(|table| table.get(&producer_id));
        known.is_some_and(|producer| producer.transaction_start.is_some())
    }

    /// What `partition` remembers, by producer id.
    pub(crate) fn of_partition(&self, partition: PartitionId, now_ms: u64) -> Vec<ProducerView> {
        let table = self.partitions.get(&partition).into_iter().flatten();
        let view = |(producer_id, producer): (&i64, &Producer)| ProducerView {
            producer_id: *producer_id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map(|sent| sent.last_sequence),
            transaction_start: producer.transaction_start,
            idle_ms: now_ms.saturating_sub(producer.used_ms),
        };
        let mut views: Vec<ProducerView> = table.map(view).collect();
        views.sort_unstable_by_key(|view| view.producer_id);
        views
    }

    pub(crate) fn forget_partition(&mut self, partition: PartitionId) {
        let gone = self.partitions.remove(&partition).map_or(0, |table| table.len());
        self.count -= gone;
    }

    /// Makes room for so many more (PRODUCER-4).
    pub(crate) fn make_room(&mut self, now_ms: u64, more: usize, config: &LogConfig) {
        self.expire(now_ms, config.producer_expiry.as_millis() as u64);
        let max = config.producers_max;
        if self.count + more <= max || now_ms < self.room_from_ms {
            return;
        }
        let mut idle: Vec<(u64, PartitionId, i64)> = Vec::new();
        for (partition, table) in &self.partitions {
            let may_go = |producer: &Producer| {
                let is_late = now_ms.saturating_sub(producer.used_ms) >= RETRIED_MS;
                is_late && producer.transaction_start.is_none() // PRODUCER-3
            };
            let table = table.iter().filter(|(_, producer)| may_go(producer));
            idle.extend(table.map(|(id, producer)| (producer.used_ms, *partition, *id)));
        }
        let excess = self.count - max.saturating_sub(more + max / CLEARED_SHARE).min(self.count);
        if idle.len() < excess {
            self.room_from_ms = now_ms + LOOK_AGAIN_MS;
        }
        idle.sort_unstable();
        for (_, partition, id) in idle.into_iter().take(excess) {
            let gone = self.partitions.get_mut(&partition).and_then(|table| table.remove(&id));
            self.count -= usize::from(gone.is_some());
        }
    }

    /// Forgets who appended nothing for `expiry_ms`. Cheap when nobody can have expired yet.
    fn expire(&mut self, now_ms: u64, expiry_ms: u64) {
        if now_ms < self.expiry_from_ms {
            return;
        }
        let mut oldest = now_ms;
        self.partitions.retain(|_, table| {
            table.retain(|_, producer| {
                let idle_ms = now_ms.saturating_sub(producer.used_ms);
                producer.transaction_start.is_some() || idle_ms < expiry_ms
            });
            oldest = table.values().map(|producer| producer.used_ms).fold(oldest, u64::min);
            !table.is_empty()
        });
        self.count = self.partitions.values().map(HashMap::len).sum();
        self.expiry_from_ms = oldest.saturating_add(expiry_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transactions::{Part, Step};

    const PARTITION: PartitionId = PartitionId(1);

    fn batch(epoch: i16, first: i32, count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            leader_epoch: 0,
            last_offset_delta: count - 1,
            max_timestamp: 0,
            producer_id: 8,
            producer_epoch: epoch,
            base_sequence: first,
            records: count,
            part: None,
        }
    }

    fn part(header: BatchHeader, step: Step) -> BatchHeader {
        BatchHeader { part: Some(Part { producer_id: header.producer_id, step }), ..header }
    }

    fn take(table: &mut ProducerTable, header: BatchHeader, offset: i64) {
        let judgement = table.judge(PARTITION, &header);
        assert!(matches!(judgement, Ok(Judgement::First | Judgement::Next)), "{judgement:?}");
        table.record(PARTITION, &header, offset, 0);
    }

    #[test]
    fn five_batches_are_known_again_and_the_sixth_is_not() {
        // PRODUCER-1
        let mut table = ProducerTable::default();
        for index in 0..6 {
            take(&mut table, batch(0, index * 2, 2), i64::from(index) * 2);
        }
        for index in 1..6 {
            let base_offset = i64::from(index) * 2;
            let original = Judgement::Duplicate { base_offset, last_offset: base_offset + 1 };
            assert_eq!(table.judge(PARTITION, &batch(0, index * 2, 2)), Ok(original));
        }
        let too_old = table.judge(PARTITION, &batch(0, 0, 2));
        assert!(matches!(too_old, Err(CommitCause::OutOfOrderSequence { expected: 12, .. })));
        let gap = table.judge(PARTITION, &batch(0, 13, 1));
        assert!(matches!(gap, Err(CommitCause::OutOfOrderSequence { expected: 12, .. })));
        let other_size = table.judge(PARTITION, &batch(0, 10, 1));
        assert!(matches!(other_size, Err(CommitCause::OutOfOrderSequence { .. })));
    }

    #[test]
    fn sequences_wrap() {
        let mut table = ProducerTable::default();
        take(&mut table, batch(0, 0, 1), 0);
        table.record(PARTITION, &batch(0, i32::MAX - 1, 2), 1, 0);
        assert_eq!(table.judge(PARTITION, &batch(0, 0, 3)), Ok(Judgement::Next));
    }

    #[test]
    fn epochs_only_rise_and_start_at_zero() {
        let mut table = ProducerTable::default();
        take(&mut table, batch(3, 0, 1), 0);
        let old = table.judge(PARTITION, &batch(2, 1, 1));
        assert!(matches!(old, Err(CommitCause::InvalidProducerEpoch { known: 3, .. })));
        let middle = table.judge(PARTITION, &batch(4, 1, 1));
        assert!(matches!(middle, Err(CommitCause::OutOfOrderSequence { expected: 0, .. })));
        take(&mut table, batch(4, 0, 1), 1);
    }

    #[test]
    fn the_unknown_start_at_zero_and_the_expired_are_unknown() {
        // PRODUCER-2
        let mut table = ProducerTable::default();
        let unknown = table.judge(PARTITION, &batch(0, 1, 1));
        assert!(matches!(unknown, Err(CommitCause::UnknownProducer { found: 1, .. })));
        take(&mut table, batch(0, 0, 1), 0);
        table.expire(9, 10);
        assert_eq!(table.len(), 1);
        table.expire(10, 10);
        assert_eq!(table.len(), 0);
        assert!(table.judge(PARTITION, &batch(0, 1, 1)).is_err());
        take(&mut table, batch(0, 0, 1), 1);
        table.forget_partition(PARTITION);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_marker_fences_and_takes_no_sequence() {
        // PRODUCER-3
        let mut table = ProducerTable::default();
        take(&mut table, part(batch(0, 0, 2), Step::Records), 0);
        let outside = table.judge(PARTITION, &batch(0, 2, 1));
        assert!(matches!(outside, Err(CommitCause::InTransaction { producer_id: 8, .. })));
        take(&mut table, part(batch(0, -1, 1), Step::Commit), 2);
        take(&mut table, part(batch(0, 2, 1), Step::Records), 3);
        take(&mut table, part(batch(1, -1, 1), Step::Abort), 4);
        let zombie = table.judge(PARTITION, &part(batch(0, 3, 1), Step::Records));
        assert!(matches!(zombie, Err(CommitCause::InvalidProducerEpoch { known: 1, .. })));
        let late = table.judge(PARTITION, &part(batch(0, -1, 1), Step::Commit));
        assert!(matches!(late, Err(CommitCause::InvalidProducerEpoch { known: 1, .. })));
        let middle = table.judge(PARTITION, &part(batch(1, 3, 1), Step::Records));
        assert!(matches!(middle, Err(CommitCause::OutOfOrderSequence { expected: 0, .. })));
        take(&mut table, part(batch(1, 0, 1), Step::Records), 5);
    }

    #[test]
    fn who_has_an_open_transaction_is_not_forgotten() {
        // PRODUCER-3
        let mut table = ProducerTable::default();
        take(&mut table, part(batch(0, -1, 1), Step::Commit), 0);
        assert_eq!(table.len(), 0, "a marker for nobody");
        take(&mut table, part(batch(0, 0, 1), Step::Records), 1);
        table.expire(1000, 10);
        assert_eq!(table.of_partition(PARTITION, 0)[0].transaction_start, Some(1));
        take(&mut table, part(batch(0, -1, 1), Step::Commit), 2);
        table.expire(2000, 10);
        assert_eq!(table.len(), 0);
    }
}
