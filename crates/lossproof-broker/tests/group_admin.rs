//! Groups as operators see and clean them up: list, describe, delete, and remove offsets, in the
//! oldest and the newest versions.

use crate::common;

use bytes::Bytes;
use common::member::{Age, Member};
use common::{Broker, Client, ends};
use lossproof_wire::*;

async fn list(client: &mut Client, states: &[&str], types: &[&str], version: i16) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let request = ListGroupsRequest { states_filter: owned(states), types_filter: owned(types) };
    let answer: ListGroupsResponse = client.call(&request, version).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let shown = answer.groups.into_iter().map(|group| {
        [group.group_id, group.protocol_type, group.group_state, group.group_type].join(" ")
    });
    shown.collect()
}

async fn describe(client: &mut Client, group: &str, version: i16) -> DescribedGroup {
    let groups = vec![group.to_owned()];
    let request = DescribeGroupsRequest { groups, ..Default::default() };
    let mut answer: DescribeGroupsResponse = client.call(&request, version).await;
    assert_eq!(answer.groups.len(), 1);
    answer.groups.remove(0)
}

async fn delete(client: &mut Client, groups: &[&str], version: i16) -> Vec<ErrorCode> {
    let groups_names = groups.iter().map(|group| (*group).to_owned()).collect();
    let answer: DeleteGroupsResponse =
        client.call(&DeleteGroupsRequest { groups_names }, version).await;
    answer.results.iter().map(|result| result.error_code).collect()
}

/// Removes the offset of group `g` for one partition: error of the group, error of the partition.
async fn delete_offset(
    client: &mut Client,
    topic: &str,
    partition_index: i32,
) -> (ErrorCode, Option<ErrorCode>) {
    let request = OffsetDeleteRequest {
        group_id: "g".into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: topic.into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index }],
        }],
    };
    let answer: OffsetDeleteResponse = client.call(&request, 0).await;
    (answer.error_code, answer.topics.first().map(|topic| topic.partitions[0].error_code))
}

/// A subscription to `t`, as consumers write it.
fn subscription_to_t() -> Bytes {
    Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_shown_with_its_client_and_its_assignment_once_it_has_one() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let mut member = Member::named(&broker, "i").await;
    member.join().await;
    let waiting = describe(&mut client, "g", 6).await;
    assert_eq!((&*waiting.group_state, &*waiting.protocol_data), ("CompletingRebalance", ""));
    assert_eq!(waiting.members[0].member_metadata, "");
    member.sync(&[(member.id.clone(), "all")]).await;
    for version in ends(ApiKey::DescribeGroups) {
        let expected = DescribedGroup {
            group_id: "g".into(),
            group_state: "Stable".into(),
            protocol_type: "consumer".into(),
            protocol_data: "range".into(),
            members: vec![DescribedGroupMember {
                member_id: member.id.clone(),
                group_instance_id: (version >= 4).then(|| "i".to_owned()),
                client_id: "test".into(),
                client_host: "/127.0.0.1".into(),
                member_metadata: "subscription".into(),
                member_assignment: "all".into(),
            }],
            ..Default::default()
        };
        assert_eq!(describe(&mut client, "g", version).await, expected, "version {version}");
    }
    assert_eq!(list(&mut client, &[], &[], 0).await, ["g consumer  "]);
    assert_eq!(list(&mut client, &[], &[], 5).await, ["g consumer Stable classic"]);
    let mut other = Member::new(&broker, Age::Newest).await;
    other.start_join().await;
    member.hears_of_a_rebalance().await;
    assert_eq!(list(&mut client, &[], &[], 4).await, ["g consumer PreparingRebalance "]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_only_has_offsets_is_listed_and_described_also_after_a_restart() {
    let mut broker = Broker::start().await;
    broker.client().await.create("t", 1).await;
    broker.client().await.commit("old", "t", 0, 0).await;
    for _ in 0..2 {
        let mut client = broker.client().await;
        let mut member = Member::alone(&broker, Age::Newest).await;
        let both = ["g consumer Stable classic", "old  Empty classic"];
        assert_eq!(list(&mut client, &[], &[], 5).await, both);
        assert_eq!(list(&mut client, &["empty"], &[], 5).await, both[1..]);
        assert_eq!(list(&mut client, &["Stable", "Dead"], &["Classic"], 5).await, both[..1]);
        assert_eq!(list(&mut client, &[], &["consumer"], 5).await, Vec::<String>::new());
        let described = describe(&mut client, "old", 6).await;
        let expected = DescribedGroup {
            group_id: "old".into(),
            group_state: "Empty".into(),
            ..Default::default()
        };
        assert_eq!(described, expected);
        // An end in order stores that nobody is left.
        assert_eq!(member.leave().await, ErrorCode::NONE);
        drop(client);
        broker = broker.restart().await;
    }
    broker.stop().await;
}

/// KIP-1043: an error from version 6 on.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_not_exist_is_dead() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for (version, error_code) in [(5, ErrorCode::NONE), (6, ErrorCode::GROUP_ID_NOT_FOUND)] {
        let described = describe(&mut client, "missing", version).await;
        assert_eq!((described.error_code, &*described.group_state), (error_code, "Dead"));
        let nameless = describe(&mut client, "", version).await;
        assert_eq!(nameless.error_code, ErrorCode::INVALID_GROUP_ID);
    }
    assert_eq!(list(&mut client, &[], &[], 5).await, Vec::<String>::new());
    broker.stop().await;
}

/// REMOVAL-1: what was told as gone is gone after a power cut too.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_group_without_members_is_deleted_and_for_good() {
    for version in ends(ApiKey::DeleteGroups) {
        let broker = Broker::start().await;
        let mut client = broker.client().await;
        client.create("t", 2).await;
        for group in ["g", "idle", "kept"] {
            assert_eq!(client.commit(group, "t", 0, 0).await, ErrorCode::NONE);
            assert_eq!(client.commit(group, "t", 1, 0).await, ErrorCode::NONE);
        }
        let mut member = Member::alone(&broker, Age::Newest).await;
        let answers = delete(&mut client, &["g", "idle", "idle", "missing", ""], version).await;
        let expected = [
            ErrorCode::NON_EMPTY_GROUP,
            ErrorCode::NONE,
            ErrorCode::GROUP_ID_NOT_FOUND,
            ErrorCode::INVALID_GROUP_ID,
        ];
        assert_eq!(answers, expected, "each is told of once");
        assert_eq!(member.heartbeat().await, ErrorCode::NONE);
        let broker = broker.power_cut().await;
        let mut client = broker.client().await;
        for partition in 0..2 {
            assert_eq!(client.committed("g", "t", partition).await, (0, ErrorCode::NONE));
            assert_eq!(client.committed("idle", "t", partition).await, (-1, ErrorCode::NONE));
            assert_eq!(client.committed("kept", "t", partition).await, (0, ErrorCode::NONE));
        }
        // Its member has outlived the broker.
        let answers = delete(&mut client, &["g"], version).await;
        assert_eq!(answers, [ErrorCode::NON_EMPTY_GROUP]);
        member.client = broker.client().await;
        assert_eq!(member.leave().await, ErrorCode::NONE);
        assert_eq!(delete(&mut client, &["g"], version).await, [ErrorCode::NONE]);
        assert_eq!(list(&mut client, &[], &[], 4).await, ["kept  Empty "]);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_removed_but_for_topics_that_a_member_subscribes_to() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for topic in ["t", "other"] {
        client.create(topic, 2).await;
    }
    assert_eq!(delete_offset(&mut client, "t", 0).await, (ErrorCode::GROUP_ID_NOT_FOUND, None));
    for (topic, partition) in [("t", 0), ("other", 0), ("other", 1)] {
        assert_eq!(client.commit("g", topic, partition, 0).await, ErrorCode::NONE);
    }
    let mut member = Member::new(&broker, Age::Newest).await;
    member.metadata = subscription_to_t();
    member.join().await;
    member.sync(&[(member.id.clone(), "all")]).await;

    let whole = ErrorCode::NONE;
    let subscribed = Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    let unknown = Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(delete_offset(&mut client, "t", 0).await, (whole, subscribed));
    assert_eq!(delete_offset(&mut client, "t", 7).await, (whole, unknown));
    assert_eq!(delete_offset(&mut client, "missing", 0).await, (whole, unknown));
    assert_eq!(delete_offset(&mut client, "other", 1).await, (whole, Some(ErrorCode::NONE)));
    assert_eq!(client.committed("g", "t", 0).await, (0, ErrorCode::NONE));
    assert_eq!(client.committed("g", "other", 0).await, (0, ErrorCode::NONE));
    assert_eq!(client.committed("g", "other", 1).await, (-1, ErrorCode::NONE));

    member.leave().await;
    assert_eq!(delete_offset(&mut client, "t", 0).await, (whole, Some(ErrorCode::NONE)));
    assert_eq!(client.committed("g", "t", 0).await, (-1, ErrorCode::NONE));
    broker.stop().await;
}

/// A subscription that cannot be read may be one to any topic.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_of_a_group_whose_subscriptions_cannot_be_read() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.commit("g", "t", 0, 0).await;
    let _member = Member::alone(&broker, Age::Oldest).await;
    let (_, partition) = delete_offset(&mut client, "t", 0).await;
    assert_eq!(partition, Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(client.committed("g", "t", 0).await, (0, ErrorCode::NONE));
    broker.stop().await;
}
