use super::{Endings, union_of};
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, Mark, Stage};

/// What the members of one group have reported on one lane.
#[derive(Debug, Default)]
pub(crate) struct GroupEvidence {
    pub(super) delivered: IntervalSet,
    pub(super) processed: IntervalSet,
    pub(super) confirmed: IntervalSet,
    pub(super) ended: Endings,
    pub(super) unknown: IntervalSet,
    pub(super) in_sink: IntervalSet,
    /// LEDGER-5: when a member last began with the partition, in milliseconds since the Unix
    /// epoch.
    began_ms: Option<i64>,
    /// Of unstamped records: each statement that counts, with its time.
    said: Vec<(i64, Mark, IntervalSet)>,
}

impl GroupEvidence {
    pub(super) fn apply(&mut self, mark: &Mark, numbers: &IntervalSet) {
        match mark {
            Mark::Reached(Stage::Processed) => self.processed.union_with(numbers),
            // LEDGER-1: that an offset was committed says nothing of the record.
            Mark::Reached(Stage::Confirmed) => self.confirmed.union_with(numbers),
            Mark::Reached(_) => self.delivered.union_with(numbers),
            Mark::Ended { disposition, reason } => {
                let ending = self.ended.entry((*disposition, reason.clone())).or_default();
                ending.union_with(numbers);
            }
            Mark::Unknown(_) => self.unknown.union_with(numbers),
            // Not of records.
            Mark::Began { .. } | Mark::DeadLettersIn => {}
        }
    }

    /// LEDGER-5: the same for records that nobody stamped.
    pub(super) fn apply_unstamped(&mut self, wall_ms: i64, mark: &Mark, numbers: &IntervalSet) {
        if self.began_ms.is_none_or(|began_ms| wall_ms >= began_ms) {
            self.said.push((wall_ms, mark.clone(), numbers.clone()));
            self.apply(mark, numbers);
        }
    }

    /// LEDGER-5: nothing counts that was said before.
    pub(super) fn begin(&mut self, wall_ms: i64) {
        if self.began_ms.is_some_and(|began_ms| began_ms >= wall_ms) {
            return;
        }
        let before = std::mem::take(self);
        self.in_sink = before.in_sink;
        self.began_ms = Some(wall_ms);
        for (said_ms, mark, numbers) in before.said {
            self.apply_unstamped(said_ms, &mark, &numbers);
        }
    }

    pub(super) fn ended_as(&self, wanted: impl Fn(Disposition) -> bool) -> IntervalSet {
        union_of(&self.ended, wanted)
    }

    pub(super) fn dead_lettered(&self) -> IntervalSet {
        self.ended_as(|disposition| disposition == Disposition::DeadLettered)
    }

    /// Ended for good, on purpose, by the reporter's word alone. A duplicate is not: its other
    /// copy must be confirmed; nor is a dead letter (LEDGER-6).
    pub(super) fn ended_by_word(&self) -> IntervalSet {
        self.ended_as(|disposition| {
            !matches!(disposition, Disposition::Duplicate | Disposition::DeadLettered)
        })
    }

    /// All records that anything was said of.
    pub(super) fn everything(&self) -> IntervalSet {
        let mut all = self.ended_as(|_| true);
        for set in [&self.delivered, &self.processed, &self.confirmed, &self.unknown] {
            all.union_with(set);
        }
        all
    }
}
