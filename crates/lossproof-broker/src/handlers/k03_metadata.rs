use std::sync::Arc;

use lossproof_wire::{
    ErrorCode, MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic, Uuid,
};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::topic_config::TopicConfig;
use crate::topics::{NewTopic, Topic, TopicError, TopicId};

/// Before this version every request may create topics, and an empty list means all of them.
const FIRST_WITH_CHOICE: i16 = 4;
const FIRST_WITH_IDS: i16 = 10;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: MetadataRequest = call.decode()?;
    let may_create = broker.config.auto_create_topics
        && (call.version < FIRST_WITH_CHOICE || request.allow_auto_topic_creation);
    let wanted = match request.topics {
        Some(topics) if call.version == 0 && topics.is_empty() => None,
        topics => topics,
    };
    let found = match wanted {
        None => None,
        Some(wanted) => {
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                topics.push(find_or_create(broker, topic, call.version, may_create).await);
            }
            Some(topics)
        }
    };
    let broker = Arc::clone(broker);
    // Much larger than the request: one at a time (BUDGET-1).
    Ok(Reply::Later(Box::pin(async move {
        let topics = match found {
            None => broker.topics.catalog().iter().map(|topic| describe(&broker, topic)).collect(),
            Some(found) => {
                let described = |topic: Arc<Topic>| describe(&broker, &topic);
                found.into_iter().map(|found| found.map_or_else(|e| *e, described)).collect()
            }
        };
        call.late(&response(&broker, topics))
    })))
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

/// A topic, or what is answered in its place.
type Found = Result<Arc<Topic>, Box<MetadataResponseTopic>>;

async fn find_or_create(
    broker: &Arc<Broker>,
    wanted: MetadataRequestTopic,
    version: i16,
    may_create: bool,
) -> Found {
    let catalog = broker.topics.catalog();
    let Some(name) = wanted.name else {
        let id = TopicId(wanted.topic_id.0);
        return match catalog.by_id(id) {
            Some(topic) if version >= FIRST_WITH_IDS => Ok(Arc::clone(topic)),
            _ => Err(Box::new(MetadataResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                // Versions that cannot carry null here get an empty name.
                name: (version < 12).then(String::new),
                topic_id: wanted.topic_id,
                ..Default::default()
            })),
        };
    };
    if let Some(topic) = catalog.by_name(&name) {
        return Ok(Arc::clone(topic));
    }
    let outcome = if may_create {
        create(broker, &name).await
    } else {
        let known = crate::topics::check_name(&name);
        Err(known.err().unwrap_or(TopicError::Unknown))
    };
    outcome.map_err(|error| {
        Box::new(MetadataResponseTopic {
            error_code: metadata_error(&error),
            name: Some(name),
            ..Default::default()
        })
    })
}

async fn create(broker: &Arc<Broker>, name: &str) -> Result<Arc<Topic>, TopicError> {
    let new = NewTopic {
        name: name.to_owned(),
        partitions: broker.config.partitions_default,
        config: TopicConfig::default(),
    };
    match broker.create_topic(new).await {
        // Somebody else was faster.
        Err(TopicError::Exists { .. }) => {
            broker.topics.catalog().by_name(name).cloned().ok_or(TopicError::Unknown)
        }
        outcome => outcome,
    }
}

/// A topic that cannot be made now may be made soon: clients ask again on these codes.
fn metadata_error(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::MetadataDamaged | TopicError::Log(_) => {
            tracing::warn!(%error, "topic could not be created");
            ErrorCode::LEADER_NOT_AVAILABLE
        }
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
