//! The relay against a cluster that does everything wrong, and against its own death: at the end
//! every accepted record is in the topic at least once or parked by name, in each lane the first
//! occurrences are in order, and no record has two identities (RELAY-1, RELAY-3, SHIP-1 to 3).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lossproof_audit::identity::{HEADER_NAME, Header, RecordId, binding, checksum};
use lossproof_audit::receipt::{Disposition, LaneId, Mark, Receipt};
use lossproof_client::Record;
use lossproof_client::memory::{Cluster, DeliveryFault};
use lossproof_env::{Clock, Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{Log, LogConfig, StateKind};
use lossproof_relay::{ConnectError, NewRecord, Progress, Relay, Spool};

/// A relay that makes no progress fails the test instead of hanging it.
const STEPS_MAX: usize = 20_000;
const PARTITIONS: i32 = 3;

struct World {
    cluster: Cluster,
    clock: ManualClock,
    disk: SimDisk,
    environment: Environment,
    accepted: BTreeMap<RecordId, String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let cluster = Cluster::new();
        cluster.create_topic("news", PARTITIONS);
        let clock = ManualClock::new(1_000);
        let disk = SimDisk::new();
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(clock.clone()),
            rng: Arc::new(SeededRng::new(seed)),
        };
        Self { cluster, clock, disk, environment, accepted: BTreeMap::new() }
    }

    fn start(&self) -> (Arc<Spool>, Relay) {
        let (log, _) = Log::open(&self.environment, Path::new("/j"), LogConfig::small()).unwrap();
        let spool = Arc::new(Spool::open(&self.environment, log).unwrap());
        spool.set_partition_count("news", PARTITIONS).unwrap();
        let cluster = self.cluster.clone();
        let connect = Box::new(move || Ok(cluster.producer()));
        let relay = Relay::new(&self.environment, Arc::clone(&spool), connect);
        (spool, relay)
    }

    fn accept(&mut self, spool: &Spool, count: usize) {
        let first = self.accepted.len();
        let record = |number: usize| NewRecord {
            key: (number.is_multiple_of(2)).then(|| format!("key {}", number % 5).into()),
            ..NewRecord::value(format!("record {number}"))
        };
        let records: Vec<NewRecord> = (first..first + count).map(record).collect();
        let ids = spool.accept("news", &records, None).unwrap();
        for (number, id) in (first..).zip(ids) {
            let twice = self.accepted.insert(id, format!("record {number}"));
            assert_eq!(twice, None, "{id} was given twice");
        }
    }

    fn step(&self, relay: &mut Relay, steps: usize) {
        for _ in 0..steps {
            relay.step(Duration::ZERO).unwrap();
            self.clock.advance(Duration::from_millis(20));
        }
    }

    fn finish(&self, relay: &mut Relay) -> Progress {
        for _ in 0..STEPS_MAX {
            self.step(relay, 1);
            let progress = relay.progress();
            if progress.waiting == 0 && progress.is_journaled {
                return progress;
            }
        }
        panic!("no end: {relay:?}");
    }

    /// The relay dies in the middle of its work, its client with it. The journal is closed in
    /// order: what a start makes of one that was not is for the tests of the log, and
    /// `produce_kills.rs`.
    fn kill(spool: Arc<Spool>, relay: Relay) {
        drop(relay);
        spool.log().close_blocking().unwrap();
    }

    /// The disk changes one byte of this value, wherever it is in the journal.
    fn damage(&self, value: &[u8]) {
        let mut places = 0;
        for path in self.disk.paths() {
            let bytes = self.disk.bytes(&path).unwrap_or_default();
            for at in 0..bytes.len().saturating_sub(value.len()) {
                if bytes[at..].starts_with(value) {
                    self.disk.damage(&path, at as u64, b"#").unwrap();
                    places += 1;
                }
            }
        }
        assert!(places > 0, "the value is not in the journal");
    }

    /// All identities in the topic, with how often each is there; checks every record.
    fn delivered(&self, in_order: bool) -> BTreeMap<RecordId, usize> {
        let mut delivered: BTreeMap<RecordId, usize> = BTreeMap::new();
        let mut last: BTreeMap<(u64, u32), u64> = BTreeMap::new();
        for record in self.cluster.records("news") {
            let header = header(&record);
            let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
            assert_eq!(self.accepted.get(&header.id), Some(&value));
            assert_eq!(header.binding, binding("news", record.partition));
            let sum = checksum(record.key.as_deref(), record.value.as_deref());
            assert_eq!(header.checksum, sum);
            let times = delivered.entry(header.id).or_default();
            *times += 1;
            let place = (header.id.session, header.id.lane);
            if *times == 1
                && let Some(before) = last.insert(place, header.id.seq)
                && in_order
            {
                assert!(before < header.id.seq, "{} came behind {before}", header.id);
            }
        }
        delivered
    }
}

fn header(record: &Record) -> Header {
    let found = record.headers.iter().find(|(name, _)| name == HEADER_NAME).unwrap();
    Header::decode(found.1.as_ref().unwrap()).unwrap()
}

fn random_fault(random: &SeededRng, with_gaps: bool) -> DeliveryFault {
    match random.below(20) {
        0 if with_gaps => DeliveryFault::NotStored,
        1 if with_gaps => DeliveryFault::UnknownNotStored,
        2 => DeliveryFault::UnknownStored,
        3 => DeliveryFault::Duplicate,
        4 => DeliveryFault::FatalStored,
        5 => DeliveryFault::FatalNotStored,
        6 => DeliveryFault::Delay { polls: 3 },
        _ => DeliveryFault::Deliver,
    }
}

/// Accepts, ships, dies and starts again, all at random; then lets everything arrive.
fn run(seed: u64, with_gaps: bool) {
    let random = SeededRng::new(seed);
    let mut world = World::new(seed);
    world.cluster.set_queue_records_max(1 + random.below(8) as usize);
    let mut sessions = BTreeSet::new();
    for _ in 0..4 {
        let (spool, mut relay) = world.start();
        assert!(sessions.insert(spool.session()));
        let faults = (0..random.below(40)).map(|_| random_fault(&random, with_gaps));
        world.cluster.script_deliveries(faults.collect::<Vec<_>>());
        for _ in 0..random.below(5) {
            world.accept(&spool, 1 + random.below(6) as usize);
            world.cluster.set_reachable(random.below(4) > 0);
            world.step(&mut relay, random.below(4) as usize);
        }
        World::kill(spool, relay);
    }
    world.cluster.set_reachable(true);
    let (spool, mut relay) = world.start();
    world.accept(&spool, 1);
    assert_eq!(world.finish(&mut relay).parked, 0);
    let delivered = world.delivered(!with_gaps);
    let ids: BTreeSet<RecordId> = world.accepted.keys().copied().collect();
    assert_eq!(delivered.into_keys().collect::<BTreeSet<_>>(), ids, "seed {seed}");
    // Lanes of earlier sessions that are shipped do not pile up.
    assert!(spool.lanes().iter().all(|lane| lane.lane.session == spool.session()));
    spool.log().close_blocking().unwrap();
}

/// SHIP-2, RELAY-3.
#[test]
fn everything_accepted_arrives_in_order_whatever_happens() {
    (0..150).for_each(|seed| run(seed, false));
}

#[test]
fn everything_accepted_arrives_also_where_single_records_fail() {
    (1000..1150).for_each(|seed| run(seed, true));
}

/// A producer that is stopped right after it has accepted must not end as if all were delivered.
#[test]
fn what_was_accepted_last_counts_as_waiting_at_the_close() {
    let mut world = World::new(3);
    let (spool, relay) = world.start();
    world.accept(&spool, 5);
    assert_eq!(relay.close(Duration::ZERO).unwrap().waiting, 5);
}

#[test]
fn what_was_acknowledged_and_journaled_is_not_sent_again() {
    let mut world = World::new(1);
    let (spool, mut relay) = world.start();
    world.accept(&spool, 10);
    world.finish(&mut relay);
    World::kill(spool, relay);
    let (_spool, mut relay) = world.start();
    world.finish(&mut relay);
    assert!(world.delivered(true).values().all(|times| *times == 1));
    assert_eq!(world.cluster.records("news").len(), 10);
}

/// SHIP-3.
#[test]
fn a_record_refused_alone_is_parked_by_name_and_its_neighbours_arrive() {
    let mut world = World::new(2);
    let (spool, mut relay) = world.start();
    let records: Vec<NewRecord> = ["a", "poison", "c"].map(NewRecord::value).into();
    let ids = spool.accept("news", &records, None).unwrap();
    world.accepted.extend(ids.iter().copied().zip(["a", "poison", "c"].map(str::to_owned)));
    // The whole batch is refused; then "a" alone passes, "poison" alone does not, "c" does.
    world.cluster.script_deliveries([DeliveryFault::Refuse; 3]);
    world.cluster.script_deliveries([DeliveryFault::Deliver, DeliveryFault::Refuse]);
    let progress = world.finish(&mut relay);
    assert_eq!((progress.parked, progress.acked), (1, 2));
    let delivered: Vec<RecordId> = world.delivered(true).into_keys().collect();
    assert_eq!(delivered, [ids[0], ids[2]]);
    let parked: Vec<_> = spool.lanes().iter().filter_map(|lane| lane.parked.first()).collect();
    assert!(parked.is_empty(), "the spool shows what it was opened with");
    World::kill(Arc::clone(&spool), relay);

    // RELAY-1, RELAY-2: no restart sends it or forgets it, and the receipt says why.
    drop(spool);
    for _ in 0..2 {
        let (spool, mut relay) = world.start();
        assert_eq!(relay.progress().parked, 1);
        assert_eq!(world.finish(&mut relay).parked, 1);
        let lane = &spool.lanes()[0];
        assert_eq!(lane.parked.numbers().collect::<Vec<_>>(), [ids[1].seq]);
        let kept = spool.log().read(lane.id, ids[1].seq as i64, 1).unwrap();
        assert!(kept.batches[0].bytes.windows(6).any(|part| part == b"poison"));
        World::kill(spool, relay);
    }
    let (spool, _relay) = world.start();
    assert_eq!(world.delivered(true).len(), 2);
    let receipts = spool.log().state(StateKind::Receipt);
    assert!(receipts.iter().any(|(_, bytes)| bytes.windows(7).any(|part| part == b"Refuse ")
        || bytes.windows(6).any(|part| part == b"Refuse")));
}

#[test]
fn a_record_too_large_for_the_client_is_parked_and_the_rest_goes_on() {
    let mut world = World::new(3);
    world.cluster.set_record_bytes_max(6);
    let (spool, mut relay) = world.start();
    let ids = spool.accept("news", &["small", "large text", "tiny"].map(NewRecord::value), None);
    let ids = ids.unwrap();
    world.accepted.extend(ids.iter().copied().zip(["small", "", "tiny"].map(str::to_owned)));
    let progress = world.finish(&mut relay);
    assert_eq!((progress.parked, progress.acked, progress.waiting), (1, 2, 0));
}

/// Until a client has acknowledged something, each try comes later than the one before.
#[test]
fn without_a_cluster_the_records_wait_and_the_client_is_tried_again_later_and_later() {
    let mut world = World::new(4);
    let (spool, _) = world.start();
    let tries: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let is_there = Arc::new(AtomicBool::new(false));
    let (noted, answers) = (Arc::clone(&tries), Arc::clone(&is_there));
    let (clock, cluster) = (world.clock.clone(), world.cluster.clone());
    let connect = Box::new(move || {
        noted.lock().unwrap().push(clock.monotonic());
        let refused = ConnectError { detail: "not yet".into() };
        if answers.load(Ordering::Relaxed) { Ok(cluster.producer()) } else { Err(refused) }
    });
    let mut relay = Relay::new(&world.environment, Arc::clone(&spool), connect);
    world.accept(&spool, 5);
    // Ten seconds, in which progress is journaled twenty times.
    world.step(&mut relay, 500);
    assert_eq!(relay.progress().waiting, 5);
    let tries = tries.lock().unwrap().clone();
    let waits: Vec<Duration> = tries.windows(2).map(|two| two[1].saturating_sub(two[0])).collect();
    assert!(waits.is_sorted_by(|before, after| before < after), "{waits:?}");
    assert!((6..=8).contains(&tries.len()), "{waits:?}");
    is_there.store(true, Ordering::Relaxed);
    assert_eq!(world.finish(&mut relay).acked, 5);
}

/// RELAY-1: what the disk has destroyed is reported lost by its numbers, and the rest arrives.
#[test]
fn a_record_damaged_in_the_journal_is_reported_with_its_number_and_the_rest_arrives() {
    let mut world = World::new(5);
    let (spool, relay) = world.start();
    world.accept(&spool, 1);
    // Into the lane of the first record: a frame of its own, with nothing else in it.
    let damaged = NewRecord { key: Some("key 0".into()), ..NewRecord::value("the damaged one") };
    let lost = spool.accept("news", &[damaged], None).unwrap()[0];
    assert_eq!(lost.seq, 1);
    world.accept(&spool, 1);
    World::kill(spool, relay);
    world.damage(b"the damaged one");

    let (spool, mut relay) = world.start();
    let progress = world.finish(&mut relay);
    assert_eq!((progress.damaged, progress.acked, progress.waiting), (1, 2, 0));
    let receipts = spool.log().state(StateKind::Receipt);
    let receipts = receipts.iter().filter_map(|(_, bytes)| Receipt::decode(bytes).ok());
    let entries: Vec<_> = receipts.flat_map(|receipt| receipt.entries).collect();
    let ended = entries.iter().find(|entry| matches!(entry.mark, Mark::Ended { .. })).unwrap();
    assert_eq!(ended.lane, Some(LaneId { session: lost.session, lane: lost.lane }));
    assert_eq!(ended.seqs.numbers().collect::<Vec<_>>(), [lost.seq]);
    let Mark::Ended { disposition, reason } = &ended.mark else { unreachable!() };
    assert_eq!(*disposition, Disposition::Rejected);
    assert!(reason.contains("damaged in the journal"), "{reason}");
}
