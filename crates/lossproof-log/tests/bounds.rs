//! A full disk and other bounds refuse what does not fit, whole and with a cause, and let writes
//! go on by themselves when there is room; small commits without batches have a reserve.
//! (LOG-3, storage rule 8)

use crate::support;

use std::path::Path;

use bytes::Bytes;
use lossproof_env::{Environment, Fault, SimDisk};
use lossproof_log::{
    Commit, CommitCause, FlushPolicy, FullCause, Log, LogConfig, OpenError, RecoveryReport,
    StateChange, StateKind, Stepper,
};
use support::{P1, append, cause, create, simulated, values};

fn open(disk: &SimDisk, config: LogConfig) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&simulated(disk), Path::new("/data"), config).unwrap()
}

fn started(disk: &SimDisk, config: LogConfig) -> (Log, Stepper) {
    let (log, mut stepper, _) = open(disk, config);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    (log, stepper)
}

fn offset(value: u64) -> Commit {
    Commit::state(StateKind::Offsets, "group", Some(Bytes::from(value.to_string())))
}

#[test]
fn a_full_disk_refuses_batches_and_goes_on_by_itself() {
    refuses_and_goes_on(|disk| disk.set_capacity(disk.used_bytes()), FullCause::Disk);
}

#[test]
fn a_quota_is_as_good_as_a_full_disk() {
    refuses_and_goes_on(|disk| disk.set_quota(disk.used_bytes()), FullCause::Disk);
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_like_a_full_disk() {
    let shortage = Fault::create(0).no_files().sticky();
    refuses_and_goes_on(|disk| disk.inject(shortage), FullCause::Files);
}

/// Something runs short, and ends: nothing is fenced, nothing is lost.
fn refuses_and_goes_on(run_short: impl Fn(&SimDisk), of: FullCause) {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, LogConfig::small());
    run_short(&disk);
    let mut appended = 0;
    let full = loop {
        match cause(&mut stepper, append(P1, &["x"])) {
            None => appended += 1,
            Some(cause) => break cause,
        }
        assert!(appended < 100, "the disk never gets full");
    };
    assert_eq!(full, CommitCause::Full(of));
    assert!(full.is_retriable());
    assert_eq!(log.fenced(), None);
    // The reserve takes what has no batches, in the same round as a refused batch too.
    let outcomes = stepper.submit(vec![append(P1, &["x"]), offset(1), append(P1, &["x"])]);
    assert!(outcomes[0].is_err() && outcomes[1].is_ok() && outcomes[2].is_err());
    assert_eq!(values(&log, P1, 0).len(), appended);

    disk.heal();
    assert_eq!(cause(&mut stepper, append(P1, &["again"])), None);
    assert_eq!(values(&log, P1, 0).len(), appended + 1);
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.power_cut(), LogConfig::small());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(values(&log, P1, 0).len(), appended + 1);
    assert_eq!(log.state_value(StateKind::Offsets, b"group"), Some(Bytes::from("1")));
}

#[test]
fn a_log_opens_on_a_full_disk() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, LogConfig::small());
    assert_eq!(cause(&mut stepper, append(P1, &["x"])), None);
    drop((log, stepper));
    disk.set_capacity(disk.used_bytes() + 16384);
    let (log, _stepper, _) = open(&disk, LogConfig::small());
    assert_eq!(values(&log, P1, 0).len(), 1);
}

#[test]
fn the_reserve_has_an_end() {
    let disk = SimDisk::new();
    let (_log, mut stepper) = started(&disk, LogConfig::small());
    disk.set_capacity(disk.used_bytes());
    let refused = (0..100).find_map(|value| cause(&mut stepper, offset(value)));
    assert_eq!(refused, Some(CommitCause::Full(FullCause::Disk)));
    disk.heal();
    assert_eq!(cause(&mut stepper, offset(1000)), None);
}

#[test]
fn the_index_is_bounded() {
    let disk = SimDisk::new();
    let config = LogConfig { index_entries_max: 1, ..LogConfig::small() };
    let (log, mut stepper) = started(&disk, config.clone());
    assert_eq!(cause(&mut stepper, append(P1, &["x"])), None);
    let full = Some(CommitCause::Full(FullCause::Index));
    assert_eq!(cause(&mut stepper, append(P1, &["x"])), full);
    assert_eq!(cause(&mut stepper, offset(1)), None, "no batches, no index");
    assert_eq!(values(&log, P1, 0).len(), 1);
}

#[test]
fn the_keyed_state_is_bounded_and_removals_make_room() {
    let disk = SimDisk::new();
    let config = LogConfig { state_bytes_max: 100, ..LogConfig::small() };
    let (_log, mut stepper) = started(&disk, config);
    let set = |key: &'static str, length| {
        Commit::state(StateKind::Receipt, key, Some(Bytes::from(vec![7; length])))
    };
    assert_eq!(cause(&mut stepper, set("a", 60)), None);
    assert_eq!(cause(&mut stepper, set("b", 60)), Some(CommitCause::Full(FullCause::State)));
    assert_eq!(cause(&mut stepper, set("a", 99)), None, "in the place of the other value");
    assert_eq!(cause(&mut stepper, set("a", 100)), Some(CommitCause::Full(FullCause::State)));
    // Neither by a key that is named twice, nor in the same frame, is there more than that.
    let twice = Commit {
        changes: [set("a", 0), set("a", 0), set("b", 150)].map(|it| it.changes).concat(),
        ..Commit::default()
    };
    assert_eq!(cause(&mut stepper, twice), Some(CommitCause::Full(FullCause::State)));
    let outcomes = stepper.submit(vec![set("a", 9), set("b", 88), set("c", 1)]);
    let taken: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false], "10 and 89 bytes, and 2 more");
    assert_eq!(cause(&mut stepper, Commit::state(StateKind::Receipt, "a", None)), None);
    assert_eq!(cause(&mut stepper, set("c", 1)), None);
}

/// STAGE-3.
#[test]
fn an_outdated_change_is_left_out_in_the_same_frame_too_and_the_rest_is_not() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, LogConfig::small());
    let newest = |value: &'static str| Commit {
        changes: vec![
            StateChange { kind: StateKind::Offsets, key: "k".into(), value: Some(value.into()) },
            StateChange { kind: StateKind::Cursor, key: value.into(), value: Some("v".into()) },
        ],
        outdated: Some(|change, standing| {
            change.kind == StateKind::Offsets && change.value.as_ref() < Some(standing)
        }),
        ..Commit::default()
    };
    for values in [["2", "1"], ["3", "2"]] {
        let outcomes = stepper.submit(values.map(newest).to_vec());
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(log.state_value(StateKind::Offsets, b"k"), Some(values[0].into()));
    }
    assert_eq!(cause(&mut stepper, newest("1")), None);
    assert_eq!(log.state_value(StateKind::Offsets, b"k"), Some("3".into()), "from another frame");
    drop((log, stepper));
    let (log, _stepper, _) = open(&disk.power_cut(), LogConfig::small());
    assert_eq!(log.state_value(StateKind::Offsets, b"k"), Some("3".into()));
    assert_eq!(log.state(StateKind::Cursor).len(), 3, "the rest of the commits");
}

#[test]
fn a_commit_larger_than_a_segment_is_refused_for_good() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, LogConfig::small());
    let long = "x".repeat(70_000);
    let refused = cause(&mut stepper, append(P1, &[&long])).unwrap();
    assert!(matches!(refused, CommitCause::TooLarge { max, .. } if max < 70_000));
    assert!(!refused.is_retriable());
    assert_eq!(cause(&mut stepper, append(P1, &["x"])), None);
    assert_eq!(values(&log, P1, 0).len(), 1);
}

#[test]
fn what_is_no_batch_is_refused_with_its_reason() {
    let disk = SimDisk::new();
    let (_log, mut stepper) = started(&disk, LogConfig::small());
    let commit = Commit::append(P1, Bytes::from_static(b"no batch"));
    assert!(matches!(cause(&mut stepper, commit), Some(CommitCause::InvalidBatch { .. })));
    let nowhere = append(support::P2, &["x"]);
    assert_eq!(cause(&mut stepper, nowhere), Some(CommitCause::UnknownPartition(support::P2)));
    let twice = create(P1, FlushPolicy::Commit);
    assert_eq!(cause(&mut stepper, twice), Some(CommitCause::PartitionIdUsed(P1)));
    let delete = lossproof_log::PartitionChange::Delete { id: P1 };
    assert_eq!(cause(&mut stepper, Commit::partition(delete)), None);
    let again = create(P1, FlushPolicy::Commit);
    assert_eq!(cause(&mut stepper, again), Some(CommitCause::PartitionIdUsed(P1)), "STAGE-2");
}

#[test]
fn a_copied_or_locked_directory_is_refused_by_name() {
    let disk = SimDisk::new();
    let (log, stepper) = started(&disk, LogConfig::small());
    let env: Environment = simulated(&disk);
    let second = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
    assert!(matches!(second.map(|_| ()), Err(OpenError::Locked { .. })));
    drop((log, stepper));
    let copy = simulated(&disk.copied());
    let moved = Log::open_stepped(&copy, Path::new("/data"), LogConfig::small());
    assert!(matches!(moved.map(|_| ()), Err(OpenError::Moved { .. })));
    open(&disk, LogConfig::small());
}
