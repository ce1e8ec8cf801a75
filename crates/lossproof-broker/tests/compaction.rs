//! Compaction on the wire: of each key the last record stays, and a consumer that begins at offset
//! 0 gets past what is gone. The broker looks every few milliseconds; the test asks until it has
//! happened.

use crate::common;

use std::time::Duration;

use bytes::Bytes;
use common::{Broker, Client, eventually};
use lossproof_wire::batch::{BatchBuilder, Compression, records, split};
use lossproof_wire::*;

/// A topic that is compacted as soon as there is anything to compact.
const EAGER: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "0"),
];

async fn broker() -> Broker {
    Broker::with(|config| config.retention_check = Duration::from_millis(5)).await
}

async fn send(client: &mut Client, topic: &str, pairs: &[(&str, Option<&str>)]) -> i64 {
    let mut builder = BatchBuilder::new().compression(Compression::Lz4);
    for (key, value) in pairs {
        builder.push(1_000, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    let sent = client.produce(topic, 0, builder.build().expect("a batch")).await;
    assert_eq!(sent.error_code, ErrorCode::NONE);
    sent.base_offset
}

/// Offsets, keys and values of all records, as a consumer gets them that begins at offset 0.
async fn all(client: &mut Client, topic: &str) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let (mut next, mut found) = (0, Vec::new());
    loop {
        let data = client.fetch(topic, 0, next).await;
        assert_eq!(data.error_code, ErrorCode::NONE);
        let bytes = data.records.unwrap_or_default().into_bytes();
        if bytes.is_empty() {
            assert_eq!(next, data.high_watermark, "the log end is reached");
            return found;
        }
        for batch in split(&bytes) {
            let batch = batch.expect("a whole batch");
            let header = batch::BatchHeader::parse(&batch).expect("a header");
            header.verify_checksum(&batch).expect("the checksum fits");
            for record in records(&batch).expect("a batch") {
                let record = record.expect("a record");
                let key = text(record.key.expect("a key"));
                found.push((record.offset, key, record.value.map(text)));
            }
            next = header.last_offset() + 1;
        }
    }
}

fn record(offset: i64, key: &str, value: &str) -> (i64, String, Option<String>) {
    (offset, key.into(), Some(value.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_key_the_last_record_stays_at_its_offset() {
    let broker = broker().await;
    let mut client = broker.client().await;
    client.create_with("kept", &[("cleanup.policy", "delete")]).await;
    client.create_with("t", &EAGER).await;
    for topic in ["kept", "t"] {
        send(&mut client, topic, &[("a", Some("0")), ("b", Some("1")), ("a", Some("2"))]).await;
        send(&mut client, topic, &[("b", None), ("c", Some("4"))]).await;
        send(&mut client, topic, &[("c", Some("5"))]).await;
    }
    let expected = [record(2, "a", "2"), record(5, "c", "5")];
    eventually("compacted", async || all(&mut client, "t").await == expected).await;
    assert_eq!(all(&mut client, "kept").await.len(), 6, "nobody has asked for it");
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(all(&mut client, "t").await, expected);
    assert_eq!(send(&mut client, "t", &[("a", Some("6"))]).await, 6);
    let expected = [record(5, "c", "5"), record(6, "a", "6")];
    eventually("compacted", async || all(&mut client, "t").await == expected).await;
    broker.stop().await;
}
