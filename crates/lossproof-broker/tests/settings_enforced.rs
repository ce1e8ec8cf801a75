//! Settings that are given by Kafka's name hold, and not their defaults: each just inside of what
//! was set and just outside.

use crate::common;

use std::time::Duration;

use common::member::{Age, Member};
use common::producer::Producer;
use common::{Broker, eventually};
use lossproof_broker::BrokerConfig;
use lossproof_env::ManualClock;
use lossproof_wire::*;

/// Nothing else in the broker waits for so long.
const ODD: Duration = Duration::from_millis(54_321);
const ODD_MS: &str = "54321";
const MILLISECOND: Duration = Duration::from_millis(1);

fn set(config: &mut BrokerConfig, name: &str, value: &str) {
    config.set(name, value).expect("a setting");
}

/// `group.min.session.timeout.ms`, `group.max.session.timeout.ms`.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_as_short_or_long_as_it_may_be() {
    let narrow = |config: &mut BrokerConfig| {
        set(config, "group.min.session.timeout.ms", "2000");
        set(config, "group.max.session.timeout.ms", "3000");
    };
    check_sessions(Broker::with(narrow).await, 2_000, 3_000).await;
    let wide = |config: &mut BrokerConfig| {
        set(config, "group.min.session.timeout.ms", "20");
        set(config, "group.max.session.timeout.ms", "3600000");
    };
    check_sessions(Broker::with(wide).await, 20, 3_600_000).await;
}

async fn check_sessions(broker: Broker, shortest: i32, longest: i32) {
    let mut member = Member::new(&broker, Age::Oldest).await;
    let refused = ErrorCode::INVALID_SESSION_TIMEOUT;
    for (session_timeout_ms, expected) in [
        (shortest - 1, refused),
        (shortest, ErrorCode::NONE),
        (longest, ErrorCode::NONE),
        (longest + 1, refused),
    ] {
        // Alone in a group of its own: it waits for nobody.
        let group_id = session_timeout_ms.to_string();
        let request = JoinGroupRequest { session_timeout_ms, group_id, ..member.join_request() };
        let version = Age::Oldest.of(ApiKey::JoinGroup);
        let answer: JoinGroupResponse = member.client.call(&request, version).await;
        assert_eq!(answer.error_code, expected, "{session_timeout_ms} ms");
    }
    broker.stop().await;
}

/// `transaction.max.timeout.ms`.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_may_ask_for_as_long_as_was_set() {
    let short = |config: &mut BrokerConfig| set(config, "transaction.max.timeout.ms", "70000");
    check_transactions(Broker::with(short).await, 70_000).await;
    let long = |config: &mut BrokerConfig| set(config, "transaction.max.timeout.ms", "1000000");
    check_transactions(Broker::with(long).await, 1_000_000).await;
}

async fn check_transactions(broker: Broker, longest: i32) {
    let mut producer = Producer::new(&broker, "payments").await;
    let refused = ErrorCode::INVALID_TRANSACTION_TIMEOUT;
    for (transaction_timeout_ms, expected) in [(longest, ErrorCode::NONE), (longest + 1, refused)] {
        let request = InitProducerIdRequest { transaction_timeout_ms, ..producer.init_request() };
        let answer = producer.try_init(&request, 4).await;
        assert_eq!(answer.error_code, expected, "{transaction_timeout_ms} ms");
    }
    broker.stop().await;
}

/// `transactional.id.expiration.ms`.
#[tokio::test(flavor = "multi_thread")]
async fn a_transactional_id_is_forgotten_after_the_time_that_was_set() {
    let clock = ManualClock::new(1_700_000_000_000);
    let settings = |config: &mut BrokerConfig| {
        set(config, "transactional.id.expiration.ms", ODD_MS);
    };
    let broker = Broker::on_clock_with(&clock, settings).await;
    let mut client = Producer::new(&broker, "payments").await.client;
    let mut is_known = async || {
        let request = ListTransactionsRequest::default();
        let answer: ListTransactionsResponse = client.call(&request, 1).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer.transaction_states.iter().any(|it| it.transactional_id == "payments")
    };
    eventually("its end is waited for", async || clock.is_awaited(ODD)).await;
    clock.advance(ODD.saturating_sub(MILLISECOND));
    assert!(clock.is_awaited(ODD) && is_known().await, "not yet");
    clock.advance(MILLISECOND);
    eventually("it is forgotten", async || !is_known().await).await;
    broker.stop().await;
}

/// `connections.max.idle.ms`.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_after_the_time_that_was_set() {
    let clock = ManualClock::new(1_700_000_000_000);
    let settings = |config: &mut BrokerConfig| set(config, "connections.max.idle.ms", ODD_MS);
    let broker = Broker::on_clock_with(&clock, settings).await;
    let mut client = broker.client().await;
    assert!(client.is_served().await);
    eventually("its end is waited for", async || clock.is_awaited(ODD)).await;
    let almost = ODD.saturating_sub(MILLISECOND);
    clock.advance(almost);
    assert!(clock.is_awaited(ODD) && client.is_served().await, "not yet");
    eventually("its time begins anew", async || clock.is_awaited(almost + ODD)).await;
    clock.advance(ODD);
    assert!(client.is_closed().await);
    broker.stop().await;
}
