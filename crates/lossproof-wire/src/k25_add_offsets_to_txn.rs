//! AddOffsetsToTxn (25): the group whose offsets a transaction is going to commit.
//!
//! Schemas: `AddOffsetsToTxnRequest.json`, `AddOffsetsToTxnResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// The group to add.
    pub struct AddOffsetsToTxnRequest: AddOffsetsToTxn, versions 0..=4, flexible 3 {
        transactional_id: String;
        producer_id: i64;
        producer_epoch: i16;
        group_id: String;
    }
}

message! {
    /// What became of it.
    pub struct AddOffsetsToTxnResponse: AddOffsetsToTxn, versions 0..=4, flexible 3 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32;
        error_code: ErrorCode;
    }
}
