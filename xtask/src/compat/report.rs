//! The table of `compat/README.md`, between two marks; all around it is written by hand.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::{Card, Verdict, script, tools};
use crate::failure::{Context, Failure};
use crate::workspace::Workspace;

const BEGIN: &str = "<!-- written by `cargo xtask compat --report` -->\n";
const END: &str = "<!-- until here -->\n";

/// Puts the result of a run of all clients into the page.
pub(crate) fn write(workspace: &Workspace, cards: &[Card]) -> Result<(), Failure> {
    if let Some(card) = cards.iter().find(|card| card.missing.is_some()) {
        let name = card.client.name;
        return Err(Failure::broken(format!("no report without {name}: its row would be empty")));
    }
    let page = workspace.root().join("compat/README.md");
    let text = fs::read_to_string(&page).context(page.display())?;
    let text = replace(&text, &table(cards, &stamp(workspace)?))?;
    fs::write(&page, text).context(page.display())
}

fn replace(text: &str, table: &str) -> Result<String, Failure> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.ok_or_else(|| Failure::broken("the page has lost the marks of its table"))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// Day and commit.
fn stamp(workspace: &Workspace) -> Result<String, Failure> {
    let say = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(workspace.root()).output();
        let output = output.context(program)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let day = say("date", &["--utc", "+%Y-%m-%d"])?;
    let commit = say("git", &["rev-parse", "--short", "HEAD"])?;
    Ok(format!("{day}, at commit {commit}"))
}

fn table(cards: &[Card], stamp: &str) -> String {
    let (tools, clients): (Vec<&Card>, Vec<&Card>) =
        cards.iter().partition(|card| card.client.is_tools());
    let mut lines = vec![String::new(), format!("Run of {stamp}."), String::new()];
    lines.extend(rows(&clients));
    lines.push(String::new());
    lines.extend(columns(&tools));
    lines.extend(notes(cards));
    lines.join("\n") + "\n\n"
}

/// A row for each client, a column for each step.
fn rows(cards: &[&Card]) -> Vec<String> {
    let names: Vec<&str> = script::steps().into_iter().map(|(name, _)| name).collect();
    let mut rows = vec![format!("| client | version | {} |", names.join(" | "))];
    rows.push(format!("|---|---{}|", "|---".repeat(names.len())));
    rows.extend(cards.iter().map(|card| {
        let words: Vec<&str> = names.iter().map(|step| word(card, step)).collect();
        let (name, version) = (card.client.name, card.client.version);
        format!("| {name} | {version} | {} |", words.join(" | "))
    }));
    rows
}

/// A row for each step, a column for each version of the tools.
fn columns(cards: &[&Card]) -> Vec<String> {
    let versions: Vec<&str> = cards.iter().map(|card| card.client.version).collect();
    let mut rows = vec![format!("| tools of Apache Kafka | {} |", versions.join(" | "))];
    rows.push(format!("|---{}|", "|---".repeat(cards.len())));
    rows.extend(tools::STEPS.iter().map(|(name, _)| {
        let words: Vec<&str> = cards.iter().map(|card| word(card, name)).collect();
        format!("| {name} | {} |", words.join(" | "))
    }));
    rows
}

fn word(card: &Card, step: &str) -> &'static str {
    match card.steps.iter().find(|(name, _)| *name == step).map(|(_, verdict)| verdict) {
        Some(Verdict::Passed) => "pass",
        Some(Verdict::NotOffered(_)) => "not offered",
        Some(Verdict::Open(..)) => "open",
        Some(Verdict::Failed(_)) => "FAIL",
        None => "not reached",
    }
}

/// Why something failed, is not offered or is open.
fn notes(cards: &[Card]) -> Vec<String> {
    let (mut failed, mut lacking, mut open) = (Vec::new(), Vec::new(), BTreeSet::new());
    for card in cards {
        let name = card.client.name;
        for (step, verdict) in &card.steps {
            match verdict {
                Verdict::Passed => {}
                Verdict::Failed(why) => {
                    let why = why.lines().next().unwrap_or_default();
                    failed.push(format!("- {name}, {step}: {why}"));
                }
                Verdict::NotOffered(why) => lacking.push(format!("- {name}, {step}: {why}.")),
                Verdict::Open(api, _) => {
                    open.insert(format!("- {step}: the broker does not serve {api} yet."));
                }
            }
        }
    }
    let mut lines = Vec::new();
    let open = open.into_iter().collect();
    for (title, found) in
        [("Failed", failed), ("Not offered by the client", lacking), ("Open", open)]
    {
        if !found.is_empty() {
            lines.extend([String::new(), format!("{title}:"), String::new()]);
            lines.extend(found);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::clients::CLIENTS;
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(replace(&page, "new\n").unwrap(), format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(replace("no marks", "new").is_err());
    }

    #[test]
    fn a_row_says_pass_open_and_not_offered() {
        let steps = vec![
            ("none", Verdict::Passed),
            ("zstd", Verdict::NotOffered("no")),
            ("transactions", Verdict::Open("InitProducerId", "refused".to_owned())),
        ];
        let card = Card { client: &CLIENTS[1], steps, missing: None, seconds: 1.0 };
        let text = table(&[card], "a day");
        assert!(text.contains("| pass | not reached | not reached | not reached | not offered |"));
        assert!(text.contains("| not reached | open |\n"), "{text}");
        assert!(text.contains("- transactions: the broker does not serve InitProducerId yet."));
        assert!(text.contains("Run of a day."));
    }
}
