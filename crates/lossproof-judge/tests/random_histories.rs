//! Histories of any size, drawn at random, with at most one fault in them: without it the judge
//! says complete, with it the judge names exactly the value that it struck.

use std::collections::BTreeMap;

use lossproof_judge::{Declaration, Event, HistoryWriter, Outcome, Report, Verdict, judge};
use proptest::prelude::*;

const TOPIC: &str = "topic";
const PARTITIONS: u32 = 3;

/// What becomes of each line: its partition, and how many times it was sent.
#[derive(Clone, Debug)]
struct Plan {
    lines: Vec<(u32, usize)>,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    prop::collection::vec((0..PARTITIONS, 1_usize..3), 1..60).prop_map(|lines| Plan { lines })
}

fn value(line: usize) -> String {
    format!("line {line}")
}

/// The events of a run in which all goes well; the second sending of a line follows the first one
/// of all lines, as after a crash.
fn events(plan: &Plan) -> Vec<Event> {
    let mut events = Vec::new();
    for line in 0..plan.lines.len() {
        events.push(Event::hand_in("producer", value(line)));
        events.push(Event::acknowledge("producer", value(line), Outcome::Ok));
    }
    events.push(Event::Crash { process: "producer".to_owned() });
    let mut ends: BTreeMap<u32, i64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    for sending in 0..2 {
        let sent = plan.lines.iter().enumerate().filter(|(_, (_, times))| *times > sending);
        for (line, (partition, _)) in sent {
            let end = ends.get_mut(partition).unwrap();
            let mut event = Event::store("final", TOPIC, *partition, *end, value(line));
            if let Event::Store { identity, .. } = &mut event {
                *identity = Some(format!("id-{line}"));
            }
            events.push(event);
            *end += 1;
        }
    }
    for (partition, end) in ends {
        events.push(Event::read_end("final", TOPIC, partition, 0, end));
        events.push(Event::commit("group", TOPIC, partition, end));
    }
    events
        .extend((0..plan.lines.len()).map(|line| Event::index(format!("id-{line}"), value(line))));
    events
}

fn judged(events: &[Event]) -> Report {
    let declaration = Declaration { topics: [(TOPIC.to_owned(), PARTITIONS)].into(), sink: true };
    let mut writer = HistoryWriter::begin(Vec::new(), declaration).unwrap();
    for (at, event) in events.iter().enumerate() {
        writer.record(at as u64, event).unwrap();
    }
    let documents = events.iter().filter(|event| matches!(event, Event::Index { .. })).count();
    writer.record(0, &Event::SinkEnd { documents: documents as u64 }).unwrap();
    judge(writer.end(0, "final").unwrap().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn a_run_without_fault_is_complete(plan in any_plan()) {
        let report = judged(&events(&plan));
        prop_assert_eq!(report.verdict, Verdict::Complete, "{}", report);
        let resent = plan.lines.iter().filter(|(_, times)| *times > 1).count();
        prop_assert_eq!(report.counts.resent, resent as u64);
        prop_assert_eq!(report.counts.uncommitted, 0);
    }

    #[test]
    fn a_document_that_is_missing_is_named(
        plan in any_plan(),
        pick in any::<prop::sample::Index>(),
    ) {
        let line = pick.index(plan.lines.len());
        let mut events = events(&plan);
        events.retain(|event| !matches!(event, Event::Index { value: v, .. } if *v == value(line)));
        let report = judged(&events);
        prop_assert_eq!(report.verdict, Verdict::Loss);
        prop_assert_eq!(report.lost, [value(line)]);
    }

    #[test]
    fn a_document_that_is_there_twice_is_named(
        plan in any_plan(),
        pick in any::<prop::sample::Index>(),
    ) {
        let line = pick.index(plan.lines.len());
        let mut events = events(&plan);
        events.push(Event::index("other", value(line)));
        let report = judged(&events);
        prop_assert_eq!(report.verdict, Verdict::DuplicatesOnly);
        prop_assert_eq!(report.anomalies.len(), 1);
        let text = report.anomalies[0].to_string();
        prop_assert!(text.contains(&format!("'{}'", value(line))), "{}", text);
    }

    #[test]
    fn two_records_that_changed_places_break_the_order(
        plan in any_plan(),
        pick in any::<prop::sample::Index>(),
    ) {
        let mut events = events(&plan);
        let first_partition = |event: &&mut Event| {
            matches!(event, Event::Store { position, .. } if position.partition == 0)
        };
        let mut stores: Vec<&mut Event> =
            events.iter_mut().filter(first_partition).collect();
        let once = plan.lines.iter().filter(|(partition, _)| *partition == 0).count();
        prop_assume!(once >= 2);
        let at = pick.index(once - 1);
        let (left, right) = stores.split_at_mut(at + 1);
        swap_values(left[at], right[0]);
        let report = judged(&events);
        prop_assert!(report.has("nonmonotonic-send"), "{}", report);
        prop_assert_eq!(report.verdict, Verdict::Broken);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(judge(bytes.as_slice()).is_err());
    }

    /// Whatever line is taken away or torn, it is an error or a report, never a panic, and never
    /// a loss that was not one.
    #[test]
    fn a_torn_history_is_never_complete(plan in any_plan(), pick in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        let declaration =
            Declaration { topics: [(TOPIC.to_owned(), PARTITIONS)].into(), sink: true };
        let mut writer = HistoryWriter::begin(&mut bytes, declaration).unwrap();
        for event in events(&plan) {
            writer.record(0, &event).unwrap();
        }
        writer.record(0, &Event::SinkEnd { documents: plan.lines.len() as u64 }).unwrap();
        writer.end(0, "final").unwrap();
        let cut = pick.index(bytes.len() - 1);
        match judge(&bytes[..cut]) {
            Ok(report) => prop_assert_eq!(report.verdict, Verdict::Undecided),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

fn swap_values(left: &mut Event, right: &mut Event) {
    let (Event::Store { value: a, identity: x, .. }, Event::Store { value: b, identity: y, .. }) =
        (left, right)
    else {
        unreachable!("both were filtered to be stores");
    };
    std::mem::swap(a, b);
    std::mem::swap(x, y);
}
