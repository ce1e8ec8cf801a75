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
//! - `REPORT-5`: a pipeline commits nothing before the receipts topic knows of its session.

mod error;
mod kept;
mod lanes;
mod notes;
mod session;
mod ship;
mod store;

pub use error::{FlushError, OpenError, ShipError};
pub use kept::{KEPT_RECEIPTS_MAX, RECEIPTS_IN_FLIGHT_MAX};
pub use notes::{NOTED_ENTRIES_MAX, NOTED_INTERVALS_MAX};
pub use store::ReceiptStore;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use lossproof_env::{Clock, Environment};
use lossproof_log::{CommitCause, StateChange, StateKind};

use crate::identity::RecordId;
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, Kind, LaneEnd, Receipt, ReceiptNumber, Role, Stage};
use kept::{KeptKey, KeptReceipts};
use lanes::Lanes;
use notes::Notes;
use session::SessionState;

/// Where receipts go.
pub const RECEIPTS_TOPIC: &str = "_lossproof.receipts";
/// A session of which nothing was heard for so long, and that is not sealed, has crashed.
pub const LEASE: Duration = Duration::from_secs(10);
/// Heartbeats come so often while receipts are shipped.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

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

/// The reporter of one process; share it in an `Arc`. Calls that reach the journal block: make
/// them from a thread that may.
#[derive(Debug)]
pub struct Reporter {
    store: Box<dyn ReceiptStore>,
    clock: Arc<dyn Clock>,
    role: Role,
    /// The topic in which a pipeline puts its dead letters.
    dead_letters: Option<String>,
    directory: u64,
    incarnation: u64,
    session: u64,
    /// Held over a whole cut: receipts become durable in the order of their numbers.
    cutting: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    notes: Notes,
    lanes: Lanes,
    kept: KeptReceipts,
    next_number: u64,
    sealed: bool,
    announced: bool,
    /// Partition of the receipts topic, once it is known.
    partition: Option<i32>,
    heartbeat_at: Duration,
}

impl Reporter {
    /// Opens a session. The former one of the same role, where it was not sealed, is sealed now as
    /// crashed. `recovered` is what the journal says of the lanes of this reporter: every lane of
    /// the crashed session, and of earlier ones those that have something to be shipped; empty for
    /// a pipeline. All of it is durable when this returns.
    pub fn open(
        store: impl ReceiptStore + 'static,
        environment: &Environment,
        role: Role,
        recovered: Vec<LaneEnd>,
    ) -> Result<Self, OpenError> {
        if store.state_is_damaged(StateKind::Receipt) {
            return Err(OpenError::Damaged);
        }
        let entries = store.state(StateKind::Receipt);
        let mut kept = KeptReceipts::default();
        for (_, bytes) in entries.iter().filter(|(key, _)| KeptKey::is_one(key)) {
            let receipt = Receipt::decode(bytes).map_err(|_| OpenError::UnknownState)?;
            if SessionState::key(&receipt.role) == SessionState::key(&role) {
                kept.keep(&receipt, bytes.clone());
            }
        }
        let former = entries.iter().find(|(key, _)| *key == SessionState::key(&role));
        let former = former.map(|(_, bytes)| SessionState::decode(bytes));
        let former = match former {
            Some(None) => return Err(OpenError::UnknownState),
            Some(Some(former)) => Some(former),
            None => None,
        };
        let reporter = Self {
            directory: store.directory_id(),
            incarnation: former.map_or(0, |former| former.incarnation + 1),
            session: environment.rng.next_u64(),
            store: Box::new(store),
            clock: environment.clock.clone(),
            role,
            dead_letters: None,
            cutting: Mutex::new(()),
            state: Mutex::new(State {
                notes: Notes::default(),
                lanes: Lanes::recover(&recovered),
                kept,
                next_number: 0,
                sealed: false,
                announced: false,
                partition: None,
                heartbeat_at: Duration::ZERO,
            }),
        };
        reporter.journal_opening(former, recovered)?;
        Ok(reporter)
    }

    /// Seals the former session, where it has crashed, and opens this one, in one frame.
    fn journal_opening(
        &self,
        former: Option<SessionState>,
        recovered: Vec<LaneEnd>,
    ) -> Result<(), OpenError> {
        let mut receipts = Vec::new();
        if let Some(former) = former.filter(|former| !former.sealed) {
            let mut seal = self.receipt(Kind::Recovered, former.next_number, recovered.clone());
            seal.session = former.session;
            seal.incarnation = former.incarnation;
            receipts.push(seal);
        }
        receipts.push(self.receipt(Kind::Opened, 0, recovered));
        let encoded: Vec<Bytes> =
            receipts.iter().map(|receipt| Bytes::from(receipt.encode())).collect();
        let mut changes: Vec<StateChange> = receipts
            .iter()
            .zip(&encoded)
            .map(|(receipt, bytes)| receipt_change(receipt, bytes.clone()))
            .collect();
        changes.push(self.session_state(1, false).change(&self.role));
        self.store.commit(changes).map_err(|cause| OpenError::Journal { cause })?;
        let mut state = self.lock();
        for (receipt, bytes) in receipts.iter().zip(encoded) {
            state.kept.keep(receipt, bytes);
        }
        state.next_number = 1;
        Ok(())
    }

    /// Receipts on dead letters name this topic: the auditor believes only what it reads there.
    #[must_use]
    pub fn with_dead_letters(self, topic: Option<String>) -> Self {
        Self { dead_letters: topic, ..self }
    }

    /// Random, new with each [`Reporter::open`], durable. The session of every lane that a
    /// producer opens: the auditor ties the ends of lanes to the session that accepted them.
    pub fn session(&self) -> u64 {
        self.session
    }

    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The record has reached `stage`. In memory only. `Accepted` is to be noted only once the
    /// record is durable (or has been promised to the user, for an unsafe producer).
    pub fn note(&self, stage: Stage, record: &RecordRef<'_>) {
        let mut state = self.lock();
        state.notes.note(stage, record);
        if self.role.group().is_none() {
            state.lanes.note(stage, record);
        }
    }

    /// The record has ended on purpose. In memory only. `Duplicate` is for a record whose
    /// identity was recognised; what the sink calls a duplicate is confirmed too.
    pub fn note_end(&self, disposition: Disposition, reason: &str, record: &RecordRef<'_>) {
        let mut state = self.lock();
        state.notes.note_end(disposition, reason, record);
        if let Some(topic) = self.dead_letters.as_ref()
            && disposition == Disposition::DeadLettered
        {
            state.notes.dead_letters_in(topic);
        }
        if self.role.group().is_none() {
            state.lanes.note_end(disposition, record);
        }
    }

    /// The group had committed nothing at this place, and reads the log from its beginning. What
    /// was noted of its unstamped records before was about an earlier topic of this name. In
    /// memory only.
    pub fn note_beginning(&self, topic: &str, partition: i32) {
        let wall_ms = self.clock.wall_ms();
        self.lock().notes.begin(topic, partition, wall_ms);
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
        self.cut(Kind::Ongoing, changes)
    }

    /// Cuts the last receipt, durable. Nothing can be flushed afterwards; ship until nothing is
    /// left. What is not shipped by then goes out with the next session.
    pub fn seal(&self) -> Result<ReceiptNumber, FlushError> {
        self.cut(Kind::Sealed, Vec::new())
    }

    fn cut(&self, kind: Kind, others: Vec<StateChange>) -> Result<ReceiptNumber, FlushError> {
        let _cutting = self.cutting.lock().expect(NO_PANIC);
        let mut state = self.lock();
        if state.sealed {
            return Err(FlushError::Sealed);
        }
        // REPORT-5: a session that nobody knows of could commit and vanish with what it knew.
        if matches!(self.role, Role::Pipeline { .. }) && kind != Kind::Sealed && !state.announced {
            return Err(FlushError::NotAnnounced);
        }
        let number = state.next_number;
        let ends = match kind {
            Kind::Sealed => state.lanes.all(),
            _ => state.lanes.take_changed(),
        };
        let nothing_new = state.notes.is_empty() && ends.is_empty() && kind == Kind::Ongoing;
        if nothing_new && others.is_empty() {
            return Ok(ReceiptNumber(number.saturating_sub(1)));
        }
        let mut receipt = self.receipt(kind, number, ends);
        receipt.entries = state.notes.take();
        let merge = state.kept.plan_merge();
        let removals = state.kept.take_removals();
        drop(state);

        let encoded = Bytes::from(receipt.encode());
        let mut changes = others;
        changes.extend(removals.iter().cloned());
        changes.extend(merge.iter().flat_map(kept::Merge::changes));
        if !nothing_new {
            changes.push(receipt_change(&receipt, encoded.clone()));
            changes.push(self.session_state(number + 1, kind == Kind::Sealed).change(&self.role));
        }
        let outcome = self.store.commit(changes);

        let mut state = self.lock();
        if let Err(cause) = outcome {
            // REPORT-1: not durable, so it stays noted, before what was noted meanwhile.
            let newer = state.notes.take();
            state.notes.absorb(&receipt.entries);
            state.notes.absorb(&newer);
            state.lanes.put_back(&receipt.lane_ends);
            state.kept.put_back_removals(&removals);
            if let Some(merge) = &merge {
                state.kept.abandon_merge(merge);
            }
            return Err(FlushError::Journal { cause });
        }
        if let Some(merge) = &merge {
            state.kept.apply_merge(merge);
        }
        if nothing_new {
            return Ok(ReceiptNumber(number.saturating_sub(1)));
        }
        state.kept.keep(&receipt, encoded);
        state.next_number = number + 1;
        state.sealed = kind == Kind::Sealed;
        Ok(ReceiptNumber(number))
    }

    fn receipt(&self, kind: Kind, number: u64, lane_ends: Vec<LaneEnd>) -> Receipt {
        Receipt {
            kind,
            reporter: self.directory,
            incarnation: self.incarnation,
            session: self.session,
            role: self.role.clone(),
            wall_ms: self.clock.wall_ms(),
            lease_ms: LEASE.as_millis() as u64,
            number: ReceiptNumber(number),
            merged: 0,
            lane_ends,
            entries: Vec::new(),
        }
    }

    fn session_state(&self, next_number: u64, sealed: bool) -> SessionState {
        SessionState { session: self.session, incarnation: self.incarnation, next_number, sealed }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no code panics while it holds this lock";

fn receipt_change(receipt: &Receipt, bytes: Bytes) -> StateChange {
    let key = KeptKey::of(receipt).to_bytes();
    StateChange { kind: StateKind::Receipt, key, value: Some(bytes) }
}

/// All of a lane is pending from `shipped` on: what a journal with a cursor says of it.
pub fn lane_from_cursor(mut end: LaneEnd, shipped: u64) -> LaneEnd {
    end.pending = match end.end.checked_sub(1) {
        Some(last) if shipped <= last => IntervalSet::of(shipped, last),
        _ => IntervalSet::new(),
    };
    end
}

impl From<CommitCause> for ShipError {
    fn from(cause: CommitCause) -> Self {
        Self::Journal { cause }
    }
}
