//! Storage rule 13 with a live librdkafka: a broker that has lost what it knew of a producer must
//! not be taken for one that has everything.
//!
//! Apache Kafka accepts any first sequence of an unknown producer, and librdkafka takes the answer
//! for an acknowledgement of all before it: records are lost after an unclean stop. Here the
//! answer makes librdkafka begin a new epoch and send again, by itself.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lossproof_client::librdkafka::{self, ClientSettings, ProducerSettings};
use lossproof_client::{LogProducer, Record};
use lossproof_log::LogConfig;

/// A producer that is stuck stays so for ever.
const PATIENCE: Duration = Duration::from_mins(2);

/// Kills and restarts it as often as the test likes, on one port.
struct Broker {
    process: Child,
    server: String,
}

impl Broker {
    /// Acknowledges before it syncs, on a disk that forgets what was not synced.
    fn start(data: &Path, listen: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_lossproof"))
            .args(["broker", "--flush", "page-cache", "--disk", "forgets"])
            .args(["--partitions", "1", "--listen", listen, "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let server = line.trim().strip_prefix("ready bootstrap.servers=").unwrap();
        Self { server: server.to_owned(), process }
    }

    /// SIGKILL; gives what it said.
    fn kill(&mut self) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
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
    let mut broker = Broker::start(&data, "127.0.0.1:0");
    let server = broker.server.clone();
    let settings = ProducerSettings::new(ClientSettings::new(server.as_str()));
    let mut producer = librdkafka::producer(&settings).unwrap();
    assert_eq!(producer.partition_count("t", Duration::from_mins(1)).unwrap(), 1);
    wait_until_zeroed(&data);
    assert_eq!(acknowledged(&mut *producer, "gone", 0), 0);
    assert_eq!(acknowledged(&mut *producer, "gone too", 1), 1);
    broker.kill();

    let mut broker = Broker::start(&data, &server);
    // Its sequence is 2, and the log is empty again.
    assert_eq!(acknowledged(&mut *producer, "kept", 2), 0);
    assert_eq!(acknowledged(&mut *producer, "kept too", 3), 1);
    drop(producer);
    let said = broker.kill();
    assert!(said.contains("append refused") && said.contains("producer"), "{said}");
}
