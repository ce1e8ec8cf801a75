use std::collections::BTreeMap;

use super::{Endings, union_of};
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, Mark, Receipt, Stage};

/// Clocks of two machines are taken to be at most so far apart: machines that keep their time by
/// NTP are within a second, and an administrator sees a minute.
const CLOCK_SKEW_MS_MAX: i64 = 60_000;

/// When a member of the group said something.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Moment {
    reporter: u64,
    incarnation: u64,
    number: u64,
    wall_ms: i64,
}

impl Moment {
    pub(super) fn of(receipt: &Receipt) -> Self {
        Self {
            reporter: receipt.reporter,
            incarnation: receipt.incarnation,
            number: receipt.number.0,
            wall_ms: receipt.wall_ms,
        }
    }

    pub(super) fn at(self, wall_ms: i64) -> Self {
        Self { wall_ms, ..self }
    }

    /// LEDGER-7: `None` where two clocks are too close to tell.
    fn is_after(&self, began: &Self) -> Option<bool> {
        if self.reporter == began.reporter {
            let number = |moment: &Self| (moment.incarnation, moment.number);
            return Some(number(self) >= number(began));
        }
        let lead_ms = self.wall_ms.saturating_sub(began.wall_ms);
        let certain = lead_ms.unsigned_abs() > CLOCK_SKEW_MS_MAX.unsigned_abs();
        certain.then_some(lead_ms > 0)
    }

    /// The same, as the clocks have it where nothing else tells.
    fn seems_before(&self, began: &Self) -> bool {
        self.is_after(began).map_or(self.wall_ms < began.wall_ms, |after| !after)
    }
}

/// What the members of one group have reported on one lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupEvidence {
    pub(super) delivered: IntervalSet,
    pub(super) processed: IntervalSet,
    pub(super) confirmed: IntervalSet,
    pub(super) ended: Endings,
    pub(super) unknown: IntervalSet,
    /// LEDGER-7: unstamped records of which something was said, perhaps of an earlier topic.
    pub(super) unplaced: IntervalSet,
    pub(super) in_sink: IntervalSet,
    /// LEDGER-5: each time that a member began with the partition, and whether anything seems to
    /// have been said before it.
    begun: BTreeMap<Moment, bool>,
    /// Of unstamped records: each statement, with its time.
    said: Vec<(Moment, Mark, IntervalSet)>,
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
    pub(super) fn apply_unstamped(&mut self, said: Moment, mark: &Mark, numbers: &IntervalSet) {
        self.said.push((said, mark.clone(), numbers.clone()));
        if self.reaches_back(&said) {
            self.weigh_again();
        } else {
            self.weigh(&said, mark, numbers);
        }
    }

    /// LEDGER-5: nothing counts that was said before.
    pub(super) fn begin(&mut self, began: Moment) {
        if self.begun.contains_key(&began) {
            return;
        }
        self.reaches_back(&began);
        let mut known = self.begun.keys().chain(self.said.iter().map(|(said, ..)| said));
        let has_past = known.any(|moment| moment.seems_before(&began));
        self.begun.insert(began, has_past);
        self.weigh_again();
    }

    /// Whether this is the first that is known from before one of the beginnings.
    fn reaches_back(&mut self, moment: &Moment) -> bool {
        let mut is_first = false;
        for (began, has_past) in &mut self.begun {
            if !*has_past && moment.seems_before(began) {
                *has_past = true;
                is_first = true;
            }
        }
        is_first
    }

    /// LEDGER-3: what is known now may place what was said before.
    fn weigh_again(&mut self) {
        let before = std::mem::take(self);
        self.in_sink = before.in_sink;
        self.begun = before.begun;
        for (said, mark, numbers) in &before.said {
            self.weigh(said, mark, numbers);
        }
        self.said = before.said;
    }

    fn weigh(&mut self, said: &Moment, mark: &Mark, numbers: &IntervalSet) {
        match self.is_of_this_topic(said) {
            Some(true) => self.apply(mark, numbers),
            Some(false) => {}
            None => self.unplaced.union_with(numbers),
        }
    }

    /// LEDGER-7: a beginning that nothing is known from before is that of the first topic, and
    /// what was said at about the same time is of it too.
    fn is_of_this_topic(&self, said: &Moment) -> Option<bool> {
        let mut certain = true;
        for (began, has_past) in &self.begun {
            match said.is_after(began) {
                Some(false) => return Some(false),
                None if *has_past => certain = false,
                Some(true) | None => {}
            }
        }
        certain.then_some(true)
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
        for set in
            [&self.delivered, &self.processed, &self.confirmed, &self.unknown, &self.unplaced]
        {
            all.union_with(set);
        }
        all
    }
}
