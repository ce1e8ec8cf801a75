//! DeleteGroups (42): remove groups and their offsets.
//!
//! Schemas: `DeleteGroupsRequest.json`, `DeleteGroupsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which groups.
    pub struct DeleteGroupsRequest: DeleteGroups, versions 0..=2, flexible 2 {
        groups_names: Vec<String>;
    }
}

message! {
    /// What became of them.
    pub struct DeleteGroupsResponse: DeleteGroups, versions 0..=2, flexible 2 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        results: Vec<DeletableGroupResult>;
    }

    /// What became of a group.
    pub struct DeletableGroupResult {
        group_id: String;
        error_code: ErrorCode;
    }
}
