//! Acknowledged data that decays on the disk: whatever byte is hit, each acknowledged record is
//! either read back as it was or is in a range that is reported and answered as an error. Nothing
//! is cut, nothing is skipped in silence, no offset is given twice, and what could not be used is
//! kept when its segment is given back. (RECOVERY-1, RECOVERY-4, READ-1, READ-2, MOVE-3)

use crate::support;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lossproof_env::{Clock, Disk, Environment, Fault, ManualClock, SimDisk};
use lossproof_log::{
    Commit, CommitCause, FenceCause, Finding, FindingKind, FlushPolicy, Log, LogConfig, OpenError,
    PartitionId, ReadError, RecoveryReport, StateKind, Stepper,
};
use support::{P1, P2, append, create, simulated, values};

const DATA: &str = "/data";

fn open(disk: &SimDisk) -> Result<(Log, Stepper, RecoveryReport), OpenError> {
    Log::open_stepped(&simulated(disk), Path::new(DATA), LogConfig::small())
}

/// A log of two segments with two partitions and a committed offset, closed in order: record `n`
/// of each partition is `p<id>-<n>`.
fn sample(records: i64) -> SimDisk {
    let (disk, stepper) = running(records);
    stepper.close().unwrap();
    disk
}

/// The same log, still at work: its mark is as old as its last segment.
fn running(records: i64) -> (SimDisk, Stepper) {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk).unwrap();
    let mut commits = vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)];
    stepper.submit(std::mem::take(&mut commits));
    for n in 0..records {
        let outcomes = stepper.submit(vec![
            append(P1, &[&record(1, n)]),
            append(P2, &[&record(2, n)]),
            Commit::state(StateKind::Offsets, "group", Some(Bytes::from(n.to_string()))),
        ]);
        assert!(outcomes.iter().all(Result::is_ok));
    }
    (disk, stepper)
}

/// The same log after its process was killed under load.
fn killed(records: i64) -> SimDisk {
    running(records).0.killed()
}

fn record(partition: u64, n: i64) -> String {
    format!("p{partition}-{n}-{}", "x".repeat(1500 * usize::from(n % 3 == 0)))
}

fn segment(sequence: u64) -> PathBuf {
    Path::new(DATA).join(format!("journal/{sequence:016}.wal"))
}

/// Each acknowledged record is as it was, or in a range that is reported. Gives the number of
/// those that are lost.
fn judge(log: &Log, report: &RecoveryReport, records: i64, hint: &str) -> i64 {
    let mut lost = 0;
    for (id, number) in [(P1, 1), (P2, 2)] {
        let Some(view) = log.partition(id) else {
            // The partition's own creation was hit: its records are unreadable as a whole.
            for n in 0..records {
                assert!(is_named(report, id, n), "{hint}: {n} of {id} in silence: {report:?}");
            }
            lost += records;
            continue;
        };
        for offset in 0..records {
            match log.read(id, offset, 1) {
                Ok(slice) if !slice.batches.is_empty() => {
                    let found = support::values_of(&slice.batches[0]);
                    assert_eq!(found, [(offset, record(number, offset))], "{hint}");
                }
                result => {
                    lost += 1;
                    let reported = view.damaged.iter().any(|range| range.contains(offset));
                    assert!(reported, "{hint}: offset {offset} of {id} is missing: {result:?}");
                    assert!(!report.damage.is_empty(), "{hint}");
                    if offset < view.high_watermark {
                        let is_error = matches!(result, Err(ReadError::Damaged { .. }));
                        assert!(is_error, "VIEW-3: {hint}");
                    }
                }
            }
        }
    }
    let known = log.state_value(StateKind::Offsets, b"group");
    if known != Some(Bytes::from((records - 1).to_string())) {
        assert!(log.state_is_damaged(StateKind::Offsets), "{hint}: an old offset passes for good");
    }
    lost
}

/// Whether a report tells of record `n` of a partition, by its offset or at least its frame, where
/// there is anything to tell that from: not of a segment that is gone, nor once a checkpoint has
/// replaced what was found.
fn is_named(report: &RecoveryReport, id: PartitionId, n: i64) -> bool {
    // The first frame has created the partitions.
    let number = n as u64 + 2;
    report.damage.iter().any(|finding| match finding.kind {
        FindingKind::FramesLost => (finding.first_frame..=finding.last_frame).contains(&number),
        FindingKind::DamagedBefore | FindingKind::SegmentMissing => true,
        _ => finding.partitions.iter().any(|it| it.partition == id && it.range.contains(n)),
    })
}

/// New records get offsets above all that were ever acknowledged, or are refused.
fn judge_appends(log: &Log, stepper: &mut Stepper, records: i64, hint: &str) {
    for id in [P1, P2] {
        match stepper.submit(vec![append(id, &["new"])]).remove(0) {
            Ok(committed) => {
                let offset = support::only(&committed).base_offset;
                assert!(offset >= records, "{hint}: offset {offset} of {id} was given before");
                assert_eq!(values(log, id, offset), [(offset, "new".to_owned())], "{hint}");
            }
            Err(error) => assert!(
                matches!(
                    error.cause,
                    CommitCause::Fenced(_)
                        | CommitCause::Damaged { .. }
                        | CommitCause::UnknownPartition(_)
                ),
                "{hint}: {error}"
            ),
        }
    }
}

fn spoil(disk: &SimDisk, path: &Path, offset: u64, bytes: &[u8], records: i64, hint: &str) -> i64 {
    disk.damage(path, offset, bytes).unwrap();
    judge_opened(disk, records, hint)
}

/// Opens twice, and gives the number of lost records.
fn judge_opened(disk: &SimDisk, records: i64, hint: &str) -> i64 {
    let (log, mut stepper, report) = match open(disk) {
        Ok(opened) => opened,
        Err(error) => panic!("{hint}: {error}"),
    };
    let lost = judge(&log, &report, records, hint);
    judge_appends(&log, &mut stepper, records, hint);
    drop((log, stepper));
    // What was found is found again, and nothing else is lost by it, nor by a move.
    let (log, mut stepper, again) = open(disk).unwrap();
    assert_eq!(judge(&log, &again, records, hint), lost, "{hint}, opened twice");
    if log.fenced().is_none() {
        stepper.checkpoint().unwrap_or_else(|error| panic!("{hint}: {error}"));
        assert_eq!(judge(&log, &again, records, hint), lost, "{hint}, moved");
        drop((log, stepper));
        let (log, _stepper, moved) = open(disk).unwrap();
        assert_eq!(judge(&log, &moved, records, hint), lost, "{hint}, moved and opened");
    }
    lost
}

/// Changes a byte of what is there once.
fn strike(disk: &SimDisk, path: &Path, what: &[u8]) {
    let bytes = disk.bytes(path).unwrap();
    let at = bytes.windows(what.len()).position(|window| window == what).unwrap();
    disk.damage(path, at as u64, &[bytes[at] ^ 1]).unwrap();
}

/// What an entry that creates a partition holds.
fn creation(id: PartitionId) -> Vec<u8> {
    [&[1][..], &[id.0 as u8; 16]].concat()
}

#[test]
fn any_flipped_bit_is_noticed() {
    let records = 7;
    let length = sample(records).bytes(&segment(1)).unwrap().len();
    let mut lost_at_all = 0;
    for offset in (0..length).step_by(37) {
        let disk = sample(records);
        let old = disk.bytes(&segment(1)).unwrap()[offset];
        let flipped = [old ^ (1 << (offset % 8))];
        let hint = format!("bit {} of byte {offset}", offset % 8);
        lost_at_all += spoil(&disk, &segment(1), offset as u64, &flipped, records, &hint);
    }
    assert!(lost_at_all > 0, "not one record was hit: the test does not test");
}

#[test]
fn any_block_of_zeros_is_noticed() {
    let records = 7;
    let length = sample(records).bytes(&segment(1)).unwrap().len() as u64;
    for first in 0..length / 4096 {
        for blocks in [1, 2, 5] {
            let disk = sample(records);
            let count = blocks.min(length / 4096 - first);
            let zeros = vec![0; (count * 4096) as usize];
            let hint = format!("{count} blocks of zeros at block {first}");
            spoil(&disk, &segment(1), first * 4096, &zeros, records, &hint);
        }
    }
}

#[test]
fn a_missing_end_refuses_writes() {
    let records = 7;
    let disk = sample(records);
    let env = simulated(&disk);
    env.disk.remove(&segment(1)).unwrap();
    let (log, mut stepper, report) = open(&disk).unwrap();
    assert!(report.damage.iter().any(|finding| finding.kind == FindingKind::FramesLost));
    assert_eq!(log.fenced().map(|fenced| fenced.cause), Some(FenceCause::EndLost));
    judge(&log, &report, records, "segment 1 missing");
    let refused = stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0);
    let cause = refused.unwrap_err().cause;
    assert!(matches!(cause, CommitCause::Fenced(_)));
    let text = cause.to_string();
    assert!(text.contains("restore") && !text.contains("reopen"), "it does not help: {text}");
    // Opening again finds the same; the gap does not heal by itself.
    drop((log, stepper));
    let (log, _stepper, _) = open(&disk).unwrap();
    assert_eq!(log.fenced().map(|fenced| fenced.cause), Some(FenceCause::EndLost));
}

#[test]
fn a_missing_segment_in_use_is_noticed_though_no_mark_tells_of_its_frames() {
    for (records, last, has_spare) in [(7, 1, false), (30, 3, false), (30, 3, true)] {
        let disk = killed(records);
        simulated(&disk).disk.remove(&segment(last)).unwrap();
        if has_spare {
            // What the thread that writes zeros had ready: no sign that the journal went on.
            disk.create(&segment(last + 1)).unwrap().preallocate(32 << 10).unwrap();
        }
        for open_number in 1..4 {
            let hint = format!("segment {last} missing, open {open_number}");
            let (log, mut stepper, report) = open(&disk).unwrap();
            let is_named = |finding: &Finding| finding.segment == last;
            assert!(report.damage.iter().any(is_named), "{hint}: {report:?}");
            assert_eq!(log.fenced().map(|it| it.cause), Some(FenceCause::EndLost), "{hint}");
            judge(&log, &report, records, &hint);
            judge_appends(&log, &mut stepper, records, &hint);
        }
    }
}

/// RECOVERY-5. The trap: a start that makes a segment behind the end that it does not see, and then
/// takes what comes back for what was cut.
#[test]
fn an_end_that_comes_back_is_served_again() {
    for is_missing in [true, false] {
        come_back(is_missing, None);
        // Given up, by a start that comes to nothing: that has given up nothing.
        let vain = (0..100).take_while(|sync| come_back(is_missing, Some(*sync))).count();
        assert!(vain > 2 && vain < 100, "missing: {is_missing}: the mark, and the segment");
    }
}

/// False: the end is given up, since the next segment has begun when that fails, if at all.
fn come_back(is_missing: bool, gives_up: Option<u64>) -> bool {
    let hint = format!("missing: {is_missing}, given up: {gives_up:?}");
    let records = 30;
    let disk = killed(records);
    let bytes = disk.bytes(&segment(3)).unwrap();
    if is_missing {
        disk.remove(&segment(3)).unwrap();
    } else {
        disk.make_unreadable(&segment(3), 0..bytes.len() as u64).unwrap();
    }
    for _ in 0..2 {
        let (log, _stepper, report) = open(&disk).unwrap();
        assert_eq!(log.fenced().map(|it| it.cause), Some(FenceCause::EndLost), "{hint}");
        assert!(judge(&log, &report, records, &hint) > 0, "{hint}");
    }
    if let Some(sync) = gives_up {
        disk.inject(Fault::sync(sync));
        let config = LogConfig { accept_lost_end: true, ..LogConfig::small() };
        let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), config);
        let is_used = |path: &PathBuf| disk.bytes(path).unwrap().iter().any(|byte| *byte != 0);
        let is_later = |path: &PathBuf| {
            path.extension().is_some_and(|it| it == "wal") && *path > segment(3) && is_used(path)
        };
        let begun = disk.paths().iter().any(is_later);
        if opened.is_ok() || begun {
            return false;
        }
    }
    disk.heal();
    if is_missing {
        disk.create(&segment(3)).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    let (log, mut stepper, report) = open(&disk).unwrap();
    assert!(report.is_sound(), "{hint}: {report:?}");
    assert_eq!(judge(&log, &report, records, &hint), 0, "{hint}");
    judge_appends(&log, &mut stepper, records, &hint);
    assert_eq!(log.fenced(), None, "{hint}");
    true
}

/// Time passes with each look at it.
#[derive(Debug)]
struct Passing {
    clock: ManualClock,
    step: Duration,
}

impl Clock for Passing {
    fn monotonic(&self) -> Duration {
        self.clock.advance(self.step);
        self.clock.monotonic()
    }

    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.clock.sleep(duration)
    }

    fn sleep_blocking(&self, duration: Duration) {
        self.clock.sleep_blocking(duration);
    }
}

/// MARK-3. The trap: each frame tells of the one before it, and the last ones are all gone; also
/// where all of them were committed in one step.
#[test]
fn what_was_durable_for_a_while_is_known_for_that_though_all_behind_it_is_damaged() {
    [true, false].into_iter().for_each(check_marks);
}

/// MARK-3. The trap: the log stands still, and the newer slot alone knows its last frame.
#[test]
fn what_was_durable_for_a_while_is_known_for_that_though_a_slot_is_lost_with_it() {
    for slot in ["mark.0", "mark.1"] {
        for is_missing in [true, false] {
            let disk = SimDisk::new();
            let (_log, mut stepper, _) = open(&disk).unwrap();
            stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
            stepper.submit(vec![append(P1, &["the last"])]).remove(0).unwrap();
            stepper.mark();
            let (path, at) = support::place_of(&disk, b"the last");
            disk.damage(&path, at as u64 / 4096 * 4096, &[0; 4096]).unwrap();
            let slot = Path::new(DATA).join("journal").join(slot);
            if is_missing {
                disk.remove(&slot).unwrap();
            } else {
                disk.damage(&slot, 0, &[0; 4096]).unwrap();
            }
            let (_log, _stepper, report) = open(&disk.killed()).unwrap();
            let is_told = report.damage.iter().any(|it| it.kind == FindingKind::FramesLost);
            assert!(is_told, "{slot:?}, missing: {is_missing}: {report:?}");
        }
    }
}

const MARKED: u32 = 20;

fn check_marks(at_once: bool) {
    // The step ends when its last sync fails: what comes behind it tells of nothing.
    let fails_at_last = |sync: &u64| submitted(at_once, Some(*sync)).1 + 1 == MARKED as usize;
    let sync = at_once.then(|| (0..100).find(fails_at_last).expect("the last one is met"));
    for first in 1..MARKED {
        let hint = format!("at once: {at_once}, from record {first} on");
        let (disk, acknowledged) = submitted(at_once, sync);
        let place = |n: u32| support::place_of(&disk, format!("record {n}.").as_bytes()).1 as u64;
        let mut blocks: Vec<u64> =
            (0..acknowledged as u32).map(|n| place(n) / 4096 * 4096).collect();
        assert!(blocks.windows(2).all(|it| it[0] + 4096 == it[1]), "each in a frame of its own");
        // Where the last one may stand, which was refused.
        blocks.extend(blocks.last().map(|last| last + 4096));
        for at in &blocks[first as usize..] {
            disk.damage(&segment(1), *at, &[0; 4096]).unwrap();
        }
        let (_log, _stepper, report) = open(&disk).unwrap();
        // The last mark is of when the last but five were durable, or later.
        let is_named = report.damage.iter().any(|it| it.kind == FindingKind::FramesLost);
        assert!(is_named || first + 6 >= MARKED, "{hint}: {report:?}");
    }
}

/// A log that was killed with [`MARKED`] records, and how many were acknowledged.
fn submitted(at_once: bool, failing_sync: Option<u64>) -> (SimDisk, usize) {
    let disk = SimDisk::new();
    let small = LogConfig::small();
    let config = LogConfig { frame_bytes_target: 4096, segment_bytes: 256 << 10, ..small };
    let clock = Passing { clock: ManualClock::new(0), step: config.mark_after / 4 };
    let env = Environment { clock: Arc::new(clock), ..simulated(&disk) };
    let (_log, mut stepper, _) = Log::open_stepped(&env, Path::new(DATA), config).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    if let Some(sync) = failing_sync {
        disk.inject(Fault::sync(sync));
    }
    let record = |n: u32| append(P1, &[&format!("record {n}.{}", "x".repeat(3_000))]);
    let all: Vec<Commit> = (0..MARKED).map(record).collect();
    let steps = if at_once { vec![all] } else { all.into_iter().map(|one| vec![one]).collect() };
    let done = steps.into_iter().flat_map(|step| stepper.submit(step));
    let acknowledged = done.flatten().count();
    disk.heal();
    (disk.killed(), acknowledged)
}

#[test]
fn a_last_segment_that_cannot_be_read_leaves_nothing_passing_for_good() {
    let records = 30;
    for disk in [killed(records), sample(records)] {
        assert!(disk.bytes(&segment(4)).is_err() && disk.bytes(&segment(3)).is_ok());
        let zeros = vec![0; 3 * 4096];
        let lost = spoil(&disk, &segment(3), 0, &zeros, records, "no header, no first frame");
        assert!(lost > 0);
    }
}

#[test]
fn any_unreadable_sector_is_noticed_and_the_rest_is_served() {
    let records = 7;
    let length = sample(records).bytes(&segment(1)).unwrap().len() as u64;
    let (mut lost_at_all, mut kept_at_all) = (0, 0);
    for block in 0..length / 4096 {
        let disk = sample(records);
        disk.make_unreadable(&segment(1), block * 4096..block * 4096 + 512).unwrap();
        let lost = judge_opened(&disk, records, &format!("block {block} cannot be read"));
        lost_at_all += lost;
        kept_at_all += 2 * records - lost;
    }
    assert!(lost_at_all > 0 && kept_at_all > lost_at_all, "{lost_at_all}, {kept_at_all}");
    for (name, at) in [("meta", 0), ("meta", 4096), ("journal/mark.0", 0), ("journal/mark.1", 0)] {
        let disk = sample(records);
        disk.make_unreadable(&Path::new(DATA).join(name), at..at + 512).unwrap();
        assert_eq!(judge_opened(&disk, records, name), 0, "one copy of two is enough");
    }
}

#[test]
fn an_unreadable_sector_takes_no_neighbour_with_it() {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    let long = "x".repeat(6_000);
    let outcomes = stepper.submit(vec![append(P1, &["short"]), append(P2, &[&long])]);
    assert!(outcomes.iter().all(Result::is_ok));
    stepper.mark();
    // Two blocks of headers, one of the frame before: this is the second of the frame.
    disk.make_unreadable(&segment(1), 4 * 4096..4 * 4096 + 512).unwrap();
    assert_eq!(values(&log, P1, 0), [(0, "short".to_owned())], "while it is open");
    assert!(matches!(log.read(P2, 0, 1), Err(ReadError::Io { .. })), "it may come back");
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(values(&log, P1, 0), [(0, "short".to_owned())], "after the start");
    assert!(matches!(log.read(P2, 0, 1), Err(ReadError::Damaged { .. })));
}

/// The first sector of a frame is gone, the batch behind it and the second header are not: what a
/// start finds whole is served, and so is what stands around a frame of which nothing is left.
#[test]
fn a_frame_without_its_first_sector_is_served_by_its_second_header() {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    let long = "x".repeat(6_000);
    let commits = [vec![append(P2, &[&long]), append(P1, &["a"])], vec![append(P1, &["b"])]];
    for commit in commits {
        assert!(stepper.submit(commit).iter().all(Result::is_ok));
    }
    stepper.mark();
    // The first block of the frame that holds the long one, and in its second block "a".
    disk.make_unreadable(&segment(1), 3 * 4096..3 * 4096 + 512).unwrap();
    let expected = [(0, "a".to_owned()), (1, "b".to_owned())];
    assert_eq!(values(&log, P1, 0), expected, "while it is open");
    assert!(matches!(log.read(P2, 0, 1), Err(ReadError::Io { .. })), "it may come back");
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk).unwrap();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(values(&log, P1, 0), expected, "after the start");
}

/// What stands before it in the partition is given, and only then comes the error.
#[test]
fn an_unreadable_batch_keeps_no_earlier_one_from_its_readers() {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
    let long = "x".repeat(20_000);
    for value in ["a", &long, "b"] {
        assert!(stepper.submit(vec![append(P1, &[value])]).iter().all(Result::is_ok));
    }
    stepper.mark();
    disk.make_unreadable(&segment(1), 6 * 4096..6 * 4096 + 512).unwrap();
    let read = log.read(P1, 0, 1 << 20).unwrap();
    assert_eq!(read.batches.len(), 1, "what stands before it");
    assert!(matches!(log.read(P1, 1, 1 << 20), Err(ReadError::Io { .. })));
    assert_eq!(log.read(P1, 2, 1 << 20).unwrap().batches.len(), 1, "what stands behind it");
}

#[test]
fn a_missing_segment_in_the_middle_leaves_the_rest_readable() {
    let records = 30;
    let disk = sample(records);
    let env = simulated(&disk);
    assert!(env.disk.exists(&segment(3)).unwrap(), "the workload must fill three segments");
    env.disk.remove(&segment(2)).unwrap();
    let (log, mut stepper, report) = open(&disk).unwrap();
    let lost = judge(&log, &report, records, "segment 2 missing");
    assert!(lost > 0 && lost < 2 * records);
    assert_eq!(log.fenced(), None);
    let view = log.partition(P1).unwrap();
    let gap = view.damaged[0];
    assert!(matches!(
        log.read(P1, gap.first, 1),
        Err(ReadError::Damaged { range, .. }) if range == gap
    ));
    assert!(log.read(P1, gap.first - 1, 1 << 20).unwrap().batches.len() == 1);
    assert!(!log.read(P1, gap.last + 1, 1).unwrap().batches.is_empty());
    judge_appends(&log, &mut stepper, records, "segment 2 missing");
}

#[test]
fn damage_is_kept_and_listed() {
    let records = 7;
    let disk = sample(records);
    let bytes = disk.bytes(&segment(1)).unwrap();
    let at = bytes.windows(4).position(|window| window == b"p1-4").unwrap();
    disk.damage(&segment(1), at as u64, b"P").unwrap();
    let (_log, _stepper, report) = open(&disk).unwrap();
    let finding = &report.damage[0];
    assert_eq!(finding.kind, FindingKind::FrameDamaged);
    let concerned: Vec<_> = finding.partitions.iter().map(ToString::to_string).collect();
    assert_eq!(concerned, ["1: 4 to 4"]);
    let kept = disk.bytes(finding.quarantined.as_ref().unwrap()).unwrap();
    assert!(kept.windows(4).any(|window| window == b"P1-4"));
    let list = disk.bytes(&Path::new(DATA).join("quarantine/list")).unwrap();
    let list = String::from_utf8(list).unwrap();
    assert!(list.contains("frame-damaged") && list.contains("partition=1:4-4"), "{list}");
}

/// The planted bug `misfits-not-kept` must fail this test.
#[test]
fn whole_batches_of_an_unknown_partition_are_kept() {
    let records = 60;
    for struck in [&[P2][..], &[P1, P2]] {
        let disk = sample(records);
        let paths = disk.paths().into_iter();
        let segments = paths.filter(|path| path.extension().is_some_and(|it| it == "wal")).count();
        assert!(segments > 3);
        for id in struck {
            strike(&disk, &segment(1), &creation(*id));
        }
        let (log, mut stepper, report) = open(&disk).unwrap();
        judge(&log, &report, records, "a creation");
        let mut misfits = report.damage;
        misfits.retain(|finding| finding.kind == FindingKind::UnknownPartition);
        assert_eq!(misfits.len(), segments * struck.len(), "one for each segment and partition");
        assert!(misfits.iter().all(|finding| finding.partitions.len() == 1));
        stepper.checkpoint().unwrap();
        drop((log, stepper));
        for _ in 0..2 {
            let (_log, _stepper, report) = open(&disk).unwrap();
            let is_told = |it: &Finding| it.states.contains(&StateKind::Metadata);
            assert!(report.damage.iter().any(is_told), "{report:?}");
        }
        for finding in &misfits {
            let path = finding.quarantined.as_ref().expect("what has no place is kept");
            let kept = disk.bytes(path).unwrap();
            let held = finding.partitions[0];
            for n in held.range.first..=held.range.last {
                let text = record(held.partition.0, n);
                let is_there = kept.windows(text.len()).any(|window| window == text.as_bytes());
                assert!(is_there, "record {n} of {} is gone", held.partition);
            }
        }
    }
}

/// Those of frames that were not known to be durable are written anew, and found again by the move
/// at their new place, where nobody had told of them: it ended for good.
#[test]
fn whole_batches_of_an_unknown_partition_that_were_written_anew_end_no_moving() {
    for flush in [FlushPolicy::Commit, FlushPolicy::UnsafeEverySecond] {
        let disk = SimDisk::new();
        let (log, mut stepper, _) = open(&disk).unwrap();
        for id in [P1, P2] {
            stepper.submit(vec![create(id, flush)]).remove(0).unwrap();
        }
        for n in 0..5 {
            let done = stepper.submit(vec![append(P1, &[&record(1, n)]), append(P2, &["other"])]);
            assert!(done.iter().all(Result::is_ok), "{done:?}");
        }
        drop((log, stepper));
        let disk = disk.killed();
        strike(&disk, &segment(1), &creation(P2));
        let (log, mut stepper, report) = open(&disk).unwrap();
        assert!(report.rewritten > 0, "{flush:?}");
        let is_misfit = |it: &&Finding| it.kind == FindingKind::UnknownPartition;
        let anew = report.damage.iter().filter(is_misfit).filter(|it| it.segment == 2);
        let anew: Vec<&Finding> = anew.collect();
        assert_eq!(anew.len(), 1, "one for each segment and partition: {report:?}");
        let lost = report.damage.iter().filter(is_misfit).flat_map(|it| &it.partitions);
        let ranges: Vec<_> = lost.map(|it| (it.range.first, it.range.last)).collect();
        assert_eq!(ranges.last().unwrap().1, 4, "{ranges:?}");
        for n in 5..40 {
            stepper.submit(vec![append(P1, &[&record(1, 3 * n)])]).remove(0).unwrap();
            stepper.zero();
        }
        stepper.checkpoint().unwrap_or_else(|error| panic!("{flush:?}: {error}"));
        let pieces =
            disk.paths().into_iter().filter(|it| it.extension().is_some_and(|it| it == "piece"));
        let last = pieces.filter(|it| it.to_string_lossy().contains("unplaced-0000000000000002"));
        let kept = last.map(|path| disk.bytes(&path).unwrap()).next().expect("they are kept");
        assert!(kept.windows(5).any(|it| it == b"other"));
        assert_eq!(values(&log, P1, 0).len(), 40);
    }
}

#[test]
fn a_segment_without_its_beginning_is_read_from_its_first_frame_on() {
    let records = 30;
    for last in [false, true] {
        let disk = if last { killed(records) } else { sample(records) };
        let struck = if last { 3 } else { 2 };
        let before = disk.bytes(&segment(struck)).unwrap();
        disk.damage(&segment(struck), 0, &[0; 3 * 4096]).unwrap();
        let (log, stepper, report) = open(&disk).unwrap();
        let is_header = |it: &&Finding| it.kind == FindingKind::HeaderDamaged;
        let header = report.damage.iter().find(is_header).expect("the headers are told of");
        assert_eq!(header.segment, struck);
        let lost = judge(&log, &report, records, "no beginning");
        assert!((1..=2).contains(&lost), "{lost}: one frame is gone");
        assert_eq!(log.fenced(), None);
        assert!(before.len() > 3 * 4096);
        drop((log, stepper));
        assert_eq!(judge_opened(&disk, records, "no beginning, again"), lost);
    }
}

#[test]
fn a_segment_in_which_no_frame_is_left_is_kept_as_it_is() {
    let records = 30;
    let disk = sample(records);
    let length = disk.bytes(&segment(2)).unwrap().len() as u64;
    for block in 0..length / 4096 {
        disk.damage(&segment(2), block * 4096, &[0x5a; 64]).unwrap();
    }
    let before = disk.bytes(&segment(2)).unwrap();
    let (log, stepper, report) = open(&disk).unwrap();
    assert!(judge(&log, &report, records, "no frame") > 2);
    let is_header = |it: &&Finding| it.kind == FindingKind::HeaderDamaged;
    let header = report.damage.iter().find(is_header).expect("the headers are told of");
    drop((log, stepper));
    judge_opened(&disk, records, "no frame, again");
    assert!(disk.bytes(&segment(2)).is_err(), "the next checkpoint stands for it");
    assert_eq!(disk.bytes(header.quarantined.as_ref().unwrap()).unwrap(), before);
}

/// The planted bug `producer-ids-not-moved` must fail this test. A new producer that got the id of
/// another one would have its first batches taken for that one's.
#[test]
fn producer_ids_of_a_lost_block_are_not_given_again() {
    // RECOVERY-4
    let (disk, mut stepper) = running(3);
    let given = stepper.reserve_producer_ids(10).unwrap();
    stepper.close().unwrap();
    strike(&disk, &segment(1), &[&[4][..], &given.first.to_be_bytes()].concat());
    drop(open(&disk).unwrap());
    let (log, mut stepper, _) = open(&disk).unwrap();
    stepper.checkpoint().unwrap();
    drop((log, stepper));
    let mut last = given.first + 9;
    for _ in 0..2 {
        let (_log, mut stepper, _) = open(&disk).unwrap();
        let ids = stepper.reserve_producer_ids(10).unwrap();
        assert!(ids.first > last, "{} may have been given: {last} was", ids.first);
        last = ids.first + 9;
    }
}

/// Each start after damage would use up half of the ids that are left, where one is enough.
#[test]
fn producer_ids_move_once_for_one_loss() {
    let reserve = |disk: &SimDisk| open(disk).unwrap().1.reserve_producer_ids(1).unwrap().first;
    for before in [false, true] {
        let (disk, mut stepper) = running(3);
        let first = stepper.reserve_producer_ids(10).unwrap().first;
        stepper.close().unwrap();
        let block = [&[4][..], &first.to_be_bytes()].concat();
        strike(&disk, &segment(1), &if before { creation(P2) } else { block });
        let next = reserve(&disk);
        assert_eq!(next == first + 10, before, "a later block was read, and is higher");
        assert_eq!(next >> 32 > first >> 32, !before);
        assert_eq!(reserve(&disk), next + 1);
    }
}

#[test]
fn an_unreadable_end_is_told_in_a_segment_that_was_used_before() {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
    let wal = |disk: &SimDisk| -> Vec<PathBuf> {
        let files = disk.paths().into_iter();
        files.filter(|path| path.extension().is_some_and(|it| it == "wal")).collect()
    };
    for n in 0..100 {
        stepper.submit(vec![append(P1, &[&record(1, 3 * n)])]).remove(0).unwrap();
        stepper.zero();
        if n == 50 {
            stepper.checkpoint().unwrap();
        }
    }
    stepper.submit(vec![append(P1, &["the last"])]).remove(0).unwrap();
    drop((log, stepper));
    let disk = disk.killed();
    let find = |path: &PathBuf| {
        let bytes = disk.bytes(path).unwrap();
        let at = bytes.windows(8).position(|window| window == b"the last")? as u64;
        assert_eq!(bytes[40], 1, "the segment was used before, or the test does not test");
        Some((path.clone(), at / 4096 * 4096))
    };
    let (path, block) = wal(&disk).iter().find_map(find).unwrap();
    disk.make_unreadable(&path, block..block + 512).unwrap();
    let (_log, _stepper, report) = open(&disk).unwrap();
    assert!(report.damage.is_empty());
    let told = report.in_doubt.first().expect("the cut is told of");
    assert_eq!((told.kind, told.position), (FindingKind::TailCut, block));
}

#[test]
fn an_unreadable_identity_or_mark_is_no_new_log() {
    let disk = sample(3);
    let meta = Path::new(DATA).join("meta");
    let whole = disk.bytes(&meta).unwrap();
    disk.damage(&meta, 20, &[whole[20] ^ 1]).unwrap();
    assert!(open(&disk).is_ok(), "one copy of two is enough");

    let disk = sample(3);
    disk.damage(&meta, 20, &[whole[20] ^ 1]).unwrap();
    disk.damage(&meta, 4096 + 20, &[whole[20] ^ 1]).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::MetaDamaged { .. })));

    let disk = sample(3);
    simulated(&disk).disk.remove(&meta).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::MetaMissing { .. })));

    let disk = sample(3);
    for slot in ["journal/mark.0", "journal/mark.1"] {
        disk.damage(&Path::new(DATA).join(slot), 20, &[0xff; 8]).unwrap();
    }
    assert!(matches!(open(&disk), Err(OpenError::MarksUnreadable { .. })));
    // No segment shows that the journal had begun either.
    disk.damage(&segment(1), 0, &[0; 3 * 4096]).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::MarksUnreadable { .. })));
    assert!(disk.bytes(&segment(1)).is_ok(), "what it may have held is gone");

    let disk = sample(3);
    let journal = Path::new(DATA).join("journal");
    let files = simulated(&disk).disk.list(&journal).unwrap();
    for path in &files {
        simulated(&disk).disk.remove(path).unwrap();
    }
    let before = disk.bytes(&meta).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::MarksUnreadable { .. })), "not mounted, say");
    assert!(simulated(&disk).disk.list(&journal).unwrap().is_empty(), "nothing hides the mount");
    assert_eq!(disk.bytes(&meta).unwrap(), before);
}

#[test]
fn a_newer_format_is_named_and_left_alone() {
    let disk = sample(3);
    let meta = Path::new(DATA).join("meta");
    for copy in [0, 4096] {
        disk.damage(&meta, copy + 7, &[9]).unwrap();
    }
    let before = disk.bytes(&segment(1)).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::UnknownVersion { found: 9, known: 1, .. })));
    assert_eq!(disk.bytes(&segment(1)).unwrap(), before);
}
