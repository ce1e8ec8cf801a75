//! Acknowledged data that decays on the disk: whatever byte is hit, each acknowledged record is
//! either read back as it was or is in a range that is reported and answered as an error. Nothing
//! is cut, nothing is skipped in silence, no offset is given twice. (RECOVERY-1, RECOVERY-4,
//! READ-1, READ-2)

use crate::support;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lossproof_env::{Disk, SimDisk};
use lossproof_log::{
    Commit, CommitCause, FenceCause, Finding, FindingKind, FlushPolicy, Log, LogConfig, OpenError,
    ReadError, RecoveryReport, StateKind, Stepper,
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
            assert!(!report.damage.is_empty(), "{hint}");
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
    // What was found is found again, and nothing else is lost by it.
    let (log, _stepper, again) = open(disk).unwrap();
    assert_eq!(judge(&log, &again, records, hint), lost, "{hint}, opened twice");
    lost
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
