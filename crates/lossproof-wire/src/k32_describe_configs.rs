//! DescribeConfigs (32): the settings of topics and brokers.
//!
//! Schemas: `DescribeConfigsRequest.json`, `DescribeConfigsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Whose settings.
    pub struct DescribeConfigsRequest: DescribeConfigs, versions 1..=4, flexible 4 {
        resources: Vec<DescribeConfigsResource>;
        include_synonyms: bool, only 1..;
        include_documentation: bool, only 3..;
    }

    /// A topic or a broker.
    pub struct DescribeConfigsResource {
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8;
        resource_name: String;
        /// `None`: all.
        configuration_keys: Option<Vec<String>> = Some(Vec::new());
    }
}

message! {
    /// The settings.
    pub struct DescribeConfigsResponse: DescribeConfigs, versions 1..=4, flexible 4 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        results: Vec<DescribeConfigsResult>;
    }

    /// The settings of a topic or a broker.
    pub struct DescribeConfigsResult {
        error_code: ErrorCode;
        error_message: Option<String>;
        /// 2: topic, 4: broker, 8: broker logger.
        resource_type: i8;
        resource_name: String;
        configs: Vec<DescribeConfigsResourceResult>;
    }

    /// A setting.
    pub struct DescribeConfigsResourceResult {
        name: String;
        value: Option<String>;
        read_only: bool;
        /// 1: topic, 2: broker (dynamic), 4: broker (static), 5: default.
        config_source: i8 = -1, in 1..;
        is_sensitive: bool;
        synonyms: Vec<DescribeConfigsSynonym>, in 1..;
        /// 1: boolean, 2: string, 3: int, 4: short, 5: long, 6: double, 7: list, 8: class,
        /// 9: password.
        config_type: i8, in 3..;
        documentation: Option<String>, in 3..;
    }

    /// Where else the setting could come from.
    pub struct DescribeConfigsSynonym {
        name: String;
        value: Option<String>;
        source: i8;
    }
}
