//! The breaker on a clock that the test moves.

use std::collections::BTreeSet;
use std::time::Duration;

use lossproof_pipeline::breaker::{
    Answer, Breaker, BreakerSettings, Caller, Permit, Report, State,
};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn settings() -> BreakerSettings {
    BreakerSettings {
        window: 10,
        calls_min: 4,
        failure_percent: 50,
        consecutive_max: 3,
        open: 100 * MS,
        open_max: 350 * MS,
        probes: 3,
    }
}

fn caller(number: u64) -> Caller {
    Caller { probes: 0, number }
}

fn go(breaker: &mut Breaker, now: Duration, caller: Caller) -> Permit {
    match breaker.ask(now, caller).0 {
        Answer::Go(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn opened(now: Duration) -> Breaker {
    let mut breaker = Breaker::new(settings());
    for number in 0..3 {
        let permit = go(&mut breaker, now, caller(number));
        breaker.report(now, permit, Report::Failed);
    }
    assert_eq!(breaker.state(), State::Open);
    breaker
}

#[test]
fn failures_in_a_row_open_it_and_probes_of_several_records_close_it() {
    let mut breaker = opened(Duration::ZERO);
    assert_eq!(breaker.ask(99 * MS, caller(7)).0, Answer::WaitUntil(100 * MS), "BREAKER-1");
    assert!(breaker.holds(99 * MS) && !breaker.holds(100 * MS));
    let probes = [8, 9].map(|number| go(&mut breaker, 100 * MS, caller(number)));
    let third = go(&mut breaker, 100 * MS, caller(7));
    assert!(probes.iter().all(|permit| permit.probe));
    assert_eq!(breaker.ask(100 * MS, caller(10)).0, Answer::WaitForReport, "BREAKER-2");
    for permit in probes {
        assert_eq!(breaker.report(101 * MS, permit, Report::Answered), None);
    }
    // One record that fails while others pass does not keep it open.
    let transition = breaker.report(101 * MS, third, Report::Failed).unwrap();
    assert_eq!((transition.from, transition.to), (State::HalfOpen, State::Closed));
}

#[test]
fn each_round_of_failed_probes_doubles_the_time_up_to_the_bound() {
    let mut breaker = opened(Duration::ZERO);
    let mut now = Duration::ZERO;
    for expected in [100, 200, 350, 350] {
        let Answer::WaitUntil(until) = breaker.ask(now, caller(50)).0 else { panic!() };
        assert_eq!(until, now + expected * MS);
        now = until;
        let probes = [50, 51, 52].map(|number| go(&mut breaker, now, caller(number)));
        for permit in probes {
            breaker.report(now, permit, Report::Failed);
        }
        assert_eq!(breaker.state(), State::Open);
    }
}

#[test]
fn a_share_of_failures_opens_it_too() {
    let mut breaker = Breaker::new(settings());
    for (number, report) in
        [Report::Failed, Report::Answered, Report::Answered, Report::Failed].into_iter().enumerate()
    {
        let permit = go(&mut breaker, Duration::ZERO, caller(number as u64));
        breaker.report(Duration::ZERO, permit, report);
    }
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn records_that_probed_least_go_first() {
    let mut breaker = opened(Duration::ZERO);
    // Three that have failed as probes before, and one new record that came last.
    for number in 1..=3 {
        let _ = breaker.ask(Duration::ZERO, Caller { probes: 2, number });
    }
    let _ = breaker.ask(Duration::ZERO, Caller { probes: 0, number: 9 });
    let now = 100 * MS;
    let tired = |number| Caller { probes: 2, number };
    assert_eq!(breaker.ask(now, tired(3)).0, Answer::WaitForReport, "BREAKER-2");
    let _ = go(&mut breaker, now, Caller { probes: 0, number: 9 });
    let _ = go(&mut breaker, now, tired(1));
}

#[test]
fn a_lone_record_probes_alone_and_one_that_leaves_is_not_waited_for() {
    let mut breaker = opened(Duration::ZERO);
    let _ = breaker.ask(Duration::ZERO, caller(20));
    let permit = go(&mut breaker, 100 * MS, caller(21));
    assert_eq!(breaker.report(100 * MS, permit, Report::Answered), None, "another may probe yet");
    let transition = breaker.withdraw(100 * MS, caller(20)).unwrap();
    assert_eq!(transition.to, State::Closed);
}

#[derive(Clone, Debug)]
enum Action {
    Ask(u64),
    Report(usize, bool),
    Withdraw(usize),
    Wait(u32),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (0..12_u64).prop_map(Action::Ask),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(i, failed)| Action::Report(i, failed)),
        1 => any::<usize>().prop_map(Action::Withdraw),
        2 => (1..150_u32).prop_map(Action::Wait),
    ];
    prop::collection::vec(action, 0..300)
}

/// BREAKER-5: with everybody answering, everybody gets through in the end; who does not.
fn waiting_at_last(
    breaker: &mut Breaker,
    mut now: Duration,
    asking: Vec<u64>,
    mut held: Vec<(u32, u64, Permit)>,
) -> BTreeSet<u64> {
    let mut waiting: BTreeSet<u64> = asking.into_iter().collect();
    for _ in 0..50 {
        for (_, _, permit) in held.drain(..) {
            breaker.report(now, permit, Report::Answered);
        }
        now += 400 * MS;
        let callers: Vec<u64> = waiting.iter().copied().collect();
        for number in callers {
            if let (Answer::Go(permit), _) = breaker.ask(now, caller(number)) {
                waiting.remove(&number);
                held.push((0, number, permit));
            }
        }
    }
    waiting
}

proptest! {
    #[test]
    fn any_script(actions in actions()) {
        let mut breaker = Breaker::new(settings());
        let mut now = Duration::ZERO;
        let mut asking: Vec<u64> = Vec::new();
        let mut held: Vec<(u32, u64, Permit)> = Vec::new();
        let (mut changes, mut probes_of_round) = (0_u32, 0);
        let mut open_until = Duration::ZERO;
        for action in actions {
            let transition = match action {
                Action::Ask(number) => {
                    let (answer, transition) = breaker.ask(now, caller(number));
                    if transition.is_some() {
                        changes += 1;
                        probes_of_round = 0;
                    }
                    asking.retain(|other| *other != number);
                    match answer {
                        Answer::Go(permit) => {
                            prop_assert!(now >= open_until, "BREAKER-1");
                            if permit.probe {
                                probes_of_round += 1;
                                prop_assert!(probes_of_round <= 3, "BREAKER-2");
                            }
                            held.push((changes, number, permit));
                        }
                        Answer::WaitUntil(until) => {
                            prop_assert!(until > now, "BREAKER-5");
                            asking.push(number);
                        }
                        Answer::WaitForReport => {
                            // BREAKER-5: somebody is out, or may go out, whose report will come.
                            let out = held.iter().any(|(generation, ..)| *generation == changes);
                            prop_assert!(out || !asking.is_empty(), "BREAKER-5");
                            asking.push(number);
                        }
                    }
                    None
                }
                Action::Report(index, failed) if !held.is_empty() => {
                    let (generation, _, permit) = held.swap_remove(index % held.len());
                    let report = if failed { Report::Failed } else { Report::Answered };
                    let transition = breaker.report(now, permit, report);
                    if generation != changes {
                        prop_assert_eq!(transition, None, "BREAKER-4");
                    }
                    let opens = transition.is_some_and(|t| t.from == State::Closed);
                    prop_assert!(failed || !opens, "BREAKER-3");
                    transition
                }
                Action::Withdraw(index) if !asking.is_empty() => {
                    let number = asking.swap_remove(index % asking.len());
                    breaker.withdraw(now, caller(number))
                }
                Action::Wait(ms) => {
                    now += ms * MS;
                    None
                }
                Action::Report(..) | Action::Withdraw(_) => None,
            };
            if let Some(transition) = transition {
                changes += 1;
                if transition.to == State::Open {
                    open_until = now + transition.open;
                }
            }
        }
        let waiting = waiting_at_last(&mut breaker, now, asking, held);
        prop_assert!(waiting.is_empty(), "BREAKER-5: {:?} wait for ever", waiting);
    }
}
