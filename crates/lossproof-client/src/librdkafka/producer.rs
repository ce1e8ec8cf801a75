use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ::rdkafka::ClientContext;
use ::rdkafka::Message;
use ::rdkafka::config::RDKafkaLogLevel;
use ::rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use ::rdkafka::message::{Header, OwnedHeaders};
use ::rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig,
};

use super::{
    ClientSettings, ProducerSettings, SettingsError, admin, end_within, error_line, log_line,
};
use crate::{
    ConsumeError, Delivery, DeliveryError, LogProducer, Record, SendCause, SendError, Stored,
};

/// One wait in the library; only who closes the producer waits for its end.
const LIBRARY_WAIT: Duration = Duration::from_millis(250);
/// Reports taken in one go; more stay for the next poll.
const REPORTS_PER_POLL_MAX: usize = 10_000;
/// Waits after a purge, for the reports of what was purged.
const PURGE_WAIT: Duration = Duration::from_millis(20);
const PURGE_WAITS_MAX: usize = 250;
/// How long the library may take to end its threads.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Collects delivery reports. They come on a thread of the producer's own, which waits in the
/// library: the library's poll never returns before its time-out and spins through the last part
/// of a millisecond of it, so that whoever polled in small steps would burn half a processor.
#[derive(Debug, Default)]
struct Reports {
    queue: Mutex<VecDeque<Delivery>>,
    arrived: Condvar,
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Delivery>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are there, or come within `timeout`.
    fn take(&self, timeout: Duration) -> Vec<Delivery> {
        let waited =
            self.arrived.wait_timeout_while(self.lock(), timeout, |queue| queue.is_empty());
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let count = queue.len().min(REPORTS_PER_POLL_MAX);
        queue.drain(..count).collect()
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        error_line(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let outcome = match result {
            Ok(message) => Ok(Stored { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(delivery_error(error)),
        };
        let delivery = Delivery { token: token as u64, outcome };
        self.lock().push_back(delivery);
        self.arrived.notify_one();
    }
}

/// What a failed report says of the log. What is not known for sure counts as unknown.
fn delivery_error(error: &KafkaError) -> DeliveryError {
    let detail = error.to_string();
    match error.rdkafka_error_code() {
        // Never sent, or refused by the broker before anything was appended; may pass later.
        Some(
            Code::PurgeQueue
            | Code::TimedOutQueue
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::NotEnoughReplicas
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable,
        ) => DeliveryError::NotStored { detail },
        Some(
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::PolicyViolation
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType,
        ) => DeliveryError::Refused { detail },
        Some(Code::Fatal | Code::GaplessGuarantee | Code::Fenced | Code::ProducerFenced) => {
            DeliveryError::Fatal { detail }
        }
        _ => DeliveryError::Unknown { detail },
    }
}

/// A producer, and the thread that serves it until this is dropped.
struct Served {
    producer: Arc<BaseProducer<Reports>>,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(producer: BaseProducer<Reports>) -> std::io::Result<Self> {
        let (producer, is_ending) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let (served, told) = (Arc::clone(&producer), Arc::clone(&is_ending));
        let thread = Builder::new().name("reports".into()).spawn(move || {
            while !told.load(Ordering::Acquire) {
                served.poll(LIBRARY_WAIT);
            }
        })?;
        Ok(Self { producer, is_ending, thread: Some(thread) })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that takes delivery reports has panicked");
        }
    }
}

pub(super) struct RdProducer {
    client: ClientSettings,
    served: Served,
    /// Accepted, and not returned by `poll` yet.
    outstanding: HashSet<u64>,
}

impl std::fmt::Debug for RdProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdProducer")
            .field("outstanding", &self.outstanding.len())
            .finish_non_exhaustive()
    }
}

impl RdProducer {
    pub(super) fn new(settings: &ProducerSettings) -> Result<Self, SettingsError> {
        let producer = settings.config()?.create_with_context(Reports::default())?;
        let served = Served::start(producer);
        let served =
            served.map_err(|error| SettingsError::Refused { detail: error.to_string() })?;
        Ok(Self { client: settings.client.clone(), served, outstanding: HashSet::new() })
    }

    /// RDKAFKA-2: only the first report of a token that is outstanding counts.
    fn take(&mut self, timeout: Duration) -> Vec<Delivery> {
        let mut reports = self.served.producer.context().take(timeout);
        reports.retain(|delivery| self.outstanding.remove(&delivery.token));
        reports
    }

    fn purge(&mut self, what: PurgeConfig) -> Vec<Delivery> {
        self.served.producer.purge(what);
        let mut outcomes = Vec::new();
        for _ in 0..PURGE_WAITS_MAX {
            if self.outstanding.is_empty() {
                break;
            }
            let taken = self.take(PURGE_WAIT);
            if taken.is_empty() {
                break;
            }
            outcomes.extend(taken);
        }
        outcomes
    }
}

fn send_cause(error: &KafkaError) -> SendCause {
    let detail = error.to_string();
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => SendCause::QueueFull,
        Some(Code::MessageSizeTooLarge) => SendCause::TooLarge,
        Some(Code::Fatal | Code::Fenced | Code::ProducerFenced) => SendCause::Fatal,
        Some(Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
            SendCause::Unavailable { detail }
        }
        _ => SendCause::Refused { detail },
    }
}

impl LogProducer for RdProducer {
    fn send(&mut self, record: Record, token: u64) -> Result<(), SendError> {
        let refuse = |record, cause| Err(SendError { record: Box::new(record), cause });
        let Ok(opaque) = usize::try_from(token) else {
            let detail = format!("token {token} does not fit into a pointer");
            return refuse(record, SendCause::Refused { detail });
        };
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_deref() });
        }
        let outcome = {
            let mut message: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(&record.topic, opaque)
                    .partition(record.partition)
                    .headers(headers);
            if let Some(timestamp_ms) = record.timestamp_ms {
                message = message.timestamp(timestamp_ms);
            }
            if let Some(key) = &record.key {
                message = message.key(key);
            }
            if let Some(value) = &record.value {
                message = message.payload(value);
            }
            self.served.producer.send(message).map_err(|(error, _)| error)
        };
        match outcome {
            Ok(()) => {
                self.outstanding.insert(token);
                Ok(())
            }
            Err(error) => refuse(record, send_cause(&error)),
        }
    }

    fn poll(&mut self, timeout: Duration) -> Vec<Delivery> {
        self.take(timeout)
    }

    fn partition_count(&mut self, topic: &str, timeout: Duration) -> Result<i32, DeliveryError> {
        let metadata = self.served.producer.client().fetch_metadata(Some(topic), timeout);
        let unknown = |detail: String| DeliveryError::NotStored { detail };
        let metadata = metadata.map_err(|error| unknown(error.to_string()))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| unknown(format!("no metadata for topic {topic}")))?;
        if let Some(error) = found.error() {
            return Err(unknown(format!("topic {topic}: {}", Code::from(error))));
        }
        match i32::try_from(found.partitions().len()) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(unknown(format!("topic {topic} has no partitions yet"))),
        }
    }

    fn create_topic_without_retention(
        &mut self,
        topic: &str,
        timeout: Duration,
    ) -> Result<bool, DeliveryError> {
        // Of all topics: a question that names one may make it, with other settings.
        let known = self.served.producer.client().fetch_metadata(None, timeout);
        let known =
            known.map_err(|error| DeliveryError::NotStored { detail: error.to_string() })?;
        if known.topics().iter().any(|known| known.name() == topic) {
            return Ok(false);
        }
        let created = admin::create_without_retention(&self.client, topic, timeout);
        created.map_err(|error| match error {
            ConsumeError::Unreachable { detail } => DeliveryError::NotStored { detail },
            error => DeliveryError::Refused { detail: error.to_string() },
        })
    }

    fn in_flight(&self) -> usize {
        self.outstanding.len()
    }

    fn fatal(&self) -> Option<DeliveryError> {
        let (code, reason) = self.served.producer.client().fatal_error()?;
        Some(DeliveryError::Fatal { detail: format!("{code}: {reason}") })
    }

    fn close(mut self: Box<Self>, timeout: Duration) -> (Vec<Delivery>, Vec<u64>) {
        if let Err(error) = self.served.producer.flush(timeout) {
            let count = self.outstanding.len();
            tracing::info!("closing with up to {count} records unacknowledged: {error}");
        }
        let mut outcomes = Vec::new();
        loop {
            let taken = self.take(Duration::ZERO);
            if taken.is_empty() {
                break;
            }
            outcomes.extend(taken);
        }
        // What was never sent is said so; what is under way stays unknown.
        outcomes.extend(self.purge(PurgeConfig::default().queue()));
        let purged = self.purge(PurgeConfig::default().inflight());
        let mut unknown: Vec<u64> = self.outstanding.drain().collect();
        for delivery in purged {
            match delivery.outcome {
                Err(DeliveryError::Unknown { .. }) => unknown.push(delivery.token),
                _ => outcomes.push(delivery),
            }
        }
        unknown.sort_unstable();
        end_within(self.served, END_TIMEOUT);
        (outcomes, unknown)
    }
}
