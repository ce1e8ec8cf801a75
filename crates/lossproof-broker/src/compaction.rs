//! When which partitions are compacted. How it is done is the log's matter.
//!
//! # Invariants
//!
//! - CLEANING-1: nothing is compacted but what a topic whose settings say so holds at that moment:
//!   `cleanup.policy`, `min.compaction.lag.ms`, `delete.retention.ms`.
//! - CLEANING-2: nothing is compacted while the wall clock is not believed, as nothing goes by its
//!   age then (RETENTION-2).

use std::collections::BTreeSet;
use std::sync::Arc;

use lossproof_log::{Compaction, Dirt, Log, PartitionId};
use lossproof_wire::batch::BatchHeader;

use crate::broker::Broker;
use crate::topic_config::TopicSettings;
use crate::topics::{Catalog, Topic};

/// Looks at all topics once; the log begins at once with what is due.
pub(crate) async fn run_once(broker: &Arc<Broker>, now_ms: i64) {
    if look(broker, move |broker| has_unsealed(broker, now_ms)).await == Some(true)
        && let Err(error) = broker.log.seal().await
    {
        // Tried again by the next round.
        tracing::warn!(cause = %error.cause, "a segment could not be ended for compaction");
    }
    let before = broker.topics.catalog();
    let due = look(broker, move |broker| all_due(broker, now_ms)).await;
    let Some(mut due) = due else { return };
    let ids: Vec<PartitionId> = due.iter().map(|(id, _)| *id).collect();
    // Whoever has altered a topic in between has found nothing to take back (CLEANING-1): while it
    // was looked, and until it was asked for.
    let gone = altered(&before, &broker.topics.catalog(), ids.clone());
    due.retain(|(id, _)| gone.binary_search(id).is_err());
    if due.is_empty() {
        return;
    }
    tracing::info!(partitions = due.len(), "compaction begins");
    broker.log.compact(due);
    let gone = altered(&before, &broker.topics.catalog(), ids);
    broker.log.call_off_compaction(&gone);
}

/// Those of topics that are not what they were, in order.
pub(crate) fn altered(
    before: &Catalog,
    after: &Catalog,
    mut partitions: Vec<PartitionId>,
) -> Vec<PartitionId> {
    let is_as_before =
        |topic: &&Arc<Topic>| before.by_id(topic.id).is_some_and(|known| Arc::ptr_eq(known, topic));
    let same: BTreeSet<&PartitionId> =
        after.iter().filter(is_as_before).flat_map(|topic| &topic.partitions).collect();
    partitions.retain(|id| !same.contains(id));
    partitions.sort_unstable();
    partitions
}

/// Looks into the log, which may read from the disk.
async fn look<T: Send + 'static>(
    broker: &Arc<Broker>,
    what: impl FnOnce(&Broker) -> T + Send + 'static,
) -> Option<T> {
    let looking = Arc::clone(broker);
    let looked = tokio::task::spawn_blocking(move || what(&looking)).await;
    looked.inspect_err(|panic| tracing::error!(%panic, "looking for what to compact failed")).ok()
}

/// Whether the journal's last segment is to be ended.
pub(crate) fn has_unsealed(broker: &Broker, now_ms: i64) -> bool {
    !each(broker, now_ms, is_unsealed).is_empty()
}

/// What is to be compacted now, and how.
pub(crate) fn all_due(broker: &Broker, now_ms: i64) -> Vec<(PartitionId, Compaction)> {
    each(broker, now_ms, due)
}

/// A partition of a topic that is compacted.
struct Candidate<'a> {
    log: &'a Log,
    id: PartitionId,
    settings: &'a TopicSettings,
    dirt: Dirt,
    now_ms: i64,
}

fn compacted_topics(catalog: &Catalog) -> impl Iterator<Item = &Arc<Topic>> {
    catalog.iter().filter(|topic| topic.settings.cleanup.compact)
}

/// What `judge` finds at each partition of the topics that are compacted.
fn each<T>(
    broker: &Broker,
    now_ms: i64,
    judge: impl Fn(&Candidate<'_>) -> Option<T>,
) -> Vec<(PartitionId, T)> {
    let catalog = broker.topics.catalog();
    let mut found = Vec::new();
    for topic in compacted_topics(&catalog) {
        for id in &topic.partitions {
            let (log, settings) = (&broker.log, &topic.settings);
            let Some(dirt) = log.dirt(*id) else { continue };
            let candidate = Candidate { log, id: *id, settings, dirt, now_ms };
            found.extend(judge(&candidate).map(|it| (*id, it)));
        }
    }
    found
}

/// Whether the journal's last segment holds records for longer than they may stay there.
fn is_unsealed(candidate: &Candidate<'_>) -> Option<()> {
    let since_ms = candidate.timestamp_at(candidate.dirt.unsealed_from?)?;
    let settings = candidate.settings;
    let longest_ms = settings.segment_ms.min(settings.max_compaction_lag_ms);
    candidate.has_passed(longest_ms, since_ms).then_some(())
}

/// How a partition is to be compacted, if it is time for it.
fn due(candidate: &Candidate<'_>) -> Option<Compaction> {
    let Candidate { settings, dirt, now_ms, .. } = candidate;
    let lag_ms = i64::try_from(settings.min_compaction_lag_ms).unwrap_or(i64::MAX);
    let before_ms = (lag_ms > 0).then_some(now_ms.saturating_sub(lag_ms));
    let delete_retention_ms = settings.delete_retention_ms;
    let wish = Compaction { now_ms: *now_ms, before_ms, delete_retention_ms };
    let is_over = |since_ms| candidate.has_passed(delete_retention_ms, since_ms);
    if dirt.tombstones_since_ms.is_some_and(is_over) {
        return Some(wish);
    }
    if dirt.dirty_bytes == 0 {
        return None;
    }
    let oldest_ms = candidate.timestamp_at(dirt.from)?;
    if before_ms.is_some_and(|before_ms| oldest_ms >= before_ms) {
        return None; // CLEANING-1
    }
    let ratio = dirt.dirty_bytes as f64 / (dirt.clean_bytes + dirt.dirty_bytes) as f64;
    let is_dirty = ratio > settings.min_cleanable_dirty_ratio;
    let is_old = candidate.has_passed(settings.max_compaction_lag_ms, oldest_ms);
    (is_dirty || is_old).then_some(wish)
}

impl Candidate<'_> {
    fn has_passed(&self, span_ms: u64, since_ms: i64) -> bool {
        self.now_ms.saturating_sub(since_ms) >= i64::try_from(span_ms).unwrap_or(i64::MAX)
    }

    /// Of the batch at an offset; `None` where it cannot be read, which ends compaction there.
    fn timestamp_at(&self, offset: i64) -> Option<i64> {
        let slice = self.log.read(self.id, offset, 0).ok()?;
        let header = BatchHeader::parse(&slice.batches.first()?.bytes).ok()?;
        Some(header.max_timestamp)
    }
}
