use std::sync::Arc;

use lossproof_wire::{
    ErrorCode, MetadataRequest, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic, Uuid,
};

use super::once;
use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::topic_config::TopicConfig;
use crate::topics::{NewTopic, Topic, TopicError, TopicId};

/// Before this version every request may create topics, and an empty list means all of them.
const FIRST_WITH_CHOICE: i16 = 4;
const FIRST_WITH_IDS: i16 = 10;
/// Topics that one request may make; who wants more asks again.
const CREATED_MAX: usize = 1_000;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    if broker.config.auto_create_topics {
        for new in missing(broker, &call)? {
            if let Err(error) = broker.create_topic(new).await {
                tracing::warn!(%error, "topic could not be created");
            }
        }
    }
    let broker = Arc::clone(broker);
    Ok(Reply::Later(Box::pin(async move {
        let request: MetadataRequest = call.decode()?;
        let topics = topics(&broker, request, call.version);
        call.late(&response(&broker, topics))
    })))
}

/// The topics that a request makes.
fn missing(broker: &Broker, call: &Call) -> Result<Vec<NewTopic>, CallError> {
    let request: MetadataRequest = call.peek()?;
    if !may_create(broker, &request, call.version) {
        return Ok(Vec::new());
    }
    let named = request.topics.unwrap_or_default().into_iter().filter_map(|topic| topic.name);
    let names = once(named.collect(), String::clone).into_iter();
    let new = names.map(|name| new_topic(broker, name));
    let possible = new.filter(|new| broker.topics.check(new).is_ok());
    Ok(possible.take(CREATED_MAX).collect())
}

fn may_create(broker: &Broker, request: &MetadataRequest, version: i16) -> bool {
    broker.config.auto_create_topics
        && (version < FIRST_WITH_CHOICE || request.allow_auto_topic_creation)
}

fn new_topic(broker: &Broker, name: String) -> NewTopic {
    let config = TopicConfig::default();
    NewTopic { name, partitions: broker.config.partitions_default, config }
}

fn response(broker: &Broker, topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: broker.node_id(),
            host: broker.host.clone(),
            port: i32::from(broker.port),
            rack: None,
        }],
        cluster_id: Some(broker.cluster_id()),
        controller_id: broker.node_id(),
        topics,
        ..Default::default()
    }
}

fn topics(broker: &Broker, request: MetadataRequest, version: i16) -> Vec<MetadataResponseTopic> {
    let catalog = broker.topics.catalog();
    let may_create = may_create(broker, &request, version);
    let wanted = match request.topics {
        Some(topics) if version > 0 || !topics.is_empty() => topics,
        _ => return catalog.iter().map(|topic| describe(broker, topic)).collect(),
    };
    let wanted = once(wanted, |topic| (topic.name.clone(), topic.topic_id));
    let topics = wanted.into_iter().map(|wanted| {
        let Some(name) = wanted.name else {
            return match catalog.by_id(TopicId(wanted.topic_id.0)) {
                Some(topic) if version >= FIRST_WITH_IDS => describe(broker, topic),
                _ => unknown_id(wanted.topic_id, version),
            };
        };
        match catalog.by_name(&name) {
            Some(topic) => describe(broker, topic),
            None => unknown(broker, name, may_create),
        }
    });
    topics.collect()
}

fn unknown_id(topic_id: Uuid, version: i16) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: ErrorCode::UNKNOWN_TOPIC_ID,
        // Versions that cannot carry null here get an empty name.
        name: (version < 12).then(String::new),
        topic_id,
        ..Default::default()
    }
}

/// A topic that is not there, although it may have been made: it cannot be, or not now.
fn unknown(broker: &Broker, name: String, may_create: bool) -> MetadataResponseTopic {
    let error_code = if may_create {
        let new = new_topic(broker, name.clone());
        let refused = broker.topics.check(&new).err();
        refused.map_or(ErrorCode::LEADER_NOT_AVAILABLE, |error| metadata_error(&error))
    } else {
        let error = crate::topics::check_name(&name).err().unwrap_or(TopicError::Unknown);
        crate::error::topic_error(&error)
    };
    MetadataResponseTopic { error_code, name: Some(name), ..Default::default() }
}

/// A topic that cannot be made now may be made soon: clients ask again on these codes.
fn metadata_error(error: &TopicError) -> ErrorCode {
    match error {
        // The second: somebody else has made it just now.
        TopicError::MetadataDamaged | TopicError::Exists { .. } => ErrorCode::LEADER_NOT_AVAILABLE,
        error => crate::error::topic_error(error),
    }
}

fn describe(broker: &Broker, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(partition_index, id)| {
        let common = MetadataResponsePartition {
            partition_index,
            replica_nodes: vec![broker.node_id()],
            ..Default::default()
        };
        match broker.log.partition(*id) {
            Some(view) => MetadataResponsePartition {
                leader_id: broker.node_id(),
                leader_epoch: view.leader_epoch,
                isr_nodes: vec![broker.node_id()],
                ..common
            },
            None => MetadataResponsePartition {
                error_code: ErrorCode::LEADER_NOT_AVAILABLE,
                leader_id: -1,
                offline_replicas: vec![broker.node_id()],
                ..common
            },
        }
    });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: Uuid(topic.id.0),
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
