//! The producer path: a [`Spool`] that accepts records durably, and a [`Relay`] that ships them to
//! a cluster, each until it is acknowledged or reported.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use lossproof_client::memory::Cluster;
//! use lossproof_env::Environment;
//! use lossproof_log::{Log, LogConfig};
//! use lossproof_relay::{NewRecord, Relay, Spool};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! let environment = Environment::real();
//! let (log, _) = Log::open(&environment, scratch.path(), LogConfig::small())?;
//! let spool = Arc::new(Spool::open(&environment, log)?);
//! spool.set_partition_count("news", 4)?;
//! // Durable, with an identity, once this returns.
//! let ids = spool.accept("news", &[NewRecord::value("text")], None)?;
//! assert_eq!((ids[0].lane, ids[0].seq), (0, 0));
//!
//! let cluster = Cluster::new();
//! cluster.create_topic("news", 4);
//! let connect = cluster.clone();
//! let mut relay =
//!     Relay::new(&environment, Arc::clone(&spool), Box::new(move || Ok(connect.producer())));
//! while relay.progress().waiting > 0 {
//!     relay.step(Duration::ZERO)?;
//! }
//! assert_eq!(cluster.records("news").len(), 1);
//! # Ok(())
//! # }
//! ```

mod error;
mod input;
mod lane;
mod lines;
mod partitioner;
mod relay;
mod shipping;
mod spool;
mod unsafe_memory;

pub use error::{AcceptCause, AcceptError, OpenError, PositionError, RelayError};
pub use input::{INPUT_SAMPLE_BYTES, InputPosition, KnownInput};
pub use lines::{Line, LineSplitter};
pub use partitioner::partition_of_key;
pub use relay::{
    Connect, ConnectError, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_RECORDS_MAX, Progress, Relay,
};
pub use spool::{LaneView, NewRecord, RECORD_BYTES_MAX, Spool};
pub use unsafe_memory::UnsafeMemory;
