//! What cannot be read and was given up by a person does not hold up the rest: readers go on
//! behind it, appends work again, committed readers as well. What can be read cannot be given up.
//! (ACCEPT-1, ACCEPT-2, ACCEPT-3, READ-4)

use crate::support;

use std::path::{Path, PathBuf};

use lossproof_env::SimDisk;
use lossproof_log::{
    AcceptError, Commit, FlushPolicy, Log, LogConfig, Loss, OffsetRange, PartitionChange,
    PartitionId, PartitionRange, ReadError, RecoveryReport, StateKind, Stepper,
};
use support::{P1, P2, accept, append, create, look, only, open, simulated, values_of};

const DATA: &str = "/data";

fn open_with(disk: &SimDisk, config: LogConfig) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&simulated(disk), Path::new(DATA), config).unwrap()
}

fn record(index: usize) -> String {
    format!("record {index} {}", "x".repeat(3_000))
}

/// Some segments; record `n` has offset `n` in both partitions.
fn sample(records: usize) -> SimDisk {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    for index in 0..records {
        let commits = vec![
            append(P1, &[&record(index)]),
            append(P2, &["b"]),
            Commit::state(StateKind::Offsets, "group", Some(index.to_string().into())),
        ];
        assert!(stepper.submit(commits).iter().all(Result::is_ok));
        stepper.zero();
    }
    stepper.close().unwrap();
    disk
}

fn file(disk: &SimDisk, extension: &str) -> PathBuf {
    let named = |path: &PathBuf| path.extension().is_some_and(|it| it == extension);
    disk.paths().into_iter().find(named).unwrap()
}

/// Flips a bit of record `index` of the first partition, wherever it stands.
fn spoil(disk: &SimDisk, index: usize) {
    write_over(disk, &format!("record {index} xxx"), b'R');
}

/// Flips it back.
fn mend(disk: &SimDisk, index: usize) {
    write_over(disk, &format!("Record {index} xxx"), b'r');
}

fn write_over(disk: &SimDisk, wanted: &str, first: u8) {
    for path in disk.paths() {
        let bytes = disk.bytes(&path).unwrap();
        if let Some(at) = bytes.windows(wanted.len()).position(|it| it == wanted.as_bytes()) {
            return disk.damage(&path, at as u64, &[first]).unwrap();
        }
    }
    panic!("{wanted} is nowhere");
}

fn lost(partition: PartitionId, first: i64, last: i64) -> Loss {
    Loss::Offsets(PartitionRange { partition, range: OffsetRange { first, last } })
}

/// All records as a reader gets them that goes from slice to slice.
fn read_on(log: &Log, id: PartitionId) -> Vec<i64> {
    let mut offsets = Vec::new();
    let mut next = 0;
    loop {
        let slice = log.read(id, next, 1 << 20).unwrap();
        let Some(last) = slice.batches.last() else { return offsets };
        next = last.last_offset + 1;
        offsets.extend(slice.batches.iter().flat_map(values_of).map(|(offset, _)| offset));
    }
}

fn is_clean(disk: &SimDisk) -> bool {
    let report = look(disk);
    !report.is_damaged() && report.lost.is_empty()
}

#[test]
fn readers_go_on_behind_it_for_good() {
    let disk = sample(30);
    spoil(&disk, 4);
    let (log, mut stepper, report) = open(&disk);
    assert_eq!(report.damage.len(), 1);
    assert!(matches!(log.read(P1, 4, 1), Err(ReadError::Damaged { .. })));
    accept(&log, &mut stepper, vec![lost(P1, 4, 4)]).unwrap();
    let expected: Vec<i64> = (0..30).filter(|offset| *offset != 4).collect();
    assert_eq!(read_on(&log, P1), expected);
    // READ-4: one slice ends in front of it, the next begins behind it.
    assert_eq!(log.read(P1, 2, 1 << 20).unwrap().batches.len(), 2);
    assert_eq!(log.read(P1, 4, 1).unwrap().batches[0].base_offset, 5);
    drop((log, stepper));
    // ACCEPT-2: after a power cut, and when it is in the checkpoint instead of the journal.
    let disk = disk.power_cut();
    let (log, mut stepper, report) = open(&disk);
    assert!(report.damage.is_empty() && report.accepted.len() == 1, "{report:?}");
    assert_eq!(read_on(&log, P1), expected);
    stepper.checkpoint().unwrap();
    assert_eq!(read_on(&log, P1), expected);
    drop((log, stepper));
    let disk = disk.power_cut();
    assert!(is_clean(&disk));
    let (log, mut stepper, report) = open(&disk);
    assert!(report.damage.is_empty(), "{report:?}");
    assert_eq!(read_on(&log, P1), expected);
    assert_eq!(log.partition(P1).unwrap().accepted, [OffsetRange { first: 4, last: 4 }]);
    // Retention steps over it, and then it is forgotten.
    let start = log.expired(P1, None, Some(0)).unwrap();
    assert_eq!(start, 30);
    let change = PartitionChange::LogStart { id: P1, offset: start };
    stepper.submit(vec![Commit::partition(change)]).remove(0).unwrap();
    assert!(log.partition(P1).unwrap().accepted.is_empty());
}

/// ACCEPT-1. The trap: a batch of which the front was deleted keeps the name of the whole, which a
/// check tells; it cannot be read from there any more.
#[test]
fn what_is_deleted_in_part_is_given_up_by_its_name() {
    // Or what is left of it.
    [0, 5].into_iter().for_each(give_up_from);
}

fn give_up_from(first: i64) {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk);
    let values: Vec<String> = (0..10).map(record).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    stepper.submit(vec![append(P1, &values), append(P1, &["kept"])]);
    let change = PartitionChange::LogStart { id: P1, offset: 5 };
    stepper.submit(vec![Commit::partition(change)]).remove(0).unwrap();
    stepper.close().unwrap();
    spoil(&disk, 7);
    let whole = PartitionRange { partition: P1, range: OffsetRange { first: 0, last: 9 } };
    assert_eq!(look(&disk).lost, [whole]);
    let (log, mut stepper, _) = open(&disk);
    let deleted = accept(&log, &mut stepper, vec![lost(P1, 0, 4)]);
    assert!(matches!(deleted, Err(AcceptError::NeverGiven { .. })), "{deleted:?}");
    accept(&log, &mut stepper, vec![lost(P1, first, 9)]).unwrap();
    assert_eq!(log.read(P1, 5, 1).unwrap().batches[0].base_offset, 10);
    stepper.close().unwrap();
    assert!(is_clean(&disk), "from {first} on");
}

/// Nobody can give up offsets of a partition that is not known: they are given up with the entries
/// among which its creation was.
#[test]
fn a_partition_of_which_the_creation_is_lost_is_given_up_with_the_topics() {
    let disk = sample(9);
    let creation = [&[1][..], &[P2.0 as u8; 16]].concat();
    let path = file(&disk, "wal");
    let bytes = disk.bytes(&path).unwrap();
    let at = bytes.windows(creation.len()).position(|it| it == creation).unwrap();
    disk.damage(&path, at as u64, &[9]).unwrap();
    let everything = PartitionRange { partition: P2, range: OffsetRange { first: 0, last: 8 } };
    let report = look(&disk);
    assert!(report.is_damaged() && report.is_unplaced(P2) && !report.is_unplaced(P1));
    assert!(report.lost.contains(&everything), "{report:?}");

    let (log, mut stepper, _) = open(&disk);
    let refused = accept(&log, &mut stepper, vec![lost(P2, 0, 8)]).unwrap_err();
    assert!(matches!(refused, AcceptError::UnknownPartition(P2)), "{refused}");
    accept(&log, &mut stepper, vec![Loss::State(StateKind::Metadata)]).unwrap();
    drop((log, stepper));
    let disk = disk.power_cut();
    let report = look(&disk);
    assert!(!report.is_damaged() && report.lost.is_empty(), "{report:?}");
    assert_eq!(
        (report.accepted, report.accepted_states),
        (vec![everything], vec![StateKind::Metadata])
    );
    let (log, _stepper, report) = open(&disk);
    assert!(report.damage.is_empty() && report.accepted.len() == 2, "{report:?}");
    assert_eq!(read_on(&log, P1).len(), 9);
}

#[test]
fn what_can_be_read_cannot_be_given_up() {
    // ACCEPT-1
    let disk = sample(9);
    spoil(&disk, 4);
    let (log, mut stepper, _) = open(&disk);
    let before = disk.position();
    let mut refused = |loss| accept(&log, &mut stepper, vec![lost(P1, 4, 4), loss]).unwrap_err();
    assert!(matches!(refused(lost(P1, 3, 4)), AcceptError::Readable { offset: 3, .. }));
    assert!(matches!(refused(lost(P1, 4, 5)), AcceptError::Readable { offset: 5, .. }));
    assert!(matches!(refused(lost(P2, 4, 4)), AcceptError::Readable { .. }));
    assert!(matches!(refused(lost(P1, 9, 12)), AcceptError::NeverGiven { .. }));
    assert!(matches!(refused(lost(P1, 5, 4)), AcceptError::NoRange(_)));
    assert!(matches!(refused(lost(PartitionId(9), 0, 1)), AcceptError::UnknownPartition(_)));
    assert!(matches!(refused(Loss::State(StateKind::Offsets)), AcceptError::StateWhole(_)));
    assert_eq!(disk.position(), before, "all or none");
    assert!(matches!(log.read(P1, 4, 1), Err(ReadError::Damaged { .. })));
}

#[test]
fn damage_of_a_cold_file_is_given_up_as_well() {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    for index in 0..90 {
        // Ten of them in the first partition.
        let id = if index < 10 { P1 } else { P2 };
        assert!(stepper.submit(vec![append(id, &[&record(index)])])[0].is_ok());
        stepper.zero();
    }
    stepper.checkpoint().unwrap();
    stepper.close().unwrap();
    spoil(&disk, 4);
    let before = file(&disk, "cold");
    assert!(disk.bytes(&before).unwrap().windows(8).any(|it| it == b"Record 4"));
    let (log, mut stepper, report) = open(&disk);
    assert!(report.is_sound(), "a start does not look there");
    accept(&log, &mut stepper, vec![lost(P1, 4, 4)]).unwrap();
    let expected = [0, 1, 2, 3, 5, 6, 7, 8, 9];
    assert_eq!(read_on(&log, P1), expected);
    // Also where it can be read again: what was given up stays so.
    mend(&disk, 4);
    assert_eq!(log.read(P1, 2, 1 << 20).unwrap().batches.len(), 2, "READ-4");
    assert_eq!(read_on(&log, P1), expected);
    spoil(&disk, 4);
    stepper.close().unwrap();
    assert!(is_clean(&disk), "it is no news any more");
    // Most of the file is not wanted any more: the rest is copied, without what is lost.
    let (log, mut stepper, _) = open(&disk);
    let deletion = Commit::partition(PartitionChange::Delete { id: P2 });
    stepper.submit(vec![deletion]).remove(0).unwrap();
    stepper.checkpoint().unwrap();
    assert_ne!(file(&disk, "cold"), before);
    assert_eq!(read_on(&log, P1), expected);
    stepper.close().unwrap();
    assert!(is_clean(&disk));
    let (log, _stepper, report) = open(&disk);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(read_on(&log, P1), expected);
    assert_eq!(log.read(P1, 4, 1).unwrap().batches[0].base_offset, 5);
}

#[test]
fn a_partition_whose_end_is_lost_goes_on_behind_what_was_given_up() {
    // ACCEPT-3
    let disk = sample(30);
    let is_used = |path: &PathBuf| disk.bytes(path).unwrap().starts_with(b"LPSEGMT");
    let last = disk.paths().into_iter().rfind(is_used).unwrap();
    simulated(&disk).disk.remove(&last).unwrap();
    let (log, mut stepper, _) = open(&disk);
    assert!(log.fenced().is_some(), "the end is missing");
    let end = log.partition(P1).unwrap().high_watermark;
    let refused = accept(&log, &mut stepper, vec![lost(P1, end, 99)]).unwrap_err();
    assert!(matches!(refused, AcceptError::Commit(_)), "{refused}");
    drop((log, stepper));
    let decided = LogConfig { accept_lost_end: true, ..LogConfig::small() };
    let (log, mut stepper, _) = open_with(&disk, decided);
    assert_eq!(log.fenced(), None);
    let end = log.partition(P1).unwrap().high_watermark;
    assert!(end < 30);
    assert!(stepper.submit(vec![append(P1, &["new"])])[0].is_err(), "its end is not known");
    let refused = accept(&log, &mut stepper, vec![lost(P1, end + 1, 99)]).unwrap_err();
    assert!(matches!(refused, AcceptError::NeverGiven { .. }), "a hole would stay: {refused}");
    accept(&log, &mut stepper, vec![lost(P1, end, 99)]).unwrap();
    let done = stepper.submit(vec![append(P1, &["new"])]).remove(0).unwrap();
    assert_eq!(only(&done).base_offset, 100);
    assert!(stepper.submit(vec![append(P2, &["new"])])[0].is_err(), "that one was not given up");
    assert!(log.state_is_damaged(StateKind::Offsets));
    let kinds = StateKind::ALL.map(Loss::State).to_vec();
    accept(&log, &mut stepper, kinds).unwrap();
    assert!(!log.state_is_damaged(StateKind::Offsets));
    drop((log, stepper));
    // All of that holds at the next starts, although the frames are missing there again.
    let mut disk = disk.killed();
    for _ in 0..2 {
        let (log, mut stepper, report) = open(&disk);
        assert_eq!(log.fenced(), None);
        assert!(!report.damage.is_empty(), "the other partition's end is still lost");
        assert_eq!(log.read(P1, end, 1).unwrap().batches[0].base_offset, 100);
        assert!(stepper.submit(vec![append(P1, &["more"])])[0].is_ok());
        assert!(stepper.submit(vec![append(P2, &["new"])])[0].is_err());
        for kind in StateKind::ALL {
            assert!(!log.state_is_damaged(kind), "{kind:?}");
        }
        stepper.checkpoint().unwrap();
        drop((log, stepper));
        disk = disk.killed();
    }
    let (log, mut stepper, _) = open(&disk);
    let end = log.partition(P2).unwrap().high_watermark;
    accept(&log, &mut stepper, vec![lost(P2, end, 99)]).unwrap();
    assert!(stepper.submit(vec![append(P2, &["new"])])[0].is_ok());
    stepper.close().unwrap();
    let (_log, _stepper, report) = open(&disk);
    assert!(report.damage.is_empty(), "{report:?}");
}

/// The trap: of the end nothing is known, not even that there were frames, and the start at which
/// it is given up was the last one to know that it is lost.
#[test]
fn an_end_that_was_given_up_stays_lost_where_no_frame_of_it_is_known() {
    // ACCEPT-3, RECOVERY-4
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    let last_used = |disk: &SimDisk| {
        let is_used = |path: &PathBuf| disk.bytes(path).unwrap().starts_with(b"LPSEGMT");
        disk.paths().into_iter().rfind(is_used).unwrap()
    };
    let first = last_used(&disk);
    for index in 0.. {
        stepper.submit(vec![append(P1, &[&record(index)])]).remove(0).unwrap();
        stepper.zero();
        if last_used(&disk) != first {
            break;
        }
    }
    let given = stepper.reserve_producer_ids(10).unwrap();
    drop((log, stepper));
    let disk = disk.killed();
    simulated(&disk).disk.remove(&last_used(&disk)).unwrap();
    simulated(&disk).disk.sync_dir(first.parent().unwrap()).unwrap();
    let decided = LogConfig { accept_lost_end: true, ..LogConfig::small() };
    let begin = disk.position();
    drop(open_with(&disk, decided.clone()));
    let (recording, end) = (disk.recording(), disk.position());
    for position in begin..=end {
        let image = recording.synced(position);
        // At all moments but the last it may have to be decided again.
        let config = if position == end { LogConfig::small() } else { decided.clone() };
        let mut ids = given.first + 9;
        for (start, config) in [config, LogConfig::small()].into_iter().enumerate() {
            let hint = format!("position {position} of {begin} to {end}, start {start}");
            let (log, mut stepper, report) = open_with(&image, config);
            assert_eq!(log.fenced(), None, "{hint}");
            assert!(!report.damage.is_empty(), "{hint}");
            assert!(stepper.submit(vec![append(P1, &["new"])])[0].is_err(), "{hint}");
            let next = stepper.reserve_producer_ids(1).unwrap().first;
            assert!(next > ids, "{hint}: {next} may have been given: {ids} was");
            ids = next;
            if position == end || position == begin {
                let id = log.unused_partition_id();
                stepper.submit(vec![create(id, FlushPolicy::Commit)]).remove(0).unwrap();
                for index in 0..30 {
                    stepper.submit(vec![append(id, &[&record(index)])]).remove(0).unwrap();
                    stepper.zero();
                }
                stepper.checkpoint().unwrap_or_else(|error| panic!("{hint}: {error}"));
            }
        }
    }
}
