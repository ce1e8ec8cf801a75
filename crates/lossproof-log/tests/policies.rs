//! Flush policies, alone and mixed in one journal. `commit` survives a power cut the moment it is
//! acknowledged; the unsafe policies are acknowledged with the write and ride along with the syncs
//! of others; what is known to be durable counts syncs alone. (LOG-1, LOG-4, LOG-5, LOG-6)

use crate::support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Environment, Fault, ManualClock, SimDisk};
use lossproof_log::{
    Commit, CommitCause, FlushPolicy, Log, LogConfig, PartitionChange, PartitionId, RecoveryReport,
    Stepper,
};
use support::{P1, P2, append, create, simulated, values};

struct World {
    disk: SimDisk,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        Self { disk: SimDisk::new(), clock: ManualClock::new(0) }
    }

    fn open(&self, disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
        let clock = Arc::new(self.clock.clone());
        let env = Environment { clock, ..simulated(disk) };
        Log::open_stepped(&env, Path::new("/data"), LogConfig::small()).unwrap()
    }

    /// P1 under `flush`, P2 under `commit`.
    fn started(&self, flush: FlushPolicy) -> (Log, Stepper) {
        let (log, mut stepper, _) = self.open(&self.disk);
        let both = vec![create(P1, flush), create(P2, FlushPolicy::Commit)];
        assert!(stepper.submit(both).iter().all(Result::is_ok));
        (log, stepper)
    }

    /// How many records of P1 a power cut at this moment would leave.
    fn left(&self) -> usize {
        let (log, _stepper, report) = self.open(&self.disk.power_cut());
        assert!(report.damage.is_empty(), "{report:?}");
        values(&log, P1, 0).len()
    }
}

#[test]
fn commit_is_durable_when_it_is_acknowledged() {
    let world = World::new();
    let (_log, mut stepper) = world.started(FlushPolicy::Commit);
    for count in 1..10 {
        stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
        assert_eq!(world.left(), count);
    }
}

#[test]
fn every_second_means_within_a_second() {
    let world = World::new();
    let (log, mut stepper) = world.started(FlushPolicy::UnsafeEverySecond);
    stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
    assert_eq!(values(&log, P1, 0).len(), 1, "acknowledged with the write");
    let durable = stepper.durable_through();
    world.clock.advance(Duration::from_millis(999));
    stepper.idle();
    assert_eq!((world.left(), stepper.durable_through()), (0, durable));
    world.clock.advance(Duration::from_millis(1));
    stepper.idle();
    assert_eq!((world.left(), stepper.durable_through()), (1, durable + 1));
}

#[test]
fn the_second_runs_under_steady_traffic_too() {
    let world = World::new();
    let (_log, mut stepper) = world.started(FlushPolicy::UnsafeEverySecond);
    for _ in 0..4 {
        stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
        world.clock.advance(Duration::from_millis(400));
    }
    assert_eq!(world.left(), 4);
}

#[test]
fn page_cache_is_never_synced_for_its_own_sake() {
    let world = World::new();
    let (log, mut stepper) = world.started(FlushPolicy::UnsafePageCache);
    let durable = stepper.durable_through();
    stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
    world.clock.advance(Duration::from_mins(1));
    stepper.idle();
    stepper.mark();
    assert_eq!(stepper.durable_through(), durable, "LOG-4");
    assert_eq!((values(&log, P1, 0).len(), world.left()), (1, 0));
    // A commit of somebody else takes it along.
    stepper.submit(vec![append(P2, &["y"])]).remove(0).unwrap();
    assert_eq!((stepper.durable_through(), world.left()), (durable + 2, 1));
}

/// What decays of a frame that a mark names is damage; of the last one that none names it could be
/// a torn write, and is cut as in doubt.
#[test]
fn the_mark_is_written_though_others_keep_the_log_busy() {
    let refused = || append(PartitionId(99), &["refused"]);
    for busy_with in [|| append(P1, &["unsafe"]), refused] {
        let world = World::new();
        let (_log, mut stepper) = world.started(FlushPolicy::UnsafePageCache);
        stepper.submit(vec![append(P2, &["the last safe one"])]).remove(0).unwrap();
        for _ in 0..4 {
            world.clock.advance(Duration::from_millis(50));
            stepper.submit(vec![busy_with()]);
        }
        let disk = world.disk.power_cut();
        let path = Path::new("/data/journal/0000000000000001.wal");
        let bytes = disk.bytes(path).unwrap();
        let at = bytes.windows(17).position(|window| window == b"the last safe one").unwrap();
        disk.damage(path, at as u64, b"T").unwrap();
        let (_log, _stepper, report) = world.open(&disk);
        assert!(report.in_doubt.is_empty(), "{report:?}");
        assert_eq!(report.damage.len(), 1, "{report:?}");
    }
}

#[test]
fn in_one_frame_the_unsafe_are_acknowledged_though_the_sync_fails() {
    let world = World::new();
    let (log, mut stepper) = world.started(FlushPolicy::UnsafePageCache);
    world.disk.inject(Fault::sync(0));
    let outcomes = stepper.submit(vec![append(P1, &["unsafe"]), append(P2, &["safe"])]);
    assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    assert_eq!((values(&log, P1, 0).len(), values(&log, P2, 0).len()), (1, 0), "LOG-6");
}

fn change(flush: FlushPolicy) -> Commit {
    Commit::partition(PartitionChange::Flush { id: P1, flush })
}

#[test]
fn a_change_to_commit_makes_durable_what_was_not_and_holds_after_a_power_cut() {
    let world = World::new();
    let (log, mut stepper) = world.started(FlushPolicy::UnsafePageCache);
    stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
    assert_eq!(world.left(), 0);
    stepper.submit(vec![change(FlushPolicy::Commit)]).remove(0).unwrap();
    assert_eq!(world.left(), 1, "what was acknowledged before is safe now");
    stepper.submit(vec![append(P1, &["y"])]).remove(0).unwrap();
    assert_eq!(world.left(), 2);
    assert_eq!(log.partition(P1).unwrap().flush, FlushPolicy::Commit);
    let (log, mut stepper, _) = world.open(&world.disk.power_cut());
    assert_eq!(log.partition(P1).unwrap().flush, FlushPolicy::Commit);
    let durable = stepper.durable_through();
    stepper.submit(vec![append(P1, &["z"])]).remove(0).unwrap();
    assert_eq!(stepper.durable_through(), durable + 1);
}

/// LOG-6: what was asked for under `commit` is not shown early because the policy of its partition
/// changes in the same frame.
#[test]
fn in_one_frame_each_append_is_under_the_policy_of_its_moment() {
    let world = World::new();
    let (log, mut stepper) = world.started(FlushPolicy::Commit);
    world.disk.inject(Fault::sync(0));
    let unsafe_from_here = change(FlushPolicy::UnsafePageCache);
    let commits = vec![append(P1, &["safe"]), unsafe_from_here];
    assert!(stepper.submit(commits).iter().all(Result::is_err));
    assert_eq!(values(&log, P1, 0).len(), 0);
}

#[test]
fn a_policy_that_changes_within_a_frame_keeps_the_order() {
    for (before, after) in [
        (FlushPolicy::Commit, FlushPolicy::UnsafePageCache),
        (FlushPolicy::UnsafePageCache, FlushPolicy::Commit),
    ] {
        let world = World::new();
        let (log, mut stepper) = world.started(before);
        let commits = vec![append(P1, &["a"]), change(after), append(P1, &["b"])];
        assert!(stepper.submit(commits).iter().all(Result::is_ok));
        assert_eq!((values(&log, P1, 0).len(), world.left()), (2, 2));
    }
}

#[test]
fn the_policy_of_a_partition_that_is_not_there_cannot_be_changed() {
    let world = World::new();
    let (_log, mut stepper) = world.started(FlushPolicy::Commit);
    stepper.submit(vec![Commit::partition(PartitionChange::Delete { id: P1 })]).remove(0).unwrap();
    let refused = stepper.submit(vec![change(FlushPolicy::UnsafePageCache)]).remove(0);
    assert!(matches!(refused.unwrap_err().cause, CommitCause::UnknownPartition(P1)));
}

#[test]
fn a_close_syncs_everything() {
    let world = World::new();
    let (_log, mut stepper) = world.started(FlushPolicy::UnsafePageCache);
    stepper.submit(vec![append(P1, &["x"])]).remove(0).unwrap();
    stepper.close().unwrap();
    assert_eq!(world.left(), 1);
}
