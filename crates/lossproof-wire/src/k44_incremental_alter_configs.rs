//! IncrementalAlterConfigs (44): change some settings of topics and brokers.
//!
//! Schemas: `IncrementalAlterConfigsRequest.json`, `IncrementalAlterConfigsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// The changes.
    pub struct IncrementalAlterConfigsRequest: IncrementalAlterConfigs,
        versions 0..=1, flexible 1
    {
        resources: Vec<IncrementalAlterConfigsResource>;
        /// Only tell whether it would work.
        validate_only: bool;
    }

    /// A topic or a broker.
    pub struct IncrementalAlterConfigsResource {
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8;
        resource_name: String;
        configs: Vec<IncrementalAlterableConfig>;
    }

    /// The change of a setting.
    pub struct IncrementalAlterableConfig {
        name: String;
        /// 0: set, 1: back to the default, 2: append to the list, 3: take from the list.
        config_operation: i8;
        value: Option<String>;
    }
}

message! {
    /// What became of them.
    pub struct IncrementalAlterConfigsResponse: IncrementalAlterConfigs,
        versions 0..=1, flexible 1
    {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        responses: Vec<IncrementalAlterConfigsResourceResponse>;
    }

    /// What became of the settings of a topic or a broker.
    pub struct IncrementalAlterConfigsResourceResponse {
        error_code: ErrorCode;
        error_message: Option<String>;
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8;
        resource_name: String;
    }
}
