//! How often a record is tried, and how long it waits in between. Sans-io.

use std::time::Duration;

use lossproof_env::Rng;

/// Why one attempt for one record did not succeed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The record itself is refused; no repetition helps.
    Poison { reason: String },
    /// A failure that may be the endpoint's or the record's: the latter once others pass.
    Transient { reason: String, retry_after: Option<Duration> },
    /// The endpoint asks for less load.
    Pushback { reason: String, retry_after: Option<Duration> },
    /// Credentials, a missing index, a full disk: nothing to do with this record.
    Held { reason: String },
    /// The work was broken off because the partition goes away or the process ends.
    Abandoned,
}

impl Failure {
    pub fn transient(reason: impl Into<String>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    pub fn poison(reason: impl Into<String>) -> Self {
        Self::Poison { reason: reason.into() }
    }

    /// Does it count against the endpoint?
    pub fn blames_endpoint(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Pushback { .. } | Self::Held { .. })
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Poison { reason }
            | Self::Transient { reason, .. }
            | Self::Pushback { reason, .. }
            | Self::Held { reason } => reason,
            Self::Abandoned => "broken off",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transient { retry_after, .. } | Self::Pushback { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RetrySettings {
    /// Attempts charged to a record before it counts as poison. An attempt is charged only when
    /// another record has passed the same endpoint since it began.
    pub attempts_max: u32,
    pub first: Duration,
    pub max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts_max: 5, first: Duration::from_millis(200), max: Duration::from_secs(30) }
    }
}

/// "Less load, please" says little about a record; but a record that is told so this often while
/// others pass will never pass (one that is too large for the endpoint's memory limit).
pub const PUSHBACKS_MAX: u32 = 100;
/// A longer `Retry-After` is cut to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);
/// Bounds the doubling; the result is cut to the set maximum anyway.
const DOUBLINGS_MAX: u32 = 20;

/// The attempts of one record at one endpoint.
#[derive(Debug)]
pub struct Budget {
    settings: RetrySettings,
    tried: u32,
    charged: u32,
    pushbacks: u32,
}

impl Budget {
    pub fn new(settings: RetrySettings) -> Self {
        Self { settings, tried: 0, charged: 0, pushbacks: 0 }
    }

    /// Attempts made so far.
    pub fn tried(&self) -> u32 {
        self.tried
    }

    /// An attempt has failed: how long to wait before the next. Between half of the exponential
    /// step and all of it, so that records that failed together do not come back together.
    pub fn wait_after(&mut self, failure: &Failure, rng: &dyn Rng) -> Duration {
        let doublings = self.tried.min(DOUBLINGS_MAX);
        self.tried = self.tried.saturating_add(1);
        let step = self.settings.first.saturating_mul(1 << doublings).min(self.settings.max);
        let half = step / 2;
        let span = half.as_nanos() as u64;
        let jittered = half + Duration::from_nanos(rng.next_u64() % span.saturating_add(1));
        let asked = failure.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
        jittered.max(asked)
    }

    /// Once the wait is over: charges the failed attempt if `others_pass`. `false`: used up.
    #[must_use]
    pub fn charge(&mut self, failure: &Failure, others_pass: bool) -> bool {
        if others_pass {
            match failure {
                Failure::Transient { .. } => self.charged += 1,
                Failure::Pushback { .. } => self.pushbacks += 1,
                Failure::Poison { .. } | Failure::Held { .. } | Failure::Abandoned => {}
            }
        }
        self.charged < self.settings.attempts_max && self.pushbacks < PUSHBACKS_MAX
    }
}
