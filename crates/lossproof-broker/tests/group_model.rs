//! Any order of requests, by clients that crash, repeat themselves and lie, over any passing of
//! time, restarts of the broker, and a journal that is slow and refuses now and then. Some clients
//! have an instance id; each now and then gives the member id or the instance id of another, or
//! none, in whatever it asks, and offers other protocols than it did before. The group state
//! machine is compared with the little that a group must guarantee, kept apart here from nothing
//! but its answers and what operators see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lossproof_broker::group::{
    Answer, ClientName, CommitFence, GroupError, GroupSettings, Groups, Join, JoinAnswer, Leaving,
    Phase, StoredGroup, Sync, SyncAnswer, Token, Unstored,
};
use proptest::prelude::*;

const CLIENTS: usize = 4;
const MINUTE: Duration = Duration::from_mins(1);

/// Whose id a request gives.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Own,
    Nobodys,
    Of(usize),
}

/// Whom a request says that it is from.
#[derive(Clone, Copy, Debug)]
struct Claim {
    member: Whose,
    instance: Whose,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// `offers` is a set of protocols, one a bit; it likes the one of number `likes` best.
    Join {
        client: usize,
        claim: Claim,
        likes: u8,
        offers: u8,
    },
    Sync {
        client: usize,
        claim: Claim,
    },
    /// With a generation that is off by `lie`.
    Heartbeat {
        client: usize,
        claim: Claim,
        lie: i32,
    },
    Commit {
        client: usize,
        claim: Claim,
        lie: i32,
    },
    Leave {
        client: usize,
        claim: Claim,
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

fn whose(own: u32, nobodys: u32) -> impl Strategy<Value = Whose> {
    prop_oneof![
        own => Just(Whose::Own),
        nobodys => Just(Whose::Nobodys),
        1 => (0..CLIENTS).prop_map(Whose::Of),
    ]
}

fn claim(own: u32, nobodys: u32) -> impl Strategy<Value = Claim> {
    (whose(own, nobodys), whose(8, 1)).prop_map(|(member, instance)| Claim { member, instance })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let offers = prop_oneof![4 => Just(7_u8), 1 => 1..8_u8];
    let step = prop_oneof![
        4 => (client.clone(), claim(5, 5), 0..3_u8, offers)
            .prop_map(|(client, claim, likes, offers)| Step::Join { client, claim, likes, offers }),
        4 => (client.clone(), claim(8, 1)).prop_map(|(client, claim)| Step::Sync { client, claim }),
        2 => (client.clone(), claim(8, 1), -1..=1)
            .prop_map(|(client, claim, lie)| Step::Heartbeat { client, claim, lie }),
        3 => (client.clone(), claim(8, 1), -1..=1)
            .prop_map(|(client, claim, lie)| Step::Commit { client, claim, lie }),
        1 => (client.clone(), claim(4, 2))
            .prop_map(|(client, claim)| Step::Leave { client, claim }),
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

/// A request without an answer.
#[derive(Debug)]
struct Open {
    client: usize,
    /// As whom it asks, in which generation.
    member_id: String,
    generation: i32,
    /// The protocols that it offers to join with.
    offers: Vec<String>,
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
    /// Which clients have an instance id, one a bit.
    named: u8,
    /// Members that have had an instance id: another may have taken their place.
    renamed: BTreeSet<String>,
    under_way: Vec<Unstored>,
    /// What a restart will find.
    kept: Option<StoredGroup>,
    /// Who has been told an assignment, of which generation, since the group was empty.
    told: BTreeSet<(i32, String)>,
    clients: Vec<Client>,
    next: u64,
    open: BTreeMap<Token, Open>,
    answered: BTreeSet<Token>,
    generations: BTreeMap<i32, Generation>,
    /// What the leader of each generation gave to each member, its last word last.
    assigned: BTreeMap<(i32, String), Vec<Bytes>>,
    has_restarted: bool,
}

impl Model {
    fn new(initial: Duration, named: u8) -> Self {
        let settings =
            GroupSettings { initial_rebalance_delay: initial, ..GroupSettings::default() };
        Self {
            groups: Groups::new(settings.clone()),
            settings,
            under_way: vec![],
            kept: None,
            told: BTreeSet::new(),
            now: Duration::ZERO,
            named,
            renamed: BTreeSet::new(),
            clients: vec![Client::default(); CLIENTS],
            next: 0,
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            generations: BTreeMap::new(),
            assigned: BTreeMap::new(),
            has_restarted: false,
        }
    }

    fn token(&mut self, client: usize, as_whom: &Client, offers: Vec<String>) -> Token {
        self.next += 1;
        let Client { member_id, generation, .. } = as_whom.clone();
        self.open.insert(Token(self.next), Open { client, member_id, generation, offers });
        Token(self.next)
    }

    /// What is known by the one whose member id is given.
    fn as_whom(&self, client: usize, claim: Claim) -> Client {
        match claim.member {
            Whose::Own => self.clients[client].clone(),
            Whose::Of(other) => self.clients[other].clone(),
            Whose::Nobodys => Client::default(),
        }
    }

    fn instance(&self, client: usize, claim: Claim) -> Option<String> {
        match claim.instance {
            Whose::Own if self.named >> client & 1 == 1 => Some(format!("instance-{client}")),
            Whose::Own | Whose::Nobodys => None,
            Whose::Of(other) => Some(format!("instance-{other}")),
        }
    }

    /// The members, each with its instance id.
    fn members(&self) -> Vec<(String, Option<String>)> {
        let overview = self.groups.overview("g").expect("the groups are served");
        let members = overview.into_iter().flat_map(|overview| overview.members);
        members.map(|member| (member.member_id, member.instance)).collect()
    }

    fn run(&mut self, step: Step) {
        let mut out = vec![];
        match step {
            Step::Join { client, claim, likes, offers } => {
                self.join(client, claim, likes, offers, &mut out);
            }
            Step::Sync { client, claim } => self.sync(client, claim, &mut out),
            Step::Heartbeat { client, claim, lie } => {
                let Client { member_id: id, generation, .. } = self.as_whom(client, claim);
                let (generation, instance) = (generation + lie, self.instance(client, claim));
                let instance = instance.as_deref();
                let alive = self.groups.heartbeat(self.now, "g", &id, instance, generation);
                self.must_be_fenced(&id, instance, alive);
                if alive.is_ok() {
                    self.must_be_current(&id, generation);
                }
            }
            Step::Commit { client, claim, lie } => self.commit(client, claim, lie),
            Step::Leave { client, claim } => self.leave(client, claim, &mut out),
            Step::Crash { client } => self.clients[client] = Client::default(),
            Step::Pass { milliseconds } => {
                self.now += Duration::from_millis(milliseconds);
                while self.groups.tick(self.now, &mut out) {}
                let next = self.groups.next_deadline();
                assert!(next.is_none_or(|next| next > self.now), "GROUP-6: what is due is done");
            }
            Step::Store { succeeded } => self.store(succeeded, &mut out),
            Step::Restart => self.restart(),
        }
        self.take(out);
        self.under_way.extend(self.groups.unstored());
    }

    /// Nobody goes but the one that was named.
    fn leave(&mut self, client: usize, claim: Claim, out: &mut Vec<Answer>) {
        let member_id = self.as_whom(client, claim).member_id;
        let leaving = Leaving { member_id, instance: self.instance(client, claim) };
        let before = self.members();
        let left = self.groups.leave(self.now, "g", &leaving, out);
        let after = self.members();
        for (id, instance) in before {
            let is_named = if leaving.member_id.is_empty() {
                instance.is_some() && instance == leaving.instance
            } else {
                id == leaving.member_id
            };
            let stays = after.iter().any(|(member, _)| *member == id);
            assert_eq!(stays, !is_named || left.is_err(), "{id} after {leaving:?}: {left:?}");
        }
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
            let known = members.contains(member) || self.renamed.contains(member);
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

    fn join(&mut self, client: usize, claim: Claim, likes: u8, offers: u8, out: &mut Vec<Answer>) {
        let all = ["range", "roundrobin", "sticky"].into_iter().enumerate();
        let offered = all.filter(|(bit, _)| offers >> bit & 1 == 1);
        let mut names: Vec<String> = offered.map(|(_, name)| name.to_owned()).collect();
        let best = usize::from(likes) % names.len();
        names.rotate_left(best);
        let as_whom = self.as_whom(client, claim);
        let token = self.token(client, &as_whom, names.clone());
        let join = Join {
            client: ClientName::default(),
            group: "g".into(),
            member_id: as_whom.member_id,
            instance: self.instance(client, claim),
            fresh_member_id: format!("member-{}", token.0),
            requires_known_member_id: client.is_multiple_of(2),
            can_skip_assignment: client % 2 == 1,
            session_timeout: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(if likes == 0 { 0 } else { 5 }),
            protocol_type: "consumer".into(),
            protocols: names.into_iter().map(|name| (name, Bytes::new())).collect(),
        };
        self.groups.join(self.now, token, join, out);
    }

    fn sync(&mut self, client: usize, claim: Claim, out: &mut Vec<Answer>) {
        let as_whom = self.as_whom(client, claim);
        let token = self.token(client, &as_whom, vec![]);
        let Client { member_id, generation, leads, others } = as_whom;
        let part = |id: &String| Bytes::from(format!("{generation} {id} {}", token.0));
        let assignments: Vec<_> =
            if leads { others.iter().map(|id| (id.clone(), part(id))).collect() } else { vec![] };
        let can_assign = self.groups.phase("g") == Phase::Completing;
        let sync = Sync {
            group: "g".into(),
            generation,
            member_id,
            instance: self.instance(client, claim),
            protocol_type: None,
            protocol: None,
            assignments: assignments.clone(),
        };
        self.groups.sync(self.now, token, sync, out);
        // Where it is a member, of this generation, it waits until its word is stored.
        let is_heard =
            !out.iter().any(|answer| matches!(answer, Answer::Sync(it, _) if *it == token));
        if can_assign && is_heard {
            for (id, part) in assignments {
                self.assigned.entry((generation, id)).or_default().push(part);
            }
        }
    }

    fn commit(&mut self, client: usize, claim: Claim, lie: i32) {
        let Client { member_id, generation, .. } = self.as_whom(client, claim);
        let fence = CommitFence {
            group: "g".into(),
            generation: generation + lie,
            member_id,
            instance: self.instance(client, claim),
        };
        let allowed = self.groups.check_commit(self.now, &fence);
        self.must_be_fenced(&fence.member_id, fence.instance.as_deref(), allowed);
        if allowed.is_ok() {
            if fence.member_id.is_empty() || fence.generation < 0 {
                assert_eq!(self.members(), [], "GROUP-2: nobody to collide with");
            } else {
                self.must_be_current(&fence.member_id, fence.generation);
            }
        }
    }

    /// GROUP-4: who gives an instance id that another member holds is told so, and nothing else.
    fn must_be_fenced(&self, id: &str, instance: Option<&str>, told: Result<(), GroupError>) {
        let members = self.members();
        let holder = members.iter().find(|(_, held)| held.is_some() && held.as_deref() == instance);
        if holder.is_some_and(|(holder, _)| holder != id) {
            assert_eq!(told, Err(GroupError::FencedInstance), "{id} is not {holder:?}");
        }
        let is_free = instance.is_some() && holder.is_none() && !members.is_empty();
        assert!(!is_free || told.is_err(), "nobody holds {instance:?}, and {id} was heard");
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
            let open = self.open.remove(token);
            assert!(self.answered.insert(*token), "GROUP-1: {token:?} answered twice");
            let open = open.expect("GROUP-1: an answer to a request");
            match answer {
                Answer::Join(_, answer) => self.joined(&open, answer),
                Answer::Sync(_, answer) => self.synced(&open, &answer),
            }
        }
    }

    fn joined(&mut self, open: &Open, answer: JoinAnswer) {
        if answer.error.is_some() {
            // MEMBER_ID_REQUIRED hands out an id; the other refusals leave what there was.
            if !answer.member_id.is_empty() {
                self.clients[open.client].member_id = answer.member_id;
            }
            return;
        }
        let is_offered = open.offers.iter().any(|offer| Some(offer) == answer.protocol.as_ref());
        assert!(is_offered, "GROUP-3: {:?} to {open:?}", answer.protocol);
        let facts = self.generations.entry(answer.generation).or_default();
        facts.members.insert(answer.member_id.clone());
        facts.protocols.extend(answer.protocol.clone());
        if !answer.members.is_empty() && !answer.skip_assignment {
            facts.leaders.insert(answer.member_id.clone());
        }
        self.clients[open.client] = Client {
            leads: answer.leader == answer.member_id,
            others: answer.members.iter().map(|member| member.member_id.clone()).collect(),
            member_id: answer.member_id,
            generation: answer.generation,
        };
    }

    fn synced(&mut self, open: &Open, answer: &SyncAnswer) {
        if answer.error.is_some() {
            return;
        }
        let Open { member_id, generation, .. } = open;
        if self.is_current(member_id, *generation) {
            self.told.insert((*generation, member_id.clone()));
        }
        if answer.assignment.is_empty() || self.renamed.contains(member_id) {
            return; // It took the place, and the part, of another.
        }
        let words = self.assigned.get(&(*generation, member_id.clone()));
        let words = words.map_or(&[][..], Vec::as_slice);
        // A restart knows what was stored, which may be a word before the last.
        let is_known = words.last() == Some(&answer.assignment)
            || self.has_restarted && words.contains(&answer.assignment);
        assert!(is_known, "the leader's word, unchanged: {answer:?} to {open:?}");
    }

    fn check(&mut self) {
        let members = self.members();
        let named = || members.iter().filter_map(|(id, instance)| Some((id, instance.as_ref()?)));
        let instances: BTreeSet<&String> = named().map(|(_, instance)| instance).collect();
        assert_eq!(instances.len(), named().count(), "GROUP-4: one member each of {members:?}");
        self.renamed.extend(named().map(|(id, _)| id.clone()));
        for (generation, facts) in &self.generations {
            assert!(facts.protocols.len() <= 1, "GROUP-3: one protocol in {generation}");
            let renamed = facts.leaders.is_subset(&self.renamed);
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
    fn a_group_keeps_its_promises(steps in steps(), delay in 0..300_u64, named: u8) {
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
