//! How fast it is, beside the raw disk and beside Apache Kafka. A bench asserts nothing: what it
//! prints goes to `docs/evidence`, with the commit and the machine.

mod broker;
mod probe;

use clap::Subcommand;

use crate::cache::Cache;
use crate::command::cargo;
use crate::failure::{Context, Failure};
use crate::workspace::Workspace;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Acknowledged appends of the log beside the raw fdatasync rate of the same disk
    Log {
        /// Rounds that count, after one that warms up
        #[arg(long, default_value_t = 7)]
        rounds: u32,
        /// Milliseconds of each measurement
        #[arg(long, default_value_t = 1000)]
        ms: u32,
        /// One JSON object on standard output instead of a table
        #[arg(long)]
        json: bool,
    },
    /// The broker beside Apache Kafka with and without fsync, under the same loads
    Broker(broker::Options),
}

pub(crate) fn run(workspace: &Workspace, bench: Bench) -> Result<(), Failure> {
    match bench {
        Bench::Log { rounds, ms, json } => log(workspace, rounds, ms, json),
        Bench::Broker(options) => broker::run(workspace, &Cache::find()?, &options),
    }
}

fn log(workspace: &Workspace, rounds: u32, ms: u32, json: bool) -> Result<(), Failure> {
    let mut command = cargo(workspace);
    command.args(["run", "--release", "--quiet", "-p", "lossproof-log", "--example", "bench_log"]);
    command.args(["--", "--rounds", &rounds.to_string(), "--ms", &ms.to_string()]);
    if json {
        command.arg("--json");
    }
    let status = command.status().context("cargo")?;
    if status.success() { Ok(()) } else { Err(Failure::broken("the bench of the log failed")) }
}
