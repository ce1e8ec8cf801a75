use std::fmt::Debug;
use std::time::Duration;

use thiserror::Error;

use crate::Record;

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// First offset kept, and one past the last acknowledged one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Watermarks {
    pub low: i64,
    pub high: i64,
}

/// What a group member does when partitions come and go. Called inside [`LogConsumer::poll`] and
/// [`LogConsumer::close`], on their thread, before the change takes effect.
pub trait Rebalance: Send {
    /// For each new partition: where reading starts, given the committed offset and the
    /// watermarks. An error leaves the partition unassigned and surfaces from `poll`.
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        committed: Option<i64>,
        watermarks: Watermarks,
    ) -> Result<i64, ConsumeError>;

    /// Finish or give up what is in flight on these partitions; the returned offsets (next to be
    /// read) are committed before they are given away.
    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)>;

    /// The partitions belong to somebody else already: nothing can be committed.
    fn lost(&mut self, partitions: &[TopicPartition]);
}

/// A member of a consumer group that never commits or resets by itself.
pub trait LogConsumer: Debug + Send {
    /// The next record, or `None` after `timeout`. Must be called all the time, also while every
    /// partition is paused, or the member is taken for dead.
    fn poll(
        &mut self,
        timeout: Duration,
        rebalance: &mut dyn Rebalance,
    ) -> Result<Option<Record>, ConsumeError>;

    /// Stops delivery of these partitions; records fetched and not yet returned are not lost.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError>;
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError>;

    /// Commits `next offset to read` and waits for the coordinator's word, for each partition.
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), CommitError>;

    /// Revokes what is assigned through `rebalance`, commits what it returns, leaves the group.
    fn close(
        self: Box<Self>,
        rebalance: &mut dyn Rebalance,
        timeout: Duration,
    ) -> Result<(), ConsumeError>;
}

/// Questions to a cluster, and reading a topic from outside any group.
pub trait Admin: Debug + Send {
    /// Partition ids of a topic; `None` where it does not exist. Never creates it.
    fn partitions(&mut self, topic: &str) -> Result<Option<Vec<i32>>, ConsumeError>;
    fn watermarks(&mut self, partition: &TopicPartition) -> Result<Watermarks, ConsumeError>;
    /// What OffsetFetch answers for a group.
    fn committed(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, ConsumeError>;
    /// Calls `each` for every record of `[from, to)` that is there, in order. Returns once the
    /// position has passed `to`; gaps (compaction, markers) are legal.
    fn read(
        &mut self,
        partition: &TopicPartition,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), ConsumeError>;
    /// Makes a topic; `Ok(false)` where it exists already.
    fn create_topic(&mut self, topic: &str, partitions: i32) -> Result<bool, ConsumeError>;
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsumeError {
    #[error("{}: offset {offset} is not in the log any more or not yet", partition.partition)]
    OutOfRange { partition: TopicPartition, offset: i64 },
    /// Passes by itself: the client goes on trying as long as it is polled.
    #[error("no broker answers: {detail}")]
    Unreachable { detail: String },
    /// Final: this client delivers nothing any more.
    #[error("this member is no longer in the group: {detail}")]
    Fenced { detail: String },
    /// Somebody has to look: a right is missing, a name is wrong, a batch is corrupt.
    #[error("the cluster refused: {detail}")]
    Refused { detail: String },
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError {
    #[error("the partitions belong to another member now; their records will be read again")]
    Fenced,
    #[error("not committed: {detail}; try again")]
    Retriable { detail: String },
    #[error("commit refused: {detail}")]
    Refused { detail: String },
}
