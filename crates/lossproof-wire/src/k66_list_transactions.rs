//! ListTransactions (66): the transactions that this broker looks after.
//!
//! Schemas: `ListTransactionsRequest.json`, `ListTransactionsResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Which transactions.
    pub struct ListTransactionsRequest: ListTransactions, versions 0..=2, flexible 0 {
        /// Names of states; empty: all.
        state_filters: Vec<String>;
        /// Empty: all.
        producer_id_filters: Vec<i64>;
        /// Only what is open for longer, in milliseconds; negative: all.
        duration_filter: i64 = -1, only 1..;
        /// A regular expression that the whole id has to match; none or empty: all.
        transactional_id_pattern: Option<String>, only 2..;
    }
}

message! {
    /// The transactions.
    pub struct ListTransactionsResponse: ListTransactions, versions 0..=2, flexible 0 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        error_code: ErrorCode;
        /// Names in the request that are no states.
        unknown_state_filters: Vec<String>;
        transaction_states: Vec<ListedTransaction>;
    }

    /// A transaction.
    pub struct ListedTransaction {
        transactional_id: String;
        producer_id: i64;
        /// As in DescribeTransactions.
        transaction_state: String;
    }
}
