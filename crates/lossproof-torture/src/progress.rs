use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::failure::Failure;

/// No load waits longer for its first acknowledgements.
const WAIT_MAX: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
struct Counts {
    acknowledged: u64,
    /// By partition: one past the highest offset acknowledged.
    ends: BTreeMap<i32, i64>,
    errors: Vec<Code>,
}

/// How far a load has come: what its round waits for before it strikes.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    counts: Mutex<Counts>,
    changed: Condvar,
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_acknowledged(&self, partition: i32, offset: i64) {
        let mut counts = self.lock();
        counts.acknowledged += 1;
        let end = counts.ends.entry(partition).or_default();
        *end = (*end).max(offset + 1);
        drop(counts);
        self.changed.notify_all();
    }

    pub(crate) fn note_error(&self, code: Code) {
        let mut counts = self.lock();
        if !counts.errors.contains(&code) {
            counts.errors.push(code);
        }
        drop(counts);
        self.changed.notify_all();
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }

    pub(crate) fn ends(&self) -> BTreeMap<i32, i64> {
        self.lock().ends.clone()
    }

    /// The error codes that delivery reports have told of, each once.
    pub(crate) fn errors(&self) -> Vec<Code> {
        self.lock().errors.clone()
    }

    /// Waits until so many records are acknowledged.
    pub(crate) fn wait_for(&self, acknowledged: u64) -> Result<(), Failure> {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), WAIT_MAX, |now| now.acknowledged < acknowledged);
        let (counts, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            let (now, errors) = (counts.acknowledged, &counts.errors);
            return Err(Failure::broken(format!(
                "{now} of {acknowledged} records acknowledged after {} s; errors: {errors:?}",
                WAIT_MAX.as_secs()
            )));
        }
        Ok(())
    }
}
