use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lossproof_audit::identity::RecordId;
use lossproof_audit::receipt::{Role, Stage};
use lossproof_audit::report::{OpenError, ReceiptStore, RecordRef, Reporter};
use lossproof_client::Record;
use lossproof_env::{Clock, Environment};
use lossproof_log::{CommitCause, StateChange, StateKind};

use crate::partitioner::partition_of_key;
use crate::shipping::identity_header;
use crate::spool::NewRecord;

/// Accepts records into nothing: they have identities, and are gone with the process. For showing
/// what a producer without a journal loses.
#[derive(Debug)]
pub struct UnsafeMemory {
    reporter: Arc<Reporter>,
    clock: Arc<dyn Clock>,
    partition_count: i32,
    turn: u32,
    /// The next sequence number of each partition; the partition is the lane's number.
    next: BTreeMap<i32, u64>,
}

impl UnsafeMemory {
    pub fn new(environment: &Environment, partition_count: i32) -> Result<Self, OpenError> {
        let store = UnsafeMemoryReceipts::new(environment);
        let reporter = Reporter::open(store, environment, Role::UnsafeProducer, Vec::new())?;
        Ok(Self {
            reporter: Arc::new(reporter),
            clock: Arc::clone(&environment.clock),
            partition_count: partition_count.max(1),
            turn: 0,
            next: BTreeMap::new(),
        })
    }

    pub fn reporter(&self) -> &Arc<Reporter> {
        &self.reporter
    }

    /// Gives each record its identity, and the record as it is to be sent; promises nothing.
    pub fn accept(&mut self, topic: &str, records: Vec<NewRecord>) -> Vec<(RecordId, Record)> {
        let turn = (self.turn % self.partition_count as u32) as i32;
        self.turn = self.turn.wrapping_add(1);
        let session = self.reporter.session();
        let timestamp_ms = Some(self.clock.wall_ms());
        let stamp = |new: NewRecord| {
            let key = new.key.as_ref();
            let partition = key.map_or(turn, |key| partition_of_key(key, self.partition_count));
            let next = self.next.entry(partition).or_default();
            let id = RecordId { session, lane: partition as u32, seq: *next };
            *next += 1;
            let (key, value) = (new.key.as_deref(), new.value.as_deref());
            let mut headers = new.headers.clone();
            headers.push(identity_header(id, topic, partition, key, value));
            let NewRecord { key, value, .. } = new;
            let topic = topic.to_owned();
            let record = Record { topic, partition, offset: 0, timestamp_ms, key, value, headers };
            (id, record)
        };
        records.into_iter().map(stamp).collect()
    }

    /// Notes how far a record has come; `offset` is where the cluster says it is.
    pub fn note(&self, stage: Stage, id: RecordId, topic: &str, offset: Option<i64>) {
        let partition = id.lane as i32;
        let record = RecordRef { id: Some(id), topic, partition, offset };
        self.reporter.note(stage, &record);
    }
}

/// Receipts that die with the process.
#[derive(Debug)]
struct UnsafeMemoryReceipts {
    directory_id: u64,
    entries: Mutex<BTreeMap<Bytes, Bytes>>,
}

impl UnsafeMemoryReceipts {
    fn new(environment: &Environment) -> Self {
        Self { directory_id: environment.rng.next_u64(), entries: Mutex::default() }
    }
}

impl ReceiptStore for UnsafeMemoryReceipts {
    fn directory_id(&self) -> u64 {
        self.directory_id
    }

    fn state(&self, _: StateKind) -> Vec<(Bytes, Bytes)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn state_is_damaged(&self, _: StateKind) -> bool {
        false
    }

    fn commit(&self, changes: Vec<StateChange>) -> Result<(), CommitCause> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change.value {
                Some(value) => entries.insert(change.key, value),
                None => entries.remove(&change.key),
            };
        }
        Ok(())
    }
}
