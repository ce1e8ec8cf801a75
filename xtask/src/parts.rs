//! The parts of `cargo xtask test`, in their order: what is quick to fail comes first. All of them
//! build in the profile that ships, so that each thing is built once.

use std::process::Command;

use crate::cache::Cache;
use crate::command::{self, Run, cargo};
use crate::e2e;
use crate::failure::Failure;
use crate::fetch;
use crate::report::{Counts, Outcome, Report};
use crate::service::build;
use crate::workspace::Workspace;
use crate::{compat, news, planted, stop, tidy, torture};

/// What a part gets to know.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) cache: &'a Cache,
}

struct Part {
    name: &'static str,
    /// Is it in the tier for while one works?
    quick: bool,
    run: fn(&Stage<'_>) -> Result<Outcome, Failure>,
}

const PARTS: [Part; 14] = [
    Part { name: "fmt", quick: true, run: fmt },
    Part { name: "tidy", quick: true, run: tidy_tree },
    Part { name: "deny", quick: true, run: deny },
    Part { name: "advisories", quick: true, run: advisories },
    Part { name: "clippy", quick: true, run: clippy },
    Part { name: "doc", quick: true, run: doc },
    Part { name: "tests", quick: true, run: tests },
    Part { name: "doctests", quick: true, run: doctests },
    Part { name: "mutation", quick: false, run: mutation },
    Part { name: "planted", quick: false, run: planted_bugs },
    Part { name: "torture", quick: false, run: torture_smoke },
    Part { name: "e2e", quick: false, run: e2e_all },
    Part { name: "compat", quick: false, run: compat_all },
    Part { name: "news", quick: false, run: news_run },
];

/// For each message in each version; the ordinary run has 200.
const MUTATIONS: &str = "4000";
/// Another one than that of the ordinary run.
const MUTATION_SEED: &str = "20261124";

pub(crate) fn run(
    workspace: &Workspace,
    quick: bool,
    only: &[String],
    report: &mut Report,
) -> Result<(), Failure> {
    if let Some(unknown) = only.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        return Err(Failure::broken(format!(
            "no part `{unknown}`; there are: {}",
            names.join(" ")
        )));
    }
    let stage = Stage { workspace, cache: &Cache::find()? };
    for part in &PARTS {
        if !only.is_empty() && only.iter().all(|name| name != part.name) {
            continue;
        }
        stop::check()?;
        report.part(part.name, || {
            if quick && !part.quick {
                return Ok(Outcome::LeftOut("not in the quick tier".to_owned()));
            }
            (part.run)(&stage)
        });
    }
    Ok(())
}

fn fmt(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    all_or_nothing(stage, "fmt", cargo(stage.workspace).args(["fmt", "--all", "--check"]))
}

fn clippy(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let arguments = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    all_or_nothing(stage, "clippy", cargo(stage.workspace).args(arguments))
}

fn doc(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let mut command = cargo(stage.workspace);
    command.args(["doc", "--release", "--workspace", "--no-deps", "--document-private-items"]);
    all_or_nothing(stage, "doc", command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn tests(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let arguments =
        ["test", "--release", "--workspace", "--lib", "--bins", "--tests", "--no-fail-fast"];
    counted(stage, "tests", cargo(stage.workspace).args(arguments))
}

fn doctests(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let arguments = ["test", "--release", "--workspace", "--doc", "--no-fail-fast"];
    counted(stage, "doctests", cargo(stage.workspace).args(arguments))
}

fn tidy_tree(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let violations = tidy::check(stage.workspace)?;
    let mut notes = tidy::long_files(stage.workspace)?;
    if violations.is_empty() {
        return Ok(Outcome::Ran { counts: Counts::PASSED, notes });
    }
    notes.extend(violations.iter().map(ToString::to_string));
    Ok(Outcome::Ran { counts: Counts::FAILED, notes })
}

/// The codec under many more broken messages than the ordinary run of its test has time for.
fn mutation(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let mut command = cargo(stage.workspace);
    command.args(["test", "--release", "-p", "lossproof-wire", "--test", "it"]);
    command.arg("hostile_bytes_do_no_harm::");
    command.env("LOSSPROOF_WIRE_MUTATIONS", MUTATIONS).env("LOSSPROOF_WIRE_SEED", MUTATION_SEED);
    counted(stage, "mutation", &mut command)
}

fn planted_bugs(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    planted::run(stage.workspace)
}

fn torture_smoke(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    torture::smoke(stage.workspace)
}

fn news_run(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let notes = news::run(stage.workspace, stage.cache)?.notes;
    Ok(Outcome::Ran { counts: Counts::PASSED, notes })
}

fn e2e_all(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    e2e::run(stage.workspace, stage.cache)
}

fn compat_all(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let binary = build(stage.workspace)?.lossproof;
    compat::run(stage.workspace, stage.cache, &compat::Options::of(binary))
}

fn deny(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let mut command = Command::new(fetch::cargo_deny(stage.workspace, stage.cache)?);
    command.current_dir(stage.workspace.root());
    all_or_nothing(stage, "deny", command.args(["check", "bans", "licenses", "sources"]))
}

/// Known holes in what we use. Their list lives in a repository that not every machine can reach,
/// so its absence is no failure anywhere.
fn advisories(stage: &Stage<'_>) -> Result<Outcome, Failure> {
    let program = fetch::cargo_deny(stage.workspace, stage.cache)?;
    let mut fetch_list = Command::new(&program);
    fetch_list.current_dir(stage.workspace.root()).args(["fetch", "db"]);
    if !command::run(stage.workspace, "advisories-fetch", &mut fetch_list)?.success {
        return Ok(Outcome::LeftOut("the advisory database cannot be had".to_owned()));
    }
    let mut command = Command::new(&program);
    command.current_dir(stage.workspace.root());
    all_or_nothing(stage, "advisories", command.args(["check", "advisories"]))
}

/// Runs a command that is one test by itself.
fn all_or_nothing(
    stage: &Stage<'_>,
    name: &str,
    command: &mut Command,
) -> Result<Outcome, Failure> {
    let run = command::run(stage.workspace, name, command)?;
    Ok(if run.success { Outcome::passed() } else { Outcome::failed(run.tail()) })
}

/// Runs a command that runs tests and says how many.
pub(crate) fn counted(
    stage: &Stage<'_>,
    name: &str,
    command: &mut Command,
) -> Result<Outcome, Failure> {
    let run = command::run(stage.workspace, name, command)?;
    Ok(outcome_of_tests(&run))
}

fn outcome_of_tests(run: &Run) -> Outcome {
    let mut counts = count_tests(&run.text);
    if run.success {
        return Outcome::Ran { counts, notes: crash_images(&run.text) };
    }
    // It did not compile, or it died: no test says so.
    if counts.failed == 0 {
        counts.failed = 1;
    }
    let failed = failed_tests(&run.text);
    Outcome::Ran { counts, notes: vec![run.tail(), failed] }
}

/// How many images of a crashed disk were tried; their test says so itself.
fn crash_images(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with("crash images: ")).map(str::to_owned).collect()
}

/// What a test says that could not do its work on this machine; to libtest it has passed.
const SKIPPED: &str = "skipped: ";

/// The sums of all `test result:` lines, less those that say that they were skipped.
fn count_tests(text: &str) -> Counts {
    let mut counts = Counts::default();
    for line in text.lines().filter(|line| line.starts_with("test result: ")) {
        let number = |word: &str| {
            let before = line.split(word).next().unwrap_or_default();
            before.split_whitespace().next_back().and_then(|number| number.parse().ok())
        };
        counts.add(Counts {
            passed: number(" passed").unwrap_or(0),
            failed: number(" failed").unwrap_or(0),
            skipped: number(" ignored").unwrap_or(0),
        });
    }
    let skipped = text.lines().filter(|line| line.contains(SKIPPED)).count() as u64;
    counts.passed = counts.passed.saturating_sub(skipped);
    counts.skipped += skipped;
    counts
}

fn failed_tests(text: &str) -> String {
    let failed = text.lines().filter(|line| line.starts_with("test ") && line.ends_with("FAILED"));
    failed.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const OUTPUT: &str = "\
test a::b ... ok
test a::c ... FAILED
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 7 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn run(success: bool, text: &str) -> Run {
        Run { success, text: text.to_owned(), log: PathBuf::new() }
    }

    fn counts(outcome: &Outcome) -> Counts {
        match outcome {
            Outcome::Ran { counts, .. } => *counts,
            Outcome::LeftOut(_) => Counts::SKIPPED,
        }
    }

    #[test]
    fn the_results_of_all_test_binaries_are_summed() {
        assert_eq!(count_tests(OUTPUT), Counts { passed: 8, failed: 1, skipped: 2 });
        assert_eq!(failed_tests(OUTPUT), "test a::c ... FAILED");
    }

    #[test]
    fn a_test_that_says_it_was_skipped_has_not_passed() {
        let text = format!("test a::b ... skipped: a: needs root\nok\n{OUTPUT}");
        assert_eq!(count_tests(&text), Counts { passed: 7, failed: 1, skipped: 3 });
    }

    #[test]
    fn the_number_of_crash_images_is_shown() {
        let text = format!("crash images: 9 workloads; 20001 images\n{OUTPUT}");
        assert_eq!(crash_images(&text), ["crash images: 9 workloads; 20001 images"]);
    }

    #[test]
    fn tests_that_do_not_compile_have_failed() {
        assert_eq!(counts(&outcome_of_tests(&run(false, "error[E0425]"))), Counts::FAILED);
        assert_eq!(counts(&outcome_of_tests(&run(false, OUTPUT))).failed, 1);
    }

    #[test]
    fn an_unknown_part_is_an_error() {
        let workspace = Workspace::at(std::path::Path::new("/nowhere"));
        let only = ["no-such-part".to_owned()];
        assert!(super::run(&workspace, false, &only, &mut Report::new()).is_err());
    }
}
