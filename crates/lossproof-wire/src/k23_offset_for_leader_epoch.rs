//! OffsetForLeaderEpoch (23): where a leader epoch ends in a partition.
//!
//! Schemas: `OffsetForLeaderEpochRequest.json`, `OffsetForLeaderEpochResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which epochs of which partitions.
    pub struct OffsetForLeaderEpochRequest: OffsetForLeaderEpoch, versions 2..=4, flexible 4 {
        /// The follower that asks; -1: a consumer, -2: does not say.
        replica_id: i32 = -2, in 3..;
        topics: Vec<OffsetForLeaderTopic>;
    }

    /// Which epochs of a topic.
    pub struct OffsetForLeaderTopic {
        topic: String;
        partitions: Vec<OffsetForLeaderPartition>;
    }

    /// Which epoch of a partition.
    pub struct OffsetForLeaderPartition {
        partition: i32;
        /// The leader epoch that the client knows; -1: none.
        current_leader_epoch: i32 = -1, in 2..;
        /// The epoch whose end is asked for.
        leader_epoch: i32;
    }
}

message! {
    /// The ends.
    pub struct OffsetForLeaderEpochResponse: OffsetForLeaderEpoch, versions 2..=4, flexible 4 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 2..;
        topics: Vec<OffsetForLeaderTopicResult>;
    }

    /// The ends in a topic.
    pub struct OffsetForLeaderTopicResult {
        topic: String;
        partitions: Vec<OffsetForLeaderPartitionResult>;
    }

    /// The end of the epoch asked for, or of the last one below it that has records.
    pub struct OffsetForLeaderPartitionResult {
        error_code: ErrorCode;
        partition: i32;
        /// -1: unknown.
        leader_epoch: i32 = -1, in 1..;
        /// The first offset that is not of this epoch; -1: unknown.
        end_offset: i64 = -1;
    }
}
