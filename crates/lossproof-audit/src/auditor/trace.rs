use std::str::FromStr;

use lossproof_client::Record;
use serde::Serialize;
use thiserror::Error;

use super::{Audit, field_of, parse_identity, value_of};
use crate::identity::Identity;
use crate::receipt::Stage;
use crate::verdict::Ids;

/// Which message is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Query {
    Identity(Identity),
    /// All records whose field has this value.
    Field {
        field: String,
        value: String,
    },
}

/// What a text that is no [`Query`] looks like instead.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[error("'{text}' is neither SESSION-LANE-SEQ nor TOPIC-PARTITION-OFFSET")]
pub struct ParseQueryError {
    pub text: String,
}

impl FromStr for Query {
    type Err = ParseQueryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let identity = parse_identity(text).map(Self::Identity);
        identity.ok_or_else(|| ParseQueryError { text: text.to_owned() })
    }
}

impl Query {
    /// Whether a document of a sink is the one asked for by what it holds.
    pub fn matches_document(&self, document: &[u8]) -> bool {
        match self {
            Self::Identity(_) => false,
            Self::Field { field, value } => {
                value_of(document, field).is_some_and(|found| found == *value)
            }
        }
    }

    /// Whether a record that is read on the way is the one asked for. An identity is looked up
    /// in the ledger; only the name of a place has to be turned into one.
    pub(super) fn matches(&self, record: &Record) -> bool {
        match self {
            Self::Identity(Identity::Stamped(_)) => false,
            Self::Identity(Identity::Natural { topic, partition, offset }) => {
                record.topic == *topic && record.partition == *partition && record.offset == *offset
            }
            Self::Field { field, value } => {
                field_of(record, field).is_some_and(|found| found == *value)
            }
        }
    }
}

/// The way of one message.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Trace {
    pub id: String,
    /// Where it lies in the log, as far as the auditor has read it.
    pub copies: Vec<Copy>,
    pub stages: Vec<StageReached>,
    /// What the verdict says of it; empty where all is well.
    pub findings: Vec<String>,
}

/// One copy in the log.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Copy {
    pub topic: String,
    pub partition: i32,
    pub offset: u64,
}

/// A stage, and whether the message is known to have been there.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct StageReached {
    pub stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub reached: bool,
    /// How it ended there, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

impl Audit {
    /// The messages that `query` means, and their ways; empty where nobody knows of such a one.
    pub fn trace(&self, query: &Query) -> Vec<Trace> {
        let mut ids: Vec<Identity> = self.found.iter().cloned().collect();
        if let Query::Identity(identity) = query
            && ids.is_empty()
        {
            ids.push(identity.clone());
        }
        ids.iter().filter_map(|id| self.trace_one(id)).collect()
    }

    fn trace_one(&self, id: &Identity) -> Option<Trace> {
        let stages = self.ledger.stages_of(id)?;
        let copies = self.ledger.copies_of(id);
        let mut findings = Vec::new();
        let about = |group: &Option<String>| {
            group.as_ref().map(|group| format!(" for group {group}")).unwrap_or_default()
        };
        for loss in self.verdict.lost.iter().filter(|loss| covers(&loss.ids, id)) {
            let (stage, group) = (loss.stage.name(), about(&loss.group));
            findings.push(format!("lost{group} at the {stage}: {}", loss.mechanism));
        }
        for unknown in self.verdict.unknown.iter().filter(|unknown| covers(&unknown.ids, id)) {
            findings.push(format!("unknown{}: {}", about(&unknown.group), unknown.silent));
        }
        for waiting in self.verdict.waiting.iter().filter(|waiting| covers(&waiting.ids, id)) {
            findings.push(format!("waiting{}: {}", about(&waiting.group), waiting.place));
        }
        Some(Trace { id: id.to_string(), copies, stages, findings })
    }
}

fn covers(ids: &Ids, id: &Identity) -> bool {
    match (ids, id) {
        (Ids::Stamped { lane, range, .. }, Identity::Stamped(id)) => {
            lane.session == id.session
                && lane.lane == id.lane
                && (range.first..=range.last).contains(&id.seq)
        }
        (Ids::Natural { place, range }, Identity::Natural { topic, partition, offset }) => {
            let offset = u64::try_from(*offset).ok();
            place.topic == *topic
                && place.partition == *partition
                && offset.is_some_and(|offset| (range.first..=range.last).contains(&offset))
        }
        _ => false,
    }
}
