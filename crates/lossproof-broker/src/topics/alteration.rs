//! Other settings for a topic that exists.

use std::sync::Arc;

use lossproof_log::{
    Commit, FlushPolicy, Log, PartitionChange, PartitionId, StateChange, StateKind,
};

use super::{Topic, TopicError, TopicId, Topics, check_evidence, encode, topic_key};
use crate::settings::FLUSH;
use crate::topic_config::{Alteration, Change, TopicSettings, flush_name};

impl Topics {
    /// Everything that [`Topics::alter`] would find wrong before it writes.
    pub(crate) fn check_alteration(
        &self,
        id: TopicId,
        alteration: &Alteration,
    ) -> Result<(), TopicError> {
        let topic = self.catalog().by_id(id).cloned().ok_or(TopicError::Unknown)?;
        self.altered(&topic, alteration).map(|_| ())
    }

    /// Changes the settings of a topic; they hold once they are durable (TOPIC-6).
    pub(crate) async fn alter(
        &self,
        id: TopicId,
        alteration: &Alteration,
    ) -> Result<(), TopicError> {
        let change = self.change.lock().await; // TOPIC-4
        let before = self.catalog().by_id(id).cloned().ok_or(TopicError::Unknown)?;
        let after = self.altered(&before, alteration)?;
        self.commit(difference(&self.log, &before, &after)).await?;
        let (name, flush) = (after.name.clone(), flush_name(after.flush));
        let partitions = after.partitions.clone();
        self.publish(|catalog| catalog.replace(Arc::new(after)));
        // It was asked for by the settings of before; the next round asks by these. Only when they
        // show: who has asked meanwhile looks once more (CLEANING-1).
        self.log.call_off_compaction(&partitions);
        drop(change);
        tracing::info!(topic = name, flush, "topic settings changed");
        Ok(())
    }

    fn altered(&self, topic: &Topic, alteration: &Alteration) -> Result<Topic, TopicError> {
        let config = alteration.apply(&topic.config, &self.defaults)?;
        check_evidence(&topic.name, &config)?;
        // It stays with the topic, unless it is spoken of: the broker's may have changed since.
        let flush = if config.get(FLUSH) == topic.config.get(FLUSH) {
            topic.flush
        } else {
            self.flush_policy(&topic.name, &config)
        };
        let settings = TopicSettings::of(&config, &self.defaults);
        Ok(Topic { flush, config, settings, ..topic.clone() })
    }

    /// TOPIC-6: where damage took the change of a policy from one of both, it may have been one to
    /// `commit`, which holds until somebody says otherwise.
    pub(crate) async fn restore_flush_policies(&self) -> Result<(), TopicError> {
        let (safe, mut changes) = (FlushPolicy::Commit, Vec::new());
        for topic in self.catalog().iter() {
            let differs = |id: &&PartitionId| {
                self.log.partition(**id).is_some_and(|view| view.flush != topic.flush)
            };
            let differing: Vec<PartitionId> =
                topic.partitions.iter().filter(differs).copied().collect();
            if differing.is_empty() {
                continue;
            }
            tracing::error!(topic = %topic.name, partitions = differing.len(),
                "the journal has another flush policy than the topic: {FLUSH}=commit from now on");
            if topic.flush == safe {
                let set = |id| PartitionChange::Flush { id, flush: safe };
                changes.extend(differing.into_iter().map(set));
            } else {
                let change = (FLUSH.to_owned(), Change::Set(flush_name(safe).to_owned()));
                self.alter(topic.id, &Alteration::Change(vec![change])).await?;
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.commit(Commit { partitions: changes, ..Commit::default() }).await
    }
}

/// Settings and policy of each partition become durable together.
fn difference(log: &Log, before: &Topic, after: &Topic) -> Commit {
    let flush_change = |id: &_| PartitionChange::Flush { id: *id, flush: after.flush };
    // One whose creation was given up has no policy any more.
    let is_there = |id: &&PartitionId| log.partition(**id).is_some();
    let partitions: &[_] = if before.flush == after.flush { &[] } else { &after.partitions };
    if after.flush != FlushPolicy::Commit && before.flush == FlushPolicy::Commit {
        tracing::warn!(
            "UNSAFE: topic {} gets {FLUSH}={}: a power cut loses acknowledged messages of it",
            after.name,
            flush_name(after.flush)
        );
    }
    let (kind, key, value) = (StateKind::Metadata, topic_key(&after.name), Some(encode(after)));
    Commit {
        partitions: partitions.iter().filter(is_there).map(flush_change).collect(),
        changes: vec![StateChange { kind, key, value }],
        ..Commit::default()
    }
}
