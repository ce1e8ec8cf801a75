use lossproof_client::{DeliveryError, SendCause};
use lossproof_log::CommitCause;
use thiserror::Error;

use super::RECEIPTS_TOPIC;

/// Why a reporter does not open.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    #[error("the session cannot be journaled: {cause}")]
    Journal {
        #[source]
        cause: CommitCause,
    },
    #[error(
        "the journal holds a session of the reporter that this program cannot read: use the \
         version that wrote it"
    )]
    UnknownState,
    #[error(
        "the receipts in the journal are damaged: set the directory aside and start with a new \
         one; the audit will call unknown what the lost receipts spoke of"
    )]
    Damaged,
}

/// Why receipts are not durable. What was noted is kept, for another try.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushError {
    #[error("receipts cannot be journaled: {cause}")]
    Journal {
        #[source]
        cause: CommitCause,
    },
    #[error("the session is sealed: open a new reporter")]
    Sealed,
    #[error("the receipts topic has not acknowledged yet that this session begins")]
    NotAnnounced,
}

/// Why receipts are not shipped. They stay in the journal.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShipError {
    #[error("the client for receipts is dead and must be replaced: {detail}")]
    Fatal { detail: String },
    #[error("topic {RECEIPTS_TOPIC} is not reachable: {cause}")]
    Unreachable {
        #[source]
        cause: DeliveryError,
    },
    #[error("topic {RECEIPTS_TOPIC} refuses a receipt of {bytes} bytes: {cause}")]
    NotQueued {
        bytes: usize,
        #[source]
        cause: SendCause,
    },
    #[error("topic {RECEIPTS_TOPIC} refuses receipts: {cause}")]
    Refused {
        #[source]
        cause: DeliveryError,
    },
    #[error("{left} receipts are not acknowledged yet")]
    TimedOut { left: usize },
    #[error("acknowledged receipts cannot be taken out of the journal: {cause}")]
    Journal {
        #[source]
        cause: CommitCause,
    },
}
