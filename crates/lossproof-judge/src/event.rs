use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the history is going to prove: without it a missing read would look like an empty one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Every topic that lines are sent to, with its number of partitions.
    pub topics: BTreeMap<String, u32>,
    /// Whether records are to arrive in a sink; else the topic is the end of the way.
    pub sink: bool,
}

/// One line of a history: an [`Event`] and when it was observed, in nanoseconds since any fixed
/// point. Nothing is concluded from the time; the order is that of the lines.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    pub t_ns: u64,
    #[serde(flatten)]
    pub event: Event,
}

/// How an attempt ended, as its caller saw it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was promised that the value is kept.
    Ok,
    /// It was said that the value is not kept.
    Fail,
    /// Not known: it may be there or not.
    Info,
}

/// A place in a log.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    pub topic: String,
    pub partition: u32,
    pub offset: i64,
}

/// Something that was seen from outside.
///
/// A *value* stands for one input line and is unique in a history. An *identity* is what the
/// system under test calls it; to the judge it is only a string. A *digest* is of the content, in
/// any form; where two are given for one value they must be equal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "f", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// First line of every history.
    History { version: u32, declaration: Declaration },
    /// A line was handed to a producer. The order of these is the order of sending.
    HandIn {
        process: String,
        value: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// What the producer said of it.
    Acknowledge {
        process: String,
        value: String,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
        /// Where it said to have put it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
    },
    /// A process was killed.
    Crash { process: String },
    /// This producer sends a line again when it has no answer, and its cluster cannot tell: copies
    /// of its lines in the topic are legal.
    Resend { process: String },
    /// A record in a full read of a topic. Each read has a name of its own.
    Store {
        read: String,
        position: Position,
        value: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// The read has seen every record of this partition from `start`, the first one kept, up to
    /// `end`, one past the last.
    ReadEnd { read: String, topic: String, partition: u32, start: i64, end: i64 },
    /// A document in the full read of the sink.
    Index {
        document: String,
        value: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// The full read of the sink has ended; it has so many documents.
    SinkEnd { documents: u64 },
    /// A record in the full read of the dead letters.
    DeadLetter {
        value: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        identity: Option<String>,
    },
    /// By the harness's own knowledge this line is to be filtered out on its way.
    Filter { value: String },
    /// A committed offset: the next one the group would read.
    Commit { group: String, position: Position },
    /// Last line: the harness came to its end, and this is the read of the topics that counts.
    End { final_read: String },
}

/// Short forms, with everything left out that may be.
impl Event {
    pub fn hand_in(process: impl Into<String>, value: impl Into<String>) -> Self {
        Self::HandIn { process: process.into(), value: value.into(), digest: None }
    }

    pub fn acknowledge(
        process: impl Into<String>,
        value: impl Into<String>,
        outcome: Outcome,
    ) -> Self {
        let (process, value) = (process.into(), value.into());
        Self::Acknowledge { process, value, outcome, identity: None, position: None }
    }

    pub fn store(
        read: impl Into<String>,
        topic: impl Into<String>,
        partition: u32,
        offset: i64,
        value: impl Into<String>,
    ) -> Self {
        let position = Position { topic: topic.into(), partition, offset };
        let (read, value) = (read.into(), value.into());
        Self::Store { read, position, value, identity: None, digest: None }
    }

    pub fn read_end(
        read: impl Into<String>,
        topic: impl Into<String>,
        partition: u32,
        start: i64,
        end: i64,
    ) -> Self {
        Self::ReadEnd { read: read.into(), topic: topic.into(), partition, start, end }
    }

    pub fn index(document: impl Into<String>, value: impl Into<String>) -> Self {
        let (document, value) = (document.into(), value.into());
        Self::Index { document, value, identity: None, digest: None }
    }

    pub fn commit(
        group: impl Into<String>,
        topic: impl Into<String>,
        partition: u32,
        offset: i64,
    ) -> Self {
        let position = Position { topic: topic.into(), partition, offset };
        Self::Commit { group: group.into(), position }
    }
}
