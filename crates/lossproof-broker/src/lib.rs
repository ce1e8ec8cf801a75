//! The broker: topics, groups and one handler per API over one [`Log`](lossproof_log::Log).
//!
//! It serves the Kafka protocol to librdkafka, to the Java clients and to whoever else speaks it.
//! What it has acknowledged is on the disk. It knows nothing of the command line, and reaches time,
//! files, sockets and randomness through [`lossproof_env`] alone.
//!
//! # Where the promises are
//!
//! - BROKER-1 to -3 in `server.rs`: start, end, connections.
//! - CONN-1 to -3 in `connection.rs`: order, and bytes that make no sense.
//! - FRAME-1, -2 and BUDGET-1 to -6: memory.
//! - SESSION-1 to -5, REMOVAL-1, -2: fetch sessions, removed offsets.
//! - PRODUCE-1 to -4, FETCH-1 to -6, OFFSETS-1 to -4, RETENTION-1, -2, TOPIC-1 to -6,
//!   GROUP-1 to -10, TRANSACTION-1 to -3, COORDINATOR-1 to -5, ACCEPTANCE-1, -2: see there.
//!
//! # Example
//! ```
//! use lossproof_broker::{BrokerConfig, Server};
//! use lossproof_env::{Environment, MemoryNet};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let directory = tempfile::tempdir()?;
//! let config = BrokerConfig::new("127.0.0.1:9092".parse()?, directory.path());
//! let server = Server::start(&Environment::real(), &MemoryNet::new(), config).await?;
//! assert_eq!(server.bootstrap_servers(), "127.0.0.1:9092");
//! server.stopper().drain();
//! server.run().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod acceptance;
mod broker;
mod budget;
mod call;
mod compaction;
mod config;
mod config_values;
mod connection;
mod error;
mod fetch_sessions;
mod frame;
mod gates;
pub mod group;
mod handlers;
mod monitor;
mod offset_expiry;
mod offsets;
mod producer_ids;
mod removal;
mod retention;
mod server;
mod settings;
#[cfg(test)]
mod tests;
mod told;
mod topic_config;
mod topics;
mod transaction;
mod turn;

pub use acceptance::{AcceptanceError, accept_losses};
pub use config::{
    BrokerConfig, CONNECTIONS_MAX, DRAIN_MAX, FETCH_BYTES_MAX, IDLE_CONNECTION,
    MEMORY_BUDGET_BYTES, MESSAGE_BYTES_MAX, PARTITIONS_DEFAULT, PARTITIONS_MAX, REQUEST_BYTES_MAX,
    STALLED_CONNECTION,
};
pub use group::GroupSettings;
pub use monitor::{Figures, GroupFigures, Monitor, OffsetFigures, Readiness, TopicFigures};
pub use server::{Server, StartError, StopError, Stopper};
pub use settings::{SettingError, settings_page};
pub use topic_config::{flush_name, parse_flush};
pub use topics::{PartitionNames, TopicsUnreadable, partition_names};
pub use transaction::TransactionSettings;
