//! CreatePartitions (37): more partitions for a topic.
//!
//! Schemas: `CreatePartitionsRequest.json`, `CreatePartitionsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// How many.
    pub struct CreatePartitionsRequest: CreatePartitions, versions 0..=3, flexible 2 {
        topics: Vec<CreatePartitionsTopic>;
        /// How long to wait until they are there, in milliseconds.
        timeout_ms: i32;
        /// Only tell whether it would work.
        validate_only: bool;
    }

    /// A topic that grows.
    pub struct CreatePartitionsTopic {
        name: String;
        /// Partitions that it is to have, those it has included.
        count: i32;
        /// One for each new partition; `None`: the broker chooses.
        assignments: Option<Vec<CreatePartitionsAssignment>> = Some(Vec::new());
    }

    /// The brokers of a new partition.
    pub struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>;
    }
}

message! {
    /// What became of it.
    pub struct CreatePartitionsResponse: CreatePartitions, versions 0..=3, flexible 2 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        results: Vec<CreatePartitionsTopicResult>;
    }

    /// What became of a topic.
    pub struct CreatePartitionsTopicResult {
        name: String;
        error_code: ErrorCode;
        error_message: Option<String>;
    }
}
