//! What happens because time has passed, and the removal of members.

use std::time::Duration;

use super::message::{Answer, GroupError};
use super::state::{Group, Groups, Phase};

impl Groups {
    /// Does whatever has become due by `now`.
    pub fn tick(&mut self, now: Duration, out: &mut Vec<Answer>) {
        let mut shrunk = Vec::new();
        for (name, group) in &mut self.by_id {
            let before = group.members.len() + group.pending.len();
            group.tick(now, out);
            if group.members.len() + group.pending.len() < before {
                shrunk.push(name.clone());
            }
        }
        for name in &shrunk {
            self.count(name);
        }
        self.note_changes();
        let idle = self.by_id.iter().filter(|(_, group)| group.is_idle());
        let idle: Vec<String> = idle.map(|(name, _)| name.clone()).collect();
        for name in idle {
            self.forget_if_idle(&name);
        }
    }

    /// When [`Groups::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.by_id.values().filter_map(Group::next_deadline).min()
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
