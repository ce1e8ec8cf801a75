//! JoinGroup and the rebalance.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::member::Member;
use super::message::{Answer, GroupError, Join, JoinAnswer, Token};
use super::state::{Group, GroupSettings, Groups, Phase, check_id};

/// Of one member: each is compared with each of every other. Clients have one to four.
const PROTOCOLS_MAX: usize = 64;

impl Groups {
    /// Hands over a member's wish to join; the answer may come later.
    pub fn join(&mut self, now: Duration, token: Token, join: Join, out: &mut Vec<Answer>) {
        if let Err(error) = self.check_join(now, &join) {
            out.push(Answer::Join(token, JoinAnswer::refusal(error, &join.member_id)));
            return;
        }
        let name = join.group.clone();
        let group = self.by_id.entry(name.clone()).or_insert_with(Group::new);
        if let Err(error) = group.join(now, token, &join, &self.settings, out) {
            let id = if error == GroupError::MemberIdRequired {
                &join.fresh_member_id
            } else {
                &join.member_id
            };
            out.push(Answer::Join(token, JoinAnswer::refusal(error, id)));
        }
        self.settle(&name);
    }

    fn check_join(&mut self, now: Duration, join: &Join) -> Result<(), GroupError> {
        if self.stopped || self.closed.contains(&join.group) {
            // GROUP-7: the client asks again, and the group is open by then.
            return Err(GroupError::CoordinatorNotAvailable);
        }
        check_id(&join.group)?;
        let bounds = self.settings.session_timeout_min..=self.settings.session_timeout_max;
        if !bounds.contains(&join.session_timeout) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let count = join.protocols.len();
        if join.protocol_type.is_empty() || !(1..=PROTOCOLS_MAX).contains(&count) {
            return Err(GroupError::InconsistentProtocol);
        }
        let is_new = !self.by_id.contains_key(&join.group);
        if is_new && !join.member_id.is_empty() {
            return Err(GroupError::UnknownMember);
        }
        if is_new && self.by_id.len() >= self.settings.groups_max {
            return Err(self.no_room(now, &join.group)); // GROUP-5
        }
        self.check_room_to_join(now, join)
    }
}

impl Group {
    fn join(
        &mut self,
        now: Duration,
        token: Token,
        join: &Join,
        settings: &GroupSettings,
        out: &mut Vec<Answer>,
    ) -> Result<(), GroupError> {
        if !self.accepts_protocols(join) {
            return Err(GroupError::InconsistentProtocol);
        }
        if !join.member_id.is_empty() {
            return self.join_known(now, token, join, settings, out);
        }
        let place = join.instance.as_ref().and_then(|instance| self.instances.get(instance));
        if let Some(old) = place.cloned() {
            self.replace_static(now, token, &old, join, out);
            return Ok(());
        }
        self.check_room(settings)?;
        if join.instance.is_none() && join.requires_known_member_id {
            let deadline = now.saturating_add(join.session_timeout);
            self.pending.insert(join.fresh_member_id.clone(), deadline);
            return Err(GroupError::MemberIdRequired);
        }
        self.add(now, token, join, join.fresh_member_id.clone(), settings, out);
        Ok(())
    }

    /// GROUP-3: nobody may come in who shares no protocol with all the others.
    fn accepts_protocols(&self, join: &Join) -> bool {
        let others: Vec<&Member> = self
            .members
            .iter()
            .filter(|(id, member)| {
                **id != join.member_id
                    && (member.instance.is_none() || member.instance != join.instance)
            })
            .map(|(_, member)| member)
            .collect();
        if others.is_empty() {
            return true;
        }
        join.protocol_type == self.protocol_type
            && join
                .protocols
                .iter()
                .any(|(name, _)| others.iter().all(|member| member.supports(name)))
    }

    /// GROUP-5.
    fn check_room(&self, settings: &GroupSettings) -> Result<(), GroupError> {
        if self.members.len() + self.pending.len() < settings.members_max {
            Ok(())
        } else {
            Err(GroupError::GroupFull)
        }
    }

    fn join_known(
        &mut self,
        now: Duration,
        token: Token,
        join: &Join,
        settings: &GroupSettings,
        out: &mut Vec<Answer>,
    ) -> Result<(), GroupError> {
        // GROUP-4: no id is handed out to a static member, so that with an instance it is a lie.
        self.check_instance(join.instance.as_deref(), &join.member_id)?;
        if self.pending.remove(&join.member_id).is_some() {
            self.add(now, token, join, join.member_id.clone(), settings, out);
            return Ok(());
        }
        let leads = self.is_leader(&join.member_id);
        let phase = self.phase;
        let member = self.members.get_mut(&join.member_id).ok_or(GroupError::UnknownMember)?;
        let unchanged = member.protocols == join.protocols;
        match phase {
            Phase::Empty => return Err(GroupError::UnknownMember),
            Phase::Completing if unchanged => {
                // It never got the answer: the same again.
                member.heard_of(now);
                out.push(Answer::Join(token, self.joined(&join.member_id)));
                return Ok(());
            }
            Phase::Stable if unchanged && !leads => {
                member.heard_of(now);
                out.push(Answer::Join(token, self.joined(&join.member_id)));
                return Ok(());
            }
            Phase::Preparing { .. } | Phase::Completing | Phase::Stable => {}
        }
        member.update(join, now);
        self.wait_for_rebalance(now, token, &join.member_id, out);
        Ok(())
    }

    fn add(
        &mut self,
        now: Duration,
        token: Token,
        join: &Join,
        id: String,
        settings: &GroupSettings,
        out: &mut Vec<Answer>,
    ) {
        if self.members.is_empty() {
            self.protocol_type.clone_from(&join.protocol_type);
        }
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), Member::new(join, now));
        let delay = settings.initial_rebalance_delay;
        let soon = now.saturating_add(delay);
        match self.phase {
            Phase::Empty if !delay.is_zero() => {
                let limit = now.saturating_add(self.rebalance_timeout().max(delay));
                self.phase = Phase::Preparing { deadline: soon, extensible_until: Some(limit) };
            }
            Phase::Preparing { deadline, extensible_until: Some(limit) } => {
                let deadline = deadline.max(soon.min(limit));
                self.phase = Phase::Preparing { deadline, extensible_until: Some(limit) };
            }
            _ => {}
        }
        self.wait_for_rebalance(now, token, &id, out);
    }

    /// GROUP-4: the same instance under a new member id. Where nothing else has changed it takes
    /// its old assignment back without a rebalance, which is what static membership is for.
    fn replace_static(
        &mut self,
        now: Duration,
        token: Token,
        old_id: &str,
        join: &Join,
        out: &mut Vec<Answer>,
    ) {
        let id = join.fresh_member_id.clone();
        let Some(mut member) = self.members.remove(old_id) else { return };
        member.refuse_waiting(old_id, GroupError::FencedInstance, out);
        let unchanged = member.protocols == join.protocols;
        member.update(join, now);
        self.members.insert(id.clone(), member);
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        let led = self.is_leader(old_id);
        if led {
            self.leader = Some(id.clone());
        }
        if self.phase != Phase::Stable || !unchanged {
            self.wait_for_rebalance(now, token, &id, out);
            return;
        }
        let mut answer = self.joined(&id);
        answer.skip_assignment = led && join.can_skip_assignment;
        if led && !join.can_skip_assignment {
            // An old client that finds itself the leader would assign anew, unasked.
            old_id.clone_into(&mut answer.leader);
            answer.members.clear();
        }
        // GROUP-8: a restart that knew only the old id would fence the new one.
        if let Some(member) = self.members.get_mut(&id) {
            member.returning = Some((token, answer));
            self.changed = true;
        }
    }

    fn wait_for_rebalance(
        &mut self,
        now: Duration,
        token: Token,
        member_id: &str,
        out: &mut Vec<Answer>,
    ) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.refuse_joining(member_id, GroupError::RebalanceInProgress, out);
            member.joining = Some(token);
        }
        self.prepare_rebalance(now, out);
        self.complete_if_all_joined(now, out);
    }

    /// Asks everybody to join again. Does nothing where that is under way.
    pub(super) fn prepare_rebalance(&mut self, now: Duration, out: &mut Vec<Answer>) {
        if matches!(self.phase, Phase::Preparing { .. }) {
            return;
        }
        for member in self.members.values_mut().filter(|member| member.syncing.is_some()) {
            member.refuse_syncing(GroupError::RebalanceInProgress, out);
            // Its session stood still while it waited, and must not end for that.
            member.heard_of(now);
        }
        for member in self.members.values_mut() {
            // It has joined, if not the generation that it was about to be told of.
            if let Some((token, _)) = member.returning.take() {
                member.joining = Some(token);
            }
        }
        self.sync_deadline = None;
        self.awaited = None;
        let deadline = now.saturating_add(self.rebalance_timeout());
        self.phase = Phase::Preparing { deadline, extensible_until: None };
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Duration, out: &mut Vec<Answer>) {
        let Phase::Preparing { extensible_until: None, .. } = self.phase else { return };
        let all = self.members.values().all(|member| member.joining.is_some());
        if all && self.pending.is_empty() {
            self.complete_rebalance(now, out);
        }
    }

    /// Ends the wait: who has not joined is out, but for static members, who keep their place
    /// until their session ends.
    pub(super) fn complete_rebalance(&mut self, now: Duration, out: &mut Vec<Answer>) {
        self.members.retain(|_, member| member.joining.is_some() || member.instance.is_some());
        if self.members.is_empty() {
            self.dissolve(GroupError::UnknownMember, out);
            return;
        }
        let deadline = now.saturating_add(self.rebalance_timeout());
        let Some(leader) = self.next_leader() else {
            self.phase = Phase::Preparing { deadline, extensible_until: None };
            return;
        };
        let Some(protocol) = self.choose_protocol() else {
            // GROUP-3: each was checked against all others, so that this is a mistake here, and not
            // of a client. No client may end the process with it.
            tracing::error!("members of a group that share no protocol: all of them join anew");
            self.dissolve(GroupError::InconsistentProtocol, out);
            return;
        };
        self.generation = next_generation(self.generation);
        (self.protocol, self.leader) = (Some(protocol), Some(leader));
        self.phase = Phase::Completing;
        self.sync_deadline = Some(deadline);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.synced = false;
            member.assignment = Bytes::new();
            if let Some(token) = member.joining.take() {
                member.heard_of(now);
                out.push(Answer::Join(token, answer));
            }
        }
    }

    /// Whoever is in it is told `error`, and joins anew if it likes.
    pub(super) fn dissolve(&mut self, error: GroupError, out: &mut Vec<Answer>) {
        for (id, mut member) in std::mem::take(&mut self.members) {
            member.refuse_waiting(&id, error, out);
        }
        self.instances.clear();
        self.phase = Phase::Empty;
        self.generation = next_generation(self.generation);
        (self.protocol, self.leader) = (None, None);
        (self.sync_deadline, self.awaited) = (None, None);
    }

    /// The protocol that most members like best among those that all of them know; of equals the
    /// one that the first member likes better.
    fn choose_protocol(&self) -> Option<String> {
        let candidates: Vec<&String> = self
            .members
            .values()
            .next()
            .into_iter()
            .flat_map(|first| first.protocols.iter().map(|(name, _)| name))
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let mut votes: BTreeMap<&String, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .map(|(name, _)| name)
                .find(|name| candidates.contains(name));
            if let Some(choice) = choice {
                *votes.entry(choice).or_default() += 1;
            }
        }
        let best = candidates
            .iter()
            .rev()
            .max_by_key(|name| votes.get(**name).copied().unwrap_or_default());
        best.map(|name| (*name).clone())
    }

    /// The old leader stays as long as it joins; only who has joined can lead.
    fn next_leader(&self) -> Option<String> {
        let mut joined = self.members.iter().filter(|(_, member)| member.joining.is_some());
        let old = joined.clone().find(|(id, _)| self.is_leader(id));
        old.or_else(|| joined.next()).map(|(id, _)| id.clone())
    }
}

/// GROUP-2.
fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{ClientName, StoredGroup, StoredMember};

    const SESSION: Duration = Duration::from_mins(5);

    fn protocols(names: &[&str]) -> Vec<(String, Bytes)> {
        names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect()
    }

    fn stored(id: &str, protocol: &str) -> StoredMember {
        StoredMember {
            id: id.into(),
            instance: Some(format!("instance of {id}")),
            client: ClientName::default(),
            session_timeout: SESSION,
            rebalance_timeout: Duration::ZERO,
            protocols: protocols(&[protocol]),
            assignment: Bytes::new(),
        }
    }

    /// GROUP-3. A broker of an earlier version may have stored such a group.
    #[test]
    fn where_no_protocol_is_shared_all_join_anew_and_nothing_ends() {
        let mut groups = Groups::new(GroupSettings::default());
        let group = StoredGroup::Stable {
            generation: 1,
            protocol_type: "consumer".into(),
            protocol: "x".into(),
            leader: "a".into(),
            members: vec![stored("a", "x"), stored("b", "y")],
        };
        groups.restore(Duration::ZERO, "g", group);
        let join = Join {
            group: "g".into(),
            member_id: String::new(),
            instance: None,
            client: ClientName::default(),
            fresh_member_id: "c".into(),
            requires_known_member_id: false,
            can_skip_assignment: false,
            session_timeout: SESSION,
            rebalance_timeout: Duration::ZERO,
            protocol_type: "consumer".into(),
            protocols: protocols(&["x", "y"]),
        };
        // One that offers both is let in by no check against either.
        let mut out = vec![];
        groups.by_id.get_mut("g").expect("it is there").add(
            Duration::ZERO,
            Token(1),
            &join,
            "c".into(),
            &GroupSettings::default(),
            &mut out,
        );
        groups.settle("g");
        let due = groups.next_deadline().expect("the end of the rebalance");
        assert!(groups.tick(due, &mut out));
        let refusal = JoinAnswer::refusal(GroupError::InconsistentProtocol, "c");
        assert_eq!(out, [Answer::Join(Token(1), refusal)]);
        assert_eq!(groups.member_counts(), []);
    }
}
