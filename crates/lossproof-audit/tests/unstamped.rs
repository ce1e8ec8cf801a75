//! LEDGER-5, LEDGER-7: records that nobody stamped go by their offsets, and offsets begin anew with
//! a topic that is deleted and made again: which word, and which document, is about which topic.

use crate::support;

use lossproof_audit::identity::{
    GROUP_HEADER, Identity, ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_TOPIC_HEADER,
};
use lossproof_audit::interval::{Interval, IntervalSet};
use lossproof_audit::ledger::{Ledger, VerdictOptions};
use lossproof_audit::receipt::{
    Disposition, Entry, Kind, Mark, Place, Receipt, ReceiptNumber, Role, Stage,
};
use lossproof_audit::verdict::{Ids, Mechanism, Outcome, Verdict};
use lossproof_client::{Record, Watermarks};
use support::{DEAD, unstamped};

const GROUP: &str = "indexer";
const NOW: i64 = 10_000_000;
const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600_000;

fn place() -> Place {
    Place::new("news", 0)
}

fn said(mark: Mark, offsets: IntervalSet) -> Entry {
    Entry { mark, lane: None, place: place(), seqs: IntervalSet::new(), offsets }
}

fn confirmed(first: u64, last: u64) -> Entry {
    said(Mark::Reached(Stage::Confirmed), IntervalSet::of(first, last))
}

fn began(wall_ms: i64) -> Entry {
    said(Mark::Began { wall_ms }, IntervalSet::new())
}

/// A receipt of one member, which has a journal of its own.
fn receipt(member: u64, number: u64, wall_ms: i64, entries: Vec<Entry>) -> Receipt {
    Receipt {
        kind: Kind::Ongoing,
        reporter: member,
        incarnation: 0,
        session: member,
        role: Role::Pipeline { group: GROUP.to_owned() },
        wall_ms,
        lease_ms: 10_000,
        number: ReceiptNumber(number),
        merged: 0,
        lane_ends: Vec::new(),
        entries,
    }
}

fn seal(receipt: Receipt) -> Receipt {
    Receipt { kind: Kind::Sealed, ..receipt }
}

/// Ten records in the topic, and what the group has committed.
fn ledger(receipts: &[Receipt], committed: u64) -> Ledger {
    let mut ledger = Ledger::new();
    for receipt in receipts {
        ledger.apply(receipt);
    }
    (0..10).for_each(|offset| ledger.observe(&unstamped(offset)));
    ledger.topic_was_read(&place(), Watermarks { low: 0, high: 10 });
    ledger.apply_committed(GROUP, &place(), committed);
    ledger
}

fn read_sink(ledger: &mut Ledger, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        let id = Identity::Natural { topic: "news".to_owned(), partition: 0, offset };
        ledger.apply_sink_document(GROUP, &id);
    }
    ledger.sink_was_read(GROUP);
}

fn judge(ledger: &Ledger, all_ended: bool) -> Verdict {
    ledger.verdict(&VerdictOptions { now_ms: NOW, heard_until_ms: NOW, all_ended })
}

/// LEDGER-3: the verdict is the same in whatever order the receipts come.
fn judge_receipts(receipts: &[Receipt]) -> Verdict {
    let verdict = judge(&ledger(receipts, 10), false);
    let backwards: Vec<Receipt> = receipts.iter().rev().cloned().collect();
    assert_eq!(judge(&ledger(&backwards, 10), false), verdict, "LEDGER-3");
    verdict
}

fn ids(first: u64, last: u64) -> Ids {
    Ids::Natural { place: place(), range: Interval { first, last } }
}

/// A confirmed record that is not committed yet was called lost, though the sink had it.
#[test]
fn confirmed_and_in_the_sink_is_not_lost_before_it_is_committed() {
    let receipts = [receipt(1, 0, NOW, vec![confirmed(0, 9)])];
    let mut uncommitted = ledger(&receipts, 6);
    read_sink(&mut uncommitted, 0..10);
    let verdict = judge(&uncommitted, false);
    assert_eq!((verdict.outcome, &verdict.lost[..]), (Outcome::Waiting, &[][..]), "{verdict:#?}");
    assert_eq!((verdict.waiting.len(), &verdict.waiting[0].ids), (1, &ids(6, 9)), "{verdict:#?}");

    // What is not in the sink either will be read again; what is committed will not.
    let mut absent = ledger(&receipts, 6);
    read_sink(&mut absent, (0..8).filter(|offset| *offset != 4));
    let verdict = judge(&absent, false);
    assert_eq!((verdict.lost.len(), &verdict.lost[0].ids), (1, &ids(4, 4)), "{verdict:#?}");
    assert_eq!(verdict.lost[0].mechanism, Mechanism::MissingInSink);
}

/// The documents of a topic were taken for those of the one that was made after it: a pipeline
/// that commits before it processes, and dies in between, was proven complete.
#[test]
fn documents_of_an_earlier_topic_prove_nothing() {
    let unsafe_role = Role::UnsafePipeline { group: GROUP.to_owned() };
    let before = seal(receipt(1, 0, NOW - HOUR_MS, vec![began(NOW - HOUR_MS), confirmed(0, 9)]));
    let mut after = seal(receipt(2, 0, NOW, vec![began(NOW - SECOND_MS), confirmed(0, 3)]));
    after.role = unsafe_role;
    let judge = |after: &Receipt, all_ended| {
        let mut ledger = ledger(&[before.clone(), after.clone()], 10);
        read_sink(&mut ledger, 0..10);
        judge(&ledger, all_ended)
    };
    // It has said all that it had to say.
    let verdict = judge(&after, false);
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
    assert_eq!(verdict.lost[0].ids, ids(4, 9));
    // It was killed, and the documents may be its own: LEDGER-2.
    let killed = Receipt { kind: Kind::Recovered, ..after };
    for all_ended in [false, true] {
        let verdict = judge(&killed, all_ended);
        assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Unknown, 0), "{verdict:#?}");
        assert_eq!((verdict.unknown.len(), &verdict.unknown[0].ids), (1, &ids(4, 9)));
    }
}

/// Nor are they records of the topic that is shorter than they tell.
#[test]
fn documents_behind_the_end_of_the_log_are_no_records_of_it() {
    let before = seal(receipt(1, 0, NOW - HOUR_MS, vec![began(NOW - HOUR_MS), confirmed(0, 14)]));
    let after = seal(receipt(2, 0, NOW, vec![began(NOW - SECOND_MS), confirmed(0, 9)]));
    let mut ledger = ledger(&[before, after], 10);
    read_sink(&mut ledger, 0..15);
    let verdict = judge(&ledger, false);
    assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
}

/// LEDGER-7: what a member said after it had begun was taken for what it said before, where its
/// clock had been set back meanwhile, in the same session or by the next start.
#[test]
fn a_clock_that_steps_back_loses_nothing() {
    let first = receipt(1, 0, NOW, vec![began(NOW), confirmed(0, 3)]);
    let stepped = receipt(1, 1, NOW - HOUR_MS, vec![confirmed(4, 6)]);
    let mut restarted = seal(receipt(1, 0, NOW - HOUR_MS, vec![confirmed(7, 9)]));
    (restarted.session, restarted.incarnation) = (2, 1);
    let ended = Receipt { kind: Kind::Recovered, ..receipt(1, 2, NOW, Vec::new()) };
    let verdict = judge_receipts(&[first, stepped, ended, restarted]);
    assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
}

/// And forwards: what was said of the earlier topic, by a clock that was ahead then.
#[test]
fn a_clock_that_was_ahead_proves_nothing() {
    let earlier = receipt(1, 0, NOW + HOUR_MS, vec![began(NOW + HOUR_MS), confirmed(0, 9)]);
    let now = seal(receipt(1, 1, NOW, vec![began(NOW), confirmed(0, 3)]));
    let verdict = judge_receipts(&[earlier, now]);
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
    assert_eq!(verdict.lost[0].ids, ids(4, 9));
}

/// LEDGER-7: the clocks of two members are seconds apart: what the second one said after the first
/// one had begun looks as if said before, or the other way round.
#[test]
fn members_whose_clocks_differ_are_believed_only_where_it_does_not_matter() {
    let first = || seal(receipt(1, 0, NOW, vec![began(NOW), confirmed(0, 3)]));
    let second = |wall_ms| seal(receipt(2, 0, wall_ms, vec![confirmed(4, 9)]));
    // Nothing is known of an earlier topic, so that there is nothing to confuse.
    let verdict = judge_receipts(&[first(), second(NOW + SECOND_MS)]);
    assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
    // By its clock it spoke before.
    let verdict = judge_receipts(&[first(), second(NOW - 5 * SECOND_MS)]);
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Unknown, 0), "{verdict:#?}");
    assert_eq!((verdict.unknown.len(), &verdict.unknown[0].ids), (1, &ids(4, 9)));
    assert!(verdict.unknown[0].silent.contains("earlier topic"), "{verdict:#?}");
    // There was an earlier topic, and it may be what is spoken of.
    let earlier = || receipt(3, 0, NOW - HOUR_MS, vec![began(NOW - HOUR_MS), confirmed(0, 1)]);
    let earlier = seal(earlier());
    let verdict = judge_receipts(&[earlier.clone(), first(), second(NOW + SECOND_MS)]);
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Unknown, 0), "{verdict:#?}");
    // Far enough apart both ways.
    let verdict = judge_receipts(&[earlier.clone(), first(), second(NOW + HOUR_MS)]);
    assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
    let verdict = judge_receipts(&[earlier, first(), second(NOW - HOUR_MS)]);
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
    assert_eq!(verdict.lost[0].ids, ids(4, 9));
}

/// LEDGER-6: a group that reads dead letters puts one aside itself. Its headers stand behind those
/// of the first group, which were read instead: a dead letter of another group, of another topic.
#[test]
fn a_dead_letter_of_a_dead_letter_says_last_who_put_it_aside() {
    let mark = Mark::Ended { disposition: Disposition::DeadLettered, reason: "why".to_owned() };
    let mut in_dead = said(Mark::DeadLettersIn, IntervalSet::new());
    DEAD.clone_into(&mut in_dead.place.topic);
    let entries = vec![confirmed(0, 8), said(mark, IntervalSet::of(9, 9)), in_dead];
    let mut ledger = ledger(&[seal(receipt(1, 0, NOW, entries))], 10);
    let headers = [("other", "elsewhere", "3", "77"), (GROUP, "news", "0", "9")];
    let headers = headers.into_iter().flat_map(|(group, topic, partition, offset)| {
        [
            (ORIGIN_TOPIC_HEADER, topic),
            (ORIGIN_PARTITION_HEADER, partition),
            (ORIGIN_OFFSET_HEADER, offset),
            (GROUP_HEADER, group),
        ]
    });
    let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.into())));
    ledger.observe_dead_letter(&Record {
        topic: DEAD.to_owned(),
        headers: headers.collect(),
        ..unstamped(0)
    });
    ledger.topic_was_read(&Place::new(DEAD, 0), Watermarks { low: 0, high: 1 });
    let verdict = judge(&ledger, false);
    assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
}
