//! What an operator sees of a stopped data directory: a verdict with exact ranges, what stands in
//! the files, and the way on where something is lost for good.

use crate::support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Broker, Produce, binary, read_topic};

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = binary().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// A directory with three messages in one partition, the second of which was hit.
fn damaged(scratch: &Path) -> PathBuf {
    let data = scratch.join("data");
    let broker = Broker::start(&data, &["--partitions", "1"]);
    for line in ["first message", "second message", "third message"] {
        // Each in a batch of its own.
        let input = scratch.join(line);
        fs::write(&input, line).unwrap();
        let arguments = [input.to_str().unwrap()];
        let produce = Produce::start(&broker.server, &scratch.join("producer"), &arguments);
        let (_, code, said) = produce.finish_with_talk();
        assert_eq!(code, Some(0), "{said}");
    }
    broker.stop();
    hit(&data, b"second message");
    data
}

/// Damages the first byte of `text`, where it stands first.
fn hit(data: &Path, text: &[u8]) {
    let hit = |(path, mut bytes): (PathBuf, Vec<u8>)| {
        let at = bytes.windows(text.len()).position(|window| window == text)?;
        bytes[at] ^= 8;
        fs::write(path, bytes).ok()
    };
    files(data).into_iter().find_map(hit).expect("it stands in the directory");
}

/// The data of a stopped broker with one message in one partition, and the id of its topic.
fn one_message(scratch: &Path) -> (PathBuf, [u8; 16]) {
    let data = scratch.join("data");
    let broker = Broker::start(&data, &["--partitions", "1"]);
    let input = scratch.join("input");
    fs::write(&input, "first message").unwrap();
    let arguments = [input.to_str().unwrap()];
    let produce = Produce::start(&broker.server, &scratch.join("producer"), &arguments);
    let (_, code, said) = produce.finish_with_talk();
    assert_eq!(code, Some(0), "{said}");
    let said = broker.stop();
    let id = said.split("topic=news id=").nth(1).and_then(|rest| rest.get(..32)).expect(&said);
    (data, u128::from_str_radix(id, 16).unwrap().to_be_bytes())
}

#[test]
fn a_directory_is_checked_and_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let shown = data.to_str().unwrap();
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!((code, &*stdout), (Some(1), ""), "{said}");
    assert!(said.contains("error[LP1020]") && said.contains("\n  next: "), "{said}");
    assert!(!data.exists());

    let broker = Broker::start(&data, &[]);
    let (code, stdout, said) = run(&["broker", "--check", shown, "--format", "json"]);
    assert!(code == Some(1) && said.contains("error[LP1003]"), "{said}");
    let verdict: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&verdict["verdict"], &verdict["code"]), (&"unknown".into(), &"LP1003".into()));
    broker.stop();

    let before = files(&data);
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(0), "{stdout}{said}");
    assert!(stdout.starts_with(&format!("{shown}: clean")), "{stdout}");
    assert_eq!(said, "");
    assert!(files(&data) == before);
}

#[test]
fn a_check_says_of_which_topics_an_end_may_be_gone_without_a_trace() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let shown = data.to_str().unwrap();
    let broker = Broker::start(&data, &["--flush", "page-cache"]);
    let input = scratch.path().join("input");
    fs::write(&input, "a message").unwrap();
    let arguments = [input.to_str().unwrap()];
    let produce = Produce::start(&broker.server, &scratch.path().join("producer"), &arguments);
    assert_eq!(produce.finish_with_talk().1, Some(0));
    broker.stop();
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(0), "{stdout}{said}");
    assert!(stdout.contains("not covered: news: ") && !stdout.contains("everything"), "{stdout}");
    let (_, stdout, _) = run(&["broker", "--check", shown, "--format", "json"]);
    let verdict: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(verdict["unsafe_topics"][0], "news", "{stdout}");
    for useless in [
        &["broker", "--check", shown, "--adopt"][..],
        &["broker", "--data", shown, "--accept-loss", "end", "--format", "json"],
    ] {
        assert_eq!(run(useless).0, Some(2), "{useless:?} is not what it looks like");
    }
}

#[test]
fn what_is_lost_is_named_and_can_be_given_up() {
    let scratch = tempfile::tempdir().unwrap();
    let data = damaged(scratch.path());
    let shown = data.to_str().unwrap();
    let before = files(&data);
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(3), "{stdout}{said}");
    for expected in ["DAMAGED", "lost: news-0: offsets 1 to 1", "--accept-loss news:0:1-1"] {
        assert!(stdout.contains(expected), "no '{expected}' in: {stdout}");
    }
    let (code, stdout, _) = run(&["broker", "--check", shown, "--format", "json"]);
    let verdict: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &verdict["verdict"]), (Some(3), &"damaged".into()));
    let lost = &verdict["lost"][0];
    assert_eq!((&lost["topic"], &lost["partition"]), (&"news".into(), &0.into()), "{stdout}");
    assert_eq!((&lost["first"], &lost["last"]), (&1.into(), &1.into()), "{stdout}");
    let known = verdict["partitions"].as_array().unwrap();
    let news = known.iter().find(|it| it["topic"] == "news").unwrap();
    assert_eq!((&news["partition"], &news["partition_id"]), (&0.into(), &lost["partition_id"]));
    assert_eq!((&news["log_start"], &news["log_end"]), (&0.into(), &3.into()), "{stdout}");
    assert!(files(&data) == before);

    for wrong in ["news:0:0-1", "news:1:1-1", "state:group-offsets", "end"] {
        let (code, _, said) = run(&["broker", "--data", shown, "--accept-loss", wrong]);
        assert!(code == Some(1) && said.contains("error[LP1021]"), "{wrong}: {said}");
        assert!(said.contains("--accept-loss news:0:1-1"), "{wrong}: {said}");
    }
    assert!(files(&data) == before, "a refusal changes nothing");

    // The losses of a copy are given up as it is taken over.
    let copy = scratch.path().join("copy");
    let copied = Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    let of_copy = ["broker", "--data", copy.to_str().unwrap(), "--accept-loss", "news:0:1-1"];
    let (code, _, said) = run(&of_copy);
    assert!(code == Some(1) && said.contains("error[LP1007]"), "{said}");
    let (_, stdout, _) = run(&["broker", "--check", copy.to_str().unwrap()]);
    assert!(stdout.contains(" --adopt --accept-loss news:0:1-1"), "{stdout}");
    let (code, _, said) = run(&[&of_copy[..], &["--adopt"]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(run(&["broker", "--check", copy.to_str().unwrap()]).0, Some(0));

    let accept = ["broker", "--data", shown, "--accept-loss", "news:0:1-1"];
    for _ in 0..2 {
        // Twice: it may have been cut off.
        let (code, stdout, said) = run(&accept);
        assert_eq!(code, Some(0), "{stdout}{said}");
        assert!(stdout.contains("accepted as lost: news-0: offsets 1 to 1"), "{stdout}");
    }
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(0), "{stdout}{said}");
    assert!(!stdout.contains("clean"), "a loss that was given up is still one: {stdout}");
    assert!(stdout.contains("accepted as lost: news-0: offsets 1 to 1"), "{stdout}");
    let (_, stdout, _) = run(&["broker", "--check", shown, "--format", "json"]);
    let verdict: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(verdict["verdict"], "accepted", "{stdout}");
    assert_eq!(verdict["accepted"][0]["first"], 1, "{stdout}");
    let broker = Broker::start(&data, &[]);
    let topic = read_topic(&broker.server, "news");
    let values: Vec<&str> = topic.records.iter().map(|record| &*record.value).collect();
    assert_eq!(values, ["first message", "third message"]);
    let said = broker.stop();
    assert!(!said.contains("LP1012"), "{said}");
}

/// The line is one that a start writes; `lossproof-log/tests/check.rs` holds that it does.
#[test]
fn an_end_that_an_earlier_start_has_cut_is_named_until_its_line_is_taken_out() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, _) = one_message(scratch.path());
    let shown = data.to_str().unwrap();
    let list = data.join("quarantine/list");
    let cut = "open=3 tail-cut segment=2 position=8192 bytes=4096 frames=7-7 partition=1:4-4";
    fs::write(&list, format!("open=2 frame-damaged segment=1\n{cut}\n")).unwrap();
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(0), "{stdout}{said}");
    assert!(!stdout.contains("everything that was acknowledged"), "{stdout}");
    assert!(stdout.contains(&format!("in doubt, cut by an earlier start: {cut}\n")), "{stdout}");
    let (_, stdout, _) = run(&["broker", "--check", shown, "--format", "json"]);
    let verdict: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(verdict["cut_before"], serde_json::json!([cut]), "{stdout}");
    fs::write(&list, "open=2 frame-damaged segment=1\n").unwrap();
    let (_, stdout, _) = run(&["broker", "--check", shown]);
    assert!(stdout.contains("everything that was acknowledged can be read"), "{stdout}");
}

/// Nobody can name offsets of it, so that it is given up with what else is missing of the topics.
#[test]
fn a_partition_that_is_not_known_any_more_is_given_up_with_the_topics() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, id) = one_message(scratch.path());
    // Its creation.
    hit(&data, &[&[1][..], &id].concat());

    let shown = data.to_str().unwrap();
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(3), "{stdout}{said}");
    assert!(stdout.contains("lost: news-0: offsets 0 to 0"), "{stdout}");
    assert!(stdout.contains("--accept-loss state:topics"), "{stdout}");
    assert!(!stdout.contains("--accept-loss news"), "{stdout}");
    assert!(!stdout.contains("of no topic that is known is there"), "{stdout}");
    let (_, stdout, _) = run(&["broker", "--check", shown, "--format", "json"]);
    let verdict: Value = serde_json::from_str(&stdout).unwrap();
    let known = verdict["partitions"].as_array().unwrap();
    let news = known.iter().find(|it| it["topic"] == "news").unwrap();
    assert_eq!(news["partition_id"], verdict["lost"][0]["partition_id"], "{stdout}");
    assert!(news.get("log_start").is_none() && news.get("log_end").is_none(), "{stdout}");
    let accept = |wanted| run(&["broker", "--data", shown, "--accept-loss", wanted]);
    let (code, _, said) = accept("news:0:0-0");
    assert!(code == Some(1) && said.contains("given up by state:topics"), "{said}");
    let (code, stdout, said) = accept("state:topics");
    assert_eq!(code, Some(0), "{stdout}{said}");
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(0), "{stdout}{said}");
    assert!(stdout.contains("accepted as lost: news-0: offsets 0 to 0"), "{stdout}");
    assert_eq!(read_from_quarantine(&data), ["first message"]);
}

/// The trap: all of it is there, and so is the partition, and nobody can ask for it.
#[test]
fn what_no_topic_names_any_more_is_told_as_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, id) = one_message(scratch.path());
    // There no partition is a topic's.
    let journal = scratch.path().join("producer");
    let (code, stdout, _) = run(&["broker", "--check", journal.to_str().unwrap()]);
    assert!(code == Some(0) && stdout.contains(": clean"), "{stdout}");
    hit(&journal, b"first message");
    let (code, stdout, _) = run(&["broker", "--check", journal.to_str().unwrap()]);
    assert!(code == Some(3) && !stdout.contains("of its topic"), "{stdout}");
    // Version, id, flush policy and number of partitions: the entry of the topic.
    hit(&data, &[&[1][..], &id, &[0, 0, 0, 0, 1]].concat());
    // And what it holds, as well: that can be given up with it alone.
    hit(&data, b"first message");

    let shown = data.to_str().unwrap();
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(3), "{stdout}{said}");
    let named = "of no topic that is known: offsets 0 to 0";
    assert!(stdout.lines().any(|it| it.starts_with("lost: ") && it.ends_with(named)), "{stdout}");
    assert!(stdout.contains("the entry of its topic is not"), "{stdout}");
    let (code, stdout, said) = run(&["broker", "--data", shown, "--accept-loss", "state:topics"]);
    assert_eq!(code, Some(0), "{stdout}{said}");
    let (code, stdout, said) = run(&["broker", "--check", shown]);
    assert_eq!(code, Some(0), "{stdout}{said}");
    let is_named = |it: &str| it.starts_with("accepted as lost: ") && it.ends_with(named);
    assert!(stdout.lines().any(is_named), "{stdout}");
}

/// The values of all records that lie there, named as somebody does who looks into the directory.
fn read_from_quarantine(data: &Path) -> Vec<String> {
    let quarantine = data.join("quarantine");
    let mut values = Vec::new();
    for piece in files(&quarantine).into_keys() {
        if piece.extension().is_none_or(|it| it != "piece") {
            continue;
        }
        let whole = piece.to_str().unwrap();
        let (code, stdout, said) = run(&["log", "dump", whole, "--records", "--format", "json"]);
        assert_eq!((code, &*said), (Some(0), ""));
        let lines: Vec<Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records = lines.iter().filter(|line| line["line"] == "record");
        values.extend(records.map(|record| record["value"].as_str().unwrap().to_owned()));
        let mut command = binary();
        let name = piece.file_name().unwrap();
        let there = command.current_dir(&quarantine).args(["log", "dump"]).arg(name).output();
        let shown = String::from_utf8(there.unwrap().stdout).unwrap();
        assert_eq!(shown.matches("\nframe ").count(), frames(&lines), "{shown}");
    }
    values
}

fn frames(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["line"] == "frame").count()
}

/// A medium that has flipped one bit flips another: said, and told from a loss.
#[test]
fn damage_that_a_second_copy_makes_good_is_told_from_a_loss() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    Broker::start(&data, &[]).stop();
    let mut bytes = fs::read(data.join("meta")).unwrap();
    bytes[20] ^= 1;
    fs::write(data.join("meta"), bytes).unwrap();
    let (code, stdout, said) = run(&["broker", "--check", data.to_str().unwrap()]);
    assert_eq!(code, Some(3), "{stdout}{said}");
    assert!(stdout.contains("DAMAGED") && stdout.contains("no message is lost"), "{stdout}");
    assert!(stdout.contains("meta-copy") && !stdout.contains("\nlost:"), "{stdout}");
}

#[test]
fn what_stands_in_the_files_is_shown() {
    let scratch = tempfile::tempdir().unwrap();
    let data = damaged(scratch.path());
    let shown = data.to_str().unwrap();
    let before = files(&data);
    let (code, stdout, said) = run(&["log", "dump", shown, "--records"]);
    assert_eq!(code, Some(0), "{said}");
    for expected in ["value=\"first message\"", "value=\"third message\"", "verifies=false"] {
        assert!(stdout.contains(expected), "no '{expected}' in: {stdout}");
    }
    assert!(!stdout.contains("econd message"), "damaged bytes pass for records: {stdout}");
    let (_, stdout, _) = run(&["log", "dump", shown, "--format", "json"]);
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let broken = lines.filter(|line| line["line"] == "batch" && line["verifies"] == false);
    assert_eq!(broken.map(|line| line["base_offset"].clone()).collect::<Vec<_>>(), [1]);
    let (code, stdout, said) = run(&["log", "dump", shown, "--limit", "3"]);
    assert_eq!((code, stdout.lines().count()), (Some(0), 3));
    assert!(said.contains("--limit"), "{said}");
    assert!(files(&data) == before);
    let (code, _, said) = run(&["log", "dump", "/no/such/place"]);
    assert!(code == Some(1) && said.contains("error[LP1020]"), "{said}");
}
