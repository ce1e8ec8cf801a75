//! A failed sync or write is final: whoever waits is refused, nothing more is written, and only a
//! new open, with its recovery, goes on. What that open shows has been written and synced anew,
//! because after a failed sync the page cache shows bytes that are not on the disk.
//! (LOG-5, LOG-7, LOG-8, RECOVERY-3)

use crate::support;

use std::path::Path;

use lossproof_env::{Fault, SimDisk};
use lossproof_log::{
    CloseError, CommitCause, FenceCause, FlushPolicy, Log, LogConfig, RecoveryReport, Stepper,
};
use support::{P1, P2, append, create, produced, simulated, values};

const DATA: &str = "/data";

fn open(disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&simulated(disk), Path::new(DATA), LogConfig::small()).unwrap()
}

/// A log with one record, "kept".
fn started(disk: &SimDisk) -> (Log, Stepper) {
    let (log, mut stepper, _) = open(disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    stepper.submit(vec![append(P1, &["kept"])]).remove(0).unwrap();
    (log, stepper)
}

/// Takes no errors.
struct Panics;

impl tracing::Subscriber for Panics {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        assert!(*event.metadata().level() != tracing::Level::ERROR, "planned");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// LOG-7. The trap: it is told of first, and that fails.
#[test]
fn a_failure_is_latched_though_nobody_can_be_told() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    disk.inject(Fault::sync(0));
    let submit = || stepper.submit(vec![append(P1, &["lost"])]);
    let submit = std::panic::AssertUnwindSafe(submit);
    let panicked = std::panic::catch_unwind(|| tracing::subscriber::with_default(Panics, submit));
    assert!(panicked.is_err(), "the test does not test");
    assert!(matches!(log.fenced().map(|it| it.cause), Some(FenceCause::Sync(_))));
}

fn texts(log: &Log) -> Vec<String> {
    values(log, P1, 0).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn a_failed_sync_is_never_acknowledged() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    disk.inject(Fault::sync(0));
    let outcomes = stepper.submit(vec![append(P1, &["lost"]), append(P1, &["lost too"])]);
    assert!(disk.was_struck());
    for (outcome, text) in outcomes.into_iter().zip(["lost", "lost too"]) {
        let error = outcome.expect_err("the sync failed");
        assert_eq!(error.commit.appends, append(P1, &[text]).appends, "the commit comes back");
        let CommitCause::Fenced(fenced) = error.cause else { panic!("{error}") };
        assert!(matches!(fenced.cause, FenceCause::Sync(_)));
    }
    assert_eq!(texts(&log), ["kept"], "VIEW-1: nothing unacknowledged is shown");
    // Latched: the next sync would say yes, and would prove nothing.
    let position = disk.position();
    let refused = stepper.submit(vec![append(P1, &["later"])]).remove(0);
    assert!(matches!(refused.unwrap_err().cause, CommitCause::Fenced(_)));
    stepper.idle();
    stepper.mark();
    assert!(matches!(stepper.close(), Err(CloseError::Fenced(_))));
    assert_eq!(disk.position(), position, "a fenced journal writes nothing");
}

#[test]
fn what_recovery_shows_survives_the_next_power_cut() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    disk.inject(Fault::sync(0));
    stepper.submit(vec![append(P1, &["in the page cache only"])]).remove(0).unwrap_err();
    drop((log, stepper));

    // The process is restarted; the operating system goes on, with its page cache.
    let disk = disk.killed();
    disk.heal();
    let (log, mut stepper, report) = open(&disk);
    assert!(report.rewritten > 0);
    let shown = texts(&log);
    assert_eq!(shown.len(), 2, "the frame is whole, as far as can be read");
    stepper.submit(vec![append(P1, &["after"])]).remove(0).unwrap();
    drop((log, stepper));

    let (log, _stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{report:?}");
    let after = texts(&log);
    assert_eq!(after[..2], shown, "what was shown to readers is gone");
    assert_eq!(after[2], "after");
}

#[test]
fn a_retry_after_the_fence_is_judged_by_what_is_on_disk() {
    for survives in [false, true] {
        let disk = SimDisk::new();
        let (log, mut stepper) = started(&disk);
        let commit = || lossproof_log::Commit::append(P1, produced(9, 0, 0, &["once"]));
        let fault = Fault::sync(0);
        disk.inject(if survives { fault.still_dirty() } else { fault });
        stepper.submit(vec![commit()]).remove(0).unwrap_err();
        drop((log, stepper));
        let disk = if survives { disk.killed() } else { disk.power_cut() };
        disk.heal();
        let (log, mut stepper, _) = open(&disk);
        let kept = texts(&log).contains(&"once".to_owned());
        assert_eq!(kept, survives);
        let retried = stepper.submit(vec![commit()]).remove(0).unwrap();
        assert_eq!(support::only(&retried).duplicate, kept);
        assert_eq!(texts(&log), ["kept", "once"]);
    }
}

#[test]
fn a_failed_sync_of_zeros_fences_too() {
    // It may have been for frames as well: those of an unsafe policy, which a later frame under
    // `commit` builds on.
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk);
    stepper.submit(vec![create(P2, FlushPolicy::UnsafePageCache)]).remove(0).unwrap();
    for n in 0..2 {
        stepper.submit(vec![append(P2, &[&n.to_string()])]).remove(0).unwrap();
    }
    disk.inject(Fault::sync(0));
    stepper.zero();
    assert!(disk.was_struck(), "nothing was to be zeroed: the test does not test");
    assert!(matches!(log.fenced().map(|it| it.cause), Some(FenceCause::Sync(_))));
    let refused = stepper.submit(vec![append(P1, &["lost"])]).remove(0).unwrap_err();
    assert!(matches!(refused.cause, CommitCause::Fenced(_)));
    let position = disk.position();
    stepper.zero();
    assert_eq!(disk.position(), position, "a fenced journal writes nothing");
}

/// The planted bug `spare-tried-again` must fail this test.
#[test]
fn a_failed_sync_of_the_next_segment_fences_too() {
    // The name that a first try has lost is not brought back by the second.
    let long = "x".repeat(3_000);
    // Without a ballast, of which nothing depends.
    let config = LogConfig { ballast_bytes: 0, checkpoint_bytes: 0, ..LogConfig::small() };
    for at in 0..2 {
        let mut struck = 0;
        for steps in 0..20 {
            let disk = SimDisk::new();
            let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), config.clone());
            let (log, mut stepper, _) = opened.unwrap();
            stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
            for _ in 0..steps {
                stepper.submit(vec![append(P1, &[&long])]).remove(0).unwrap();
                stepper.zero();
            }
            stepper.submit(vec![append(P1, &[&long])]).remove(0).unwrap();
            // The second sync of one step is that of the directory.
            disk.inject(Fault::sync(at).names_lost());
            stepper.zero();
            if !disk.was_struck() {
                continue;
            }
            struck += 1;
            let cause = log.fenced().map(|fenced| fenced.cause);
            assert!(matches!(cause, Some(FenceCause::Sync(_))), "a second try is believed");
            let position = disk.position();
            stepper.submit(vec![append(P1, &["lost"])]).remove(0).unwrap_err();
            stepper.zero();
            assert_eq!(disk.position(), position, "a fenced journal writes nothing");
        }
        assert!(struck > 0, "sync {at} of a step: the test does not test");
    }
}

#[test]
fn a_failed_write_is_as_final_as_a_failed_sync() {
    for fault in [Fault::change(0), Fault::change(0).torn()] {
        let disk = SimDisk::new();
        let (log, mut stepper) = started(&disk);
        disk.inject(fault);
        let error = stepper.submit(vec![append(P1, &["lost"])]).remove(0).unwrap_err();
        let CommitCause::Fenced(fenced) = error.cause else { panic!("{error}") };
        assert!(matches!(fenced.cause, FenceCause::Write(_)));
        assert_eq!(log.fenced(), Some(fenced));
        drop((log, stepper));
        let (log, _stepper, report) = open(&disk.killed());
        assert_eq!(texts(&log), ["kept"]);
        assert!(report.damage.is_empty());
    }
}

#[test]
fn no_call_of_the_disk_may_fail_and_be_forgotten() {
    // The fault strikes the n-th call, for every n: what is acknowledged is there afterwards.
    for sticky in [false, true] {
        for n in 0.. {
            let disk = SimDisk::new();
            let fault = Fault::call(n);
            disk.inject(if sticky { fault.sticky() } else { fault });
            let acknowledged = workload(&disk);
            let struck = disk.was_struck();
            let disk = disk.killed();
            disk.heal();
            for after in [disk.power_cut(), disk] {
                let (log, _stepper, report) = open(&after);
                assert!(report.damage.is_empty(), "call {n}: {report:?}");
                let found = if acknowledged == 0 { Vec::new() } else { texts(&log) };
                let wanted: Vec<String> = (0..acknowledged).map(|at| at.to_string()).collect();
                assert!(found.starts_with(&wanted), "call {n}: {found:?} of {acknowledged}");
            }
            if !struck {
                assert!(acknowledged == 8, "without a fault all is acknowledged");
                break;
            }
        }
    }
}

/// Opens, appends "0" to "7", closes; gives how many were acknowledged.
fn workload(disk: &SimDisk) -> usize {
    let opened = Log::open_stepped(&simulated(disk), Path::new(DATA), LogConfig::small());
    let Ok((_log, mut stepper, _)) = opened else { return 0 };
    if stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).is_err() {
        return 0;
    }
    let mut acknowledged = 0;
    for at in 0..8 {
        if stepper.submit(vec![append(P1, &[&at.to_string()])]).remove(0).is_err() {
            break;
        }
        acknowledged += 1;
        if at == 5 {
            stepper.mark();
        }
    }
    // Refused after a fault; what was acknowledged before is not touched by it.
    let _ = stepper.close();
    acknowledged
}

#[test]
fn a_cut_is_listed_before_it_takes_effect() {
    // RECOVERY-2: the open that cuts a torn tail dies at its n-th change of the disk, or fails at
    // its n-th sync, for every n. Whenever the tail is gone from the journal, the list names it,
    // also where the power goes behind the next open.
    for (n, syncs) in (0..).flat_map(|n| [(n, false), (n, true)]) {
        let disk = SimDisk::new();
        let (log, mut stepper) = started(&disk);
        disk.inject(Fault::change(0).torn());
        stepper.submit(vec![append(P1, &["torn"])]).remove(0).unwrap_err();
        drop((log, stepper));
        let disk = disk.killed();
        disk.inject(if syncs { Fault::sync(n) } else { Fault::change(n).sticky() });
        let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
        let struck = disk.was_struck();
        drop(opened);
        let disk = disk.killed();
        disk.heal();
        let list = Path::new(DATA).join("quarantine/list");
        let (log, stepper, report) = open(&disk);
        let listed = disk.bytes(&list).is_ok_and(|list| !list.is_empty());
        assert!(listed || !report.in_doubt.is_empty(), "change {n}: the cut was silent");
        drop((log, stepper));
        let cut = disk.power_cut();
        let (_log, _stepper, report) = open(&cut);
        let listed = cut.bytes(&list).is_ok_and(|list| !list.is_empty());
        assert!(listed || !report.in_doubt.is_empty(), "{n}, {syncs}: silent behind a power cut");
        // There are more changes than syncs.
        if !struck && !syncs {
            assert!(n > 0);
            break;
        }
    }
}
