//! Figures of the torture that are kept: one entry for each fault of each recorded run, and the
//! table of the README, which is nothing but their sums.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use serde::{Deserialize, Serialize};

use super::{Figures, Verdict};
use crate::failure::{Context, Failure};
use crate::page::{said_by, today, with_part};
use crate::workspace::Workspace;

const BEGIN: &str = "<!-- durability: `cargo xtask torture --record` writes this -->\n";
const END: &str = "<!-- durability: end -->\n";

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    cycles: u64,
    /// Cycles that struck while a transaction was open, or its commit had no answer. Earlier runs
    /// have not counted this, nor what else has a default here.
    #[serde(default)]
    struck_open: u64,
    #[serde(default)]
    struck_in_doubt: u64,
    acknowledged: u64,
    #[serde(default)]
    compacted: u64,
    #[serde(default)]
    member_commits: u64,
    #[serde(default)]
    rebalances: u64,
    #[serde(default)]
    transactions: u64,
    lost: u64,
    altered: u64,
    reordered: u64,
    duplicates: u64,
    broken: u64,
    reported: u64,
    #[serde(default)]
    struck_batches: u64,
    #[serde(default)]
    reported_batches: u64,
    undetected: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    commit: String,
    machine: String,
    date: String,
    fault: String,
    /// The first and the last one.
    seeds: (u64, u64),
    /// Early runs do not say it: they passed.
    #[serde(default = "passed")]
    outcome: Verdict,
    #[serde(flatten)]
    tally: Tally,
}

fn passed() -> Verdict {
    Verdict::Passed
}

/// In the order of the table, with what a reader calls them.
const FAULTS: [(&str, &str); 6] = [
    ("kill", "SIGKILL under load, half of them on a disk that forgets what was not synced"),
    ("syscall-kill", "SIGKILL at a thread's N-th system call that changes the disk"),
    ("power-cut", "power cut of a real ext4 under load"),
    ("sync-error", "fdatasync says EIO, then power cut"),
    ("disk-full", "full disk, healed while it runs"),
    ("bit-flip", "one bit flipped in the files"),
];

fn json_path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs/evidence/durability.json")
}

/// Adds the figures of the tree at that commit, and writes the table anew.
pub(crate) fn record(
    workspace: &Workspace,
    commit: &str,
    figures: &[Figures],
) -> Result<(), Failure> {
    let path = json_path(workspace);
    let text = fs::read_to_string(&path).context(path.display())?;
    let mut entries: Vec<Entry> = serde_json::from_str(&text).context(path.display())?;
    let kernel = said_by(Command::new("uname").arg("-sr"))?;
    let cores = thread::available_parallelism().context("count the processors")?;
    let date = today()?;
    let evidence = figures.iter().filter(|it| !it.is_control && it.outcome != Verdict::Skipped);
    entries.extend(evidence.map(|figures| Entry {
        commit: commit.to_owned(),
        machine: format!("{cores} cores, {kernel}"),
        date: date.clone(),
        fault: figures.fault.clone(),
        seeds: (figures.first_seed, figures.first_seed + figures.seeds - 1),
        outcome: figures.outcome,
        tally: figures.tally,
    }));
    let lines: Result<Vec<String>, _> = entries.iter().map(serde_json::to_string).collect();
    let text = format!("[\n{}\n]\n", lines.context(path.display())?.join(",\n"));
    fs::write(&path, text).context(path.display())?;
    let readme = workspace.root().join("README.md");
    let text = fs::read_to_string(&readme).context(readme.display())?;
    let updated = with_part(&text, [BEGIN, END], &table(&entries))
        .ok_or_else(|| Failure::broken("README.md has no place for the durability table"))?;
    fs::write(&readme, updated).context(readme.display())
}

/// What is wrong with the table of the README, if anything is.
pub(crate) fn complaint(readme: &str, json: &str) -> Option<String> {
    let entries: Vec<Entry> = match serde_json::from_str(json) {
        Ok(entries) => entries,
        Err(error) => return Some(format!("docs/evidence/durability.json: {error}")),
    };
    let agrees = with_part(readme, [BEGIN, END], &table(&entries)).as_deref() == Some(readme);
    (!agrees)
        .then(|| "the durability table is not that of docs/evidence/durability.json".to_owned())
}

fn table(entries: &[Entry]) -> String {
    let mut sums: BTreeMap<&str, (Tally, u64)> = BTreeMap::new();
    for Entry { fault, tally, outcome, .. } in entries {
        let (sum, failed) = sums.entry(fault).or_default();
        *failed += u64::from(*outcome == Verdict::Failed);
        sum.cycles += tally.cycles;
        sum.acknowledged += tally.acknowledged;
        sum.transactions += tally.transactions;
        sum.lost += tally.lost;
        sum.altered += tally.altered;
        sum.reordered += tally.reordered;
        sum.duplicates += tally.duplicates;
        sum.broken += tally.broken;
        sum.reported += tally.reported;
        sum.struck_batches += tally.struck_batches;
        sum.reported_batches += tally.reported_batches;
        sum.undetected += tally.undetected;
    }
    let mut table =
        "| fault | cycles | acknowledged | transactions | lost | altered | reordered | \
         duplicates | otherwise broken | flips told of | acknowledged batches flipped | of them \
         reported | not reported | runs that failed |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for (fault, words) in FAULTS {
        let Some((sum, failed)) = sums.get(fault) else { continue };
        let Tally { cycles, acknowledged, transactions, lost, altered, reordered, .. } = sum;
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {words} | {cycles} | {acknowledged} | {transactions} | {lost} | {altered} | \
             {reordered} | {} | {} | {} | {} | {} | {} | {failed} |",
            sum.duplicates,
            sum.broken,
            sum.reported,
            sum.struck_batches,
            sum.reported_batches,
            sum.undetected
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"[
{"commit": "a", "machine": "m", "date": "d", "fault": "kill", "seeds": [1, 2], "cycles": 12,
 "acknowledged": 100, "lost": 0, "altered": 0, "reordered": 0, "duplicates": 0, "broken": 0,
 "reported": 0, "undetected": 0},
{"commit": "b", "machine": "m", "date": "d", "fault": "kill", "seeds": [3, 3], "cycles": 6,
 "outcome": "failed", "acknowledged": 50, "transactions": 7, "lost": 1, "altered": 0,
 "reordered": 0, "duplicates": 0, "broken": 3, "reported": 9, "struck_batches": 4,
 "reported_batches": 3, "undetected": 1}
]"#;

    fn readme(row: &str) -> String {
        let entries: Vec<Entry> = serde_json::from_str("[]").unwrap();
        format!("before\n{BEGIN}{}{row}{END}after\n", table(&entries))
    }

    #[test]
    fn the_table_is_the_sum_of_all_runs_and_nothing_else() {
        let row =
            format!("| {} | 18 | 150 | 7 | 1 | 0 | 0 | 0 | 3 | 9 | 4 | 3 | 1 | 1 |\n", FAULTS[0].1);
        assert_eq!(complaint(&readme(&row), JSON), None);
        assert!(complaint(&readme(&row.replace("| 7 | 1 |", "| 7 | 0 |")), JSON).is_some());
        assert!(complaint(&readme(&row.replace("| 4 | 3 |", "| 4 | 4 |")), JSON).is_some());
        let hidden = row.replace("| 1 |\n", "| 0 |\n");
        assert!(complaint(&readme(&hidden), JSON).is_some(), "a run that failed is told");
        assert!(complaint("no table", JSON).is_some());
        assert!(complaint(&readme(&row), "no json").is_some());
    }
}
