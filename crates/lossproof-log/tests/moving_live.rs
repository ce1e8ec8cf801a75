//! Batches are read while they move: MOVE-1, READ-3. With the threads of a real log on real files:
//! what is asserted holds in every order in which they come to run.

use crate::support;

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use lossproof_env::Environment;
use lossproof_log::{
    Commit, FlushPolicy, Helper, Log, LogConfig, PartitionChange, PartitionId, StoredBatch,
};
use support::{create, values_of};

const PARTITIONS: u64 = 5;
const RECORDS: i64 = 1_500;
/// Behind the end by more than this, records are given up.
const KEPT: i64 = 400;
/// Far longer than the mover has ever needed to catch up: some seconds on a busy machine.
const LOOKS_MAX: usize = 120_000;
const LOOK_PAUSE: Duration = Duration::from_millis(1);
/// As many as would be a gigabyte in the journal.
const COMMITS_MAX: usize = 300_000;

fn text(offset: i64) -> String {
    format!("{offset} {}", "y".repeat((offset as usize * 37) % 900))
}

fn check(id: PartitionId, batches: &[StoredBatch], mut next: i64) -> i64 {
    for batch in batches {
        for (offset, value) in values_of(batch) {
            assert!(offset <= next, "partition {id}: {offset} came for {next}");
            assert_eq!(value, text(offset), "partition {id}");
        }
        next = next.max(batch.last_offset + 1);
    }
    next
}

/// Reads a partition from its start to its end, again and again, until nothing more comes.
fn read_all(log: &Log, id: PartitionId, done: &AtomicBool, starts: &[AtomicI64]) -> u64 {
    let mut rounds = 0;
    loop {
        let last_round = done.load(Ordering::Acquire);
        let mut next = log.partition(id).unwrap().log_start;
        loop {
            let slice = match log.read(id, next, 64 << 10) {
                Ok(slice) => slice,
                Err(error) => {
                    // The start may have been raised in between, and then that is the error.
                    let start = starts[id.0 as usize].load(Ordering::Acquire);
                    assert!(next < start, "partition {id} at {next}, start {start}: {error}");
                    let raised = log.partition(id).unwrap().log_start;
                    assert!(raised > next, "{error}");
                    next = raised;
                    continue;
                }
            };
            if slice.batches.is_empty() {
                break;
            }
            next = check(id, &slice.batches, next);
        }
        rounds += 1;
        if last_round {
            assert_eq!(next, RECORDS, "partition {id}");
            return rounds;
        }
    }
}

fn write_all(log: &Log, starts: &[AtomicI64]) {
    for offset in 0..RECORDS {
        let mut commit = Commit::default();
        for id in (1..=PARTITIONS).map(PartitionId) {
            commit.appends.extend(Commit::append(id, support::batch(&[&text(offset)])).appends);
        }
        if offset % 100 == 99 && offset > KEPT {
            let id = PartitionId(1 + (offset as u64 / 100) % PARTITIONS);
            let start = offset - KEPT;
            starts[id.0 as usize].store(start, Ordering::Release);
            commit.partitions = vec![PartitionChange::LogStart { id, offset: start }];
        }
        log.commit_blocking(commit).unwrap();
    }
}

/// A segment may go meanwhile.
fn journal_bytes(directory: &Path) -> u64 {
    let journal = std::fs::read_dir(directory.join("journal")).unwrap();
    journal.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

/// Whether it comes to be so.
fn eventually(mut is_so: impl FnMut() -> bool) -> bool {
    (0..LOOKS_MAX).any(|_| {
        std::thread::sleep(LOOK_PAUSE);
        is_so()
    })
}

#[test]
fn readers_see_every_record_while_batches_move() {
    let scratch = tempfile::tempdir().unwrap();
    let config = LogConfig { index_entries_max: 100_000, ..LogConfig::small() };
    let (log, _) = Log::open(&Environment::real(), scratch.path(), config.clone()).unwrap();
    for id in (1..=PARTITIONS).map(PartitionId) {
        log.commit_blocking(create(id, FlushPolicy::Commit)).unwrap();
    }
    let done = AtomicBool::new(false);
    let starts: Vec<AtomicI64> = (0..=PARTITIONS).map(|_| AtomicI64::new(0)).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (1..=PARTITIONS)
            .map(|id| {
                let (log, done, starts) = (&log, &done, &starts[..]);
                scope.spawn(move || read_all(log, PartitionId(id), done, starts))
            })
            .collect();
        let written = std::panic::catch_unwind(AssertUnwindSafe(|| write_all(&log, &starts)));
        done.store(true, Ordering::Release);
        assert!(written.is_ok(), "the writer failed");
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    // Nobody else waits for the mover, which goes on when the last record is written.
    let written = RECORDS as u64 * PARTITIONS * 600;
    let has_moved = eventually(|| journal_bytes(scratch.path()) < written / 2);
    let journal = journal_bytes(scratch.path());
    assert!(has_moved, "{journal} of {written} bytes are in the journal still");
    let cold = std::fs::read_dir(scratch.path().join("cold")).unwrap().count();
    assert!(cold > 0, "nothing has moved");
    log.close_blocking().unwrap();
    let (log, report) = Log::open(&Environment::real(), scratch.path(), config).unwrap();
    assert!(report.clean && report.is_sound(), "{report:?}");
    for id in (1..=PARTITIONS).map(PartitionId) {
        read_all(&log, id, &AtomicBool::new(true), &starts);
    }
    log.close_blocking().unwrap();
}

/// The trap: moving ends with one line in the log, and the journal grows until the disk is full.
#[test]
fn a_mover_that_has_ended_is_among_the_figures() {
    // MOVE-4
    let scratch = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(&Environment::real(), scratch.path(), LogConfig::small()).unwrap();
    let id = PartitionId(1);
    log.commit_blocking(create(id, FlushPolicy::Commit)).unwrap();
    std::fs::remove_dir(scratch.path().join("cold")).unwrap();
    let long = "x".repeat(3_000);
    let mut written = 0;
    while log.figures().ended.is_empty() && written < COMMITS_MAX {
        log.commit_blocking(support::append(id, &[&long])).unwrap();
        written += 1;
    }
    let ended = &log.figures().ended[0];
    assert_eq!(ended.thread, Helper::Move);
    assert!(ended.cause.contains("write a cold file"), "{}", ended.cause);
    log.close_blocking().unwrap();
}
