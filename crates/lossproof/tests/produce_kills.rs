//! The real binary against our own broker, both killed in the middle: every line that was
//! acknowledged is in the topic, each line of the file has exactly one identity, and the journal
//! is empty at the end. The topic is read from outside, by a client that knows nothing of journals.

#![allow(clippy::unwrap_used)]

mod produce_support;

use std::collections::{BTreeMap, BTreeSet};

use produce_support::{Broker, Produce, identities, lines_file, read_topic};

const LINES: usize = 3_000;

#[test]
fn producer_and_broker_are_killed_and_every_line_arrives_under_one_identity() {
    let scratch = tempfile::tempdir().unwrap();
    let file = lines_file(scratch.path(), LINES);
    let (data, journal) = (scratch.path().join("broker"), scratch.path().join("journal"));
    let broker = Broker::start(&data, None);
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
    let broker = Broker::start(&data, Some(&server));
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
    assert_eq!(identities(&read_topic(&server, "news")).len(), LINES);
    broker.kill();
}
