//! One lane on its way: what is read, sent, settled.
//!
//! # Invariants
//! - SHIP-1: the cursor passes a record only when that record is acknowledged or parked.
//! - SHIP-2: records of a lane are sent in their order; after any failure sending stops until
//!   nothing of the lane is under way, then starts again at the lowest one that is not settled.
//! - SHIP-3: a record is parked only when it was refused while nothing else of its partition was
//!   under way: brokers refuse whole batches for one bad record.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use lossproof_audit::identity::{HEADER_NAME, Header, RecordId, binding, checksum};
use lossproof_audit::interval::IntervalSet;
use lossproof_client::Record;
use lossproof_log::{Log, ReadError, Slice};
use lossproof_wire::batch;

use crate::error::RelayError;
use crate::spool::LaneView;

/// Read from the journal at a time.
const READ_BYTES: usize = 1 << 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
const BACKOFF_DOUBLINGS_MAX: u32 = 10;

/// Delay before the attempt that follows `failures` failed ones, with up to a quarter of jitter.
pub(crate) fn backoff(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(BACKOFF_DOUBLINGS_MAX);
    let delay = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    delay + delay.mul_f64((random % 1024) as f64 / 4096.0)
}

/// What became of one record of a lane.
#[derive(Debug)]
pub(crate) enum Fate {
    Acked,
    /// Not stored, or nobody knows: to be sent again.
    Again {
        delay: bool,
    },
    /// Refused for good: alone it is parked, else sent again alone.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Shipping {
    pub(crate) view: LaneView,
    /// Everything below is settled (SHIP-1).
    pub(crate) cursor: u64,
    /// The cursor as the journal has it.
    pub(crate) journaled: u64,
    /// Settled above the cursor.
    settled: IntervalSet,
    /// The next to be sent; everything between the cursor and here is settled or under way.
    next: u64,
    /// Read from the journal, from `next` on.
    buffer: VecDeque<(u64, Record)>,
    under_way: usize,
    /// Something failed: nothing is sent until nothing is under way (SHIP-2).
    troubled: bool,
    /// Refused once: each is sent with nothing else under way (SHIP-3).
    alone: BTreeSet<u64>,
    /// One of these is under way: nothing follows it.
    is_alone: bool,
    failures: u32,
    wait_until: Duration,
    /// Accepted, but not readable in the journal any more: never settled, never forgotten.
    damaged: IntervalSet,
    /// Of these, what nobody has reported yet.
    damage_found: IntervalSet,
}

impl Shipping {
    pub(crate) fn new(view: LaneView) -> Self {
        let mut shipping = Self {
            cursor: view.cursor,
            journaled: view.cursor,
            settled: view.parked.difference(&IntervalSet::below(view.cursor)),
            next: view.cursor,
            buffer: VecDeque::new(),
            under_way: 0,
            troubled: false,
            alone: BTreeSet::new(),
            is_alone: false,
            failures: 0,
            wait_until: Duration::ZERO,
            damaged: IntervalSet::new(),
            damage_found: IntervalSet::new(),
            view,
        };
        shipping.advance();
        shipping
    }

    pub(crate) fn id_of(&self, seq: u64) -> RecordId {
        RecordId { session: self.view.lane.session, lane: self.view.lane.lane, seq }
    }

    /// Accepted and not settled, without what is damaged.
    pub(crate) fn waiting(&self) -> u64 {
        let settled = self.cursor + self.settled.count();
        self.view.end.saturating_sub(settled).saturating_sub(self.damaged.count())
    }

    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.count()
    }

    pub(crate) fn parked(&self) -> u64 {
        self.view.parked.count()
    }

    /// What was found damaged since the last call; whoever takes it reports it.
    pub(crate) fn take_damage_found(&mut self) -> IntervalSet {
        std::mem::take(&mut self.damage_found)
    }

    /// Nothing to send and nothing under way: the next lane of the same partition may go on.
    pub(crate) fn is_idle(&self) -> bool {
        self.next >= self.view.end && self.under_way == 0 && !self.troubled
    }

    /// A lane of an earlier session that is acknowledged as a whole. One with parked records is
    /// kept: its partition of the journal is the only copy of them.
    pub(crate) fn is_removable(&self, session: u64) -> bool {
        let is_done = self.cursor >= self.view.end && self.under_way == 0;
        is_done && self.view.lane.session != session && self.view.parked.is_empty()
    }

    /// The record to be sent now, if any; it stays the next one until [`Shipping::sent`].
    pub(crate) fn front(&mut self, log: &Log, now: Duration) -> Result<Option<Record>, RelayError> {
        if self.troubled || now < self.wait_until {
            return Ok(None);
        }
        // Alone means: nothing before it is under way, and it is not followed.
        if self.under_way > 0 && (self.is_alone || self.alone.contains(&self.next)) {
            return Ok(None);
        }
        if self.buffer.is_empty() && self.next < self.view.end {
            self.read(log)?;
        }
        Ok(self.buffer.front().map(|(_, record)| record.clone()))
    }

    pub(crate) fn next_seq(&self) -> Option<u64> {
        self.buffer.front().map(|(seq, _)| *seq)
    }

    /// The client has taken the record that [`Shipping::front`] gave.
    pub(crate) fn sent(&mut self) {
        if let Some((seq, _)) = self.buffer.pop_front() {
            self.under_way += 1;
            self.is_alone = self.alone.contains(&seq);
            self.next = seq + 1;
            self.skip_settled();
        }
    }

    /// The client cannot take it now.
    pub(crate) fn hold(&mut self, now: Duration, random: u64) {
        self.failures = self.failures.saturating_add(1);
        self.wait_until = now + backoff(self.failures, random);
    }

    /// Settles one record that was under way. True where it is parked by this.
    pub(crate) fn settle(&mut self, seq: u64, fate: &Fate) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        self.is_alone = self.is_alone && self.under_way > 0;
        match fate {
            Fate::Acked => {
                self.failures = 0;
                self.mark_settled(seq);
                false
            }
            Fate::Again { delay } => {
                if *delay && !self.troubled {
                    self.failures = self.failures.saturating_add(1);
                }
                self.troubled = true;
                false
            }
            Fate::Refused if self.alone.contains(&seq) => {
                self.park(seq);
                true
            }
            Fate::Refused => {
                self.alone.insert(seq);
                self.troubled = true;
                false
            }
        }
    }

    /// The record is given up on purpose; whoever calls this reports it.
    pub(crate) fn park(&mut self, seq: u64) {
        self.view.parked.insert(seq);
        self.mark_settled(seq);
        if self.next == seq {
            self.next = seq + 1;
            self.skip_settled();
        }
    }

    fn mark_settled(&mut self, seq: u64) {
        self.alone.remove(&seq);
        if seq >= self.cursor {
            self.settled.insert(seq);
        }
        self.advance();
    }

    fn advance(&mut self) {
        while self.settled.first() == Some(self.cursor) {
            let last = self.settled.iter().next().map_or(self.cursor, |range| range.last);
            self.settled.remove_range(self.cursor, last);
            self.cursor = last + 1;
        }
        self.next = self.next.max(self.cursor);
    }

    /// The client is gone, and with it all that was under way.
    pub(crate) fn client_lost(&mut self) {
        self.troubled = self.troubled || self.under_way > 0;
        self.under_way = 0;
        self.is_alone = false;
    }

    /// SHIP-2: starts again where nothing is under way any more.
    pub(crate) fn rewind(&mut self, now: Duration, random: u64) {
        if !self.troubled || self.under_way > 0 {
            return;
        }
        self.troubled = false;
        self.buffer.clear();
        self.next = self.cursor;
        if self.failures > 0 {
            self.wait_until = now + backoff(self.failures, random);
        }
    }

    fn skip_settled(&mut self) {
        while self.settled.contains(self.next) {
            self.next += 1;
        }
        while self.buffer.front().is_some_and(|(seq, _)| *seq < self.next) {
            self.buffer.pop_front();
        }
    }

    fn read(&mut self, log: &Log) -> Result<(), RelayError> {
        while self.next < self.view.end {
            match log.read(self.view.id, self.next as i64, READ_BYTES) {
                Ok(slice) => return self.take(&slice),
                Err(ReadError::Damaged { range, .. }) => {
                    let last = (range.last.max(0) as u64).min(self.view.end.saturating_sub(1));
                    let lane = self.view.lane;
                    tracing::error!(
                        "records {:016x}-{}-{} to {last} were accepted and are damaged in the \
                         journal",
                        lane.session,
                        lane.lane,
                        self.next
                    );
                    self.note_damaged(last);
                    self.next = last + 1;
                    self.skip_settled();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// From the next record to `last`, without what is settled.
    fn note_damaged(&mut self, last: u64) {
        let range = IntervalSet::of(self.next, last).difference(&self.settled);
        self.damage_found = self.damage_found.union(&range.difference(&self.damaged));
        self.damaged = self.damaged.union(&range);
    }

    fn take(&mut self, slice: &Slice) -> Result<(), RelayError> {
        let failed = |error: batch::BatchError| RelayError::Batch { detail: error.to_string() };
        for stored in &slice.batches {
            for record in batch::records(&stored.bytes).map_err(failed)? {
                let record = record.map_err(failed)?;
                let seq = record.offset.max(0) as u64;
                if (self.next..self.view.end).contains(&seq) && !self.settled.contains(seq) {
                    let stamped = self.stamp(seq, record);
                    self.buffer.push_back((seq, stamped));
                }
            }
        }
        Ok(())
    }

    /// The record as it travels: with its identity in a header of its own.
    fn stamp(&self, seq: u64, record: batch::Record) -> Record {
        let name = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        let mut headers: Vec<(String, Option<Bytes>)> =
            record.headers.iter().map(|held| (name(&held.key), held.value.clone())).collect();
        let (topic, partition) = (&*self.view.topic, self.view.partition);
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        headers.push(identity_header(self.id_of(seq), topic, partition, key, value));
        Record {
            topic: topic.to_owned(),
            partition,
            offset: 0,
            timestamp_ms: Some(record.timestamp),
            key: record.key,
            value: record.value,
            headers,
        }
    }
}

/// The header that a record carries from here on.
pub(crate) fn identity_header(
    id: RecordId,
    topic: &str,
    partition: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> (String, Option<Bytes>) {
    let header = Header {
        id,
        moved: false,
        transformed: false,
        binding: binding(topic, partition),
        checksum: checksum(key, value),
    };
    (HEADER_NAME.to_owned(), Some(Bytes::copy_from_slice(&header.encode())))
}
