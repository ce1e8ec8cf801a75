//! A cold file is gone, or a part of it: what is left of it is served, nothing of it is removed,
//! and when all of it is there again, so are its records. (MOVE-3, RECOVERY-1, LOOK-3)

use crate::support;

use std::path::{Path, PathBuf};

use lossproof_env::{Disk, SimDisk};
use lossproof_log::{
    Compaction, FindingKind, FlushPolicy, Log, Loss, OffsetRange, PartitionRange, ReadError,
    Stepper,
};
use support::{P1, P2, accept, append, create, look, open, values};

const BLOCK: usize = 4096;
/// Of 3 kB: some twenty of them fill a segment, forty a frame of a cold file.
const RECORDS: i64 = 60;

fn text(index: i64) -> String {
    format!("{index} {}", "x".repeat(3_000))
}

fn fill(stepper: &mut Stepper, id: lossproof_log::PartitionId) {
    for index in 0..RECORDS {
        stepper.submit(vec![append(id, &[&text(index)])]).remove(0).unwrap();
        stepper.zero();
    }
}

/// All but the last segment moved, of one partition: it has one index entry in the cold file.
fn moved() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    fill(&mut stepper, P1);
    stepper.checkpoint().unwrap();
    stepper.close().unwrap();
    let is_cold = |path: &PathBuf| path.extension().is_some_and(|it| it == "cold");
    let mut colds: Vec<PathBuf> = disk.paths().into_iter().filter(is_cold).collect();
    assert_eq!(colds.len(), 1);
    (disk, colds.remove(0))
}

fn shorten(disk: &SimDisk, path: &Path, length: usize) {
    let file = disk.open(path).unwrap();
    file.truncate(length as u64).unwrap();
    file.sync_data().unwrap();
}

/// All records but those of `lost` are read, and these are told of.
fn assert_lost(log: &Log, lost: &[OffsetRange], hint: &str) {
    for offset in 0..RECORDS {
        match log.read(P1, offset, 1) {
            Ok(slice) => {
                assert_eq!(support::values_of(&slice.batches[0]), [(offset, text(offset))]);
            }
            Err(ReadError::Damaged { .. }) => {
                assert!(lost.iter().any(|it| it.contains(offset)), "{hint}: {offset} of {lost:?}");
            }
            Err(error) => panic!("{hint}: {error}"),
        }
    }
    assert_eq!(log.partition(P1).unwrap().damaged, lost, "{hint}");
}

#[test]
fn a_shortened_cold_file_gives_all_that_is_left_and_is_never_removed() {
    // MOVE-3
    for (cut, most) in [(BLOCK, 2), (8 * BLOCK, 10), (30 * BLOCK, 40), (usize::MAX, RECORDS)] {
        let hint = format!("{cut} bytes cut off");
        let (disk, cold) = moved();
        let whole = disk.bytes(&cold).unwrap();
        shorten(&disk, &cold, whole.len().saturating_sub(cut));
        let left = disk.bytes(&cold).unwrap();
        let (log, mut stepper, report) = open(&disk);
        let lost = log.partition(P1).unwrap().damaged;
        assert_eq!(lost.len(), 1, "{hint}: {lost:?}");
        assert!(lost[0].last - lost[0].first < most, "{hint}: {lost:?} is not there");
        assert_eq!(report.damage.len(), 1, "{hint}: {report:?}");
        assert_eq!(report.damage[0].kind, FindingKind::ColdMissing, "{hint}");
        assert_eq!(report.damage[0].partitions, [PartitionRange { partition: P1, range: lost[0] }]);
        assert_lost(&log, &lost, &hint);
        // Twice: the second move begins at the checkpoint of the first.
        for _ in 0..2 {
            fill(&mut stepper, P2);
            stepper.checkpoint().unwrap_or_else(|error| panic!("{hint}: {error}"));
            assert_lost(&log, &lost, &hint);
            assert_eq!(disk.bytes(&cold).unwrap(), left, "{hint}: nothing of it is removed");
        }
        drop((log, stepper));
        let (log, stepper, report) = open(&disk);
        let told: Vec<_> = report.damage.iter().flat_map(|it| &it.partitions).collect();
        assert_eq!(told, [&PartitionRange { partition: P1, range: lost[0] }], "{hint}: {report:?}");
        assert_lost(&log, &lost, &hint);
        drop((log, stepper));
        disk.open(&cold).unwrap().write_all_at(&whole, 0).unwrap();
        let (log, _stepper, report) = open(&disk);
        assert!(report.is_sound(), "{hint}: {report:?}");
        assert_lost(&log, &[], &hint);
    }
}

/// What the check names is what cannot be read, before and after it is given up.
#[test]
fn what_is_cut_off_is_named_by_the_check_and_can_be_given_up() {
    // LOOK-3
    let (disk, cold) = moved();
    let length = disk.bytes(&cold).unwrap().len();
    // Of some frames a piece is left from which nothing can be read.
    for left in (0..length).step_by(BLOCK) {
        let hint = format!("{left} of {length} bytes left");
        let (disk, cold) = moved();
        shorten(&disk, &cold, left);
        let (log, mut stepper, _) = open(&disk);
        let range = log.partition(P1).unwrap().damaged[0];
        let lost = PartitionRange { partition: P1, range };
        drop((log, stepper));
        assert_eq!(look(&disk).lost, [lost], "{hint}");
        let (log, opened, _) = open(&disk);
        stepper = opened;
        accept(&log, &mut stepper, vec![Loss::Offsets(lost)]).unwrap();
        drop((log, stepper));
        for start in 0..2 {
            let looked = look(&disk);
            assert_eq!((&*looked.lost, &*looked.accepted), (&[][..], &[lost][..]), "{hint}");
            // At first only the journal says that nothing of the file is wanted any more.
            assert!(start == 0 || !looked.is_damaged(), "{hint}: {looked:?}");
            let (_log, mut stepper, report) = open(&disk);
            assert!(report.is_sound(), "{hint}, start {start}: {report:?}");
            fill(&mut stepper, P2);
            stepper.checkpoint().unwrap_or_else(|error| panic!("{hint}: {error}"));
        }
    }
}

/// The folder of the cold files was not mounted at one start, and the log went on without them.
#[test]
fn a_cold_file_that_was_missing_is_served_when_it_is_back() {
    // MOVE-3
    for back_while_up in [false, true] {
        let (disk, path) = moved();
        let cold = disk.bytes(&path).unwrap();
        disk.remove(&path).unwrap();
        let put_back = || {
            let file = disk.create(&path).unwrap();
            file.write_all_at(&cold, 0).unwrap();
            file.sync_data().unwrap();
        };
        let (log, mut stepper, report) = open(&disk);
        assert_eq!(report.damage[0].kind, FindingKind::ColdMissing);
        fill(&mut stepper, P2);
        stepper.checkpoint().unwrap();
        if back_while_up {
            put_back();
        }
        fill(&mut stepper, P2);
        stepper.checkpoint().unwrap();
        drop((log, stepper));
        if !back_while_up {
            let (_log, mut stepper, report) = open(&disk);
            assert_eq!(report.damage[0].kind, FindingKind::DamagedBefore, "{report:?}");
            fill(&mut stepper, P2);
            stepper.checkpoint().unwrap();
            drop(stepper);
            put_back();
        }
        for start in 0..2 {
            assert_eq!(disk.bytes(&path).unwrap(), cold, "start {start}");
            let (log, mut stepper, report) = open(&disk);
            assert!(report.is_sound(), "start {start}: {report:?}");
            assert_eq!(values(&log, P1, 0).len() as i64, RECORDS, "start {start}");
            fill(&mut stepper, P2);
            stepper.checkpoint().unwrap();
        }
    }
}

/// What was given up is gone from the index with the rest of what a pass replaces: a batch without
/// records may have been written over it.
#[test]
fn compaction_forgets_what_was_given_up_of_a_missing_file() {
    let (disk, cold) = moved();
    disk.remove(&cold).unwrap();
    let (log, mut stepper, _) = open(&disk);
    let range = log.partition(P1).unwrap().damaged[0];
    let lost = Loss::Offsets(PartitionRange { partition: P1, range });
    accept(&log, &mut stepper, vec![lost]).unwrap();
    drop((log, stepper));
    let (log, mut stepper, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    fill(&mut stepper, P1);
    fill(&mut stepper, P2);
    let all = log.bytes(P1).unwrap();
    let wish = Compaction { now_ms: 9_000, before_ms: None, delete_retention_ms: 0 };
    log.compact([(P1, wish)]);
    stepper.checkpoint().unwrap();
    let left = values(&log, P1, range.last + 1);
    assert_eq!(left.len() as i64, 2 * RECORDS - 1 - range.last);
    let batch = all / (2 * RECORDS as u64);
    assert_eq!(log.bytes(P1).unwrap() / batch, left.len() as u64, "{all} before");
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(values(&log, P1, range.last + 1), left);
}

/// The trap: it was the latest, and nobody looked at what is in front of it.
#[test]
fn the_highest_timestamp_is_of_what_is_left_in_front_of_what_was_given_up() {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    let mut latest = Vec::new();
    // A batch is of the time of its last record.
    for records in [2, 3] {
        fill(&mut stepper, P1);
        latest.push(log.partition(P1).unwrap().high_watermark);
        let batch = append(P1, &["x"; 3][..records]);
        stepper.submit(vec![batch]).remove(0).unwrap();
        fill(&mut stepper, P2);
        stepper.checkpoint().unwrap();
    }
    fill(&mut stepper, P1);
    let highest = |log: &Log| log.max_timestamp(P1, 0).unwrap().unwrap().base_offset;
    assert_eq!(highest(&log), latest[1]);
    drop((log, stepper));
    shorten(&disk, support::files_of(&disk, "cold").last().unwrap(), 3 * BLOCK);
    let (log, mut stepper, _) = open(&disk);
    for range in log.partition(P1).unwrap().damaged {
        let lost = PartitionRange { partition: P1, range };
        accept(&log, &mut stepper, vec![Loss::Offsets(lost)]).unwrap();
    }
    drop((log, stepper));
    for _ in 0..2 {
        let (log, mut stepper, _) = open(&disk);
        assert_eq!(highest(&log), latest[0]);
        fill(&mut stepper, P2);
        stepper.checkpoint().unwrap();
    }
}
