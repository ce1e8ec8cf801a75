//! What the pipeline reports of each record, to whoever keeps receipts.

use std::fmt::Debug;
use std::sync::Arc;

use lossproof_audit::identity::Identity;
use lossproof_client::TopicPartition;
use thiserror::Error;

/// What happened to a record, of which an assignment that still holds is witness.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// Handed out by the consumer.
    Delivered,
    /// All steps are done.
    Processed,
    /// The sink said that it has it.
    Confirmed,
    /// The sink had it before: an earlier attempt or another copy had put it there. Says nothing
    /// without `Confirmed`.
    Duplicate,
    Filtered {
        reason: String,
    },
    /// The dead-letter topic has acknowledged it.
    DeadLettered {
        reason: String,
    },
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    pub identity: Identity,
    pub partition: Arc<TopicPartition>,
    pub offset: i64,
    pub fact: Fact,
}

/// Keeps notes, and makes them durable before the offsets they cover are committed. Sending them
/// to the cluster is its own business, and must not hold up any of these calls.
pub trait Receipts: Debug + Send {
    /// Cheap; in memory.
    fn note(&mut self, note: &Note);

    /// The group had committed nothing in this partition, and reads it from the beginning: what
    /// was said before of its unstamped records was about an earlier topic of this name.
    fn note_beginning(&mut self, partition: &TopicPartition);

    /// Returns once everything noted so far is durable.
    fn flush_durable(&mut self) -> Result<(), ReceiptsError>;

    /// The last call: nothing will be noted any more.
    fn close(self: Box<Self>) -> Result<(), ReceiptsError>;
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiptsError {
    #[error("receipts not durable: {detail}; nothing is committed until they are")]
    Retriable { detail: String },
    #[error("receipts can not be made durable any more: {detail}")]
    Fenced { detail: String },
}
