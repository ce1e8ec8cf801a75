//! Ships what a spool has accepted, until every record is acknowledged or parked.
//!
//! # Invariants
//! - RELAY-1: a record is never dropped: it is acknowledged by the cluster, or it stays in the
//!   journal, which is the only copy also of what was parked: reported with its reason, and counted
//!   by every relay on this journal. What cannot be read there any more is reported as lost.
//! - RELAY-2: the cursor in the journal moves in the same frame as the receipt that says why.
//! - RELAY-3: records of a partition are sent in the order in which they were accepted, also
//!   across sessions.
//!
//! What is under way is bounded in records and bytes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lossproof_audit::receipt::{Disposition, Stage};
use lossproof_audit::report::{FlushError, RecordRef, Reporter};
use lossproof_client::{Delivery, DeliveryError, LogProducer, Record, SendCause, SendError};
use lossproof_env::{Clock, Environment, Rng};
use lossproof_log::PartitionId;
use thiserror::Error;

use crate::error::RelayError;
use crate::lane::{cursor_change, parked_change};
use crate::shipping::{Fate, Shipping, backoff};
use crate::spool::Spool;

/// Under way at once.
pub const IN_FLIGHT_RECORDS_MAX: usize = 10_000;
pub const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// Receipts and cursors are journaled so often; at once when everything is settled.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// How long a dead client may take to say what it knows.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// Records of one lane that are sent before the next lane has its turn.
const RECORDS_PER_TURN: usize = 500;
/// Reasons are kept in the journal.
const REASON_BYTES_MAX: usize = 512;
/// Said of records that the disk has destroyed after they were accepted.
const DAMAGED_REASON: &str = "damaged in the journal of the producer";

/// Why there is no client; it is tried again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("no client: {detail}")]
pub struct ConnectError {
    pub detail: String,
}

/// Makes a client; called again whenever one has died.
pub type Connect = Box<dyn FnMut() -> Result<Box<dyn LogProducer>, ConnectError> + Send>;

/// How far a relay is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Accepted, and neither acknowledged nor parked.
    pub waiting: u64,
    /// Of these, with the client now.
    pub in_flight: u64,
    /// Acknowledged since this relay was made.
    pub acked: u64,
    /// Refused by the cluster for good, now or in an earlier session: in the journal, and reported.
    pub parked: u64,
    /// Accepted, and not readable in the journal any more.
    pub damaged: u64,
    /// Clients that died and were replaced.
    pub replaced: u64,
    /// Whether all of this is in the journal's cursors and receipts.
    pub is_journaled: bool,
}

struct InFlight {
    lane: PartitionId,
    seq: u64,
    bytes: usize,
}

/// Ships a spool; driven by [`Relay::step`] on a thread of its own.
pub struct Relay {
    spool: Arc<Spool>,
    reporter: Arc<Reporter>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    connect: Connect,
    producer: Option<Box<dyn LogProducer>>,
    connect_failures: u32,
    connect_at: Duration,
    lanes: BTreeMap<PartitionId, Shipping>,
    in_flight: HashMap<u64, InFlight>,
    in_flight_bytes: usize,
    next_token: u64,
    /// Parked, and not journaled yet.
    parking: Vec<(PartitionId, u64, String)>,
    report_at: Duration,
    counts: Progress,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Relay {
    pub fn new(environment: &Environment, spool: Arc<Spool>, connect: Connect) -> Self {
        let mut relay = Self {
            reporter: Arc::clone(spool.reporter()),
            spool,
            clock: Arc::clone(&environment.clock),
            rng: Arc::clone(&environment.rng),
            connect,
            producer: None,
            connect_failures: 0,
            connect_at: Duration::ZERO,
            lanes: BTreeMap::new(),
            in_flight: HashMap::new(),
            in_flight_bytes: 0,
            next_token: 0,
            parking: Vec::new(),
            report_at: Duration::ZERO,
            counts: Progress::default(),
        };
        relay.discover();
        relay
    }

    pub fn progress(&self) -> Progress {
        let sum = |of: fn(&Shipping) -> u64| self.lanes.values().map(of).sum();
        Progress {
            waiting: sum(Shipping::waiting),
            in_flight: self.in_flight.len() as u64,
            parked: sum(Shipping::parked),
            damaged: sum(Shipping::damaged),
            is_journaled: !self.has_unjournaled(),
            ..self.counts
        }
    }

    /// Sends what can be sent, waits up to `timeout` for outcomes, journals progress when it is
    /// due. To be called again and again; an error means that the journal is not usable.
    pub fn step(&mut self, timeout: Duration) -> Result<(), RelayError> {
        self.discover();
        self.ensure_producer();
        self.fill()?;
        let outcomes = self.producer.as_mut().map(|producer| producer.poll(timeout));
        self.settle(outcomes.unwrap_or_default());
        if self.producer.as_ref().is_some_and(|producer| producer.fatal().is_some()) {
            self.replace_producer();
        }
        let now = self.clock.monotonic();
        for lane in self.lanes.values_mut() {
            lane.rewind(now, self.rng.next_u64());
        }
        let all_settled = self.in_flight.is_empty() && self.progress().waiting == 0;
        if now >= self.report_at || (all_settled && self.has_unjournaled()) {
            self.report()?;
        }
        Ok(())
    }

    /// Takes the last outcomes, at most for `timeout`, and journals them. What is not shipped
    /// stays in the journal.
    pub fn close(mut self, timeout: Duration) -> Result<Progress, RelayError> {
        // What was accepted since the last step waits too, and is counted so.
        self.discover();
        if let Some(producer) = self.producer.take() {
            let (outcomes, _) = producer.close(timeout);
            self.settle(outcomes);
        }
        self.lose_in_flight();
        self.report()?;
        Ok(self.progress())
    }

    fn discover(&mut self) {
        for view in self.spool.lanes() {
            if let Some(lane) = self.lanes.get_mut(&view.id) {
                lane.view.end = view.end;
            } else {
                self.lanes.insert(view.id, Shipping::new(view));
            }
        }
    }

    fn ensure_producer(&mut self) {
        let now = self.clock.monotonic();
        if self.producer.is_some() || now < self.connect_at {
            return;
        }
        match (self.connect)() {
            Ok(producer) => self.producer = Some(producer),
            Err(error) => {
                self.connect_failures = self.connect_failures.saturating_add(1);
                self.connect_at = now + backoff(self.connect_failures, self.rng.next_u64());
                tracing::warn!("{error}; trying again");
            }
        }
    }

    /// RELAY-3: of the lanes of one partition only the oldest that is not idle sends.
    fn fill(&mut self) -> Result<(), RelayError> {
        let mut busy: HashSet<(Arc<str>, i32)> = HashSet::new();
        let mut turn = Vec::new();
        for (id, lane) in &self.lanes {
            let place = (Arc::clone(&lane.view.topic), lane.view.partition);
            if !lane.is_idle() && busy.insert(place) {
                turn.push(*id);
            }
        }
        while !turn.is_empty() {
            let mut again = Vec::new();
            for id in turn {
                match self.send_turn(id)? {
                    Turn::More => again.push(id),
                    Turn::Done => {}
                    Turn::ClientFull => return Ok(()),
                }
            }
            turn = again;
        }
        Ok(())
    }

    fn send_turn(&mut self, id: PartitionId) -> Result<Turn, RelayError> {
        let now = self.clock.monotonic();
        for _ in 0..RECORDS_PER_TURN {
            let full = self.in_flight.len() >= IN_FLIGHT_RECORDS_MAX
                || self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX;
            let (Some(producer), false) = (&mut self.producer, full) else {
                return Ok(Turn::ClientFull);
            };
            let Some(lane) = self.lanes.get_mut(&id) else { return Ok(Turn::Done) };
            let front = lane.front(self.spool.log(), now)?;
            report_damaged(&self.reporter, lane);
            let (Some(record), Some(seq)) = (front, lane.next_seq()) else {
                return Ok(Turn::Done);
            };
            let (token, bytes) = (self.next_token, record_bytes(&record));
            match producer.send(record, token) {
                Ok(()) => {
                    self.next_token += 1;
                    self.in_flight.insert(token, InFlight { lane: id, seq, bytes });
                    self.in_flight_bytes += bytes;
                    lane.sent();
                    self.note(id, seq, Stage::Sent, None);
                }
                Err(refused) => return Ok(self.refused(id, seq, &refused)),
            }
        }
        Ok(Turn::More)
    }

    /// The client did not even queue it.
    fn refused(&mut self, id: PartitionId, seq: u64, refused: &SendError) -> Turn {
        match &refused.cause {
            SendCause::QueueFull | SendCause::Fatal => Turn::ClientFull,
            SendCause::TooLarge => {
                self.park(id, seq, &refused.to_string());
                Turn::More
            }
            cause => {
                let (now, random) = (self.clock.monotonic(), self.rng.next_u64());
                if let Some(lane) = self.lanes.get_mut(&id) {
                    lane.hold(now, random);
                }
                tracing::warn!("{refused}; {cause}; trying again");
                Turn::Done
            }
        }
    }

    fn settle(&mut self, outcomes: Vec<Delivery>) {
        for delivery in outcomes {
            let Some(sent) = self.in_flight.remove(&delivery.token) else { continue };
            self.in_flight_bytes -= sent.bytes;
            let fate = match &delivery.outcome {
                Ok(stored) => {
                    self.counts.acked += 1;
                    // This alone shows a client that works.
                    self.connect_failures = 0;
                    self.note(sent.lane, sent.seq, Stage::Acked, Some(stored.offset));
                    Fate::Acked
                }
                Err(DeliveryError::Refused { .. }) => Fate::Refused,
                Err(DeliveryError::Fatal { .. }) => Fate::Again { delay: false },
                Err(error) => {
                    tracing::debug!("{error}; sent again");
                    Fate::Again { delay: true }
                }
            };
            let lane = self.lanes.get_mut(&sent.lane);
            if lane.is_some_and(|lane| lane.settle(sent.seq, &fate))
                && let Err(error) = &delivery.outcome
            {
                self.report_parked(sent.lane, sent.seq, &error.to_string());
            }
        }
    }

    fn park(&mut self, id: PartitionId, seq: u64, reason: &str) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.park(seq);
        }
        self.report_parked(id, seq, reason);
    }

    /// RELAY-1: parked means reported by name, and kept.
    fn report_parked(&mut self, id: PartitionId, seq: u64, reason: &str) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let cut = reason.floor_char_boundary(REASON_BYTES_MAX);
        let reason = reason.get(..cut).unwrap_or_default();
        let record = RecordRef {
            id: Some(lane.id_of(seq)),
            topic: &lane.view.topic,
            partition: lane.view.partition,
            offset: None,
        };
        self.reporter.note_end(Disposition::Rejected, reason, &record);
        tracing::error!("record {} is refused for good: {reason}", lane.id_of(seq));
        self.parking.push((id, seq, reason.to_owned()));
    }

    fn note(&self, id: PartitionId, seq: u64, stage: Stage, offset: Option<i64>) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let (topic, partition) = (&*lane.view.topic, lane.view.partition);
        let record = RecordRef { id: Some(lane.id_of(seq)), topic, partition, offset };
        self.reporter.note(stage, &record);
    }

    /// A fatal error: the client tells what it knows and goes; the next one starts each lane at
    /// its lowest record that is not settled.
    fn replace_producer(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        if let Some(error) = producer.fatal() {
            tracing::warn!("{error}; a new one goes on");
        }
        let (outcomes, _) = producer.close(REPLACE_TIMEOUT);
        self.settle(outcomes);
        self.lose_in_flight();
        self.counts.replaced += 1;
        self.connect_failures = self.connect_failures.saturating_add(1);
        let delay = backoff(self.connect_failures, self.rng.next_u64());
        self.connect_at = self.clock.monotonic() + delay;
    }

    fn lose_in_flight(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.lanes.values_mut().for_each(Shipping::client_lost);
    }

    fn has_unjournaled(&self) -> bool {
        let session = self.spool.session();
        let moved = |lane: &Shipping| lane.cursor > lane.journaled || lane.is_removable(session);
        !self.parking.is_empty() || self.lanes.values().any(moved)
    }

    /// RELAY-2: receipts, cursors and parked records in one frame; then old lanes that are done
    /// are removed.
    fn report(&mut self) -> Result<(), RelayError> {
        self.report_at = self.clock.monotonic() + REPORT_EVERY;
        let moved = self.lanes.values().filter(|lane| lane.cursor > lane.journaled);
        let mut changes: Vec<_> =
            moved.map(|lane| cursor_change(lane.view.id, lane.cursor)).collect();
        changes
            .extend(self.parking.iter().map(|(id, seq, reason)| parked_change(*id, *seq, reason)));
        match self.reporter.flush_durable_with(changes) {
            Ok(_) => {}
            Err(FlushError::Journal { cause }) if cause.is_retriable() => {
                tracing::warn!("progress not journaled: {cause}; trying again");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.parking.clear();
        let session = self.spool.session();
        let mut done = Vec::new();
        for lane in self.lanes.values_mut() {
            lane.journaled = lane.cursor;
            if lane.is_removable(session) {
                done.push(lane.view.clone());
            }
        }
        for view in done {
            match self.spool.remove_lane(&view) {
                Ok(()) => drop(self.lanes.remove(&view.id)),
                Err(cause) if cause.is_retriable() => {
                    tracing::warn!("a lane that is done was not removed: {cause}; trying again");
                    return Ok(());
                }
                Err(cause) => return Err(RelayError::Remove(cause)),
            }
        }
        Ok(())
    }
}

/// RELAY-1: rejected, by the producer's own journal; the audit calls it lost at the producer.
fn report_damaged(reporter: &Reporter, lane: &mut Shipping) {
    for seq in lane.take_damage_found().numbers() {
        let record = RecordRef {
            id: Some(lane.id_of(seq)),
            topic: &lane.view.topic,
            partition: lane.view.partition,
            offset: None,
        };
        reporter.note_end(Disposition::Rejected, DAMAGED_REASON, &record);
    }
}

enum Turn {
    /// The lane may have more.
    More,
    Done,
    ClientFull,
}

fn record_bytes(record: &Record) -> usize {
    let part = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    part(&record.key) + part(&record.value) + 128
}
