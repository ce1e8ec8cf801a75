//! What other brokers have got wrong, one test for each trap.

mod common;

use bytes::{BufMut, BytesMut};
use common::{Broker, fetch, produce, records, sequenced, values_of};
use lossproof_wire::batch::Compression;
use lossproof_wire::*;

/// FETCH-2.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_inside_a_batch_returns_the_whole_batch() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a", "b", "c"])).await;
    let data = client.fetch("t", 0, 1).await;
    let bytes = data.records.expect("records");
    assert_eq!(values_of(&bytes, 0), ["a", "b", "c"], "clients skip what they did not ask for");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_is_returned_even_above_all_limits() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 2).await;
    let large = "x".repeat(10_000);
    for partition in [0, 1] {
        client.produce("t", partition, records(&[&large])).await;
    }
    let mut request = fetch("t", 0, 0);
    request.max_bytes = 1;
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    for partition in &mut request.topics[0].partitions {
        partition.partition_max_bytes = 1;
    }
    let answer: FetchResponse = client.call(&request, 12).await;
    let sizes: Vec<usize> = answer.responses[0]
        .partitions
        .iter()
        .map(|partition| partition.records.as_ref().map_or(0, bytes::Bytes::len))
        .collect();
    assert!(sizes[0] > 10_000, "the first is given whole: {sizes:?}");
    assert_eq!(sizes[1], 0, "and only the first");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_has_no_answer_and_keeps_the_order() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for round in 0..20 {
        let acks = if round % 2 == 0 { 0 } else { -1 };
        client.send(&produce("t", 0, acks, records(&[&round.to_string()])), 9).await;
    }
    for round in (1..20).step_by(2) {
        let answer: ProduceResponse = client.receive(9).await;
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, round);
    }
    let expected: Vec<String> = (0..20).map(|round| round.to_string()).collect();
    assert_eq!(client.values("t", 0).await, expected);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_that_fails_closes_the_connection() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.send(&produce("missing", 0, 0, records(&["a"])), 9).await;
    assert!(client.is_closed().await, "nothing else could tell the client");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_with_4_partitions_and_an_ipv4_address_is_advertised() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic = MetadataRequestTopic { name: Some("auto".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let answer: MetadataResponse = client.call(&request, 12).await;
    assert_eq!(answer.topics[0].partitions.len(), 4);
    assert_eq!((answer.brokers[0].host.as_str(), answer.brokers[0].port), ("127.0.0.1", 9092));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_only_where_the_request_allows_it() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic = |name: &str| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic("t"), topic("no name")]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer: MetadataResponse = client.call(&request, 9).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(answer.topics[1].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    let request = MetadataRequest { topics: None, ..Default::default() };
    let answer: MetadataResponse = client.call(&request, 9).await;
    assert_eq!(answer.topics, []);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_of_an_unknown_version_is_answered_in_version_0_with_error_35() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let mut frame = BytesMut::new();
    frame.put_i16(18);
    frame.put_i16(99);
    frame.put_i32(1_234);
    frame.put_slice(b"whatever the future holds");
    client.send_frame(&frame).await;
    let (correlation_id, answer) = client.receive_numbered::<ApiVersionsResponse>(0).await;
    assert_eq!((correlation_id, answer.error_code), (1_234, ErrorCode::UNSUPPORTED_VERSION));
    let own = answer.api_keys.iter().find(|entry| entry.api_key == 18).expect("its own range");
    assert_eq!((own.min_version, own.max_version), (0, 4));
    // And the client goes on with one that is known, on the same connection.
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let answer: ApiVersionsResponse = client.call(&request, 3).await;
    let produce = answer.api_keys.iter().find(|entry| entry.api_key == 0).expect("produce");
    assert_eq!((produce.min_version, produce.max_version), (0, 13), "from 0, for librdkafka");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_batches_are_refused() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let batch = common::builder(&["a"]).control(true).build();
    let answer = client.produce("t", 0, batch.expect("a batch")).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
    broker.stop().await;
}

/// PRODUCE-2.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_does_not_decode_is_refused_and_another_partition_is_not() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 2).await;
    let good = common::compressed(&["a", "b"], Compression::Zstd);
    let mut bad = good.to_vec();
    *bad.last_mut().expect("bytes") ^= 1;
    let mut request = produce("t", 0, -1, bad.into());
    request.topic_data[0]
        .partition_data
        .push(PartitionProduceData { index: 1, records: Some(good.clone()) });
    let answer: ProduceResponse = client.call(&request, 9).await;
    let codes: Vec<ErrorCode> =
        answer.responses[0].partition_responses.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [ErrorCode::CORRUPT_MESSAGE, ErrorCode::NONE], "PRODUCE-3");
    let two = [&good[..], &good[..]].concat();
    let answer = client.produce("t", 0, two.into()).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD, "one batch and no more");
    let answer = client.produce("t", 0, bytes::Bytes::new()).await;
    assert_ne!(answer.error_code, ErrorCode::NONE);
    assert_eq!(client.values("t", 0).await, [""; 0]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_answered_with_the_original_offset_and_stored_once() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let producer = client.producer_id().await;
    let first = client.produce("t", 0, sequenced(&["a", "b"], producer, 0)).await;
    client.produce("t", 0, sequenced(&["c"], producer, 2)).await;
    let again = client.produce("t", 0, sequenced(&["a", "b"], producer, 0)).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, first.base_offset));
    assert_eq!(client.values("t", 0).await, ["a", "b", "c"]);
    let gap = client.produce("t", 0, sequenced(&["e"], producer, 9)).await;
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    broker.stop().await;
}

/// Storage rule 13: the error after which clients start over, with the log's start, without which
/// the Java client only asks again.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_producer_with_a_sequence_above_0_is_told_to_start_over() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let answer = client.produce("t", 0, sequenced(&["a"], (4_711, 0), 5)).await;
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_PRODUCER_ID);
    assert_eq!(answer.log_start_offset, 0);
    let answer = client.produce("t", 0, sequenced(&["a"], (4_711, 1), 0)).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_not_the_leaders_is_refused_before_reading() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let mut request = fetch("t", 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = 1_000;
    let answer: FetchResponse = client.call(&request, 12).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
    assert_eq!(data.diverging_epoch, EpochEndOffset::default(), "must not look like truncation");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_out_of_range_says_so_and_is_never_clamped() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    for offset in [-1, 2, i64::MAX] {
        let data = client.fetch("t", 0, offset).await;
        assert_eq!(data.error_code, ErrorCode::OFFSET_OUT_OF_RANGE, "{offset}");
    }
    assert_eq!(client.fetch("t", 0, 1).await.error_code, ErrorCode::NONE);
    broker.stop().await;
}
