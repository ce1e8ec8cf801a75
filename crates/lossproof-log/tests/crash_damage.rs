//! The medium decays: sixteen bytes of the journal, of a cold file or of a checkpoint change, at
//! every place of it, after everything was acknowledged and known to be durable. Then either
//! nothing is missing, or a check names it with its range, and so does the start, but for what
//! stands in a cold file, which is an error when it is read: it is never cut as if it were a torn
//! end, never skipped, and its offsets are never given again. Nor does anything change when the
//! rest of the journal moves to cold files. Held here: RECOVERY-1, RECOVERY-4, LOOK-3, MOVE-3.

use crate::crash;

use crash::model::{Model, ModelBatch};
use crash::run::Run;
use crash::workload::Action;
use crash::{environment, tell, workload};
use lossproof_env::{Choice, SimDisk};
use lossproof_log::{
    CheckReport, Commit, Log, LogConfig, PartitionId, ReadError, RecoveryReport, Stepper, check,
};
use lossproof_wire::batch::BatchBuilder;

const STEP_BYTES: usize = 96;
const DAMAGE: [u8; 16] = [0xa5; 16];
const ACTIONS: usize = 16;

/// Base offset and the client's part of a batch.
type Found = (i64, bytes::Bytes);

/// What one partition still gives: batches, and the ranges that it calls damaged.
fn read_around(log: &Log, id: PartitionId) -> (Vec<Found>, Vec<(i64, i64)>) {
    let view = log.partition(id).unwrap();
    let (mut batches, mut damaged, mut next) = (Vec::new(), Vec::new(), view.log_start);
    while next < view.high_watermark {
        match log.read(id, next, 1 << 20) {
            Ok(slice) => {
                assert!(!slice.batches.is_empty(), "nothing at {next}, and no word of damage");
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
    /// The damage is in a cold file: nobody has looked there yet.
    cold: bool,
}

impl Case<'_> {
    /// How many batches are missing. Each of them must be reported.
    fn check(&mut self) -> usize {
        if !self.checked.is_damaged() {
            let observed = Model::observe(&self.log, false).unwrap();
            assert!(&observed == self.model, "something is missing in silence: {observed:?}");
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
            let end = partition.batches.last().map_or(0, |batch| batch.last_offset + 1);
            self.check_next(*id, end);
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

/// The planted bug `cut-damaged-acked` must fail this test.
#[test]
fn damage_of_acknowledged_data_is_reported_never_cut() {
    let (mut tried, mut moved, mut missing, mut missing_cold) = (0, 0, 0, 0);
    for seed in 0..4 {
        let mut run = Run::new(SimDisk::new(), seed, LogConfig::small());
        let mut actions = workload::draw(seed, ACTIONS);
        if seed % 2 == 1 {
            actions.extend([Action::Reopen, Action::Checkpoint]);
        }
        actions.push(Action::Idle);
        run.all(&actions).unwrap();
        run.close().unwrap();
        run.disk.observe(None);
        let model = run.promises.models.last().unwrap();
        let image = run.disk.recording().image(usize::MAX, &Choice::Synced);
        for path in run.disk.paths() {
            let kind = path.extension().and_then(|extension| extension.to_str());
            let Some(kind @ ("wal" | "cold" | "a" | "b")) = kind else { continue };
            let bytes = run.disk.bytes(&path).unwrap();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            for at in (0..used).step_by(STEP_BYTES) {
                let disk = image.disk();
                disk.damage(&path, at as u64, &DAMAGE).unwrap();
                let (env, _) = environment(&disk, 9);
                let config = LogConfig::small();
                let checked = check(&env, crash::directory(), config, &mut |_| {}).unwrap().report;
                let opened = Log::open_stepped(&env, crash::directory(), LogConfig::small());
                let (log, stepper, report) = opened.unwrap();
                tried += 1;
                let cold = kind == "cold";
                let mut case = Case { log, stepper, report, checked, model, cold };
                let struck = case.check();
                // Nothing of it is news to who moves: only that would end the moving.
                let moves = case.stepper.checkpoint();
                assert_eq!(moves, Ok(()), "MOVE-3: {} at {at}", path.display());
                if case.checked.is_damaged() {
                    moved += 1;
                    assert_eq!(case.check(), struck, "{} at {at}: moved", path.display());
                }
                missing += struck;
                missing_cold += if cold { struck } else { 0 };
            }
        }
    }
    assert!(tried > 500, "{tried}");
    assert!(moved > 100, "{moved}: hardly anything has moved after the damage");
    assert!(missing_cold > 10, "{missing_cold}: the damage struck nothing that was moved");
    assert!(missing > 100, "{missing}: the damage struck nothing");
    tell(&format!("damage: {tried} places, {missing} batches struck, all of them reported"));
}
