//! Heartbeat (12): the member is alive.
//!
//! Schemas: `HeartbeatRequest.json`, `HeartbeatResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Who is alive.
    pub struct HeartbeatRequest: Heartbeat, versions 0..=4, flexible 4 {
        group_id: String;
        generation_id: i32;
        member_id: String;
        /// Name of a static member.
        group_instance_id: Option<String>, only 3..;
    }
}

message! {
    /// Whether the generation still stands.
    pub struct HeartbeatResponse: Heartbeat, versions 0..=4, flexible 4 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
    }
}
