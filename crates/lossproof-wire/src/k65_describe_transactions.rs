//! DescribeTransactions (65): the state of transactions.
//!
//! Schemas: `DescribeTransactionsRequest.json`, `DescribeTransactionsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which transactions.
    pub struct DescribeTransactionsRequest: DescribeTransactions, versions 0..=0, flexible 0 {
        /// None is described where this is empty.
        transactional_ids: Vec<String>;
    }
}

message! {
    /// The transactions.
    pub struct DescribeTransactionsResponse: DescribeTransactions, versions 0..=0, flexible 0 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        transaction_states: Vec<DescribedTransaction>;
    }

    /// A transaction.
    pub struct DescribedTransaction {
        error_code: ErrorCode;
        transactional_id: String;
        /// `Empty`, `Ongoing`, `PrepareCommit`, `PrepareAbort`, `CompleteCommit`, `CompleteAbort`.
        transaction_state: String;
        transaction_timeout_ms: i32;
        /// In milliseconds since 1970.
        transaction_start_time_ms: i64;
        producer_id: i64;
        producer_epoch: i16;
        /// What is part of it and has no marker yet.
        topics: Vec<DescribedTransactionTopic>;
    }

    /// Partitions of a topic.
    pub struct DescribedTransactionTopic {
        topic: String;
        partitions: Vec<i32>;
    }
}
