//! Opens a log on what a crash has left and compares it with what was promised.
//!
//! The oracle of the design: every acknowledged record present and equal, nothing that was never
//! sent, dense offsets, producer state not behind the log, nothing deduplicated that is not
//! durable, acknowledged state kept. Since the journal is one sequence it comes down to one
//! question: which of the first k commits does the log hold, and is that k allowed?

use lossproof_env::SimDisk;
use lossproof_log::{Commit, Log, LogConfig, RecoveryReport, Stepper};

use super::model::Model;
use super::run::{Promises, writes_anything};
use super::{directory, environment};

/// A log that was opened on an image, and how many of the first commits it holds.
pub(crate) struct Opened {
    /// A log without a handle ends.
    _log: Log,
    pub(crate) stepper: Stepper,
    pub(crate) report: RecoveryReport,
    pub(crate) count: usize,
}

/// Opens `disk` and finds a number of commits from `required` to `possible` that explains it.
pub(crate) fn open(
    disk: &SimDisk,
    config: &LogConfig,
    promises: &Promises,
    required: usize,
    possible: usize,
) -> Result<Opened, String> {
    let (env, _) = environment(disk, 0xc4a5_0000);
    let opened = Log::open_stepped(&env, directory(), config.clone());
    let (log, stepper, report) = opened.map_err(|error| format!("does not open: {error:?}"))?;
    if !report.damage.is_empty() {
        return Err(format!("a crash damages nothing acknowledged: {:?}", report.damage));
    }
    if let Some(fenced) = log.fenced() {
        return Err(format!("opened, but fenced: {fenced:?}"));
    }
    let observed = Model::observe(&log, !report.clean && !report.fresh)?;
    let explains = |count: &usize| promises.models[*count] == observed;
    if let Some(count) = (required..=possible).rev().find(explains) {
        return Ok(Opened { _log: log, stepper, report, count });
    }
    let elsewhere = (0..promises.models.len()).rev().find(explains);
    Err(match elsewhere {
        Some(count) => {
            format!("holds the first {count} commits, must be {required} to {possible}; {report:?}")
        }
        None => format!("holds what no run of commits explains: {observed:?}; {report:?}"),
    })
}

/// Goes on where the log stands, as clients do after a crash: retries of what is durable are
/// known again, what was lost is taken as new, ids given before are not given again. Then the
/// power goes once more.
pub(crate) fn go_on(
    mut opened: Opened,
    disk: &SimDisk,
    config: &LogConfig,
    promises: &Promises,
    position: usize,
) -> Result<(), String> {
    let given = promises.producer_ids.iter().filter(|(at, _)| *at <= position);
    let ids = opened.stepper.reserve_producer_ids(3).map_err(|error| error.to_string())?;
    for (_, block) in given {
        if ids.first < block.first + i64::from(block.count) && block.first < ids.first + 3 {
            return Err(format!("producer ids {block:?} are given again: {ids:?}"));
        }
    }
    let count = opened.count;
    retry_windows(&mut opened, &promises.models[count])?;
    let mut model = promises.models[opened.count].clone();
    let mut models = vec![model.clone()];
    let mut safe = 0;
    for (index, lost) in promises.submitted.iter().enumerate().skip(opened.count) {
        let is_safe = model.is_safe(&lost.commit);
        let expected = model.apply(&lost.commit);
        let is_safe = is_safe && writes_anything(&lost.commit, &expected);
        models.push(model.clone());
        let answer = opened.stepper.submit(vec![lost.commit.clone()]).remove(0);
        let committed = answer.map_err(|error| format!("commit {index} again: {error}"))?;
        if committed.appended != expected {
            let found = committed.appended;
            return Err(format!("commit {index} again: expected {expected:?}, got {found:?}"));
        }
        if is_safe {
            safe = models.len() - 1;
        }
    }
    let continued = Promises { models, ..Promises::default() };
    let last = continued.models.len() - 1;
    open(&disk.power_cut(), config, &continued, safe, last)
        .map(drop)
        .map_err(|error| format!("after going on and a second power cut: {error}"))
}

fn retry_windows(opened: &mut Opened, model: &Model) -> Result<(), String> {
    for ((partition, producer_id), window) in model.windows() {
        for (sequence, batch) in window {
            let commit = Commit::append(partition, batch.as_sent());
            let answer = opened.stepper.submit(vec![commit]).remove(0);
            let found = answer.map_err(|error| {
                format!("retry of {sequence:?} in partition {partition} is refused: {error}")
            })?;
            let found = found.appended[0];
            if !found.duplicate || found.base_offset != batch.base_offset {
                return Err(format!(
                    "retry of producer {producer_id} in partition {partition} at {} gave {found:?}",
                    batch.base_offset
                ));
            }
        }
    }
    Ok(())
}
