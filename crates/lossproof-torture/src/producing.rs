use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lossproof_judge::{Event, Outcome, Position};
use rdkafka::error::KafkaError;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, Message};

use crate::broker::PARTITIONS;
use crate::client::{self, TOPIC};
use crate::failure::{Context, Failure};
use crate::load::{Ending, Shared};
use crate::payload;

/// Records that a saturating producer has under way.
const WINDOW: u64 = 200;
/// A wait for room ends so often to see whether the load is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// What is under way at the end is answered within this, or the round fails.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(50);

#[derive(Clone, Debug)]
pub(crate) struct ProducerPlan {
    /// Its name in the history.
    pub(crate) process: String,
    pub(crate) idempotent: bool,
    pub(crate) compression: &'static str,
    /// One record under way at a time; else [`WINDOW`].
    pub(crate) closed: bool,
    pub(crate) payload_bytes: usize,
}

impl ProducerPlan {
    /// Does it send again what has failed, with nothing that shows it to be the same? Who has more
    /// than one record under way must not: what was sent meanwhile may be stored by then, so that
    /// the order changes, which is the client's doing. (librdkafka makes the next request before
    /// the answer to the last one, so that one in flight is no help.)
    pub(crate) fn resends(&self) -> bool {
        !self.idempotent && self.closed
    }
}

/// Writes each delivery report into the history.
struct Reports {
    process: String,
    shared: Arc<Shared>,
    under_way: Mutex<u64>,
    changed: Condvar,
    /// Since the producer last looked.
    has_failed: AtomicBool,
}

impl ClientContext for Reports {
    /// Errors of connections are what this is about; those of records are in their reports.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: usize) {
        let (outcome, position) = match result {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                self.shared.progress.note_acknowledged(partition, offset);
                (Outcome::Ok, position(partition, offset))
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                self.shared.progress.note_error(code);
                self.has_failed.store(true, Ordering::SeqCst);
                (outcome_of(code), None)
            }
        };
        self.record(sequence as u64, outcome, position);
        *self.lock() -= 1;
        self.changed.notify_all();
    }
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, u64> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, sequence: u64, outcome: Outcome, position: Option<Position>) {
        let (process, identity) = (self.process.clone(), None);
        let value = payload::value(&process, sequence);
        let event = Event::Acknowledge { process, value, outcome, identity, position };
        self.shared.recorder.record(event);
    }

    /// Waits until fewer than `window` records are under way, at most for `time_max`.
    fn wait_for_room(&self, window: u64, time_max: Duration) -> bool {
        let waited =
            self.changed.wait_timeout_while(self.lock(), time_max, |count| *count >= window);
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *count < window
    }
}

/// Where the record is said to be. An answer to a duplicate may come without a place.
fn position(partition: i32, offset: i64) -> Option<Position> {
    let partition = u32::try_from(partition).ok()?;
    (offset >= 0).then(|| Position { topic: TOPIC.to_owned(), partition, offset })
}

/// Only what the broker refuses for itself is known not to be there: whatever was purged or timed
/// out may have been sent before.
fn outcome_of(code: Code) -> Outcome {
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::UnsupportedCompressionType => Outcome::Fail,
        _ => Outcome::Info,
    }
}

/// Sends until the load is to end.
pub(crate) fn produce(plan: &ProducerPlan, shared: &Arc<Shared>) -> Result<(), Failure> {
    let reports = Reports {
        process: plan.process.clone(),
        shared: Arc::clone(shared),
        under_way: Mutex::new(0),
        changed: Condvar::new(),
        has_failed: AtomicBool::new(false),
    };
    let mut config = client::producer(&shared.bootstrap);
    config.set("enable.idempotence", if plan.idempotent { "true" } else { "false" });
    config.set("compression.type", plan.compression);
    config.set("linger.ms", if plan.closed { "0" } else { "2" });
    if !plan.idempotent && !plan.resends() {
        config.set("message.send.max.retries", "0");
    }
    let producer: ThreadedProducer<Reports> =
        config.create_with_context(reports).context("start a producer")?;
    send(plan, &producer, shared)?;
    let reports = producer.context();
    if shared.ending() == Ending::Abandon {
        producer.purge(PurgeConfig::default().queue().inflight());
        shared.recorder.record(Event::Crash { process: plan.process.clone() });
    }
    if reports.wait_for_room(1, DRAIN_TIME_MAX) {
        return Ok(());
    }
    let (left, name) = (*reports.lock(), &plan.process);
    Err(Failure::broken(format!("{name}: {left} records have no answer, with the broker up")))
}

fn send(
    plan: &ProducerPlan,
    producer: &ThreadedProducer<Reports>,
    shared: &Shared,
) -> Result<(), Failure> {
    let reports = producer.context();
    let window = if plan.closed { 1 } else { WINDOW };
    let mut sequence = 0;
    while shared.ending() == Ending::NotYet {
        if !reports.wait_for_room(window, LOOK_INTERVAL) {
            continue;
        }
        if reports.has_failed.swap(false, Ordering::SeqCst) {
            // As long as the broker refuses, more of the same would only fill the history.
            thread::sleep(LOOK_INTERVAL);
        }
        let payload = payload::encode(&plan.process, sequence, plan.payload_bytes);
        let digest = payload::parse(&payload).map(|parsed| parsed.digest);
        let (process, value) = (plan.process.clone(), payload::value(&plan.process, sequence));
        shared.recorder.record(Event::HandIn { process, value, digest });
        *reports.lock() += 1;
        let record = BaseRecord::with_opaque_to(TOPIC, sequence as usize)
            .partition((sequence % PARTITIONS as u64) as i32)
            .key(&plan.process)
            .payload(&payload);
        if let Err((error, _)) = producer.send(record) {
            *reports.lock() -= 1;
            reports.record(sequence, Outcome::Fail, None);
            match error.rdkafka_error_code() {
                // Nothing more comes of it; what it has under way is answered all the same.
                Some(Code::Fatal) => return Ok(()),
                Some(Code::QueueFull) => {}
                _ => return Err(error).context(&plan.process),
            }
        }
        sequence += 1;
    }
    Ok(())
}

/// Whether the broker takes a record now: its error where it does not, without a second try.
pub(crate) fn probe(bootstrap: &str, time_max: Duration) -> Result<Option<Code>, Failure> {
    let started = Instant::now();
    let mut config = client::producer(bootstrap);
    config.set("message.send.max.retries", "0");
    config.set("message.timeout.ms", time_max.as_millis().to_string());
    let producer: ThreadedProducer<Probe> =
        config.create_with_context(Probe::default()).context("start a probe")?;
    let record = BaseRecord::with_opaque_to(PROBE_TOPIC, 0).partition(0).key("").payload("probe");
    if let Err((error, _)) = producer.send(record) {
        return Err(error).context("send a probe");
    }
    let probe = producer.context();
    let answer = probe.answer.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = probe.changed.wait_timeout_while(answer, 2 * time_max, |it| it.is_none());
    let (answer, _) = waited.unwrap_or_else(PoisonError::into_inner);
    let code = answer.ok_or_else(|| {
        Failure::broken(format!("a probe has no answer after {:?}", started.elapsed()))
    })?;
    Ok(Some(code).filter(|code| *code != Code::NoError))
}

/// Not judged: only whether it is taken counts.
const PROBE_TOPIC: &str = "probe";

#[derive(Default)]
struct Probe {
    /// `NoError` where the record was taken.
    answer: Mutex<Option<Code>>,
    changed: Condvar,
}

impl ClientContext for Probe {
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Probe {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: usize) {
        let code = match result {
            Ok(_) => Code::NoError,
            Err((error, _)) => error.rdkafka_error_code().unwrap_or(Code::Unknown),
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
        self.changed.notify_all();
    }
}
