//! A full disk as clients see it: records are refused early, with an error that every producer
//! tries again by itself, while what frees space and what ends work that was begun is carried out
//! (BALLAST-1, storage rule 8). Once there is space records are taken again, on the same connection
//! and without a restart. (`docs/adr/0018-a-ballast-beside-the-reserve.md`)

use std::path::Path;

use crate::common::producer::Producer;
use crate::common::{Broker, Client, eventually, records};
use lossproof_broker::BrokerConfig;
use lossproof_env::{Disk, SimDisk};
use lossproof_wire::*;

/// More room than the ballast takes, and some for records.
const ROOM: u64 = 4 << 20;
/// Far more records than there is room for.
const RECORDS_MAX: usize = 5_000;
/// Retriable in Java (`NotEnoughReplicasException` is a `RetriableException`), and in librdkafka,
/// which counts the message as certainly not persisted.
const FULL: ErrorCode = ErrorCode::NOT_ENOUGH_REPLICAS;

/// The disk is full before a segment is: there is nothing to move, and nothing comes back before
/// something is deleted.
fn settings(config: &mut BrokerConfig) {
    config.log.segment_bytes = 8 << 20;
    config.log.initial_zero_bytes = 512 << 10;
    config.log.zero_step_bytes = 256 << 10;
    config.log.zero_ahead_bytes = 256 << 10;
    config.log.ballast_bytes = 1 << 20;
    config.log.checkpoint_bytes = 1 << 20;
}

/// From the first frame on, in the background.
async fn ballast_is_whole(disk: &SimDisk) {
    eventually("the ballast is whole", async || {
        disk.exists(Path::new("/data/ballast")).expect("a disk")
    })
    .await;
}

/// Sends `value` until it is refused; how many were acknowledged.
async fn fill(client: &mut Client, topic: &str, value: &str) -> usize {
    for count in 0..RECORDS_MAX {
        let answer = client.produce(topic, 0, records(&[value])).await;
        if answer.error_code != ErrorCode::NONE {
            assert_eq!((answer.error_code, answer.base_offset), (FULL, -1));
            return count;
        }
    }
    panic!("the disk never gets full");
}

async fn is_taken(client: &mut Client, topic: &str, value: &str) -> bool {
    let answer = client.produce(topic, 0, records(&[value])).await;
    assert!([ErrorCode::NONE, FULL].contains(&answer.error_code), "{answer:?}");
    answer.error_code == ErrorCode::NONE
}

async fn delete_topic(client: &mut Client, topic: &str) -> ErrorCode {
    let topics = vec![DeleteTopicState { name: Some(topic.into()), ..Default::default() }];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    let answer: DeleteTopicsResponse = client.call(&request, 6).await;
    answer.responses[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn records_wait_for_space_and_what_frees_it_does_not() {
    let broker = Broker::with(settings).await;
    let mut client = broker.client().await;
    for topic in ["bulk", "cut", "kept", "paid"] {
        client.create(topic, 1).await;
    }
    for value in ["a", "b"] {
        client.produce("cut", 0, records(&[value])).await;
    }
    let mut producer = Producer::new(&broker, "payments").await;
    producer.add("paid", &[0]).await;
    assert_eq!(producer.send("paid", 0, 0, &["paid"]).await, ErrorCode::NONE);
    ballast_is_whole(&broker.disk).await;
    broker.disk.set_capacity(broker.disk.used_bytes() + ROOM);
    fill(&mut client, "bulk", &"x".repeat(20_000)).await;
    let kept = fill(&mut client, "kept", "before").await;

    assert_eq!(client.commit("g", "cut", 0, 2).await, ErrorCode::NONE);
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    assert_eq!(client.committed_values("paid").await, ["paid"]);
    assert!(!is_taken(&mut client, "kept", "early").await, "what that took is not for records");
    assert_eq!(client.delete_records("cut", 0, 1).await.1, ErrorCode::NONE);
    assert_eq!(delete_topic(&mut client, "bulk").await, ErrorCode::NONE);
    eventually("space is free", async || is_taken(&mut client, "kept", "freed").await).await;

    // Once more, until somebody else frees space.
    let more = fill(&mut client, "kept", &"y".repeat(20_000)).await;
    assert!(more > 0, "what was deleted is free");
    broker.disk.heal();
    eventually("it is healed", async || is_taken(&mut client, "kept", "healed").await).await;

    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    let values = client.values("kept", 0).await;
    assert_eq!(values.len(), kept + more + 2, "all that was acknowledged, and nothing else");
    assert!(values[..kept].iter().all(|value| value == "before"));
    assert_eq!((&*values[kept], values.last().map(String::as_str)), ("freed", Some("healed")));
    assert_eq!(client.committed("g", "cut", 0).await, (2, ErrorCode::NONE));
    assert_eq!(client.committed_values("paid").await, ["paid"]);
    assert_eq!(client.fetch("cut", 0, 0).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(client.fetch("bulk", 0, 0).await.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    broker.stop().await;
}
