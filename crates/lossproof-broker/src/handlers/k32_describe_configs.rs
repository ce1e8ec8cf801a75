use std::sync::Arc;

use lossproof_log::FlushPolicy;
use lossproof_wire::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym, ErrorCode,
};

use super::once;
use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::settings::{
    BrokerSetting, FLUSH, Rule, Setting, TOPIC_SETTINGS, broker_setting, broker_settings,
};
use crate::topic_config::{TopicConfig, flush_name};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Where a value comes from, in the protocol's numbers.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// What a client wants to see beside the values.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
}

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let mut turn = broker.turns.next().await;
        let request: DescribeConfigsRequest = call.decode()?;
        let wanted = Wanted {
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let resources =
            once(request.resources, |one| (one.resource_type, one.resource_name.clone()));
        let mut results = Vec::new();
        for resource in resources {
            let result = describe(&broker, resource, wanted);
            turn.looked_at(1 + result.configs.len()).await;
            results.push(result);
        }
        call.late(&DescribeConfigsResponse { results, ..Default::default() })
    }))
}

fn describe(
    broker: &Broker,
    resource: DescribeConfigsResource,
    wanted: Wanted,
) -> DescribeConfigsResult {
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ..Default::default()
    };
    let described: Vec<Described> = match result.resource_type {
        TOPIC => match broker.topics.catalog().by_name(&result.resource_name) {
            Some(topic) => topic_configs(broker, &topic.config, topic.flush).collect(),
            None => return refuse(result, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic"),
        },
        BROKER => {
            let (name, node) = (&result.resource_name, broker.node_id());
            if !name.is_empty() && *name != node.to_string() {
                let message = format!("there is only broker {node}");
                return refuse(result, ErrorCode::INVALID_REQUEST, &message);
            }
            broker_settings().iter().map(|known| of_broker(broker, *known)).collect()
        }
        _ => return refuse(result, ErrorCode::INVALID_REQUEST, "only topics and brokers"),
    };
    // No keys and an empty list both mean all of them.
    let keys = resource.configuration_keys.unwrap_or_default();
    result.configs = described
        .into_iter()
        .filter(|described| keys.is_empty() || keys.iter().any(|key| key == described.name))
        .map(|described| described.answer(wanted))
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

/// A setting with all values that it has, the one that holds first.
pub(super) struct Described {
    pub(super) name: &'static str,
    setting: &'static Setting,
    pub(super) read_only: bool,
    values: Vec<DescribeConfigsSynonym>,
}

impl Described {
    pub(super) fn value(&self) -> Option<String> {
        self.values.first().and_then(|synonym| synonym.value.clone())
    }

    pub(super) fn source(&self) -> i8 {
        self.values.first().map_or(SOURCE_DEFAULT, |synonym| synonym.source)
    }

    fn answer(self, wanted: Wanted) -> DescribeConfigsResourceResult {
        DescribeConfigsResourceResult {
            name: self.name.to_owned(),
            value: self.value(),
            read_only: self.read_only,
            config_source: self.source(),
            is_sensitive: false,
            config_type: self.setting.kind as i8,
            documentation: wanted.documentation.then(|| self.setting.documentation()),
            synonyms: if wanted.synonyms { self.values } else { Vec::new() },
        }
    }
}

/// All settings of a topic: its own, and what holds for the others. The flush policy is the one
/// that the topic has: the broker's may have changed since it was made.
pub(super) fn topic_configs(
    broker: &Broker,
    config: &TopicConfig,
    flush: FlushPolicy,
) -> impl Iterator<Item = Described> {
    TOPIC_SETTINGS.iter().map(move |setting| {
        let inherited = setting.broker_name.and_then(|name| broker_setting(name).ok());
        let own = match config.get(setting.name) {
            Some(value) => Some(value),
            None if setting.name == FLUSH && flush != broker.config.flush => {
                Some(flush_name(flush))
            }
            None => None,
        };
        let own = own.map(|value| synonym(setting.name, Some(value.to_owned()), SOURCE_TOPIC));
        let others = inherited.map(|known| broker_values(broker, known));
        let others = others.unwrap_or_else(|| vec![built_in(setting.name, setting)]);
        Described {
            name: setting.name,
            setting,
            read_only: setting.rule == Rule::Only,
            values: own.into_iter().chain(others).collect(),
        }
    })
}

fn of_broker(broker: &Broker, known: BrokerSetting) -> Described {
    let values = broker_values(broker, known);
    // Given at the start, and changed by another start only.
    Described { name: known.name, setting: known.setting, read_only: true, values }
}

/// What the broker was told of a setting, and the built-in default.
fn broker_values(broker: &Broker, known: BrokerSetting) -> Vec<DescribeConfigsSynonym> {
    let value = match known.name {
        "advertised.listeners" => Some(format!("PLAINTEXT://{}", broker.bootstrap_servers())),
        _ => broker.config.value(known),
    };
    let built_in = built_in(known.name, known.setting);
    if value == built_in.value {
        return vec![built_in];
    }
    vec![synonym(known.name, value, SOURCE_STATIC_BROKER), built_in]
}

fn built_in(name: &str, setting: &Setting) -> DescribeConfigsSynonym {
    synonym(name, setting.default.map(str::to_owned), SOURCE_DEFAULT)
}

fn synonym(name: &str, value: Option<String>, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym { name: name.to_owned(), value, source }
}
