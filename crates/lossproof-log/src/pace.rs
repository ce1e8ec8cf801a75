//! How moving leaves processors and disk to the commits, as long as the journal stays short
//! (ADR 14).

use std::sync::Arc;
use std::time::Duration;

use crate::shared::Shared;

/// What is done between two pauses, or a little more: one read, one frame or one sync.
const TURN: Duration = Duration::from_millis(1);
/// A pause is so many times as long as the turn before it.
const PAUSE_TURNS: u32 = 3;
/// So that a stop has not to wait.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// From a journal that is so many times as long as what is moved at a time there are no pauses: its
/// length is bounded by what the disk can do, and not by the load.
const BACKLOG_MAX: u64 = 2;

/// The turns of one move.
#[derive(Debug)]
pub(crate) struct Pace {
    shared: Arc<Shared>,
    begun: Duration,
    /// The last frame that was acknowledged by then.
    frame: u64,
}

impl Pace {
    pub(crate) fn begin(shared: &Arc<Shared>) -> Self {
        let (begun, frame) = (shared.env.clock.monotonic(), *shared.acknowledged.borrow());
        Self { shared: shared.clone(), begun, frame }
    }

    /// After each piece of work: a pause where a turn is over, and there were commits meanwhile.
    pub(crate) fn give_way(&mut self) {
        let worked = self.shared.env.clock.monotonic().saturating_sub(self.begun);
        if worked < TURN {
            return;
        }
        if *self.shared.acknowledged.borrow() != self.frame && !is_urgent(&self.shared) {
            self.shared.mover.pause(pause_after(worked));
        }
        *self = Self::begin(&self.shared);
    }
}

fn pause_after(worked: Duration) -> Duration {
    worked.saturating_mul(PAUSE_TURNS).min(PAUSE_MAX)
}

fn is_urgent(shared: &Shared) -> bool {
    let bytes = shared.segments.journal_len() as u64 * shared.config.segment_bytes;
    shared.ballast.is_disk_full()
        || bytes >= shared.config.checkpoint_bytes.saturating_mul(BACKLOG_MAX)
}

#[cfg(test)]
mod tests {
    use lossproof_env::SimDisk;

    use super::*;
    use crate::testing::open;
    use crate::{Commit, LogConfig, StateKind};

    #[test]
    fn pauses_are_bounded_and_end_where_the_journal_is_long() {
        assert_eq!(pause_after(TURN), TURN * PAUSE_TURNS);
        assert_eq!(pause_after(Duration::from_secs(1)), PAUSE_MAX);
        let config = LogConfig::small();
        let segments = config.checkpoint_bytes * BACKLOG_MAX / config.segment_bytes;
        let (log, mut stepper) = open(&SimDisk::new(), config);
        let shared = log.shared().clone();
        while (shared.segments.journal_len() as u64) < segments {
            assert!(!is_urgent(&shared));
            let value = bytes::Bytes::from(vec![b'x'; 3_000]);
            let change = Commit::state(StateKind::Cursor, "key", Some(value));
            stepper.submit(vec![change]).remove(0).unwrap();
            stepper.zero();
        }
        assert!(is_urgent(&shared));
        stepper.checkpoint().unwrap();
        assert!(!is_urgent(&shared));
        shared.ballast.note_full(true);
        assert!(is_urgent(&shared));
    }
}
