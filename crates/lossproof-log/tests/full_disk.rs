//! A full disk keeps the log usable: small commits go on from the ballast, what is removed frees
//! its space, and a start needs none. Records wait until there is room for all of that again.
//! (BALLAST-1, BALLAST-2, storage rule 8)

use crate::support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use lossproof_env::{Fault, SimDisk};
use lossproof_log::{
    Commit, CommitCause, FlushPolicy, FullCause, Log, LogConfig, PartitionChange, RecoveryReport,
    StateKind, Stepper,
};
use support::{P1, P2, append, cause, create, files_of, simulated, values};

const DATA: &str = "/data";
/// More than any test has steps to write zeros.
const ZEROS_MAX: usize = 50;
/// Of the moments of a power cut one in so many is looked at.
const IMAGE_STEP: usize = 7;

fn open(disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
    open_with(disk, LogConfig::small())
}

fn open_with(disk: &SimDisk, config: LogConfig) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&simulated(disk), Path::new(DATA), config).unwrap()
}

fn offset(value: usize) -> Commit {
    Commit::state(StateKind::Offsets, "group", Some(Bytes::from(value.to_string())))
}

fn record(index: usize) -> String {
    format!("{index} {}", "x".repeat(3_000))
}

fn zero(stepper: &mut Stepper) {
    (0..ZEROS_MAX).for_each(|_| stepper.zero());
}

/// Fills P1, with a little of P2 in between, until the disk is full; how many each has.
fn fill(stepper: &mut Stepper) -> (usize, usize) {
    let mut counts = (0, 0);
    for index in 0..1_000 {
        if index % 16 == 0 && cause(stepper, append(P2, &[&format!("kept {index}")])).is_none() {
            counts.1 += 1;
        }
        match cause(stepper, append(P1, &[&record(index)])) {
            None => counts.0 += 1,
            Some(cause) => {
                assert_eq!(cause, CommitCause::Full(FullCause::Disk));
                return counts;
            }
        }
        stepper.zero();
    }
    panic!("the disk never gets full");
}

/// A log on a disk that has room for so much, with its ballast.
fn started(capacity: u64) -> (SimDisk, Log, Stepper) {
    started_with(capacity, LogConfig::small())
}

fn started_with(capacity: u64, config: LogConfig) -> (SimDisk, Log, Stepper) {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open_with(&disk, config);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    zero(&mut stepper);
    disk.set_capacity(capacity);
    (disk, log, stepper)
}

/// Commits offsets until there is no room for these either.
fn use_up(stepper: &mut Stepper) -> usize {
    let refused = (0..1_000).find(|index| cause(stepper, offset(*index)).is_some());
    refused.expect("what small commits may take has an end")
}

/// The answer to a request for the end of a segment.
fn seal(log: &Log, stepper: &mut Stepper, together: Vec<Commit>) -> Option<CommitCause> {
    let mut sealing = pin!(log.seal());
    let mut context = Context::from_waker(Waker::noop());
    assert!(sealing.as_mut().poll(&mut context).is_pending());
    for commit in together {
        assert_eq!(cause(stepper, commit), None);
    }
    stepper.step();
    let Poll::Ready(sealed) = sealing.as_mut().poll(&mut context) else { panic!("no answer") };
    sealed.err().map(|error| error.cause)
}

#[test]
fn the_end_of_a_segment_is_refused_where_there_is_no_room_for_the_next() {
    let (disk, log, mut stepper) = started(400 << 10);
    fill(&mut stepper);
    let full = Some(CommitCause::Full(FullCause::Disk));
    assert_eq!(seal(&log, &mut stepper, Vec::new()), full);
    // What comes between goes on, and does not take the answer.
    assert_eq!(seal(&log, &mut stepper, vec![offset(1)]), full);
    assert_eq!(cause(&mut stepper, offset(2)), None);
    disk.heal();
    assert_eq!(seal(&log, &mut stepper, Vec::new()), None);
}

#[test]
fn small_commits_go_on_from_the_ballast_and_records_wait_for_it() {
    let (disk, log, mut stepper) = started(400 << 10);
    let (count, _) = fill(&mut stepper);
    let most = use_up(&mut stepper);
    let reserve = LogConfig::small().reserve_bytes / 4096;
    assert!(most as u64 > reserve, "{most} frames are no more than the reserve");
    // BALLAST-1: there is room for a small record in what was given up, and not for it.
    disk.heal();
    let full = Some(CommitCause::Full(FullCause::Disk));
    assert_eq!(cause(&mut stepper, append(P1, &["early"])), full);
    assert_eq!(cause(&mut stepper, offset(7)), None);
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, append(P1, &["again"])), None);
    assert_eq!(values(&log, P1, 0).len(), count + 1);
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(values(&log, P1, 0).len(), count + 1);
    assert_eq!(log.state_value(StateKind::Offsets, b"group"), Some(Bytes::from("7")));
}

/// In the proportions of a real log: the reserve is larger than what is lent at a time, and than
/// all that may be.
#[test]
fn small_commits_have_the_reserve_and_a_quarter_of_the_ballast() {
    let default = LogConfig::default();
    let part = |bytes: u64| bytes / (default.zero_step_bytes / (16 << 10));
    let config = LogConfig {
        segment_bytes: part(default.segment_bytes),
        initial_zero_bytes: part(default.initial_zero_bytes),
        zero_step_bytes: part(default.zero_step_bytes),
        zero_ahead_bytes: part(default.zero_ahead_bytes),
        reserve_bytes: part(default.reserve_bytes),
        ballast_bytes: part(default.ballast_bytes),
        ..LogConfig::small()
    };
    let (reserve, lent) = (config.reserve_bytes, config.ballast_bytes / 4);
    for capacity in (600..700).step_by(4) {
        let (_disk, _log, mut stepper) = started_with(capacity << 10, config.clone());
        fill(&mut stepper);
        let most = use_up(&mut stepper) as u64;
        // In steps: what is left of the last one is too little.
        let least = (reserve + lent - config.zero_step_bytes) / 4_096;
        assert!(most >= least, "{capacity}: {most} of {least} at least");
    }
}

#[test]
fn what_is_deleted_on_a_full_disk_frees_its_space() {
    frees(|_| Commit::partition(PartitionChange::Delete { id: P1 }));
}

#[test]
fn records_deleted_on_a_full_disk_free_their_space() {
    frees(|count| Commit::partition(PartitionChange::LogStart { id: P1, offset: count as i64 }));
}

/// Whatever the disk holds when it is full: in the segment in use, in sealed ones, in cold files.
fn frees(removal: impl Fn(usize) -> Commit) {
    for capacity in (350..1_000).step_by(50) {
        let (disk, log, mut stepper) = started(capacity << 10);
        if capacity % 100 == 0 {
            for index in 0..40 {
                stepper.submit(vec![append(P1, &[&record(index)])]);
            }
            // What does not fit is not moved.
            let _ = stepper.checkpoint();
            zero(&mut stepper);
        }
        fill(&mut stepper);
        let kept = values(&log, P2, 0);
        let count = values(&log, P1, 0).len();
        use_up(&mut stepper);
        zero(&mut stepper);
        let full = Some(CommitCause::Full(FullCause::Disk));
        assert_eq!(cause(&mut stepper, append(P2, &["early"])), full, "{capacity}");
        let used = disk.used_bytes();
        let begin = disk.position();
        assert_eq!(cause(&mut stepper, removal(count)), None, "{capacity}: it is not refused");
        stepper.checkpoint().unwrap_or_else(|error| panic!("{capacity}: {error}"));
        zero(&mut stepper);
        let freed = used as i64 - disk.used_bytes() as i64;
        // Beside the ballast and two segments there was little in the smallest.
        assert!(freed > (capacity as i64 - 340) << 9, "{capacity}: {freed} of {used} bytes");
        assert_eq!(cause(&mut stepper, append(P2, &["again"])), None, "{capacity}: it goes on");
        let (recording, end) = (disk.recording(), disk.position());
        for position in (begin..end).step_by(IMAGE_STEP).chain([end]) {
            let (after, _stepper, report) = open(&recording.synced(position));
            assert!(report.is_sound(), "{capacity}, cut at {position}: {report:?}");
            let found = values(&after, P2, 0);
            assert_eq!(found[..kept.len()], kept, "{capacity}, cut at {position}");
            assert!(position < end || found.len() == kept.len() + 1, "{capacity}");
        }
    }
}

/// Files of the log that only a move makes, and the bytes that they hold.
fn moved_files(disk: &SimDisk) -> BTreeMap<PathBuf, u64> {
    let is_moved = |path: &PathBuf| {
        path.extension().is_some_and(|kind| ["cold", "a", "b"].iter().any(|it| kind == *it))
    };
    let paths = disk.paths().into_iter().filter(is_moved);
    paths.map(|path| (path.clone(), disk.bytes(&path).unwrap().len() as u64)).collect()
}

fn slots(disk: &SimDisk) -> [Vec<u8>; 2] {
    ["0", "1"]
        .map(|it| disk.bytes(Path::new(&format!("{DATA}/checkpoint/checkpoint.{it}"))).unwrap())
}

/// What a move had begun to write takes up the ballast, and somebody else's files all the rest.
#[test]
fn it_starts_on_a_wholly_full_disk_after_a_move_that_was_cut_short() {
    let (disk, log, mut stepper) = started(500 << 10);
    for index in 0..20 {
        stepper.submit(vec![append(P1, &[&record(index)])]);
    }
    stepper.checkpoint().unwrap();
    zero(&mut stepper);
    for index in 0..1_000 {
        // Of the latter enough stays that the move has much to copy.
        for id in [P1, P2] {
            let _ = stepper.submit(vec![append(id, &[&record(index)])]);
        }
        stepper.zero();
    }
    let kept = values(&log, P2, 0);
    let (before, slots_before, begin) = (moved_files(&disk), slots(&disk), disk.position());
    assert_eq!(cause(&mut stepper, Commit::partition(PartitionChange::Delete { id: P1 })), None);
    stepper.checkpoint().unwrap();
    let (recording, end) = (disk.recording(), disk.position());
    let mut tried = 0;
    for position in (begin..end).step_by(IMAGE_STEP) {
        let image = recording.synced(position);
        let mut remains = moved_files(&image);
        remains.retain(|path, _| !before.contains_key(path));
        // Not before there is enough for a segment and the meta file, nor once a slot names them.
        let is_small = remains.values().sum::<u64>() < 48 << 10;
        if is_small || slots(&image) != slots_before {
            continue;
        }
        tried += 1;
        image.set_capacity(image.used_bytes());
        let (after, mut stepper, report) = open(&image);
        assert!(report.is_sound(), "cut at {position}: {report:?}");
        assert_eq!(values(&after, P2, 0), kept, "cut at {position}");
        assert_eq!(cause(&mut stepper, offset(1)), None, "cut at {position}");
    }
    assert!(tried > 0, "the move leaves little when it is cut short: the test does not test");
}

/// Each by itself fits beside what is there, and no two of them do; the ballast has room for none.
#[test]
fn segments_that_do_not_fit_together_are_moved_one_after_the_other() {
    let config = LogConfig { ballast_bytes: 64 << 10, ..LogConfig::small() };
    let (disk, log, mut stepper) = started_with(1 << 30, config);
    for index in 0..40 {
        for id in [P1, P2] {
            assert_eq!(cause(&mut stepper, append(id, &[&record(index)])), None);
            stepper.zero();
        }
    }
    let kept = values(&log, P2, 0);
    assert_eq!(cause(&mut stepper, Commit::partition(PartitionChange::Delete { id: P1 })), None);
    let (before, used) = (files_of(&disk, "wal").len(), disk.used_bytes());
    assert!(before > 5, "{before}");
    disk.set_capacity(used + (64 << 10));
    stepper.checkpoint().unwrap();
    // The one in use, the next one, and one that was given back to be used again.
    let after = files_of(&disk, "wal").len();
    assert!(after <= 3, "{after} of {before} are left");
    assert!(disk.used_bytes() < used);
    assert_eq!(values(&log, P2, 0), kept);
}

/// Records have the room that there is. Who waits for readiness is not to wait for a move.
#[test]
fn a_disk_that_only_the_mover_found_full_is_not_full_for_records() {
    // The ballast has no room for a segment.
    let (ballast_bytes, checkpoint_bytes, segment_bytes) = (64 << 10, 16 << 10, 256 << 10);
    let config = LogConfig { ballast_bytes, checkpoint_bytes, segment_bytes, ..LogConfig::small() };
    let (disk, log, mut stepper) = started_with(1 << 30, config);
    for index in 0..80 {
        assert_eq!(cause(&mut stepper, append(P1, &[&record(index)])), None);
        stepper.zero();
    }
    zero(&mut stepper);
    disk.set_capacity(disk.used_bytes());
    stepper.checkpoint().unwrap_err();
    assert!(!log.figures().is_disk_full);
    disk.set_capacity(1 << 30);
    // Nor is room that there is by now taken for records before anything is moved.
    let used = disk.used_bytes();
    zero(&mut stepper);
    assert_eq!(disk.used_bytes(), used);
    stepper.checkpoint().unwrap();
    assert!(!log.figures().is_disk_full);
}

/// The disk is said to be full until something is sent, where who sends waits for it to be ready.
#[test]
fn a_disk_that_has_space_again_is_not_full_before_anything_is_sent() {
    let (disk, log, mut stepper) = started(400 << 10);
    fill(&mut stepper);
    zero(&mut stepper);
    assert!(log.figures().is_disk_full);
    disk.heal();
    zero(&mut stepper);
    assert!(!log.figures().is_disk_full);
}

/// All of it stands in the one segment, which has room left and is in no need of being sealed.
#[test]
fn what_is_deleted_in_the_segment_in_use_frees_its_space() {
    let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::small() };
    let (disk, log, mut stepper) = started_with(400 << 10, config.clone());
    let (bulk, _) = fill(&mut stepper);
    let kept = values(&log, P2, 0);
    let used = disk.used_bytes();
    assert_eq!(cause(&mut stepper, Commit::partition(PartitionChange::Delete { id: P1 })), None);
    stepper.checkpoint().unwrap();
    zero(&mut stepper);
    let freed = used as i64 - disk.used_bytes() as i64;
    assert!(freed > bulk as i64 * 1_500, "{freed} bytes of {bulk} records");
    assert_eq!(cause(&mut stepper, append(P2, &["again"])), None);
    drop((log, stepper));
    let (log, _stepper, report) = open_with(&disk.power_cut(), config);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(values(&log, P2, 0)[..kept.len()], kept);
}

/// The trap: it was deleted while there was room, and the disk is full only later, when nobody
/// deletes anything.
#[test]
fn what_was_deleted_before_the_disk_was_full_frees_its_space() {
    let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::small() };
    let (disk, log, mut stepper) = started_with(400 << 10, config);
    let bulk = 45;
    for index in 0..bulk {
        assert_eq!(cause(&mut stepper, append(P1, &[&record(index)])), None, "{index}");
    }
    assert_eq!(cause(&mut stepper, Commit::partition(PartitionChange::Delete { id: P1 })), None);
    let filled = |stepper: &mut Stepper| {
        (0..1_000).find(|index| cause(stepper, append(P2, &[&record(*index)])).is_some())
    };
    let before = filled(&mut stepper).expect("it gets full");
    assert!(log.figures().is_disk_full);
    stepper.checkpoint().unwrap();
    zero(&mut stepper);
    assert_eq!(files_of(&disk, "wal").len(), 1, "the one in use");
    let behind = filled(&mut stepper).expect("it gets full");
    assert!(behind > bulk / 2, "{before} and then {behind} records");
}

/// The trap: the disk was full once before that, and only a record that is larger than what is left
/// finds it so again.
#[test]
fn what_was_deleted_between_two_times_that_the_disk_was_full_frees_its_space() {
    let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::small() };
    let (disk, log, mut stepper) = started_with(1 << 30, config);
    let large = || append(P2, &[&"x".repeat(60_000)]);
    for index in 0..60 {
        assert_eq!(cause(&mut stepper, append(P1, &[&record(index)])), None);
    }
    let full = Some(CommitCause::Full(FullCause::Disk));
    disk.set_capacity(disk.used_bytes());
    assert_eq!(cause(&mut stepper, large()), full);
    use_up(&mut stepper);
    disk.heal();
    zero(&mut stepper);
    assert!(!log.figures().is_disk_full);
    assert_eq!(cause(&mut stepper, Commit::partition(PartitionChange::Delete { id: P1 })), None);
    disk.set_capacity(disk.used_bytes());
    assert_eq!(cause(&mut stepper, large()), full);
    stepper.checkpoint().unwrap();
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, large()), None);
}

/// The trap: when the disk is found full, what stands before the segment in use does not fit
/// beside it; later it was moved, and nobody deletes anything.
#[test]
fn what_could_not_be_given_back_at_first_is_once_there_was_room_to_move() {
    // Where the ballast was lent, also if nobody sends anything.
    for (ballast_lent, is_silent) in [(false, false), (true, false), (true, true)] {
        let (ballast_bytes, segment_bytes) = (96 << 10, 1 << 20);
        let config = LogConfig { ballast_bytes, segment_bytes, ..LogConfig::small() };
        let (disk, log, mut stepper) = started_with(1 << 30, config);
        let mut write = |id| assert_eq!(cause(&mut stepper, append(id, &[&record(0)])), None);
        (0..30).for_each(|_| write(P2));
        assert_eq!(seal(&log, &mut stepper, Vec::new()), None);
        let mut write = |id| assert_eq!(cause(&mut stepper, append(id, &[&record(0)])), None);
        (0..30).for_each(|_| write(P1));
        assert_eq!(
            cause(&mut stepper, Commit::partition(PartitionChange::Delete { id: P1 })),
            None
        );
        let refused = |stepper: &mut Stepper| {
            let count = (0..1_000).find(|_| cause(stepper, append(P2, &[&record(0)])).is_some());
            count.expect("it is full")
        };
        disk.set_capacity(disk.used_bytes());
        refused(&mut stepper);
        stepper.checkpoint().unwrap_err();
        if ballast_lent {
            use_up(&mut stepper);
        }
        // Somebody else's files go for a while.
        disk.set_capacity(disk.used_bytes() + (300 << 10));
        stepper.checkpoint().unwrap();
        disk.set_capacity(disk.used_bytes());
        if is_silent {
            stepper.idle();
        } else {
            assert_eq!(refused(&mut stepper), 0);
        }
        stepper.checkpoint().unwrap();
        zero(&mut stepper);
        let again = cause(&mut stepper, append(P2, &["again"]));
        assert_eq!(again, None, "lent: {ballast_lent}, silent: {is_silent}");
    }
}

#[test]
fn it_starts_on_a_wholly_full_disk_again_and_again() {
    for capacity in (350..450).step_by(20) {
        let (disk, log, mut stepper) = started(capacity << 10);
        let (count, kept) = fill(&mut stepper);
        drop(log);
        stepper.close().unwrap();
        let mut disk = disk;
        for round in 0..5 {
            // Not one byte is left, whatever was.
            disk.set_capacity(disk.used_bytes());
            let (log, mut stepper, report) = open(&disk);
            assert!(report.is_sound(), "{capacity}: {report:?}");
            assert_eq!(values(&log, P1, 0).len(), count, "{capacity}");
            assert_eq!(values(&log, P2, 0).len(), kept, "{capacity}");
            assert_eq!(cause(&mut stepper, offset(round)), None, "{capacity}, start {round}");
            zero(&mut stepper);
            drop((log, stepper));
            disk = disk.killed();
        }
        disk.heal();
        let (_log, mut stepper, _) = open(&disk);
        zero(&mut stepper);
        assert_eq!(cause(&mut stepper, append(P1, &["again"])), None, "{capacity}");
    }
}

/// A log with so many records behind a move, which has given segments back where `moved`; the last
/// one is not followed by a step that writes zeros.
fn with_records(moved: bool, behind: usize) -> (SimDisk, Log, Stepper, usize) {
    let config = LogConfig { ballast_bytes: 0, ..LogConfig::small() };
    let (disk, log, mut stepper) = started_with(1 << 30, config);
    let before = if moved { 60 } else { 0 };
    for index in 0..=before + behind {
        if index == before && moved {
            stepper.checkpoint().unwrap();
        }
        if index > 0 {
            stepper.zero();
        }
        assert_eq!(cause(&mut stepper, append(P1, &[&record(index)])), None);
    }
    (disk, log, stepper, before + behind + 1)
}

/// Whatever call it is that runs short while the next segment is made, and also where nothing of it
/// can be taken away again: it is made as soon as there is enough.
#[test]
fn a_segment_that_ran_short_in_the_making_is_made_later() {
    for moved in [true, false] {
        let makes_one = |behind: &usize| {
            let (disk, _log, mut stepper, _) = with_records(moved, *behind);
            let before = files_of(&disk, "wal");
            stepper.zero();
            let after = files_of(&disk, "wal");
            // One that was given back only gets another name.
            before != after && (before.len() == after.len()) == moved
        };
        let behind = (0..50).find(makes_one).expect("the next segment is made");
        for (files, sticky) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut call = 0;
            while goes_on_after(moved, behind, call, files, sticky) {
                call += 1;
            }
            assert!(call > 3, "the test does not test");
        }
    }
}

/// Whether there is such a call of the disk.
fn goes_on_after(moved: bool, behind: usize, call: u64, files: bool, sticky: bool) -> bool {
    let hint = format!("given back: {moved}, call {call}, sticky: {sticky}, files: {files}");
    let (disk, log, mut stepper, count) = with_records(moved, behind);
    let fault = Fault::call(call);
    let fault = if files { fault.no_files() } else { fault.no_space() };
    disk.inject(if sticky { fault.sticky() } else { fault });
    let before = files_of(&disk, "wal");
    stepper.zero();
    let struck = disk.was_struck();
    disk.heal();
    if moved && struck && !sticky {
        // It takes up no space until then.
        assert!(files_of(&disk, "wal").iter().all(|path| before.contains(path)), "{hint}");
    }
    for index in count..count + 40 {
        stepper.zero();
        assert_eq!(log.fenced(), None, "{hint}");
        assert_eq!(cause(&mut stepper, append(P1, &[&record(index)])), None, "{hint}");
    }
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{hint}: {report:?}");
    assert_eq!(values(&log, P1, 0).len(), count + 40, "{hint}");
    struck
}
