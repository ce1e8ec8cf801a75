//! Numbered statements of a reporter: which records have reached which stage.
//!
//! # Invariants
//! - `RECEIPT-1`: what is encoded decodes to the same receipt; bytes that were not written by
//!   [`Receipt::encode`] are refused, never misread (version byte, CRC32C).
//! - `RECEIPT-2`: decoding takes memory in proportion to the bytes given, whatever they say.
//! - `RECEIPT-3`: a receipt on 1,000 records of one lane and partition takes at most 100 bytes.
//!
//! The byte layout is in `docs/format/receipt.md`.

mod codec;

pub use codec::DecodeError;
pub(crate) use codec::cut_text;

use std::fmt;

use serde::Serialize;

use crate::interval::IntervalSet;

/// Where a record has been, in order. A later stage proves the earlier ones.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Durable in the producer's journal; the producer has said yes.
    Accepted,
    /// Handed to the Kafka client at least once.
    Sent,
    /// The cluster has acknowledged it.
    Acked,
    /// The auditor has read it in the topic, below the high watermark.
    Stored,
    /// A consumer of the group has got it.
    Delivered,
    /// All steps of the pipeline have succeeded.
    Processed,
    /// The sink has said that it has it.
    Confirmed,
    /// The group's committed offset is past it.
    Committed,
}

impl Stage {
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Sent,
        Self::Acked,
        Self::Stored,
        Self::Delivered,
        Self::Processed,
        Self::Confirmed,
        Self::Committed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Acked => "acked",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Processed => "processed",
            Self::Confirmed => "confirmed",
            Self::Committed => "committed",
        }
    }
}

/// How a record ended on purpose. A reason always goes with it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// A step of the pipeline let it go.
    Filtered,
    /// The dead-letter topic has acknowledged it.
    DeadLettered,
    /// Another copy of the same identity goes on. Proves nothing by itself: that copy must have
    /// been confirmed.
    Duplicate,
    /// The cluster refused it for good after it was accepted: it goes on nowhere.
    Rejected,
    /// A policy of the user let it expire.
    Expired,
    /// An operator discarded it.
    Discarded,
}

impl Disposition {
    pub const ALL: [Self; 6] = [
        Self::Filtered,
        Self::DeadLettered,
        Self::Duplicate,
        Self::Rejected,
        Self::Expired,
        Self::Discarded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Filtered => "filtered",
            Self::DeadLettered => "dead-lettered",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Discarded => "discarded",
        }
    }
}

/// Who reports.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Accepts records into a journal and ships them from there.
    Producer,
    /// Accepts records into memory: what it had not shipped when it ended is lost.
    UnsafeProducer,
    /// Consumes for a group, and commits an offset only after the receipt on it is durable.
    Pipeline { group: String },
    /// Consumes for a group and commits without regard to receipts.
    UnsafePipeline { group: String },
}

impl Role {
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Pipeline { group } | Self::UnsafePipeline { group } => Some(group),
            Self::Producer | Self::UnsafeProducer => None,
        }
    }

    /// Whether what this reporter did and did not report before it ended can be made good from
    /// what it kept.
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Producer | Self::Pipeline { .. })
    }
}

/// Numbers the receipts of one reporter session, from 0 without gaps.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ReceiptNumber(pub u64);

/// Topic and partition.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
}

impl Place {
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Which numbering a record belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct LaneId {
    pub session: u64,
    pub lane: u32,
}

/// How a session of a reporter stands as of this receipt.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The first receipt of a session.
    Opened,
    /// One of many.
    Ongoing,
    /// Not numbered and not kept: the session lives, its lanes end (so far) as stated.
    Heartbeat,
    /// The last receipt: the session has closed in order.
    Sealed,
    /// The last receipt, written by the successor out of the journal: the session had crashed.
    Recovered,
}

/// What is said of a set of records.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Mark {
    Reached(Stage),
    Ended {
        disposition: Disposition,
        reason: String,
    },
    /// The reporter had to forget what it knew of these records and this stage. With no numbers at
    /// all: of any record.
    Unknown(Stage),
    /// The group had committed nothing at this place, and began with the log: what was said of
    /// unstamped records of this place before this time (milliseconds since the Unix epoch) was
    /// about an earlier topic of the same name. Without numbers.
    Began {
        wall_ms: i64,
    },
    /// The reporter puts its dead letters in the topic of this place. Without numbers.
    DeadLettersIn,
}

/// One statement: these records of this lane, read from or written to this place, have this mark.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Entry {
    pub mark: Mark,
    /// `None` for records that nobody stamped: these go by their offsets.
    pub lane: Option<LaneId>,
    pub place: Place,
    /// Places in the lane; empty for unstamped records.
    pub seqs: IntervalSet,
    /// Offsets in the partition; empty where the reporter does not know them (before the ack).
    pub offsets: IntervalSet,
}

/// How far a lane goes, as the reporter has it durably. Only producers state these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LaneEnd {
    pub lane: LaneId,
    pub place: Place,
    /// One past the highest sequence number that was accepted.
    pub end: u64,
    /// Accepted, and neither acknowledged by the cluster nor rejected: still in the journal.
    pub pending: IntervalSet,
}

/// A statement of one reporter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Receipt {
    pub kind: Kind,
    /// The journal directory that the reporter lives in; its sessions follow each other.
    pub reporter: u64,
    /// Counts the sessions of the same reporter (and group), from 0 without gaps (LEDGER-8).
    pub incarnation: u64,
    pub session: u64,
    pub role: Role,
    /// When it was cut, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// How long after `wall_ms` the session counts as alive without another receipt.
    pub lease_ms: u64,
    /// For [`Kind::Heartbeat`]: the number that the next receipt will have.
    pub number: ReceiptNumber,
    /// How many receipts just before `number` are contained in this one: the journal merges old
    /// ones while the topic is not reachable.
    pub merged: u64,
    pub lane_ends: Vec<LaneEnd>,
    pub entries: Vec<Entry>,
}
