//! The poll thread: hands out records, pauses and resumes, commits. It never waits for the
//! processing of a record, but for a bounded time when partitions are taken away.
//!
//! # Invariants
//!
//! - `POLL-1`: an offset is committed only after everything that was noted about the records
//!   below it is durable.
//! - `POLL-2`: reading begins at the committed offset, at the beginning of a partition where
//!   there is none, and nowhere else: a position that the log does not have stops the partition.

use std::sync::Arc;
use std::time::Duration;

use lossproof_client::{
    CommitError, ConsumeError, LogConsumer, Rebalance, TopicPartition, Watermarks,
};
use lossproof_env::Clock;
use tracing::{error, info, warn};

use crate::config::Source;
use crate::endpoint::Endpoint;
use crate::pipeline::Stop;
use crate::receipts::{Receipts, ReceiptsError};
use crate::shared::Shared;

/// How long one poll may wait; also how soon a pause or the end is noticed.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Between looks at what is still running.
const RUNNING_WAIT: Duration = Duration::from_millis(2);
/// After an error of the client that repeats itself.
const ERROR_WAIT: Duration = Duration::from_millis(200);
/// Notes in memory after which receipts are cut.
const NOTES_MAX: usize = 10_000;
/// For leaving the group.
const CLOSE_WAIT: Duration = Duration::from_secs(10);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Owned by the poll thread.
#[derive(Debug)]
pub(crate) struct Poller {
    consumer: Box<dyn LogConsumer>,
    member: Member,
    endpoints: Vec<Arc<Endpoint>>,
    stop: Stop,
    commit_interval: Duration,
    commit_records: usize,
    drain_wait: Duration,
    last_commit: Duration,
    last_progress: Duration,
    /// When it was last said that no broker answers.
    told: Option<Duration>,
}

/// What rebalancing needs, beside the consumer that calls it.
#[derive(Debug)]
struct Member {
    shared: Arc<Shared>,
    receipts: Box<dyn Receipts>,
    clock: Arc<dyn Clock>,
    revoke_wait: Duration,
}

impl Poller {
    pub(crate) fn new(
        consumer: Box<dyn LogConsumer>,
        receipts: Box<dyn Receipts>,
        shared: Arc<Shared>,
        endpoints: Vec<Arc<Endpoint>>,
        clock: Arc<dyn Clock>,
        source: &Source,
        stop: Stop,
    ) -> Self {
        let now = clock.monotonic();
        let revoke_wait = source.revoke_wait;
        Self {
            consumer,
            member: Member { shared, receipts, clock, revoke_wait },
            endpoints,
            stop,
            commit_interval: source.commit_interval,
            commit_records: source.commit_records,
            drain_wait: source.drain_wait,
            last_commit: now,
            last_progress: now,
            told: None,
        }
    }

    /// Until the pipeline is told to end, or has to.
    pub(crate) fn run(mut self) {
        while !self.must_drain() {
            self.poll();
            self.pause_and_resume();
            self.commit_when_due();
        }
        self.drain();
        let shared = Arc::clone(&self.member.shared);
        if let Err(error) = self.consumer.close(&mut self.member, CLOSE_WAIT) {
            warn!("the group was not left in order: {error}");
        }
        let mut member = self.member;
        // What the consumer still held without telling us is not ours any more either.
        let left = shared.lock().flow.assigned();
        shared.lock().flow.unassign(&left);
        if let Err(error) = member.flush() {
            shared.fail(error.to_string());
        }
        if let Err(error) = member.receipts.close() {
            shared.fail(error.to_string());
        }
        shared.close();
    }

    fn must_drain(&self) -> bool {
        self.stop.is_requested() || self.member.shared.lock().fatal.is_some()
    }

    fn poll(&mut self) {
        match self.consumer.poll(POLL_WAIT, &mut self.member) {
            Ok(Some(record)) => self.member.shared.admit(record),
            Ok(None) => {}
            Err(ConsumeError::OutOfRange { partition, offset }) => {
                let reason = format!("offset {offset} is not in the log");
                self.member.refuse(&partition, &reason);
            }
            Err(error @ ConsumeError::Unreachable { .. }) => {
                let now = self.member.clock.monotonic();
                if self.told.is_none_or(|told| now.saturating_sub(told) >= PROGRESS_INTERVAL) {
                    warn!("{error}; trying on");
                    self.told = Some(now);
                }
                self.member.clock.sleep_blocking(ERROR_WAIT);
            }
            Err(error) => self.member.shared.fail(error.to_string()),
        }
    }

    fn pause_and_resume(&mut self) {
        let hold = self.endpoints.iter().any(|endpoint| endpoint.holds());
        let (pause, resume) = self.member.shared.lock().flow.pause_changes(hold);
        let paused = if pause.is_empty() { Ok(()) } else { self.consumer.pause(&pause) };
        let resumed = if resume.is_empty() { Ok(()) } else { self.consumer.resume(&resume) };
        if let Err(error) = paused.and(resumed) {
            // A partition that went away meanwhile; its next assignment begins unpaused.
            warn!("pause or resume: {error}");
        }
    }

    fn commit_when_due(&mut self) {
        let now = self.member.clock.monotonic();
        let (finished, notes) = {
            let inner = self.member.shared.lock();
            (inner.finished, inner.notes.len())
        };
        let due = now.saturating_sub(self.last_commit) >= self.commit_interval;
        if !due && finished < self.commit_records && notes < NOTES_MAX {
            return;
        }
        self.last_commit = now;
        self.commit();
        if now.saturating_sub(self.last_progress) >= PROGRESS_INTERVAL {
            self.last_progress = now;
            let counts = self.member.shared.lock().flow.counts();
            info!("so far: {}", crate::pipeline::describe(&counts));
        }
    }

    fn commit(&mut self) {
        let offsets = match self.member.cover(None) {
            Ok(offsets) if offsets.is_empty() => return,
            Ok(offsets) => offsets,
            Err(error) => return self.member.receipts_failed(&error),
        };
        match self.consumer.commit(&offsets) {
            Ok(()) => self.member.shared.lock().flow.committed(&offsets),
            // The rebalancing that goes with it comes with one of the next polls.
            Err(error @ (CommitError::Fenced | CommitError::Retriable { .. })) => warn!("{error}"),
            Err(error) => self.member.shared.fail(error.to_string()),
        }
    }

    /// Waits for what is running, in bounded time, and goes on polling so that the group holds.
    fn drain(&mut self) {
        self.member.shared.drain();
        let deadline = self.member.clock.monotonic() + self.drain_wait;
        info!("ending: waiting for {} records", self.member.shared.lock().flow.running());
        while self.member.shared.lock().flow.running() > 0
            && self.member.clock.monotonic() < deadline
        {
            self.pause_and_resume();
            match self.consumer.poll(RUNNING_WAIT, &mut self.member) {
                Ok(Some(record)) => self.member.shared.admit(record),
                Ok(None) => self.member.clock.sleep_blocking(RUNNING_WAIT),
                Err(_) => return,
            }
        }
    }
}

impl Member {
    /// What may be committed, with its receipts durable (`POLL-1`).
    fn cover(
        &mut self,
        only: Option<&[TopicPartition]>,
    ) -> Result<Vec<(TopicPartition, i64)>, ReceiptsError> {
        let shared = Arc::clone(&self.shared);
        let (notes, offsets) = {
            // One lock for both: whatever lies below the offsets has its notes among these or
            // among earlier ones.
            let mut inner = shared.lock();
            inner.finished = 0;
            (std::mem::take(&mut inner.notes), inner.flow.committable(only))
        };
        for note in &notes {
            self.receipts.note(note);
        }
        self.receipts.flush_durable()?;
        Ok(offsets)
    }

    /// What waits to be noted belongs to assignments before this one.
    fn note_beginning(&mut self, partition: &TopicPartition) {
        let notes = std::mem::take(&mut self.shared.lock().notes);
        for note in &notes {
            self.receipts.note(note);
        }
        self.receipts.note_beginning(partition);
    }

    fn flush(&mut self) -> Result<(), ReceiptsError> {
        self.cover(Some(&[])).map(drop)
    }

    fn receipts_failed(&mut self, error: &ReceiptsError) {
        match error {
            ReceiptsError::Retriable { .. } => warn!("{error}"),
            ReceiptsError::Fenced { .. } => self.shared.fail(error.to_string()),
        }
    }

    fn refuse(&self, partition: &TopicPartition, reason: &str) {
        let TopicPartition { topic, partition: number } = partition;
        error!("{topic}-{number} cannot be read: {reason}; it stops, the others go on");
        self.shared.lock().flow.stop_reading(partition, reason);
    }

    fn await_running(&self, partitions: &[TopicPartition]) {
        let deadline = self.clock.monotonic() + self.revoke_wait;
        while self.shared.lock().flow.running_on(partitions) > 0
            && self.clock.monotonic() < deadline
        {
            self.clock.sleep_blocking(RUNNING_WAIT);
        }
    }
}

impl Rebalance for Member {
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        committed: Option<i64>,
        watermarks: Watermarks,
    ) -> Result<i64, ConsumeError> {
        let TopicPartition { topic, partition: number } = partition;
        let Watermarks { low, high } = watermarks;
        let start = committed.unwrap_or(low);
        if start < low || start > high {
            let reason = format!(
                "the group has committed {start}, the log holds {low} to {high}: records are gone"
            );
            self.refuse(partition, &reason);
            return Err(ConsumeError::OutOfRange { partition: partition.clone(), offset: start });
        }
        if committed.is_none() && low > 0 {
            warn!(
                "{topic}-{number} is new to the group and begins at {low}: older records are gone"
            );
        }
        if committed.is_none() {
            self.note_beginning(partition);
        }
        info!("{topic}-{number} assigned, reading from {start}");
        self.shared.lock().flow.assign(partition, start);
        Ok(start)
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        self.shared.lock().flow.begin_leaving(partitions);
        self.shared.change_turn();
        self.await_running(partitions);
        let offsets = self.cover(Some(partitions)).unwrap_or_else(|error| {
            self.receipts_failed(&error);
            Vec::new()
        });
        self.shared.lock().flow.unassign(partitions);
        self.shared.change_turn();
        info!("{} partitions given back", partitions.len());
        offsets
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        warn!("{} partitions were given to another member", partitions.len());
        self.shared.lock().flow.unassign(partitions);
        self.shared.change_turn();
    }
}
