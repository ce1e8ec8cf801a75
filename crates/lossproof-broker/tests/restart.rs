//! What was answered is there after a restart and after a power cut: messages, topics, committed
//! offsets, producers. What cannot be known is an error.

use crate::common;

use std::path::PathBuf;

use common::{Broker, Client, records, sequenced};
use lossproof_broker::BrokerConfig;
use lossproof_env::Fault;
use lossproof_log::{FlushPolicy, LogConfig};
use lossproof_wire::*;

/// BROKER-1: the first answer after a start knows all of it.
#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_survives_a_power_cut() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let id = client.create("t", 2).await.topic_id;
    let producer = client.producer_id().await;
    client.produce("t", 1, sequenced(&["a", "b"], producer, 0)).await;
    assert_eq!(client.commit("g", "t", 1, 2).await, ErrorCode::NONE);

    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.values("t", 1).await, ["a", "b"]);
    assert_eq!(client.committed("g", "t", 1).await, (2, ErrorCode::NONE), "OFFSETS-1");
    let answer: MetadataResponse = client.call(&MetadataRequest::default(), 12).await;
    assert_eq!((answer.topics[0].topic_id, answer.topics[0].partitions.len()), (id, 2), "TOPIC-1");
    let again = client.produce("t", 1, sequenced(&["a", "b"], producer, 0)).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 0), "still deduplicated");
    assert_ne!(client.producer_id().await.0, producer.0, "no producer id is given twice");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_order_changes_nothing_and_keeps_the_leader_epoch() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    let before: MetadataResponse = client.call(&MetadataRequest::default(), 12).await;
    drop(client);
    let broker = broker.restart().await;
    let mut client = broker.client().await;
    let after: MetadataResponse = client.call(&MetadataRequest::default(), 12).await;
    assert_eq!(before, after);
    assert_eq!(client.values("t", 0).await, ["a"]);
    broker.stop().await;
}

/// TOPIC-2, TOPIC-3, OFFSETS-2.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_has_nothing_of_the_one_before() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let old = client.create("t", 1).await.topic_id;
    client.produce("t", 0, records(&["a"])).await;
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    assert_eq!(client.groups().await, ["g"]);
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { topic_id: old, ..Default::default() }],
        ..Default::default()
    };
    let answer: DeleteTopicsResponse = client.call(&request, 6).await;
    assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    let new = client.create("t", 1).await;
    assert_eq!(new.error_code, ErrorCode::NONE);
    assert_ne!(new.topic_id, old);
    assert_eq!(client.values("t", 0).await, [""; 0]);
    assert_eq!(client.committed("g", "t", 0).await, (-1, ErrorCode::NONE));
    assert_eq!(client.groups().await, [""; 0], "a group without members is there by its offsets");
    broker.stop().await;
}

/// Groups with long names: their offsets for topic `t`, and the removals of these, are more than a
/// frame takes. One more group has an offset for topic `kept`.
async fn with_many_offsets() -> (Broker, Client) {
    const GROUPS: usize = 90;
    let broker = Broker::with(|config| config.log = LogConfig::small()).await;
    let mut client = broker.client().await;
    for name in ["t", "kept"] {
        client.create(name, 1).await;
        client.produce(name, 0, records(&["a"])).await;
    }
    for number in 0..GROUPS {
        let group = format!("{number}{}", "g".repeat(900));
        assert_eq!(client.commit(&group, "t", 0, 1).await, ErrorCode::NONE);
    }
    assert_eq!(client.commit("other", "kept", 0, 1).await, ErrorCode::NONE);
    assert_eq!(client.groups().await.len(), GROUPS + 1);
    (broker, client)
}

async fn delete(client: &mut Client, name: &str) -> ErrorCode {
    let request = DeleteTopicsRequest { topic_names: vec![name.into()], ..Default::default() };
    let answer: DeleteTopicsResponse = client.call(&request, 5).await;
    answer.responses[0].error_code
}

/// TOPIC-3.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_more_offsets_than_a_frame_takes_is_deleted_with_all_of_them() {
    let (broker, mut client) = with_many_offsets().await;
    assert_eq!(delete(&mut client, "t").await, ErrorCode::NONE);
    assert_eq!(client.groups().await, ["other"]);
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.groups().await, ["other"]);
    assert_eq!(client.committed("other", "kept", 0).await, (1, ErrorCode::NONE));
    broker.stop().await;
}

/// TOPIC-3: cut off at one sync after the other, some of them behind the frame of the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_a_deletion_has_left_over_are_removed_by_the_next_start() {
    let mut left_over = 0;
    for sync in 0..12 {
        let (broker, mut client) = with_many_offsets().await;
        let before = client.groups().await;
        broker.disk.inject(Fault::sync(sync).sticky());
        let deleted = delete(&mut client, "t").await;
        left_over += u32::from(deleted == ErrorCode::NONE && client.groups().await.len() > 1);
        broker.disk.heal();
        let broker = broker.power_cut().await;
        let mut client = broker.client().await;
        let is_gone = client.create("t", 1).await.error_code == ErrorCode::NONE;
        assert!(is_gone || deleted != ErrorCode::NONE, "sync {sync}: it was said to be gone");
        let groups = if is_gone { vec!["other".to_owned()] } else { before };
        assert_eq!(client.groups().await, groups, "sync {sync}");
        broker.stop().await;
    }
    assert!(left_over > 0, "each deletion failed or came to its end");
}

/// TOPIC-3: a start does not take a topic that is only hidden for one that was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_topic_that_damage_hides_stay() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let id = client.create("t", 1).await.topic_id;
    client.produce("t", 0, records(&["a"])).await;
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    // Version, id, flush policy and number of partitions.
    let entry = [&[1][..], &id.0, &[0, 0, 0, 0, 1]].concat();
    let place = |path: PathBuf| {
        let bytes = disk.bytes(&path).ok()?;
        Some((path, bytes.windows(entry.len()).position(|window| window == entry)?))
    };
    let (path, at) = disk.paths().into_iter().find_map(place).expect("it is stored");
    disk.damage(&path, at as u64, &[!1]).expect("a file");
    let broker = Broker::on(disk, |_| {}).await;
    let unknown = broker.client().await.fetch("t", 0, 0).await.error_code;
    assert_eq!(unknown, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let disk = broker.stop().await.killed();
    // What verifies again is served again.
    disk.damage(&path, at as u64, &[1]).expect("a file");
    let broker = Broker::on(disk, |_| {}).await;
    assert_eq!(broker.client().await.committed("g", "t", 0).await, (1, ErrorCode::NONE));
    broker.stop().await;
}

/// An offset that is committed before its message exists would skip it once it does.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_end_is_refused_when_it_is_committed() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    for offset in [-2, 2, i64::MAX] {
        let refused = client.commit("g", "t", 0, offset).await;
        assert_eq!(refused, ErrorCode::OFFSET_OUT_OF_RANGE, "{offset}");
    }
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    assert_eq!(client.committed("g", "t", 0).await, (1, ErrorCode::NONE));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_is_an_error_to_the_producer_and_nothing_is_taken_any_more() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    broker.disk.inject(Fault::sync(0).sticky());
    let answer = client.produce("t", 0, records(&["lost"])).await;
    assert_eq!(answer.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    broker.disk.heal();
    let answer = client.produce("t", 0, records(&["later"])).await;
    assert_eq!(answer.error_code, ErrorCode::KAFKA_STORAGE_ERROR, "latched until the next start");
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(client.values("t", 0).await, ["a"], "FETCH-1");
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.values("t", 0).await, ["a"]);
    broker.stop().await;
}

fn page_cache(config: &mut BrokerConfig) {
    config.flush = FlushPolicy::UnsafePageCache;
    // Who writes zeros ahead of the frames syncs the same file, and what was not to be synced.
    config.log.initial_zero_bytes = config.log.segment_bytes;
}

/// The control to all of the above: without the sync a power cut does lose what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn the_unsafe_policy_loses_acknowledged_messages_in_a_power_cut() {
    let broker = Broker::with(page_cache).await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let answer = client.produce("t", 0, records(&["a"])).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert_eq!(client.values("t", 0).await, ["a"]);
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.values("t", 0).await, [""; 0]);
    broker.stop().await;
}
