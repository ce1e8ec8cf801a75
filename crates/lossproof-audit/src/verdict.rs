//! What the ledger says of all records: complete, or which ones are lost, unknown, waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Serialize, Serializer};

use crate::interval::{Interval, IntervalSet};
use crate::receipt::{Disposition, LaneId, Place};

/// Who lost it, or is to blame for what else was found.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// Accepted, and it never got to the log.
    Producer,
    /// Acknowledged, and it is not in the log, or not as it was.
    Broker,
    /// In the log, and the group went past it without processing it.
    Consumer,
    /// Processed, and not in the sink.
    Sink,
}

impl Blame {
    pub fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Broker => "broker",
            Self::Consumer => "consumer",
            Self::Sink => "sink",
        }
    }
}

/// How it was lost, as far as the evidence goes.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "detail")]
pub enum Mechanism {
    /// The producer has ended, nothing says that it was sent, and no journal holds it.
    NeverSent,
    /// It was sent, nobody knows the outcome, it is not in the log, and no journal holds it.
    InDoubt,
    /// The cluster refused it for good.
    Rejected(String),
    /// The harness handed it in, and it has no identity.
    NeverAccepted,
    /// The log ends before the offset that was acknowledged.
    LogTruncated,
    /// The offset that was acknowledged is within the log, and holds something else or nothing.
    Replaced,
    /// The log holds other bytes than were accepted.
    Altered,
    /// It was written to another topic or partition.
    Misplaced(String),
    /// The log was cut at its start before the group had it.
    Removed,
    /// The committed offset went past it; nothing says that it was delivered.
    Skipped,
    /// It was delivered, and the offset was committed without its being processed.
    CommittedBeforeProcessing,
    /// It was set aside as a duplicate, and no copy of it went on.
    FalseDuplicate,
    /// The topic of dead letters has acknowledged it, and does not hold it.
    DeadLetterMissing,
    /// The offset was committed, and the sink never said that it has it.
    CommittedBeforeConfirmed,
    /// The sink said that it has it, and it has not.
    MissingInSink,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverSent => "never sent",
            Self::InDoubt => "sent, outcome unknown, not in the log",
            Self::Rejected(reason) => return write!(f, "rejected: {reason}"),
            Self::NeverAccepted => "handed in, never accepted",
            Self::LogTruncated => "acknowledged, and the log ends before it",
            Self::Replaced => "acknowledged, and its offset holds something else",
            Self::Altered => "stored with other bytes",
            Self::Misplaced(place) => return write!(f, "written to {place} instead"),
            Self::Removed => "removed from the log before it was consumed",
            Self::Skipped => "committed without being delivered",
            Self::CommittedBeforeProcessing => "committed before it was processed",
            Self::FalseDuplicate => "set aside as a duplicate, and no copy went on",
            Self::DeadLetterMissing => "set aside as a dead letter, and not in their topic",
            Self::CommittedBeforeConfirmed => "committed without the sink's confirmation",
            Self::MissingInSink => "confirmed, and not in the sink",
        })
    }
}

/// Some records, by name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Ids {
    /// Records with an identity. The place is that of origin, where it is known.
    Stamped { lane: LaneId, place: Option<Place>, range: Interval },
    /// Records without: these go by their offsets.
    Natural { place: Place, range: Interval },
    /// Whatever a session accepted behind what it has told.
    TailOf { session: u64 },
    /// Everything that the topic may hold.
    AllOf { topic: String },
    /// A name from the manifest, for a record that got no identity.
    Named { name: String },
}

impl Ids {
    /// How many records; `None` where that is not known.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Stamped { range, .. } | Self::Natural { range, .. } => Some(range.count()),
            Self::Named { .. } => Some(1),
            Self::TailOf { .. } | Self::AllOf { .. } => None,
        }
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |f: &mut fmt::Formatter<'_>, range: &Interval| {
            if range.first == range.last {
                write!(f, "{}", range.first)
            } else {
                write!(f, "{}..{}", range.first, range.last)
            }
        };
        match self {
            Self::Stamped { lane, range: numbers, .. } => {
                write!(f, "{:016x}-{}-", lane.session, lane.lane)?;
                range(f, numbers)
            }
            Self::Natural { place, range: numbers } => {
                write!(f, "{place}-")?;
                range(f, numbers)
            }
            Self::TailOf { session } => write!(f, "{session:016x}-*"),
            Self::AllOf { topic } => write!(f, "{topic}-*"),
            Self::Named { name } => write!(f, "{name}"),
        }
    }
}

impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            ids: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            place: Option<&'a Place>,
            #[serde(skip_serializing_if = "Option::is_none")]
            count: Option<u64>,
        }
        let place = match self {
            Self::Stamped { place, .. } => place.as_ref(),
            Self::Natural { place, .. } => Some(place),
            _ => None,
        };
        Flat { ids: self.to_string(), place, count: self.count() }.serialize(serializer)
    }
}

/// Records that will not arrive by themselves.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Loss {
    #[serde(flatten)]
    pub ids: Ids,
    /// The group that has not got it; `None` where it is lost for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub stage: Blame,
    pub mechanism: Mechanism,
    /// From the last word of any reporter on these records to this verdict, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_detect_ms: Option<u64>,
}

/// Records of which nobody can say.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Unknown {
    #[serde(flatten)]
    pub ids: Ids,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who is silent, and what is missing of it.
    pub silent: String,
}

/// Records that are on their way.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Waiting {
    #[serde(flatten)]
    pub ids: Ids,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Where they are.
    pub place: String,
}

/// One message that is there more than once.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Duplicate {
    /// The identity, or the manifest's name.
    pub id: String,
    pub detail: String,
}

/// How many records have reached each stage, a later one proving the earlier.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct StageTable {
    pub accepted: u64,
    pub sent: u64,
    pub acked: u64,
    pub stored: u64,
    /// Copies in the log beyond the first of the same identity: legal.
    pub resent: u64,
    pub groups: Vec<GroupStages>,
}

/// The stages of one group.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct GroupStages {
    pub group: String,
    pub delivered: u64,
    pub processed: u64,
    pub confirmed: u64,
    pub committed: u64,
    /// Number of records by disposition and reason.
    pub ended: Vec<Ended>,
    /// Documents that the sink holds, where it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_sink: Option<u64>,
}

/// Records that ended on purpose.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Ended {
    pub disposition: Disposition,
    pub reason: String,
    pub count: u64,
}

/// How a reporter's session stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    Open,
    /// Not sealed, and silent for longer than its lease.
    Expired,
    Sealed,
    /// Crashed, and sealed by its successor.
    Recovered,
}

/// One reporter's session.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SessionReport {
    pub session: String,
    pub role: crate::receipt::Role,
    pub state: SessionState,
    pub receipts: u64,
    pub missing: u64,
}

/// In one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Complete,
    Lost,
    Unknown,
    Waiting,
    /// Nothing is lost, and something is there twice.
    Duplicates,
}

/// What the evidence says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Verdict {
    pub outcome: Outcome,
    /// When it was given, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
    pub stages: StageTable,
    pub lost: Vec<Loss>,
    pub unknown: Vec<Unknown>,
    pub waiting: Vec<Waiting>,
    pub duplicates: Vec<Duplicate>,
    pub sessions: Vec<SessionReport>,
    /// What else should be known.
    pub remarks: Vec<String>,
}

impl Verdict {
    /// The worst that was found. Nothing that is missing is ever complete.
    pub fn outcome_of(&self) -> Outcome {
        if !self.lost.is_empty() {
            Outcome::Lost
        } else if !self.unknown.is_empty() {
            Outcome::Unknown
        } else if !self.waiting.is_empty() {
            Outcome::Waiting
        } else if !self.duplicates.is_empty() {
            Outcome::Duplicates
        } else {
            Outcome::Complete
        }
    }

    /// Exit code of the binary: 0 complete, 1 could not decide, 3 loss, 4 duplicates only.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Complete => 0,
            Outcome::Unknown | Outcome::Waiting => 1,
            Outcome::Lost => 3,
            Outcome::Duplicates => 4,
        }
    }

    /// Records that are lost, each counted once, whatever number of groups it is lost for.
    pub fn lost_count(&self) -> u64 {
        count_once(self.lost.iter())
    }

    /// Records lost at one stage.
    pub fn lost_at(&self, stage: Blame) -> u64 {
        count_once(self.lost.iter().filter(|loss| loss.stage == stage))
    }

    /// The longest time from the last word on a lost record to this verdict, in milliseconds.
    pub fn time_to_detect_ms(&self) -> Option<u64> {
        self.lost.iter().filter_map(|loss| loss.time_to_detect_ms).max()
    }
}

fn count_once<'a>(losses: impl Iterator<Item = &'a Loss>) -> u64 {
    let mut sets: BTreeMap<(Option<LaneId>, Option<&Place>), IntervalSet> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for loss in losses {
        let (key, range) = match &loss.ids {
            Ids::Stamped { lane, range, .. } => ((Some(*lane), None), range),
            Ids::Natural { place, range } => ((None, Some(place)), range),
            other => {
                names.insert(other);
                continue;
            }
        };
        sets.entry(key).or_default().insert_range(range.first, range.last);
    }
    sets.values().map(IntervalSet::count).sum::<u64>() + names.len() as u64
}
