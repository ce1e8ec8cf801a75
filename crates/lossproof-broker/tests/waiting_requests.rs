//! BUDGET-4: requests that wait for other clients hold no memory that a producer needs, whatever
//! their size. Time stands still, so that none of them is ever done waiting by itself.

use crate::common;

use std::time::Duration;

use bytes::Bytes;
use common::member::{Age, Member};
use common::{Broker, Client, eventually, fetch, records};
use lossproof_broker::BrokerConfig;
use lossproof_env::ManualClock;
use lossproof_wire::*;

/// Two of them are more than there is, but for the reserve.
const LARGE_BYTES: usize = 700 << 10;
/// So long that a test which waits for it never ends.
const FOR_EVER: i32 = i32::MAX;

async fn broker(clock: &ManualClock) -> (Broker, Client) {
    let settings = |config: &mut BrokerConfig| {
        config.request_bytes_max = 1 << 20;
        config.memory_budget_bytes = 2 << 20;
    };
    let broker = Broker::on_clock_with(clock, settings).await;
    let mut bystander = broker.client().await;
    bystander.create("t", 2).await;
    (broker, bystander)
}

/// With more than a small request may take; to where no reader waits.
async fn is_served(bystander: &mut Client) {
    let batch = records(&[&"x".repeat(400 << 10)]);
    assert_eq!(bystander.produce("t", 1, batch).await.error_code, ErrorCode::NONE);
}

/// A fetch of what is not there yet, which says much that nobody wants to know.
fn large_fetch() -> FetchRequest {
    let named =
        |number: usize| ForgottenTopic { topic: format!("{number:0>30000}"), ..Default::default() };
    let forgotten_topics_data = (0..LARGE_BYTES / 30_000).map(named).collect();
    FetchRequest { max_wait_ms: FOR_EVER, forgotten_topics_data, ..fetch("t", 0, 0) }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_wait_for_others_hold_no_memory_that_producers_need() {
    let clock = ManualClock::new(1_700_000_000_000);
    let (broker, mut bystander) = broker(&clock).await;
    let mut leader = Member::alone(&broker, Age::Oldest).await;
    let mut waiting = vec![];
    for _ in 0..3 {
        let mut member = Member::new(&broker, Age::Oldest).await;
        member.metadata = vec![7; LARGE_BYTES].into();
        member.start_join().await;
        waiting.push(member);
    }
    is_served(&mut bystander).await;
    // The generation is that of all who have joined when the leader does.
    let members = || broker.monitor.figures().groups.iter().map(|group| group.members).sum();
    eventually("all of them wait", async || 4_usize == members()).await;
    leader.hears_of_a_rebalance().await;
    assert_eq!(leader.join().await.members.len(), 4);
    for member in &mut waiting {
        assert_eq!(member.joined().await.error_code, ErrorCode::NONE);
        // Nobody asks followers; it is not kept.
        let part = SyncGroupRequestAssignment {
            member_id: leader.id.clone(),
            assignment: Bytes::from(vec![7; LARGE_BYTES]),
        };
        let request = SyncGroupRequest { assignments: vec![part], ..member.sync_request(&[]) };
        member.client.send(&request, Age::Oldest.of(ApiKey::SyncGroup)).await;
    }
    is_served(&mut bystander).await;
    assert_eq!(leader.sync(&[(leader.id.clone(), "all")]).await.assignment, "all");
    for member in &mut waiting {
        assert_eq!(member.synced().await.error_code, ErrorCode::NONE);
    }
    broker.stop().await;
}

/// As it is for all requests in Apache Kafka, and here for the large ones.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_is_not_read_behind_a_fetch_that_waits() {
    let clock = ManualClock::new(1_700_000_000_000);
    let (broker, mut bystander) = broker(&clock).await;
    let mut reader = broker.client().await;
    reader.send(&FetchRequest { max_wait_ms: FOR_EVER, ..fetch("t", 0, 0) }, 12).await;
    let sending = tokio::spawn(async move {
        for _ in 0..3 {
            reader.send(&large_fetch(), 12).await;
        }
        reader
    });
    for _ in 0..20 {
        is_served(&mut bystander).await;
    }
    bystander.produce("t", 0, records(&["a"])).await;
    let mut reader = sending.await.expect("all of it is read then");
    for _ in 0..4 {
        let answer: FetchResponse = reader.receive(12).await;
        assert_eq!(answer.responses[0].partitions[0].high_watermark, 1);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_fetch_waits_for_no_more_than_half_a_second() {
    let clock = ManualClock::new(1_700_000_000_000);
    let (broker, _bystander) = broker(&clock).await;
    let mut reader = broker.client().await;
    let fetched = tokio::spawn(async move {
        let answer: FetchResponse = reader.call(&large_fetch(), 12).await;
        answer.responses[0].partitions[0].error_code
    });
    // Two minutes at the most: less than a small one may wait.
    eventually("the fetch is answered", async || {
        clock.advance(Duration::from_millis(10));
        fetched.is_finished()
    })
    .await;
    assert_eq!(fetched.await.expect("an answer"), ErrorCode::NONE);
    broker.stop().await;
}
