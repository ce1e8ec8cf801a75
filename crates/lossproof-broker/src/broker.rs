use lossproof_env::Environment;
use lossproof_log::{Log, PartitionId};
use lossproof_wire::{ErrorCode, Uuid};
use std::sync::Arc;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::group::Coordinator;
use crate::producer_ids::ProducerIdBlocks;
use crate::topics::{Catalog, Topic, TopicId, Topics};

/// The one node of this cluster.
pub(crate) const NODE_ID: i32 = 1;

/// Everything that the handlers share.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) env: Environment,
    pub(crate) log: Log,
    pub(crate) topics: Topics,
    pub(crate) groups: Coordinator,
    pub(crate) producer_ids: ProducerIdBlocks,
    pub(crate) budget: Budget,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) cluster_id: String,
    /// Becomes true once, when the broker is to end.
    pub(crate) draining: watch::Receiver<bool>,
}

/// How a request names a topic: by name, or by id in the newer versions.
pub(crate) fn find_topic(
    catalog: &Catalog,
    by_id: bool,
    name: &str,
    id: Uuid,
) -> Result<Arc<Topic>, ErrorCode> {
    if by_id {
        catalog.by_id(TopicId(id.0)).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        catalog.by_name(name).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

pub(crate) fn find_partition(
    topic: &Result<Arc<Topic>, ErrorCode>,
    index: i32,
) -> Result<PartitionId, ErrorCode> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    topic.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// What a client believes the leader epoch to be, against what it is.
pub(crate) fn check_leader_epoch(claimed: i32, leader_epoch: i32) -> Result<(), ErrorCode> {
    match claimed {
        claimed if claimed < 0 || claimed == leader_epoch => Ok(()),
        claimed if claimed < leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
    }
}
