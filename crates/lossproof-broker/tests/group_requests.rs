//! The group protocol on the wire, in the oldest and the newest versions: what members are answered
//! when they join, are assigned, rebalance and leave, and when they are not who they say.

use crate::common;

use common::member::{Age, Member};
use common::{Broker, ends};
use lossproof_wire::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_coordinated_by_this_broker() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let [oldest, newest] = ends(ApiKey::FindCoordinator);
    let request = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    let one: FindCoordinatorResponse = client.call(&request, oldest).await;
    assert_eq!((one.error_code, one.node_id), (ErrorCode::NONE, 1));
    assert_eq!((one.host.as_str(), one.port), ("127.0.0.1", 9092));
    let coordinator_keys = vec!["g".to_owned(), "h".to_owned()];
    let request = FindCoordinatorRequest { coordinator_keys, ..Default::default() };
    let all: FindCoordinatorResponse = client.call(&request, newest).await;
    let keys: Vec<&str> = all.coordinators.iter().map(|found| found.key.as_str()).collect();
    assert_eq!(keys, ["g", "h"], "every key is answered");
    for found in &all.coordinators {
        assert_eq!((found.error_code, found.node_id), (ErrorCode::NONE, 1));
        assert_eq!((found.host.as_str(), found.port), ("127.0.0.1", 9092));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_neither_group_nor_transaction_has_no_coordinator() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let request = FindCoordinatorRequest { key: "g".into(), key_type: 9, ..Default::default() };
    let one: FindCoordinatorResponse = client.call(&request, 1).await;
    assert_eq!(one.error_code, ErrorCode::INVALID_REQUEST);
    let coordinator_keys = vec!["g".to_owned()];
    let request = FindCoordinatorRequest { coordinator_keys, key_type: 9, ..Default::default() };
    let all: FindCoordinatorResponse = client.call(&request, 6).await;
    assert_eq!(all.coordinators[0].error_code, ErrorCode::INVALID_REQUEST);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_the_work_and_the_one_that_stays_gets_all_of_it() {
    for age in Age::BOTH {
        let broker = Broker::start().await;
        let mut first = Member::alone(&broker, age).await;
        let mut second = Member::new(&broker, age).await;
        second.start_join().await;
        first.hears_of_a_rebalance().await;
        let led = first.join().await;
        let followed = second.joined().await;
        assert_eq!((led.error_code, followed.error_code), (ErrorCode::NONE, ErrorCode::NONE));
        assert_eq!((led.generation_id, followed.generation_id), (2, 2));
        assert_eq!(
            (&led.leader, &followed.leader),
            (&first.id, &first.id),
            "the first still leads"
        );
        assert_eq!(led.protocol_name.as_deref(), Some("range"));
        assert_eq!(followed.members, [], "only the leader is told who there is");
        let mut members: Vec<_> = led.members.iter().map(|one| one.member_id.clone()).collect();
        let mut expected = vec![first.id.clone(), second.id.clone()];
        members.sort();
        expected.sort();
        assert_eq!(members, expected);
        assert!(led.members.iter().all(|one| one.metadata == "subscription"));

        second.start_sync(&[]).await;
        let parts = [(first.id.clone(), "one half"), (second.id.clone(), "the other")];
        assert_eq!(first.sync(&parts).await.assignment, "one half");
        let synced = second.synced().await;
        assert_eq!((synced.error_code, synced.assignment), (ErrorCode::NONE, "the other".into()));
        assert_eq!(first.heartbeat().await, ErrorCode::NONE);

        assert_eq!(second.leave().await, ErrorCode::NONE);
        first.hears_of_a_rebalance().await;
        let alone = first.join().await;
        assert_eq!((alone.generation_id, alone.members.len()), (3, 1), "{age:?}");
        let all = first.sync(&[(first.id.clone(), "all")]).await;
        assert_eq!(all.assignment, "all");
        assert_eq!(second.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID, "it has left");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_version_4_on_a_new_member_is_given_its_id_before_it_is_let_in() {
    let broker = Broker::start().await;
    for version in [4, 9] {
        let mut member = Member::new(&broker, Age::Newest).await;
        let request = member.join_request();
        let asked: JoinGroupResponse = member.client.call(&request, version).await;
        assert_eq!(asked.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        assert_eq!((asked.generation_id, asked.members.len()), (-1, 0), "it is no member yet");
        assert_ne!(asked.member_id, "");
        member.id.clone_from(&asked.member_id);
        let request = member.join_request();
        let joined: JoinGroupResponse = member.client.call(&request, version).await;
        assert_eq!((joined.error_code, &joined.member_id), (ErrorCode::NONE, &asked.member_id));
        assert_eq!(member.leave().await, ErrorCode::NONE);
    }
    let mut old = Member::new(&broker, Age::Oldest).await;
    let request = old.join_request();
    let joined: JoinGroupResponse = old.client.call(&request, 3).await;
    assert_eq!(joined.error_code, ErrorCode::NONE, "an older client does not know how to ask");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_is_not_the_present_one_is_refused() {
    for age in Age::BOTH {
        let broker = Broker::start().await;
        let mut member = Member::alone(&broker, age).await;
        let topic_id = member.client.create("t", 1).await.topic_id;
        let present = member.generation;
        for generation in [present - 1, present + 1] {
            member.generation = generation;
            assert_eq!(member.heartbeat().await, ErrorCode::ILLEGAL_GENERATION);
            assert_eq!(member.sync(&[]).await.error_code, ErrorCode::ILLEGAL_GENERATION);
            assert_eq!(member.commit("t", topic_id).await, ErrorCode::ILLEGAL_GENERATION);
        }
        member.generation = present;
        assert_eq!(member.heartbeat().await, ErrorCode::NONE, "and nothing else has changed");
        assert_eq!(member.sync(&[]).await.assignment, "all");
        assert_eq!(member.commit("t", topic_id).await, ErrorCode::NONE);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_nobody_knows_is_refused() {
    for age in Age::BOTH {
        let broker = Broker::start().await;
        let mut stranger = Member::new(&broker, age).await;
        stranger.id = "stranger".to_owned();
        let topic_id = stranger.client.create("t", 1).await.topic_id;
        // First where there is no group at all, then where there is one without it.
        let mut member = Member::new(&broker, age).await;
        for there_is_a_group in [false, true] {
            if there_is_a_group {
                member.join().await;
                stranger.generation = member.generation;
                let refused = stranger.commit("t", topic_id).await;
                assert_eq!(refused, ErrorCode::UNKNOWN_MEMBER_ID);
            }
            assert_eq!(stranger.join().await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
            assert_eq!(stranger.sync(&[]).await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
            assert_eq!(stranger.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
            assert_eq!(stranger.leave().await, ErrorCode::UNKNOWN_MEMBER_ID);
        }
        assert_eq!(member.heartbeat().await, ErrorCode::NONE, "the member is not disturbed");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_that_comes_again_takes_its_place_and_fences_the_one_before() {
    let broker = Broker::start().await;
    let mut old = Member::named(&broker, "i").await;
    let topic_id = old.client.create("t", 1).await.topic_id;
    assert_eq!(old.join().await.error_code, ErrorCode::NONE, "its name does for an id");
    old.sync(&[(old.id.clone(), "all")]).await;

    let mut new = Member::named(&broker, "i").await;
    let joined = new.join().await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, old.generation));
    assert_ne!(new.id, old.id);
    assert!(joined.skip_assignment && joined.leader == new.id, "it leads and need not assign");
    assert_eq!(new.sync(&[]).await.assignment, "all");

    assert_eq!(old.heartbeat().await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.sync(&[]).await.error_code, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.commit("t", topic_id).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.join().await.error_code, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.leave().await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(new.heartbeat().await, ErrorCode::NONE);
    assert_eq!(new.commit("t", topic_id).await, ErrorCode::NONE);
    broker.stop().await;
}

/// As an operator's tool does with a member that will not come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_can_be_removed_by_its_name_alone() {
    let broker = Broker::start().await;
    let mut member = Member::named(&broker, "i").await;
    member.join().await;
    let mut tool = Member::named(&broker, "i").await;
    assert_eq!(tool.leave().await, ErrorCode::NONE);
    assert_eq!(tool.leave().await, ErrorCode::UNKNOWN_MEMBER_ID, "it is gone");
    assert_eq!(member.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_shares_no_protocol_with_the_members_is_refused() {
    for age in Age::BOTH {
        let broker = Broker::start().await;
        let _member = Member::alone(&broker, age).await;
        let mut other = Member::new(&broker, Age::Oldest).await;
        other.protocol = "sticky".to_owned();
        let refused = other.join().await;
        assert_eq!(refused.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "{age:?}");
        broker.stop().await;
    }
}

/// KIP-559: from version 5 on a member says which protocol it takes its assignment to be of.
#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_of_another_protocol_is_not_handed_out() {
    let broker = Broker::start().await;
    let mut member = Member::alone(&broker, Age::Newest).await;
    let right = member.sync_request(&[]);
    for (protocol_type, protocol_name) in [
        (Some("connect"), Some("range")),
        (Some("consumer"), Some("sticky")),
        (None, Some("range")),
        (Some("consumer"), None),
    ] {
        let wrong = SyncGroupRequest {
            protocol_type: protocol_type.map(str::to_owned),
            protocol_name: protocol_name.map(str::to_owned),
            ..right.clone()
        };
        let refused: SyncGroupResponse = member.client.call(&wrong, 5).await;
        let expected = (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, bytes::Bytes::new());
        assert_eq!((refused.error_code, refused.assignment), expected, "{wrong:?}");
    }
    let given: SyncGroupResponse = member.client.call(&right, 5).await;
    assert_eq!((given.error_code, given.assignment), (ErrorCode::NONE, "all".into()));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_rebalance_nothing_is_assigned_and_what_was_done_can_still_be_committed() {
    for age in Age::BOTH {
        let broker = Broker::start().await;
        let mut first = Member::alone(&broker, age).await;
        let topic_id = first.client.create("t", 1).await.topic_id;
        let mut second = Member::new(&broker, age).await;
        second.start_join().await;
        first.hears_of_a_rebalance().await;
        assert_eq!(first.sync(&[]).await.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
        assert_eq!(first.commit("t", topic_id).await, ErrorCode::NONE);
        first.join().await;
        second.joined().await;
        let refused = second.commit("t", topic_id).await;
        assert_eq!(refused, ErrorCode::REBALANCE_IN_PROGRESS, "it has no assignment yet");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_shorter_than_the_broker_allows_is_refused() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let member = Member::new(&broker, Age::Oldest).await;
    for version in ends(ApiKey::JoinGroup) {
        let request = JoinGroupRequest { session_timeout_ms: 1, ..member.join_request() };
        let answer: JoinGroupResponse = client.call(&request, version).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_a_name_is_refused() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let member = Member::new(&broker, Age::Oldest).await;
    let refused = ErrorCode::INVALID_GROUP_ID;
    for age in Age::BOTH {
        let request = JoinGroupRequest { group_id: String::new(), ..member.join_request() };
        let answer: JoinGroupResponse = client.call(&request, age.of(ApiKey::JoinGroup)).await;
        assert_eq!(answer.error_code, refused);
        let request = SyncGroupRequest { group_id: String::new(), ..member.sync_request(&[]) };
        let answer: SyncGroupResponse = client.call(&request, age.of(ApiKey::SyncGroup)).await;
        assert_eq!(answer.error_code, refused);
        let request = HeartbeatRequest::default();
        let answer: HeartbeatResponse = client.call(&request, age.of(ApiKey::Heartbeat)).await;
        assert_eq!(answer.error_code, refused);
        let members = match age {
            Age::Oldest => vec![],
            Age::Newest => vec![MemberIdentity { member_id: "m".into(), ..Default::default() }],
        };
        let request = LeaveGroupRequest { members, ..Default::default() };
        let answer: LeaveGroupResponse = client.call(&request, age.of(ApiKey::LeaveGroup)).await;
        assert_eq!(answer.error_code, refused, "LeaveGroup as a whole, {age:?}");
    }
    broker.stop().await;
}

/// Clients find the coordinator anew after the one, and come again; of the others they tell.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_for_what_others_hold_is_to_come_again_and_who_says_too_much_is_not() {
    let broker = Broker::with(|config| {
        config.groups.groups_max = 1;
        config.groups.members_max = 1;
        config.groups.group_bytes_max = 10_000;
    })
    .await;
    let _member = Member::alone(&broker, Age::Oldest).await;
    let mut client = broker.client().await;
    let mut other = Member::new(&broker, Age::Oldest).await;
    for version in ends(ApiKey::JoinGroup) {
        let new = JoinGroupRequest { group_id: "h".into(), ..other.join_request() };
        let answer: JoinGroupResponse = client.call(&new, version).await;
        assert_eq!(answer.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
        let answer: JoinGroupResponse = client.call(&other.join_request(), version).await;
        assert_eq!(answer.error_code, ErrorCode::GROUP_MAX_SIZE_REACHED);
    }
    other.metadata = vec![7; 10_000].into();
    for version in ends(ApiKey::JoinGroup) {
        let answer: JoinGroupResponse = client.call(&other.join_request(), version).await;
        assert_eq!(answer.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    }
    broker.stop().await;
}
