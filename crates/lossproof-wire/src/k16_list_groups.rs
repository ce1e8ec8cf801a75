//! ListGroups (16): the groups that this broker looks after.
//!
//! Schemas: `ListGroupsRequest.json`, `ListGroupsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which groups.
    pub struct ListGroupsRequest: ListGroups, versions 0..=5, flexible 3 {
        /// Names of states; empty: all.
        states_filter: Vec<String>, only 4..;
        /// Names of types, `classic` or `consumer`; empty: all.
        types_filter: Vec<String>, only 5..;
    }
}

message! {
    /// The groups.
    pub struct ListGroupsResponse: ListGroups, versions 0..=5, flexible 3 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        groups: Vec<ListedGroup>;
    }

    /// A group.
    pub struct ListedGroup {
        group_id: String;
        /// Empty where nobody ever joined.
        protocol_type: String;
        group_state: String, in 4..;
        group_type: String, in 5..;
    }
}
