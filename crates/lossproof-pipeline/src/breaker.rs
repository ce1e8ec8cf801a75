//! When to leave a failing endpoint alone, and how to find out that it is back. Sans-io.
//!
//! # Invariants
//!
//! - `BREAKER-1`: while open, no call is let through before its time is over.
//! - `BREAKER-2`: half open, no more than the set number of probes is let through, each for a
//!   record of its own; records that probed least go first.
//! - `BREAKER-3`: an answer that blames the record never opens it.
//! - `BREAKER-4`: the outcome of a call let through before a change of state changes nothing.
//! - `BREAKER-5`: every caller gets a call in the end, or a time or event to wait for.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Names and meaning as in resilience4j, the numbers scaled down to one endpoint of one process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BreakerSettings {
    /// Calls remembered while closed.
    pub window: usize,
    /// Fewer calls than this do not make a rate.
    pub calls_min: usize,
    /// It opens when at least this share of the window has failed.
    pub failure_percent: usize,
    /// It opens when this many calls in a row have failed.
    pub consecutive_max: usize,
    /// How long it stays open the first time; doubled with each probe round that fails.
    pub open: Duration,
    /// At most this long.
    pub open_max: Duration,
    /// Calls let through half open.
    pub probes: usize,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            window: 20,
            calls_min: 5,
            failure_percent: 50,
            consecutive_max: 5,
            open: Duration::from_secs(5),
            open_max: Duration::from_mins(5),
            probes: 3,
        }
    }
}

/// One caller that wants a call for one record.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Caller {
    /// Probes this record was used for already.
    pub probes: u32,
    /// Different for every caller.
    pub number: u64,
}

/// Leave to make one call; to be reported whatever happens.
#[derive(Debug, Eq, PartialEq)]
#[must_use = "an unreported call blocks a probe for ever"]
pub struct Permit {
    generation: u64,
    /// The call is a probe.
    pub probe: bool,
}

#[derive(Debug, Eq, PartialEq)]
pub enum Answer {
    Go(Permit),
    /// Ask again at this time on the monotonic clock.
    WaitUntil(Duration),
    /// Ask again after the next report.
    WaitForReport,
}

/// What a call says about the endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Report {
    /// It did its work, or it blamed the record, which is work too.
    Answered,
    /// It could not be reached, was too slow, or failed.
    Failed,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Closed,
    Open,
    HalfOpen,
}

/// A change of state, to be logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transition {
    pub from: State,
    pub to: State,
    /// Where `to` is open: how long.
    pub open: Duration,
}

#[derive(Debug)]
enum Phase {
    Closed { window: VecDeque<bool>, consecutive: usize },
    Open { until: Duration },
    HalfOpen { granted: usize, answered: usize, failed: usize },
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
    /// How long it was or will be open.
    open: Duration,
    /// Counts changes of state.
    generation: u64,
    waiting: BTreeSet<Caller>,
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        assert!(settings.probes > 0 && settings.window > 0, "checked when read");
        let open = settings.open;
        Self { settings, phase: closed(), open, generation: 0, waiting: BTreeSet::new() }
    }

    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Is it open, with time left?
    pub fn holds(&self, now: Duration) -> bool {
        matches!(self.phase, Phase::Open { until } if now < until)
    }

    /// May this caller make a call? Whoever is told to wait asks again or withdraws.
    pub fn ask(&mut self, now: Duration, caller: Caller) -> (Answer, Option<Transition>) {
        let mut transition = None;
        if let Phase::Open { until } = self.phase {
            if now < until {
                self.waiting.insert(caller);
                return (Answer::WaitUntil(until), None); // BREAKER-1
            }
            let half_open = Phase::HalfOpen { granted: 0, answered: 0, failed: 0 };
            transition = Some(self.enter(half_open));
        }
        let generation = self.generation;
        let Phase::HalfOpen { granted, .. } = &mut self.phase else {
            self.waiting.remove(&caller);
            return (Answer::Go(Permit { generation, probe: false }), transition);
        };
        self.waiting.insert(caller);
        let free = self.settings.probes - *granted;
        if !self.waiting.iter().take(free).any(|waiting| *waiting == caller) {
            return (Answer::WaitForReport, transition); // BREAKER-2
        }
        *granted += 1;
        self.waiting.remove(&caller);
        (Answer::Go(Permit { generation, probe: true }), transition)
    }

    /// The caller wants no call any more.
    pub fn withdraw(&mut self, now: Duration, caller: Caller) -> Option<Transition> {
        self.waiting.remove(&caller);
        self.judge_probes(now)
    }

    pub fn report(&mut self, now: Duration, permit: Permit, report: Report) -> Option<Transition> {
        if permit.generation != self.generation {
            return None; // BREAKER-4
        }
        let failure = report == Report::Failed;
        match &mut self.phase {
            Phase::Closed { window, consecutive } => {
                *consecutive = if failure { *consecutive + 1 } else { 0 };
                if window.len() == self.settings.window {
                    window.pop_front();
                }
                window.push_back(failure);
                // An answer never opens it, also where the window is still full of failures.
                if failure && self.is_too_bad() { Some(self.reopen(now, false)) } else { None }
            }
            Phase::HalfOpen { answered, failed, .. } => {
                *if failure { failed } else { answered } += 1;
                self.judge_probes(now)
            }
            Phase::Open { .. } => None,
        }
    }

    fn is_too_bad(&self) -> bool {
        let Phase::Closed { window, consecutive } = &self.phase else { return false };
        let failed = window.iter().filter(|failed| **failed).count();
        *consecutive >= self.settings.consecutive_max
            || (window.len() >= self.settings.calls_min
                && failed * 100 >= window.len() * self.settings.failure_percent)
    }

    /// Decides a probe round once all of its probes are back. It is shorter than set only when
    /// nobody is left who could take another probe.
    fn judge_probes(&mut self, now: Duration) -> Option<Transition> {
        let Phase::HalfOpen { granted, answered, failed } = self.phase else { return None };
        let back = answered + failed;
        let complete = granted == self.settings.probes || self.waiting.is_empty();
        if back < granted || back == 0 || !complete {
            return None;
        }
        if answered * 2 < back {
            return Some(self.reopen(now, true));
        }
        self.open = self.settings.open;
        Some(self.enter(closed()))
    }

    fn reopen(&mut self, now: Duration, longer: bool) -> Transition {
        if longer {
            self.open = (self.open * 2).min(self.settings.open_max);
        }
        self.enter(Phase::Open { until: now + self.open })
    }

    fn enter(&mut self, phase: Phase) -> Transition {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        Transition { from, to: self.state(), open: self.open }
    }
}

fn closed() -> Phase {
    Phase::Closed { window: VecDeque::new(), consecutive: 0 }
}
