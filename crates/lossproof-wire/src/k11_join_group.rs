//! JoinGroup (11): enter a group, or begin its next generation.
//!
//! Schemas: `JoinGroupRequest.json`, `JoinGroupResponse.json`.

use bytes::Bytes;

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Who wants to enter.
    pub struct JoinGroupRequest: JoinGroup, versions 0..=9, flexible 6 {
        group_id: String;
        /// How long the member may be silent, in milliseconds.
        session_timeout_ms: i32;
        /// How long to wait for the others, in milliseconds; -1: as the session.
        rebalance_timeout_ms: i32 = -1, in 1..;
        /// Empty at the first time.
        member_id: String;
        /// Name of a static member.
        group_instance_id: Option<String>, only 5..;
        protocol_type: String;
        /// Most wanted first.
        protocols: Vec<JoinGroupRequestProtocol>;
        /// Why, for the log.
        reason: Option<String>, in 8..;
    }

    /// A way of assigning that the member knows.
    pub struct JoinGroupRequestProtocol {
        name: String;
        metadata: Bytes;
    }
}

message! {
    /// The new generation.
    pub struct JoinGroupResponse: JoinGroup, versions 0..=9, flexible 6 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 2..;
        error_code: ErrorCode;
        generation_id: i32 = -1;
        protocol_type: Option<String>, in 7..;
        /// Goes out as an empty string where it is `None` below version 7.
        protocol_name: Option<String>, null 7..;
        leader: String;
        /// The leader keeps the assignment of the former generation.
        skip_assignment: bool, only 9..;
        member_id: String;
        /// For the leader only.
        members: Vec<JoinGroupResponseMember>;
    }

    /// A member, for the leader to assign to.
    pub struct JoinGroupResponseMember {
        member_id: String;
        /// Name of a static member.
        group_instance_id: Option<String>, in 5..;
        metadata: Bytes;
    }
}
