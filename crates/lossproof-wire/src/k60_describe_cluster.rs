//! DescribeCluster (60): the brokers.
//!
//! Schemas: `DescribeClusterRequest.json`, `DescribeClusterResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// What to tell.
    pub struct DescribeClusterRequest: DescribeCluster, versions 0..=2, flexible 0 {
        include_cluster_authorized_operations: bool;
        /// 1: brokers, 2: controllers.
        endpoint_type: i8 = 1, only 1..;
        include_fenced_brokers: bool, only 2..;
    }
}

message! {
    /// The cluster.
    pub struct DescribeClusterResponse: DescribeCluster, versions 0..=2, flexible 0 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
        /// 1: brokers, 2: controllers.
        endpoint_type: i8 = 1, only 1..;
        cluster_id: String;
        controller_id: i32 = -1;
        brokers: Vec<DescribeClusterBroker>;
        /// Bits; the lowest number: not told.
        cluster_authorized_operations: i32 = i32::MIN;
    }

    /// A broker.
    pub struct DescribeClusterBroker {
        broker_id: i32;
        host: String;
        port: i32;
        rack: Option<String>;
        /// Registered, but not to be used.
        is_fenced: bool, only 2..;
    }
}
