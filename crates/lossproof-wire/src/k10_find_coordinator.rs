//! FindCoordinator (10): which broker looks after a group.
//!
//! Up to version 3 one key at the top level, from version 4 on several in `coordinators`.
//! Schemas: `FindCoordinatorRequest.json`, `FindCoordinatorResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// The groups or transactional ids to look up.
    pub struct FindCoordinatorRequest: FindCoordinator, versions 0..=6, flexible 3 {
        key: String, only ..=3;
        /// 0: group, 1: transactional id, 2: share group.
        key_type: i8, only 1..;
        coordinator_keys: Vec<String>, only 4..;
    }
}

message! {
    /// The brokers found.
    pub struct FindCoordinatorResponse: FindCoordinator, versions 0..=6, flexible 3 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode, only ..=3;
        error_message: Option<String>, in 1..=3;
        node_id: i32, only ..=3;
        host: String, only ..=3;
        port: i32, only ..=3;
        coordinators: Vec<Coordinator>, only 4..;
    }

    /// The broker found for one key.
    pub struct Coordinator {
        key: String;
        node_id: i32;
        host: String;
        port: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
    }
}
