//! Receipts that were in the topic once, and are not any more: retention took them, compaction, or
//! somebody with a command. The audit was complete without them: it began wherever the topic began,
//! and a producer that had died with records in its journal was one that had never been.

use crate::support;

use lossproof_audit::auditor::{Plan, audit};
use lossproof_audit::ledger::{Ledger, VerdictOptions};
use lossproof_audit::receipt::{Receipt, Role, Stage};
use lossproof_audit::report::{RECEIPTS_TOPIC, Reporter};
use lossproof_audit::verdict::{Outcome, Verdict};
use lossproof_client::TopicPartition;
use lossproof_client::memory::Cluster;
use support::{Journal, World, record, ship, shipped, stamped};

fn producer(world: &World, journal: Journal) -> Reporter {
    Reporter::open(journal, &world.environment, Role::Producer, Vec::new()).unwrap()
}

/// Accepted, in the topic, acknowledged, and told.
fn produce_and_end(cluster: &Cluster, producer: &Reporter) {
    let session = producer.session();
    producer.note(Stage::Accepted, &record(session, 0, None));
    let stored = cluster.append(stamped(session, 0, 0)).unwrap();
    producer.note(Stage::Acked, &record(session, 0, Some(stored.offset)));
    producer.seal().unwrap();
    ship(producer, cluster);
}

fn receipts() -> TopicPartition {
    TopicPartition { topic: RECEIPTS_TOPIC.to_owned(), partition: 0 }
}

fn look(world: &World, cluster: &Cluster) -> Verdict {
    audit(&mut *cluster.admin(), &*world.environment.clock, Plan::default(), None).verdict
}

/// AUDIT-5
#[test]
fn what_was_removed_from_the_receipts_topic_is_unknown() {
    let (world, cluster) = (World::new(7), Cluster::new());
    cluster.create_topic("news", 1);
    cluster.create_topic(RECEIPTS_TOPIC, 1);
    let dead = producer(&world, Journal::new(1));
    dead.note(Stage::Accepted, &record(dead.session(), 0, None));
    dead.flush_durable().unwrap();
    ship(&dead, &cluster);
    let mut removed = cluster.watermarks(&receipts()).unwrap();
    produce_and_end(&cluster, &producer(&world, Journal::new(2)));
    assert_eq!(look(&world, &cluster).outcome, Outcome::Waiting, "{:#?}", look(&world, &cluster));

    cluster.delete_records(&receipts(), removed.high);
    let assert_unknown = || {
        let verdict = look(&world, &cluster);
        assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Unknown, 1), "{verdict:#?}");
        let told = verdict.unknown.iter().filter(|u| u.silent.contains("were removed"));
        assert_eq!(told.count(), 1, "once, though it is read twice: {verdict:#?}");
    };
    assert_unknown();
    // And where nothing is left at all.
    removed = cluster.watermarks(&receipts()).unwrap();
    cluster.delete_records(&receipts(), removed.high);
    assert_unknown();
}

fn verdict_on<'a>(receipts: impl Iterator<Item = &'a Receipt>) -> Verdict {
    let mut ledger = Ledger::new();
    receipts.for_each(|receipt| ledger.apply(receipt));
    let now_ms = 1_000_000;
    ledger.verdict(&VerdictOptions { now_ms, heard_until_ms: now_ms, all_ended: false })
}

/// LEDGER-8: a topic that is compacted, or was made again, begins at offset 0 all the same.
#[test]
fn an_incarnation_that_was_never_heard_of_is_unknown() {
    let (world, cluster, journal) = (World::new(7), Cluster::new(), Journal::new(1));
    cluster.create_topic("news", 1);
    for _ in 0..3 {
        let reporter = producer(&world, journal.clone());
        reporter.seal().unwrap();
        ship(&reporter, &cluster);
    }
    let told = shipped(&cluster);
    assert_eq!(verdict_on(told.iter()).outcome, Outcome::Complete);
    for missing in 0..2 {
        let verdict = verdict_on(told.iter().filter(|receipt| receipt.incarnation != missing));
        assert_eq!((verdict.outcome, verdict.unknown.len()), (Outcome::Unknown, 1), "{verdict:#?}");
        let silent = &verdict.unknown[0].silent;
        assert!(silent.contains("of 2 sessions of its journal before it 1 were"), "{silent}");
    }
    // Nothing can be said of a session after the last: only a lease tells of it.
    let verdict = verdict_on(told.iter().filter(|receipt| receipt.incarnation != 2));
    assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
}

/// A reporter that asks for the topic first makes it one that keeps everything.
#[test]
fn the_receipts_topic_is_made_without_retention() {
    let (world, cluster) = (World::new(7), Cluster::new());
    cluster.create_topic("news", 1);
    produce_and_end(&cluster, &producer(&world, Journal::new(1)));
    assert!(cluster.keeps_everything(RECEIPTS_TOPIC));
    assert!(!cluster.keeps_everything("news"), "its settings are the user's");
}
