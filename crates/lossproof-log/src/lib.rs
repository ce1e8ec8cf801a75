//! The journal: one append-only, fsynced log for record batches and small keyed state.

mod commit;
mod config;
mod error;

pub use commit::{
    Append, Appended, Commit, Committed, FlushPolicy, LaneRange, PartitionChange, PartitionId,
    ProducerIds, StateChange, StateKind,
};
pub use config::LogConfig;
pub use error::{
    CloseError, CommitCause, CommitError, FenceCause, Fenced, FullCause, OffsetRange, OpenError,
    ReadError,
};
