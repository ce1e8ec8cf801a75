//! DescribeProducers (61): the producers that partitions remember.
//!
//! Schemas: `DescribeProducersRequest.json`, `DescribeProducersResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Of which partitions.
    pub struct DescribeProducersRequest: DescribeProducers, versions 0..=0, flexible 0 {
        topics: Vec<DescribeProducersTopic>;
    }

    /// Partitions of a topic.
    pub struct DescribeProducersTopic {
        name: String;
        partition_indexes: Vec<i32>;
    }
}

message! {
    /// The producers.
    pub struct DescribeProducersResponse: DescribeProducers, versions 0..=0, flexible 0 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        topics: Vec<DescribeProducersTopicResponse>;
    }

    /// The producers of a topic.
    pub struct DescribeProducersTopicResponse {
        name: String;
        partitions: Vec<DescribeProducersPartitionResponse>;
    }

    /// The producers of a partition.
    pub struct DescribeProducersPartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
        active_producers: Vec<DescribedProducer>;
    }

    /// A producer.
    pub struct DescribedProducer {
        producer_id: i64;
        producer_epoch: i32;
        last_sequence: i32 = -1;
        /// In milliseconds since 1970.
        last_timestamp: i64 = -1;
        /// Of the last marker.
        coordinator_epoch: i32;
        /// -1: no transaction is open.
        current_txn_start_offset: i64 = -1;
    }
}
