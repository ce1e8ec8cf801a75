//! AlterConfigs (33): replace all settings of topics and brokers.
//!
//! Schemas: `AlterConfigsRequest.json`, `AlterConfigsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// The settings to have, and no others.
    pub struct AlterConfigsRequest: AlterConfigs, versions 0..=2, flexible 2 {
        resources: Vec<AlterConfigsResource>;
        /// Only tell whether it would work.
        validate_only: bool;
    }

    /// A topic or a broker.
    pub struct AlterConfigsResource {
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8;
        resource_name: String;
        configs: Vec<AlterableConfig>;
    }

    /// A setting.
    pub struct AlterableConfig {
        name: String;
        value: Option<String>;
    }
}

message! {
    /// What became of them.
    pub struct AlterConfigsResponse: AlterConfigs, versions 0..=2, flexible 2 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse>;
    }

    /// What became of the settings of a topic or a broker.
    pub struct AlterConfigsResourceResponse {
        error_code: ErrorCode;
        error_message: Option<String>;
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8;
        resource_name: String;
    }
}
