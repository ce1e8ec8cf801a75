use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Event, Outcome, Position};
use crate::history::History;

/// A partition of a topic.
pub(crate) type Place = (String, u32);

/// Everything the history says of one value.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The producer it was first handed to, and as the how many-th.
    pub(crate) handed_to: Option<(String, u64)>,
    pub(crate) hand_ins: usize,
    pub(crate) kept: bool,
    pub(crate) refused: bool,
    pub(crate) identities: BTreeSet<String>,
    /// Where it is in the final read, and under what identity.
    pub(crate) stored: Vec<(Position, Option<String>)>,
    /// Where it was at some time: acknowledged there, or in any read.
    pub(crate) known_at: BTreeSet<Position>,
    pub(crate) documents: Vec<String>,
    pub(crate) dead_letters: u64,
    pub(crate) filtered: bool,
    pub(crate) digests: BTreeSet<String>,
}

impl Line {
    /// Whether it came to an end that is allowed.
    pub(crate) fn has_arrived(&self) -> bool {
        !self.documents.is_empty() || self.dead_letters > 0 || self.filtered
    }

    /// How many copies are in order.
    pub(crate) fn copies_allowed(&self) -> usize {
        self.hand_ins.max(1)
    }
}

/// What one full read saw of one partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionRead {
    pub(crate) values: BTreeMap<i64, BTreeSet<String>>,
    /// Start and end, once the read has said so.
    pub(crate) range: Option<(i64, i64)>,
}

/// The history, sorted by what it speaks of.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) lines: BTreeMap<String, Line>,
    pub(crate) reads: BTreeMap<(String, Place), PartitionRead>,
    /// Values acknowledged at a position.
    pub(crate) promised_at: BTreeMap<Position, BTreeSet<String>>,
    pub(crate) identities: BTreeMap<String, BTreeSet<String>>,
    /// Committed offsets in the order they were seen.
    pub(crate) commits: BTreeMap<(String, Place), Vec<i64>>,
    pub(crate) crashed: BTreeSet<String>,
    /// Producers that may store a line more than once.
    pub(crate) resending: BTreeSet<String>,
    pub(crate) indexed: u64,
    pub(crate) sink_documents: Option<u64>,
    hand_ins_by_process: BTreeMap<String, u64>,
}

impl Evidence {
    pub(crate) fn collect(history: &History) -> Self {
        let mut evidence = Self::default();
        let final_read = history.final_read.as_deref();
        for event in &history.events {
            evidence.take(event, final_read);
        }
        evidence
    }

    /// Whether copies of that line are legal without an identity.
    pub(crate) fn may_be_resent(&self, line: &Line) -> bool {
        line.handed_to.as_ref().is_some_and(|(process, _)| self.resending.contains(process))
    }

    fn line(&mut self, value: &str) -> &mut Line {
        self.lines.entry(value.to_owned()).or_default()
    }

    fn identify(&mut self, value: &str, identity: Option<&String>) {
        if let Some(identity) = identity {
            self.line(value).identities.insert(identity.clone());
            self.identities.entry(identity.clone()).or_default().insert(value.to_owned());
        }
    }

    fn take(&mut self, event: &Event, final_read: Option<&str>) {
        match event {
            Event::HandIn { process, value, digest } => {
                let count = self.hand_ins_by_process.entry(process.clone()).or_default();
                let order = *count;
                *count += 1;
                let line = self.line(value);
                line.hand_ins += 1;
                line.handed_to.get_or_insert_with(|| (process.clone(), order));
                line.digests.extend(digest.clone());
            }
            Event::Acknowledge { value, outcome, identity, position, .. } => {
                self.identify(value, identity.as_ref());
                self.acknowledge(value, *outcome, position.as_ref());
            }
            Event::Crash { process } => {
                self.crashed.insert(process.clone());
            }
            Event::Resend { process } => {
                self.resending.insert(process.clone());
            }
            Event::Store { read, position, value, identity, digest } => {
                self.identify(value, identity.as_ref());
                let line = self.line(value);
                line.digests.extend(digest.clone());
                line.known_at.insert(position.clone());
                if final_read == Some(read) {
                    line.stored.push((position.clone(), identity.clone()));
                }
                let read = self.read(read, &position.topic, position.partition);
                read.values.entry(position.offset).or_default().insert(value.clone());
            }
            Event::ReadEnd { read, topic, partition, start, end } => {
                self.read(read, topic, *partition).range = Some((*start, *end));
            }
            Event::Commit { group, position } => {
                let place = (position.topic.clone(), position.partition);
                self.commits.entry((group.clone(), place)).or_default().push(position.offset);
            }
            _ => self.take_arrival(event),
        }
    }

    fn take_arrival(&mut self, event: &Event) {
        match event {
            Event::Index { document, value, identity, digest } => {
                self.identify(value, identity.as_ref());
                self.indexed += 1;
                let line = self.line(value);
                line.digests.extend(digest.clone());
                line.documents.push(document.clone());
            }
            Event::SinkEnd { documents } => self.sink_documents = Some(*documents),
            Event::DeadLetter { value, identity } => {
                self.identify(value, identity.as_ref());
                self.line(value).dead_letters += 1;
            }
            Event::Filter { value } => self.line(value).filtered = true,
            _ => {}
        }
    }

    fn acknowledge(&mut self, value: &str, outcome: Outcome, position: Option<&Position>) {
        let line = self.line(value);
        match outcome {
            Outcome::Ok => line.kept = true,
            Outcome::Fail => line.refused = true,
            Outcome::Info => {}
        }
        if let Some(position) = position.filter(|_| outcome == Outcome::Ok) {
            line.known_at.insert(position.clone());
            let promised = self.promised_at.entry(position.clone()).or_default();
            promised.insert(value.to_owned());
        }
    }

    fn read(&mut self, read: &str, topic: &str, partition: u32) -> &mut PartitionRead {
        self.reads.entry((read.to_owned(), (topic.to_owned(), partition))).or_default()
    }
}
