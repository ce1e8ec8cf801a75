//! Acknowledged 1 KiB appends per second at 1, 8, 64 and 256 waiters, beside the rate of raw
//! fdatasyncs (4 KiB overwrites of a zero-written file) of the same disk in the same run.
//!
//! Rounds are interleaved (raw, 1, 8, 64, 256, raw, ...), so that a disk that changes its mood hits
//! all alike; medians are compared. `--json` prints one object on standard output.
//!
//! ```text
//! cargo run --release -p lossproof-log --example bench_log -- [--json] [--rounds N] [--ms N] [DIR]
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lossproof_env::{DiskFile, Environment};
use lossproof_log::{Commit, FlushPolicy, Log, LogConfig, PartitionChange, PartitionId};
use lossproof_wire::batch::BatchBuilder;

const WAITERS: [usize; 4] = [1, 8, 64, 256];
const RECORD_BYTES: usize = 1024;
const RAW_FILE_BYTES: u64 = 64 << 20;
const PARTITION: PartitionId = PartitionId(1);
/// At least so much of the raw rate at one waiter, and so many times it at 64.
const BARS: [(usize, f64); 2] = [(1, 0.7), (64, 12.0)];

struct Options {
    json: bool,
    rounds: usize,
    slice: Duration,
    directory: PathBuf,
}

fn options(scratch: &Path) -> Options {
    let mut options = Options {
        json: false,
        rounds: 7,
        slice: Duration::from_secs(1),
        directory: scratch.to_owned(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number =
            || arguments.next().and_then(|text| text.parse::<u64>().ok()).expect("a number");
        match argument.as_str() {
            "--json" => options.json = true,
            "--rounds" => options.rounds = number() as usize,
            "--ms" => options.slice = Duration::from_millis(number()),
            directory => options.directory = directory.into(),
        }
    }
    options
}

/// Raw fdatasyncs per second: one 4 KiB overwrite each.
fn raw_rate(file: &dyn DiskFile, slice: Duration) -> f64 {
    let block = [0x5a; 4096];
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < slice {
        let at = count * block.len() as u64 % RAW_FILE_BYTES;
        file.write_all_at(&block, at).expect("write");
        file.sync_data().expect("fdatasync");
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Acknowledged appends per second by `waiters` tasks, each with one record in flight.
fn log_rate(log: &Log, waiters: usize, slice: Duration, batch: &Bytes) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let done = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..waiters)
            .map(|_| {
                let (log, batch, done) = (log.clone(), batch.clone(), done.clone());
                tokio::spawn(async move {
                    while start.elapsed() < slice {
                        let commit = Commit::append(PARTITION, batch.clone());
                        log.commit(commit).await.expect("acknowledged");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a waiter");
        }
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&[b'x'; RECORD_BYTES]), &[]);
    builder.build().expect("one record")
}

fn main() {
    let scratch = tempfile::tempdir_in(".").expect("a directory on the disk to measure");
    let options = options(scratch.path());
    let env = Environment::real();
    let raw_path = options.directory.join("raw");
    let raw = env.disk.create(&raw_path).expect("create");
    raw.preallocate(RAW_FILE_BYTES).expect("zeros");
    raw.sync_data().expect("fdatasync");
    let config = LogConfig { index_entries_max: 1 << 24, ..LogConfig::default() };
    let (log, _) = Log::open(&env, &options.directory.join("log"), config).expect("open");
    let create = PartitionChange::Create {
        id: PARTITION,
        topic_id: [1; 16],
        index: 0,
        flush: FlushPolicy::Commit,
    };
    log.commit_blocking(Commit::partition(create)).expect("create");

    let batch = batch();
    let mut raws = Vec::new();
    let mut rates = vec![Vec::new(); WAITERS.len()];
    for round in 0..=options.rounds {
        let raw_now = raw_rate(&*raw, options.slice);
        let now: Vec<f64> =
            WAITERS.iter().map(|count| log_rate(&log, *count, options.slice, &batch)).collect();
        eprintln!("round {round}: raw {raw_now:.0}/s, log {now:.0?}/s");
        // The first round warms up.
        if round > 0 {
            raws.push(raw_now);
            rates.iter_mut().zip(now).for_each(|(rates, rate)| rates.push(rate));
        }
    }
    log.close_blocking().expect("close");
    env.disk.remove(&raw_path).expect("remove");
    report(&options, &raws, &rates);
}

fn report(options: &Options, raws: &[f64], rates: &[Vec<f64>]) {
    let raw = median(raws);
    let mut rows = Vec::new();
    for (waiters, rates) in WAITERS.iter().zip(rates) {
        let ratios: Vec<f64> = rates.iter().zip(raws).map(|(rate, raw)| rate / raw).collect();
        let (low, high) = ratios
            .iter()
            .fold((f64::MAX, 0.0_f64), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
        let (rate, ratio) = (median(rates), median(&ratios));
        let bar = BARS.iter().find(|(count, _)| count == waiters).map(|(_, bar)| *bar);
        let verdict = match bar {
            Some(bar) if ratio >= bar => format!("reached {bar}"),
            Some(bar) => format!("MISSED {bar}"),
            None => String::new(),
        };
        if !options.json {
            println!(
                "{waiters:>4} waiters {rate:>9.0}/s {ratio:>7.2} x raw \
                 ({low:.2} to {high:.2}) {verdict}"
            );
        }
        let bar = bar.map_or("null".to_owned(), |bar| bar.to_string());
        rows.push(format!(
            "{{\"waiters\":{waiters},\"per_second\":{rate:.0},\"ratio\":{ratio:.3},\
             \"ratio_min\":{low:.3},\"ratio_max\":{high:.3},\"bar\":{bar}}}"
        ));
    }
    if options.json {
        println!(
            "{{\"bench\":\"log\",\"rounds\":{},\"record_bytes\":{RECORD_BYTES},\
             \"raw_fdatasync_per_second\":{raw:.0},\"waiters\":[{}]}}",
            options.rounds,
            rows.join(",")
        );
    } else {
        println!("     raw     {raw:>9.0}/s");
    }
}
