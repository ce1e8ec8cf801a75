//! The cluster as operators see and change it: more partitions, topics page by page, the one
//! broker, its directory, and what one node cannot do.

use crate::common;

use std::collections::BTreeSet;

use common::{Broker, Client, ends, records};
use lossproof_wire::*;

pub(crate) fn growth(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic { name: name.into(), count, assignments: None }
}

pub(crate) async fn grow(
    client: &mut Client,
    topic: CreatePartitionsTopic,
    validate_only: bool,
    version: i16,
) -> ErrorCode {
    try_to_grow(client, topic, validate_only, version).await.0
}

/// The answer, and what it says.
pub(crate) async fn try_to_grow(
    client: &mut Client,
    topic: CreatePartitionsTopic,
    validate_only: bool,
    version: i16,
) -> (ErrorCode, String) {
    let request =
        CreatePartitionsRequest { topics: vec![topic], validate_only, ..Default::default() };
    let answer: CreatePartitionsResponse = client.call(&request, version).await;
    let result = &answer.results[0];
    assert_eq!(result.error_message.is_none(), result.error_code.is_none(), "{result:?}");
    (result.error_code, result.error_message.as_deref().unwrap_or_default().to_owned())
}

async fn partitions_of(client: &mut Client, name: &str) -> usize {
    let topics = Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]);
    let request = MetadataRequest { topics, ..Default::default() };
    let answer: MetadataResponse = client.call(&request, 12).await;
    answer.topics[0].partitions.len()
}

/// TOPIC-1, TOPIC-2: what has grown is there after a power cut, and shares nothing with others.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_grows_and_keeps_what_it_has() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic_id = client.create("t", 1).await.topic_id;
    client.create("other", 1).await;
    client.produce("t", 0, records(&["a"])).await;
    let [oldest, newest] = ends(ApiKey::CreatePartitions);
    assert_eq!(grow(&mut client, growth("t", 3), true, newest).await, ErrorCode::NONE);
    assert_eq!(partitions_of(&mut client, "t").await, 1, "only asked");
    assert_eq!(grow(&mut client, growth("t", 2), false, oldest).await, ErrorCode::NONE);
    let assignments = Some(vec![CreatePartitionsAssignment { broker_ids: vec![1] }; 2]);
    let by_hand = CreatePartitionsTopic { assignments, ..growth("t", 4) };
    assert_eq!(grow(&mut client, by_hand, false, newest).await, ErrorCode::NONE);
    client.produce("t", 3, records(&["b"])).await;
    client.create("late", 1).await;
    client.produce("late", 0, records(&["c"])).await;
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    let answer: MetadataResponse = client.call(&MetadataRequest::default(), 12).await;
    let topic = answer.topics.iter().find(|topic| topic.name.as_deref() == Some("t"));
    let topic = topic.expect("it is there");
    let errors: BTreeSet<ErrorCode> = topic.partitions.iter().map(|one| one.error_code).collect();
    assert_eq!((topic.topic_id, topic.partitions.len()), (topic_id, 4));
    assert_eq!(errors, BTreeSet::from([ErrorCode::NONE]));
    for (name, partition, value) in [("t", 0, "a"), ("t", 3, "b"), ("late", 0, "c")] {
        assert_eq!(client.values(name, partition).await, [value]);
    }
    assert_eq!(client.values("other", 0).await, Vec::<String>::new());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_grow_is_refused_with_its_reason() {
    let broker = Broker::with(|config| config.partitions_max = 10).await;
    let mut client = broker.client().await;
    client.create("t", 3).await;
    client.create("other", 1).await;
    let placed = |brokers: &[i32]| CreatePartitionsTopic {
        assignments: Some(vec![CreatePartitionsAssignment { broker_ids: brokers.to_vec() }]),
        ..growth("t", 4)
    };
    for version in ends(ApiKey::CreatePartitions) {
        for validate_only in [true, false] {
            for (wanted, refused) in [
                (growth("missing", 2), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                (growth("t", 3), ErrorCode::INVALID_PARTITIONS),
                (growth("t", 2), ErrorCode::INVALID_PARTITIONS),
                (growth("t", -1), ErrorCode::INVALID_PARTITIONS),
                (growth("t", 10), ErrorCode::INVALID_PARTITIONS),
                (growth("t", i32::MAX), ErrorCode::INVALID_PARTITIONS),
                (placed(&[2]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
                (placed(&[1, 2]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
                (
                    CreatePartitionsTopic { count: 5, ..placed(&[1]) },
                    ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                ),
            ] {
                let outcome = grow(&mut client, wanted.clone(), validate_only, version).await;
                assert_eq!(outcome, refused, "{wanted:?}");
            }
        }
        let twice = CreatePartitionsRequest {
            topics: vec![growth("t", 4), growth("t", 5)],
            ..Default::default()
        };
        let answer: CreatePartitionsResponse = client.call(&twice, version).await;
        assert!(answer.results.iter().all(|one| one.error_code == ErrorCode::INVALID_REQUEST));
    }
    assert_eq!(partitions_of(&mut client, "t").await, 3);
    assert_eq!(
        grow(&mut client, growth("t", 9), false, 3).await,
        ErrorCode::NONE,
        "up to the bound"
    );
    broker.stop().await;
}

/// Reads all pages: names, errors and partitions, and how many pages there were.
async fn pages(client: &mut Client, topics: &[&str], limit: i32) -> (Vec<String>, usize) {
    let named = |name: &&str| DescribeTopicPartitionsTopic { name: (*name).to_owned() };
    let mut request = DescribeTopicPartitionsRequest {
        topics: topics.iter().map(named).collect(),
        response_partition_limit: limit,
        cursor: None,
    };
    let (mut shown, mut count) = (Vec::new(), 0);
    loop {
        let answer: DescribeTopicPartitionsResponse = client.call(&request, 0).await;
        count += 1;
        for topic in answer.topics {
            let name = topic.name.expect("a name");
            if !topic.error_code.is_none() {
                shown.push(format!("{name} {}", topic.error_code.name()));
            }
            for partition in topic.partitions {
                assert_eq!((partition.leader_id, &*partition.isr_nodes), (1, &[1][..]));
                shown.push(format!("{name}-{}", partition.partition_index));
            }
        }
        match answer.next_cursor {
            None => return (shown, count),
            cursor => request.cursor = cursor,
        }
        assert!(count < 20, "no progress: {shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_described_page_by_page_each_partition_once() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for (name, partitions) in [("b", 3), ("a", 2), ("c", 1)] {
        client.create(name, partitions).await;
    }
    let all = ["a-0", "a-1", "b-0", "b-1", "b-2", "c-0"].map(str::to_owned).to_vec();
    for (limit, expected) in [(2_000, 1), (6, 1), (5, 2), (4, 2), (3, 2), (2, 3), (1, 6), (0, 6)] {
        assert_eq!(pages(&mut client, &[], limit).await, (all.clone(), expected), "{limit}");
    }
    let some = pages(&mut client, &["c", "missing", "b", "b", ""], 3).await;
    let invalid = " INVALID_TOPIC_EXCEPTION";
    let missing = "missing UNKNOWN_TOPIC_OR_PARTITION";
    let expected = [invalid, "b-0", "b-1", "b-2", "c-0", missing].map(str::to_owned).to_vec();
    assert_eq!(some, (expected, 2));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_one_broker() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for version in ends(ApiKey::DescribeCluster) {
        let answer: DescribeClusterResponse =
            client.call(&DescribeClusterRequest::default(), version).await;
        let [one] = &answer.brokers[..] else { panic!("{answer:?}") };
        assert_eq!((answer.error_code, answer.controller_id), (ErrorCode::NONE, 1));
        assert_eq!((one.broker_id, &*one.host, one.port), (1, "127.0.0.1", 9092));
        assert_eq!(answer.cluster_id.len(), 22, "as Kafka writes it");
    }
    for (endpoint_type, refused) in
        [(2, ErrorCode::MISMATCHED_ENDPOINT_TYPE), (9, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE)]
    {
        let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
        let answer: DescribeClusterResponse = client.call(&request, 1).await;
        assert_eq!((answer.error_code, answer.endpoint_type), (refused, endpoint_type));
    }
    broker.stop().await;
}

/// An operator who moves here from Apache Kafka keeps both names, and nothing says another.
#[tokio::test(flavor = "multi_thread")]
async fn node_and_cluster_are_called_what_the_operator_says() {
    const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qk";
    let broker = Broker::with(|config| {
        config.set("node.id", "3").expect("a number");
        config.set("cluster.id", CLUSTER).expect("an id");
    });
    let broker = broker.await.restart().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let answer: MetadataResponse = client.call(&MetadataRequest::default(), 12).await;
    assert_eq!((answer.cluster_id.as_deref(), answer.controller_id), (Some(CLUSTER), 3));
    assert_eq!(answer.brokers[0].node_id, 3);
    let one = &answer.topics[0].partitions[0];
    assert_eq!((one.leader_id, &*one.replica_nodes, &*one.isr_nodes), (3, &[3][..], &[3][..]));
    let request = DescribeClusterRequest::default();
    let answer: DescribeClusterResponse = client.call(&request, 0).await;
    assert_eq!((&*answer.cluster_id, answer.controller_id), (CLUSTER, 3));
    assert_eq!(answer.brokers[0].broker_id, 3);
    let request = DescribeTopicPartitionsRequest {
        topics: vec![DescribeTopicPartitionsTopic { name: "t".into() }],
        response_partition_limit: 1,
        ..Default::default()
    };
    let answer: DescribeTopicPartitionsResponse = client.call(&request, 0).await;
    let one = &answer.topics[0].partitions[0];
    assert_eq!((one.leader_id, &*one.replica_nodes, &*one.isr_nodes), (3, &[3][..], &[3][..]));
    let [oldest, newest] = ends(ApiKey::FindCoordinator);
    let request = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    let answer: FindCoordinatorResponse = client.call(&request, oldest).await;
    assert_eq!(answer.node_id, 3);
    let coordinator_keys = vec!["g".into()];
    let request = FindCoordinatorRequest { coordinator_keys, ..Default::default() };
    let answer: FindCoordinatorResponse = client.call(&request, newest).await;
    assert_eq!(answer.coordinators[0].node_id, 3);
    for (node, expected) in [(1, ErrorCode::INVALID_REPLICA_ASSIGNMENT), (3, ErrorCode::NONE)] {
        let assignments = Some(vec![CreatePartitionsAssignment { broker_ids: vec![node] }]);
        let by_hand = CreatePartitionsTopic { assignments, ..growth("t", 2) };
        assert_eq!(grow(&mut client, by_hand, false, 3).await, expected);
        let expected = if node == 3 { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST };
        let resource = DescribeConfigsResource {
            resource_type: 4,
            resource_name: node.to_string(),
            configuration_keys: Some(vec!["cluster.id".into()]),
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer: DescribeConfigsResponse = client.call(&request, 4).await;
        assert_eq!(answer.results[0].error_code, expected);
        let told = answer.results[0].configs.first().and_then(|config| config.value.as_deref());
        assert_eq!(told, (node == 3).then_some(CLUSTER));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_described_with_the_partitions_in_it() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 2).await;
    client.create("other", 1).await;
    client.produce("t", 1, records(&[&"x".repeat(100_000)])).await;
    for version in ends(ApiKey::DescribeLogDirs) {
        let all = DescribeLogDirsRequest { topics: None };
        let answer: DescribeLogDirsResponse = client.call(&all, version).await;
        let [directory] = &answer.results[..] else { panic!("{answer:?}") };
        assert_eq!((directory.error_code, &*directory.log_dir), (ErrorCode::NONE, "/data"));
        let names: Vec<&str> = directory.topics.iter().map(|topic| &*topic.name).collect();
        assert_eq!(names, ["other", "t"]);
        let sizes = directory.topics[1].partitions.iter().map(|one| one.partition_size);
        let sizes: Vec<i64> = sizes.collect();
        assert_eq!(sizes[0], 0);
        assert!((100_000..120_000).contains(&sizes[1]), "{sizes:?}");
        let topic =
            |topic: &str| DescribableLogDirTopic { topic: topic.into(), partitions: vec![1, 7] };
        let some = DescribeLogDirsRequest { topics: Some(vec![topic("t"), topic("missing")]) };
        let answer: DescribeLogDirsResponse = client.call(&some, version).await;
        let [only] = &answer.results[0].topics[..] else { panic!("{answer:?}") };
        let indexes: Vec<i32> = only.partitions.iter().map(|one| one.partition_index).collect();
        assert_eq!((&*only.name, &*indexes), ("t", &[1][..]));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_to_elect() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let wanted = ElectLeadersTopic { topic: "t".into(), partitions: vec![0, 1] };
    let request =
        ElectLeadersRequest { topic_partitions: Some(vec![wanted]), ..Default::default() };
    for version in ends(ApiKey::ElectLeaders) {
        let answer: ElectLeadersResponse = client.call(&request, version).await;
        let results = &answer.replica_election_results[0].partition_result;
        let codes: Vec<ErrorCode> = results.iter().map(|result| result.error_code).collect();
        let expected = [ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
        assert_eq!((answer.error_code, &*codes), (ErrorCode::NONE, &expected[..]));
        let all = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
        let answer: ElectLeadersResponse = client.call(&all, version).await;
        assert_eq!(answer.replica_election_results, []);
    }
    let unknown = ElectLeadersRequest { election_type: 2, ..request };
    let answer: ElectLeadersResponse = client.call(&unknown, 2).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_REQUEST);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_can_only_be_where_they_are() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for version in ends(ApiKey::AlterPartitionReassignments) {
        for (partition_index, replicas, expected) in [
            (0, Some(vec![1]), ErrorCode::NONE),
            (0, Some(vec![2]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (0, Some(vec![1, 2]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (0, Some(vec![]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (0, None, ErrorCode::NO_REASSIGNMENT_IN_PROGRESS),
            (1, Some(vec![1]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ] {
            let partitions = vec![ReassignablePartition { partition_index, replicas }];
            let topics = vec![ReassignableTopic { name: "t".into(), partitions }];
            let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
            let answer: AlterPartitionReassignmentsResponse = client.call(&request, version).await;
            let result = &answer.responses[0].partitions[0];
            assert_eq!((answer.error_code, result.error_code), (ErrorCode::NONE, expected));
        }
    }
    let request = ListPartitionReassignmentsRequest::default();
    let answer: ListPartitionReassignmentsResponse = client.call(&request, 0).await;
    assert_eq!((answer.error_code, &*answer.topics), (ErrorCode::NONE, &[][..]));
    broker.stop().await;
}
