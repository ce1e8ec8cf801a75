//! Batches move from full segments to cold files, and are read from there as before: MOVE-1 to -5,
//! COLD-1, COLD-2, CHECKPOINT-1, CHECKPOINT-2, SEGMENT-3, READ-3.

use crate::support;

use std::path::Path;

use lossproof_env::{Fault, SimDisk};
use lossproof_log::{
    Commit, CommitCause, FindingKind, FlushPolicy, Log, LogConfig, OpenError, PartitionChange,
    PartitionId, ReadError, RecoveryReport, StateKind, Stepper,
};
use support::{P1, P2, append, create, only, produced, simulated, values};

const DATA: &str = "/data";

fn open(disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&simulated(disk), Path::new(DATA), LogConfig::small()).unwrap()
}

fn text(index: usize) -> String {
    format!("{index} {}", "x".repeat(3_000))
}

fn expected(count: usize) -> Vec<(i64, String)> {
    let both = (0..count).flat_map(|index| [text(index), "b".to_owned()]);
    (0..).zip(both).collect()
}

fn others(count: usize) -> Vec<(i64, String)> {
    (0..).zip((0..count).map(|index| format!("other {index}"))).collect()
}

fn names(disk: &SimDisk, extension: &str) -> Vec<String> {
    let named = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == extension);
    disk.paths().iter().filter(|path| named(path)).map(|path| path.display().to_string()).collect()
}

/// A log with several segments, all but the last one moved.
fn moved(disk: &SimDisk) -> (Log, Stepper) {
    let (log, mut stepper, _) = open(disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    stepper.submit(vec![Commit::append(P2, produced(77, 0, 0, &["other 0"]))]);
    fill_from_one(&mut stepper);
    stepper.submit(vec![Commit::state(StateKind::Offsets, "group", Some("12".into()))]);
    stepper.checkpoint().unwrap();
    (log, stepper)
}

/// Of 3 kB: some twenty of them fill a segment.
const RECORDS: usize = 60;

fn fill_from_one(stepper: &mut Stepper) {
    stepper.submit(vec![append(P1, &[&text(0), "b"])]);
    for index in 1..RECORDS {
        let (first, second) = (text(index), format!("other {index}"));
        let done = stepper.submit(vec![append(P1, &[&first, "b"]), append(P2, &[&second])]);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        stepper.zero();
    }
}

fn fill_with(stepper: &mut Stepper, id: PartitionId) {
    for index in 0..RECORDS {
        stepper.submit(vec![append(id, &[&text(index)])]).remove(0).unwrap();
        stepper.zero();
    }
}

fn assert_all(log: &Log) {
    assert_eq!(values(log, P1, 0), expected(RECORDS));
    assert_eq!(values(log, P2, 0), others(RECORDS));
    assert_eq!(values(log, P1, 41), expected(RECORDS).split_off(40), "whole batches");
    assert_eq!(log.state_value(StateKind::Offsets, b"group"), Some("12".into()));
}

#[test]
fn moved_batches_read_as_before_and_after_a_power_cut() {
    let disk = SimDisk::new();
    let (log, stepper) = moved(&disk);
    assert_eq!(names(&disk, "cold").len(), 1);
    assert_all(&log);
    let journal = names(&disk, "wal").len();
    drop((log, stepper));
    let disk = disk.power_cut();
    let (log, mut stepper, report) = open(&disk);
    assert!(report.is_sound() && !report.clean, "{report:?}");
    assert_all(&log);
    // The window of producers is there too, and ids are not given again.
    let retry = Commit::append(P2, produced(77, 0, 0, &["other 0"]));
    let retried = stepper.submit(vec![retry]).remove(0).unwrap();
    assert!(only(&retried).duplicate);
    let used = stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0);
    assert!(used.is_err(), "STAGE-2");
    assert!(names(&disk, "wal").len() <= journal, "what was moved is given back");
}

/// The trap: a snapshot with the last batch of each producer alone takes a retry of the one before
/// for a gap, or for something new.
#[test]
fn five_batches_are_known_again_when_they_have_moved() {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    let send = |stepper: &mut Stepper, sequence: i32| {
        let batch = produced(77, 0, sequence, &[&format!("other {sequence}")]);
        let outcome = stepper.submit(vec![Commit::append(P2, batch)]).remove(0);
        outcome.map(|committed| (only(&committed).base_offset, only(&committed).duplicate))
    };
    for sequence in 0..6 {
        assert_eq!(send(&mut stepper, sequence).unwrap(), (i64::from(sequence), false));
    }
    // None of what the producer wrote is left in the journal.
    for index in 0..RECORDS {
        stepper.submit(vec![append(P1, &[&text(index)])]);
        stepper.zero();
    }
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    let (log, mut stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{report:?}");
    for sequence in 1..6 {
        let original = (i64::from(sequence), true);
        assert_eq!(send(&mut stepper, sequence).unwrap(), original, "known again");
    }
    let too_old = send(&mut stepper, 0).unwrap_err().cause;
    assert!(matches!(too_old, CommitCause::OutOfOrderSequence { expected: 6, .. }), "{too_old}");
    assert_eq!(send(&mut stepper, 6).unwrap(), (6, false));
    assert_eq!(values(&log, P2, 0), others(7));
}

#[test]
fn segments_are_used_again_and_nothing_of_their_earlier_life_is_read() {
    // SEGMENT-3
    let disk = SimDisk::new();
    let (log, mut stepper) = moved(&disk);
    let most = names(&disk, "wal").len() + 1;
    for round in 0..5 {
        let mut index = 0;
        let at_first = values(&log, P1, 0).len();
        while index < 40 {
            stepper.submit(vec![append(P1, &[&format!("{round} {}", text(index)), "b"])]);
            stepper.zero();
            index += 1;
        }
        stepper.checkpoint().unwrap();
        assert!(names(&disk, "wal").len() <= most, "{:?}", names(&disk, "wal"));
        assert_eq!(values(&log, P1, 0).len(), at_first + 80);
        let cut = disk.power_cut();
        let (after, _stepper, report) = open(&cut);
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(values(&after, P1, 0), values(&log, P1, 0));
    }
}

#[test]
fn what_was_removed_gives_its_space_back() {
    let disk = SimDisk::new();
    let (log, mut stepper) = moved(&disk);
    let end = log.partition(P1).unwrap().high_watermark;
    let start = |offset| Commit::partition(PartitionChange::LogStart { id: P1, offset });
    let beyond = stepper.submit(vec![start(end + 1)]).remove(0).unwrap_err();
    assert!(beyond.to_string().contains("beyond the log end"), "{beyond}");
    stepper.submit(vec![start(end - 3)]).remove(0).unwrap();
    let below = log.read(P1, 0, 1).unwrap_err();
    assert!(matches!(below, ReadError::OffsetOutOfRange { log_start, .. } if log_start == end - 3));
    // Whole batches: the first record is in the batch of the log start.
    assert_eq!(values(&log, P1, end - 3), expected(RECORDS).split_off(end as usize - 4));
    let cold = |disk: &SimDisk| disk.bytes(Path::new(&names(disk, "cold")[0])).unwrap().len();
    let before = cold(&disk);
    stepper.checkpoint().unwrap();
    assert!(cold(&disk) < before / 4, "{} of {before}", cold(&disk));
    assert_eq!(values(&log, P2, 0), others(RECORDS));
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(log.partition(P1).unwrap().log_start, end - 3);
    assert_eq!(values(&log, P1, end - 3), expected(RECORDS).split_off(end as usize - 4));
    assert_eq!(values(&log, P2, 0), others(RECORDS));
}

#[test]
fn damage_in_a_cold_file_is_an_error_for_its_offsets() {
    // READ-1
    let disk = SimDisk::new();
    let (log, _stepper) = moved(&disk);
    let cold = names(&disk, "cold").remove(0);
    let cold = Path::new(&cold);
    let bytes = disk.bytes(cold).unwrap();
    let wanted = text(3);
    let at = bytes.windows(wanted.len()).position(|it| it == wanted.as_bytes()).unwrap() as u64;
    disk.damage(cold, at + 100, b"!").unwrap();
    let error = log.read(P1, 6, 1).unwrap_err();
    assert!(
        matches!(error, ReadError::Damaged { range, .. } if (range.first, range.last) == (6, 7))
    );
    assert_eq!(values(&log, P1, 8), expected(RECORDS).split_off(8), "all others can be read");
}

/// The planted bug `log-start-forgotten` must fail this test.
#[test]
fn a_checkpoint_keeps_where_a_log_starts() {
    let disk = SimDisk::new();
    let (log, mut stepper) = moved(&disk);
    let start = PartitionChange::LogStart { id: P1, offset: 40 };
    stepper.submit(vec![Commit::partition(start)]).remove(0).unwrap();
    // The frame that says so moves too.
    for index in 0..RECORDS {
        stepper.submit(vec![append(P2, &[&text(index)])]).remove(0).unwrap();
        stepper.zero();
    }
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(log.partition(P1).unwrap().log_start, 40, "the log starts where it did");
    assert_eq!(values(&log, P1, 40), expected(RECORDS).split_off(40));
}

/// A start that is cut short leaves a segment without frames, which the next one removes. Moving
/// took it for one that is still there, and ended for good.
#[test]
fn a_segment_that_a_start_has_removed_does_not_end_the_moving() {
    let disk = SimDisk::new();
    drop(open(&disk));
    let disk = disk.killed();
    let (log, stepper) = moved(&disk);
    assert_all(&log);
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{report:?}");
    assert_all(&log);
}

/// The planted bug `damage-moved` must fail this test.
#[test]
fn a_damaged_cold_file_stays_and_everything_else_moves() {
    // COLD-2, MOVE-3
    let disk = SimDisk::new();
    let (log, mut stepper) = moved(&disk);
    let cold = names(&disk, "cold").remove(0);
    let cold = Path::new(&cold);
    let bytes = disk.bytes(cold).unwrap();
    let at = bytes.windows(7).position(|it| it == b"other 3").unwrap() as u64;
    disk.damage(cold, at, b"!").unwrap();
    // Most of the file is not wanted any more, so the rest is to be copied.
    let end = log.partition(P1).unwrap().high_watermark;
    let start = PartitionChange::LogStart { id: P1, offset: end - 3 };
    stepper.submit(vec![Commit::partition(start)]).remove(0).unwrap();
    stepper.checkpoint().unwrap();
    let read = log.read(P2, 3, 1);
    assert!(matches!(read, Err(ReadError::Damaged { .. })), "damage must not be copied: {read:?}");
    assert_eq!(values(&log, P2, 4), others(RECORDS).split_off(4), "all others can be read");
    // SCRUB-4
    stepper.scrub();
    assert_eq!(log.figures().scrub.findings, 1, "it is reported at once");
    let lost = log.partition(P2).unwrap().damaged;
    assert_eq!(lost.iter().map(|it| (it.first, it.last)).collect::<Vec<_>>(), [(3, 3)]);
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    let mut disk = disk.power_cut();
    for round in 1..3 {
        let (log, mut stepper, report) = open(&disk);
        assert_eq!(report.damage[0].kind, FindingKind::DamagedBefore);
        assert_eq!(log.partition(P2).unwrap().damaged, lost);
        fill_with(&mut stepper, P1);
        stepper.checkpoint().unwrap();
        assert_eq!(names(&disk, "cold").len(), 1 + round, "new ones come beside it");
        assert_eq!(values(&log, P2, 4), others(RECORDS).split_off(4));
        drop((log, stepper));
        disk = disk.power_cut();
        assert!(disk.bytes(cold).is_ok());
    }
}

/// The trap: one that takes all that there is lists every batch of it in memory.
#[test]
fn a_move_takes_a_part_of_what_there_is() {
    // MOVE-5
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
    for _ in 0..10 {
        fill_with(&mut stepper, P1);
    }
    stepper.checkpoint().unwrap();
    assert!(names(&disk, "cold").len() > 1);
    let most = 16 * LogConfig::small().segment_bytes as usize;
    for cold in names(&disk, "cold") {
        assert!(disk.bytes(Path::new(&cold)).unwrap().len() <= most, "{cold}");
    }
    assert_eq!(values(&log, P1, 0).len(), 10 * RECORDS);
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.power_cut());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(values(&log, P1, 0).len(), 10 * RECORDS);
}

/// The trap: with many partitions each small cold file has entries of all of them, and the index
/// fills up while the disk is nearly empty.
#[test]
fn a_long_index_is_shortened_by_writing_files_together() {
    let disk = SimDisk::new();
    let config = LogConfig { index_entries_max: 200, ..LogConfig::small() };
    let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), config);
    let (log, mut stepper, _) = opened.unwrap();
    let ids: Vec<PartitionId> = (1..=10).map(PartitionId).collect();
    stepper.submit(ids.iter().map(|id| create(*id, FlushPolicy::Commit)).collect());
    let rounds = 60;
    for round in 0..rounds {
        for id in &ids {
            let done = stepper.submit(vec![append(*id, &[&text(round)])]).remove(0);
            assert!(done.is_ok(), "round {round}: {done:?}");
            stepper.zero();
        }
        stepper.checkpoint().unwrap();
    }
    let entries = log.figures().index_entries;
    assert!(entries.used < entries.max, "{entries:?}");
    for id in ids {
        assert_eq!(values(&log, id, 0).len(), rounds);
    }
}

#[test]
fn a_cold_file_that_is_gone_is_reported_at_each_start() {
    let disk = SimDisk::new();
    drop(moved(&disk));
    let cold = names(&disk, "cold").remove(0);
    lossproof_env::Disk::remove(&disk, Path::new(&cold)).unwrap();
    let disk = disk.killed();
    for _ in 0..2 {
        let (log, mut stepper, report) = open(&disk);
        let finding = report.damage.first().unwrap();
        let first = log.partition(P1).unwrap().damaged[0];
        assert!(finding.partitions.iter().any(|it| it.partition == P1 && it.range == first));
        assert!(matches!(log.read(P1, 0, 1), Err(ReadError::Damaged { .. })));
        assert_eq!(values(&log, P1, first.last + 1).last(), expected(RECORDS).last());
        // It is known, and the rest still moves.
        stepper.checkpoint().unwrap();
        drop((log, stepper));
    }
    let (_, _, report) = open(&disk);
    assert_eq!(report.damage[0].kind, FindingKind::DamagedBefore);
}

#[test]
fn one_of_two_files_and_one_of_two_slots_is_enough() {
    // CHECKPOINT-1, CHECKPOINT-2
    for (damaged, slot) in [("a", "checkpoint.0"), ("b", "checkpoint.1")] {
        let disk = SimDisk::new();
        drop(moved(&disk));
        let disk = disk.killed();
        for path in names(&disk, damaged) {
            let length = disk.bytes(Path::new(&path)).unwrap().len() as u64;
            for at in (0..length).step_by(512) {
                disk.damage(Path::new(&path), at, &[0x55]).unwrap();
            }
        }
        let slot = format!("{DATA}/checkpoint/{slot}");
        disk.damage(Path::new(&slot), 20, &[0x55]).unwrap();
        let (log, _stepper, report) = open(&disk);
        assert!(report.is_sound(), "{report:?}");
        assert_all(&log);
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_never_passed_over() {
    // CHECKPOINT-2
    let refused = |harm: &dyn Fn(&SimDisk)| {
        let disk = SimDisk::new();
        drop(moved(&disk));
        let disk = disk.killed();
        harm(&disk);
        let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
        assert!(matches!(opened, Err(OpenError::CheckpointUnreadable { .. })));
    };
    refused(&|disk| {
        for slot in ["checkpoint.0", "checkpoint.1"] {
            let path = format!("{DATA}/checkpoint/{slot}");
            disk.damage(Path::new(&path), 20, &[0x55]).unwrap();
        }
    });
    refused(&|disk| {
        for path in [names(disk, "a"), names(disk, "b")].concat() {
            disk.damage(Path::new(&path), 8_192 + 100, &[0x55]).unwrap();
        }
    });
    refused(&|disk| {
        for path in [names(disk, "a"), names(disk, "b")].concat() {
            lossproof_env::Disk::remove(disk, Path::new(&path)).unwrap();
        }
    });
}

/// Of a directory in which a part was on a file system of its own, or is not restored yet.
#[test]
fn cold_files_without_the_rest_of_their_log_are_no_new_log() {
    for left in ["cold", "checkpoint"] {
        let disk = SimDisk::new();
        drop(moved(&disk));
        let disk = disk.killed();
        let is_left = |path: &&std::path::PathBuf| path.starts_with(Path::new(DATA).join(left));
        let before: Vec<_> = disk.paths().iter().filter(is_left).cloned().collect();
        for path in disk.paths().iter().filter(|path| !is_left(path)) {
            lossproof_env::Disk::remove(&disk, path).unwrap();
        }
        let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
        assert!(matches!(opened, Err(OpenError::MetaMissing { .. })));
        assert_eq!(disk.paths().iter().filter(is_left).cloned().collect::<Vec<_>>(), before);
    }
}

#[test]
fn what_may_be_left_of_a_checkpoint_is_never_removed() {
    let disk = SimDisk::new();
    drop(moved(&disk));
    let disk = disk.killed();
    let cold = disk.bytes(Path::new(&names(&disk, "cold")[0])).unwrap();
    let slots = ["checkpoint.0", "checkpoint.1"].map(|name| format!("{DATA}/checkpoint/{name}"));
    for path in slots.iter().chain(&names(&disk, "wal")) {
        lossproof_env::Disk::remove(&disk, Path::new(path)).unwrap();
    }
    let mut id = P1;
    let config = || LogConfig { accept_lost_end: true, ..LogConfig::small() };
    for start in 0..4 {
        let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), config());
        let (log, mut stepper, report) = opened.unwrap();
        assert!(!report.damage.is_empty(), "start {start}");
        let is_kept = |path: &std::path::PathBuf| {
            path.starts_with(Path::new(DATA).join("cold")) && disk.bytes(path).unwrap() == cold
        };
        assert!(disk.paths().iter().any(is_kept), "start {start}: {:?}", disk.paths());
        if start == 0 {
            id = log.unused_partition_id();
            stepper.submit(vec![create(id, FlushPolicy::Commit)]).remove(0).unwrap();
            for index in 0..RECORDS {
                stepper.submit(vec![append(id, &[&text(index)])]).remove(0).unwrap();
            }
        } else {
            stepper.checkpoint().unwrap();
        }
        let whole: Vec<_> = (0..).zip((0..RECORDS).map(text)).collect();
        assert_eq!(values(&log, id, 0), whole, "start {start}");
    }
}

#[test]
fn what_may_expire_goes_by_age_and_size_and_keeps_rather_too_much() {
    let disk = SimDisk::new();
    let (log, mut stepper) = moved(&disk);
    let (all, end) = (log.bytes(P1).unwrap(), log.partition(P1).unwrap().high_watermark);
    let sent: usize = (0..RECORDS).map(|index| support::batch(&[&text(index), "b"]).len()).sum();
    assert_eq!(all, sent as u64);
    // The records of a batch have the timestamps 1000 and 1001.
    assert_eq!(log.expired(P1, Some(1_001), None), Some(0));
    assert_eq!(log.expired(P1, Some(1_002), None), Some(end));
    assert_eq!(log.expired(P1, None, Some(all)), Some(0));
    assert_eq!(log.expired(P1, None, Some(0)), Some(end));
    let start = log.expired(P1, None, Some(all / 2)).unwrap();
    assert!(0 <= start && start < end / 2 + 2, "{start}");
    stepper.submit(vec![Commit::partition(PartitionChange::LogStart { id: P1, offset: start })]);
    assert!(log.bytes(P1).unwrap() >= all / 2);
}

#[test]
fn after_a_failed_sync_nothing_is_moved_until_the_next_start() {
    // MOVE-4
    let mut failed = 0;
    for at in 0..20 {
        let disk = SimDisk::new();
        let (log, mut stepper, _) = open(&disk);
        stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
        stepper.submit(vec![Commit::append(P2, produced(77, 0, 0, &["other 0"]))]);
        fill_from_one(&mut stepper);
        stepper.submit(vec![Commit::state(StateKind::Offsets, "group", Some("12".into()))]);
        disk.inject(Fault::sync(at));
        let moved = stepper.checkpoint();
        let struck = disk.was_struck();
        disk.heal();
        assert_all(&log);
        assert!(log.fenced().is_none(), "commits go on");
        if !struck {
            moved.unwrap();
            continue;
        }
        failed += 1;
        assert!(moved.is_err());
        assert!(stepper.checkpoint().unwrap_err().contains("until the next start"));
        drop((log, stepper));
        let (log, mut stepper, report) = open(&disk.killed());
        assert!(report.is_sound(), "sync {at}: {report:?}");
        assert_all(&log);
        stepper.checkpoint().unwrap();
        assert_all(&log);
    }
    assert!(failed > 5, "{failed}");
}

/// MOVE-4: there are file systems where even to remove a file takes room. The trap: what is left of
/// the segments is moved once more, on top of a checkpoint that has it all.
#[test]
fn what_could_not_be_removed_for_want_of_room_is_so_later() {
    let mut went_on = 0;
    for (at, sticky) in (0..60).flat_map(|at| [(at, false), (at, true)]) {
        let hint = format!("change {at}, sticky: {sticky}");
        let disk = SimDisk::new();
        let (log, mut stepper, _) = open(&disk);
        stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
        let mut count = 0;
        let mut more = |stepper: &mut Stepper| {
            for _ in 0..140 {
                stepper.zero();
                let done = stepper.submit(vec![append(P1, &[&text(count)])]).remove(0);
                done.unwrap_or_else(|error| {
                    panic!("{hint}, {count}: {} {:?}", error.cause, log.figures())
                });
                count += 1;
            }
        };
        more(&mut stepper);
        let fault = Fault::change(at).no_space();
        disk.inject(if sticky { fault.sticky() } else { fault });
        let moved = stepper.checkpoint();
        let struck = disk.was_struck();
        disk.heal();
        (0..20).for_each(|_| stepper.zero());
        more(&mut stepper);
        // Not once a slot may name the new one: then the next start goes on.
        if stepper.checkpoint().is_ok() {
            went_on += usize::from(struck && moved.is_err());
            assert!(names(&disk, "wal").len() < 8, "{hint}: of eighteen");
        }
        drop((log, stepper));
        let (log, _stepper, report) = open(&disk.power_cut());
        assert!(report.is_sound(), "{hint}: {report:?}");
        let found: Vec<String> = values(&log, P1, 0).into_iter().map(|(_, value)| value).collect();
        assert!(found.into_iter().eq((0..count).map(text)), "{hint}");
    }
    assert!(went_on > 3, "{went_on}");
}

#[test]
fn a_slot_that_may_name_a_checkpoint_keeps_its_files() {
    // MOVE-4: where the second slot could not be written, the first names a checkpoint already.
    let mut struck = 0;
    for at in 0..20 {
        let disk = SimDisk::new();
        let (log, mut stepper, _) = open(&disk);
        stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
        stepper.submit(vec![Commit::append(P2, produced(77, 0, 0, &["other 0"]))]);
        fill_from_one(&mut stepper);
        stepper.submit(vec![Commit::state(StateKind::Offsets, "group", Some("12".into()))]);
        disk.inject(Fault::sync(at).no_space());
        let named = stepper.checkpoint();
        struck += u32::from(named.is_err_and(|error| error.contains("cannot name")));
        disk.heal();
        disk.inject(Fault::sync(0).no_space());
        let _ = stepper.checkpoint();
        disk.heal();
        drop((log, stepper));
        let opened =
            Log::open_stepped(&simulated(&disk.power_cut()), Path::new(DATA), LogConfig::small());
        let (log, _stepper, report) = opened.unwrap_or_else(|error| panic!("sync {at}: {error}"));
        assert!(report.is_sound(), "sync {at}: {report:?}");
        assert_all(&log);
    }
    assert!(struck >= 2, "{struck}: neither slot was met");
}
