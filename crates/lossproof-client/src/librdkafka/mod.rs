//! The clients on librdkafka.
//!
//! # Invariants
//! - RDKAFKA-1: the safety settings (idempotence, acks=all, no time-out of messages, no commit, no
//!   stored offset and no offset reset by itself) cannot be overridden; trying is an error.
//! - RDKAFKA-2: every token that was accepted comes back exactly once.
//! - RDKAFKA-3: a partition is read only from an offset that [`crate::Rebalance::assigned`] gave,
//!   and a record of a partition that is not assigned is never returned.
//!
//! Behind an error of reading that could hide a skipped record, nothing is returned
//! any more.
//!
//! librdkafka owns its sockets, threads and clock; the rest of lossproof sees them through
//! [`crate::LogProducer`], [`crate::LogConsumer`] and [`crate::Admin`] only. Its batch API for
//! consumers is not used (it skips records around pause and errors), nor its own commits.

mod admin;
mod consumer;
mod producer;
mod settings;

pub use settings::{
    ClientSettings, ConsumerSettings, DeliverySafety, ProducerSettings, SettingsError,
};

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ::rdkafka::ClientContext;
use ::rdkafka::config::RDKafkaLogLevel;
use ::rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::{Admin, LogConsumer, LogProducer};

/// A producer; does not wait for a broker.
pub fn producer(settings: &ProducerSettings) -> Result<Box<dyn LogProducer>, SettingsError> {
    Ok(Box::new(producer::RdProducer::new(settings)?))
}

/// A member of a group; joins it with the first polls.
pub fn consumer(settings: &ConsumerSettings) -> Result<Box<dyn LogConsumer>, SettingsError> {
    Ok(Box::new(consumer::RdConsumer::new(settings)?))
}

/// Questions to the cluster; does not wait for a broker.
pub fn admin(settings: &ClientSettings) -> Result<Box<dyn Admin>, SettingsError> {
    Ok(Box::new(admin::RdAdmin::new(settings)?))
}

/// Passes librdkafka's log lines on to `tracing`.
#[derive(Debug, Default)]
struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        error_line(&error, reason);
    }
}

impl ::rdkafka::consumer::ConsumerContext for Logging {}

fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Of a cluster that is away librdkafka tells with each try to connect, tens of times a second; its
/// own log lines ([`log_line`]) say the same, with the address, and leave out what they have said.
fn error_line(error: &KafkaError, reason: &str) {
    let is_away = matches!(
        error.rdkafka_error_code(),
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve)
    );
    if is_away {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    } else {
        tracing::warn!(target: "librdkafka", "{error}: {reason}");
    }
}

/// Ends a client whose destructor may hang, on a thread of its own. False when it has not ended
/// within `timeout`: it is left behind, and the process goes on without it.
fn end_within<T: Send + 'static>(client: T, timeout: Duration) -> bool {
    let (ended, wait) = mpsc::channel();
    let spawned = thread::Builder::new().name("client-end".into()).spawn(move || {
        drop(client);
        // Nobody listens any more when the time-out has passed.
        let _ = ended.send(());
    });
    let in_time = spawned.is_ok() && wait.recv_timeout(timeout).is_ok();
    if !in_time {
        tracing::warn!("librdkafka did not end within {timeout:?}; left behind");
    }
    in_time
}
