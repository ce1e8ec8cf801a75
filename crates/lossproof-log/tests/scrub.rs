//! Damage of data that nobody reads is found while the log is up, reported as by a start, and
//! neither repaired nor removed: SCRUB-1, SCRUB-2, SCRUB-4. (SCRUB-3: the tests of the scrubber
//! itself.)

use crate::support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Environment, Fault, ManualClock, SimDisk};
use lossproof_log::{
    Commit, FlushPolicy, Log, LogConfig, Loss, OffsetRange, PartitionRange, ReadError,
    RecoveryReport, StateKind, Stepper,
};
use support::{P1, P2, append, create, simulated};

/// Of 3 kB: some twenty of them fill a segment.
const RECORDS: i64 = 60;
const FRAME_AT: u64 = 8_192;
const MINUTE: Duration = Duration::from_mins(1);

struct Run {
    disk: SimDisk,
    clock: ManualClock,
    log: Log,
    stepper: Stepper,
}

/// Several segments, those before the last one moved where `moved` is set.
fn run(moved: bool) -> Run {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(1_000_000));
    let env = Environment { clock: Arc::new(clock.clone()), ..simulated(&disk) };
    let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
    let (log, mut stepper, _) = opened.unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    for index in 0..RECORDS {
        let long = format!("{index} {}", "x".repeat(3_000));
        let done = stepper.submit(vec![append(P1, &[&long]), append(P2, &["other"])]);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        stepper.zero();
    }
    if moved {
        stepper.checkpoint().unwrap();
    }
    Run { disk, clock, log, stepper }
}

impl Run {
    /// The log after its process was killed and started again.
    fn restarted(self) -> (Self, RecoveryReport) {
        let Self { disk, clock, log, stepper } = self;
        drop((log, stepper));
        let env = Environment { clock: Arc::new(clock.clone()), ..simulated(&disk) };
        let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
        let (log, stepper, report) = opened.unwrap();
        (Self { disk, clock, log, stepper }, report)
    }

    /// As often as a round may take, with all the time that it may take.
    fn round(&mut self) {
        for _ in 0..20 {
            self.clock.advance(MINUTE);
            self.stepper.scrub();
        }
    }

    fn file(&self, extension: &str) -> PathBuf {
        let found = |path: &PathBuf| path.extension().is_some_and(|it| it == extension);
        self.disk.paths().into_iter().find(found).unwrap()
    }

    fn list(&self) -> String {
        let list = self.disk.bytes(Path::new("/data/quarantine/list"));
        list.map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
    }
}

#[test]
fn a_round_verifies_everything_once_in_a_period() {
    let mut run = run(true);
    let figures = run.log.figures().scrub;
    assert_eq!((figures.bytes, figures.finished_ms), (0, None));
    run.round();
    let figures = run.log.figures().scrub;
    let cold = run.disk.bytes(&run.file("cold")).unwrap().len() as u64;
    assert_eq!(figures.round_total_bytes, cold);
    assert_eq!(figures.bytes, cold - FRAME_AT, "all but the headers");
    let finished = figures.finished_ms.unwrap();
    run.round();
    assert_eq!(run.log.figures().scrub, figures, "a week has not passed");
    run.clock.advance(Duration::from_hours(7 * 24));
    run.round();
    let figures = run.log.figures().scrub;
    assert!(figures.finished_ms.unwrap() > finished, "{figures:?}");
    assert_eq!((figures.bytes, figures.findings), (2 * (cold - FRAME_AT), 0));
    assert_eq!(run.list(), "");
}

#[test]
fn a_flipped_bit_in_a_cold_file_is_found_without_any_read() {
    let mut run = run(true);
    let cold = run.file("cold");
    let before = run.disk.bytes(&cold).unwrap();
    // In the payload of the first frame, which is P1's.
    let at = FRAME_AT + 5_000;
    run.disk.damage(&cold, at, &[before[at as usize] ^ 1]).unwrap();
    run.round();
    assert_eq!(run.log.figures().scrub.findings, 1);
    let list = run.list();
    assert!(list.contains("cold-damaged") && list.contains("partition=1:"), "{list}");
    assert_eq!(list.lines().count(), 1);
    let damaged = run.log.partition(P1).unwrap().damaged;
    assert_eq!(damaged.len(), 1, "SCRUB-2: offline before anybody reads it");
    let first = damaged[0].first;
    let read = run.log.read(P1, first, 1_000);
    assert!(matches!(read, Err(ReadError::Damaged { range, .. }) if range == damaged[0]));
    assert!(run.log.read(P1, damaged[0].last + 1, 1_000).is_ok(), "the rest is served");
    assert!(run.log.partition(P2).unwrap().damaged.is_empty());
    // The piece is kept, the file stays, and the next round says nothing new.
    assert!(run.disk.paths().iter().any(|path| path.extension().is_some_and(|it| it == "piece")));
    run.clock.advance(Duration::from_hours(7 * 24));
    run.round();
    assert_eq!(run.log.figures().scrub.findings, 1);
    let mut after = run.disk.bytes(&cold).unwrap();
    after[at as usize] ^= 1;
    assert_eq!(after, before, "SCRUB-2: nothing is repaired");
}

/// Nobody can step over a sector that is gone but the person who gives it up: so it is found, and
/// named by its offsets, and `Log::accept_losses` takes it.
#[test]
fn a_block_that_cannot_be_read_is_found_named_and_given_up() {
    let mut run = run(true);
    let cold = run.file("cold");
    let at = FRAME_AT + 4_096;
    run.disk.make_unreadable(&cold, at..at + 512).unwrap();
    run.round();
    assert_eq!(run.log.figures().scrub.findings, 1);
    assert!(run.list().contains("partition=1:"), "{}", run.list());
    let damaged = run.log.partition(P1).unwrap().damaged;
    assert_eq!(damaged.len(), 1, "SCRUB-2: offline before anybody reads it");
    run.stepper.checkpoint().unwrap();
    let (mut run, report) = run.restarted();
    assert_eq!(report.damage[0].partitions[0].range, damaged[0]);
    let loss = Loss::Offsets(PartitionRange { partition: P1, range: damaged[0] });
    support::accept(&run.log, &mut run.stepper, vec![loss]).unwrap();
    let next = run.log.read(P1, damaged[0].first, 1_000).unwrap();
    assert_eq!(next.batches[0].base_offset, damaged[0].last + 1);
}

/// On a full disk nothing can be copied to quarantine, and still the whole file is read.
#[test]
fn a_finding_that_cannot_be_kept_hides_no_other() {
    let mut run = run(false);
    let segment = run.file("wal");
    let before = run.disk.bytes(&segment).unwrap();
    for record in [b"2 xxx", b"7 xxx"] {
        let at = before.windows(record.len()).position(|it| it == record).unwrap();
        run.disk.damage(&segment, at as u64, b"?").unwrap();
    }
    run.disk.inject(Fault::change(0));
    run.round();
    assert!(run.disk.was_struck());
    assert_eq!(run.log.figures().scrub.findings, 2, "{}", run.list());
    let kept = run.disk.paths().into_iter();
    let kept = kept.filter(|path| path.extension().is_some_and(|it| it == "piece"));
    assert_eq!((kept.count(), run.list().lines().count()), (1, 2), "{}", run.list());
}

#[test]
fn damage_that_grows_is_told_again_and_kept_as_a_whole() {
    // SCRUB-2
    let mut run = run(true);
    let cold = run.file("cold");
    let all = run.disk.bytes(&cold).unwrap().len() - FRAME_AT as usize;
    let mut damaged = Vec::new();
    for (findings, bytes) in [(1, 4_096), (2, all)] {
        run.disk.damage(&cold, FRAME_AT, &vec![0xff; bytes]).unwrap();
        run.clock.advance(Duration::from_hours(7 * 24));
        run.round();
        assert_eq!(run.log.figures().scrub.findings, findings, "{}", run.list());
        let before = std::mem::replace(&mut damaged, run.log.partition(P1).unwrap().damaged);
        let lost = |ranges: &[OffsetRange]| ranges.last().map_or(-1, |range| range.last);
        assert!(lost(&before) < lost(&damaged), "{before:?}, {damaged:?}");
        let now = run.disk.bytes(&cold).unwrap();
        let is_kept = |path: &PathBuf| {
            let piece = run.disk.bytes(path).unwrap();
            piece.len() >= bytes && now[FRAME_AT as usize..].starts_with(&piece)
        };
        let pieces = run.disk.paths().into_iter();
        let mut pieces = pieces.filter(|path| path.extension().is_some_and(|it| it == "piece"));
        assert!(pieces.any(|path| is_kept(&path)), "{bytes} bytes are damaged; not all are kept");
    }
}

/// One that was told of before hides no other in the same frame.
#[test]
fn damage_of_another_batch_of_a_known_frame_is_told() {
    // SCRUB-2
    for moved in [true, false] {
        let mut run = run(moved);
        let file = run.file(if moved { "cold" } else { "wal" });
        let before = run.disk.bytes(&file).unwrap();
        let find = |text: &[u8], from: usize| {
            from + before[from..].windows(text.len()).position(|it| it == text).unwrap()
        };
        // In a segment the second one's batch stands behind the first one's in the same frame.
        let first = find(b"2 xxx", 0);
        let then = if moved { find(b"7 xxx", 0) } else { find(b"other", first) };
        run.disk.damage(&file, first as u64, b"?").unwrap();
        if !moved {
            let (next, report) = run.restarted();
            run = next;
            assert_eq!(report.damage.len(), 1);
        }
        run.round();
        let known = u64::from(moved);
        assert_eq!(run.log.figures().scrub.findings, known, "a start has told: {}", run.list());
        run.disk.damage(&file, then as u64, b"?").unwrap();
        for _ in 0..2 {
            run.clock.advance(Duration::from_hours(7 * 24));
            run.round();
            assert_eq!(run.log.figures().scrub.findings, known + 1, "{moved}: {}", run.list());
        }
        let id = if moved { P1 } else { P2 };
        assert_eq!(run.log.partition(id).unwrap().damaged.len(), 1 + usize::from(moved));
        assert_eq!(run.list().lines().count(), 2, "{}", run.list());
    }
}

/// What verifies of a frame that a start has told of is no news, until it does not any more.
#[test]
fn keyed_entries_of_a_known_frame_are_told_when_they_are_damaged() {
    // SCRUB-2
    let mut run = run(false);
    let value = Some("the value".into());
    let frame = vec![append(P1, &["the batch"]), Commit::state(StateKind::Offsets, "group", value)];
    assert!(run.stepper.submit(frame).iter().all(Result::is_ok));
    run.stepper.mark();
    let wal = |path: &PathBuf| path.extension().is_some_and(|it| it == "wal");
    let strike = |disk: &SimDisk, text: &[u8]| {
        let hit = |path: PathBuf| {
            let bytes = disk.bytes(&path).unwrap();
            let at = bytes.windows(text.len()).position(|it| it == text)?;
            disk.damage(&path, at as u64, b"?").ok()
        };
        disk.paths().into_iter().filter(wal).find_map(hit).expect("it stands in the journal");
    };
    strike(&run.disk, b"the batch");
    let (mut run, report) = run.restarted();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    run.round();
    assert_eq!(run.log.figures().scrub.findings, 0, "a start has told: {}", run.list());
    strike(&run.disk, b"the value");
    run.clock.advance(Duration::from_hours(7 * 24));
    run.round();
    assert_eq!(run.log.figures().scrub.findings, 1, "{}", run.list());
    assert!(run.list().contains("state=Offsets"), "{}", run.list());
}

/// Storage rule 15: what a person has to decide about must not go before.
#[test]
fn what_was_found_does_not_expire_and_is_known_after_a_restart() {
    // SCRUB-2
    let mut run = run(true);
    let cold = run.file("cold");
    let all = Some(run.log.partition(P1).unwrap().high_watermark);
    assert_eq!(run.log.expired(P1, Some(i64::MAX), None), all);
    let at = FRAME_AT + 40_000;
    let before = run.disk.bytes(&cold).unwrap()[at as usize];
    run.disk.damage(&cold, at, &[before ^ 1]).unwrap();
    run.round();
    let damaged = run.log.partition(P1).unwrap().damaged;
    assert_eq!(damaged.len(), 1);
    for (age, size) in [(Some(i64::MAX), None), (None, Some(0))] {
        let start = run.log.expired(P1, age, size).unwrap();
        assert!(start <= damaged[0].first, "{start} of {damaged:?}");
    }
    run.stepper.checkpoint().unwrap();
    let (mut run, report) = run.restarted();
    assert_eq!(report.damage[0].partitions[0].range, damaged[0]);
    assert_eq!(run.log.partition(P1).unwrap().damaged, damaged);
    run.round();
    assert!(run.log.figures().scrub.finished_ms.is_some());
    assert_eq!(run.log.figures().scrub.findings, 0, "it is no news");
}

#[test]
fn what_a_medium_gives_back_again_is_served_after_the_next_start() {
    // SCRUB-2
    let mut run = run(true);
    let cold = run.file("cold");
    let before = run.disk.bytes(&cold).unwrap();
    let flip = |run: &Run, at: u64, bit: u8| {
        run.disk.damage(&cold, at, &[before[at as usize] ^ bit]).unwrap();
    };
    let (passing, lasting) = (FRAME_AT + 5_000, FRAME_AT + 40_000);
    flip(&run, passing, 1);
    flip(&run, lasting, 1);
    run.round();
    let damaged = run.log.partition(P1).unwrap().damaged;
    assert_eq!(damaged.len(), 2);
    run.stepper.checkpoint().unwrap();
    let (run, _) = run.restarted();
    assert_eq!(run.log.partition(P1).unwrap().damaged, damaged, "neither can be read yet");
    flip(&run, passing, 0);
    let mut run = run;
    for start in 0..2 {
        let (next, report) = run.restarted();
        run = next;
        let told: Vec<_> = report.damage.iter().flat_map(|it| &it.partitions).collect();
        assert_eq!(told.len(), 1, "start {start}: {report:?}");
        assert_eq!(run.log.partition(P1).unwrap().damaged, damaged[1..], "start {start}");
        assert!(run.log.read(P1, damaged[0].first, 1).is_ok(), "start {start}");
        assert!(run.log.read(P1, damaged[1].first, 1).is_err(), "start {start}");
        run.stepper.checkpoint().unwrap();
        run.round();
        assert_eq!(run.log.figures().scrub.findings, 0, "start {start}: none is news");
    }
}

#[test]
fn every_frame_of_a_full_segment_is_verified() {
    for frame in [0, 5] {
        let mut run = run(false);
        let segment = run.file("wal");
        // Each frame before the sixth has two blocks at most: it is hit, whatever it holds.
        let at = FRAME_AT + frame * 8_192 + 70;
        let before = run.disk.bytes(&segment).unwrap()[at as usize];
        run.disk.damage(&segment, at, &[before ^ 1]).unwrap();
        run.round();
        assert_eq!(run.log.figures().scrub.findings, 1, "{}", run.list());
        assert!(run.list().contains("frame-damaged"), "{}", run.list());
    }
}

#[test]
fn files_that_were_moved_in_the_middle_of_a_round_are_read_in_the_next_one() {
    let mut run = run(false);
    run.clock.advance(MINUTE);
    run.stepper.scrub();
    let figures = run.log.figures().scrub;
    assert!(0 < figures.bytes && figures.bytes < figures.round_total_bytes / 2, "{figures:?}");
    run.stepper.checkpoint().unwrap();
    run.round();
    let after = run.log.figures().scrub;
    assert_eq!((after.findings, run.list()), (0, String::new()));
    assert!(after.finished_ms.is_some(), "nothing is left of the round: {after:?}");
    run.clock.advance(Duration::from_hours(7 * 24));
    run.round();
    let next = run.log.figures().scrub;
    assert_eq!((next.findings, run.list()), (0, String::new()));
    let cold = run.disk.bytes(&run.file("cold")).unwrap().len() as u64;
    assert_eq!(next.bytes - after.bytes, cold - FRAME_AT, "SCRUB-1: where they are now");
}
