use std::fmt;
use std::str::FromStr;

/// Name of the environment variable that chooses a bug in a `--cfg planted` build.
pub const PLANTED_VARIABLE: &str = "LOSSPROOF_PLANTED";

/// A bug that is put in on purpose, to prove that the tests would find it.
///
/// Only a build with `--cfg planted` can have one; there the environment variable
/// `LOSSPROOF_PLANTED` chooses which, by [`Planted::name`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Planted {
    /// The log says yes before its fsync has returned.
    AckBeforeFsync,
    /// Readers see what the log has written before its fsync has returned.
    ShownBeforeDurable,
    /// Recovery cuts damaged data that had been acknowledged, as if it were a torn tail.
    CutDamagedAcked,
    /// Recovery believes what it reads after a failed fsync, instead of writing it anew.
    TrustPageCache,
    /// The name of a new segment is not made durable.
    SkipDirSync,
    /// A failed fsync counts as one that succeeded.
    SyncErrorIgnored,
    /// A failed fsync is tried again, and the second answer is believed.
    SyncRetried,
    /// Recovery forgets what idempotent producers sent last.
    DedupeWindowLost,
    /// A start after a crash goes on under the old leader epoch.
    EpochNotRaised,
    /// A new segment declares the last frame of the one before it void.
    SegmentRollLosesFrame,
    /// The durable mark names a frame that is not yet there.
    MarkAhead,
    /// An unknown producer may begin in the middle of its sequence.
    UnknownProducerAccepted,
    /// Recovery takes a batch with a wrong checksum for good.
    DamageOverlooked,
    /// The offsets of a lost batch are given to the next one.
    OffsetGivenAgain,
    /// An aborted transaction is forgotten by the list that committed readers go by.
    AbortedForgotten,
    /// The last stable offset passes open transactions.
    StableTooFar,
    /// A checkpoint counts before the cold file that it names is durable.
    ColdFileNotSynced,
    /// The slots name a checkpoint before that is durable.
    CheckpointNotSynced,
    /// Segments are given back before the slots name the checkpoint that stands for them.
    SegmentsGivenBackEarly,
    /// Only one of the two slots names the checkpoint.
    CheckpointInOneSlot,
    /// A segment that is used again keeps its old headers.
    RecycledHeaderKept,
    /// A segment that is used again gets its new name before its old headers are durably gone.
    RecycledHeaderNotSynced,
    /// A checkpoint forgets where a partition's log starts.
    LogStartForgotten,
    /// The mover gives a damaged batch a checksum that fits.
    DamageMoved,
    /// Recovery leaves batches that have no place where the mover gives their segment back.
    MisfitsNotKept,
    /// After damage the log goes on with producer ids that may have been given.
    ProducerIdsNotMoved,
    /// The next segment is made by a second try, after a sync has failed in the first.
    SpareTriedAgain,
    /// Compaction keeps the older value of a key.
    CompactionKeepsOlder,
    /// Compaction goes past the last stable offset.
    CompactionPassesStable,
    /// A fetch at an offset inside of a batch begins with the next one.
    MidBatchSkipped,
    /// A committed reader is given what stands in an open transaction.
    OpenTransactionShown,
    /// A fetch session leaves out records where the offsets are those of its last answer.
    SessionLeavesOutRecords,
    /// An offset is answered as committed before it is durable.
    OffsetsAnsweredEarly,
    /// An assignment is told before it is stored.
    AssignmentToldEarly,
    /// The coordinator believes a second EndTxn without looking at its epoch.
    EndTxnRetryUnchecked,
    /// A peer that sends byte by byte has its time anew with each byte.
    SlowPeerKept,
    /// Small answers wait for memory like large ones.
    SmallAnswerWaits,
    /// The pipeline commits an offset before the record is processed.
    CommitBeforeProcessing,
    /// An error of one item in a bulk answer is overlooked.
    BulkItemErrorIgnored,
    /// A receipt vanishes and nobody says so.
    ReceiptLost,
}

impl Planted {
    pub const ALL: [Self; 40] = [
        Self::AckBeforeFsync,
        Self::ShownBeforeDurable,
        Self::CutDamagedAcked,
        Self::TrustPageCache,
        Self::SkipDirSync,
        Self::SyncErrorIgnored,
        Self::SyncRetried,
        Self::DedupeWindowLost,
        Self::EpochNotRaised,
        Self::SegmentRollLosesFrame,
        Self::MarkAhead,
        Self::UnknownProducerAccepted,
        Self::DamageOverlooked,
        Self::OffsetGivenAgain,
        Self::AbortedForgotten,
        Self::StableTooFar,
        Self::ColdFileNotSynced,
        Self::CheckpointNotSynced,
        Self::SegmentsGivenBackEarly,
        Self::CheckpointInOneSlot,
        Self::RecycledHeaderKept,
        Self::RecycledHeaderNotSynced,
        Self::LogStartForgotten,
        Self::DamageMoved,
        Self::MisfitsNotKept,
        Self::ProducerIdsNotMoved,
        Self::SpareTriedAgain,
        Self::CompactionKeepsOlder,
        Self::CompactionPassesStable,
        Self::MidBatchSkipped,
        Self::OpenTransactionShown,
        Self::SessionLeavesOutRecords,
        Self::OffsetsAnsweredEarly,
        Self::AssignmentToldEarly,
        Self::EndTxnRetryUnchecked,
        Self::SlowPeerKept,
        Self::SmallAnswerWaits,
        Self::CommitBeforeProcessing,
        Self::BulkItemErrorIgnored,
        Self::ReceiptLost,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeFsync => "ack-before-fsync",
            Self::ShownBeforeDurable => "shown-before-durable",
            Self::CutDamagedAcked => "cut-damaged-acked",
            Self::TrustPageCache => "trust-page-cache",
            Self::SkipDirSync => "skip-dir-sync",
            Self::SyncErrorIgnored => "sync-error-ignored",
            Self::SyncRetried => "sync-retried",
            Self::DedupeWindowLost => "dedupe-window-lost",
            Self::EpochNotRaised => "epoch-not-raised",
            Self::SegmentRollLosesFrame => "segment-roll-loses-frame",
            Self::MarkAhead => "mark-ahead",
            Self::UnknownProducerAccepted => "unknown-producer-accepted",
            Self::DamageOverlooked => "damage-overlooked",
            Self::OffsetGivenAgain => "offset-given-again",
            Self::AbortedForgotten => "aborted-forgotten",
            Self::StableTooFar => "stable-too-far",
            Self::ColdFileNotSynced => "cold-file-not-synced",
            Self::CheckpointNotSynced => "checkpoint-not-synced",
            Self::SegmentsGivenBackEarly => "segments-given-back-early",
            Self::CheckpointInOneSlot => "checkpoint-in-one-slot",
            Self::RecycledHeaderKept => "recycled-header-kept",
            Self::RecycledHeaderNotSynced => "recycled-header-not-synced",
            Self::LogStartForgotten => "log-start-forgotten",
            Self::DamageMoved => "damage-moved",
            Self::MisfitsNotKept => "misfits-not-kept",
            Self::ProducerIdsNotMoved => "producer-ids-not-moved",
            Self::SpareTriedAgain => "spare-tried-again",
            Self::CompactionKeepsOlder => "compaction-keeps-older",
            Self::CompactionPassesStable => "compaction-passes-stable",
            Self::MidBatchSkipped => "mid-batch-skipped",
            Self::OpenTransactionShown => "open-transaction-shown",
            Self::SessionLeavesOutRecords => "session-leaves-out-records",
            Self::OffsetsAnsweredEarly => "offsets-answered-early",
            Self::AssignmentToldEarly => "assignment-told-early",
            Self::EndTxnRetryUnchecked => "end-txn-retry-unchecked",
            Self::SlowPeerKept => "slow-peer-kept",
            Self::SmallAnswerWaits => "small-answer-waits",
            Self::CommitBeforeProcessing => "commit-before-processing",
            Self::BulkItemErrorIgnored => "bulk-item-error-ignored",
            Self::ReceiptLost => "receipt-lost",
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no planted bug has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParsePlantedError {
    pub name: String,
}

impl fmt::Display for ParsePlantedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Planted::ALL.map(Planted::name).join(", ");
        write!(f, "no planted bug is called '{}'; there are: {known}", self.name)
    }
}

impl std::error::Error for ParsePlantedError {}

impl FromStr for Planted {
    type Err = ParsePlantedError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|bug| bug.name() == name);
        found.ok_or_else(|| ParsePlantedError { name: name.to_owned() })
    }
}

/// Whether this build can have planted bugs at all. A test of a planted bug asserts it first: an
/// ordinary build would pass for the wrong reason.
pub const PLANTED_BUILD: bool = cfg!(planted);

/// Whether `bug` is switched on: never but in a `--cfg planted` build that was told so.
#[cfg(not(planted))]
#[inline]
pub const fn planted(_bug: Planted) -> bool {
    false
}

/// Whether `bug` is switched on.
///
/// # Panics
///
/// Where `LOSSPROOF_PLANTED` holds a name that no bug has: a misspelt one would otherwise look
/// like a bug that no test finds.
#[cfg(planted)]
pub fn planted(bug: Planted) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Planted>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| match std::env::var_os(PLANTED_VARIABLE) {
        None => None,
        Some(name) if name.is_empty() => None,
        Some(name) => match name.to_string_lossy().parse() {
            Ok(bug) => Some(bug),
            Err(error) => panic!("{PLANTED_VARIABLE}: {error}"),
        },
    });
    *chosen == Some(bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own_that_parses_back() {
        for bug in Planted::ALL {
            assert_eq!(bug.to_string().parse(), Ok(bug));
        }
        let error = "ack-before-fsink".parse::<Planted>().unwrap_err();
        assert!(error.to_string().contains("ack-before-fsync, "), "{error}");
    }

    #[cfg(not(planted))]
    #[test]
    fn an_ordinary_build_has_none() {
        assert!(Planted::ALL.into_iter().all(|bug| !planted(bug)));
        const { assert!(!PLANTED_BUILD) };
    }
}
