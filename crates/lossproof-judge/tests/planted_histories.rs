//! A judge that never finds anything proves nothing. For each anomaly there is a history with
//! exactly that one planted, which must be found by its name, and nothing else with it; the clean
//! ones beside them must pass.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use lossproof_judge::{Anomaly, Report, Verdict, judge};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("histories")
}

fn judged(name: &str) -> Report {
    let path = directory().join(format!("{name}.jsonl"));
    judge(File::open(path).unwrap()).unwrap()
}

fn ids(report: &Report) -> BTreeSet<&'static str> {
    report.anomalies.iter().map(Anomaly::id).collect()
}

/// One or more anomalies for each rule: `JUDGE-1` (lost and unseen), `JUDGE-2` (duplicates),
/// `JUDGE-3` (offsets), `JUDGE-4` (order), `JUDGE-5` (commits), `JUDGE-6` (origin, content).
#[test]
fn each_planted_anomaly_is_found_by_its_name_and_nothing_else() {
    for id in Anomaly::IDS {
        let report = judged(id);
        // A record that was at an offset and is gone leaves a gap or another record there.
        // Committing past a lost record is two faults at once: it is lost, and it was by this.
        let expected = match id {
            "lost-write" => BTreeSet::from([id, "offset-gap"]),
            "commit-ahead" => BTreeSet::from([id, "unseen-in-sink"]),
            _ => BTreeSet::from([id]),
        };
        assert_eq!(ids(&report), expected, "{id}: {report}");
        let verdict = match id {
            "lost-write" | "unseen-in-topic" | "unseen-in-sink" | "commit-ahead" => Verdict::Loss,
            "duplicate-document" | "two-identities" | "duplicate-in-topic" => {
                Verdict::DuplicatesOnly
            }
            _ => Verdict::Broken,
        };
        assert_eq!(report.verdict, verdict, "{id}: {report}");
        let lost = usize::from(verdict == Verdict::Loss);
        assert_eq!(report.lost.len(), lost, "{id}: {report}");
    }
}

#[test]
fn lost_values_are_named() {
    assert_eq!(judged("lost-write").lost, ["line 1"]);
    assert_eq!(judged("unseen-in-topic").lost, ["line 4"]);
    assert_eq!(judged("commit-ahead").lost, ["line 4"]);
}

#[test]
fn clean_histories_are_complete() {
    for name in ["clean", "clean-resend", "clean-resent", "clean-dispositions", "clean-topic-only"]
    {
        let report = judged(name);
        assert_eq!(report.verdict, Verdict::Complete, "{name}: {report}");
        assert!(report.anomalies.is_empty() && report.lost.is_empty(), "{name}: {report}");
    }
}

/// Settled: one identity at two offsets is legal; it is counted, so that it is seen.
#[test]
fn one_identity_at_two_offsets_is_counted_as_resent() {
    let counts = judged("clean-resent").counts;
    assert_eq!((counts.resent, counts.resent_without_crash), (1, 0));
    let counts = judged("clean-dispositions").counts;
    assert_eq!((counts.dead_lettered, counts.filtered, counts.unknown), (1, 1, 1));
    assert_eq!((counts.handed_in, counts.acknowledged, counts.indexed), (6, 4, 2));
}

/// `JUDGE-2`: the same copies are an anomaly where nobody said that this producer re-sends.
#[test]
fn copies_of_a_producer_that_resends_are_legal_and_counted() {
    let counts = judged("clean-resend").counts;
    assert_eq!((counts.resent, counts.resent_without_crash), (1, 1));
    let text = std::fs::read_to_string(directory().join("clean-resend.jsonl")).unwrap();
    let undeclared: Vec<&str> = text.lines().filter(|line| !line.contains("resend")).collect();
    let report = judge(undeclared.join("\n").as_bytes()).unwrap();
    assert_eq!(ids(&report), BTreeSet::from(["duplicate-in-topic"]), "{report}");
}

/// `JUDGE-7`.
#[test]
fn without_the_whole_evidence_there_is_no_verdict() {
    for name in ["undecided-broken-off", "undecided-read", "undecided-sink"] {
        let report = judged(name);
        assert_eq!(report.verdict, Verdict::Undecided, "{name}: {report}");
        assert_eq!(report.missing.len(), 1, "{name}: {report}");
        assert!(report.lost.is_empty(), "absence proves nothing here: {report}");
    }
}

#[test]
fn every_history_in_the_folder_is_used() {
    let mut used: BTreeSet<String> = Anomaly::IDS.map(str::to_owned).into();
    let others =
        ["clean", "clean-resend", "clean-resent", "clean-dispositions", "clean-topic-only"];
    used.extend(others.map(str::to_owned));
    let undecided = ["undecided-broken-off", "undecided-read", "undecided-sink"];
    used.extend(undecided.map(str::to_owned));
    let found: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, used);
}
