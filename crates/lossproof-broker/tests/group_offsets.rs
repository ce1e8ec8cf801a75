//! Committed offsets on the wire, in the oldest and the newest versions: who may commit, what is
//! answered for what was never committed, and for what cannot be true.

use crate::common;

use std::path::Path;

use bytes::Bytes;
use common::member::{Age, Member};
use common::{Broker, Client, environment, log_config, offset_commit, records};
use lossproof_env::{Fault, SimDisk};
use lossproof_log::{Commit, Log, StateKind};
use lossproof_wire::*;

const ZERO: Uuid = Uuid::ZERO;

/// Up to version 7 of OffsetFetch, one group to a request.
fn of_one_group(topics: Option<&[(&str, &[i32])]>) -> OffsetFetchRequest {
    let topic = |(name, indexes): &(&str, &[i32])| OffsetFetchRequestTopic {
        name: (*name).to_owned(),
        partition_indexes: indexes.to_vec(),
    };
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    OffsetFetchRequest { group_id: "g".into(), topics, ..Default::default() }
}

/// One group of the requests from version 8 on.
fn group(group: &str, topics: Option<&[(&str, Uuid, &[i32])]>) -> OffsetFetchRequestGroup {
    let topic = |(name, topic_id, indexes): &(&str, Uuid, &[i32])| OffsetFetchRequestTopics {
        name: (*name).to_owned(),
        topic_id: *topic_id,
        partition_indexes: indexes.to_vec(),
    };
    OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
        ..Default::default()
    }
}

async fn fetch_groups(
    client: &mut Client,
    groups: Vec<OffsetFetchRequestGroup>,
    version: i16,
) -> Vec<OffsetFetchResponseGroup> {
    let request = OffsetFetchRequest { groups, ..Default::default() };
    let answer: OffsetFetchResponse = client.call(&request, version).await;
    answer.groups
}

/// Offset and error of each partition, topic after topic.
fn offsets(group: &OffsetFetchResponseGroup) -> Vec<(i64, ErrorCode)> {
    let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| (partition.committed_offset, partition.error_code)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_fetched_with_its_epoch_and_metadata() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic_id = client.create("t", 1).await.topic_id;
    client.produce("t", 0, records(&["a", "b"])).await;
    let mut request = offset_commit("g", -1, "", "t", 0, 1);
    request.topics[0].topic_id = topic_id;
    request.topics[0].partitions[0].committed_metadata = Some("half way".into());
    request.topics[0].partitions[0].committed_leader_epoch = 0;

    let answer: OffsetCommitResponse = client.call(&request, 2).await;
    assert_eq!(answer.topics[0].name, "t");
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    let fetch = of_one_group(Some(&[("t", &[0])]));
    let answer: OffsetFetchResponse = client.call(&fetch, 1).await;
    let old = &answer.topics[0].partitions[0];
    assert_eq!((old.committed_offset, old.metadata.as_deref()), (1, Some("half way")));

    request.topics[0].partitions[0].committed_offset = 2;
    let answer: OffsetCommitResponse = client.call(&request, 10).await;
    assert_eq!(answer.topics[0].topic_id, topic_id);
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    let wanted = group("g", Some(&[("", topic_id, &[0])]));
    let answers = fetch_groups(&mut client, vec![wanted], 10).await;
    let new = &answers[0].topics[0].partitions[0];
    assert_eq!((new.committed_offset, new.committed_leader_epoch), (2, 0));
    assert_eq!(new.metadata.as_deref(), Some("half way"));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_member_commits_only_where_there_are_no_members() {
    for age in Age::BOTH {
        let broker = Broker::start().await;
        let mut tool = Member::new(&broker, age).await;
        let topic_id = tool.client.create("t", 1).await.topic_id;
        assert_eq!(tool.commit("t", topic_id).await, ErrorCode::NONE, "nobody else owns it");
        let mut member = Member::alone(&broker, age).await;
        assert_eq!(tool.commit("t", topic_id).await, ErrorCode::UNKNOWN_MEMBER_ID);
        assert_eq!(member.commit("t", topic_id).await, ErrorCode::NONE);
        assert_eq!(member.leave().await, ErrorCode::NONE);
        assert_eq!(tool.commit("t", topic_id).await, ErrorCode::NONE, "nobody any more");
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_for_what_does_not_exist_is_refused_and_the_rest_of_it_is_not() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic_id = client.create("t", 1).await.topic_id;
    let mut request = offset_commit("g", -1, "", "t", 0, 0);
    request.topics[0].topic_id = topic_id;
    let mut beyond = request.topics[0].partitions[0].clone();
    beyond.partition_index = 1;
    request.topics[0].partitions.push(beyond);
    let mut missing = request.topics[0].clone();
    (missing.name, missing.topic_id) = ("missing".into(), Uuid([7; 16]));
    missing.partitions.truncate(1);
    request.topics.push(missing);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    for (version, no_topic) in [(2, unknown), (9, unknown), (10, ErrorCode::UNKNOWN_TOPIC_ID)] {
        let answer: OffsetCommitResponse = client.call(&request, version).await;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = partitions.map(|partition| partition.error_code).collect();
        assert_eq!(codes, [ErrorCode::NONE, unknown, no_topic], "version {version}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_commit_is_bounded() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let mut request = offset_commit("g", -1, "", "t", 0, 0);
    for (bytes, expected) in
        [(4_096, ErrorCode::NONE), (4_097, ErrorCode::OFFSET_METADATA_TOO_LARGE)]
    {
        request.topics[0].partitions[0].committed_metadata = Some("x".repeat(bytes));
        let answer: OffsetCommitResponse = client.call(&request, 8).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, expected);
    }
    broker.stop().await;
}

/// As in Apache Kafka: -1 is "no offset", and no error; only an id that nobody knows is one.
#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_was_committed_there_is_no_offset_and_no_error() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic_id = client.create("t", 1).await.topic_id;
    client.produce("t", 0, records(&["a"])).await;
    let fetch = of_one_group(Some(&[("t", &[0, 1]), ("missing", &[0])]));
    let answer: OffsetFetchResponse = client.call(&fetch, 1).await;
    for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
        let expected = (-1, Some(""), ErrorCode::NONE);
        let metadata = partition.metadata.as_deref();
        assert_eq!((partition.committed_offset, metadata, partition.error_code), expected);
    }
    let wanted = group("g", Some(&[("", topic_id, &[0, 1]), ("", Uuid([7; 16]), &[0])]));
    let answers = fetch_groups(&mut client, vec![wanted], 10).await;
    assert_eq!(answers[0].error_code, ErrorCode::NONE);
    let none = (-1, ErrorCode::NONE);
    assert_eq!(offsets(&answers[0]), [none, none, (-1, ErrorCode::UNKNOWN_TOPIC_ID)]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_topics_everything_that_the_group_has_committed_is_fetched() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic_id = client.create("t", 3).await.topic_id;
    client.create("untouched", 1).await;
    for partition in [0, 2] {
        assert_eq!(client.commit("g", "t", partition, 0).await, ErrorCode::NONE);
    }
    let answer: OffsetFetchResponse = client.call(&of_one_group(None), 2).await;
    assert_eq!((answer.error_code, answer.topics.len()), (ErrorCode::NONE, 1));
    assert_eq!(answer.topics[0].name, "t");
    let mut indexes: Vec<_> =
        answer.topics[0].partitions.iter().map(|partition| partition.partition_index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 2]);
    let answers = fetch_groups(&mut client, vec![group("g", None)], 10).await;
    assert_eq!(answers[0].topics[0].topic_id, topic_id);
    assert_eq!(offsets(&answers[0]), [(0, ErrorCode::NONE); 2]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_groups_are_fetched_at_once_and_kept_apart() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    // Its name begins with that of the other.
    assert_eq!(client.commit("gg", "t", 0, 0).await, ErrorCode::NONE);
    let all = ["g", "gg", "nobody"].map(|name| group(name, Some(&[("t", ZERO, &[0])])));
    let answers = fetch_groups(&mut client, all.to_vec(), 8).await;
    let names: Vec<_> = answers.iter().map(|answer| answer.group_id.as_str()).collect();
    assert_eq!(names, ["g", "gg", "nobody"]);
    let found: Vec<_> = answers.iter().flat_map(offsets).collect();
    let none = ErrorCode::NONE;
    assert_eq!(found, [(1, none), (0, none), (-1, none)]);
    let everything = fetch_groups(&mut client, vec![group("g", None)], 8).await;
    assert_eq!(offsets(&everything[0]), [(1, none)]);
    broker.stop().await;
}

/// OFFSETS-1.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_does_not_reach_the_disk_is_not_answered_as_committed() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a", "b"])).await;
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    broker.disk.inject(Fault::sync(0).sticky());
    let answer = client.commit("g", "t", 0, 2).await;
    assert_eq!(answer, ErrorCode::COORDINATOR_NOT_AVAILABLE, "OFFSETS-1: it is not on the disk");
    let broker = broker.power_cut().await;
    let committed = broker.client().await.committed("g", "t", 0).await;
    assert_eq!(committed, (1, ErrorCode::NONE), "OFFSETS-1: it was answered with yes");
    broker.stop().await;
}

/// The offset that group `g` has committed becomes `offset` in the journal, past all checks: what
/// is left where a log has lost its end.
async fn overwrite_committed(disk: &SimDisk, offset: i64) {
    let (log, _) = Log::open(&environment(disk), Path::new("/data"), log_config()).expect("a log");
    let state = log.state(StateKind::Offsets);
    let (key, value) = state.first().expect("something is committed").clone();
    let mut value = value.to_vec();
    value[9..17].copy_from_slice(&offset.to_be_bytes()); // Behind version and order.
    let commit = Commit::state(StateKind::Offsets, key, Some(Bytes::from(value)));
    log.enqueue(commit).await.expect("room").await.expect("durable");
    log.close().await.expect("the log closes");
}

/// Storage rule 11, OFFSET-FETCH-1: never clamped, never "no offset".
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_above_the_end_of_the_log_is_an_error_when_it_is_fetched() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic_id = client.create("t", 1).await.topic_id;
    client.produce("t", 0, records(&["a"])).await;
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    let above_end = |broker: &Broker| {
        let groups = broker.monitor.figures().groups.into_iter();
        groups.flat_map(|group| group.offsets).filter(|offset| offset.is_above_end).count()
    };
    assert_eq!(above_end(&broker), 0);
    let disk = broker.stop().await.killed();
    overwrite_committed(&disk, 2).await;
    let broker = Broker::on(disk, |_| {}).await;
    assert_eq!(above_end(&broker), 1, "operators see it before anybody asks");
    let mut client = broker.client().await;
    let refused = (-1, ErrorCode::KAFKA_STORAGE_ERROR);
    let answer: OffsetFetchResponse = client.call(&of_one_group(Some(&[("t", &[0])])), 1).await;
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((partition.committed_offset, partition.error_code), refused);
    let wanted = vec![group("g", Some(&[("", topic_id, &[0])])), group("g", None)];
    for answer in fetch_groups(&mut client, wanted, 10).await {
        assert_eq!(offsets(&answer), [refused]);
    }
    broker.stop().await;
}
