//! Metadata (3): brokers, topics, and who leads which partition.
//!
//! Schemas: `MetadataRequest.json`, `MetadataResponse.json`.

use crate::message::message;
use crate::{ErrorCode, Uuid};

message! {
    /// Asks for some topics, or for all of them.
    pub struct MetadataRequest: Metadata, versions 0..=13, flexible 9 {
        /// `None`: all topics. Empty: none, but in version 0, where it means all.
        topics: Option<Vec<MetadataRequestTopic>>, null 1..;
        allow_auto_topic_creation: bool = true, only 4..;
        include_cluster_authorized_operations: bool, only 8..=10;
        include_topic_authorized_operations: bool, only 8..;
    }

    /// A topic by its name, or by its id where the name is `None`.
    pub struct MetadataRequestTopic {
        topic_id: Uuid, in 10..;
        name: Option<String>, null 10..;
    }
}

message! {
    /// The cluster as the broker sees it.
    pub struct MetadataResponse: Metadata, versions 0..=13, flexible 9 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 3..;
        brokers: Vec<MetadataResponseBroker>;
        cluster_id: Option<String>, in 2..;
        controller_id: i32 = -1, in 1..;
        topics: Vec<MetadataResponseTopic>;
        /// Bit set; `i32::MIN`: not asked for.
        cluster_authorized_operations: i32 = i32::MIN, only 8..=10;
        error_code: ErrorCode, in 13..;
    }

    /// A broker and where it can be reached.
    pub struct MetadataResponseBroker {
        node_id: i32;
        host: String;
        port: i32;
        rack: Option<String>, in 1..;
    }

    /// A topic. The name is `None` where it was asked for by an id that does not exist.
    pub struct MetadataResponseTopic {
        error_code: ErrorCode;
        name: Option<String>, null 12..;
        topic_id: Uuid, in 10..;
        is_internal: bool, in 1..;
        partitions: Vec<MetadataResponsePartition>;
        /// Bit set; `i32::MIN`: not asked for.
        topic_authorized_operations: i32 = i32::MIN, only 8..;
    }

    /// A partition and its replicas.
    pub struct MetadataResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        /// -1: there is none.
        leader_id: i32;
        leader_epoch: i32 = -1, in 7..;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        offline_replicas: Vec<i32>, in 5..;
    }
}
