//! One thing outside that can fail: its breaker, shared by all workers, and who has passed it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lossproof_env::Clock;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::breaker::{Answer, Breaker, BreakerSettings, Caller, Permit, Report, State, Transition};
use crate::shared::Patience;

/// See the module.
#[derive(Debug)]
pub(crate) struct Endpoint {
    name: String,
    clock: Arc<dyn Clock>,
    /// `None`: an unsafe switch says to go on whatever happens.
    breaker: Option<Mutex<Breaker>>,
    /// Told at each report, withdrawal and change of state.
    changed: Notify,
    passes: AtomicU64,
    callers: AtomicU64,
}

/// Leave for one call. To be handed to [`Endpoint::report`], whatever came of the call.
#[derive(Debug)]
#[must_use = "an unreported call blocks a probe for ever"]
pub(crate) struct Leave {
    permit: Option<Permit>,
}

impl Leave {
    pub(crate) fn is_probe(&self) -> bool {
        self.permit.as_ref().is_some_and(|permit| permit.probe)
    }
}

impl Endpoint {
    pub(crate) fn new(
        name: impl Into<String>,
        settings: Option<BreakerSettings>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name: name.into(),
            clock,
            breaker: settings.map(|settings| Mutex::new(Breaker::new(settings))),
            changed: Notify::new(),
            passes: AtomicU64::new(0),
            callers: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn has_breaker(&self) -> bool {
        self.breaker.is_some()
    }

    /// Records that have passed so far. Whoever failed may compare it with what it was before.
    pub(crate) fn passes(&self) -> u64 {
        self.passes.load(Ordering::SeqCst)
    }

    pub(crate) fn count_passes(&self, records: u64) {
        self.passes.fetch_add(records, Ordering::SeqCst);
    }

    /// Should nothing be read at the moment?
    pub(crate) fn holds(&self) -> bool {
        let now = self.clock.monotonic();
        self.with_breaker(|breaker| breaker.holds(now)).unwrap_or(false)
    }

    /// Waits until a call may be made. `None`: patience has ended.
    pub(crate) async fn leave(&self, probes: u32, patience: &mut Patience) -> Option<Leave> {
        if self.breaker.is_none() {
            return Some(Leave { permit: None });
        }
        let caller = Caller { probes, number: self.callers.fetch_add(1, Ordering::SeqCst) };
        loop {
            // Listening begins before the question, so that no report falls in between.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = self.clock.monotonic();
            if !patience.is_left() {
                let transition = self.with_breaker(|breaker| breaker.withdraw(now, caller));
                self.tell(transition.flatten());
                self.changed.notify_waiters();
                return None;
            }
            let asked = self.with_breaker(|breaker| breaker.ask(now, caller));
            let (answer, transition) = asked?;
            self.tell(transition);
            match answer {
                Answer::Go(permit) => return Some(Leave { permit: Some(permit) }),
                Answer::WaitUntil(until) => tokio::select! {
                    () = changed => {}
                    () = patience.changed() => {}
                    () = self.clock.sleep(until.saturating_sub(now)) => {}
                },
                Answer::WaitForReport => tokio::select! {
                    () = changed => {}
                    () = patience.changed() => {}
                },
            }
        }
    }

    pub(crate) fn report(&self, leave: Leave, report: Report) {
        let now = self.clock.monotonic();
        if let Some(permit) = leave.permit {
            let transition = self.with_breaker(|breaker| breaker.report(now, permit, report));
            self.tell(transition.flatten());
            self.changed.notify_waiters();
        }
    }

    fn with_breaker<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> Option<T> {
        let breaker = self.breaker.as_ref()?;
        Some(act(&mut breaker.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn tell(&self, transition: Option<Transition>) {
        let Some(Transition { from, to, open }) = transition else { return };
        let name = &self.name;
        match to {
            State::Open => {
                warn!("breaker of {name}: {from:?} -> open for {open:?}, reading pauses");
            }
            State::HalfOpen => info!("breaker of {name}: {from:?} -> half open, records probe it"),
            State::Closed => info!("breaker of {name}: {from:?} -> closed"),
        }
    }
}
