//! DescribeTopicPartitions (75): topics page by page.
//!
//! Schemas: `DescribeTopicPartitionsRequest.json`, `DescribeTopicPartitionsResponse.json`.

use crate::message::message;
use crate::{ErrorCode, Uuid};

message! {
    /// Which topics, and from where on.
    pub struct DescribeTopicPartitionsRequest: DescribeTopicPartitions,
        versions 0..=0, flexible 0
    {
        /// Empty: all.
        topics: Vec<DescribeTopicPartitionsTopic>;
        /// Most partitions in one answer.
        response_partition_limit: i32 = 2000;
        /// `None`: from the first.
        cursor: Option<Cursor>;
    }

    /// A topic.
    pub struct DescribeTopicPartitionsTopic {
        name: String;
    }

    /// The first partition to tell of.
    pub struct Cursor {
        topic_name: String;
        partition_index: i32;
    }
}

message! {
    /// The topics.
    pub struct DescribeTopicPartitionsResponse: DescribeTopicPartitions,
        versions 0..=0, flexible 0
    {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        topics: Vec<DescribeTopicPartitionsResponseTopic>;
        /// Where to go on; `None`: this is all.
        next_cursor: Option<Cursor>;
    }

    /// A topic.
    pub struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode;
        name: Option<String> = Some(String::new());
        topic_id: Uuid;
        is_internal: bool;
        partitions: Vec<DescribeTopicPartitionsResponsePartition>;
        /// Bits; the lowest number: not told.
        topic_authorized_operations: i32 = i32::MIN;
    }

    /// A partition.
    pub struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        /// Replicas out of sync that may lead nevertheless.
        eligible_leader_replicas: Option<Vec<i32>>;
        last_known_elr: Option<Vec<i32>>;
        offline_replicas: Vec<i32>;
    }
}
