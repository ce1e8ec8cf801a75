//! All automation of the project in one program: the tests and what they need.
//!
//! `cargo xtask test` runs everything; the other commands are its parts, for use while one works.

mod bench;
mod cache;
mod command;
mod compat;
mod e2e;
mod failure;
mod fetch;
mod news;
mod page;
mod parts;
mod planted;
mod report;
mod service;
mod stop;
mod tidy;
mod torture;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::cache::Cache;
use crate::failure::Failure;
use crate::report::Report;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Tests lossproof, and fetches and runs what the tests need"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test; the last line counts them
    Test {
        /// Only what takes under 8 minutes: no planted bugs, torture, foreign clients or news run
        #[arg(long)]
        quick: bool,
        /// Run only the parts with these names
        #[arg(long = "part", value_name = "NAME")]
        only: Vec<String>,
    },
    /// Check the sources by the rules of the house
    Tidy,
    /// Bring something that the tests use into the cache (LOSSPROOF_CACHE, or ~/.cache/lossproof)
    Fetch { thing: fetch::Thing },
    /// Drive each foreign client by the same script against a broker of its own
    Compat(compat::Options),
    /// Measure, beside the raw disk and beside Apache Kafka
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Torture the real broker: kills, power cuts, failing syncs, full disks, flipped bits
    Torture(torture::Options),
    /// Run every planted bug against its test, and print the table
    Plant,
    /// Send 2,000 tweets through a real model into a real OpenSearch while all of them fail
    News,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.task) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode, Failure> {
    stop::listen()?;
    let workspace = Workspace::find()?;
    match task {
        Task::Test { quick, only } => {
            let mut report = Report::new();
            parts::run(&workspace, quick, &only, &mut report)?;
            Ok(report.finish())
        }
        Task::Fetch { thing } => {
            fetch::fetch(&workspace, &Cache::find()?, thing)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Bench { bench } => {
            bench::run(&workspace, bench)?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Torture(options) => torture::run(&workspace, &options),
        Task::Plant => {
            let (table, all_found) = planted::table(&workspace)?;
            print!("{table}");
            Ok(if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Task::Compat(options) => {
            let cache = Cache::find()?;
            let mut report = Report::new();
            report.part("compat", || compat::run(&workspace, &cache, &options));
            Ok(report.finish())
        }
        Task::News => {
            for note in news::run(&workspace, &Cache::find()?)?.notes {
                println!("{note}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Tidy => {
            let violations = tidy::check(&workspace)?;
            for violation in &violations {
                println!("{violation}");
            }
            Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}
