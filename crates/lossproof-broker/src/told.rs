//! What is told again and again by clients that try again and again is told once a minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lossproof_log::PartitionId;

pub(crate) const EVERY: Duration = Duration::from_mins(1);

/// What was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Subject {
    Append(PartitionId),
    Fetch(PartitionId),
}

/// When each was told last; two entries for each partition that there was, at most.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<Subject, Duration>>);

impl Told {
    /// Whether it is to be told now.
    pub(crate) fn is_due(&self, subject: Subject, now: Duration) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.get(&subject).is_none_or(|last| now >= *last + EVERY);
        if is_due {
            told.insert(subject, now);
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
        let at = |subject, seconds| told.is_due(subject, Duration::from_secs(seconds));
        let [one, other] = [1, 2].map(|id| Subject::Fetch(PartitionId(id)));
        assert!(at(one, 5) && !at(one, 64) && at(other, 64) && at(one, 65) && !at(one, 66));
        assert!(at(Subject::Append(PartitionId(1)), 66), "it is another thing");
    }
}
