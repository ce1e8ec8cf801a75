//! What other brokers have got wrong, one test for each trap. Where each trap of the protocol is
//! tested, here or elsewhere: traps.md.

use crate::common;

use std::sync::{Arc, Mutex, mpsc};

use bytes::{BufMut, BytesMut};
use common::producer::Producer;
use common::{Broker, fetch, produce, records, sequenced, values_of};
use lossproof_env::{Fault, ManualClock, SimDisk, Step};
use lossproof_wire::batch::Compression;
use lossproof_wire::*;
use tokio::sync::oneshot;

/// FETCH-2.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_inside_a_batch_returns_the_whole_batch() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a", "b", "c"])).await;
    let data = client.fetch("t", 0, 1).await;
    let bytes = data.records.expect("records").into_bytes();
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
        .map(|partition| partition.records.as_ref().map_or(0, Records::len))
        .collect();
    assert!(sizes[0] > 10_000, "the first is given whole: {sizes:?}");
    assert_eq!(sizes[1], 0, "and only the first");
    broker.stop().await;
}

/// Long ones are sent from where they were read, short ones are copied, and an answer has both.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_all_lengths_arrive_whole_and_in_their_order() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let lengths = [10, 200_000, 5_000, 5_000, 10, 70_000, 10, 10, 300_000, 4_000].into_iter();
    let values: Vec<String> = lengths.zip('a'..).map(|(n, x)| x.to_string().repeat(n)).collect();
    for value in &values {
        client.produce("t", 0, records(&[value])).await;
    }
    let answer: FetchResponse = client.call(&fetch("t", 0, 0), 12).await;
    let read = answer.responses[0].partitions[0].records.clone().expect("records").into_bytes();
    assert!(values_of(&read, 0) == values, "all in one answer");
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

/// Nothing else could tell the client: whether there is no such topic, the batch is wrong, or the
/// disk fails.
#[tokio::test(flavor = "multi_thread")]
async fn acks_0_that_fails_closes_the_connection() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create_with("t", &[("max.message.bytes", "1000")]).await;
    let mut altered = records(&["a"]).to_vec();
    *altered.last_mut().expect("bytes") ^= 1;
    let large = records(&["x".repeat(1_001).as_str()]);
    for (topic, batch) in [("missing", records(&["a"])), ("t", altered.into()), ("t", large)] {
        let mut client = broker.client().await;
        client.send(&produce(topic, 0, 0, batch), 9).await;
        assert!(!client.is_served().await, "{topic}");
    }
    let mut open = broker.client().await;
    broker.disk.inject(Fault::sync(0).sticky());
    // The first fails by the disk itself, the second finds the journal closed.
    for mut client in [client, broker.client().await] {
        client.send(&produce("t", 0, 0, records(&["a"])), 9).await;
        assert!(!client.is_served().await, "not durable");
    }
    assert_eq!(open.values("t", 0).await, [""; 0]);
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

/// As in Apache Kafka. The trap: to look at the newest batch only would take it for a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_older_than_the_window_is_out_of_order_and_not_stored_again() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let producer = client.producer_id().await;
    let values = ["0", "1", "2", "3", "4", "5"];
    for (sequence, value) in (0..).zip(values) {
        client.produce("t", 0, sequenced(&[value], producer, sequence)).await;
    }
    let too_old = client.produce("t", 0, sequenced(&["0"], producer, 0)).await;
    assert_eq!(too_old.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(too_old.base_offset, -1);
    let oldest = client.produce("t", 0, sequenced(&["1"], producer, 1)).await;
    assert_eq!((oldest.error_code, oldest.base_offset), (ErrorCode::NONE, 1));
    assert_eq!(client.values("t", 0).await, values);
    let next = client.produce("t", 0, sequenced(&["6"], producer, 6)).await;
    assert_eq!((next.error_code, next.base_offset), (ErrorCode::NONE, 6));
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
    client.produce("t", 0, records(&["a"])).await;
    // Raises the epoch from 0 to 1.
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    for (epoch, expected) in [
        (0, ErrorCode::FENCED_LEADER_EPOCH),
        (1, ErrorCode::NONE),
        (2, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        for version in [9, 12] {
            let answer: FetchResponse = client.call(&request, version).await;
            let data = &answer.responses[0].partitions[0];
            assert_eq!(data.error_code, expected, "epoch {epoch}");
            let is_empty = data.records.as_ref().is_none_or(Records::is_empty);
            assert_eq!(is_empty, !expected.is_none(), "epoch {epoch}");
            let diverging = &data.diverging_epoch;
            assert_eq!(diverging, &EpochEndOffset::default(), "must not look like truncation");
        }
    }
    broker.stop().await;
}

/// FETCH-4, KIP-595. A reader that says from which epoch its last record is may have read in a log
/// that went on otherwise: it is told where that epoch ended here, and gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_fetched_epoch_that_ended_earlier_is_told_where_and_gets_nothing() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    client.produce("t", 0, records(&["b", "c"])).await;
    let diverging = |epoch, end_offset| EpochEndOffset { epoch, end_offset };
    let (none, nothing) = (EpochEndOffset::default(), [""; 0]);
    for (offset, epoch, expected, values) in [
        (1, 0, &none, &["b", "c"][..]),
        (2, 0, &diverging(0, 1), &nothing[..]),
        (3, 0, &diverging(0, 1), &nothing[..]),
        (3, 1, &none, &nothing[..]),
        (4, 1, &diverging(1, 3), &nothing[..]),
        (0, -1, &none, &["a", "b", "c"][..]),
    ] {
        let mut request = fetch("t", 0, offset);
        request.topics[0].partitions[0].last_fetched_epoch = epoch;
        let answer: FetchResponse = client.call(&request, 12).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE, "{offset} after epoch {epoch}");
        assert_eq!(&data.diverging_epoch, expected, "{offset} after epoch {epoch}");
        assert_eq!(data.high_watermark, 3);
        let records = data.records.clone().unwrap_or_default().into_bytes();
        assert_eq!(common::values_of(&records, offset), values, "{offset} after epoch {epoch}");
    }
    for (offset, epoch, expected) in
        [(0, 2, ErrorCode::UNKNOWN_LEADER_EPOCH), (-1, 0, ErrorCode::OFFSET_OUT_OF_RANGE)]
    {
        let mut request = fetch("t", 0, offset);
        request.topics[0].partitions[0].last_fetched_epoch = epoch;
        let answer: FetchResponse = client.call(&request, 12).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!((data.error_code, &data.diverging_epoch), (expected, &none), "epoch {epoch}");
    }
    // In a session it is told as often as it is met.
    let mut request = fetch("t", 0, 2);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    for session_epoch in 0..2 {
        request.session_epoch = session_epoch;
        let answer: FetchResponse = client.call(&request, 12).await;
        assert_eq!(answer.responses[0].partitions[0].diverging_epoch, diverging(0, 1));
        request = FetchRequest { session_id: answer.session_id, topics: vec![], ..request };
    }
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

/// Until it is dropped, the next sync of a file has not returned.
struct HeldSync {
    begun: oneshot::Receiver<()>,
    _release: mpsc::Sender<()>,
}

fn hold_the_next_sync(disk: &SimDisk) -> HeldSync {
    let (begin, begun) = oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    let once = Mutex::new(Some((begin, released)));
    disk.observe(Some(Arc::new(move |_, step| {
        let is_sync = matches!(step, Step::SyncData { .. });
        let held = is_sync.then(|| once.lock().expect("no panic").take()).flatten();
        if let Some((begin, released)) = held {
            begin.send(()).expect("the test waits for it");
            let _ = released.recv();
        }
    })));
    HeldSync { begun, _release: release }
}

/// PRODUCE-1. The trap: the retry is found in memory while the original is on its way to the disk.
/// Its producer would take the answer for the acknowledgement of what is then lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_what_is_not_durable_is_not_acknowledged() {
    // Time stands still: nothing but the commits wants the disk.
    let broker = Broker::on_clock(&ManualClock::new(0)).await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let producer = client.producer_id().await;
    let mut held = hold_the_next_sync(&broker.disk);
    let mut other = broker.client().await;
    other.send(&produce("t", 0, -1, records(&["before"])), 9).await;
    (&mut held.begun).await.expect("the sync has begun");
    // Both wait while the disk is busy, and so come to it together: no fence answers the second.
    let queue_bytes = || broker.monitor.figures().log.queue_bytes;
    let one = queue_bytes();
    let batch = sequenced(&["a"], producer, 0);
    for _ in 0..2 {
        client.send(&produce("t", 0, -1, batch.clone()), 9).await;
    }
    while queue_bytes() < 3 * one {
        tokio::task::yield_now().await;
    }
    broker.disk.inject(Fault::sync(0).sticky());
    drop(held);
    let answer: ProduceResponse = other.receive(9).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    for _ in 0..2 {
        let answer: ProduceResponse = client.receive(9).await;
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ErrorCode::KAFKA_STORAGE_ERROR);
    }
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.values("t", 0).await, ["before"]);
    assert_eq!(client.produce("t", 0, batch).await.base_offset, 1, "and is stored when it comes");
    broker.stop().await;
}

/// FETCH-1, FETCH-2. The trap: a reader in the middle of an aborted batch gets all of the batch,
/// and without its abort in the list would take the rest of it for committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_fetch_inside_an_aborted_batch_names_its_abort() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let mut producer = Producer::new(&broker, "payments").await;
    producer.add("t", &[0]).await;
    assert_eq!(producer.send("t", 0, 0, &["a", "b", "c"]).await, ErrorCode::NONE);
    assert_eq!(producer.end(false).await, ErrorCode::NONE);
    client.produce("t", 0, records(&["d", "e"])).await;
    producer.add("t", &[0]).await;
    assert_eq!(producer.send("t", 0, 3, &["f"]).await, ErrorCode::NONE);
    for (offset, first) in [(1, 0), (2, 0), (3, 3), (5, 4)] {
        let data = client.fetch_committed("t", offset).await;
        let records = data.records.expect("records").into_bytes();
        let header = lossproof_wire::batch::BatchHeader::parse(&records).expect("a batch");
        assert_eq!(header.base_offset, first, "the whole batch with {offset}");
        let aborted = data.aborted_transactions.expect("a list");
        let named: Vec<i64> = aborted.iter().map(|it| it.first_offset).collect();
        assert_eq!(named, if offset < 4 { vec![0] } else { vec![] }, "from {offset} on");
        assert_eq!(data.last_stable_offset, 6, "what is open is not given");
    }
    assert_eq!(client.committed_values("t").await, ["d", "e"]);
    broker.stop().await;
}

/// The trap: a commit of the producer before, late on its way, ends the transaction of the one that
/// has taken its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_end_of_an_old_epoch_does_not_end_the_next_transaction() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let mut before = Producer::new(&broker, "payments").await;
    before.add("t", &[0]).await;
    assert_eq!(before.send("t", 0, 0, &["old"]).await, ErrorCode::NONE);
    let mut after = Producer::new(&broker, "payments").await;
    after.add("t", &[0]).await;
    assert_eq!(after.send("t", 0, 0, &["new"]).await, ErrorCode::NONE);
    for committed in [true, false] {
        assert_eq!(before.end(committed).await, ErrorCode::PRODUCER_FENCED);
        assert_eq!(client.fetch("t", 0, 0).await.last_stable_offset, 2, "still open");
    }
    assert_eq!(after.end(true).await, ErrorCode::NONE);
    assert_eq!(client.committed_values("t").await, ["new"]);
    broker.stop().await;
}

/// TOPIC-2. The trap: a client that knows the topic of before goes on in the new one of that name,
/// at offsets that mean something else there.
#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_topic_that_was_made_anew_is_unknown() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let old = client.create("t", 1).await.topic_id;
    client.produce("t", 0, records(&["a"])).await;
    let topics = vec![DeleteTopicState { topic_id: old, ..Default::default() }];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    let _: DeleteTopicsResponse = client.call(&request, 6).await;
    assert_ne!(client.create("t", 1).await.topic_id, old);
    client.produce("t", 0, records(&["b"])).await;

    let mut request = fetch("", 0, 0);
    request.topics[0].topic_id = old;
    let answer: FetchResponse = client.call(&request, 13).await;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_ID);
    let mut request = produce("", 0, -1, records(&["c"]));
    request.topic_data[0].topic_id = old;
    let answer: ProduceResponse = client.call(&request, 13).await;
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_ID);
    let mut request = common::offset_commit("g", -1, "", "", 0, 1);
    request.topics[0].topic_id = old;
    let answer: OffsetCommitResponse = client.call(&request, 10).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(client.values("t", 0).await, ["b"]);
    broker.stop().await;
}

/// The epoch of a producer never falls, whoever asks.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_below_the_known_one_is_refused() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let (id, epoch) = client.producer_id().await;
    let in_epoch = |epoch, sequence| sequenced(&["a"], (id, epoch), sequence);
    assert_eq!(client.produce("t", 0, in_epoch(epoch + 1, 0)).await.error_code, ErrorCode::NONE);
    for sequence in [0, 1] {
        let answer = client.produce("t", 0, in_epoch(epoch, sequence)).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_PRODUCER_EPOCH);
    }
    let answer = client.produce("t", 0, in_epoch(epoch + 2, 1)).await;
    assert_eq!(answer.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "a new one begins at 0");
    assert_eq!(client.values("t", 0).await, ["a"]);
    broker.stop().await;
}

/// Each batch is sent from the memory it was read into: more pieces than are written at a time, and
/// more bytes than the network takes.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_very_many_batches_arrives_whole() {
    /// Nearly fills the blocks that it takes on the disk, or it would be copied.
    const VALUE_BYTES: usize = 7_700;
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let values: Vec<String> = (0..100).map(|it| format!("{it:0>VALUE_BYTES$}")).collect();
    for value in &values {
        assert_eq!(client.produce("t", 0, records(&[value])).await.error_code, ErrorCode::NONE);
    }
    let data = client.fetch("t", 0, 0).await;
    assert!(values_of(&data.records.expect("records").into_bytes(), 0) == values);
    broker.stop().await;
}
