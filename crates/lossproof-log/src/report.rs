use std::fmt;
use std::path::PathBuf;

use crate::accept::without;
use crate::commit::{PartitionId, StateKind};
use crate::error::OffsetRange;

/// What an open found, and what it did about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RecoveryReport {
    /// The directory was made by this open.
    pub fresh: bool,
    /// The last close was in order; leader epochs stay as they are.
    pub clean: bool,
    /// How often the directory has been opened, this time included.
    pub open_count: u64,
    /// The last frame that was kept.
    pub last_frame: u64,
    /// The last frame that was known to be durable before this open.
    pub durable_through: u64,
    /// Frames beyond that, which were written and synced anew.
    pub rewritten: u64,
    /// Acknowledged data that is damaged or gone. Never deleted.
    pub damage: Vec<Finding>,
    /// What was found damaged again, and was given up by a person before.
    pub accepted: Vec<Finding>,
    /// The end of the journal that was cut: it was never known to be durable. What was
    /// acknowledged of it, if anything, is among these ranges.
    pub in_doubt: Vec<Finding>,
}

impl RecoveryReport {
    /// Whether all that was acknowledged was there, nothing given up before.
    pub(crate) fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.accepted.is_empty()
    }

    /// Whether anything has to be looked at by a person.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.in_doubt.is_empty()
    }
}

/// A piece of the journal that was found wanting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    pub kind: FindingKind,
    /// Sequence of the segment and where in it the piece begins.
    pub segment: u64,
    pub position: u64,
    pub bytes: u64,
    /// Numbers of the frames concerned, both included.
    pub first_frame: u64,
    pub last_frame: u64,
    /// What the piece is known to have held. Where its directory is lost, the partitions that
    /// may be concerned, each "from X on" until a later batch shows the end of the gap.
    pub partitions: Vec<PartitionRange>,
    /// Keyed entries that the piece held or may have held.
    pub states: Vec<StateKind>,
    /// A copy of the bytes.
    pub quarantined: Option<PathBuf>,
}

/// What is wrong with a piece.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum FindingKind {
    /// A frame whose directory is readable, with payloads that are not.
    FrameDamaged,
    /// Frames of which not even the directory is left.
    FramesLost,
    /// The headers of a segment.
    HeaderDamaged,
    /// The file of a segment that was in use.
    SegmentMissing,
    /// Verified batches of a partition that was neither created nor deleted here, all of a segment.
    UnknownPartition,
    /// Verified batches with offsets that were given before, all of a segment and partition.
    Misplaced,
    /// Frames after the last one known to be durable that do not verify.
    TailCut,
    /// A cold file, or its end.
    ColdMissing,
    /// A frame of a cold file, found when it was read through.
    ColdDamaged,
    /// Offsets that were given, of which no trace was found.
    OffsetsMissing,
    /// Found by an earlier open, in what a checkpoint has replaced since.
    DamagedBefore,
}

impl FindingKind {
    /// Whether it is not known what the piece held.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::FramesLost | Self::HeaderDamaged | Self::SegmentMissing)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FrameDamaged => "frame-damaged",
            Self::FramesLost => "frames-lost",
            Self::HeaderDamaged => "header-damaged",
            Self::SegmentMissing => "segment-missing",
            Self::UnknownPartition => "unknown-partition",
            Self::Misplaced => "misplaced",
            Self::TailCut => "tail-cut",
            Self::ColdMissing => "cold-missing",
            Self::ColdDamaged => "cold-damaged",
            Self::OffsetsMissing => "offsets-missing",
            Self::DamagedBefore => "damaged-before",
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionRange {
    pub partition: PartitionId,
    pub range: OffsetRange,
}

/// Adds a range, to the last one where it goes on behind that.
pub(crate) fn push_joined(all: &mut Vec<PartitionRange>, next: PartitionRange) {
    match all.last_mut() {
        Some(last)
            if last.partition == next.partition
                && last.range.last.checked_add(1) == Some(next.range.first) =>
        {
            last.range.last = next.range.last;
        }
        _ => all.push(next),
    }
}

impl fmt::Display for PartitionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.partition, self.range)
    }
}

impl Finding {
    /// Damaged headers, behind which all frames are there.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.kind == FindingKind::HeaderDamaged
            && self.partitions.is_empty()
            && self.states.is_empty()
    }

    /// Whether all that `later` says of the same piece was said by this one: damage grows.
    pub(crate) fn covers(&self, later: &Self) -> bool {
        let place = |it: &Self| (it.kind, it.segment, it.position);
        let names_all = || {
            later.partitions.iter().all(|held| self.names(held))
                && StateKind::ALL.into_iter().all(|kind| later.entries(kind) <= self.entries(kind))
        };
        place(self) == place(later)
            && self.last_frame >= later.last_frame
            // Nothing else is known of such frames; where gaps end is told by those behind them.
            && (self.kind == FindingKind::FramesLost || names_all())
    }

    /// Whether it tells of all offsets of `held`.
    pub(crate) fn names(&self, held: &PartitionRange) -> bool {
        let same = self.partitions.iter().filter(|it| it.partition == held.partition);
        let mut told: Vec<OffsetRange> = same.map(|it| it.range).collect();
        told.sort_unstable();
        without(held.range, &told).is_empty()
    }

    /// How many keyed entries of a kind it tells of.
    fn entries(&self, kind: StateKind) -> usize {
        self.states.iter().filter(|it| **it == kind).count()
    }

    /// Of a file, or the beginning of one, of which it is not known what frames it held.
    pub(crate) fn whole_file(kind: FindingKind, segment: u64, bytes: u64) -> Self {
        Self {
            kind,
            segment,
            position: 0,
            bytes,
            first_frame: 0,
            last_frame: 0,
            partitions: Vec::new(),
            states: Vec::new(),
            quarantined: None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} segment={} position={} bytes={} frames={}-{}",
            self.kind, self.segment, self.position, self.bytes, self.first_frame, self.last_frame
        )?;
        for PartitionRange { partition, range } in &self.partitions {
            let last = if range.is_open() { "unknown".to_owned() } else { range.last.to_string() };
            write!(f, " partition={partition}:{}-{last}", range.first)?;
        }
        for state in &self.states {
            write!(f, " state={state:?}")?;
        }
        Ok(())
    }
}
