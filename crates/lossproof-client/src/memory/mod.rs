//! A cluster in memory: topics, groups and a script of faults, without sockets, threads or time.
//!
//! # Invariants
//! - MEMORY-1: what a producer was told is stored is in the topic, at that offset.
//! - MEMORY-2: in a topic, records of one producer and partition are in the order of their sends,
//!   except where a scripted fault says otherwise.
//! - MEMORY-3: a partition has at most one owner in a group; it changes hands only after the
//!   former owner was told (`revoked`), or was thrown out (`lost`).
//! - MEMORY-4: a member that was thrown out can commit nothing.

mod admin;
mod consumer;
mod group;
mod producer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{
    Admin, DeliveryError, LogConsumer, LogProducer, Record, Stored, TopicPartition, Watermarks,
};
use admin::MemoryAdmin;
use consumer::MemoryConsumer;
use group::Group;
use producer::MemoryProducer;

/// Tokens that a producer of this cluster holds before it answers `QueueFull`.
pub const QUEUE_RECORDS_MAX: usize = 1000;
/// Partitions that a topic gets when a producer asks for it.
pub const AUTO_CREATE_PARTITIONS: i32 = 4;

/// What happens to one record that a producer was given, in the order of the sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryFault {
    /// Nothing: it is stored and acknowledged.
    Deliver,
    /// Not stored, and said so. Later records of the partition are not held back.
    NotStored,
    /// Stored, but the producer hears that nobody knows.
    UnknownStored,
    /// Not stored, and the producer hears that nobody knows.
    UnknownNotStored,
    /// Stored twice, acknowledged once with the first offset.
    Duplicate,
    /// Refused for good.
    Refuse,
    /// The producer dies: this record and all behind it get `Fatal`; this one is stored.
    FatalStored,
    /// The producer dies: this record and all behind it get `Fatal`; none is stored.
    FatalNotStored,
    /// Stored at once; the outcome (and those behind it) comes only this many polls later.
    Delay { polls: u32 },
}

/// What happens to one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    Accept,
    /// Not committed, worth another try.
    Retriable,
    /// Committed, but the member hears that it may try again.
    RetriableStored,
    Refuse,
}

/// A handle on the cluster; clones share it.
#[derive(Clone, Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Whether `poll` waits for its time-out when there is nothing to return.
    waits: bool,
}

#[derive(Debug)]
struct State {
    topics: BTreeMap<String, Vec<Partition>>,
    /// Topics that were made without retention.
    kept_topics: BTreeSet<String>,
    groups: BTreeMap<String, Group>,
    delivery_faults: VecDeque<DeliveryFault>,
    commit_faults: VecDeque<CommitFault>,
    reachable: bool,
    auto_create: bool,
    queue_records_max: usize,
    record_bytes_max: usize,
    next_timestamp_ms: i64,
    producers_made: u64,
}

#[derive(Debug, Default)]
struct Partition {
    low: i64,
    high: i64,
    records: Vec<Record>,
}

impl Partition {
    fn append(&mut self, mut record: Record) -> i64 {
        record.offset = self.high;
        self.records.push(record);
        self.high += 1;
        self.high - 1
    }

    /// The first record at or behind `offset`.
    fn at(&self, offset: i64) -> Option<&Record> {
        let place = self.records.partition_point(|record| record.offset < offset);
        self.records.get(place)
    }
}

impl State {
    fn partition(&self, place: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&place.topic)?.get(usize::try_from(place.partition).ok()?)
    }

    fn partition_mut(&mut self, place: &TopicPartition) -> Option<&mut Partition> {
        self.topics.get_mut(&place.topic)?.get_mut(usize::try_from(place.partition).ok()?)
    }

    fn create(&mut self, topic: &str, partitions: i32) -> bool {
        if self.topics.contains_key(topic) {
            return false;
        }
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        self.topics.insert(topic.to_owned(), partitions);
        true
    }

    /// Nobody answers while the cluster is not reachable.
    fn answer(&self) -> Result<(), DeliveryError> {
        if self.reachable {
            return Ok(());
        }
        Err(DeliveryError::NotStored { detail: "the cluster is not reachable".to_owned() })
    }

    /// Stores a record where the topic has such a partition.
    fn store(&mut self, mut record: Record) -> Option<Stored> {
        self.next_timestamp_ms += 1;
        record.timestamp_ms.get_or_insert(self.next_timestamp_ms);
        let place = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        let offset = self.partition_mut(&place)?.append(record);
        Some(Stored { partition: place.partition, offset })
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// A cluster whose clients never wait: a poll with nothing to return returns at once. For
    /// tests that drive everything from one thread.
    pub fn new() -> Self {
        Self::with_waiting(false)
    }

    /// A cluster whose clients wait in `poll` until something happens, at most the time-out. For
    /// tests in which clients have threads of their own.
    pub fn waiting() -> Self {
        Self::with_waiting(true)
    }

    fn with_waiting(waits: bool) -> Self {
        let state = State {
            topics: BTreeMap::new(),
            kept_topics: BTreeSet::new(),
            groups: BTreeMap::new(),
            delivery_faults: VecDeque::new(),
            commit_faults: VecDeque::new(),
            reachable: true,
            auto_create: true,
            queue_records_max: QUEUE_RECORDS_MAX,
            record_bytes_max: usize::MAX,
            next_timestamp_ms: 0,
            producers_made: 0,
        };
        Self {
            shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), waits }),
        }
    }

    /// A new producer.
    pub fn producer(&self) -> Box<dyn LogProducer> {
        self.lock().producers_made += 1;
        Box::new(MemoryProducer::new(self.clone()))
    }

    /// A new member of `group`, reading all partitions of `topics`. Members are ranked by their
    /// order of joining; partitions are dealt in turn.
    pub fn consumer(&self, group: &str, topics: &[&str]) -> Box<dyn LogConsumer> {
        Box::new(MemoryConsumer::new(self.clone(), group, topics))
    }

    pub fn admin(&self) -> Box<dyn Admin> {
        Box::new(MemoryAdmin::new(self.clone()))
    }

    /// Makes a topic; false where it exists.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> bool {
        self.lock().create(topic, partitions)
    }

    /// Whether a producer has made this topic, and asked that nothing be removed from it.
    pub fn keeps_everything(&self, topic: &str) -> bool {
        self.lock().kept_topics.contains(topic)
    }

    /// Adds partitions to a topic up to `partitions`, and makes its groups rebalance.
    pub fn grow_topic(&self, topic: &str, partitions: i32) {
        let mut state = self.lock();
        let held = state.topics.entry(topic.to_owned()).or_default();
        while held.len() < usize::try_from(partitions).unwrap_or(0) {
            held.push(Partition::default());
        }
        state.groups.values_mut().for_each(Group::rebalance);
        self.notify();
    }

    /// Whether a producer that asks for an unknown topic makes it (as at first).
    pub fn set_auto_create(&self, auto_create: bool) {
        self.lock().auto_create = auto_create;
    }

    /// While not reachable, nothing is delivered, fetched, committed or answered.
    pub fn set_reachable(&self, reachable: bool) {
        self.lock().reachable = reachable;
        self.notify();
    }

    /// Records that a producer holds at most ([`QUEUE_RECORDS_MAX`] at first).
    pub fn set_queue_records_max(&self, records: usize) {
        self.lock().queue_records_max = records;
    }

    /// Larger values than this are refused by `send` with `TooLarge` (no bound at first).
    pub fn set_record_bytes_max(&self, bytes: usize) {
        self.lock().record_bytes_max = bytes;
    }

    /// Appends to the script: one entry is used up by each record that any producer hands over.
    /// Behind the end of the script every record is delivered.
    pub fn script_deliveries(&self, faults: impl IntoIterator<Item = DeliveryFault>) {
        self.lock().delivery_faults.extend(faults);
    }

    /// Appends to the script of commits, as [`Cluster::script_deliveries`].
    pub fn script_commits(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.lock().commit_faults.extend(faults);
    }

    /// Makes every member of `group` give up its partitions and get them dealt again.
    pub fn revoke(&self, group: &str) {
        if let Some(group) = self.lock().groups.get_mut(group) {
            group.rebalance();
        }
        self.notify();
    }

    /// Throws the member with this rank (from 0) out, as after a missed heartbeat: it learns it
    /// at its next poll (`lost`), then joins again.
    pub fn expire_member(&self, group: &str, rank: usize) {
        if let Some(group) = self.lock().groups.get_mut(group) {
            group.expire(rank);
        }
        self.notify();
    }

    /// Removes records below `low`, as retention does.
    pub fn delete_records(&self, place: &TopicPartition, low: i64) {
        if let Some(partition) = self.lock().partition_mut(place) {
            partition.low = low.clamp(partition.low, partition.high);
            partition.records.retain(|record| record.offset >= low);
        }
        self.notify();
    }

    /// Removes one record and leaves a gap, as compaction (or a broken broker) does.
    pub fn remove_record(&self, place: &TopicPartition, offset: i64) -> Option<Record> {
        let mut state = self.lock();
        let records = &mut state.partition_mut(place)?.records;
        let index = records.iter().position(|record| record.offset == offset)?;
        Some(records.remove(index))
    }

    /// Appends a record as some other client would, past every script.
    pub fn append(&self, record: Record) -> Option<Stored> {
        let stored = self.lock().store(record);
        self.notify();
        stored
    }

    /// All records of a topic, by partition and offset.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let state = self.lock();
        let partitions = state.topics.get(topic).into_iter().flatten();
        partitions.flat_map(|partition| partition.records.iter().cloned()).collect()
    }

    pub fn watermarks(&self, place: &TopicPartition) -> Option<Watermarks> {
        let state = self.lock();
        state.partition(place).map(|held| Watermarks { low: held.low, high: held.high })
    }

    pub fn committed(&self, group: &str, place: &TopicPartition) -> Option<i64> {
        self.lock().groups.get(group)?.committed(place)
    }

    /// Sets what a group has committed, past every script.
    pub fn set_committed(&self, group: &str, place: &TopicPartition, offset: i64) {
        self.lock().groups.entry(group.to_owned()).or_default().commit(place, offset);
    }

    /// How many producers were ever made.
    pub fn producers_made(&self) -> u64 {
        self.lock().producers_made
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.shared.changed.notify_all();
    }

    /// Waits until `ready` finds something, at most `timeout`; once only where clients never wait.
    fn wait_for<T>(
        &self,
        timeout: Duration,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.lock();
        let mut found = ready(&mut state);
        if found.is_none() && self.shared.waits {
            let waiting = |state: &mut State| {
                found = ready(state);
                found.is_none()
            };
            let waited = self.shared.changed.wait_timeout_while(state, timeout, waiting);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
        found
    }
}
