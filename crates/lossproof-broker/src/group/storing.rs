//! What of the groups is kept over a restart: what is to be stored, what becomes of it, and how it
//! is taken up again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::member::Member;
use super::message::{Answer, GroupError, SyncAnswer};
use super::state::{Group, Groups, Phase};
use super::stored::StoredGroup;

/// A group that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstored {
    pub group: String,
    /// Handed back to [`Groups::stored`].
    pub version: u64,
    /// `None`: nobody is in it any more.
    pub value: Option<StoredGroup>,
}

impl Groups {
    /// What has changed since this was asked last, each group as it is now. One that has begun to
    /// rebalance since is left out: nobody waits for what it was, and it changes again.
    pub fn unstored(&mut self) -> Vec<Unstored> {
        let changed = std::mem::take(&mut self.unstored);
        let unstored = changed.into_iter().filter_map(|(name, version)| {
            let value = match self.by_id.get(&name) {
                Some(group) if group.awaited == Some(version) => Some(group.to_stored()?),
                Some(_) => return None,
                None => None,
            };
            Some(Unstored { group: name, version, value })
        });
        unstored.collect()
    }

    /// A change of a group is durable now, or could not be stored. GROUP-8: what waited for it, and
    /// for nothing newer, is answered.
    pub fn stored(
        &mut self,
        now: Duration,
        name: &str,
        version: u64,
        succeeded: bool,
        out: &mut Vec<Answer>,
    ) {
        let Some(group) = self.by_id.get_mut(name) else { return };
        if group.awaited != Some(version) {
            return;
        }
        group.awaited = None;
        if succeeded {
            group.release(now, out);
        } else {
            group.refuse_unstored(now, out);
        }
        self.schedule(name);
    }

    /// Takes up a group that was stored by an earlier life. Its members have a whole session before
    /// them: they could not be heard while there was no broker.
    pub fn restore(&mut self, now: Duration, name: &str, stored: StoredGroup) {
        let StoredGroup::Stable { generation, protocol_type, protocol, leader, members } = stored
        else {
            return; // Nobody to take up.
        };
        let mut group = Group::new();
        group.phase = Phase::Stable;
        group.generation = generation;
        group.protocol_type = protocol_type;
        group.protocol = Some(protocol);
        group.leader = Some(leader);
        for stored in members {
            let id = stored.id.clone();
            if let Some(instance) = &stored.instance {
                group.instances.insert(instance.clone(), id.clone());
            }
            group.members.insert(id, Member::restored(stored, now));
        }
        self.by_id.insert(name.to_owned(), group);
        self.settle(name);
    }

    /// Takes note of what an act on `group` has changed.
    pub(super) fn note_change(&mut self, name: &str) {
        let group = self.by_id.get_mut(name);
        if group.as_ref().is_some_and(|group| !group.changed) {
            return;
        }
        self.last_version += 1;
        if let Some(group) = group {
            group.changed = false;
            group.awaited = Some(self.last_version);
        }
        self.unstored.insert(name.to_owned(), self.last_version);
    }
}

impl Group {
    fn to_stored(&self) -> Option<StoredGroup> {
        Some(StoredGroup::Stable {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone()?,
            leader: self.leader.clone()?,
            members: self.members.iter().map(|(id, member)| member.to_stored(id)).collect(),
        })
    }

    /// The assignment is durable: everybody that waits gets its part.
    pub(super) fn release(&mut self, now: Duration, out: &mut Vec<Answer>) {
        self.phase = match self.phase {
            Phase::Completing => Phase::Stable,
            phase => phase,
        };
        let parts: BTreeMap<String, SyncAnswer> =
            self.members.keys().map(|id| (id.clone(), self.assignment_of(id))).collect();
        for (id, part) in parts {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(waiting) = member.syncing.take() {
                member.heard_of(now);
                out.push(Answer::Sync(waiting, part));
            }
            if let Some((waiting, answer)) = member.returning.take() {
                member.heard_of(now);
                out.push(Answer::Join(waiting, answer));
            }
        }
    }

    /// Nobody may act upon what a restart would not know: a new generation is agreed on.
    fn refuse_unstored(&mut self, now: Duration, out: &mut Vec<Answer>) {
        for (id, member) in &mut self.members {
            if member.is_waiting() {
                member.refuse_waiting(id, GroupError::CoordinatorNotAvailable, out);
                member.heard_of(now);
            }
        }
        self.prepare_rebalance(now, out);
    }
}
