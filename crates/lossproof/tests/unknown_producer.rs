//! Storage rule 13 with a live librdkafka: a broker that has lost what it knew of a producer must
//! not be taken for one that has everything.
//!
//! Apache Kafka accepts any first sequence of an unknown producer, and librdkafka takes the answer
//! for an acknowledgement of all before it: records are lost after an unclean stop. Here the
//! answer makes librdkafka begin a new epoch and send again, by itself.

use crate::support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use lossproof_client::librdkafka::{self, ClientSettings, ProducerSettings};
use lossproof_client::{LogProducer, Record};
use lossproof_log::LogConfig;
use support::Broker;

/// A producer that is stuck stays so for ever.
const PATIENCE: Duration = Duration::from_mins(2);

/// Acknowledges before it syncs, on a disk that forgets what was not synced.
fn unsafe_broker(data: &Path, listen: &str) -> Broker {
    let careless = ["--flush", "page-cache", "--disk", "forgets"];
    Broker::start(data, &[&careless[..], &["--partitions", "1", "--listen", listen]].concat())
}

/// Waits until the start of the journal is zeroed: each step of that ends with a sync, which would
/// save what is to be lost.
fn wait_until_zeroed(data: &Path) {
    let ahead = LogConfig::default().zero_ahead_bytes;
    let is_long = |entry: fs::DirEntry| entry.metadata().is_ok_and(|file| file.len() >= ahead);
    while !fs::read_dir(data.join("journal")).unwrap().any(|entry| is_long(entry.unwrap())) {
        std::thread::yield_now();
    }
}

/// Sends a record and waits for its acknowledgement: its offset.
fn acknowledged(producer: &mut dyn LogProducer, text: &'static str, token: u64) -> i64 {
    let record = Record { topic: "t".into(), value: Some(text.into()), ..Record::default() };
    producer.send(record, token).unwrap();
    let mut delivered = producer.poll(PATIENCE);
    let delivery = delivered.pop().expect("an answer, and not silence");
    assert_eq!(delivery.token, token);
    delivery.outcome.unwrap().offset
}

#[test]
fn librdkafka_starts_over_where_the_broker_does_not_know_it_any_more() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let broker = unsafe_broker(&data, "127.0.0.1:0");
    let server = broker.server.clone();
    let settings = ProducerSettings::new(ClientSettings::new(server.as_str()));
    let mut producer = librdkafka::producer(&settings).unwrap();
    assert_eq!(producer.partition_count("t", Duration::from_mins(1)).unwrap(), 1);
    wait_until_zeroed(&data);
    assert_eq!(acknowledged(&mut *producer, "gone", 0), 0);
    assert_eq!(acknowledged(&mut *producer, "gone too", 1), 1);
    broker.kill();

    let broker = unsafe_broker(&data, &server);
    // Its sequence is 2, and the log is empty again.
    assert_eq!(acknowledged(&mut *producer, "kept", 2), 0);
    assert_eq!(acknowledged(&mut *producer, "kept too", 3), 1);
    drop(producer);
    let said = broker.kill();
    assert!(said.contains("append refused") && said.contains("producer"), "{said}");
}
