//! Receipts that a test can look into, and a consumer that checks each commit against them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lossproof_client::{
    CommitError, ConsumeError, LogConsumer, Rebalance, Record, TopicPartition, Watermarks,
};
use lossproof_pipeline::receipts::{Fact, Note, Receipts, ReceiptsError};

/// What is known of each record, by witnesses outside of the code under test.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    noted: Vec<Note>,
    durable: Vec<Note>,
    flush_faults: usize,
    flushes: usize,
    closed: bool,
    revokes: usize,
    assignments: usize,
    beginnings: Vec<TopicPartition>,
    /// Looks for receipts elsewhere than in `durable`.
    witness: Option<Box<dyn Witness>>,
    handed_out: BTreeMap<TopicPartition, BTreeSet<i64>>,
    violations: Vec<String>,
}

/// Where receipts can be seen that are not kept by [`TestReceipts`].
pub trait Witness: std::fmt::Debug + Send {
    /// Offsets of the partition of which a receipt says how their records ended.
    fn settled(&self, partition: &TopicPartition) -> BTreeSet<i64>;
}

impl Ledger {
    pub fn with_witness(witness: impl Witness + 'static) -> Self {
        let ledger = Self::default();
        ledger.0.lock().unwrap().witness = Some(Box::new(witness));
        ledger
    }

    pub fn receipts(&self) -> TestReceipts {
        TestReceipts(self.clone())
    }

    /// The next `count` flushes fail.
    pub fn fail_flushes(&self, count: usize) {
        self.0.lock().unwrap().flush_faults = count;
    }

    /// Of those, the ones that no flush has met yet.
    pub fn flush_faults_left(&self) -> usize {
        self.0.lock().unwrap().flush_faults
    }

    pub fn flushes(&self) -> usize {
        self.0.lock().unwrap().flushes
    }

    /// Times that partitions were taken away, counted when they are gone.
    pub fn revokes(&self) -> usize {
        self.0.lock().unwrap().revokes
    }

    /// Partitions assigned so far, each time counted.
    pub fn assignments(&self) -> usize {
        self.0.lock().unwrap().assignments
    }

    /// Partitions that the group was said to begin with.
    pub fn beginnings(&self) -> Vec<TopicPartition> {
        self.0.lock().unwrap().beginnings.clone()
    }

    pub fn violations(&self) -> Vec<String> {
        self.0.lock().unwrap().violations.clone()
    }

    pub fn durable(&self) -> Vec<Note> {
        self.0.lock().unwrap().durable.clone()
    }

    pub fn facts_of(&self, partition: i32, offset: i64) -> Vec<Fact> {
        let durable = self.durable();
        let of = |note: &&Note| note.partition.partition == partition && note.offset == offset;
        durable.iter().filter(of).map(|note| note.fact.clone()).collect()
    }

    /// POLL-1: every record handed out below a committed offset is settled, with a durable receipt.
    fn check(&self, partition: &TopicPartition, committed: i64) {
        let mut state = self.0.lock().unwrap();
        let of = |note: &&Note| note.partition.as_ref() == partition && is_end(&note.fact);
        let settled = match &state.witness {
            Some(witness) => witness.settled(partition),
            None => state.durable.iter().filter(of).map(|note| note.offset).collect(),
        };
        let handed_out = state.handed_out.get(partition).cloned().unwrap_or_default();
        let open: Vec<i64> =
            handed_out.range(..committed).filter(|o| !settled.contains(o)).copied().collect();
        let last = handed_out.last().map_or(0, |offset| offset + 1);
        if !open.is_empty() {
            let number = partition.partition;
            state.violations.push(format!("{number}: {committed} committed, {open:?} are open"));
        }
        if committed > last {
            let number = partition.partition;
            state.violations.push(format!("{number}: {committed} committed, {last} handed out"));
        }
    }
}

fn is_end(fact: &Fact) -> bool {
    matches!(fact, Fact::Confirmed | Fact::Filtered { .. } | Fact::DeadLettered { .. })
}

#[derive(Debug)]
pub struct TestReceipts(Ledger);

impl Receipts for TestReceipts {
    fn note(&mut self, note: &Note) {
        self.0.0.lock().unwrap().noted.push(note.clone());
    }

    fn note_beginning(&mut self, partition: &TopicPartition) {
        self.0.0.lock().unwrap().beginnings.push(partition.clone());
    }

    fn flush_durable(&mut self) -> Result<(), ReceiptsError> {
        let mut state = self.0.0.lock().unwrap();
        if state.flush_faults > 0 {
            state.flush_faults -= 1;
            return Err(ReceiptsError::Retriable { detail: "scripted".to_owned() });
        }
        state.flushes += 1;
        let noted = std::mem::take(&mut state.noted);
        state.durable.extend(noted);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), ReceiptsError> {
        self.0.0.lock().unwrap().closed = true;
        Ok(())
    }
}

/// Checks commits, those of rebalancing included, before they reach the cluster.
#[derive(Debug)]
pub struct Watched {
    inner: Box<dyn LogConsumer>,
    ledger: Ledger,
}

impl Watched {
    pub fn new(inner: Box<dyn LogConsumer>, ledger: Ledger) -> Self {
        Self { inner, ledger }
    }
}

struct Watch<'a> {
    inner: &'a mut dyn Rebalance,
    ledger: Ledger,
}

impl Rebalance for Watch<'_> {
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        committed: Option<i64>,
        watermarks: Watermarks,
    ) -> Result<i64, ConsumeError> {
        self.ledger.0.lock().unwrap().assignments += 1;
        self.inner.assigned(partition, committed, watermarks)
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        let offsets = self.inner.revoked(partitions);
        for (partition, offset) in &offsets {
            self.ledger.check(partition, *offset);
        }
        self.ledger.0.lock().unwrap().revokes += 1;
        offsets
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.inner.lost(partitions);
    }
}

impl LogConsumer for Watched {
    fn poll(
        &mut self,
        timeout: Duration,
        rebalance: &mut dyn Rebalance,
    ) -> Result<Option<Record>, ConsumeError> {
        let mut watch = Watch { inner: rebalance, ledger: self.ledger.clone() };
        let polled = self.inner.poll(timeout, &mut watch);
        if let Ok(Some(record)) = &polled {
            let place = TopicPartition { topic: record.topic.clone(), partition: record.partition };
            let mut state = self.ledger.0.lock().unwrap();
            state.handed_out.entry(place).or_default().insert(record.offset);
        }
        polled
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        self.inner.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        self.inner.resume(partitions)
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), CommitError> {
        for (partition, offset) in offsets {
            self.ledger.check(partition, *offset);
        }
        self.inner.commit(offsets)
    }

    fn close(
        self: Box<Self>,
        rebalance: &mut dyn Rebalance,
        timeout: Duration,
    ) -> Result<(), ConsumeError> {
        let mut watch = Watch { inner: rebalance, ledger: self.ledger.clone() };
        self.inner.close(&mut watch, timeout)
    }
}
