//! The producer in memory tells the truth about each scripted fault: what it acknowledged is in
//! the topic at that offset (MEMORY-1), in the order of the sends (MEMORY-2), and every token
//! comes back exactly once.

use std::time::Duration;

use lossproof_client::memory::{Cluster, DeliveryFault};
use lossproof_client::{DeliveryError, LogProducer, Record, SendCause};

fn record(value: u64) -> Record {
    Record { topic: "news".into(), value: Some(value.to_string().into()), ..Record::default() }
}

fn values(cluster: &Cluster) -> Vec<String> {
    let text = |record: Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
    cluster.records("news").into_iter().map(text).collect()
}

fn send(producer: &mut dyn LogProducer, tokens: std::ops::Range<u64>) {
    tokens.for_each(|token| producer.send(record(token), token).expect("the queue has room"));
}

#[test]
fn each_fault_does_to_the_topic_what_it_says() {
    let cluster = Cluster::new();
    cluster.create_topic("news", 1);
    cluster.script_deliveries([
        DeliveryFault::Deliver,
        DeliveryFault::NotStored,
        DeliveryFault::UnknownStored,
        DeliveryFault::UnknownNotStored,
        DeliveryFault::Duplicate,
        DeliveryFault::Refuse,
    ]);
    let mut producer = cluster.producer();
    send(&mut *producer, 0..7);
    assert_eq!(producer.in_flight(), 7);
    let outcomes = producer.poll(Duration::ZERO);
    assert_eq!(producer.in_flight(), 0);
    assert_eq!(
        outcomes.iter().map(|delivery| delivery.token).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5, 6]
    );
    assert_eq!(values(&cluster), ["0", "2", "4", "4", "6"]);
    let offsets: Vec<_> = outcomes.iter().map(|d| d.outcome.as_ref().ok()).collect();
    let offsets: Vec<_> = offsets.into_iter().map(|stored| stored.map(|s| s.offset)).collect();
    assert_eq!(offsets, [Some(0), None, None, None, Some(2), None, Some(4)]);
    assert!(matches!(outcomes[1].outcome, Err(DeliveryError::NotStored { .. })));
    assert!(matches!(outcomes[2].outcome, Err(DeliveryError::Unknown { .. })));
    assert!(matches!(outcomes[3].outcome, Err(DeliveryError::Unknown { .. })));
    assert!(matches!(outcomes[5].outcome, Err(DeliveryError::Refused { .. })));
}

#[test]
fn a_fatal_error_takes_everything_behind_it_along() {
    let cluster = Cluster::new();
    cluster.create_topic("news", 1);
    cluster.script_deliveries([DeliveryFault::Deliver, DeliveryFault::FatalStored]);
    let mut producer = cluster.producer();
    send(&mut *producer, 0..4);
    let outcomes = producer.poll(Duration::ZERO);
    let fatal = |i: usize| matches!(outcomes[i].outcome, Err(DeliveryError::Fatal { .. }));
    assert!(outcomes[0].outcome.is_ok() && fatal(1) && fatal(2) && fatal(3));
    assert_eq!(values(&cluster), ["0", "1"]);
    assert!(producer.fatal().is_some());
    let refused = producer.send(record(9), 9).expect_err("a dead producer takes nothing");
    assert_eq!((refused.cause, refused.record.value), (SendCause::Fatal, record(9).value));
}

#[test]
fn a_full_queue_hands_the_record_back_and_a_delay_keeps_the_order() {
    let cluster = Cluster::new();
    cluster.create_topic("news", 1);
    cluster.set_queue_records_max(2);
    cluster.script_deliveries([DeliveryFault::Delay { polls: 2 }]);
    let mut producer = cluster.producer();
    send(&mut *producer, 0..2);
    let refused = producer.send(record(2), 2).expect_err("two is the bound");
    assert_eq!((refused.cause, *refused.record), (SendCause::QueueFull, record(2)));
    assert!(producer.poll(Duration::ZERO).is_empty());
    assert_eq!(values(&cluster), ["0", "1"]);
    assert!(producer.poll(Duration::ZERO).is_empty());
    let tokens: Vec<u64> = producer.poll(Duration::ZERO).iter().map(|d| d.token).collect();
    assert_eq!(tokens, [0, 1]);
}

#[test]
fn what_is_queued_when_the_producer_closes_without_a_cluster_is_unknown_not_gone() {
    let cluster = Cluster::new();
    cluster.create_topic("news", 1);
    cluster.set_reachable(false);
    let mut producer = cluster.producer();
    send(&mut *producer, 0..3);
    let (outcomes, unknown) = producer.close(Duration::ZERO);
    assert!(outcomes.is_empty());
    assert_eq!(unknown, [0, 1, 2]);
    assert!(values(&cluster).is_empty());
}
