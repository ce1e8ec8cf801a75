//! Whether the wall clock can be believed, by which records go for their age.
//!
//! # Invariants
//! - CLOCK-1: the wall clock is believed while it agrees with the monotonic one; after a jump of
//!   more than an hour, either way, only once it has agreed for an hour of running.
//! - CLOCK-2: a start goes on from what was believed last, as the durable mark says: a clock that
//!   is more than an hour from there has jumped. A longer downtime looks the same.
//! - CLOCK-3: a mark never says a time that was not believed: another start confirms nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lossproof_env::Clock;

/// The wall clock may be set right by so much.
const JUMP_MAX: Duration = Duration::from_hours(1);
/// Time enough for it to be set right from outside, or for a person to see what the log says.
const AGREES_FOR: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(crate) struct WallClock {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Wall and monotonic time from which on they should agree.
    since: (i64, Duration),
    /// It is not believed before.
    held_until: Option<Duration>,
    believed_ms: i64,
}

impl WallClock {
    /// Goes on from what was believed last; `None`: nothing is known of that.
    pub(crate) fn new(clock: Arc<dyn Clock>, believed_ms: Option<i64>) -> Self {
        let believed_ms = believed_ms.unwrap_or_else(|| clock.wall_ms());
        let since = (believed_ms, clock.monotonic());
        let wall =
            Self { clock, state: Mutex::new(State { since, held_until: None, believed_ms }) };
        // The hour begins with the start, not with the first question (CLOCK-2).
        let _ = wall.believed_ms();
        wall
    }

    /// In milliseconds, while it can be believed (CLOCK-1).
    pub(crate) fn believed_ms(&self) -> Option<i64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, wall_ms) = (self.clock.monotonic(), self.clock.wall_ms());
        let (since_ms, since) = state.since;
        let passed_ms = now.saturating_sub(since).as_millis() as i64;
        let jumped_ms = wall_ms.saturating_sub(since_ms).saturating_sub(passed_ms);
        if jumped_ms.unsigned_abs() > JUMP_MAX.as_millis() as u64 {
            tracing::warn!(
                jumped_ms,
                "the wall clock is far from where it was: the broker was down for so long, or the \
                 clock is wrong. Nothing is removed for its age, or compacted, before it has run \
                 on for an hour; see that it is right"
            );
            state.since = (wall_ms, now);
            state.held_until = Some(now + AGREES_FOR);
        }
        if state.held_until.is_some_and(|until| now < until) {
            return None;
        }
        state.held_until = None;
        state.believed_ms = wall_ms;
        Some(wall_ms)
    }

    /// What was believed last, for a mark (CLOCK-3).
    pub(crate) fn last_believed_ms(&self) -> i64 {
        let last_ms = || self.state.lock().unwrap_or_else(PoisonError::into_inner).believed_ms;
        self.believed_ms().unwrap_or_else(last_ms)
    }
}
