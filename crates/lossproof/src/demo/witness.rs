//! The demo's own eyes: a consumer on librdkafka, which is a client that others wrote, assigned by
//! hand, and a reading of the identity header of its own. With the audit it shares that library
//! and nothing else.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::scene::DEAD_LETTERS;
use crate::exit::{DEMO_FAILED, Failure};

/// How long one question may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Reading gives up when nothing has come for this many waits.
const READ_WAIT: Duration = Duration::from_millis(500);
const READ_WAITS_MAX: u32 = 60;
/// Looks of the demo between two looks at the dead letters.
const LOOKS_BETWEEN: u32 = 20;

/// `docs/format/identity.md`.
const HEADER: &str = "lossproof";
const HEADER_VERSION: u8 = 1;
const HEADER_BYTES: usize = 30;

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(DEMO_FAILED, format_args!("the demo cannot read the topics: {error}"))
}

/// One record as it is in the log.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: Vec<u8>,
    pub(crate) identity: Option<String>,
}

impl Seen {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers();
        let header = headers.and_then(|all| all.iter().find(|header| header.key == HEADER));
        Self {
            partition: message.partition(),
            offset: message.offset(),
            value: message.payload().unwrap_or_default().to_vec(),
            identity: header.and_then(|header| identity(header.value?)),
        }
    }
}

/// Session, lane and number, each with its bytes of the header.
fn identity(header: &[u8]) -> Option<String> {
    if header.len() != HEADER_BYTES || header.first() != Some(&HEADER_VERSION) {
        return None;
    }
    let number = |from: usize, to: usize| {
        let bytes = header.get(from..to)?;
        Some(bytes.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte)))
    };
    Some(format!("{:016x}-{}-{}", number(2, 10)?, number(10, 14)?, number(14, 22)?))
}

/// A topic as it was, read from the log start of each partition to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// Start and end of each partition.
    pub(crate) ranges: BTreeMap<i32, (i64, i64)>,
    /// By partition and offset.
    pub(crate) records: Vec<Seen>,
}

pub(crate) struct Witness {
    consumer: BaseConsumer,
}

impl Witness {
    /// Asks for the offsets of `group`; never joins it and never commits.
    pub(crate) fn new(bootstrap: &str, group: &str) -> Result<Self, Failure> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .create();
        Ok(Self { consumer: consumer.map_err(failed)? })
    }

    /// All of a topic; nothing where there is no such topic.
    pub(crate) fn read(&self, topic: &str) -> Result<Reading, Failure> {
        let mut reading = Reading::default();
        let mut list = TopicPartitionList::new();
        for partition in self.partitions(topic)? {
            let range = self.consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
            let (start, end) = range.map_err(failed)?;
            reading.ranges.insert(partition, (start, end));
            if start < end {
                list.add_partition_offset(topic, partition, Offset::Offset(start))
                    .map_err(failed)?;
            }
        }
        if list.count() > 0 {
            self.consumer.assign(&list).map_err(failed)?;
            let read = self.read_assigned(&mut reading);
            self.consumer.unassign().map_err(failed)?;
            read?;
            reading.records.sort_by_key(|seen| (seen.partition, seen.offset));
        }
        Ok(reading)
    }

    fn partitions(&self, topic: &str) -> Result<Vec<i32>, Failure> {
        // Of all topics: who asks for one by its name may create it.
        let metadata = self.consumer.fetch_metadata(None, REQUEST_TIMEOUT).map_err(failed)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found.map_or_else(Vec::new, |found| {
            found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()
        }))
    }

    fn read_assigned(&self, reading: &mut Reading) -> Result<(), Failure> {
        let mut left: BTreeMap<i32, i64> = reading
            .ranges
            .iter()
            .filter(|(_, (start, end))| start < end)
            .map(|(partition, (_, end))| (*partition, *end))
            .collect();
        let (mut waits, mut last_error) = (0, None);
        while !left.is_empty() {
            match self.consumer.poll(READ_WAIT) {
                Some(Ok(message)) => {
                    waits = 0;
                    let seen = Seen::of(&message);
                    let Some(end) = left.get(&seen.partition).copied() else { continue };
                    if seen.offset + 1 >= end {
                        left.remove(&seen.partition);
                    }
                    if seen.offset < end {
                        reading.records.push(seen);
                    }
                }
                Some(Err(error)) if waits < READ_WAITS_MAX => {
                    waits += 1;
                    last_error = Some(error);
                }
                None if waits < READ_WAITS_MAX => waits += 1,
                _ => return Err(failed(last_error.map_or("no answer".to_owned(), say))),
            }
        }
        Ok(())
    }

    /// The committed offset of each partition that has one.
    pub(crate) fn committed(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = i32>,
    ) -> Result<BTreeMap<i32, i64>, Failure> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(topic, partition);
        }
        let committed = self.consumer.committed_offsets(list, REQUEST_TIMEOUT).map_err(failed)?;
        let mut offsets = BTreeMap::new();
        for element in committed.elements() {
            element.error().map_err(failed)?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }
}

fn say(error: KafkaError) -> String {
    error.to_string()
}

/// Records that have ended in the dead letters so far.
pub(crate) struct DeadLetterCount {
    witness: Witness,
    looks: u32,
    count: usize,
}

impl DeadLetterCount {
    pub(crate) fn new(witness: Witness) -> Self {
        Self { witness, looks: 0, count: 0 }
    }

    /// Each record once, however often it was sent. Looks now and then only; while nobody answers
    /// it is what it was.
    pub(crate) fn look(&mut self) -> usize {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_BETWEEN)
            && let Ok(reading) = self.witness.read(DEAD_LETTERS)
        {
            let ids: HashSet<_> = reading.records.iter().map(|seen| &seen.identity).collect();
            self.count = ids.len();
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_its_page_says() {
        let mut header = vec![1, 0];
        header.extend(0x0102_0304_0506_0708_u64.to_be_bytes());
        header.extend(7_u32.to_be_bytes());
        header.extend(259_u64.to_be_bytes());
        header.extend([0xff; 8]);
        assert_eq!(identity(&header).unwrap(), "0102030405060708-7-259");
        assert_eq!(identity(&header[1..]), None);
        header[0] = 2;
        assert_eq!(identity(&header), None);
    }
}
