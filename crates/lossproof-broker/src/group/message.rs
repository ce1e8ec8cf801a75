//! What goes into the group state machine and what comes out of it.

use std::time::Duration;

use bytes::Bytes;

/// Names a request that waits for its answer; chosen by the caller, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Why a group request was refused; each variant is one error code of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    #[error("the coordinator is shutting down, cannot trust its state or has no room for more")]
    CoordinatorNotAvailable,
    #[error("the group instance id is held by another member")]
    FencedInstance,
    #[error("the group has as many members as it may have, or they say as much as they may")]
    GroupFull,
    #[error("the generation is not the present one")]
    IllegalGeneration,
    #[error("the member shares no protocol with the group")]
    InconsistentProtocol,
    #[error("the group id is empty, or longer than 1,024 bytes")]
    InvalidGroup,
    #[error("the session timeout is outside the bounds of the broker")]
    InvalidSessionTimeout,
    #[error("join again with the member id of this answer")]
    MemberIdRequired,
    #[error("the member says more of itself than its whole group may")]
    MemberTooLarge,
    #[error("the group is rebalancing: join again")]
    RebalanceInProgress,
    #[error("the member is not known: join with an empty member id")]
    UnknownMember,
}

/// Who a member is besides its member id, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientName {
    pub id: String,
    pub host: String,
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct Join {
    pub group: String,
    /// Empty on the first try of a member.
    pub member_id: String,
    pub instance: Option<String>,
    pub client: ClientName,
    /// What the member is to be called if it needs a name; unique.
    pub fresh_member_id: String,
    /// The client answers MEMBER_ID_REQUIRED by joining again (version 4 and later).
    pub requires_known_member_id: bool,
    /// The client understands that a returning leader need not assign again (version 9).
    pub can_skip_assignment: bool,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    /// Name and metadata, best liked first.
    pub protocols: Vec<(String, Bytes)>,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance: Option<String>,
    pub metadata: Bytes,
}

/// The answer to a JoinGroup request. On an error only `member_id` means anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinAnswer {
    pub error: Option<GroupError>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    /// Empty but for the leader.
    pub members: Vec<JoinedMember>,
}

impl JoinAnswer {
    pub(crate) fn refusal(error: GroupError, member_id: &str) -> Self {
        Self {
            error: Some(error),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub struct Sync {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance: Option<String>,
    /// Checked against the group where given (version 5).
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Filled by the leader only.
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer to a SyncGroup request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncAnswer {
    pub error: Option<GroupError>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

impl SyncAnswer {
    pub(crate) fn refusal(error: GroupError) -> Self {
        Self { error: Some(error), protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// An answer that has become due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Join(Token, JoinAnswer),
    Sync(Token, SyncAnswer),
}

/// One member in a LeaveGroup request: by id, by instance, or both.
#[derive(Clone, Debug)]
pub struct Leaving {
    pub member_id: String,
    pub instance: Option<String>,
}

/// Who claims the right to commit offsets.
#[derive(Clone, Debug)]
pub struct CommitFence {
    pub group: String,
    /// Negative for a consumer that does not use the group's membership.
    pub generation: i32,
    pub member_id: String,
    pub instance: Option<String>,
}
