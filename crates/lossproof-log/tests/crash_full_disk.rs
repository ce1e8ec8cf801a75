//! The disk is full, at every fill level of a small workload: batches are refused by a retriable
//! error and leave no trace, small state goes on from reserve and ballast, a killed log starts
//! where it is, and when there is space again it takes batches again. What was acknowledged
//! survives.

use crate::crash;

use bytes::Bytes;
use crash::oracle::open;
use crash::run::{Run, Stop};
use crash::workload::Action;
use lossproof_env::SimDisk;
use lossproof_log::{Commit, FlushPolicy, LogConfig, PartitionChange, PartitionId, StateKind};
use lossproof_wire::batch::BatchBuilder;

const PARTITION: PartitionId = PartitionId(1);
const ROUNDS: usize = 20;
const LEVEL_STEP_BYTES: u64 = 8 << 10;
/// Below it the disk is full before the ballast is whole.
const BALLAST_AT: u64 = 256 << 10;
/// More than it takes to make the ballast again.
const ZEROS_MAX: usize = 20;

fn append(round: usize) -> Commit {
    let mut builder = BatchBuilder::new();
    let value = format!("{round} {}", "x".repeat(3_000));
    builder.push(1, None, Some(value.as_bytes()), &[]);
    Commit::append(PARTITION, builder.build().unwrap())
}

fn state(round: usize) -> Commit {
    let value = Bytes::from(format!("value {round}"));
    Commit::state(StateKind::Offsets, "group", Some(value))
}

fn actions() -> Vec<Action> {
    let change = PartitionChange::Create {
        id: PARTITION,
        topic_id: [1; 16],
        index: 0,
        flush: FlushPolicy::Commit,
    };
    let submit = |commit| Action::Submit(vec![commit]);
    let round = |round| [submit(append(round)), submit(state(round)), Action::Zero, Action::Zero];
    let first = std::iter::once(submit(Commit::partition(change)));
    first.chain((0..ROUNDS).flat_map(round)).collect()
}

#[test]
fn a_full_disk_refuses_batches_and_resumes_when_there_is_space() {
    let mut whole = Run::new(SimDisk::new(), 1, LogConfig::small());
    whole.all(&actions()).unwrap();
    let enough = whole.disk.used_bytes() + (64 << 10);
    let (mut refused_levels, mut state_went_on, mut failed_opens) = (0, 0, 0);
    let mut full_starts = 0;
    for capacity in (0..enough).step_by(LEVEL_STEP_BYTES as usize) {
        let disk = SimDisk::new();
        disk.set_capacity(capacity);
        let mut run = Run::new(disk, 1, LogConfig::small());
        let outcome = run.all(&actions());
        run.disk.observe(None);
        match outcome {
            Ok(()) => {}
            Err(Stop::Open(_)) => {
                failed_opens += 1;
                run.disk.heal();
                run.kill();
                run.open().unwrap();
                continue;
            }
            Err(stop) => panic!("capacity {capacity}: {stop:?}"),
        }
        let batches = run.refused.iter().filter(|commit| !commit.appends.is_empty()).count();
        let taken = run.promises.submitted.iter().map(|it| &it.commit);
        let states = taken.filter(|commit| !commit.changes.is_empty()).count();
        if batches > 0 {
            refused_levels += 1;
            state_went_on += usize::from(states > ROUNDS - batches);
            assert!(run.log().fenced().is_none(), "a full disk is no reason to fence");
            run.kill();
            match run.open() {
                Ok(()) => full_starts += 1,
                // There was no room for the ballast before.
                Err(_) => assert!(capacity < BALLAST_AT, "no start on {capacity} bytes"),
            }
            run.disk.heal();
            if capacity < BALLAST_AT {
                run.kill();
                run.open().unwrap();
            }
            (0..ZEROS_MAX).try_for_each(|_| run.act(&Action::Zero)).unwrap();
            run.submit(&[append(99)]).unwrap();
            let last = run.promises.submitted.last().unwrap();
            assert!(last.acked_at.is_some(), "capacity {capacity}: it resumes by itself");
        }
        let required = run.promises.required(run.disk.position());
        let possible = run.promises.submitted.len();
        let cut = run.disk.power_cut();
        let opened = open(&cut, &LogConfig::small(), &run.promises, required, possible);
        let opened = opened.unwrap_or_else(|error| panic!("capacity {capacity}: {error}"));
        assert_eq!(opened.count, possible, "all of it was acknowledged");
    }
    assert!(refused_levels > 3 && full_starts > 3, "{refused_levels} {full_starts}");
    assert!(state_went_on > 0, "state goes on from the reserve at no level");
    assert!(failed_opens > 0, "no level was too low to open");
}
