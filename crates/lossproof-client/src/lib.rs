//! A producing and a consuming Kafka client, as traits: one implementation on librdkafka (feature
//! `rdkafka`), one in memory for tests. Used by relay, pipeline and audit, which never see which
//! library moves the records.
//!
//! Both traits are blocking and meant for a thread of their own.

mod consumer;
mod producer;

pub use consumer::{
    Admin, CommitError, ConsumeError, LogConsumer, Rebalance, TopicPartition, Watermarks,
};
pub use producer::{Delivery, DeliveryError, LogProducer, SendCause, SendError, Stored};

use bytes::Bytes;

/// One record as it travels to or from a topic. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    /// Meaningful on records that were read; ignored on records to be sent.
    pub offset: i64,
    /// `None` when sending: the client stamps the present time.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
}
