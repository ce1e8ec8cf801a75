//! OffsetDelete (47): remove offsets of a group.
//!
//! There is no flexible version. Schemas: `OffsetDeleteRequest.json`, `OffsetDeleteResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which offsets.
    pub struct OffsetDeleteRequest: OffsetDelete, versions 0..=0, flexible 1 {
        group_id: String;
        topics: Vec<OffsetDeleteRequestTopic>;
    }

    /// Which offsets of a topic.
    pub struct OffsetDeleteRequestTopic {
        name: String;
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    /// The offset of a partition.
    pub struct OffsetDeleteRequestPartition {
        partition_index: i32;
    }
}

message! {
    /// What became of them.
    pub struct OffsetDeleteResponse: OffsetDelete, versions 0..=0, flexible 1 {
        error_code: ErrorCode;
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        topics: Vec<OffsetDeleteResponseTopic>;
    }

    /// What became of the offsets of a topic.
    pub struct OffsetDeleteResponseTopic {
        name: String;
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    /// What became of the offset of a partition.
    pub struct OffsetDeleteResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
