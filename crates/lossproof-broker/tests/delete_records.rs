//! DeleteRecords on the wire: what is below the offset is gone for good, and nothing else.

use crate::common;

use common::{Broker, ends, records};
use lossproof_wire::batch::BatchBuilder;
use lossproof_wire::*;

#[tokio::test(flavor = "multi_thread")]
async fn records_below_the_offset_are_gone_after_a_restart_too() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for value in ["a", "b", "c"] {
        client.produce("t", 0, records(&[value])).await;
    }
    for version in ends(ApiKey::DeleteRecords) {
        let (low, error) = client.delete_records_in("t", 0, 4, version).await;
        assert_eq!((low, error), (-1, ErrorCode::OFFSET_OUT_OF_RANGE), "beyond the end");
        let (low, error) = client.delete_records_in("t", 0, -2, version).await;
        assert_eq!((low, error), (-1, ErrorCode::OFFSET_OUT_OF_RANGE));
        let (low, error) = client.delete_records_in("t", 1, 0, version).await;
        assert_eq!((low, error), (-1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }
    assert_eq!(client.delete_records("t", 0, 1).await, (1, ErrorCode::NONE));
    assert_eq!(client.delete_records("t", 0, 0).await, (1, ErrorCode::NONE), "it never goes back");
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    let fetched = client.fetch("t", 0, 0).await;
    assert_eq!(fetched.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(fetched.log_start_offset, 1);
    assert_eq!(client.delete_records("t", 0, -1).await, (3, ErrorCode::NONE), "all of them");
    let next = client.produce("t", 0, records(&["d"])).await;
    assert_eq!((next.base_offset, next.error_code), (3, ErrorCode::NONE), "none is given again");
    broker.stop().await;
}

/// As in Apache Kafka: of a topic that is compacted only nothing goes by its offset.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_topic_that_is_compacted_only_are_not_deleted() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for (topic, policy, expected) in [
        ("compacted", "compact", (-1, ErrorCode::POLICY_VIOLATION)),
        ("both", "compact,delete", (1, ErrorCode::NONE)),
    ] {
        client.create_with(topic, &[("cleanup.policy", policy)]).await;
        let mut builder = BatchBuilder::new();
        builder.push(0, Some(b"key"), Some(b"value"), &[]);
        let sent = client.produce(topic, 0, builder.build().expect("a batch")).await;
        assert_eq!(sent.error_code, ErrorCode::NONE);
        for version in ends(ApiKey::DeleteRecords) {
            let deleted = client.delete_records_in(topic, 0, 1, version).await;
            assert_eq!(deleted, expected, "{policy}");
        }
        let log_start = client.fetch(topic, 0, 1).await.log_start_offset;
        assert_eq!(log_start, expected.0.max(0), "{policy}");
    }
    broker.stop().await;
}

/// Each partition has its own answer, in its place; of one that is named twice the last word holds.
#[tokio::test(flavor = "multi_thread")]
async fn each_partition_is_answered_for_itself_and_once() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 4).await;
    for partition in 0..4 {
        for value in ["a", "b", "c"] {
            client.produce("t", partition, records(&[value])).await;
        }
    }
    let topic = |name: &str, wanted: &[(i32, i64)]| DeleteRecordsTopic {
        name: name.into(),
        partitions: wanted
            .iter()
            .map(|(partition_index, offset)| DeleteRecordsPartition {
                partition_index: *partition_index,
                offset: *offset,
            })
            .collect(),
    };
    let topics = vec![
        topic("t", &[(3, 1), (1, 4), (0, 2)]),
        topic("missing", &[(0, 0)]),
        topic("t", &[(3, 2), (7, 0), (2, -1), (2, 1)]),
    ];
    let request = DeleteRecordsRequest { topics, timeout_ms: 1_000 };
    let answer: DeleteRecordsResponse = client.call(&request, 2).await;
    let results = answer.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|result| {
            (&*topic.name, result.partition_index, result.low_watermark, result.error_code)
        })
    });
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let expected = [
        ("t", 1, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
        ("t", 0, 2, ErrorCode::NONE),
        ("missing", 0, -1, unknown),
        ("t", 3, 2, ErrorCode::NONE),
        ("t", 7, -1, unknown),
        ("t", 2, 1, ErrorCode::NONE),
    ];
    assert_eq!(results.collect::<Vec<_>>(), expected);
    broker.stop().await;
}
