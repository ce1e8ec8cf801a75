//! Story: a consumer comes back after the broker's machine lost its power, and asks whether what
//! it has read is still there (KIP-320). An answer that is too low, or none, makes it begin
//! somewhere else, and with `auto.offset.reset=latest` it then skips records.

use crate::common;

use common::{Broker, Client, ends, records};
use lossproof_wire::*;

async fn end_of(
    client: &mut Client,
    partition: i32,
    leader_epoch: i32,
    current_leader_epoch: i32,
    version: i16,
) -> (ErrorCode, i32, i64) {
    let partitions =
        vec![OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch }];
    let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions }];
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
    let answer: OffsetForLeaderEpochResponse = client.call(&request, version).await;
    let result = &answer.topics[0].partitions[0];
    assert_eq!(result.partition, partition);
    (result.error_code, result.leader_epoch, result.end_offset)
}

/// EPOCH-1.
#[tokio::test(flavor = "multi_thread")]
async fn each_epoch_ends_where_the_next_one_with_records_begins() {
    let mut broker = Broker::start().await;
    broker.client().await.create("t", 1).await;
    // Two records in epoch 0, none in 1, one in 2, and 3 is the present one.
    for values in [&["a", "b"][..], &[], &["c"]] {
        if !values.is_empty() {
            broker.client().await.produce("t", 0, records(values)).await;
        }
        broker = broker.power_cut().await;
    }
    // An orderly restart raises no epoch and forgets none.
    for _ in 0..2 {
        let mut client = broker.client().await;
        for version in ends(ApiKey::OffsetForLeaderEpoch) {
            for (asked, epoch, end) in [(0, 0, 2), (1, 0, 2), (2, 2, 3), (3, 3, 3)] {
                let answer = end_of(&mut client, 0, asked, 3, version).await;
                assert_eq!(answer, (ErrorCode::NONE, epoch, end), "epoch {asked}");
            }
        }
        drop(client);
        broker = broker.restart().await;
    }
    broker.stop().await;
}

/// A consumer that begins at an offset it was told keeps the epoch that came with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_looked_up_offset_comes_with_the_epoch_of_its_record() {
    let mut broker = Broker::start().await;
    broker.client().await.create("t", 1).await;
    for value in ["a", "b"] {
        broker.client().await.produce("t", 0, records(&[value])).await;
        broker = broker.power_cut().await;
    }
    let mut client = broker.client().await;
    for (timestamp, offset, leader_epoch) in [(-2, 0, 0), (-3, 0, 0), (1_000, 0, 0), (-1, 2, 2)] {
        let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
        let request = ListOffsetsRequest { topics, ..Default::default() };
        let answer: ListOffsetsResponse = client.call(&request, 10).await;
        let found = &answer.topics[0].partitions[0];
        assert_eq!((found.offset, found.leader_epoch), (offset, leader_epoch), "{timestamp}");
    }
    broker.stop().await;
}

/// EPOCH-END-1.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_is_an_error_and_never_looks_like_truncation() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    for version in ends(ApiKey::OffsetForLeaderEpoch) {
        for (partition, leader_epoch, current, expected) in [
            (0, 0, 0, ErrorCode::FENCED_LEADER_EPOCH),
            (0, 0, 2, ErrorCode::UNKNOWN_LEADER_EPOCH),
            (0, 2, 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
            (0, 2, -1, ErrorCode::UNKNOWN_LEADER_EPOCH),
            (1, 0, 1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ] {
            let answer = end_of(&mut client, partition, leader_epoch, current, version).await;
            assert_eq!(answer, (expected, -1, -1));
        }
        let undefined = end_of(&mut client, 0, -1, 1, version).await;
        assert_eq!(undefined, (ErrorCode::NONE, -1, -1), "it asked for nothing");
    }
    broker.stop().await;
}
