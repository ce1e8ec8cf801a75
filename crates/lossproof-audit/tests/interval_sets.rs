//! INTERVAL-1, INTERVAL-2: an interval set is a set. Whatever is done to one is done to a
//! `BTreeSet` of the standard library too, and both must hold the same numbers afterwards.

use std::collections::BTreeSet;

use lossproof_audit::interval::IntervalSet;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    InsertRange(u64, u64),
    Remove(u64),
    RemoveRange(u64, u64),
}

/// Small numbers, so that intervals touch; or the same at the upper end of `u64`.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..60_u64, 1 => (0..40_u64).prop_map(|below| u64::MAX - below)]
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (number(), 0..9_u64).prop_map(|(first, more)| (first, first.saturating_add(more)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        number().prop_map(Step::Insert),
        range().prop_map(|(first, last)| Step::InsertRange(first, last)),
        number().prop_map(Step::Remove),
        range().prop_map(|(first, last)| Step::RemoveRange(first, last)),
    ]
}

fn build(steps: &[Step]) -> (IntervalSet, BTreeSet<u64>) {
    let (mut set, mut model) = (IntervalSet::new(), BTreeSet::new());
    for step in steps {
        match *step {
            Step::Insert(number) => {
                set.insert(number);
                model.insert(number);
            }
            Step::InsertRange(first, last) => {
                set.insert_range(first, last);
                model.extend(first..=last);
            }
            Step::Remove(number) => {
                set.remove(number);
                model.remove(&number);
            }
            Step::RemoveRange(first, last) => {
                set.remove_range(first, last);
                model.retain(|number| !(first..=last).contains(number));
            }
        }
    }
    (set, model)
}

fn assert_same(set: &IntervalSet, model: &BTreeSet<u64>) {
    assert!(set.numbers().eq(model.iter().copied()), "INTERVAL-2: {set:?} is not {model:?}");
    let intervals: Vec<_> = set.iter().collect();
    for pair in intervals.windows(2) {
        assert!(pair[0].last + 1 < pair[1].first, "INTERVAL-1: {set:?}");
    }
    assert!(intervals.iter().all(|interval| interval.first <= interval.last), "INTERVAL-1");
    assert_eq!(set.count(), model.len() as u64);
    assert_eq!(set.first(), model.first().copied());
    assert_eq!(set.last(), model.last().copied());
}

proptest! {
    #[test]
    fn steps_agree_with_a_btree_set(steps in prop::collection::vec(step(), 0..80)) {
        let (set, model) = build(&steps);
        assert_same(&set, &model);
        for probe in (0..70).chain(u64::MAX - 45..=u64::MAX) {
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
        }
    }

    #[test]
    fn combinations_agree_with_a_btree_set(
        left in prop::collection::vec(step(), 0..40),
        right in prop::collection::vec(step(), 0..40),
    ) {
        let ((a, in_a), (b, in_b)) = (build(&left), build(&right));
        assert_same(&a.union(&b), &in_a.union(&in_b).copied().collect());
        assert_same(&a.intersection(&b), &in_a.intersection(&in_b).copied().collect());
        assert_same(&a.difference(&b), &in_a.difference(&in_b).copied().collect());
    }

    /// Many small sets into one large one takes another way through the code.
    #[test]
    fn union_with_a_small_set_agrees(
        large in prop::collection::btree_set(0..2_000_u64, 100..400),
        small in prop::collection::btree_set(0..2_000_u64, 0..5),
    ) {
        let mut set: IntervalSet = large.iter().copied().collect();
        set.union_with(&small.iter().copied().collect());
        assert_same(&set, &large.union(&small).copied().collect());
    }
}

#[test]
fn the_edges_of_the_number_range_are_ordinary_members() {
    let mut set = IntervalSet::of(0, u64::MAX);
    assert_eq!((set.count(), set.end(), set.interval_count()), (u64::MAX, u64::MAX, 1));
    set.remove(0);
    set.remove(u64::MAX);
    assert_eq!((set.first(), set.last()), (Some(1), Some(u64::MAX - 1)));
    assert_eq!(IntervalSet::below(0), IntervalSet::new());
    assert_eq!(IntervalSet::of(3, 2), IntervalSet::new());
}
