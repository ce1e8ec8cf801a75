use std::sync::Arc;

use lossproof_log::FlushPolicy;
use lossproof_wire::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym, ErrorCode,
};

use crate::broker::{Broker, NODE_ID};
use crate::call::{Call, CallError, Reply};
use crate::topic_config::{
    ConfigType, FLUSH, MAX_MESSAGE_BYTES, TOPIC_CONFIGS, TopicConfig, flush_name,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from, in the protocol's numbers.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: DescribeConfigsRequest = call.decode()?;
    let broker = Arc::clone(broker);
    // Much larger than the request: one at a time (BUDGET-1).
    Ok(Reply::Later(Box::pin(async move {
        let synonyms = request.include_synonyms;
        let results =
            request.resources.into_iter().map(|resource| describe(&broker, resource, synonyms));
        let results = results.collect();
        call.late(&DescribeConfigsResponse { results, ..Default::default() })
    })))
}

fn describe(
    broker: &Broker,
    resource: DescribeConfigsResource,
    synonyms: bool,
) -> DescribeConfigsResult {
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ..Default::default()
    };
    let configs = match result.resource_type {
        TOPIC => match broker.topics.catalog().by_name(&result.resource_name) {
            Some(topic) => topic_configs(broker, &topic.config, topic.flush).collect(),
            None => return refuse(result, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic"),
        },
        BROKER => {
            let name = &result.resource_name;
            if !name.is_empty() && *name != NODE_ID.to_string() {
                return refuse(result, ErrorCode::INVALID_REQUEST, "there is only broker 1");
            }
            broker_configs(broker)
        }
        _ => return refuse(result, ErrorCode::INVALID_REQUEST, "only topics and brokers"),
    };
    // No keys and an empty list both mean all of them.
    let wanted = resource.configuration_keys.unwrap_or_default();
    result.configs = configs
        .into_iter()
        .filter(|config| wanted.is_empty() || wanted.contains(&config.name))
        .map(|config| if synonyms { with_synonym(config) } else { config })
        .collect();
    result
}

fn refuse(
    result: DescribeConfigsResult,
    error_code: ErrorCode,
    message: &str,
) -> DescribeConfigsResult {
    DescribeConfigsResult { error_code, error_message: Some(message.to_owned()), ..result }
}

fn with_synonym(config: DescribeConfigsResourceResult) -> DescribeConfigsResourceResult {
    let synonym = DescribeConfigsSynonym {
        name: config.name.clone(),
        value: config.value.clone(),
        source: config.config_source,
    };
    DescribeConfigsResourceResult { synonyms: vec![synonym], ..config }
}

fn entry(name: &str, value: String, kind: ConfigType, source: i8) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(value),
        read_only: source != SOURCE_TOPIC,
        config_source: source,
        config_type: kind as i8,
        ..Default::default()
    }
}

/// All settings of a topic: its own, and what holds for the others. The flush policy is the one
/// that the topic was made with: the broker's may have changed since.
pub(super) fn topic_configs(
    broker: &Broker,
    config: &TopicConfig,
    flush: FlushPolicy,
) -> impl Iterator<Item = DescribeConfigsResourceResult> {
    TOPIC_CONFIGS.iter().map(move |known| {
        if known.name == FLUSH {
            let own = config.get(FLUSH).is_some() || flush != broker.config.flush;
            let source = if own { SOURCE_TOPIC } else { SOURCE_DEFAULT };
            return entry(FLUSH, flush_name(flush).to_owned(), known.kind, source);
        }
        if let Some(value) = config.get(known.name) {
            return entry(known.name, value.to_owned(), known.kind, SOURCE_TOPIC);
        }
        let value = match known.name {
            MAX_MESSAGE_BYTES => broker.config.message_bytes_max.to_string(),
            _ => known.default.to_owned(),
        };
        entry(known.name, value, known.kind, SOURCE_DEFAULT)
    })
}

fn broker_configs(broker: &Broker) -> Vec<DescribeConfigsResourceResult> {
    let config = &broker.config;
    let set = |name, value, kind| entry(name, value, kind, SOURCE_STATIC_BROKER);
    let default = |name, value: &str, kind| entry(name, value.to_owned(), kind, SOURCE_DEFAULT);
    let milliseconds = |duration: std::time::Duration| duration.as_millis().to_string();
    vec![
        set(
            "advertised.listeners",
            format!("PLAINTEXT://{}:{}", broker.host, broker.port),
            ConfigType::String,
        ),
        set(
            "auto.create.topics.enable",
            config.auto_create_topics.to_string(),
            ConfigType::Boolean,
        ),
        set("broker.id", NODE_ID.to_string(), ConfigType::Int),
        set("connections.max.idle.ms", milliseconds(config.idle_connection), ConfigType::Long),
        default("default.replication.factor", "1", ConfigType::Int),
        default("delete.topic.enable", "true", ConfigType::Boolean),
        set("fetch.max.bytes", config.fetch_bytes_max.to_string(), ConfigType::Int),
        set(
            "group.initial.rebalance.delay.ms",
            milliseconds(config.groups.initial_rebalance_delay),
            ConfigType::Int,
        ),
        set(
            "group.max.session.timeout.ms",
            milliseconds(config.groups.session_timeout_max),
            ConfigType::Int,
        ),
        set(
            "group.min.session.timeout.ms",
            milliseconds(config.groups.session_timeout_min),
            ConfigType::Int,
        ),
        set("listeners", format!("PLAINTEXT://{}", config.listen), ConfigType::String),
        set("log.dirs", config.data.display().to_string(), ConfigType::String),
        default("log.cleanup.policy", "delete", ConfigType::List),
        default("log.flush.interval.messages", "1", ConfigType::Long),
        default("log.message.timestamp.type", "CreateTime", ConfigType::String),
        default("log.retention.bytes", "-1", ConfigType::Long),
        default("log.retention.ms", "-1", ConfigType::Long),
        set(FLUSH, flush_name(config.flush).to_owned(), ConfigType::String),
        set("max.connections", config.connections_max.to_string(), ConfigType::Int),
        set("message.max.bytes", config.message_bytes_max.to_string(), ConfigType::Int),
        default("min.insync.replicas", "1", ConfigType::Int),
        set("num.partitions", config.partitions_default.to_string(), ConfigType::Int),
        set("queued.max.request.bytes", config.memory_budget_bytes.to_string(), ConfigType::Long),
        set("socket.request.max.bytes", config.request_bytes_max.to_string(), ConfigType::Int),
        default("unclean.leader.election.enable", "false", ConfigType::Boolean),
    ]
}
