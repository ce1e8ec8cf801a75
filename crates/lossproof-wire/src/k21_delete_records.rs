//! DeleteRecords (21): drop the records below an offset.
//!
//! Schemas: `DeleteRecordsRequest.json`, `DeleteRecordsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Up to where.
    pub struct DeleteRecordsRequest: DeleteRecords, versions 0..=2, flexible 2 {
        topics: Vec<DeleteRecordsTopic>;
        /// How long to wait until they are gone, in milliseconds.
        timeout_ms: i32;
    }

    /// What to drop of a topic.
    pub struct DeleteRecordsTopic {
        name: String;
        partitions: Vec<DeleteRecordsPartition>;
    }

    /// What to drop of a partition.
    pub struct DeleteRecordsPartition {
        partition_index: i32;
        /// The first offset that stays; -1: the high watermark.
        offset: i64;
    }
}

message! {
    /// What became of it.
    pub struct DeleteRecordsResponse: DeleteRecords, versions 0..=2, flexible 2 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        topics: Vec<DeleteRecordsTopicResult>;
    }

    /// What became of a topic.
    pub struct DeleteRecordsTopicResult {
        name: String;
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    /// What became of a partition.
    pub struct DeleteRecordsPartitionResult {
        partition_index: i32;
        /// The first offset that is left.
        low_watermark: i64;
        error_code: ErrorCode;
    }
}
