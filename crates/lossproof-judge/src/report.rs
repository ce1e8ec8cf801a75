use std::fmt;

use serde::Serialize;

use crate::event::Position;

/// What an anomaly amounts to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Something arrived more than once.
    Duplicate,
    /// A rule is broken that all else rests on.
    Broken,
    /// A value that had to arrive did not.
    Loss,
}

/// The sum of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that had to arrive did, once.
    Complete,
    /// Everything did, some of it more than once.
    DuplicatesOnly,
    /// Nothing is lost, but a rule is broken: order, offsets, commits, contents.
    Broken,
    /// At least one value is lost.
    Loss,
    /// The evidence is not whole, and what there is shows no loss.
    Undecided,
}

/// One thing that must not be. The id of each kind is stable.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "id", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Anomaly {
    /// Known to have been at an offset that the final read went past, and not there.
    LostWrite { value: String, position: Position },
    /// Acknowledged, and in no read of the topic.
    UnseenInTopic { value: String },
    /// In the topic, and neither in the sink nor in the dead letters.
    UnseenInSink { value: String, position: Option<Position> },
    /// In the sink, and no longer in the topic.
    Vanished { value: String },
    /// More documents than input lines.
    DuplicateDocument { value: String, documents: Vec<String> },
    /// One input line under several identities.
    TwoIdentities { value: String, identities: Vec<String> },
    /// Several times in the topic, with no identity that shows it to be the same.
    DuplicateInTopic { value: String, positions: Vec<Position> },
    /// Two input lines under one identity: in the sink one overwrites the other.
    IdentityShared { identity: String, values: Vec<String> },
    /// One offset that held two values.
    InconsistentOffsets { position: Position, values: Vec<String> },
    /// An offset between start and end that held nothing.
    OffsetGap { position: Position },
    /// A later line of one producer before an earlier one.
    NonmonotonicSend { process: String, earlier: String, later: String, position: Position },
    /// Committed past a record that has arrived nowhere.
    CommitAhead { group: String, committed: i64, position: Position, value: String },
    /// Committed past the end of the log.
    CommitBeyondEnd { group: String, position: Position, end: i64 },
    /// A committed offset went back.
    CommitRegressed { group: String, position: Position, before: i64 },
    /// Nobody handed it in.
    Phantom { value: String },
    /// It was said not to be kept, and is there.
    RefusedButStored { value: String },
    /// The content is not what was handed in.
    Altered { value: String },
}

impl Anomaly {
    /// Every id that [`Anomaly::id`] gives.
    pub const IDS: [&'static str; 17] = [
        "lost-write",
        "unseen-in-topic",
        "unseen-in-sink",
        "vanished",
        "duplicate-document",
        "two-identities",
        "duplicate-in-topic",
        "identity-shared",
        "inconsistent-offsets",
        "offset-gap",
        "nonmonotonic-send",
        "commit-ahead",
        "commit-beyond-end",
        "commit-regressed",
        "phantom",
        "refused-but-stored",
        "altered",
    ];

    pub fn id(&self) -> &'static str {
        match self {
            Self::LostWrite { .. } => "lost-write",
            Self::UnseenInTopic { .. } => "unseen-in-topic",
            Self::UnseenInSink { .. } => "unseen-in-sink",
            Self::Vanished { .. } => "vanished",
            Self::DuplicateDocument { .. } => "duplicate-document",
            Self::TwoIdentities { .. } => "two-identities",
            Self::DuplicateInTopic { .. } => "duplicate-in-topic",
            Self::IdentityShared { .. } => "identity-shared",
            Self::InconsistentOffsets { .. } => "inconsistent-offsets",
            Self::OffsetGap { .. } => "offset-gap",
            Self::NonmonotonicSend { .. } => "nonmonotonic-send",
            Self::CommitAhead { .. } => "commit-ahead",
            Self::CommitBeyondEnd { .. } => "commit-beyond-end",
            Self::CommitRegressed { .. } => "commit-regressed",
            Self::Phantom { .. } => "phantom",
            Self::RefusedButStored { .. } => "refused-but-stored",
            Self::Altered { .. } => "altered",
        }
    }

    pub fn class(&self) -> Class {
        match self {
            Self::LostWrite { .. }
            | Self::UnseenInTopic { .. }
            | Self::UnseenInSink { .. }
            | Self::CommitAhead { .. } => Class::Loss,
            Self::DuplicateDocument { .. }
            | Self::TwoIdentities { .. }
            | Self::DuplicateInTopic { .. } => Class::Duplicate,
            _ => Class::Broken,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@{}", self.topic, self.partition, self.offset)
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.id())?;
        match self {
            Self::LostWrite { value, position } => {
                write!(f, "'{value}' was at {position}; the final read went past and has it not")
            }
            Self::UnseenInTopic { value } => {
                write!(f, "'{value}' was acknowledged and is in no read of the topic")
            }
            Self::UnseenInSink { value, position } => {
                write!(f, "'{value}' is neither in the sink nor in the dead letters")?;
                position
                    .as_ref()
                    .map_or(Ok(()), |position| write!(f, "; the topic has it at {position}"))
            }
            Self::Vanished { value } => write!(f, "'{value}' is in the sink, the topic lost it"),
            Self::DuplicateDocument { value, documents } => {
                write!(f, "'{value}' is in the sink as {}", documents.join(", "))
            }
            Self::TwoIdentities { value, identities } => {
                write!(f, "'{value}' has the identities {}", identities.join(", "))
            }
            Self::DuplicateInTopic { value, positions } => {
                let places: Vec<String> = positions.iter().map(ToString::to_string).collect();
                write!(f, "'{value}' is at {}, and not by one identity", places.join(", "))
            }
            Self::IdentityShared { identity, values } => {
                write!(f, "identity {identity} stands for '{}'", values.join("', '"))
            }
            Self::InconsistentOffsets { position, values } => {
                write!(f, "{position} held '{}'", values.join("', '"))
            }
            Self::OffsetGap { position } => write!(f, "{position} held nothing"),
            Self::NonmonotonicSend { process, earlier, later, position } => {
                write!(
                    f,
                    "'{later}' at {position} is before '{earlier}', which {process} got first"
                )
            }
            Self::CommitAhead { group, committed, position, value } => write!(
                f,
                "group {group} committed {committed}, but '{value}' at {position} arrived nowhere"
            ),
            Self::CommitBeyondEnd { group, position, end } => {
                write!(f, "group {group} committed {position}, the log ends at {end}")
            }
            Self::CommitRegressed { group, position, before } => {
                write!(f, "group {group} committed {position} after {before}")
            }
            Self::Phantom { value } => write!(f, "'{value}' was never handed in"),
            Self::RefusedButStored { value } => {
                write!(f, "'{value}' was refused and is there all the same")
            }
            Self::Altered { value } => write!(f, "'{value}' is not what was handed in"),
        }
    }
}

/// Numbers that are no anomalies.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Different values handed in.
    pub handed_in: u64,
    pub acknowledged: u64,
    /// Handed in, with no word of what became of them.
    pub unknown: u64,
    /// Values in the final read.
    pub stored: u64,
    pub indexed: u64,
    pub dead_lettered: u64,
    pub filtered: u64,
    /// Values with more than one place in the topic and one identity. Legal.
    pub resent: u64,
    /// Those of them whose producer was never killed. Legal, and worth a look.
    pub resent_without_crash: u64,
    /// Values handed in more than once, as a harness must after a crash.
    pub handed_in_again: u64,
    pub dead_lettered_and_indexed: u64,
    /// Records at or above the committed offset of every group. They would be read again.
    pub uncommitted: u64,
}

/// The judgement of one history.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub verdict: Verdict,
    /// Values that are lost, sorted.
    pub lost: Vec<String>,
    pub anomalies: Vec<Anomaly>,
    pub counts: Counts,
    /// What is missing for a verdict; empty where the evidence is whole.
    pub missing: Vec<String>,
}

impl Report {
    /// Whether an anomaly of that id was found.
    pub fn has(&self, id: &str) -> bool {
        self.anomalies.iter().any(|anomaly| anomaly.id() == id)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { handed_in, acknowledged, stored, indexed, .. } = &self.counts;
        let Counts { dead_lettered, filtered, resent, unknown, .. } = &self.counts;
        writeln!(f, "verdict: {:?}, {} lost", self.verdict, self.lost.len())?;
        writeln!(
            f,
            "handed in {handed_in}, acknowledged {acknowledged}, unknown {unknown}, stored \
             {stored}, indexed {indexed}, dead-lettered {dead_lettered}, filtered {filtered}, \
             re-sent {resent}"
        )?;
        self.missing.iter().try_for_each(|missing| writeln!(f, "missing: {missing}"))?;
        self.anomalies.iter().try_for_each(|anomaly| writeln!(f, "{anomaly}"))
    }
}
