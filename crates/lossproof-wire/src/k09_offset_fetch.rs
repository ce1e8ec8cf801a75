//! OffsetFetch (9): how far groups have come.
//!
//! Up to version 7 one group at the top level, from version 8 on several in `groups`.
//! Schemas: `OffsetFetchRequest.json`, `OffsetFetchResponse.json`.

use crate::message::message;
use crate::{ErrorCode, Uuid};

message! {
    /// Which offsets to read.
    pub struct OffsetFetchRequest: OffsetFetch, versions 1..=10, flexible 6 {
        group_id: String, only ..=7;
        /// `None`: all that the group has committed.
        topics: Option<Vec<OffsetFetchRequestTopic>> = Some(Vec::new()), only ..=7, null 2..;
        groups: Vec<OffsetFetchRequestGroup>, only 8..;
        /// Refuse where a transaction could still change the answer.
        require_stable: bool, only 7..;
    }

    /// The partitions of a topic, up to version 7.
    pub struct OffsetFetchRequestTopic {
        name: String;
        partition_indexes: Vec<i32>;
    }

    /// A group, from version 8 on.
    pub struct OffsetFetchRequestGroup {
        group_id: String;
        member_id: Option<String>, in 9..;
        /// -1: none.
        member_epoch: i32 = -1, in 9..;
        /// `None`: all that the group has committed.
        topics: Option<Vec<OffsetFetchRequestTopics>> = Some(Vec::new());
    }

    /// The partitions of a topic, from version 8 on.
    pub struct OffsetFetchRequestTopics {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partition_indexes: Vec<i32>;
    }
}

message! {
    /// The offsets.
    pub struct OffsetFetchResponse: OffsetFetch, versions 1..=10, flexible 6 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 3..;
        topics: Vec<OffsetFetchResponseTopic>, only ..=7;
        error_code: ErrorCode, in 2..=7;
        groups: Vec<OffsetFetchResponseGroup>, only 8..;
    }

    /// The offsets of a topic, up to version 7.
    pub struct OffsetFetchResponseTopic {
        name: String;
        partitions: Vec<OffsetFetchResponsePartition>;
    }

    /// The offset of a partition, up to version 7.
    pub struct OffsetFetchResponsePartition {
        partition_index: i32;
        /// -1: none.
        committed_offset: i64;
        committed_leader_epoch: i32 = -1, in 5..;
        metadata: Option<String>;
        error_code: ErrorCode;
    }

    /// The offsets of a group, from version 8 on.
    pub struct OffsetFetchResponseGroup {
        group_id: String;
        topics: Vec<OffsetFetchResponseTopics>;
        error_code: ErrorCode;
    }

    /// The offsets of a topic, from version 8 on.
    pub struct OffsetFetchResponseTopics {
        name: String, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetFetchResponsePartitions>;
    }

    /// The offset of a partition, from version 8 on.
    pub struct OffsetFetchResponsePartitions {
        partition_index: i32;
        /// -1: none.
        committed_offset: i64;
        committed_leader_epoch: i32 = -1;
        metadata: Option<String>;
        error_code: ErrorCode;
    }
}
