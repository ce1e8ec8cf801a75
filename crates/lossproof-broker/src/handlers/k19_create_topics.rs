use std::sync::Arc;

use lossproof_log::FlushPolicy;
use lossproof_wire::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse, ErrorCode, Uuid,
};

use super::alteration::named_twice;
use super::k32_describe_configs::topic_configs;
use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::error::topic_error;
use crate::topic_config::TopicConfig;
use crate::topics::NewTopic;

/// "The broker's default" in the protocol.
const DEFAULT: i32 = -1;
/// Of one request: each is answered with all of its settings (BUDGET-6).
const TOPICS_MAX: usize = 10_000;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: CreateTopicsRequest = call.decode()?;
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.clone()));
    let too_many = request.topics.len() > TOPICS_MAX;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let result = if too_many {
            let message = format!("no more than {TOPICS_MAX} topics at a time");
            Err((ErrorCode::INVALID_REQUEST, message))
        } else if twice.contains(&name) {
            Err((ErrorCode::INVALID_REQUEST, "the request names this topic twice".to_owned()))
        } else {
            create(broker, topic, request.validate_only).await
        };
        topics.push(result.unwrap_or_else(|(error_code, message)| CreatableTopicResult {
            name,
            error_code,
            error_message: Some(message),
            ..Default::default()
        }));
    }
    call.ready(&CreateTopicsResponse { topics, ..Default::default() })
}

type Refusal = (ErrorCode, String);

async fn create(
    broker: &Arc<Broker>,
    wanted: CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refusal> {
    let partitions = partition_count(broker, &wanted)?;
    let settings = wanted.configs.into_iter().map(|config| (config.name, config.value));
    let config = TopicConfig::new(settings)
        .map_err(|error| (ErrorCode::INVALID_CONFIG, error.to_string()))?;
    let new = NewTopic { name: wanted.name.clone(), partitions, config: config.clone() };
    let refusal = |error| (topic_error(&error), error.to_string());
    if validate_only {
        broker.topics.check(&new).map_err(refusal)?;
        let flush = broker.topics.flush_policy(&new.name, &new.config);
        return Ok(result(broker, wanted.name, Uuid::default(), partitions, (&config, flush)));
    }
    let topic = broker.create_topic(new).await.map_err(refusal)?;
    Ok(result(broker, wanted.name, Uuid(topic.id.0), partitions, (&config, topic.flush)))
}

fn partition_count(broker: &Broker, wanted: &CreatableTopic) -> Result<i32, Refusal> {
    let replicas = i32::from(wanted.replication_factor);
    if wanted.assignments.is_empty() {
        if replicas != 1 && replicas != DEFAULT {
            let message = format!("replication factor {replicas}: there is one broker");
            return Err((ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        return Ok(match wanted.num_partitions {
            DEFAULT => broker.config.partitions_default,
            count => count,
        });
    }
    if replicas != DEFAULT || wanted.num_partitions != DEFAULT {
        let message = "partitions are placed by hand: their number and that of the replicas must \
                       be -1";
        return Err((ErrorCode::INVALID_REQUEST, message.to_owned()));
    }
    let indexes = wanted.assignments.iter().map(|one| one.partition_index);
    let mut indexes: Vec<i32> = indexes.collect();
    indexes.sort_unstable();
    let dense = (0..).zip(&indexes).all(|(expected, index)| expected == *index);
    let node = broker.node_id();
    let here = wanted.assignments.iter().all(|one| one.broker_ids == [node]);
    if dense && here {
        Ok(indexes.len() as i32)
    } else {
        let message = format!("partitions must be 0, 1, ... and all on broker {node}");
        Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message))
    }
}

fn result(
    broker: &Broker,
    name: String,
    topic_id: Uuid,
    num_partitions: i32,
    (config, flush): (&TopicConfig, FlushPolicy),
) -> CreatableTopicResult {
    let configs = topic_configs(broker, config, flush).map(|known| CreatableTopicConfigs {
        name: known.name.to_owned(),
        value: known.value(),
        read_only: known.read_only,
        config_source: known.source(),
        is_sensitive: false,
    });
    CreatableTopicResult {
        name,
        topic_id,
        num_partitions,
        replication_factor: 1,
        configs: Some(configs.collect()),
        ..Default::default()
    }
}
