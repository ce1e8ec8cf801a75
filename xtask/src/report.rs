//! What was run and how it ended: a line for each part, one line with the sums at the end.

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Tests by outcome. A part without tests of its own counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) const PASSED: Counts = Counts { passed: 1, failed: 0, skipped: 0 };
    pub(crate) const FAILED: Counts = Counts { passed: 0, failed: 1, skipped: 0 };
    pub(crate) const SKIPPED: Counts = Counts { passed: 0, failed: 0, skipped: 1 };

    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// With `CI` set nothing may be missing.
pub(crate) fn is_strict() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// How a part ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ran. `notes` are shown, whatever the counts say.
    Ran { counts: Counts, notes: Vec<String> },
    /// Left out with a reason that is no fault of the machine.
    LeftOut(String),
}

impl Outcome {
    pub(crate) fn passed() -> Outcome {
        Outcome::Ran { counts: Counts::PASSED, notes: Vec::new() }
    }

    pub(crate) fn failed(note: impl Into<String>) -> Outcome {
        Outcome::Ran { counts: Counts::FAILED, notes: vec![note.into()] }
    }
}

pub(crate) struct Report {
    counts: Counts,
    strict: bool,
    started: Instant,
}

impl Report {
    pub(crate) fn new() -> Report {
        Report { counts: Counts::default(), strict: is_strict(), started: Instant::now() }
    }

    /// Runs one part and prints how it went. A part may stop early with [`Failure::Missing`].
    pub(crate) fn part(&mut self, name: &str, run: impl FnOnce() -> Result<Outcome, Failure>) {
        println!("{name} ...");
        let started = Instant::now();
        let outcome = run();
        let (counts, word, notes) = judge(outcome, self.strict);
        for note in notes {
            println!("{note}");
        }
        self.counts.add(counts);
        println!("{name}: {word} ({})", seconds(started.elapsed()));
    }

    /// Prints the last line; it is the whole verdict.
    pub(crate) fn finish(&self) -> ExitCode {
        let Counts { passed, failed, skipped } = self.counts;
        println!("all parts took {}", seconds(self.started.elapsed()));
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        // A run of nothing proves nothing.
        if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn judge(outcome: Result<Outcome, Failure>, strict: bool) -> (Counts, String, Vec<String>) {
    match outcome {
        Ok(Outcome::Ran { counts, notes }) => (counts, describe(counts), notes),
        Ok(Outcome::LeftOut(why)) => (Counts::SKIPPED, format!("skipped: {why}"), Vec::new()),
        Err(Failure::Missing(why)) if !strict => {
            (Counts::SKIPPED, format!("skipped: {why}"), Vec::new())
        }
        Err(Failure::Missing(why)) => {
            (Counts::FAILED, format!("FAILED: missing, and CI is set: {why}"), Vec::new())
        }
        Err(Failure::Broken(why)) => (Counts::FAILED, "FAILED".to_owned(), vec![why]),
    }
}

fn describe(counts: Counts) -> String {
    let Counts { passed, failed, skipped } = counts;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    if passed + failed + skipped == 1 {
        return word.to_owned();
    }
    let skipped = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    format!("{word}, {passed} passed, {failed} failed{skipped}")
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_part_is_skipped_and_with_ci_it_fails() {
        let missing = || Err(Failure::missing("no kcat"));
        assert_eq!(judge(missing(), false).0, Counts::SKIPPED);
        assert_eq!(judge(missing(), true).0, Counts::FAILED);
        assert!(judge(missing(), false).1.contains("skipped: no kcat"));
    }

    #[test]
    fn what_is_left_out_on_purpose_is_no_failure_even_with_ci() {
        let left_out = Ok(Outcome::LeftOut("--quick".to_owned()));
        assert_eq!(judge(left_out, true).0, Counts::SKIPPED);
    }

    #[test]
    fn an_error_fails_the_part() {
        let (counts, word, notes) = judge(Err(Failure::broken("it burns")), false);
        assert_eq!((counts, word.as_str()), (Counts::FAILED, "FAILED"));
        assert_eq!(notes, ["it burns"]);
    }

    #[test]
    fn one_failure_among_many_makes_the_run_fail() {
        let mut report =
            Report { counts: Counts::default(), strict: false, started: Instant::now() };
        report.part("good", || Ok(Outcome::passed()));
        assert_eq!(report.finish(), ExitCode::SUCCESS);
        report.part("bad", || Ok(Outcome::failed("broken")));
        assert_eq!(report.finish(), ExitCode::FAILURE);
    }

    #[test]
    fn a_run_of_nothing_is_a_failure() {
        let report = Report { counts: Counts::SKIPPED, strict: false, started: Instant::now() };
        assert_eq!(report.finish(), ExitCode::FAILURE);
    }
}
