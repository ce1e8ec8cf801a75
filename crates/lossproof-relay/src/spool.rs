//! Accepting records: identity first, then durable, then yes.
//!
//! # Invariants
//! - SPOOL-1: a record's sequence number in its lane is its offset in the lane's partition of the
//!   journal; a record that was accepted has exactly one identity.
//! - SPOOL-2: nothing counts as accepted before the frame that holds it is durable; the position
//!   in the input, the lane's entry and the record itself are in one frame.
//! - SPOOL-3: a session opens its own lanes; it never adds to those of another.
//! - SPOOL-4: after a failure of which the outcome is unknown nothing more is accepted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lossproof_audit::identity::RecordId;
use lossproof_audit::interval::IntervalSet;
use lossproof_audit::receipt::{LaneEnd, LaneId, Role, Stage};
use lossproof_audit::report::{RecordRef, Reporter, lane_from_cursor};
use lossproof_env::{Clock, Environment};
use lossproof_log::{
    Append, Commit, CommitCause, FlushPolicy, LaneRange, Log, PartitionChange, PartitionId,
    StateChange, StateKind,
};
use lossproof_wire::batch::{BatchBuilder, RecordHeader};

use crate::error::{AcceptCause, AcceptError, OpenError, PositionError};
use crate::input::{InputPosition, KnownInput};
use crate::lane::{Entry, LaneEntry, count_change, cursor_change, lane_key, parse_cursor};
use crate::partitioner::partition_of_key;

/// Largest key, value and headers together: what brokers take by default, less our framing.
pub const RECORD_BYTES_MAX: usize = 1_000_000 - 4_096;

/// A record without identity yet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewRecord {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl NewRecord {
    /// A record without a key.
    pub fn value(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> usize {
        let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + part(value));
        part(&self.key) + part(&self.value) + headers.sum::<usize>()
    }
}

/// A lane as the relay sees it.
#[derive(Clone, Debug)]
pub struct LaneView {
    pub id: PartitionId,
    pub lane: LaneId,
    pub topic: Arc<str>,
    pub partition: i32,
    /// One past the last sequence number that is durable.
    pub end: u64,
    /// Everything below was settled when the spool was opened.
    pub cursor: u64,
    /// Refused by the cluster for good, and known as such when the spool was opened.
    pub parked: IntervalSet,
}

/// The journal of a producer: what was accepted, and how far it was shipped. Share it in an `Arc`
/// with the [`crate::Relay`].
#[derive(Debug)]
pub struct Spool {
    log: Log,
    reporter: Arc<Reporter>,
    clock: Arc<dyn Clock>,
    /// Held over a whole accept: sequence numbers become durable in their order.
    accepting: Mutex<Accepting>,
    lanes: Mutex<BTreeMap<PartitionId, LaneView>>,
    counts: Mutex<BTreeMap<String, i32>>,
}

/// Only the accepting side reads and writes this.
#[derive(Debug, Default)]
struct Accepting {
    /// Lanes of this session.
    open: HashMap<(String, i32), PartitionId>,
    /// Which partition the next batch without keys goes to.
    turn: u32,
    stopped: bool,
}

impl Spool {
    /// Reads what the journal holds and opens a new session of the reporter on it.
    pub fn open(environment: &Environment, log: Log) -> Result<Self, OpenError> {
        for (kind, what) in
            [(StateKind::Metadata, "lanes"), (StateKind::InputPosition, "input positions")]
        {
            if log.state_is_damaged(kind) {
                return Err(OpenError::Damaged { what });
            }
        }
        let (lanes, counts) = recover(&log)?;
        let ends = lanes.values().map(lane_end).collect();
        let reporter = Reporter::open(log.clone(), environment, Role::Producer, ends)?;
        Ok(Self {
            log,
            reporter: Arc::new(reporter),
            clock: Arc::clone(&environment.clock),
            accepting: Mutex::default(),
            lanes: Mutex::new(lanes),
            counts: Mutex::new(counts),
        })
    }

    pub fn reporter(&self) -> &Arc<Reporter> {
        &self.reporter
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The session of every record that is accepted from now on.
    pub fn session(&self) -> u64 {
        self.reporter.session()
    }

    /// As journaled; `None` until the cluster was asked once.
    pub fn partition_count(&self, topic: &str) -> Option<i32> {
        self.counts.lock().expect(NO_PANIC).get(topic).copied()
    }

    /// Journals what the cluster says. A topic that has grown gets further lanes; one that has
    /// shrunk (deleted and made again) keeps the larger count, and records wait for its partitions.
    pub fn set_partition_count(&self, topic: &str, count: i32) -> Result<(), CommitCause> {
        if count < 1 || self.partition_count(topic).is_some_and(|known| known >= count) {
            return Ok(());
        }
        let commit = Commit { changes: vec![count_change(topic, count)], ..Commit::default() };
        self.log.commit_blocking(commit).map_err(|error| error.cause)?;
        self.counts.lock().expect(NO_PANIC).insert(topic.to_owned(), count);
        Ok(())
    }

    /// How far this input was accepted; its start where it is new.
    pub fn position(&self, input: &KnownInput) -> Result<InputPosition, PositionError> {
        let value = self.log.state_value(StateKind::InputPosition, input.key());
        value.map_or_else(|| Ok(InputPosition::start()), |value| KnownInput::decode(&value))
    }

    /// Accepts all of `records`, in their order, or none: durable when this returns, together with
    /// the position in the input. Blocks for the disk.
    ///
    /// Records with a key go where the Java client would send them. Those without one go to one
    /// partition together, the next call's to the next partition: round robin by batch.
    pub fn accept(
        &self,
        topic: &str,
        records: &[NewRecord],
        position: Option<(&KnownInput, &InputPosition)>,
    ) -> Result<Vec<RecordId>, AcceptError> {
        let mut accepting = self.accepting.lock().expect(NO_PANIC);
        let accepted = self.accept_locked(&mut accepting, topic, records, position);
        accepted.map_err(|cause| AcceptError { records: records.len(), cause })
    }

    fn accept_locked(
        &self,
        accepting: &mut Accepting,
        topic: &str,
        records: &[NewRecord],
        position: Option<(&KnownInput, &InputPosition)>,
    ) -> Result<Vec<RecordId>, AcceptCause> {
        if accepting.stopped {
            return Err(AcceptCause::Stopped);
        }
        let sizes = records.iter().map(NewRecord::bytes).enumerate();
        if let Some((index, bytes)) = sizes.into_iter().find(|(_, size)| *size > RECORD_BYTES_MAX) {
            return Err(AcceptCause::TooLarge { index, bytes });
        }
        let count = self.partition_count(topic);
        let unknown = || AcceptCause::PartitionCountUnknown { topic: topic.to_owned() };
        let count = count.ok_or_else(unknown)?;
        let mut plan = self.plan(accepting, topic, records, count);
        plan.commit.changes.extend(position.map(|(input, position)| input.change(position)));
        let committed = self.log.commit_blocking(plan.commit);
        let committed = committed.map_err(|error| match error.cause {
            cause if cause.is_retriable() => AcceptCause::Full(cause),
            cause => {
                // SPOOL-4
                accepting.stopped = matches!(cause, CommitCause::Fenced(_));
                AcceptCause::Journal(cause)
            }
        })?;
        for (appended, share) in committed.appended.iter().zip(&plan.shares) {
            // SPOOL-1
            assert_eq!(appended.base_offset as u64, share.first_seq, "lane {:?}", share.view.lane);
        }
        accepting.turn = plan.turn;
        self.publish(accepting, &plan.shares);
        Ok(plan.ids)
    }

    /// Deals the records to lanes, opening those that this session has not used yet.
    fn plan(&self, accepting: &Accepting, topic: &str, records: &[NewRecord], count: i32) -> Plan {
        let now_ms = self.clock.wall_ms();
        let keyless = (accepting.turn % count as u32) as i32;
        let mut dealt: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let key = record.key.as_ref();
            let partition = key.map_or(keyless, |key| partition_of_key(key, count));
            dealt.entry(partition).or_default().push(index);
        }
        let any_keyless = records.iter().any(|record| record.key.is_none());
        let nobody = RecordId { session: 0, lane: 0, seq: 0 };
        let mut plan = Plan {
            commit: Commit::default(),
            shares: Vec::new(),
            ids: vec![nobody; records.len()],
            turn: accepting.turn.wrapping_add(u32::from(any_keyless)),
        };
        let mut opened = 0;
        for (partition, indices) in dealt {
            let view = self.lane_for(accepting, topic, partition, &mut opened, &mut plan.commit);
            let first_seq = view.end;
            let mut batch = BatchBuilder::new();
            for (place, index) in indices.iter().enumerate() {
                let (Some(record), Some(id)) = (records.get(*index), plan.ids.get_mut(*index))
                else {
                    continue;
                };
                push(&mut batch, now_ms, record);
                let LaneId { session, lane } = view.lane;
                *id = RecordId { session, lane, seq: first_seq + place as u64 };
            }
            let LaneId { session, lane } = view.lane;
            plan.commit.appends.push(Append {
                partition: view.id,
                batch: batch.build().expect("the bounds keep a batch far below 2 GiB"),
                identity: Some(LaneRange { session, lane, first_seq }),
            });
            plan.shares.push(Share { view, first_seq, records: indices.len() as u64 });
        }
        plan
    }

    /// SPOOL-3: a lane of this session; a new one is part of the commit.
    fn lane_for(
        &self,
        accepting: &Accepting,
        topic: &str,
        partition: i32,
        opened: &mut u32,
        commit: &mut Commit,
    ) -> LaneView {
        let lanes = self.lanes.lock().expect(NO_PANIC);
        let known = accepting.open.get(&(topic.to_owned(), partition));
        if let Some(view) = known.and_then(|id| lanes.get(id)) {
            return view.clone();
        }
        let session = self.session();
        let lane = accepting.open.len() as u32 + *opened;
        let id = PartitionId(self.log.unused_partition_id().0 + u64::from(*opened));
        *opened += 1;
        let entry = LaneEntry { session, lane, topic: topic.to_owned(), partition };
        let mut topic_id = [0; 16];
        topic_id[..8].copy_from_slice(&session.to_be_bytes());
        topic_id[8..12].copy_from_slice(&lane.to_be_bytes());
        let flush = FlushPolicy::Commit;
        commit.partitions.push(PartitionChange::Create { id, topic_id, index: partition, flush });
        commit.changes.push(entry.change(id));
        view(id, &entry, 0)
    }

    /// Makes durable records visible to the relay and notes them for the audit.
    fn publish(&self, accepting: &mut Accepting, shares: &[Share]) {
        for share in shares {
            let LaneView { lane, topic, partition, .. } = &share.view;
            for seq in share.first_seq..share.first_seq + share.records {
                let id = RecordId { session: lane.session, lane: lane.lane, seq };
                let record = RecordRef { id: Some(id), topic, partition: *partition, offset: None };
                self.reporter.note(Stage::Accepted, &record);
            }
            accepting.open.insert((topic.to_string(), *partition), share.view.id);
        }
        let mut lanes = self.lanes.lock().expect(NO_PANIC);
        for share in shares {
            let view = lanes.entry(share.view.id).or_insert_with(|| share.view.clone());
            view.end = share.first_seq + share.records;
        }
    }

    /// All lanes that are not shipped and removed, oldest first; those with parked records stay.
    pub fn lanes(&self) -> Vec<LaneView> {
        self.lanes.lock().expect(NO_PANIC).values().cloned().collect()
    }

    /// Removes a lane of an earlier session, of which everything was acknowledged and reported.
    pub(crate) fn remove_lane(&self, view: &LaneView) -> Result<(), CommitCause> {
        assert!(view.parked.is_empty(), "RELAY-1: the only copy of parked records");
        let remove = |kind, key| StateChange { kind, key, value: None };
        let changes = vec![
            remove(StateKind::Metadata, lane_key(view.id)),
            remove(StateKind::Cursor, cursor_change(view.id, 0).key),
        ];
        let partitions = vec![PartitionChange::Delete { id: view.id }];
        let commit = Commit { partitions, changes, ..Commit::default() };
        self.log.commit_blocking(commit).map_err(|error| error.cause)?;
        self.lanes.lock().expect(NO_PANIC).remove(&view.id);
        Ok(())
    }
}

struct Plan {
    commit: Commit,
    /// In the order of the commit's appends.
    shares: Vec<Share>,
    ids: Vec<RecordId>,
    turn: u32,
}

struct Share {
    view: LaneView,
    first_seq: u64,
    records: u64,
}

const NO_PANIC: &str = "no code panics while it holds this lock";

fn push(batch: &mut BatchBuilder, now_ms: i64, record: &NewRecord) {
    let header = |(name, value): &(String, Option<Bytes>)| RecordHeader {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: value.clone(),
    };
    let headers: Vec<RecordHeader> = record.headers.iter().map(header).collect();
    batch.push(now_ms, record.key.as_deref(), record.value.as_deref(), &headers);
}

fn view(id: PartitionId, entry: &LaneEntry, end: u64) -> LaneView {
    LaneView {
        id,
        lane: entry.lane_id(),
        topic: entry.topic.as_str().into(),
        partition: entry.partition,
        end,
        cursor: 0,
        parked: IntervalSet::new(),
    }
}

fn lane_end(view: &LaneView) -> LaneEnd {
    let place = lossproof_audit::receipt::Place::new(&*view.topic, view.partition);
    let end = LaneEnd { lane: view.lane, place, end: view.end, pending: IntervalSet::new() };
    let mut end = lane_from_cursor(end, view.cursor);
    end.pending = end.pending.difference(&view.parked);
    end
}

type Recovered = (BTreeMap<PartitionId, LaneView>, BTreeMap<String, i32>);

fn recover(log: &Log) -> Result<Recovered, OpenError> {
    let mut lanes = BTreeMap::new();
    let mut counts = BTreeMap::new();
    let mut parked = Vec::new();
    for (key, value) in log.state(StateKind::Metadata) {
        let entry = Entry::decode(&key, &value);
        match entry.map_err(|what| OpenError::UnknownState { what })? {
            Entry::Lane(id, entry) => {
                let held = log.partition(id).ok_or(OpenError::Damaged { what: "lanes" })?;
                lanes.insert(id, view(id, &entry, held.high_watermark.max(0) as u64));
            }
            Entry::Count(topic, count) => {
                counts.insert(topic, count);
            }
            Entry::Parked(id, seq) => parked.push((id, seq)),
        }
    }
    for (id, seq) in parked {
        if let Some(view) = lanes.get_mut(&id) {
            view.parked.insert(seq);
        }
    }
    // A cursor that is lost costs sending again, with the same identity.
    for (key, value) in log.state(StateKind::Cursor) {
        let cursor = parse_cursor(&key, &value);
        let (id, next) = cursor.ok_or(OpenError::UnknownState { what: "cursors" })?;
        if let Some(view) = lanes.get_mut(&id) {
            view.cursor = next.min(view.end);
        }
    }
    Ok((lanes, counts))
}
