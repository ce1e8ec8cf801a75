//! `cargo xtask compat`: clients that others wrote, each driven by the same script against a
//! broker of its own. `compat/README.md` describes the script and holds the report card.

mod clients;
mod lines;
mod member;
mod report;
mod script;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Args;

use crate::cache::{Cache, remove_all};
use crate::e2e::run_directory;
use crate::failure::{Context, Failure};
use crate::report::{Counts, Outcome, is_strict};
use crate::service::{Broker, build_release};
use crate::stop;
use crate::workspace::Workspace;
use clients::{CLIENTS, Client};

/// Clients at work at the same time: each waits most of its time.
const CLIENTS_AT_ONCE: usize = 2;

#[derive(Args, Debug, Default)]
pub(crate) struct Options {
    /// Only the clients with these names
    #[arg(long = "client", value_name = "NAME")]
    only: Vec<String>,
    /// Write the table of compat/README.md
    #[arg(long)]
    report: bool,
    /// This binary instead of a release that is built from the tree
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Options {
    /// All clients, with that binary.
    pub(crate) fn of(binary: PathBuf) -> Self {
        Self { binary: Some(binary), ..Self::default() }
    }
}

/// What a client is prepared with.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) cache: &'a Cache,
    binary: &'a Path,
    run: &'a Path,
}

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// The client cannot take the step, and why.
    NotOffered(&'static str),
    Failed(String),
}

/// A client, and the steps in their order.
#[derive(Debug)]
pub(crate) struct Card {
    client: &'static Client,
    steps: Vec<(&'static str, Verdict)>,
    /// The machine lacks something: nothing was run.
    missing: Option<String>,
    seconds: f64,
}

pub(crate) fn run(
    workspace: &Workspace,
    cache: &Cache,
    options: &Options,
) -> Result<Outcome, Failure> {
    let wanted = wanted(&options.only)?;
    let binary = match &options.binary {
        Some(file) => fs::canonicalize(file).context(file.display())?,
        None => build_release(workspace)?,
    };
    let run = run_directory("compat")?;
    let stage = Stage { workspace, cache, binary: &binary, run: &run };
    let cards = run_clients(&stage, &wanted);
    stop::check()?;
    let strict = is_strict();
    let mut counts = Counts::default();
    let mut notes = Vec::new();
    for card in &cards {
        let counted = card.counts(strict);
        counts.add(counted);
        notes.extend(card.notes());
    }
    if options.report {
        report::write(workspace, &cards)?;
    }
    if counts.failed == 0 {
        remove_all(&run)?;
    } else {
        notes.push(format!("  everything they left: {}", run.display()));
    }
    Ok(Outcome::Ran { counts, notes })
}

fn wanted(only: &[String]) -> Result<Vec<&'static Client>, Failure> {
    if let Some(unknown) = only.iter().find(|name| CLIENTS.iter().all(|it| it.name != **name)) {
        let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
        let names = names.join(" ");
        return Err(Failure::broken(format!("no client `{unknown}`; there are: {names}")));
    }
    let wanted = |client: &&Client| only.is_empty() || only.iter().any(|it| it == client.name);
    Ok(CLIENTS.iter().filter(wanted).collect())
}

/// All cards, in the order of the table.
fn run_clients(stage: &Stage<'_>, wanted: &[&'static Client]) -> Vec<Card> {
    let next = AtomicUsize::new(0);
    let cards = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS_AT_ONCE {
            scope.spawn(|| {
                while let Some(client) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop::check().is_err() {
                        return;
                    }
                    let card = run_client(stage, client);
                    println!("  {}", card.line());
                    let mut cards = cards.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    cards.push(card);
                }
            });
        }
    });
    let mut cards = cards.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    cards.sort_by_key(|card| wanted.iter().position(|client| client.name == card.client.name));
    cards
}

fn run_client(stage: &Stage<'_>, client: &'static Client) -> Card {
    let started = Instant::now();
    let mut card = Card { client, steps: Vec::new(), missing: None, seconds: 0.0 };
    match take_steps(stage, client, &mut card) {
        Ok(()) => {}
        Err(Failure::Missing(why)) => card.missing = Some(why),
        Err(Failure::Broken(why)) => card.steps.push(("start", Verdict::Failed(why))),
    }
    card.seconds = started.elapsed().as_secs_f64();
    card
}

fn take_steps(stage: &Stage<'_>, client: &'static Client, card: &mut Card) -> Result<(), Failure> {
    let run = stage.run.join(client.name);
    fs::create_dir_all(&run).context(run.display())?;
    let program = client.prepare(stage, &run)?;
    let broker = Broker::start(stage.binary, &run)?;
    if client.is_tools() {
        let mut scene = tools::Scene::new(client.version, &program, broker, &run);
        for (name, step) in tools::STEPS {
            card.take(name, || step(&mut scene));
        }
        return Ok(());
    }
    let mut scene = script::Scene::new(&program, broker, &run);
    for (name, step) in script::steps() {
        if !card.take(name, || step(&mut scene, name)) {
            break;
        }
    }
    Ok(())
}

impl Card {
    /// Takes a step, or knows why not. False when the next steps have nothing to build on.
    fn take(&mut self, name: &'static str, step: impl FnOnce() -> Result<(), Failure>) -> bool {
        let verdict = match self.client.lack(name) {
            Some(why) => Verdict::NotOffered(why),
            None => match step() {
                Ok(()) => Verdict::Passed,
                Err(failure) => Verdict::Failed(failure.to_string()),
            },
        };
        let go_on = !matches!(verdict, Verdict::Failed(_));
        self.steps.push((name, verdict));
        go_on
    }

    fn counts(&self, strict: bool) -> Counts {
        if self.missing.is_some() {
            return if strict { Counts::FAILED } else { Counts::SKIPPED };
        }
        let mut counts = Counts::default();
        for (_, verdict) in &self.steps {
            match verdict {
                Verdict::Passed => counts.add(Counts::PASSED),
                Verdict::Failed(_) => counts.add(Counts::FAILED),
                Verdict::NotOffered(_) => {}
            }
        }
        counts
    }

    /// One line about all of it.
    fn line(&self) -> String {
        let Client { name, version, .. } = self.client;
        if let Some(why) = &self.missing {
            return format!("{name} {version}: missing: {why}");
        }
        let Counts { passed, failed, .. } = self.counts(true);
        let seconds = self.seconds;
        format!("{name} {version}: {passed} passed, {failed} failed ({seconds:.1} s)")
    }

    /// What is not as it should be.
    fn notes(&self) -> Vec<String> {
        let name = self.client.name;
        let note = |(step, verdict): &(&str, Verdict)| match verdict {
            Verdict::Failed(why) => Some(format!("  {name}: {step}: FAILED: {why}")),
            Verdict::Passed | Verdict::NotOffered(_) => None,
        };
        let missing = self.missing.iter().map(|why| format!("  {name}: missing: {why}"));
        missing.chain(self.steps.iter().filter_map(note)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_fails_the_client_and_one_that_is_not_offered_does_not() {
        let client = &CLIENTS[0];
        let mut card = Card { client, steps: Vec::new(), missing: None, seconds: 0.0 };
        assert!(card.take("none", || Ok(())));
        assert!(card.take("admin", || Err(Failure::broken("kcat has no admin"))));
        assert_eq!(card.counts(true), Counts { passed: 1, failed: 0, skipped: 0 });
        assert!(!card.take("gzip", || Err(Failure::broken("lost"))));
        assert_eq!(card.counts(true), Counts { passed: 1, failed: 1, skipped: 0 });
    }
}
