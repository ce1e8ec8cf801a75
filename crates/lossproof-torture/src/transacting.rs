//! The transactional producer, and the reader of committed records.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{
    BaseRecord, DefaultProducerContext, Producer, PurgeConfig, ThreadedProducer,
};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::broker::PARTITIONS;
use crate::client::{self, REQUEST_TIMEOUT};
use crate::failure::{Context, Failure};
use crate::ledger::{self, Judgement, Ledger, Seen};
use crate::load::{Ending, Shared};
use crate::payload;
use crate::random::Random;

/// Its own: markers take offsets, which the judge of the other topic would call gaps.
pub(crate) const TOPIC: &str = "torture-transactions";
const GROUP: &str = "torture-transactions-group";
const ID: &str = "torture";
/// Whoever holds a transaction open for longer is fenced; a broker that is away may take so long.
const TRANSACTION_TIMEOUT_MS: &str = "30000";
/// A call ends so often to see whether the load is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// With the broker up every call comes to its end within this.
const CALL_TIME_MAX: Duration = Duration::from_secs(50);
const RECORDS: (u64, u64) = (1, 30);
const BYTES: (u64, u64) = (20, 600);
/// One transaction in so many is aborted.
const ABORT_EVERY: u64 = 3;
const POLL: Duration = Duration::from_millis(20);

type Client = ThreadedProducer<DefaultProducerContext>;

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Done,
    /// The transaction can only be aborted.
    Abort,
    /// The producer can not go on, or is not to.
    Over,
}

/// Transactions, one after the other, until the load is to end; a producer that cannot go on is
/// followed by a new one, as when an application is started again.
pub(crate) fn transact(
    shared: &Arc<Shared>,
    compression: &str,
    mut random: Random,
) -> Result<(), Failure> {
    let consumer = consumer(&shared.bootstrap).create::<BaseConsumer>();
    let consumer = consumer.context("start a consumer")?;
    let group = consumer.group_metadata().ok_or_else(|| Failure::broken("no group"))?;
    while shared.ending() == Ending::NotYet {
        let client = producer(&shared.bootstrap, compression)?;
        let mut step = attempt(shared, || client.init_transactions(LOOK_INTERVAL))?;
        while step == Step::Done && shared.ending() == Ending::NotYet {
            step = transaction(shared, &client, &group, &mut random)?;
        }
        client.purge(PurgeConfig::default().queue().inflight());
        thread::sleep(RETRY_PAUSE);
    }
    Ok(())
}

fn producer(bootstrap: &str, compression: &str) -> Result<Client, Failure> {
    let mut config = client::producer(bootstrap);
    config.set("transactional.id", ID).set("compression.type", compression);
    config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
    config.set("message.timeout.ms", TRANSACTION_TIMEOUT_MS).set("linger.ms", "1");
    config.create().context("start a transactional producer")
}

fn consumer(bootstrap: &str) -> rdkafka::ClientConfig {
    let mut config = client::consumer(bootstrap);
    config.set("group.id", GROUP).set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true");
    config
}

/// Calls again what a client is told to call again, while the broker may come back.
fn attempt(shared: &Shared, call: impl FnMut() -> KafkaResult<()>) -> Result<Step, Failure> {
    until_answered(|| shared.ending(), CALL_TIME_MAX, answers(call))
}

/// `None` where the client is told to call again.
fn answers(mut call: impl FnMut() -> KafkaResult<()>) -> impl FnMut() -> Option<Step> {
    move || match call() {
        Ok(()) => Some(Step::Done),
        Err(KafkaError::Transaction(error)) if error.is_retriable() => None,
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => Some(Step::Abort),
        Err(_) => Some(Step::Over),
    }
}

/// While a fault may be in force, nobody knows how long an answer takes. Once the load is to end
/// the broker is up: then one that does not come means that it is stuck.
fn until_answered(
    ending: impl Fn() -> Ending,
    time_max: Duration,
    mut call: impl FnMut() -> Option<Step>,
) -> Result<Step, Failure> {
    let mut up_since = None;
    loop {
        if let Some(step) = call() {
            return Ok(step);
        }
        match ending() {
            Ending::NotYet => {}
            Ending::Abandon => return Ok(Step::Over),
            Ending::Drain => {
                if up_since.get_or_insert_with(Instant::now).elapsed() >= time_max {
                    return Err(Failure::broken(
                        "a call of a transaction has no answer, with the broker up",
                    ));
                }
            }
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// Records in all partitions and an offset of the group, committed or aborted together.
fn transaction(
    shared: &Shared,
    client: &Client,
    group: &ConsumerGroupMetadata,
    random: &mut Random,
) -> Result<Step, Failure> {
    let records = random.between(RECORDS.0, RECORDS.1);
    let bytes = random.between(BYTES.0, BYTES.1) as usize;
    let aborts = random.between(0, ABORT_EVERY) == 0;
    let ledger = &shared.ledger;
    let number = ledger.begin(records);
    if client.begin_transaction().is_err() {
        return Ok(Step::Over);
    }
    let name = ledger::name(number);
    for sequence in 0..records {
        let payload = payload::encode(&name, sequence, bytes);
        let partition = (sequence % PARTITIONS as u64) as i32;
        let record = BaseRecord::to(TOPIC).partition(partition).key(&name).payload(&payload);
        if client.send(record).is_err() {
            return abort(shared, client, number);
        }
    }
    let mut places = TopicPartitionList::new();
    let place = Offset::Offset(ledger.next_place());
    places.add_partition_offset(TOPIC, 0, place).context("an offset")?;
    let mut step = flush(shared, client)?;
    if step == Step::Done {
        let send = || client.send_offsets_to_transaction(&places, group, LOOK_INTERVAL);
        step = attempt(shared, send)?;
    }
    match step {
        Step::Done if !aborts => {}
        Step::Over => return Ok(Step::Over),
        Step::Done | Step::Abort => return abort(shared, client, number),
    }
    ledger.ask(number);
    match attempt(shared, || client.commit_transaction(LOOK_INTERVAL))? {
        Step::Done => {
            ledger.committed(number);
            Ok(Step::Done)
        }
        Step::Abort => abort(shared, client, number),
        Step::Over => Ok(Step::Over),
    }
}

fn abort(shared: &Shared, client: &Client, number: u64) -> Result<Step, Failure> {
    let step = attempt(shared, || client.abort_transaction(LOOK_INTERVAL))?;
    if step == Step::Done {
        shared.ledger.aborted(number);
    }
    Ok(step)
}

/// Until all records have an answer: the place of the group must be in the log.
fn flush(shared: &Shared, client: &Client) -> Result<Step, Failure> {
    let flush = || client.flush(LOOK_INTERVAL).is_ok().then_some(Step::Done);
    until_answered(|| shared.ending(), CALL_TIME_MAX, flush)
}

/// Ends what a producer that died has left open: who takes its id fences it.
fn fence(bootstrap: &str) -> Result<(), Failure> {
    let client = producer(bootstrap, "none")?;
    let take = answers(|| client.init_transactions(LOOK_INTERVAL));
    match until_answered(|| Ending::Drain, CALL_TIME_MAX, take)? {
        Step::Done => Ok(()),
        step => Err(Failure::broken(format!("nobody can take the transactional id: {step:?}"))),
    }
}

/// A reader of committed records, at the beginning of all partitions of a topic.
pub(crate) fn assigned(bootstrap: &str, topic: &str) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = consumer(bootstrap).create().context("start a consumer")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).context("assign")?;
    }
    consumer.assign(&list).context("assign")?;
    Ok(consumer)
}

fn seen(message: &impl Message) -> Seen {
    // What does not prove itself has a name that no record has.
    let value = payload::of(message).map_or_else(|| "unreadable".to_owned(), |it| it.value);
    (message.partition(), message.offset(), value)
}

/// Writes down what is shown while the load lasts.
pub(crate) fn read_tail(shared: &Arc<Shared>) -> Result<(), Failure> {
    let consumer = assigned(&shared.bootstrap, TOPIC)?;
    while shared.ending() == Ending::NotYet {
        if let Some(Ok(message)) = consumer.poll(POLL) {
            shared.ledger.show(seen(&message));
        }
    }
    Ok(())
}

/// Judges all that is committed, and the place of the group; nothing where nothing was begun.
pub(crate) fn verify(bootstrap: &str, ledger: &Ledger) -> Result<Judgement, Failure> {
    if ledger.is_empty() {
        return Ok(Judgement::default());
    }
    fence(bootstrap)?;
    let consumer = assigned(bootstrap, TOPIC)?;
    let read = read_to_end(&consumer, TOPIC)?;
    let mut list = TopicPartitionList::new();
    list.add_partition(TOPIC, 0);
    let answer = consumer.committed_offsets(list, REQUEST_TIMEOUT).context("committed offsets")?;
    let mut place = None;
    for element in answer.elements() {
        element.error().context("a committed offset")?;
        if let Offset::Offset(offset) = element.offset() {
            place = Some(offset);
        }
    }
    Ok(ledger.judge(&read, place))
}

/// What is shown as committed: all of it in the `whole` partitions, and what comes meanwhile of the
/// others, which have no end that could be waited for.
pub(crate) fn read(bootstrap: &str, whole: BTreeSet<i32>) -> Result<Vec<Seen>, Failure> {
    read_ends(&assigned(bootstrap, TOPIC)?, TOPIC, whole)
}

/// Reads all partitions of the topic that the consumer was assigned to.
pub(crate) fn read_to_end(consumer: &BaseConsumer, topic: &str) -> Result<Vec<Seen>, Failure> {
    read_ends(consumer, topic, (0..PARTITIONS).collect())
}

fn read_ends(
    consumer: &BaseConsumer,
    topic: &str,
    mut open: BTreeSet<i32>,
) -> Result<Vec<Seen>, Failure> {
    let deadline = Instant::now() + CALL_TIME_MAX;
    let (mut read, mut last_error) = (Vec::new(), None);
    while !open.is_empty() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => read.push(seen(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => last_error = Some(error),
            None => {}
        }
        if Instant::now() >= deadline {
            return Err(Failure::broken(format!(
                "{topic}: {open:?} are not read to their end; last error: {last_error:?}"
            )));
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn with_the_broker_up_a_call_without_an_answer_is_a_failure() {
        let call = |endings: &[Ending], answer: Option<Step>| {
            let calls = Cell::new(0);
            let ending = || endings[calls.get().min(endings.len()) - 1];
            until_answered(ending, Duration::ZERO, || {
                calls.set(calls.get() + 1);
                answer.filter(|_| calls.get() == endings.len())
            })
        };
        let away = [Ending::NotYet; 3];
        assert_eq!(call(&away, Some(Step::Abort)).unwrap(), Step::Abort);
        assert_eq!(call(&[Ending::NotYet, Ending::Abandon], None).unwrap(), Step::Over);
        assert!(call(&[Ending::NotYet, Ending::Drain], None).is_err());
    }
}
