//! A disk that fills while something lies unused on it, or before the ballast is whole. (BALLAST-4,
//! storage rule 8)

use crate::support;

use std::iter;
use std::path::{Path, PathBuf};

use lossproof_env::{Fault, SimDisk};
use lossproof_log::{
    Commit, CommitCause, FlushPolicy, FullCause, Log, LogConfig, PartitionChange, PartitionId,
    StateKind, Stepper,
};
use support::{P1, P2, append, cause, create, files_of, simulated, values};

const DATA: &str = "/data";
/// More than any test has steps to write zeros.
const ZEROS_MAX: usize = 300;
/// More than any disk here has room for.
const APPENDS_MAX: usize = 2_000;
const FULL: Option<CommitCause> = Some(CommitCause::Full(FullCause::Disk));

fn open(config: LogConfig) -> (SimDisk, Log, Stepper) {
    let disk = SimDisk::new();
    let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), config);
    let (log, mut stepper, _) = opened.unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    (disk, log, stepper)
}

fn record(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn zero(stepper: &mut Stepper) {
    (0..ZEROS_MAX).for_each(|_| stepper.zero());
}

/// Those of a real log.
fn proportions() -> LogConfig {
    let default = LogConfig::default();
    LogConfig {
        segment_bytes: default.segment_bytes >> 6,
        initial_zero_bytes: default.initial_zero_bytes >> 6,
        zero_step_bytes: default.zero_step_bytes >> 6,
        zero_ahead_bytes: default.zero_ahead_bytes >> 6,
        reserve_bytes: default.reserve_bytes >> 6,
        ballast_bytes: default.ballast_bytes >> 6,
        checkpoint_bytes: default.checkpoint_bytes >> 6,
        index_entries_max: 100_000,
        ..LogConfig::small()
    }
}

/// What segments and cold files take.
fn record_bytes(disk: &SimDisk) -> u64 {
    let all = [files_of(disk, "wal"), files_of(disk, "cold")].concat();
    all.iter().map(|path| disk.bytes(path).unwrap().len() as u64).sum()
}

/// Whether there is a segment that was never used.
fn has_next(disk: &SimDisk) -> bool {
    let is_blank = |path: &PathBuf| disk.bytes(path).unwrap()[..8] == [0; 8];
    files_of(disk, "wal").iter().any(is_blank)
}

/// Appends records of so many bytes, one each to these.
fn write(stepper: &mut Stepper, bytes: usize, ids: impl IntoIterator<Item = PartitionId>) {
    for id in ids {
        assert_eq!(cause(stepper, append(id, &[&record(bytes)])), None);
    }
}

fn delete(stepper: &mut Stepper) {
    assert_eq!(cause(stepper, Commit::partition(PartitionChange::Delete { id: P1 })), None);
}

/// Appends to P1 until there is no room; how many there was room for.
fn fill(stepper: &mut Stepper) -> usize {
    for count in 0..APPENDS_MAX {
        if let Some(cause) = cause(stepper, append(P1, &[&record(3_000)])) {
            assert_eq!(cause, CommitCause::Full(FullCause::Disk));
            return count;
        }
    }
    panic!("the disk never gets full");
}

/// What is there of the next segment, all of it or a part, is used where the one in use gets no
/// longer.
#[test]
fn a_segment_that_lies_ready_is_used_on_a_full_disk() {
    for steps in [0, 1, ZEROS_MAX] {
        // Large enough that there is a next one while this one is to get longer.
        let (segment_bytes, zero_ahead_bytes) = (256 << 10, 16 << 10);
        let config = LogConfig { segment_bytes, zero_ahead_bytes, ..LogConfig::small() };
        let (disk, log, mut stepper) = open(config.clone());
        zero(&mut stepper);
        let mut count = 0;
        while !has_next(&disk) {
            write(&mut stepper, 3_000, [P1]);
            count += 1;
            stepper.zero();
        }
        (0..steps).for_each(|_| stepper.zero());
        disk.set_capacity(disk.used_bytes());
        let more = fill(&mut stepper);
        assert!(!has_next(&disk));
        // What the beginning of a segment takes beside its headers and the reserve.
        let least = (config.initial_zero_bytes - config.reserve_bytes) / 4_096 - 2;
        assert!(more as u64 >= least, "{more} of {least} at least");
        assert_eq!(values(&log, P1, 0).len(), count + more);
        drop((log, stepper));
        let after = disk.power_cut();
        after.heal();
        let reopened = Log::open_stepped(&simulated(&after), Path::new(DATA), config);
        let (log, _stepper, report) = reopened.unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(values(&log, P1, 0).len(), count + more);
    }
}

/// A record that is larger than what is left has no room; a small one still has. The disk is full
/// until there is room for more than that, whoever sends what, or nobody anything.
#[test]
fn a_small_record_does_not_say_that_the_disk_has_space() {
    // So many zeros that none are due for a while.
    let (segment_bytes, zero_step_bytes) = (256 << 10, 64 << 10);
    let config = LogConfig { segment_bytes, zero_step_bytes, ..LogConfig::small() };
    let (disk, log, mut stepper) = open(config);
    let large = || append(P1, &[&record(100 << 10)]);
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, append(P1, &["x"])), None);
    zero(&mut stepper);
    disk.set_capacity(disk.used_bytes());
    for _ in 0..3 {
        assert_eq!(cause(&mut stepper, large()), FULL);
        assert!(log.figures().is_disk_full);
        assert_eq!(cause(&mut stepper, append(P1, &["x"])), None);
        stepper.zero();
        assert!(log.figures().is_disk_full);
    }
    disk.heal();
    zero(&mut stepper);
    assert!(!log.figures().is_disk_full);
    assert_eq!(cause(&mut stepper, large()), None);
}

/// The trap: with a producer that is as fast as zeros are made it never had its turn. (BALLAST-4)
#[test]
fn the_ballast_grows_beside_the_zeros_of_a_fast_producer() {
    let config = LogConfig::small();
    let (_disk, log, mut stepper) = open(config.clone());
    let steps = config.ballast_bytes / config.zero_step_bytes;
    for _ in 0..2 * steps {
        // As much as a step makes room for.
        write(&mut stepper, 3_000, (0..config.zero_step_bytes / 4_096).map(|_| P1));
        stepper.zero();
    }
    assert_eq!(log.figures().ballast_bytes, config.ballast_bytes);
}

/// The trap: of the first segment everything stays, and it has to go before those behind it, of
/// which nothing stays.
#[test]
fn a_segment_of_which_all_is_wanted_does_not_keep_those_behind_it() {
    let (disk, log, mut stepper) = open(proportions());
    zero(&mut stepper);
    let next = |stepper: &mut Stepper, id, segments| {
        while files_of(&disk, "wal").len() < segments || has_next(&disk) {
            write(stepper, 7_800, [id]);
            stepper.zero();
        }
    };
    next(&mut stepper, P2, 2);
    let kept = values(&log, P2, 0);
    next(&mut stepper, P1, 4);
    zero(&mut stepper);
    disk.set_capacity(disk.used_bytes());
    fill(&mut stepper);
    let used = record_bytes(&disk);
    delete(&mut stepper);
    stepper.checkpoint().unwrap();
    // Of the three segments behind it one is in use.
    let (segment_bytes, now) = (proportions().segment_bytes, record_bytes(&disk));
    assert!(used - now >= 2 * segment_bytes, "{used}, then {now}");
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, append(P2, &["again"])), None);
    assert_eq!(values(&log, P2, 0)[..kept.len()], kept);
}

/// The trap: a third of each segment is nothing that a move was made for.
#[test]
fn a_third_of_each_segment_is_given_back_on_a_full_disk() {
    let (disk, log, mut stepper) = open(proportions());
    zero(&mut stepper);
    for index in 0..400 {
        let id = if index % 3 == 0 { P1 } else { P2 };
        // Frames with little padding.
        write(&mut stepper, 7_800, [id]);
        stepper.zero();
    }
    zero(&mut stepper);
    disk.set_capacity(disk.used_bytes());
    fill(&mut stepper);
    let (kept, used) = (values(&log, P2, 0), record_bytes(&disk));
    delete(&mut stepper);
    stepper.checkpoint().unwrap();
    let (third, now) = (proportions().segment_bytes / 3, record_bytes(&disk));
    assert!(used - now > 2 * third, "{used}, then {now}");
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, append(P2, &["again"])), None);
    assert_eq!(values(&log, P2, 0)[..kept.len()], kept);
}

/// The trap: what does not fit is tried again and again, and takes the ballast each time; or it
/// keeps what was deleted since, and costs nothing to give back.
#[test]
fn what_was_tried_in_vain_with_the_ballast_is_not_tried_again_with_the_same() {
    let (disk, _log, mut stepper) = open(proportions());
    let mut count = 0;
    while files_of(&disk, "wal").len() == 1 {
        write(&mut stepper, 7_800, [P1]);
        count += 1;
    }
    let (disk, log, mut stepper) = open(proportions());
    // As many as the first segment takes, and one of another partition in the second.
    write(&mut stepper, 7_800, iter::repeat_n(P1, count - 1).chain([P2]));
    stepper.checkpoint().unwrap();
    let dead = files_of(&disk, "cold").remove(0);
    while log.figures().ballast_bytes < proportions().ballast_bytes {
        write(&mut stepper, 7_800, [P2]);
        stepper.zero();
    }
    // A segment of which all is wanted, and a ballast that has not grown since.
    write(&mut stepper, 7_800, [P2; 130]);
    (0..2).for_each(|_| stepper.zero());
    disk.set_capacity(disk.used_bytes());
    while cause(&mut stepper, append(P2, &[&record(7_800)])).is_none() {}
    assert!(log.figures().is_disk_full && stepper.is_move_due());
    stepper.checkpoint().unwrap_err();
    assert_eq!(log.figures().ballast_bytes, 0, "it was tried");
    zero(&mut stepper);
    let held = log.figures().ballast_bytes;
    assert!(!stepper.is_move_due());
    stepper.checkpoint().unwrap_err();
    assert_eq!(log.figures().ballast_bytes, held);
    delete(&mut stepper);
    assert!(stepper.is_move_due());
    stepper.checkpoint().unwrap();
    assert!(!files_of(&disk, "cold").contains(&dead));
    disk.heal();
    zero(&mut stepper);
    stepper.checkpoint().unwrap();
}

/// The trap: files ran short in the middle, and that was taken for a want of room.
#[test]
fn what_failed_for_want_of_files_is_tried_again() {
    let mut failed = 0;
    for call in 0..APPENDS_MAX as u64 {
        let (disk, log, mut stepper) = open(LogConfig::small());
        write(&mut stepper, 3_000, [P1; 40]);
        stepper.checkpoint().unwrap();
        write(&mut stepper, 3_000, iter::once(P2).chain([P1; 39]));
        stepper.checkpoint().unwrap();
        zero(&mut stepper);
        disk.set_capacity(disk.used_bytes() - given_back(&disk));
        delete(&mut stepper);
        assert!(stepper.is_move_due(), "what was removed is looked at once");
        disk.inject(Fault::call(call).no_files());
        let moved = stepper.checkpoint();
        if !disk.was_struck() {
            moved.unwrap();
            assert!(failed > 3, "the test does not test");
            return;
        }
        // With the ballast, and not once a slot may name the new checkpoint (MOVE-4).
        let is_final = moved.as_ref().is_err_and(|error| error.contains("name the new checkpoint"));
        if moved.is_err() && !is_final && log.figures().ballast_bytes == 0 {
            failed += 1;
            assert!(stepper.is_move_due(), "call {call}");
            stepper.checkpoint().unwrap();
        }
    }
    panic!("a move ends");
}

/// The trap: each start took from the ballast, records had the rest of what it took, and in the end
/// nothing that was deleted could be given back.
#[test]
fn starts_on_a_full_disk_do_not_use_up_the_ballast() {
    let (mut disk, log, mut stepper) = open(proportions());
    drop(log);
    zero(&mut stepper);
    while files_of(&disk, "wal").len() < 3 || has_next(&disk) {
        write(&mut stepper, 3_000, [P1]);
        stepper.zero();
    }
    zero(&mut stepper);
    let capacity = disk.used_bytes();
    disk.set_capacity(capacity);
    fill(&mut stepper);
    let config = proportions();
    let whole = config.ballast_bytes + config.checkpoint_bytes / 2;
    for round in 1..=5 {
        stepper.close().unwrap();
        disk = disk.power_cut();
        disk.set_capacity(capacity);
        let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), proportions());
        let log;
        (log, stepper, _) = opened.unwrap();
        zero(&mut stepper);
        fill(&mut stepper);
        zero(&mut stepper);
        // What a start takes for its segment comes back, but for what records had of it.
        let held = log.figures().ballast_bytes;
        let taken = config.initial_zero_bytes - config.reserve_bytes + config.zero_step_bytes;
        assert!(held + round * taken >= whole, "start {round}: {held} of {whole}");
    }
}

/// The trap: every start makes a segment, and those that were hardly used are no reason for more.
#[test]
fn the_ballast_does_not_grow_for_starts() {
    let config = LogConfig::small();
    let (mut disk, log, mut stepper) = open(config.clone());
    drop(log);
    for round in 0..3 {
        assert_eq!(cause(&mut stepper, append(P1, &["x"])), None);
        zero(&mut stepper);
        stepper.close().unwrap();
        disk = disk.power_cut();
        let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), config.clone());
        let log;
        (log, stepper, _) = opened.unwrap();
        assert_eq!(log.figures().ballast_bytes, config.ballast_bytes, "start {round}");
    }
    assert!(files_of(&disk, "wal").len() > 3);
    write(&mut stepper, 3_000, (0..config.segment_bytes / 4_096).map(|_| P1));
    zero(&mut stepper);
    let ballast = disk.bytes(&Path::new(DATA).join("ballast")).unwrap().len() as u64;
    assert_eq!(ballast, config.ballast_bytes + config.checkpoint_bytes / 2);
}

/// The trap: what they may take was measured by what the ballast is to be. (BALLAST-2)
#[test]
fn small_commits_have_a_quarter_of_a_ballast_that_has_not_grown() {
    let config = LogConfig { ballast_bytes: 64 << 10, ..LogConfig::small() };
    let (disk, log, mut stepper) = open(config.clone());
    while log.figures().ballast_bytes < config.ballast_bytes {
        assert_eq!(cause(&mut stepper, append(P1, &["x"])), None);
        stepper.zero();
    }
    while files_of(&disk, "wal").len() < 3 {
        write(&mut stepper, 3_000, [P1]);
    }
    disk.set_capacity(disk.used_bytes());
    fill(&mut stepper);
    // It is to be larger by now.
    zero(&mut stepper);
    let offset =
        |value: usize| Commit::state(StateKind::Offsets, "group", Some(value.to_string().into()));
    let most = (0..APPENDS_MAX).find(|value| cause(&mut stepper, offset(*value)).is_some());
    let least = (config.reserve_bytes + config.ballast_bytes / 4) / 4_096;
    assert!(most.unwrap() as u64 >= least, "{most:?} of {least} at least");
}

/// What is kept to be used again, and goes first on a full disk: all segments but the one in use.
fn given_back(disk: &SimDisk) -> u64 {
    (files_of(disk, "wal").len() as u64 - 1) * LogConfig::small().segment_bytes
}

/// The trap: a file of which nothing is wanted any more waited for one that has to be copied, for
/// which there is no room, since the ballast was not there yet when the disk was full.
#[test]
fn what_costs_nothing_is_given_back_first() {
    let (disk, log, mut stepper) = open(LogConfig::small());
    write(&mut stepper, 3_000, [P1; 40]);
    stepper.checkpoint().unwrap();
    for _ in 0..8 {
        write(&mut stepper, 3_000, iter::once(P2).chain([P1; 19]));
        stepper.checkpoint().unwrap();
    }
    let kept = values(&log, P2, 0);
    assert_eq!((files_of(&disk, "cold").len(), log.figures().ballast_bytes), (9, 0));
    let used = disk.used_bytes();
    // Enough for a checkpoint.
    disk.set_capacity(used - given_back(&disk) + (28 << 10));
    delete(&mut stepper);
    stepper.checkpoint().unwrap();
    // With the room of that one the others shrink as well.
    assert!(used - disk.used_bytes() > 300 << 10, "{used}, then {}", disk.used_bytes());
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, append(P2, &["again"])), None);
    assert_eq!(values(&log, P2, 0)[..kept.len()], kept);
}

/// The trap: the files that have to be copied were taken together or not at all.
#[test]
fn less_is_copied_where_there_is_less_room() {
    let (disk, log, mut stepper) = open(LogConfig::small());
    // The oldest would come first.
    for kept in [9, 3] {
        write(&mut stepper, 3_000, (0..40).map(|index| if index < kept { P2 } else { P1 }));
        stepper.checkpoint().unwrap();
    }
    let kept = values(&log, P2, 0);
    assert_eq!((files_of(&disk, "cold").len(), log.figures().ballast_bytes), (2, 0));
    let used = disk.used_bytes();
    // For the copy of the smaller one.
    disk.set_capacity(used - given_back(&disk) + (60 << 10));
    delete(&mut stepper);
    stepper.checkpoint().unwrap();
    assert!(used - disk.used_bytes() > 200 << 10, "{used}, then {}", disk.used_bytes());
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, append(P2, &["again"])), None);
    assert_eq!(values(&log, P2, 0)[..kept.len()], kept);
}
