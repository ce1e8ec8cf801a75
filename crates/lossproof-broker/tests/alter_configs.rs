//! AlterConfigs and IncrementalAlterConfigs: each resource by itself, durable before it is
//! answered, and holding from then on. (TOPIC-6)

use crate::common;

use common::{Broker, Client, ends, records};
use lossproof_log::FlushPolicy;
use lossproof_wire::*;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// What is done to a setting.
pub(crate) const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// A change of one setting.
pub(crate) fn change(
    name: &str,
    config_operation: i8,
    value: Option<&str>,
) -> IncrementalAlterableConfig {
    let value = value.map(str::to_owned);
    IncrementalAlterableConfig { name: name.into(), config_operation, value }
}

fn resource(
    resource_type: i8,
    name: &str,
    configs: Vec<IncrementalAlterableConfig>,
) -> IncrementalAlterConfigsResource {
    IncrementalAlterConfigsResource { resource_type, resource_name: name.into(), configs }
}

async fn alter_all(
    client: &mut Client,
    resources: Vec<IncrementalAlterConfigsResource>,
    validate_only: bool,
    version: i16,
) -> Vec<ErrorCode> {
    let request = IncrementalAlterConfigsRequest { resources, validate_only };
    let answer: IncrementalAlterConfigsResponse = client.call(&request, version).await;
    let responses = answer.responses.into_iter();
    let codes = responses.map(|response| {
        assert_eq!(response.error_message.is_some(), !response.error_code.is_none());
        response.error_code
    });
    codes.collect()
}

pub(crate) async fn alter(
    client: &mut Client,
    topic: &str,
    change: IncrementalAlterableConfig,
) -> ErrorCode {
    alter_all(client, vec![resource(TOPIC, topic, vec![change])], false, 1).await[0]
}

/// Sets these, and no others.
async fn replace(
    client: &mut Client,
    topic: &str,
    settings: &[(&str, Option<&str>)],
    version: i16,
) -> ErrorCode {
    replace_or_check(client, topic, settings, false, version).await
}

async fn replace_or_check(
    client: &mut Client,
    topic: &str,
    settings: &[(&str, Option<&str>)],
    validate_only: bool,
    version: i16,
) -> ErrorCode {
    let configs = settings.iter().map(|(name, value)| AlterableConfig {
        name: (*name).into(),
        value: value.map(str::to_owned),
    });
    let resource = AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configs: configs.collect(),
    };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only };
    let answer: AlterConfigsResponse = client.call(&request, version).await;
    answer.responses[0].error_code
}

/// Value and source of a setting of a topic.
async fn setting(client: &mut Client, topic: &str, name: &str) -> (String, i8) {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configuration_keys: Some(vec![name.into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer: DescribeConfigsResponse = client.call(&request, 4).await;
    let config = &answer.results[0].configs[0];
    (config.value.clone().unwrap_or_default(), config.config_source)
}

const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 4;
const OF_DEFAULT: i8 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_is_set_and_removed_and_survives_a_power_cut() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for (version, name) in ends(ApiKey::IncrementalAlterConfigs).into_iter().zip(["a", "b"]) {
        client.create(name, 1).await;
        let set =
            vec![change("retention.ms", SET, Some("5")), change("segment.ms", SET, Some("6"))];
        let codes = alter_all(&mut client, vec![resource(TOPIC, name, set)], false, version).await;
        assert_eq!(codes, [ErrorCode::NONE]);
    }
    drop(client);
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    for name in ["a", "b"] {
        assert_eq!(setting(&mut client, name, "retention.ms").await, ("5".into(), OF_TOPIC));
        let removed = alter(&mut client, name, change("retention.ms", DELETE, None)).await;
        assert_eq!(removed, ErrorCode::NONE);
        assert_eq!(setting(&mut client, name, "retention.ms").await, ("-1".into(), OF_DEFAULT));
        assert_eq!(setting(&mut client, name, "segment.ms").await, ("6".into(), OF_TOPIC));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_appended_to_and_subtracted_from_and_nothing_else_is() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let appended = alter(&mut client, "t", change("cleanup.policy", APPEND, Some("compact"))).await;
    assert_eq!(appended, ErrorCode::NONE);
    let policy = setting(&mut client, "t", "cleanup.policy").await;
    assert_eq!(policy, ("delete,compact".into(), OF_TOPIC));
    let less = alter(&mut client, "t", change("cleanup.policy", SUBTRACT, Some("delete"))).await;
    assert_eq!(less, ErrorCode::NONE);
    assert_eq!(setting(&mut client, "t", "cleanup.policy").await.0, "compact");
    // It holds at once.
    let keyless = client.produce("t", 0, records(&["no key"])).await;
    assert_eq!(keyless.error_code, ErrorCode::INVALID_RECORD);
    for wrong in [
        change("cleanup.policy", SUBTRACT, Some("compact")),
        change("retention.ms", APPEND, Some("1")),
        change("retention.ms", SET, Some("soon")),
        change("retention.sm", SET, Some("1")),
        change("compression.type", SET, Some("gzip")),
    ] {
        let refused = alter(&mut client, "t", wrong.clone()).await;
        assert_eq!(refused, ErrorCode::INVALID_CONFIG, "{wrong:?}");
    }
    for wrong in [change("cleanup.policy", APPEND, None), change("retention.ms", 9, Some("1"))] {
        assert_eq!(alter(&mut client, "t", wrong).await, ErrorCode::INVALID_REQUEST);
    }
    assert_eq!(setting(&mut client, "t", "cleanup.policy").await.0, "compact");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_request_replaces_all_settings() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for version in ends(ApiKey::AlterConfigs) {
        let both = [("retention.ms", Some("5")), ("segment.ms", Some("6"))];
        assert_eq!(replace(&mut client, "t", &both, version).await, ErrorCode::NONE);
        assert_eq!(setting(&mut client, "t", "segment.ms").await, ("6".into(), OF_TOPIC));
        let one = [("retention.ms", Some("7")), ("segment.bytes", None)];
        assert_eq!(replace(&mut client, "t", &one, version).await, ErrorCode::NONE);
        assert_eq!(setting(&mut client, "t", "retention.ms").await, ("7".into(), OF_TOPIC));
        assert_eq!(setting(&mut client, "t", "segment.ms").await.1, OF_DEFAULT);
        let wrong = [("retention.ms", Some("8")), ("no.such", Some("1"))];
        let fine = [("retention.ms", Some("9"))];
        for (settings, expected) in
            [(&wrong[..], ErrorCode::INVALID_CONFIG), (&fine, ErrorCode::NONE)]
        {
            let checked = replace_or_check(&mut client, "t", settings, true, version).await;
            assert_eq!(checked, expected, "only validated");
        }
        assert_eq!(replace(&mut client, "t", &wrong, version).await, ErrorCode::INVALID_CONFIG);
        assert_eq!(setting(&mut client, "t", "retention.ms").await.0, "7");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_resource_stands_by_itself_and_none_is_tried_that_is_named_twice() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for topic in ["a", "b"] {
        client.create(topic, 1).await;
    }
    let set = || vec![change("retention.ms", SET, Some("5"))];
    let twice = vec![change("retention.ms", SET, Some("5")), change("retention.ms", DELETE, None)];
    let resources = vec![
        resource(TOPIC, "missing", set()),
        resource(TOPIC, "a", set()),
        resource(TOPIC, "b", set()),
        resource(TOPIC, "b", set()),
        resource(BROKER, "1", vec![change("num.partitions", SET, Some("5"))]),
        resource(BROKER, "", vec![change("num.partition", SET, Some("5"))]),
        resource(99, "a", set()),
    ];
    let codes = alter_all(&mut client, resources, false, 1).await;
    let (missing, invalid) = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::INVALID_REQUEST);
    assert_eq!(codes, [missing, ErrorCode::NONE, invalid, invalid, invalid, invalid, invalid]);
    let codes = alter_all(&mut client, vec![resource(TOPIC, "b", twice)], false, 1).await;
    assert_eq!(codes, [invalid]);
    assert_eq!(setting(&mut client, "a", "retention.ms").await.0, "5");
    assert_eq!(setting(&mut client, "b", "retention.ms").await.0, "-1");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_tells_the_same_and_changes_nothing() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for (value, code) in [("5", ErrorCode::NONE), ("soon", ErrorCode::INVALID_CONFIG)] {
        let set = vec![change("retention.ms", SET, Some(value))];
        let codes = alter_all(&mut client, vec![resource(TOPIC, "t", set)], true, 1).await;
        assert_eq!(codes, [code]);
    }
    assert_eq!(setting(&mut client, "t", "retention.ms").await.1, OF_DEFAULT);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_value_holds_where_the_topic_has_none() {
    let broker = Broker::with(|config| {
        config.set("log.retention.hours", "2").expect("a setting");
    })
    .await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    assert_eq!(setting(&mut client, "t", "retention.ms").await, ("7200000".into(), OF_BROKER));
    alter(&mut client, "t", change("retention.ms", SET, Some("9"))).await;
    assert_eq!(setting(&mut client, "t", "retention.ms").await, ("9".into(), OF_TOPIC));
    broker.stop().await;
}

/// TOPIC-6: what was acknowledged from the page cache is safe when the change to commit is
/// answered, and so is each record after it, over a power cut and a start with other defaults.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_becomes_safe_when_its_flush_policy_says_so() {
    let broker = Broker::with(|config| config.flush = FlushPolicy::UnsafePageCache).await;
    let mut client = broker.client().await;
    client.create("t", 2).await;
    client.produce("t", 1, records(&["before"])).await;
    let safe = change("lossproof.flush", SET, Some("commit"));
    assert_eq!(alter(&mut client, "t", safe).await, ErrorCode::NONE);
    client.produce("t", 1, records(&["after"])).await;
    // Another setting leaves it alone.
    alter(&mut client, "t", change("retention.ms", SET, Some("5"))).await;
    drop(client);
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.values("t", 1).await, ["before", "after"]);
    assert_eq!(setting(&mut client, "t", "lossproof.flush").await, ("commit".into(), OF_TOPIC));
    client.produce("t", 1, records(&["last"])).await;
    drop(client);
    let broker = broker.power_cut().await;
    assert_eq!(broker.client().await.values("t", 1).await.len(), 3);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_never_acknowledged_from_the_page_cache() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("_lossproof.receipts", 1).await;
    let risky = change("lossproof.flush", SET, Some("page-cache"));
    let refused = alter(&mut client, "_lossproof.receipts", risky).await;
    assert_eq!(refused, ErrorCode::INVALID_CONFIG);
    assert_eq!(setting(&mut client, "_lossproof.receipts", "lossproof.flush").await.0, "commit");
    let topic = CreatableTopic {
        name: "__new".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig {
            name: "lossproof.flush".into(),
            value: Some("page-cache".into()),
        }],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let refused: CreateTopicsResponse = client.call(&request, 7).await;
    assert_eq!(refused.topics[0].error_code, ErrorCode::INVALID_CONFIG);
    broker.stop().await;
}
