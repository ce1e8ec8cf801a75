//! The group coordinator of the classic consumer protocol.
//!
//! [`Groups`] is the state machine: no clock, no sockets, no tasks; every call is given the present
//! time and leaves the answers that have become due in a list. `Coordinator` drives it.

mod coordinator;
mod expiry;
mod joining;
mod member;
mod message;
mod state;

pub(crate) use coordinator::Coordinator;
pub use member::Member;
pub use message::{
    Answer, CommitFence, GroupError, Join, JoinAnswer, JoinedMember, Leaving, Sync, SyncAnswer,
    Token,
};
pub use state::{GroupSettings, Groups, Phase};
