//! Tortures the real broker and judges what came of it.
//!
//! Each round has a directory of its own: the broker is started on it, producers of all kinds are
//! at work, a fault strikes, the broker is started again, a fresh reader reads everything, and the
//! judge compares that with every acknowledgement. Everything is drawn from the seed of the round,
//! but for what the threads of the machine do with it.
//!
//! The product is seen as its users see it: a program, a port, a log. Of our crates only the judge
//! is used.

mod asking;
mod broker;
mod client;
mod committing;
mod compacting;
mod failure;
mod fault;
mod grouping;
mod journal;
mod keyed;
mod ledger;
mod load;
mod members;
mod mount;
mod payload;
mod producing;
mod progress;
mod random;
mod reading;
mod recorder;
mod round;
mod tally;
mod tracer;
mod transacting;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use clap::Parser;
use serde::Serialize;

use crate::failure::{Context, Failure};
use crate::fault::{FAULTS, Fault};
use crate::round::Setup;
use crate::tally::Tally;

/// Faults that are worked on at a time: each mostly waits.
const LANES: usize = 2;

#[derive(Parser)]
#[command(about = "Tortures a lossproof broker, and judges what came of it")]
struct Arguments {
    /// The program on trial
    #[arg(long, value_name = "PROGRAM")]
    binary: PathBuf,
    /// Where the rounds have their directories; what failed is kept there
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// Seed of the first round; the next ones count up
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds for all faults together; without it each makes its least number of cycles
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// Only these faults
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<Fault>,
    /// Stands in the command that repeats a failure
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let setup = Setup {
        binary: arguments.binary.clone(),
        scratch: arguments.scratch.clone(),
        thorough: arguments.budget.is_some(),
    };
    let faults = if arguments.faults.is_empty() { &FAULTS[..] } else { &arguments.faults };
    let share = arguments.budget.map(|seconds| {
        Duration::from_secs(seconds * LANES as u64) / (faults.len().max(LANES) as u32)
    });
    // With `CI` set nothing may be missing.
    let strict = env::var_os("CI").is_some_and(|value| !value.is_empty());
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut figures = Vec::new();
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
            let (seeds, tally) = (0, Tally::default());
            let mut run = Run { fault: *fault, seeds, tally, began: Instant::now() };
            let ended = run.rounds(&setup, arguments.seed, share);
            let outcome = outcome(&ended, strict);
            run.tell(&arguments, outcome, ended.err());
            figures.push(run.figures(arguments.seed, outcome));
        }
        figures
    };
    let figures: Vec<Figures> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let joined = lanes.into_iter().map(|lane| lane.join().expect("a lane does not panic"));
        joined.flatten().collect()
    });
    if let Some(path) = &arguments.figures
        && let Err(failure) = write_figures(path, &figures)
    {
        eprintln!("{failure}");
        return ExitCode::FAILURE;
    }
    let failed = figures.iter().any(|figures| figures.outcome == Outcome::Failed);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Passed,
    Failed,
    /// The machine lacks what the fault needs.
    Skipped,
}

fn outcome<T>(ended: &Result<(), (T, Failure)>, strict: bool) -> Outcome {
    match ended {
        Ok(()) => Outcome::Passed,
        Err((_, Failure::Missing(_))) if !strict => Outcome::Skipped,
        Err(_) => Outcome::Failed,
    }
}

/// What one fault came to.
#[derive(Debug, Serialize)]
struct Figures {
    fault: &'static str,
    first_seed: u64,
    seeds: u64,
    outcome: Outcome,
    is_control: bool,
    tally: Tally,
}

fn write_figures(path: &Path, figures: &[Figures]) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(figures).context(path.display())?;
    fs::write(path, text).context(path.display())
}

/// All rounds of one fault.
struct Run {
    fault: Fault,
    seeds: u64,
    tally: Tally,
    began: Instant,
}

impl Run {
    /// Rounds until the time is over, or until there are enough cycles; the seed of a failure.
    fn rounds(
        &mut self,
        setup: &Setup,
        first_seed: u64,
        share: Option<Duration>,
    ) -> Result<(), (u64, Failure)> {
        loop {
            let seed = first_seed + self.seeds;
            self.seeds += 1;
            (self.fault.round)(setup, seed, &mut self.tally).map_err(|failure| (seed, failure))?;
            let is_enough = match share {
                Some(share) => self.began.elapsed() >= share || self.fault.is_control,
                None => self.tally.cycles >= self.fault.cycles_min,
            };
            if is_enough {
                return self.check_met().map_err(|failure| (seed, failure));
            }
        }
    }

    /// Fails where too many strikes have missed, or so many have not met what they are there for.
    fn check_met(&self) -> Result<(), Failure> {
        let Tally { tried, cycles, .. } = self.tally;
        // A fault that can not miss counts no tries.
        if 4 * cycles < 3 * tried {
            return Err(Failure::broken(format!("of {tried} strikes only {cycles} have struck")));
        }
        let Tally { struck_batches, reported_batches, .. } = self.tally;
        if reported_batches < struck_batches {
            return Err(Failure::broken(format!(
                "of {struck_batches} flipped batches only {reported_batches} were reported"
            )));
        }
        let is_concerned = cycles >= self.fault.cycles_min;
        match self.fault.meets.iter().find(|met| is_concerned && met.count(&self.tally) == 0) {
            Some(met) => Err(Failure::broken(format!("no {}", met.name()))),
            None => Ok(()),
        }
    }

    fn tell(&self, arguments: &Arguments, outcome: Outcome, failure: Option<(u64, Failure)>) {
        let Tally { cycles, acknowledged, transactions, lost, altered, reordered, .. } =
            &self.tally;
        let Tally { duplicates, broken, reported, undetected, .. } = &self.tally;
        let Tally { struck_batches, reported_batches, .. } = &self.tally;
        let Tally { struck_open, struck_in_doubt, compacted, .. } = &self.tally;
        let Tally { member_commits, rebalances, .. } = &self.tally;
        let Tally { points, tried, .. } = &self.tally;
        let name = self.fault.name;
        let tries = if *tried == 0 {
            String::new()
        } else {
            format!(" of {tried} tried at {points} points")
        };
        let mut text = format!(
            "{name}: {outcome:?}: {cycles} cycles{tries}, {struck_open} with a transaction open, \
             {struck_in_doubt} with one in doubt, {acknowledged} acknowledged, {compacted} \
             compacted, {transactions} transactions, {member_commits} commits of members in \
             {rebalances} rebalances, {lost} lost, {altered} altered, \
             {reordered} reordered, {duplicates} duplicates, {broken} broken, \
             damage: {reported} reported, {undetected} undetected, {reported_batches} of \
             {struck_batches} batches reported ({:.1} s)",
            self.began.elapsed().as_secs_f64()
        );
        // Writing to a string cannot fail.
        if let Some((seed, failure)) = failure {
            let Arguments { commit, scratch, .. } = arguments;
            let _ = write!(text, "\n  {failure}");
            if outcome == Outcome::Failed {
                let _ = write!(
                    text,
                    "\n  again: git checkout {commit} && cargo xtask torture --fault {name} \
                     --seed {seed}\n  data, log and history: {}",
                    scratch.display()
                );
            }
        }
        // In one go: two lanes talk.
        println!("{text}");
    }

    fn figures(self, first_seed: u64, outcome: Outcome) -> Figures {
        Figures {
            fault: self.fault.name,
            first_seed,
            seeds: self.seeds,
            outcome,
            is_control: self.fault.is_control,
            tally: self.tally,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_four_strikes_must_strike() {
        for (cycles, is_enough) in [(0, false), (8, false), (9, true), (12, true)] {
            let fault = "syscall-kill".parse().unwrap();
            let (transactions, compacted) = (1, 1);
            let tally = Tally { tried: 12, cycles, transactions, compacted, ..Tally::default() };
            let run = Run { fault, seeds: 1, tally, began: Instant::now() };
            assert_eq!(run.check_met().is_ok(), is_enough, "{cycles} of 12");
        }
    }

    #[test]
    fn a_fault_that_has_not_met_what_it_is_there_for_fails() {
        let all = Tally {
            cycles: 60,
            transactions: 1,
            struck_open: 1,
            struck_in_doubt: 1,
            compacted: 1,
            member_commits: 1,
            rebalances: 1,
            struck_batches: 1,
            reported_batches: 1,
            ..Tally::default()
        };
        let is_enough = |fault: &str, tally: Tally| {
            let fault = fault.parse().unwrap();
            Run { fault, seeds: 1, tally, began: Instant::now() }.check_met().is_ok()
        };
        for fault in ["kill", "power-cut", "bit-flip"] {
            assert!(is_enough(fault, all.clone()), "{fault}");
            assert!(!is_enough(fault, Tally { transactions: 0, ..all.clone() }), "{fault}");
        }
        assert!(!is_enough("kill", Tally { struck_open: 0, ..all.clone() }));
        assert!(!is_enough("kill", Tally { struck_in_doubt: 0, ..all.clone() }));
        assert!(!is_enough("kill", Tally { compacted: 0, ..all.clone() }));
        assert!(!is_enough("kill", Tally { member_commits: 0, ..all.clone() }));
        assert!(!is_enough("kill", Tally { rebalances: 0, ..all.clone() }));
        let none = Tally { struck_batches: 0, reported_batches: 0, ..all.clone() };
        assert!(!is_enough("bit-flip", none));
        let silent = Tally { struck_batches: 3, reported_batches: 2, cycles: 3, ..all.clone() };
        assert!(!is_enough("bit-flip", silent), "one in three was not told");
        for fault in ["sync-error", "syscall-kill"] {
            assert!(is_enough(fault, all.clone()), "{fault}");
            assert!(!is_enough(fault, Tally { transactions: 0, ..all.clone() }), "{fault}");
            assert!(!is_enough(fault, Tally { compacted: 0, ..all.clone() }), "{fault}");
        }
        assert!(!is_enough("disk-full", Tally { transactions: 0, ..all.clone() }));
        assert!(is_enough("kill", Tally { cycles: 59, ..Tally::default() }), "too few to say");
    }

    #[test]
    fn what_is_missing_is_skipped_and_with_ci_it_fails() {
        let missing = || Err((1, Failure::missing("no strace")));
        assert_eq!(outcome(&missing(), false), Outcome::Skipped);
        assert_eq!(outcome(&missing(), true), Outcome::Failed);
        assert_eq!(outcome(&Err((1, Failure::broken("lost"))), false), Outcome::Failed);
        assert_eq!(outcome::<u64>(&Ok(()), true), Outcome::Passed);
    }
}
