use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::rdkafka::config::RDKafkaLogLevel;
use ::rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use ::rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use ::rdkafka::message::{BorrowedMessage, Headers};
use ::rdkafka::types::RDKafkaRespErr;
use ::rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use bytes::Bytes;

use super::{ConsumerSettings, SettingsError, end_within, error_line, log_line};
use crate::{
    CommitError, ConsumeError, LogConsumer, Rebalance, Record, TopicPartition, Watermarks,
};

/// Of one poll.
const OUTAGE_EVENTS_MAX: usize = 10_000;

/// What the group wants of this member; noted inside the library's poll, followed behind it.
#[derive(Debug)]
enum Wish {
    Take(Vec<TopicPartition>),
    GiveUp,
}

/// Notes the wishes. The library waits for our `assign` or `unassign` however long that takes.
#[derive(Debug, Default)]
struct Wishes {
    queue: Mutex<VecDeque<Wish>>,
    closing: Arc<AtomicBool>,
}

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Wish>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Wishes {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        error_line(&error, reason);
    }
}

impl ConsumerContext for Wishes {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            if let Err(error) = consumer.unassign() {
                tracing::warn!("partitions not given up while closing: {error}");
            }
            return;
        }
        let wish = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Wish::Take(places(partitions)),
            _ => Wish::GiveUp,
        };
        self.lock().push_back(wish);
    }
}

/// What the broker has stored is not what it was given.
pub(super) fn is_damage(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::BadMessage | Code::BadCompression | Code::InvalidMessage))
}

fn places(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let place = |(topic, partition): (&str, i32)| TopicPartition { topic: topic.into(), partition };
    list.elements().iter().map(|element| place((element.topic(), element.partition()))).collect()
}

fn list<'a>(places: impl IntoIterator<Item = &'a TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

fn list_with_offsets(offsets: &[(TopicPartition, i64)]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (place, offset) in offsets {
        list.add_partition_offset(&place.topic, place.partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// From here on wishes are granted at once: without it the library's destructor, which waits until
/// the partitions are given up, would wait for ever.
#[derive(Debug)]
struct GrantAllOnDrop(Arc<AtomicBool>);

impl Drop for GrantAllOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

pub(super) struct RdConsumer {
    /// Stands before `consumer`, so that it is dropped before.
    closing: GrantAllOnDrop,
    consumer: BaseConsumer<Wishes>,
    request_timeout: Duration,
    /// Next offset to be returned, of each partition that is ours.
    assigned: BTreeMap<TopicPartition, Position>,
    /// Why nothing is returned any more.
    poisoned: Option<ConsumeError>,
}

#[derive(Debug)]
struct Position {
    next: i64,
    /// Out of range was reported; the library reads this partition no more.
    stopped: bool,
}

impl std::fmt::Debug for RdConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdConsumer").field("assigned", &self.assigned).finish_non_exhaustive()
    }
}

impl RdConsumer {
    pub(super) fn new(settings: &ConsumerSettings) -> Result<Self, SettingsError> {
        let consumer: BaseConsumer<Wishes> =
            settings.config()?.create_with_context(Wishes::default())?;
        let closing = GrantAllOnDrop(Arc::clone(&consumer.context().closing));
        let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        Ok(Self {
            closing,
            consumer,
            request_timeout: settings.request_timeout,
            assigned: BTreeMap::new(),
            poisoned: None,
        })
    }

    fn follow_wishes(&mut self, rebalance: &mut dyn Rebalance) -> Result<(), ConsumeError> {
        loop {
            let wish = {
                let mut wishes = self.consumer.context().lock();
                // What was to be taken and is already wanted back was never ours.
                if let Some(last) = wishes.iter().rposition(|wish| matches!(wish, Wish::GiveUp)) {
                    wishes.drain(..last);
                }
                wishes.pop_front()
            };
            match wish {
                None => return Ok(()),
                Some(Wish::GiveUp) => self.give_up(rebalance)?,
                Some(Wish::Take(places)) => match self.starts(&places) {
                    Ok(starts) => self.take(starts, rebalance)?,
                    Err(error) => {
                        // Asked again at the next poll; until then nothing is read.
                        self.consumer.context().lock().push_front(Wish::Take(places));
                        return Err(error);
                    }
                },
            }
        }
    }

    /// What the cluster knows of each partition: all of it, or an error.
    fn starts(
        &self,
        places: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>, Watermarks)>, ConsumeError> {
        let committed = self.consumer.committed_offsets(list(places), self.request_timeout);
        let committed = committed.map_err(|error| consume_error(&error))?;
        let mut starts = Vec::new();
        for element in committed.elements() {
            element.error().map_err(|error| consume_error(&error))?;
            let (topic, partition) = (element.topic().to_owned(), element.partition());
            let watermarks =
                self.consumer.fetch_watermarks(&topic, partition, self.request_timeout);
            let (low, high) = watermarks.map_err(|error| consume_error(&error))?;
            let offset =
                if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
            starts.push((TopicPartition { topic, partition }, offset, Watermarks { low, high }));
        }
        Ok(starts)
    }

    fn take(
        &mut self,
        starts: Vec<(TopicPartition, Option<i64>, Watermarks)>,
        rebalance: &mut dyn Rebalance,
    ) -> Result<(), ConsumeError> {
        let (mut offsets, mut outcome) = (Vec::new(), Ok(()));
        for (place, committed, watermarks) in starts {
            match rebalance.assigned(&place, committed, watermarks) {
                Ok(next) => offsets.push((place, next)),
                Err(error) => outcome = Err(error),
            }
        }
        let assigned = list_with_offsets(&offsets).and_then(|list| self.consumer.assign(&list));
        assigned.map_err(|error| ConsumeError::Refused { detail: error.to_string() })?;
        // The library keeps a pause of an earlier assignment.
        let places: Vec<TopicPartition> = offsets.iter().map(|(place, _)| place.clone()).collect();
        self.resume(&places)?;
        let position = |next| Position { next, stopped: false };
        self.assigned = offsets.into_iter().map(|(place, next)| (place, position(next))).collect();
        outcome
    }

    fn give_up(&mut self, rebalance: &mut dyn Rebalance) -> Result<(), ConsumeError> {
        let assigned: Vec<TopicPartition> = self.assigned.keys().cloned().collect();
        if !assigned.is_empty() {
            if self.consumer.assignment_lost() {
                rebalance.lost(&assigned);
            } else {
                let offsets = rebalance.revoked(&assigned);
                if let Err(error) = self.commit(&offsets) {
                    tracing::warn!("{error}; the next owner reads from the last commit again");
                }
            }
        }
        self.assigned.clear();
        let unassigned = self.consumer.unassign();
        unassigned.map_err(|error| ConsumeError::Refused { detail: error.to_string() })
    }

    /// RDKAFKA-3: only records of partitions that are ours, from the offset we expect onwards.
    fn admit(&mut self, record: Record) -> Option<Record> {
        let place = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        let position = self.assigned.get_mut(&place)?;
        if record.offset < position.next {
            return None;
        }
        position.next = record.offset + 1;
        Some(record)
    }

    fn explain(&mut self, error: &KafkaError) -> Result<Option<Record>, ConsumeError> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Err(self.out_of_range(error)),
            // The group tells it again as a lost assignment, which `follow_wishes` handles.
            Some(Code::PollExceeded) => {
                tracing::warn!("{error}; the group took the partitions away");
                Ok(None)
            }
            _ if is_damage(error) => {
                let detail = format!("a batch is corrupt: {error}; reading stops here");
                let poison = ConsumeError::Refused { detail };
                self.poisoned = Some(poison.clone());
                Err(poison)
            }
            _ => Err(consume_error(error)),
        }
    }

    /// The library names no partition: it is one whose position is outside of its log.
    fn out_of_range(&mut self, error: &KafkaError) -> ConsumeError {
        for (place, position) in self.assigned.iter_mut().filter(|(_, p)| !p.stopped) {
            let watermarks =
                self.consumer.fetch_watermarks(&place.topic, place.partition, self.request_timeout);
            if watermarks.is_ok_and(|(low, high)| !(low..=high).contains(&position.next)) {
                position.stopped = true;
                let partition = place.clone();
                return ConsumeError::OutOfRange { partition, offset: position.next };
            }
        }
        let poison = ConsumeError::Refused {
            detail: format!("the position in some partition is gone: {error}; reading stops here"),
        };
        self.poisoned = Some(poison.clone());
        poison
    }
}

/// The next message or error. While no broker answers the library queues an event for each of its
/// many tries: they are taken together, as the last one of them, so that an outage has no echo.
fn behind_outages(
    timeout: Duration,
    mut poll: impl FnMut(Duration) -> Option<KafkaResult<Record>>,
) -> KafkaResult<Option<Record>> {
    let mut polled = poll(timeout).transpose();
    for _ in 0..OUTAGE_EVENTS_MAX {
        if !polled.as_ref().is_err_and(is_outage) {
            break;
        }
        let Some(next) = poll(Duration::ZERO) else { break };
        polled = next.map(Some);
    }
    polled
}

fn is_outage(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve))
}

fn consume_error(error: &KafkaError) -> ConsumeError {
    let detail = error.to_string();
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
        return ConsumeError::Fenced { detail };
    }
    match error.rdkafka_error_code() {
        Some(Code::FencedInstanceId | Code::Fenced | Code::Fatal) => {
            ConsumeError::Fenced { detail }
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::InvalidGroupId
            | Code::InconsistentGroupProtocol
            | Code::InvalidSessionTimeout
            | Code::InvalidTopic,
        ) => ConsumeError::Refused { detail },
        _ => ConsumeError::Unreachable { detail },
    }
}

fn commit_error(error: &KafkaError) -> CommitError {
    let detail = error.to_string();
    match error.rdkafka_error_code() {
        Some(
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::AssignmentLost
            | Code::Fenced
            | Code::Fatal,
        ) => CommitError::Fenced,
        Some(
            Code::GroupAuthorizationFailed
            | Code::TopicAuthorizationFailed
            | Code::OffsetMetadataTooLarge
            | Code::InvalidCommitOffsetSize
            | Code::InvalidArgument
            | Code::UnknownGroup,
        ) => CommitError::Refused { detail },
        _ => CommitError::Retriable { detail },
    }
}

/// Copies a message out of the library's memory.
pub(super) fn record(message: &BorrowedMessage<'_>) -> Record {
    let bytes = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: bytes(message.key()),
        value: bytes(message.payload()),
        headers: headers(message),
    }
}

/// A header whose name is no UTF-8 makes the binding panic: such a header is left out, which is
/// said, and the record goes on.
fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Bytes>)> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let read = |index| {
        let header = headers.try_get(index)?;
        Some((header.key.to_owned(), header.value.map(Bytes::copy_from_slice)))
    };
    (0..headers.count())
        .filter_map(|index| {
            let read = std::panic::AssertUnwindSafe(|| read(index));
            std::panic::catch_unwind(read).unwrap_or_else(|_| {
                let (partition, offset) = (message.partition(), message.offset());
                tracing::warn!(partition, offset, "header {index} has no readable name: left out");
                None
            })
        })
        .collect()
}

impl LogConsumer for RdConsumer {
    fn poll(
        &mut self,
        timeout: Duration,
        rebalance: &mut dyn Rebalance,
    ) -> Result<Option<Record>, ConsumeError> {
        let polled = behind_outages(timeout, |timeout| {
            self.consumer.poll(timeout).map(|polled| polled.map(|message| record(&message)))
        });
        // The library's poll returns either a wish or a message, never both.
        self.follow_wishes(rebalance)?;
        if let Some(poison) = &self.poisoned {
            return Err(poison.clone());
        }
        match polled {
            Ok(record) => Ok(record.and_then(|record| self.admit(record))),
            Err(error) => self.explain(&error),
        }
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        let paused = self.consumer.pause(&list(partitions));
        paused.map_err(|error| ConsumeError::Refused { detail: error.to_string() })
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        let resumed = self.consumer.resume(&list(partitions));
        resumed.map_err(|error| ConsumeError::Refused { detail: error.to_string() })
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), CommitError> {
        if offsets.is_empty() {
            return Ok(());
        }
        // The library answers with an error if any of the partitions had one.
        let list = list_with_offsets(offsets).map_err(|error| commit_error(&error))?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(|error| commit_error(&error))
    }

    fn close(
        mut self: Box<Self>,
        rebalance: &mut dyn Rebalance,
        timeout: Duration,
    ) -> Result<(), ConsumeError> {
        self.consumer.context().lock().clear();
        let given_up = self.give_up(rebalance);
        drop(self.closing);
        // The destructor leaves the group; it is known to hang at times.
        end_within(self.consumer, timeout);
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polls(events: Vec<Option<KafkaResult<Record>>>) -> (Result<bool, Code>, usize) {
        let mut events = VecDeque::from(events);
        let polled = behind_outages(Duration::from_secs(1), |_| events.pop_front().flatten());
        let code = |error: KafkaError| error.rdkafka_error_code().unwrap();
        (polled.map(|record| record.is_some()).map_err(code), events.len())
    }

    #[test]
    fn the_events_of_an_outage_are_taken_together() {
        let message = || Some(Ok(Record::default()));
        let error = |code| Some(Err(KafkaError::MessageConsumption(code)));
        let down = || error(Code::AllBrokersDown);
        assert_eq!(polls(vec![down(), down(), down(), message(), message()]), (Ok(true), 1));
        // It is told while it lasts, and nothing else is passed over.
        let told = polls(vec![down(), down(), None, message()]);
        assert_eq!(told, (Err(Code::AllBrokersDown), 1));
        let told = polls(vec![down(), error(Code::BadMessage), message()]);
        assert_eq!(told, (Err(Code::BadMessage), 1));
    }
}
