//! What is told again and again by clients that try again and again is told once a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lossproof_log::PartitionId;

const EVERY: Duration = Duration::from_mins(1);

/// When the error of a partition was told last; as many entries as there are partitions, at most.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<PartitionId, Duration>>);

impl Told {
    /// Whether it is to be told now.
    pub(crate) fn is_due(&self, id: PartitionId, now: Duration) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.get(&id).is_none_or(|last| now >= *last + EVERY);
        if is_due {
            told.insert(id, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_is_told_of_once_a_minute() {
        let told = Told::default();
        let at = |id, seconds| told.is_due(PartitionId(id), Duration::from_secs(seconds));
        assert!(at(1, 5) && !at(1, 64) && at(2, 64) && at(1, 65) && !at(1, 66));
    }
}
