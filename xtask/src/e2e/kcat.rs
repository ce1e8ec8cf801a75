use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Scene, numbered, same_once};
use crate::command::{poll_until, run_to_log, spawn, wait};
use crate::failure::{Context, Failure};

const TIME_MAX: Duration = Duration::from_mins(2);
const RECORDS: usize = 500;

fn kcat(scene: &Scene<'_>) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-q", "-b", &scene.broker.address()]);
    command
}

/// Sends each line as a record and waits until the client is content.
fn produce(
    scene: &Scene<'_>,
    topic: &str,
    lines: &[String],
    settings: &[&str],
) -> Result<(), Failure> {
    let file = write_lines(scene, topic, lines)?;
    let mut command = kcat(scene);
    command.args(["-P", "-t", topic, "-l"]).arg(&file);
    for setting in settings {
        command.args(["-X", setting]);
    }
    let log = scene.run.join("kcat-produce.log");
    run_to_log(&log, &mut command, TIME_MAX)?.expect_success("kcat -P").map(drop)
}

fn write_lines(scene: &Scene<'_>, name: &str, lines: &[String]) -> Result<PathBuf, Failure> {
    let file = scene.run.join(format!("{name}.txt"));
    fs::write(&file, lines.join("\n") + "\n").context(file.display())?;
    Ok(file)
}

/// Everything in a topic, from the beginning to the present end of each partition.
pub(super) fn read_all(scene: &Scene<'_>, topic: &str) -> Result<Vec<String>, Failure> {
    let mut command = kcat(scene);
    command.args(["-C", "-e", "-t", topic, "-o", "beginning"]);
    let log = scene.run.join("kcat-consume.log");
    let text = run_to_log(&log, &mut command, TIME_MAX)?.expect_success("kcat -C")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Reads as a member of a group until it has seen the end of all its partitions.
fn read_in_group(scene: &Scene<'_>, group: &str, topic: &str) -> Result<Vec<String>, Failure> {
    let mut command = kcat(scene);
    command.args(["-e", "-X", "auto.offset.reset=earliest", "-G", group, topic]);
    let log = scene.run.join(format!("kcat-group-{group}.log"));
    let text = run_to_log(&log, &mut command, TIME_MAX)?.expect_success("kcat -G")?;
    Ok(text.lines().map(str::to_owned).collect())
}

pub(super) fn every_acks_setting(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let mut expected = Vec::new();
    for acks in ["0", "1", "all"] {
        let lines = numbered(&format!("acks-{acks}"), RECORDS);
        produce(scene, "acks", &lines, &[&format!("acks={acks}")])?;
        expected.extend(lines);
    }
    // With acks=0 the client is content before the broker is.
    poll_until("all records are readable", TIME_MAX, || {
        let read = read_all(scene, "acks")?;
        Ok((read.len() >= expected.len()).then_some(read))
    })
    .and_then(|read| same_once(&expected, &read))
}

pub(super) fn every_compression(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let mut expected = Vec::new();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let lines = numbered(&format!("codec-{codec}"), RECORDS);
        produce(scene, "codecs", &lines, &[&format!("compression.codec={codec}")])?;
        expected.extend(lines);
    }
    same_once(&expected, &read_all(scene, "codecs")?)
}

pub(super) fn group_goes_on(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let first = numbered("first", RECORDS);
    produce(scene, "group-goes-on", &first, &["acks=all"])?;
    same_once(&first, &read_in_group(scene, "goes-on", "group-goes-on")?)?;
    let second = numbered("second", RECORDS);
    produce(scene, "group-goes-on", &second, &["acks=all"])?;
    same_once(&second, &read_in_group(scene, "goes-on", "group-goes-on")?)
}

pub(super) fn two_members(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let first = numbered("shared", RECORDS);
    produce(scene, "shared", &first, &["acks=all"])?;
    let mut members = Vec::new();
    for member in ["one", "two"] {
        let output = scene.run.join(format!("member-{member}.txt"));
        let file = fs::File::create(&output).context(output.display())?;
        let mut command = kcat(scene);
        command.args(["-u", "-X", "auto.offset.reset=earliest", "-G", "shared", "shared"]);
        members.push((spawn(command.stdout(file))?, output));
    }
    let outputs: Vec<PathBuf> = members.iter().map(|(_, output)| output.clone()).collect();
    let read = share(scene, first, &outputs);
    for (mut child, _) in members {
        child.kill().context("kcat")?;
        wait(&mut child, TIME_MAX)?;
    }
    let (lines, read) = read?;
    same_once(&lines, &read)
}

/// Sends until each member has got some, since the first one has everything to itself until the
/// second one has joined; then waits until together they have all. What was sent, and what read.
fn share(
    scene: &Scene<'_>,
    mut lines: Vec<String>,
    outputs: &[PathBuf],
) -> Result<(Vec<String>, Vec<String>), Failure> {
    poll_until("both members have got records", TIME_MAX, || {
        let more = numbered(&format!("shared-{}", lines.len()), RECORDS);
        produce(scene, "shared", &more, &["acks=all"])?;
        lines.extend(more);
        let idle = read_outputs(outputs)?.iter().any(Vec::is_empty);
        Ok((!idle).then_some(()))
    })?;
    poll_until("both members together read everything", TIME_MAX, || {
        // A rebalance may deliver a record again: seen at least once is what a group promises.
        let mut read: Vec<String> = read_outputs(outputs)?.into_iter().flatten().collect();
        read.sort();
        read.dedup();
        Ok((read.len() >= lines.len()).then_some(read))
    })
    .map(|read| (lines, read))
}

fn read_outputs(outputs: &[PathBuf]) -> Result<Vec<Vec<String>>, Failure> {
    let read = |output: &PathBuf| {
        let text = fs::read_to_string(output).context(output.display())?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    outputs.iter().map(read).collect()
}
