//! InitProducerId (22): a producer id and epoch, for idempotence.
//!
//! Schemas: `InitProducerIdRequest.json`, `InitProducerIdResponse.json`.

use crate::ErrorCode;
use crate::message::message;

message! {
    /// Asks for a new producer id, or for the next epoch of one.
    pub struct InitProducerIdRequest: InitProducerId, versions 0..=5, flexible 2 {
        /// `None` outside of transactions.
        transactional_id: Option<String>;
        /// In milliseconds; without meaning outside of transactions.
        transaction_timeout_ms: i32;
        /// -1: a new one.
        producer_id: i64 = -1, only 3..;
        /// -1: a new one.
        producer_epoch: i16 = -1, only 3..;
    }
}

message! {
    /// The producer id and epoch.
    pub struct InitProducerIdResponse: InitProducerId, versions 0..=5, flexible 2 {
        /// How long the request was held back, in milliseconds.
        throttle_time_ms: i32, in 0..;
        error_code: ErrorCode;
        producer_id: i64 = -1;
        producer_epoch: i16;
    }
}
