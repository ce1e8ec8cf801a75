//! What takes no comparison: memory and start with many partitions, and recovery.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::super::probe;
use super::LOAD_TIME_MAX;
use super::contestant::Binaries;
use crate::cache::remove_all;
use crate::command::run_to_log;
use crate::failure::{Context, Failure};
use crate::service::Broker;

const TOPICS: u32 = 10;
const PARTITIONS_PER_TOPIC: u32 = 1000;
const MANY_RESIDENT_MB_MAX: f64 = 200.0;
const MANY_START_SECONDS_MAX: f64 = 2.0;
const RECOVERY_MEGABYTES: u32 = 2048;
const RECOVERY_MB_PER_SECOND_MIN: f64 = 500.0;

/// One figure and its bar.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) what: String,
    pub(super) found: f64,
    pub(super) limit: f64,
    /// More is better.
    pub(super) is_rate: bool,
}

pub(super) const MANY: &str = "many-partitions";
pub(super) const RECOVERY: &str = "recovery";

/// Starts a broker over many partitions, after an end in order and after a kill.
pub(super) fn many_partitions(binaries: &Binaries, run: &Path) -> Result<Vec<Standing>, Failure> {
    let directory = run.join("many");
    let mut broker = Broker::start_on_cpu(&binaries.lossproof, &directory, &binaries.cpus.broker)?;
    for number in 0..TOPICS {
        let mut command = Command::new(&binaries.load);
        command.args(["create", &broker.address(), &format!("many-{number}")]);
        command.arg(PARTITIONS_PER_TOPIC.to_string());
        let made = run_to_log(&directory.join("create.log"), &mut command, LOAD_TIME_MAX)?;
        made.expect_success("create many partitions")?;
    }
    let count = TOPICS * PARTITIONS_PER_TOPIC;
    let mut found = Vec::new();
    let mut add = |what: &str, value: f64, limit: f64| {
        let what = format!("{count} partitions: {what}");
        found.push(Standing { what, found: value, limit, is_rate: false });
    };
    add("MB resident when made", probe::resident_mb(broker.pid()), MANY_RESIDENT_MB_MAX);
    broker.terminate()?;
    add("seconds to start after an end in order", restart(&mut broker)?, MANY_START_SECONDS_MAX);
    add("MB resident after a start", probe::resident_mb(broker.pid()), MANY_RESIDENT_MB_MAX);
    broker.kill()?;
    add("seconds to start after a kill", restart(&mut broker)?, MANY_START_SECONDS_MAX);
    broker.kill()?;
    remove_all(&directory)?;
    Ok(found)
}

fn restart(broker: &mut Broker) -> Result<f64, Failure> {
    let begin = Instant::now();
    broker.restart()?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Opens a long journal that nobody closed.
pub(super) fn recovery(binaries: &Binaries, run: &Path) -> Result<Standing, Failure> {
    let directory = run.join("recovery");
    fs::create_dir_all(&directory).context(directory.display())?;
    let mut command = Command::new("taskset");
    command.args(["-c", &binaries.cpus.broker]).arg(&binaries.recovery);
    command.arg(RECOVERY_MEGABYTES.to_string()).arg(&directory);
    let ended = run_to_log(&run.join("recovery.log"), &mut command, LOAD_TIME_MAX)?;
    let text = ended.expect_success("the recovery")?;
    let json = text.lines().rfind(|line| line.starts_with('{')).unwrap_or("null");
    let value: Value = serde_json::from_str(json).context("what the recovery printed")?;
    remove_all(&directory)?;
    Ok(Standing {
        what: format!("recovery of {RECOVERY_MEGABYTES} MiB of journal: MB per second"),
        found: value["mb_per_second"].as_f64().unwrap_or(f64::NAN),
        limit: RECOVERY_MB_PER_SECOND_MIN,
        is_rate: true,
    })
}
