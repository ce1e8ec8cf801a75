//! Groups outlive the broker: who was a member before a power cut is one after it, and what it has
//! read can be committed. A group that cannot be known is not taken for an empty one.

use crate::common;

use std::path::Path;

use bytes::Bytes;
use common::member::{Age, Member};
use common::{Broker, environment, log_config, records};
use lossproof_env::SimDisk;
use lossproof_log::{Commit, Log, StateKind};
use lossproof_wire::*;

async fn reconnect(broker: &Broker, members: &mut [&mut Member]) {
    for member in members {
        member.client = broker.client().await;
    }
}

async fn topic(broker: &Broker) -> Uuid {
    let mut client = broker.client().await;
    let id = client.create("t", 1).await.topic_id;
    client.produce("t", 0, records(&["a"])).await;
    id
}

/// GROUP-8.
#[tokio::test(flavor = "multi_thread")]
async fn members_go_on_and_commit_after_a_power_cut() {
    for age in Age::BOTH {
        let broker = Broker::start().await;
        let id = topic(&broker).await;
        let mut first = Member::alone(&broker, age).await;
        let mut second = Member::new(&broker, age).await;
        second.start_join().await;
        first.hears_of_a_rebalance().await;
        first.start_join().await;
        assert_eq!(second.joined().await.error_code, ErrorCode::NONE);
        assert_eq!(first.joined().await.generation_id, 2);
        let parts = [(first.id.clone(), "left"), (second.id.clone(), "right")];
        second.start_sync(&[]).await;
        assert_eq!(first.sync(&parts).await.assignment, "left");
        assert_eq!(second.synced().await.assignment, "right");

        let broker = broker.power_cut().await;
        reconnect(&broker, &mut [&mut first, &mut second]).await;
        assert_eq!(first.commit("t", id).await, ErrorCode::NONE);
        assert_eq!(second.commit("t", id).await, ErrorCode::NONE);
        assert_eq!(second.heartbeat().await, ErrorCode::NONE, "no rebalance");
        assert_eq!(second.sync(&[]).await.assignment, "right");
        let mut stranger = broker.client().await;
        let refused = stranger.commit("g", "t", 0, 1).await;
        assert_eq!(refused, ErrorCode::UNKNOWN_MEMBER_ID, "the group is not empty");
        assert_eq!(second.leave().await, ErrorCode::NONE);
        first.hears_of_a_rebalance().await;
        assert_eq!(first.join().await.generation_id, 3);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_takes_its_part_back_after_a_power_cut() {
    let broker = Broker::start().await;
    let mut old = Member::named(&broker, "i").await;
    assert_eq!(old.join().await.generation_id, 1);
    let part = [(old.id.clone(), "all")];
    assert_eq!(old.sync(&part).await.assignment, "all");

    let broker = broker.power_cut().await;
    let mut new = Member::named(&broker, "i").await;
    let joined = new.join().await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1), "no rebalance");
    assert_eq!(new.sync(&[]).await.assignment, "all");

    let broker = broker.power_cut().await;
    reconnect(&broker, &mut [&mut old, &mut new]).await;
    assert_eq!(new.heartbeat().await, ErrorCode::NONE);
    assert_eq!(old.heartbeat().await, ErrorCode::FENCED_INSTANCE_ID);
    broker.stop().await;
}

/// The entries of groups in the journal: keys and values.
fn stored(disk: &SimDisk) -> (Log, Vec<(Bytes, Bytes)>) {
    let (log, _) = Log::open(&environment(disk), Path::new("/data"), log_config()).expect("a log");
    let state = log.state(StateKind::Offsets).into_iter();
    let groups = state.filter(|(key, _)| key.starts_with(&[0xff; 4])).collect();
    (log, groups)
}

/// Storage rule 14.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let broker = Broker::start().await;
    let id = topic(&broker).await;
    let mut member = Member::alone(&broker, Age::Newest).await;
    let disk = broker.stop().await.killed();
    let (log, groups) = stored(&disk);
    let (key, value) = groups.first().expect("the group is stored").clone();
    let cut = value.slice(..value.len() - 1);
    let commit = Commit::state(StateKind::Offsets, key, Some(cut));
    log.enqueue(commit).await.expect("room").await.expect("durable");
    log.close().await.expect("the log closes");

    let broker = Broker::on(disk, |_| {}).await;
    reconnect(&broker, &mut [&mut member]).await;
    let refused = ErrorCode::COORDINATOR_NOT_AVAILABLE;
    assert_eq!(member.heartbeat().await, refused);
    assert_eq!(member.commit("t", id).await, refused);
    assert_eq!(member.join().await.error_code, refused);
    let mut client = broker.client().await;
    assert_eq!(client.commit("g", "t", 0, 1).await, refused, "somebody may own it");
    let request = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    let answer: DeleteGroupsResponse = client.call(&request, 2).await;
    assert_eq!(answer.results[0].error_code, refused);
    broker.stop().await;
}
