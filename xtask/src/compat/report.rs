//! The table of `compat/README.md`, between two marks; all around it is written by hand.

use std::fs;

use super::{Card, Verdict, script, tools};
use crate::failure::{Context, Failure};
use crate::page::{commit, today, with_part};
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
    let text = with_part(&text, [BEGIN, END], &table(cards, &stamp(workspace)?))
        .ok_or_else(|| Failure::broken("the page has lost the marks of its table"))?;
    fs::write(&page, text).context(page.display())
}

/// Day and commit.
fn stamp(workspace: &Workspace) -> Result<String, Failure> {
    Ok(format!("{}, at commit {}", today()?, commit(workspace)?))
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
        Some(Verdict::Failed(_)) => "FAIL",
        None => "not reached",
    }
}

/// Why something failed or was left out.
fn notes(cards: &[Card]) -> Vec<String> {
    let (mut failed, mut lacking) = (Vec::new(), Vec::new());
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
            }
        }
    }
    let mut lines = Vec::new();
    for (title, found) in [("Failed", failed), ("Not offered by the client", lacking)] {
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
    fn a_row_says_pass_fail_and_not_offered() {
        let steps = vec![
            ("none", Verdict::Passed),
            ("zstd", Verdict::NotOffered("not here")),
            ("transactions", Verdict::Failed("refused\nby name".to_owned())),
        ];
        let card = Card { client: &CLIENTS[1], steps, missing: None, seconds: 1.0 };
        let text = table(&[card], "a day");
        let row = "| pass | not reached | not reached | not reached | not offered |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("by the client:\n\n- confluent-kafka, zstd: not here.\n"), "{text}");
        assert!(text.contains("| not reached | FAIL |\n"), "{text}");
        assert!(text.contains(", transactions: refused\n"), "{text}");
        assert!(text.contains("Run of a day."));
    }
}
