//! LeaveGroup (13): the end of a membership.
//!
//! Up to version 2 one member at the top level, from version 3 on several in `members`.
//! Schemas: `LeaveGroupRequest.json`, `LeaveGroupResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Who leaves.
    pub struct LeaveGroupRequest: LeaveGroup, versions 0..=5, flexible 4 {
        group_id: String;
        member_id: String, only ..=2;
        members: Vec<MemberIdentity>, only 3..;
    }

    /// A member that leaves.
    pub struct MemberIdentity {
        member_id: String;
        /// Name of a static member.
        group_instance_id: Option<String>;
        /// Why, for the log.
        reason: Option<String>, in 5..;
    }
}

message! {
    /// What became of it.
    pub struct LeaveGroupResponse: LeaveGroup, versions 0..=5, flexible 4 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        members: Vec<MemberResponse>, only 3..;
    }

    /// What became of a member.
    pub struct MemberResponse {
        member_id: String;
        /// Name of a static member.
        group_instance_id: Option<String>;
        error_code: ErrorCode;
    }
}
