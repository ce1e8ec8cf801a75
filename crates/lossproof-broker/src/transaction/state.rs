//! What a transactional id may do next. Knows neither the journal nor the clock.
//!
//! # Invariants
//!
//! - TRANSACTION-1: only the bearer of the present producer id and epoch changes a transaction,
//!   and a retry is known by them too.
//! - TRANSACTION-2: an outcome is final: who asks for the same again is told yes, who asks for the
//!   other is refused.
//! - TRANSACTION-3: what a transaction holds is bounded, so that its end fits one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use lossproof_env::{Planted, planted};
use lossproof_log::{CommitCause, OffsetRange, PartitionId};
use lossproof_wire::ErrorCode;

/// As `transaction.max.timeout.ms` of Apache Kafka.
const TIMEOUT_MAX: Duration = Duration::from_mins(15);
/// As `transactional.id.expiration.ms` of Apache Kafka.
const ID_EXPIRY: Duration = Duration::from_hours(7 * 24);
/// Each costs a few hundred bytes for as long as it is known.
const IDS_MAX: usize = 50_000;
const PARTITIONS_MAX: usize = 10_000;
const OFFSET_BYTES_MAX: usize = 1 << 20;
/// Partitions may take one of so many parts of a journal segment, offsets another.
const SEGMENT_SHARES: usize = 8;
/// More than a partition takes of the last commit: a marker, and its two lines in the frame.
const PARTITION_BYTES: usize = 256;
/// What an offset takes there besides key and value.
const OFFSET_EXTRA_BYTES: usize = 160;
/// The last epoch of an id that is given out; the one above is left for fencing it.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// Bounds on transactions. The defaults are Apache Kafka's where it has them.
#[derive(Clone, Debug)]
pub struct TransactionSettings {
    /// A longer `transaction.timeout.ms` is refused.
    pub timeout_max: Duration,
    /// An id that began nothing for this long, while the broker ran, is forgotten.
    pub id_expiry: Duration,
    /// Transactional ids that are known; further ones are refused.
    pub ids_max: usize,
    /// Of one transaction.
    pub partitions_max: usize,
    /// Of all offsets of one transaction, in the journal.
    pub offset_bytes_max: usize,
}

impl TransactionSettings {
    /// The same with what one commit takes at most kept to a small part of a journal segment
    /// (TRANSACTION-3).
    pub(crate) fn within(self, segment_bytes: u64) -> Self {
        let share = usize::try_from(segment_bytes).unwrap_or(usize::MAX) / SEGMENT_SHARES;
        Self {
            partitions_max: self.partitions_max.min(share / PARTITION_BYTES),
            offset_bytes_max: self.offset_bytes_max.min(share),
            ..self
        }
    }
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            timeout_max: TIMEOUT_MAX,
            id_expiry: ID_EXPIRY,
            ids_max: IDS_MAX,
            partitions_max: PARTITIONS_MAX,
            offset_bytes_max: OFFSET_BYTES_MAX,
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransactionError {
    #[error("a transactional id must not be empty")]
    EmptyId,
    #[error("the transaction timeout is not between 1 ms and the maximum")]
    Timeout,
    #[error("the transactional id does not have this producer id: begin with InitProducerId")]
    UnknownProducer,
    #[error("another producer with the same transactional id has taken over")]
    Fenced,
    #[error("the transaction is in no state for this")]
    State,
    #[error("the transaction is as large as one may be: end it and begin another")]
    TooLarge,
    #[error("the transactional id is being forgotten: try again")]
    Busy,
    #[error("there are as many transactional ids as there may be")]
    TooManyIds,
    #[error("a part of the transactions' state is damaged: an operator has to look at it")]
    Damaged,
    #[error("a record of the transaction may be lost: partition {partition} is damaged {range}")]
    Lost { partition: PartitionId, range: OffsetRange },
    #[error("records of the transaction may be lost: partition {partition} is not in the journal")]
    LostPartition { partition: PartitionId },
    #[error("the group does not take offsets from who sends them: {0:?}")]
    NotAdmitted(ErrorCode),
    #[error("the journal refused: {0}")]
    Storage(CommitCause),
}

impl TransactionError {
    /// The code for it; what a fenced producer is told depends on the request and its version.
    pub(crate) fn code(&self, fenced: ErrorCode) -> ErrorCode {
        match self {
            Self::EmptyId => ErrorCode::INVALID_REQUEST,
            Self::NotAdmitted(code) => *code,
            Self::Timeout => ErrorCode::INVALID_TRANSACTION_TIMEOUT,
            Self::UnknownProducer => ErrorCode::INVALID_PRODUCER_ID_MAPPING,
            Self::Fenced => fenced,
            Self::State => ErrorCode::INVALID_TXN_STATE,
            Self::TooLarge => ErrorCode::POLICY_VIOLATION,
            Self::Busy => ErrorCode::CONCURRENT_TRANSACTIONS,
            // Its records may be gone: the client must not take it for a hiccup.
            Self::Lost { .. }
            | Self::LostPartition { .. }
            | Self::Storage(CommitCause::Damaged { .. }) => ErrorCode::KAFKA_STORAGE_ERROR,
            Self::TooManyIds | Self::Damaged | Self::Storage(_) => {
                ErrorCode::COORDINATOR_NOT_AVAILABLE
            }
        }
    }
}

/// Whom a transactional id belongs to at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

impl Identity {
    /// The next epoch: everything that bears an earlier one is fenced by it.
    pub(crate) fn next(self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Commit,
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    Ongoing,
    Complete(Outcome),
}

impl Phase {
    /// In Kafka's words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::Complete(Outcome::Commit) => "CompleteCommit",
            Self::Complete(Outcome::Abort) => "CompleteAbort",
        }
    }
}

/// What InitProducerId comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// A retry of what was granted before.
    Granted,
    NextEpoch,
    /// The epochs of the producer id are used up.
    NewProducerId,
}

/// What EndTxn comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Now,
    /// A retry of what was done before.
    Done,
}

/// A transactional id and its last transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) identity: Identity,
    /// Whom the bearer was when it asked for its present epoch, if it said so (KIP-360).
    pub(crate) previous: Option<Identity>,
    pub(crate) timeout_ms: i32,
    pub(crate) phase: Phase,
    /// Wall time at which the ongoing transaction began; for those who watch.
    pub(crate) started_ms: i64,
    /// What it has written to, or may have. Empty unless ongoing, as the following.
    pub(crate) partitions: BTreeSet<PartitionId>,
    pub(crate) groups: BTreeSet<String>,
    /// Offsets to be committed with it, as keys and values of the journal.
    pub(crate) offsets: BTreeMap<Bytes, Bytes>,
}

impl Transaction {
    pub(crate) fn new(identity: Identity, timeout_ms: i32) -> Self {
        Self {
            identity,
            previous: None,
            timeout_ms,
            phase: Phase::Empty,
            started_ms: -1,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            offsets: BTreeMap::new(),
        }
    }

    pub(crate) fn is_ongoing(&self) -> bool {
        self.phase == Phase::Ongoing
    }

    /// TRANSACTION-1.
    pub(crate) fn check(&self, bearer: Identity) -> Result<(), TransactionError> {
        if bearer.producer_id != self.identity.producer_id {
            Err(TransactionError::UnknownProducer)
        } else if bearer.epoch != self.identity.epoch {
            Err(TransactionError::Fenced)
        } else {
            Ok(())
        }
    }

    /// May records of `bearer` go to `partition` now?
    pub(crate) fn check_write(
        &self,
        bearer: Identity,
        partition: PartitionId,
    ) -> Result<(), TransactionError> {
        self.check(bearer)?;
        let open = self.is_ongoing() && self.partitions.contains(&partition);
        if open { Ok(()) } else { Err(TransactionError::State) }
    }

    /// `bearer`: whom the client says it is, where it wants to go on with its own producer id
    /// (KIP-360); otherwise it takes over from whoever there was.
    pub(crate) fn renew(&self, bearer: Option<Identity>) -> Result<Renewal, TransactionError> {
        if let Some(bearer) = bearer {
            // Nobody has used what was granted, so it may be the answer that was lost.
            if self.phase == Phase::Empty && self.previous == Some(bearer) {
                return Ok(Renewal::Granted);
            }
            if bearer != self.identity {
                return Err(TransactionError::Fenced); // TRANSACTION-1
            }
        }
        let exhausted = self.identity.epoch >= EPOCH_MAX;
        Ok(if exhausted { Renewal::NewProducerId } else { Renewal::NextEpoch })
    }

    /// Adds partitions and begins where nothing is begun; false where all of it is known.
    pub(crate) fn add_partitions(
        &mut self,
        bearer: Identity,
        partitions: &[PartitionId],
        max: usize,
        now_ms: i64,
    ) -> Result<bool, TransactionError> {
        self.check(bearer)?;
        let mut all = self.partitions.clone();
        all.extend(partitions);
        if all.len() > max {
            return Err(TransactionError::TooLarge); // TRANSACTION-3
        }
        let changed = !self.is_ongoing() || all.len() > self.partitions.len();
        self.begin(now_ms);
        self.partitions = all;
        Ok(changed)
    }

    /// The same for a group whose offsets are to be committed.
    pub(crate) fn add_group(
        &mut self,
        bearer: Identity,
        group: &str,
        bytes_max: usize,
        now_ms: i64,
    ) -> Result<bool, TransactionError> {
        self.check(bearer)?;
        let changed = !self.is_ongoing() || !self.groups.contains(group);
        self.begin(now_ms);
        self.groups.insert(group.to_owned());
        self.check_offset_bytes(bytes_max)?;
        Ok(changed)
    }

    /// Takes offsets of a group that was added.
    pub(crate) fn add_offsets(
        &mut self,
        bearer: Identity,
        group: &str,
        offsets: impl IntoIterator<Item = (Bytes, Bytes)>,
        bytes_max: usize,
    ) -> Result<(), TransactionError> {
        self.check(bearer)?;
        if !self.is_ongoing() || !self.groups.contains(group) {
            return Err(TransactionError::State);
        }
        self.offsets.extend(offsets);
        self.check_offset_bytes(bytes_max)
    }

    /// TRANSACTION-3.
    fn check_offset_bytes(&self, max: usize) -> Result<(), TransactionError> {
        let size = |(key, value): (&Bytes, &Bytes)| key.len() + value.len() + OFFSET_EXTRA_BYTES;
        let offsets: usize = self.offsets.iter().map(size).sum();
        let groups: usize = self.groups.iter().map(String::len).sum();
        if offsets + groups > max { Err(TransactionError::TooLarge) } else { Ok(()) }
    }

    fn begin(&mut self, now_ms: i64) {
        if !self.is_ongoing() {
            self.phase = Phase::Ongoing;
            self.started_ms = now_ms;
        }
    }

    /// TRANSACTION-2.
    pub(crate) fn end(&self, bearer: Identity, wanted: Outcome) -> Result<End, TransactionError> {
        let believed = planted(Planted::EndTxnRetryUnchecked) && !self.is_ongoing();
        if !believed {
            self.check(bearer)?;
        }
        match self.phase {
            Phase::Ongoing => Ok(End::Now),
            Phase::Complete(outcome) if outcome == wanted => Ok(End::Done),
            Phase::Complete(_) | Phase::Empty => Err(TransactionError::State),
        }
    }

    /// What is left of it once it has ended.
    pub(crate) fn ended(&self, outcome: Outcome) -> Self {
        let (phase, started_ms) = (Phase::Complete(outcome), self.started_ms);
        Self { phase, started_ms, ..Self::new(self.identity, self.timeout_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity = Identity { producer_id: 7, epoch: 3 };
    const P: PartitionId = PartitionId(1);

    fn ongoing() -> Transaction {
        let mut transaction = Transaction::new(ME, 1_000);
        assert_eq!(transaction.add_partitions(ME, &[P], 2, 5), Ok(true));
        transaction
    }

    #[test]
    fn only_the_bearer_of_id_and_epoch_acts() {
        // TRANSACTION-1
        let mut transaction = ongoing();
        let stranger = Identity { producer_id: 8, ..ME };
        let zombie = Identity { epoch: 2, ..ME };
        for (bearer, error) in
            [(stranger, TransactionError::UnknownProducer), (zombie, TransactionError::Fenced)]
        {
            assert_eq!(transaction.check_write(bearer, P), Err(error.clone()));
            assert_eq!(transaction.add_partitions(bearer, &[P], 2, 0), Err(error.clone()));
            assert_eq!(transaction.add_group(bearer, "g", 99, 0), Err(error.clone()));
            assert_eq!(transaction.add_offsets(bearer, "g", [], 99), Err(error.clone()));
            assert_eq!(transaction.end(bearer, Outcome::Commit), Err(error));
            assert_eq!(transaction.renew(Some(bearer)), Err(TransactionError::Fenced));
        }
        assert_eq!(transaction.check_write(ME, P), Ok(()));
        assert_eq!(transaction.check_write(ME, PartitionId(2)), Err(TransactionError::State));
    }

    #[test]
    fn an_outcome_is_final() {
        // TRANSACTION-2
        let fresh = Transaction::new(ME, 1);
        assert_eq!(fresh.end(ME, Outcome::Commit), Err(TransactionError::State));
        let transaction = ongoing();
        assert_eq!(transaction.end(ME, Outcome::Abort), Ok(End::Now));
        let mut ended = transaction.ended(Outcome::Abort);
        assert!(ended.partitions.is_empty());
        assert_eq!(ended.check_write(ME, P), Err(TransactionError::State));
        assert_eq!(ended.end(ME, Outcome::Abort), Ok(End::Done));
        assert_eq!(ended.end(ME, Outcome::Commit), Err(TransactionError::State));
        let zombie = Identity { epoch: 2, ..ME };
        assert_eq!(ended.end(zombie, Outcome::Abort), Err(TransactionError::Fenced));
        assert_eq!(ended.add_partitions(ME, &[P], 2, 9), Ok(true), "the next one begins");
    }

    #[test]
    fn a_transaction_is_bounded() {
        // TRANSACTION-3
        let mut transaction = ongoing();
        assert_eq!(transaction.add_partitions(ME, &[P], 2, 0), Ok(false), "known");
        let three = [PartitionId(2), PartitionId(3)];
        assert_eq!(transaction.add_partitions(ME, &three, 2, 0), Err(TransactionError::TooLarge));
        let offset = || [(Bytes::from_static(b"key"), Bytes::from_static(b"value"))];
        assert_eq!(transaction.add_offsets(ME, "g", offset(), 999), Err(TransactionError::State));
        assert_eq!(transaction.add_group(ME, "g", 1, 0), Ok(true));
        let full = 1 + 3 + 5 + OFFSET_EXTRA_BYTES;
        assert_eq!(transaction.add_offsets(ME, "g", offset(), full), Ok(()));
        let one_more = transaction.add_offsets(ME, "g", offset(), full - 1);
        assert_eq!(one_more, Err(TransactionError::TooLarge));
    }

    #[test]
    fn epochs_rise_until_they_are_used_up() {
        let mut transaction = Transaction::new(ME, 1);
        assert_eq!(transaction.renew(None), Ok(Renewal::NextEpoch));
        assert_eq!(transaction.renew(Some(ME)), Ok(Renewal::NextEpoch));
        transaction.previous = Some(Identity { epoch: 2, ..ME });
        assert_eq!(transaction.renew(transaction.previous), Ok(Renewal::Granted));
        let mut used = ongoing();
        used.previous = transaction.previous;
        assert_eq!(used.renew(transaction.previous), Err(TransactionError::Fenced));
        transaction.identity.epoch = EPOCH_MAX;
        assert_eq!(transaction.renew(None), Ok(Renewal::NewProducerId));
    }
}
