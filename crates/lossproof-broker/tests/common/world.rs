//! The group state machine without clock and network: time is a number, the journal a variable.

use std::time::Duration;

use bytes::Bytes;
use lossproof_broker::group::{
    Answer, ClientName, CommitFence, GroupError, GroupSettings, Groups, Join, JoinAnswer, Leaving,
    Phase, StoredGroup, Sync, SyncAnswer, Token, Unstored,
};

pub(crate) const SESSION: Duration = Duration::from_secs(10);
pub(crate) const REBALANCE: Duration = Duration::from_mins(1);

/// What becomes of what is to be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    Good,
    Slow,
    Full,
}

/// The machine, with the time and the answers that have come.
pub(crate) struct World {
    pub(crate) journal: Journal,
    /// What a restart will find of group `g`.
    pub(crate) kept: Option<StoredGroup>,
    /// What is on its way to a slow journal.
    under_way: Vec<Unstored>,
    pub(crate) groups: Groups,
    pub(crate) now: Duration,
    next: u64,
    pub(crate) joins: Vec<(Token, JoinAnswer)>,
    pub(crate) syncs: Vec<(Token, SyncAnswer)>,
}

impl World {
    pub(crate) fn new(initial_rebalance_delay: Duration) -> Self {
        Self::with(GroupSettings { initial_rebalance_delay, ..GroupSettings::default() })
    }

    pub(crate) fn with(settings: GroupSettings) -> Self {
        Self {
            journal: Journal::Good,
            kept: None,
            under_way: vec![],
            groups: Groups::new(settings),
            now: Duration::ZERO,
            next: 0,
            joins: vec![],
            syncs: vec![],
        }
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    pub(crate) fn take(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Join(token, answer) => self.joins.push((token, answer)),
                Answer::Sync(token, answer) => self.syncs.push((token, answer)),
            }
        }
        self.under_way.extend(self.groups.unstored());
        if self.journal != Journal::Slow {
            self.store();
        }
    }

    /// What is under way is stored, or refused.
    pub(crate) fn store(&mut self) {
        let succeeded = self.journal != Journal::Full;
        for unstored in std::mem::take(&mut self.under_way) {
            let (group, version) = (unstored.group, unstored.version);
            if succeeded {
                self.kept = unstored.value;
            }
            let mut out = vec![];
            self.groups.stored(self.now, &group, version, succeeded, &mut out);
            self.take(out);
        }
    }

    /// All is gone but what was stored; what waited for an answer waits for ever.
    pub(crate) fn restart(&mut self) {
        let delay = Duration::ZERO;
        let settings = GroupSettings { initial_rebalance_delay: delay, ..GroupSettings::default() };
        self.groups = Groups::new(settings);
        self.under_way.clear();
        if let Some(kept) = self.kept.clone() {
            self.groups.restore(self.now, "g", kept);
        }
    }

    pub(crate) fn join(&mut self, join: Join) -> Token {
        let token = self.token();
        let mut out = vec![];
        self.groups.join(self.now, token, join, &mut out);
        self.take(out);
        token
    }

    pub(crate) fn sync(&mut self, member: &str, generation: i32, parts: &[(&str, &str)]) -> Token {
        let token = self.token();
        let assignments = parts
            .iter()
            .map(|(id, part)| ((*id).to_owned(), Bytes::copy_from_slice(part.as_bytes())))
            .collect();
        let sync = Sync {
            group: "g".into(),
            generation,
            member_id: member.into(),
            instance: None,
            protocol_type: None,
            protocol: None,
            assignments,
        };
        let mut out = vec![];
        self.groups.sync(self.now, token, sync, &mut out);
        self.take(out);
        token
    }

    pub(crate) fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.groups.heartbeat(self.now, "g", member, None, generation)
    }

    pub(crate) fn leave(&mut self, member: &str) -> Result<(), GroupError> {
        let mut out = vec![];
        let leaving = Leaving { member_id: member.into(), instance: None };
        let result = self.groups.leave(self.now, "g", &leaving, &mut out);
        self.take(out);
        result
    }

    pub(crate) fn commit(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let fence =
            CommitFence { group: "g".into(), generation, member_id: member.into(), instance: None };
        self.groups.check_commit(self.now, &fence)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut out = vec![];
        while self.groups.tick(self.now, &mut out) {}
        self.take(out);
    }

    #[track_caller]
    pub(crate) fn joined(&self, token: Token) -> &JoinAnswer {
        let found = self.joins.iter().find(|(found, _)| *found == token);
        &found.expect("the join is answered").1
    }

    #[track_caller]
    pub(crate) fn synced(&self, token: Token) -> &SyncAnswer {
        let found = self.syncs.iter().find(|(found, _)| *found == token);
        &found.expect("the sync is answered").1
    }

    pub(crate) fn waits(&self, token: Token) -> bool {
        !self.joins.iter().any(|(found, _)| *found == token)
            && !self.syncs.iter().any(|(found, _)| *found == token)
    }

    /// A group of members `a` and `b` with the assignment done; gives leader, other and generation.
    pub(crate) fn of_two(&mut self) -> (String, String, i32) {
        let a = self.join(join("", "a"));
        self.joined(a);
        let b = self.join(join("", "b"));
        assert!(self.waits(b), "the rebalance waits for the first member");
        let a = self.join(join("a", "-"));
        let (a, b) = (self.joined(a).clone(), self.joined(b).clone());
        assert_eq!((a.error, b.error, a.generation), (None, None, b.generation));
        let (leader, other) = (a.leader.clone(), if a.leader == "a" { "b" } else { "a" });
        let other = other.to_owned();
        self.sync(&other, a.generation, &[]);
        self.sync(&leader, a.generation, &[(&leader, "p0"), (&other, "p1")]);
        assert_eq!(self.groups.phase("g"), Phase::Stable);
        (leader, other, a.generation)
    }
}

/// The name a member gets is `fresh`; version 3 of the protocol, so that it joins at once.
pub(crate) fn join(member_id: &str, fresh: &str) -> Join {
    Join {
        group: "g".into(),
        member_id: member_id.into(),
        instance: None,
        client: ClientName::default(),
        fresh_member_id: fresh.into(),
        requires_known_member_id: false,
        can_skip_assignment: false,
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"meta"))],
    }
}

pub(crate) fn named(instance: &str, fresh: &str) -> Join {
    Join { instance: Some(instance.into()), ..join("", fresh) }
}
