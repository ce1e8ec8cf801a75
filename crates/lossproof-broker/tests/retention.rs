//! Retention on the wire: what the topic's settings let go of goes, by size and by age, and nothing
//! before.

use crate::common;

use std::time::Duration;

use bytes::Bytes;
use common::{Broker, Client};
use lossproof_env::{Clock, ManualClock};
use lossproof_wire::batch::BatchBuilder;
use lossproof_wire::*;

const VALUE_BYTES: usize = 10_000;
const BATCHES: i64 = 60;
const KEPT_BYTES: i64 = 200_000;
/// Records go by what one entry of the index holds: 128 KiB of journal, of 12 KiB each.
const PART_BATCHES: i64 = 10;
/// Of a time that the tests turn; the broker looks every five.
const MINUTES_MAX: u32 = 1_000;

fn batch_of(timestamp_ms: i64, key: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    let (key, value) = (key.to_string(), [b'x'; VALUE_BYTES]);
    builder.push(timestamp_ms, Some(key.as_bytes()), Some(&value), &[]);
    builder.build().expect("a batch")
}

async fn fill(client: &mut Client, topic: &str, timestamp_ms: i64) {
    for key in 0..BATCHES {
        let sent = client.produce(topic, 0, batch_of(timestamp_ms, key)).await;
        assert_eq!((sent.error_code, sent.base_offset), (ErrorCode::NONE, key));
    }
}

async fn log_start(client: &mut Client, topic: &str) -> i64 {
    let data = client.fetch(topic, 0, 0).await;
    let is_inside = data.error_code == ErrorCode::NONE;
    assert_eq!(is_inside, data.log_start_offset == 0, "{:?}", data.error_code);
    data.log_start_offset
}

/// Lets the broker look until the log starts where it is wanted.
async fn look(
    clock: &ManualClock,
    client: &mut Client,
    topic: &str,
    is_wanted: impl Fn(i64) -> bool,
) -> i64 {
    let mut start = 0;
    for _ in 0..MINUTES_MAX {
        start = log_start(client, topic).await;
        if is_wanted(start) {
            return start;
        }
        clock.advance(Duration::from_mins(1));
        tokio::task::yield_now().await;
    }
    panic!("{topic} still starts at {start}");
}

/// RETENTION-1.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_go_by_size_and_no_more_than_that() {
    let clock = ManualClock::new(1_700_000_000_000);
    let broker = Broker::on_clock(&clock).await;
    let mut client = broker.client().await;
    client.create_with("kept", &[]).await;
    client.create_with("t", &[("retention.bytes", &KEPT_BYTES.to_string())]).await;
    fill(&mut client, "kept", 1_000).await;
    fill(&mut client, "t", 1_000).await;
    let batch_bytes = batch_of(1_000, 0).len() as i64;
    let start = look(&clock, &mut client, "t", |start| {
        let kept = (BATCHES - start) * batch_bytes;
        assert!(kept >= KEPT_BYTES, "{start} goes too far");
        kept < KEPT_BYTES + PART_BATCHES * batch_bytes
    });
    let start = start.await;
    assert_eq!(log_start(&mut client, "kept").await, 0, "nobody has asked for it");
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(log_start(&mut client, "t").await, start, "after a power cut too");
    let records = client.fetch("t", 0, start).await.records.expect("records").into_bytes();
    let first = batch::BatchHeader::parse(&records).expect("a batch");
    assert_eq!(first.base_offset, start, "what is left is there");
    broker.stop().await;
}

/// RETENTION-1: of a topic that is compacted as well, by age; of one that is only compacted, never.
#[tokio::test(flavor = "multi_thread")]
async fn with_both_policies_what_is_old_goes_though_its_key_is_the_last() {
    let clock = ManualClock::new(1_700_000_000_000);
    let broker = Broker::on_clock(&clock).await;
    let mut client = broker.client().await;
    let (minute, day) = (("retention.ms", "60000"), ("retention.ms", "86400000"));
    let policy = |value| ("cleanup.policy", value);
    client.create_with("both", &[policy("compact,delete"), minute]).await;
    client.create_with("young", &[policy("compact,delete"), day]).await;
    client.create_with("compacted", &[policy("compact"), minute]).await;
    for topic in ["both", "young", "compacted"] {
        fill(&mut client, topic, clock.wall_ms()).await;
    }
    look(&clock, &mut client, "both", |start| start == BATCHES).await;
    for topic in ["young", "compacted"] {
        assert_eq!(log_start(&mut client, topic).await, 0, "{topic}");
    }
    let sent = client.produce("both", 0, batch_of(clock.wall_ms(), 0)).await;
    assert_eq!(
        (sent.error_code, sent.base_offset),
        (ErrorCode::NONE, BATCHES),
        "none is given again"
    );
    broker.stop().await;
}
