//! ListPartitionReassignments (46): the moves of partitions that go on.
//!
//! Schemas: `ListPartitionReassignmentsRequest.json`, `ListPartitionReassignmentsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which partitions.
    pub struct ListPartitionReassignmentsRequest: ListPartitionReassignments,
        versions 0..=0, flexible 0
    {
        /// How long to wait for the answer, in milliseconds.
        timeout_ms: i32 = 60_000;
        /// `None`: all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>;
    }

    /// Partitions of a topic.
    pub struct ListPartitionReassignmentsTopics {
        name: String;
        partition_indexes: Vec<i32>;
    }
}

message! {
    /// The moves.
    pub struct ListPartitionReassignmentsResponse: ListPartitionReassignments,
        versions 0..=0, flexible 0
    {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
        topics: Vec<OngoingTopicReassignment>;
    }

    /// The moves of a topic.
    pub struct OngoingTopicReassignment {
        name: String;
        partitions: Vec<OngoingPartitionReassignment>;
    }

    /// The move of a partition.
    pub struct OngoingPartitionReassignment {
        partition_index: i32;
        /// All that have it now.
        replicas: Vec<i32>;
        adding_replicas: Vec<i32>;
        removing_replicas: Vec<i32>;
    }
}
