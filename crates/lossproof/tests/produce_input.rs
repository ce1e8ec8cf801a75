//! What `produce` does with its input: bad lines are named and nothing else is touched, standard
//! input is acknowledged line by line, a stop keeps what was accepted, a changed file is refused,
//! the audit knows of whoever accepts.

use crate::support;

use std::io::Write;
use std::path::Path;

use support::{Broker, Produce, audit, identities, lines_file, read_topic};

#[test]
fn bad_json_is_refused_by_name_and_the_rest_arrives() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("mixed.jsonl");
    let long = "x".repeat(1_000_000);
    let lines = ["{\"id\":1}", "{", "", "{\"id\":2}", &long, "{\"id\":3}"];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let broker = Broker::start_forgetful(&scratch.path().join("broker"), None);
    let journal = scratch.path().join("journal");
    let arguments =
        ["--print-ids", "--format", "json", "--key-field", "id", file.to_str().unwrap()];
    let produce = Produce::start(&broker.server, &journal, &arguments);
    let (acknowledged, code, talk) = produce.finish_with_talk();
    assert_eq!(code, Some(1));
    assert_eq!(acknowledged.keys().copied().collect::<Vec<_>>(), [1, 4, 6]);
    for line in ["REFUSED 2 ", "REFUSED 3 ", "REFUSED 5 ", "error[LP2004]"] {
        assert!(talk.contains(line), "{line} in {talk}");
    }
    assert_eq!(identities(&read_topic(&broker.server, "news")).len(), 3);
    broker.kill();
}

#[test]
fn without_a_broker_a_first_start_waits_and_says_so_and_a_later_one_accepts() {
    let scratch = tempfile::tempdir().unwrap();
    let file = lines_file(scratch.path(), 5);
    let journal = scratch.path().join("journal");
    let data = scratch.path().join("broker");
    let broker = Broker::start_forgetful(&data, None);
    let server = broker.server.clone();
    broker.kill();
    let mut produce = Produce::start(&server, &journal, &["--print-ids", file.to_str().unwrap()]);
    produce.wait_for_talk("nothing is accepted yet");
    let (acknowledged, code) = produce.stop();
    assert_eq!((acknowledged.len(), code), (0, Some(1)));

    let broker = Broker::start_forgetful(&data, Some(&server));
    let (acknowledged, code) =
        Produce::start(&server, &journal, &["--print-ids", file.to_str().unwrap()]).finish();
    assert_eq!((acknowledged.len(), code), (5, Some(0)));
    broker.kill();

    // Now the count is known: lines are accepted without a broker, and a stop keeps them.
    std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more\n").unwrap();
    let mut produce = Produce::start(&server, &journal, &["--print-ids", file.to_str().unwrap()]);
    assert_eq!(produce.read_acknowledged(1).keys().copied().collect::<Vec<_>>(), [6]);
    let (_, code, talk) = produce.stop_with_talk();
    assert_eq!(code, Some(1));
    assert!(talk.contains("1 accepted records wait in the journal"), "{talk}");

    let broker = Broker::start_forgetful(&data, Some(&server));
    let (acknowledged, code) =
        Produce::start(&server, &journal, &[file.to_str().unwrap()]).finish();
    assert_eq!((acknowledged.len(), code), (0, Some(0)));
    assert_eq!(identities(&read_topic(&server, "news")).len(), 6);

    std::fs::OpenOptions::new().write(true).open(&file).unwrap().write_all(b"Other").unwrap();
    let (_, code, talk) =
        Produce::start(&server, &journal, &[file.to_str().unwrap()]).finish_with_talk();
    assert_eq!(code, Some(1));
    assert!(talk.contains("error[LP2002]"), "{talk}");
    broker.kill();
}

/// Appends to `file`, and gives it to a `produce` of its own.
fn produce_more(server: &str, scratch: &Path, file: &Path, text: &str) -> (Vec<u64>, Option<i32>) {
    let mut open = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    open.write_all(text.as_bytes()).unwrap();
    let arguments = ["--print-ids", file.to_str().unwrap()];
    let produce = Produce::start(server, &scratch.join("journal"), &arguments);
    let (acknowledged, code, talk) = produce.finish_with_talk();
    assert_eq!(talk.contains("error[LP2002]"), code != Some(0), "{talk}");
    (acknowledged.into_keys().collect(), code)
}

#[test]
fn a_last_line_that_has_gone_on_since_does_not_become_two() {
    let scratch = tempfile::tempdir().unwrap();
    let broker = Broker::start_forgetful(&scratch.path().join("broker"), None);
    let (ended, went_on) = (scratch.path().join("ended"), scratch.path().join("went-on"));
    let produce =
        |file: &Path, text: &str| produce_more(&broker.server, scratch.path(), file, text);
    assert_eq!(produce(&ended, "one\ntwo"), (vec![1, 2], Some(0)));
    assert_eq!(produce(&ended, "\nthree\nfour"), (vec![3, 4], Some(0)));
    assert_eq!(produce(&ended, "\r\nfive\n"), (vec![5], Some(0)));
    assert_eq!(produce(&went_on, "six\nsev"), (vec![1, 2], Some(0)));
    assert_eq!(produce(&went_on, "en\neight\n"), (vec![], Some(1)));
    let topic = read_topic(&broker.server, "news");
    let mut values: Vec<&str> = topic.records.iter().map(|record| record.value.as_str()).collect();
    values.sort_unstable();
    assert_eq!(values, ["five", "four", "one", "sev", "six", "three", "two"]);
    broker.kill();
}

#[test]
fn standard_input_is_acknowledged_line_by_line_and_a_stop_ends_in_order() {
    let scratch = tempfile::tempdir().unwrap();
    let broker = Broker::start_forgetful(&scratch.path().join("broker"), None);
    let mut produce = Produce::start(&broker.server, &scratch.path().join("journal"), &[]);
    produce.write("one\n\u{e9}t\u{e9}\nthr");
    assert_eq!(produce.read_acknowledged(2).keys().copied().collect::<Vec<_>>(), [1, 2]);
    produce.write("ee\n");
    assert_eq!(produce.read_acknowledged(1).keys().copied().collect::<Vec<_>>(), [3]);
    let (acknowledged, code) = produce.finish();
    assert_eq!((acknowledged.len(), code), (0, Some(0)));
    let mut values: Vec<String> =
        identities(&read_topic(&broker.server, "news")).into_values().collect();
    values.sort();
    assert_eq!(values, ["one", "three", "\u{e9}t\u{e9}"]);
    broker.kill();
}

/// Killed right after its first line, it must not be as if it had never been.
#[test]
fn the_audit_knows_of_a_session_before_its_first_line_is_accepted() {
    let scratch = tempfile::tempdir().unwrap();
    let broker = Broker::start_forgetful(&scratch.path().join("broker"), None);
    let journal = scratch.path().join("journal");
    let mut first = Produce::start(&broker.server, &journal, &[]);
    first.write("one\n");
    assert_eq!(first.finish().1, Some(0));
    let (code, verdict) = audit(&broker.server);
    assert_eq!((code, verdict["sessions"].as_array().unwrap().len()), (Some(0), 1), "{verdict}");

    let mut second = Produce::start(&broker.server, &journal, &[]);
    second.write("two\n");
    second.read_acknowledged(1);
    second.kill();
    let (code, verdict) = audit(&broker.server);
    assert_eq!(verdict["sessions"].as_array().unwrap().len(), 2, "{verdict}");
    assert_ne!(code, Some(0), "{verdict}");
    broker.kill();
}
