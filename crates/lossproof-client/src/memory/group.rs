//! A consumer group: who is in it, who owns what, what is committed. Eager protocol: all give up
//! everything, then all are dealt anew.

use std::collections::{BTreeMap, BTreeSet};

use crate::TopicPartition;

#[derive(Debug, Default)]
pub(super) struct Group {
    /// Raised by each change; a member of an older generation has to join again.
    generation: u64,
    next_member: u64,
    /// Member ids grow in order of joining, so that the map's order is the rank.
    members: BTreeMap<u64, Member>,
    committed: BTreeMap<TopicPartition, i64>,
}

#[derive(Debug)]
struct Member {
    topics: BTreeSet<String>,
    /// The generation it has joined after giving up what it had; `None` before.
    joined: Option<u64>,
    dealt: bool,
}

/// What a member has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It was thrown out.
    Lost,
    /// It holds partitions of an older generation.
    GiveUp,
    /// The others have not joined yet.
    Wait,
    /// All have joined: these are its own now.
    Take(Vec<TopicPartition>),
    Read,
}

impl Group {
    pub(super) fn join(&mut self, topics: BTreeSet<String>) -> u64 {
        let member = self.next_member;
        self.next_member += 1;
        self.members.insert(member, Member { topics, joined: None, dealt: false });
        self.rebalance();
        member
    }

    pub(super) fn leave(&mut self, member: u64) {
        if self.members.remove(&member).is_some() {
            self.rebalance();
        }
    }

    pub(super) fn rebalance(&mut self) {
        self.generation += 1;
    }

    pub(super) fn expire(&mut self, rank: usize) {
        if let Some(member) = self.members.keys().nth(rank).copied() {
            self.leave(member);
        }
    }

    /// The member has given up everything and asks to be dealt anew.
    pub(super) fn rejoin(&mut self, member: u64) {
        let generation = self.generation;
        if let Some(member) = self.members.get_mut(&member) {
            member.joined = Some(generation);
            member.dealt = false;
        }
    }

    pub(super) fn step(&mut self, id: u64, partitions: &BTreeMap<String, usize>) -> Step {
        let Some(member) = self.members.get(&id) else { return Step::Lost };
        if member.joined != Some(self.generation) {
            return Step::GiveUp;
        }
        if member.dealt {
            return Step::Read;
        }
        // MEMORY-3: nobody owns anything of this generation before all have given up theirs.
        if self.members.values().any(|other| other.joined != Some(self.generation)) {
            return Step::Wait;
        }
        let share = self.share(id, partitions);
        if let Some(member) = self.members.get_mut(&id) {
            member.dealt = true;
        }
        Step::Take(share)
    }

    /// Deals the partitions of each topic in turn to the members that read it.
    fn share(&self, id: u64, partitions: &BTreeMap<String, usize>) -> Vec<TopicPartition> {
        let mut share = Vec::new();
        for (topic, count) in partitions {
            let readers: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, member)| member.topics.contains(topic))
                .map(|(id, _)| *id)
                .collect();
            let mine = (0..*count).filter(|index| {
                !readers.is_empty() && readers.get(index % readers.len()) == Some(&id)
            });
            share.extend(mine.map(|index| TopicPartition {
                topic: topic.clone(),
                partition: i32::try_from(index).unwrap_or(i32::MAX),
            }));
        }
        share
    }

    /// MEMORY-4: only who is in the group may commit; what it holds, it holds until it is told to
    /// give it up.
    pub(super) fn may_commit(&self, member: u64) -> bool {
        self.members.contains_key(&member)
    }

    pub(super) fn commit(&mut self, place: &TopicPartition, offset: i64) {
        self.committed.insert(place.clone(), offset);
    }

    pub(super) fn committed(&self, place: &TopicPartition) -> Option<i64> {
        self.committed.get(place).copied()
    }
}
