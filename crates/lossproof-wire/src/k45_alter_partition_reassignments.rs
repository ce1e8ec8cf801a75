//! AlterPartitionReassignments (45): move partitions to other brokers.
//!
//! Schemas: `AlterPartitionReassignmentsRequest.json`, `AlterPartitionReassignmentsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// What is to go where.
    pub struct AlterPartitionReassignmentsRequest: AlterPartitionReassignments,
        versions 0..=1, flexible 0
    {
        /// How long to wait for the answer, in milliseconds.
        timeout_ms: i32 = 60_000;
        /// A partition may get more or fewer replicas than it has.
        allow_replication_factor_change: bool = true, only 1..;
        topics: Vec<ReassignableTopic>;
    }

    /// A topic.
    pub struct ReassignableTopic {
        name: String;
        partitions: Vec<ReassignablePartition>;
    }

    /// A partition.
    pub struct ReassignablePartition {
        partition_index: i32;
        /// `None`: stop the move that goes on.
        replicas: Option<Vec<i32>>;
    }
}

message! {
    /// What became of it.
    pub struct AlterPartitionReassignmentsResponse: AlterPartitionReassignments,
        versions 0..=1, flexible 0
    {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        /// The request's.
        allow_replication_factor_change: bool = true, in 1..;
        error_code: ErrorCode;
        error_message: Option<String>;
        responses: Vec<ReassignableTopicResponse>;
    }

    /// What became of a topic.
    pub struct ReassignableTopicResponse {
        name: String;
        partitions: Vec<ReassignablePartitionResponse>;
    }

    /// What became of a partition.
    pub struct ReassignablePartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
    }
}
