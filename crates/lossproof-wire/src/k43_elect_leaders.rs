//! ElectLeaders (43): let partitions have another leader.
//!
//! Schemas: `ElectLeadersRequest.json`, `ElectLeadersResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which partitions.
    pub struct ElectLeadersRequest: ElectLeaders, versions 0..=2, flexible 2 {
        /// 0: the preferred replica, 1: any that lives, even if it has not all records.
        election_type: i8, only 1..;
        /// `None`: all.
        topic_partitions: Option<Vec<ElectLeadersTopic>> = Some(Vec::new());
        /// How long to wait for the elections, in milliseconds.
        timeout_ms: i32 = 60_000;
    }

    /// Partitions of a topic.
    pub struct ElectLeadersTopic {
        topic: String;
        partitions: Vec<i32>;
    }
}

message! {
    /// What became of it.
    pub struct ElectLeadersResponse: ElectLeaders, versions 0..=2, flexible 2 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        error_code: ErrorCode, only 1..;
        replica_election_results: Vec<ReplicaElectionResult>;
    }

    /// What became of a topic.
    pub struct ReplicaElectionResult {
        topic: String;
        partition_result: Vec<ElectLeadersPartitionResult>;
    }

    /// What became of a partition.
    pub struct ElectLeadersPartitionResult {
        partition_id: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
    }
}
