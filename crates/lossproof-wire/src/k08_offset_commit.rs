//! OffsetCommit (8): store how far a group has come.
//!
//! Schemas: `OffsetCommitRequest.json`, `OffsetCommitResponse.json`.

use crate::message::message;
use crate::{ErrorCode, Uuid};

message! {
    /// The offsets to store.
    pub struct OffsetCommitRequest: OffsetCommit, versions 2..=10, flexible 8 {
        group_id: String;
        /// -1: from outside of the group.
        generation_id_or_member_epoch: i32 = -1, in 1..;
        member_id: String, in 1..;
        /// Name of a static member.
        group_instance_id: Option<String>, only 7..;
        /// In milliseconds; -1: the broker's setting.
        retention_time_ms: i64 = -1, in 2..=4;
        topics: Vec<OffsetCommitRequestTopic>;
    }

    /// The offsets of a topic.
    pub struct OffsetCommitRequestTopic {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetCommitRequestPartition>;
    }

    /// The offset of a partition: the next record to read.
    pub struct OffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        /// Epoch of the last record read; -1: unknown.
        committed_leader_epoch: i32 = -1, in 6..;
        /// The client's own note.
        committed_metadata: Option<String>;
    }
}

message! {
    /// What became of them.
    pub struct OffsetCommitResponse: OffsetCommit, versions 2..=10, flexible 8 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 3..;
        topics: Vec<OffsetCommitResponseTopic>;
    }

    /// What became of the offsets of a topic.
    pub struct OffsetCommitResponseTopic {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    /// What became of the offset of a partition.
    pub struct OffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
