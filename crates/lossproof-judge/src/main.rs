//! `lossproof-judge < HISTORY`: the report as one line of JSON on standard output.
//!
//! Exit codes: 0 complete, 1 could not decide or a rule is broken, 2 usage, 3 loss, 4 duplicates
//! only.

use std::process::ExitCode;

use lossproof_judge::{Verdict, judge};

const USAGE: u8 = 2;
const LOSS: u8 = 3;
const DUPLICATES_ONLY: u8 = 4;

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!("usage: lossproof-judge < HISTORY (its format: docs/format/history.md)");
        return ExitCode::from(USAGE);
    }
    let report = match judge(std::io::stdin().lock()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match serde_json::to_string(&report) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("cannot write the report: {error}");
            return ExitCode::FAILURE;
        }
    }
    match report.verdict {
        Verdict::Complete => ExitCode::SUCCESS,
        Verdict::Broken | Verdict::Undecided => ExitCode::FAILURE,
        Verdict::Loss => ExitCode::from(LOSS),
        Verdict::DuplicatesOnly => ExitCode::from(DUPLICATES_ONLY),
    }
}
