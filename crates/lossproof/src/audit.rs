//! `lossproof audit`: the verdict from outside.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use lossproof_audit::auditor::{
    Audit, Plan, PlannedPipeline, Query, SinkRead, Trace, audit_with_sinks,
};
use lossproof_audit::report::RECEIPTS_TOPIC;
use lossproof_audit::verdict::{self, Verdict};
use lossproof_client::ConsumeError;
use lossproof_client::librdkafka::{self, ClientSettings};
use lossproof_env::Environment;
use lossproof_pipeline::Config;
use lossproof_pipeline::sink::read;
use serde::Serialize;

use crate::Outcome;
use crate::exit::{
    AUDIT_CLIENT, AUDIT_NOT_FOUND, AUDIT_QUERY, AUDIT_SINK, AUDIT_UNREACHABLE, Exit, Failure,
};
use crate::output::say;
use crate::run;

/// Lines of one sort that `status` lists one by one.
const LISTED_MAX: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lossproof audit status --bootstrap-server 127.0.0.1:9092\n  \
    lossproof audit losses --bootstrap-server 127.0.0.1:9092 -o json\n  \
    lossproof audit show --field id=42 --pipeline news.toml --bootstrap-server 127.0.0.1:9092")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    view: View,
}

#[derive(Debug, Subcommand)]
enum View {
    /// How many records have reached each stage, and the verdict
    #[command(
        after_help = "Example:\n  lossproof audit status -b 127.0.0.1:9092 --pipeline news.toml"
    )]
    Status(Source),
    /// Every lost record, with the stage that lost it
    #[command(after_help = "Example:\n  lossproof audit losses -b 127.0.0.1:9092 -o json")]
    Losses(Source),
    /// Every record of which nobody can say, with who is silent
    #[command(after_help = "Example:\n  lossproof audit unknown -b 127.0.0.1:9092")]
    Unknown(Source),
    /// The way of one record
    #[command(after_help = "Examples:\n  lossproof audit show news-0-42 -b 127.0.0.1:9092\n  \
        lossproof audit show --field id=42 --pipeline news.toml -b 127.0.0.1:9092")]
    Show {
        /// SESSION-LANE-SEQ or TOPIC-PARTITION-OFFSET
        #[arg(required_unless_present = "field")]
        id: Option<String>,
        /// NAME=VALUE: all records, and with --pipeline all documents of its sink, whose JSON has
        /// this value in this field (dots for nested ones)
        #[arg(long, conflicts_with = "id")]
        field: Option<String>,
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Debug, Args)]
struct Source {
    /// HOST:PORT of the cluster, several separated by commas
    #[arg(long, short = 'b')]
    bootstrap_server: String,
    /// A topic beside those that the receipts name; may be given several times
    #[arg(long)]
    topic: Vec<String>,
    /// A group beside those that have reported; may be given several times
    #[arg(long)]
    group: Vec<String>,
    /// Pipeline file: audits its group on its topic, and reads its sink in full as well; may be
    /// given several times
    #[arg(long, value_name = "FILE")]
    pipeline: Vec<PathBuf>,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    match &arguments.view {
        View::Status(source) => {
            let verdict = look(source, None)?.verdict;
            print(source, &verdict, status_text);
            Ok(exit_of(&verdict))
        }
        View::Losses(source) => {
            let verdict = look(source, None)?.verdict;
            print(source, &verdict.lost, |_| losses_text(&verdict));
            Ok(exit_of(&verdict))
        }
        View::Unknown(source) => {
            let verdict = look(source, None)?.verdict;
            print(source, &verdict.unknown, |_| unknown_text(&verdict));
            Ok(exit_of(&verdict))
        }
        View::Show { id, field, source } => {
            let query = query(id.as_deref(), field.as_deref())?;
            let found = look(source, Some(&query))?;
            let traces = found.trace(&query);
            if traces.is_empty() {
                let message = "no such record in any audited topic or receipt";
                return Err(Failure::new(AUDIT_NOT_FOUND, message));
            }
            print(source, &traces, |traces| traces.iter().map(trace_text).collect());
            Ok(exit_of(&found.verdict))
        }
    }
}

fn query(id: Option<&str>, field: Option<&str>) -> Result<Query, Failure> {
    if let Some(id) = id {
        return id.parse().map_err(|error| Failure::new(AUDIT_QUERY, error));
    }
    let (field, value) = field.and_then(|field| field.split_once('=')).ok_or_else(|| {
        Failure::new(AUDIT_QUERY, "--field wants NAME=VALUE, for example --field id=42")
    })?;
    Ok(Query::Field { field: field.to_owned(), value: value.to_owned() })
}

fn look(source: &Source, query: Option<&Query>) -> Result<Audit, Failure> {
    let settings = ClientSettings::new(&source.bootstrap_server);
    let admin = librdkafka::admin(&settings);
    let mut admin = admin.map_err(|error| Failure::new(AUDIT_CLIENT, error))?;
    // Asked for by itself: of a cluster that is away each question would end by its own time-out.
    if let Err(error @ ConsumeError::Unreachable { .. }) = admin.partitions(RECEIPTS_TOPIC) {
        let message = format_args!("no answer from {}: {error}", source.bootstrap_server);
        return Err(Failure::new(AUDIT_UNREACHABLE, message));
    }
    let environment = Environment::real();
    let mut plan =
        Plan { topics: source.topic.clone(), groups: source.group.clone(), ..Plan::default() };
    let mut pipelines = Vec::new();
    for file in &source.pipeline {
        let config = run::read(file, &environment)?;
        let (group, topic) = (config.source.group.clone(), config.source.topic.clone());
        plan.pipelines.push(PlannedPipeline { group, topic });
        pipelines.push(config);
    }
    audit_with_sinks(&mut *admin, &*environment.clock, plan, query, || {
        pipelines.iter().map(|config| read_sink(config, &environment, query)).collect()
    })
}

/// Everything that the sink of a pipeline holds.
fn read_sink(
    config: &Config,
    environment: &Environment,
    query: Option<&Query>,
) -> Result<SinkRead, Failure> {
    let mut sink = SinkRead { group: config.source.group.clone(), ..SinkRead::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(AUDIT_SINK, error))?;
    let mut take = |id: &str, document: &[u8]| {
        if query.is_some_and(|query| query.matches_document(document)) {
            sink.found.push(id.to_owned());
        }
        sink.ids.push(id.to_owned());
    };
    let read = read::read(&config.sink, &*environment.disk, &mut take);
    runtime.block_on(read).map_err(|error| Failure::new(AUDIT_SINK, error))?;
    Ok(sink)
}

fn print<T: Serialize + ?Sized>(source: &Source, value: &T, text: impl Fn(&T) -> String) {
    match source.output {
        Output::Table => say!("{}", text(value).trim_end()),
        Output::Json => match serde_json::to_string_pretty(value) {
            Ok(json) => say!("{json}"),
            Err(error) => crate::output::mutter!("the verdict cannot be written as JSON: {error}"),
        },
    }
}

pub(crate) fn exit_of(verdict: &Verdict) -> Exit {
    match verdict.outcome {
        verdict::Outcome::Complete => Exit::Proven,
        verdict::Outcome::Unknown | verdict::Outcome::Waiting => Exit::Failed,
        verdict::Outcome::Lost => Exit::Loss,
        verdict::Outcome::Duplicates => Exit::Duplicates,
    }
}

/// The first line of every view: is anything lost?
fn headline(verdict: &Verdict) -> String {
    let (lost, unknown) = (verdict.lost_count(), verdict.unknown.len());
    let waiting: u64 = verdict.waiting.iter().filter_map(|waiting| waiting.ids.count()).sum();
    match verdict.outcome {
        verdict::Outcome::Complete => {
            let accepted = verdict.stages.accepted;
            format!(
                "complete: {accepted} accepted in the sessions that have reported, nothing lost\n"
            )
        }
        verdict::Outcome::Lost => format!("LOST: {lost} records are lost\n"),
        verdict::Outcome::Unknown => {
            format!("unknown: no loss is known, {unknown} ranges cannot be judged\n")
        }
        verdict::Outcome::Waiting => {
            format!("waiting: nothing is lost, {waiting} records are on their way\n")
        }
        verdict::Outcome::Duplicates => {
            format!("duplicates: nothing is lost, {} are there twice\n", verdict.duplicates.len())
        }
    }
}

/// The table per stage with the verdict above it.
pub(crate) fn status_text(verdict: &Verdict) -> String {
    let stages = &verdict.stages;
    let mut table = Table::new();
    table.set_header(["stage", "group", "records"]);
    let rows = [
        ("accepted", stages.accepted),
        ("sent", stages.sent),
        ("acked", stages.acked),
        ("stored", stages.stored),
    ];
    for (stage, count) in rows {
        table.add_row([stage, "", &count.to_string()]);
    }
    for group in &stages.groups {
        let rows = [
            ("delivered", group.delivered),
            ("processed", group.processed),
            ("confirmed", group.confirmed),
            ("committed", group.committed),
        ];
        for (stage, count) in rows {
            table.add_row([stage, &group.group, &count.to_string()]);
        }
        if let Some(count) = group.in_sink {
            table.add_row(["in the sink", &group.group, &count.to_string()]);
        }
        for ended in &group.ended {
            let stage = format!("{}: {}", ended.disposition.name(), ended.reason);
            table.add_row([&stage, &group.group, &ended.count.to_string()]);
        }
    }
    let mut text = headline(verdict);
    let _ = writeln!(text, "{table}");
    if stages.resent > 0 {
        let _ = writeln!(text, "re-sent copies in the log (legal): {}", stages.resent);
    }
    if let Some(ms) = verdict.time_to_detect_ms() {
        let _ = writeln!(text, "time to detect: {ms} ms after the last word on a lost record");
    }
    let waiting = verdict.waiting.iter().map(|it| format!("waiting {}: {}", it.ids, it.place));
    list(&mut text, waiting, "-o json has all of them");
    let unknown = verdict.unknown.iter().map(|it| format!("unknown {}: {}", it.ids, it.silent));
    list(&mut text, unknown, "`audit unknown` has all of them");
    let twice = verdict.duplicates.iter().map(|it| format!("duplicate {}: {}", it.id, it.detail));
    list(&mut text, twice, "-o json has all of them");
    for remark in &verdict.remarks {
        let _ = writeln!(text, "remark: {remark}");
    }
    text
}

/// The first few; the verdict above is not to be pushed off the screen.
fn list(text: &mut String, mut lines: impl Iterator<Item = String>, rest: &str) {
    for line in lines.by_ref().take(LISTED_MAX) {
        let _ = writeln!(text, "{line}");
    }
    let left = lines.count();
    if left > 0 {
        let _ = writeln!(text, "and {left} more like it: {rest}");
    }
}

pub(crate) fn losses_text(verdict: &Verdict) -> String {
    let mut table = Table::new();
    table.set_header(["ids", "count", "stage", "group", "mechanism"]);
    for loss in &verdict.lost {
        table.add_row([
            loss.ids.to_string(),
            loss.ids.count().map_or_else(|| "?".to_owned(), |count| count.to_string()),
            loss.stage.name().to_owned(),
            loss.group.clone().unwrap_or_default(),
            loss.mechanism.to_string(),
        ]);
    }
    with_headline(verdict, &table, verdict.lost.is_empty())
}

fn unknown_text(verdict: &Verdict) -> String {
    let mut table = Table::new();
    table.set_header(["ids", "group", "silent"]);
    for unknown in &verdict.unknown {
        let group = unknown.group.clone().unwrap_or_default();
        table.add_row([unknown.ids.to_string(), group, unknown.silent.clone()]);
    }
    with_headline(verdict, &table, verdict.unknown.is_empty())
}

fn with_headline(verdict: &Verdict, table: &Table, empty: bool) -> String {
    let headline = headline(verdict);
    if empty { headline } else { format!("{headline}{table}\n") }
}

fn trace_text(trace: &Trace) -> String {
    let mut text = format!("{}\n", trace.id);
    for copy in &trace.copies {
        let _ = writeln!(text, "  in {}-{} at offset {}", copy.topic, copy.partition, copy.offset);
    }
    for stage in &trace.stages {
        let sign = if stage.reached { "yes" } else { "no" };
        let group = stage.group.as_ref().map(|group| format!(" ({group})")).unwrap_or_default();
        let ended = stage.ended.as_ref().map(|ended| format!(", {ended}")).unwrap_or_default();
        let _ = writeln!(text, "  {:<10} {sign}{group}{ended}", stage.stage.name());
    }
    for finding in &trace.findings {
        let _ = writeln!(text, "  {finding}");
    }
    text
}
