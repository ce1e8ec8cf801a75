//! What was given up was given up as it was known then: what is lost later, in front of it or
//! beside it, is told like anything else. (ACCEPT-5, RECOVERY-1, RECOVERY-4, STAGE-2)

use crate::support;

use std::path::{Path, PathBuf};

use lossproof_env::SimDisk;
use lossproof_log::{
    Commit, Finding, FindingKind, FlushPolicy, Log, LogConfig, Loss, OffsetRange, PartitionChange,
    PartitionId, PartitionRange, StateKind,
};
use support::{
    P1, P2, accept, append, blank, create, look, only, open, place_of, simulated, strike,
};

const BLOCK: usize = 4096;
/// In the first partition; record `n` has offset `n`.
const RECORDS: usize = 20;

/// Each commit in a frame of one block; behind those of the first partition some of the second.
fn sample() -> SimDisk {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    for index in 0..RECORDS {
        stepper.submit(vec![append(P1, &[&format!("record {index}.")])]).remove(0).unwrap();
        let value = format!("value {index}.");
        let change = Commit::state(StateKind::Offsets, format!("{index}"), Some(value.into()));
        stepper.submit(vec![change]).remove(0).unwrap();
    }
    for index in 0..3 {
        stepper.submit(vec![append(P2, &[&format!("other {index}.")])]).remove(0).unwrap();
    }
    stepper.close().unwrap();
    disk.power_cut()
}

fn creation(id: PartitionId) -> Vec<u8> {
    [&[1][..], &[id.0 as u8; 16]].concat()
}

fn offsets(partition: PartitionId, first: i64, last: i64) -> PartitionRange {
    PartitionRange { partition, range: OffsetRange { first, last } }
}

fn all_states() -> impl Iterator<Item = Loss> {
    StateKind::ALL.into_iter().map(Loss::State)
}

#[test]
fn an_end_that_is_lost_stays_lost_when_something_else_is_given_up() {
    // ACCEPT-3, RECOVERY-4
    for in_checkpoint in [false, true] {
        let disk = sample();
        strike(&disk, b"record 4.");
        blank(&disk, b"record 19.");
        let (log, mut stepper, _) = open(&disk);
        let losses = [Loss::Offsets(offsets(P1, 4, 4))].into_iter().chain(all_states());
        accept(&log, &mut stepper, losses.collect()).unwrap();
        assert!(stepper.submit(vec![append(P1, &["new"])])[0].is_err());
        drop((log, stepper));
        let mut disk = disk.power_cut();
        for start in 0..2 {
            let hint = format!("in a checkpoint: {in_checkpoint}, start {start}");
            assert_eq!(look(&disk).lost, [offsets(P1, 19, i64::MAX)], "{hint}");
            let (log, mut stepper, report) = open(&disk);
            assert!(!report.damage.is_empty(), "{hint}");
            assert!(stepper.submit(vec![append(P1, &["new"])])[0].is_err(), "{hint}");
            if in_checkpoint {
                stepper.checkpoint().unwrap();
            }
            drop((log, stepper));
            disk = disk.power_cut();
        }
    }
}

/// The last entry of a partition says that more was removed than is left of it.
#[test]
fn offsets_below_a_log_start_are_never_given_again() {
    // ACCEPT-3
    let disk = sample();
    let (log, mut stepper, _) = open(&disk);
    let change = PartitionChange::LogStart { id: P1, offset: RECORDS as i64 };
    stepper.submit(vec![Commit::partition(change)]).remove(0).unwrap();
    stepper.close().unwrap();
    drop(log);
    for index in 15..RECORDS {
        blank(&disk, format!("record {index}.").as_bytes());
    }
    let lost = look(&disk).lost;
    assert_eq!(lost, [offsets(P1, RECORDS as i64, i64::MAX)], "nothing below, nothing known above");
    let (log, mut stepper, _) = open(&disk);
    let losses = [Loss::Offsets(offsets(P1, RECORDS as i64, RECORDS as i64))];
    accept(&log, &mut stepper, losses.into_iter().chain(all_states()).collect()).unwrap();
    let done = stepper.submit(vec![append(P1, &["new"])]).remove(0).unwrap();
    assert_eq!(only(&done).base_offset, RECORDS as i64 + 1);
    assert_eq!(log.read(P1, RECORDS as i64 + 1, 1).unwrap().batches.len(), 1, "it can be read");
}

/// A checkpoint knows of the partition only that something may be lost of it, not yet what: the
/// finding that said why is gone with its segment.
#[test]
fn a_gap_that_ends_behind_a_checkpoint_is_told_by_the_start_after_it() {
    // RECOVERY-1
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk);
    let third = PartitionId(3);
    stepper.submit([P1, P2, third].map(|id| create(id, FlushPolicy::Commit)).to_vec());
    let both = |text| vec![append(P1, &[text]), append(third, &[text])];
    for text in ["record 0.", "record 1."] {
        assert!(stepper.submit(both(text)).iter().all(Result::is_ok));
    }
    for index in 0..2 * RECORDS {
        stepper.submit(vec![append(P2, &[&format!("other {index}.")])]).remove(0).unwrap();
        stepper.zero();
    }
    assert!(stepper.submit(both("record 2.")).iter().all(Result::is_ok));
    drop(stepper);
    let disk = disk.killed();
    blank(&disk, b"record 1.");
    let (log, mut stepper, report) = open(&disk);
    assert!(report.rewritten > 0, "the batch behind the gap is not in what is moved: {report:?}");
    accept(&log, &mut stepper, all_states().collect()).unwrap();
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    let mut disk = disk.power_cut();
    let lost = [offsets(P1, 1, 1), offsets(third, 1, 1)];
    for start in 0..3 {
        assert_eq!(look(&disk).lost, lost, "start {start}");
        let (_log, mut stepper, report) = open(&disk);
        assert_eq!(report.damage.len(), 1, "start {start}: {report:?}");
        assert_eq!(report.damage[0].partitions, lost, "start {start}: {report:?}");
        stepper.checkpoint().unwrap();
        drop(stepper);
        disk = disk.power_cut();
    }
}

#[test]
fn what_is_lost_later_in_front_of_what_was_given_up_is_told() {
    // ACCEPT-5, RECOVERY-1
    for gives_up_the_end in [true, false] {
        let disk = sample();
        let (given_up, later) = if gives_up_the_end { (19, 18) } else { (4, 19) };
        let text = |index| format!("record {index}.").into_bytes();
        if gives_up_the_end {
            blank(&disk, &text(given_up));
        } else {
            strike(&disk, &text(given_up));
        }
        let (log, mut stepper, report) = open(&disk);
        assert!(!report.damage.is_empty());
        let mut losses = vec![Loss::Offsets(offsets(P1, given_up, given_up))];
        losses.extend(all_states().filter(|_| gives_up_the_end));
        accept(&log, &mut stepper, losses).unwrap();
        drop((log, stepper));
        let disk = disk.power_cut();
        assert!(!look(&disk).is_damaged(), "{:?}", look(&disk));
        blank(&disk, &text(later));
        let report = look(&disk);
        assert!(report.is_damaged(), "{report:?}");
        assert_eq!(report.lost, [offsets(P1, later, later)], "{report:?}");
        let (log, mut stepper, _) = open(&disk);
        assert!(log.read(P1, later, 1).is_err());
        let done = stepper.submit(vec![append(P1, &["new"])]).remove(0).unwrap();
        assert_eq!(only(&done).base_offset, 20, "RECOVERY-4");
    }
}

#[test]
fn what_is_lost_later_of_a_kind_that_was_given_up_is_told() {
    // ACCEPT-5
    let disk = sample();
    strike(&disk, b"value 3.");
    let (log, mut stepper, _) = open(&disk);
    accept(&log, &mut stepper, vec![Loss::State(StateKind::Offsets)]).unwrap();
    drop((log, stepper));
    let disk = disk.power_cut();
    let report = look(&disk);
    assert!(!report.is_damaged() && report.accepted_states == [StateKind::Offsets], "{report:?}");
    strike(&disk, b"value 5.");
    let report = look(&disk);
    assert!(report.is_damaged() && report.lost_states == [StateKind::Offsets], "{report:?}");
    let (log, mut stepper, _) = open(&disk);
    assert!(log.state_is_damaged(StateKind::Offsets));
    // Nor is it forgotten by a checkpoint; and it can be given up as well.
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    let disk = disk.power_cut();
    let (log, mut stepper, _) = open(&disk);
    assert!(log.state_is_damaged(StateKind::Offsets));
    accept(&log, &mut stepper, vec![Loss::State(StateKind::Offsets)]).unwrap();
    drop((log, stepper));
    let disk = disk.power_cut();
    assert!(!look(&disk).is_damaged());
    let (log, mut stepper, _) = open(&disk);
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    assert!(!look(&disk).is_damaged());
}

/// The number behind that of the frame which is left out says nothing about the lost ones.
#[test]
fn what_is_lost_later_behind_an_end_that_was_given_up_is_told() {
    // ACCEPT-5
    let disk = sample();
    blank(&disk, b"other 2.");
    let decided = LogConfig { accept_lost_end: true, ..LogConfig::small() };
    let opened = Log::open_stepped(&simulated(&disk), Path::new("/data"), decided);
    let (log, mut stepper, _) = opened.unwrap();
    let ends = [offsets(P1, RECORDS as i64, RECORDS as i64), offsets(P2, 2, 2)];
    let losses = ends.into_iter().map(Loss::Offsets).chain(all_states());
    accept(&log, &mut stepper, losses.collect()).unwrap();
    drop((log, stepper));
    let disk = disk.power_cut();
    assert!(!look(&disk).is_damaged(), "{:?}", look(&disk));
    // The first frame behind the lost end: epochs go up by one.
    let is_used = |path: &PathBuf| disk.bytes(path).unwrap().starts_with(b"LPSEGMT");
    let segment = disk.paths().into_iter().rfind(is_used).unwrap();
    let payload_at = 2 * BLOCK + 128;
    let bytes = disk.bytes(&segment).unwrap();
    assert!(bytes[2 * BLOCK..].starts_with(b"LPFRAME") && bytes[payload_at] == 3);
    disk.damage(&segment, payload_at as u64, &[bytes[payload_at] ^ 1]).unwrap();
    let report = look(&disk);
    assert!(report.is_damaged() && report.lost_states == [StateKind::Metadata], "{report:?}");
    let (log, _stepper, report) = open(&disk);
    let is_it =
        |it: &Finding| it.kind == FindingKind::FrameDamaged && it.states == [StateKind::Metadata];
    assert!(report.damage.iter().any(is_it) && report.accepted.is_empty(), "{report:?}");
    assert!(log.state_is_damaged(StateKind::Metadata));
}

#[test]
fn the_id_of_a_partition_of_which_the_creation_is_lost_is_not_given_again() {
    // STAGE-2
    for whole_frame in [false, true] {
        let disk = sample();
        if whole_frame {
            blank(&disk, &creation(P2));
        } else {
            strike(&disk, &creation(P2));
        }
        // A batch of it too: in a readable directory there stands whose it was.
        strike(&disk, b"other 1.");
        let report = look(&disk);
        assert!(report.is_unplaced(P2), "{report:?}");
        assert!(report.lost.contains(&offsets(P2, 0, 2)), "{report:?}");
        let (log, mut stepper, _) = open(&disk);
        accept(
            &log,
            &mut stepper,
            all_states()
                .filter(|it| matches!(it, Loss::State(kind) if log.state_is_damaged(*kind)))
                .collect(),
        )
        .unwrap();
        let next = log.unused_partition_id();
        assert!(next > P2, "{next:?}");
        stepper.submit(vec![create(next, FlushPolicy::Commit)]).remove(0).unwrap();
        stepper.submit(vec![append(next, &["new"])]).remove(0).unwrap();
        drop((log, stepper));
        let mut disk = disk.power_cut();
        for _ in 0..2 {
            let report = look(&disk);
            assert!(!report.is_damaged() && report.lost.is_empty(), "{whole_frame}: {report:?}");
            let (log, mut stepper, _) = open(&disk);
            assert!(log.unused_partition_id() > next);
            assert_eq!(log.partition(next).unwrap().high_watermark, 1);
            stepper.checkpoint().unwrap();
            drop((log, stepper));
            disk = disk.power_cut();
        }
    }
}

#[test]
fn epochs_do_not_fall_when_the_frame_that_raised_them_is_lost() {
    // EPOCH-1
    let disk = sample();
    for text in ["first.", "second."] {
        let (log, mut stepper, _) = open(&disk);
        stepper.submit(vec![append(P2, &[text])]).remove(0).unwrap();
        if text == "second." {
            stepper.close().unwrap();
        } else {
            drop((log, stepper));
        }
    }
    let disk = disk.power_cut();
    // The frame in front of the batch is the one of the unclean start.
    let (path, at) = place_of(&disk, b"second.");
    disk.damage(&path, ((at / BLOCK - 1) * BLOCK) as u64, &[0; BLOCK]).unwrap();
    let (log, _stepper, report) = open(&disk);
    assert!(!report.damage.is_empty());
    let end = log.partition(P2).unwrap().high_watermark;
    let batch = log.read(P2, end - 1, 1).unwrap().batches.remove(0);
    let written = i32::from_be_bytes(batch.bytes[12..16].try_into().unwrap());
    assert!(written > 0);
    let present = log.partition(P2).unwrap().leader_epoch;
    assert!(present > written, "{present} follows {written}");
    assert_eq!(log.epoch_at(P2, end - 1).unwrap(), Some(written));
}
