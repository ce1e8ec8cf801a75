//! EndTxn (26): commit or abort a transaction.
//!
//! Version 5 raises the producer's epoch with every transaction, and clients use it only where
//! `transaction.version` is 2: it is not offered before that is.
//! Schemas: `EndTxnRequest.json`, `EndTxnResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// How it is to end.
    pub struct EndTxnRequest: EndTxn, versions 0..=4, flexible 3 {
        transactional_id: String;
        producer_id: i64;
        producer_epoch: i16;
        /// Commit, or else abort.
        committed: bool;
    }
}

message! {
    /// What became of it.
    pub struct EndTxnResponse: EndTxn, versions 0..=4, flexible 3 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        error_code: ErrorCode;
    }
}
