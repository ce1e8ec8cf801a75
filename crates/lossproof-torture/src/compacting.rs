//! A compacted topic: its producer, which also deletes its oldest records, and its reader. It is
//! what makes the broker move batches out of the journal all the time, those of all topics, which
//! otherwise begins with 128 MiB.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig,
};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use crate::broker::PARTITIONS;
use crate::client::{self, REQUEST_TIMEOUT};
use crate::failure::{Context, Failure};
use crate::keyed::{self, Keyed};
use crate::ledger::Judgement;
use crate::load::{Ending, Shared};
use crate::payload;
use crate::transacting::{assigned, read_to_end};

pub(crate) const TOPIC: &str = "torture-compacted";
/// Whatever is written is to be compacted at once.
const TOPIC_SETTINGS: [(&str, &str); 4] = [
    // Of what is compacted only nothing can be deleted by offset.
    ("cleanup.policy", "compact,delete"),
    ("retention.ms", "-1"),
    ("min.cleanable.dirty.ratio", "0"),
    ("segment.ms", "1"),
];
const PAYLOAD_BYTES: usize = 100;
/// After so many records half of what is left of a partition is deleted.
const CUT_EVERY: u64 = 16;
/// A deletion that is not answered within this may have been done or not.
const CUT_TIME_MAX: Duration = Duration::from_secs(2);
/// A wait for an answer ends so often to see whether the load is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// With the broker up a record is answered within this.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(50);

type Admin = AdminClient<DefaultClientContext>;

fn admin(bootstrap: &str) -> Result<Admin, Failure> {
    client::consumer(bootstrap).create().context("start an admin client")
}

pub(crate) fn make_topic(bootstrap: &str) -> Result<(), Failure> {
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(1));
    let topic = TOPIC_SETTINGS.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let made = wait(admin(bootstrap)?.create_topics([&topic], &options)).context("make a topic")?;
    match made.first() {
        Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => Ok(()),
        other => Err(Failure::broken(format!("the topic {TOPIC} is not made: {other:?}"))),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The answer of the admin client, which has a time-out for each.
fn wait<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match answer.as_mut().poll(&mut task::Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => thread::park(),
        }
    }
}

/// The offset of the record that was sent last, once there is an answer.
#[derive(Default)]
struct Answer(Mutex<Option<Result<i64, Code>>>);

impl Answer {
    fn set(&self, answer: Option<Result<i64, Code>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    fn get(&self) -> Option<Result<i64, Code>> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Answer {
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Answer {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.set(Some(match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        }));
    }
}

/// Writes a few keys again and again, one record at a time, until the load is to end.
pub(crate) fn produce(shared: &Shared, compression: &str) -> Result<(), Failure> {
    let mut config = client::producer(&shared.bootstrap);
    config.set("enable.idempotence", "true").set("compression.type", compression);
    config.set("linger.ms", "0");
    let producer: BaseProducer<Answer> =
        config.create_with_context(Answer::default()).context("start a producer")?;
    let admin = admin(&shared.bootstrap)?;
    let keyed = &shared.keyed;
    while shared.ending() == Ending::NotYet {
        let number = keyed.hand_in();
        let key = keyed::key_of(number);
        let payload = payload::encode(&key, number, PAYLOAD_BYTES);
        let partition = keyed::partition_of(number);
        producer.context().set(None);
        let record = BaseRecord::to(TOPIC).partition(partition).key(&key).payload(&payload);
        match producer.send(record) {
            Ok(()) => {}
            // Nothing more comes of this producer.
            Err((error, _)) if error.rdkafka_error_code() == Some(Code::Fatal) => return Ok(()),
            Err((error, _)) => return Err(error).context(TOPIC),
        }
        let Some(offset) = answer(shared, &producer)? else { continue };
        keyed.acknowledged(number, offset);
        if number.is_multiple_of(CUT_EVERY) && offset >= 0 {
            cut(keyed, &admin, number, offset)?;
        }
    }
    Ok(())
}

/// The offset of the record that is under way; `None` where nothing is known of it.
fn answer(shared: &Shared, producer: &BaseProducer<Answer>) -> Result<Option<i64>, Failure> {
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    while Instant::now() < deadline {
        producer.poll(LOOK_INTERVAL);
        if let Some(answer) = producer.context().get() {
            return Ok(answer.ok());
        }
        if shared.ending() == Ending::Abandon {
            producer.purge(PurgeConfig::default().queue().inflight());
            return Ok(None);
        }
    }
    Err(Failure::broken(format!("{TOPIC}: a record has no answer, with the broker up")))
}

/// Deletes half of what lies before a record in its partition.
fn cut(keyed: &Keyed, admin: &Admin, number: u64, offset: i64) -> Result<(), Failure> {
    let wanted = keyed.ask_cut(number, offset);
    let mut list = TopicPartitionList::new();
    let partition = keyed::partition_of(number);
    list.add_partition_offset(TOPIC, partition, Offset::Offset(wanted)).context("delete")?;
    let options = AdminOptions::new().request_timeout(Some(CUT_TIME_MAX));
    // An error leaves open whether it is done.
    if let Ok(done) = wait(admin.delete_records(&list, &options))
        && done.elements().iter().all(|element| element.error().is_ok())
    {
        keyed.cut(number, wanted);
    }
    Ok(())
}

/// Judges what is left of the topic; nothing where nothing was written to it.
pub(crate) fn verify(bootstrap: &str, keyed: &Keyed) -> Result<Judgement, Failure> {
    if keyed.is_empty() {
        return Ok(Judgement::default());
    }
    let consumer = assigned(bootstrap, TOPIC)?;
    let mut starts = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let range = consumer.fetch_watermarks(TOPIC, partition, REQUEST_TIMEOUT);
        let (start, _) = range.context(format!("watermarks of {TOPIC}-{partition}"))?;
        starts.insert(partition, start);
    }
    Ok(keyed.judge(&read_to_end(&consumer, TOPIC)?, &starts))
}
