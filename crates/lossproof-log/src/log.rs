use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use lossproof_env::Environment;

use crate::cluster_id::ClusterId;
use crate::commit::{Commit, Committed, PartitionId, ProducerIds, ProducerView, StateKind};
use crate::committer::Committer;
use crate::compaction::{Compaction, Order};
use crate::config::LogConfig;
use crate::counters::LogFigures;
use crate::epochs::EpochEnd;
use crate::error::{
    CloseError, CommitCause, CommitError, FenceCause, Fenced, OffsetRange, OpenError, ReadError,
};
use crate::helper::{Helper, help};
use crate::mover::Mover;
use crate::open;
use crate::partition::{Dirt, Partition, PartitionView};
use crate::queue::{Pending, Reply, Submission, Work, abandoned};
use crate::reader::{self, Slice, Unread};
use crate::recovery::failed;
use crate::report::RecoveryReport;
use crate::scrub::Scrubber;
use crate::shared::Shared;
use crate::transactions::AbortedTransaction;
use crate::zeroer::Zeroer;

/// A log in a directory. Clones are handles of the same log; the last one should
/// [`close`](Log::close) it, so that the next open need not recover.
#[derive(Clone, Debug)]
pub struct Log {
    handle: Arc<Handle>,
}

/// Tells the commit thread when nobody is left.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

/// The batch that holds a timestamp.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimestampedBatch {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The highest timestamp in it, in milliseconds.
    pub max_timestamp: i64,
}

impl Log {
    /// Opens the log in `directory`, which is made where it is missing: takes its lock, recovers
    /// it, and starts the commit thread.
    pub fn open(
        env: &Environment,
        directory: &Path,
        config: LogConfig,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let (mut committer, mut mover, report) = open::open(env, directory, config)?;
        let shared = committer.shared.clone();
        let scrubber = mover.scrubber();
        let zeroer = committer.start_zeroer();
        mover.zeroer = Some(zeroer.clone());
        let zeroer_thread = zeroer.clone();
        let failed = || failed("start the threads of", directory);
        let zeroing = help(&shared, Helper::Zero, move || zeroer_thread.run()).map_err(failed())?;
        let moving = help(&shared, Helper::Move, move || mover.serve()).map_err(failed())?;
        let scrubbing = help(&shared, Helper::Scrub, move || scrubber.serve()).map_err(failed())?;
        let helpers = Helpers { zeroer, zeroing, moving, scrubbing };
        thread::Builder::new()
            .name("lossproof-commit".to_owned())
            .spawn(move || serve(committer, helpers))
            .map_err(failed())?;
        Ok((Self { handle: Arc::new(Handle { shared }) }, report))
    }

    /// Opens without threads: commits are carried out when the [`Stepper`] is told to, so that a
    /// test knows at every moment what has been written and synced.
    pub fn open_stepped(
        env: &Environment,
        directory: &Path,
        config: LogConfig,
    ) -> Result<(Self, Stepper, RecoveryReport), OpenError> {
        let (mut committer, mut mover, report) = open::open(env, directory, config)?;
        let log = Self { handle: Arc::new(Handle { shared: committer.shared.clone() }) };
        let zeroer = committer.start_zeroer();
        mover.zeroer = Some(zeroer.clone());
        let scrubber = mover.scrubber();
        Ok((log, Stepper { committer, zeroer, mover, scrubber }, report))
    }

    /// A handle of what was opened by other means, without anybody who carries out commits.
    pub(crate) fn of(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Queues a commit; waits while the queue is full. The order in which calls return is the
    /// order in the journal.
    pub async fn enqueue(&self, commit: Commit) -> Result<Pending, CommitError> {
        let permits = self.shared().permits_of(commit.weight());
        let permit = self.shared().permits.clone().acquire_many_owned(permits).await;
        let permit = permit.expect("nobody closes the semaphore");
        self.push(commit, Some(permit))
    }

    /// Queues a commit if there is room for it now; the commit comes back otherwise.
    pub fn try_enqueue(&self, commit: Commit) -> Result<Pending, TryEnqueueError> {
        let permits = self.shared().permits_of(commit.weight());
        match self.shared().permits.clone().try_acquire_many_owned(permits) {
            Ok(permit) => self.push(commit, Some(permit)).map_err(TryEnqueueError::Refused),
            Err(_) => Err(TryEnqueueError::QueueFull { commit: Box::new(commit) }),
        }
    }

    fn push(
        &self,
        commit: Commit,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Pending, CommitError> {
        let commit = Box::new(commit);
        if let Some(fenced) = self.fenced() {
            return Err(CommitError { commit, cause: CommitCause::Fenced(fenced) });
        }
        let (to, receiver) = oneshot::channel();
        let submission = Submission { commit, reply: Reply::Commit(to), _permit: permit };
        match self.shared().queue.push(submission) {
            Ok(()) => Ok(Pending { receiver }),
            Err(Submission { commit, .. }) => {
                Err(CommitError { commit, cause: CommitCause::Closed })
            }
        }
    }

    /// Queues and waits until the commit is acknowledged.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.enqueue(commit).await?.await
    }

    /// The same for a thread that is not part of an async runtime.
    pub fn commit_blocking(&self, commit: Commit) -> Result<Committed, CommitError> {
        block_on(self.commit(commit))
    }

    /// A partition id that was never used here, and is not queued to be as far as is known; the
    /// caller sees to it that no two of its commits use the same.
    pub fn unused_partition_id(&self) -> PartitionId {
        self.shared().view.unused_partition_id()
    }

    /// Producer ids that nobody else gets; durable when it returns.
    pub async fn reserve_producer_ids(&self, count: u32) -> Result<ProducerIds, CommitCause> {
        if let Some(fenced) = self.fenced() {
            return Err(CommitCause::Fenced(fenced));
        }
        let (to, receiver) = oneshot::channel();
        let reply = Reply::ProducerIds { count, to };
        let submission = Submission { commit: Box::default(), reply, _permit: None };
        self.shared().queue.push(submission).map_err(|_| CommitCause::Closed)?;
        receiver.await.unwrap_or_else(|_| Err(abandoned(Box::default()).cause))
    }

    /// What a partition remembers of its idempotent producers, by producer id.
    pub async fn producers(
        &self,
        partition: PartitionId,
    ) -> Result<Vec<ProducerView>, CommitCause> {
        let (to, receiver) = oneshot::channel();
        let reply = Reply::Producers { partition, to };
        let submission = Submission { commit: Box::default(), reply, _permit: None };
        self.shared().queue.push(submission).map_err(|_| CommitCause::Closed)?;
        receiver.await.unwrap_or_else(|_| Err(abandoned(Box::default()).cause))
    }

    /// Where the transaction that `producer_id` has open in a partition begins there, as far as
    /// that can still be read.
    pub fn transaction_start(&self, id: PartitionId, producer_id: i64) -> Option<i64> {
        self.shared().view.partition(id)?.transaction_start(producer_id)
    }

    /// Aborted transactions with batches from `from` to below `to`, by first offset. A committed
    /// reader leaves out their records. An error where the log start has gone above `from` since
    /// the records were read: nobody knows any more which of them were aborted.
    pub fn aborted(
        &self,
        id: PartitionId,
        from: i64,
        to: i64,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let partition = self.shared().view.partition(id).ok_or(ReadError::UnknownPartition(id))?;
        partition.aborted(from, to).ok_or_else(|| {
            let (log_start, high_watermark) = partition.bounds();
            ReadError::OffsetOutOfRange { offset: from, log_start, high_watermark }
        })
    }

    /// Whole batches from the one that holds `from` on, at least one, further ones up to
    /// `max_bytes`; only below the high watermark, each checked. At a damaged range the read ends;
    /// one that starts in it is an error.
    pub fn read(&self, id: PartitionId, from: i64, max_bytes: usize) -> Result<Slice, ReadError> {
        let partition = self.shared().view.partition(id).ok_or(ReadError::UnknownPartition(id))?;
        self.read_of(id, &partition, from, max_bytes)
    }

    fn read_of(
        &self,
        id: PartitionId,
        partition: &Arc<Partition>,
        from: i64,
        max_bytes: usize,
    ) -> Result<Slice, ReadError> {
        let Shared { view, segments, .. } = &**self.shared();
        let read = reader::read(segments, id, partition, from, max_bytes, Unread::IsError);
        let is_there = || view.partition(id).is_some_and(|it| Arc::ptr_eq(&it, partition));
        match read {
            // READ-3
            Err(ReadError::Damaged { .. } | ReadError::Io { .. }) if !is_there() => {
                Err(ReadError::UnknownPartition(id))
            }
            read => read,
        }
    }

    pub fn partition(&self, id: PartitionId) -> Option<PartitionView> {
        Some(self.shared().view.partition(id)?.view())
    }

    /// Where a leader epoch ends in a partition; `None` for one that has not been yet.
    pub fn epoch_end(&self, id: PartitionId, epoch: i32) -> Result<Option<EpochEnd>, ReadError> {
        let partition = self.shared().view.partition(id).ok_or(ReadError::UnknownPartition(id))?;
        Ok(partition.epoch_end(epoch))
    }

    /// The leader epoch of the record at `offset`; `None` where it is not known any more.
    pub fn epoch_at(&self, id: PartitionId, offset: i64) -> Result<Option<i32>, ReadError> {
        let partition = self.shared().view.partition(id).ok_or(ReadError::UnknownPartition(id))?;
        Ok(partition.epoch_at(offset))
    }

    /// Bytes of the batches of a partition, each as it was sent.
    pub fn bytes(&self, id: PartitionId) -> Option<u64> {
        Some(self.shared().view.partition(id)?.bytes())
    }

    /// Bytes that can be read of a partition from `offset` on, and rather too many: by whole pieces
    /// of about a hundred kilobytes. Counted until there are `enough`.
    pub fn bytes_from(&self, id: PartitionId, offset: i64, enough: u64) -> u64 {
        let partition = self.shared().view.partition(id);
        partition.map_or(0, |partition| partition.bytes_from(offset, enough))
    }

    /// Where the log of a partition has to start for a retention by time and size: to be made so
    /// by a [`PartitionChange::LogStart`](crate::PartitionChange::LogStart). Counted in pieces of
    /// about a megabyte, of which none goes before all of it may.
    pub fn expired(
        &self,
        id: PartitionId,
        before_ms: Option<i64>,
        bytes_max: Option<u64>,
    ) -> Option<i64> {
        Some(self.shared().view.partition(id)?.expired(before_ms, bytes_max))
    }

    /// What compaction would find in a partition.
    pub fn dirt(&self, id: PartitionId) -> Option<Dirt> {
        let journal = self.shared().segments.journal();
        let last = journal.last().map_or(0, |last| last.life.file_key());
        Some(self.shared().view.partition(id)?.dirt(last))
    }

    /// Asks for partitions to be compacted: of each key only the last record stays, as far as
    /// batches have left the journal's last segment and belong to no open transaction. It is done
    /// by the next move, which begins at once; nothing of it is kept over a restart.
    pub fn compact(&self, wishes: impl IntoIterator<Item = (PartitionId, Compaction)>) {
        let orders = wishes.into_iter().filter_map(|(id, wish)| {
            let end = self.partition(id)?.last_stable; // COMPACTION-2
            Some((id, Order { wish, end }))
        });
        self.shared().mover.order(orders);
    }

    /// Takes back what was asked for of these partitions, but for what has begun.
    pub fn call_off_compaction(&self, partitions: &[PartitionId]) {
        self.shared().mover.call_off(partitions);
    }

    /// Ends the journal's last segment, if there is anything in it, so that it can be moved and
    /// compacted; the journal goes on in the next one. On a full disk it is refused.
    pub async fn seal(&self) -> Result<(), CommitError> {
        self.shared().seal();
        // Room is found even for nothing, and that in the next segment.
        self.commit(Commit::default()).await.map(drop)
    }

    /// The wall clock in milliseconds. `None` for an hour after it has jumped, or after a start
    /// far from when the log was open last: nothing may expire by it then (storage rule 15).
    pub fn believed_wall_ms(&self) -> Option<i64> {
        self.shared().wall_clock.believed_ms()
    }

    /// The wall clock in milliseconds, for what is to be judged by its age later: never before
    /// what was believed last. By a clock that is behind, and is set right then, it would be old at
    /// once.
    pub fn stamp_ms(&self) -> i64 {
        let last_ms = self.shared().wall_clock.last_believed_ms();
        self.shared().env.clock.wall_ms().max(last_ms)
    }

    /// All partitions, by id.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.shared().view.partition_ids()
    }

    /// All keyed entries of a kind, by key.
    pub fn state(&self, kind: StateKind) -> Vec<(Bytes, Bytes)> {
        self.shared().view.state(|table| table.all(kind))
    }

    /// The same of the keys that begin with `prefix`, without a look at the others.
    pub fn state_with_prefix(&self, kind: StateKind, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.shared().view.state(|table| table.with_prefix(kind, prefix))
    }

    pub fn state_value(&self, kind: StateKind, key: &[u8]) -> Option<Bytes> {
        self.shared().view.state(|table| table.get(kind, key))
    }

    /// Whether entries of a kind may be missing or old because of damage: then no absence and no
    /// value may be believed.
    pub fn state_is_damaged(&self, kind: StateKind) -> bool {
        self.shared().view.state(|table| table.is_damaged(kind))
    }

    /// Kinds of keyed entries of which something was missing and was given up by a person.
    pub fn accepted_states(&self) -> Vec<StateKind> {
        self.shared().view.state(crate::state::StateTable::accepted_kinds)
    }

    /// Changes after every acknowledged frame to its number, for those who wait for new batches.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared().acknowledged.subscribe()
    }

    /// Whether frames after `seen`, a number that [`Log::watch`] gave, have changed one of the
    /// partitions wanted. True as well where that is not known any more.
    pub fn has_changed(&self, seen: u64, is_wanted: impl Fn(PartitionId) -> bool) -> bool {
        self.shared().changes.since(seen, is_wanted)
    }

    /// The first batch with a timestamp of at least `timestamp_ms`; which record of it is the
    /// caller's to find. `None` where there is none. What is damaged before it may have been it,
    /// and is an error.
    pub fn offset_for_timestamp(
        &self,
        id: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampedBatch>, ReadError> {
        let partition = self.shared().view.partition(id).ok_or(ReadError::UnknownPartition(id))?;
        let mut from = 0;
        while let Some(entry) = partition.entry_at_timestamp(from, timestamp_ms) {
            let range = OffsetRange { first: entry.base_offset, last: entry.last_offset() };
            let found = self.find_batch(id, range, |batch| batch.max_timestamp >= timestamp_ms);
            if let Err(ReadError::Damaged { range, .. }) = &found {
                check_damage(id, &partition, range.first)?;
            }
            let found = found?;
            if let Some(batch) = found {
                return check_damage(id, &partition, batch.base_offset).map(|()| found);
            }
            from = entry.last_offset() + 1;
        }
        check_damage(id, &partition, i64::MAX).map(|()| None)
    }

    /// The batch with the highest timestamp, from `from` on; the earliest of several. What is
    /// damaged may have been it, and is an error.
    pub fn max_timestamp(
        &self,
        id: PartitionId,
        from: i64,
    ) -> Result<Option<TimestampedBatch>, ReadError> {
        let partition = self.shared().view.partition(id).ok_or(ReadError::UnknownPartition(id))?;
        check_damage(id, &partition, i64::MAX)?;
        let mut highest: Option<TimestampedBatch> = None;
        let beats = |known: TimestampedBatch, max_timestamp, base_offset| {
            known.max_timestamp > max_timestamp
                || known.max_timestamp == max_timestamp && known.base_offset <= base_offset
        };
        let mut looked = Vec::new();
        while let Some(entry) = partition.entry_of_max_timestamp(from, &looked)
            && !highest.is_some_and(|it| beats(it, entry.max_timestamp, entry.base_offset))
        {
            let range =
                OffsetRange { first: entry.base_offset.max(from), last: entry.last_offset() };
            self.find_batch(id, range, |batch| {
                if !highest.is_some_and(|it| beats(it, batch.max_timestamp, batch.base_offset)) {
                    highest = Some(*batch);
                }
                batch.max_timestamp >= entry.max_timestamp
            })?;
            looked.push(entry);
        }
        Ok(highest)
    }

    /// The first batch of `range` that is wanted and not, as a whole, below the log start.
    fn find_batch(
        &self,
        id: PartitionId,
        range: OffsetRange,
        mut wanted: impl FnMut(&TimestampedBatch) -> bool,
    ) -> Result<Option<TimestampedBatch>, ReadError> {
        let mut next = range.first;
        while next <= range.last {
            let slice = match self.read(id, next, FIND_BYTES) {
                Err(ReadError::OffsetOutOfRange { log_start, .. }) if next < log_start => {
                    next = log_start;
                    continue;
                }
                slice => slice?,
            };
            for batch in &slice.batches {
                let Ok(header) = crate::batch::BatchHeader::parse(&batch.bytes) else { continue };
                let found = TimestampedBatch {
                    base_offset: batch.base_offset,
                    last_offset: batch.last_offset,
                    max_timestamp: header.max_timestamp,
                };
                if wanted(&found) {
                    return Ok(Some(found));
                }
            }
            let Some(last) = slice.batches.last() else { break };
            next = last.last_offset + 1;
        }
        Ok(None)
    }

    /// Drawn when the directory was made, and anew when it was adopted.
    pub fn directory_id(&self) -> u64 {
        self.shared().identity.directory_id
    }

    /// Given or drawn when the directory was made; never changes.
    pub fn cluster_id(&self) -> ClusterId {
        self.shared().identity.cluster_id
    }

    /// How often the directory has been opened, this time included.
    pub fn open_count(&self) -> u64 {
        self.shared().identity.open_count
    }

    /// Why no more writes are taken, if so.
    pub fn fenced(&self) -> Option<Fenced> {
        self.shared().fenced()
    }

    /// What was measured since the log was opened.
    pub fn figures(&self) -> LogFigures {
        self.shared().figures()
    }

    /// Commits what is queued, syncs, marks the end as clean, gives the directory free. Later
    /// commits are refused; reading goes on.
    pub async fn close(&self) -> Result<(), CloseError> {
        let (to, done) = oneshot::channel();
        if !self.shared().queue.close(Some(to)) {
            return Err(CloseError::Closed);
        }
        done.await.unwrap_or(Err(CloseError::Closed))
    }

    /// The same for a thread that is not part of an async runtime.
    pub fn close_blocking(&self) -> Result<(), CloseError> {
        block_on(self.close())
    }
}

/// Read at once while looking for a timestamp.
const FIND_BYTES: usize = 256 << 10;

/// Why a commit was not queued at once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TryEnqueueError {
    #[error("the commit queue is full")]
    QueueFull { commit: Box<Commit> },
    #[error(transparent)]
    Refused(CommitError),
}

/// The threads beside the commit thread.
struct Helpers {
    zeroer: Arc<Zeroer>,
    zeroing: JoinHandle<()>,
    moving: JoinHandle<()>,
    scrubbing: JoinHandle<()>,
}

/// The commit thread.
fn serve(mut committer: Committer, helpers: Helpers) {
    let shared = committer.shared.clone();
    let served = catch_unwind(AssertUnwindSafe(|| {
        loop {
            match shared.queue.take(committer.patience()) {
                Work::Commits(batch) => committer.step(batch),
                Work::Idle => committer.idle(),
                Work::Close(reply) => break reply,
            }
        }
    }));
    helpers.zeroer.stop();
    shared.mover.stop();
    shared.scrub.stop();
    // What failed there is latched or told already, and they hold nothing that could be lost.
    let Helpers { zeroing, moving, scrubbing, .. } = helpers;
    let _ = (zeroing.join(), moving.join(), scrubbing.join());
    match served {
        Ok(reply) => {
            let result = committer.close();
            // The lock must be free when the caller goes on.
            drop(committer);
            if let Some(reply) = reply {
                let _ = reply.send(result);
            }
        }
        Err(_) => refuse_for_ever(committer, &shared),
    }
}

/// An error where something below `end` cannot be read that is not below the log start.
fn check_damage(id: PartitionId, partition: &Partition, end: i64) -> Result<(), ReadError> {
    let view = partition.view();
    let mut damaged = view.damaged.into_iter();
    let found = damaged.find(|range| range.first < end && range.last >= view.log_start);
    found.map_or(Ok(()), |range| Err(ReadError::Damaged { partition: id, range }))
}

/// A panicked commit thread answers everybody, and stays to do so.
fn refuse_for_ever(mut committer: Committer, shared: &Shared) {
    let cause = committer.fence(FenceCause::Panic);
    committer.refuse_all(&cause);
    loop {
        match shared.queue.take(None) {
            Work::Commits(batch) => {
                for submission in batch {
                    submission.refuse(cause.clone());
                }
            }
            Work::Idle => {}
            Work::Close(reply) => {
                let fenced = shared.fenced();
                drop(committer);
                if let (Some(reply), Some(fenced)) = (reply, fenced) {
                    let _ = reply.send(Err(CloseError::Fenced(fenced)));
                }
                return;
            }
        }
    }
}

/// Drives a log that was opened with [`Log::open_stepped`]. Dropping it is a crash of the process:
/// the lock is free at once, and nothing is synced.
#[derive(Debug)]
pub struct Stepper {
    committer: Committer,
    zeroer: Arc<Zeroer>,
    mover: Mover,
    scrubber: Scrubber,
}

impl Stepper {
    /// Carries out everything that was enqueued, as the commit thread would in one go.
    pub fn step(&mut self) {
        let batch = self.committer.shared.queue.drain();
        if !batch.is_empty() {
            self.committer.step(batch);
        }
    }

    /// Enqueues and carries out `commits` in one go; their outcomes in the same order.
    pub fn submit(&mut self, commits: Vec<Commit>) -> Vec<Result<Committed, CommitError>> {
        let mut receivers = Vec::with_capacity(commits.len());
        let mut batch = Vec::with_capacity(commits.len());
        for commit in commits {
            let (to, receiver) = oneshot::channel();
            let commit = Box::new(commit);
            batch.push(Submission { commit, reply: Reply::Commit(to), _permit: None });
            receivers.push(receiver);
        }
        self.committer.step(batch);
        let outcome = |mut receiver: oneshot::Receiver<_>| {
            receiver.try_recv().unwrap_or_else(|_| Err(abandoned(Box::default())))
        };
        receivers.into_iter().map(outcome).collect()
    }

    /// Reserves producer ids, as [`Log::reserve_producer_ids`] does.
    pub fn reserve_producer_ids(&mut self, count: u32) -> Result<ProducerIds, CommitCause> {
        let (to, mut receiver) = oneshot::channel();
        let reply = Reply::ProducerIds { count, to };
        self.committer.step(vec![Submission { commit: Box::default(), reply, _permit: None }]);
        receiver.try_recv().unwrap_or_else(|_| Err(abandoned(Box::default()).cause))
    }

    /// One step of the background thread that writes zeros ahead, if there is something to do.
    pub fn zero(&mut self) {
        self.zeroer.step();
    }

    #[cfg(test)]
    pub(crate) fn zeroer(&self) -> &Zeroer {
        &self.zeroer
    }

    /// Whether the thread for it would do by itself what [`Stepper::checkpoint`] does.
    pub fn is_move_due(&self) -> bool {
        self.mover.is_due()
    }

    /// Moves what is in full segments to cold files and gives the segments back, as the thread for
    /// it would; whether there is enough to move is not asked. What went wrong, in words.
    pub fn checkpoint(&mut self) -> Result<(), String> {
        self.mover.run_all().map_err(|error| error.to_string())
    }

    /// Verifies a piece of cold files and full segments, if the clock says it is due.
    pub fn scrub(&mut self) {
        self.scrubber.step();
    }

    /// What the commit thread does after a while without commits, if the clock says it is due.
    pub fn idle(&mut self) {
        self.committer.idle();
    }

    /// How long it would wait for that.
    #[cfg(test)]
    pub(crate) fn patience(&self) -> Option<std::time::Duration> {
        self.committer.patience()
    }

    /// One turn of the thread that moves: how long it would wait for the next, if it goes on.
    #[cfg(test)]
    pub(crate) fn move_turn(&mut self) -> std::ops::ControlFlow<(), Option<std::time::Duration>> {
        self.mover.turn()
    }

    /// Refreshes the durable mark, whatever the clock says.
    pub fn mark(&mut self) {
        self.committer.write_mark(false);
    }

    /// The highest frame whose sync has returned.
    pub fn durable_through(&self) -> u64 {
        self.committer.writer.durable_through
    }

    /// Ends in order.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.step();
        self.committer.shared.queue.close(None);
        self.committer.close()
    }
}

struct Unparker(Thread);

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on a thread that has nothing else to do.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unparker(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use lossproof_env::SimDisk;

    use super::*;
    use crate::PartitionChange;
    use crate::testing::{self, append, create};

    /// READ-3: who reads has found the partition before it was deleted, and its segments only after
    /// they were given back.
    #[test]
    fn what_was_deleted_while_it_was_read_is_not_damaged() {
        let (log, mut stepper) = testing::open(&SimDisk::new(), LogConfig::small());
        let id = PartitionId(1);
        stepper.submit(vec![create(id)]).remove(0).unwrap();
        while log.shared().segments.journal().len() < 3 {
            stepper.submit(vec![append(id, 1, &[b'x'; 3_000])]).remove(0).unwrap();
        }
        let found = log.shared().view.partition(id).unwrap();
        assert_eq!(log.read_of(id, &found, 0, 1).unwrap().batches.len(), 1);
        stepper.submit(vec![Commit::partition(PartitionChange::Delete { id })]).remove(0).unwrap();
        stepper.checkpoint().unwrap();
        let read = log.read_of(id, &found, 0, 1);
        assert!(matches!(read, Err(ReadError::UnknownPartition(_))), "{read:?}");
    }
}
