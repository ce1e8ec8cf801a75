use std::time::Duration;

use bytes::Bytes;

use super::message::{Answer, ClientName, GroupError, Join, JoinAnswer, SyncAnswer, Token};
use super::stored::StoredMember;

/// One member of a group, from its first complete JoinGroup to its leaving or expiry.
#[derive(Clone, Debug)]
pub struct Member {
    pub(super) instance: Option<String>,
    pub(super) client: ClientName,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// Best liked first; never empty.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// When its session ends unless something is heard of it; not looked at while it waits.
    pub(super) session_deadline: Duration,
    /// Its JoinGroup that waits for the rebalance to complete.
    pub(super) joining: Option<Token>,
    /// Its JoinGroup as a static member that came back, which waits until that is stored.
    pub(super) returning: Option<(Token, JoinAnswer)>,
    /// Its SyncGroup that waits for the leader's assignment.
    pub(super) syncing: Option<Token>,
    /// It has asked for the assignment of the present generation.
    pub(super) synced: bool,
    /// The most that it has taken since it is in, and what is kept free for each (GROUP-10).
    pub(super) room: usize,
}

impl Member {
    pub(super) fn new(join: &Join, now: Duration) -> Self {
        Self {
            instance: join.instance.clone(),
            client: join.client.clone(),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: copied(&join.protocols),
            assignment: Bytes::new(),
            session_deadline: now.saturating_add(join.session_timeout),
            joining: None,
            returning: None,
            syncing: None,
            synced: false,
            room: 0,
        }
    }

    /// As it was stored, with a whole session before it.
    pub(super) fn restored(stored: StoredMember, now: Duration) -> Self {
        Self {
            session_deadline: now.saturating_add(stored.session_timeout),
            instance: stored.instance,
            client: stored.client,
            session_timeout: stored.session_timeout,
            rebalance_timeout: stored.rebalance_timeout,
            protocols: stored.protocols,
            assignment: stored.assignment,
            joining: None,
            returning: None,
            syncing: None,
            synced: true,
            room: 0,
        }
    }

    pub(super) fn to_stored(&self, id: &str) -> StoredMember {
        StoredMember {
            id: id.to_owned(),
            instance: self.instance.clone(),
            client: self.client.clone(),
            session_timeout: self.session_timeout,
            rebalance_timeout: self.rebalance_timeout,
            protocols: self.protocols.clone(),
            assignment: self.assignment.clone(),
        }
    }

    pub(super) fn update(&mut self, join: &Join, now: Duration) {
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.protocols = copied(&join.protocols);
        self.client.clone_from(&join.client);
        self.heard_of(now);
    }

    pub(super) fn heard_of(&mut self, now: Duration) {
        self.session_deadline = now.saturating_add(self.session_timeout);
    }

    /// A member whose request waits here is alive as far as anybody can know.
    pub(super) fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.returning.is_some() || self.syncing.is_some()
    }

    pub(super) fn expired(&self, now: Duration) -> bool {
        !self.is_waiting() && self.session_deadline <= now
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map_or_else(Bytes::new, |(_, metadata)| metadata.clone())
    }

    /// Answers what waits with `error`, so that no request is ever left without an answer.
    pub(super) fn refuse_waiting(&mut self, id: &str, error: GroupError, out: &mut Vec<Answer>) {
        self.refuse_joining(id, error, out);
        self.refuse_syncing(error, out);
    }

    pub(super) fn refuse_joining(&mut self, id: &str, error: GroupError, out: &mut Vec<Answer>) {
        let returning = self.returning.take().map(|(token, _)| token);
        for token in self.joining.take().into_iter().chain(returning) {
            out.push(Answer::Join(token, JoinAnswer::refusal(error, id)));
        }
    }

    pub(super) fn refuse_syncing(&mut self, error: GroupError, out: &mut Vec<Answer>) {
        if let Some(token) = self.syncing.take() {
            out.push(Answer::Sync(token, SyncAnswer::refusal(error)));
        }
    }
}

/// The whole request would live as long as the member otherwise.
fn copied(protocols: &[(String, Bytes)]) -> Vec<(String, Bytes)> {
    let copy =
        |(name, metadata): &(String, Bytes)| (name.clone(), Bytes::copy_from_slice(metadata));
    protocols.iter().map(copy).collect()
}
