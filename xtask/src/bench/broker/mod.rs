//! `cargo xtask bench broker`: the broker beside Apache Kafka and beside one that only answers,
//! under the same loads by the same programs. Rounds are interleaved, so that a disk or a machine
//! that changes its mood hits all alike; only ratios within a round count.

mod cases;
mod contestant;
mod report;
mod standing;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::probe::{Machine, forget_peak, peak_mb, raw_file, raw_rate, settle};
use crate::cache::{Cache, remove_all};
use crate::command::{cargo, run_to_log};
use crate::failure::{Context, Failure};
use crate::page::commit;
use crate::workspace::Workspace;
use cases::{CASES, Case, Load};
use contestant::{Binaries, Contestant, Cpus, Who};
use report::{Idle, Report, Row, Sample};
use standing::{MANY, RECOVERY};

/// Nothing that is measured takes longer; what does hangs.
const LOAD_TIME_MAX: Duration = Duration::from_mins(5);
/// What a consumer reads of records that were written just before.
const TAIL_RECORDS: u64 = 200_000;
const RECORD_BYTES: u64 = 1024;
/// Clean pages that are dropped from memory, so that what is read next comes from the disk.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// The contestants, in the order of the first round; each round begins with the next, and every
/// other one goes backwards.
const CONTESTANTS: [Who; 5] = [Who::Ours, Who::Before, Who::Flushing, Who::Defaults, Who::Stub];

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds that count, after one that warms up
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each closed loop and each end-to-end measurement: long enough that batches are
    /// moved out of the journal meanwhile
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Megabytes of each saturating load, and of what is consumed; over three times what the
    /// journal grows to
    #[arg(long, default_value_t = 900)]
    megabytes: u64,
    /// Seconds of load that each Kafka gets before the first round, so that it is compiled
    #[arg(long, default_value_t = 15.0)]
    warm_up: f64,
    /// Only the cases whose names begin so; may be given again
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Another build of lossproof, measured beside this one
    #[arg(long, value_name = "BINARY")]
    before: Option<PathBuf>,
    /// Leave Apache Kafka out
    #[arg(long)]
    without_kafka: bool,
    /// All processors for brokers and load alike, instead of one for each side
    #[arg(long)]
    shared: bool,
    /// Keep the figures in docs/evidence
    #[arg(long)]
    record: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|start| name.starts_with(start))
    }

    fn cases(&self) -> Result<Vec<&'static Case>, Failure> {
        let cases: Vec<&Case> = CASES.iter().filter(|case| self.wants(case.name)).collect();
        if cases.is_empty() && !self.wants(MANY) && !self.wants(RECOVERY) {
            let names = CASES.iter().map(|case| case.name).chain([MANY, RECOVERY]);
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(Failure::broken(format!("no such case; there are: {names}")));
        }
        Ok(cases)
    }

    fn takes_part(&self, who: Who, cases: &[&Case]) -> bool {
        match who {
            _ if cases.is_empty() => false,
            Who::Ours => true,
            Who::Before => self.before.is_some(),
            Who::Flushing | Who::Defaults => !self.without_kafka,
            Who::Stub => cases.iter().any(|case| case.with_stub),
        }
    }
}

pub(crate) fn run(workspace: &Workspace, cache: &Cache, options: &Options) -> Result<(), Failure> {
    let cases = options.cases()?;
    // Before anything is built: while it is measured the tree may go on.
    let commit = commit(workspace)?;
    let binaries = build(workspace, options)?;
    // On the disk of the build, not in a temporary directory that may be memory.
    let run = workspace.target().join(format!("bench-{}", std::process::id()));
    remove_all(&run)?;
    fs::create_dir_all(&run).context(run.display())?;
    let result = measure(cache, &binaries, &run, options, &cases);
    remove_all(&run)?;
    let report = result?;
    print!("{}", report.table());
    if options.record { report.record(workspace, &commit) } else { Ok(()) }
}

/// The broker as it is released, and the loads.
fn build(workspace: &Workspace, options: &Options) -> Result<Binaries, Failure> {
    let rdkafka = ["-p", "lossproof-client", "--features", "rdkafka", "--example", "produce_load"];
    let load = ["-p", "lossproof-broker", "--example", "broker_load"];
    let recovery = ["-p", "lossproof-log", "--example", "bench_recovery"];
    for what in [&["-p", "lossproof"][..], &load, &recovery, &rdkafka] {
        let mut command = cargo(workspace);
        let status = command.args(["build", "--release"]).args(what).status().context("cargo")?;
        if !status.success() {
            return Err(Failure::broken("the build failed"));
        }
    }
    let release = workspace.target().join("release");
    let examples = release.join("examples");
    Ok(Binaries {
        lossproof: release.join("lossproof"),
        before: options.before.clone(),
        load: examples.join("broker_load"),
        recovery: examples.join("bench_recovery"),
        rdkafka_load: examples.join("produce_load"),
        cpus: if options.shared { Cpus::shared() } else { Cpus::apart() },
    })
}

fn measure(
    cache: &Cache,
    binaries: &Binaries,
    run: &Path,
    options: &Options,
    cases: &[&'static Case],
) -> Result<Report, Failure> {
    let mut contestants = Vec::new();
    for who in CONTESTANTS.into_iter().filter(|who| options.takes_part(*who, cases)) {
        contestants.push(Contestant::start(who, binaries, cache, run)?);
    }
    let idle = contestants.iter().map(|it| Idle { who: it.who, mb: it.resident_mb() }).collect();
    let bench = Bench { binaries, run, options };
    bench.prepare(&contestants, cases)?;
    let raw = raw_file(run)?;
    let mut report = Report::new(options.rounds, options.seconds, options.megabytes, idle);
    for round in 0..=options.rounds {
        // The first round warms up.
        if round <= 1 {
            report.rows = rows(&contestants, cases);
        }
        for row in &mut report.rows {
            row.raw_rates.push(raw_rate(&raw)?);
            eprintln!("round {round} of {}, {}", options.rounds, row.case.name);
            let before = Machine::now()?;
            bench.turns(&contestants, row, round)?;
            row.stolen.push(Machine::now()?.stolen_since(before));
        }
    }
    drop(contestants);
    if options.wants(MANY) {
        report.standing.extend(standing::many_partitions(binaries, run)?);
    }
    if options.wants(RECOVERY) {
        report.standing.push(standing::recovery(binaries, run)?);
    }
    Ok(report)
}

fn rows(contestants: &[Contestant], cases: &[&'static Case]) -> Vec<Row> {
    let row = |case: &&'static Case| {
        let takes = |who: &Who| *who != Who::Stub || case.with_stub;
        let whos = contestants.iter().map(|contestant| contestant.who).filter(takes);
        let samples = whos.map(|who| (who, Vec::new())).collect();
        Row { case, raw_rates: Vec::new(), stolen: Vec::new(), samples }
    };
    cases.iter().map(row).collect()
}

struct Bench<'a> {
    binaries: &'a Binaries,
    run: &'a Path,
    options: &'a Options,
}

impl Bench<'_> {
    /// Makes the topics, and fills what will be read.
    fn prepare(&self, contestants: &[Contestant], cases: &[&Case]) -> Result<(), Failure> {
        let topics: BTreeSet<_> = cases.iter().map(|case| case.load.topic()).collect();
        let reads = |case: &&Case| matches!(case.load, Load::ConsumeCold | Load::ConsumeTail);
        for contestant in contestants.iter().filter(|it| it.who != Who::Stub) {
            for (name, partitions) in &topics {
                self.load(&["create", &contestant.address(), name, &partitions.to_string()])?;
            }
            if matches!(contestant.who, Who::Flushing | Who::Defaults) {
                self.load(&["create", &contestant.address(), "warm", "16"])?;
                let seconds = self.options.warm_up.to_string();
                self.load(&["closed", &contestant.address(), "warm", "16", "64", &seconds])?;
            }
            if cases.iter().any(reads) {
                self.saturate(contestant, "consume", 1, RECORD_BYTES)?;
            }
        }
        Ok(())
    }

    /// Each in turn, another first in each round, and nobody always behind the same neighbour.
    fn turns(
        &self,
        contestants: &[Contestant],
        row: &mut Row,
        round: usize,
    ) -> Result<(), Failure> {
        let takers = row.samples.len();
        for turn in 0..takers {
            let place = if round.is_multiple_of(2) { turn } else { takers - 1 - turn };
            let (who, samples) = &mut row.samples[(place + round) % takers];
            let contestant = contestants.iter().find(|contestant| contestant.who == *who);
            let Some(contestant) = contestant else { continue };
            // What one has left in memory is not for the next one to wait for; nor what one has
            // left to do, since a sample ends when that is done.
            rustix::fs::sync();
            let sample = self.sample(contestant, row.case.load)?;
            eprintln!("  {:32} {sample}", who.name());
            samples.push(sample);
        }
        Ok(())
    }

    fn sample(&self, contestant: &Contestant, load: Load) -> Result<Sample, Failure> {
        let (topic, partitions) = load.topic();
        let (address, seconds) = (contestant.address(), self.options.seconds.to_string());
        let target = [address.as_str(), &topic, &partitions.to_string()];
        if matches!(load, Load::ConsumeCold) {
            drop_caches()?;
        }
        let before = contestant.cpu_seconds()?;
        forget_peak(contestant.pid())?;
        let on_target =
            |command: &str, rest: &[&str]| self.load(&[&[command], &target[..], rest].concat());
        let found = match load {
            Load::Closed { connections, .. } => {
                on_target("closed", &[&connections.to_string(), &seconds])?
            }
            Load::Saturate { record_bytes, .. } => {
                self.saturate(contestant, &topic, partitions, u64::from(record_bytes))?
            }
            Load::ConsumeCold => on_target("consume", &["0"])?,
            Load::ConsumeTail => on_target("consume", &[&TAIL_RECORDS.to_string()])?,
            Load::EndToEnd { per_second, .. } => {
                on_target("latency", &[&per_second.to_string(), &seconds])?
            }
        };
        settle(contestant.pid())?;
        let used = contestant.cpu_seconds()? - before;
        Ok(Sample::new(&found, used, peak_mb(contestant.pid())))
    }

    /// Runs our own load to its end, and reads what it prints.
    fn load(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.binaries.cpus.load]).arg(&self.binaries.load).args(arguments);
        self.json_of(&mut command)
    }

    fn saturate(
        &self,
        contestant: &Contestant,
        topic: &str,
        partitions: u32,
        record_bytes: u64,
    ) -> Result<Value, Failure> {
        let records = self.options.megabytes * 1_000_000 / record_bytes;
        let mut command = Command::new("taskset");
        command.args(["-c", &self.binaries.cpus.load]).arg(&self.binaries.rdkafka_load);
        command.args([&contestant.address(), topic, &partitions.to_string()]);
        command.args([records.to_string(), record_bytes.to_string()]);
        self.json_of(&mut command)
    }

    fn json_of(&self, command: &mut Command) -> Result<Value, Failure> {
        let run = run_to_log(&self.run.join("load.log"), command, LOAD_TIME_MAX)?;
        let text = run.expect_success("the load")?;
        let json = text.lines().rfind(|line| line.starts_with('{')).unwrap_or("null");
        serde_json::from_str(json).context("what the load printed")
    }
}

/// So that what was written long ago is read from the disk. Only root may.
fn drop_caches() -> Result<(), Failure> {
    let dropped = fs::write(DROP_CACHES, "1");
    dropped.map_err(|error| Failure::missing(format!("{DROP_CACHES}: {error}; root may write it")))
}
