//! How commands end: exit codes, errors that say what to do, and nobody has to read standard output
//! to its end.

use crate::hostile::Client;
use crate::support::Broker;

use std::process::Command;

use lossproof_wire::ErrorCode;
use lossproof_wire::batch::BatchBuilder;
use rustix::process::Signal;

#[test]
fn a_reader_that_went_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut explain = Command::new(env!("CARGO_BIN_EXE_lossproof"));
    let output = explain.arg("explain").stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

/// The trap: a log line that cannot be written ends the thread that writes it.
#[test]
fn a_broker_goes_on_though_nobody_takes_its_log() {
    let scratch = tempfile::tempdir().unwrap();
    let broker = Broker::start_unheard(&scratch.path().join("data"));
    let mut client = Client::connect(&broker.server);
    client.create("t", &[]);
    let mut builder = BatchBuilder::new();
    builder.push(1, None, Some(b"value"), &[]);
    let batch = builder.build().unwrap();
    let mut damaged = batch.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let refused = client.produce("t", damaged.into());
    assert_eq!(refused.error_code, ErrorCode::CORRUPT_MESSAGE, "which is told in the log");
    assert_eq!(client.produce("t", batch).error_code, ErrorCode::NONE);
    broker.signal(Signal::TERM);
    assert_eq!(broker.end().code, Some(0));
}

/// What it said, and its exit code.
fn refused(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_lossproof")).args(arguments).output().unwrap();
    assert_eq!(output.stdout, b"", "{arguments:?}");
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// A TCP port where nobody answers: below 1024 no system gives one away by itself, and 9 (discard)
/// is served by none for decades.
const NOBODY: &str = "127.0.0.1:9";

#[test]
fn an_audit_of_a_cluster_that_is_away_says_so_in_a_few_lines() {
    let (said, code) = refused(&["audit", "status", "-b", NOBODY]);
    assert!(code == Some(1) && said.contains("error[LP4005]") && said.contains(NOBODY), "{said}");
    // librdkafka tries to connect tens of times meanwhile.
    assert!(said.lines().count() < 20, "{said}");
}

#[test]
fn an_input_that_is_not_there_is_named_before_a_cluster_is_waited_for() {
    let scratch = tempfile::tempdir().unwrap();
    let (journal, input) = (scratch.path().join("journal"), scratch.path().join("tweets.jsonl"));
    let arguments = ["produce", "-b", NOBODY, "--topic", "news", "--journal"];
    let places = [journal.to_str().unwrap(), input.to_str().unwrap()];
    let (said, code) = refused(&[&arguments[..], &places].concat());
    assert!(code == Some(1) && said.contains("error[LP2001]"), "{said}");
    assert!(said.contains("tweets.jsonl") && !journal.exists(), "{said}");
}

#[test]
fn what_the_user_wrote_wrongly_ends_with_exit_code_2() {
    for (arguments, expected) in [
        (&["explain", "LP0000"][..], "error[LP9001]"),
        (&["audit", "show", "x", "-b", NOBODY], "error[LP4002]"),
        (&["run", "/dev/null"], "error[LP3001]"),
        (&["broker", "--set", "num.partition=1", "--data", "/dev/null/x"], "error[LP1008]"),
        (&["broker", "--listen", "nowhere"], "error: invalid value"),
    ] {
        let (said, code) = refused(arguments);
        assert!(code == Some(2) && said.contains(expected), "{arguments:?}: {said}");
    }
}
