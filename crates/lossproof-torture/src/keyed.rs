//! What is known of the records of a compacted topic, and the judgement of what is left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::broker::PARTITIONS;
use crate::ledger::{Judgement, Seen};

/// Few, so that each is soon written again.
const KEYS: u64 = 7;

/// How far a partition was cut from its beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    /// So far it was asked for ...
    asked: i64,
    /// ... and so far that was acknowledged.
    done: i64,
}

#[derive(Debug, Default)]
struct Inner {
    /// Of the next record; all producers of a round count on.
    next: u64,
    /// By number of the record: its offset.
    acknowledged: BTreeMap<u64, i64>,
    cuts: BTreeMap<i32, Cut>,
}

/// One producer at a time, with one record under way: the record of a number has the key and the
/// partition that its number says.
#[derive(Debug, Default)]
pub(crate) struct Keyed(Mutex<Inner>);

/// The key of a record, which is the name that stands in its payload as well.
pub(crate) fn key_of(number: u64) -> String {
    format!("key-{}", number % KEYS)
}

pub(crate) fn partition_of(number: u64) -> i32 {
    (number % KEYS % PARTITIONS as u64) as i32
}

/// The number of a record by its value, where that is one of these.
fn parse(value: &str) -> Option<u64> {
    let (key, number) = value.split_once('/')?;
    let number = number.parse().ok()?;
    (key == key_of(number)).then_some(number)
}

impl Keyed {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a new record.
    pub(crate) fn hand_in(&self) -> u64 {
        let mut inner = self.lock();
        inner.next += 1;
        inner.next - 1
    }

    pub(crate) fn acknowledged(&self, number: u64, offset: i64) {
        self.lock().acknowledged.insert(number, offset);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().next == 0
    }

    /// Where to cut a partition that the last acknowledged record has left behind by half.
    pub(crate) fn ask_cut(&self, number: u64, offset: i64) -> i64 {
        let mut inner = self.lock();
        let cut = inner.cuts.entry(partition_of(number)).or_default();
        cut.asked = cut.asked.midpoint(offset.max(cut.asked));
        cut.asked
    }

    pub(crate) fn cut(&self, number: u64, offset: i64) {
        self.lock().cuts.entry(partition_of(number)).or_default().done = offset;
    }

    /// Judges a full read, with where each partition starts: of each key the last record that was
    /// acknowledged is there, or a later one, unless it was asked to cut it off.
    pub(crate) fn judge(&self, read: &[Seen], starts: &BTreeMap<i32, i64>) -> Judgement {
        let inner = self.lock();
        let mut judgement = Judgement::default();
        let mut last: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last_of_partition: BTreeMap<i32, u64> = BTreeMap::new();
        let mut found = BTreeSet::new();
        for (partition, offset, value) in read {
            let number = parse(value)
                .filter(|number| *number < inner.next && partition_of(*number) == *partition);
            let Some(number) = number else {
                let what = format!("{partition}-{offset} holds '{value}'");
                judgement.find(|tally| &mut tally.altered, what);
                continue;
            };
            match last_of_partition.insert(*partition, number) {
                Some(before) if before == number => {
                    judgement
                        .find(|tally| &mut tally.duplicates, format!("{value} is there twice"));
                }
                Some(before) if before > number => {
                    let what = format!("{value} is out of order");
                    judgement.find(|tally| &mut tally.reordered, what);
                }
                _ => {}
            }
            found.insert(number);
            let newest = last.entry(number % KEYS).or_default();
            *newest = number.max(*newest);
        }
        inner.judge_keys(&last, &mut judgement);
        inner.judge_cuts(starts, &mut judgement);
        let is_compacted = |(number, offset): &(&u64, &i64)| {
            !found.contains(*number) && **offset >= inner.cut_of(**number).asked
        };
        judgement.tally.acknowledged = inner.acknowledged.len() as u64;
        judgement.tally.compacted = inner.acknowledged.iter().filter(is_compacted).count() as u64;
        judgement
    }
}

impl Inner {
    fn cut_of(&self, number: u64) -> Cut {
        self.cuts.get(&partition_of(number)).copied().unwrap_or_default()
    }

    fn judge_keys(&self, last: &BTreeMap<u64, u64>, judgement: &mut Judgement) {
        // Later ones replace earlier ones: the last of each key is left.
        let expected = self.acknowledged.iter().map(|(number, at)| (number % KEYS, (*number, *at)));
        let expected: BTreeMap<u64, (u64, i64)> = expected.collect();
        for (key, (number, offset)) in expected {
            let found = last.get(&key).copied();
            if offset >= self.cut_of(number).asked && found < Some(number) {
                let what = format!("{}/{number} at {offset}: found {found:?}", key_of(number));
                judgement.find(|tally| &mut tally.lost, what);
            }
        }
    }

    fn judge_cuts(&self, starts: &BTreeMap<i32, i64>, judgement: &mut Judgement) {
        for (partition, start) in starts {
            let Cut { asked, done } = self.cuts.get(partition).copied().unwrap_or_default();
            if !(done..=asked).contains(start) {
                let what = format!("{partition} starts at {start}: cut at {done}, asked {asked}");
                judgement.find(|tally| &mut tally.broken, what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;

    /// Ten records; those of partition 0 have the numbers 0, 3, 6, 7 and the keys 0, 3, 6, 0.
    fn keyed() -> Keyed {
        let keyed = Keyed::default();
        for _ in 0..10 {
            let number = keyed.hand_in();
            keyed.acknowledged(number, number as i64);
        }
        keyed
    }

    fn read(numbers: &[u64]) -> Vec<Seen> {
        let record = |number: &u64| {
            let value = format!("{}/{number}", key_of(*number));
            (partition_of(*number), *number as i64, value)
        };
        numbers.iter().map(record).collect()
    }

    fn tally(keyed: &Keyed, numbers: &[u64]) -> Tally {
        keyed.judge(&read(numbers), &BTreeMap::from([(0, 0)])).tally
    }

    #[test]
    fn the_last_record_of_each_key_must_be_there_and_no_other() {
        let (all, last) = ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 9]);
        let clean = Tally { acknowledged: 10, ..Tally::default() };
        assert_eq!(tally(&keyed(), &all), clean);
        assert_eq!(tally(&keyed(), &last), Tally { compacted: 3, ..clean.clone() });
        assert_eq!(tally(&keyed(), &last[1..]).lost, 1);
        // An older one does not stand for it.
        assert_eq!(tally(&keyed(), &[0, 3, 4, 5, 6, 8, 9]).lost, 1);
    }

    #[test]
    fn what_is_foreign_doubled_or_out_of_order_is_found() {
        let all = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        let with = |more: u64| tally(&keyed(), &[&all[..], &[more]].concat());
        assert_eq!(with(10).altered, 1);
        assert_eq!(with(9).duplicates, 1);
        assert_eq!(with(2).reordered, 1);
        let moved = [(1, 0, "key-0/0".to_owned()), (0, 1, "key-1/0".to_owned())];
        assert_eq!(keyed().judge(&moved, &BTreeMap::new()).tally.altered, 2);
    }

    #[test]
    fn a_partition_starts_where_it_was_cut() {
        let keyed = keyed();
        assert_eq!(keyed.ask_cut(7, 7), 3);
        let rest = [4, 5, 6, 7, 8, 9];
        let judge = |start| keyed.judge(&read(&rest), &BTreeMap::from([(0, start)])).tally;
        // Number 3 lies at the cut, which is the first that stays.
        assert_eq!((judge(0).lost, judge(0).broken), (1, 0));
        assert_eq!(keyed.ask_cut(7, 7), 5);
        assert_eq!((judge(5).lost, judge(5).broken, judge(6).broken), (0, 0, 1));
        keyed.cut(7, 3);
        assert_eq!((judge(2).broken, judge(3).broken), (1, 0));
    }
}
