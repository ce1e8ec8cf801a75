//! A second pipeline reads the topic in which a first one has put its dead letters. Those with a
//! header were judged in the topic that they came from only: what the second group lost of them,
//! nobody missed.

use crate::support;

use lossproof_audit::auditor::{Plan, PlannedPipeline, Query, audit};
use lossproof_audit::identity::{Identity, RecordId};
use lossproof_audit::interval::IntervalSet;
use lossproof_audit::ledger::{Ledger, VerdictOptions};
use lossproof_audit::receipt::{
    Disposition, Entry, Kind, LaneEnd, Mark, Place, Receipt, Role, Stage,
};
use lossproof_audit::verdict::{Blame, Mechanism, Outcome, Verdict};
use lossproof_client::Watermarks;
use lossproof_client::memory::Cluster;
use support::{DEAD, LANE, NOW, PRODUCER, World, dead_letter, receipt, stamped};

fn news() -> Place {
    Place::new("news", 0)
}

fn dead() -> Place {
    Place::new(DEAD, 0)
}

fn entry(mark: Mark, place: &Place, seqs: IntervalSet, offset: u64) -> Entry {
    let offsets = IntervalSet::of(offset, offset);
    Entry { mark, lane: Some(LANE), place: place.clone(), seqs, offsets }
}

fn reached(stage: Stage, place: &Place, seqs: IntervalSet) -> Entry {
    entry(Mark::Reached(stage), place, seqs, 0)
}

fn pipeline(session: u64, group: &str, entries: Vec<Entry>) -> Receipt {
    let role = Role::Pipeline { group: group.to_owned() };
    Receipt { entries, ..receipt(session, role, Kind::Sealed) }
}

fn put_aside(seq: u64) -> Entry {
    let mark = Mark::Ended { disposition: Disposition::DeadLettered, reason: "HTTP 422".into() };
    entry(mark, &news(), IntervalSet::of(seq, seq), seq)
}

fn dead_letters_in() -> Entry {
    let none = IntervalSet::new;
    Entry { mark: Mark::DeadLettersIn, lane: None, place: dead(), seqs: none(), offsets: none() }
}

/// Three records; group `indexer` has put the middle one aside, which lies in the topic of the
/// dead letters at offset 0, and of which `reader` says this much.
fn ledger(reader: &str, said: Vec<Entry>, committed: u64) -> Ledger {
    let mut ledger = Ledger::new();
    let mut producer = receipt(PRODUCER, Role::Producer, Kind::Sealed);
    let (place, pending) = (news(), IntervalSet::new());
    producer.lane_ends.push(LaneEnd { lane: LANE, place, end: 3, pending });
    ledger.apply(&producer);
    (0..3).for_each(|seq| ledger.observe(&stamped(PRODUCER, seq, seq as i64)));
    ledger.topic_was_read(&news(), Watermarks { low: 0, high: 3 });
    let mut arrived = IntervalSet::below(3);
    arrived.remove(1);
    let entries =
        vec![reached(Stage::Confirmed, &news(), arrived), put_aside(1), dead_letters_in()];
    ledger.apply(&pipeline(0x99, "indexer", entries));
    ledger.apply_committed("indexer", &news(), 3);

    ledger.apply(&pipeline(0xaa, reader, said));
    ledger.apply_committed(reader, &dead(), committed);
    let letter = dead_letter(PRODUCER, 1);
    ledger.observe(&letter);
    ledger.observe_dead_letter(&letter);
    ledger.topic_was_read(&dead(), Watermarks { low: 0, high: 1 });
    ledger
}

fn judge(ledger: &Ledger) -> Verdict {
    ledger.verdict(&VerdictOptions { now_ms: NOW, heard_until_ms: NOW, all_ended: false })
}

fn middle() -> IntervalSet {
    IntervalSet::of(1, 1)
}

/// LEDGER-10
#[test]
fn a_dead_letter_is_lost_for_a_group_that_skips_it() {
    // The same group twice, too: that it has put the record aside says nothing of its dead letter.
    for reader in ["replay", "indexer"] {
        let delivered = reached(Stage::Delivered, &dead(), middle());
        let verdict = judge(&ledger(reader, vec![delivered.clone()], 1));
        assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
        let loss = &verdict.lost[0];
        assert_eq!((loss.group.as_deref(), loss.stage), (Some(reader), Blame::Consumer));
        assert_eq!(loss.mechanism, Mechanism::CommittedBeforeProcessing);
        assert_eq!(loss.ids.to_string(), format!("{}", id()));

        let verdict = judge(&ledger(reader, vec![delivered], 0));
        assert_eq!((verdict.outcome, verdict.waiting.len()), (Outcome::Waiting, 1), "{verdict:#?}");
        let confirmed = reached(Stage::Confirmed, &dead(), middle());
        let verdict = judge(&ledger(reader, vec![confirmed], 1));
        assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
        let group = verdict.stages.groups.iter().find(|stages| stages.group == reader).unwrap();
        assert!(group.committed >= 1, "{group:#?}");
    }
}

/// LEDGER-10: a document bears the identity that the record was accepted with, replayed or not.
#[test]
fn the_sink_of_a_group_that_reads_dead_letters_decides() {
    let confirmed = || vec![reached(Stage::Confirmed, &dead(), middle())];
    let mut empty = ledger("replay", confirmed(), 1);
    empty.sink_was_read("replay");
    let verdict = judge(&empty);
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
    assert_eq!(verdict.lost[0].mechanism, Mechanism::MissingInSink);

    let mut full = ledger("replay", Vec::new(), 1);
    full.apply_sink_document("replay", &id());
    full.sink_was_read("replay");
    assert_eq!(judge(&full).outcome, Outcome::Complete, "{:#?}", judge(&full));
}

/// LEDGER-10: the way of a record goes on where its dead letter lies.
#[test]
fn the_way_of_a_dead_letter_is_shown() {
    let (world, cluster) = (World::new(7), Cluster::new());
    cluster.create_topic("news", 1);
    cluster.create_topic(DEAD, 1);
    for record in [stamped(PRODUCER, 0, 0), stamped(PRODUCER, 1, 0), dead_letter(PRODUCER, 1)] {
        cluster.append(record).unwrap();
    }
    let pipelines = [("indexer", "news"), ("replay", DEAD)]
        .map(|(group, topic)| PlannedPipeline { group: group.to_owned(), topic: topic.to_owned() });
    let (query, plan) =
        (Query::Identity(id()), Plan { pipelines: pipelines.to_vec(), ..Plan::default() });
    let found = audit(&mut *cluster.admin(), &*world.environment.clock, plan, Some(&query));
    let trace = &found.trace(&query)[0];
    let copies: Vec<_> = trace.copies.iter().map(|c| (c.topic.as_str(), c.offset)).collect();
    assert_eq!(copies, [("news", 1), (DEAD, 0)]);
    let groups: Vec<_> = trace.stages.iter().filter_map(|stage| stage.group.as_deref()).collect();
    assert!(groups.contains(&"indexer") && groups.contains(&"replay"), "{groups:?}");
    assert!(trace.findings.iter().any(|f| f.contains("waiting for group replay")), "{trace:#?}");
}

fn id() -> Identity {
    Identity::Stamped(RecordId { session: PRODUCER, lane: 0, seq: 1 })
}
