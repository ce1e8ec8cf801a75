//! What a topic asks of a batch beyond that it can be read.
//!
//! # Invariants
//!
//! - CHECK-1: a batch with one record that its topic does not take is refused as a whole, with the
//!   numbers of such records.
//! - CHECK-2: under the broker's clock the time of the append is in the stored bytes, below a
//!   checksum that is right, and in the answer.

use core::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use lossproof_wire::batch::{
    self, BatchInfo, Limits, RecordFacts, TimestampType, UNCOMPRESSED_BYTES_MAX,
};
use lossproof_wire::{BatchIndexAndErrorMessage, ErrorCode};

use super::k00_produce::{Refusal, invalid};
use crate::broker::Broker;
use crate::topic_config::TopicSettings;

/// More of them are not named: the answer stays small.
const RECORD_ERRORS_MAX: usize = 100;

/// A batch as it will be stored.
#[derive(Debug)]
pub(super) struct Stamped {
    pub(super) records: Bytes,
    /// -1: the timestamps are the producer's.
    pub(super) append_time_ms: i64,
}

/// Refuses what the topic does not take (CHECK-1), and puts the right time into the rest (CHECK-2).
pub(super) async fn check(
    broker: &Arc<Broker>,
    settings: &TopicSettings,
    info: &BatchInfo,
    records: Bytes,
) -> Result<Stamped, Refusal> {
    let now_ms = broker.env.clock.wall_ms();
    let rules = Rules::new(settings, now_ms);
    if !rules.hold(info) {
        return Err(rules.refusal(broker, records).await);
    }
    let max_timestamp = info.max_timestamp;
    let (stamped, append_time_ms) = match settings.timestamps {
        TimestampType::LogAppend => {
            let append_time_ms = broker.log.stamp_ms();
            (batch::with_append_time(&records, append_time_ms), append_time_ms)
        }
        // The index of timestamps believes the header: a claim below the truth would hide records
        // from whoever seeks by time.
        TimestampType::Create if max_timestamp != info.header.max_timestamp => {
            (batch::with_max_timestamp(&records, max_timestamp), -1)
        }
        TimestampType::Create => (Ok(records), -1),
    };
    let records = stamped.map_err(|error| invalid(&error))?;
    Ok(Stamped { records, append_time_ms })
}

/// What each record has to comply with.
#[derive(Clone, Debug)]
struct Rules {
    needs_key: bool,
    timestamps: RangeInclusive<i64>,
}

impl Rules {
    fn new(settings: &TopicSettings, now_ms: i64) -> Self {
        let timestamps = match settings.timestamps {
            // The producer's are replaced anyway.
            TimestampType::LogAppend => i64::MIN..=i64::MAX,
            TimestampType::Create => {
                now_ms.saturating_sub(settings.timestamp_before_max_ms)
                    ..=now_ms.saturating_add(settings.timestamp_after_max_ms)
            }
        };
        Self { needs_key: settings.cleanup.compact, timestamps }
    }

    fn hold(&self, info: &BatchInfo) -> bool {
        let in_time = info.min_timestamp.is_none_or(|earliest| {
            self.timestamps.contains(&earliest) && self.timestamps.contains(&info.max_timestamp)
        });
        in_time && !(self.needs_key && info.keyless > 0)
    }

    /// What is wrong with a record.
    fn fault(&self, record: RecordFacts) -> Option<(ErrorCode, String)> {
        if self.needs_key && !record.has_key {
            let message = "a compacted topic takes no record without a key".to_owned();
            return Some((ErrorCode::INVALID_RECORD, message));
        }
        let timestamp = record.timestamp.filter(|time| !self.timestamps.contains(time))?;
        let (from, to) = (self.timestamps.start(), self.timestamps.end());
        let message = format!("timestamp {timestamp} is not between {from} and {to}");
        Some((ErrorCode::INVALID_TIMESTAMP, message))
    }

    /// Reads the batch again: which records it was (BUDGET-3).
    async fn refusal(&self, broker: &Arc<Broker>, records: Bytes) -> Refusal {
        let rules = self.clone();
        let named = broker.decode(move |_| rules.name_faults(&records)).await;
        match named {
            Ok(refusal) => {
                tracing::warn!(error = refusal.message, "record batch refused");
                refusal
            }
            Err(error) => Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, error),
        }
    }

    fn name_faults(&self, records: &Bytes) -> Refusal {
        let limits = Limits {
            batch_bytes_max: records.len(),
            uncompressed_bytes_max: UNCOMPRESSED_BYTES_MAX,
        };
        let (mut errors, mut worst) = (Vec::new(), None);
        let visited = batch::visit_records(records, &limits, |record| {
            let Some((code, message)) = self.fault(record) else {
                return ControlFlow::Continue(());
            };
            // As Apache Kafka: a batch with both is refused for its timestamps.
            if worst.is_none() || code == ErrorCode::INVALID_TIMESTAMP {
                worst = Some((code, message.clone()));
            }
            errors.push(BatchIndexAndErrorMessage {
                batch_index: record.index,
                batch_index_error_message: Some(message),
            });
            if errors.len() < RECORD_ERRORS_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if let Err(error) = visited {
            return invalid(&error);
        }
        let (code, message) = worst.unwrap_or((ErrorCode::INVALID_RECORD, String::new()));
        Refusal { records: errors, ..Refusal::new(code, message) }
    }
}
