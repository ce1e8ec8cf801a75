//! DescribeLogDirs (35): what the partitions take on the disks.
//!
//! Schemas: `DescribeLogDirsRequest.json`, `DescribeLogDirsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which partitions.
    pub struct DescribeLogDirsRequest: DescribeLogDirs, versions 1..=4, flexible 2 {
        /// `None`: all.
        topics: Option<Vec<DescribableLogDirTopic>> = Some(Vec::new());
    }

    /// Partitions of a topic.
    pub struct DescribableLogDirTopic {
        topic: String;
        partitions: Vec<i32>;
    }
}

message! {
    /// The directories.
    pub struct DescribeLogDirsResponse: DescribeLogDirs, versions 1..=4, flexible 2 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        error_code: ErrorCode, in 3..;
        results: Vec<DescribeLogDirsResult>;
    }

    /// A directory.
    pub struct DescribeLogDirsResult {
        error_code: ErrorCode;
        /// An absolute path.
        log_dir: String;
        topics: Vec<DescribeLogDirsTopic>;
        /// Size of the file system; -1: not told.
        total_bytes: i64 = -1, in 4..;
        /// What is free on it; -1: not told.
        usable_bytes: i64 = -1, in 4..;
    }

    /// The partitions of a topic.
    pub struct DescribeLogDirsTopic {
        name: String;
        partitions: Vec<DescribeLogDirsPartition>;
    }

    /// A partition.
    pub struct DescribeLogDirsPartition {
        partition_index: i32;
        /// In bytes.
        partition_size: i64;
        /// How far the log goes beyond the high watermark.
        offset_lag: i64;
        /// It is to take the place of another directory's.
        is_future_key: bool;
    }
}
