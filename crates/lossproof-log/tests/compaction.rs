//! Compaction, against a model of what was sent: of each key the last committed value stays, at
//! its offset, and nothing else is lost sight of. Histories have tombstones, transactions that
//! commit, abort and stay open, all compressions, and several passes.

use crate::keyed;
use crate::support;

use std::path::{Path, PathBuf};

use keyed::{History, ID, compact, marker, read_all, records_of, wish};
use lossproof_env::{Fault, SimDisk};
use lossproof_log::{
    COMPACTED_BYTES_MAX, Commit, Compaction, FlushPolicy, Log, LogConfig, Loss, OffsetRange,
    PartitionChange, PartitionId, PartitionRange, Stepper,
};
use lossproof_wire::batch::{BatchBuilder, BatchHeader, Compression};
use support::{create, end_segment, simulated};

const DATA: &str = "/data";
const HISTORIES: u64 = 25;

fn open(disk: &SimDisk, config: LogConfig) -> (Log, Stepper) {
    let opened = Log::open_stepped(&simulated(disk), Path::new(DATA), config);
    let (log, stepper, report) = opened.unwrap();
    assert!(report.is_sound(), "{report:?}");
    (log, stepper)
}

fn created(disk: &SimDisk, config: LogConfig) -> (Log, Stepper) {
    let (log, mut stepper) = open(disk, config);
    submit(&mut stepper, create(ID, FlushPolicy::Commit));
    (log, stepper)
}

fn submit(stepper: &mut Stepper, commit: Commit) {
    stepper.submit(vec![commit]).remove(0).unwrap();
    stepper.zero();
}

/// Fills the segment in use with records of another partition, so that it can be moved.
fn seal(stepper: &mut Stepper) {
    let other = support::P2;
    stepper.submit(vec![create(other, FlushPolicy::Commit)]);
    for _ in 0..8 {
        submit(stepper, support::append(other, &[&"x".repeat(9_000)]));
    }
}

fn keyed(key: &str, value: Option<&str>, timestamp: i64) -> Commit {
    let mut builder = BatchBuilder::new();
    builder.push(timestamp, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    Commit::append(ID, builder.build().unwrap())
}

/// Offsets and values of what is left.
fn left(log: &Log) -> Vec<(i64, Option<String>)> {
    let all = read_all(log);
    let records = all.iter().flat_map(records_of);
    records.map(|(offset, _, value)| (offset, value)).collect()
}

fn some(offset: i64, value: &str) -> (i64, Option<String>) {
    (offset, Some(value.to_owned()))
}

/// A pass leaves a hole on each side of it, which would be one without it.
#[test]
fn no_batch_spans_what_was_given_up() {
    // READ-4, COMPACTION-3
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for (key, value) in [("a", "1"), ("x", "to be lost"), ("b", "1"), ("a", "2"), ("b", "2")] {
        submit(&mut stepper, keyed(key, Some(value), 0));
    }
    stepper.close().unwrap();
    drop(log);
    support::strike(&disk, b"to be lost");
    let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
    let (log, mut stepper, _) = opened.unwrap();
    let range = OffsetRange { first: 1, last: 1 };
    let loss = Loss::Offsets(PartitionRange { partition: ID, range });
    support::accept(&log, &mut stepper, vec![loss]).unwrap();
    end_segment(&log, &mut stepper);
    compact(&log, &mut stepper, wish(0));
    let found_at = |offset| -> Vec<(i64, i64, usize)> {
        let slice = log.read(ID, offset, 16 << 10).unwrap();
        let found = slice.batches.iter();
        found.map(|it| (it.base_offset, it.last_offset, records_of(it).len())).collect()
    };
    assert_eq!(found_at(0), [(0, 0, 0)]);
    assert_eq!(found_at(1), [(2, 2, 0), (3, 3, 1), (4, 4, 1)]);
}

/// The planted bugs `compaction-keeps-older` and `compaction-passes-stable` must fail this test.
#[test]
fn a_reader_sees_the_last_value_of_each_key_whatever_was_compacted() {
    // COMPACTION-1, COMPACTION-2, COMPACTION-3
    let (mut before, mut after) = (0, 0);
    for seed in 0..HISTORIES {
        let disk = SimDisk::new();
        let (mut log, mut stepper) = created(&disk, LogConfig::small());
        let mut history = History::new(seed, 1_500);
        let mut disk = disk;
        for round in 0..4 {
            for _ in 0..60 {
                submit(&mut stepper, history.draw());
            }
            history.check(&log);
            compact(&log, &mut stepper, wish(round * 700));
            history.check(&log);
            history.check_windows(&mut stepper);
            if round % 2 == 1 {
                drop((log, stepper));
                disk = disk.power_cut();
                (log, stepper) = open(&disk, LogConfig::small());
                history.check(&log);
                history.check_windows(&mut stepper);
            }
        }
        for commit in history.end_all() {
            submit(&mut stepper, commit);
        }
        seal(&mut stepper);
        // The first removes older values, the others wait for their tombstones.
        for now_ms in [10_000, 20_000, 30_000] {
            compact(&log, &mut stepper, wish(now_ms));
            history.check(&log);
        }
        let keys: Vec<_> = read_all(&log).iter().flat_map(records_of).collect();
        before += history.records.len();
        after += keys.len();
        let keyed: Vec<_> = keys.iter().filter(|(_, key, _)| key.is_some()).collect();
        let each = |it: &&&keyed::Seen| it.2.is_some();
        assert_eq!(keyed.iter().filter(each).count(), keyed.len(), "COMPACTION-4: seed {seed}");
        assert!(keyed.len() <= 9, "one of each key: seed {seed}");
    }
    assert!(after * 5 < before, "{after} of {before}");
}

#[test]
fn of_an_open_transaction_nothing_is_touched_nor_passed() {
    // COMPACTION-2
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    let part = |value: &str, sequence| {
        let mut builder = BatchBuilder::new().producer(20, 0, sequence).transactional(true);
        builder.push(1_000, Some(b"a"), Some(value.as_bytes()), &[]);
        Commit::append(ID, builder.build().unwrap())
    };
    submit(&mut stepper, keyed("a", Some("0"), 1_000));
    submit(&mut stepper, keyed("a", Some("1"), 1_000));
    submit(&mut stepper, part("2", 0));
    submit(&mut stepper, keyed("a", Some("3"), 1_000));
    submit(&mut stepper, keyed("a", Some("4"), 1_000));
    seal(&mut stepper);
    compact(&log, &mut stepper, wish(0));
    assert_eq!(left(&log), [some(1, "1"), some(2, "2"), some(3, "3"), some(4, "4")]);
    submit(&mut stepper, Commit::append(ID, marker(20, false)));
    seal(&mut stepper);
    compact(&log, &mut stepper, wish(1));
    assert_eq!(left(&log), [some(4, "4")]);
    assert_eq!(log.aborted(ID, 0, 9).unwrap().len(), 1, "TXN-2");
}

#[test]
fn a_tombstone_hides_and_goes_when_its_time_is_over() {
    // COMPACTION-4
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for (key, value) in [("a", Some("0")), ("b", Some("1")), ("a", None), ("c", Some("3"))] {
        submit(&mut stepper, keyed(key, value, 1_000));
    }
    seal(&mut stepper);
    compact(&log, &mut stepper, wish(5_000));
    let with = [some(1, "1"), (2, None), some(3, "3")];
    assert_eq!(left(&log), with);
    let since = |log: &Log| log.dirt(ID).unwrap().tombstones_since_ms;
    assert_eq!(since(&log), Some(5_000));
    compact(&log, &mut stepper, wish(5_999));
    assert_eq!(left(&log), with, "it has its time");
    drop((log, stepper));
    let (log, mut stepper) = open(&disk.power_cut(), LogConfig::small());
    assert_eq!(since(&log), Some(5_000), "a start does not forget when it began");
    compact(&log, &mut stepper, wish(6_000));
    assert_eq!((left(&log), since(&log)), (vec![some(1, "1"), some(3, "3")], None));
    assert_eq!(log.partition(ID).unwrap().high_watermark, 4);
}

#[test]
fn young_records_and_all_behind_them_are_left_alone() {
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for (value, timestamp) in [("0", 1_000), ("1", 2_000), ("2", 3_000), ("3", 2_000)] {
        submit(&mut stepper, keyed("a", Some(value), timestamp));
    }
    seal(&mut stepper);
    let before = |before_ms| Compaction { before_ms: Some(before_ms), ..wish(9_000) };
    compact(&log, &mut stepper, before(3_000));
    assert_eq!(left(&log), [some(1, "1"), some(2, "2"), some(3, "3")]);
    assert_eq!(log.dirt(ID).unwrap().from, 2);
    compact(&log, &mut stepper, before(3_001));
    assert_eq!(left(&log), [some(3, "3")]);
}

#[test]
fn with_too_many_keys_a_pass_covers_less() {
    // COMPACTION-6
    let disk = SimDisk::new();
    let config = LogConfig { compaction_keys_max: 3, ..LogConfig::small() };
    let (log, mut stepper) = created(&disk, config);
    for (index, key) in ["a", "b", "a", "c", "d", "a", "b", "c", "d"].iter().enumerate() {
        submit(&mut stepper, keyed(key, Some(&index.to_string()), 1_000));
    }
    seal(&mut stepper);
    let mut passes = 0;
    while log.dirt(ID).unwrap().from < 9 {
        compact(&log, &mut stepper, wish(0));
        passes += 1;
        assert!(passes < 9, "each pass goes on");
    }
    assert!(passes > 1);
    assert_eq!(left(&log), [some(5, "5"), some(6, "6"), some(7, "7"), some(8, "8")]);
}

#[test]
fn one_batch_with_too_many_keys_does_not_stop_it_for_ever() {
    // COMPACTION-6
    let disk = SimDisk::new();
    let config = LogConfig { compaction_keys_max: 3, ..LogConfig::small() };
    let (log, mut stepper) = created(&disk, config);
    submit(&mut stepper, keyed("e", Some("0"), 1_000));
    let mut builder = BatchBuilder::new();
    for key in ["a", "b", "c", "d", "e"] {
        builder.push(1_000, Some(key.as_bytes()), Some(b"1"), &[]);
    }
    submit(&mut stepper, Commit::append(ID, builder.build().unwrap()));
    submit(&mut stepper, keyed("a", Some("6"), 1_000));
    seal(&mut stepper);
    for pass in 0.. {
        if log.dirt(ID).unwrap().from == 7 {
            break;
        }
        assert!(pass < 7, "each pass goes on");
        compact(&log, &mut stepper, wish(0));
    }
    let expected = [some(2, "1"), some(3, "1"), some(4, "1"), some(5, "1"), some(6, "6")];
    assert_eq!(left(&log), expected);
}

#[test]
fn what_is_called_off_is_not_done() {
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for value in ["0", "1"] {
        submit(&mut stepper, keyed("a", Some(value), 1_000));
    }
    seal(&mut stepper);
    log.compact([(ID, wish(0))]);
    log.call_off_compaction(&[OTHER]);
    log.call_off_compaction(&[ID]);
    stepper.checkpoint().unwrap();
    assert_eq!(left(&log), [some(0, "0"), some(1, "1")]);
}

/// It would have to be held whole.
#[test]
fn a_batch_that_is_too_large_to_be_taken_apart_stays_with_its_partition() {
    // COMPACTION-5
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    submit(&mut stepper, keyed("a", Some("0"), 1_000));
    let zeros = vec![0; COMPACTED_BYTES_MAX as usize];
    let mut bomb = BatchBuilder::new().compression(Compression::Zstd);
    bomb.push(1_000, Some(b"b"), Some(&zeros), &[]);
    submit(&mut stepper, Commit::append(ID, bomb.build().unwrap()));
    submit(&mut stepper, keyed("a", Some("2"), 1_000));
    seal(&mut stepper);
    compact(&log, &mut stepper, wish(0));
    assert_eq!(log.dirt(ID).unwrap().from, 0, "nothing is compacted");
    assert_eq!(records_of(&log.read(ID, 0, 1).unwrap().batches[0])[0].2.as_deref(), Some("0"));
}

#[test]
fn a_batch_that_does_not_verify_stops_it_and_stays() {
    // COMPACTION-5
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for value in ["first", "second", "third"] {
        submit(&mut stepper, keyed("a", Some(value), 1_000));
    }
    seal(&mut stepper);
    stepper.checkpoint().unwrap();
    let cold = disk.paths().into_iter().find(|it| it.extension().is_some_and(|it| it == "cold"));
    let cold = cold.unwrap();
    let bytes = disk.bytes(&cold).unwrap();
    let at = bytes.windows(6).position(|it| it == b"second").unwrap() as u64;
    disk.damage(&cold, at, b"!").unwrap();
    compact(&log, &mut stepper, wish(0));
    assert_eq!(log.dirt(ID).unwrap().from, 0, "nothing is compacted");
    assert!(log.read(ID, 1, 1).is_err(), "what is damaged is told, and not passed over");
    for (offset, value) in [(0, "first"), (2, "third")] {
        let slice = log.read(ID, offset, 1).unwrap();
        assert_eq!(records_of(&slice.batches[0])[0].2.as_deref(), Some(value));
    }
    // Everything else still moves.
    seal(&mut stepper);
    stepper.checkpoint().unwrap();
}

/// Two partitions with an older and a newer record of one key each, all of it in a cold file.
fn two_keyed(config: &LogConfig) -> SimDisk {
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, config.clone());
    submit(&mut stepper, create(OTHER, FlushPolicy::Commit));
    for id in BOTH {
        for value in ["0", "1"] {
            let mut builder = BatchBuilder::new();
            builder.push(1_000, Some(b"a"), Some(value.repeat(LONG).as_bytes()), &[]);
            submit(&mut stepper, Commit::append(id, builder.build().unwrap()));
        }
    }
    end_segment(&log, &mut stepper);
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    disk.power_cut()
}

const OTHER: PartitionId = PartitionId(3);
const BOTH: [PartitionId; 2] = [ID, OTHER];
/// Longer than what is read ahead: a read that fails is not made good by another.
const LONG: usize = 140 << 10;

/// Which of the two are compacted; of each the newer record must be there, and before it either
/// the older one or nothing.
fn compacted(log: &Log, hint: &str) -> [bool; 2] {
    BOTH.map(|id| {
        let value = |offset| {
            let slice = log.read(id, offset, 1).unwrap();
            let records = records_of(&slice.batches[0]);
            records.first().and_then(|record| record.2.clone())
        };
        let is_done = log.dirt(id).unwrap().from > 0;
        assert_eq!(value(0), (!is_done).then(|| "0".repeat(LONG)), "{hint}");
        assert_eq!(value(1), Some("1".repeat(LONG)), "{hint}");
        is_done
    })
}

/// The trap: a pass reads a partition twice, and what fails the second time ended all moving.
#[test]
fn a_read_that_fails_ends_neither_the_moving_nor_what_else_is_compacted() {
    // COMPACTION-5, MOVE-3
    let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::small() };
    let prepared = two_keyed(&config);
    let mut passed_over = 0;
    for at in 0.. {
        let disk = prepared.power_cut();
        let (log, mut stepper) = open(&disk, config.clone());
        log.compact(BOTH.map(|id| (id, wish(0))));
        disk.inject(Fault::call(at));
        let moved = stepper.checkpoint();
        let was_struck = disk.was_struck();
        disk.heal();
        let hint = format!("call {at}: {moved:?}");
        let done = compacted(&log, &hint);
        if let Err(error) = moved {
            let is_read = error.contains("damage") || error.contains("compacted");
            assert!(!is_read, "{hint}: only what is written may end it");
            continue;
        }
        assert!(done.contains(&true), "{hint}: none is compacted");
        passed_over += usize::from(done.contains(&false));
        end_segment(&log, &mut stepper);
        stepper.checkpoint().unwrap_or_else(|error| panic!("{hint}, then {error}"));
        if !was_struck {
            break;
        }
    }
    // The first batch of each is read for the plan, and once more; what fails behind it is asked
    // for again, and comes.
    assert!(passed_over >= 4, "{passed_over}");
}

#[test]
fn what_is_begun_anew_is_still_compacted() {
    let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::small() };
    let disk = two_keyed(&config);
    let (log, mut stepper) = open(&disk, config);
    let (large, small) = (PartitionId(4), PartitionId(5));
    for (id, value) in [(large, "most"), (small, "rest")] {
        submit(&mut stepper, create(id, FlushPolicy::Commit));
        let length = if id == large { LONG } else { 1_000 };
        submit(&mut stepper, support::append(id, &[&value.repeat(length)]));
    }
    end_segment(&log, &mut stepper);
    stepper.checkpoint().unwrap();
    // Of one cold file there is so little left that the rest is to be copied, and that is damaged.
    let is_hit = |path: &PathBuf| {
        let bytes = disk.bytes(path).unwrap();
        bytes.windows(8).position(|it| it == b"restrest").map(|at| (path.clone(), at as u64))
    };
    let is_cold = |path: &PathBuf| path.extension().is_some_and(|it| it == "cold");
    let (path, at) = disk.paths().iter().filter(|it| is_cold(it)).find_map(is_hit).unwrap();
    disk.damage(&path, at, b"!").unwrap();
    submit(&mut stepper, Commit::partition(PartitionChange::Delete { id: large }));
    log.compact(BOTH.map(|id| (id, wish(0))));
    stepper.checkpoint().unwrap();
    assert_eq!(compacted(&log, "begun anew"), [true, true]);
    assert!(disk.bytes(&path).is_ok(), "MOVE-3");
}

#[test]
fn what_nobody_asks_to_compact_stays_byte_for_byte() {
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for index in 0..30 {
        submit(&mut stepper, keyed("a", Some(&index.to_string()), 1_000));
    }
    seal(&mut stepper);
    let neighbour = || log.read(support::P2, 0, 1 << 20).unwrap().batches;
    let before = (read_all(&log), neighbour());
    stepper.checkpoint().unwrap();
    assert_eq!(read_all(&log), before.0);
    // And of a neighbour that is compacted, the others.
    compact(&log, &mut stepper, wish(0));
    assert_eq!(left(&log), [some(29, "29")]);
    assert!(neighbour() == before.1);
    let filler = &read_all(&log)[0];
    let header = BatchHeader::parse(&filler.bytes).unwrap();
    assert_eq!((filler.bytes.len(), header.record_count, header.last_offset()), (61, 0, 28));
}

#[test]
fn what_is_left_expires_and_a_hole_is_of_no_time() {
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for (key, timestamp) in [("a", 9_000), ("a", 9_001), ("a", 2_000), ("b", 3_000)] {
        submit(&mut stepper, keyed(key, Some("v"), timestamp));
    }
    seal(&mut stepper);
    compact(&log, &mut stepper, wish(0));
    let highest = log.max_timestamp(ID, 0).unwrap().unwrap();
    assert_eq!((highest.base_offset, highest.max_timestamp), (3, 3_000));
    assert_eq!(log.expired(ID, Some(3_000), None), Some(0), "one entry of the index");
    assert_eq!(log.expired(ID, Some(3_001), None), Some(4));
    let found = log.offset_for_timestamp(ID, 2_500).unwrap().unwrap();
    assert_eq!(found.base_offset, 3);
}

#[test]
fn a_segment_that_is_not_full_can_be_ended_for_it() {
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for value in ["0", "1"] {
        submit(&mut stepper, keyed("a", Some(value), 1_000));
    }
    compact(&log, &mut stepper, wish(0));
    let both = [some(0, "0"), some(1, "1")];
    assert_eq!(left(&log), both, "the last segment is left alone");
    assert_eq!(log.dirt(ID).unwrap().unsealed_from, Some(0));
    for _ in 0..2 {
        end_segment(&log, &mut stepper);
    }
    let dirt = log.dirt(ID).unwrap();
    assert_eq!((dirt.unsealed_from, dirt.from, dirt.clean_bytes), (None, 0, 0));
    compact(&log, &mut stepper, wish(0));
    assert_eq!(left(&log), [some(1, "1")]);
    submit(&mut stepper, keyed("a", Some("2"), 1_000));
    drop((log, stepper));
    let (log, _stepper) = open(&disk.power_cut(), LogConfig::small());
    assert_eq!(left(&log), [some(1, "1"), some(2, "2")]);
}

#[test]
fn room_is_given_back() {
    let disk = SimDisk::new();
    let (log, mut stepper) = created(&disk, LogConfig::small());
    for index in 0..300 {
        let text = format!("{index} {}", "x".repeat(2_000));
        submit(&mut stepper, keyed(&format!("{}", index % 5), Some(&text), 1_000));
    }
    seal(&mut stepper);
    let cold = || -> Vec<usize> {
        let paths = disk.paths();
        let files = paths.iter().filter(|path| path.extension().is_some_and(|it| it == "cold"));
        files.map(|path| disk.bytes(path).unwrap().len()).collect()
    };
    stepper.checkpoint().unwrap();
    let before = cold();
    compact(&log, &mut stepper, wish(0));
    // The next move drops what is not wanted any more.
    stepper.checkpoint().unwrap();
    let (before, after): (usize, usize) = (before.iter().sum(), cold().iter().sum());
    assert!(after * 2 < before, "{:?}, {after} of {before}", cold());
    assert_eq!(left(&log).len(), 5);
}
