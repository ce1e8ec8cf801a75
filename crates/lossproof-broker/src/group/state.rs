//! # Invariants
//!
//! - GROUP-1: every token given to the machine is answered exactly once.
//! - GROUP-2: a generation never goes back while the group has members, and grows with each
//!   completed rebalance; what carries another generation is refused.
//! - GROUP-3: within a generation all members share one protocol, and one of them leads.
//! - GROUP-4: an instance id belongs to at most one member; a replaced one is fenced.
//! - GROUP-5: members, pending ids and groups are bounded, and what each group and all of them
//!   hold of what members say of themselves and leaders of others.
//! - GROUP-6: a member that waits for an answer does not expire; every wait has a deadline, but for
//!   that for the journal, which always answers.
//! - GROUP-7: nobody joins a group while offsets of it are removed, so that a removal never takes
//!   what a new member has committed.
//! - GROUP-8: who may speak for a generation is stored before anybody is told: after a restart it
//!   may still commit what it has read.
//! - GROUP-9: what is done in one group takes no longer for there being others: only those are
//!   looked at in which something is due, and each by itself.
//! - GROUP-10: what others hold keeps no member from coming again, and its leader from saying as
//!   much of it as before: what a member once had room for is kept free for as long as it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lossproof_env::{Planted, planted};
use lossproof_log::LogConfig;

use super::member::Member;
use super::message::{
    Answer, CommitFence, GroupError, JoinAnswer, JoinedMember, Leaving, Sync, SyncAnswer, Token,
};
use crate::offsets::GROUP_ID_BYTES_MAX;

/// An entry of a group takes at most one part in so many of a segment, and all of them together of
/// the state in memory.
const SHARES: usize = 8;

/// Clients may ask for no time at all; a rebalance that ends as it begins would never end.
const REBALANCE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Clients may ask for 24 days, as Kafka Streams once did, and for an hour where an hour's work is
/// done between two polls. They are not refused, but nobody is waited for longer than this.
const REBALANCE_TIMEOUT_MAX: Duration = Duration::from_hours(24);

/// Limits and delays of all groups.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    pub session_timeout_min: Duration,
    pub session_timeout_max: Duration,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    pub groups_max: usize,
    /// Members and handed-out member ids of one group.
    pub members_max: usize,
    /// Of all groups: what is known of their members, their assignments among it.
    pub bytes_max: usize,
    /// The same of one group: far more than is kept of it, and far less than there is for all.
    pub group_bytes_max: usize,
    /// What is kept of one group over a restart; a larger one works, and is not kept.
    pub stored_bytes_max: usize,
    /// The same of all groups together.
    pub all_stored_bytes_max: usize,
}

impl GroupSettings {
    /// What one entry of the journal can hold, and leaves of all entries to the offsets.
    pub(crate) fn within(self, log: &LogConfig) -> Self {
        let share = usize::try_from(log.segment_bytes).unwrap_or(usize::MAX) / SHARES;
        Self {
            stored_bytes_max: self.stored_bytes_max.min(share),
            all_stored_bytes_max: self.all_stored_bytes_max.min(log.state_bytes_max / SHARES),
            ..self
        }
    }
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_min: Duration::from_secs(1),
            session_timeout_max: Duration::from_mins(30),
            initial_rebalance_delay: Duration::from_millis(100),
            groups_max: 10_000,
            members_max: 1_000,
            bytes_max: 256 << 20,
            group_bytes_max: 16 << 20,
            stored_bytes_max: 4 << 20,
            all_stored_bytes_max: 64 << 20,
        }
    }
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No members; offsets may be there.
    Empty,
    /// Waits for the members to join, at most until `deadline`. With `extensible_until` it is the
    /// first rebalance, which always waits, and longer when more members come.
    Preparing { deadline: Duration, extensible_until: Option<Duration> },
    /// The members have joined; the leader's assignment is awaited, or being stored.
    Completing,
    /// Everybody has, or can have, the assignment.
    Stable,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: String,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Group instance id to member id.
    pub(super) instances: BTreeMap<String, String>,
    /// Member ids that were handed out with MEMBER_ID_REQUIRED, and until when they are good.
    pub(super) pending: BTreeMap<String, Duration>,
    /// Until when every member of the generation must have asked for its assignment.
    pub(super) sync_deadline: Option<Duration>,
    /// There is something to store, of which [`Groups`] has not taken note yet.
    pub(super) changed: bool,
    /// The version whose storing members wait for.
    pub(super) awaited: Option<u64>,
    /// As counted last.
    pub(super) bytes: usize,
    /// As noted last in [`Groups`]: something is to be done no earlier than this.
    pub(super) due: Option<Duration>,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            sync_deadline: None,
            changed: false,
            awaited: None,
            bytes: 0,
            due: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty() && self.phase == Phase::Empty
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// GROUP-4: the member that `instance` names must be `member_id`.
    pub(super) fn check_instance(
        &self,
        instance: Option<&str>,
        member_id: &str,
    ) -> Result<(), GroupError> {
        match instance.map(|instance| self.instances.get(instance)) {
            None => Ok(()),
            Some(None) => Err(GroupError::UnknownMember),
            Some(Some(owner)) if owner == member_id => Ok(()),
            Some(Some(_)) => Err(GroupError::FencedInstance),
        }
    }

    /// GROUP-2: only a member of the present generation may speak for it.
    fn check_member(
        &self,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_instance(instance, member_id)?;
        if !self.members.contains_key(member_id) {
            return Err(GroupError::UnknownMember);
        }
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(())
    }

    pub(super) fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.values().map(|member| member.rebalance_timeout).max();
        longest.unwrap_or_default().clamp(REBALANCE_TIMEOUT_MIN, REBALANCE_TIMEOUT_MAX)
    }

    /// The answer to a completed join of `member_id`.
    pub(super) fn joined(&self, member_id: &str) -> JoinAnswer {
        JoinAnswer {
            error: None,
            generation: self.generation,
            protocol_type: Some(self.protocol_type.clone()),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if self.is_leader(member_id) { self.members_for_leader() } else { vec![] },
        }
    }

    pub(super) fn members_for_leader(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .iter()
            .map(|(id, member)| JoinedMember {
                member_id: id.clone(),
                instance: member.instance.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    pub(super) fn assignment_of(&self, member_id: &str) -> SyncAnswer {
        SyncAnswer {
            error: None,
            protocol_type: Some(self.protocol_type.clone()),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map_or_else(Bytes::new, |member| member.assignment.clone()),
        }
    }

    fn sync(&mut self, now: Duration, token: Token, sync: Sync, out: &mut Vec<Answer>) {
        if let Err(error) = self.check_sync(&sync) {
            out.push(Answer::Sync(token, SyncAnswer::refusal(error)));
            return;
        }
        let phase = self.phase;
        let leads = self.is_leader(&sync.member_id);
        let Some(member) = self.members.get_mut(&sync.member_id) else {
            out.push(Answer::Sync(token, SyncAnswer::refusal(GroupError::UnknownMember)));
            return;
        };
        member.heard_of(now);
        match phase {
            Phase::Empty | Phase::Preparing { .. } => {
                let refusal = SyncAnswer::refusal(GroupError::RebalanceInProgress);
                out.push(Answer::Sync(token, refusal));
            }
            Phase::Completing => {
                member.refuse_syncing(GroupError::RebalanceInProgress, out);
                member.syncing = Some(token);
                member.synced = true;
                if leads {
                    self.assign(sync.assignments);
                    if planted(Planted::AssignmentToldEarly) {
                        self.release(now, out);
                    }
                }
            }
            Phase::Stable => {
                member.synced = true;
                out.push(Answer::Sync(token, self.assignment_of(&sync.member_id)));
            }
        }
        if self.members.values().all(|member| member.synced) {
            self.sync_deadline = None;
        }
    }

    /// Whether what it says is to be the assignment of all.
    fn is_assigned_by(&self, sync: &Sync) -> bool {
        self.phase == Phase::Completing
            && self.is_leader(&sync.member_id)
            && self.check_sync(sync).is_ok()
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        self.check_member(&sync.member_id, sync.instance.as_deref(), sync.generation)?;
        let type_agrees =
            sync.protocol_type.as_ref().is_none_or(|name| *name == self.protocol_type);
        let protocol_agrees =
            sync.protocol.is_none() || self.protocol.is_none() || sync.protocol == self.protocol;
        if type_agrees && protocol_agrees { Ok(()) } else { Err(GroupError::InconsistentProtocol) }
    }

    /// The leader's word; who is not named gets nothing. It is told once it is stored (GROUP-8).
    fn assign(&mut self, parts: Vec<(String, Bytes)>) {
        let mut parts: BTreeMap<String, Bytes> = parts.into_iter().collect();
        for (id, member) in &mut self.members {
            // A copy: the whole request would live as long as the member otherwise.
            member.assignment = Bytes::copy_from_slice(&parts.remove(id).unwrap_or_default());
        }
        self.changed = true;
    }

    fn heartbeat(
        &mut self,
        now: Duration,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.check_member(member_id, instance, generation)?;
        if let Some(member) = self.members.get_mut(member_id) {
            member.heard_of(now);
        }
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    fn check_commit(&mut self, now: Duration, fence: &CommitFence) -> Result<(), GroupError> {
        if fence.generation < 0 && self.members.is_empty() {
            // A consumer without membership, or a tool: nobody else can own it. Consumers that
            // assign to themselves may still send the instance id that they were given
            // (KAFKA-14201).
            return Ok(());
        }
        self.check_member(&fence.member_id, fence.instance.as_deref(), fence.generation)?;
        if self.phase == Phase::Completing {
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(&fence.member_id) {
            member.heard_of(now);
        }
        Ok(())
    }

    fn leave(
        &mut self,
        now: Duration,
        leaving: &Leaving,
        out: &mut Vec<Answer>,
    ) -> Result<(), GroupError> {
        if self.pending.remove(&leaving.member_id).is_some() {
            self.complete_if_all_joined(now, out);
            return Ok(());
        }
        let member_id = match (&leaving.instance, leaving.member_id.is_empty()) {
            (Some(instance), true) => {
                self.instances.get(instance).cloned().ok_or(GroupError::UnknownMember)?
            }
            (instance, _) => {
                self.check_instance(instance.as_deref(), &leaving.member_id)?;
                leaving.member_id.clone()
            }
        };
        if !self.members.contains_key(&member_id) {
            return Err(GroupError::UnknownMember);
        }
        self.remove(now, &member_id, out);
        Ok(())
    }
}

pub(crate) fn check_id(group: &str) -> Result<(), GroupError> {
    let fits = (1..=GROUP_ID_BYTES_MAX).contains(&group.len());
    if fits { Ok(()) } else { Err(GroupError::InvalidGroup) }
}

/// All groups of a broker. Times are those of one monotonic clock.
#[derive(Debug)]
pub struct Groups {
    pub(super) settings: GroupSettings,
    pub(super) by_id: BTreeMap<String, Group>,
    /// Groups of which offsets are removed just now; one at most for each connection.
    pub(super) closed: BTreeSet<String>,
    /// Groups that have changed since they were stored, with the version of their last change.
    pub(super) unstored: BTreeMap<String, u64>,
    pub(super) last_version: u64,
    /// Of all groups, as counted last.
    pub(super) bytes: usize,
    pub(super) told_of_no_room: Option<Duration>,
    /// When something is to be done in which group.
    pub(super) due: BTreeSet<(Duration, String)>,
    pub(super) visits: u64,
    pub(super) stopped: bool,
}

impl Groups {
    pub fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            by_id: BTreeMap::new(),
            closed: BTreeSet::new(),
            unstored: BTreeMap::new(),
            last_version: 0,
            bytes: 0,
            told_of_no_room: None,
            due: BTreeSet::new(),
            visits: 0,
            stopped: false,
        }
    }

    /// Every group, with the number of its members.
    pub fn member_counts(&self) -> Vec<(String, usize)> {
        let counts = self.by_id.iter().map(|(name, group)| (name.clone(), group.members.len()));
        counts.collect()
    }

    /// Hands over a member's wish for its assignment; the answer may come later.
    pub fn sync(&mut self, now: Duration, token: Token, sync: Sync, out: &mut Vec<Answer>) {
        let name = sync.group.clone();
        let assigns = self.find(&name).map(|group| group.is_assigned_by(&sync));
        let checked = if assigns == Ok(true) {
            self.check_room_to_assign(now, &name, &sync.assignments)
        } else {
            assigns.map(drop)
        };
        match checked.and_then(|()| self.find(&name)) {
            Ok(group) => group.sync(now, token, sync, out),
            Err(error) => return out.push(Answer::Sync(token, SyncAnswer::refusal(error))),
        }
        self.settle(&name);
    }

    pub fn heartbeat(
        &mut self,
        now: Duration,
        group: &str,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        self.find(group)?.heartbeat(now, member_id, instance, generation)
    }

    /// May the bearer commit offsets now? Asked directly before the commit is queued.
    pub fn check_commit(&mut self, now: Duration, fence: &CommitFence) -> Result<(), GroupError> {
        match self.find(&fence.group) {
            Ok(group) => group.check_commit(now, fence),
            Err(GroupError::UnknownMember) if fence.generation < 0 => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn leave(
        &mut self,
        now: Duration,
        group: &str,
        leaving: &Leaving,
        out: &mut Vec<Answer>,
    ) -> Result<(), GroupError> {
        let result = self.find(group)?.leave(now, leaving, out);
        self.settle(group);
        result
    }

    /// Answers everything that waits and refuses everything from now on: at the end, and where the
    /// groups that were stored cannot be trusted.
    pub fn stop(&mut self, out: &mut Vec<Answer>) {
        self.stopped = true;
        for group in self.by_id.values_mut() {
            for (id, member) in &mut group.members {
                member.refuse_waiting(id, GroupError::CoordinatorNotAvailable, out);
            }
        }
        // What members wait for is refused; that they have left is still true.
        self.unstored.retain(|name, _| !self.by_id.contains_key(name));
        self.by_id.clear();
        self.due.clear();
        self.bytes = 0;
    }

    /// Takes note of what an act on a group has changed.
    pub(super) fn settle(&mut self, group: &str) {
        self.count(group);
        self.note_change(group);
        self.schedule(group);
        self.forget_if_idle(group);
    }

    pub fn phase(&self, group: &str) -> Phase {
        self.by_id.get(group).map_or(Phase::Empty, |group| group.phase)
    }

    /// Generation, protocol and the ids of the members, for those who watch.
    pub fn view(&self, group: &str) -> Option<(i32, Option<String>, Vec<String>)> {
        let group = self.by_id.get(group)?;
        Some((group.generation, group.protocol.clone(), group.members.keys().cloned().collect()))
    }

    pub(super) fn find(&mut self, group: &str) -> Result<&mut Group, GroupError> {
        if self.stopped {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        check_id(group)?;
        self.by_id.get_mut(group).ok_or(GroupError::UnknownMember)
    }

    fn forget_if_idle(&mut self, name: &str) {
        if self.by_id.get(name).is_some_and(Group::is_idle)
            && let Some(idle) = self.by_id.remove(name)
        {
            self.bytes -= idle.bytes;
            self.unschedule(idle.due, name);
            self.note_change(name);
        }
    }
}
