//! What the commit thread knows ahead of the readers: it runs ahead of the disk by the frame in
//! work, and replies wait until that is durable.
//!
//! # Invariants
//! - STAGE-1: a commit is judged as a whole before any of it is applied; a refused one leaves no
//!   trace.
//! - STAGE-2: partition ids are never used twice.
//! - STAGE-3: whether a change is outdated is judged by what stands when its turn comes, in the
//!   frame in work too.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::accept::Loss;
use crate::batch::BatchHeader;
use crate::commit::{
    Append, Appended, Commit, FlushPolicy, IsOutdated, PartitionChange, PartitionId, ProducerIds,
    StateChange, StateKind,
};
use crate::config::LogConfig;
use crate::effect::{BatchPlace, Effect, batch_item};
use crate::error::{CommitCause, FullCause, OffsetRange};
use crate::frame::Item;
use crate::partition::View;
use crate::producer::{Judgement, ProducerTable};
use crate::report::PartitionRange;
use crate::state::StateTable;
use crate::transactions::Step;

/// First producer id given by a directory, below its random high half.
const FIRST_PRODUCER_ID: i64 = 1;
/// Producer ids are not negative.
const PRODUCER_ID_HALF_MAX: u64 = (1 << 31) - 1;

#[derive(Clone, Debug)]
pub(crate) struct StagedPartition {
    pub(crate) next_offset: i64,
    pub(crate) log_start: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) flush: FlushPolicy,
    /// Set where the log end is not known: nothing may be appended.
    pub(crate) closed: Option<OffsetRange>,
}

#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) partitions: HashMap<PartitionId, StagedPartition>,
    deleted: HashSet<PartitionId>,
    /// Every id up to this one was used before the checkpoint that the log was opened from.
    used_through: PartitionId,
    pub(crate) producers: ProducerTable,
    next_producer_id: i64,
}

/// What a judged commit will do.
#[derive(Debug)]
pub(crate) struct Plan {
    appends: Vec<AppendPlan>,
    /// Entries that it adds to the frame.
    pub(crate) entries: usize,
    /// Bytes of their payloads, at most.
    pub(crate) payload: usize,
    /// It brings new records: batches besides the markers of transactions.
    pub(crate) has_records: bool,
    /// It ends a transaction, which is durable before it is seen, whatever the policy (LOG-9).
    pub(crate) has_markers: bool,
}

#[derive(Clone, Copy, Debug)]
enum AppendPlan {
    New(BatchHeader),
    Duplicate { base_offset: i64, last_offset: i64 },
}

/// More than any metadata payload takes besides key and value.
const METADATA_BYTES: usize = 32;

/// What is already in the frame that is being gathered and not in the [`View`] yet.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    pub(crate) batches: usize,
    /// What the keyed state grows by, or shrinks.
    state_bytes: isize,
    /// The last word on each key.
    state: HashMap<(StateKind, Bytes), Option<Bytes>>,
}

impl Ahead {
    /// What stands under a key when the frame is through.
    fn standing(&self, view: &View, kind: StateKind, key: &Bytes) -> Option<Bytes> {
        let staged = self.state.get(&(kind, key.clone())).cloned();
        staged.unwrap_or_else(|| view.state(|table| table.get(kind, key)))
    }

    /// False: it is outdated (STAGE-3).
    fn take(&mut self, view: &View, change: &StateChange, outdated: Option<IsOutdated>) -> bool {
        let standing = self.standing(view, change.kind, &change.key);
        let is_outdated = |standing: &Bytes| outdated.is_some_and(|it| it(change, standing));
        if standing.as_ref().is_some_and(is_outdated) {
            return false;
        }
        self.state_bytes += growth(change, standing.as_ref());
        self.state.insert((change.kind, change.key.clone()), change.value.clone());
        true
    }

    /// What the keyed state grows by with `commit`, or shrinks.
    fn growth(&self, view: &View, commit: &Commit) -> isize {
        // Of a key that is named more than once the last word holds.
        let last: HashMap<(StateKind, &Bytes), &StateChange> =
            commit.changes.iter().map(|change| ((change.kind, &change.key), change)).collect();
        let each = last.into_iter().map(|((kind, key), change)| {
            let standing = self.standing(view, kind, key);
            growth(change, standing.as_ref())
        });
        each.sum()
    }
}

fn growth(change: &StateChange, standing: Option<&Bytes>) -> isize {
    let size = |value: Option<&Bytes>| value.map_or(0, |value| change.key.len() + value.len());
    // Far below the largest: memory holds them.
    size(change.value.as_ref()) as isize - size(standing) as isize
}

impl Staging {
    pub(crate) fn new(producer_id_high: u32) -> Self {
        Self {
            partitions: HashMap::new(),
            deleted: HashSet::new(),
            used_through: PartitionId(0),
            producers: ProducerTable::default(),
            next_producer_id: (i64::from(producer_id_high) << 32) + FIRST_PRODUCER_ID,
        }
    }

    /// Takes over what a checkpoint says.
    pub(crate) fn restore(&mut self, next_producer_id: i64, used_through: PartitionId) {
        self.next_producer_id = next_producer_id;
        self.used_through = used_through;
    }

    /// Whether it is known that somebody has deleted it.
    pub(crate) fn is_deleted(&self, id: PartitionId) -> bool {
        self.deleted.contains(&id)
    }

    pub(crate) fn raise_used(&mut self, id: PartitionId) {
        self.used_through = self.used_through.max(id);
    }

    pub(crate) fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Goes on in a random higher half: the journal says which ids were given last by the highest.
    pub(crate) fn move_producer_ids(&mut self, random: u64) {
        let half = (self.next_producer_id >> 32) as u64;
        let above = (PRODUCER_ID_HALF_MAX - half).max(1);
        let moved = (half + 1 + random % above).min(PRODUCER_ID_HALF_MAX);
        let moved = ((moved as i64) << 32) + FIRST_PRODUCER_ID;
        // In the highest half they only go up.
        self.next_producer_id = moved.max(self.next_producer_id);
    }

    pub(crate) fn take_producer_ids(&mut self, count: u32) -> ProducerIds {
        let ids = ProducerIds { first: self.next_producer_id, count };
        self.next_producer_id += i64::from(count);
        ids
    }

    /// Judges `commit` against everything before it; changes nothing (STAGE-1).
    pub(crate) fn judge(
        &self,
        commit: &Commit,
        view: &View,
        ahead: &Ahead,
        config: &LogConfig,
    ) -> Result<Plan, CommitCause> {
        let mut created = HashSet::new();
        let mut gone = HashSet::new();
        for change in &commit.partitions {
            match change {
                PartitionChange::Create { id, .. } => {
                    let used = *id <= self.used_through
                        || self.partitions.contains_key(id)
                        || self.deleted.contains(id);
                    if used || !created.insert(*id) {
                        return Err(CommitCause::PartitionIdUsed(*id));
                    }
                }
                PartitionChange::Delete { id } => {
                    let known = self.partitions.contains_key(id) || created.contains(id);
                    if !known || !gone.insert(*id) {
                        return Err(CommitCause::UnknownPartition(*id));
                    }
                }
                PartitionChange::LogStart { id, offset } => {
                    self.judge_log_start(*id, *offset)?;
                }
                PartitionChange::Flush { id, .. } => {
                    let known = self.partitions.contains_key(id) || created.contains(id);
                    if !known || gone.contains(id) {
                        return Err(CommitCause::UnknownPartition(*id));
                    }
                }
            }
        }
        let mut appends = Vec::with_capacity(commit.appends.len());
        let mut seen = HashSet::new();
        for append in &commit.appends {
            let exists = self.partitions.contains_key(&append.partition)
                || created.contains(&append.partition);
            if !exists || gone.contains(&append.partition) {
                return Err(CommitCause::UnknownPartition(append.partition));
            }
            let plan = self.judge_append(append)?;
            if let AppendPlan::New(header) = plan
                && header.is_idempotent()
                && commit.appends.len() > 1
                && !seen.insert((append.partition, header.producer_id))
            {
                let reason = "one commit holds two batches of its producer";
                return Err(CommitCause::InvalidBatch { partition: append.partition, reason });
            }
            appends.push(plan);
        }
        let plan = Plan::new(commit, appends);
        self.judge_bounds(commit, &plan, view, ahead, config)?;
        Ok(plan)
    }

    /// Only for partitions that are there already: a new one has nothing below its end.
    fn judge_log_start(&self, partition: PartitionId, offset: i64) -> Result<(), CommitCause> {
        let staged = self.partitions.get(&partition);
        let staged = staged.ok_or(CommitCause::UnknownPartition(partition))?;
        let log_end = staged.next_offset;
        if offset > log_end {
            return Err(CommitCause::OffsetOutOfRange { partition, offset, log_end });
        }
        Ok(())
    }

    fn judge_append(&self, append: &Append) -> Result<AppendPlan, CommitCause> {
        let partition = append.partition;
        let header = BatchHeader::parse(&append.batch)
            .map_err(|reason| CommitCause::InvalidBatch { partition, reason })?;
        if header.records == 0 {
            return Err(CommitCause::InvalidBatch { partition, reason: "it holds no records" });
        }
        if let Some(staged) = self.partitions.get(&partition) {
            if let Some(range) = staged.closed {
                return Err(CommitCause::Damaged { partition, range });
            }
            let end = staged.next_offset.checked_add(i64::from(header.last_offset_delta) + 1);
            if end.is_none() {
                let reason = "the partition has no offsets left";
                return Err(CommitCause::InvalidBatch { partition, reason });
            }
        }
        if !header.is_idempotent() {
            return Ok(AppendPlan::New(header));
        }
        Ok(match self.producers.judge(partition, &header)? {
            Judgement::First | Judgement::Next => AppendPlan::New(header),
            Judgement::Duplicate { base_offset, last_offset } => {
                AppendPlan::Duplicate { base_offset, last_offset }
            }
        })
    }

    fn judge_bounds(
        &self,
        commit: &Commit,
        plan: &Plan,
        view: &View,
        ahead: &Ahead,
        config: &LogConfig,
    ) -> Result<(), CommitCause> {
        let batches = ahead.batches + commit.appends.len();
        // The end of a transaction is let through, whose last stable offset would stand still.
        if plan.has_records && view.index_entries() + batches > config.index_entries_max {
            return Err(CommitCause::Full(FullCause::Index));
        }
        // What takes no more room than before is always let through: removals make room, and where
        // a transaction ends its own entry shrinks by the offsets that it commits.
        let grown = ahead.growth(view, commit);
        let present = view.state(StateTable::bytes).saturating_add_signed(ahead.state_bytes);
        if grown > 0 && present.saturating_add_signed(grown) > config.state_bytes_max {
            return Err(CommitCause::Full(FullCause::State));
        }
        let full = view.transactions() + batches > config.transactions_max;
        if full && self.opens_transaction(commit, plan) {
            return Err(CommitCause::Full(FullCause::Transactions));
        }
        let idempotent = |append: &&AppendPlan| match append {
            AppendPlan::New(header) => header.is_idempotent(),
            AppendPlan::Duplicate { .. } => false,
        };
        let idempotents = plan.appends.iter().filter(idempotent).count();
        if self.producers.len() + idempotents > config.producers_max && self.brings_producer(commit)
        {
            return Err(CommitCause::Full(FullCause::Producers));
        }
        Ok(())
    }

    fn opens_transaction(&self, commit: &Commit, plan: &Plan) -> bool {
        commit.appends.iter().zip(&plan.appends).any(|(append, plan)| match plan {
            AppendPlan::New(header) => {
                let producer_id = header.producer_id;
                header.part.is_some_and(|part| part.step == Step::Records)
                    && !self.producers.is_in_transaction(append.partition, producer_id)
            }
            AppendPlan::Duplicate { .. } => false,
        })
    }

    fn brings_producer(&self, commit: &Commit) -> bool {
        commit.appends.iter().any(|append| {
            BatchHeader::parse(&append.batch).is_ok_and(|header| {
                header.is_idempotent()
                    && self.producers.judge(append.partition, &header) == Ok(Judgement::First)
            })
        })
    }

    /// Carries out a plan: gives offsets, and adds what is to be written.
    pub(crate) fn stage(
        &mut self,
        commit: &Commit,
        plan: &Plan,
        now_ms: u64,
        view: &View,
        draft: (&mut Ahead, &mut Vec<(Item, Effect)>),
    ) -> Vec<Appended> {
        let (ahead, out) = draft;
        for change in &commit.partitions {
            let effect = match change {
                PartitionChange::Create { id, topic_id, index, flush } => {
                    Effect::Create { id: *id, topic_id: *topic_id, index: *index, flush: *flush }
                }
                PartitionChange::Delete { id } => Effect::Delete { id: *id },
                PartitionChange::LogStart { id, offset } => {
                    Effect::LogStart { id: *id, offset: *offset }
                }
                PartitionChange::Flush { id, flush } => Effect::Flush { id: *id, flush: *flush },
            };
            self.apply(&effect, None, now_ms);
            out.push((effect.to_item(), effect));
        }
        let appended = commit.appends.iter().zip(&plan.appends).map(|(append, plan)| match plan {
            AppendPlan::Duplicate { base_offset, last_offset } => Appended {
                base_offset: *base_offset,
                last_offset: *last_offset,
                duplicate: true,
                log_start: self.log_start(append.partition),
            },
            AppendPlan::New(header) => self.stage_batch(append, header, now_ms, out),
        });
        let appended = appended.collect();
        for change in &commit.changes {
            if !ahead.take(view, change, commit.outdated) {
                continue;
            }
            let (kind, key, value) = (change.kind, change.key.clone(), change.value.clone());
            let effect = Effect::State { kind, key, value };
            out.push((effect.to_item(), effect));
        }
        appended
    }

    fn stage_batch(
        &mut self,
        append: &Append,
        header: &BatchHeader,
        now_ms: u64,
        out: &mut Vec<(Item, Effect)>,
    ) -> Appended {
        let staged = self.partitions.get(&append.partition).expect("the commit was judged");
        let base_offset = staged.next_offset;
        let (leader_epoch, log_start) = (staged.leader_epoch, staged.log_start);
        let last_offset = base_offset + i64::from(header.last_offset_delta);
        let place = BatchPlace {
            id: append.partition,
            base_offset,
            last_offset,
            max_timestamp: header.max_timestamp,
            bytes: append.batch.len() as u32,
            part: header.part,
        };
        self.apply(&Effect::Batch(place), Some(header), now_ms);
        let item = batch_item(place, append.identity, append.batch.clone(), leader_epoch);
        out.push((item, Effect::Batch(place)));
        Appended { base_offset, last_offset, duplicate: false, log_start }
    }

    fn log_start(&self, id: PartitionId) -> i64 {
        self.partitions.get(&id).map_or(0, |staged| staged.log_start)
    }

    /// Takes over an effect, staged now or replayed from the journal.
    pub(crate) fn apply(&mut self, effect: &Effect, header: Option<&BatchHeader>, now_ms: u64) {
        match effect {
            Effect::Create { id, flush, .. } => {
                let partition = StagedPartition {
                    next_offset: 0,
                    log_start: 0,
                    leader_epoch: 0,
                    flush: *flush,
                    closed: None,
                };
                self.partitions.insert(*id, partition);
            }
            Effect::Delete { id } => {
                self.partitions.remove(id);
                self.producers.forget_partition(*id);
                self.deleted.insert(*id);
            }
            Effect::LogStart { id, offset } => {
                if let Some(partition) = self.partitions.get_mut(id) {
                    partition.log_start = partition.log_start.max(*offset);
                }
            }
            Effect::Flush { id, flush } => {
                if let Some(partition) = self.partitions.get_mut(id) {
                    partition.flush = *flush;
                }
            }
            Effect::EpochRaise => {
                for partition in self.partitions.values_mut() {
                    partition.leader_epoch += 1;
                }
            }
            Effect::ProducerIds(ids) => {
                let end = ids.first.saturating_add(i64::from(ids.count));
                self.next_producer_id = self.next_producer_id.max(end);
            }
            Effect::Batch(place) => {
                if let Some(partition) = self.partitions.get_mut(&place.id) {
                    partition.next_offset = place.last_offset + 1;
                }
                if let Some(header) = header.filter(|header| header.is_idempotent()) {
                    self.producers.record(place.id, header, place.base_offset, now_ms);
                }
            }
            Effect::AcceptOffsets { id, range, end } => {
                if let Some(partition) = self.partitions.get_mut(id) {
                    // ACCEPT-3
                    let end = end.unwrap_or(0).max(range.last + 1);
                    partition.next_offset = partition.next_offset.max(end);
                    partition.closed = partition.closed.filter(|it| !range.contains(it.first));
                }
            }
            Effect::State { .. } | Effect::AcceptState { .. } => {}
        }
    }

    /// A loss that is given up now, with what is known of it now.
    pub(crate) fn given_up(&self, loss: Loss, view: &View) -> Effect {
        match loss {
            Loss::Offsets(PartitionRange { partition: id, range }) => {
                let staged = self.partitions.get(&id);
                let is_closed = |closed: OffsetRange| !range.contains(closed.first);
                let goes_on = staged.filter(|staged| !staged.closed.is_some_and(is_closed));
                let end = goes_on.map(|staged| staged.next_offset.max(range.last + 1));
                Effect::AcceptOffsets { id, range, end }
            }
            Loss::State(kind) => {
                let missing = view.state(|table| table.missing(kind));
                Effect::AcceptState { kind, missing }
            }
        }
    }

    /// Whether any of `commit` has to be synced before it is acknowledged.
    pub(crate) fn needs_sync(&self, commit: &Commit) -> bool {
        !commit.partitions.is_empty()
            || !commit.changes.is_empty()
            || commit.appends.iter().any(|append| self.flush(append.partition).is_none())
    }

    /// `None` for `commit`, and for a partition that is gone.
    pub(crate) fn flush(&self, id: PartitionId) -> Option<FlushPolicy> {
        let flush = self.partitions.get(&id)?.flush;
        (flush != FlushPolicy::Commit).then_some(flush)
    }
}

impl Plan {
    fn new(commit: &Commit, appends: Vec<AppendPlan>) -> Self {
        let is_new = |plan: &AppendPlan| matches!(plan, AppendPlan::New(_));
        let batches = appends.iter().filter(|plan| is_new(plan)).count();
        let headers = appends.iter().filter_map(|plan| match plan {
            AppendPlan::New(header) => Some(header),
            AppendPlan::Duplicate { .. } => None,
        });
        let has_records = headers.clone().any(|header| !header.is_marker());
        let has_markers = headers.clone().any(BatchHeader::is_marker);
        let bytes = commit.appends.iter().zip(&appends);
        let bytes: usize =
            bytes.filter(|(_, plan)| is_new(plan)).map(|(append, _)| append.batch.len()).sum();
        let changes: usize = commit
            .changes
            .iter()
            .map(|change| change.key.len() + change.value.as_ref().map_or(0, bytes::Bytes::len))
            .sum();
        let small = commit.partitions.len() + commit.changes.len();
        Self {
            appends,
            entries: small + batches,
            payload: bytes + changes + small * METADATA_BYTES,
            has_records,
            has_markers,
        }
    }
}
