use std::fmt::Debug;
use std::time::Duration;

use thiserror::Error;

use crate::Record;

/// Settings of a topic from which nothing is removed by itself.
pub const KEEP_EVERYTHING: [(&str, &str); 3] =
    [("cleanup.policy", "delete"), ("retention.bytes", "-1"), ("retention.ms", "-1")];

/// Sends records to the partition they name: idempotent, acks=all, no time-out of its own.
///
/// Every token that [`LogProducer::send`] accepted comes back exactly once: from
/// [`LogProducer::poll`], or in the list that [`LogProducer::close`] returns.
pub trait LogProducer: Debug + Send {
    /// Queues one record. The record is handed back when it cannot be queued.
    fn send(&mut self, record: Record, token: u64) -> Result<(), SendError>;

    /// Waits up to `timeout` for outcomes and returns those that are there, oldest first.
    fn poll(&mut self, timeout: Duration) -> Vec<Delivery>;

    /// Number of partitions of `topic`, asking the cluster; creates the topic where the cluster
    /// does so for producers.
    fn partition_count(&mut self, topic: &str, timeout: Duration) -> Result<i32, DeliveryError>;

    /// Makes a topic from which nothing is removed ([`KEEP_EVERYTHING`]), with as many partitions
    /// and replicas as the cluster gives by default. `Ok(false)` where it is there already,
    /// whatever its settings.
    fn create_topic_without_retention(
        &mut self,
        topic: &str,
        timeout: Duration,
    ) -> Result<bool, DeliveryError>;

    /// Tokens accepted whose outcome has not been returned by `poll`.
    fn in_flight(&self) -> usize;

    /// A producer that met a fatal error delivers nothing any more: close it, make a new one,
    /// send again in order from the lowest unacknowledged record of each partition.
    fn fatal(&self) -> Option<DeliveryError>;

    /// Waits up to `timeout` for what is in flight, then ends. Returns the outcomes that came,
    /// and the tokens whose outcome is unknown.
    fn close(self: Box<Self>, timeout: Duration) -> (Vec<Delivery>, Vec<u64>);
}

/// What became of one accepted record.
#[derive(Debug)]
pub struct Delivery {
    pub token: u64,
    pub outcome: Result<Stored, DeliveryError>,
}

/// Where the cluster says the record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
}

/// A record refused at once; it was never sent.
#[derive(Debug, Error)]
#[error("record for {}-{} not queued: {cause}", record.topic, record.partition)]
pub struct SendError {
    pub record: Box<Record>,
    pub cause: SendCause,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendCause {
    #[error("the client's queue is full: poll, then send again")]
    QueueFull,
    #[error("the record is larger than the client may send")]
    TooLarge,
    #[error("the client has met a fatal error and must be replaced")]
    Fatal,
    #[error("the partition is not there now: {detail}; try again later")]
    Unavailable { detail: String },
    #[error("refused by the client: {detail}")]
    Refused { detail: String },
}

/// Why a record was not acknowledged. The variants say what is known of the log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryError {
    #[error("not stored: {detail}")]
    NotStored { detail: String },
    #[error("outcome unknown, the record may be stored: {detail}")]
    Unknown { detail: String },
    #[error("refused for good (too large, not authorised, invalid): {detail}")]
    Refused { detail: String },
    #[error("the client is dead: {detail}")]
    Fatal { detail: String },
}
