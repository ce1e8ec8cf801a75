//! Fetch (1): read record batches.
//!
//! Schemas: `FetchRequest.json`, `FetchResponse.json`.

use crate::message::message;
use crate::{ErrorCode, Records, Uuid};

message! {
    /// What to read, and how long to wait for it.
    pub struct FetchRequest: Fetch, versions 4..=18, flexible 12 {
        cluster_id: Option<String>, in 12.., tag 0;
        /// The follower that asks; -1: a consumer. From version 15 on see `replica_state`.
        replica_id: i32 = -1, only ..=14;
        replica_state: ReplicaState, only 15.., tag 1;
        /// How long to wait for `min_bytes`, in milliseconds.
        max_wait_ms: i32;
        min_bytes: i32;
        /// A first batch that is larger is returned all the same.
        max_bytes: i32 = i32::MAX, in 3..;
        /// 0: read uncommitted, 1: read committed.
        isolation_level: i8, in 4..;
        /// 0: no session, or a new one.
        session_id: i32, in 7..;
        /// -1: no session. 0: begin one.
        session_epoch: i32 = -1, in 7..;
        topics: Vec<FetchTopic>;
        forgotten_topics_data: Vec<ForgottenTopic>, only 7..;
        rack_id: String, in 11..;
    }

    /// The follower that asks; -1: a consumer.
    pub struct ReplicaState {
        replica_id: i32 = -1, only 15..;
        replica_epoch: i64 = -1, only 15..;
    }

    /// What to read from a topic.
    pub struct FetchTopic {
        topic: String, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<FetchPartition>;
    }

    /// What to read from a partition.
    pub struct FetchPartition {
        partition: i32;
        /// The leader epoch that the client knows; -1: none.
        current_leader_epoch: i32 = -1, in 9..;
        fetch_offset: i64;
        /// Epoch of the last record that the client has; -1: none, or it does not track it.
        last_fetched_epoch: i32 = -1, only 12..;
        /// Only followers have one.
        log_start_offset: i64 = -1, in 5..;
        /// A first batch that is larger is returned all the same.
        partition_max_bytes: i32;
        replica_directory_id: Uuid, in 17.., tag 0;
        /// The one that the client knows; `i64::MAX`: it does not say.
        high_watermark: i64 = i64::MAX, in 18.., tag 1;
    }

    /// Partitions to drop from the session.
    pub struct ForgottenTopic {
        topic: String, in 7..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<i32>, only 7..;
    }
}

message! {
    /// What was read.
    pub struct FetchResponse: Fetch, versions 4..=18, flexible 12 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode, in 7..;
        /// 0: no session.
        session_id: i32, only 7..;
        responses: Vec<FetchableTopicResponse>;
        node_endpoints: Vec<FetchResponseNodeEndpoint>, only 16.., tag 0;
    }

    /// What was read from a topic.
    pub struct FetchableTopicResponse {
        topic: String, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<PartitionData>;
    }

    /// What was read from a partition.
    pub struct PartitionData {
        partition_index: i32;
        error_code: ErrorCode;
        high_watermark: i64;
        last_stable_offset: i64 = -1, in 4..;
        log_start_offset: i64 = -1, in 5..;
        /// Where the client's log and the leader's part.
        diverging_epoch: EpochEndOffset, only 12.., tag 0;
        /// Who leads now, where this broker does not.
        current_leader: FetchResponseLeaderIdAndEpoch, only 12.., tag 1;
        snapshot_id: SnapshotId, only 12.., tag 2;
        /// By first offset. `None` where uncommitted records are read.
        aborted_transactions: Option<Vec<AbortedTransaction>>, in 4..;
        preferred_read_replica: i32 = -1, only 11..;
        /// Whole batches; the first holds the offset asked for. See [`batch`](crate::batch).
        records: Option<Records>;
    }

    /// The end of an epoch; -1: unknown.
    pub struct EpochEndOffset {
        epoch: i32 = -1, only 12..;
        end_offset: i64 = -1, only 12..;
    }

    /// A leader; -1: unknown.
    pub struct FetchResponseLeaderIdAndEpoch {
        leader_id: i32 = -1, only 12..;
        leader_epoch: i32 = -1, only 12..;
    }

    /// A snapshot of the metadata log; -1: none.
    pub struct SnapshotId {
        end_offset: i64 = -1;
        epoch: i32 = -1;
    }

    /// A transaction whose records a committed reader must leave out.
    pub struct AbortedTransaction {
        producer_id: i64, only 4..;
        first_offset: i64, only 4..;
    }

    /// Where a leader named above can be reached.
    pub struct FetchResponseNodeEndpoint {
        node_id: i32, only 16..;
        host: String, only 16..;
        port: i32, only 16..;
        rack: Option<String>, only 16..;
    }
}
