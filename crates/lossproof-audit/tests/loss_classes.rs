//! Each kind of loss by itself: the smallest evidence that shows it, and the verdict on it.

use crate::support;

use lossproof_audit::identity::Identity;
use lossproof_audit::interval::{Interval, IntervalSet};
use lossproof_audit::ledger::{Ledger, Manifest, ManifestEntry, VerdictOptions};
use lossproof_audit::receipt::{
    Disposition, Entry, Kind, LaneEnd, Mark, Place, Receipt, ReceiptNumber, Role, Stage,
};
use lossproof_audit::verdict::{Blame, Ids, Mechanism, Outcome, SessionState, Verdict};
use lossproof_client::Watermarks;
use support::{DEAD, LANE, NOW, PRODUCER, dead_letter, receipt, stamped, unstamped};

fn place() -> Place {
    Place::new("news", 0)
}

fn pipeline_role() -> Role {
    Role::Pipeline { group: "indexer".to_owned() }
}

fn entry(mark: Mark, seqs: IntervalSet, offsets: IntervalSet) -> Entry {
    Entry { mark, lane: Some(LANE), place: place(), seqs, offsets }
}

/// Ten records accepted and sent; `acked` of them acknowledged at the offset of their number.
fn producer(acked: IntervalSet, pending: IntervalSet, role: Role) -> Receipt {
    let mut seal = receipt(PRODUCER, role, Kind::Sealed);
    seal.lane_ends.push(LaneEnd { lane: LANE, place: place(), end: 10, pending });
    let none = IntervalSet::new();
    seal.entries = vec![
        entry(Mark::Reached(Stage::Accepted), IntervalSet::below(10), none.clone()),
        entry(Mark::Reached(Stage::Sent), acked.clone(), none),
        entry(Mark::Reached(Stage::Acked), acked.clone(), acked),
    ];
    seal
}

fn stage(stage: Stage, seqs: IntervalSet) -> Entry {
    entry(Mark::Reached(stage), seqs.clone(), seqs)
}

fn pipeline(kind: Kind, entries: Vec<Entry>) -> Receipt {
    let mut seal = receipt(0x99, pipeline_role(), kind);
    seal.entries = entries;
    seal
}

fn all() -> IntervalSet {
    IntervalSet::below(10)
}

fn but(missing: u64) -> IntervalSet {
    let mut set = all();
    set.remove(missing);
    set
}

/// The topic holds these numbers, each at the offset that equals it.
fn topic(ledger: &mut Ledger, seqs: &IntervalSet) {
    for seq in seqs.numbers() {
        ledger.observe(&stamped(PRODUCER, seq, seq as i64));
    }
    ledger.topic_was_read(&place(), Watermarks { low: 0, high: 10 });
}

/// A producer that has sealed, and everything of it in the topic.
fn produced() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.apply(&producer(all(), IntervalSet::new(), Role::Producer));
    topic(&mut ledger, &all());
    ledger
}

fn options() -> VerdictOptions {
    VerdictOptions { now_ms: NOW, heard_until_ms: NOW, all_ended: false }
}

fn ended() -> VerdictOptions {
    VerdictOptions { now_ms: NOW, heard_until_ms: NOW, all_ended: true }
}

fn only(number: u64) -> Ids {
    let range = Interval { first: number, last: number };
    Ids::Stamped { lane: LANE, place: Some(place()), range }
}

fn assert_lost(verdict: &Verdict, number: u64, stage: Blame, mechanism: &Mechanism) {
    assert_eq!(verdict.outcome, Outcome::Lost, "{verdict:#?}");
    assert_eq!((verdict.lost.len(), verdict.exit_code()), (1, 3), "{verdict:#?}");
    let loss = &verdict.lost[0];
    assert_eq!((&loss.ids, loss.stage, &loss.mechanism), (&only(number), stage, mechanism));
}

#[test]
fn all_there_is_complete_without_a_group_and_with_one() {
    let mut ledger = produced();
    let verdict = ledger.verdict(&options());
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Complete, 0), "{verdict:#?}");
    ledger.apply(&pipeline(Kind::Sealed, vec![stage(Stage::Confirmed, all())]));
    ledger.apply_committed("indexer", &place(), 10);
    let verdict = ledger.verdict(&options());
    assert_eq!(verdict.outcome, Outcome::Complete, "{verdict:#?}");
    assert_eq!(verdict.stages.groups[0].confirmed, 10);
    assert_eq!(verdict.stages.groups[0].committed, 10);
}

#[test]
fn never_sent_by_a_producer_without_a_journal() {
    let mut ledger = Ledger::new();
    ledger.apply(&producer(but(4), IntervalSet::of(4, 4), Role::UnsafeProducer));
    topic(&mut ledger, &but(4));
    assert_lost(&ledger.verdict(&options()), 4, Blame::Producer, &Mechanism::NeverSent);
}

#[test]
fn what_the_journal_still_holds_is_waiting() {
    let mut ledger = Ledger::new();
    ledger.apply(&producer(but(4), IntervalSet::of(4, 4), Role::Producer));
    topic(&mut ledger, &but(4));
    let verdict = ledger.verdict(&options());
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Waiting, 1), "{verdict:#?}");
    assert_eq!(verdict.waiting[0].ids, only(4));
}

/// LEDGER-2: the seal says that it is settled, and neither log nor journal has it.
#[test]
fn neither_in_the_log_nor_in_the_journal() {
    let mut ledger = Ledger::new();
    ledger.apply(&producer(but(4), IntervalSet::new(), Role::Producer));
    topic(&mut ledger, &but(4));
    assert_lost(&ledger.verdict(&options()), 4, Blame::Producer, &Mechanism::NeverSent);
}

#[test]
fn rejected_after_it_was_accepted() {
    let mut ledger = Ledger::new();
    let mut seal = producer(but(4), IntervalSet::new(), Role::Producer);
    let reason = "too large".to_owned();
    let mark = Mark::Ended { disposition: Disposition::Rejected, reason: reason.clone() };
    seal.entries.push(entry(mark, IntervalSet::of(4, 4), IntervalSet::new()));
    ledger.apply(&seal);
    topic(&mut ledger, &but(4));
    let verdict = ledger.verdict(&options());
    assert_lost(&verdict, 4, Blame::Producer, &Mechanism::Rejected(reason));
}

#[test]
fn acknowledged_and_not_in_the_log() {
    for (missing, mechanism) in [(9, Mechanism::LogTruncated), (4, Mechanism::Replaced)] {
        let mut ledger = Ledger::new();
        ledger.apply(&producer(all(), IntervalSet::new(), Role::Producer));
        topic(&mut ledger, &but(missing));
        let high = if missing == 9 { 9 } else { 10 };
        ledger.topic_was_read(&place(), Watermarks { low: 0, high });
        let verdict = ledger.verdict(&options());
        assert_lost(&verdict, missing, Blame::Broker, &mechanism);
        assert_eq!(verdict.time_to_detect_ms(), Some(3_000), "from the last word on it");
    }
}

#[test]
fn altered_or_misplaced() {
    let mut ledger = Ledger::new();
    ledger.apply(&producer(all(), IntervalSet::new(), Role::Producer));
    topic(&mut ledger, &but(4));
    let mut record = stamped(PRODUCER, 4, 4);
    record.value = Some("other bytes".into());
    ledger.observe(&record);
    assert_lost(&ledger.verdict(&options()), 4, Blame::Broker, &Mechanism::Altered);

    let mut ledger = Ledger::new();
    ledger.apply(&producer(all(), IntervalSet::new(), Role::Producer));
    topic(&mut ledger, &but(4));
    let mut record = stamped(PRODUCER, 4, 0);
    record.topic = "sports".to_owned();
    ledger.observe(&record);
    ledger.topic_was_read(&Place::new("sports", 0), Watermarks { low: 0, high: 1 });
    let mechanism = Mechanism::Misplaced("sports-0".to_owned());
    assert_lost(&ledger.verdict(&options()), 4, Blame::Producer, &mechanism);
}

/// What a group does with record 4, all else being fine, and what is said of it.
fn consumed(evidence: Vec<Entry>, committed: u64) -> Verdict {
    let mut ledger = produced();
    let mut entries = vec![stage(Stage::Confirmed, but(4))];
    entries.extend(evidence);
    ledger.apply(&pipeline(Kind::Sealed, entries));
    ledger.apply_committed("indexer", &place(), committed);
    ledger.verdict(&options())
}

#[test]
fn committed_and_not_processed() {
    let four = || IntervalSet::of(4, 4);
    let ended = |disposition| Mark::Ended { disposition, reason: "why".to_owned() };
    let delivered = || stage(Stage::Delivered, four());
    assert_lost(&consumed(vec![], 10), 4, Blame::Consumer, &Mechanism::Skipped);
    let verdict = consumed(vec![delivered()], 10);
    assert_lost(&verdict, 4, Blame::Consumer, &Mechanism::CommittedBeforeProcessing);
    let verdict = consumed(vec![delivered(), stage(Stage::Processed, four())], 10);
    assert_lost(&verdict, 4, Blame::Sink, &Mechanism::CommittedBeforeConfirmed);
    let duplicate = entry(ended(Disposition::Duplicate), four(), four());
    let verdict = consumed(vec![delivered(), duplicate], 10);
    assert_lost(&verdict, 4, Blame::Consumer, &Mechanism::FalseDuplicate);
    for disposition in [Disposition::Filtered, Disposition::Discarded] {
        let verdict = consumed(vec![entry(ended(disposition), four(), four())], 10);
        assert_eq!(verdict.outcome, Outcome::Complete, "{disposition:?}: {verdict:#?}");
    }
}

/// LEDGER-6: that the topic of dead letters has acknowledged a record is no evidence that it
/// holds it.
#[test]
fn a_dead_letter_is_done_with_where_the_auditor_reads_it() {
    let four = || IntervalSet::of(4, 4);
    let reason = "HTTP 422".to_owned();
    let mark = Mark::Ended { disposition: Disposition::DeadLettered, reason };
    let dead = Place::new(DEAD, 0);
    let build = |topic: Option<Place>| {
        let mut ledger = produced();
        let mut entries =
            vec![stage(Stage::Confirmed, but(4)), entry(mark.clone(), four(), four())];
        let none = IntervalSet::new;
        entries.extend(topic.map(|place| Entry {
            mark: Mark::DeadLettersIn,
            lane: None,
            place,
            seqs: none(),
            offsets: none(),
        }));
        ledger.apply(&pipeline(Kind::Sealed, entries));
        ledger.apply_committed("indexer", &place(), 10);
        ledger
    };
    let topic = || Some(Place::new(DEAD, -1));
    let assert_unknown = |ledger: &Ledger, why: &str| {
        let verdict = ledger.verdict(&options());
        assert_eq!(verdict.outcome, Outcome::Unknown, "{verdict:#?}");
        assert!(verdict.unknown.iter().any(|unknown| unknown.silent.contains(why)), "{verdict:#?}");
    };
    let mut ledger = build(topic());
    ledger.topic_was_read(&dead, Watermarks { low: 0, high: 1 });
    ledger.observe_dead_letter(&dead_letter(PRODUCER, 4));
    assert_eq!(ledger.verdict(&options()).outcome, Outcome::Complete);

    let mut ledger = build(topic());
    ledger.observe_dead_letter(&dead_letter(PRODUCER, 5));
    ledger.topic_was_read(&dead, Watermarks { low: 0, high: 1 });
    let verdict = ledger.verdict(&options());
    assert_lost(&verdict, 4, Blame::Broker, &Mechanism::DeadLetterMissing);

    ledger.topic_was_read(&dead, Watermarks { low: 1, high: 2 });
    assert_unknown(&ledger, "its beginning was removed");
    assert_unknown(&build(topic()), "was not read");
    assert_unknown(&build(None), "has not named the topic");
    let mut ledger = build(topic());
    ledger.topic_is_unreadable(DEAD, "no broker".to_owned());
    assert_unknown(&ledger, "no broker");
}

/// It will be delivered again: no loss.
#[test]
fn not_committed_is_waiting() {
    let verdict = consumed(vec![stage(Stage::Processed, IntervalSet::of(4, 4))], 4);
    assert_eq!(verdict.outcome, Outcome::Waiting, "{verdict:#?}");
    assert_eq!(verdict.waiting[0].ids, only(4));
    let verdict = consumed(vec![stage(Stage::Confirmed, IntervalSet::of(4, 4))], 4);
    assert_eq!(verdict.outcome, Outcome::Complete, "confirmed, and delivered again later");
}

/// The planted bug `receipt-lost` by hand: a receipt that is missing makes its records unknown,
/// though all have arrived.
#[test]
fn a_missing_receipt_is_unknown_never_complete() {
    let mut ledger = produced();
    let mut first = pipeline(Kind::Ongoing, vec![stage(Stage::Confirmed, IntervalSet::of(0, 3))]);
    first.number = ReceiptNumber(0);
    let mut seal = pipeline(Kind::Sealed, vec![stage(Stage::Confirmed, IntervalSet::of(5, 9))]);
    seal.number = ReceiptNumber(2);
    ledger.apply(&first);
    ledger.apply(&seal);
    ledger.apply_committed("indexer", &place(), 10);
    let verdict = ledger.verdict(&options());
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Unknown, 1), "{verdict:#?}");
    assert_eq!((verdict.unknown.len(), &verdict.unknown[0].ids), (1, &only(4)));
    assert!(verdict.unknown[0].silent.contains("receipt 1 is missing"), "{verdict:#?}");
    assert_eq!(verdict.sessions[1].missing, 1);
}

#[test]
fn an_expired_session_that_nobody_sealed_is_unknown() {
    let mut ledger = produced();
    ledger.apply(&pipeline(Kind::Ongoing, vec![stage(Stage::Confirmed, but(4))]));
    ledger.apply_committed("indexer", &place(), 10);
    let verdict = ledger.verdict(&options());
    assert_eq!(verdict.outcome, Outcome::Waiting, "its lease still runs: {verdict:#?}");
    let later =
        VerdictOptions { now_ms: NOW + 20_000, heard_until_ms: NOW + 20_000, all_ended: false };
    let verdict = ledger.verdict(&later);
    assert_eq!(verdict.outcome, Outcome::Unknown, "{verdict:#?}");
    assert_eq!(verdict.unknown[0].ids, only(4));

    let mut ledger = Ledger::new();
    let mut ongoing = producer(all(), IntervalSet::new(), Role::Producer);
    ongoing.kind = Kind::Ongoing;
    ledger.apply(&ongoing);
    topic(&mut ledger, &all());
    assert_eq!(ledger.verdict(&options()).outcome, Outcome::Waiting, "it may accept more");
    let verdict = ledger.verdict(&later);
    assert_eq!(verdict.outcome, Outcome::Unknown, "its tail is not known: {verdict:#?}");
    assert_eq!(verdict.unknown[0].ids, Ids::TailOf { session: PRODUCER });
    assert_eq!(verdict.sessions[0].state, SessionState::Expired);
}

#[test]
fn a_heartbeat_tells_of_receipts_and_records_that_are_missing() {
    let mut ledger = Ledger::new();
    let mut heartbeat = receipt(PRODUCER, Role::Producer, Kind::Heartbeat);
    heartbeat.number = ReceiptNumber(3);
    let pending = IntervalSet::new();
    heartbeat.lane_ends.push(LaneEnd { lane: LANE, place: place(), end: 10, pending });
    ledger.apply(&heartbeat);
    topic(&mut ledger, &IntervalSet::below(8));
    let verdict = ledger.verdict(&options());
    assert_eq!(verdict.sessions[0].missing, 3);
    assert_eq!(verdict.stages.accepted, 10);
    let waiting = Interval { first: 8, last: 9 };
    let tail = Ids::Stamped { lane: LANE, place: Some(place()), range: waiting };
    assert!(verdict.waiting.iter().any(|waiting| waiting.ids == tail), "{verdict:#?}");
}

/// The sink was read in full, after all had ended: what is unknown for lack of a receipt is
/// settled by what is there.
#[test]
fn a_full_reading_turns_unknown_into_lost_or_found() {
    let unsafe_role = Role::UnsafePipeline { group: "indexer".to_owned() };
    let mut crashed = receipt(0x99, unsafe_role, Kind::Recovered);
    crashed.entries = vec![stage(Stage::Confirmed, IntervalSet::of(0, 2))];
    let build = || {
        let mut ledger = produced();
        ledger.apply(&crashed);
        ledger.apply_committed("indexer", &place(), 10);
        ledger
    };
    let verdict = build().verdict(&options());
    assert_eq!(verdict.outcome, Outcome::Unknown, "{verdict:#?}");
    let mut ledger = build();
    for seq in but(4).numbers() {
        ledger.apply_sink_document("indexer", &identity(seq));
    }
    ledger.sink_was_read("indexer");
    assert_lost(&ledger.verdict(&ended()), 4, Blame::Consumer, &Mechanism::Skipped);
}

#[test]
fn confirmed_and_not_in_the_sink() {
    let mut ledger = produced();
    ledger.apply(&pipeline(Kind::Sealed, vec![stage(Stage::Confirmed, all())]));
    ledger.apply_committed("indexer", &place(), 10);
    for seq in but(4).numbers() {
        ledger.apply_sink_document("indexer", &identity(seq));
    }
    ledger.sink_was_read("indexer");
    assert_lost(&ledger.verdict(&ended()), 4, Blame::Sink, &Mechanism::MissingInSink);
}

fn identity(seq: u64) -> Identity {
    Identity::Stamped(lossproof_audit::identity::RecordId { session: PRODUCER, lane: 0, seq })
}

/// Copies in the log are legal, two documents in the sink are not.
#[test]
fn copies_in_the_log_are_counted_and_copies_in_the_sink_are_duplicates() {
    let mut ledger = produced();
    ledger.observe(&stamped(PRODUCER, 4, 10));
    ledger.topic_was_read(&place(), Watermarks { low: 0, high: 11 });
    let verdict = ledger.verdict(&options());
    assert_eq!((verdict.outcome, verdict.stages.resent), (Outcome::Complete, 1), "{verdict:#?}");
    ledger.apply(&pipeline(Kind::Sealed, vec![stage(Stage::Confirmed, all())]));
    for seq in all().numbers().chain([4]) {
        ledger.apply_sink_document("indexer", &identity(seq));
    }
    ledger.sink_was_read("indexer");
    let verdict = ledger.verdict(&ended());
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Duplicates, 4), "{verdict:#?}");
    assert_eq!(verdict.duplicates[0].id, identity(4).to_string());
}

#[test]
fn the_manifest_names_what_was_never_accepted_and_what_was_accepted_twice() {
    let mut ledger = produced();
    let entry = |name: &str| ManifestEntry { name: name.to_owned(), id: None };
    ledger.set_manifest(Manifest::new(vec![entry("a"), entry("b"), entry("c")]));
    ledger.observe_name("a", identity(0));
    ledger.observe_name("b", identity(1));
    ledger.observe_name("b", identity(2));
    let verdict = ledger.verdict(&options());
    assert_eq!(verdict.outcome, Outcome::Unknown, "{verdict:#?}");
    let verdict = ledger.verdict(&ended());
    let named = Ids::Named { name: "c".to_owned() };
    assert_eq!((verdict.lost.len(), &verdict.lost[0].ids), (1, &named));
    assert_eq!(verdict.lost[0].mechanism, Mechanism::NeverAccepted);
    assert_eq!((verdict.duplicates.len(), verdict.duplicates[0].id.as_str()), (1, "b"));
}

/// A producer without a journal that was killed: the manifest knows what it had said yes to.
#[test]
fn a_manifest_with_identities_resolves_the_tail_of_a_killed_producer() {
    let mut ledger = Ledger::new();
    let mut ongoing = producer(IntervalSet::below(8), IntervalSet::new(), Role::UnsafeProducer);
    ongoing.kind = Kind::Ongoing;
    ongoing.lane_ends.clear();
    ongoing.entries[0].seqs = IntervalSet::below(8);
    ledger.apply(&ongoing);
    topic(&mut ledger, &IntervalSet::below(8));
    let entries = (0..9).map(|seq| ManifestEntry {
        name: format!("message {seq}"),
        id: Some(lossproof_audit::identity::RecordId { session: PRODUCER, lane: 0, seq }),
    });
    ledger.set_manifest(Manifest::new(entries.collect()));
    assert_lost(&ledger.verdict(&ended()), 8, Blame::Producer, &Mechanism::NeverSent);
}

/// Records that nobody stamped go by their offsets.
#[test]
fn unstamped_records_are_judged_by_offset() {
    let mut ledger = Ledger::new();
    let natural = |stage, offsets: IntervalSet| Entry {
        mark: Mark::Reached(stage),
        lane: None,
        place: place(),
        seqs: IntervalSet::new(),
        offsets,
    };
    ledger.apply(&pipeline(Kind::Sealed, vec![natural(Stage::Confirmed, but(4))]));
    for offset in 0..10 {
        ledger.observe(&unstamped(offset));
    }
    ledger.topic_was_read(&place(), Watermarks { low: 0, high: 10 });
    ledger.apply_committed("indexer", &place(), 10);
    let verdict = ledger.verdict(&options());
    let range = Interval { first: 4, last: 4 };
    assert_eq!(verdict.lost.len(), 1, "{verdict:#?}");
    assert_eq!(verdict.lost[0].ids, Ids::Natural { place: place(), range });
    assert_eq!(verdict.lost[0].mechanism, Mechanism::Skipped);
}

/// LEDGER-5: the topic was deleted and made again, with ten other records at the same offsets.
#[test]
fn the_word_on_an_unstamped_record_does_not_hold_for_a_topic_made_again() {
    let said = |mark, offsets| Entry {
        mark,
        lane: None,
        place: place(),
        seqs: IntervalSet::new(),
        offsets,
    };
    let confirmed = |offsets| said(Mark::Reached(Stage::Confirmed), offsets);
    let mut before = pipeline(Kind::Sealed, vec![confirmed(all())]);
    before.wall_ms = NOW - 5_000;
    let began = Mark::Began { wall_ms: NOW - 3_500 };
    let mut after =
        pipeline(Kind::Sealed, vec![said(began, IntervalSet::new()), confirmed(but(4))]);
    after.session = 0x9a;
    after.incarnation = 1;
    let judge = |receipts: &[&Receipt], committed: Option<u64>| {
        let mut ledger = Ledger::new();
        for receipt in receipts {
            ledger.apply(receipt);
        }
        (0..10).for_each(|offset| ledger.observe(&unstamped(offset)));
        ledger.topic_was_read(&place(), Watermarks { low: 0, high: 10 });
        ledger.add_group("indexer");
        if let Some(committed) = committed {
            ledger.apply_committed("indexer", &place(), committed);
        }
        ledger.verdict(&options())
    };
    assert_eq!(judge(&[&before], Some(10)).outcome, Outcome::Complete, "the first topic");
    // Nobody has read the second one yet: the committed offsets went with the first.
    let verdict = judge(&[&before], None);
    assert_eq!(verdict.outcome, Outcome::Waiting, "{verdict:#?}");
    // It was read, and one record of it skipped that was confirmed in the first.
    for receipts in [[&before, &after], [&after, &before]] {
        let verdict = judge(&receipts, Some(10));
        assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
        let range = Interval { first: 4, last: 4 };
        assert_eq!(verdict.lost[0].ids, Ids::Natural { place: place(), range });
    }
}

#[test]
fn a_group_that_never_reported_is_unknown() {
    let mut ledger = produced();
    ledger.apply_committed("stranger", &place(), 10);
    let verdict = ledger.verdict(&options());
    assert_eq!(verdict.outcome, Outcome::Unknown, "{verdict:#?}");
    assert_eq!(verdict.unknown[0].silent, "group stranger has never reported");
}

/// Ten accepted and acknowledged but `rejected`; the log begins at offset 3.
fn cut_at_its_start(rejected: &IntervalSet) -> Ledger {
    let mut ledger = Ledger::new();
    let acked = all().difference(rejected);
    let mut seal = producer(acked, IntervalSet::new(), Role::Producer);
    let mark = Mark::Ended { disposition: Disposition::Rejected, reason: "too large".to_owned() };
    if !rejected.is_empty() {
        seal.entries.push(entry(mark, rejected.clone(), IntervalSet::new()));
    }
    ledger.apply(&seal);
    topic(&mut ledger, &IntervalSet::of(3, 9));
    ledger.topic_was_read(&place(), Watermarks { low: 3, high: 10 });
    ledger
}

#[test]
fn a_log_that_was_cut_at_its_start_loses_what_was_not_consumed() {
    let none = IntervalSet::new();
    let mut ledger = cut_at_its_start(&none);
    ledger.apply(&pipeline(Kind::Sealed, vec![stage(Stage::Confirmed, but(2))]));
    ledger.apply_committed("indexer", &place(), 10);
    assert_lost(&ledger.verdict(&options()), 2, Blame::Consumer, &Mechanism::Removed);

    // LEDGER-1: without a group, only what the auditor has read itself is complete.
    let verdict = cut_at_its_start(&none).verdict(&options());
    assert_eq!(verdict.outcome, Outcome::Unknown, "{verdict:#?}");
    let removed = Interval { first: 0, last: 2 };
    let ids = Ids::Stamped { lane: LANE, place: Some(place()), range: removed };
    assert_eq!((verdict.unknown.len(), &verdict.unknown[0].ids), (1, &ids), "{verdict:#?}");
}

/// That the log was cut is no evidence that a record ever was in it.
#[test]
fn a_log_that_was_cut_at_its_start_excuses_no_record_that_never_was_in_it() {
    let rejected = Mechanism::Rejected("too large".to_owned());
    let mut ledger = cut_at_its_start(&IntervalSet::of(0, 0));
    ledger.apply(&pipeline(Kind::Sealed, vec![stage(Stage::Confirmed, but(0))]));
    ledger.apply_committed("indexer", &place(), 10);
    assert_lost(&ledger.verdict(&options()), 0, Blame::Producer, &rejected);
    let verdict = cut_at_its_start(&IntervalSet::of(0, 2)).verdict(&options());
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
    assert_eq!((verdict.lost[0].stage, &verdict.lost[0].mechanism), (Blame::Producer, &rejected));

    // Nobody has said of the first one that it was acknowledged.
    let mut ledger = Ledger::new();
    ledger.apply(&producer(IntervalSet::of(1, 9), IntervalSet::new(), Role::Producer));
    topic(&mut ledger, &IntervalSet::of(1, 9));
    ledger.topic_was_read(&place(), Watermarks { low: 1, high: 10 });
    assert_lost(&ledger.verdict(&options()), 0, Blame::Producer, &Mechanism::NeverSent);
}

#[test]
fn no_evidence_at_all_is_unknown() {
    assert_eq!(Ledger::new().verdict(&ended()).outcome, Outcome::Unknown);
}
