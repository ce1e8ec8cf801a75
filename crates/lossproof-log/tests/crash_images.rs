//! The power goes at every moment of many small workloads, and leaves whatever a disk may leave:
//! nothing unsynced, a prefix, any subset of sectors or blocks, a torn or ruined last write, names
//! undone. On every image the log opens and holds the first k commits, with k no less than what
//! was acknowledged; it goes on from there, and survives the next power cut. Crashes during
//! recovery are tried on top.
//!
//! Held here: LOG-1, LOG-2, LOG-4, LOG-5, MARK-1, MARK-2, SLOT-1, RECOVERY-2, SEGMENT-1,
//! SEGMENT-2, SEGMENT-3, META-1, META-3, COLD-1, MOVE-1.
//!
//! `LOSSPROOF_CRASH_IMAGES=1000000` tries more than the usual number;
//! `LOSSPROOF_CRASH_SEED=17` runs the workload of one seed alone, with every image.

use crate::crash;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crash::oracle::{go_on, open};
use crash::run::{Promises, Run};
use crash::{environment, setting, tell, workload};
use lossproof_env::{CrashImage, CrashPlan, FileId, ImageCounts, Recording, SimDisk, Step};
use lossproof_log::{FlushPolicy, Log, LogConfig, PartitionChange};

/// What every run of the tests tries at least.
const IMAGES_MIN: u64 = 20_000;
/// What they try where nothing else is said: some seconds of one core.
const IMAGES: u64 = 60_000;
const ACTIONS: usize = 24;
/// Of a workload with small segments.
const ACTIONS_LONG: usize = 40;
/// On one in so many images clients go on, the power goes again.
const GO_ON_EVERY: u64 = 6;
/// On one in so many images the power goes during recovery, at every position of it.
const NESTED_EVERY: u64 = 150;
const NESTED_SUBSETS: usize = 6;
const SUBSETS: usize = 64;

/// Everything about one workload that its images are judged by.
struct Trial {
    seed: u64,
    config: LogConfig,
    promises: Promises,
    recording: Recording,
}

/// Every other workload has segments that a few frames fill: they are given back and used again
/// while it lasts.
fn trial(seed: u64) -> Trial {
    let small = LogConfig::small();
    let (config, actions) = if seed.is_multiple_of(2) {
        (small, workload::draw(seed, ACTIONS))
    } else {
        let config = LogConfig {
            segment_bytes: 40 << 10,
            initial_zero_bytes: 24 << 10,
            zero_step_bytes: 8 << 10,
            zero_ahead_bytes: 8 << 10,
            ..small
        };
        (config, workload::draw_with(seed, ACTIONS_LONG, 2_000))
    };
    let mut run = Run::new(SimDisk::new(), seed, config.clone());
    run.all(&actions).unwrap();
    let recording = run.disk.recording();
    run.disk.observe(None);
    Trial { seed, config, promises: run.promises, recording }
}

impl Trial {
    fn check(&self, counts: &mut ImageCounts, nested: &mut ImageCounts) {
        let plan = CrashPlan { seed: self.seed, subsets_max: SUBSETS };
        let mut number = 0;
        let visited = self.recording.visit(plan, &self.promises.marks(), |image| {
            number += 1;
            self.check_image(&image, number % GO_ON_EVERY == 0);
            if number % NESTED_EVERY == 0 {
                nested.add(&self.check_recovery(&image));
            }
        });
        counts.add(&visited);
    }

    fn fail(&self, image: &str, error: &str) -> ! {
        if setting("LOSSPROOF_CRASH_SEED").is_some() {
            tell(&format!("{:#?}\n{:#?}", self.recording, self.promises.submitted));
        }
        panic!(
            "seed {}, {image}: {error}\nagain: LOSSPROOF_CRASH_SEED={} cargo test -p \
             lossproof-log --test it crash_images::",
            self.seed, self.seed
        )
    }

    fn check_image(&self, image: &CrashImage, on: bool) {
        let (required, possible) = self.bounds(image.position);
        let disk = image.disk();
        let checked = open(&disk, &self.config, &self.promises, required, possible);
        let checked = checked.and_then(|opened| {
            self.check_open_count(image.position, opened.report.open_count)?;
            if on {
                go_on(opened, &disk, &self.config, &self.promises, image.position)?;
            }
            Ok(())
        });
        if let Err(error) = checked {
            self.fail(&image.to_string(), &error);
        }
    }

    fn bounds(&self, position: usize) -> (usize, usize) {
        (self.promises.required(position), self.promises.possible(position))
    }

    fn check_open_count(&self, position: usize, found: u64) -> Result<(), String> {
        let opens = self.promises.opens.iter().filter(|(at, _)| *at <= position);
        let before = opens.map(|(_, count)| *count).max().unwrap_or(0);
        if found > before { Ok(()) } else { Err(format!("open {found} came after {before}")) }
    }

    /// The power goes while the log recovers from an image, at every step of it. Whatever the
    /// recovery had begun to serve must be there afterwards.
    fn check_recovery(&self, image: &CrashImage) -> ImageCounts {
        let (required, possible) = self.bounds(image.position);
        let disk = image.disk();
        let first = open(&disk, &self.config, &self.promises, required, possible);
        let served = first.map(|opened| opened.count).unwrap_or_default();
        let recording = disk.recording();
        let plan = CrashPlan { seed: self.seed, subsets_max: NESTED_SUBSETS };
        recording.visit(plan, &[], |second| {
            let least = if second.position == recording.len() { served } else { required };
            let disk = second.disk();
            let checked = open(&disk, &self.config, &self.promises, least, possible);
            if let Err(error) = checked {
                self.fail(&format!("{image}, then in recovery {second}"), &error);
            }
        })
    }
}

#[test]
fn every_image_holds_what_was_acknowledged_and_nothing_else() {
    let (counts, nested) = (Mutex::default(), Mutex::default());
    let (next, recycled) = (AtomicU64::new(0), AtomicU64::new(0));
    let wanted = setting("LOSSPROOF_CRASH_IMAGES").unwrap_or(IMAGES).max(IMAGES_MIN);
    if let Some(seed) = setting("LOSSPROOF_CRASH_SEED") {
        let (mut counts, mut nested) = (ImageCounts::default(), ImageCounts::default());
        trial(seed).check(&mut counts, &mut nested);
        tell(&format!("crash images of seed {seed}: {counts}; in recovery: {nested}"));
        return;
    }
    let total = || {
        let counts: &Mutex<ImageCounts> = &counts;
        let nested: &Mutex<ImageCounts> = &nested;
        counts.lock().unwrap().images + nested.lock().unwrap().images
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while total() < wanted {
                    let (mut own, mut own_nested) = Default::default();
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let trial = trial(seed);
                    let again = trial.recording.steps().iter().filter(|step| is_recycling(step));
                    recycled.fetch_add(again.count() as u64, Ordering::Relaxed);
                    trial.check(&mut own, &mut own_nested);
                    counts.lock().unwrap().add(&own);
                    nested.lock().unwrap().add(&own_nested);
                }
            });
        }
    });
    assert!(total() >= wanted);
    let (counts, nested) = (counts.into_inner().unwrap(), nested.into_inner().unwrap());
    let (seeds, recycled) = (next.into_inner(), recycled.into_inner());
    assert!(recycled > 0, "SEGMENT-3: no segment was used again");
    tell(&format!("segments used again: {recycled}"));
    tell(&format!("crash images: {seeds} workloads; {counts}; in recovery: {nested}"));
    for kind in ["synced", "prefix", "torn", "steps", "sectors", "blocks", "ruined"] {
        assert!(counts.by_kind.get(kind).is_some_and(|count| *count > 0), "no {kind} image");
    }
}

/// The way the tests above see the log is the way everybody sees it: the same images open with
/// the threads of [`Log::open`].
#[test]
fn images_open_with_threads_too() {
    let trial = trial(1);
    let mut number = 0;
    let plan = CrashPlan { seed: 1, subsets_max: 4 };
    let mut opened = 0;
    trial.recording.visit(plan, &[], |image| {
        number += 1;
        if number % 25 != 0 {
            return;
        }
        opened += 1;
        let disk = image.disk();
        let (env, _) = environment(&disk, 5);
        let (log, report) = Log::open(&env, crash::directory(), trial.config.clone()).unwrap();
        let observed = crash::model::Model::observe(&log, !report.clean && !report.fresh).unwrap();
        let (required, possible) = trial.bounds(image.position);
        assert!((required..=possible).any(|count| trial.promises.models[count] == observed));
        log.close_blocking().unwrap();
    });
    assert!(opened > 10, "{opened}");
}

/// LOG-2 and SEGMENT-1 for every workload, LOG-1 for those whose partitions are all under
/// `commit`: what has to be durable before a byte of the journal is written.
#[test]
fn nothing_is_written_before_what_it_builds_on_is_durable() {
    let mut safe_workloads = 0;
    for seed in 0..30 {
        let trial = trial(seed);
        let mut changes = trial.promises.submitted.iter().flat_map(|it| &it.commit.partitions);
        let all_safe = changes.all(|change| match change {
            PartitionChange::Create { flush, .. } | PartitionChange::Flush { flush, .. } => {
                *flush == FlushPolicy::Commit
            }
            PartitionChange::Delete { .. } | PartitionChange::LogStart { .. } => true,
        });
        safe_workloads += u64::from(all_safe);
        let steps = trial.recording.steps();
        let segments: BTreeSet<FileId> = steps.iter().filter_map(segment_created).collect();
        let mut zeroed: BTreeMap<FileId, u64> = BTreeMap::new();
        for (position, step) in steps.iter().enumerate() {
            if let Step::Preallocate { file, length } = step {
                zeroed.insert(*file, *length);
            }
            let Step::Write { file, offset, bytes } = step else { continue };
            // Old headers are wiped while the frames before are not synced yet.
            if !segments.contains(file) || bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            let end = offset + bytes.len() as u64;
            assert!(zeroed.get(file) >= Some(&end), "SEGMENT-1, seed {seed}, position {position}");
            for pending in trial.recording.pending(position) {
                let Step::Write { file: other, .. } = pending else { continue };
                if segments.contains(&other) {
                    assert_eq!(other, *file, "LOG-2, seed {seed}, position {position}");
                    assert!(!all_safe, "LOG-1, seed {seed}, position {position}");
                }
            }
        }
    }
    assert!(safe_workloads > 0, "no workload is under `commit` alone");
}

fn is_recycling(step: &Step) -> bool {
    matches!(step, Step::Rename { to, .. } if to.extension().is_some_and(|it| it == "wal"))
}

fn segment_created(step: &Step) -> Option<FileId> {
    match step {
        Step::Create { path, file } if path.extension().is_some_and(|it| it == "wal") => {
            Some(*file)
        }
        _ => None,
    }
}
