use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lossproof_wire::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
    DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic, ErrorCode,
};

use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::topics::{Catalog, Topic};

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: DescribeLogDirsRequest = call.decode()?;
        let results = vec![directory(&broker, request.topics)];
        call.late(&DescribeLogDirsResponse { results, ..Default::default() })
    }))
}

/// The one directory; what is not on it is left out.
fn directory(
    broker: &Broker,
    wanted: Option<Vec<DescribableLogDirTopic>>,
) -> DescribeLogDirsResult {
    let catalog = broker.topics.catalog();
    let space = broker.env.disk.space(&broker.config.data).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot tell how much space the file system has");
        None
    });
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let topics = match wanted {
        None => catalog.iter().map(|topic| describe(broker, topic, |_| true)).collect(),
        Some(wanted) => chosen(broker, &catalog, wanted),
    };
    DescribeLogDirsResult {
        error_code: match broker.log.fenced() {
            Some(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            None => ErrorCode::NONE,
        },
        log_dir: broker.config.data.display().to_string(),
        topics,
        total_bytes: space.map_or(-1, |space| bytes(space.total_bytes)),
        usable_bytes: space.map_or(-1, |space| bytes(space.usable_bytes)),
    }
}

fn chosen(
    broker: &Broker,
    catalog: &Catalog,
    wanted: Vec<DescribableLogDirTopic>,
) -> Vec<DescribeLogDirsTopic> {
    let mut indexes: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for topic in wanted {
        indexes.entry(topic.topic).or_default().extend(topic.partitions);
    }
    let known = indexes.iter().filter_map(|(name, indexes)| {
        let topic = catalog.by_name(name)?;
        Some(describe(broker, topic, |index| indexes.contains(&index)))
    });
    known.collect()
}

fn describe(
    broker: &Broker,
    topic: &Topic,
    is_wanted: impl Fn(i32) -> bool,
) -> DescribeLogDirsTopic {
    let partitions = (0..).zip(&topic.partitions).filter(|(index, _)| is_wanted(*index));
    let partitions = partitions.filter_map(|(partition_index, id)| {
        let size = broker.log.bytes(*id)?;
        Some(DescribeLogDirsPartition {
            partition_index,
            partition_size: i64::try_from(size).unwrap_or(i64::MAX),
            ..Default::default()
        })
    });
    DescribeLogDirsTopic { partitions: partitions.collect(), name: topic.name.clone() }
}
