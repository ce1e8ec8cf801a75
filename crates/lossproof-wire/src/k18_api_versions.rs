//! ApiVersions (18): which APIs and versions the broker speaks. A client's first request.
//!
//! An unknown version is answered in version 0 with `UNSUPPORTED_VERSION` and the table.
//! Schemas: `ApiVersionsRequest.json`, `ApiVersionsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Asks for the table.
    pub struct ApiVersionsRequest: ApiVersions, versions 0..=4, flexible 3 {
        /// Name of the client's library.
        client_software_name: String, in 3..;
        /// Version of the client's library.
        client_software_version: String, in 3..;
    }
}

message! {
    /// The table.
    pub struct ApiVersionsResponse: ApiVersions, versions 0..=4, flexible 3 {
        error_code: ErrorCode;
        api_keys: Vec<ApiVersion>;
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 1..;
        /// What the broker could do, by feature.
        supported_features: Vec<SupportedFeatureKey>, in 3.., tag 0;
        /// Rises with `finalized_features`; -1: unknown.
        finalized_features_epoch: i64 = -1, in 3.., tag 1;
        /// What the cluster has agreed to do, by feature.
        finalized_features: Vec<FinalizedFeatureKey>, in 3.., tag 2;
        /// A relic of ZooKeeper.
        zk_migration_ready: bool, in 3.., tag 3;
    }

    /// One API and the versions of it that are served.
    pub struct ApiVersion {
        api_key: i16;
        min_version: i16;
        max_version: i16;
    }

    /// One feature of the broker.
    pub struct SupportedFeatureKey {
        name: String, in 3..;
        min_version: i16, in 3..;
        max_version: i16, in 3..;
    }

    /// One feature of the cluster.
    pub struct FinalizedFeatureKey {
        name: String, in 3..;
        max_version_level: i16, in 3..;
        min_version_level: i16, in 3..;
    }
}
