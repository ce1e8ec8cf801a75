//! The power goes at every moment of a compaction, and leaves whatever a disk may leave. On every
//! image a reader sees the last value of each key, as if nothing had been compacted or all of it;
//! the producers' windows are there, and compaction goes on from there.
//!
//! Held here: COMPACTION-1, MOVE-1, COLD-1, CHECKPOINT-1.

use crate::crash;
use crate::keyed;

use crash::{directory, environment, tell};
use keyed::{History, ID, compact, wish};
use lossproof_env::{CrashImage, CrashPlan, ImageCounts, SimDisk};
use lossproof_log::{Commit, FlushPolicy, Log, LogConfig, PartitionChange, Stepper};

const HISTORIES: u64 = 2;
const BATCHES: usize = 60;
const SUBSETS: usize = 6;
/// On one in so many images compaction goes on.
const GO_ON_EVERY: u64 = 5;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 40 << 10,
        initial_zero_bytes: 24 << 10,
        zero_step_bytes: 8 << 10,
        zero_ahead_bytes: 8 << 10,
        ..LogConfig::small()
    }
}

fn open(disk: &SimDisk, seed: u64) -> (Log, Stepper) {
    let (env, _) = environment(disk, seed);
    let (log, stepper, report) = Log::open_stepped(&env, directory(), config()).unwrap();
    assert!(report.damage.is_empty(), "a crash damages nothing acknowledged: {report:?}");
    (log, stepper)
}

/// A log that has been compacted once, with more records behind that, all of them durable.
fn prepared(seed: u64) -> (History, SimDisk) {
    let disk = SimDisk::new();
    let (log, mut stepper) = open(&disk, seed);
    let flush = FlushPolicy::Commit;
    let create = PartitionChange::Create { id: ID, topic_id: [1; 16], index: 0, flush };
    let mut history = History::new(seed, 600);
    let submit = |stepper: &mut Stepper, commit| {
        stepper.submit(vec![commit]).remove(0).unwrap();
        stepper.zero();
    };
    submit(&mut stepper, Commit::partition(create));
    for half in 0..2 {
        for _ in 0..BATCHES {
            submit(&mut stepper, history.draw());
        }
        if half == 0 {
            compact(&log, &mut stepper, wish(0));
        }
    }
    history.check(&log);
    (history, disk.power_cut())
}

#[test]
fn the_power_may_go_at_any_moment_of_a_compaction() {
    let mut counts = ImageCounts::default();
    for seed in 0..HISTORIES {
        let (history, disk) = prepared(seed);
        let (log, mut stepper) = open(&disk, seed + 100);
        for now_ms in [500, 5_000] {
            compact(&log, &mut stepper, wish(now_ms));
        }
        let clean = log.dirt(ID).unwrap();
        assert!(clean.from > 0 && clean.dirty_bytes == 0, "{clean:?}");
        let recording = disk.recording();
        drop((log, stepper));
        let mut number = 0;
        let plan = CrashPlan { seed, subsets_max: SUBSETS };
        counts.add(&recording.visit(plan, &[], |image| {
            number += 1;
            check(&history, &image, number % GO_ON_EVERY == 0);
        }));
    }
    tell(&format!("crash images of compaction: {counts}"));
    assert!(counts.images > 500, "{counts}");
}

fn check(history: &History, image: &CrashImage, goes_on: bool) {
    let disk = image.disk();
    let (log, mut stepper) = open(&disk, 7);
    history.check(&log);
    if !goes_on {
        return;
    }
    history.check_windows(&mut stepper);
    compact(&log, &mut stepper, wish(9_000));
    history.check(&log);
    drop((log, stepper));
    let (log, _stepper) = open(&disk.power_cut(), 8);
    history.check(&log);
}
