//! The end of the demo: the audit's verdict and the judge's, which must agree, as a table.

use core::convert::Infallible;
use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{Table, presets};
use lossproof_audit::auditor::{
    Plan, PlannedPipeline, SinkRead, audit, audit_with_sinks, parse_identity,
};
use lossproof_audit::identity::{Identity, RecordId};
use lossproof_audit::ledger::{Manifest, ManifestEntry};
use lossproof_audit::receipt::Disposition;
use lossproof_audit::verdict::{Blame, Ids, Outcome as Finding, StageTable, Verdict};
use lossproof_client::Admin;
use lossproof_client::librdkafka::{self, ClientSettings};
use lossproof_judge::Report;

use super::evidence;
use super::input::Line;
use super::scene::{GROUP, Mode, Scene, TOPIC};
use crate::Outcome;
use crate::exit::{DEMO_FAILED, Exit, Failure};
use crate::output::say;

/// Messages that are named where the two verdicts disagree.
const NAMED_MAX: usize = 10;

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(DEMO_FAILED, error)
}

/// A client of the demo's own, to look at the cluster from outside.
pub(crate) fn cluster(scene: &Scene) -> Result<Box<dyn Admin>, Failure> {
    librdkafka::admin(&ClientSettings::new(&scene.bootstrap)).map_err(failed)
}

/// Audits, judges, prints, and gives the exit code.
pub(crate) fn give(scene: &mut Scene, lines: &[Line]) -> Outcome {
    scene.talk.event("all sessions have ended: reading log, sink and committed offsets in full");
    let mut cluster = cluster(scene)?;
    let in_sink = identities(&scene.read_sink()?)?;
    let verdict = verdict(scene, lines, in_sink, cluster.as_mut());
    let (report, history) = evidence::judge(scene, lines)?;
    scene.write("history.jsonl", &history)?;
    scene.talk.finish();
    let names = names(scene, lines);
    print_losses(&verdict, &names);
    print_stages(scene, lines, &verdict.stages);
    let lost = lost_names(&verdict, &names);
    print_judgement(&verdict, &report, scene.talk.seconds());
    agree(&verdict, &lost, &report)?;
    conclude(scene.mode, &verdict)
}

/// Records that the receipts so far say were acknowledged.
pub(crate) fn acked(scene: &Scene, cluster: &mut dyn Admin) -> u64 {
    let plan = Plan { topics: vec![TOPIC.to_owned()], ..Plan::default() };
    audit(cluster, &*scene.environment.clock, plan, None).verdict.stages.acked
}

/// What the audit is told of the sink: the `_id` of each whole line.
fn identities(sink: &str) -> Result<Vec<String>, Failure> {
    let whole = sink.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let identity = |line: &str| {
        let document: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(document.get("_id")?.as_str()?.to_owned())
    };
    let unclear = |line: &str| failed(format_args!("a sink line has no _id: {line:.200}"));
    whole
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| identity(line).ok_or_else(|| unclear(line)))
        .collect()
}

fn verdict(
    scene: &Scene,
    lines: &[Line],
    in_sink: Vec<String>,
    cluster: &mut dyn Admin,
) -> Verdict {
    let entry = |index: usize, line: &Line| {
        let said = scene.accepted.get(&(index + 1)).into_iter().flatten();
        let ids: Vec<RecordId> = said.filter_map(|id| id.parse().ok()).collect();
        let one = |id| ManifestEntry { name: line.id.clone(), id };
        if ids.is_empty() { vec![one(None)] } else { ids.into_iter().map(Some).map(one).collect() }
    };
    let entries = lines.iter().enumerate().flat_map(|(index, line)| entry(index, line)).collect();
    let plan = Plan {
        pipelines: vec![PlannedPipeline { group: GROUP.to_owned(), topic: TOPIC.to_owned() }],
        name_field: Some("id".to_owned()),
        manifest: Some(Manifest::new(entries)),
        all_ended: true,
        ..Plan::default()
    };
    let sink = SinkRead { group: GROUP.to_owned(), ids: in_sink, ..SinkRead::default() };
    let sinks = || Ok::<_, Infallible>(vec![sink]);
    let Ok(found) = audit_with_sinks(cluster, &*scene.environment.clock, plan, None, sinks);
    found.verdict
}

/// The names of the lines by their identities.
fn names(scene: &Scene, lines: &[Line]) -> BTreeMap<RecordId, String> {
    let mut names = BTreeMap::new();
    for (number, identities) in &scene.accepted {
        let Some(line) = number.checked_sub(1).and_then(|index| lines.get(index)) else { continue };
        for identity in identities {
            if let Some(Identity::Stamped(id)) = parse_identity(identity) {
                names.insert(id, line.id.clone());
            }
        }
    }
    names
}

/// The lines that one finding is about, by name.
fn named(ids: &Ids, names: &BTreeMap<RecordId, String>) -> Vec<String> {
    match ids {
        Ids::Stamped { lane, range, .. } => (range.first..=range.last)
            .map(|seq| {
                let id = RecordId { session: lane.session, lane: lane.lane, seq };
                names.get(&id).cloned().unwrap_or_else(|| id.to_string())
            })
            .collect(),
        Ids::Named { name } => vec![name.clone()],
        other => vec![other.to_string()],
    }
}

fn lost_names(verdict: &Verdict, names: &BTreeMap<RecordId, String>) -> BTreeSet<String> {
    verdict.lost.iter().flat_map(|loss| named(&loss.ids, names)).collect()
}

fn print_stages(scene: &Scene, lines: &[Line], stages: &StageTable) {
    let group = stages.groups.iter().find(|group| group.group == GROUP);
    let group = |count: fn(&lossproof_audit::verdict::GroupStages) -> u64| group.map_or(0, count);
    let ended = |is_copy: bool| -> u64 {
        let groups = stages.groups.iter().filter(|group| group.group == GROUP);
        let ended = groups.flat_map(|group| &group.ended);
        let counted = ended.filter(|it| (it.disposition == Disposition::Duplicate) == is_copy);
        counted.map(|ended| ended.count).sum()
    };
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["stage", "records", "who says so"]);
    let accepted = scene.accepted.len();
    let rows: [(&str, u64, &str); 11] = [
        ("handed in", lines.len() as u64, "the demo"),
        ("accepted, as printed", accepted as u64, "the producer's standard output"),
        ("accepted", stages.accepted, "the producer's receipts"),
        ("acked", stages.acked, "the producer's receipts"),
        ("stored", stages.stored, "the auditor's own read of the topic"),
        ("delivered", group(|group| group.delivered), "the pipeline's receipts"),
        ("processed", group(|group| group.processed), "the pipeline's receipts"),
        ("confirmed", group(|group| group.confirmed), "the pipeline's receipts"),
        ("in a dead letter", ended(false), "the pipeline's receipts"),
        ("delivered again", ended(true), "the pipeline's receipts (recognised as stored already)"),
        ("committed", group(|group| group.committed), "OffsetFetch"),
    ];
    for (stage, count, witness) in rows {
        table.add_row([stage.to_owned(), count.to_string(), witness.to_owned()]);
    }
    let in_sink = stages.groups.iter().find_map(|group| group.in_sink).unwrap_or_default();
    table.add_row(["in the sink", &in_sink.to_string(), "the demo's own read of the sink"]);
    say!("{table}");
    say!("sent again around a crash, under the same identity: {}", stages.resent);
}

/// Every single one, with the stage that lost it: that is the point of the exercise.
fn print_losses(verdict: &Verdict, names: &BTreeMap<RecordId, String>) {
    for loss in &verdict.lost {
        for name in named(&loss.ids, names) {
            say!("lost at the {:<8}  {name}  ({})", loss.stage.name(), loss.mechanism);
        }
    }
    for unknown in &verdict.unknown {
        say!("unknown: {} (silent: {})", unknown.ids, unknown.silent);
    }
    for waiting in &verdict.waiting {
        say!("waiting: {} ({})", waiting.ids, waiting.place);
    }
    for duplicate in &verdict.duplicates {
        say!("duplicate: {}: {}", duplicate.id, duplicate.detail);
    }
}

fn print_judgement(verdict: &Verdict, report: &Report, seconds: f64) {
    let outcome = match verdict.outcome {
        Finding::Complete => "COMPLETE: every record is accounted for, none is lost".to_owned(),
        Finding::Lost => format!("LOSS FOUND: {} records, named above", verdict.lost_count()),
        Finding::Unknown => "UNKNOWN: evidence is missing".to_owned(),
        Finding::Waiting => "WAITING: records are still on their way".to_owned(),
        Finding::Duplicates => "DUPLICATES: nothing is lost, something is there twice".to_owned(),
    };
    say!("verdict of the audit: {outcome}");
    say!("verdict of the judge, from outside evidence alone: {:?}", report.verdict);
    for stage in [Blame::Producer, Blame::Broker, Blame::Consumer, Blame::Sink] {
        if verdict.lost_at(stage) > 0 {
            say!("  lost at the {}: {}", stage.name(), verdict.lost_at(stage));
        }
    }
    match verdict.time_to_detect_ms() {
        Some(ms) => {
            say!("time to detect: {:.1} s after the last word on them", ms as f64 / 1e3);
        }
        None => say!("time to detect: nothing to detect"),
    }
    say!("took {seconds:.1} s");
}

/// Two verdicts from two readings that share librdkafka and no code of ours: where they differ,
/// neither is to be trusted.
fn agree(verdict: &Verdict, lost: &BTreeSet<String>, report: &Report) -> Result<(), Failure> {
    let judged: BTreeSet<String> = report.lost.iter().cloned().collect();
    let same_words = match verdict.outcome {
        Finding::Complete => report.verdict == lossproof_judge::Verdict::Complete,
        Finding::Lost => report.verdict == lossproof_judge::Verdict::Loss,
        Finding::Duplicates => report.verdict == lossproof_judge::Verdict::DuplicatesOnly,
        Finding::Unknown | Finding::Waiting => true,
    };
    if same_words && judged == *lost {
        return Ok(());
    }
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ")
    };
    Err(failed(format_args!(
        "audit and judge disagree: audit {:?} with {} lost, judge {:?} with {} lost; \
         lost for the audit alone: [{}]; for the judge alone: [{}]; anomalies: {:?}",
        verdict.outcome,
        lost.len(),
        report.verdict,
        judged.len(),
        only(lost, &judged),
        only(&judged, lost),
        report.anomalies.iter().take(NAMED_MAX).collect::<Vec<_>>(),
    )))
}

fn conclude(mode: Mode, verdict: &Verdict) -> Outcome {
    if mode == Mode::Unsafe {
        let spared: Vec<&str> = [Blame::Producer, Blame::Broker, Blame::Consumer]
            .into_iter()
            .filter(|stage| verdict.lost_at(*stage) == 0)
            .map(Blame::name)
            .collect();
        if !spared.is_empty() {
            let spared = spared.join(", ");
            return Err(failed(format_args!("the unsafe run lost nothing at: {spared}")));
        }
    }
    Ok(match verdict.outcome {
        Finding::Complete => Exit::Proven,
        Finding::Lost => Exit::Loss,
        Finding::Duplicates => Exit::Duplicates,
        Finding::Unknown | Finding::Waiting => Exit::Failed,
    })
}
