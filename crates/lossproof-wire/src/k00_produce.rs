//! Produce (0): append record batches to partitions.
//!
//! Versions below 3 carry the old message sets and are not decoded; they are advertised all the
//! same (see [`ApiKey::Produce`](crate::ApiKey::Produce)). With `acks` 0 there is no response.
//! Schemas: `ProduceRequest.json`, `ProduceResponse.json`.

use bytes::Bytes;

use crate::message::message;
use crate::{ErrorCode, Uuid};

message! {
    /// Record batches to append.
    pub struct ProduceRequest: Produce, versions 3..=13, flexible 9 {
        /// `None` outside of transactions.
        transactional_id: Option<String>, only 3..;
        /// 0: none, 1: leader, -1: all in-sync replicas.
        acks: i16;
        /// How long to wait for the replicas, in milliseconds.
        timeout_ms: i32;
        topic_data: Vec<TopicProduceData>;
    }

    /// The batches for one topic.
    pub struct TopicProduceData {
        name: String, in ..=12;
        topic_id: Uuid, in 13..;
        partition_data: Vec<PartitionProduceData>;
    }

    /// The batches for one partition.
    pub struct PartitionProduceData {
        index: i32;
        /// See [`batch`](crate::batch).
        records: Option<Bytes>;
    }
}

message! {
    /// What became of the batches.
    pub struct ProduceResponse: Produce, versions 3..=13, flexible 9 {
        responses: Vec<TopicProduceResponse>;
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        node_endpoints: Vec<ProduceResponseNodeEndpoint>, only 10.., tag 0;
    }

    /// What became of the batches for one topic.
    pub struct TopicProduceResponse {
        name: String, in ..=12;
        topic_id: Uuid, in 13..;
        partition_responses: Vec<PartitionProduceResponse>;
    }

    /// What became of the batch for one partition.
    pub struct PartitionProduceResponse {
        index: i32;
        error_code: ErrorCode;
        /// Offset that the first record got.
        base_offset: i64;
        /// In milliseconds; -1: the topic keeps the client's timestamps.
        log_append_time_ms: i64 = -1, in 2..;
        log_start_offset: i64 = -1, in 5..;
        /// The records for which the batch was refused.
        record_errors: Vec<BatchIndexAndErrorMessage>, in 8..;
        error_message: Option<String>, in 8..;
        /// Who leads now, where this broker does not.
        current_leader: ProduceResponseLeaderIdAndEpoch, only 10.., tag 0;
    }

    /// A record for which the batch was refused.
    pub struct BatchIndexAndErrorMessage {
        batch_index: i32, only 8..;
        batch_index_error_message: Option<String>, only 8..;
    }

    /// A leader; -1: unknown.
    pub struct ProduceResponseLeaderIdAndEpoch {
        leader_id: i32 = -1, only 10..;
        leader_epoch: i32 = -1, only 10..;
    }

    /// Where a leader named above can be reached.
    pub struct ProduceResponseNodeEndpoint {
        node_id: i32, only 10..;
        host: String, only 10..;
        port: i32, only 10..;
        rack: Option<String>, only 10..;
    }
}
