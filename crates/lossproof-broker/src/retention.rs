//! Removal of what a topic, or a group, need not keep any more.
//!
//! # Invariants
//!
//! - RETENTION-1: nothing goes before all that the topic's settings say of it is past: its newest
//!   record is older than `retention.ms`, or the partition keeps `retention.bytes` without it. They
//!   are those of the moment, and not of the beginning of the round, which may be long ago.
//! - RETENTION-2: nothing goes by its age while the log does not believe the wall clock, nor is
//!   anything stamped with a time before what was believed last: one that
//!   is wrong by years would remove everything at once.

use std::sync::Arc;

use lossproof_log::{Commit, CommitCause, PartitionChange, PartitionId};

use crate::broker::Broker;
use crate::compaction;
use crate::offset_expiry;
use crate::topic_config::TopicSettings;
use crate::topics::Topic;

/// Looks at all topics again and again. Runs until it is dropped.
pub(crate) async fn run(broker: &Arc<Broker>) {
    loop {
        broker.env.clock.sleep(broker.config.retention_check).await;
        run_once(broker).await;
    }
}

/// Looks at all topics once: what may expire, and then what is to be compacted.
pub(crate) async fn run_once(broker: &Arc<Broker>) {
    let now_ms = broker.log.believed_wall_ms(); // RETENTION-2
    expire_all(broker, now_ms).await;
    if let Some(now_ms) = now_ms {
        compaction::run_once(broker, now_ms).await; // CLEANING-2
    }
}

async fn expire_all(broker: &Arc<Broker>, now_ms: Option<i64>) {
    let catalog = broker.topics.catalog();
    if let Some(now_ms) = now_ms {
        offset_expiry::run_once(broker, now_ms).await;
    }
    for topic in catalog.iter() {
        expire_topic(broker, topic, now_ms).await;
    }
}

/// `topic` may have been altered or deleted since.
pub(crate) async fn expire_topic(broker: &Arc<Broker>, topic: &Topic, now_ms: Option<i64>) {
    for id in &topic.partitions {
        let catalog = broker.topics.catalog();
        let Some(present) = catalog.by_id(topic.id) else { return };
        let settings = &present.settings;
        if !settings.cleanup.delete {
            return;
        }
        if let Err(cause) = expire(broker, settings, *id, now_ms).await {
            // Tried again by the next round.
            tracing::warn!(topic = topic.name, partition = %id, %cause, "nothing was removed");
        }
    }
}

async fn expire(
    broker: &Arc<Broker>,
    settings: &TopicSettings,
    id: PartitionId,
    now_ms: Option<i64>,
) -> Result<(), CommitCause> {
    // A time before the epoch is that of no record.
    let age_ms = settings.retention_ms.map(|age_ms| i64::try_from(age_ms).unwrap_or(i64::MAX));
    let before_ms = now_ms.zip(age_ms).map(|(now_ms, age_ms)| now_ms.saturating_sub(age_ms));
    let Some(view) = broker.log.partition(id) else { return Ok(()) };
    let expired = broker.log.expired(id, before_ms, settings.retention_bytes);
    match expired {
        Some(offset) if offset > view.log_start => {
            let change = PartitionChange::LogStart { id, offset };
            broker.log.commit(Commit::partition(change)).await.map_err(|error| error.cause)?;
            tracing::info!(partition = %id, from = view.log_start, to = offset, "records removed");
            Ok(())
        }
        _ => Ok(()),
    }
}
