//! The commit stream: takes what is queued, writes it as frames, syncs, answers.
//!
//! # Invariants
//! - LOG-5: a commit under `commit` is answered with success only after the fdatasync that covers
//!   its frame has returned, a duplicate only after that of its original.
//! - LOG-6: nothing is visible to readers before it is acknowledged.
//! - LOG-7: after a failed write or sync nothing more is written, and every waiter is refused.
//! - LOG-8: each submission is answered exactly once, a refused one with its commit.
//! - LOG-9: under an unsafe policy too, the end of a transaction is visible only once it is
//!   durable, in all of its partitions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lossproof_env::{DiskLock, Planted, planted};

use crate::commit::{Appended, Commit, Committed, FlushPolicy, PartitionId, ProducerIds};
use crate::effect::Effect;
use crate::error::{CloseError, CommitCause, FenceCause, FullCause};
use crate::frame::{BLOCK, Item, frame_bytes};
use crate::mark::Mark;
use crate::partition::Place;
use crate::queue::{Reply, Submission};
use crate::rescue::{GivingBack, Purpose};
use crate::shared::Shared;
use crate::slots::Slots;
use crate::staging::{Ahead, Plan, Staging};
use crate::writer::{RoomError, Writer, sync_fault};
use crate::zeroer::Zeroer;

/// `UnsafeEverySecond` is synced this long after the first write that was not.
const EVERY_SECOND: Duration = Duration::from_secs(1);

/// A commit that is in the frame in work.
#[derive(Debug)]
struct Staged {
    submission: Submission,
    appended: Vec<Appended>,
    ids: Option<ProducerIds>,
    /// Acknowledged with the write already: all of its partitions are under an unsafe policy.
    early: bool,
}

/// A frame that is being gathered.
#[derive(Debug, Default)]
struct Draft {
    parts: Vec<(Item, Effect)>,
    payload: usize,
    staged: Vec<Staged>,
    needs_sync: bool,
    every_second: bool,
    ahead: Ahead,
    /// Bytes there are for the frame.
    room: u64,
    /// The room is of the reserve, where batches have no place, since this runs short.
    reserve: Option<FullCause>,
}

/// What to do with a submission that was looked at.
enum Fit {
    Taken,
    /// The frame in work must be written first.
    Later(Submission),
    Refused,
}

/// The one writer of a journal. Driven by the commit thread, or step by step by a test.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) staging: Staging,
    pub(crate) writer: Writer,
    marks: Slots,
    /// What the last mark on disk says.
    marked: Mark,
    /// Not looked at yet.
    waiting: VecDeque<Submission>,
    draft: Draft,
    /// Running time of the log before this open.
    running_before_ms: u64,
    opened_at: Duration,
    /// Since when something is durable of which no mark tells yet.
    unmarked_since: Option<Duration>,
    pub(crate) giving_back: GivingBack,
    /// Since when something under `UnsafeEverySecond` waits for a sync.
    unsynced_since: Option<Duration>,
    _lock: Box<dyn DiskLock>,
}

/// What a committer starts from.
#[derive(Debug)]
pub(crate) struct CommitterStart {
    pub(crate) shared: Arc<Shared>,
    pub(crate) staging: Staging,
    pub(crate) writer: Writer,
    pub(crate) marks: Slots,
    pub(crate) running_before_ms: u64,
    pub(crate) lock: Box<dyn DiskLock>,
}

impl Committer {
    pub(crate) fn new(start: CommitterStart) -> Self {
        let now = start.shared.env.clock.monotonic();
        let committer = Self {
            shared: start.shared,
            staging: start.staging,
            writer: start.writer,
            marks: start.marks,
            marked: Mark::default(),
            waiting: VecDeque::new(),
            draft: Draft::default(),
            running_before_ms: start.running_before_ms,
            opened_at: now,
            unmarked_since: None,
            giving_back: GivingBack::default(),
            unsynced_since: None,
            _lock: start.lock,
        };
        committer.count_producers();
        committer
    }

    /// Makes the writer use what a zeroer gets ready; that one is the caller's to drive.
    pub(crate) fn start_zeroer(&mut self) -> Arc<Zeroer> {
        let zeroer = Zeroer::new(self.shared.clone(), self.writer.active.clone());
        self.writer.set_zeroer(zeroer.clone());
        zeroer
    }

    fn running_ms(&self) -> u64 {
        let open = self.shared.env.clock.monotonic().saturating_sub(self.opened_at);
        self.running_before_ms + open.as_millis() as u64
    }

    /// Commits `batch`, in its order, in as few frames as it takes; every one of it is answered
    /// when this returns.
    pub(crate) fn step(&mut self, batch: Vec<Submission>) {
        self.waiting.extend(batch);
        while let Some(submission) = self.waiting.pop_front() {
            match self.fit(submission) {
                Fit::Taken | Fit::Refused => {}
                Fit::Later(submission) => {
                    self.commit_draft();
                    self.mark_if_due();
                    self.waiting.push_front(submission);
                }
            }
        }
        self.commit_draft();
        self.give_back();
        self.sync_if_due();
        self.count_producers();
        self.mark_if_due();
    }

    fn count_producers(&self) {
        let count = self.staging.producers.len();
        self.shared.counters.producers.store(count, Ordering::Relaxed);
    }

    /// Puts a submission into the frame in work, if it may and fits.
    fn fit(&mut self, submission: Submission) -> Fit {
        if let Some(fenced) = self.shared.fenced() {
            submission.refuse(CommitCause::Fenced(fenced));
            return Fit::Refused;
        }
        match submission.reply {
            Reply::ProducerIds { .. } => return self.fit_producer_ids(submission),
            Reply::Producers { .. } => return self.fit_producers(submission),
            Reply::Accept { .. } => return self.fit_accept(submission),
            Reply::Commit(_) => {}
        }
        let plan = match self.judge(&submission.commit) {
            Ok(plan) => plan,
            Err(cause) => {
                submission.refuse(cause);
                return Fit::Refused;
            }
        };
        // Markers may use the reserve: ending a transaction must not wait for a full disk.
        let purpose = Purpose::of(&submission.commit, &plan);
        match self.make_room(plan.entries, plan.payload, purpose) {
            Ok(true) => {}
            Ok(false) => return Fit::Later(submission),
            Err(cause) => {
                submission.refuse(cause);
                return Fit::Refused;
            }
        }
        if let Some(cause) = self.draft.reserve.filter(|_| plan.entries == 0)
            && self.shared.take_seal()
        {
            // It was for that alone, and the segment goes on.
            submission.refuse(CommitCause::Full(cause));
            return Fit::Refused;
        }
        self.stage(submission, &plan);
        Fit::Taken
    }

    fn judge(&mut self, commit: &Commit) -> Result<Plan, CommitCause> {
        let (view, config) = (&self.shared.view, &self.shared.config);
        let judged = self.staging.judge(commit, view, &self.draft.ahead, config);
        if matches!(judged, Err(CommitCause::Full(FullCause::Producers))) {
            let now_ms = self.running_ms();
            self.staging.producers.make_room(now_ms, commit.appends.len(), config);
            return self.staging.judge(commit, view, &self.draft.ahead, config);
        }
        judged
    }

    /// Whether so much more fits into the frame in work; finds room for it when it is empty.
    fn make_room(
        &mut self,
        entries: usize,
        payload: usize,
        purpose: Purpose,
    ) -> Result<bool, CommitCause> {
        let alone = frame_bytes(entries, payload);
        let max = self.writer.frame_bytes_max();
        if alone > max {
            return Err(CommitCause::TooLarge { bytes: alone, max });
        }
        let is_begun = !self.draft.staged.is_empty();
        if is_begun && self.shared.wants_seal() {
            return Ok(false);
        }
        if !is_begun {
            let (room, reserve) = self.room(alone, purpose)?;
            self.draft.room = room;
            self.draft.reserve = reserve;
            return Ok(true);
        }
        if let Some(cause) = self.draft.reserve.filter(|_| purpose == Purpose::Records) {
            return Err(CommitCause::Full(cause));
        }
        let target = self.shared.config.frame_bytes_target as u64;
        let together = frame_bytes(self.draft.parts.len() + entries, self.draft.payload + payload);
        Ok(together <= self.draft.room.min(target))
    }

    /// Room for a frame of `need` bytes, and why it is of the reserve where it is.
    fn room(
        &mut self,
        need: u64,
        purpose: Purpose,
    ) -> Result<(u64, Option<FullCause>), CommitCause> {
        let shared = self.shared.clone();
        let ballast = &shared.ballast;
        if purpose == Purpose::Records && ballast.is_given_up() {
            self.giving_back.note_short();
            return Err(CommitCause::Full(FullCause::Disk)); // BALLAST-1
        }
        let segment = self.writer.active.sequence;
        let seals = shared.take_seal();
        let mut room = self.writer.room(need, seals, &shared.segments);
        if matches!(room, Err(RoomError::Short(FullCause::Disk))) {
            // While it is known the thread looks by itself.
            if ballast.note_full(true) {
                self.writer.wake_zeroer();
            }
            self.giving_back.note_short();
            if need > self.writer.reserve_room() {
                room = self.room_of_ballast(need, purpose, room);
            }
        } else if purpose == Purpose::Records && room.is_ok() {
            ballast.note_record();
            if !ballast.is_journal_short() {
                self.giving_back.note_room();
            }
        }
        let activated = !matches!(room, Err(RoomError::Fence(_)));
        if activated && self.writer.active.sequence != segment {
            self.shared.mover.wake();
            // The mark names the segment, so that its loss would be noticed; one whose activation
            // failed is not in use, and would count as lost.
            self.write_mark(false);
            if let Some(fenced) = self.shared.fenced() {
                return Err(CommitCause::Fenced(fenced));
            }
        }
        match room {
            Ok(room) => Ok((room, ballast.is_given_up().then_some(FullCause::Disk))),
            Err(RoomError::Short(cause)) => {
                if seals {
                    shared.seal();
                }
                let room = self.writer.reserve_room();
                if purpose == Purpose::Records || need > room {
                    return Err(CommitCause::Full(cause));
                }
                Ok((room, Some(cause)))
            }
            Err(RoomError::Fence(cause)) => Err(self.fence(cause)),
        }
    }

    fn stage(&mut self, submission: Submission, plan: &Plan) {
        let now_ms = self.running_ms();
        let needs_sync = plan.has_markers || self.staging.needs_sync(&submission.commit);
        let every_second = submission.commit.appends.iter().any(|append| {
            self.staging.flush(append.partition) == Some(FlushPolicy::UnsafeEverySecond)
        });
        let draft = (&mut self.draft.ahead, &mut self.draft.parts);
        let (commit, view) = (&submission.commit, &self.shared.view);
        let appended = self.staging.stage(commit, plan, now_ms, view, draft);
        self.draft.payload += plan.payload;
        self.draft.ahead.batches += appended.len();
        self.draft.needs_sync |= needs_sync;
        self.draft.every_second |= every_second;
        self.draft.staged.push(Staged { submission, appended, ids: None, early: !needs_sync });
    }

    fn fit_producer_ids(&mut self, submission: Submission) -> Fit {
        let Reply::ProducerIds { count, .. } = submission.reply else { return Fit::Refused };
        let sample = Effect::ProducerIds(ProducerIds { first: 0, count }).to_item();
        match self.make_room(1, sample.payload.len(), Purpose::Small) {
            Ok(true) => {}
            Ok(false) => return Fit::Later(submission),
            Err(cause) => {
                submission.refuse(cause);
                return Fit::Refused;
            }
        }
        let ids = self.staging.take_producer_ids(count);
        let effect = Effect::ProducerIds(ids);
        self.draft.payload += sample.payload.len();
        self.draft.parts.push((effect.to_item(), effect));
        self.draft.needs_sync = true;
        let staged = Staged { submission, appended: Vec::new(), ids: Some(ids), early: false };
        self.draft.staged.push(staged);
        Fit::Taken
    }

    /// Losses are given up in one frame (ACCEPT-2).
    fn fit_accept(&mut self, submission: Submission) -> Fit {
        let Reply::Accept { losses, .. } = &submission.reply else { return Fit::Refused };
        let losses = losses.clone();
        let view = &self.shared.view;
        let effects: Vec<Effect> =
            losses.iter().map(|loss| self.staging.given_up(*loss, view)).collect();
        let known = |id: &PartitionId| self.staging.partitions.contains_key(id);
        let mut ids = effects.iter().filter_map(Effect::accepts_in);
        if let Some(id) = ids.find(|id| !known(id)) {
            submission.refuse(CommitCause::UnknownPartition(id));
            return Fit::Refused;
        }
        let payload = effects.iter().map(|effect| effect.to_item().payload.len()).sum();
        match self.make_room(losses.len(), payload, Purpose::Small) {
            Ok(true) => {}
            Ok(false) => return Fit::Later(submission),
            Err(cause) => {
                submission.refuse(cause);
                return Fit::Refused;
            }
        }
        let now_ms = self.running_ms();
        for loss in losses {
            // Anew, behind the one before: it may have given up the end of the same partition.
            let effect = self.staging.given_up(loss, &self.shared.view);
            self.staging.apply(&effect, None, now_ms);
            self.draft.parts.push((effect.to_item(), effect));
        }
        self.draft.payload += payload;
        self.draft.needs_sync = true;
        let staged = Staged { submission, appended: Vec::new(), ids: None, early: false };
        self.draft.staged.push(staged);
        Fit::Taken
    }

    /// Tells of a partition's producers, once what they are known for is acknowledged.
    fn fit_producers(&mut self, submission: Submission) -> Fit {
        if !self.draft.staged.is_empty() {
            return Fit::Later(submission);
        }
        if let Reply::Producers { partition, to } = submission.reply {
            let now_ms = self.running_ms();
            // Who has stopped waiting is not told (LOG-8).
            let _ = to.send(Ok(self.staging.producers.of_partition(partition, now_ms)));
        }
        Fit::Taken
    }

    /// Writes the frame in work, syncs it as its policies ask, and answers (LOG-5, LOG-6).
    fn commit_draft(&mut self) {
        if self.draft.staged.is_empty() {
            return;
        }
        if self.draft.parts.is_empty() {
            // Nothing but duplicates: their originals are acknowledged.
            self.answer(|_| true);
            self.draft = Draft::default();
            return;
        }
        if let Err(cause) = self.write_draft() {
            let cause = self.fence(cause);
            for staged in std::mem::take(&mut self.draft).staged {
                staged.submission.refuse(cause.clone());
            }
        }
        self.draft = Draft::default();
    }

    fn write_draft(&mut self) -> Result<(), FenceCause> {
        let (items, effects): (Vec<Item>, Vec<Effect>) =
            std::mem::take(&mut self.draft.parts).into_iter().unzip();
        let wall_ms = self.shared.env.clock.wall_ms();
        let place = self.writer.write(&items, wall_ms, self.running_ms())?;
        let batches = effects.iter().filter(|effect| matches!(effect, Effect::Batch(_))).count();
        self.shared.counters.wrote(u64::from(place.blocks) * BLOCK, batches);
        // All of the frame waits for the sync where a policy changes in it, so that no batch is
        // seen before one that stands in front of it (LOG-6), and where a transaction ends, which
        // is seen in all of its partitions at once (LOG-9).
        let may_be_early = !effects.iter().any(|effect| match effect {
            Effect::Flush { .. } => true,
            Effect::Batch(batch) => batch.is_marker(),
            _ => false,
        });
        let is_seen = |effect| planted(Planted::ShownBeforeDurable) || self.is_early(effect);
        let early: Vec<bool> =
            effects.iter().map(|effect| may_be_early && is_seen(effect)).collect();
        self.publish(&effects, &place, |index| early[index]);
        self.answer(|staged| may_be_early && staged.early);
        if planted(Planted::AckBeforeFsync) {
            self.publish(&effects, &place, |index| !early[index]);
            self.answer(|_| true);
            return self.sync();
        }
        if self.draft.needs_sync {
            self.sync()?;
            self.unsynced_since = None;
        } else if self.draft.every_second && self.unsynced_since.is_none() {
            self.unsynced_since = Some(self.shared.env.clock.monotonic());
        }
        self.publish(&effects, &place, |index| !early[index]);
        self.answer(|_| true);
        self.shared.acknowledged(self.writer.next_frame - 1, &effects);
        Ok(())
    }

    /// Makes all frames durable, and takes the time.
    fn sync(&mut self) -> Result<(), FenceCause> {
        let clock = &self.shared.env.clock;
        let begun = clock.monotonic();
        self.writer.sync()?;
        self.shared.counters.synced(clock.monotonic().saturating_sub(begun));
        Ok(())
    }

    /// Whether readers see it with the write already: a batch under an unsafe policy, in a
    /// partition that they know of.
    fn is_early(&self, effect: &Effect) -> bool {
        let Effect::Batch(batch) = effect else { return false };
        self.staging.flush(batch.id).is_some() && self.shared.view.partition(batch.id).is_some()
    }

    fn publish(&mut self, effects: &[Effect], place: &Place, which: impl Fn(usize) -> bool) {
        for (_, effect) in effects.iter().enumerate().filter(|(index, _)| which(*index)) {
            self.shared.view.apply(effect, place);
            if matches!(effect, Effect::Delete { .. } | Effect::LogStart { .. }) {
                self.shared.mover.note_garbage();
                self.giving_back.note_removed();
            }
        }
    }

    fn answer(&mut self, whom: impl Fn(&Staged) -> bool) {
        let (ready, rest): (Vec<Staged>, Vec<Staged>) =
            std::mem::take(&mut self.draft.staged).into_iter().partition(whom);
        self.draft.staged = rest;
        for staged in ready {
            // Who has stopped waiting is not told (LOG-8).
            match (staged.submission.reply, staged.ids) {
                (Reply::Commit(to), _) => {
                    let _ = to.send(Ok(Committed { appended: staged.appended }));
                }
                (Reply::ProducerIds { to, .. }, Some(ids)) => {
                    let _ = to.send(Ok(ids));
                }
                (Reply::Accept { to, .. }, _) => {
                    let _ = to.send(Ok(()));
                }
                (Reply::Producers { .. }, _) => unreachable!("they are not staged"),
                (Reply::ProducerIds { .. }, None) => unreachable!("ids are staged with a block"),
            }
        }
    }

    /// Goes on with producer ids that cannot have been given, durably before anything is served:
    /// by another log that this one was copied to or from, or in a block that was lost.
    pub(crate) fn move_producer_ids(&mut self, random: u64) {
        self.staging.move_producer_ids(random);
        let effect = Effect::ProducerIds(self.staging.take_producer_ids(1));
        self.write_alone(effect);
    }

    /// After a start that was not clean: a new leader epoch for every partition, durable before
    /// anything is served (storage rule 11).
    pub(crate) fn raise_epochs(&mut self) {
        if self.staging.partitions.is_empty() {
            return;
        }
        self.write_alone(Effect::EpochRaise);
    }

    /// Makes an effect durable before anything is served; else the fence says so.
    fn write_alone(&mut self, effect: Effect) {
        let item = effect.to_item();
        let room = self.room(frame_bytes(1, item.payload.len()), Purpose::Small);
        if room.is_err() {
            // A full disk is one more reason not to go on: the fence says so.
            self.fence(FenceCause::Write("no room to begin".into()));
            return;
        }
        self.staging.apply(&effect, None, self.running_ms());
        self.draft.parts.push((item, effect));
        self.draft.needs_sync = true;
        if let Err(cause) = self.write_draft() {
            self.fence(cause);
        }
        self.draft = Draft::default();
    }

    /// Latches the first failure (LOG-7).
    pub(crate) fn fence(&self, cause: FenceCause) -> CommitCause {
        CommitCause::Fenced(self.shared.fence(cause))
    }

    fn sync_if_due(&mut self) {
        let now = self.shared.env.clock.monotonic();
        let due = self.unsynced_since.is_some_and(|since| now >= since + EVERY_SECOND);
        if due && self.shared.fenced().is_none() {
            self.unsynced_since = None;
            if let Err(cause) = self.sync() {
                self.fence(cause);
            }
        }
    }

    /// How long the thread may wait for commits before it calls [`Committer::idle`].
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.shared.fenced().is_some() {
            return None;
        }
        let now = self.shared.env.clock.monotonic();
        let until = |at: Duration| at.saturating_sub(now).max(Duration::from_millis(1));
        let mark = self.unmarked_since.map(|since| until(since + self.shared.config.mark_after));
        let sync = self.unsynced_since.map(|since| until(since + EVERY_SECOND));
        let space = self.giving_back.patience(self.shared.ballast.is_disk_full());
        [mark, sync, space].into_iter().flatten().min()
    }

    /// Does what is due while nothing is queued: the sync of every second, the durable mark, what a
    /// full disk can be given back.
    pub(crate) fn idle(&mut self) {
        self.give_back();
        self.sync_if_due();
        self.mark_if_due();
    }

    /// The next frame says of the last one that it is durable, but none may come, or those that did
    /// may be what is damaged (MARK-3).
    fn mark_if_due(&mut self) {
        if self.marked.durable_through >= self.writer.durable_through {
            return;
        }
        let now = self.shared.env.clock.monotonic();
        let since = *self.unmarked_since.get_or_insert(now);
        if now >= since + self.shared.config.mark_after {
            self.write_mark(false);
        }
    }

    /// Makes what is known to be durable known on disk.
    pub(crate) fn write_mark(&mut self, clean: bool) {
        if self.shared.fenced().is_some() {
            return;
        }
        let mark = Mark {
            open_count: self.shared.identity.open_count,
            durable_through: self.writer.durable_through + u64::from(planted(Planted::MarkAhead)),
            segment: self.writer.active.sequence,
            clean,
            end_lost: false,
            running_ms: self.running_ms(),
            wall_ms: self.shared.wall_clock.last_believed_ms(),
        };
        match self.marks.write_both(&mark) {
            // MARK-3
            Ok(()) => (self.marked, self.unmarked_since) = (mark, None),
            Err(error) => {
                self.fence(sync_fault(&error));
            }
        }
    }

    /// Ends in order: everything synced, the mark says so.
    pub(crate) fn close(&mut self) -> Result<(), CloseError> {
        if self.shared.fenced().is_none() {
            match self.writer.sync() {
                Ok(()) => self.write_mark(true),
                Err(cause) => {
                    self.fence(cause);
                }
            }
        }
        self.shared.fenced().map_or(Ok(()), |fenced| Err(CloseError::Fenced(fenced)))
    }

    /// Refuses what was in work when the thread panicked.
    pub(crate) fn refuse_all(&mut self, cause: &CommitCause) {
        for staged in std::mem::take(&mut self.draft).staged {
            staged.submission.refuse(cause.clone());
        }
        for submission in std::mem::take(&mut self.waiting) {
            submission.refuse(cause.clone());
        }
    }
}
