//! A pipeline that is made up message by message, with losses put in on purpose and legal
//! disorder everywhere: what the ledger says of it can be compared with what was done.
//!
//! Producers crash and send again what they had not settled; members of a group crash before or
//! after their receipts are durable, and others go on from the committed offset.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lossproof_audit::identity::{GROUP_HEADER, HEADER_NAME, Header, RecordId, binding, checksum};
use lossproof_audit::interval::IntervalSet;
use lossproof_audit::ledger::{Ledger, VerdictOptions};
use lossproof_audit::receipt::{Disposition, LaneEnd, LaneId, Place, Receipt, Role, Stage};
use lossproof_audit::report::{RecordRef, Reporter};
use lossproof_audit::verdict::{Blame, Ids, Verdict};
use lossproof_client::memory::Cluster;
use lossproof_client::{Record, Watermarks};

use super::{DEAD, Journal, SECOND, World, shipped};

pub(crate) const TOPIC: &str = "news";
const FLUSH_EVERY: usize = 97;

/// What is done to one message.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Fate {
    Fine,
    Filtered,
    DeadLettered,
    /// Two copies in the log, by the producer.
    Resent,
    LeftInJournal,
    // From here on it is lost.
    Rejected,
    NeverSent,
    InDoubt,
    BrokerLost,
    Altered,
    Misplaced,
    Skipped,
    DeliveredOnly,
    ProcessedOnly,
    FalseDuplicate,
}

impl Fate {
    const LEGAL: [Self; 4] =
        [Self::Filtered, Self::DeadLettered, Self::Resent, Self::LeftInJournal];
    const LOSSES: [Self; 10] = [
        Self::Rejected,
        Self::NeverSent,
        Self::InDoubt,
        Self::BrokerLost,
        Self::Altered,
        Self::Misplaced,
        Self::Skipped,
        Self::DeliveredOnly,
        Self::ProcessedOnly,
        Self::FalseDuplicate,
    ];

    /// Who is to be blamed, and whether it counts before the offset is committed.
    fn blame(self) -> Option<(Blame, bool)> {
        match self {
            Self::Rejected | Self::NeverSent | Self::InDoubt | Self::Misplaced => {
                Some((Blame::Producer, true))
            }
            Self::BrokerLost | Self::Altered => Some((Blame::Broker, true)),
            Self::Skipped | Self::DeliveredOnly | Self::FalseDuplicate => {
                Some((Blame::Consumer, false))
            }
            Self::ProcessedOnly => Some((Blame::Sink, false)),
            _ => None,
        }
    }
}

/// Sizes and rates of one history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) messages: usize,
    pub(crate) partitions: u32,
    pub(crate) groups: usize,
    /// Of 100,000 messages, how many are lost, and how many meet something legal.
    pub(crate) losses: u64,
    pub(crate) oddities: u64,
    /// Of 1,000 flushes, how many end in a crash.
    pub(crate) crashes: u64,
    /// The last part of each partition is not consumed yet.
    pub(crate) unconsumed: usize,
}

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn chance(&mut self, of: u64, all: u64) -> bool {
        self.below(all) < of
    }
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    id: RecordId,
    /// Partition of origin.
    origin: u32,
    altered: bool,
}

struct Producer {
    journal: Journal,
    reporter: Reporter,
    role: Role,
    next_seq: BTreeMap<u32, u64>,
    /// Of all lanes that are still of interest.
    ends: BTreeMap<LaneId, (u32, u64, IntervalSet)>,
    /// Acknowledged, and the receipt on it is not durable.
    unflushed: Vec<(RecordId, u32)>,
}

pub(crate) struct History {
    shape: Shape,
    random: Random,
    world: World,
    cluster: Cluster,
    producers: Vec<Producer>,
    log: Vec<Vec<Stored>>,
    fates: BTreeMap<RecordId, Fate>,
    committed: BTreeMap<(usize, u32), u64>,
    sealed: Vec<Reporter>,
    accepted: Vec<RecordId>,
}

fn place(partition: u32) -> Place {
    Place::new(TOPIC, partition as i32)
}

fn reference(id: RecordId, partition: u32, offset: Option<u64>) -> RecordRef<'static> {
    RecordRef {
        id: Some(id),
        topic: TOPIC,
        partition: partition as i32,
        offset: offset.map(|offset| offset as i64),
    }
}

impl History {
    pub(crate) fn play(shape: Shape) -> Self {
        let world = World::new(shape.seed);
        let mut history = Self {
            random: Random::new(shape.seed),
            cluster: Cluster::new(),
            producers: Vec::new(),
            log: vec![Vec::new(); shape.partitions as usize],
            fates: BTreeMap::new(),
            committed: BTreeMap::new(),
            sealed: Vec::new(),
            accepted: Vec::new(),
            shape,
            world,
        };
        history.produce();
        for group in 0..shape.groups {
            for partition in 0..shape.partitions {
                history.consume(group, partition);
            }
        }
        for reporter in std::mem::take(&mut history.sealed) {
            reporter.seal().unwrap();
            history.ship(&reporter);
        }
        history
    }

    fn ship(&self, reporter: &Reporter) {
        while reporter.ship(&mut *self.cluster.producer(), SECOND).unwrap() > 0 {}
    }

    fn open(&self, journal: &Journal, role: &Role, recovered: Vec<LaneEnd>) -> Reporter {
        let environment = &self.world.environment;
        let reporter = Reporter::open(journal.clone(), environment, role.clone(), recovered);
        reporter.unwrap().with_dead_letters(Some(DEAD.to_owned()))
    }

    fn produce(&mut self) {
        for (index, role) in [Role::Producer, Role::UnsafeProducer].into_iter().enumerate() {
            let journal = Journal::new(index as u64);
            let reporter = self.open(&journal, &role, Vec::new());
            self.producers.push(Producer {
                journal,
                reporter,
                role,
                next_seq: BTreeMap::new(),
                ends: BTreeMap::new(),
                unflushed: Vec::new(),
            });
        }
        for number in 0..self.shape.messages {
            let producer = self.random.below(2) as usize;
            let partition = self.random.below(u64::from(self.shape.partitions)) as u32;
            self.accept(producer, partition);
            if number % FLUSH_EVERY == 0 {
                self.flush_or_crash(producer);
            }
        }
        for producer in std::mem::take(&mut self.producers) {
            self.sealed.push(producer.reporter);
        }
    }

    fn accept(&mut self, index: usize, partition: u32) {
        let fate = self.draw_fate(index);
        let producer = &mut self.producers[index];
        let session = producer.reporter.session();
        let seq = producer.next_seq.entry(partition).or_default();
        let id = RecordId { session, lane: partition, seq: *seq };
        *seq += 1;
        self.accepted.push(id);
        let lane = LaneId { session, lane: partition };
        let end = producer.ends.entry(lane).or_insert((partition, 0, IntervalSet::new()));
        end.1 = id.seq + 1;
        producer.reporter.note(Stage::Accepted, &reference(id, partition, None));
        if fate != Fate::Fine {
            self.fates.insert(id, fate);
        }
        match fate {
            Fate::NeverSent | Fate::LeftInJournal => {
                producer.ends.get_mut(&lane).unwrap().2.insert(id.seq);
            }
            Fate::InDoubt => {
                producer.ends.get_mut(&lane).unwrap().2.insert(id.seq);
                producer.reporter.note(Stage::Sent, &reference(id, partition, None));
            }
            Fate::Rejected => {
                let reference = reference(id, partition, None);
                producer.reporter.note(Stage::Sent, &reference);
                producer.reporter.note_end(Disposition::Rejected, "too large", &reference);
            }
            _ => {
                self.send(index, id, partition, fate);
                if fate == Fate::Resent {
                    self.send(index, id, partition, fate);
                }
            }
        }
    }

    fn draw_fate(&mut self, producer: usize) -> Fate {
        if self.random.chance(self.shape.losses, 100_000) {
            let fate = Fate::LOSSES[self.random.below(Fate::LOSSES.len() as u64) as usize];
            // With a journal, what was not sent is not lost.
            let needs_unsafe = matches!(fate, Fate::NeverSent | Fate::InDoubt);
            return if needs_unsafe && producer == 0 { Fate::Fine } else { fate };
        }
        if self.random.chance(self.shape.oddities, 100_000) {
            let fate = Fate::LEGAL[self.random.below(Fate::LEGAL.len() as u64) as usize];
            return if fate == Fate::LeftInJournal && producer == 1 { Fate::Fine } else { fate };
        }
        Fate::Fine
    }

    fn send(&mut self, index: usize, id: RecordId, partition: u32, fate: Fate) {
        let target = match fate {
            Fate::BrokerLost => None,
            Fate::Misplaced => Some((partition + 1) % self.shape.partitions),
            _ => Some(partition),
        };
        let offset = match target {
            None => self.log[partition as usize].len() as u64,
            Some(target) => {
                let log = &mut self.log[target as usize];
                log.push(Stored { id, origin: partition, altered: fate == Fate::Altered });
                log.len() as u64 - 1
            }
        };
        let producer = &mut self.producers[index];
        producer.reporter.note(Stage::Sent, &reference(id, partition, None));
        if fate != Fate::Misplaced {
            producer.reporter.note(Stage::Acked, &reference(id, partition, Some(offset)));
        }
        producer.unflushed.push((id, partition));
    }

    fn flush_or_crash(&mut self, index: usize) {
        let crash = index == 0 && self.random.chance(self.shape.crashes, 1_000);
        if !crash {
            let producer = &mut self.producers[index];
            producer.reporter.flush_durable().unwrap();
            producer.unflushed.clear();
            self.ship(&self.producers[index].reporter);
            return;
        }
        let producer = &self.producers[index];
        let recovered = producer.ends.iter().map(|(lane, (partition, end, pending))| {
            let mut pending = pending.clone();
            let again = producer.unflushed.iter().map(|(id, _)| *id);
            again.filter(|id| id.session == lane.session && id.lane == lane.lane).for_each(|id| {
                pending.insert(id.seq);
            });
            LaneEnd { lane: *lane, place: place(*partition), end: *end, pending }
        });
        let recovered: Vec<LaneEnd> = recovered.collect();
        let next = self.open(&producer.journal, &producer.role, recovered);
        let producer = &mut self.producers[index];
        producer.reporter = next;
        producer.next_seq.clear();
        // What was rejected without a durable word on it is tried, and rejected, again.
        let session_before = producer.ends.clone();
        let rejected = self.fates.iter().filter(|(id, fate)| {
            let lane = LaneId { session: id.session, lane: id.lane };
            **fate == Fate::Rejected && session_before.contains_key(&lane)
        });
        for (id, _) in rejected {
            let reference = reference(*id, id.lane, None);
            producer.reporter.note_end(Disposition::Rejected, "too large", &reference);
        }
        for (id, partition) in std::mem::take(&mut producer.unflushed) {
            let fate = self.fates.get(&id).copied().unwrap_or(Fate::Fine);
            self.send(index, id, partition, fate);
        }
    }

    fn consume(&mut self, group: usize, partition: u32) {
        let role = Role::Pipeline { group: format!("group-{group}") };
        let length = self.log[partition as usize].len();
        let end = length.saturating_sub(self.shape.unconsumed);
        let journal = |member| 1_000 * (1 + group as u64) + 10 * u64::from(partition) + member;
        let journals = [1, 2].map(|member| Journal::new(journal(member)));
        let mut members: Vec<Reporter> =
            journals.iter().map(|journal| self.open(journal, &role, Vec::new())).collect();
        for member in &members {
            member.announce(&mut *self.cluster.producer(), SECOND).unwrap();
        }
        let mut confirmed: BTreeSet<RecordId> = BTreeSet::new();
        let mut from = 0;
        while from < end {
            let to = (from + 1 + self.random.below(FLUSH_EVERY as u64 * 2) as usize).min(end);
            let turn = self.random.below(2) as usize;
            let (crash_before, crash_after) = (
                self.random.chance(self.shape.crashes, 1_000),
                self.random.chance(self.shape.crashes, 1_000),
            );
            let mut seen = confirmed.clone();
            if self.shape.messages > 100_000 {
                seen = BTreeSet::new();
            }
            self.process(&members[turn], partition, from..to, &mut seen);
            if !crash_before {
                members[turn].flush_durable().unwrap();
            }
            if crash_before || crash_after {
                members[turn] = self.open(&journals[turn], &role, Vec::new());
                members[turn].announce(&mut *self.cluster.producer(), SECOND).unwrap();
            }
            if !crash_before {
                confirmed = seen;
            }
            if !crash_before && !crash_after {
                from = to;
            }
        }
        self.committed.insert((group, partition), end as u64);
        self.sealed.extend(members);
    }

    fn process(
        &mut self,
        member: &Reporter,
        partition: u32,
        range: std::ops::Range<usize>,
        seen: &mut BTreeSet<RecordId>,
    ) {
        for offset in range {
            let Stored { id, .. } = self.log[partition as usize][offset];
            let record = reference(id, partition, Some(offset as u64));
            let fate = self.fates.get(&id).copied().unwrap_or(Fate::Fine);
            if fate == Fate::Skipped {
                continue;
            }
            member.note(Stage::Delivered, &record);
            match fate {
                Fate::DeliveredOnly => {}
                Fate::ProcessedOnly => member.note(Stage::Processed, &record),
                Fate::FalseDuplicate => {
                    member.note_end(Disposition::Duplicate, "seen before", &record);
                }
                Fate::Filtered => member.note_end(Disposition::Filtered, "not wanted", &record),
                Fate::DeadLettered => {
                    member.note_end(Disposition::DeadLettered, "HTTP 400", &record);
                }
                _ if seen.contains(&id) && self.random.chance(1, 2) => {
                    member.note_end(Disposition::Duplicate, "seen before", &record);
                }
                _ => {
                    member.note(Stage::Processed, &record);
                    member.note(Stage::Confirmed, &record);
                    seen.insert(id);
                }
            }
        }
    }

    /// The receipts as they lie in the topic.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        shipped(&self.cluster)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.world.environment.clock.wall_ms()
    }

    /// Everything that the auditor would read of the topic and the groups.
    pub(crate) fn read_topics(&self, ledger: &mut Ledger) {
        for (partition, log) in self.log.iter().enumerate() {
            for (offset, stored) in log.iter().enumerate() {
                ledger.observe(&to_record(stored, partition, offset));
            }
            let watermarks = Watermarks { low: 0, high: log.len() as i64 };
            ledger.topic_was_read(&place(partition as u32), watermarks);
        }
        let mut dead = 0;
        let dead_lettered = self.fates.iter().filter(|(_, fate)| **fate == Fate::DeadLettered);
        for (id, _) in dead_lettered {
            for group in 0..self.shape.groups {
                let stored = Stored { id: *id, origin: id.lane, altered: false };
                let mut record = to_record(&stored, 0, dead);
                let group = format!("group-{group}").into();
                record.headers.push((GROUP_HEADER.to_owned(), Some(group)));
                ledger.observe_dead_letter(&record);
                dead += 1;
            }
        }
        ledger.topic_was_read(&Place::new(DEAD, 0), Watermarks { low: 0, high: dead as i64 });
        for ((group, partition), offset) in &self.committed {
            ledger.apply_committed(&format!("group-{group}"), &place(*partition), *offset);
        }
    }

    pub(crate) fn options(&self) -> VerdictOptions {
        VerdictOptions { now_ms: self.now_ms(), heard_until_ms: self.now_ms(), all_ended: false }
    }

    /// Who is to be blamed for which message, by what was done.
    pub(crate) fn losses(&self) -> BTreeMap<RecordId, Blame> {
        let last_offsets = self.last_offsets();
        let mut losses = BTreeMap::new();
        for (id, fate) in &self.fates {
            let Some((blame, at_once)) = fate.blame() else { continue };
            let committed = (0..self.shape.groups).any(|group| {
                let committed = self.committed.get(&(group, id.lane)).copied().unwrap_or(0);
                last_offsets.get(id).is_some_and(|last| *last < committed)
            });
            if at_once || committed {
                losses.insert(*id, blame);
            }
        }
        losses
    }

    fn last_offsets(&self) -> BTreeMap<RecordId, u64> {
        let mut last = BTreeMap::new();
        for (partition, log) in self.log.iter().enumerate() {
            for (offset, stored) in log.iter().enumerate() {
                let odd = self.fates.contains_key(&stored.id);
                if odd && stored.origin as usize == partition {
                    last.insert(stored.id, offset as u64);
                }
            }
        }
        last
    }

    /// Messages with which nothing more is to be done, and that arrived as they should.
    pub(crate) fn done(&self) -> BTreeSet<RecordId> {
        let mut done = BTreeSet::new();
        for (partition, log) in self.log.iter().enumerate() {
            for (offset, stored) in log.iter().enumerate() {
                let consumed = (0..self.shape.groups).all(|group| {
                    let committed = self.committed.get(&(group, partition as u32));
                    committed.is_some_and(|committed| (offset as u64) < *committed)
                });
                let fate = self.fates.get(&stored.id).copied().unwrap_or(Fate::Fine);
                if consumed && fate.blame().is_none() {
                    done.insert(stored.id);
                }
            }
        }
        done
    }

    /// Every message that was accepted.
    pub(crate) fn accepted(&self) -> &[RecordId] {
        &self.accepted
    }
}

fn to_record(stored: &Stored, partition: usize, offset: usize) -> Record {
    let value = Bytes::copy_from_slice(&stored.id.seq.to_be_bytes());
    let sum = checksum(None, Some(&value));
    let header = Header {
        id: stored.id,
        moved: false,
        transformed: false,
        binding: binding(TOPIC, stored.origin as i32),
        checksum: if stored.altered { !sum } else { sum },
    };
    Record {
        topic: TOPIC.to_owned(),
        partition: partition as i32,
        offset: offset as i64,
        value: Some(value),
        headers: vec![(HEADER_NAME.to_owned(), Some(Bytes::copy_from_slice(&header.encode())))],
        ..Record::default()
    }
}

/// Stamped ids of a list of findings, one by one.
pub(crate) fn each_id<'a>(ids: impl Iterator<Item = &'a Ids>) -> Vec<RecordId> {
    let mut all = Vec::new();
    for ids in ids {
        if let Ids::Stamped { lane, range, .. } = ids {
            all.extend((range.first..=range.last).map(|seq| RecordId {
                session: lane.session,
                lane: lane.lane,
                seq,
            }));
        }
    }
    all
}

pub(crate) fn lost_ids(verdict: &Verdict) -> BTreeMap<RecordId, Blame> {
    let mut lost = BTreeMap::new();
    for loss in &verdict.lost {
        for id in each_id(std::iter::once(&loss.ids)) {
            lost.insert(id, loss.stage);
        }
    }
    lost
}
