//! ListOffsets on the wire: where a partition begins and ends, and where a time is found in it.

use crate::accepted_loss::spoil;
use crate::common;

use bytes::Bytes;
use common::{Broker, Client, ends, records};
use lossproof_wire::batch::{self, BatchBuilder, BatchHeader};
use lossproof_wire::*;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

fn wanted(topic: &str, partition: i32, timestamp: i64, leader_epoch: i32) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.into(),
            partitions: vec![ListOffsetsPartition {
                partition_index: partition,
                current_leader_epoch: leader_epoch,
                timestamp,
            }],
        }],
        ..Default::default()
    }
}

async fn list(
    client: &mut Client,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let answer: ListOffsetsResponse = client.call(&request, version).await;
    assert_eq!(answer.topics[0].name, request.topics[0].name);
    answer.topics[0].partitions[0].clone()
}

/// Offset and timestamp, where there is no error.
async fn found(client: &mut Client, timestamp: i64, version: i16) -> (i64, i64) {
    let answer = list(client, wanted("t", 0, timestamp, -1), version).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    (answer.offset, answer.timestamp)
}

fn at(timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for timestamp in timestamps {
        builder.push(*timestamp, None, Some(b"x"), &[]);
    }
    builder.build().expect("a batch")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earliest_offset_is_the_first_and_the_latest_is_the_next_one() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for version in ends(ApiKey::ListOffsets) {
        assert_eq!(found(&mut client, EARLIEST, version).await, (0, -1), "an empty log");
        assert_eq!(found(&mut client, LATEST, version).await, (0, -1), "an empty log");
    }
    client.produce("t", 0, records(&["a", "b", "c"])).await;
    for version in ends(ApiKey::ListOffsets) {
        assert_eq!(found(&mut client, EARLIEST, version).await, (0, -1));
        assert_eq!(found(&mut client, LATEST, version).await, (3, -1));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_gives_the_first_record_that_is_not_older_even_inside_a_batch() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    // Clocks of producers go back as well.
    client.produce("t", 0, at(&[1_000, 1_010, 1_005])).await;
    client.produce("t", 0, at(&[900, 2_000])).await;
    for version in ends(ApiKey::ListOffsets) {
        for (timestamp, expected) in [
            (0, (0, 1_000)),
            (1_000, (0, 1_000)),
            (1_001, (1, 1_010)),
            (1_010, (1, 1_010)),
            (1_011, (4, 2_000)),
            (2_000, (4, 2_000)),
            (2_001, (-1, -1)),
            (i64::MAX, (-1, -1)),
        ] {
            assert_eq!(found(&mut client, timestamp, version).await, expected, "{timestamp}");
        }
    }
    broker.stop().await;
}

/// What DeleteRecords has left is found, and nothing of the rest: neither by an index entry that
/// begins below the log start, nor by a batch that does.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_found_by_its_time() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, at(&[9_000])).await;
    client.produce("t", 0, at(&[1_000, 3_000])).await;
    client.produce("t", 0, at(&[2_000])).await;
    // So long that it is read by itself, and what follows is in the next entry of the index.
    let mut long = BatchBuilder::new();
    long.push(1_500, None, Some(&vec![b'x'; 300_000]), &[]);
    client.produce("t", 0, long.build().expect("a batch")).await;
    client.produce("t", 0, at(&[4_000])).await;
    let cases = [
        (0, [(0, (0, 9_000)), (9_000, (0, 9_000)), (MAX_TIMESTAMP, (0, 9_000))]),
        (1, [(0, (1, 1_000)), (3_001, (5, 4_000)), (MAX_TIMESTAMP, (5, 4_000))]),
        (2, [(0, (2, 3_000)), (3_001, (5, 4_000)), (9_000, (-1, -1))]),
        (3, [(0, (3, 2_000)), (2_001, (5, 4_000)), (MAX_TIMESTAMP, (5, 4_000))]),
        (6, [(0, (-1, -1)), (4_000, (-1, -1)), (MAX_TIMESTAMP, (-1, -1))]),
    ];
    for (log_start, sought) in cases {
        assert_eq!(client.delete_records("t", 0, log_start).await, (log_start, ErrorCode::NONE));
        for (timestamp, expected) in sought {
            let found = found(&mut client, timestamp, 7).await;
            assert_eq!(found, expected, "{timestamp} from {log_start} on");
        }
    }
    broker.stop().await;
}

/// What is gone of the batch in which the log begins now was the newest of all.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_record_that_is_gone_is_not_told() {
    for (left, newest, not_older) in
        [(1_000, (2, 2_000), (1, 1_000)), (3_000, (1, 3_000), (1, 3_000))]
    {
        let broker = Broker::start().await;
        let mut client = broker.client().await;
        client.create("t", 1).await;
        client.produce("t", 0, at(&[9_000, left])).await;
        client.produce("t", 0, at(&[2_000])).await;
        assert_eq!(found(&mut client, MAX_TIMESTAMP, 7).await, (0, 9_000));
        assert_eq!(client.delete_records("t", 0, 1).await, (1, ErrorCode::NONE));
        assert_eq!(found(&mut client, MAX_TIMESTAMP, 7).await, newest);
        // There is none; what comes first is too early, and so never too late.
        assert_eq!(found(&mut client, 5_000, 7).await, not_older);
        broker.stop().await;
    }
}

/// A batch may have to be decompressed for each.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_looked_up_once_in_a_request() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let mut request = wanted("t", 0, 0, -1);
    let topic = request.topics[0].clone();
    request.topics[0].partitions.push(topic.partitions[0].clone());
    request.topics.push(topic);
    for version in ends(ApiKey::ListOffsets) {
        let answer: ListOffsetsResponse = client.call(&request, version).await;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<ErrorCode> = partitions.map(|partition| partition.error_code).collect();
        let twice = ErrorCode::INVALID_REQUEST;
        assert_eq!(codes, [ErrorCode::NONE, twice, twice], "BUDGET-6");
    }
    broker.stop().await;
}

/// A header that claims less than its records have would make a seek by time step over them. What
/// is stored and given out has the true time, as on Apache Kafka.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_maximum_timestamp_hides_nothing() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for claimed in [0, 9_000] {
        let batch = batch::with_max_timestamp(&at(&[1_000, 3_000]), claimed).expect("a batch");
        assert_eq!(client.produce("t", 0, batch).await.error_code, ErrorCode::NONE);
    }
    assert_eq!(found(&mut client, 2_000, 7).await, (1, 3_000));
    assert_eq!(found(&mut client, 3_001, 7).await, (-1, -1));
    for batch in batch::split(&client.fetch("t", 0, 0).await.records.expect("records").into_bytes())
    {
        let batch = batch.expect("a whole batch");
        let header = BatchHeader::parse(&batch).expect("a header");
        assert_eq!(header.max_timestamp, 3_000);
        header.verify_checksum(&batch).expect("the checksum goes with it");
    }
    broker.stop().await;
}

/// Each of the special times has a version from which on a client may know what it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn special_times_are_answered_from_their_version_on_and_refused_before() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, at(&[1_000, 3_000, 2_000])).await;
    for (timestamp, first, expected) in
        [(MAX_TIMESTAMP, 7, (1, 3_000)), (EARLIEST_LOCAL, 8, (0, -1)), (LATEST_TIERED, 9, (-1, -1))]
    {
        for version in first..=10 {
            assert_eq!(found(&mut client, timestamp, version).await, expected, "{timestamp}");
        }
        for version in 1..first {
            let answer = list(&mut client, wanted("t", 0, timestamp, -1), version).await;
            assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION, "{timestamp} {version}");
            assert_eq!((answer.offset, answer.timestamp), (-1, -1));
        }
    }
    let answer = list(&mut client, wanted("t", 0, -99, -1), 10).await;
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION, "no such time is known");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_or_partition_that_does_not_exist_is_an_error_and_no_offset() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for version in ends(ApiKey::ListOffsets) {
        for (topic, partition) in [("missing", 0), ("t", 1), ("t", -1)] {
            for timestamp in [EARLIEST, LATEST, 0] {
                let request = wanted(topic, partition, timestamp, -1);
                let answer = list(&mut client, request, version).await;
                assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                assert_eq!((answer.offset, answer.timestamp, answer.leader_epoch), (-1, -1, -1));
            }
        }
    }
    broker.stop().await;
}

/// KIP-320. A start that was not in order raises the epoch (storage rule 11).
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_epoch_that_is_not_the_present_one_is_refused() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    let present = list(&mut client, wanted("t", 0, LATEST, -1), 10).await.leader_epoch;
    assert!(present > 0, "the power cut has raised it");
    for version in [4, 10] {
        let known = list(&mut client, wanted("t", 0, LATEST, present), version).await;
        assert_eq!((known.error_code, known.offset), (ErrorCode::NONE, 1));
        assert_eq!(known.leader_epoch, present);
        for (epoch, refused) in [
            (present - 1, ErrorCode::FENCED_LEADER_EPOCH),
            (present + 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
        ] {
            let answer = list(&mut client, wanted("t", 0, LATEST, epoch), version).await;
            assert_eq!((answer.error_code, answer.offset), (refused, -1));
        }
    }
    broker.stop().await;
}

/// The trap: a damaged batch is in no index, and the next one looks like the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_not_looked_for_behind_what_is_damaged() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for (offset, timestamp) in [1_000, 2_000, 3_000].into_iter().enumerate() {
        let mut builder = BatchBuilder::new();
        builder.push(timestamp, None, Some(format!("record {offset}").as_bytes()), &[]);
        client.produce("t", 0, builder.build().expect("a batch")).await;
    }
    let disk = broker.stop().await.killed();
    spoil(&disk, "record 1");
    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(found(&mut client, 500, 7).await, (0, 1_000), "what is before it is found");
    for timestamp in [1_500, 2_500, 3_500] {
        let begin = (1, timestamp);
        assert_eq!(found(&mut client, timestamp, 7).await, begin, "{timestamp}: where it begins");
    }
    assert_eq!(client.fetch("t", 0, 1).await.error_code, ErrorCode::CORRUPT_MESSAGE);
    let newest = list(&mut client, wanted("t", 0, MAX_TIMESTAMP, -1), 7).await;
    assert_eq!(newest.error_code, ErrorCode::KAFKA_STORAGE_ERROR, "it may be the newest");
    client.delete_records("t", 0, 2).await;
    assert_eq!(found(&mut client, 1_500, 7).await, (2, 3_000), "nobody reads what is removed");
    assert_eq!(found(&mut client, MAX_TIMESTAMP, 7).await, (2, 3_000));
    broker.stop().await;
}
