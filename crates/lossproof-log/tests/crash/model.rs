//! What a log holds, in the simplest form that can be compared.

use std::collections::BTreeMap;

use bytes::Bytes;
use lossproof_log::{
    AbortedTransaction, Appended, Commit, FlushPolicy, LaneRange, Log, PartitionChange,
    PartitionId, StateKind,
};

/// Base offset and leader epoch are the log's to set; everything behind them is the client's.
const CLIENT_PART_AT: usize = 16;
const EPOCH_AT: usize = 12;
/// As many batches of a producer are known again.
const WINDOW: usize = 5;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ModelBatch {
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) client_part: Bytes,
    pub(crate) identity: Option<LaneRange>,
}

#[derive(Clone, Debug)]
pub(crate) struct ModelPartition {
    pub(crate) topic_id: [u8; 16],
    pub(crate) index: i32,
    pub(crate) flush: FlushPolicy,
    pub(crate) log_start: i64,
    /// Those below the log start too: their producers' retries are known again.
    pub(crate) batches: Vec<ModelBatch>,
    /// What a log says of transactions; `None` in what the batches themselves tell of.
    told: Option<Stability>,
}

/// Last stable offset, and what was aborted, by first offset.
type Stability = (i64, Vec<AbortedTransaction>);

impl Eq for ModelPartition {}

impl PartialEq for ModelPartition {
    fn eq(&self, other: &Self) -> bool {
        let named = |it: &Self| (it.topic_id, it.index, it.flush, it.log_start);
        let same = named(self) == named(other) && self.visible().eq(other.visible());
        same && self.transactions() == other.transactions()
    }
}

impl ModelPartition {
    fn end(&self) -> i64 {
        self.batches.last().map_or(self.log_start, |batch| batch.last_offset + 1)
    }

    pub(crate) fn visible(&self) -> impl Iterator<Item = &ModelBatch> {
        self.batches.iter().filter(|batch| batch.last_offset >= self.log_start)
    }
}

/// Partitions and keyed entries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Model {
    pub(crate) partitions: BTreeMap<PartitionId, ModelPartition>,
    pub(crate) states: BTreeMap<(StateKind, Bytes), Bytes>,
}

/// What an idempotent batch says of itself: fixed places of the format, read without the code
/// under test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sequence {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: i32,
}

fn at<const N: usize>(batch: &[u8], from: usize) -> [u8; N] {
    batch[from..from + N].try_into().unwrap()
}

pub(crate) fn last_offset_delta(batch: &[u8]) -> i64 {
    i64::from(i32::from_be_bytes(at(batch, 23)))
}

/// The one record of a marker begins behind the header; the last byte of its key is the outcome.
const MARKER_OUTCOME_AT: usize = 69;
const CONTROL: u8 = 1 << 5;
const TRANSACTIONAL: u8 = 1 << 4;

fn attributes(batch: &[u8]) -> u8 {
    batch[22]
}

/// `None` for a batch without a producer, and for markers, which take no part in sequences.
pub(crate) fn sequence(batch: &[u8]) -> Option<Sequence> {
    if attributes(batch) & CONTROL != 0 {
        return None;
    }
    producer(batch)
}

fn producer(batch: &[u8]) -> Option<Sequence> {
    let found = Sequence {
        producer_id: i64::from_be_bytes(at(batch, 43)),
        epoch: i16::from_be_bytes(at(batch, 51)),
        first: i32::from_be_bytes(at(batch, 53)),
    };
    (found.producer_id >= 0).then_some(found)
}

impl Model {
    /// Carries out a commit that the log must accept, and says what it must answer.
    pub(crate) fn apply(&mut self, commit: &Commit) -> Vec<Appended> {
        for change in &commit.partitions {
            match change {
                PartitionChange::Create { id, topic_id, index, flush } => {
                    let (topic_id, index, flush) = (*topic_id, *index, *flush);
                    let (log_start, batches, told) = (0, Vec::new(), None);
                    let partition =
                        ModelPartition { topic_id, index, flush, log_start, batches, told };
                    assert!(self.partitions.insert(*id, partition).is_none());
                }
                PartitionChange::Delete { id } => {
                    assert!(self.partitions.remove(id).is_some());
                }
                PartitionChange::LogStart { id, offset } => {
                    let partition = self.partitions.get_mut(id).unwrap();
                    partition.log_start = partition.log_start.max(*offset);
                }
                PartitionChange::Flush { id, flush } => {
                    self.partitions.get_mut(id).unwrap().flush = *flush;
                }
            }
        }
        let mut appended = Vec::new();
        for append in &commit.appends {
            let partition = self.partitions.get_mut(&append.partition).unwrap();
            if let Some(original) = partition.original_of(&append.batch) {
                let (base_offset, last_offset) = (original.base_offset, original.last_offset);
                let log_start = partition.log_start;
                appended.push(Appended { base_offset, last_offset, duplicate: true, log_start });
                continue;
            }
            let base_offset = partition.end();
            let last_offset = base_offset + last_offset_delta(&append.batch);
            let client_part = append.batch.slice(CLIENT_PART_AT..);
            let identity = append.identity;
            partition.batches.push(ModelBatch { base_offset, last_offset, client_part, identity });
            let log_start = partition.log_start;
            appended.push(Appended { base_offset, last_offset, duplicate: false, log_start });
        }
        for change in &commit.changes {
            let key = (change.kind, change.key.clone());
            match &change.value {
                Some(value) => self.states.insert(key, value.clone()),
                None => self.states.remove(&key),
            };
        }
        appended
    }

    /// Whether a commit is acknowledged only when it is durable.
    pub(crate) fn is_safe(&self, commit: &Commit) -> bool {
        let unsafe_policy = |id: &PartitionId| {
            self.partitions.get(id).is_some_and(|it| it.flush != FlushPolicy::Commit)
        };
        !commit.partitions.is_empty()
            || !commit.changes.is_empty()
            || commit.appends.iter().any(|append| !unsafe_policy(&append.partition))
    }

    /// Reads a whole log. Everything it gives is checked on the way: dense offsets, bounds, an
    /// epoch above that of every batch of an earlier open where `raised` says so.
    pub(crate) fn observe(log: &Log, raised: bool) -> Result<Self, String> {
        let mut model = Self::default();
        for id in log.partitions() {
            let view = log.partition(id).ok_or("a listed partition is not there")?;
            if !view.damaged.is_empty() {
                return Err(format!("partition {id} is damaged: {:?}", view.damaged));
            }
            if view.log_start > view.high_watermark {
                return Err(format!("partition {id} has impossible bounds: {view:?}"));
            }
            let mut partition = ModelPartition {
                topic_id: view.topic_id,
                index: view.index,
                flush: view.flush,
                log_start: view.log_start,
                batches: Vec::new(),
                told: None,
            };
            while partition.end() < view.high_watermark {
                let from = partition.end();
                let slice = log.read(id, from, 1 << 20).map_err(|error| error.to_string())?;
                if slice.batches.is_empty() {
                    return Err(format!("partition {id} has nothing at {from}"));
                }
                for stored in &slice.batches {
                    let epoch = i32::from_be_bytes(at(&stored.bytes, EPOCH_AT));
                    if raised && epoch >= view.leader_epoch {
                        return Err(format!("partition {id} still has epoch {epoch}"));
                    }
                    partition.push(stored)?;
                }
            }
            let (last_stable, aborted) = partition.transactions();
            let found =
                log.aborted(id, view.log_start, i64::MAX).map_err(|error| error.to_string())?;
            // Of one that begins below the log start these batches do not tell.
            let is_all = view.log_start == 0;
            if is_all && (view.last_stable != last_stable || found != aborted) {
                let stable = view.last_stable;
                return Err(format!(
                    "partition {id} is stable to {stable} without {found:?}, \
                     must be {last_stable} without {aborted:?}"
                ));
            }
            partition.told = Some((view.last_stable, found));
            model.partitions.insert(id, partition);
        }
        for kind in StateKind::ALL {
            if log.state_is_damaged(kind) {
                return Err(format!("{kind:?} is damaged"));
            }
            let entries = log.state(kind).into_iter();
            model.states.extend(entries.map(|(key, value)| ((kind, key), value)));
        }
        Ok(model)
    }

    /// The batches that a producer's retry must be told from new ones by, newest last.
    pub(crate) fn windows(&self) -> BTreeMap<(PartitionId, i64), Vec<(Sequence, ModelBatch)>> {
        let mut windows: BTreeMap<_, Vec<(Sequence, ModelBatch)>> = BTreeMap::new();
        for (id, partition) in &self.partitions {
            for batch in &partition.batches {
                let sent = batch.as_sent();
                if let Some(marker) = producer(&sent).filter(|_| batch.sequence().is_none()) {
                    if let Some(window) = windows.get_mut(&(*id, marker.producer_id)) {
                        window.retain(|(older, _)| older.epoch == marker.epoch);
                    }
                    continue;
                }
                let Some(sequence) = batch.sequence() else { continue };
                let window = windows.entry((*id, sequence.producer_id)).or_default();
                window.retain(|(older, _)| older.epoch == sequence.epoch);
                window.push((sequence, batch.clone()));
                if window.len() > WINDOW {
                    window.remove(0);
                }
            }
        }
        windows.retain(|_, window| !window.is_empty());
        windows
    }
}

impl ModelBatch {
    /// The batch as its client sent it.
    pub(crate) fn as_sent(&self) -> Bytes {
        let mut bytes = vec![0; CLIENT_PART_AT];
        bytes[8..12].copy_from_slice(&(self.client_part.len() as i32 + 4).to_be_bytes());
        bytes.extend_from_slice(&self.client_part);
        bytes.into()
    }

    fn sequence(&self) -> Option<Sequence> {
        sequence(&self.as_sent())
    }
}

impl ModelPartition {
    /// As a log has told it, or as the batches tell it. What ended below the log start concerns
    /// nobody any more.
    fn transactions(&self) -> Stability {
        if let Some(told) = &self.told {
            return told.clone();
        }
        let mut open = BTreeMap::new();
        let mut aborted = Vec::new();
        for batch in &self.batches {
            let sent = batch.as_sent();
            if attributes(&sent) & TRANSACTIONAL == 0 {
                continue;
            }
            let producer_id = producer(&sent).unwrap().producer_id;
            if attributes(&sent) & CONTROL == 0 {
                open.entry(producer_id).or_insert(batch.base_offset);
            } else if let Some(first_offset) = open.remove(&producer_id)
                && sent[MARKER_OUTCOME_AT] == 0
            {
                let last_offset = batch.base_offset;
                aborted.push(AbortedTransaction { first_offset, last_offset, producer_id });
            }
        }
        aborted.retain(|it| it.last_offset >= self.log_start);
        aborted.sort_unstable();
        // Of what began below the log start nothing is left to wait for, but its end.
        let first = open.values().min().copied().unwrap_or(self.end());
        (first.max(self.log_start), aborted)
    }

    fn original_of(&self, batch: &[u8]) -> Option<&ModelBatch> {
        let wanted = sequence(batch)?;
        self.batches.iter().find(|known| known.sequence() == Some(wanted))
    }

    fn push(&mut self, stored: &lossproof_log::StoredBatch) -> Result<(), String> {
        let (base_offset, last_offset) = (stored.base_offset, stored.last_offset);
        let named = i64::from_be_bytes(at(&stored.bytes, 0));
        let delta = last_offset_delta(&stored.bytes);
        let first = self.batches.is_empty();
        let dense = base_offset == self.end() || first && base_offset < self.log_start;
        if !dense || named != base_offset || last_offset != base_offset + delta {
            return Err(format!("offsets are not dense at {base_offset}"));
        }
        let client_part = stored.bytes.slice(CLIENT_PART_AT..);
        let identity = stored.identity;
        self.batches.push(ModelBatch { base_offset, last_offset, client_part, identity });
        Ok(())
    }
}
