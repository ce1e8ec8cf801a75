use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::group::Step;
use super::{Cluster, CommitFault, State};
use crate::{
    CommitError, ConsumeError, LogConsumer, Rebalance, Record, TopicPartition, Watermarks,
};

/// A member of a group of the cluster in memory.
#[derive(Debug)]
pub(super) struct MemoryConsumer {
    cluster: Cluster,
    group: String,
    topics: BTreeSet<String>,
    member: u64,
    assigned: BTreeMap<TopicPartition, Position>,
    /// Partitions take turns: the last one that delivered.
    last: Option<TopicPartition>,
}

#[derive(Debug)]
struct Position {
    next: i64,
    paused: bool,
    /// An offset out of range was reported: nothing is read until the next assignment.
    stopped: bool,
}

/// What a look at the cluster found to do.
enum Found {
    Step(Step),
    Record(Record),
    OutOfRange(TopicPartition, i64),
}

impl MemoryConsumer {
    pub(super) fn new(cluster: Cluster, group: &str, topics: &[&str]) -> Self {
        let topics: BTreeSet<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
        let member =
            cluster.lock().groups.entry(group.to_owned()).or_default().join(topics.clone());
        cluster.notify();
        let group = group.to_owned();
        Self { cluster, group, topics, member, assigned: BTreeMap::new(), last: None }
    }

    fn look(&mut self, state: &mut State) -> Option<Found> {
        if !state.reachable {
            return None;
        }
        let counts = state.topics.iter().filter(|(topic, _)| self.topics.contains(*topic));
        let counts = counts.map(|(topic, held)| (topic.clone(), held.len())).collect();
        match state.groups.entry(self.group.clone()).or_default().step(self.member, &counts) {
            Step::Wait => None,
            Step::Read => self.next_record(state),
            step => Some(Found::Step(step)),
        }
    }

    fn next_record(&mut self, state: &State) -> Option<Found> {
        let behind = |place: &TopicPartition| self.last.as_ref().is_some_and(|last| place <= last);
        let mut order: Vec<TopicPartition> = self.assigned.keys().cloned().collect();
        order.sort_by_key(|place| behind(place));
        for place in order {
            let (Some(position), Some(held)) =
                (self.assigned.get_mut(&place), state.partition(&place))
            else {
                continue;
            };
            if position.paused || position.stopped {
                continue;
            }
            if position.next < held.low || position.next > held.high {
                position.stopped = true;
                return Some(Found::OutOfRange(place, position.next));
            }
            if let Some(record) = held.at(position.next) {
                position.next = record.offset + 1;
                self.last = Some(place);
                return Some(Found::Record(record.clone()));
            }
        }
        None
    }

    fn places(&self) -> Vec<TopicPartition> {
        self.assigned.keys().cloned().collect()
    }

    fn follow(&mut self, step: Step, rebalance: &mut dyn Rebalance) -> Result<(), ConsumeError> {
        match step {
            Step::Lost => {
                self.give_up_as_lost(rebalance);
                let mut state = self.cluster.lock();
                let group = state.groups.entry(self.group.clone()).or_default();
                self.member = group.join(self.topics.clone());
            }
            Step::GiveUp => {
                self.give_up(rebalance);
                let mut state = self.cluster.lock();
                state.groups.entry(self.group.clone()).or_default().rejoin(self.member);
            }
            Step::Take(places) => self.take(places, rebalance)?,
            Step::Wait | Step::Read => {}
        }
        self.cluster.notify();
        Ok(())
    }

    fn give_up_as_lost(&mut self, rebalance: &mut dyn Rebalance) {
        if !self.assigned.is_empty() {
            rebalance.lost(&self.places());
            self.assigned.clear();
        }
    }

    fn give_up(&mut self, rebalance: &mut dyn Rebalance) {
        if !self.assigned.is_empty() {
            let offsets = rebalance.revoked(&self.places());
            // What cannot be committed is read again by the next owner: not a loss.
            let _ = self.commit(&offsets);
            self.assigned.clear();
        }
    }

    fn take(
        &mut self,
        places: Vec<TopicPartition>,
        rebalance: &mut dyn Rebalance,
    ) -> Result<(), ConsumeError> {
        let mut outcome = Ok(());
        for place in places {
            let (committed, watermarks) = {
                let state = self.cluster.lock();
                let Some(held) = state.partition(&place) else { continue };
                let watermarks = Watermarks { low: held.low, high: held.high };
                (state.groups.get(&self.group).and_then(|g| g.committed(&place)), watermarks)
            };
            match rebalance.assigned(&place, committed, watermarks) {
                Ok(next) => {
                    self.assigned.insert(place, Position { next, paused: false, stopped: false });
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    fn set_paused(
        &mut self,
        partitions: &[TopicPartition],
        paused: bool,
    ) -> Result<(), ConsumeError> {
        for place in partitions {
            let detail = || format!("{}-{} is not assigned", place.topic, place.partition);
            let position = self.assigned.get_mut(place);
            position.ok_or_else(|| ConsumeError::Refused { detail: detail() })?.paused = paused;
        }
        self.cluster.notify();
        Ok(())
    }
}

impl LogConsumer for MemoryConsumer {
    fn poll(
        &mut self,
        timeout: Duration,
        rebalance: &mut dyn Rebalance,
    ) -> Result<Option<Record>, ConsumeError> {
        let cluster = self.cluster.clone();
        match cluster.wait_for(timeout, |state| self.look(state)) {
            None => Ok(None),
            Some(Found::Record(record)) => Ok(Some(record)),
            Some(Found::OutOfRange(partition, offset)) => {
                Err(ConsumeError::OutOfRange { partition, offset })
            }
            Some(Found::Step(step)) => self.follow(step, rebalance).map(|()| None),
        }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        self.set_paused(partitions, true)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        self.set_paused(partitions, false)
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), CommitError> {
        let mut state = self.cluster.lock();
        if !state.reachable {
            return Err(CommitError::Retriable { detail: "the cluster is not reachable".into() });
        }
        let fault = match offsets {
            [] => CommitFault::Accept,
            _ => state.commit_faults.pop_front().unwrap_or(CommitFault::Accept),
        };
        let group = state.groups.entry(self.group.clone()).or_default();
        let owned = |(place, _): &(TopicPartition, i64)| self.assigned.contains_key(place);
        if !group.may_commit(self.member) || !offsets.iter().all(owned) {
            return Err(CommitError::Fenced);
        }
        if matches!(fault, CommitFault::Accept | CommitFault::RetriableStored) {
            for (place, offset) in offsets {
                group.commit(place, *offset);
            }
        }
        let detail = format!("scripted: {fault:?}");
        match fault {
            CommitFault::Accept => Ok(()),
            CommitFault::Retriable | CommitFault::RetriableStored => {
                Err(CommitError::Retriable { detail })
            }
            CommitFault::Refuse => Err(CommitError::Refused { detail }),
        }
    }

    fn close(
        mut self: Box<Self>,
        rebalance: &mut dyn Rebalance,
        _timeout: Duration,
    ) -> Result<(), ConsumeError> {
        let cluster = self.cluster.clone();
        let group_has_me = |state: &State| {
            state.groups.get(&self.group).is_some_and(|group| group.may_commit(self.member))
        };
        let is_member = group_has_me(&cluster.lock());
        if is_member {
            self.give_up(rebalance);
        } else {
            self.give_up_as_lost(rebalance);
        }
        let mut state = cluster.lock();
        state.groups.entry(self.group.clone()).or_default().leave(self.member);
        cluster.notify();
        Ok(())
    }
}
