use std::collections::{BTreeMap, BTreeSet};

use lossproof_client::{Record, Watermarks};

use super::{Lane, LaneKey, Ledger};
use crate::identity::{HEADER_NAME, Header, Identity, binding, checksum};
use crate::interval::IntervalSet;
use crate::receipt::Place;

/// Records of one lane that follow each other in the log, at offsets that do too.
#[derive(Clone, Copy, Debug)]
struct Run {
    offset: u64,
    seq: u64,
    count: u64,
}

/// What was read of the topics, and how far.
#[derive(Debug, Default)]
pub(super) struct TopicParts {
    read: BTreeMap<Place, Watermarks>,
    missing: BTreeSet<String>,
}

impl TopicParts {
    /// First offset that was there, and one past the last; `None` where nobody has read.
    pub(super) fn watermarks(&self, place: &Place) -> Option<Watermarks> {
        let gone = self.missing.contains(&place.topic).then_some(Watermarks { low: 0, high: 0 });
        self.read.get(place).copied().or(gone)
    }

    /// First offsets of the partitions of a topic that were read.
    pub(super) fn lows_of(&self, topic: &str) -> Vec<i64> {
        let read = self.read.iter().filter(|(place, _)| place.topic == topic);
        read.map(|(_, watermarks)| watermarks.low).collect()
    }
}

/// Where the records of one lane lie in one partition, copies too.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    /// Numbers of which every copy in the log is below `offset`.
    pub(super) fn below(&self, offset: u64) -> IntervalSet {
        let (mut below, mut above) = (IntervalSet::new(), IntervalSet::new());
        for run in &self.0 {
            let inside = offset.saturating_sub(run.offset).min(run.count);
            if inside > 0 {
                below.insert_range(run.seq, run.seq + inside - 1);
            }
            if inside < run.count {
                above.insert_range(run.seq + inside, run.seq + run.count - 1);
            }
        }
        below.difference(&above)
    }

    pub(super) fn offsets_of(&self, seq: u64) -> Vec<u64> {
        let inside = self.0.iter().filter(|run| (run.seq..run.seq + run.count).contains(&seq));
        inside.map(|run| run.offset + (seq - run.seq)).collect()
    }

    pub(super) fn add(&mut self, seq: u64, offset: u64) {
        match self.0.last_mut() {
            Some(run) if run.offset + run.count == offset && run.seq + run.count == seq => {
                run.count += 1;
            }
            _ => self.0.push(Run { offset, seq, count: 1 }),
        }
    }
}

/// The header of a record, where it has one that can be read.
pub fn header_of(record: &Record) -> Option<Header> {
    let mut named = record.headers.iter().filter(|(name, _)| name == HEADER_NAME);
    named.next().and_then(|(_, value)| Header::decode(value.as_deref()?))
}

/// The identity of a record that was read from a topic.
pub fn identity_of(record: &Record) -> Identity {
    match header_of(record) {
        Some(header) => Identity::Stamped(header.id),
        None => Identity::Natural {
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
        },
    }
}

impl Ledger {
    /// The auditor has read this record in an audited topic, below the high watermark.
    pub fn observe(&mut self, record: &Record) {
        let Ok(offset) = u64::try_from(record.offset) else { return };
        let Some(header) = header_of(record) else {
            let place = Place::new(record.topic.clone(), record.partition);
            let lane = self.lanes.entry(LaneKey::Natural(place)).or_default();
            lane.told.insert(offset);
            lane.stored.insert(offset);
            return;
        };
        if header.moved {
            return self.observe_moved(header.id, record, offset);
        }
        let seq = header.id.seq;
        let in_origin = header.binding == binding(&record.topic, record.partition);
        let intact = header.checksum == checksum(record.key.as_deref(), record.value.as_deref());
        let lane = self.lane_of(header.id);
        lane.told.insert(seq);
        if !in_origin {
            let place = Place::new(record.topic.clone(), record.partition);
            lane.misplaced.entry(place).or_default().insert(seq);
            return;
        }
        lane.set_place(&record.topic, record.partition);
        lane.runs.add(seq, offset);
        if !intact {
            lane.altered.insert(seq);
        } else if seq < lane.stored.end() && lane.stored.contains(seq) {
            lane.resent += 1;
        } else {
            lane.stored.insert(seq);
        }
    }

    /// All of a partition from `low` to `high` has been observed.
    pub fn topic_was_read(&mut self, place: &Place, watermarks: Watermarks) {
        self.topics.read.insert(place.clone(), watermarks);
    }

    /// The cluster has no such topic.
    pub fn topic_is_missing(&mut self, topic: &str) {
        self.topics.missing.insert(topic.to_owned());
    }

    /// Somebody has named this topic. One that is missing, and of which no reporter tells a record,
    /// may be a wrong name: it must not pass for one without losses.
    pub fn expect_topic(&mut self, topic: &str) {
        let is_told_of = self.topics_told_of().any(|told| told == topic);
        if self.topics.missing.contains(topic) && !is_told_of {
            self.topic_is_unreadable(topic, "the cluster has no topic of this name".to_owned());
        }
    }

    /// A topic, or a part of it, could not be read: nothing that is absent from it is lost.
    pub fn topic_is_unreadable(&mut self, topic: &str, why: String) {
        self.unread_topics.insert(topic.to_owned(), why);
    }
}

impl Lane {
    fn set_place(&mut self, topic: &str, partition: i32) {
        let known = self.place.as_ref();
        if known.is_none_or(|place| place.topic != topic || place.partition != partition) {
            self.place = Some(Place::new(topic, partition));
        }
    }
}
