//! Starts the binary as broker and as producer, and reads a topic with a client that others wrote.

mod running;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use rustix::process::Signal;

pub(crate) use running::{End, Running, binary};

pub(crate) struct Broker {
    running: Running,
    pub(crate) server: String,
}

impl Broker {
    /// At a free port, unless the arguments name one.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_by(Running::start, data, arguments)
    }

    /// One whose log nobody takes.
    pub(crate) fn start_unheard(data: &Path) -> Self {
        Self::start_by(Running::start_unheard, data, &[])
    }

    fn start_by(start: fn(&mut Command) -> Running, data: &Path, arguments: &[&str]) -> Self {
        let listen = ["--listen", "127.0.0.1:0"];
        let listen = if arguments.contains(&"--listen") { &[][..] } else { &listen };
        let mut command = binary();
        command.arg("broker").args(listen).args(arguments).arg("--data").arg(data);
        let running = start(command.env("RUST_LOG", "info"));
        let line = running.stdout.recv().unwrap_or_default();
        let Some(server) = line.strip_prefix("ready bootstrap.servers=") else {
            panic!("instead of ready: {}", running.end().said);
        };
        Self { server: server.to_owned(), running }
    }

    /// On a disk that forgets what was not synced, so that a kill is a power cut.
    pub(crate) fn start_forgetful(data: &Path, server: Option<&str>) -> Self {
        let listen = server.unwrap_or("127.0.0.1:0");
        Self::start(data, &["--disk", "forgets", "--listen", listen])
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.running.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    pub(crate) fn wait_for_talk(&mut self, text: &str) {
        self.running.wait_for_talk(text);
    }

    /// Waits for an end that was asked for.
    pub(crate) fn end(self) -> End {
        self.running.end()
    }

    /// SIGKILL; gives what it said.
    pub(crate) fn kill(self) -> String {
        self.signal(Signal::KILL);
        self.end().said
    }

    /// An orderly end; gives what it said.
    pub(crate) fn stop(self) -> String {
        self.signal(Signal::TERM);
        let end = self.end();
        assert_eq!(end.code, Some(0), "{}", end.said);
        end.said
    }
}

/// Line number to identity.
pub(crate) type Acknowledged = BTreeMap<u64, String>;

pub(crate) struct Produce(Running);

impl Produce {
    pub(crate) fn start(server: &str, journal: &Path, arguments: &[&str]) -> Self {
        let mut command = binary();
        command.args(["produce", "--bootstrap-server", server, "--topic", "news", "--journal"]);
        Self(Running::start(command.arg(journal).args(arguments)))
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.0.write(text);
    }

    pub(crate) fn read_acknowledged(&mut self, count: usize) -> Acknowledged {
        (0..count).map(|_| parse(&self.0.stdout.recv().unwrap())).collect()
    }

    pub(crate) fn wait_for_talk(&mut self, text: &str) {
        self.0.wait_for_talk(text);
    }

    pub(crate) fn kill(self) -> Acknowledged {
        self.0.signal(Signal::KILL);
        self.end().0
    }

    pub(crate) fn stop(self) -> (Acknowledged, Option<i32>) {
        let (acknowledged, code, _) = self.stop_with_talk();
        (acknowledged, code)
    }

    pub(crate) fn stop_with_talk(self) -> (Acknowledged, Option<i32>, String) {
        self.0.signal(Signal::TERM);
        self.end()
    }

    pub(crate) fn finish(self) -> (Acknowledged, Option<i32>) {
        let (acknowledged, code, _) = self.finish_with_talk();
        (acknowledged, code)
    }

    /// The end of its input, and its own.
    pub(crate) fn finish_with_talk(mut self) -> (Acknowledged, Option<i32>, String) {
        self.0.close_input();
        self.end()
    }

    fn end(self) -> (Acknowledged, Option<i32>, String) {
        let end = self.0.end();
        (end.lines.iter().map(|line| parse(line)).collect(), end.code, end.said)
    }
}

fn parse(line: &str) -> (u64, String) {
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("ACCEPTED"), "{line}");
    (words.next().unwrap().parse().unwrap(), words.next().unwrap().to_owned())
}

/// `line 1` and so on.
pub(crate) fn lines_file(directory: &Path, count: usize) -> PathBuf {
    let path = directory.join("input.txt");
    let lines: Vec<String> = (1..=count).map(|number| format!("line {number}\n")).collect();
    std::fs::write(&path, lines.concat()).unwrap();
    path
}

/// A record as it is in the log, its identity read by the test itself.
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) identity: String,
    pub(crate) value: String,
}

/// A topic, and where each of its partitions begins and ends.
pub(crate) struct Topic {
    pub(crate) ranges: BTreeMap<i32, (i64, i64)>,
    pub(crate) records: Vec<Stored>,
}

const WAIT: Duration = Duration::from_secs(30);

pub(crate) fn read_topic(server: &str, topic: &str) -> Topic {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", server).set("group.id", "test");
    let consumer: BaseConsumer = settings.set("enable.auto.commit", "false").create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), WAIT).unwrap();
    let (mut ranges, mut records) = (BTreeMap::new(), Vec::new());
    for partition in metadata.topics()[0].partitions().iter().map(MetadataPartition::id) {
        let (start, end) = consumer.fetch_watermarks(topic, partition, WAIT).unwrap();
        ranges.insert(partition, (start, end));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(start)).unwrap();
        consumer.assign(&list).unwrap();
        let mut next = start;
        while next < end {
            let message = consumer.poll(WAIT).unwrap().unwrap();
            assert_eq!(message.partition(), partition);
            next = message.offset() + 1;
            let mut headers = message.headers().unwrap().iter();
            let header = headers.find(|header| header.key == "lossproof").unwrap();
            records.push(Stored {
                partition,
                offset: message.offset(),
                identity: identity(header.value.unwrap()),
                value: String::from_utf8(message.payload().unwrap().to_vec()).unwrap(),
            });
        }
    }
    Topic { ranges, records }
}

/// `docs/format/identity.md`.
fn identity(bytes: &[u8]) -> String {
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    format!("{:016x}-{}-{}", number(2, 10), number(10, 14), number(14, 22))
}

/// Identity to value; fails where one identity has two values.
pub(crate) fn identities(topic: &Topic) -> BTreeMap<String, String> {
    let mut identities = BTreeMap::new();
    for record in &topic.records {
        let before = identities.insert(record.identity.clone(), record.value.clone());
        assert!(before.is_none_or(|before| before == record.value));
    }
    identities
}

/// The exit code of `audit status`, and what it says.
pub(crate) fn audit(server: &str) -> (Option<i32>, serde_json::Value) {
    let output = binary()
        .args(["audit", "status", "-o", "json", "--bootstrap-server", server])
        .output()
        .unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}
