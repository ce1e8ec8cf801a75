//! The journal: one append-only, fsynced log for record batches and small keyed state.
//!
//! A [`Commit`] becomes durable as a whole or not at all, and is acknowledged only then. One
//! thread writes: it takes everything that queued while the last sync ran, writes it as one frame
//! and syncs once for all of it. What an open finds is judged by what is known to have been
//! durable: see [`RecoveryReport`].
//!
//! ```
//! use lossproof_env::Environment;
//! use lossproof_log::{Commit, Log, LogConfig, StateKind};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let directory = scratch.path();
//! let environment = Environment::real();
//! let (log, report) = Log::open(&environment, directory, LogConfig::default())?;
//! assert!(report.is_sound());
//! log.commit_blocking(Commit::state(StateKind::Cursor, "topic-0", Some("42".into())))?;
//! log.close_blocking()?;
//!
//! let (log, _) = Log::open(&environment, directory, LogConfig::default())?;
//! assert_eq!(log.state_value(StateKind::Cursor, b"topic-0"), Some("42".into()));
//! log.close_blocking()?;
//! # Ok(())
//! # }
//! ```

mod accept;
mod ballast;
mod batch;
mod changes;
mod check;
mod checkpoint;
mod cluster_id;
mod cold;
mod commit;
mod committer;
mod compaction;
mod config;
mod counters;
mod dump;
mod effect;
mod epochs;
mod error;
mod fold;
mod frame;
mod gather;
mod helper;
mod hidden;
mod log;
mod mark;
mod meta;
mod misfits;
mod mover;
mod open;
mod pace;
mod partition;
mod paths;
mod producer;
mod quarantine;
mod queue;
mod reader;
mod recovery;
mod report;
mod rescue;
mod restore;
mod scan;
mod scrub;
mod segment;
mod shared;
mod slots;
mod snapshot;
mod staging;
mod state;
#[cfg(test)]
mod testing;
mod transactions;
mod wall_clock;
mod waste;
mod writer;
mod zeroer;

pub use accept::{AcceptError, Loss};
pub use check::{CheckProgress, CheckReport, Checked, Flaw, FlawKind, LookedAt, check};
pub use cluster_id::ClusterId;
pub use commit::{
    Append, Appended, Commit, Committed, FlushPolicy, IsOutdated, LaneRange, PartitionChange,
    PartitionId, ProducerIds, ProducerView, StateChange, StateKind,
};
pub use compaction::{COMPACTED_BYTES_MAX, Compaction};
pub use config::{LogConfig, Purpose};
pub use counters::{Bounded, Histogram, LogFigures, ScrubFigures};
pub use dump::{DumpOptions, Field, Line, dump};
pub use epochs::EpochEnd;
pub use error::{
    CloseError, CommitCause, CommitError, FenceCause, Fenced, FullCause, OffsetRange, OpenError,
    ReadError,
};
pub use helper::{Ended, Helper};
pub use log::{Log, Stepper, TimestampedBatch, TryEnqueueError};
pub use partition::{Dirt, PartitionView};
pub use queue::Pending;
pub use reader::{Slice, StoredBatch};
pub use report::{Finding, FindingKind, PartitionRange, RecoveryReport};
pub use transactions::AbortedTransaction;
