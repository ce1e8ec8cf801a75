//! The group coordinator of the classic consumer protocol.
//!
//! [`Groups`] is the state machine: no clock, no sockets, no tasks; every call is given the present
//! time and leaves the answers that have become due in a list. `Coordinator` drives it.

mod coordinator;
mod expiry;
mod joining;
mod keeping;
mod member;
mod message;
mod overview;
mod room;
mod state;
pub(crate) mod stored;
mod storing;

pub(crate) use coordinator::Coordinator;
pub use member::Member;
pub use message::{
    Answer, ClientName, CommitFence, GroupError, Join, JoinAnswer, JoinedMember, Leaving, Sync,
    SyncAnswer, Token,
};
pub use overview::{GroupOverview, Inside, MemberOverview};
pub(crate) use state::check_id;
pub use state::{GroupSettings, Groups, Phase};
pub use stored::{StoredGroup, StoredMember};
pub use storing::Unstored;
