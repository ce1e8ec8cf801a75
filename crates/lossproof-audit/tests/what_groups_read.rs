//! Which group has to account for which topic. A group that has read another topic before was not
//! held to the one that it had begun with: nobody had read it, and the audit was complete.

use crate::support;

use lossproof_audit::auditor::{Plan, PlannedPipeline, audit};
use lossproof_audit::interval::IntervalSet;
use lossproof_audit::ledger::{Ledger, VerdictOptions};
use lossproof_audit::receipt::{Entry, Kind, LaneEnd, Mark, Place, Role, Stage};
use lossproof_audit::report::Reporter;
use lossproof_audit::verdict::{Outcome, Verdict};
use lossproof_client::Watermarks;
use lossproof_client::memory::Cluster;
use support::{Journal, LANE, NOW, PRODUCER, World, receipt, record, ship, stamped};

fn news() -> Place {
    Place::new("news", 0)
}

/// Three records of topic `news`, and a group that has committed something of topic `sports`.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    let mut seal = receipt(PRODUCER, Role::Producer, Kind::Sealed);
    seal.lane_ends.push(LaneEnd { lane: LANE, place: news(), end: 3, pending: IntervalSet::new() });
    ledger.apply(&seal);
    (0..3).for_each(|seq| ledger.observe(&stamped(PRODUCER, seq, seq as i64)));
    ledger.topic_was_read(&news(), Watermarks { low: 0, high: 3 });
    ledger.apply_committed("indexer", &Place::new("sports", 0), 7);
    ledger
}

fn judge(ledger: &Ledger) -> Verdict {
    ledger.verdict(&VerdictOptions { now_ms: NOW, heard_until_ms: NOW, all_ended: false })
}

fn assert_waits(verdict: &Verdict) {
    assert_eq!((verdict.outcome, verdict.waiting.len()), (Outcome::Waiting, 1), "{verdict:#?}");
    let waiting = &verdict.waiting[0];
    assert_eq!((waiting.group.as_deref(), waiting.ids.count()), (Some("indexer"), Some(3)));
}

/// LEDGER-9: it has got the partition, and nothing of it yet.
#[test]
fn a_group_that_has_begun_with_a_topic_reads_it() {
    let mut ledger = ledger();
    let role = Role::Pipeline { group: "indexer".to_owned() };
    let mut opened = receipt(0x99, role, Kind::Opened);
    opened.entries.push(Entry {
        mark: Mark::Began { wall_ms: NOW - 4_000 },
        lane: None,
        place: news(),
        seqs: IntervalSet::new(),
        offsets: IntervalSet::new(),
    });
    ledger.apply(&opened);
    assert_waits(&judge(&ledger));
}

/// LEDGER-9: a pipeline file says so before anybody has begun.
#[test]
fn a_group_that_is_said_to_read_a_topic_reads_it() {
    let (world, cluster) = (World::new(7), Cluster::new());
    cluster.create_topic("news", 1);
    cluster.create_topic("sports", 1);
    let producer =
        Reporter::open(Journal::new(1), &world.environment, Role::Producer, Vec::new()).unwrap();
    for seq in 0..3 {
        producer.note(Stage::Accepted, &record(producer.session(), seq, None));
        cluster.append(stamped(producer.session(), seq, 0)).unwrap();
    }
    producer.seal().unwrap();
    ship(&producer, &cluster);
    let look = |topics: &[&str]| {
        let planned = |topic: &&str| PlannedPipeline {
            group: "indexer".to_owned(),
            topic: (*topic).to_owned(),
        };
        let pipelines = topics.iter().map(planned).collect();
        let plan = Plan { pipelines, ..Plan::default() };
        audit(&mut *cluster.admin(), &*world.environment.clock, plan, None).verdict
    };
    assert_eq!(look(&["sports"]).outcome, Outcome::Complete, "nobody is said to read the news");
    assert_waits(&look(&["sports", "news"]));
    let verdict = look(&["nwes"]);
    assert_eq!(verdict.outcome, Outcome::Unknown, "a wrong name: {verdict:#?}");
}
