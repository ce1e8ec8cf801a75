use lossproof_audit::report;
use lossproof_log::{CommitCause, ReadError};
use thiserror::Error;

use crate::spool::RECORD_BYTES_MAX;

/// Why a spool does not open.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("the reporter does not open: {0}")]
    Reporter(#[from] report::OpenError),
    #[error("the journal's {what} are damaged: records could be accepted twice or forgotten")]
    Damaged { what: &'static str },
    #[error(
        "the journal holds {what} that this program cannot read: use the version that wrote it"
    )]
    UnknownState { what: &'static str },
}

/// Records that were refused. None of them counts as accepted.
#[derive(Debug, Error)]
#[error("{records} records not accepted: {cause}")]
pub struct AcceptError {
    pub records: usize,
    #[source]
    pub cause: AcceptCause,
}

#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptCause {
    #[error("the number of partitions of topic {topic} is not known yet: ask the cluster first")]
    PartitionCountUnknown { topic: String },
    #[error("record {index} has {bytes} bytes, {RECORD_BYTES_MAX} are possible")]
    TooLarge { index: usize, bytes: usize },
    #[error("the journal is full: {0}; try again when records were shipped or space was made")]
    Full(#[source] CommitCause),
    #[error("the journal takes no more records: {0}")]
    Journal(#[source] CommitCause),
    #[error("an earlier failure left it open what was accepted: open the journal again")]
    Stopped,
}

impl AcceptCause {
    /// Whether the same records may be accepted later, by this spool.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Full(_) | Self::PartitionCountUnknown { .. })
    }
}

/// Why an input cannot be gone on with where it was left.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PositionError {
    #[error(
        "the first {offset} bytes of this file are not what was accepted from it: \
         give changed input under a new file, or use a new journal"
    )]
    InputChanged { offset: u64 },
    #[error("the file ends before byte {offset}, up to which it was accepted: it was cut")]
    InputCut { offset: u64 },
    #[error(
        "line {line} was taken (accepted or refused) as it stood, without a line end, and has gone \
         on since: give the rest of the file, from line {line} on, as a new one"
    )]
    LineWentOn { line: u64 },
    #[error("the position of this input was written by a newer program: use that one")]
    UnknownState,
}

/// Why a relay stops. What is not shipped stays in the journal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RelayError {
    #[error("progress cannot be journaled: {0}")]
    Report(#[from] report::FlushError),
    #[error("the journal cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("a batch in the journal does not decode: {detail}")]
    Batch { detail: String },
    #[error("a shipped lane cannot be removed: {0}")]
    Remove(#[source] CommitCause),
}
