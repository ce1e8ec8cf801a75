use std::fmt;

use bytes::Bytes;

/// Names a partition for ever: never reused, bound to one topic id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PartitionId(pub u64);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When an append to a partition is acknowledged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FlushPolicy {
    /// After the fdatasync that covers it. What was acknowledged survives a power cut.
    #[default]
    Commit,
    /// After the write; synced within a second. A power cut loses up to a second of what was
    /// acknowledged; a crash of the process alone loses nothing.
    UnsafeEverySecond,
    /// After the write; synced when the operating system likes to. A power cut loses an unknown
    /// amount of what was acknowledged.
    UnsafePageCache,
}

/// What a keyed entry is for. Each kind has a space of keys of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum StateKind {
    /// Topics, configuration.
    Metadata,
    /// Committed offsets of groups.
    Offsets,
    /// How far a producer has read its input.
    InputPosition,
    /// How far a relay has shipped.
    Cursor,
    /// Receipts of the audit that wait to be acknowledged.
    Receipt,
    /// Transactional ids and where their transactions stand.
    Transactions,
}

impl StateKind {
    pub const ALL: [Self; 6] = [
        Self::Metadata,
        Self::Offsets,
        Self::InputPosition,
        Self::Cursor,
        Self::Receipt,
        Self::Transactions,
    ];

    /// Its place among them, which is what files have.
    pub(crate) fn code(self) -> u8 {
        let at = Self::ALL.iter().position(|known| *known == self);
        at.unwrap_or_default() as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Sets or removes one keyed entry; the last value of each key is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StateChange {
    pub kind: StateKind,
    pub key: Bytes,
    /// `None` removes the key.
    pub value: Option<Bytes>,
}

/// Creation, deletion or another flush policy of a partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PartitionChange {
    Create {
        id: PartitionId,
        topic_id: [u8; 16],
        index: i32,
        flush: FlushPolicy,
    },
    /// Its batches and producers are gone with it; the id is never used again.
    Delete {
        id: PartitionId,
    },
    /// Offsets below `offset` are not read any more; at most the log end. A lower one than before
    /// changes nothing.
    LogStart {
        id: PartitionId,
        offset: i64,
    },
    /// Appends after this one are acknowledged under `flush`. When it is acknowledged, everything
    /// that was appended before is durable.
    Flush {
        id: PartitionId,
        flush: FlushPolicy,
    },
}

/// The identity of the first record of a batch; the others follow by one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LaneRange {
    pub session: u64,
    pub lane: u32,
    pub first_seq: u64,
}

/// One record batch for one partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Append {
    pub partition: PartitionId,
    /// One RecordBatch v2, validated by the caller. Base offset and leader epoch are set here,
    /// nothing else is changed.
    pub batch: Bytes,
    pub identity: Option<LaneRange>,
}

/// Whether what stands under the key of a change is newer than the change.
pub type IsOutdated = fn(&StateChange, standing: &Bytes) -> bool;

/// What becomes durable together: all of it in one frame, or nothing. Partition changes come
/// first, then appends, then state changes.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    pub partitions: Vec<PartitionChange>,
    pub appends: Vec<Append>,
    pub changes: Vec<StateChange>,
    /// Changes of which this is true when their turn comes are left out, without an error.
    pub outdated: Option<IsOutdated>,
}

impl Commit {
    /// A commit of nothing but one batch.
    pub fn append(partition: PartitionId, batch: Bytes) -> Self {
        Self { appends: vec![Append { partition, batch, identity: None }], ..Self::default() }
    }

    /// A commit of nothing but one keyed entry.
    pub fn state(kind: StateKind, key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        let change = StateChange { kind, key: key.into(), value };
        Self { changes: vec![change], ..Self::default() }
    }

    /// A commit of nothing but one partition change.
    pub fn partition(change: PartitionChange) -> Self {
        Self { partitions: vec![change], ..Self::default() }
    }

    /// Bytes that count against the queue's bound.
    pub(crate) fn weight(&self) -> usize {
        let appends: usize = self.appends.iter().map(|append| append.batch.len()).sum();
        let changes: usize = self
            .changes
            .iter()
            .map(|change| change.key.len() + change.value.as_ref().map_or(0, Bytes::len))
            .sum();
        let parts = self.partitions.len() + self.appends.len() + self.changes.len();
        appends + changes + parts * COMMIT_PART_WEIGHT
    }
}

/// About what one part of a commit takes besides its payload.
const COMMIT_PART_WEIGHT: usize = 128;

/// Where one [`Append`] went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// The producer had sent this batch before; the offsets are those of the original.
    pub duplicate: bool,
    pub log_start: i64,
}

/// A commit that is acknowledged under the policy of its partitions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Committed {
    /// In the order of [`Commit::appends`].
    pub appended: Vec<Appended>,
}

/// A block of producer ids that nobody else gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerIds {
    pub first: i64,
    pub count: u32,
}

/// What a partition remembers of an idempotent producer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerView {
    pub producer_id: i64,
    pub epoch: i16,
    /// Of its last batch; `None` after a marker that fenced its earlier epoch.
    pub last_sequence: Option<i32>,
    /// Where its open transaction begins.
    pub transaction_start: Option<i64>,
    /// Running time of the log since its last batch or marker.
    pub idle_ms: u64,
}
