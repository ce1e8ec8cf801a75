//! A real librdkafka in transactions against the broker, whose machine loses its power in the
//! middle of one: what was committed is there, what was aborted or fenced is never read, and the
//! offsets of a group move with the transaction that they belong to.

use crate::support;

use std::path::Path;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use support::Broker;

/// A client that is stuck stays so for ever.
const PATIENCE: Duration = Duration::from_mins(2);

fn producer(server: &str) -> BaseProducer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", server).set("transactional.id", "payments");
    let producer: BaseProducer = settings.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn send(producer: &BaseProducer, values: &[&str]) {
    for value in values {
        producer.send(BaseRecord::<(), str>::to("t").partition(0).payload(value)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn consumer(server: &str) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", server).set("group.id", "g");
    settings.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    settings.set("enable.auto.commit", "false").create().unwrap()
}

/// All that a committed reader gets, up to where it is told that there is no more.
fn committed(server: &str) -> Vec<String> {
    let consumer = consumer(server);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut values = Vec::new();
    loop {
        match consumer.poll(PATIENCE).expect("an answer, and not silence") {
            Ok(message) => {
                values.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
            }
            Err(KafkaError::PartitionEOF(_)) => return values,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Hands in that the group has come to `offset`, with the producer's transaction.
fn send_offset(producer: &BaseProducer, consumer: &BaseConsumer, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(offset)).unwrap();
    let group = consumer.group_metadata().unwrap();
    producer.send_offsets_to_transaction(&list, &group, PATIENCE).unwrap();
}

fn committed_offset(consumer: &BaseConsumer) -> Offset {
    let mut list = TopicPartitionList::new();
    list.add_partition("t", 0);
    let list = consumer.committed_offsets(list, PATIENCE).unwrap();
    list.elements()[0].offset()
}

fn broker(data: &Path, server: Option<&str>) -> Broker {
    let listen = server.unwrap_or("127.0.0.1:0");
    Broker::start(data, &["--partitions", "1", "--disk", "forgets", "--listen", listen])
}

#[test]
fn transactions_of_librdkafka_are_whole_over_a_power_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let first = broker(&data, None);
    let server = first.server.clone();
    let payments = producer(&server);
    let group = consumer(&server);
    payments.begin_transaction().unwrap();
    send(&payments, &["a", "b"]);
    send_offset(&payments, &group, 1);
    payments.commit_transaction(PATIENCE).unwrap();
    payments.begin_transaction().unwrap();
    send(&payments, &["never"]);
    send_offset(&payments, &group, 2);
    payments.abort_transaction(PATIENCE).unwrap();
    assert_eq!(committed_offset(&group), Offset::Offset(1));
    payments.begin_transaction().unwrap();
    send(&payments, &["c"]);
    assert_eq!(committed(&server), ["a", "b"]);
    first.kill();

    let second = broker(&data, Some(&server));
    assert_eq!(committed(&server), ["a", "b"]);
    send(&payments, &["d"]);
    payments.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&server), ["a", "b", "c", "d"]);
    assert_eq!(committed_offset(&group), Offset::Offset(1));

    payments.begin_transaction().unwrap();
    send(&payments, &["of a zombie"]);
    let successor = producer(&server);
    successor.begin_transaction().unwrap();
    send(&successor, &["e"]);
    successor.commit_transaction(PATIENCE).unwrap();
    let fenced = payments.commit_transaction(PATIENCE).unwrap_err();
    let KafkaError::Transaction(fenced) = fenced else { panic!("{fenced}") };
    assert!(fenced.is_fatal(), "{fenced}");
    assert_eq!(fenced.code(), RDKafkaErrorCode::Fenced);
    assert_eq!(committed(&server), ["a", "b", "c", "d", "e"]);
    second.stop();
}

/// The trap: all that a check names as lost is a record of somebody else.
#[test]
fn what_committed_readers_are_not_given_because_of_a_loss_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let first = Broker::start(&data, &["--partitions", "1"]);
    let payments = producer(&first.server);
    payments.begin_transaction().unwrap();
    send(&payments, &["a payment"]);
    let mut settings = ClientConfig::new();
    let plain: BaseProducer = settings.set("bootstrap.servers", &first.server).create().unwrap();
    send(&plain, &["somebody else"]);
    payments.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&first.server), ["a payment", "somebody else"]);
    first.stop();
    let strike = |entry: std::fs::DirEntry| {
        let mut bytes = std::fs::read(entry.path()).ok()?;
        let at = bytes.windows(13).position(|window| window == b"somebody else")?;
        bytes[at] ^= 1;
        std::fs::write(entry.path(), bytes).ok()
    };
    let mut journal = std::fs::read_dir(data.join("journal")).unwrap();
    journal.find_map(|entry| strike(entry.unwrap())).expect("it is stored");

    let run = |arguments: &[&str]| {
        let output = support::binary().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let shown = data.to_str().unwrap();
    let (code, said) = run(&["broker", "--data", shown, "--accept-loss", "t:0:1-1"]);
    let hidden = "hidden from readers of committed messages: t-0: offsets 0 to 0";
    assert!(code == Some(0) && said.contains(hidden), "{said}");
    let (code, said) = run(&["broker", "--check", shown]);
    assert!(code == Some(0) && said.contains(hidden), "{said}");
    let (_, said) = run(&["broker", "--check", shown, "--format", "json"]);
    let verdict: serde_json::Value = serde_json::from_str(&said).unwrap();
    let hidden = &verdict["hidden"][0];
    assert_eq!((&hidden["first"], &hidden["last"]), (&0.into(), &0.into()), "{said}");
    let second = Broker::start(&data, &[]);
    assert_eq!(committed(&second.server), Vec::<String>::new());
    second.stop();
}
