//! How much members may say of themselves, and leaders of them (GROUP-5, GROUP-10).

use std::time::Duration;

use bytes::Bytes;

use super::member::Member;
use super::message::{ClientName, GroupError, Join};
use super::state::{Group, Groups};
use crate::told;

/// What a pending id takes, about.
const PENDING_BYTES: usize = 512;

/// What is kept free for each member, however little it says: of most members all that they and
/// their leaders will ever say, so that what they say may change where there is no more room.
const MEMBER_BYTES_MIN: usize = 4 << 10;

impl Groups {
    pub(super) fn check_room_to_join(
        &mut self,
        now: Duration,
        join: &Join,
    ) -> Result<(), GroupError> {
        let group = self.by_id.get(&join.group);
        let more =
            group.map_or_else(|| Group::new().more_to_join(join), |it| it.more_to_join(join));
        let alone = join.protocol_type.len() + join.bytes_with(0);
        if more > 0 && alone > self.settings.group_bytes_max {
            let max = self.settings.group_bytes_max;
            if self.may_tell(now) {
                tracing::warn!(
                    group = join.group,
                    client = join.client.id,
                    bytes = alone,
                    max,
                    "a member says more of itself than its whole group may; told once a minute"
                );
            }
            return Err(GroupError::MemberTooLarge);
        }
        self.check_room(now, &join.group, more)
    }

    pub(super) fn check_room_to_assign(
        &mut self,
        now: Duration,
        name: &str,
        parts: &[(String, Bytes)],
    ) -> Result<(), GroupError> {
        let more = self.by_id.get(name).map_or(0, |group| group.more_to_assign(parts));
        self.check_room(now, name, more)
    }

    /// Whether the members of a group may say so much more. What fills the group is its own affair;
    /// what fills the broker may be that of others, and passes: who is refused for it comes again.
    fn check_room(&mut self, now: Duration, name: &str, more: usize) -> Result<(), GroupError> {
        let held = self.by_id.get(name).map_or(0, |group| group.bytes);
        if more == 0 {
            return Ok(()); // GROUP-10
        }
        if held.saturating_add(more) > self.settings.group_bytes_max {
            let max = self.settings.group_bytes_max;
            if self.may_tell(now) {
                let what = "no room in a group for what is said; told once a minute";
                tracing::warn!(group = name, held, more, max, "{what}");
            }
            return Err(GroupError::GroupFull);
        }
        if self.bytes.saturating_add(more) > self.settings.bytes_max {
            return Err(self.no_room(now, name));
        }
        Ok(())
    }

    /// The groups of this broker leave no room for more.
    pub(super) fn no_room(&mut self, now: Duration, name: &str) -> GroupError {
        if self.may_tell(now) {
            tracing::warn!(
                group = name,
                groups = self.by_id.len(),
                bytes = self.bytes,
                "no room for more groups, or for what their members say; told once a minute"
            );
        }
        GroupError::CoordinatorNotAvailable
    }

    /// Whether a refusal for want of room is to be told of now.
    fn may_tell(&mut self, now: Duration) -> bool {
        let may = self.told_of_no_room.is_none_or(|last| now >= last + told::EVERY);
        if may {
            self.told_of_no_room = Some(now);
        }
        may
    }

    /// Takes note of what a group holds after it has changed.
    pub(super) fn count(&mut self, group: &str) {
        if let Some(group) = self.by_id.get_mut(group) {
            let bytes = group.count_bytes();
            self.bytes = self.bytes - group.bytes + bytes;
            group.bytes = bytes;
        }
    }
}

impl Group {
    /// What is held of its members, or kept free for them.
    fn count_bytes(&mut self) -> usize {
        let pending = self.pending.keys().map(|id| pending_bytes(id)).sum::<usize>();
        let members = self.members.iter_mut().map(|(id, member)| {
            member.room = member.room.max(member.bytes_with(id, member.assignment.len()));
            member.room
        });
        self.protocol_type.len() + pending + members.sum::<usize>()
    }

    /// How much more it holds when somebody joins so.
    fn more_to_join(&self, join: &Join) -> usize {
        let of_instance = join.instance.as_ref().and_then(|instance| self.instances.get(instance));
        let id = if join.member_id.is_empty() { of_instance } else { Some(&join.member_id) };
        let member = id.and_then(|id| self.members.get(id));
        let pending = id.filter(|id| self.pending.contains_key(*id));
        let own = member.map_or(0, |it| it.room) + pending.map_or(0, |id| pending_bytes(id));
        // Its assignment stays until there is another.
        let wanted = join.bytes_with(member.map_or(0, |it| it.assignment.len()));
        let name = join.protocol_type.len().saturating_sub(self.protocol_type.len());
        name + wanted.saturating_sub(own)
    }

    /// How much more it holds when its leader says this of its members.
    fn more_to_assign(&self, parts: &[(String, Bytes)]) -> usize {
        let more = parts.iter().filter_map(|(id, part)| {
            let member = self.members.get(id)?;
            Some(member.bytes_with(id, part.len()).saturating_sub(member.room))
        });
        more.sum()
    }
}

impl Member {
    /// What it takes with an assignment of so many bytes, about.
    fn bytes_with(&self, id: &str, assignment: usize) -> usize {
        member_bytes(&self.client, &self.protocols, self.instance.as_deref(), id, assignment)
    }
}

impl Join {
    fn bytes_with(&self, assignment: usize) -> usize {
        let id = if self.member_id.is_empty() { &self.fresh_member_id } else { &self.member_id };
        member_bytes(&self.client, &self.protocols, self.instance.as_deref(), id, assignment)
    }
}

fn pending_bytes(id: &str) -> usize {
    PENDING_BYTES + id.len()
}

fn member_bytes(
    client: &ClientName,
    protocols: &[(String, Bytes)],
    instance: Option<&str>,
    id: &str,
    assignment: usize,
) -> usize {
    let names = client.id.len() + client.host.len() + 2 * (instance.map_or(0, str::len) + id.len());
    let protocols = protocols.iter().map(|(name, metadata)| name.len() + metadata.len());
    (PENDING_BYTES + names + protocols.sum::<usize>() + assignment).max(MEMBER_BYTES_MIN)
}
