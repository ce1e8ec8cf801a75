//! ListOffsets (2): the first offset, the next one, or the one at a time.
//!
//! Schemas: `ListOffsetsRequest.json`, `ListOffsetsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which offsets to look up.
    pub struct ListOffsetsRequest: ListOffsets, versions 1..=10, flexible 6 {
        /// The follower that asks; -1: a consumer.
        replica_id: i32;
        /// 0: read uncommitted, 1: read committed.
        isolation_level: i8, only 2..;
        topics: Vec<ListOffsetsTopic>;
        /// How long to wait for remote storage, in milliseconds.
        timeout_ms: i32, in 10..;
    }

    /// The partitions of a topic.
    pub struct ListOffsetsTopic {
        name: String;
        partitions: Vec<ListOffsetsPartition>;
    }

    /// A partition and what to look up.
    pub struct ListOffsetsPartition {
        partition_index: i32;
        /// The leader epoch that the client knows; -1: none.
        current_leader_epoch: i32 = -1, in 4..;
        /// In milliseconds; -1: the next offset, -2: the first, -3: that of the newest timestamp.
        timestamp: i64;
    }
}

message! {
    /// The offsets found.
    pub struct ListOffsetsResponse: ListOffsets, versions 1..=10, flexible 6 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 2..;
        topics: Vec<ListOffsetsTopicResponse>;
    }

    /// The offsets found in a topic.
    pub struct ListOffsetsTopicResponse {
        name: String;
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    /// The offset found in a partition.
    pub struct ListOffsetsPartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        /// Of the record found, in milliseconds; -1: none.
        timestamp: i64 = -1, only 1..;
        /// -1: none.
        offset: i64 = -1, only 1..;
        leader_epoch: i32 = -1, only 4..;
    }
}
