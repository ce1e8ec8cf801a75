//! Starts the binary as broker and as producer, and reads a topic with a client that others wrote.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

const BINARY: &str = env!("CARGO_BIN_EXE_lossproof");

pub(crate) struct Broker {
    process: Child,
    pub(crate) server: String,
}

impl Broker {
    /// On a disk that forgets what was not synced; at `server`, or at a free port.
    pub(crate) fn start(data: &Path, server: Option<&str>) -> Self {
        let mut process = Command::new(BINARY)
            .args(["broker", "--listen", server.unwrap_or("127.0.0.1:0")])
            .args(["--disk", "forgets", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let server = line.trim().strip_prefix("ready bootstrap.servers=");
        let server = server.unwrap_or_else(|| panic!("the broker said '{line}'")).to_owned();
        Self { process, server }
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Line number to identity.
pub(crate) type Acknowledged = BTreeMap<u64, String>;

pub(crate) struct Produce {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    readers: Vec<JoinHandle<()>>,
    talk: String,
}

impl Produce {
    pub(crate) fn start(server: &str, journal: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(BINARY)
            .args(["produce", "--bootstrap-server", server, "--topic", "news", "--journal"])
            .arg(journal)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, out, err) =
            (process.stdin.take(), process.stdout.take().unwrap(), process.stderr.take().unwrap());
        let ((out_sender, stdout), (err_sender, stderr)) = (channel(), channel());
        let forward = |from: Box<dyn std::io::Read + Send>, to: std::sync::mpsc::Sender<String>| {
            std::thread::spawn(move || {
                for line in BufReader::new(from).lines().map_while(Result::ok) {
                    let _ = to.send(line);
                }
            })
        };
        let readers = vec![forward(Box::new(out), out_sender), forward(Box::new(err), err_sender)];
        Self { process, stdin, stdout, stderr, readers, talk: String::new() }
    }

    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    pub(crate) fn read_acknowledged(&mut self, count: usize) -> Acknowledged {
        (0..count).map(|_| parse(&self.stdout.recv().unwrap())).collect()
    }

    pub(crate) fn wait_for_talk(&mut self, text: &str) {
        while !self.talk.contains(text) {
            self.talk += &(self.stderr.recv().unwrap() + "\n");
        }
    }

    pub(crate) fn kill(mut self) -> Acknowledged {
        self.process.kill().unwrap();
        self.end().0
    }

    pub(crate) fn stop(self) -> (Acknowledged, Option<i32>) {
        let (acknowledged, code, _) = self.stop_with_talk();
        (acknowledged, code)
    }

    pub(crate) fn stop_with_talk(self) -> (Acknowledged, Option<i32>, String) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.end()
    }

    pub(crate) fn finish(self) -> (Acknowledged, Option<i32>) {
        let (acknowledged, code, _) = self.finish_with_talk();
        (acknowledged, code)
    }

    pub(crate) fn finish_with_talk(mut self) -> (Acknowledged, Option<i32>, String) {
        drop(self.stdin.take());
        self.end()
    }

    fn end(mut self) -> (Acknowledged, Option<i32>, String) {
        let code = self.process.wait().unwrap().code();
        for reader in self.readers {
            reader.join().unwrap();
        }
        for line in self.stderr {
            self.talk += &(line + "\n");
        }
        (self.stdout.iter().map(|line| parse(&line)).collect(), code, self.talk)
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
    let output = Command::new(BINARY)
        .args(["audit", "status", "-o", "json", "--bootstrap-server", server])
        .output()
        .unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}
