//! CreateTopics (19).
//!
//! Schemas: `CreateTopicsRequest.json`, `CreateTopicsResponse.json`.

use crate::message::message;
use crate::{ErrorCode, Uuid};

message! {
    /// The topics to create.
    pub struct CreateTopicsRequest: CreateTopics, versions 2..=7, flexible 5 {
        topics: Vec<CreatableTopic>;
        /// How long to wait until they are there, in milliseconds.
        timeout_ms: i32 = 60_000;
        /// Only tell whether it would work.
        validate_only: bool, only 1..;
    }

    /// A topic to create.
    pub struct CreatableTopic {
        name: String;
        /// -1: the broker's setting, or as `assignments` says.
        num_partitions: i32;
        /// -1: the broker's setting, or as `assignments` says.
        replication_factor: i16;
        /// Empty: the broker chooses.
        assignments: Vec<CreatableReplicaAssignment>;
        configs: Vec<CreatableTopicConfig>;
    }

    /// The brokers of a partition.
    pub struct CreatableReplicaAssignment {
        partition_index: i32;
        broker_ids: Vec<i32>;
    }

    /// A setting of the topic.
    pub struct CreatableTopicConfig {
        name: String;
        value: Option<String>;
    }
}

message! {
    /// What became of them.
    pub struct CreateTopicsResponse: CreateTopics, versions 2..=7, flexible 5 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 2..;
        topics: Vec<CreatableTopicResult>;
    }

    /// What became of a topic.
    pub struct CreatableTopicResult {
        name: String;
        topic_id: Uuid, in 7..;
        error_code: ErrorCode;
        error_message: Option<String>, in 1..;
        /// Why `configs` is missing.
        topic_config_error_code: ErrorCode, in 5.., tag 0;
        /// -1: not told.
        num_partitions: i32 = -1, in 5..;
        /// -1: not told.
        replication_factor: i16 = -1, in 5..;
        /// `None`: not told.
        configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()), in 5..;
    }

    /// A setting that the topic got.
    pub struct CreatableTopicConfigs {
        name: String, only 5..;
        value: Option<String>, only 5..;
        read_only: bool, only 5..;
        /// Where it comes from; see DescribeConfigs.
        config_source: i8 = -1, in 5..;
        is_sensitive: bool, only 5..;
    }
}
