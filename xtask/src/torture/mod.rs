//! The durability tests on the real broker: builds what they need, runs them in a mount namespace
//! of their own, and keeps their figures.

pub(crate) mod evidence;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::command::{self, find_program};
use crate::failure::{Context, Failure};
use crate::page::commit;
use crate::report::{Counts, Outcome};
use crate::service::{Binaries, build, build_for_torture};
use crate::workspace::Workspace;

/// Beyond its budget a run may take as long as one round of each fault.
const GRACE: Duration = Duration::from_mins(30);

#[derive(Args)]
pub(crate) struct Options {
    /// Time for all faults together, as 60m; without it each makes its least number of cycles
    #[arg(long, value_parser = parse_duration)]
    budget: Option<Duration>,
    /// Seed of the first round of each fault; the next ones count up
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these faults; an unknown name lists them
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<String>,
    /// Add the figures to docs/evidence/durability.json and to the README
    #[arg(long)]
    record: bool,
}

/// What one fault came to, as the program says.
#[derive(Debug, Deserialize)]
pub(crate) struct Figures {
    pub(crate) fault: String,
    pub(crate) first_seed: u64,
    pub(crate) seeds: u64,
    pub(crate) outcome: Verdict,
    /// Is it there to find something? Then it is no evidence.
    pub(crate) is_control: bool,
    pub(crate) tally: evidence::Tally,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// `cargo xtask torture`: what it finds is shown as it goes.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode, Failure> {
    // Before anything is built: in the hours of a run the tree may go on.
    let commit = commit(workspace)?;
    let (product, program) = build_for_torture(workspace)?;
    let Prepared { mut command, figures } =
        prepare(workspace, options, &commit, [&product, &program])?;
    let mut child = command::spawn(&mut command)?;
    let time_max = options.budget.unwrap_or_default() + GRACE;
    let status = command::wait(&mut child, time_max)?;
    let status = status.ok_or_else(|| Failure::broken("the torture took too long"))?;
    if options.record {
        evidence::record(workspace, &commit, &read_figures(&figures)?)?;
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The part of `cargo xtask test`.
pub(crate) fn smoke(workspace: &Workspace) -> Result<Outcome, Failure> {
    let options = Options { budget: None, seed: 1, faults: Vec::new(), record: false };
    let Binaries { lossproof, torture, .. } = build(workspace)?;
    let commit = commit(workspace)?;
    let Prepared { mut command, figures } =
        prepare(workspace, &options, &commit, [&lossproof, &torture])?;
    let run = command::run(workspace, "torture", &mut command)?;
    let counts = count(&read_figures(&figures)?);
    if run.success != (counts.failed == 0) {
        return Ok(Outcome::failed(run.tail()));
    }
    let notes = run.text.lines().map(|line| format!("  {line}")).collect();
    Ok(Outcome::Ran { counts, notes })
}

fn count(figures: &[Figures]) -> Counts {
    let of = |verdict| figures.iter().filter(|it| it.outcome == verdict).count() as u64;
    Counts {
        passed: of(Verdict::Passed),
        failed: of(Verdict::Failed),
        skipped: of(Verdict::Skipped),
    }
}

struct Prepared {
    command: Command,
    /// Where the figures will be.
    figures: PathBuf,
}

fn prepare(
    workspace: &Workspace,
    options: &Options,
    commit: &str,
    [product, program]: [&Path; 2],
) -> Result<Prepared, Failure> {
    let scratch = workspace.target().join("torture");
    fs::create_dir_all(&scratch).context(scratch.display())?;
    let figures = scratch.join("figures.json");
    // Those of an earlier run must not pass for those of this one.
    if figures.exists() {
        fs::remove_file(&figures).context(figures.display())?;
    }
    let mut command = in_own_mounts(program);
    command.current_dir(workspace.root());
    command.arg("--binary").arg(product).arg("--scratch").arg(&scratch);
    command.arg("--figures").arg(&figures);
    command.args(["--seed", &options.seed.to_string()]);
    command.args(["--commit", commit]);
    if let Some(budget) = options.budget {
        command.args(["--budget", &budget.as_secs().to_string()]);
    }
    for fault in &options.faults {
        command.args(["--fault", fault]);
    }
    Ok(Prepared { command, figures })
}

/// What is mounted by a program in a namespace of its own goes with it, however it ends. Where
/// there is none, the program says what it misses.
fn in_own_mounts(program: &Path) -> Command {
    match find_program("unshare") {
        Some(unshare) if rustix::process::geteuid().is_root() => {
            let mut command = Command::new(unshare);
            command.args(["--mount", "--propagation", "private"]).arg(program);
            command
        }
        _ => Command::new(program),
    }
}

fn read_figures(path: &Path) -> Result<Vec<Figures>, Failure> {
    let text = fs::read_to_string(path).context(path.display())?;
    serde_json::from_str(&text).context(path.display())
}

/// `90s`, `60m` or `2h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let found = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs)
    });
    found.ok_or_else(|| "a time wanted, as in 90s, 60m or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(parse_duration("60m"), Ok(Duration::from_hours(1)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "m", "60", "-1s", "0s", "99999999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_fault_counts_as_one_test() {
        let text = r#"[{"fault": "kill", "first_seed": 1, "seeds": 2, "outcome": "passed",
            "is_control": false, "tally": {"cycles": 2, "acknowledged": 5, "lost": 0, "altered": 0,
            "reordered": 0, "duplicates": 0, "broken": 0, "reported": 0, "undetected": 0}}]"#;
        let mut figures: Vec<Figures> = serde_json::from_str(text).unwrap();
        figures.extend(
            serde_json::from_str::<Vec<Figures>>(&text.replace("passed", "skipped")).unwrap(),
        );
        assert_eq!(count(&figures), Counts { passed: 1, failed: 0, skipped: 1 });
    }
}
