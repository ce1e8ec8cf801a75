//! A producing and a consuming Kafka client, as traits: one implementation on librdkafka (feature
//! `rdkafka`), one in memory for tests. Used by relay, pipeline and audit, which never see which
//! library moves the records.
//!
//! Both traits are blocking and meant for a thread of their own.
//!
//! ```
//! use std::time::Duration;
//! use lossproof_client::{Record, memory::Cluster};
//!
//! let cluster = Cluster::new();
//! cluster.create_topic("news", 1);
//! let mut producer = cluster.producer();
//! let record = Record { topic: "news".into(), value: Some("text".into()), ..Record::default() };
//! producer.send(record, 7).expect("the queue has room");
//! let outcomes = producer.poll(Duration::ZERO);
//! assert_eq!((outcomes[0].token, outcomes[0].outcome.clone().unwrap().offset), (7, 0));
//! ```

mod consumer;
#[cfg(feature = "rdkafka")]
pub mod librdkafka;
pub mod memory;
mod producer;
mod topic_name;

pub use consumer::{
    Admin, CommitError, ConsumeError, LogConsumer, Rebalance, TopicPartition, Watermarks,
};
pub use producer::{
    Delivery, DeliveryError, KEEP_EVERYTHING, LogProducer, SendCause, SendError, Stored,
};
pub use topic_name::check_topic_name;

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
