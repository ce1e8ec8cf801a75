//! The medium decays: sixteen bytes or a block of the journal, of a cold file or of a checkpoint
//! change, at every place of it, after everything was acknowledged and known to be durable. Then
//! either nothing is missing, or a check names it with its range, and so does the start, but for
//! what stands in a cold file, which is an error when it is read: it is never cut as if it were a
//! torn end, never skipped, and its offsets are never given again. Nor does anything change when
//! the rest of the journal moves to cold files; nor where another loss was given up before. Held
//! here: RECOVERY-1, RECOVERY-4, LOOK-3, MOVE-3, ACCEPT-5.

use crate::{crash, support};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use crash::model::{Model, ModelBatch};
use crash::run::Run;
use crash::workload::Action;
use crash::{environment, tell, workload};
use lossproof_env::{Choice, SimDisk};
use lossproof_log::{
    CheckReport, Commit, Log, LogConfig, Loss, OffsetRange, PartitionId, PartitionRange, ReadError,
    RecoveryReport, StateKind, Stepper, check,
};
use lossproof_wire::batch::BatchBuilder;

const STEP_BYTES: usize = 96;
const DAMAGE: [u8; 16] = [0xa5; 16];
const BLOCK: [u8; 4096] = [0; 4096];
const ACTIONS: usize = 16;

/// Base offset and the client's part of a batch.
type Found = (i64, Bytes);

/// What one partition still gives: batches, and the ranges that it calls damaged.
fn read_around(log: &Log, id: PartitionId) -> (Vec<Found>, Vec<(i64, i64)>) {
    let view = log.partition(id).unwrap();
    let (mut batches, mut damaged, mut next) = (Vec::new(), Vec::new(), view.log_start);
    while next < view.high_watermark {
        if let Some(given_up) = view.accepted.iter().find(|range| range.contains(next)) {
            next = given_up.last + 1;
            continue;
        }
        match log.read(id, next, 1 << 20) {
            Ok(slice) => {
                let first = slice.batches.first();
                let holds_it =
                    first.is_some_and(|it| (it.base_offset..=it.last_offset).contains(&next));
                assert!(holds_it, "nothing at {next}, and no word of damage");
                for stored in slice.batches {
                    next = stored.last_offset + 1;
                    batches.push((stored.base_offset, stored.bytes.slice(16..)));
                }
            }
            Err(ReadError::Damaged { range, .. }) => {
                damaged.push((range.first, range.last));
                next = range.last.saturating_add(1);
            }
            Err(error) => panic!("partition {id} at {next}: {error}"),
        }
    }
    (batches, damaged)
}

struct Case<'a> {
    log: Log,
    stepper: Stepper,
    report: RecoveryReport,
    /// What a look at the stopped log has told.
    checked: CheckReport,
    model: &'a Model,
    /// The log end of each partition.
    ends: &'a BTreeMap<PartitionId, i64>,
    /// The damage is in a cold file: nobody has looked there yet.
    cold: bool,
}

impl Case<'_> {
    /// How many batches are missing. Each of them must be reported.
    fn check(&mut self) -> usize {
        if !self.checked.is_damaged() {
            let states = states_of(&self.log);
            assert_eq!(states, self.model.states, "an entry is missing in silence");
            if self.checked.accepted.is_empty() && self.checked.accepted_states.is_empty() {
                let observed = Model::observe(&self.log, false).unwrap();
                assert!(&observed == self.model, "something is missing in silence: {observed:?}");
            }
        }
        let mut missing = 0;
        for (id, partition) in &self.model.partitions {
            if self.log.partition(*id).is_none() {
                for batch in &partition.batches {
                    assert!(self.is_named(*id, batch), "{batch:?} of {id} is gone in silence");
                }
                missing += partition.batches.len();
                continue;
            }
            let (found, damaged) = read_around(&self.log, *id);
            let view = self.log.partition(*id).unwrap();
            let lost = |batch: &&ModelBatch| {
                !found.contains(&(batch.base_offset, batch.client_part.clone()))
            };
            for batch in partition.visible().filter(lost) {
                missing += 1;
                let covers =
                    |first: i64, last: i64| first <= batch.base_offset && batch.last_offset <= last;
                let called = damaged.iter().any(|(first, last)| covers(*first, *last));
                let viewed = view.damaged.iter().any(|range| covers(range.first, range.last));
                let told = self.cold || !self.report.damage.is_empty();
                assert!(
                    told && self.is_named(*id, batch) && (called || viewed),
                    "partition {id} lost {} to {} in silence: {:?} {damaged:?}",
                    batch.base_offset,
                    batch.last_offset,
                    self.report
                );
            }
            self.check_next(*id, self.ends.get(id).copied().unwrap_or(0));
        }
        missing
    }

    /// Whether the check has said that all of a batch is lost.
    fn is_named(&self, id: PartitionId, batch: &ModelBatch) -> bool {
        self.checked.lost.iter().any(|lost| {
            let range = lost.range;
            lost.partition == id
                && range.first <= batch.base_offset
                && batch.last_offset <= range.last
        })
    }

    /// A new batch gets an offset that was never given, or is refused.
    fn check_next(&mut self, id: PartitionId, end: i64) {
        let mut builder = BatchBuilder::new();
        builder.push(1, None, Some(b"after"), &[]);
        let commit = Commit::append(id, builder.build().unwrap());
        if let Ok(committed) = self.stepper.submit(vec![commit]).remove(0) {
            let base_offset = committed.appended[0].base_offset;
            assert!(base_offset >= end, "offset {base_offset} of partition {id} is given again");
        }
    }
}

/// A stopped log, and what it held.
struct Stopped {
    disk: SimDisk,
    model: Model,
    ends: BTreeMap<PartitionId, i64>,
}

fn states_of(log: &Log) -> BTreeMap<(StateKind, Bytes), Bytes> {
    let of_kind = |kind| log.state(kind).into_iter().map(move |(key, value)| ((kind, key), value));
    StateKind::ALL.into_iter().flat_map(of_kind).collect()
}

fn ends_of(log: &Log) -> BTreeMap<PartitionId, i64> {
    let end = |id| (id, log.partition(id).unwrap().high_watermark);
    log.partitions().into_iter().map(end).collect()
}

fn open(disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
    let (env, _) = environment(disk, 9);
    Log::open_stepped(&env, crash::directory(), LogConfig::small()).unwrap()
}

fn look(disk: &SimDisk) -> CheckReport {
    let (env, _) = environment(disk, 9);
    check(&env, crash::directory(), LogConfig::small(), &mut |_| {}).unwrap().report
}

/// One with transactions, keyed entries, and where the seed is odd cold files and a checkpoint.
fn stopped(seed: u64) -> Stopped {
    let mut run = Run::new(SimDisk::new(), seed, LogConfig::small());
    let mut actions = workload::draw(seed, ACTIONS);
    if seed % 2 == 1 {
        actions.extend([Action::Reopen, Action::Checkpoint]);
    }
    actions.push(Action::Idle);
    run.all(&actions).unwrap();
    run.close().unwrap();
    run.disk.observe(None);
    let model = run.promises.models.last().unwrap().clone();
    let disk = run.disk.recording().image(usize::MAX, &Choice::Synced).disk();
    let ends = ends_of(&open(&disk.power_cut()).0);
    Stopped { disk, model, ends }
}

/// The files that hold what was acknowledged, each with what of it is used.
fn files(disk: &SimDisk) -> Vec<(PathBuf, usize)> {
    let used = |path: PathBuf| {
        let kind = path.extension().and_then(|extension| extension.to_str())?;
        let bytes = disk.bytes(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        matches!(kind, "wal" | "cold" | "a" | "b").then_some((path, used))
    };
    disk.paths().into_iter().filter_map(used).collect()
}

fn is_cold(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "cold")
}

#[derive(Debug, Default)]
struct Count {
    tried: usize,
    moved: usize,
    missing: usize,
    missing_cold: usize,
}

impl Count {
    /// Strikes one place, and looks whether all that is missing then is told.
    fn strike(&mut self, stopped: &Stopped, path: &Path, at: usize, damage: &[u8]) {
        let Stopped { disk, model, ends } = stopped;
        let disk = disk.power_cut();
        disk.damage(path, at as u64, damage).unwrap();
        let checked = look(&disk);
        let (log, stepper, report) = open(&disk);
        let cold = is_cold(path);
        let mut case = Case { log, stepper, report, checked, model, ends, cold };
        let struck = case.check();
        // Nothing of it is news to who moves: only that would end the moving.
        if case.log.fenced().is_none() {
            let moves = case.stepper.checkpoint();
            assert_eq!(moves, Ok(()), "MOVE-3: {} at {at}", path.display());
            if case.checked.is_damaged() {
                self.moved += 1;
                assert_eq!(case.check(), struck, "{} at {at}: moved", path.display());
            }
        }
        self.tried += 1;
        self.missing += struck;
        self.missing_cold += if cold { struck } else { 0 };
    }
}

/// The planted bug `cut-damaged-acked` must fail this test.
#[test]
fn damage_of_acknowledged_data_is_reported_never_cut() {
    let mut count = Count::default();
    for seed in 0..4 {
        let stopped = stopped(seed);
        for (path, used) in files(&stopped.disk) {
            for at in (0..used).step_by(STEP_BYTES) {
                count.strike(&stopped, &path, at, &DAMAGE);
            }
            for at in (0..used).step_by(BLOCK.len()) {
                count.strike(&stopped, &path, at, &BLOCK);
            }
        }
    }
    let Count { tried, moved, missing, missing_cold } = count;
    assert!(tried > 500, "{tried}");
    assert!(moved > 100, "{moved}: hardly anything has moved after the damage");
    assert!(missing_cold > 10, "{missing_cold}: the damage struck nothing that was moved");
    assert!(missing > 100, "{missing}: the damage struck nothing");
    tell(&format!("damage: {tried} places, {missing} batches struck, all of them reported"));
}

/// All that is lost is given up, as far as it can be named; `None` where nothing is.
fn given_up(stopped: &Stopped, path: &Path, at: usize) -> Option<Stopped> {
    let disk = stopped.disk.power_cut();
    disk.damage(path, at as u64, &BLOCK).unwrap();
    let checked = look(&disk);
    let (log, mut stepper, _) = open(&disk);
    let is_known = |lost: &&PartitionRange| log.partition(lost.partition).is_some();
    let ended = |lost: &PartitionRange| {
        let OffsetRange { first, last } = lost.range;
        let last = if lost.range.is_open() { first + 1_000 } else { last };
        Loss::Offsets(PartitionRange { range: OffsetRange { first, last }, ..*lost })
    };
    let mut losses: Vec<Loss> = checked.lost.iter().filter(is_known).map(ended).collect();
    losses.extend(checked.lost_states.iter().copied().map(Loss::State));
    if losses.is_empty() || log.fenced().is_some() {
        return None;
    }
    support::accept(&log, &mut stepper, losses).unwrap();
    let mut model = Model { states: states_of(&log), ..stopped.model.clone() };
    model.partitions.retain(|id, _| log.partition(*id).is_some());
    for (id, partition) in &mut model.partitions {
        let (found, _) = read_around(&log, *id);
        let is_there = |it: &ModelBatch| found.contains(&(it.base_offset, it.client_part.clone()));
        partition.batches.retain(is_there);
    }
    let ends = ends_of(&log);
    drop((log, stepper));
    Some(Stopped { disk: disk.power_cut(), model, ends })
}

#[test]
fn damage_that_comes_after_another_was_given_up_is_reported() {
    // ACCEPT-5
    let (mut count, mut decided) = (Count::default(), 0);
    for seed in 0..4 {
        let stopped = stopped(seed);
        for (path, used) in files(&stopped.disk) {
            for at in (0..used).step_by(BLOCK.len()) {
                let Some(decided_on) = given_up(&stopped, &path, at) else { continue };
                decided += 1;
                for (path, used) in files(&decided_on.disk) {
                    for at in (0..used).step_by(BLOCK.len()) {
                        count.strike(&decided_on, &path, at, &BLOCK);
                    }
                }
            }
        }
    }
    let Count { tried, missing, .. } = count;
    assert!(decided > 20 && missing > 100, "{decided} given up, {count:?}");
    tell(&format!("damage: {decided} losses given up, {tried} places after that, all reported"));
}
