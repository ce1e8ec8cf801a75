//! How fast a journal is recovered after a crash: writes one of some gigabytes, leaves it without
//! closing it, and opens it again. One JSON object on standard output. The files are in memory
//! then, so that it shows what the processor takes.
//!
//! ```text
//! cargo run --release -p lossproof-log --example bench_recovery -- MEGABYTES DIRECTORY
//! ```

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use lossproof_env::Environment;
use lossproof_log::{Commit, FlushPolicy, Log, LogConfig, PartitionChange, PartitionId, Stepper};
use lossproof_wire::batch::BatchBuilder;

const PARTITIONS: u64 = 16;
const RECORDS_PER_BATCH: usize = 64;
const RECORD_BYTES: usize = 1024;
/// Commits under way: enough for frames of some size.
const COMMITS_AT_A_TIME: usize = 64;

/// Nothing leaves the journal, however long it is.
fn config() -> LogConfig {
    LogConfig { segment_bytes: 1 << 30, checkpoint_bytes: u64::MAX, ..LogConfig::default() }
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new();
    for _ in 0..RECORDS_PER_BATCH {
        builder.push(0, None, Some(&[b'x'; RECORD_BYTES]), &[]);
    }
    builder.build().expect("a batch")
}

fn fill(stepper: &mut Stepper, bytes: usize) {
    for id in 1..=PARTITIONS {
        let create = PartitionChange::Create {
            id: PartitionId(id),
            topic_id: [1; 16],
            index: id as i32,
            flush: FlushPolicy::Commit,
        };
        commit(stepper, vec![Commit::partition(create)]);
    }
    let batch = batch();
    let mut partitions = (1..=PARTITIONS).cycle();
    for _ in 0..bytes / (batch.len() * COMMITS_AT_A_TIME) {
        let ids = partitions.by_ref().take(COMMITS_AT_A_TIME);
        commit(stepper, ids.map(|id| Commit::append(PartitionId(id), batch.clone())).collect());
    }
}

fn commit(stepper: &mut Stepper, commits: Vec<Commit>) {
    for outcome in stepper.submit(commits) {
        outcome.expect("acknowledged");
    }
}

fn high_watermarks(log: &Log) -> Vec<i64> {
    let ids = (1..=PARTITIONS).map(PartitionId);
    ids.map(|id| log.partition(id).expect("a partition").high_watermark).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("MEGABYTES DIRECTORY");
    let megabytes: usize = next().parse().expect("a number of megabytes");
    let directory = next();
    let directory = Path::new(&directory);
    let env = Environment::real();
    let (log, mut stepper, _) = Log::open_stepped(&env, directory, config()).expect("open");
    fill(&mut stepper, megabytes << 20);
    let before = high_watermarks(&log);
    // A crash of the process.
    drop((log, stepper));
    let begin = Instant::now();
    let (log, stepper, report) = Log::open_stepped(&env, directory, config()).expect("open");
    let seconds = begin.elapsed().as_secs_f64();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(high_watermarks(&log), before, "what was acknowledged is there");
    stepper.close().expect("close");
    let rate = megabytes as f64 * 1.048_576 / seconds;
    println!("{{\"megabytes\":{megabytes},\"seconds\":{seconds:.3},\"mb_per_second\":{rate:.0}}}");
}
