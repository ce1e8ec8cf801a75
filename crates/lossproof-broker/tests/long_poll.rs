//! A fetch waits for news, and nothing waits for a fetch on another connection; requests of one
//! connection are answered in their order, and none waits for the answer to another.

use crate::common;

use common::{Broker, eventually, fetch, produce, records, values_of};
use lossproof_wire::*;

/// So long that a test which waits for it never ends.
const FOR_EVER: i32 = i32::MAX;

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_is_answered_by_the_next_batch() {
    let broker = Broker::start().await;
    let (mut reader, mut writer) = (broker.client().await, broker.client().await);
    writer.create("t", 1).await;
    let request = FetchRequest { max_wait_ms: FOR_EVER, ..fetch("t", 0, 0) };
    reader.send(&request, 12).await;
    writer.produce("t", 0, records(&["a"])).await;
    let answer: FetchResponse = reader.receive(12).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(values_of(&data.records.clone().expect("records").into_bytes(), 0), ["a"]);
    assert_eq!(data.high_watermark, 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_wants_min_bytes() {
    let broker = Broker::start().await;
    let (mut reader, mut writer) = (broker.client().await, broker.client().await);
    writer.create("t", 1).await;
    let request = FetchRequest { max_wait_ms: FOR_EVER, min_bytes: 200, ..fetch("t", 0, 0) };
    reader.send(&request, 12).await;
    for value in ["a", "b", "c", "d"] {
        writer.produce("t", 0, records(&[value])).await;
    }
    let answer: FetchResponse = reader.receive(12).await;
    let bytes = answer.responses[0].partitions[0].records.clone().expect("records").into_bytes();
    assert!(bytes.len() >= 200, "{}", bytes.len());
    broker.stop().await;
}

/// CONN-1: the produce behind a waiting fetch is stored at once, though its answer comes second.
#[tokio::test(flavor = "multi_thread")]
async fn a_produce_behind_a_waiting_fetch_wakes_it() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let request = FetchRequest { max_wait_ms: FOR_EVER, ..fetch("t", 0, 0) };
    client.send(&request, 12).await;
    client.send(&produce("t", 0, -1, records(&["a"])), 9).await;
    let fetched: FetchResponse = client.receive(12).await;
    assert_eq!(fetched.responses[0].partitions[0].high_watermark, 1);
    let produced: ProduceResponse = client.receive(9).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    broker.stop().await;
}

/// CONN-3, BROKER-2.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_what_waits() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let request = FetchRequest { max_wait_ms: FOR_EVER, ..fetch("t", 0, 0) };
    client.send(&produce("t", 0, -1, records(&["a"])), 9).await;
    let _: ProduceResponse = client.receive(9).await;
    client.send(&FetchRequest { topics: fetch("t", 0, 1).topics, ..request }, 12).await;
    client.send(&produce("t", 0, -1, records(&["b"])), 9).await;
    let _: FetchResponse = client.receive(12).await;
    broker.drain();
    let produced: ProduceResponse = client.receive(9).await;
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 1);
    assert!(client.is_closed().await);
    broker.stop().await;
}

/// BROKER-3.
#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_a_place_comes_free() {
    let broker = Broker::with(|config| config.connections_max = 1).await;
    let mut first = broker.client().await;
    first.create("t", 1).await;
    assert!(broker.client().await.is_closed().await);
    drop(first);
    eventually("a place is free", async || broker.client().await.is_served().await).await;
    broker.stop().await;
}
