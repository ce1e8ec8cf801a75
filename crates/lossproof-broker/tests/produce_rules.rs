//! What a topic asks of a batch: its size, the clock of its timestamps, how far they may be off,
//! and a key where only the last record of each key is kept. (CHECK-1, CHECK-2)

use crate::common;

use bytes::Bytes;
use common::{Broker, Client, builder, produce, records, sequenced};
use lossproof_log::COMPACTED_BYTES_MAX;
use lossproof_wire::batch::{self, BatchBuilder, BatchHeader, Compression, TimestampType};
use lossproof_wire::*;

const HOUR_MS: i64 = 3_600_000;

/// Records with these timestamps and keys.
fn batch(records: &[(i64, Option<&str>)], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new().compression(compression);
    for (timestamp, key) in records {
        builder.push(*timestamp, key.map(str::as_bytes), Some(b"value"), &[]);
    }
    builder.build().expect("a batch")
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as i64
}

async fn is_empty(client: &mut Client, topic: &str) -> bool {
    let partition = client.fetch(topic, 0, 0).await;
    partition.high_watermark == 0 && partition.records.unwrap_or_default().is_empty()
}

/// The numbers of the records that are named in the answer.
fn named(answer: &PartitionProduceResponse) -> Vec<i32> {
    assert!(answer.record_errors.iter().all(|error| error.batch_index_error_message.is_some()));
    answer.record_errors.iter().map(|error| error.batch_index).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_a_batch_is_bounded_by_its_topic_and_then_by_the_broker() {
    let large = records(&[&"x".repeat(3_000)]);
    let broker = Broker::with(|config| config.message_bytes_max = 2_000).await;
    let mut client = broker.client().await;
    client.create_with("wide", &[("max.message.bytes", "4000")]).await;
    client.create_with("narrow", &[("max.message.bytes", "100")]).await;
    client.create_with("plain", &[]).await;
    assert_eq!(client.produce("wide", 0, large.clone()).await.error_code, ErrorCode::NONE);
    for topic in ["narrow", "plain"] {
        let answer = client.produce(topic, 0, large.clone()).await;
        assert_eq!(answer.error_code, ErrorCode::MESSAGE_TOO_LARGE, "{topic}");
        assert!(is_empty(&mut client, topic).await);
    }
    let small = records(&["y"]);
    assert_eq!(client.produce("plain", 0, small).await.error_code, ErrorCode::NONE);
    broker.stop().await;
}

/// CHECK-2.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_append_is_stored_under_a_right_checksum_and_answered() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create_with("t", &[("message.timestamp.type", "LogAppendTime")]).await;
    for compression in [Compression::None, Compression::Gzip] {
        let before = now_ms();
        let sent = batch(&[(1, None), (2, None)], compression);
        let answer = client.produce("t", 0, sent).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let stamp = answer.log_append_time_ms;
        assert!((before..=now_ms()).contains(&stamp), "{stamp}");
        let stored =
            client.fetch("t", 0, answer.base_offset).await.records.expect("a batch").into_bytes();
        let header = BatchHeader::parse(&stored).expect("a batch");
        header.verify_checksum(&stored).expect("CHECK-2");
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppend);
        let times =
            batch::records(&stored).expect("a batch").map(|record| record.map(|it| it.timestamp));
        let times: Vec<_> = times.collect::<Result<_, _>>().expect("records");
        assert_eq!(times, [stamp, stamp]);
    }
    broker.stop().await;
}

/// CHECK-2: a retry is told the time that is stored, which is that of the first try, whatever the
/// topic has been told in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_answered_with_the_time_of_the_original() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for (topic, before, after) in [
        ("a", "LogAppendTime", "LogAppendTime"),
        ("b", "LogAppendTime", "CreateTime"),
        ("c", "CreateTime", "LogAppendTime"),
    ] {
        client.create_with(topic, &[("message.timestamp.type", before)]).await;
        let producer = client.producer_id().await;
        let once = client.produce(topic, 0, sequenced(&["a"], producer, 0)).await;
        assert_eq!(once.log_append_time_ms == -1, before == "CreateTime", "{topic}");
        while now_ms() <= once.log_append_time_ms {
            tokio::task::yield_now().await;
        }
        set_timestamp_type(&mut client, topic, after).await;
        let again = client.produce(topic, 0, sequenced(&["a"], producer, 0)).await;
        assert_eq!(again, once, "{topic}");
    }
    broker.stop().await;
}

/// There is one replica, and that is all of them: a topic that was made for several is no dead end.
#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_are_not_waited_for_than_there_are() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create_with("t", &[("min.insync.replicas", "2")]).await;
    for acks in [-1, 1] {
        let request = produce("t", 0, acks, records(&["a"]));
        let answer: ProduceResponse = client.call(&request, 9).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    }
    drop(client);
    let broker = broker.power_cut().await;
    assert_eq!(broker.client().await.values("t", 0).await, ["a", "a"]);
    broker.stop().await;
}

async fn set_timestamp_type(client: &mut Client, topic: &str, value: &str) {
    let config = IncrementalAlterableConfig {
        name: "message.timestamp.type".into(),
        config_operation: 0,
        value: Some(value.into()),
    };
    let resource = IncrementalAlterConfigsResource {
        resource_type: 2,
        resource_name: topic.into(),
        configs: vec![config],
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer: IncrementalAlterConfigsResponse = client.call(&request, 1).await;
    assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
}

/// CHECK-1.
#[tokio::test(flavor = "multi_thread")]
async fn timestamps_too_far_off_are_refused_and_named() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let hour = HOUR_MS.to_string();
    let bounds = [
        ("message.timestamp.before.max.ms", hour.as_str()),
        ("message.timestamp.after.max.ms", hour.as_str()),
    ];
    client.create_with("t", &bounds).await;
    let now = now_ms();
    for (wrong, compression) in
        [(now - 2 * HOUR_MS, Compression::None), (now + 2 * HOUR_MS, Compression::Zstd)]
    {
        let sent = batch(&[(now, None), (wrong, None), (-1, None)], compression);
        let answer = client.produce("t", 0, sent).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_TIMESTAMP);
        assert_eq!(named(&answer), [1]);
        assert!(is_empty(&mut client, "t").await);
    }
    let sent = batch(&[(now - HOUR_MS / 2, None), (now + HOUR_MS / 2, None)], Compression::None);
    assert_eq!(client.produce("t", 0, sent).await.error_code, ErrorCode::NONE);
    broker.stop().await;
}

/// Under the broker's clock nobody looks at the producer's.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_the_append_is_never_too_far_off() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let settings =
        [("message.timestamp.type", "LogAppendTime"), ("message.timestamp.before.max.ms", "1")];
    client.create_with("t", &settings).await;
    assert_eq!(client.produce("t", 0, records(&["old"])).await.error_code, ErrorCode::NONE);
    broker.stop().await;
}

/// CHECK-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_takes_no_record_without_a_key() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for (topic, compression) in [("t", Compression::None), ("u", Compression::Lz4)] {
        client.create_with(topic, &[("cleanup.policy", "delete,compact")]).await;
        let sent = batch(&[(1, None), (1, Some("k")), (1, None)], compression);
        let answer = client.produce(topic, 0, sent).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_RECORD);
        assert_eq!(named(&answer), [0, 2]);
        assert!(is_empty(&mut client, topic).await);
        let whole = batch(&[(1, Some("k")), (1, Some(""))], compression);
        assert_eq!(client.produce(topic, 0, whole).await.error_code, ErrorCode::NONE);
    }
    broker.stop().await;
}

/// However many records a batch has: the answer stays small.
#[tokio::test(flavor = "multi_thread")]
async fn not_every_wrong_record_is_named() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create_with("t", &[("cleanup.policy", "compact")]).await;
    let many = vec!["x"; 5_000];
    let request = produce("t", 0, -1, builder(&many).build().expect("a batch"));
    let answer: ProduceResponse = client.call(&request, 9).await;
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, named(partition).len()), (ErrorCode::INVALID_RECORD, 100));
    broker.stop().await;
}

/// Compaction would have to hold it whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_takes_no_batch_that_could_not_be_taken_apart() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create_with("plain", &[]).await;
    client.create_with("compacted", &[("cleanup.policy", "compact")]).await;
    let zeros = vec![0; COMPACTED_BYTES_MAX as usize];
    let mut builder = BatchBuilder::new().compression(Compression::Zstd);
    builder.push(1_000, Some(b"key"), Some(&zeros), &[]);
    let bomb = builder.build().expect("a batch");
    for (topic, expected) in
        [("plain", ErrorCode::NONE), ("compacted", ErrorCode::MESSAGE_TOO_LARGE)]
    {
        assert_eq!(client.produce(topic, 0, bomb.clone()).await.error_code, expected, "{topic}");
    }
    broker.stop().await;
}
