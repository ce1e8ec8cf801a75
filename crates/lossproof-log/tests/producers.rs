//! Idempotent producers: a batch that is sent again is answered with its first offset and not
//! appended, over restarts too; who is unknown must start at 0; ids are never given twice.
//! (PRODUCER-1, PRODUCER-2, PRODUCER-4, storage rule 13)

use crate::support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Environment, Fault, ManualClock, SimDisk};
use lossproof_log::{Commit, CommitCause, FlushPolicy, FullCause, Log, LogConfig, Stepper};
use support::{P1, P2, create, only, produced, simulated, values};

fn open(disk: &SimDisk, config: LogConfig) -> (Log, Stepper) {
    let env = simulated(disk);
    let (log, stepper, _) = Log::open_stepped(&env, Path::new("/data"), config).unwrap();
    (log, stepper)
}

fn started(disk: &SimDisk) -> (Log, Stepper) {
    let (log, mut stepper) = open(disk, LogConfig::small());
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    (log, stepper)
}

fn send(stepper: &mut Stepper, epoch: i16, sequence: i32) -> Result<(i64, bool), CommitCause> {
    let batch = produced(40, epoch, sequence, &["a", "b"]);
    let outcome = stepper.submit(vec![Commit::append(P1, batch)]).remove(0);
    outcome.map_err(|error| error.cause).map(|committed| {
        let appended = only(&committed);
        (appended.base_offset, appended.duplicate)
    })
}

#[test]
fn five_batches_are_known_again_after_a_crash() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    for index in 0..6 {
        assert_eq!(send(&mut stepper, 0, index * 2), Ok((i64::from(index) * 2, false)));
    }
    drop((log, stepper));
    let (log, mut stepper) = open(&disk.power_cut(), LogConfig::small());
    for index in 1..6 {
        let original = Ok((i64::from(index) * 2, true));
        assert_eq!(send(&mut stepper, 0, index * 2), original, "known again after the crash");
    }
    assert!(matches!(send(&mut stepper, 0, 0), Err(CommitCause::OutOfOrderSequence { .. })));
    assert_eq!(send(&mut stepper, 0, 12), Ok((12, false)));
    assert_eq!(values(&log, P1, 0).len(), 14);
}

#[test]
fn a_duplicate_in_the_same_frame_is_answered_with_it() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    let batch = produced(40, 0, 0, &["a"]);
    let commits = vec![Commit::append(P1, batch.clone()), Commit::append(P1, batch)];
    let outcomes = stepper.submit(commits);
    let appended: Vec<_> = outcomes.into_iter().map(|outcome| only(&outcome.unwrap())).collect();
    assert_eq!((appended[0].base_offset, appended[0].duplicate), (0, false));
    assert_eq!((appended[1].base_offset, appended[1].duplicate), (0, true));
    assert_eq!(values(&log, P1, 0).len(), 1);
}

/// The trap: the retry is found in memory while the original is on its way to the disk.
#[test]
fn a_duplicate_of_what_does_not_become_durable_is_not_acknowledged() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    let batch = produced(40, 0, 0, &["a"]);
    let both = vec![Commit::append(P1, batch.clone()), Commit::append(P1, batch)];
    disk.inject(Fault::sync(0).sticky());
    let outcomes = stepper.submit(both);
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    assert!(values(&log, P1, 0).is_empty());
    drop((log, stepper));
    let (_log, mut stepper) = open(&disk.power_cut(), LogConfig::small());
    assert_eq!(send(&mut stepper, 0, 0), Ok((0, false)), "it is stored when it comes again");
}

#[test]
fn gaps_old_epochs_and_strangers_are_refused_by_name() {
    let disk = SimDisk::new();
    let (_log, mut stepper) = started(&disk);
    let stranger = send(&mut stepper, 0, 7);
    assert!(
        matches!(stranger, Err(CommitCause::UnknownProducer { producer_id: 40, found: 7, .. })),
        "a stranger begins at 0: {stranger:?}"
    );
    assert_eq!(send(&mut stepper, 3, 0), Ok((0, false)));
    assert!(matches!(
        send(&mut stepper, 3, 3),
        Err(CommitCause::OutOfOrderSequence { expected: 2, found: 3, .. })
    ));
    assert!(matches!(
        send(&mut stepper, 2, 2),
        Err(CommitCause::InvalidProducerEpoch { known: 3, found: 2, .. })
    ));
    assert_eq!(send(&mut stepper, 4, 0), Ok((2, false)));
}

#[test]
fn a_refused_commit_leaves_no_trace() {
    // STAGE-1: the first batch of the commit is good, the second is not.
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    stepper.submit(vec![create(P2, FlushPolicy::Commit)]).remove(0).unwrap();
    let mut commit = Commit::append(P1, produced(40, 0, 0, &["a"]));
    commit.appends.extend(Commit::append(P2, produced(40, 0, 5, &["b"])).appends);
    let error = stepper.submit(vec![commit.clone()]).remove(0).unwrap_err();
    assert_eq!(error.commit.appends, commit.appends);
    assert!(values(&log, P1, 0).is_empty());
    assert_eq!(send(&mut stepper, 0, 0), Ok((0, false)), "the sequence was not used up");
}

/// An environment of its own, and its clock.
fn timed() -> (ManualClock, Environment) {
    let clock = ManualClock::new(0);
    let env = Environment { clock: Arc::new(clock.clone()), ..simulated(&SimDisk::new()) };
    (clock, env)
}

#[test]
fn producers_are_bounded_and_the_expired_make_room() {
    let config = LogConfig { producers_max: 2, ..LogConfig::small() };
    let (clock, env) = timed();
    let (_log, mut stepper, _) =
        Log::open_stepped(&env, Path::new("/data"), config.clone()).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    let first = |stepper: &mut Stepper, producer_id, sequence| {
        let batch = produced(producer_id, 0, sequence, &["a"]);
        stepper.submit(vec![Commit::append(P1, batch)]).remove(0).map_err(|error| error.cause)
    };
    first(&mut stepper, 1, 0).unwrap();
    first(&mut stepper, 2, 0).unwrap();
    let full = Err(CommitCause::Full(FullCause::Producers));
    assert_eq!(first(&mut stepper, 3, 0), full);
    first(&mut stepper, 1, 1).unwrap();
    // A jump of the wall clock expires nobody; time that the log was open does.
    clock.jump_wall_ms(30 * 24 * 60 * 60 * 1000);
    assert_eq!(first(&mut stepper, 3, 0), full);
    clock.advance(config.producer_expiry);
    first(&mut stepper, 3, 0).unwrap();
    assert!(matches!(first(&mut stepper, 1, 2), Err(CommitCause::UnknownProducer { .. })));
}

/// The trap: everybody new is refused until somebody expires, which takes a day.
#[test]
fn the_longest_idle_makes_room_and_nobody_who_may_send_again() {
    // PRODUCER-4
    let config = LogConfig { producers_max: 2, ..LogConfig::small() };
    let (clock, env) = timed();
    let (log, mut stepper, _) = Log::open_stepped(&env, Path::new("/data"), config).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    let put = |stepper: &mut Stepper, producer_id, sequence| {
        let batch = produced(producer_id, 0, sequence, &["a"]);
        stepper.submit(vec![Commit::append(P1, batch)]).remove(0).map_err(|error| error.cause)
    };
    put(&mut stepper, 1, 0).unwrap();
    put(&mut stepper, 2, 0).unwrap();
    clock.advance(Duration::from_mins(5));
    put(&mut stepper, 1, 1).unwrap();
    clock.advance(Duration::from_mins(9));
    let full = Err(CommitCause::Full(FullCause::Producers));
    assert_eq!(put(&mut stepper, 3, 0), full, "both may send their last batch again");
    clock.advance(Duration::from_mins(1));
    put(&mut stepper, 3, 0).unwrap();
    assert_eq!((log.figures().producers.used, log.figures().producers.max), (2, 2));
    put(&mut stepper, 1, 2).unwrap();
    assert!(matches!(put(&mut stepper, 2, 1), Err(CommitCause::UnknownProducer { .. })));
    assert_eq!(put(&mut stepper, 2, 0), full);
}

/// The trap: each checkpoint keeps all that were in the one before, for ever.
#[test]
fn a_checkpoint_forgets_whose_time_is_over() {
    let (clock, env) = timed();
    let config = LogConfig::small();
    let open = || Log::open_stepped(&env, Path::new("/data"), config.clone()).unwrap();
    let (log, mut stepper, _) = open();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    send(&mut stepper, 0, 0).unwrap();
    clock.advance(config.producer_expiry);
    let long = "x".repeat(3_000);
    for _ in 0..30 {
        stepper.submit(vec![support::append(P1, &[&long])]).remove(0).unwrap();
    }
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    let (log, mut stepper, _) = open();
    assert_eq!(log.figures().producers.used, 0);
    assert!(matches!(send(&mut stepper, 0, 2), Err(CommitCause::UnknownProducer { .. })));
}

#[test]
fn producer_ids_are_given_once() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    let first = stepper.reserve_producer_ids(10).unwrap();
    let second = stepper.reserve_producer_ids(1).unwrap();
    assert!(first.first > 0);
    assert_eq!(second.first, first.first + 10);
    drop((log, stepper));
    let (_log, mut stepper) = open(&disk.power_cut(), LogConfig::small());
    assert_eq!(stepper.reserve_producer_ids(5).unwrap().first, first.first + 11);
    let other = SimDisk::new();
    let (_log, mut stepper) = {
        let mut env = simulated(&other);
        env.rng = std::sync::Arc::new(lossproof_env::SeededRng::new(99));
        let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
        let (log, stepper, _) = opened.unwrap();
        (log, stepper)
    };
    let elsewhere = stepper.reserve_producer_ids(1).unwrap();
    assert_ne!(elsewhere.first >> 32, first.first >> 32, "each directory has its own range");
}
