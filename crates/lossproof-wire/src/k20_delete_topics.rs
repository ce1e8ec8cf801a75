//! DeleteTopics (20).
//!
//! Schemas: `DeleteTopicsRequest.json`, `DeleteTopicsResponse.json`.

use crate::message::message;
use crate::{ErrorCode, Uuid};

message! {
    /// The topics to delete: `topic_names` up to version 5, `topics` from 6 on.
    pub struct DeleteTopicsRequest: DeleteTopics, versions 1..=6, flexible 4 {
        topics: Vec<DeleteTopicState>, only 6..;
        topic_names: Vec<String>, in ..=5;
        /// How long to wait until they are gone, in milliseconds.
        timeout_ms: i32;
    }

    /// A topic by its name, or by its id where the name is `None`.
    pub struct DeleteTopicState {
        name: Option<String>, only 6..;
        topic_id: Uuid, only 6..;
    }
}

message! {
    /// What became of them.
    pub struct DeleteTopicsResponse: DeleteTopics, versions 1..=6, flexible 4 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        responses: Vec<DeletableTopicResult>;
    }

    /// What became of a topic.
    pub struct DeletableTopicResult {
        name: Option<String>, null 6..;
        topic_id: Uuid, in 6..;
        error_code: ErrorCode;
        error_message: Option<String>, in 5..;
    }
}
