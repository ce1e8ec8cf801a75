//! The end of a topic, and of the offsets that were committed for it.

use std::collections::BTreeSet;

use lossproof_log::{Commit, Log, PartitionChange, PartitionId, StateChange, StateKind};

use super::{Topic, TopicError, TopicId, Topics, numbered, remove, topic_key};
use crate::offsets::OffsetKey;
use crate::transaction::pending_offsets;

/// The offsets of one commit take one of so many parts of a journal segment.
const SEGMENT_SHARES: u64 = 8;
/// More than the removal of an offset takes besides its key.
const OFFSET_EXTRA_BYTES: usize = 160;

/// A topic that is not there may be lost, and not deleted: a part of the metadata is damaged, or
/// was given up.
pub(crate) fn may_lack_topics(log: &Log) -> bool {
    let metadata = StateKind::Metadata;
    log.state_is_damaged(metadata) || log.accepted_states().contains(&metadata)
}

impl Topics {
    /// Removes a topic with everything that belongs to it (TOPIC-3).
    pub(crate) async fn delete(&self, id: TopicId) -> Result<(), TopicError> {
        let change = self.change.lock().await;
        let topic = self.catalog().by_id(id).cloned().ok_or(TopicError::Unknown)?;
        let mut removals = self.offset_removals(|key| key.topic_id == id).into_iter();
        self.commit(self.deletion(&topic, removals.next().unwrap_or_default())).await?;
        self.publish(|catalog| catalog.remove(&topic));
        tracing::info!(topic = %topic.name, id = %topic.id, "topic deleted");
        self.remove_left_over(removals).await;
        drop(change);
        Ok(())
    }

    /// At a start: what a deletion has left over that was cut off. Where a topic may only be hidden
    /// its offsets stay.
    pub(crate) async fn sweep_offsets(&self) {
        if may_lack_topics(&self.log) {
            return;
        }
        let catalog = self.catalog();
        let left_over = self.offset_removals(|key| catalog.by_id(key.topic_id).is_none());
        self.remove_left_over(left_over.into_iter()).await;
    }

    /// TOPIC-7: whether partitions may get the numbers behind those that a topic has. One of them
    /// may be there, behind one that is not; and an offset of one that was lost with its creation
    /// would skip what is new.
    pub(super) fn check_numbers(&self, topic: &Topic) -> Result<(), TopicError> {
        if !may_lack_topics(&self.log) {
            return Ok(());
        }
        let present = topic.partitions.len() as i32;
        if numbered(&self.log).keys().any(|(id, at)| *id == topic.id && *at >= present) {
            return Err(TopicError::PartitionsLost { name: topic.name.clone() });
        }
        let holders = [StateKind::Offsets, StateKind::Transactions];
        if holders.into_iter().any(|kind| self.log.state_is_damaged(kind)) {
            return Err(TopicError::OffsetsUnclear); // A later start may see one.
        }
        // Until its end, which has its time; and none comes in of what is not there.
        let mut keys = pending_offsets(&self.log).map(|(key, _)| OffsetKey::decode(key));
        if keys.any(|key| key.is_ok_and(|key| is_beyond(topic, &key))) {
            return Err(TopicError::OffsetPending { name: topic.name.clone() });
        }
        Ok(())
    }

    /// What groups have committed of partitions that were lost with their creation.
    pub(super) async fn remove_offsets_beyond(&self, topic: &Topic) -> Result<(), TopicError> {
        if !may_lack_topics(&self.log) {
            return Ok(());
        }
        for changes in self.offset_removals(|key| is_beyond(topic, key)) {
            self.commit(Commit { changes, ..Commit::default() }).await?;
        }
        Ok(())
    }

    /// The topic is gone: that stands, whatever becomes of this.
    async fn remove_left_over(&self, removals: impl Iterator<Item = Vec<StateChange>>) {
        for changes in removals {
            if let Err(error) = self.commit(Commit { changes, ..Commit::default() }).await {
                tracing::warn!(%error, "offsets of a deleted topic are left to the next start");
                return;
            }
        }
    }

    /// The removal of all offsets that are chosen, in pieces that fit a commit.
    fn offset_removals(&self, is_chosen: impl Fn(&OffsetKey) -> bool) -> Vec<Vec<StateChange>> {
        let mut pieces = Vec::new();
        let (mut piece, mut bytes) = (Vec::new(), 0);
        for (key, _) in self.log.state(StateKind::Offsets) {
            if !OffsetKey::decode(key.clone()).is_ok_and(|key| is_chosen(&key)) {
                continue;
            }
            let more = key.len() + OFFSET_EXTRA_BYTES;
            if bytes + more > self.offset_bytes_max && !piece.is_empty() {
                pieces.push(std::mem::take(&mut piece));
                bytes = 0;
            }
            bytes += more;
            piece.push(remove(StateKind::Offsets, key));
        }
        pieces.extend((!piece.is_empty()).then_some(piece));
        pieces
    }

    /// A partition whose creation is lost is not there to be deleted: where that was given up
    /// the rest goes without it, also what is behind it. Before, nobody can say what else is
    /// missing.
    fn deletion(&self, topic: &Topic, mut changes: Vec<StateChange>) -> Commit {
        let is_damaged = self.log.state_is_damaged(StateKind::Metadata);
        let is_there = |id: &PartitionId| is_damaged || self.log.partition(*id).is_some();
        let listed = topic.partitions.iter().copied().filter(is_there);
        let mut partitions: BTreeSet<PartitionId> = listed.collect();
        let numbered = numbered(&self.log).into_iter().filter(|((of, _), _)| *of == topic.id);
        partitions.extend(numbered.map(|(_, id)| id));
        changes.push(remove(StateKind::Metadata, topic_key(&topic.name)));
        Commit {
            partitions: partitions.into_iter().map(|id| PartitionChange::Delete { id }).collect(),
            changes,
            ..Commit::default()
        }
    }
}

/// Of a partition that the topic does not have.
fn is_beyond(topic: &Topic, key: &OffsetKey) -> bool {
    key.topic_id == topic.id && key.partition >= topic.partitions.len() as i32
}

/// What the offsets of one commit may take in a journal of such segments.
pub(super) fn offset_bytes_max(segment_bytes: u64) -> usize {
    usize::try_from(segment_bytes / SEGMENT_SHARES).unwrap_or(usize::MAX)
}
