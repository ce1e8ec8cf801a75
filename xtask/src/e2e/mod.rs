//! The broker under clients that others wrote: librdkafka (kcat), Java, Python. Each test is a
//! function that fails with what it saw; the broker is a process of its own and is killed too.

mod hostile;
mod java;
mod kcat;
mod python;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, process};

use crate::cache::{Cache, remove_all};
use crate::failure::{Context, Failure};
use crate::report::{Counts, Outcome, is_strict};
use crate::service::{Binaries, Broker, build};
use crate::workspace::Workspace;

/// What a test gets: a broker that runs, and a directory for what the clients leave.
pub(crate) struct Scene<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) broker: &'a mut Broker,
    pub(crate) binaries: &'a Binaries,
    pub(crate) run: &'a Path,
}

type Test = (&'static str, fn(&mut Scene<'_>) -> Result<(), Failure>);

const TESTS: [Test; 11] = [
    ("kcat: every acks setting is stored and read back", kcat::every_acks_setting),
    ("kcat: a group commits and goes on where it was", kcat::group_goes_on),
    ("kcat: two members of a group share the partitions", kcat::two_members),
    ("kcat: every compression is stored and read back", kcat::every_compression),
    ("java: topics are created, described and deleted", java::topics),
    ("java: the console producer and consumer agree", java::console),
    ("java: idempotent records survive SIGKILL of the broker", java::survives_kill),
    ("java: a producer that the broker has forgotten starts over", java::starts_over),
    ("java: the verifiable producer gets every acknowledgement", java::verifiable),
    ("python: produce, consume, commit, and read the offset back", python::round_trip),
    ("anyone: hostile bytes close their connection and no more", hostile::bytes),
];

/// Runs all of it against one broker.
pub(crate) fn run(workspace: &Workspace, cache: &Cache) -> Result<Outcome, Failure> {
    let binaries = build(workspace)?;
    let run = run_directory("e2e")?;
    let mut broker = Broker::start(&binaries.lossproof, &run)?;
    let mut scene = Scene { cache, broker: &mut broker, binaries: &binaries, run: &run };
    let strict = is_strict();
    let mut counts = Counts::default();
    let mut notes = Vec::new();
    for (name, test) in TESTS {
        let result = test(&mut scene).and_then(|()| scene.broker.check_alive());
        let (count, note) = match result {
            Ok(()) => (Counts::PASSED, format!("  {name}: ok")),
            Err(Failure::Missing(why)) if !strict => {
                (Counts::SKIPPED, format!("  {name}: skipped: {why}"))
            }
            Err(failure) => (Counts::FAILED, format!("  {name}: FAILED: {failure}")),
        };
        counts.add(count);
        notes.push(note);
    }
    drain(&mut broker, &mut counts, &mut notes);
    if counts.failed == 0 {
        remove_all(&run)?;
    } else {
        notes.push(format!("  everything they left: {}", run.display()));
    }
    Ok(Outcome::Ran { counts, notes })
}

/// SIGTERM ends the broker cleanly, as the last test.
fn drain(broker: &mut Broker, counts: &mut Counts, notes: &mut Vec<String>) {
    let name = "SIGTERM drains and ends with success";
    let ended = match broker.terminate() {
        Ok(status) if status.success() => return counts.add(Counts::PASSED),
        Ok(status) => status.to_string(),
        Err(failure) => failure.to_string(),
    };
    counts.add(Counts::FAILED);
    notes.push(format!("  {name}: FAILED: {ended}"));
}

/// A directory of this run that every user may enter.
pub(crate) fn run_directory(name: &str) -> Result<PathBuf, Failure> {
    let run = env::temp_dir().join(format!("lossproof-{name}-{}", process::id()));
    remove_all(&run)?;
    fs::create_dir_all(&run).context(run.display())?;
    Ok(run)
}

/// Lines `PREFIX-0`, `PREFIX-1`, ...
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// Fails unless `read` holds each of `expected` exactly once, in any order.
pub(crate) fn same_once(expected: &[String], read: &[String]) -> Result<(), Failure> {
    let distinct: BTreeSet<&String> = read.iter().collect();
    let missing: Vec<&String> = expected.iter().filter(|line| !distinct.contains(line)).collect();
    if missing.is_empty() && distinct.len() == read.len() && read.len() == expected.len() {
        return Ok(());
    }
    let first = missing.first().map_or("none", |line| line.as_str());
    Err(Failure::broken(format!(
        "expected {} lines, read {} of which {} are distinct; {} missing, the first: {first}",
        expected.len(),
        read.len(),
        distinct.len(),
        missing.len(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_and_a_doubled_line_are_noticed() {
        let expected = numbered("a", 3);
        let mut read = expected.clone();
        read.reverse();
        assert!(same_once(&expected, &read).is_ok());
        let missing = same_once(&expected, &read[1..]).unwrap_err().to_string();
        assert!(missing.contains("1 missing, the first: a-2"), "{missing}");
        read.push("a-0".to_owned());
        assert!(same_once(&expected, &read).is_err());
    }
}
