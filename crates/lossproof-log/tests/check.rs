//! A look at a log that is stopped tells what a start would tell, and of cold files and second
//! copies what that leaves for later; it changes nothing. (LOOK-1, LOOK-2, LOOK-3)

use crate::support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lossproof_env::{Choice, Disk, Fault, SimDisk};
use lossproof_log::{
    CheckReport, Checked, Commit, Finding, FlawKind, FlushPolicy, Log, LogConfig, OpenError,
    PartitionRange, ReadError, RecoveryReport, StateKind, Stepper, check,
};
use support::{P1, P2, append, create, simulated};

const DATA: &str = "/data";
/// Of 3 kB: some twenty of them fill a segment.
const RECORDS: usize = 30;

fn open(disk: &SimDisk) -> Result<(Log, Stepper, RecoveryReport), OpenError> {
    Log::open_stepped(&simulated(disk), Path::new(DATA), LogConfig::small())
}

fn look(disk: &SimDisk) -> Result<Checked, OpenError> {
    check(&simulated(disk), Path::new(DATA), LogConfig::small(), &mut |_| {})
}

fn text(index: usize) -> String {
    format!("{index} {}", "x".repeat(3_000))
}

/// Segments, a cold file and a checkpoint, of a log that is at work.
fn running() -> (SimDisk, Stepper) {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    for index in 0..RECORDS {
        let (first, second) = (text(index), format!("other {index}"));
        let commits = vec![
            append(P1, &[&first, "b"]),
            append(P2, &[&second]),
            Commit::state(StateKind::Offsets, "group", Some(index.to_string().into())),
        ];
        assert!(stepper.submit(commits).iter().all(Result::is_ok));
        stepper.zero();
    }
    stepper.checkpoint().unwrap();
    stepper.submit(vec![append(P1, &["last"]), append(P2, &["last"])]);
    (disk, stepper)
}

/// The same log, stopped in order.
fn sample() -> SimDisk {
    let (disk, stepper) = running();
    stepper.close().unwrap();
    disk.power_cut()
}

fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.bytes(&path).unwrap())).collect()
}

fn without_copies(findings: &[Finding]) -> Vec<Finding> {
    findings.iter().map(|it| Finding { quarantined: None, ..it.clone() }).collect()
}

/// Each offset can be read, or is told to be lost (LOOK-3).
fn judge_reads(log: &Log, lost: &[PartitionRange], hint: &str) {
    for id in log.partitions() {
        let end = log.partition(id).unwrap().high_watermark;
        for offset in 0..end {
            let is_lost = lost.iter().any(|it| it.partition == id && it.range.contains(offset));
            match log.read(id, offset, 1) {
                Ok(slice) => {
                    let is_it = (slice.batches[0].base_offset..=slice.batches[0].last_offset)
                        .contains(&offset);
                    assert!(is_it && !is_lost, "{hint}: {offset} of {id}, called lost: {is_lost}");
                }
                Err(ReadError::Damaged { range, .. }) => {
                    assert!(range.contains(offset) && is_lost, "{hint}: {offset} of {id}");
                }
                Err(ReadError::Io { .. }) => assert!(is_lost, "{hint}: {offset} of {id}"),
                Err(error) => panic!("{hint}: {error}"),
            }
        }
    }
}

/// Looks, starts, and compares; what the look has found.
fn agree(disk: &SimDisk, hint: &str) -> Option<CheckReport> {
    let before = files(disk);
    let steps = disk.position();
    let looked = look(disk);
    assert_eq!(disk.position(), steps, "LOOK-1: {hint}");
    assert!(files(disk) == before, "LOOK-1: {hint}");
    let looked = looked.map(|checked| checked.report);
    let (report, (log, _stepper, started)) = match (looked, open(disk)) {
        (Ok(report), Ok(opened)) => (report, opened),
        (Err(error), Err(other)) => {
            assert_eq!(error.to_string(), other.to_string(), "{hint}");
            return None;
        }
        (looked, opened) => panic!("{hint}: {looked:?}, but a start says {:?}", opened.map(drop)),
    };
    // LOOK-2
    let CheckReport { recovery, .. } = &report;
    assert_eq!(recovery.damage, without_copies(&started.damage), "{hint}");
    assert_eq!(recovery.in_doubt, without_copies(&started.in_doubt), "{hint}");
    let same = |it: &RecoveryReport| (it.clean, it.last_frame, it.durable_through, it.rewritten);
    assert_eq!(same(recovery), same(&started), "{hint}");
    assert_eq!(report.end_lost, log.fenced().is_some(), "{hint}");
    let damaged = StateKind::ALL.into_iter().filter(|kind| log.state_is_damaged(*kind));
    assert_eq!(report.lost_states, damaged.collect::<Vec<_>>(), "{hint}");
    judge_reads(&log, &report.lost, hint);
    Some(report)
}

/// What a flip in each region of the directory is called.
#[derive(Debug, Default)]
struct Seen {
    journal: usize,
    flaws: BTreeMap<String, usize>,
    notes: usize,
    refused: usize,
    lost_in_cold: usize,
}

impl Seen {
    fn count(&mut self, report: Option<&CheckReport>) {
        let Some(report) = report else {
            self.refused += 1;
            return;
        };
        self.journal += report.recovery.damage.len();
        self.notes += report.notes.len();
        for flaw in &report.flaws {
            *self.flaws.entry(flaw.kind.to_string()).or_default() += 1;
            self.lost_in_cold += flaw.lost.len();
        }
        assert!(report.lost.is_empty() || report.is_damaged());
    }
}

#[test]
fn a_flipped_bit_in_any_region_is_told_as_a_start_tells_it() {
    let whole = sample();
    let report = agree(&whole.power_cut(), "nothing is wrong").unwrap();
    assert!(!report.is_damaged() && report.notes.is_empty(), "{report:?}");
    assert!(report.recovery.clean && report.looked_at.cold_batches > RECORDS as u64, "{report:?}");
    let mut seen = Seen::default();
    for (path, bytes) in files(&whole) {
        let step = (bytes.len() / 14) | 1;
        // The first bytes of each copy hold its magic and its checksum.
        for offset in (0..bytes.len()).step_by(step).chain([4_096, 8_200]) {
            let Some(old) = bytes.get(offset) else { continue };
            let disk = whole.power_cut();
            disk.damage(&path, offset as u64, &[old ^ (1 << (offset % 8))]).unwrap();
            let hint = format!("{} at {offset}", path.display());
            seen.count(agree(&disk, &hint).as_ref());
        }
    }
    for kind in ["cold-damaged", "checkpoint-copy", "header-copy", "meta-copy"] {
        assert!(seen.flaws.contains_key(kind), "{kind}: {seen:?}");
    }
    assert!(seen.journal > 0 && seen.notes > 0 && seen.lost_in_cold > 0, "{seen:?}");
}

#[test]
fn files_that_are_gone_or_of_which_nothing_can_be_read_are_told_as_a_start_tells_it() {
    let whole = sample();
    let mut seen = Seen::default();
    for path in files(&whole).into_keys() {
        let disk = whole.power_cut();
        simulated(&disk).disk.remove(&path).unwrap();
        if !path.ends_with("lock") {
            seen.count(agree(&disk, &format!("{} is gone", path.display())).as_ref());
        }
        let disk = whole.power_cut();
        disk.make_unreadable(&path, 0..u64::MAX).unwrap();
        seen.count(agree(&disk, &format!("{} cannot be read", path.display())).as_ref());
    }
    assert!(seen.refused > 0 && seen.journal > 0, "{seen:?}");
}

#[test]
fn lost_offsets_of_a_cold_file_are_named_exactly() {
    let whole = sample();
    let path = whole.paths().into_iter().find(|it| it.extension().is_some_and(|it| it == "cold"));
    let path = path.unwrap();
    let bytes = whole.bytes(&path).unwrap();
    let wanted = format!("5 {}", "x".repeat(100));
    let at = bytes.windows(wanted.len()).position(|it| it == wanted.as_bytes()).unwrap();
    let disk = whole.power_cut();
    disk.damage(&path, at as u64, b"6").unwrap();
    let report = agree(&disk, "one batch").unwrap();
    let lost: Vec<String> = report.lost.iter().map(ToString::to_string).collect();
    assert_eq!(lost, ["1: 10 to 11"]);
    assert_eq!(report.flaws.len(), 1);
    assert_eq!(
        (report.flaws[0].kind, &report.flaws[0].lost),
        (FlawKind::ColdDamaged, &report.lost)
    );
    assert!(report.recovery.is_sound(), "a start does not look there");
    // A copy of a directory that is at a frame's beginning leaves the other one.
    let disk = whole.power_cut();
    disk.damage(&path, 8_192, &[0]).unwrap();
    let report = agree(&disk, "one header").unwrap();
    assert!(report.is_damaged() && report.lost.is_empty(), "{report:?}");
}

/// Damage that took nothing ends with the next move after a start, which then does not wait for
/// more to move; where something is lost, that is left for a person to put back.
#[test]
fn headers_behind_which_everything_is_there_are_damage_until_the_next_checkpoint() {
    for takes_a_record in [false, true] {
        let disk = sample();
        let found = |(path, bytes): (PathBuf, Vec<u8>)| {
            let is_segment = path.extension().is_some_and(|it| it == "wal");
            let at = bytes.windows(4).position(|it| it == b"last").filter(|_| is_segment)?;
            Some((path, at))
        };
        let (path, at) = files(&disk).into_iter().find_map(found).unwrap();
        disk.damage(&path, 0, &[0; 2 * 4096]).unwrap();
        if takes_a_record {
            disk.damage(&path, at as u64, b"L").unwrap();
        }
        let report = look(&disk).unwrap().report;
        assert!(report.is_damaged(), "{report:?}");
        assert_eq!(report.lost.is_empty(), !takes_a_record, "{report:?}");
        let (log, mut stepper, started) = open(&disk).unwrap();
        assert!(!started.damage.is_empty());
        assert_eq!(stepper.is_move_due(), !takes_a_record, "{started:?}");
        stepper.checkpoint().unwrap();
        drop((log, stepper));
        let report = look(&disk).unwrap().report;
        assert_eq!(report.is_damaged(), takes_a_record, "{report:?}");
    }
}

#[test]
fn an_end_that_is_in_doubt_is_no_damage() {
    let (disk, mut stepper) = running();
    stepper.mark();
    // The write of this frame ends halfway, and with it the process.
    disk.inject(Fault::change(0).torn());
    assert!(stepper.submit(vec![append(P1, &["never answered"])])[0].is_err());
    drop(stepper);
    disk.heal();
    let disk = disk.killed();
    let begin = disk.position();
    let report = agree(&disk, "killed").unwrap();
    assert!(!report.is_damaged() && !report.recovery.clean, "{report:?}");
    assert!(!report.recovery.in_doubt.is_empty(), "{report:?}");
    assert_eq!(report.cut_before, Vec::<String>::new());
    // It may have been acknowledged all the same, and the start that cuts it is not the last to say
    // so: wherever that ends, the end is named, and once.
    let cut = report.recovery.in_doubt[0].to_string();
    let recording = disk.recording();
    let mut is_cut = [false; 2];
    for position in begin..=disk.position() {
        let image = recording.image(position, &Choice::Prefix(usize::MAX)).disk();
        for _ in 0..2 {
            let CheckReport { recovery, cut_before, .. } = look(&image).unwrap().report;
            let ahead: Vec<String> = recovery.in_doubt.iter().map(Finding::to_string).collect();
            let named: Vec<&String> = ahead.iter().chain(&cut_before).collect();
            assert!(named.len() == 1 && named[0].ends_with(&cut), "at {position}: {named:?}");
            is_cut[usize::from(ahead.is_empty())] = true;
            open(&image).unwrap().1.close().unwrap();
        }
    }
    assert_eq!(is_cut, [true; 2]);
}

#[test]
fn a_log_in_use_or_no_log_at_all_is_refused() {
    let (disk, stepper) = running();
    assert!(matches!(look(&disk), Err(OpenError::Locked { .. })));
    stepper.close().unwrap();
    let checked = look(&disk).unwrap();
    assert!(matches!(open(&disk), Err(OpenError::Locked { .. })), "LOOK-1");
    drop(checked);
    assert!(open(&disk).is_ok());
    let empty = SimDisk::new();
    assert!(matches!(look(&empty), Err(OpenError::NoLog { .. })));
    empty.create_dir_all(Path::new(DATA)).unwrap();
    assert!(matches!(look(&empty), Err(OpenError::NoLog { .. })));
    assert_eq!(empty.paths(), Vec::<PathBuf>::new());
}

#[test]
fn a_copy_can_be_looked_at_though_it_cannot_be_started() {
    let copy = sample().copied();
    assert!(matches!(open(&copy), Err(OpenError::Moved { .. })));
    let report = look(&copy).unwrap().report;
    assert!(!report.is_damaged(), "{report:?}");
    assert!(report.notes[0].contains("copied"), "{report:?}");
    let simulated = simulated(&copy);
    simulated.disk.remove(&Path::new(DATA).join("lock")).unwrap();
    assert!(!look(&copy).unwrap().report.is_damaged());
}

#[test]
fn progress_reaches_the_end() {
    let disk = sample();
    let mut seen = Vec::new();
    let note = &mut |progress: lossproof_log::CheckProgress| seen.push(progress);
    check(&simulated(&disk), Path::new(DATA), LogConfig::small(), note).unwrap();
    let last = seen.last().unwrap();
    assert!(seen.len() > 3 && last.bytes == last.bytes_total, "{seen:?}");
    assert!(seen.is_sorted_by_key(|it| it.bytes), "{seen:?}");
}
