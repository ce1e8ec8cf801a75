//! Which records are in flight, in which order they may run, and what may be committed. Sans-io:
//! the poll thread and the workers drive it under one lock.
//!
//! # Invariants
//!
//! - `FLOW-1`: admitted = confirmed + filtered + dead-lettered + in flight + given back.
//! - `FLOW-2`: a result of an assignment that has ended is discarded: it neither counts nor moves
//!   a frontier.
//! - `FLOW-3`: records of one lane run one at a time, in the order of their offsets.
//! - `FLOW-4`: a stopped partition is never committed past the record that stopped it, and does
//!   not use up the room of the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use lossproof_audit::identity::Identity;
use lossproof_client::{Record, TopicPartition};
use serde::Deserialize;

use crate::frontier::Frontier;

/// What must not run at the same time.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is kept in order.
    #[default]
    Unordered,
    /// Records with the same key run in order; records without a key do not.
    Key,
    /// Records of a partition run in order, one at a time.
    Partition,
}

/// How much may be in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Records admitted and unfinished, all partitions together.
    pub in_flight_max: usize,
    /// The same for one partition.
    pub partition_in_flight_max: usize,
}

/// Of a limit that was reached, this share must be free before reading goes on: pausing throws
/// away what the client has fetched ahead.
const RESUME_PERCENT: usize = 70;

/// Names one admitted record; only good for the assignment it was admitted in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ticket {
    pub partition: Arc<TopicPartition>,
    pub offset: i64,
    /// Which assignment of the partition: rises with every assignment of any partition.
    pub epoch: u64,
}

/// An admitted record on its way.
#[derive(Clone, Debug)]
pub struct Task {
    pub ticket: Ticket,
    pub identity: Identity,
    pub record: Arc<Record>,
}

/// How a record ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    Confirmed,
    Filtered,
    DeadLettered,
    /// Dropped on request of an unsafe switch.
    UnsafeSkipped,
}

/// Where all records are; see `FLOW-1`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    pub admitted: u64,
    pub confirmed: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    /// Dropped because an unsafe switch says so; 0 without.
    pub unsafe_skipped: u64,
    pub in_flight: u64,
    /// Unfinished when their partition went away: whoever gets it next reads them again.
    pub given_back: u64,
}

impl Counts {
    /// `FLOW-1`.
    pub fn conserved(&self) -> bool {
        self.admitted
            == self.confirmed
                + self.filtered
                + self.dead_lettered
                + self.unsafe_skipped
                + self.in_flight
                + self.given_back
    }
}

#[derive(Debug)]
struct Part {
    name: Arc<TopicPartition>,
    epoch: u64,
    frontier: Frontier,
    committed: i64,
    running: usize,
    paused: bool,
    leaving: bool,
    stopped: bool,
}

type LaneKey = (u64, u64); // epoch, hash within it

/// See the module.
#[derive(Debug)]
pub struct Flow {
    mode: Mode,
    limits: Limits,
    /// Commits what was handed out instead of what was finished. For the demonstration of loss.
    unsafe_commit_position: bool,
    parts: BTreeMap<TopicPartition, Part>,
    next_epoch: u64,
    ready: VecDeque<Task>,
    /// Lanes with a running record, and what waits behind it.
    lanes: HashMap<LaneKey, VecDeque<Task>>,
    paused_by_load: bool,
    draining: bool,
    counts: Counts,
    /// Partitions that ended before their time, and why, also after they went away.
    stops: BTreeMap<TopicPartition, String>,
}

impl Flow {
    pub fn new(mode: Mode, limits: Limits, unsafe_commit_position: bool) -> Self {
        Self {
            mode,
            limits,
            unsafe_commit_position,
            parts: BTreeMap::new(),
            next_epoch: 1,
            ready: VecDeque::new(),
            lanes: HashMap::new(),
            paused_by_load: false,
            draining: false,
            counts: Counts::default(),
            stops: BTreeMap::new(),
        }
    }

    /// A partition is ours from now on, read from `start`.
    pub fn assign(&mut self, name: &TopicPartition, start: i64) {
        self.unassign(std::slice::from_ref(name));
        let part = Part {
            name: Arc::new(name.clone()),
            epoch: self.next_epoch,
            frontier: Frontier::starting_at(start),
            committed: start,
            running: 0,
            paused: false,
            leaving: false,
            stopped: false,
        };
        self.next_epoch += 1;
        self.parts.insert(name.clone(), part);
    }

    /// Takes a record in. `None`: its partition is not ours, has stopped, or the record was
    /// admitted before in this assignment.
    pub fn admit(&mut self, record: Record, identity: Identity) -> Option<Task> {
        let name = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        let part = self.parts.get_mut(&name)?;
        if part.stopped || !part.frontier.admit(record.offset) {
            return None;
        }
        let ticket =
            Ticket { partition: Arc::clone(&part.name), offset: record.offset, epoch: part.epoch };
        self.counts.admitted += 1;
        let task = Task { ticket, identity, record: Arc::new(record) };
        self.ready.push_back(task.clone());
        Some(task)
    }

    /// The next record that may run now.
    pub fn start(&mut self) -> Option<Task> {
        if self.draining {
            return None;
        }
        while let Some(task) = self.ready.pop_front() {
            let Some(part) = self.parts.get_mut(task.ticket.partition.as_ref()) else { continue };
            if part.epoch != task.ticket.epoch || part.leaving || part.stopped {
                continue; // still unfinished in its frontier, if that is there at all
            }
            if let Some(lane) = lane_of(self.mode, &task) {
                if let Some(waiting) = self.lanes.get_mut(&lane) {
                    waiting.push_back(task); // FLOW-3
                    continue;
                }
                self.lanes.insert(lane, VecDeque::new());
            }
            part.running += 1;
            return Some(task);
        }
        None
    }

    /// The record was started and is over. `false`: late, discarded (`FLOW-2`).
    #[must_use]
    pub fn finish(&mut self, task: &Task, end: End) -> bool {
        self.release(task);
        let Some(part) = self.live_part(&task.ticket) else { return false };
        if !part.frontier.finish(task.ticket.offset) {
            return false;
        }
        match end {
            End::Confirmed => self.counts.confirmed += 1,
            End::Filtered => self.counts.filtered += 1,
            End::DeadLettered => self.counts.dead_lettered += 1,
            End::UnsafeSkipped => self.counts.unsafe_skipped += 1,
        }
        true
    }

    /// The record was started, and nobody goes on with it: it stays unfinished, so that it is
    /// read again after the next assignment.
    pub fn give_up(&mut self, task: &Task) {
        self.release(task);
    }

    /// The record can neither go on nor be put aside: its partition ends here (`FLOW-4`).
    /// `true` where that is news.
    pub fn stop_partition(&mut self, task: &Task, reason: &str) -> bool {
        self.release(task);
        match self.live_part(&task.ticket) {
            Some(part) if !part.stopped => {
                self.stop_reading(&task.ticket.partition, reason);
                true
            }
            _ => false,
        }
    }

    /// The same for a partition that cannot be read on, or not even be assigned.
    pub fn stop_reading(&mut self, name: &TopicPartition, reason: &str) {
        self.stops.insert(name.clone(), reason.to_owned());
        if let Some(part) = self.parts.get_mut(name) {
            part.stopped = true;
        }
    }

    fn live_part(&mut self, ticket: &Ticket) -> Option<&mut Part> {
        self.parts.get_mut(ticket.partition.as_ref()).filter(|part| part.epoch == ticket.epoch)
    }

    fn release(&mut self, task: &Task) {
        if let Some(part) = self.live_part(&task.ticket) {
            part.running = part.running.saturating_sub(1);
        }
        let Some(lane) = lane_of(self.mode, task) else { return };
        if let Some(mut waiting) = self.lanes.remove(&lane)
            && let Some(next) = waiting.pop_front()
        {
            // The rest goes back in order, ahead of everything that was read after it.
            for task in waiting.into_iter().rev() {
                self.ready.push_front(task);
            }
            self.ready.push_front(next);
        }
    }

    /// Does a result for this ticket still count?
    pub fn is_current(&self, ticket: &Ticket) -> bool {
        self.parts
            .get(ticket.partition.as_ref())
            .is_some_and(|part| part.epoch == ticket.epoch && !part.stopped)
    }

    /// May the record go on waiting for better times?
    pub fn may_wait(&self, ticket: &Ticket) -> bool {
        !self.draining
            && self.is_current(ticket)
            && self.parts.get(ticket.partition.as_ref()).is_some_and(|part| !part.leaving)
    }

    /// Nothing new is started on these partitions from now on.
    pub fn begin_leaving(&mut self, names: &[TopicPartition]) {
        for name in names {
            if let Some(part) = self.parts.get_mut(name) {
                part.leaving = true;
            }
        }
    }

    /// Nothing new is started at all from now on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Records of these partitions that somebody is working on.
    pub fn running_on(&self, names: &[TopicPartition]) -> usize {
        names.iter().filter_map(|name| self.parts.get(name)).map(|part| part.running).sum()
    }

    pub fn running(&self) -> usize {
        self.parts.values().map(|part| part.running).sum()
    }

    /// The partitions are not ours any more; what is unfinished is given back.
    pub fn unassign(&mut self, names: &[TopicPartition]) {
        for part in names.iter().filter_map(|name| self.parts.remove(name)) {
            self.counts.given_back += part.frontier.unfinished_count() as u64;
            self.lanes.retain(|lane, _| lane.0 != part.epoch);
            self.ready.retain(|task| task.ticket.epoch != part.epoch);
        }
    }

    /// What could be committed now and has not been.
    pub fn committable(&self, only: Option<&[TopicPartition]>) -> Vec<(TopicPartition, i64)> {
        self.parts
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only.contains(name)))
            .map(|(name, part)| (name, part.committed, self.commit_position(part)))
            .filter(|(_, committed, next)| next > committed)
            .map(|(name, _, next)| (name.clone(), next))
            .collect()
    }

    fn commit_position(&self, part: &Part) -> i64 {
        let bug = lossproof_env::planted(lossproof_env::Planted::CommitBeforeProcessing);
        if bug || self.unsafe_commit_position {
            return part.frontier.position();
        }
        part.frontier.committable()
    }

    /// The coordinator has these offsets.
    pub fn committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (name, offset) in offsets {
            if let Some(part) = self.parts.get_mut(name) {
                part.committed = part.committed.max(*offset);
            }
        }
    }

    /// Which partitions to pause and which to resume, given that `hold` says not to read at all.
    pub fn pause_changes(&mut self, hold: bool) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let load: usize = self.open_parts().map(|part| part.frontier.unfinished_count()).sum();
        self.paused_by_load = is_full(load, self.limits.in_flight_max, self.paused_by_load);
        let hold_all = hold || self.paused_by_load || self.draining;
        let partition_max = self.limits.partition_in_flight_max;
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (name, part) in &mut self.parts {
            let own = is_full(part.frontier.unfinished_count(), partition_max, part.paused);
            let wanted = hold_all || own || part.stopped;
            if wanted != part.paused {
                part.paused = wanted;
                if wanted { &mut pause } else { &mut resume }.push(name.clone());
            }
        }
        (pause, resume)
    }

    fn open_parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.values().filter(|part| !part.stopped) // FLOW-4
    }

    pub fn counts(&self) -> Counts {
        let in_flight = self.parts.values().map(|part| part.frontier.unfinished_count() as u64);
        let counts = Counts { in_flight: in_flight.sum(), ..self.counts };
        assert!(counts.conserved(), "FLOW-1: records were lost or invented: {counts:?}");
        counts
    }

    pub fn assigned(&self) -> Vec<TopicPartition> {
        self.parts.keys().cloned().collect()
    }

    /// Partitions that ended before their time, and why.
    pub fn stopped(&self) -> Vec<(TopicPartition, String)> {
        self.stops.iter().map(|(name, reason)| (name.clone(), reason.clone())).collect()
    }
}

fn is_full(load: usize, max: usize, was_full: bool) -> bool {
    load >= max || (was_full && load * 100 > max * RESUME_PERCENT)
}

fn lane_of(mode: Mode, task: &Task) -> Option<LaneKey> {
    let epoch = task.ticket.epoch;
    match mode {
        Mode::Unordered => None,
        Mode::Partition => Some((epoch, 0)),
        // Keys with the same hash share a lane, which costs time and nothing else.
        Mode::Key => task.record.key.as_ref().map(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            (epoch, hasher.finish())
        }),
    }
}
