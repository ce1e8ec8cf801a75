//! The demo as a user runs it. What it says is held against the input and against its sink, which
//! the test reads by itself; inside, the demo fails where audit and judge do not agree.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const RECORDS: usize = 5_000;

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lossproof"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Ended {
    let output = demo(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    Ended { code: output.status.code(), stdout, stderr }
}

/// The directory that `--keep` left.
fn kept(ended: &Ended) -> PathBuf {
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("kept: "));
    PathBuf::from(line.unwrap_or_else(|| panic!("nothing kept: {}", ended.stderr)))
}

/// How often each id is in the sink.
fn sink(directory: &Path) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for line in std::fs::read_to_string(directory.join("sink.jsonl")).unwrap().lines() {
        let document: serde_json::Value = serde_json::from_str(line).unwrap();
        *seen.entry(document["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    seen
}

/// Everything that was handed in, from the sample in the repository.
fn input() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sample = std::fs::read_to_string(root.join("../../examples/news/sample.jsonl")).unwrap();
    let id = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["id"].as_str().unwrap().to_owned()
    };
    let ids: Vec<String> = sample.lines().map(id).collect();
    (0..RECORDS).map(|index| format!("{}.{}", ids[index % ids.len()], index / ids.len())).collect()
}

#[test]
fn the_safe_demo_loses_nothing_and_proves_it() {
    let ended = run(&["--keep"]);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    for part in ["producer", "broker", "pipeline"] {
        assert!(ended.stderr.contains(&format!("SIGKILL to the {part}")), "{}", ended.stderr);
    }
    assert!(ended.stdout.contains("verdict of the audit: COMPLETE"), "{}", ended.stdout);
    let directory = kept(&ended);
    let sink = sink(&directory);
    assert_eq!(sink.keys().cloned().collect::<BTreeSet<_>>(), input());
    assert!(sink.values().all(|count| *count == 1), "something is in the sink twice");
    std::fs::remove_dir_all(directory).unwrap();
}

/// A field that is there twice cannot be told from a record that was altered: a dead letter, which
/// is neither lost nor to be waited for.
#[test]
fn a_record_in_the_dead_letters_is_accounted_for_by_audit_and_judge() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("input.jsonl");
    let mut lines: Vec<String> =
        (0..200).map(|n| format!("{{\"id\":\"id-{n}\",\"text\":\"text {n}\"}}\n")).collect();
    lines.insert(100, "{\"id\":\"dead\",\"text\":\"x\",\"text\":\"y\"}\n".to_owned());
    std::fs::write(&file, lines.concat()).unwrap();
    let ended = run(&["--keep", "--input", file.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(!ended.stderr.contains("patience is over"), "{}", ended.stderr);
    let directory = kept(&ended);
    let sink = sink(&directory);
    assert!(sink.len() == 200 && !sink.contains_key("dead"), "{sink:?}");
    let history = std::fs::read_to_string(directory.join("history.jsonl")).unwrap();
    let letter = history.lines().find(|line| line.contains("\"dead_letter\"")).unwrap();
    assert!(letter.contains("\"value\":\"dead\""), "{letter}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn the_unsafe_demo_names_each_lost_message_and_its_stage() {
    let ended = run(&["--unsafe", "--keep"]);
    assert_eq!(ended.code, Some(3), "{}\n{}", ended.stdout, ended.stderr);
    let mut lost: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in ended.stdout.lines().filter_map(|line| line.strip_prefix("lost at the ")) {
        let mut words = line.split_whitespace();
        let (stage, id) = (words.next().unwrap(), words.next().unwrap());
        assert!(lost.entry(stage.to_owned()).or_default().insert(id.to_owned()), "{id} twice");
    }
    let stages: Vec<&str> = lost.keys().map(String::as_str).collect();
    assert_eq!(stages, ["broker", "consumer", "producer"], "{}", ended.stderr);
    let named: BTreeSet<String> = lost.values().flatten().cloned().collect();
    let directory = kept(&ended);
    let arrived: BTreeSet<String> = sink(&directory).into_keys().collect();
    let absent: BTreeSet<String> = input().difference(&arrived).cloned().collect();
    assert_eq!(named, absent, "what is named is not what is missing");
    std::fs::remove_dir_all(directory).unwrap();
}

/// Process ids of what a demo has started.
fn started_by(demo: u32) -> Vec<u32> {
    let mark = format!("LOSSPROOF_PARENT={demo}").into_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id: &u32| {
            // A process that ends meanwhile has no environment any more.
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark)
        })
        .collect()
}

/// A demo in the middle of its work, and its directory.
fn in_the_middle(directory: &Path) -> Child {
    let mut child = demo(&[]).env("TMPDIR", directory).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("SIGKILL to the producer") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the demo ended early");
    }
    // The rest is read to the end, so that the demo never writes into a closed pipe.
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    assert!(started_by(child.id()).len() >= 3, "service, broker and pipeline run");
    child
}

#[test]
fn after_ctrl_c_everything_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = in_the_middle(scratch.path());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(started_by(child.id()), [0; 0]);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "its directory is left");
}

fn eventually(mut done: impl FnMut() -> bool) -> bool {
    const POLLS_MAX: usize = 3_000;
    for _ in 0..POLLS_MAX {
        if done() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    false
}

#[test]
fn after_a_kill_of_the_demo_its_processes_are_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = in_the_middle(scratch.path());
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel kills them; that it has is seen a moment later.
    let gone = eventually(|| started_by(child.id()).is_empty());
    assert!(gone, "{:?} still run", started_by(child.id()));
}
