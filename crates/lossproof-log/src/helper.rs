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
    use std::path::Path;
    use std::sync::Arc;

    use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};

    use super::*;
    use crate::config::LogConfig;
    use crate::log::Log;

    #[test]
    fn a_thread_that_panics_is_missed() {
        let env = Environment {
            disk: Arc::new(SimDisk::new()),
            clock: Arc::new(ManualClock::new(1_000_000)),
            rng: Arc::new(SeededRng::new(7)),
        };
        let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
        let (log, _stepper, _) = opened.unwrap();
        assert_eq!(log.figures().ended, []);
        let thread = help(log.shared(), Helper::Scrub, || panic!("planned")).unwrap();
        thread.join().unwrap();
        assert_eq!(log.figures().ended[0].thread, Helper::Scrub);
    }
}
