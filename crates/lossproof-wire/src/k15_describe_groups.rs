//! DescribeGroups (15): the state and the members of groups.
//!
//! Schemas: `DescribeGroupsRequest.json`, `DescribeGroupsResponse.json`.

use bytes::Bytes;

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which groups.
    pub struct DescribeGroupsRequest: DescribeGroups, versions 0..=6, flexible 5 {
        groups: Vec<String>;
        include_authorized_operations: bool, only 3..;
    }
}

message! {
    /// The groups.
    pub struct DescribeGroupsResponse: DescribeGroups, versions 0..=6, flexible 5 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        groups: Vec<DescribedGroup>;
    }

    /// A group.
    pub struct DescribedGroup {
        error_code: ErrorCode;
        error_message: Option<String>, in 6..;
        group_id: String;
        /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
        group_state: String;
        /// Empty where nobody ever joined.
        protocol_type: String;
        /// The way of assigning that the members agreed on; empty before they did.
        protocol_data: String;
        members: Vec<DescribedGroupMember>;
        /// Bits; the lowest number: not told.
        authorized_operations: i32 = i32::MIN, only 3..;
    }

    /// A member.
    pub struct DescribedGroupMember {
        member_id: String;
        /// Name of a static member.
        group_instance_id: Option<String>, in 4..;
        client_id: String;
        client_host: String;
        /// What it sent for the agreed way of assigning.
        member_metadata: Bytes;
        member_assignment: Bytes;
    }
}
