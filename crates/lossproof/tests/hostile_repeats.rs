//! Story: a request of a few megabytes that names the same thing again and again, or something very
//! long once, is not turned into gigabytes. Nothing is told, or kept, more than once for it.

use crate::hostile;

use std::net::Shutdown;
use std::ops::Range;

use bytes::BytesMut;
use hostile::{Client, Scene, batch_of, frame};
use lossproof_wire::batch::Compression;
use lossproof_wire::*;

const MIB: usize = 1 << 20;
/// What docs/config.md says of a broker with nothing to do, and of a request of many entries.
const MEMORY_BYTES_MAX: usize = (32 + 64 + 32) * MIB;
/// The same where each entry is answered.
const ANSWERED_BYTES_MAX: usize = (32 + 64 + 64) * MIB;
const TIMES: usize = 200_000;
/// Nearly as many as a request may have.
const MANY: usize = 1_000_000;
const TOPIC: &str = "t";
/// Shorter names are refused as too many for so few bytes (WIRE-2).
const GROUP: &str = "group";

fn scene() -> (Scene, Client) {
    let scene = Scene::start(&["num.partitions=1"]);
    let mut client = scene.client();
    client.create(TOPIC, &[]);
    let batch = batch_of(b"value", Compression::None);
    assert_eq!(client.produce(TOPIC, batch).error_code, ErrorCode::NONE);
    (scene, client)
}

/// Asks what so many new topics would be.
fn validate(names: Range<usize>) -> CreateTopicsRequest {
    let topic = |name: usize| CreatableTopic {
        name: name.to_string(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = names.map(topic).collect();
    CreateTopicsRequest { topics, validate_only: true, ..Default::default() }
}

fn times<T: Clone>(one: T) -> Vec<T> {
    vec![one; TIMES]
}

#[test]
fn what_is_described_is_described_once() {
    let (mut scene, mut client) = scene();
    let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(times(topic)), ..Default::default() };
    let answer: MetadataResponse = client.call(&request, 9);
    assert_eq!(answer.topics.len(), 1, "BUDGET-6: told of once");
    let resource = |resource_type, name: &str| DescribeConfigsResource {
        resource_type,
        resource_name: name.into(),
        configuration_keys: None,
    };
    for resource in [resource(4, "1"), resource(2, TOPIC)] {
        let request = DescribeConfigsRequest { resources: times(resource), ..Default::default() };
        let answer: DescribeConfigsResponse = client.call(&request, 1);
        assert_eq!(answer.results.len(), 1);
    }
    let groups = times("g".to_owned());
    let request = DescribeGroupsRequest { groups: groups.clone(), ..Default::default() };
    let answer: DescribeGroupsResponse = client.call(&request, 5);
    assert_eq!(answer.groups.len(), 1);
    let request = DeleteGroupsRequest { groups_names: groups.clone() };
    let answer: DeleteGroupsResponse = client.call(&request, 2);
    assert_eq!(answer.results.len(), 1);
    let request = FindCoordinatorRequest { coordinator_keys: groups, ..Default::default() };
    let answer: FindCoordinatorResponse = client.call(&request, 4);
    assert_eq!(answer.coordinators.len(), 1);
    let request = DescribeTransactionsRequest { transactional_ids: times("id".into()) };
    let answer: DescribeTransactionsResponse = client.call(&request, 0);
    assert_eq!(answer.transaction_states.len(), 1);
    let topic = DescribeProducersTopic { name: TOPIC.into(), partition_indexes: vec![0, 0] };
    let answer: DescribeProducersResponse =
        client.call(&DescribeProducersRequest { topics: times(topic) }, 0);
    let partitions = answer.topics.iter().map(|topic| topic.partitions.len());
    assert_eq!(partitions.sum::<usize>(), 1);
    let topic = DescribableLogDirTopic { topic: TOPIC.into(), partitions: vec![0] };
    let request = DescribeLogDirsRequest { topics: Some(times(topic)) };
    let answer: DescribeLogDirsResponse = client.call(&request, 4);
    assert_eq!(answer.results[0].topics.len(), 1);
    scene.is_served();
    scene.end(MEMORY_BYTES_MAX);
}

/// Asks of partition `index`, as often as is wanted, in all requests that name partitions and whose
/// answers tell of each.
fn requests(topic: &str, index: i32, times: usize) -> Vec<(&'static str, BytesMut)> {
    let indexes = || vec![index; times];
    let name = || topic.to_owned();
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: index }; times];
    let topics = vec![OffsetDeleteRequestTopic { name: name(), partitions }];
    let offset_delete = OffsetDeleteRequest { group_id: long_group(), topics };
    let topics = vec![ElectLeadersTopic { topic: name(), partitions: indexes() }];
    let elect = ElectLeadersRequest { topic_partitions: Some(topics), ..Default::default() };
    let topics = vec![DescribeProducersTopic { name: name(), partition_indexes: indexes() }];
    let describe = DescribeProducersRequest { topics };
    let topic = OffsetFetchRequestTopics {
        name: name(),
        partition_indexes: indexes(),
        ..Default::default()
    };
    let group = OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let offset_fetch = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "id".into(),
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: name(), partitions: indexes() }],
        ..Default::default()
    };
    let partition = ReassignablePartition { partition_index: index, replicas: None };
    let partitions = vec![partition; times];
    let topics = vec![ReassignableTopic { name: name(), partitions }];
    let reassign = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
    let forgotten = ForgottenTopic {
        topic: name(),
        partitions: (0..times as i32).collect(),
        ..Default::default()
    };
    let fetch = FetchRequest { forgotten_topics_data: vec![forgotten], ..Default::default() };
    vec![
        ("OffsetDelete", frame(&offset_delete, 0, 1)),
        ("ElectLeaders", frame(&elect, 2, 1)),
        ("DescribeProducers", frame(&describe, 0, 1)),
        ("OffsetFetch", frame(&offset_fetch, 8, 1)),
        ("AddPartitionsToTxn", frame(&add, 3, 1)),
        ("AlterPartitionReassignments", frame(&reassign, 1, 1)),
        ("Fetch", frame(&fetch, 12, 1)),
    ]
}

fn long_group() -> String {
    "g".repeat(1_024)
}

/// A group whose name makes each of its offsets long, with one.
fn with_an_offset(client: &mut Client) {
    let topic = OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: vec![OffsetCommitRequestPartition::default()],
        ..Default::default()
    };
    let request =
        OffsetCommitRequest { group_id: long_group(), topics: vec![topic], ..Default::default() };
    let answer: OffsetCommitResponse = client.call(&request, 8);
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
}

/// Of a partition that there is, and of one that there is not.
#[test]
fn what_names_partitions_is_answered_within_bounded_memory() {
    let (mut scene, mut client) = scene();
    with_an_offset(&mut client);
    for index in [0, 1] {
        for (name, request) in requests(TOPIC, index, MANY) {
            client.send_frame(&request);
            let answer = client.receive_frame();
            println!("{name}: {} bytes", answer.expect(name).len());
            scene.is_served();
        }
    }
    scene.end(ANSWERED_BYTES_MAX);
}

/// WIRE-2: what each entry is turned into would be gigabytes.
#[test]
fn no_request_has_millions_of_entries() {
    let (mut scene, _) = scene();
    for (name, request) in requests(TOPIC, 1, 4 * MANY) {
        let mut client = scene.client();
        client.send_frame(&request);
        assert!(client.is_closed(), "{name}");
    }
    scene.is_served();
    scene.end(MEMORY_BYTES_MAX);
}

/// No more are forgotten in a request than all sessions may have: it is done while they wait.
#[test]
fn a_session_that_forgets_very_many_partitions_is_none() {
    let (mut scene, mut client) = scene();
    let topic = FetchTopic {
        topic: TOPIC.into(),
        partitions: vec![FetchPartition::default()],
        ..Default::default()
    };
    let first = FetchRequest { session_epoch: 0, topics: vec![topic], ..Default::default() };
    let session: FetchResponse = client.call(&first, 12);
    assert_ne!(session.session_id, 0);
    let forget = |count| {
        let partitions = (1..=count).collect();
        let topic = ForgottenTopic { topic: TOPIC.into(), partitions, ..Default::default() };
        FetchRequest { forgotten_topics_data: vec![topic], ..Default::default() }
    };
    let (session_id, session_epoch) = (session.session_id, 1);
    let few = FetchRequest { session_id, session_epoch, ..forget(100_000) };
    let answer: FetchResponse = client.call(&few, 12);
    assert_eq!((answer.error_code, answer.session_id), (ErrorCode::NONE, session_id));
    let many = FetchRequest { session_id, session_epoch: 2, ..forget(100_001) };
    let answer: FetchResponse = client.call(&many, 12);
    assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    scene.is_served();
    scene.end(MEMORY_BYTES_MAX);
}

#[test]
fn offsets_are_kept_and_told_once() {
    let (mut scene, mut client) = scene();
    let partition = OffsetCommitRequestPartition {
        committed_metadata: Some("m".repeat(4_000)),
        ..Default::default()
    };
    let commit = |group: String, partitions: Vec<OffsetCommitRequestPartition>| {
        let topic =
            OffsetCommitRequestTopic { name: TOPIC.into(), partitions, ..Default::default() };
        OffsetCommitRequest { group_id: group, topics: vec![topic], ..Default::default() }
    };
    let _: OffsetCommitResponse = client.call(&commit(GROUP.into(), vec![partition]), 8);
    let group = |length| "g".repeat(length);
    for (length, expected) in
        [(1_024, ErrorCode::NONE), (i16::MAX as usize, ErrorCode::INVALID_GROUP_ID)]
    {
        let partitions = times(OffsetCommitRequestPartition::default());
        let answer: OffsetCommitResponse = client.call(&commit(group(length), partitions), 8);
        assert_eq!(answer.topics[0].partitions[TIMES - 1].error_code, expected);
    }
    let topic = OffsetFetchRequestTopics {
        name: TOPIC.into(),
        partition_indexes: times(0),
        ..Default::default()
    };
    let told =
        |topics| OffsetFetchRequestGroup { group_id: GROUP.into(), topics, ..Default::default() };
    for groups in [vec![told(Some(vec![topic]))], times(told(None))] {
        let request = OffsetFetchRequest { groups, ..Default::default() };
        let answer: OffsetFetchResponse = client.call(&request, 8);
        assert_eq!(answer.groups.len(), 1);
        assert_eq!(answer.groups[0].topics[0].partitions.len(), 1);
    }
    scene.is_served();
    scene.end(MEMORY_BYTES_MAX);
}

#[test]
fn offsets_of_a_transaction_are_kept_once() {
    const ID: &str = "id";
    let (mut scene, mut client) = scene();
    let id = InitProducerIdRequest {
        transactional_id: Some(ID.into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let InitProducerIdResponse { producer_id, producer_epoch, .. } = client.call(&id, 4);
    let group = |length| "g".repeat(length);
    let (transactional_id, group_id) = (ID.into(), group(1_024));
    let request =
        AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id };
    let added: AddOffsetsToTxnResponse = client.call(&request, 3);
    assert_eq!(added.error_code, ErrorCode::NONE);
    for (length, expected) in
        [(1_024, ErrorCode::NONE), (i16::MAX as usize, ErrorCode::INVALID_GROUP_ID)]
    {
        let topic = TxnOffsetCommitRequestTopic {
            name: TOPIC.into(),
            partitions: times(TxnOffsetCommitRequestPartition::default()),
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.into(),
            group_id: group(length),
            producer_id,
            producer_epoch,
            topics: vec![topic],
            ..Default::default()
        };
        let answer: TxnOffsetCommitResponse = client.call(&request, 3);
        assert_eq!(answer.topics[0].partitions[TIMES - 1].error_code, expected);
    }
    scene.is_served();
    scene.end(MEMORY_BYTES_MAX);
}

#[test]
fn a_long_name_is_not_kept_for_each_partition() {
    let (mut scene, mut client) = scene();
    let request = |name: String| {
        // As many as there may be of all sessions.
        let wanted = |partition| FetchPartition { partition, ..Default::default() };
        let partitions = (0..100_000).map(wanted).collect();
        let topic = FetchTopic { topic: name, partitions, ..Default::default() };
        FetchRequest { session_epoch: 0, topics: vec![topic], ..Default::default() }
    };
    let long = "x".repeat(i16::MAX as usize);
    let answer: FetchResponse = client.call(&request(long), 12);
    assert_eq!((answer.session_id, answer.responses[0].partitions.len()), (0, 100_000));
    client.send(&request("x".repeat(MIB)), 12);
    assert!(client.is_closed());
    scene.is_served();
    scene.end(MEMORY_BYTES_MAX);
}

/// Each would be answered with all settings that it would have.
#[test]
fn no_request_asks_for_very_many_new_topics() {
    let (mut scene, mut client) = scene();
    let request = validate(0..50_000);
    let answer: CreateTopicsResponse = client.call(&request, 7);
    assert_eq!(answer.topics.len(), 50_000);
    assert!(answer.topics.iter().all(|topic| topic.error_code == ErrorCode::INVALID_REQUEST));
    scene.is_served();
    scene.end(MEMORY_BYTES_MAX);
}

/// Answers that are larger than their requests, and are ready before anybody takes them.
#[test]
fn answers_that_are_ready_wait_for_memory() {
    const PIPELINE: usize = 128;
    let (mut scene, mut silent) = scene();
    let request = validate(0..3_000);
    let stream = silent.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..PIPELINE {
            silent.send(&request, 7);
        }
    });
    for _ in 0..100 {
        scene.is_served();
    }
    stream.shutdown(Shutdown::Both).unwrap();
    sending.join().unwrap();
    scene.end(MEMORY_BYTES_MAX + (256 + 64) * MIB);
}
