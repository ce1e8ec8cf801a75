//! A set of numbers as sorted, disjoint, non-adjacent intervals: what receipts carry and the
//! ledger computes with. Its size grows with the gaps in the set, not with its members.
//!
//! # Invariants
//! - `INTERVAL-1`: intervals are sorted, disjoint and not adjacent, each with `first <= last`.
//! - `INTERVAL-2`: every operation agrees with the same operation on a `BTreeSet`
//!   (`tests/interval_sets.rs`).

use std::fmt;

/// The numbers `first..=last`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Interval {
    pub first: u64,
    pub last: u64,
}

impl Interval {
    /// How many numbers it holds; `u64::MAX` also for the one interval that holds one more.
    pub fn count(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    fn is_before_with_gap(&self, number: u64) -> bool {
        self.last.checked_add(1).is_some_and(|next| next < number)
    }
}

/// A set of `u64`.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IntervalSet {
    intervals: Vec<Interval>,
}

impl fmt::Debug for IntervalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|interval| interval.first..=interval.last)).finish()
    }
}

impl IntervalSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// The numbers `first..=last`; the empty set where `first > last`.
    pub fn of(first: u64, last: u64) -> Self {
        let mut set = Self::new();
        if first <= last {
            set.insert_range(first, last);
        }
        set
    }

    /// The numbers `0..end`.
    pub fn below(end: u64) -> Self {
        end.checked_sub(1).map_or_else(Self::new, |last| Self::of(0, last))
    }

    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.iter().fold(0, |sum: u64, interval| sum.saturating_add(interval.count()))
    }

    /// How many intervals hold them: what the set costs.
    pub fn interval_count(&self) -> usize {
        self.intervals.len()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Interval> + '_ {
        self.intervals.iter().copied()
    }

    /// Every number, one by one.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().flat_map(|interval| interval.first..=interval.last)
    }

    pub fn first(&self) -> Option<u64> {
        self.intervals.first().map(|interval| interval.first)
    }

    pub fn last(&self) -> Option<u64> {
        self.intervals.last().map(|interval| interval.last)
    }

    /// One past the highest number; 0 for the empty set.
    pub fn end(&self) -> u64 {
        self.last().map_or(0, |last| last.saturating_add(1))
    }

    pub fn contains(&self, number: u64) -> bool {
        let after = self.intervals.partition_point(|interval| interval.last < number);
        self.intervals.get(after).is_some_and(|interval| interval.first <= number)
    }

    /// Adds one number. At or after the end of the set, which is where records arrive, it costs a
    /// few nanoseconds.
    pub fn insert(&mut self, number: u64) {
        match self.intervals.last_mut() {
            Some(last) if number > last.last => {
                if last.last + 1 == number {
                    last.last = number;
                } else {
                    self.intervals.push(Interval { first: number, last: number });
                }
            }
            None => self.intervals.push(Interval { first: number, last: number }),
            Some(_) => self.insert_range(number, number),
        }
    }

    /// Adds `first..=last`.
    ///
    /// # Panics
    /// Where `first > last`: the caller has swapped them.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        assert!(first <= last, "INTERVAL-1: {first} > {last}");
        let from = self.intervals.partition_point(|interval| interval.is_before_with_gap(first));
        let reach = last.saturating_add(1);
        let to = self.intervals.partition_point(|interval| interval.first <= reach);
        let touched = self.intervals.get(from..to).unwrap_or_default();
        let merged = Interval {
            first: touched.first().map_or(first, |interval| interval.first.min(first)),
            last: touched.last().map_or(last, |interval| interval.last.max(last)),
        };
        self.intervals.splice(from..to.max(from), [merged]);
    }

    pub fn remove(&mut self, number: u64) {
        self.remove_range(number, number);
    }

    /// Takes `first..=last` out.
    ///
    /// # Panics
    /// Where `first > last`: the caller has swapped them.
    pub fn remove_range(&mut self, first: u64, last: u64) {
        assert!(first <= last, "INTERVAL-1: {first} > {last}");
        let from = self.intervals.partition_point(|interval| interval.last < first);
        let to = self.intervals.partition_point(|interval| interval.first <= last);
        let touched = self.intervals.get(from..to).unwrap_or_default();
        let before = touched
            .first()
            .filter(|interval| interval.first < first)
            .map(|interval| Interval { first: interval.first, last: first - 1 });
        let after = touched
            .last()
            .filter(|interval| interval.last > last)
            .map(|interval| Interval { first: last + 1, last: interval.last });
        if from < to {
            self.intervals.splice(from..to, before.into_iter().chain(after));
        }
    }

    pub fn union_with(&mut self, other: &Self) {
        if self.is_empty() {
            self.intervals.clone_from(&other.intervals);
            return;
        }
        if other.interval_count() * 16 < self.interval_count() {
            other.iter().for_each(|interval| self.insert_range(interval.first, interval.last));
            return;
        }
        let mut all: Vec<Interval> = self.iter().chain(other.iter()).collect();
        all.sort_unstable();
        self.intervals = merge_sorted(&all);
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.union_with(other);
        union
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        let mut common = Self::new();
        while let (Some(a), Some(b)) = (left.peek().copied(), right.peek().copied()) {
            let (first, last) = (a.first.max(b.first), a.last.min(b.last));
            if first <= last {
                common.intervals.push(Interval { first, last });
            }
            if a.last < b.last {
                left.next();
            } else {
                right.next();
            }
        }
        common
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::new();
        let mut holes = other.iter().peekable();
        for interval in self.iter() {
            let mut first = interval.first;
            let mut open = true;
            while let Some(hole) = holes.peek().copied().filter(|hole| hole.first <= interval.last)
            {
                if hole.first > first {
                    rest.intervals.push(Interval { first, last: hole.first - 1 });
                }
                // A hole that reaches beyond this interval may cover the next one too.
                if hole.last >= interval.last {
                    open = false;
                    break;
                }
                first = first.max(hole.last + 1);
                holes.next();
            }
            if open {
                rest.intervals.push(Interval { first, last: interval.last });
            }
        }
        rest
    }
}

fn merge_sorted(sorted: &[Interval]) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::with_capacity(sorted.len());
    for next in sorted {
        match merged.last_mut() {
            Some(last) if !last.is_before_with_gap(next.first) => {
                last.last = last.last.max(next.last);
            }
            _ => merged.push(*next),
        }
    }
    merged
}

impl FromIterator<u64> for IntervalSet {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut set = Self::new();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}
