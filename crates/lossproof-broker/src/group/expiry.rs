//! What happens because time has passed, and the removal of members.

use std::time::Duration;

use super::message::{Answer, GroupError};
use super::state::{Group, Groups, Phase};

impl Groups {
    /// Does what has become due by `now` in the group where that was first, and in no other: others
    /// wait meanwhile (GROUP-9). Gives whether there was one.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Answer>) -> bool {
        let Some(name) = self.first_due(now) else { return false };
        self.due.pop_first();
        if let Some(group) = self.by_id.get_mut(&name) {
            group.due = None;
            self.visits += 1;
            group.tick(now, out);
            self.settle(&name);
        }
        true
    }

    /// The group that [`Groups::tick`] will look at.
    pub(super) fn first_due(&self, now: Duration) -> Option<String> {
        self.due.first().filter(|(deadline, _)| *deadline <= now).map(|(_, name)| name.clone())
    }

    /// When [`Groups::tick`] has something to do next. A member that was heard of since may have
    /// made it later, and no earlier.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// How often time has been looked for in a group.
    pub fn visits(&self) -> u64 {
        self.visits
    }

    /// GROUP-9: takes note of when something is to be done in a group.
    pub(super) fn schedule(&mut self, name: &str) {
        let Some(group) = self.by_id.get_mut(name) else { return };
        let next = group.next_deadline();
        let last = std::mem::replace(&mut group.due, next);
        if last != next {
            self.due.extend(next.map(|deadline| (deadline, name.to_owned())));
            self.unschedule(last, name);
        }
    }

    pub(super) fn unschedule(&mut self, deadline: Option<Duration>, name: &str) {
        if let Some(deadline) = deadline {
            self.due.remove(&(deadline, name.to_owned()));
        }
    }

    /// After a mistake of this broker: whoever is in the group joins anew.
    pub(super) fn dissolve(&mut self, name: &str, out: &mut Vec<Answer>) {
        if let Some(group) = self.by_id.get_mut(name) {
            group.pending.clear();
            group.dissolve(GroupError::UnknownMember, out);
            self.settle(name);
        }
    }
}

impl Group {
    fn tick(&mut self, now: Duration, out: &mut Vec<Answer>) {
        self.pending.retain(|_, deadline| *deadline > now);
        let expired: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.expired(now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            tracing::info!(member = %id, "group member expired");
            self.remove(now, &id, out);
        }
        self.expire_sync(now, out);
        if let Phase::Preparing { deadline, .. } = self.phase {
            if deadline <= now {
                self.complete_rebalance(now, out);
            } else {
                self.complete_if_all_joined(now, out);
            }
        }
    }

    /// GROUP-6: who does not ask for its assignment in time holds partitions that nobody reads.
    fn expire_sync(&mut self, now: Duration, out: &mut Vec<Answer>) {
        if self.sync_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.sync_deadline = None;
        let silent: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !member.synced)
            .map(|(id, _)| id.clone())
            .collect();
        for id in silent {
            self.remove(now, &id, out);
        }
    }

    pub(super) fn remove(&mut self, now: Duration, member_id: &str, out: &mut Vec<Answer>) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        member.refuse_waiting(member_id, GroupError::UnknownMember, out);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader = None;
        }
        match self.phase {
            Phase::Empty => {}
            Phase::Preparing { .. } => self.complete_if_all_joined(now, out),
            Phase::Completing | Phase::Stable => {
                self.prepare_rebalance(now, out);
                self.complete_if_all_joined(now, out);
            }
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let sessions = self
            .members
            .values()
            .filter(|member| !member.is_waiting())
            .map(|member| member.session_deadline);
        let phase = match self.phase {
            Phase::Preparing { deadline, .. } => Some(deadline),
            _ => None,
        };
        sessions.chain(self.pending.values().copied()).chain(self.sync_deadline).chain(phase).min()
    }
}
