//! A service that answers badly: whatever is no complete answer is a failure, and no record goes
//! on without (benthos wrote such records to the output un-enriched).

use crate::common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::service::{Gate, Reply, Seen, Service, answer, bulk, bulk_ids, raw_service};
use common::{
    DEAD, GROUP, append, bulk_sink, cluster, dead_letters, head, http_step, ids_in, lines_sink,
    place, start,
};

const NAMES: &str = r#"{"entities":[]}"#;

#[test]
fn benthos_records_go_on_unenriched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    for number in 0..40 {
        append(&cluster, 0, None, &format!(r#"{{"text":"n{number}"}}"#));
    }
    let bad = [
        answer(200, "<html><title>login</title></html>"),
        answer(200, "{\"entities\":[\"cut sh"),
        answer(200, "[]"),
        answer(200, "{\"error\":\"model not loaded\"}"),
        answer(200, ""),
        answer(204, ""),
        answer(302, ""),
        answer(429, "slow down"),
        answer(500, "<html>"),
        Reply::Answer(503, vec![("retry-after", "0".to_owned())], String::new()),
        answer(408, ""),
    ];
    let service = Service::start(move |number, _| {
        bad.get(number / 2).cloned().filter(|_| number % 2 == 0).unwrap_or(answer(200, NAMES))
    });
    // One record may get all of the bad answers.
    let head = head("workers = 4").replace("attempts = 3", "attempts = 100");
    let config = head + &http_step(&service.url) + &lines_sink(&path);
    let running = start(&cluster, &(config + &dead_letters()));
    running.wait_committed(&cluster, 0, 40);
    let counts = running.end().counts;
    assert_eq!((counts.confirmed, counts.dead_lettered), (40, 0));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.contains(r#""analysis":{"entities":[]}"#)), "{text}");
}

#[test]
fn an_answer_that_is_cut_off_or_a_closed_port_is_a_failure() {
    for cut_off in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let cluster = cluster(1);
        append(&cluster, 0, None, r#"{"text":"n"}"#);
        // The body would be whole JSON if the announced length were not believed.
        let url = raw_service(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"entities\":[]}");
        let url = if cut_off { url } else { "http://127.0.0.1:1".to_owned() };
        let running = start(&cluster, &(head("") + &http_step(&url) + &lines_sink(&path)));
        running.wait_until("time", || running.ledger.flushes() > 8);
        let summary = running.end();
        assert!(summary.is_good(), "{summary}");
        assert_eq!(summary.counts.given_back, 1);
        assert_eq!(cluster.committed(GROUP, &place(0)), None);
        assert_eq!(ids_in(&path), Vec::<String>::new());
    }
}

#[test]
fn a_service_that_hangs_is_left_after_the_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    for number in 0..10 {
        append(&cluster, 0, None, &format!(r#"{{"text":"n{number}"}}"#));
    }
    let gate = Gate::closed();
    let held = gate.clone();
    let service =
        Service::start(
            move |number, _| {
                if number < 6 { held.hold(answer(200, NAMES)) } else { answer(200, NAMES) }
            },
        );
    let step = http_step(&service.url).replace("timeout = \"5s\"", "timeout = \"50ms\"");
    let running = start(&cluster, &(head("") + &step + &lines_sink(&path)));
    running.wait_committed(&cluster, 0, 10);
    assert_eq!(running.end().counts.confirmed, 10);
    gate.open();
}

/// The negative control of the planted bug `commit-before-processing`, and of the unsafe switch.
#[test]
fn nothing_is_committed_while_its_record_is_with_the_service() {
    assert_eq!(violations_while_held(""), 0, "an offset was committed before its record was done");
    assert!(violations_while_held("unsafe_commit_before_processing = true") > 0);
}

fn violations_while_held(switch: &str) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    for number in 0..10 {
        append(&cluster, 0, None, &format!(r#"{{"text":"n{number}"}}"#));
    }
    let gate = Gate::closed();
    let held = gate.clone();
    let service = Service::start(move |_, seen: &Seen| {
        if seen.body.contains("n4") { held.hold(answer(200, NAMES)) } else { answer(200, NAMES) }
    });
    let running = start(&cluster, &(head(switch) + &http_step(&service.url) + &lines_sink(&path)));
    running.wait_until("the others", || ids_in(&path).len() == 9);
    let flushes = running.ledger.flushes();
    running.wait_until("some commits", || running.ledger.flushes() > flushes + 3);
    let violations = running.ledger.violations().len();
    gate.open();
    running.wait_committed(&cluster, 0, 10);
    if violations == 0 {
        assert!(running.end().is_good());
    } else {
        running.end_unchecked();
    }
    violations
}

/// The negative control of the planted bug `bulk-item-error-ignored`, end to end.
#[test]
fn a_document_refused_in_a_bulk_answer_is_dead_lettered_and_not_confirmed() {
    let cluster = cluster(1);
    for number in 0..30 {
        append(&cluster, 0, None, &format!(r#"{{"n":{number}}}"#));
    }
    let service = Service::start(|_, seen: &Seen| {
        bulk(seen, |_, source| if source.contains("7}") { 400 } else { 201 })
    });
    let running = start(&cluster, &(head("") + &bulk_sink(&service.url) + &dead_letters()));
    running.wait_committed(&cluster, 0, 30);
    let summary = running.end();
    assert!(summary.is_good(), "{summary}");
    assert_eq!((summary.counts.confirmed, summary.counts.dead_lettered), (27, 3));
    let reason = cluster.records(DEAD)[0].headers.clone();
    assert!(
        reason.iter().any(|(_, value)| value.as_deref() == Some(b"status 400: scripted: scripted"))
    );
}

#[test]
fn a_request_refused_for_one_document_is_halved_until_it_is_found() {
    for status in [400, 413] {
        let cluster = cluster(1);
        for number in 0..60 {
            append(&cluster, 0, None, &format!(r#"{{"n":{number}}}"#));
        }
        let service = Service::start(move |_, seen: &Seen| {
            let bad = bulk_ids(seen).iter().any(|id| id == "news-0-17" || id == "news-0-40");
            if bad { answer(status, "") } else { bulk(seen, |_, _| 201) }
        });
        let running = start(&cluster, &(head("") + &bulk_sink(&service.url) + &dead_letters()));
        running.wait_committed(&cluster, 0, 60);
        let counts = running.end().counts;
        assert_eq!((counts.confirmed, counts.dead_lettered), (58, 2), "{status}");
        assert_eq!(cluster.records(DEAD).len(), 2);
    }
}

#[test]
fn keys_stay_in_order_while_others_overtake() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    for number in 0..60 {
        let key = ["a", "b", "c"][number % 3];
        append(&cluster, 0, Some(key), &format!(r#"{{"text":"{key}","n":{number}}}"#));
    }
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let service = Service::start(move |_, seen: &Seen| {
        let fail =
            seen.body.contains("\"b\"") && count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        if fail { answer(500, "") } else { answer(200, NAMES) }
    });
    let config = head("mode = \"key\"").replace("attempts = 3", "attempts = 100");
    let running = start(&cluster, &(config + &http_step(&service.url) + &lines_sink(&path)));
    running.wait_committed(&cluster, 0, 60);
    assert!(running.end().is_good());
    let ids = ids_in(&path);
    for key in 0..3 {
        let offsets = ids.iter().map(|id| id.rsplit('-').next().unwrap().parse::<u64>().unwrap());
        let own: Vec<u64> = offsets.filter(|offset| offset % 3 == key).collect();
        assert!(own.is_sorted() && own.len() == 20, "{own:?}");
    }
}
