//! The reporter of a producer or a pipeline: notes what happened, in memory; makes numbered
//! receipts of it, durable in the journal; ships these to [`RECEIPTS_TOPIC`].
//!
//! # Invariants
//! - `REPORT-1`: what was noted before [`Reporter::flush_durable`] was called is in durable
//!   receipts once it has returned `Ok`.
//! - `REPORT-2`: a durable receipt leaves the journal only after the topic has acknowledged it.
//! - `REPORT-3`: receipts of a session are numbered from 0 without gaps; the last one, and only
//!   it, is a seal.
//! - `REPORT-4`: memory is bounded; what does not fit becomes a stated unknown range.

mod store;

pub use store::ReceiptStore;

use std::time::Duration;

use bytes::Bytes;
use lossproof_client::{DeliveryError, LogProducer};
use lossproof_env::Environment;
use lossproof_log::{CommitCause, StateChange};
use thiserror::Error;

use crate::identity::RecordId;
use crate::receipt::{Disposition, LaneEnd, ReceiptNumber, Role, Stage};

/// Where receipts go.
pub const RECEIPTS_TOPIC: &str = "_lossproof.receipts";

/// A record as a reporter knows it.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// `None` for a record without the header.
    pub id: Option<RecordId>,
    /// The topic and partition it was accepted for or read from.
    pub topic: &'a str,
    pub partition: i32,
    /// `None` before the cluster has acknowledged it.
    pub offset: Option<i64>,
}

/// Why receipts are not durable. What was noted is kept, for another try.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum FlushError {
    #[error("receipts cannot be journaled: {cause}")]
    Journal {
        #[source]
        cause: CommitCause,
    },
    #[error("the session is sealed: open a new reporter")]
    Sealed,
    #[error("the receipts topic does not know this session yet: call announce first")]
    NotAnnounced,
}

/// Why receipts are not shipped. They stay in the journal.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ShipError {
    #[error("the client for receipts must be replaced: {cause}")]
    Fatal {
        #[source]
        cause: DeliveryError,
    },
    #[error("topic {RECEIPTS_TOPIC} is not reachable: {cause}")]
    Unreachable {
        #[source]
        cause: DeliveryError,
    },
    #[error("{left} receipts are not acknowledged yet")]
    TimedOut { left: usize },
    #[error(transparent)]
    Flush(#[from] FlushError),
}

/// The reporter of one process; share it in an `Arc`. Calls that reach the journal block: make
/// them from a thread that may.
#[derive(Debug)]
pub struct Reporter {}

impl Reporter {
    /// Opens a session. The former one, where it was not sealed, is sealed now as crashed, with
    /// `recovered`: for each lane of all former sessions that is not settled, how far the journal
    /// goes and what of it still has to be shipped. Durable when it returns.
    pub fn open(
        store: impl ReceiptStore + 'static,
        environment: &Environment,
        role: Role,
        recovered: Vec<LaneEnd>,
    ) -> Result<Self, FlushError> {
        let _ = (store, environment, role, recovered);
        Err(FlushError::Sealed)
    }

    /// Random, new with each [`Reporter::open`], durable. A producer uses it as the session of
    /// the lanes that it opens.
    pub fn session(&self) -> u64 {
        0
    }

    /// The record has reached `stage`. In memory only.
    pub fn note(&self, stage: Stage, record: &RecordRef<'_>) {
        let _ = (stage, record);
    }

    /// The record has ended on purpose. In memory only.
    pub fn note_end(&self, disposition: Disposition, reason: &str, record: &RecordRef<'_>) {
        let _ = (disposition, reason, record);
    }

    /// Cuts a receipt of all that was noted and fsyncs it. After it has returned, an offset whose
    /// records were noted before the call may be committed. Costs nothing where nothing was noted.
    /// A pipeline has to [`Reporter::announce`] its session first.
    pub fn flush_durable(&self) -> Result<ReceiptNumber, FlushError> {
        self.flush_durable_with(Vec::new())
    }

    /// The same, with other changes (a relay's cursor) in the same frame: all of it or nothing.
    pub fn flush_durable_with(
        &self,
        changes: Vec<StateChange>,
    ) -> Result<ReceiptNumber, FlushError> {
        let _: Option<Bytes> = changes.into_iter().find_map(|change| change.value);
        Err(FlushError::Sealed)
    }

    /// Sends what is durable and not yet acknowledged, and a heartbeat when one is due; waits up
    /// to `timeout` for acknowledgements. Returns the number of receipts that are left. `producer`
    /// must be used for nothing else. Call it about once a second.
    pub fn ship(
        &self,
        producer: &mut dyn LogProducer,
        timeout: Duration,
    ) -> Result<usize, ShipError> {
        let _ = (producer, timeout);
        Ok(0)
    }

    /// Ships until the receipts topic has the opening of this session, so that whatever happens
    /// to this process, the auditor knows that somebody was there.
    pub fn announce(
        &self,
        producer: &mut dyn LogProducer,
        timeout: Duration,
    ) -> Result<(), ShipError> {
        self.ship(producer, timeout).map(|_| ())
    }

    /// Cuts the last receipt, durable. Nothing can be noted afterwards; ship until nothing is
    /// left. What is not shipped then goes out with the next session.
    pub fn seal(&self) -> Result<ReceiptNumber, FlushError> {
        Err(FlushError::Sealed)
    }
}
