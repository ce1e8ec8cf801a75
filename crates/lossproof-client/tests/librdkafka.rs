//! The clients on librdkafka, against its own mock cluster: every token comes back once
//! (RDKAFKA-2), partitions are read only from where our callback says (RDKAFKA-3), a fatal error
//! is told apart, and a cluster that is away costs nothing but time.

#![cfg(feature = "rdkafka")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lossproof_client::librdkafka::{self, ClientSettings, ConsumerSettings, ProducerSettings};
use lossproof_client::{
    ConsumeError, Delivery, DeliveryError, LogConsumer, LogProducer, Rebalance, Record,
    TopicPartition, Watermarks,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

type Cluster = MockCluster<'static, DefaultProducerContext>;

const STEP: Duration = Duration::from_millis(100);
/// A hang ends the test; nothing is judged by time.
const STEPS_MAX: usize = 600;

fn cluster() -> (Cluster, ClientSettings) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("news", 2, 1).unwrap();
    let client = ClientSettings::new(cluster.bootstrap_servers());
    (cluster, client)
}

fn record(number: i32) -> Record {
    Record {
        topic: "news".into(),
        partition: number % 2,
        timestamp_ms: Some(1000 + i64::from(number)),
        key: Some("key".into()),
        value: Some(number.to_string().into()),
        headers: vec![("lossproof".into(), Some("id".into())), ("none".into(), None)],
        ..Record::default()
    }
}

fn send(producer: &mut dyn LogProducer, numbers: std::ops::Range<i32>) {
    for number in numbers {
        producer.send(record(number), u64::try_from(number).unwrap()).unwrap();
    }
}

fn outcomes(producer: &mut dyn LogProducer) -> Vec<Delivery> {
    let mut outcomes = Vec::new();
    for _ in 0..STEPS_MAX {
        outcomes.extend(producer.poll(STEP));
        if producer.in_flight() == 0 {
            return outcomes;
        }
    }
    panic!("no outcome for {} records", producer.in_flight());
}

/// Starts each partition at its committed offset or at the beginning; commits all it has seen.
#[derive(Default)]
struct Reader {
    asked: Vec<(i32, Option<i64>, i64)>,
    next: BTreeMap<TopicPartition, i64>,
    revoked: usize,
}

impl Rebalance for Reader {
    fn assigned(
        &mut self,
        place: &TopicPartition,
        committed: Option<i64>,
        watermarks: Watermarks,
    ) -> Result<i64, ConsumeError> {
        self.asked.push((place.partition, committed, watermarks.high));
        Ok(committed.unwrap_or(watermarks.low))
    }

    fn revoked(&mut self, _: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        self.revoked += 1;
        std::mem::take(&mut self.next).into_iter().collect()
    }

    fn lost(&mut self, _: &[TopicPartition]) {
        panic!("nothing is lost here");
    }
}

fn read(consumer: &mut dyn LogConsumer, reader: &mut Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..STEPS_MAX {
        if let Some(record) = consumer.poll(STEP, reader).unwrap() {
            let topic = record.topic.clone();
            let place = TopicPartition { topic, partition: record.partition };
            reader.next.insert(place, record.offset + 1);
            records.push(record);
        }
        if records.len() == count {
            return records;
        }
    }
    panic!("{} of {count} records read", records.len());
}

#[test]
fn records_go_in_and_come_out_whole_and_a_new_member_goes_on_at_the_commit() {
    let (_cluster, client) = cluster();
    let mut producer = librdkafka::producer(&ProducerSettings::new(client.clone())).unwrap();
    assert_eq!(producer.partition_count("news", Duration::from_secs(10)), Ok(2));
    send(&mut *producer, 0..10);
    let done = outcomes(&mut *producer);
    assert!(done.iter().all(|delivery| delivery.outcome.is_ok()));
    let mut tokens: Vec<u64> = done.iter().map(|delivery| delivery.token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..10).collect::<Vec<_>>());

    let mut settings = ConsumerSettings::new(client.clone(), "g", vec!["news".into()]);
    // The mock keeps a member that has left until its session ends.
    settings.session_timeout = Duration::from_secs(3);
    let (mut first, mut one) = (librdkafka::consumer(&settings).unwrap(), Reader::default());
    let records = read(&mut *first, &mut one, 10);
    one.asked.sort_unstable();
    assert_eq!(one.asked, [(0, None, 5), (1, None, 5)]);
    let third = records.iter().find(|record| record.value == Some("3".into())).unwrap();
    assert_eq!(*third, Record { offset: 1, ..record(3) });
    first.close(&mut one, Duration::from_secs(10)).unwrap();
    assert_eq!(one.revoked, 1);

    send(&mut *producer, 10..12);
    outcomes(&mut *producer);
    let (mut second, mut two) = (librdkafka::consumer(&settings).unwrap(), Reader::default());
    let values: Vec<_> = read(&mut *second, &mut two, 2).into_iter().map(|r| r.offset).collect();
    assert_eq!(values, [5, 5]);
    assert!(two.asked.iter().all(|(_, committed, _)| *committed == Some(5)));

    let mut admin = librdkafka::admin(&client).unwrap();
    let place = TopicPartition { topic: "news".into(), partition: 0 };
    assert_eq!(admin.watermarks(&place), Ok(Watermarks { low: 0, high: 6 }));
    assert_eq!(
        admin.committed("g", std::slice::from_ref(&place)),
        Ok(vec![(place.clone(), Some(5))])
    );
    let mut offsets = Vec::new();
    admin.read(&place, 2, 6, &mut |record| offsets.push(record.offset)).unwrap();
    assert_eq!(offsets, [2, 3, 4, 5]);
    let beyond = admin.read(&place, 2, 7, &mut |_| panic!("refused before reading"));
    assert_eq!(beyond, Err(ConsumeError::OutOfRange { partition: place, offset: 7 }));
}

/// The library keeps a pause over the end of an assignment; the trait promises that it does not.
/// A pipeline that had paused a busy partition would never read it again.
#[test]
fn a_partition_that_was_paused_is_read_after_its_next_assignment() {
    let (_cluster, client) = cluster();
    let mut producer = librdkafka::producer(&ProducerSettings::new(client.clone())).unwrap();
    send(&mut *producer, 0..10);
    outcomes(&mut *producer);
    let mut settings = ConsumerSettings::new(client, "g", vec!["news".into()]);
    settings.session_timeout = Duration::from_secs(3);
    let (mut first, mut one) = (librdkafka::consumer(&settings).unwrap(), Reader::default());
    read(&mut *first, &mut one, 10);
    let places = [0, 1].map(|partition| TopicPartition { topic: "news".into(), partition });
    first.pause(&places).unwrap();
    send(&mut *producer, 10..12);
    outcomes(&mut *producer);

    let (mut second, mut two) = (librdkafka::consumer(&settings).unwrap(), Reader::default());
    let mut seen = BTreeSet::new();
    for _ in 0..STEPS_MAX {
        let members = [(&mut first, &mut one), (&mut second, &mut two)];
        for (consumer, reader) in members {
            if let Some(record) = consumer.poll(STEP, reader).unwrap() {
                let place = TopicPartition { topic: "news".into(), partition: record.partition };
                reader.next.insert(place, record.offset + 1);
                seen.insert(record.partition);
            }
        }
        if seen.len() == 2 {
            assert!(one.revoked > 0, "what was paused was read before it was assigned anew");
            return;
        }
    }
    panic!("only {seen:?} read");
}

#[test]
fn a_broken_sequence_is_fatal_and_a_new_producer_goes_on() {
    let (cluster, client) = cluster();
    let settings = ProducerSettings::new(client);
    let mut producer = librdkafka::producer(&settings).unwrap();
    send(&mut *producer, 0..2);
    assert!(outcomes(&mut *producer).iter().all(|delivery| delivery.outcome.is_ok()));
    let broken = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[broken; 4]);
    send(&mut *producer, 2..6);
    let failed = outcomes(&mut *producer);
    assert_eq!(failed.len(), 4);
    assert!(failed.iter().all(|delivery| delivery.outcome.is_err()));
    assert!(matches!(producer.fatal(), Some(DeliveryError::Fatal { .. })));
    assert!(producer.send(record(9), 9).is_err());
    let (rest, unknown) = producer.close(STEP);
    assert!(rest.is_empty() && unknown.is_empty());

    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let mut next = librdkafka::producer(&settings).unwrap();
    send(&mut *next, 2..6);
    assert!(outcomes(&mut *next).iter().all(|delivery| delivery.outcome.is_ok()));
}

#[test]
fn without_a_broker_the_queue_fills_nothing_is_dropped_and_closing_names_what_is_left() {
    let client = ClientSettings::new("127.0.0.1:1");
    let mut settings = ProducerSettings::new(client);
    settings.queue_records_max = 5;
    let mut producer = librdkafka::producer(&settings).unwrap();
    send(&mut *producer, 0..5);
    let refused = producer.send(record(5), 5).unwrap_err();
    assert_eq!(*refused.record, record(5));
    assert!(producer.poll(STEP).is_empty());
    assert_eq!(producer.in_flight(), 5);
    let (outcomes, unknown) = producer.close(Duration::ZERO);
    let told = outcomes.iter().map(|delivery| {
        assert!(matches!(delivery.outcome, Err(DeliveryError::NotStored { .. })));
        delivery.token
    });
    let mut tokens: Vec<u64> = told.chain(unknown).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3, 4]);
}
