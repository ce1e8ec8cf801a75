//! `lossproof broker --accept-loss`: gives up what cannot be read, so that the rest can go on.

use std::path::Path;

use lossproof_broker::{PartitionNames, accept_losses};
use lossproof_env::Environment;
use lossproof_log::{
    CheckReport, Checked, Log, LogConfig, Loss, OffsetRange, PartitionId, PartitionRange, StateKind,
};

use super::check::{self, name_of, state_name};
use crate::Outcome;
use crate::exit::{self, Exit, Failure};
use crate::journal::open_code;
use crate::output::say;

/// What is to be given up, in the words of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Offsets {
        topic: String,
        number: i32,
        range: OffsetRange,
    },
    State(StateKind),
    /// The end of the journal.
    End,
}

/// TOPIC:PARTITION:FIRST-LAST, state:NAME, or end.
pub(super) fn parse(text: &str) -> Result<Wanted, String> {
    if text == "end" {
        return Ok(Wanted::End);
    }
    if let Some(wanted) = text.strip_prefix("state:") {
        let kind = StateKind::ALL.into_iter().find(|kind| state_name(*kind) == wanted);
        let names = StateKind::ALL.map(state_name).join(", ");
        return kind.map(Wanted::State).ok_or_else(|| format!("one of {names} wanted"));
    }
    let parsed = || {
        let (topic, rest) = text.split_once(':')?;
        let (number, range) = rest.split_once(':')?;
        let (first, last) = range.split_once('-')?;
        let range = OffsetRange { first: first.parse().ok()?, last: last.parse().ok()? };
        Some(Wanted::Offsets { topic: topic.to_owned(), number: number.parse().ok()?, range })
    };
    let help = "TOPIC:PARTITION:FIRST-LAST wanted, as in news:0:4-6; or state:NAME, or end";
    parsed().ok_or_else(|| help.to_owned())
}

/// So far behind the first lost offset none was given, as `lossproof explain LP1021` says.
const BEHIND_ALL: i64 = 1_000_000_000;

/// In the place of an offset that only a person can say.
pub(super) const LAST: &str = "LAST";

/// What `--check` and refusals say of a loss: ready to be given to `--accept-loss`.
pub(super) fn argument(lost: &PartitionRange, names: &PartitionNames) -> Option<String> {
    let (topic, number) = names.get(&lost.partition)?;
    let OffsetRange { first, last } = lost.range;
    let last = if lost.range.is_open() { LAST.to_owned() } else { last.to_string() };
    Some(format!("{topic}:{number}:{first}-{last}"))
}

pub(super) fn run(env: &Environment, directory: &Path, wanted: &[Wanted], adopt: bool) -> Outcome {
    let (checked, names) = check::look(env, directory)?;
    let report = checked.report.clone();
    let losses: Result<Vec<Option<Loss>>, String> =
        wanted.iter().map(|wanted| resolve(wanted, &report, &names)).collect();
    let losses = losses.map_err(|why| refused(directory, &report, &names, &why))?;
    let mut losses: Vec<Loss> = losses.into_iter().flatten().collect();
    if losses.contains(&Loss::State(StateKind::Metadata)) {
        losses.extend(of_nameless(&checked, &names));
    }
    let end = wanted.contains(&Wanted::End);
    if report.end_lost && !end {
        let why = "the end of the journal is missing: first --accept-loss end";
        return Err(refused(directory, &report, &names, why));
    }
    // It has kept others out, this process as well.
    drop(checked);
    let config = LogConfig { accept_lost_end: end, adopt, ..LogConfig::default() };
    let (aborted, hidden) = accept(env, directory, &losses, config)?;
    for loss in &losses {
        match loss {
            Loss::Offsets(PartitionRange { partition, range }) => {
                say!("accepted as lost: {}: offsets {range}", name_of(&names, *partition));
            }
            Loss::State(kind) => {
                say!("accepted as lost: what was missing of {}", state_name(*kind));
            }
        }
    }
    if end {
        say!(
            "accepted as lost: the end of the journal; `broker --check` names what it may have held"
        );
    }
    say!("transactions aborted: {aborted}");
    check::print_hidden(&hidden, &names);
    for left in check::acceptable(&without(&report, &losses), &names) {
        say!("still lost: --accept-loss {left}");
    }
    Ok(Exit::Proven)
}

/// What is damaged of partitions that no topic names: nobody could name it.
fn of_nameless(checked: &Checked, names: &PartitionNames) -> Vec<Loss> {
    let close = |range: OffsetRange| {
        let last = if range.is_open() { range.first + BEHIND_ALL } else { range.last };
        OffsetRange { last, ..range }
    };
    // Those that a start does not know of yet, too, and those of before, where a call was cut off.
    let unnoticed: Vec<PartitionRange> =
        checked.report.flaws.iter().flat_map(|flaw| flaw.lost.iter().copied()).collect();
    let mut losses = Vec::new();
    for (partition, view) in check::nameless(checked, names) {
        let loss = |range| Loss::Offsets(PartitionRange { partition, range: close(range) });
        let unnoticed = unnoticed.iter().filter(|it| it.partition == partition);
        let known = view.damaged.into_iter().chain(view.accepted);
        losses.extend(known.chain(unnoticed.map(|it| it.range)).map(loss));
    }
    losses
}

/// Opens the log and gives up `losses`; how many transactions were aborted with them, and what
/// committed readers are not given any more.
fn accept(
    env: &Environment,
    directory: &Path,
    losses: &[Loss],
    config: LogConfig,
) -> Result<(usize, Vec<PartitionRange>), Failure> {
    let shown = directory.display();
    let (log, _) = Log::open(env, directory, config)
        .map_err(|error| Failure::new(open_code(&error), format_args!("{shown}: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::new(exit::START_FAILED, error))?;
    let done = runtime.block_on(accept_losses(&log, env, losses));
    let hidden = log.hidden();
    let closed = log.close_blocking();
    let aborted = done
        .map_err(|error| Failure::new(exit::LOSS_NOT_ACCEPTED, format_args!("{shown}: {error}")))?;
    closed.map_err(|error| Failure::new(exit::STOP_FAILED, error))?;
    Ok((aborted, hidden))
}

/// What is still lost.
fn without(report: &CheckReport, losses: &[Loss]) -> CheckReport {
    let mut left = report.clone();
    left.end_lost = false;
    left.lost.retain(|lost| {
        let is_it = |loss: &Loss| {
            matches!(loss, Loss::Offsets(it)
                if (it.partition, it.range.first) == (lost.partition, lost.range.first))
        };
        !losses.iter().any(is_it)
    });
    left.lost_states.retain(|kind| !losses.contains(&Loss::State(*kind)));
    left
}

/// What was found that is meant: `None` for the end, which is no loss by itself.
fn resolve(
    wanted: &Wanted,
    report: &CheckReport,
    names: &PartitionNames,
) -> Result<Option<Loss>, String> {
    match wanted {
        Wanted::End if report.end_lost => Ok(None),
        Wanted::End => Err("the end of the journal is there".to_owned()),
        Wanted::State(kind) => {
            let known = report.lost_states.contains(kind) || report.accepted_states.contains(kind);
            let missing = || format!("nothing is missing of {}", state_name(*kind));
            known.then_some(Some(Loss::State(*kind))).ok_or_else(missing)
        }
        Wanted::Offsets { topic, number, range } => {
            let is_meant =
                |(_, name): &(&PartitionId, &(String, i32))| (&name.0, &name.1) == (topic, number);
            let found = names.iter().find(is_meant).map(|(id, _)| *id);
            let partition =
                found.ok_or_else(|| format!("there is no partition {topic}-{number}"))?;
            if report.is_unplaced(partition) {
                let name = name_of(names, partition);
                return Err(format!("the creation of {name} is lost: given up by state:topics"));
            }
            let meant = PartitionRange { partition, range: *range };
            let matches = |lost: &&PartitionRange| {
                let same_end = lost.range.is_open() || lost.range.last == range.last;
                lost.partition == partition && lost.range.first == range.first && same_end
            };
            let known = report.lost.iter().chain(&report.accepted).any(|it| matches(&it));
            let what =
                || format!("{}: offsets {range} are no lost range", name_of(names, partition));
            known.then_some(Some(Loss::Offsets(meant))).ok_or_else(what)
        }
    }
}

/// Names what is lost, so that the next try is right.
fn refused(directory: &Path, report: &CheckReport, names: &PartitionNames, why: &str) -> Failure {
    let mut text = format!("{}: {why}; nothing is changed", directory.display());
    for lost in check::acceptable(report, names) {
        text.push_str("\n  lost: --accept-loss ");
        text.push_str(&lost);
    }
    Failure::new(exit::LOSS_NOT_ACCEPTED, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_named_by_topic_and_offsets_or_by_what_they_are_of() {
        let range = OffsetRange { first: 4, last: 6 };
        let offsets = Wanted::Offsets { topic: "a.b-c".to_owned(), number: 2, range };
        assert_eq!(parse("a.b-c:2:4-6"), Ok(offsets));
        assert_eq!(parse("state:group-offsets"), Ok(Wanted::State(StateKind::Offsets)));
        assert_eq!(parse("end"), Ok(Wanted::End));
        for wrong in ["a", "a:1", "a:1:4", "a:1:4-", "a:x:1-2", "state:", "state:x", "a:0:9-LAST"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
