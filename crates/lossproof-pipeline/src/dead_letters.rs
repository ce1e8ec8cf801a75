//! Puts poison aside: into the dead-letter topic, and the record is done with only after the
//! cluster has acknowledged it there.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use lossproof_audit::identity::{
    GROUP_HEADER, HEADER_NAME, Header, ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER,
    ORIGIN_TOPIC_HEADER,
};
use lossproof_client::{Delivery, DeliveryError, LogProducer, Record, SendCause, SendError};
use lossproof_env::Clock;
use tokio::sync::oneshot;
use tracing::warn;

use crate::flow::Task;

/// Makes a producer, also to replace one that has died.
pub type ProducerFactory = Box<dyn FnMut() -> Result<Box<dyn LogProducer>, String> + Send>;

/// How long one look for outcomes may take.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// Between two tries for a cluster that does not take the records.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// For one question to the cluster.
const QUESTION_WAIT: Duration = Duration::from_secs(5);
/// What is said about a record is cut to this.
const REASON_BYTES_MAX: usize = 1024;

/// Of a reason, this much may be in its kind.
const KIND_CHARACTERS_MAX: usize = 60;

/// What a dead letter says about the record.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) text: String,
    /// Step or sink.
    pub(crate) place: String,
    pub(crate) attempts: u32,
}

impl Reason {
    /// Without what differs from record to record: receipts keep one entry for each of these.
    pub(crate) fn kind(&self) -> String {
        let kind = self.text.split(':').next().unwrap_or_default();
        format!("{}: {}", self.place, kind.chars().take(KIND_CHARACTERS_MAX).collect::<String>())
    }
}

/// Hands records to the writing thread.
#[derive(Debug)]
pub(crate) struct DeadLetterQueue {
    queue: SyncSender<Letter>,
    topic: String,
    group: String,
}

#[derive(Debug)]
struct Letter {
    record: Record,
    /// Sent with nothing else under way: only then is a refusal about this record.
    alone: bool,
    reply: oneshot::Sender<Result<(), String>>,
}

impl DeadLetterQueue {
    /// Starts the thread, which ends with the returned value.
    pub(crate) fn start(
        topic: String,
        group: String,
        factory: ProducerFactory,
        clock: Arc<dyn Clock>,
        queue_max: usize,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, receiver) = sync_channel(queue_max);
        let mut writer = Writer {
            topic: topic.clone(),
            factory,
            clock,
            producer: None,
            partitions: None,
            next_token: 0,
            pending: BTreeMap::new(),
            refused: VecDeque::new(),
        };
        let handle = std::thread::Builder::new()
            .name("dead-letters".to_owned())
            .spawn(move || writer.run(&receiver))?;
        Ok((Self { queue, topic, group }, handle))
    }

    /// Returns once the cluster has acknowledged the record. An error is final.
    pub(crate) async fn put(&self, task: &Task, reason: &Reason) -> Result<(), String> {
        let (reply, outcome) = oneshot::channel();
        let letter = Letter { record: self.record(task, reason), alone: false, reply };
        let gone = || "the writer of dead letters is gone".to_owned();
        // The queue has room for every record that may be in flight: it never blocks.
        self.queue.try_send(letter).map_err(|_| gone())?;
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Key and value stay as they are, and so does the identity, marked as moved.
    fn record(&self, task: &Task, reason: &Reason) -> Record {
        let origin = &task.record;
        let text = |text: String| Some(Bytes::from(text));
        let mut headers = origin.headers.clone();
        for (name, value) in headers.iter_mut().filter(|(name, _)| name == HEADER_NAME) {
            if let Some(header) = value.as_ref().and_then(|bytes| Header::decode(bytes)) {
                let moved = Header { moved: true, ..header };
                *value = Some(Bytes::copy_from_slice(&moved.encode()));
            } else {
                warn!("header {name} of {} is kept unreadable", task.identity);
            }
        }
        let mut cut = reason.text.len().min(REASON_BYTES_MAX);
        while !reason.text.is_char_boundary(cut) {
            cut -= 1;
        }
        let said = [
            (ORIGIN_TOPIC_HEADER, origin.topic.clone()),
            (ORIGIN_PARTITION_HEADER, origin.partition.to_string()),
            (ORIGIN_OFFSET_HEADER, origin.offset.to_string()),
            ("lossproof.origin.timestamp", origin.timestamp_ms.unwrap_or(-1).to_string()),
            (GROUP_HEADER, self.group.clone()),
            ("lossproof.step", reason.place.clone()),
            ("lossproof.reason", reason.text.get(..cut).unwrap_or_default().to_owned()),
            ("lossproof.attempts", reason.attempts.to_string()),
        ];
        headers.extend(said.map(|(name, value)| (name.to_owned(), text(value))));
        Record {
            topic: self.topic.clone(),
            partition: origin.partition,
            offset: 0,
            timestamp_ms: None,
            key: origin.key.clone(),
            value: origin.value.clone(),
            headers,
        }
    }
}

/// Owned by its thread. Dead letters are few: one that is sent again holds up the others.
struct Writer {
    topic: String,
    factory: ProducerFactory,
    clock: Arc<dyn Clock>,
    producer: Option<Box<dyn LogProducer>>,
    partitions: Option<i32>,
    next_token: u64,
    /// Handed to the client, outcome unknown. Bounded by what may be in flight.
    pending: BTreeMap<u64, Letter>,
    /// Refused once, perhaps for another record in the same batch: each goes once more, alone.
    refused: VecDeque<Letter>,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Letter>) {
        loop {
            if self.must_wait() {
                self.take_outcomes();
                continue;
            }
            if let Some(letter) = self.refused.pop_front() {
                self.send(Letter { alone: true, ..letter });
                continue;
            }
            let next = if self.pending.is_empty() {
                queue.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                queue.try_recv()
            };
            match next {
                Ok(letter) => self.send(letter),
                Err(TryRecvError::Empty) => self.take_outcomes(),
                // Nobody waits for what is pending.
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Whether what is under way has to be settled before anything else is sent.
    fn must_wait(&mut self) -> bool {
        // One that was given up, as all are at the end, holds up nobody.
        self.refused.retain(|letter| !letter.reply.is_closed());
        let mut pending = self.pending.values().filter(|letter| !letter.reply.is_closed());
        pending.any(|letter| letter.alone || !self.refused.is_empty())
    }

    /// Tries until the client has taken the record, or refuses it for good.
    fn send(&mut self, mut letter: Letter) {
        loop {
            if letter.reply.is_closed() {
                return; // the record was given up and will be read again
            }
            let Some(count) = self.ready() else {
                self.clock.sleep_blocking(RETRY_WAIT);
                continue;
            };
            letter.record.partition %= count;
            self.next_token += 1;
            let token = self.next_token;
            let Some(producer) = &mut self.producer else { continue };
            let Err(SendError { cause, .. }) = producer.send(letter.record.clone(), token) else {
                self.pending.insert(token, letter);
                return;
            };
            match cause {
                SendCause::QueueFull => self.take_outcomes(),
                SendCause::Fatal => self.replace_producer(),
                cause => {
                    // Nobody is there to hear it only after the record was given up.
                    let _ = letter.reply.send(Err(cause.to_string()));
                    return;
                }
            }
        }
    }

    /// Makes sure of a live producer and of the number of partitions.
    fn ready(&mut self) -> Option<i32> {
        if self.producer.as_ref().is_some_and(|producer| producer.fatal().is_some()) {
            self.replace_producer();
        }
        if self.producer.is_none() {
            match (self.factory)() {
                Ok(producer) => self.producer = Some(producer),
                Err(detail) => {
                    warn!("no client for dead letters: {detail}");
                    return None;
                }
            }
        }
        if self.partitions.is_none() {
            let asked = self.producer.as_mut()?.partition_count(&self.topic, QUESTION_WAIT);
            match asked {
                Ok(count) => self.partitions = Some(count.max(1)),
                Err(error) => warn!("topic {} of the dead letters: {error}", self.topic),
            }
        }
        self.partitions
    }

    fn take_outcomes(&mut self) {
        let Some(producer) = &mut self.producer else { return };
        let dead = producer.fatal().is_some();
        let outcomes = if dead { Vec::new() } else { producer.poll(POLL_WAIT) };
        for delivery in outcomes {
            self.settle(delivery);
        }
        if dead {
            self.replace_producer();
        }
    }

    fn settle(&mut self, Delivery { token, outcome }: Delivery) {
        let Some(letter) = self.pending.remove(&token) else { return };
        match outcome {
            // Nobody is there to hear it only after the record was given up.
            Ok(_) => drop(letter.reply.send(Ok(()))),
            Err(DeliveryError::Refused { detail }) if letter.alone => {
                drop(letter.reply.send(Err(detail)));
            }
            Err(DeliveryError::Refused { .. }) => self.refused.push_back(letter),
            Err(error) => {
                // Perhaps it is there already: then it is there twice under one identity.
                warn!("dead letter sent again: {error}");
                self.clock.sleep_blocking(RETRY_WAIT);
                self.send(letter);
            }
        }
    }

    /// What was pending at the old producer is sent again through the new one.
    fn replace_producer(&mut self) {
        if let Some(producer) = self.producer.take() {
            let (outcomes, unknown) = producer.close(QUESTION_WAIT);
            let known = outcomes.into_iter().filter(|delivery| delivery.outcome.is_ok());
            known.for_each(|delivery| self.settle(delivery));
            warn!("the client for dead letters has died, {} records go again", unknown.len());
        }
        let pending: Vec<Letter> = std::mem::take(&mut self.pending).into_values().collect();
        for letter in pending {
            self.send(letter);
        }
    }
}
