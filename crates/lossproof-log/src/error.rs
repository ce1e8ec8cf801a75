use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::cluster_id::ClusterId;
use crate::commit::{Commit, PartitionId};

/// A range of offsets, both ends included. `last` of `i64::MAX` means "unknown from `first` on".
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OffsetRange {
    pub first: i64,
    pub last: i64,
}

impl OffsetRange {
    pub fn contains(&self, offset: i64) -> bool {
        self.first <= offset && offset <= self.last
    }

    /// Whether the end of the range is not known.
    pub fn is_open(&self) -> bool {
        self.last == i64::MAX
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_open() {
            write!(f, "from {} on", self.first)
        } else {
            write!(f, "{} to {}", self.first, self.last)
        }
    }
}

/// Why a journal takes no more writes until it is opened anew.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FenceCause {
    /// A write failed or was short.
    Write(Arc<str>),
    /// A sync failed: what it covered may be gone, and a later success proves nothing.
    Sync(Arc<str>),
    /// The commit thread has panicked.
    Panic,
    /// The end of the journal is missing, though it is known to have been durable: new offsets
    /// could be those of lost records.
    EndLost,
}

impl fmt::Display for FenceCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(error) => write!(f, "a write failed: {error}"),
            Self::Sync(error) => write!(f, "a sync failed: {error}"),
            Self::Panic => write!(f, "the commit thread has panicked"),
            Self::EndLost => write!(f, "acknowledged data at the journal's end is missing"),
        }
    }
}

/// A latched stop of all writes. Only a new open, with its recovery, ends it; where the end is lost
/// only one that gives it up ([`LogConfig::accept_lost_end`](crate::LogConfig::accept_lost_end)).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fenced {
    pub cause: FenceCause,
    /// Wall time in milliseconds since the Unix epoch.
    pub since_ms: i64,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, since_ms } = self;
        let what_to_do = match cause {
            FenceCause::EndLost => {
                "restore it from a copy, or keep it for reading, or give the lost end up for good"
            }
            FenceCause::Write(_) | FenceCause::Sync(_) | FenceCause::Panic => "reopen it",
        };
        write!(f, "the journal takes no writes since {since_ms} ms, {what_to_do}: {cause}")
    }
}

/// What has reached its bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FullCause {
    Disk,
    Files,
    Index,
    Producers,
    Transactions,
    State,
}

impl fmt::Display for FullCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => {
                "the disk or a quota is full; writes go on by themselves when there is space"
            }
            Self::Files => {
                "too many files are open: raise the limit (ulimit -n); writes go on by themselves \
                 when one can be opened"
            }
            Self::Index => "the partition index has reached its bound",
            Self::Producers => "the number of idempotent producers has reached its bound",
            Self::Transactions => {
                "the number of open and aborted transactions that are kept has reached its bound"
            }
            Self::State => "the keyed state has reached its bound",
        })
    }
}

/// A commit that was refused, with the commit itself. Nothing of it was written, except where
/// the cause is [`CommitCause::Fenced`]: then its outcome is unknown until the next open.
#[derive(Debug, Error)]
#[error("commit refused: {cause}")]
pub struct CommitError {
    pub commit: Box<Commit>,
    #[source]
    pub cause: CommitCause,
}

/// Why a commit was refused.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum CommitCause {
    #[error("{0}")]
    Fenced(Fenced),
    #[error("{0}")]
    Full(FullCause),
    #[error("the log is closed")]
    Closed,
    #[error("partition {0} does not exist")]
    UnknownPartition(PartitionId),
    #[error("partition id {0} is or was in use, take a new one")]
    PartitionIdUsed(PartitionId),
    #[error("offset {offset} is beyond the log end {log_end} of partition {partition}")]
    OffsetOutOfRange { partition: PartitionId, offset: i64, log_end: i64 },
    #[error("partition {partition} is damaged {range}; its log end is not known")]
    Damaged { partition: PartitionId, range: OffsetRange },
    #[error("batch for partition {partition} is no record batch: {reason}")]
    InvalidBatch { partition: PartitionId, reason: &'static str },
    #[error(
        "producer {producer_id} sent sequence {found} to partition {partition}, not {expected}"
    )]
    OutOfOrderSequence { partition: PartitionId, producer_id: i64, expected: i32, found: i32 },
    #[error("producer {producer_id} is not known to partition {partition} and starts at {found}")]
    UnknownProducer { partition: PartitionId, producer_id: i64, found: i32 },
    #[error("producer {producer_id} has epoch {known} at partition {partition}, not {found}")]
    InvalidProducerEpoch { partition: PartitionId, producer_id: i64, known: i16, found: i16 },
    #[error(
        "producer {producer_id} has an open transaction in partition {partition} and sent a batch \
         outside of it"
    )]
    InTransaction { partition: PartitionId, producer_id: i64 },
    #[error("the commit takes {bytes} bytes in the journal, at most {max} are possible")]
    TooLarge { bytes: u64, max: u64 },
}

impl CommitCause {
    /// Whether the same commit may succeed later, on this open log.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

/// Why a read gave nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("partition {0} does not exist")]
    UnknownPartition(PartitionId),
    #[error("offset {offset} is outside of {log_start} to {high_watermark}")]
    OffsetOutOfRange { offset: i64, log_start: i64, high_watermark: i64 },
    #[error("offsets {range} of partition {partition} are damaged")]
    Damaged { partition: PartitionId, range: OffsetRange },
    #[error("cannot read {path}")]
    Io { path: PathBuf, source: io::Error },
}

/// Why a log does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("{path} is locked by another process: stop that one, or choose another directory")]
    Locked { path: PathBuf },
    #[error("{path} has format version {found}, this program reads up to {known}: use a newer one")]
    UnknownVersion { path: PathBuf, found: u8, known: u8 },
    #[error(
        "{directory} was copied or restored ({what}): two logs with one identity would hide \
         losses, so it is not opened"
    )]
    Moved { directory: PathBuf, what: String },
    #[error("{directory} belongs to cluster {found}, not to {wanted}")]
    OtherCluster { directory: PathBuf, found: ClusterId, wanted: ClusterId },
    #[error("{path} is damaged, and with it the identity of the log: restore it from a copy")]
    MetaDamaged { path: PathBuf },
    #[error(
        "{directory} has files of a log but no meta file that says which: mount the directory or \
         its journal where it is elsewhere, or restore it from a copy"
    )]
    MetaMissing { directory: PathBuf },
    #[error(
        "the journal in {directory} has no readable durable mark: whether acknowledged data is \
         missing cannot be told; mount the journal where it is elsewhere, or restore it from a copy"
    )]
    MarksUnreadable { directory: PathBuf },
    #[error(
        "the checkpoint in {directory} cannot be read, and what it replaces is gone: restore the \
         directory from a copy"
    )]
    CheckpointUnreadable { directory: PathBuf },
    #[error("{directory} is {found}, and not {wanted}")]
    OtherPurpose { directory: PathBuf, found: &'static str, wanted: &'static str },
    #[error("{directory} is no log's and not empty: it holds {found}")]
    Foreign { directory: PathBuf, found: String },
    #[error("{directory} holds no log: name the directory that a broker was started with")]
    NoLog { directory: PathBuf },
    #[error("the configuration is impossible: {reason}")]
    Config { reason: &'static str },
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

/// Why a close did not end well. What was acknowledged before is not touched by it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CloseError {
    #[error("{0}")]
    Fenced(Fenced),
    #[error("the log was closed before")]
    Closed,
}
