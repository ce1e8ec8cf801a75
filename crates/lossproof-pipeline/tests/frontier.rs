//! The frontier under any order of admissions and completions.

use lossproof_pipeline::frontier::Frontier;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    /// The next record, so many offsets further on (a gap is legal).
    Admit(i64),
    /// One that was admitted before, or lies before the start.
    AdmitOld(i64),
    /// The n-th of those in flight.
    Finish(usize),
    /// Something that is not in flight.
    FinishUnknown(i64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (1..4_i64).prop_map(Action::Admit),
        1 => (0..5_i64).prop_map(Action::AdmitOld),
        4 => any::<usize>().prop_map(Action::Finish),
        1 => (0..100_i64).prop_map(Action::FinishUnknown),
    ];
    prop::collection::vec(action, 0..120)
}

proptest! {
    #[test]
    fn it_never_passes_what_is_unfinished(start in 0..1000_i64, actions in actions()) {
        let mut frontier = Frontier::starting_at(start);
        let mut in_flight: Vec<i64> = Vec::new();
        let (mut last, mut committable) = (start - 1, start);
        for action in actions {
            match action {
                Action::Admit(step) => {
                    last += step;
                    prop_assert!(frontier.admit(last));
                    in_flight.push(last);
                }
                // FRONTIER-4
                Action::AdmitOld(back) => prop_assert!(!frontier.admit(last - back)),
                Action::Finish(index) if !in_flight.is_empty() => {
                    let offset = in_flight.swap_remove(index % in_flight.len());
                    prop_assert!(frontier.finish(offset));
                    prop_assert!(!frontier.finish(offset), "FRONTIER-3");
                }
                Action::Finish(_) => {}
                Action::FinishUnknown(offset) => {
                    let known = in_flight.contains(&offset);
                    prop_assert!(known || !frontier.finish(offset), "FRONTIER-3");
                }
            }
            let now = frontier.committable();
            prop_assert!(now >= committable, "FRONTIER-2");
            prop_assert!(now <= last + 1, "FRONTIER-5");
            prop_assert!(in_flight.iter().all(|offset| *offset >= now), "FRONTIER-1");
            // And it is not lazy either: with nothing in flight, everything is committable.
            prop_assert!(!in_flight.is_empty() || now == frontier.position());
            prop_assert_eq!(frontier.unfinished_count(), in_flight.len());
            committable = now;
        }
    }
}
