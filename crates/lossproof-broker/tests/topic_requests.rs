//! Topics on the wire: made, refused, deleted and described, in the oldest and the newest versions.

use crate::common;

use common::{Broker, Client, ends};
use lossproof_wire::*;

/// One partition on the one broker.
fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

fn setting(name: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig { name: name.into(), value: Some(value.into()) }
}

async fn create(client: &mut Client, topic: CreatableTopic, version: i16) -> CreatableTopicResult {
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let mut answer: CreateTopicsResponse = client.call(&request, version).await;
    answer.topics.remove(0)
}

/// The names of all topics.
async fn names(client: &mut Client) -> Vec<String> {
    let request = MetadataRequest { topics: None, ..Default::default() };
    let answer: MetadataResponse = client.call(&request, 12).await;
    answer.topics.into_iter().map(|topic| topic.name.expect("a name")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_made_is_refused_with_its_reason_and_not_made() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("there", 1).await;
    let long = "x".repeat(250);
    let partitions = |num_partitions| CreatableTopic { num_partitions, ..topic("new") };
    let replicas = |replication_factor| CreatableTopic { replication_factor, ..topic("new") };
    let configs =
        |name, value| CreatableTopic { configs: vec![setting(name, value)], ..topic("new") };
    for version in ends(ApiKey::CreateTopics) {
        for (wanted, refused) in [
            (topic("there"), ErrorCode::TOPIC_ALREADY_EXISTS),
            (topic(""), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (topic(".."), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (topic("a b"), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (topic(&long), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (partitions(0), ErrorCode::INVALID_PARTITIONS),
            (partitions(-2), ErrorCode::INVALID_PARTITIONS),
            (partitions(i32::MAX), ErrorCode::INVALID_PARTITIONS),
            (replicas(0), ErrorCode::INVALID_REPLICATION_FACTOR),
            (replicas(2), ErrorCode::INVALID_REPLICATION_FACTOR),
            (configs("no.such.setting", "1"), ErrorCode::INVALID_CONFIG),
            (configs("retention.ms", "soon"), ErrorCode::INVALID_CONFIG),
        ] {
            let result = create(&mut client, wanted.clone(), version).await;
            assert_eq!(result.error_code, refused, "{wanted:?}");
            assert_eq!(result.name, wanted.name);
            assert!(result.error_message.is_some_and(|text| !text.is_empty()), "{wanted:?}");
        }
    }
    assert_eq!(names(&mut client).await, ["there"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_topic_of_a_request_is_refused_and_the_others_are_made() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topics =
        [topic("a"), topic("no name"), topic("twice"), topic("twice"), topic("b")].to_vec();
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let answer: CreateTopicsResponse = client.call(&request, 7).await;
    for result in &answer.topics {
        let expected = match result.name.as_str() {
            "no name" => ErrorCode::INVALID_TOPIC_EXCEPTION,
            "twice" => ErrorCode::INVALID_REQUEST,
            _ => ErrorCode::NONE,
        };
        assert_eq!(result.error_code, expected, "{}", result.name);
    }
    assert_eq!(names(&mut client).await, ["a", "b"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_validated_is_answered_for_and_not_made() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("there", 1).await;
    for version in ends(ApiKey::CreateTopics) {
        let topics = vec![topic("new"), topic("there"), topic("no name")];
        let request = CreateTopicsRequest { topics, validate_only: true, ..Default::default() };
        let answer: CreateTopicsResponse = client.call(&request, version).await;
        let codes: Vec<_> = answer.topics.iter().map(|result| result.error_code).collect();
        let [exists, invalid] =
            [ErrorCode::TOPIC_ALREADY_EXISTS, ErrorCode::INVALID_TOPIC_EXCEPTION];
        assert_eq!(codes, [ErrorCode::NONE, exists, invalid]);
        assert!(answer.topics[0].topic_id.is_zero(), "there is none");
    }
    assert_eq!(names(&mut client).await, ["there"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_topic_is_answered_with_what_it_has_become() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let old = create(&mut client, topic("old"), 2).await;
    assert_eq!((old.error_code, old.error_message), (ErrorCode::NONE, None));
    let configs = vec![setting("retention.ms", "1000")];
    let defaults =
        CreatableTopic { num_partitions: -1, replication_factor: -1, configs, ..topic("new") };
    let new = create(&mut client, defaults, 7).await;
    assert_eq!((new.error_code, new.error_message), (ErrorCode::NONE, None));
    assert_eq!((new.num_partitions, new.replication_factor), (4, 1), "the broker's defaults");
    assert!(!new.topic_id.is_zero());
    let configs = new.configs.expect("its settings");
    let retention = configs.iter().find(|config| config.name == "retention.ms").expect("listed");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_placed_by_hand_must_be_dense_and_here() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let placed = |places: &[(i32, &[i32])], num_partitions, replication_factor| CreatableTopic {
        num_partitions,
        replication_factor,
        assignments: places
            .iter()
            .map(|(index, brokers)| CreatableReplicaAssignment {
                partition_index: *index,
                broker_ids: brokers.to_vec(),
            })
            .collect(),
        ..topic("new")
    };
    for (wanted, refused) in [
        (placed(&[(0, &[1]), (2, &[1])], -1, -1), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (placed(&[(0, &[1]), (0, &[1])], -1, -1), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (placed(&[(0, &[2])], -1, -1), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (placed(&[(0, &[])], -1, -1), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        // Said twice, and nobody knows which one is meant.
        (placed(&[(0, &[1])], 1, -1), ErrorCode::INVALID_REQUEST),
        (placed(&[(0, &[1])], -1, 1), ErrorCode::INVALID_REQUEST),
    ] {
        let result = create(&mut client, wanted.clone(), 7).await;
        assert_eq!(result.error_code, refused, "{wanted:?}");
    }
    assert_eq!(names(&mut client).await, [""; 0]);
    let made = create(&mut client, placed(&[(1, &[1]), (0, &[1])], -1, -1), 7).await;
    assert_eq!((made.error_code, made.num_partitions), (ErrorCode::NONE, 2));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_deleted_by_name_or_id_and_what_does_not_exist_is_an_error() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("a", 1).await;
    let id = client.create("b", 1).await.topic_id;
    let [oldest, newest] = ends(ApiKey::DeleteTopics);
    let topic_names = vec!["a".to_owned(), "missing".to_owned()];
    let request = DeleteTopicsRequest { topic_names, ..Default::default() };
    let answer: DeleteTopicsResponse = client.call(&request, oldest).await;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let codes: Vec<_> = answer.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, unknown]);
    let by_name = |name: &str| DeleteTopicState { name: Some(name.into()), ..Default::default() };
    let by_id = |topic_id| DeleteTopicState { name: None, topic_id };
    let topics = vec![by_name("a"), by_id(Uuid([7; 16])), by_id(id)];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    let answer: DeleteTopicsResponse = client.call(&request, newest).await;
    let codes: Vec<_> = answer.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [unknown, ErrorCode::UNKNOWN_TOPIC_ID, ErrorCode::NONE]);
    assert_eq!(answer.responses[2].name.as_deref(), Some("b"), "told which it was");
    assert_eq!(names(&mut client).await, [""; 0]);
    broker.stop().await;
}

/// Whoever names a topic twice may mean two: an old id under a name that was given anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_by_name_and_id_at_once_or_by_neither_deletes_nothing() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let id = client.create("a", 1).await.topic_id;
    let both = |topic_id| DeleteTopicState { name: Some("a".into()), topic_id };
    let neither = DeleteTopicState { name: None, topic_id: Uuid::ZERO };
    let topics = vec![both(id), both(Uuid([7; 16])), neither];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    let answer: DeleteTopicsResponse = client.call(&request, 6).await;
    let codes: Vec<_> = answer.responses.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::INVALID_REQUEST; 3]);
    assert_eq!(names(&mut client).await, ["a"]);
    broker.stop().await;
}

/// The choice of the request is in `protocol_traps`; this is the broker's.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_creates_no_topics_says_that_they_are_unknown() {
    let broker = Broker::with(|config| config.auto_create_topics = false).await;
    let mut client = broker.client().await;
    client.create("there", 2).await;
    for version in ends(ApiKey::Metadata) {
        let topic =
            |name: &str| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let topics = Some(vec![topic("there"), topic("missing")]);
        let request = MetadataRequest { topics, ..Default::default() };
        let answer: MetadataResponse = client.call(&request, version).await;
        let [there, missing] = answer.topics.as_slice() else { panic!("two were asked for") };
        assert_eq!((there.error_code, there.partitions.len()), (ErrorCode::NONE, 2));
        let leaders: Vec<_> = there.partitions.iter().map(|one| one.leader_id).collect();
        assert_eq!(leaders, [1, 1]);
        assert_eq!(missing.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!((missing.name.as_deref(), missing.partitions.len()), (Some("missing"), 0));
    }
    assert_eq!(names(&mut client).await, ["there"]);
    broker.stop().await;
}

/// Who wants more than a thousand topics asks again, as clients do.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_metadata_makes_a_thousand_topics_at_most() {
    const MADE_MAX: usize = 1_000;
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic = |name: String| MetadataRequestTopic { name: Some(name), ..Default::default() };
    let request = |topics| MetadataRequest { topics: Some(topics), ..Default::default() };
    let mut repeated = vec![topic("again".into()); MADE_MAX];
    repeated.push(topic("another".into()));
    let answer: MetadataResponse = client.call(&request(repeated), 12).await;
    let codes: Vec<ErrorCode> = answer.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE; 2], "each counts once");
    let many = request((0..=MADE_MAX).map(|name| topic(name.to_string())).collect());
    for missing in [1, 0] {
        let answer: MetadataResponse = client.call(&many, 12).await;
        let codes = answer.topics.iter().map(|topic| topic.error_code);
        assert_eq!(codes.filter(|code| *code == ErrorCode::LEADER_NOT_AVAILABLE).count(), missing);
        assert_eq!(names(&mut client).await.len(), 2 + MADE_MAX + 1 - missing);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_no_topics_means_all_in_version_0_and_none_later() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let id = client.create("t", 1).await.topic_id;
    let none = MetadataRequest { topics: Some(vec![]), ..Default::default() };
    let answer: MetadataResponse = client.call(&none, 0).await;
    assert_eq!(answer.topics.len(), 1);
    for version in [1, 13] {
        let answer: MetadataResponse = client.call(&none, version).await;
        assert_eq!(answer.topics, []);
        let all = MetadataRequest { topics: None, ..Default::default() };
        let answer: MetadataResponse = client.call(&all, version).await;
        assert_eq!((answer.topics.len(), answer.controller_id), (1, 1));
    }
    let by_id = |topic_id| MetadataRequestTopic { name: None, topic_id };
    let topics = Some(vec![by_id(id), by_id(Uuid([7; 16]))]);
    let request = MetadataRequest { topics, ..Default::default() };
    let answer: MetadataResponse = client.call(&request, 13).await;
    assert_eq!(answer.topics[0].name.as_deref(), Some("t"));
    assert_eq!(answer.topics[1].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(answer.topics[1].name, None);
    broker.stop().await;
}
