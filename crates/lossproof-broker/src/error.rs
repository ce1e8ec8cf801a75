//! How what happens inside is told to clients.

use lossproof_log::{CommitCause, ReadError};
use lossproof_wire::ErrorCode;

use crate::group::GroupError;
use crate::offsets::UnreadableEntry;
use crate::topics::TopicError;

/// Why an append was refused, as a producer is told. What is certainly not written gets a code
/// that says so; only a fenced journal leaves it open.
pub(crate) fn produce_error(cause: &CommitCause) -> ErrorCode {
    match cause {
        CommitCause::Full(_) => ErrorCode::NOT_ENOUGH_REPLICAS,
        CommitCause::Closed => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        CommitCause::UnknownPartition(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CommitCause::InvalidBatch { .. } => ErrorCode::INVALID_RECORD,
        CommitCause::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        // The answer after which librdkafka and the Java client take a new epoch by themselves and
        // send the batch again; OUT_OF_ORDER_SEQUENCE_NUMBER would end librdkafka's producer.
        CommitCause::UnknownProducer { .. } => ErrorCode::UNKNOWN_PRODUCER_ID,
        CommitCause::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        CommitCause::InTransaction { .. } => ErrorCode::INVALID_TXN_STATE,
        CommitCause::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// The same for a group: every failure of the storage is the coordinator's, and passes or needs an
/// operator.
pub(crate) fn group_storage_error(cause: &CommitCause) -> ErrorCode {
    tracing::error!(%cause, "group offsets were not committed");
    ErrorCode::COORDINATOR_NOT_AVAILABLE
}

/// What is damaged is never "no offset" (OFFSETS-3): the client asks again, the operator repairs.
pub(crate) fn offsets_error(error: UnreadableEntry) -> ErrorCode {
    tracing::error!(%error, "committed offsets are damaged");
    ErrorCode::COORDINATOR_NOT_AVAILABLE
}

pub(crate) fn read_error(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::UnknownPartition(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        // Clients give it to their users. After KAFKA_STORAGE_ERROR they ask for another leader
        // and come again, without a word and for ever; none of them steps over either.
        ReadError::Damaged { .. } => ErrorCode::CORRUPT_MESSAGE,
        _ => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

pub(crate) fn topic_error(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::Exists { .. } => ErrorCode::TOPIC_ALREADY_EXISTS,
        TopicError::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        TopicError::InvalidName { .. } => ErrorCode::INVALID_TOPIC_EXCEPTION,
        TopicError::InvalidPartitions { .. } | TopicError::NoGrowth { .. } => {
            ErrorCode::INVALID_PARTITIONS
        }
        TopicError::Config(_) | TopicError::AlwaysCommit { .. } => ErrorCode::INVALID_CONFIG,
        TopicError::Log(CommitCause::Full(_)) => ErrorCode::NOT_ENOUGH_REPLICAS,
        TopicError::MetadataDamaged
        | TopicError::PartitionsLost { .. }
        | TopicError::OffsetPending { .. }
        | TopicError::OffsetsUnclear
        | TopicError::Log(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

pub(crate) fn group_error(error: GroupError) -> ErrorCode {
    match error {
        GroupError::CoordinatorNotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::GroupFull => ErrorCode::GROUP_MAX_SIZE_REACHED,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::InvalidGroup => ErrorCode::INVALID_GROUP_ID,
        GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
        // It says what is wrong, and is of no kind that clients try again after: the same request
        // would be refused for ever. Java consumers throw its text out of `poll`.
        GroupError::MemberTooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
    }
}

pub(crate) fn code_of(outcome: Result<(), GroupError>) -> ErrorCode {
    outcome.map_or_else(group_error, |()| ErrorCode::NONE)
}
