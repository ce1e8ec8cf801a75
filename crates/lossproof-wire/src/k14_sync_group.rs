//! SyncGroup (14): the leader hands in the assignment, each member takes its part.
//!
//! Schemas: `SyncGroupRequest.json`, `SyncGroupResponse.json`.

use bytes::Bytes;

use crate::ErrorCode;
use crate::message::message;

message! {
    /// The assignment, from the leader; from the others an empty one.
    pub struct SyncGroupRequest: SyncGroup, versions 0..=5, flexible 4 {
        group_id: String;
        generation_id: i32;
        member_id: String;
        /// Name of a static member.
        group_instance_id: Option<String>, only 3..;
        protocol_type: Option<String>, in 5..;
        protocol_name: Option<String>, in 5..;
        assignments: Vec<SyncGroupRequestAssignment>;
    }

    /// What one member gets.
    pub struct SyncGroupRequestAssignment {
        member_id: String;
        assignment: Bytes;
    }
}

message! {
    /// The member's part.
    pub struct SyncGroupResponse: SyncGroup, versions 0..=5, flexible 4 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        protocol_type: Option<String>, in 5..;
        protocol_name: Option<String>, in 5..;
        assignment: Bytes;
    }
}
