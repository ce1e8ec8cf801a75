//! Other people's losses: each test does what lost records in another project and shows that
//! nothing is lost here. The consumer checks every commit (see `common::receipts`).

use crate::common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::service::{Gate, Seen, Service, answer, bulk, bulk_ids};
use common::{
    DEAD, GROUP, append, bulk_sink, cluster, dead_letters, head, head_with, http_step, ids_in,
    lines_sink, place, start, start_failing,
};
use lossproof_audit::identity::Identity;
use lossproof_client::memory::{Cluster, CommitFault, DeliveryFault};
use lossproof_client::{Record, TopicPartition};
use lossproof_pipeline::flow::{End, Flow, Limits, Mode};

const NAMES: &str = r#"{"entities":[]}"#;

fn text(number: i64) -> String {
    format!(r#"{{"text":"n{number}"}}"#)
}

fn append_texts(cluster: &Cluster, partition: i32, numbers: std::ops::Range<i64>) {
    for number in numbers {
        append(cluster, partition, None, &text(number));
    }
}

fn flow() -> Flow {
    let limits = Limits { in_flight_max: 100, partition_in_flight_max: 100 };
    let mut flow = Flow::new(Mode::Unordered, limits, false);
    flow.assign(&place(0), 0);
    flow
}

fn admit(flow: &mut Flow, offset: i64) {
    let record = Record { topic: "news".to_owned(), partition: 0, offset, ..Record::default() };
    let identity = Identity::Natural { topic: "news".to_owned(), partition: 0, offset };
    flow.admit(record, identity).expect("taken in");
}

/// Confluent Parallel Consumer #826: a revoke between poll and the selection of work committed
/// the highest offset that had been polled.
#[test]
fn parallel_consumer_826_revoke_between_poll_and_work_selection() {
    let mut flow = flow();
    (0..3).for_each(|offset| admit(&mut flow, offset));
    let first = flow.start().unwrap();
    flow.begin_leaving(&[place(0)]);
    assert!(flow.start().is_none(), "nothing new is begun on a partition that leaves");
    assert!(flow.finish(&first, End::Confirmed));
    assert_eq!(flow.committable(None), [(place(0), 1)]);
    flow.unassign(&[place(0)]);
    assert_eq!(flow.counts().given_back, 2);
}

/// kpipe, found by its own harness: a record that was being put into the set of pending ones was
/// in no set for a moment, and the commit passed it. Here many threads take in, finish and look.
#[test]
fn kpipe_commit_passes_a_record_that_is_just_taken_in() {
    const RECORDS: i64 = 4000;
    let shared = Mutex::new((flow(), BTreeSet::new()));
    std::thread::scope(|scope| {
        scope
            .spawn(|| (0..RECORDS).for_each(|offset| admit(&mut shared.lock().unwrap().0, offset)));
        for _ in 0..3 {
            scope.spawn(|| {
                while shared.lock().unwrap().1.len() < RECORDS as usize {
                    let Some(task) = shared.lock().unwrap().0.start() else { continue };
                    let mut both = shared.lock().unwrap();
                    assert!(both.0.finish(&task, End::Confirmed));
                    both.1.insert(task.ticket.offset);
                }
            });
        }
        scope.spawn(|| {
            loop {
                let both = shared.lock().unwrap();
                let committable = both.0.committable(None).first().map_or(0, |(_, offset)| *offset);
                let settled = both.1.range(..committable).count();
                assert_eq!(settled as i64, committable, "FRONTIER-1");
                if committable == RECORDS {
                    break;
                }
            }
        });
    });
}

/// kpipe, the same: a record whose dead letter could not be sent was marked as processed.
#[test]
fn kpipe_dead_letter_that_fails_counts_as_done() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = cluster(1);
    cluster.script_deliveries([
        DeliveryFault::NotStored,
        DeliveryFault::UnknownNotStored,
        DeliveryFault::FatalNotStored,
        DeliveryFault::UnknownStored,
        DeliveryFault::Deliver,
    ]);
    append(&cluster, 0, None, "poison");
    append(&cluster, 0, None, r#"{"good":1}"#);
    let sink = lines_sink(&directory.path().join("out"));
    let running = start(&cluster, &(head("") + &sink + &dead_letters()));
    running.wait_committed(&cluster, 0, 2);
    let counts = running.end().counts;
    assert_eq!((counts.dead_lettered, counts.confirmed), (1, 1));
    // Once with unknown outcome and once acknowledged: twice there, under one origin.
    assert_eq!(cluster.records(DEAD).len(), 2);
    assert!(cluster.producers_made() >= 2, "a dead client is replaced");
}

/// And where the dead-letter topic refuses it for good, the partition stops.
#[test]
fn a_dead_letter_that_is_refused_stops_the_partition() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = cluster(1);
    cluster.script_deliveries([DeliveryFault::Refuse, DeliveryFault::Refuse]);
    append(&cluster, 0, None, r#"{"good":1}"#);
    append(&cluster, 0, None, "poison");
    let sink = lines_sink(&directory.path().join("out"));
    // One at a time: the stop of a partition ends what else runs there.
    let running = start(&cluster, &(head("mode = \"partition\"") + &sink + &dead_letters()));
    running.wait_committed(&cluster, 0, 1);
    let flushes = running.ledger.flushes();
    running.wait_until("the stop", || running.ledger.flushes() > flushes + 5);
    let summary = running.end();
    assert!(!summary.is_good() && summary.stopped[0].1.contains("refuses"), "{summary}");
    assert_eq!(cluster.committed(GROUP, &place(0)), Some(1));
}

/// A cluster refuses a whole batch for one record in it. Here both letters are refused, and only
/// one of them also when it is sent alone: the partition of the other goes on.
#[test]
fn a_dead_letter_refused_for_its_neighbour_is_sent_alone() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = cluster(2);
    let refuse = DeliveryFault::Refuse;
    cluster.script_deliveries([refuse, refuse, refuse, DeliveryFault::Deliver]);
    append(&cluster, 0, None, "poison");
    append(&cluster, 1, None, "poison");
    let sink = lines_sink(&directory.path().join("out"));
    let running = start(&cluster, &(head("") + &sink + &dead_letters()));
    running.wait_until("both", || {
        let committed = |partition| cluster.committed(GROUP, &place(partition)) == Some(1);
        running.ledger.flushes() > 5 && (committed(0) || committed(1))
    });
    let summary = running.end();
    assert_eq!((summary.stopped.len(), summary.counts.dead_lettered), (1, 1), "{summary}");
    assert_eq!(cluster.records(DEAD).len(), 1);
}

/// kpipe, the same: the breaker did not see failures of whole batches. With a breaker that stays
/// open, a failing server gets a handful of requests and no more, on both paths.
#[test]
fn kpipe_breaker_blind_to_batches() {
    let refuse = || Service::start(|_, _| answer(503, "overloaded"));
    let breaker = "open = \"1h\"\nopen_max = \"1h\"\nconsecutive_max = 3";
    for batches in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let cluster = cluster(1);
        append_texts(&cluster, 0, 0..300);
        let service = refuse();
        let rest = if batches {
            bulk_sink(&service.url)
        } else {
            http_step(&service.url) + &lines_sink(&directory.path().join("out"))
        };
        let config = head_with("workers = 4", breaker) + &rest + &dead_letters();
        let running = start(&cluster, &config);
        running.wait_until("three failures", || service.seen().len() >= 3);
        let flushes = running.ledger.flushes();
        running.wait_until("time goes by", || running.ledger.flushes() > flushes + 5);
        let summary = running.end();
        assert!(service.seen().len() <= 7, "{} requests", service.seen().len());
        assert!(summary.is_good(), "{summary}");
        assert_eq!(summary.counts.confirmed + summary.counts.dead_lettered, 0);
        assert_eq!(cluster.committed(GROUP, &place(0)), None);
    }
}

/// Redpanda Connect #4009: partitions that were revoked lost what waited in the batcher. And
/// #4477: acknowledgements that came after the revoke were committed.
#[test]
fn redpanda_connect_4009_and_4477_batches_in_flight_at_a_revoke() {
    let cluster = cluster(3);
    for number in 0..90 {
        append(&cluster, number % 3, None, &text(i64::from(number)));
    }
    let gate = Gate::closed();
    let (held, stored) = (gate.clone(), Arc::new(Mutex::new(BTreeSet::new())));
    let index = Arc::clone(&stored);
    let service = Service::start(move |number, seen: &Seen| {
        index.lock().unwrap().extend(bulk_ids(seen));
        let reply = bulk(seen, |_, _| 201);
        // The first two requests are answered only after their partitions are gone.
        if number < 2 { held.hold(reply) } else { reply }
    });
    let source = "revoke_wait = \"50ms\"";
    let config = head("").replace("revoke_wait = \"2s\"", source) + &bulk_sink(&service.url);
    let running = start(&cluster, &config);
    running.wait_until("two requests", || service.seen().len() >= 2);
    cluster.revoke(GROUP);
    running.wait_until("the revoke", || running.ledger.revokes() == 1);
    gate.open();
    (0..3).for_each(|partition| running.wait_committed(&cluster, partition, 30));
    let summary = running.end();
    assert!(summary.is_good(), "{summary}");
    assert_eq!(stored.lock().unwrap().len(), 90);
    assert!(summary.counts.given_back > 0, "the revoke came too late to matter: {summary}");
}

/// FLOW-2, the same without a clock: a result of an assignment that has ended.
#[test]
fn a_result_that_comes_after_the_revoke_is_discarded() {
    let mut flow = flow();
    admit(&mut flow, 0);
    let old = flow.start().unwrap();
    flow.begin_leaving(&[place(0)]);
    flow.unassign(&[place(0)]);
    flow.assign(&place(0), 0);
    admit(&mut flow, 0);
    assert!(!flow.finish(&old, End::Confirmed));
    assert_eq!(flow.committable(None), []);
    let new = flow.start().unwrap();
    assert!(flow.finish(&new, End::Confirmed));
    assert_eq!(flow.committable(None), [(place(0), 1)]);
    assert_eq!(flow.counts().confirmed, 1);
}

/// Vector #24543 and #24215: a rejected event was skipped, and the next one that was delivered
/// moved the offset past it. With 401 and 403 it is not the record's fault either: it is held.
#[test]
fn vector_24543_rejected_then_delivered() {
    let cluster = cluster(1);
    append_texts(&cluster, 0, 0..20);
    let allowed = Arc::new(AtomicBool::new(false));
    let (switch, refused) = (Arc::clone(&allowed), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&refused);
    let service = Service::start(move |_, seen: &Seen| {
        bulk(seen, |id, _| {
            if id == "news-0-3" && !switch.load(Ordering::SeqCst) {
                count.fetch_add(1, Ordering::SeqCst);
                return 403;
            }
            201
        })
    });
    let running = start(&cluster, &(head("") + &bulk_sink(&service.url) + &dead_letters()));
    running.wait_committed(&cluster, 0, 3);
    // Far more often than attempts are allowed.
    running.wait_until("ten tries", || refused.load(Ordering::SeqCst) > 10);
    assert_eq!(cluster.committed(GROUP, &place(0)), Some(3));
    allowed.store(true, Ordering::SeqCst);
    running.wait_committed(&cluster, 0, 20);
    let summary = running.end();
    assert_eq!((summary.counts.confirmed, summary.counts.dead_lettered), (20, 0));
}

/// Spring Kafka: ten deliveries, then the record is logged and its offset committed. Here the
/// partition stops where there is nowhere to put it.
#[test]
fn spring_kafka_ten_tries_then_committed() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = cluster(2);
    append(&cluster, 0, None, r#"{"text":"bad"}"#);
    let service = Service::start(|_, seen: &Seen| {
        if seen.body.contains("bad") { answer(500, "crash") } else { answer(200, NAMES) }
    });
    let sink = lines_sink(&directory.path().join("out"));
    let running = start(&cluster, &(head("") + &http_step(&service.url) + &sink));
    let mut sent = 0;
    running.wait_until("the stop", || {
        // Others pass all the time: that is what the record is charged for.
        sent += 1;
        append(&cluster, 1, None, &text(sent));
        let tries = service.seen().iter().filter(|seen| seen.body.contains("bad")).count();
        let committed = cluster.committed(GROUP, &place(1)).unwrap_or(0);
        tries >= 3 && committed > 0 && running.ledger.flushes() > 3
    });
    running.wait_committed(&cluster, 1, sent);
    let summary = running.end();
    assert_eq!(cluster.committed(GROUP, &place(0)), None);
    assert!(summary.stopped[0].1.contains("attempts used up: HTTP 500"), "{summary}");
}

/// The other side of it: while nobody passes, no record is charged, however often it is tried.
#[test]
fn an_outage_makes_no_dead_letters() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    append_texts(&cluster, 0, 0..50);
    let service =
        Service::start(|number, _| if number < 150 { answer(500, "") } else { answer(200, NAMES) });
    let config = head("workers = 8") + &http_step(&service.url) + &lines_sink(&path);
    let running = start(&cluster, &(config + &dead_letters()));
    running.wait_committed(&cluster, 0, 50);
    let summary = running.end();
    assert_eq!((summary.counts.confirmed, summary.counts.dead_lettered), (50, 0), "{summary}");
    assert_eq!(ids_in(&path).len(), 50);
}

/// Kafka Connect's Elasticsearch sink: one document refused with 429 failed the whole task.
#[test]
fn connect_elasticsearch_429_of_one_document() {
    let cluster = cluster(1);
    append_texts(&cluster, 0, 0..20);
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let service = Service::start(move |_, seen: &Seen| {
        bulk(seen, |id, _| {
            // More often than attempts are allowed: a full queue is not the record's fault.
            let refuse = id == "news-0-7" && count.fetch_add(1, Ordering::SeqCst) < 6;
            if refuse { 429 } else { 201 }
        })
    });
    let running = start(&cluster, &(head("") + &bulk_sink(&service.url) + &dead_letters()));
    running.wait_committed(&cluster, 0, 20);
    let summary = running.end();
    assert_eq!((summary.counts.confirmed, summary.counts.dead_lettered), (20, 0), "{summary}");
    let mut sent: Vec<String> = service.seen().iter().flat_map(bulk_ids).collect();
    sent.retain(|id| id != "news-0-7");
    assert_eq!(sent.len(), 19, "the others went once");
}

/// Kafka Connect's Elasticsearch sink: when a topic was deleted and made again, offsets began
/// anew, each document met a conflict, and was ignored without a word; or it overwrote the one of
/// the first topic.
#[test]
fn connect_elasticsearch_conflict_after_the_topic_was_made_again() {
    for operation in ["create", "index"] {
        let cluster = cluster(1);
        append(&cluster, 0, None, r#"{"text":"old and the same"}"#);
        append(&cluster, 0, None, r#"{"text":"new"}"#);
        append(&cluster, 0, None, r#"{"text":"fresh"}"#);
        let service = Service::start(|_, seen: &Seen| match seen.path.as_str() {
            "/news/_doc/news-0-0" => {
                answer(200, r#"{"found":true,"_source":{"text":"old and the same"}}"#)
            }
            "/news/_doc/news-0-1" => answer(200, r#"{"found":true,"_source":{"text":"old"}}"#),
            _ => {
                let overwrites = seen.body.starts_with(r#"{"index""#);
                bulk(seen, |id, _| if overwrites || id == "news-0-2" { 201 } else { 409 })
            }
        });
        let sink = format!("{}operation = \"{operation}\"\n", bulk_sink(&service.url));
        let running = start(&cluster, &(head("") + &sink + &dead_letters()));
        running.wait_committed(&cluster, 0, 3);
        let summary = running.end();
        assert_eq!((summary.counts.confirmed, summary.counts.dead_lettered), (2, 1), "{summary}");
        let dead = cluster.records(DEAD);
        assert_eq!(dead[0].value.as_deref(), Some(&br#"{"text":"new"}"#[..]));
    }
}

/// LINES-4, the same with a file: the line of the first topic stays, and the record is not taken
/// for it.
#[test]
fn a_file_does_not_take_a_record_of_a_topic_made_again_for_the_one_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let config = head("") + &lines_sink(&path) + &dead_letters();
    let first = cluster(1);
    append_texts(&first, 0, 0..10);
    let running = start(&first, &config);
    running.wait_committed(&first, 0, 10);
    assert!(running.end().is_good());
    let lines = std::fs::read(&path).unwrap();

    let again = cluster(1);
    append_texts(&again, 0, 0..1);
    append_texts(&again, 0, 101..110);
    let running = start(&again, &config);
    running.wait_committed(&again, 0, 10);
    let counts = running.end().counts;
    assert_eq!((counts.confirmed, counts.dead_lettered), (1, 9));
    assert_eq!(again.records(DEAD).len(), 9);
    assert_eq!(std::fs::read(&path).unwrap(), lines);
}

/// Confluent Parallel Consumer #409: after an offset out of range the old offset was committed
/// again; librdkafka's default jumps to the end. Here the partition stops and says so (POLL-2).
#[test]
fn parallel_consumer_409_offset_out_of_range() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(3);
    for number in 0..30 {
        append(&cluster, number % 3, None, &text(i64::from(number)));
    }
    let at = |partition| TopicPartition { topic: "news".to_owned(), partition };
    cluster.set_committed(GROUP, &at(0), 2);
    cluster.delete_records(&at(0), 5);
    // New to the group: begins where the log begins, which is reported and no loss of ours.
    cluster.delete_records(&at(1), 4);
    cluster.set_committed(GROUP, &at(2), 99);
    let running = start(&cluster, &(head("") + &lines_sink(&path)));
    running.wait_committed(&cluster, 1, 10);
    let summary = running.end();
    let stopped: Vec<i32> = summary.stopped.iter().map(|(place, _)| place.partition).collect();
    assert_eq!(stopped, [0, 2]);
    assert_eq!(cluster.committed(GROUP, &at(0)), Some(2));
    assert_eq!(cluster.committed(GROUP, &at(2)), Some(99));
    assert_eq!(ids_in(&path).len(), 6);
}

/// Confluent Parallel Consumer #857: records that were retried for ever filled the buffer, and
/// the poller never resumed. A stopped partition takes no room from the others.
#[test]
fn parallel_consumer_857_a_full_buffer_stops_reading_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(2);
    for _ in 0..40 {
        append(&cluster, 0, None, "poison");
    }
    let source = "mode = \"partition\"\nmax_in_flight = 6\nmax_in_flight_per_partition = 6";
    let running = start(&cluster, &(head(source) + &lines_sink(&path)));
    running.wait_until("flushes", || running.ledger.flushes() > 5);
    append_texts(&cluster, 1, 0..60);
    running.wait_committed(&cluster, 1, 60);
    let summary = running.end();
    assert_eq!(summary.stopped.len(), 1);
    assert_eq!(cluster.committed(GROUP, &place(0)), None);
}

/// Spring Kafka #3703 and #1935: commits that fail or come back with an unknown outcome.
#[test]
fn spring_kafka_3703_commits_that_fail() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    append_texts(&cluster, 0, 0..30);
    cluster.script_commits([CommitFault::Retriable, CommitFault::RetriableStored]);
    let running = start_failing(&cluster, &(head("") + &lines_sink(&path)), 3);
    running.wait_committed(&cluster, 0, 30);
    assert_eq!(running.ledger.flush_faults_left(), 0, "three flushes have failed");
    assert!(running.end().is_good());
}

/// arroyo drained a topic into the dead letters when the consumer itself was at fault, until it
/// got its limit.
#[test]
fn arroyo_flood_of_dead_letters() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = cluster(1);
    append_texts(&cluster, 0, 0..100);
    let service = Service::start(|_, _| answer(404, "moved away"));
    let config = head("workers = 1")
        + &http_step(&service.url)
        + &lines_sink(&directory.path().join("out"))
        + &dead_letters()
        + "consecutive_max = 5\n";
    let running = start(&cluster, &config);
    let summary = running.join();
    assert!(!summary.is_good() && summary.fatal.unwrap().contains("5 records in a row"));
    assert_eq!(summary.counts.dead_lettered, 5);
    assert_eq!(cluster.committed(GROUP, &place(0)), Some(5));
}
