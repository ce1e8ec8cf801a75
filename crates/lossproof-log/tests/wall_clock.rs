//! By a wall clock that may be wrong nothing goes for its age: one that is far from what was
//! believed last has to run on for an hour first, and a new start does not make it right.
//! (CLOCK-1, CLOCK-2, CLOCK-3, storage rule 15)

use crate::support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Environment, ManualClock, SimDisk};
use lossproof_log::{FlushPolicy, Log, LogConfig, Stepper};
use support::{P1, append, create, simulated};

const NOW: i64 = 1_700_000_000_000;
const MINUTE: Duration = Duration::from_mins(1);
const MINUTE_MS: i64 = 60_000;
const MONTH_MS: i64 = 30 * 24 * 60 * MINUTE_MS;

fn open(disk: &SimDisk, wall_ms: i64) -> (Log, Stepper, ManualClock) {
    let clock = ManualClock::new(wall_ms);
    let env = Environment { clock: Arc::new(clock.clone()), ..simulated(disk) };
    let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
    let (log, stepper, _) = opened.unwrap();
    (log, stepper, clock)
}

/// A log that was written to, and closed, at [`NOW`].
fn closed() -> SimDisk {
    let disk = SimDisk::new();
    let (log, mut stepper, clock) = open(&disk, NOW - 10 * MINUTE_MS);
    assert!(log.believed_wall_ms().is_some(), "a new log has nothing to compare with");
    stepper.submit(vec![create(P1, FlushPolicy::Commit), append(P1, &["x"])]);
    clock.advance(10 * MINUTE);
    stepper.close().unwrap();
    disk
}

#[test]
fn a_start_far_from_the_last_time_waits_for_an_hour() {
    // CLOCK-2: either way.
    for wall_ms in [NOW + MONTH_MS, NOW - MONTH_MS] {
        let disk = closed();
        let (log, _stepper, clock) = open(&disk, wall_ms);
        assert_eq!(log.believed_wall_ms(), None);
        clock.advance(59 * MINUTE);
        assert_eq!(log.believed_wall_ms(), None);
        clock.advance(MINUTE);
        assert_eq!(log.believed_wall_ms(), Some(wall_ms + 60 * MINUTE_MS));
    }
}

#[test]
fn a_start_near_the_last_time_goes_on_at_once() {
    let disk = closed();
    let wall_ms = NOW + 59 * MINUTE_MS;
    let (log, _stepper, _clock) = open(&disk, wall_ms);
    assert_eq!(log.believed_wall_ms(), Some(wall_ms));
}

/// The trap: the first start writes the wrong time down, and the second one finds it right.
#[test]
fn another_start_confirms_nothing() {
    // CLOCK-3
    let mut disk = closed();
    for start in 0..3 {
        let (log, mut stepper, clock) = open(&disk, NOW + MONTH_MS);
        assert_eq!(log.believed_wall_ms(), None, "start {start}");
        stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
        clock.advance(50 * MINUTE);
        stepper.idle();
        stepper.close().unwrap();
        drop(log);
        disk = disk.power_cut();
    }
    let (log, stepper, _clock) = open(&disk, NOW + MINUTE_MS);
    assert!(log.believed_wall_ms().is_some(), "the right time is known again");
    drop((log, stepper));
    let (log, mut stepper, clock) = open(&disk, NOW + MONTH_MS);
    clock.advance(60 * MINUTE);
    stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
    stepper.mark();
    drop((log, stepper));
    let (log, _stepper, _clock) = open(&disk.power_cut(), NOW + MONTH_MS + 61 * MINUTE_MS);
    assert!(log.believed_wall_ms().is_some(), "what was believed is kept, whatever the end");
}

#[test]
fn a_clock_that_jumps_is_believed_again_after_an_hour() {
    // CLOCK-1: so is one that was set right.
    let (log, _stepper, clock) = open(&SimDisk::new(), NOW);
    clock.jump_wall_ms(61 * MINUTE_MS);
    assert_eq!(log.believed_wall_ms(), None);
    clock.advance(30 * MINUTE);
    clock.jump_wall_ms(-61 * MINUTE_MS);
    clock.advance(40 * MINUTE);
    assert_eq!(log.believed_wall_ms(), None, "it has jumped since");
    clock.advance(60 * MINUTE);
    assert_eq!(log.believed_wall_ms(), Some(NOW + 130 * MINUTE_MS));
}
