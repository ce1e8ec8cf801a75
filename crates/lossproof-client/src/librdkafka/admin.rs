use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use ::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use ::rdkafka::consumer::{BaseConsumer, Consumer};
use ::rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use ::rdkafka::metadata::MetadataPartition;
use ::rdkafka::{Message, Offset, TopicPartitionList};

use super::consumer::{is_damage, record};
use super::{ClientSettings, Logging, SettingsError, end_within};
use crate::{Admin, ConsumeError, KEEP_EVERYTHING, Record, TopicPartition, Watermarks};

/// How long one question may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading gives up when nothing has come for this many waits.
const READ_WAIT: Duration = Duration::from_millis(500);
const READ_WAITS_MAX: u32 = 60;
/// As many as the cluster's own setting says.
const CLUSTER_DEFAULT_PARTITIONS: i32 = -1;
const CLUSTER_DEFAULT_REPLICAS: TopicReplication<'_> = TopicReplication::Fixed(-1);
/// Named in questions; never joined, never committed to.
const READER_GROUP: &str = "lossproof-reader";

pub(super) struct RdAdmin {
    settings: ClientSettings,
    reader: BaseConsumer<Logging>,
    client: AdminClient<Logging>,
}

impl std::fmt::Debug for RdAdmin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdAdmin").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RdAdmin {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, SettingsError> {
        let config = settings.reader_config(READER_GROUP)?;
        Ok(Self {
            settings: settings.clone(),
            reader: config.create_with_context(Logging)?,
            client: config.create_with_context(Logging)?,
        })
    }

    fn assign(&self, partition: &TopicPartition, from: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(from);
        list.add_partition_offset(&partition.topic, partition.partition, offset)?;
        self.reader.assign(&list)
    }

    fn read_assigned(
        &self,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), ConsumeError> {
        let (mut next, mut waits) = (from, 0);
        while next < to {
            match self.reader.poll(READ_WAIT) {
                Some(Ok(message)) => {
                    waits = 0;
                    let offset = message.offset();
                    if (next..to).contains(&offset) {
                        each(record(&message));
                    }
                    next = next.max(offset + 1);
                }
                // All that is below the high watermark was seen; what follows is a gap.
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if is_passing(&error) && waits < READ_WAITS_MAX => waits += 1,
                Some(Err(error)) if is_damage(&error) => {
                    let detail = format!("offset {next}: {error}; `broker --check` tells of it");
                    return Err(ConsumeError::Refused { detail });
                }
                Some(Err(error)) => return Err(refused(&error)),
                None if waits < READ_WAITS_MAX => waits += 1,
                None => {
                    let detail = format!(
                        "nothing could be read at offset {next} for a long time: it is damaged, \
                         or its broker is away; the broker's log says which"
                    );
                    return Err(ConsumeError::Refused { detail });
                }
            }
        }
        Ok(())
    }
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NotController
                | Code::Resolve
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}

fn refused(error: &KafkaError) -> ConsumeError {
    let detail = error.to_string();
    if is_passing(error) {
        ConsumeError::Unreachable { detail }
    } else {
        ConsumeError::Refused { detail }
    }
}

impl Admin for RdAdmin {
    fn partitions(&mut self, topic: &str) -> Result<Option<Vec<i32>>, ConsumeError> {
        let metadata = self.reader.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| refused(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(Code::from) {
            None => {
                let mut partitions: Vec<i32> =
                    found.partitions().iter().map(MetadataPartition::id).collect();
                partitions.sort_unstable();
                Ok(Some(partitions))
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Some(code) => Err(refused(&KafkaError::MetadataFetch(code))),
        }
    }

    fn watermarks(&mut self, partition: &TopicPartition) -> Result<Watermarks, ConsumeError> {
        let (topic, partition) = (&partition.topic, partition.partition);
        let fetched = self.reader.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
        let (low, high) = fetched.map_err(|error| refused(&error))?;
        Ok(Watermarks { low, high })
    }

    fn committed(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, ConsumeError> {
        let created = self.settings.reader_config(group).and_then(|config| {
            let reader: BaseConsumer<Logging> = config.create_with_context(Logging)?;
            Ok(reader)
        });
        let reader =
            created.map_err(|error| ConsumeError::Refused { detail: error.to_string() })?;
        let mut list = TopicPartitionList::new();
        for place in partitions {
            list.add_partition(&place.topic, place.partition);
        }
        let committed = reader.committed_offsets(list, REQUEST_TIMEOUT);
        let committed = committed.map_err(|error| refused(&error))?;
        let mut offsets = Vec::new();
        for element in committed.elements() {
            element.error().map_err(|error| refused(&error))?;
            let (topic, partition) = (element.topic().to_owned(), element.partition());
            let offset =
                if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None };
            offsets.push((TopicPartition { topic, partition }, offset));
        }
        Ok(offsets)
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), ConsumeError> {
        let Watermarks { low, high } = self.watermarks(partition)?;
        if from < low || to > high {
            let offset = if from < low { from } else { to };
            return Err(ConsumeError::OutOfRange { partition: partition.clone(), offset });
        }
        self.assign(partition, from).map_err(|error| refused(&error))?;
        let read = self.read_assigned(from, to, each);
        let unassigned = self.reader.unassign().map_err(|error| refused(&error));
        read.and(unassigned)
    }

    fn create_topic(&mut self, topic: &str, partitions: i32) -> Result<bool, ConsumeError> {
        let new = NewTopic::new(topic, partitions, CLUSTER_DEFAULT_REPLICAS);
        create(&self.client, &new, REQUEST_TIMEOUT)
    }
}

/// With the settings of [`KEEP_EVERYTHING`], through a client of its own.
pub(super) fn create_without_retention(
    settings: &ClientSettings,
    topic: &str,
    timeout: Duration,
) -> Result<bool, ConsumeError> {
    let not_made = |detail: String| ConsumeError::Refused { detail };
    let config = settings.reader_config(READER_GROUP);
    let config = config.map_err(|error| not_made(error.to_string()))?;
    let client: AdminClient<Logging> =
        config.create_with_context(Logging).map_err(|error| not_made(error.to_string()))?;
    let mut new = NewTopic::new(topic, CLUSTER_DEFAULT_PARTITIONS, CLUSTER_DEFAULT_REPLICAS);
    for (name, value) in KEEP_EVERYTHING {
        new = new.set(name, value);
    }
    let created = create(&client, &new, timeout);
    end_within(client, timeout);
    created
}

fn create(
    client: &AdminClient<Logging>,
    new: &NewTopic<'_>,
    timeout: Duration,
) -> Result<bool, ConsumeError> {
    let options =
        AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
    let created = block_on(client.create_topics([new], &options));
    match created.map_err(|error| refused(&error))?.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(refused(&KafkaError::AdminOp(code))),
        None => Err(ConsumeError::Refused { detail: "an empty answer".into() }),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for one future on this thread; the library's own thread completes it.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
