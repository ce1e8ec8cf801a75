//! `lossproof broker --check`: is everything there that was acknowledged? Nothing is changed.

use std::collections::BTreeSet;
use std::path::{Display, Path};
use std::time::Duration;

use clap::ValueEnum;
use lossproof_broker::{PartitionNames, partition_names};
use lossproof_env::Environment;
use lossproof_log::{
    CheckProgress, CheckReport, Checked, Finding, Flaw, FlushPolicy, LogConfig, OffsetRange,
    OpenError, PartitionId, PartitionRange, PartitionView, Purpose, StateKind, check,
};
use serde_json::{Value, json};

use super::accept;
use crate::Outcome;
use crate::exit::{self, Exit, Failure};
use crate::journal::open_code;
use crate::output::say;

/// So long nothing is said of the progress.
const SILENCE: Duration = Duration::from_secs(5);
const MEBIBYTE: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

pub(super) fn run(env: &Environment, directory: &Path, format: Format) -> Outcome {
    let looked = look(env, directory);
    let (checked, names) = looked.inspect_err(|failure| {
        if format == Format::Json {
            let Failure { code, message } = failure;
            say!("{}", json!({ "verdict": "unknown", "code": code.name, "error": message }));
        }
    })?;
    let report = &checked.report;
    match format {
        Format::Text => print(directory, &checked, &names),
        Format::Json => say!("{}", to_json(directory, &checked, &names)),
    }
    Ok(if report.is_damaged() { Exit::Loss } else { Exit::Proven })
}

/// Looks at all of it; an error is "cannot tell".
pub(super) fn look(
    env: &Environment,
    directory: &Path,
) -> Result<(Checked, PartitionNames), Failure> {
    let clock = env.clock.clone();
    let mut said_at = clock.monotonic();
    let mut progress = |progress: CheckProgress| {
        if clock.monotonic() >= said_at + SILENCE {
            said_at = clock.monotonic();
            let CheckProgress { bytes, bytes_total } = progress;
            crate::output::mutter!(
                "looked at {} of {} MiB",
                bytes / MEBIBYTE,
                bytes_total / MEBIBYTE
            );
        }
    };
    let checked = check(env, directory, LogConfig::default(), &mut progress);
    let checked = checked.map_err(|error| failure(directory, &error))?;
    let names = partition_names(&checked.log).map_err(|error| {
        Failure::new(exit::JOURNAL_DAMAGED, format_args!("{}: {error}", directory.display()))
    })?;
    let mut checked = checked;
    add_nameless(&mut checked, &names);
    Ok((checked, names))
}

/// What stands in partitions that no topic names can be had by nobody: the entry of the topic is
/// lost, or was, and given up since.
fn add_nameless(checked: &mut Checked, names: &PartitionNames) {
    let metadata = StateKind::Metadata;
    let nameless = nameless(checked, names);
    let report = &mut checked.report;
    let told = if report.lost_states.contains(&metadata) {
        &mut report.lost
    } else if report.accepted_states.contains(&metadata) {
        &mut report.accepted
    } else {
        return;
    };
    for (partition, view) in nameless {
        // Where its end is not known, that is so of the whole.
        let ends = told.iter().filter(|known| known.partition == partition);
        let last = ends.map(|known| known.range.last).chain([view.high_watermark - 1]).max();
        let range = OffsetRange { first: view.log_start, last: last.unwrap_or(-1) };
        if range.first <= range.last {
            told.retain(|known| known.partition != partition);
            told.push(PartitionRange { partition, range });
        }
    }
    told.sort_unstable_by_key(|known| (known.partition, known.range));
}

/// Partitions that are there, and of no topic; in journals of other programs none has one.
pub(super) fn nameless(
    checked: &Checked,
    names: &PartitionNames,
) -> Vec<(PartitionId, PartitionView)> {
    if matches!(checked.purpose, Purpose::Producer | Purpose::Pipeline) {
        return Vec::new();
    }
    let mut partitions = checked.log.partitions();
    partitions.retain(|partition| !names.contains_key(partition));
    let view = |id| Some((id, checked.log.partition(id)?));
    partitions.into_iter().filter_map(view).collect()
}

fn failure(directory: &Path, error: &OpenError) -> Failure {
    let cause = super::chain(error);
    Failure::new(open_code(error), format_args!("broker on {}: {cause}", directory.display()))
}

pub(super) fn name_of(names: &PartitionNames, id: PartitionId) -> String {
    names.get(&id).map_or_else(
        || format!("partition {id} of no topic that is known"),
        |(topic, number)| format!("{topic}-{number}"),
    )
}

pub(super) fn state_name(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Metadata => "topics",
        StateKind::Offsets => "group-offsets",
        StateKind::InputPosition => "input-positions",
        StateKind::Cursor => "cursors",
        StateKind::Receipt => "receipts",
        StateKind::Transactions => "transactions",
    }
}

const DAMAGED: &str = "damaged";
/// There is no damage that nobody has decided about, and something was given up.
const ACCEPTED: &str = "accepted";
const CLEAN: &str = "clean";

fn verdict(report: &CheckReport) -> &'static str {
    if report.is_damaged() {
        DAMAGED
    } else if report.accepted.is_empty() && report.accepted_states.is_empty() {
        CLEAN
    } else {
        ACCEPTED
    }
}

/// Topics of which something was acknowledged before it was synced: what of it is missing after a
/// crash has left no trace.
fn unsafe_topics<'a>(checked: &Checked, names: &'a PartitionNames) -> BTreeSet<&'a str> {
    let is_unsafe = |id: &PartitionId| {
        checked.log.partition(*id).is_some_and(|view| view.flush != FlushPolicy::Commit)
    };
    let named = names.iter().filter(|(id, _)| is_unsafe(id));
    named.map(|(_, (topic, _))| topic.as_str()).collect()
}

fn print(directory: &Path, checked: &Checked, names: &PartitionNames) {
    let shown = directory.display();
    let report = &checked.report;
    let unsafe_topics = unsafe_topics(checked, names);
    let is_in_doubt = !report.recovery.in_doubt.is_empty() || !report.cut_before.is_empty();
    let is_open = !unsafe_topics.is_empty() || is_in_doubt;
    match verdict(report) {
        DAMAGED => say!("{shown}: DAMAGED"),
        ACCEPTED => say!("{shown}: nothing is lost but what was given up, which is named below"),
        _ if is_open => say!("{shown}: clean, no damage; what that does not cover is named below"),
        _ => say!("{shown}: clean, everything that was acknowledged can be read"),
    }
    for topic in &unsafe_topics {
        say!(
            "not covered: {topic}: acknowledged before it is synced (lossproof.flush); what a \
             crash took of its end has left no trace"
        );
    }
    for PartitionRange { partition, range } in &report.lost {
        say!("lost: {}: offsets {range}", name_of(names, *partition));
    }
    for kind in &report.lost_states {
        say!("lost: {}: what is kept of them may be old or incomplete", state_name(*kind));
    }
    if report.end_lost {
        say!("lost: the end of the journal: a start takes no writes");
    }
    if report.is_damaged() && report.lost.is_empty() && report.lost_states.is_empty() {
        say!(
            "no message is lost: what is damaged stands somewhere else as well, or is of messages \
             that were deleted or given up"
        );
    }
    print_findings(report, names);
    let looked = &report.looked_at;
    say!(
        "looked at: segments={} frames={} cold-files={} cold-batches={} bytes={}",
        looked.segments,
        looked.frames,
        looked.cold_files,
        looked.cold_batches,
        looked.bytes
    );
    for PartitionRange { partition, range } in &report.accepted {
        say!("accepted as lost: {}: offsets {range}", name_of(names, *partition));
    }
    for kind in &report.accepted_states {
        say!("accepted as lost: what was missing of {}", state_name(*kind));
    }
    print_hidden(&report.hidden, names);
    if report.is_damaged() {
        print_way_on(&shown, checked, names);
    }
}

/// What can be read, and is kept from committed readers.
pub(super) fn print_hidden(hidden: &[PartitionRange], names: &PartitionNames) {
    for PartitionRange { partition, range } in hidden {
        say!(
            "hidden from readers of committed messages: {}: offsets {range}: of a transaction in \
             which something was given up",
            name_of(names, *partition)
        );
    }
}

fn print_findings(report: &CheckReport, names: &PartitionNames) {
    for finding in &report.recovery.damage {
        say!("damaged: {finding}");
    }
    for Flaw { kind, path, position, bytes, .. } in &report.flaws {
        say!("damaged: {kind} file={} position={position} bytes={bytes}", path.display());
    }
    for finding in &report.recovery.in_doubt {
        say!("in doubt: {finding}");
        for PartitionRange { partition, range } in &finding.partitions {
            say!("  {}: offsets {range}", name_of(names, *partition));
        }
    }
    for line in &report.cut_before {
        say!("in doubt, cut by an earlier start: {line}");
    }
    if !report.recovery.in_doubt.is_empty() || !report.cut_before.is_empty() {
        say!(
            "note: in doubt is an end that was never known to be durable; by itself no damage, and \
             acknowledged at most in the last moment before a crash"
        );
    }
    if !report.cut_before.is_empty() {
        say!(
            "note: what was cut is kept in quarantine, and is named until its line is taken out of \
             quarantine/list"
        );
    }
    for note in &report.notes {
        say!("note: {note}");
    }
}

/// What to do where something is lost.
fn print_way_on(shown: &Display<'_>, checked: &Checked, names: &PartitionNames) {
    let report = &checked.report;
    let code = exit::PIECES_DAMAGED;
    say!("next: {} (more: lossproof explain {})", code.next, code.name);
    if report.lost.iter().any(|lost| report.is_unplaced(lost.partition)) {
        say!(
            "the creation of a partition is lost: its messages are kept in {shown}/quarantine, \
             and are given up with state:topics"
        );
    }
    let nameless = nameless(checked, names);
    let is_nameless = |lost: &PartitionRange| nameless.iter().any(|(id, _)| *id == lost.partition);
    if report.lost.iter().any(is_nameless) {
        say!(
            "what is of no topic that is known is there, and the entry of its topic is not: \
             `lossproof log dump {shown} --records --partition ID` shows it; it is given up with \
             state:topics"
        );
    }
    let acceptable = acceptable(report, names);
    if !acceptable.is_empty() {
        let losses: Vec<String> =
            acceptable.iter().map(|lost| format!(" --accept-loss {lost}")).collect();
        let losses = losses.concat();
        let adopt = if report.is_copy { " --adopt" } else { "" };
        say!("to give up what is lost: lossproof broker --data {shown}{adopt}{losses}");
    }
    if acceptable.iter().any(|lost| lost.ends_with(accept::LAST)) {
        say!(
            "in the place of {}: an offset that is surely behind all that were given; the \
             partition goes on behind it (more: lossproof explain {})",
            accept::LAST,
            exit::LOSS_NOT_ACCEPTED.name
        );
    }
}

/// What can be given up, in the words of `--accept-loss`; LAST stands for what a person has to say.
pub(super) fn acceptable(report: &CheckReport, names: &PartitionNames) -> Vec<String> {
    if report.end_lost {
        return vec!["end".to_owned()];
    }
    let lost = report.lost.iter().filter(|lost| !report.is_unplaced(lost.partition));
    let ranges = lost.filter_map(|lost| accept::argument(lost, names));
    let states = report.lost_states.iter().map(|kind| format!("state:{}", state_name(*kind)));
    ranges.chain(states).collect()
}

fn to_json(directory: &Path, checked: &Checked, names: &PartitionNames) -> Value {
    let report = &checked.report;
    let ranges = |ranges: &[PartitionRange]| -> Vec<Value> {
        ranges.iter().map(|range| range_json(*range, names)).collect()
    };
    let finding = |finding: &Finding| {
        let states: Vec<&str> = finding.states.iter().map(|kind| state_name(*kind)).collect();
        json!({
            "kind": finding.kind.to_string(),
            "segment": finding.segment,
            "position": finding.position,
            "bytes": finding.bytes,
            "first_frame": finding.first_frame,
            "last_frame": finding.last_frame,
            "ranges": ranges(&finding.partitions),
            "states": states,
            "copy": finding.quarantined,
        })
    };
    let flaw = |flaw: &Flaw| {
        json!({
            "kind": flaw.kind.to_string(),
            "file": flaw.path,
            "position": flaw.position,
            "bytes": flaw.bytes,
            "ranges": ranges(&flaw.lost),
        })
    };
    let CheckReport { recovery, flaws, looked_at, .. } = report;
    let damage = recovery.damage.iter().map(finding).chain(flaws.iter().map(flaw));
    let named =
        |kinds: &[StateKind]| -> Vec<&str> { kinds.iter().map(|kind| state_name(*kind)).collect() };
    json!({
        "verdict": verdict(report),
        "unsafe_topics": unsafe_topics(checked, names),
        "directory": directory,
        "lost": ranges(&report.lost),
        "lost_states": named(&report.lost_states),
        "accepted": ranges(&report.accepted),
        "hidden": ranges(&report.hidden),
        "accepted_states": named(&report.accepted_states),
        "end_lost": report.end_lost,
        "damage": damage.collect::<Vec<Value>>(),
        "in_doubt": recovery.in_doubt.iter().map(finding).collect::<Vec<Value>>(),
        "cut_before": report.cut_before,
        "notes": report.notes,
        "partitions": partitions_json(checked, names),
        "closed_in_order": recovery.clean,
        "looked_at": {
            "segments": looked_at.segments,
            "frames": looked_at.frames,
            "cold_files": looked_at.cold_files,
            "cold_batches": looked_at.cold_batches,
            "bytes": looked_at.bytes,
        },
    })
}

/// All that have a name, and what the log knows of them: nothing where their creation is lost.
fn partitions_json(checked: &Checked, names: &PartitionNames) -> Vec<Value> {
    let mut all = Vec::new();
    for (id, (topic, number)) in names {
        let mut one = json!({ "topic": topic, "partition": number, "partition_id": id.0 });
        if let Some(view) = checked.log.partition(*id) {
            one["log_start"] = view.log_start.into();
            one["log_end"] = view.high_watermark.into();
        }
        all.push(one);
    }
    all
}

/// `last` is null where it is not known.
fn range_json(range: PartitionRange, names: &PartitionNames) -> Value {
    let PartitionRange { partition, range } = range;
    let name = names.get(&partition);
    json!({
        "topic": name.map(|(topic, _)| topic),
        "partition": name.map(|(_, number)| number),
        "partition_id": partition.0,
        "first": range.first,
        "last": (!range.is_open()).then_some(range.last),
    })
}
