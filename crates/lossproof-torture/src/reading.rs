//! Readers with librdkafka: one at the tail while producers are at work, and one, always a fresh
//! one, that reads everything there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lossproof_judge::{Event, Position};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::broker::PARTITIONS;
use crate::client::{self, GROUP, REQUEST_TIMEOUT, TOPIC};
use crate::failure::{Context, Failure};
use crate::load::{Ending, Shared};
use crate::payload;
use crate::recorder::Recorder;

const POLL: Duration = Duration::from_millis(20);
/// A full read takes a tenth of a second; one that hangs is a failure.
const READ_TIME_MAX: Duration = Duration::from_secs(50);

/// Offsets by partition that the broker has reported as damaged, both ends included.
pub(crate) type Damaged = Vec<(i32, i64, i64)>;

/// Writes down what comes while the load lasts: what was shown once must stay.
pub(crate) fn read_tail(read: &str, shared: &Arc<Shared>) -> Result<(), Failure> {
    let consumer: BaseConsumer =
        client::consumer(&shared.bootstrap).create().context("start a consumer")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(TOPIC, partition, Offset::Beginning).context("assign")?;
    }
    consumer.assign(&list).context("assign")?;
    while shared.ending() == Ending::NotYet {
        if let Some(Ok(message)) = consumer.poll(POLL) {
            record(&message, read, &shared.recorder);
        }
    }
    Ok(())
}

fn record(message: &BorrowedMessage<'_>, read: &str, recorder: &Recorder) {
    let (partition, offset) = (message.partition() as u32, message.offset());
    let parsed = payload::of(message);
    // What does not prove itself gets a name that nobody handed in.
    let (value, digest) = parsed.map_or_else(
        || (format!("unreadable {partition}-{offset}"), None),
        |parsed| (parsed.value, Some(parsed.digest)),
    );
    let (read, topic) = (read.to_owned(), TOPIC.to_owned());
    let position = Position { topic, partition, offset };
    recorder.record(Event::Store { read, position, value, identity: None, digest });
}

/// A fresh reader: it knows nothing of what was read or committed before.
pub(crate) struct Reader<'a> {
    consumer: BaseConsumer,
    recorder: &'a Recorder,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bootstrap: &str, recorder: &'a Recorder) -> Result<Self, Failure> {
        let consumer = client::consumer(bootstrap).create().context("start a reader")?;
        Ok(Self { consumer, recorder })
    }

    /// Reads every partition from its start to its end, around what is known to be damaged.
    pub(crate) fn read_all(&self, read: &str, damaged: &Damaged) -> Result<(), Failure> {
        let mut ranges = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let range = self.consumer.fetch_watermarks(TOPIC, partition, REQUEST_TIMEOUT);
            let range = range.context(format!("{read}: watermarks of {TOPIC}-{partition}"))?;
            ranges.insert(partition, range);
        }
        let mut pieces = pieces(&ranges, damaged);
        // The pieces between damaged ranges one after the other, all partitions together.
        while !pieces.is_empty() {
            let mut now = BTreeMap::new();
            pieces.retain(|(partition, start, end)| {
                let taken = now.contains_key(partition);
                now.entry(*partition).or_insert((*start, *end));
                taken
            });
            read_pieces(&self.consumer, now, read, self.recorder)?;
        }
        for (partition, (start, end)) in ranges {
            self.recorder.record(Event::read_end(read, TOPIC, partition as u32, start, end));
        }
        Ok(())
    }

    /// Asks for what is committed, and writes it down.
    pub(crate) fn read_committed(&self) -> Result<(), Failure> {
        for (partition, offset) in self.committed()? {
            self.recorder.record(Event::commit(GROUP, TOPIC, partition as u32, offset));
        }
        Ok(())
    }

    /// By partition. An offset that is gone counts as zero: the judge sees that it went back.
    pub(crate) fn committed(&self) -> Result<BTreeMap<i32, i64>, Failure> {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition(TOPIC, partition);
        }
        let answer = self.consumer.committed_offsets(list, REQUEST_TIMEOUT);
        let mut committed = BTreeMap::new();
        for element in answer.context("committed offsets")?.elements() {
            element.error().context("a committed offset")?;
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            committed.insert(element.partition(), offset);
        }
        Ok(committed)
    }
}

/// What is left of the ranges without the damaged ones; the ends are excluded.
fn pieces(ranges: &BTreeMap<i32, (i64, i64)>, damaged: &Damaged) -> Vec<(i32, i64, i64)> {
    let mut pieces = Vec::new();
    for (partition, (start, end)) in ranges {
        let mut from = *start;
        let mut holes: Vec<(i64, i64)> = damaged
            .iter()
            .filter(|(of, _, _)| of == partition)
            .map(|(_, first, last)| (*first, last.saturating_add(1)))
            .collect();
        holes.sort_unstable();
        for (first, next) in holes {
            if from < first.min(*end) {
                pieces.push((*partition, from, first.min(*end)));
            }
            from = from.max(next);
        }
        if from < *end {
            pieces.push((*partition, from, *end));
        }
    }
    pieces
}

fn read_pieces(
    consumer: &BaseConsumer,
    mut left: BTreeMap<i32, (i64, i64)>,
    read: &str,
    recorder: &Recorder,
) -> Result<(), Failure> {
    let mut list = TopicPartitionList::new();
    for (partition, (start, _)) in &left {
        let start = Offset::Offset(*start);
        list.add_partition_offset(TOPIC, *partition, start).context("assign")?;
    }
    consumer.assign(&list).context("assign")?;
    let deadline = Instant::now() + READ_TIME_MAX;
    let mut last_error = None;
    while !left.is_empty() {
        if Instant::now() >= deadline {
            return Err(Failure::broken(format!(
                "{read}: these are not read to their end: {left:?}; last error: {last_error:?}"
            )));
        }
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let (partition, offset) = (message.partition(), message.offset());
                let Some((_, end)) = left.get(&partition).copied() else { continue };
                if offset < end {
                    record(&message, read, recorder);
                }
                if offset + 1 >= end {
                    left.remove(&partition);
                }
            }
            Some(Err(error)) => last_error = Some(error),
            None => {}
        }
    }
    consumer.unassign().context("unassign")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_is_read_around() {
        let ranges = BTreeMap::from([(0, (0, 10)), (1, (0, 4)), (2, (5, 5))]);
        let damaged = vec![(0, 7, i64::MAX), (0, 2, 3), (1, 0, 9)];
        assert_eq!(pieces(&ranges, &damaged), [(0, 0, 2), (0, 4, 7)]);
        assert_eq!(pieces(&ranges, &Vec::new()), [(0, 0, 10), (1, 0, 4)]);
    }
}
