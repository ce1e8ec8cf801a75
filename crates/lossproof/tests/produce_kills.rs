//! The real binary against our own broker, both killed in the middle: every line that was
//! acknowledged is in the topic, each line of the file has exactly one identity, and the journal
//! is empty at the end. The topic is read from outside, by a client that knows nothing of journals.
//! The audit, which reads receipts and topic, and the judge, which gets what this test has seen,
//! must say the same.

use crate::support;

use std::collections::{BTreeMap, BTreeSet};

use lossproof_judge::{Declaration, Event, HistoryWriter, Outcome, Position, Verdict};
use support::{Acknowledged, Broker, Produce, Topic};
use support::{audit, identities, lines_file, read_topic};

const LINES: usize = 3_000;

#[test]
fn producer_and_broker_are_killed_and_every_line_arrives_under_one_identity() {
    let scratch = tempfile::tempdir().unwrap();
    let file = lines_file(scratch.path(), LINES);
    let (data, journal) = (scratch.path().join("broker"), scratch.path().join("journal"));
    let broker = Broker::start_forgetful(&data, None);
    let server = broker.server.clone();
    let arguments = ["--print-ids", "--rate", "2000", file.to_str().unwrap()];
    let mut acknowledged = BTreeMap::new();

    // The producer dies while it accepts.
    let mut first = Produce::start(&server, &journal, &arguments);
    acknowledged.extend(first.read_acknowledged(600));
    acknowledged.extend(first.kill());
    assert!(acknowledged.len() < LINES);

    // The broker dies under the second one, which waits for the third broker and ends by itself.
    let mut second = Produce::start(&server, &journal, &arguments);
    let some = second.read_acknowledged(300);
    assert!(some.keys().all(|line| !acknowledged.contains_key(line)), "accepted twice");
    acknowledged.extend(some);
    broker.kill();
    acknowledged.extend(second.read_acknowledged(300));
    let broker = Broker::start_forgetful(&data, Some(&server));
    let (rest, code) = second.finish();
    acknowledged.extend(rest);
    assert_eq!(code, Some(0));

    let delivered = identities(&read_topic(&server, "news"));
    let lines: BTreeSet<&str> = delivered.values().map(String::as_str).collect();
    assert_eq!(lines.len(), LINES, "each line is there");
    assert_eq!(delivered.len(), LINES, "and has one identity");
    for (line, id) in &acknowledged {
        assert_eq!(delivered.get(id), Some(&format!("line {line}")), "{id}");
    }

    // A third start finds nothing to do.
    let (again, code) = Produce::start(&server, &journal, &arguments).finish();
    assert_eq!((again.len(), code), (0, Some(0)));
    let topic = read_topic(&server, "news");
    assert_eq!(identities(&topic).len(), LINES);

    let (code, audited) = audit(&server);
    assert_eq!((code, audited["outcome"].as_str()), (Some(0), Some("complete")), "{audited}");
    assert_eq!(audited["stages"]["accepted"], LINES, "{audited}");
    assert_eq!(judge(&acknowledged, &topic), Verdict::Complete);
    // The judge is no yes-man: the same history without one record is a loss.
    let mut robbed = topic;
    let victim = robbed.records.iter().position(|record| record.value == "line 1").unwrap();
    robbed.records.remove(victim);
    assert_eq!(judge(&acknowledged, &robbed), Verdict::Loss);
    broker.kill();
}

/// Lines handed in, acknowledgements on standard output, the topic: nothing else.
fn judge(acknowledged: &Acknowledged, topic: &Topic) -> Verdict {
    let topics = BTreeMap::from([("news".to_owned(), topic.ranges.len() as u32)]);
    let declaration = Declaration { topics, sink: false };
    let mut history = HistoryWriter::begin(Vec::new(), declaration).unwrap();
    let mut note = |event: &Event| history.record(0, event).unwrap();
    for number in 1..=LINES as u64 {
        let value = format!("line {number}");
        note(&Event::hand_in("producer", &value));
        if let Some(identity) = acknowledged.get(&number) {
            note(&Event::Acknowledge {
                process: "producer".into(),
                value,
                outcome: Outcome::Ok,
                identity: Some(identity.clone()),
                position: None,
            });
        }
    }
    note(&Event::Crash { process: "producer".into() });
    note(&Event::Crash { process: "broker".into() });
    for record in &topic.records {
        let (partition, offset) = (record.partition as u32, record.offset);
        note(&Event::Store {
            read: "final".into(),
            position: Position { topic: "news".into(), partition, offset },
            value: record.value.clone(),
            identity: Some(record.identity.clone()),
            digest: None,
        });
    }
    for (partition, (start, end)) in &topic.ranges {
        note(&Event::read_end("final", "news", *partition as u32, *start, *end));
    }
    let history = history.end(0, "final").unwrap();
    lossproof_judge::judge(history.as_slice()).unwrap().verdict
}
