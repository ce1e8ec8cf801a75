//! A reporter loses nothing it was told: over crashes, full disks and an unreachable topic, what
//! was flushed arrives in the receipts topic; what was not flushed was not promised.

use crate::support;

use lossproof_audit::interval::IntervalSet;
use lossproof_audit::receipt::{Disposition, Kind, LaneEnd, LaneId, Mark, Place, Role, Stage};
use lossproof_audit::report::{
    FlushError, HEARTBEAT_EVERY, KEPT_RECEIPTS_MAX, NOTED_INTERVALS_MAX, RECEIPTS_TOPIC, Reporter,
    ShipError,
};
use lossproof_client::memory::{Cluster, DeliveryFault};
use support::{Journal, SECOND, World, record, ship, shipped};

fn pipeline() -> Role {
    Role::Pipeline { group: "indexer".to_owned() }
}

#[test]
fn what_was_noted_arrives_numbered_and_sealed() {
    let (world, journal, cluster) = (World::new(1), Journal::new(9), Cluster::new());
    let reporter =
        Reporter::open(journal.clone(), &world.environment, Role::Producer, Vec::new()).unwrap();
    let session = reporter.session();
    for seq in 0..100 {
        reporter.note(Stage::Accepted, &record(session, seq, None));
    }
    reporter.flush_durable().unwrap();
    for seq in 0..90 {
        reporter.note(Stage::Acked, &record(session, seq, Some(seq as i64 + 7)));
    }
    reporter.note_end(Disposition::Rejected, "too large", &record(session, 90, None));
    reporter.seal().unwrap();
    ship(&reporter, &cluster);

    let receipts = shipped(&cluster);
    let numbers: Vec<u64> = receipts.iter().map(|receipt| receipt.number.0).collect();
    let kinds: Vec<Kind> = receipts.iter().map(|receipt| receipt.kind).collect();
    assert_eq!(numbers, [0, 1, 2], "REPORT-3");
    assert_eq!(kinds, [Kind::Opened, Kind::Ongoing, Kind::Sealed], "REPORT-3");
    let seal = &receipts[2];
    let acked = seal.entries.iter().find(|entry| entry.mark == Mark::Reached(Stage::Acked));
    assert_eq!(acked.unwrap().seqs, IntervalSet::below(90));
    assert_eq!(acked.unwrap().offsets, IntervalSet::of(7, 96));
    assert_eq!(seal.lane_ends[0].end, 100);
    assert_eq!(seal.lane_ends[0].pending, IntervalSet::of(91, 99));
    assert!(journal.receipts().is_empty(), "acknowledged ones leave the journal");
    assert_eq!(reporter.flush_durable(), Err(FlushError::Sealed));
}

/// REPORT-1: a full disk is an error of the flush, and the next one brings everything.
#[test]
fn a_flush_that_fails_keeps_what_was_noted() {
    let (world, journal, cluster) = (World::new(2), Journal::new(9), Cluster::new());
    let reporter = Reporter::open(journal.clone(), &world.environment, pipeline(), vec![]).unwrap();
    assert_eq!(reporter.flush_durable(), Err(FlushError::NotAnnounced), "REPORT-5");
    reporter.announce(&mut *cluster.producer(), SECOND).unwrap();
    reporter.note(Stage::Confirmed, &record(5, 1, Some(1)));
    journal.set_full(true);
    assert!(matches!(reporter.flush_durable(), Err(FlushError::Journal { .. })));
    reporter.note(Stage::Confirmed, &record(5, 2, Some(2)));
    journal.set_full(false);
    reporter.flush_durable().unwrap();
    ship(&reporter, &cluster);
    let receipts = shipped(&cluster);
    assert_eq!(receipts.len(), 2, "one opening, one receipt");
    assert_eq!(receipts[1].entries[0].seqs, IntervalSet::of(1, 2));
}

/// REPORT-2, REPORT-3: the successor of a crashed reporter ships what that one had left in the
/// journal, and seals its session with what the journal says.
#[test]
fn a_crash_is_sealed_by_the_successor() {
    let (world, journal, cluster) = (World::new(3), Journal::new(9), Cluster::new());
    let reporter =
        Reporter::open(journal.clone(), &world.environment, Role::Producer, Vec::new()).unwrap();
    let crashed = reporter.session();
    reporter.note(Stage::Accepted, &record(crashed, 0, None));
    reporter.flush_durable().unwrap();
    reporter.note(Stage::Acked, &record(crashed, 0, Some(0)));
    drop(reporter);

    let end = LaneEnd {
        lane: LaneId { session: crashed, lane: 0 },
        place: Place::new("news", 0),
        end: 5,
        pending: IntervalSet::of(0, 4),
    };
    let next =
        Reporter::open(journal, &world.environment, Role::Producer, vec![end.clone()]).unwrap();
    ship(&next, &cluster);
    let receipts = shipped(&cluster);
    let told: Vec<_> = receipts.iter().map(|r| (r.session, r.number.0, r.kind)).collect();
    let expected = [
        (crashed, 0, Kind::Opened),
        (crashed, 1, Kind::Ongoing),
        (crashed, 2, Kind::Recovered),
        (next.session(), 0, Kind::Opened),
    ];
    assert_eq!(told, expected);
    assert_eq!(receipts[2].lane_ends, [end]);
    assert_eq!((receipts[2].incarnation, receipts[3].incarnation), (0, 1));
}

/// REPORT-2: whatever the client says but yes, the receipt is sent again.
#[test]
fn receipts_survive_a_bad_client() {
    let (world, journal, cluster) = (World::new(4), Journal::new(9), Cluster::new());
    let reporter = Reporter::open(journal.clone(), &world.environment, pipeline(), vec![]).unwrap();
    reporter.announce(&mut *cluster.producer(), SECOND).unwrap();
    for seq in 0..4 {
        reporter.note(Stage::Confirmed, &record(5, seq, Some(seq as i64)));
        reporter.flush_durable().unwrap();
    }
    cluster.script_deliveries([
        DeliveryFault::NotStored,
        DeliveryFault::UnknownNotStored,
        DeliveryFault::UnknownStored,
        DeliveryFault::FatalNotStored,
    ]);
    let mut dying = cluster.producer();
    assert!(matches!(reporter.ship(&mut *dying, SECOND), Err(ShipError::Fatal { .. })));
    assert_eq!(journal.receipts().len(), 4, "none was acknowledged, none has left");
    ship(&reporter, &cluster);
    assert!(journal.receipts().is_empty());
    let mut numbers: Vec<u64> = shipped(&cluster).iter().map(|r| r.number.0).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 3, 4], "receipt 3 was stored twice, which is no harm");
}

/// REPORT-4: while the topic is away, old receipts are merged, and nothing of them is lost.
#[test]
fn many_kept_receipts_are_merged_without_loss() {
    let (world, journal, cluster) = (World::new(5), Journal::new(9), Cluster::new());
    let reporter = Reporter::open(journal.clone(), &world.environment, pipeline(), vec![]).unwrap();
    reporter.announce(&mut *cluster.producer(), SECOND).unwrap();
    let total = KEPT_RECEIPTS_MAX as u64 * 3;
    for seq in 0..total {
        reporter.note(Stage::Confirmed, &record(5, seq * 2, Some(seq as i64)));
        reporter.flush_durable().unwrap();
        assert!(seq % 256 != 0 || journal.receipts().len() <= KEPT_RECEIPTS_MAX + 1);
    }
    assert!(journal.receipts().len() <= KEPT_RECEIPTS_MAX + 1);
    drop(reporter);
    let next = Reporter::open(journal, &world.environment, pipeline(), vec![]).unwrap();
    while next.ship(&mut *cluster.producer(), SECOND).unwrap() > 0 {}
    let (mut numbers, mut seqs) = (IntervalSet::new(), IntervalSet::new());
    for receipt in shipped(&cluster).iter().filter(|r| r.session != next.session()) {
        numbers.insert_range(receipt.number.0 - receipt.merged, receipt.number.0);
        receipt.entries.iter().for_each(|entry| seqs.union_with(&entry.seqs));
    }
    assert_eq!(numbers, IntervalSet::of(0, total + 1), "REPORT-3: with opening and seal");
    assert_eq!(seqs.count(), total);
}

/// REPORT-4: too many details become a stated unknown range.
#[test]
fn what_does_not_fit_in_memory_is_stated_as_unknown() {
    let (world, journal, cluster) = (World::new(6), Journal::new(9), Cluster::new());
    let reporter = Reporter::open(journal.clone(), &world.environment, pipeline(), vec![]).unwrap();
    reporter.announce(&mut *cluster.producer(), SECOND).unwrap();
    let records = NOTED_INTERVALS_MAX as u64;
    for number in 0..records {
        reporter.note(Stage::Confirmed, &record(5, number * 2, Some(number as i64 * 2)));
    }
    reporter.flush_durable().unwrap();
    let receipt = journal.receipts().pop().unwrap();
    let (mut told, mut unknown) = (IntervalSet::new(), IntervalSet::new());
    for entry in &receipt.entries {
        match &entry.mark {
            Mark::Unknown(Stage::Confirmed) => unknown.union_with(&entry.seqs),
            mark => {
                assert_eq!(*mark, Mark::Reached(Stage::Confirmed));
                told.union_with(&entry.seqs);
            }
        }
    }
    assert!(!unknown.is_empty());
    let noted: IntervalSet = (0..records).map(|number| number * 2).collect();
    assert!(noted.difference(&told.union(&unknown)).is_empty(), "nothing is dropped in silence");
    assert!(told.difference(&noted).is_empty(), "nothing is made up");
}

/// Else the auditor says that it has ended without a seal.
#[test]
fn a_session_with_nothing_to_tell_goes_on_saying_that_it_lives() {
    let (world, cluster) = (World::new(5), Cluster::new());
    let reporter =
        Reporter::open(Journal::new(3), &world.environment, Role::Producer, Vec::new()).unwrap();
    let mut producer = cluster.producer();
    reporter.announce(&mut *producer, SECOND).unwrap();
    let beats = || cluster.records(RECEIPTS_TOPIC).len();
    let before = beats();
    for _ in 0..10 {
        world.clock.advance(HEARTBEAT_EVERY);
        reporter.ship(&mut *producer, SECOND).unwrap();
    }
    // The last ones may still be on their way.
    assert!(beats() >= before + 8, "{} heartbeats in ten ships", beats() - before);
}
