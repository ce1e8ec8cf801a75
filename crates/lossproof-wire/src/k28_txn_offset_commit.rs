//! TxnOffsetCommit (28): store how far a group has come, if the transaction commits.
//!
//! Version 5 is version 4 for clients that leave AddOffsetsToTxn out, which they do only where
//! `transaction.version` is 2: it is not offered before that is.
//! Schemas: `TxnOffsetCommitRequest.json`, `TxnOffsetCommitResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// The offsets to store.
    pub struct TxnOffsetCommitRequest: TxnOffsetCommit, versions 0..=4, flexible 3 {
        transactional_id: String;
        group_id: String;
        producer_id: i64;
        producer_epoch: i16;
        /// -1: from outside of the group.
        generation_id: i32 = -1, only 3..;
        member_id: String, only 3..;
        /// Name of a static member.
        group_instance_id: Option<String>, only 3..;
        topics: Vec<TxnOffsetCommitRequestTopic>;
    }

    /// The offsets of a topic.
    pub struct TxnOffsetCommitRequestTopic {
        name: String;
        partitions: Vec<TxnOffsetCommitRequestPartition>;
    }

    /// The offset of a partition: the next record to read.
    pub struct TxnOffsetCommitRequestPartition {
        partition_index: i32;
        committed_offset: i64;
        /// Epoch of the last record read; -1: unknown.
        committed_leader_epoch: i32 = -1, in 2..;
        /// The client's own note.
        committed_metadata: Option<String>;
    }
}

message! {
    /// What became of them.
    pub struct TxnOffsetCommitResponse: TxnOffsetCommit, versions 0..=4, flexible 3 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        topics: Vec<TxnOffsetCommitResponseTopic>;
    }

    /// What became of the offsets of a topic.
    pub struct TxnOffsetCommitResponseTopic {
        name: String;
        partitions: Vec<TxnOffsetCommitResponsePartition>;
    }

    /// What became of the offset of a partition.
    pub struct TxnOffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
