//! Any order of requests, by clients that crash, repeat themselves and lie, over any passing of
//! time, restarts of the broker, and a journal that is slow and refuses now and then: the group
//! state machine is compared with the little that a group must guarantee, kept apart here from
//! nothing but its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lossproof_broker::group::{
    Answer, ClientName, CommitFence, GroupSettings, Groups, Join, JoinAnswer, Leaving, Phase,
    StoredGroup, Sync, SyncAnswer, Token, Unstored,
};
use proptest::prelude::*;

const CLIENTS: usize = 4;
const MINUTE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Joins with the id it has, or without one.
    Join {
        client: usize,
        known: bool,
        likes: u8,
    },
    Sync {
        client: usize,
    },
    /// With a generation that is off by `lie`.
    Heartbeat {
        client: usize,
        lie: i32,
    },
    Commit {
        client: usize,
        lie: i32,
    },
    Leave {
        client: usize,
    },
    /// It forgets its id, as a process that was killed.
    Crash {
        client: usize,
    },
    Pass {
        milliseconds: u64,
    },
    /// The oldest of what is under way to the journal is stored, or refused.
    Store {
        succeeded: bool,
    },
    /// Of the broker: connections are gone, and what was not stored.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        4 => (client.clone(), any::<bool>(), 0..3_u8)
            .prop_map(|(client, known, likes)| Step::Join { client, known, likes }),
        4 => client.clone().prop_map(|client| Step::Sync { client }),
        2 => (client.clone(), -1..=1).prop_map(|(client, lie)| Step::Heartbeat { client, lie }),
        3 => (client.clone(), -1..=1).prop_map(|(client, lie)| Step::Commit { client, lie }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        1 => client.prop_map(|client| Step::Crash { client }),
        3 => (0..4_000_u64).prop_map(|milliseconds| Step::Pass { milliseconds }),
        4 => (0..8_u8).prop_map(|luck| Step::Store { succeeded: luck > 0 }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a client knows of itself.
#[derive(Clone, Debug, Default)]
struct Client {
    member_id: String,
    generation: i32,
    leads: bool,
    others: Vec<String>,
}

#[derive(Debug, Default)]
struct Generation {
    members: BTreeSet<String>,
    leaders: BTreeSet<String>,
    protocols: BTreeSet<String>,
}

struct Model {
    groups: Groups,
    settings: GroupSettings,
    now: Duration,
    static_members: bool,
    under_way: Vec<Unstored>,
    /// What a restart will find.
    kept: Option<StoredGroup>,
    /// Who has been told an assignment, of which generation, since the group was empty.
    told: BTreeSet<(i32, String)>,
    clients: Vec<Client>,
    next: u64,
    /// Requests without an answer, and whose they are.
    open: BTreeMap<Token, usize>,
    answered: BTreeSet<Token>,
    generations: BTreeMap<i32, Generation>,
    /// What the leader of each generation gave to each member, its last word last.
    assigned: BTreeMap<(i32, String), Vec<Bytes>>,
    has_restarted: bool,
}

impl Model {
    fn new(initial: Duration, static_members: bool) -> Self {
        let settings =
            GroupSettings { initial_rebalance_delay: initial, ..GroupSettings::default() };
        Self {
            groups: Groups::new(settings.clone()),
            settings,
            under_way: vec![],
            kept: None,
            told: BTreeSet::new(),
            now: Duration::ZERO,
            static_members,
            clients: vec![Client::default(); CLIENTS],
            next: 0,
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            generations: BTreeMap::new(),
            assigned: BTreeMap::new(),
            has_restarted: false,
        }
    }

    fn token(&mut self, client: usize) -> Token {
        self.next += 1;
        self.open.insert(Token(self.next), client);
        Token(self.next)
    }

    fn instance(&self, client: usize) -> Option<String> {
        self.static_members.then(|| format!("instance-{client}"))
    }

    fn run(&mut self, step: Step) {
        let mut out = vec![];
        match step {
            Step::Join { client, known, likes } => self.join(client, known, likes, &mut out),
            Step::Sync { client } => self.sync(client, &mut out),
            Step::Heartbeat { client, lie } => {
                let generation = self.clients[client].generation + lie;
                let id = self.clients[client].member_id.clone();
                let alive = self.groups.heartbeat(self.now, "g", &id, None, generation);
                if alive.is_ok() {
                    self.must_be_current(&id, generation);
                }
            }
            Step::Commit { client, lie } => self.commit(client, lie),
            Step::Leave { client } => {
                let member_id = self.clients[client].member_id.clone();
                let leaving = Leaving { member_id, instance: None };
                let _ = self.groups.leave(self.now, "g", &leaving, &mut out);
            }
            Step::Crash { client } => self.clients[client] = Client::default(),
            Step::Pass { milliseconds } => {
                self.now += Duration::from_millis(milliseconds);
                self.groups.tick(self.now, &mut out);
                let next = self.groups.next_deadline();
                assert!(next.is_none_or(|next| next > self.now), "GROUP-6: what is due is done");
            }
            Step::Store { succeeded } => self.store(succeeded, &mut out),
            Step::Restart => self.restart(),
        }
        self.take(out);
        self.under_way.extend(self.groups.unstored());
    }

    fn store(&mut self, succeeded: bool, out: &mut Vec<Answer>) {
        if self.under_way.is_empty() {
            return;
        }
        let Unstored { group, version, value } = self.under_way.remove(0);
        if succeeded {
            self.kept = value;
        }
        self.groups.stored(self.now, &group, version, succeeded, out);
    }

    fn restart(&mut self) {
        self.has_restarted = true;
        self.groups = Groups::new(self.settings.clone());
        if let Some(kept) = self.kept.clone() {
            self.groups.restore(self.now, "g", kept);
        }
        self.under_way.clear();
        self.open.clear();
        let (generation, protocol, members) = self.groups.view("g").unwrap_or_default();
        let newest = self.told.last().map_or(0, |(generation, _)| *generation);
        assert!(generation >= newest, "GROUP-8: {newest} was told, {generation} is known");
        for (_, member) in self.told.iter().filter(|(told, _)| *told == generation) {
            let known = members.contains(member) || self.static_members;
            assert!(known, "GROUP-8: {member} was told its assignment of {generation}");
            let facts = self.generations.get(&generation);
            let agreed = facts.is_some_and(|facts| facts.protocols.iter().eq(&protocol));
            assert!(agreed, "GROUP-3: {protocol:?} in {generation}");
        }
        // What nobody was assigned has not been: its number is used again.
        self.generations.clear();
        let protocols = protocol.into_iter().collect();
        self.generations.insert(generation, Generation { protocols, ..Generation::default() });
    }

    fn join(&mut self, client: usize, known: bool, likes: u8, out: &mut Vec<Answer>) {
        let token = self.token(client);
        let all = ["range", "roundrobin", "sticky"];
        let protocols = all.iter().cycle().skip(usize::from(likes)).take(3);
        let join = Join {
            client: ClientName::default(),
            group: "g".into(),
            member_id: if known { self.clients[client].member_id.clone() } else { String::new() },
            instance: self.instance(client),
            fresh_member_id: format!("member-{}", token.0),
            requires_known_member_id: client.is_multiple_of(2),
            can_skip_assignment: client % 2 == 1,
            session_timeout: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(if likes == 0 { 0 } else { 5 }),
            protocol_type: "consumer".into(),
            protocols: protocols.map(|name| ((*name).to_owned(), Bytes::new())).collect(),
        };
        self.groups.join(self.now, token, join, out);
    }

    fn sync(&mut self, client: usize, out: &mut Vec<Answer>) {
        let token = self.token(client);
        let Client { member_id, generation, leads, others } = self.clients[client].clone();
        let part = |id: &String| Bytes::from(format!("{generation} {id} {}", token.0));
        let assignments: Vec<_> =
            if leads { others.iter().map(|id| (id.clone(), part(id))).collect() } else { vec![] };
        if leads
            && self.groups.phase("g") == Phase::Completing
            && self.is_current(&member_id, generation)
        {
            for (id, part) in &assignments {
                let words = self.assigned.entry((generation, id.clone())).or_default();
                words.push(part.clone());
            }
        }
        let sync = Sync {
            group: "g".into(),
            generation,
            member_id,
            instance: self.instance(client),
            protocol_type: None,
            protocol: None,
            assignments,
        };
        self.groups.sync(self.now, token, sync, out);
    }

    fn commit(&mut self, client: usize, lie: i32) {
        let generation = self.clients[client].generation + lie;
        let member_id = self.clients[client].member_id.clone();
        let fence = CommitFence {
            group: "g".into(),
            generation,
            member_id: member_id.clone(),
            instance: None,
        };
        if self.groups.check_commit(self.now, &fence).is_ok() {
            if member_id.is_empty() || generation < 0 {
                let members = self.groups.view("g").map_or(0, |(_, _, members)| members.len());
                assert_eq!(members, 0, "GROUP-2: nobody to collide with");
            } else {
                self.must_be_current(&member_id, generation);
            }
        }
    }

    fn is_current(&self, member_id: &str, generation: i32) -> bool {
        self.groups.view("g").is_some_and(|(current, _, members)| {
            current == generation && members.iter().any(|member| member == member_id)
        })
    }

    /// GROUP-2: who is heard belongs to the newest generation.
    fn must_be_current(&self, member_id: &str, generation: i32) {
        assert!(self.is_current(member_id, generation), "{member_id} in {generation}");
    }

    fn take(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            let (Answer::Join(token, _) | Answer::Sync(token, _)) = &answer;
            let client = self.open.remove(token);
            assert!(self.answered.insert(*token), "GROUP-1: {token:?} answered twice");
            let client = client.expect("GROUP-1: an answer to a request");
            match answer {
                Answer::Join(_, answer) => self.joined(client, answer),
                Answer::Sync(_, answer) => self.synced(client, answer),
            }
        }
    }

    fn joined(&mut self, client: usize, answer: JoinAnswer) {
        if answer.error.is_some() {
            // MEMBER_ID_REQUIRED hands out an id; the other refusals leave what there was.
            if !answer.member_id.is_empty() {
                self.clients[client].member_id = answer.member_id;
            }
            return;
        }
        let facts = self.generations.entry(answer.generation).or_default();
        facts.members.insert(answer.member_id.clone());
        facts.protocols.extend(answer.protocol.clone());
        if !answer.members.is_empty() && !answer.skip_assignment {
            facts.leaders.insert(answer.member_id.clone());
        }
        self.clients[client] = Client {
            leads: answer.leader == answer.member_id,
            others: answer.members.iter().map(|member| member.member_id.clone()).collect(),
            member_id: answer.member_id,
            generation: answer.generation,
        };
    }

    fn synced(&mut self, client: usize, answer: SyncAnswer) {
        let Client { member_id, generation, .. } = &self.clients[client];
        if answer.error.is_none() && self.is_current(member_id, *generation) {
            self.told.insert((*generation, member_id.clone()));
        }
        if answer.error.is_none() && !self.static_members {
            // Asked before a crash or a new join, perhaps; then it is not this client's any more.
            let text = String::from_utf8(answer.assignment.to_vec()).expect("made here");
            if text.starts_with(&format!("{generation} {member_id} ")) {
                let words = self.assigned.get(&(*generation, member_id.clone()));
                let words = words.map_or(&[][..], Vec::as_slice);
                // A restart knows what was stored, which may be a word before the last.
                let is_known = words.last() == Some(&answer.assignment)
                    || self.has_restarted && words.contains(&answer.assignment);
                assert!(is_known, "the leader's word, unchanged: {answer:?}");
            }
        }
    }

    fn check(&self) {
        for (generation, facts) in &self.generations {
            assert!(facts.protocols.len() <= 1, "GROUP-3: one protocol in {generation}");
            let renamed = self.static_members;
            assert!(facts.leaders.len() <= 1 || renamed, "GROUP-3: one leader in {generation}");
        }
        if let Some(deadline) = self.groups.next_deadline() {
            assert!(deadline <= self.now + MINUTE, "GROUP-6: every wait has an end");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_group_keeps_its_promises(steps in steps(), delay in 0..300_u64, named: bool) {
        let mut model = Model::new(Duration::from_millis(delay), named);
        let mut newest = 0;
        for step in steps {
            model.run(step);
            model.check();
            let (generation, members) = model
                .groups
                .view("g")
                .map_or((0, 0), |(generation, _, members)| (generation, members.len()));
            let restarted = matches!(step, Step::Restart);
            prop_assert!(members == 0 || generation >= newest || restarted, "GROUP-2");
            newest = if members == 0 { 0 } else { generation };
            if members == 0 {
                model.generations.clear();
                model.told.clear();
            }
        }
        // Left alone, every member dies, and nobody is left without an answer.
        let mut ticks = 0;
        while !model.under_way.is_empty() {
            model.run(Step::Store { succeeded: true });
        }
        while let Some(deadline) = model.groups.next_deadline() {
            prop_assert!(deadline >= model.now || ticks == 0, "time goes on");
            let wait = deadline.saturating_sub(model.now).as_millis() as u64 + 1;
            model.run(Step::Pass { milliseconds: wait });
            while !model.under_way.is_empty() {
                model.run(Step::Store { succeeded: true });
            }
            ticks += 1;
            prop_assert!(ticks < 200, "GROUP-6: the group comes to rest");
        }
        prop_assert_eq!(model.groups.phase("g"), Phase::Empty);
        prop_assert!(model.open.is_empty(), "GROUP-1: {:?}", model.open);
    }
}
