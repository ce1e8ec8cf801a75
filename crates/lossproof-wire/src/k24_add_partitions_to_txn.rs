//! AddPartitionsToTxn (24): what a transaction is going to write to.
//!
//! Versions 4 and 5 are only used between brokers and are not offered: the schema says that
//! clients use version 3 and below. The names of the fields are the schemas'.
//! Schemas: `AddPartitionsToTxnRequest.json`, `AddPartitionsToTxnResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// The partitions to add.
    pub struct AddPartitionsToTxnRequest: AddPartitionsToTxn, versions 0..=3, flexible 3 {
        v3_and_below_transactional_id: String;
        v3_and_below_producer_id: i64;
        v3_and_below_producer_epoch: i16;
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic>;
    }

    /// The partitions of a topic.
    pub struct AddPartitionsToTxnTopic {
        name: String;
        partitions: Vec<i32>;
    }
}

message! {
    /// What became of them.
    pub struct AddPartitionsToTxnResponse: AddPartitionsToTxn, versions 0..=3, flexible 3 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>;
    }

    /// What became of the partitions of a topic.
    pub struct AddPartitionsToTxnTopicResult {
        name: String;
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }

    /// What became of a partition.
    pub struct AddPartitionsToTxnPartitionResult {
        partition_index: i32;
        partition_error_code: ErrorCode;
    }
}
