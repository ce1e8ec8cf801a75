//! The disk gives an error, at the N-th call for every N, once or from then on; then the process
//! ends, or the power goes. Nothing that was acknowledged is lost, nothing is acknowledged after a
//! failure, and what an open finds in the page cache after a failed sync is not believed: it is
//! written anew before anybody is told of it. Held here: LOG-7, LOG-8, MARK-2, RECOVERY-3.

use crate::crash;
use crate::support;

use std::path::Path;

use crash::oracle::{go_on, open};
use crash::run::{Run, Stop};
use crash::{tell, workload};
use lossproof_env::{Fault, SimDisk};
use lossproof_log::{Commit, CommitCause, FlushPolicy, Log, LogConfig};
use support::{P1, append, create, simulated, values};

/// The activation of a segment fails, and then the start that goes on behind it, each at every
/// sync; then the power goes. What was never in use is no damage.
#[test]
fn a_segment_whose_activation_failed_is_no_damage() {
    let (mut first, mut failed_starts) = (0, 0);
    loop {
        let mut second = 0;
        let was_struck = loop {
            let (struck, failed) = fail_twice(first, second);
            failed_starts += usize::from(struck && failed);
            if !failed {
                break struck;
            }
            second += 1;
        };
        if !was_struck {
            break;
        }
        first += 1;
    }
    assert!(first > 40 && failed_starts > 100, "{first}, {failed_starts}");
}

/// Whether the first of the faults was met, and whether the start met the second.
fn fail_twice(first: u64, second: u64) -> (bool, bool) {
    let path = Path::new("/data");
    let open = |disk: &SimDisk| Log::open_stepped(&simulated(disk), path, LogConfig::small());
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    disk.inject(Fault::sync(first));
    let long = "x".repeat(3_000);
    let is_taken = |_: &i32| stepper.submit(vec![append(P1, &[&long])]).remove(0).is_ok();
    let acknowledged = (0..40).take_while(is_taken).count();
    let struck = disk.was_struck();
    drop((log, stepper));
    let disk = disk.killed();
    disk.heal();
    disk.inject(Fault::sync(second));
    drop(open(&disk));
    let failed = disk.was_struck();
    disk.heal();
    let (log, _stepper, report) = open(&disk.power_cut()).unwrap();
    assert!(report.is_sound(), "syncs {first} and {second}: {report:?}");
    assert!(values(&log, P1, 0).len() >= acknowledged, "syncs {first} and {second}");
    (struck, failed)
}

/// No workload here has so many calls: the loop over N ends before.
const CALLS_MAX: u64 = 20_000;
const ACTIONS: usize = 10;

/// Runs a workload with a fault; `None` where it was over before the fault struck.
fn run_with(seed: u64, fault: Fault) -> Option<Run> {
    let disk = SimDisk::new();
    disk.inject(fault);
    let mut run = Run::new(disk, seed, LogConfig::small());
    let outcome = run.all(&workload::draw(seed, ACTIONS));
    if !run.disk.was_struck() {
        outcome.unwrap();
        return None;
    }
    if let Err(Stop::Commit(cause)) = &outcome {
        assert!(matches!(cause, CommitCause::Fenced(_)), "{fault:?}: {cause:?}");
        assert!(run.log().fenced().is_some(), "{fault:?}: the fence is latched");
        let refused = run.log().try_enqueue(Commit::default());
        assert!(refused.is_err(), "{fault:?}: LOG-7");
    }
    run.disk.observe(None);
    Some(run)
}

/// The power goes at once.
fn check_cut(run: &Run, name: &str) {
    let config = LogConfig::small();
    let position = run.disk.position();
    let required = run.promises.required(position);
    let possible = run.promises.submitted.len();
    let recording = run.disk.recording();
    let fail = |error: String| panic!("{name}: {error}\n{recording:#?}");
    run.disk.heal();
    let cut = run.disk.power_cut();
    match open(&cut, &config, &run.promises, required, possible) {
        Ok(opened) => {
            let gone_on = go_on(opened, &cut, &config, &run.promises, position);
            gone_on.unwrap_or_else(|error| fail(format!("power cut at once: {error}")));
        }
        Err(error) => fail(format!("power cut at once: {error}")),
    }
}

/// The power goes at once; and, apart from that: the process ends, the next one goes on with what
/// the page cache shows, and then the power goes.
fn check(mut run: Run, name: &str) {
    check_cut(&run, name);
    let config = LogConfig::small();
    let position = run.disk.position();
    let required = run.promises.required(position);
    let possible = run.promises.submitted.len();
    let recording = run.disk.recording();
    let fail = |error: String| panic!("{name}: {error}\n{recording:#?}");
    run.kill();
    match open(&run.disk, &config, &run.promises, required, possible) {
        Ok(opened) => {
            // Readers have seen it: it may not go away any more.
            let served = opened.count;
            let seen = open(&run.disk.power_cut(), &config, &run.promises, served, served);
            if let Err(error) = seen {
                fail(format!("served, then cut: {error}"));
            }
            let gone_on = go_on(opened, &run.disk, &config, &run.promises, position);
            gone_on.unwrap_or_else(|error| fail(format!("next process: {error}")));
        }
        Err(error) => fail(format!("next process: {error}")),
    }
}

/// Tries `fault(n)` for every n up to the end of the workload, and tells how many there were.
fn for_every_n(name: &str, seed: u64, fault: impl Fn(u64) -> Fault) -> u64 {
    for_every_n_by(check, name, seed, fault)
}

fn for_every_n_by(
    check: impl Fn(Run, &str),
    name: &str,
    seed: u64,
    fault: impl Fn(u64) -> Fault,
) -> u64 {
    for n in 0..CALLS_MAX {
        match run_with(seed, fault(n)) {
            Some(run) => check(run, &format!("seed {seed}, {name} at {n}")),
            None => return n,
        }
    }
    panic!("{name}: the workload has more than {CALLS_MAX} calls")
}

#[test]
fn an_error_at_any_call_loses_nothing() {
    let mut tried = 0;
    for seed in 0..4 {
        let once = for_every_n("EIO once", seed, Fault::call);
        let sticky = for_every_n("EIO for good", seed, |n| Fault::call(n).sticky());
        assert_eq!(sticky, once, "seed {seed}");
        tried += once + sticky;
    }
    assert!(tried > 500, "{tried}");
    tell(&format!("faults: EIO once and for good at each call, {tried} runs"));
}

#[test]
fn a_torn_write_with_an_error_loses_nothing() {
    let torn = for_every_n("torn write", 4, |n| Fault::change(n).torn());
    let sticky = for_every_n("torn writes", 4, |n| Fault::change(n).torn().sticky());
    assert!(torn > 20 && sticky == torn, "{torn} {sticky}");
    tell(&format!("faults: torn write at each of {torn} changes"));
}

/// The planted bug `trust-page-cache` must fail this test.
#[test]
fn a_failed_sync_is_never_believed() {
    let mut tried = 0;
    for seed in 5..9 {
        tried += for_every_n("failed sync", seed, Fault::sync);
        tried += for_every_n("failed syncs", seed, |n| Fault::sync(n).sticky());
        tried += for_every_n("failed sync, still dirty", seed, |n| Fault::sync(n).still_dirty());
        // What another process would have to do then, nobody can: the directories are gone too.
        let cut = |run: Run, name: &str| check_cut(&run, name);
        let lost = |n| Fault::sync(n).names_lost();
        tried += for_every_n_by(cut, "failed sync, names lost", seed, lost);
    }
    assert!(tried > 200, "{tried}");
    tell(&format!("faults: {tried} failed syncs"));
}
