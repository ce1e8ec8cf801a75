//! CONN-2: whatever comes in on a connection ends that connection at most. Another connection,
//! open all the while, is served as before.

use crate::common;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use common::{Broker, Client, records};
use lossproof_env::ManualClock;
use lossproof_wire::samples::{broken_counts, probes};
use lossproof_wire::{ApiKey, ErrorCode};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tokio::io::AsyncWriteExt;

async fn is_served(client: &mut Client) {
    let answer = client.produce("t", 0, records(&["a"])).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

fn header(key: i16, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(1);
    out.put_i16(-1);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_kafka_is_closed() {
    let broker = Broker::start().await;
    let mut bystander = broker.client().await;
    bystander.create("t", 1).await;
    let requests: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff, 0, 0],
        &[0, 0, 0, 0, 0, 0],
    ];
    for request in requests {
        let mut client = broker.client().await;
        client.stream.write_all(request).await.expect("connected");
        assert!(client.is_closed().await, "{request:?}");
    }
    is_served(&mut bystander).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_apis_and_versions_are_closed() {
    let broker = Broker::start().await;
    let mut bystander = broker.client().await;
    bystander.create("t", 1).await;
    for (key, version) in [(999, 0), (-1, 0), (0, 2), (0, 99), (3, -1), (1, 3)] {
        let mut client = broker.client().await;
        client.send_frame(&header(key, version)).await;
        assert!(client.is_closed().await, "{key} {version}");
    }
    is_served(&mut bystander).await;
    broker.stop().await;
}

/// Two thousand million topics, announced in four bytes, and whatever else no request can hold, in
/// the place of each count. (What a count within a list announces is read by the same code, which
/// has a test of its own.)
#[tokio::test(flavor = "multi_thread")]
async fn impossible_counts_are_closed_in_every_api() {
    let broker = Broker::start().await;
    let mut bystander = broker.client().await;
    bystander.create("t", 1).await;
    // ApiVersions is answered whatever follows its header.
    let requests = probes()
        .into_iter()
        .filter(|probe| probe.name.ends_with("Request") && probe.api_key != ApiKey::ApiVersions);
    for (probe, version) in requests.flat_map(|probe| probe.versions().map(move |it| (probe, it))) {
        let (key, valid) = (probe.api_key, probe.sample(&[], version).expect("a request"));
        let impossible = broken_counts(&valid)
            .filter(|mutant| probe.decode(&mut mutant.clone().into(), version).is_err());
        let mut tried = 0;
        for mutant in impossible {
            let mut frame = header(key.code(), version);
            if key.is_flexible(version) {
                frame.put_u8(0);
            }
            frame.put_slice(&mutant);
            let mut client = broker.client().await;
            client.send_frame(&frame).await;
            assert!(client.is_closed().await, "{key:?} {version}: {mutant:?}");
            tried += 1;
        }
        // These have nothing that could be counted.
        let is_empty = key == ApiKey::ListGroups && version < 3;
        assert_eq!(tried > 0, !is_empty, "{key:?} {version}");
    }
    is_served(&mut bystander).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_frames_do_no_harm() {
    let broker = Broker::start().await;
    let mut bystander = broker.client().await;
    bystander.create("t", 1).await;
    let key = prop::sample::select(ApiKey::ALL.to_vec());
    let body = prop::collection::vec(any::<u8>(), 0..200);
    let frames = prop::collection::vec((key, any::<prop::sample::Index>(), body), 1_000);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let frames = frames.new_tree(&mut runner).expect("frames").current();
    let met: BTreeSet<ApiKey> = frames.iter().map(|(key, ..)| *key).collect();
    assert_eq!(met.len(), ApiKey::ALL.len(), "all that is served");
    for (key, version, body) in frames {
        let versions = key.served();
        let version = *versions.start() + version.index(versions.count()) as i16;
        let mut frame = header(key.code(), version);
        frame.put_slice(&body);
        let mut client = broker.client().await;
        client.send_frame(&frame).await;
        client.stream.shutdown().await.expect("connected");
        while client.receive_frame().await.is_some() {}
    }
    is_served(&mut bystander).await;
    broker.stop().await;
}

/// FRAME-2. Nobody but the connection is held up by it, and that not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_one_byte_a_second_are_dropped_and_hold_nobody_up() {
    const CLIENTS: usize = 20;
    /// A request has a minute; without a bound none of these would ever end.
    const SECONDS_MAX: usize = 1_000;
    let clock = ManualClock::new(1_700_000_000_000);
    let broker = Broker::on_clock(&clock).await;
    let mut bystander = broker.client().await;
    bystander.create("t", 1).await;
    let mut slow = vec![];
    for _ in 0..CLIENTS {
        let mut client = broker.client().await;
        client.stream.write_i32(1 << 20).await.expect("connected");
        slow.push(client);
    }
    for _ in 0..SECONDS_MAX {
        let mut left = vec![];
        for mut client in slow {
            if client.stream.write_all(b"x").await.is_ok() {
                left.push(client);
            }
        }
        slow = left;
        if slow.is_empty() {
            break;
        }
        is_served(&mut bystander).await;
        clock.advance(Duration::from_secs(1));
    }
    assert!(slow.is_empty(), "{} are still there", slow.len());
    is_served(&mut bystander).await;
    broker.stop().await;
}

/// BUDGET-1, -2: more is sent at once than there is memory for; all of it is stored.
#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_memory_wait_for_their_turn() {
    let broker = Broker::with(|config| {
        config.request_bytes_max = 1 << 20;
        config.memory_budget_bytes = 2 << 20;
    })
    .await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let batch: Bytes = records(&[&"x".repeat(700_000)]);
    let mut tasks = vec![];
    for _ in 0..8 {
        let (mut client, batch) = (broker.client().await, batch.clone());
        tasks.push(tokio::spawn(async move { client.produce("t", 0, batch).await.error_code }));
    }
    for task in tasks {
        assert_eq!(task.await.expect("the task does not panic"), ErrorCode::NONE);
    }
    assert_eq!(client.values("t", 0).await.len(), 8);
    broker.stop().await;
}
