//! Records go from the topic through a service into a file; what is committed is what is there.

use crate::common;

use common::service::{Reply, Service, answer};
use common::{append, cluster, dead_letters, head, http_step, ids_in, lines_sink, place, start};
use lossproof_pipeline::flow::Counts;
use lossproof_pipeline::receipts::Fact;

/// As a service for named entities would.
fn entities() -> Reply {
    answer(200, r#"{"entities":["Ada"],"score":1.50}"#)
}

#[test]
fn every_record_ends_in_the_file_enriched_and_committed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out/news.jsonl");
    let cluster = cluster(2);
    for number in 0..200 {
        append(&cluster, number % 2, None, &format!(r#"{{"text":"n{number}","n":{number}}}"#));
    }
    let service = Service::start(|_, _| entities());
    let config = head("") + &http_step(&service.url) + &lines_sink(&path);
    let running = start(&cluster, &config);
    running.wait_committed(&cluster, 0, 100);
    running.wait_committed(&cluster, 1, 100);
    assert_eq!(running.ledger.facts_of(1, 7), [Fact::Delivered, Fact::Processed, Fact::Confirmed]);
    let summary = running.end();
    assert!(summary.is_good(), "{summary}");
    assert_eq!(summary.counts, Counts { admitted: 200, confirmed: 200, ..Counts::default() });

    let mut ids = ids_in(&path);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.contains(r#""n3""#)).unwrap();
    let id = r#"{"_id":"news-1-1","#;
    assert_eq!(
        line,
        format!(r#"{id}"text":"n3","n":3,"analysis":{{"entities":["Ada"],"score":1.50}}}}"#)
    );
    let request = service.seen().into_iter().find(|seen| seen.body.contains("n3\"")).unwrap();
    assert_eq!(request.body, r#"{"text":"n3"}"#);
    assert_eq!(request.idempotency_key.as_deref(), Some("news-1-1"));
}

#[test]
fn a_second_run_goes_on_where_the_first_was_committed_and_writes_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("news.jsonl");
    let cluster = cluster(1);
    let config = head("") + &lines_sink(&path);
    for number in 0..10 {
        append(&cluster, 0, None, &format!(r#"{{"n":{number}}}"#));
    }
    let first = start(&cluster, &config);
    first.wait_committed(&cluster, 0, 10);
    assert_eq!(first.ledger.beginnings(), [place(0)]);
    assert_eq!(first.end().counts.confirmed, 10);
    // As after a crash between the sink and the commit: the records are read again.
    cluster.set_committed(common::GROUP, &place(0), 4);
    append(&cluster, 0, None, r#"{"n":10}"#);
    let second = start(&cluster, &config);
    second.wait_committed(&cluster, 0, 11);
    assert_eq!(second.ledger.beginnings(), [], "it has committed before");
    assert_eq!(second.end().counts.confirmed, 7);
    let expected: Vec<String> = (0..11).map(|offset| format!("news-0-{offset}")).collect();
    let mut ids = ids_in(&path);
    ids.sort_by_key(|id| id.rsplit('-').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(ids, expected);
}

#[test]
fn filtered_and_mapped_records_are_accounted_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("news.jsonl");
    let cluster = cluster(1);
    for number in 0..20 {
        append(&cluster, 0, None, &format!(r#"{{"n":{number}}}"#));
    }
    let steps = "[[steps]]\nkind = \"filter\"\nkeep = '.n % 2 == 0'\nreason = \"odd\"\n\
                 [[steps]]\nkind = \"map\"\nexpression = '{double: (.n * 2)}'\n";
    let running = start(&cluster, &(head("") + steps + &lines_sink(&path)));
    running.wait_committed(&cluster, 0, 20);
    let reason = "odd".to_owned();
    assert_eq!(running.ledger.facts_of(0, 3), [Fact::Delivered, Fact::Filtered { reason }]);
    let counts = running.end().counts;
    assert_eq!((counts.confirmed, counts.filtered), (10, 10));
    assert!(std::fs::read_to_string(&path).unwrap().contains(r#""double":36"#));
}

#[test]
fn poison_of_every_kind_ends_in_the_dead_letters_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("news.jsonl");
    let cluster = cluster(1);
    let bad = ["{\"text\":\"re", "[1]", "", "{\"n\":1}", r#"{"text":"refuse"}"#, "{\"text\":\"\"}"];
    for value in bad {
        append(&cluster, 0, Some("key"), value);
    }
    append(&cluster, 0, None, &format!(r#"{{"text":"{}"}}"#, "long ".repeat(100_000)));
    let service = Service::start(|_, seen| {
        if seen.body.contains("refuse") { answer(422, "no language") } else { entities() }
    });
    let config = head("") + &http_step(&service.url) + &lines_sink(&path) + &dead_letters();
    let running = start(&cluster, &config);
    running.wait_committed(&cluster, 0, 7);
    let summary = running.end();
    assert!(summary.is_good(), "{summary}");
    // An empty text and a long one are as good as any.
    assert_eq!((summary.counts.confirmed, summary.counts.dead_lettered), (2, 5));
    let dead = cluster.records(common::DEAD);
    assert_eq!(dead.len(), 5);
    let header = |offset: &str, name: &str| {
        let of = |record: &&lossproof_client::Record| {
            let origin = ("lossproof.origin.offset".to_owned(), Some(offset.to_owned().into()));
            record.headers.contains(&origin)
        };
        let record = dead.iter().find(of).expect("a dead letter");
        let header = record.headers.iter().find(|(header, _)| header == name);
        String::from_utf8(header.unwrap().1.as_ref().unwrap().to_vec()).unwrap()
    };
    assert!(header("0", "lossproof.reason").contains("not a JSON object"));
    assert!(header("3", "lossproof.reason").contains("no field `text`"));
    assert_eq!(header("4", "lossproof.reason"), "HTTP 422: no language");
    assert_eq!(header("4", "lossproof.step"), "ner");
    assert_eq!(header("4", "lossproof.attempts"), "1");
    assert_eq!(header("4", "lossproof.origin.topic"), "news");
    assert!(dead.iter().any(|record| record.value.as_deref() == Some(b"{\"text\":\"re")));
}

#[test]
fn without_dead_letters_a_poison_record_stops_its_partition_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("news.jsonl");
    let cluster = cluster(2);
    for number in 0..10 {
        append(&cluster, 0, None, if number == 5 { "poison" } else { r#"{"a":1}"# });
        append(&cluster, 1, None, r#"{"a":1}"#);
    }
    let running = start(&cluster, &(head("mode = \"partition\"") + &lines_sink(&path)));
    running.wait_committed(&cluster, 1, 10);
    running.wait_committed(&cluster, 0, 5);
    let summary = running.end();
    assert!(!summary.is_good());
    let (stopped, reason) = summary.stopped.first().unwrap();
    assert_eq!(stopped, &place(0));
    assert!(reason.contains("not a JSON object") && reason.contains("[dead_letters]"), "{reason}");
    assert_eq!(cluster.committed(common::GROUP, &place(0)), Some(5));
    assert_eq!(summary.counts.confirmed, 15);
    assert_eq!(summary.counts.given_back, 5);
}
