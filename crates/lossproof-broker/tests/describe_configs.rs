//! DescribeConfigs on the wire, in the oldest and the newest version: what holds for a topic and
//! for the broker, and where it comes from.

use crate::common;

use common::{Broker, Client, ends};
use lossproof_log::FlushPolicy;
use lossproof_wire::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
/// Where a value comes from.
const OF_TOPIC: i8 = 1;
const OF_DEFAULT: i8 = 5;

/// What `LogConfig.nonInternalConfigNames` of Apache Kafka 4.3.1 has.
const KAFKAS_TOPIC_SETTINGS: [&str; 33] = [
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

/// Those of Apache Kafka's that mean something here, and the project's own.
const OF_THE_BROKER: [&str; 67] = [
    "advertised.listeners",
    "auto.create.topics.enable",
    "broker.id",
    "cluster.id",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "connections.max.idle.ms",
    "controlled.shutdown.enable",
    "default.replication.factor",
    "delete.topic.enable",
    "fetch.max.bytes",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "listener.security.protocol.map",
    "listeners",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.dirs",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.local.retention.bytes",
    "log.local.retention.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.check.interval.ms",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "log.roll.hours",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "lossproof.flush",
    "lossproof.partitions.max",
    "max.connections",
    "max.connections.per.ip",
    "message.max.bytes",
    "min.insync.replicas",
    "node.id",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.retention.minutes",
    "offsets.topic.replication.factor",
    "process.roles",
    "producer.id.expiration.ms",
    "queued.max.request.bytes",
    "sasl.enabled.mechanisms",
    "security.inter.broker.protocol",
    "socket.request.max.bytes",
    "transaction.max.timeout.ms",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
    "transactional.id.expiration.ms",
    "unclean.leader.election.enable",
];

fn resource(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    let keys = keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect());
    DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys: keys }
}

async fn describe(
    client: &mut Client,
    resource: DescribeConfigsResource,
    version: i16,
) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let mut answer: DescribeConfigsResponse = client.call(&request, version).await;
    answer.results.remove(0)
}

fn find<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|config| config.name == name).expect("it is listed")
}

fn names(result: &DescribeConfigsResult) -> Vec<&str> {
    result.configs.iter().map(|config| config.name.as_str()).collect()
}

/// A topic `t` that keeps its records for a second.
async fn broker_with_a_topic() -> (Broker, Client) {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let retention =
        CreatableTopicConfig { name: "retention.ms".into(), value: Some("1000".into()) };
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![retention],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer: CreateTopicsResponse = client.call(&request, 7).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
    (broker, client)
}

/// librdkafka's tests want all settings, those with their defaults too.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_all_settings_its_own_and_the_defaults() {
    let (broker, mut client) = broker_with_a_topic().await;
    for version in ends(ApiKey::DescribeConfigs) {
        let result = describe(&mut client, resource(TOPIC, "t", None), version).await;
        assert_eq!(result.error_code, ErrorCode::NONE);
        assert_eq!((result.resource_type, result.resource_name.as_str()), (TOPIC, "t"));
        let own = find(&result, "retention.ms");
        assert_eq!((own.value.as_deref(), own.config_source), (Some("1000"), OF_TOPIC));
        for (name, value) in [
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("message.timestamp.type", "CreateTime"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "false"),
        ] {
            let config = find(&result, name);
            assert_eq!((config.value.as_deref(), config.config_source), (Some(value), OF_DEFAULT));
        }
        assert!(result.configs.iter().all(|config| config.value.is_some() && !config.is_sensitive));
        let mut expected = [&KAFKAS_TOPIC_SETTINGS[..], &["lossproof.flush"]].concat();
        expected.sort_unstable();
        assert_eq!(names(&result), expected);
        let types = [find(&result, "retention.ms"), find(&result, "cleanup.policy")];
        let types = types.map(|config| config.config_type);
        let [long, list] = [5, 7];
        // Version 1 has no types: read as 0, which is "unknown".
        assert_eq!(types, if version < 3 { [0, 0] } else { [long, list] });
    }
    broker.stop().await;
}

/// The policy belongs to the topic: a broker that is told another at a later start says for each
/// topic what holds, and not what it was told.
#[tokio::test(flavor = "multi_thread")]
async fn the_flush_policy_shown_is_the_one_that_the_topic_was_made_with() {
    const RECEIPTS: &str = "_lossproof.receipts";
    let broker = Broker::with(|config| config.flush = FlushPolicy::UnsafePageCache).await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.create(RECEIPTS, 1).await;
    for (name, flush) in [("t", "page-cache"), (RECEIPTS, "commit")] {
        let result = describe(&mut client, resource(TOPIC, name, None), 4).await;
        assert_eq!(find(&result, "lossproof.flush").value.as_deref(), Some(flush), "{name}");
    }
    drop(client);
    let broker = Broker::on(broker.stop().await.killed(), |_| {}).await;
    let mut client = broker.client().await;
    client.create("u", 1).await;
    for (name, flush) in [("t", "page-cache"), (RECEIPTS, "commit"), ("u", "commit")] {
        let result = describe(&mut client, resource(TOPIC, name, None), 4).await;
        assert_eq!(find(&result, "lossproof.flush").value.as_deref(), Some(flush), "{name}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_settings_asked_for_are_described_and_an_empty_list_means_all() {
    let (broker, mut client) = broker_with_a_topic().await;
    for version in ends(ApiKey::DescribeConfigs) {
        let keys: &[&str] = &["retention.ms", "no.such.setting"];
        let result = describe(&mut client, resource(TOPIC, "t", Some(keys)), version).await;
        assert_eq!((result.error_code, names(&result)), (ErrorCode::NONE, vec!["retention.ms"]));
        let all = describe(&mut client, resource(TOPIC, "t", None), version).await;
        let empty = describe(&mut client, resource(TOPIC, "t", Some(&[])), version).await;
        assert_eq!(empty, all);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synonyms_are_told_only_where_they_are_asked_for() {
    let (broker, mut client) = broker_with_a_topic().await;
    for version in ends(ApiKey::DescribeConfigs) {
        for include_synonyms in [false, true] {
            let resources = vec![resource(TOPIC, "t", Some(&["retention.ms"]))];
            let request =
                DescribeConfigsRequest { resources, include_synonyms, ..Default::default() };
            let answer: DescribeConfigsResponse = client.call(&request, version).await;
            let synonyms = &answer.results[0].configs[0].synonyms;
            let sources: Vec<_> = synonyms.iter().map(|synonym| synonym.source).collect();
            assert_eq!(
                sources.first(),
                include_synonyms.then_some(&OF_TOPIC),
                "what holds is first"
            );
        }
    }
    broker.stop().await;
}

/// What holds first, then what would hold without it.
#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_value_and_the_built_in_one_are_synonyms_of_the_topics() {
    let broker = Broker::with(|config| {
        config.set("log.retention.ms", "2000").expect("a setting");
    })
    .await;
    let mut client = broker.client().await;
    let retention = CreatableTopicConfig { name: "retention.ms".into(), value: Some("1".into()) };
    let topic =
        CreatableTopic { name: "t".into(), configs: vec![retention], ..CreatableTopic::default() };
    let topic = CreatableTopic { num_partitions: 1, replication_factor: 1, ..topic };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let _: CreateTopicsResponse = client.call(&request, 7).await;
    let request = DescribeConfigsRequest {
        resources: vec![resource(TOPIC, "t", Some(&["retention.ms"]))],
        include_synonyms: true,
        ..Default::default()
    };
    let answer: DescribeConfigsResponse = client.call(&request, 4).await;
    let synonyms = answer.results[0].configs[0].synonyms.iter();
    let synonyms: Vec<_> = synonyms
        .map(|one| (one.name.as_str(), one.value.as_deref().unwrap_or("none"), one.source))
        .collect();
    let broker_name = "log.retention.ms";
    let expected = [("retention.ms", "1", 1), (broker_name, "2000", 4), (broker_name, "-1", 5)];
    assert_eq!(synonyms, expected);
    broker.stop().await;
}

/// From version 3 on, and only where it is asked for; it says what is not carried out.
#[tokio::test(flavor = "multi_thread")]
async fn settings_are_documented_and_do_not_pretend() {
    let (broker, mut client) = broker_with_a_topic().await;
    for (kind, name) in [(TOPIC, "t"), (BROKER, "1")] {
        for include_documentation in [false, true] {
            let resources = vec![resource(kind, name, None)];
            let request =
                DescribeConfigsRequest { resources, include_documentation, ..Default::default() };
            let answer: DescribeConfigsResponse = client.call(&request, 4).await;
            let configs = &answer.results[0].configs;
            let documented = |config: &DescribeConfigsResourceResult| {
                config.documentation.as_ref().is_some_and(|text| !text.is_empty())
            };
            assert!(configs.iter().all(|config| documented(config) == include_documentation));
            if include_documentation && kind == TOPIC {
                let text = |name| {
                    let found = find(&answer.results[0], name);
                    found.documentation.clone().expect("asked for")
                };
                for (name, has_none) in [("segment.bytes", true), ("retention.ms", false)] {
                    let text = text(name);
                    assert_eq!(text.ends_with("Without effect here."), has_none, "{text}");
                }
            }
        }
    }
    broker.stop().await;
}

/// Nothing of the broker's can be changed while it runs; of a topic, what has but one value.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_read_only() {
    let (broker, mut client) = broker_with_a_topic().await;
    let of_broker = describe(&mut client, resource(BROKER, "", None), 4).await;
    assert!(of_broker.configs.iter().all(|config| config.read_only));
    let of_topic = describe(&mut client, resource(TOPIC, "t", None), 4).await;
    assert!(find(&of_topic, "compression.type").read_only);
    for name in ["retention.ms", "cleanup.policy", "lossproof.flush", "segment.bytes"] {
        assert!(!find(&of_topic, name).read_only, "{name}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_an_error_and_is_not_made() {
    let (broker, mut client) = broker_with_a_topic().await;
    for version in ends(ApiKey::DescribeConfigs) {
        let result = describe(&mut client, resource(TOPIC, "missing", None), version).await;
        assert_eq!(result.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!((result.resource_name.as_str(), result.configs.len()), ("missing", 0));
    }
    let answer: MetadataResponse = client.call(&MetadataRequest::default(), 12).await;
    assert_eq!(answer.topics.len(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_describes_itself_and_no_other() {
    let (broker, mut client) = broker_with_a_topic().await;
    for version in ends(ApiKey::DescribeConfigs) {
        let result = describe(&mut client, resource(BROKER, "1", None), version).await;
        assert_eq!((result.error_code, result.resource_type), (ErrorCode::NONE, BROKER));
        assert_eq!(names(&result), OF_THE_BROKER);
        for (name, value) in [
            ("auto.create.topics.enable", "true"),
            ("broker.id", "1"),
            ("default.replication.factor", "1"),
            ("num.partitions", "4"),
        ] {
            assert_eq!(find(&result, name).value.as_deref(), Some(value), "{name}");
        }
        for (kind, name) in [(BROKER, "2"), (BROKER, "one"), (BROKER_LOGGER, "1"), (99, "t")] {
            let result = describe(&mut client, resource(kind, name, None), version).await;
            assert_eq!(result.error_code, ErrorCode::INVALID_REQUEST, "{kind} {name}");
            assert_eq!(result.configs, []);
        }
    }
    broker.stop().await;
}
