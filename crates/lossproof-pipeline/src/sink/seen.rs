//! Which identities a file has already. Their numbers are kept as intervals, so that the size
//! grows with lanes and gaps, not with records.

use std::collections::{BTreeMap, HashMap, HashSet};

/// A set of identities in their text form.
#[derive(Debug, Default)]
pub struct SeenIds {
    /// By what stands before the last dash: inclusive intervals of the numbers behind it.
    lanes: HashMap<String, BTreeMap<u64, u64>>,
    /// Those that do not end in a number.
    others: HashSet<String>,
}

impl SeenIds {
    /// `false` where it was there.
    pub fn insert(&mut self, id: &str) -> bool {
        let Some((lane, number)) = split(id) else { return self.others.insert(id.to_owned()) };
        let intervals = self.lanes.entry(lane.to_owned()).or_default();
        let before = intervals.range(..=number).next_back().map(|(low, high)| (*low, *high));
        if before.is_some_and(|(_, high)| high >= number) {
            return false;
        }
        let joins_before = before.filter(|(_, high)| high.checked_add(1) == Some(number));
        let low = joins_before.map_or(number, |(low, _)| low);
        let behind = number.checked_add(1).and_then(|next| intervals.remove(&next));
        intervals.insert(low, behind.unwrap_or(number));
        true
    }

    pub fn contains(&self, id: &str) -> bool {
        let Some((lane, number)) = split(id) else { return self.others.contains(id) };
        let interval = self.lanes.get(lane).and_then(|lane| lane.range(..=number).next_back());
        interval.is_some_and(|(_, high)| *high >= number)
    }

    /// Intervals and single identities kept.
    pub fn size(&self) -> usize {
        self.lanes.values().map(BTreeMap::len).sum::<usize>() + self.others.len()
    }
}

/// Only the canonical form of a number counts as one: `007` is another identity than `7`.
fn split(id: &str) -> Option<(&str, u64)> {
    let (lane, digits) = id.rsplit_once('-')?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some((lane, number))
}
