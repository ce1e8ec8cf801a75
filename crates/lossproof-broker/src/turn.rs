//! Turns of requests that may ask for very much.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that hold a turn at a time: what they are decoded to, and what they have been answered
/// so far, stays while others are let in (BUDGET-6).
pub(crate) const TURNS_MAX: usize = 4;

/// Things that a request is told of between two pauses: a few milliseconds.
pub(crate) const LOOKED_AT_ONCE: usize = 1_000;

/// Hands out turns, in the order in which they are asked for.
#[derive(Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

/// Taken before a request is decoded, and held until its answer is written. Whoever holds one
/// waits for nobody else, so that the next one always comes.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: Option<OwnedSemaphorePermit>,
    looked_at: usize,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TURNS_MAX)))
    }

    pub(crate) async fn next(&self) -> Turn {
        // Never closed.
        let place = Arc::clone(&self.0).acquire_owned().await;
        Turn { _place: place.ok(), looked_at: 0 }
    }
}

impl Turn {
    /// So many things have been looked at: others are let in now and then.
    pub(crate) async fn looked_at(&mut self, count: usize) {
        self.looked_at += count;
        if self.looked_at >= LOOKED_AT_ONCE {
            self.looked_at = 0;
            tokio::task::yield_now().await;
        }
    }
}
