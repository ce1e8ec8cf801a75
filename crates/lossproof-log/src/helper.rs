//! The threads beside the commit thread, none of which may end unnoticed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::shared::Shared;

/// A thread beside the commit thread that does its work no more, until the next start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    pub thread: Helper,
    pub cause: String,
}

/// The threads beside the commit thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Helper {
    /// Writes zeros ahead, and makes segments.
    Zero,
    /// Moves batches to cold files.
    Move,
    /// Reads through what nobody reads.
    Scrub,
}

impl Helper {
    pub const ALL: [Self; 3] = [Self::Zero, Self::Move, Self::Scrub];

    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::Move => "move",
            Self::Scrub => "scrub",
        }
    }
}

/// Starts a thread beside the commit thread, which is missed when it panics.
pub(crate) fn help(
    shared: &Arc<Shared>,
    thread: Helper,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let shared = shared.clone();
    let watched = move || {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            shared.note_ended(thread, "it panicked; standard error says where".to_owned());
        }
    };
    thread::Builder::new().name(format!("lossproof-{}", thread.name())).spawn(watched)
}

#[cfg(test)]
mod tests {
    use lossproof_env::SimDisk;

    use super::*;
    use crate::testing::{append, create, open};
    use crate::{LogConfig, PartitionId};

    #[test]
    fn a_thread_that_panics_is_missed() {
        let (log, _stepper) = open(&SimDisk::new(), LogConfig::small());
        assert_eq!(log.figures().ended, []);
        let thread = help(log.shared(), Helper::Scrub, || panic!("planned")).unwrap();
        thread.join().unwrap();
        assert_eq!(log.figures().ended[0].thread, Helper::Scrub);
    }

    /// The trap: it was the one that would have said that there is space again.
    #[test]
    fn a_thread_that_has_ended_does_not_leave_the_disk_full() {
        for thread in [Helper::Zero, Helper::Move] {
            let (log, mut stepper) = open(&SimDisk::new(), LogConfig::small());
            let ballast = &log.shared().ballast;
            ballast.note_full(thread == Helper::Zero);
            ballast.note_move_short(thread == Helper::Move);
            assert!(ballast.is_disk_full());
            help(log.shared(), thread, || panic!("planned")).unwrap().join().unwrap();
            let id = PartitionId(1);
            for commit in [create(id), append(id, 1, b"x")] {
                stepper.submit(vec![commit]).remove(0).unwrap();
            }
            assert!(!ballast.is_disk_full(), "{thread:?}");
        }
    }
}
