//! One saturating librdkafka producer against three brokers in turn, round after round, so that a
//! disk or a machine that changes its mood hits all alike. Only ratios within a round count.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cache::{Cache, remove_all};
use crate::command::{cargo, run_to_log};
use crate::failure::{Context, Failure};
use crate::fetch::{any_java, kafka_libraries};
use crate::service::{Broker, Kafka};
use crate::workspace::Workspace;

const PARTITIONS: [u32; 2] = [1, 16];
const RECORD_BYTES: u64 = 1024;
/// Brokers on one core, the load on the other.
const BROKER_CPU: &str = "0";
const LOAD_CPU: &str = "1";
const LOAD_TIME_MAX: Duration = Duration::from_mins(5);
const RAW_SLICE: Duration = Duration::from_millis(500);
const RAW_FILE_BYTES: u64 = 64 << 20;
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// Kernel ticks per second in /proc on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

struct Target {
    name: &'static str,
    address: String,
    pid: u32,
}

/// One load against one target.
struct Sample {
    mb_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_seconds_per_million: f64,
}

/// All samples of one target at one number of partitions, in the order of the rounds.
struct Row {
    name: &'static str,
    partitions: u32,
    samples: Vec<Sample>,
}

pub(super) fn run(
    workspace: &Workspace,
    cache: &Cache,
    rounds: usize,
    records: u64,
) -> Result<(), Failure> {
    // On the disk of the build, not in a temporary directory that may be memory.
    let run = workspace.target().join(format!("bench-{}", std::process::id()));
    remove_all(&run)?;
    fs::create_dir_all(&run).context(run.display())?;
    let result = measure(workspace, cache, &run, rounds, records);
    remove_all(&run)?;
    result
}

fn measure(
    workspace: &Workspace,
    cache: &Cache,
    run: &Path,
    rounds: usize,
    records: u64,
) -> Result<(), Failure> {
    let (binary, load) = build(workspace)?;
    let ours = Broker::start_on_cpu(&binary, run, BROKER_CPU)?;
    let kafka = |name: &str, settings| Kafka::start(cache, &run.join(name), BROKER_CPU, settings);
    let defaults = kafka("kafka", "")?;
    let flushing = kafka("kafka-flushing", "log.flush.interval.messages=1\n")?;
    let targets = [
        Target { name: "lossproof (fsync)", address: ours.address(), pid: ours.pid() },
        Target {
            name: "Kafka, flush.interval.messages=1",
            address: flushing.address().to_owned(),
            pid: flushing.pid(),
        },
        Target {
            name: "Kafka, defaults (no fsync)",
            address: defaults.address().to_owned(),
            pid: defaults.pid(),
        },
    ];
    for target in &targets {
        create_topics(cache, run, target)?;
    }
    let raw = raw_file(run)?;
    let mut raw_rates = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for partitions in PARTITIONS {
        rows.extend(targets.iter().map(|it| Row {
            name: it.name,
            partitions,
            samples: Vec::new(),
        }));
    }
    for round in 0..=rounds {
        // The first round warms up.
        let counts = round > 0;
        let rate = raw_rate(&raw)?;
        eprintln!("round {round} of {rounds}: raw fdatasync {rate:.0}/s");
        if counts {
            raw_rates.push(rate);
        }
        for (row, target) in rows.iter_mut().zip(targets.iter().cycle()) {
            let sample = sample(&load, run, target, row.partitions, records)?;
            let rate = sample.mb_per_second;
            eprintln!("  {} on {} partitions: {rate:.1} MB/s", row.name, row.partitions);
            if counts {
                row.samples.push(sample);
            }
        }
    }
    print_table(&rows, &raw_rates, records, &targets);
    Ok(())
}

/// The broker as it is released, and the load.
fn build(workspace: &Workspace) -> Result<(PathBuf, PathBuf), Failure> {
    let client = ["-p", "lossproof-client", "--features", "rdkafka", "--example", "produce_load"];
    for what in [&["-p", "lossproof"][..], &client] {
        let mut command = cargo(workspace);
        let status = command.args(["build", "--release"]).args(what).status().context("cargo")?;
        if !status.success() {
            return Err(Failure::broken("the build failed"));
        }
    }
    let release = workspace.target().join("release");
    Ok((release.join("lossproof"), release.join("examples").join("produce_load")))
}

fn topic(partitions: u32) -> String {
    format!("bench-{partitions}")
}

fn create_topics(cache: &Cache, run: &Path, target: &Target) -> Result<(), Failure> {
    for partitions in PARTITIONS {
        let mut command = Command::new(any_java()?);
        command.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(kafka_libraries(cache)?.join("*"));
        command.args(["org.apache.kafka.tools.TopicCommand", "--create", "--topic"]);
        command.arg(topic(partitions)).args(["--partitions", &partitions.to_string()]);
        command.args(["--bootstrap-server", &target.address]);
        let log = run.join("topics.log");
        run_to_log(&log, &mut command, LOAD_TIME_MAX)?.expect_success("create the topic")?;
    }
    Ok(())
}

fn sample(
    load: &Path,
    run: &Path,
    target: &Target,
    partitions: u32,
    records: u64,
) -> Result<Sample, Failure> {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD_CPU]).arg(load).args([&target.address, &topic(partitions)]);
    command.args([partitions.to_string(), records.to_string(), RECORD_BYTES.to_string()]);
    let before = cpu_seconds(target.pid)?;
    let run = run_to_log(&run.join("load.log"), &mut command, LOAD_TIME_MAX)?;
    let used = cpu_seconds(target.pid)? - before;
    let text = run.expect_success("the load")?;
    let json = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
    let result: Value = serde_json::from_str(json).context("what the load printed")?;
    let number = |name: &str| {
        let found = result[name].as_f64();
        found.ok_or_else(|| Failure::broken(format!("the load printed no {name}: {json}")))
    };
    Ok(Sample {
        mb_per_second: (records * RECORD_BYTES) as f64 / 1e6 / number("seconds")?,
        p50_ms: number("p50_ms")?,
        p99_ms: number("p99_ms")?,
        cpu_seconds_per_million: used / (records as f64 / 1e6),
    })
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(&path)?;
    // The name in brackets may hold spaces; utime and stime are fields 14 and 15 of all.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    match (ticks(12), ticks(13)) {
        (Some(user), Some(system)) => Ok((user + system) / TICKS_PER_SECOND),
        _ => Err(Failure::broken(format!("{path} is not as expected: {text}"))),
    }
}

fn resident_mb(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0 / 1e6
}

/// A zero-written file to overwrite: what a journal's commits do at best.
fn raw_file(run: &Path) -> Result<File, Failure> {
    let path = run.join("raw");
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path);
    let file = file.context(path.display())?;
    for at in (0..RAW_FILE_BYTES).step_by(BLOCK.len()) {
        file.write_all_at(&[0; BLOCK.len()], at).context(path.display())?;
    }
    file.sync_all().context(path.display())?;
    Ok(file)
}

fn raw_rate(file: &File) -> Result<f64, Failure> {
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < RAW_SLICE {
        let at = count * BLOCK.len() as u64 % RAW_FILE_BYTES;
        file.write_all_at(&BLOCK, at).context("raw write")?;
        file.sync_data().context("raw fdatasync")?;
        count += 1;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Median, least and most.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

fn print_table(rows: &[Row], raw_rates: &[f64], records: u64, targets: &[Target]) {
    println!(
        "| partitions | broker | MB/s | lossproof's rate / this one's | p50 ms | p99 ms | \
         broker CPU s per million |\n|---|---|---|---|---|---|---|"
    );
    for row in rows {
        let ours = rows.iter().find(|ours| ours.partitions == row.partitions);
        let ours = ours.map_or(&[][..], |ours| ours.samples.as_slice());
        let pairs = ours.iter().zip(&row.samples);
        let ratio = spread(pairs.map(|(ours, this)| ours.mb_per_second / this.mb_per_second));
        let of = |field: fn(&Sample) -> f64| spread(row.samples.iter().map(field));
        let (rate, low, high) = of(|it| it.mb_per_second);
        println!(
            "| {} | {} | {rate:.1} ({low:.1}-{high:.1}) | {:.2} ({:.2}-{:.2}) | {:.1} | {:.1} | \
             {:.2} |",
            row.partitions,
            row.name,
            ratio.0,
            ratio.1,
            ratio.2,
            of(|it| it.p50_ms).0,
            of(|it| it.p99_ms).0,
            of(|it| it.cpu_seconds_per_million).0,
        );
    }
    let (raw, low, high) = spread(raw_rates.iter().copied());
    println!("\nRaw fdatasync of 4 KiB: {raw:.0}/s ({low:.0}-{high:.0}). ");
    println!("{} rounds of {records} records of {RECORD_BYTES} bytes.", raw_rates.len());
    for target in targets {
        println!("Resident at the end, {}: {:.0} MB.", target.name, resident_mb(target.pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(resident_mb(pid) > 1.0);
        assert!(cpu_seconds(0).is_err());
    }

    #[test]
    fn the_spread_is_median_least_and_most() {
        assert_eq!(spread([3.0, 1.0, 2.0].into_iter()), (2.0, 1.0, 3.0));
        assert!(spread(std::iter::empty()).0.is_nan());
    }
}
