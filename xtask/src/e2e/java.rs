use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use super::{Scene, numbered, same_once};
use crate::command::{poll_until, run_to_log, spawn, wait};
use crate::failure::{Context, Failure};
use crate::fetch::{any_java, kafka_libraries};
use crate::service::Broker;

const TIME_MAX: Duration = Duration::from_mins(2);
const RECORDS: usize = 500;
const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const VERIFIABLE: &str = "org.apache.kafka.tools.VerifiableProducer";

/// A tool of Apache Kafka, pointed at the broker.
fn tool(scene: &Scene<'_>, class: &str, arguments: &[&str]) -> Result<Command, Failure> {
    let libraries = kafka_libraries(scene.cache)?;
    let mut command = Command::new(any_java()?);
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
    command.arg(libraries.join("*"));
    let logging = libraries.join("log4j2.properties");
    command.env("JAVA_TOOL_OPTIONS", "");
    command.env("LOG4J_CONFIGURATION_FILE", logging);
    command.args([class, "--bootstrap-server", &scene.broker.address()]).args(arguments);
    Ok(command)
}

fn run(scene: &Scene<'_>, class: &str, arguments: &[&str]) -> Result<String, Failure> {
    let mut command = tool(scene, class, arguments)?;
    let log = scene.run.join("java.log");
    run_to_log(&log, &mut command, TIME_MAX)?.expect_success(class)
}

pub(super) fn topics(scene: &mut Scene<'_>) -> Result<(), Failure> {
    run(scene, TOPICS, &["--create", "--topic", "from-java", "--partitions", "3"])?;
    let described = run(scene, TOPICS, &["--describe", "--topic", "from-java"])?;
    if !described.contains("PartitionCount: 3") {
        return Err(Failure::broken(format!("3 partitions were asked for:\n{described}")));
    }
    run(scene, TOPICS, &["--delete", "--topic", "from-java"])?;
    let listed = run(scene, TOPICS, &["--list"])?;
    if listed.lines().any(|line| line == "from-java") {
        return Err(Failure::broken("the deleted topic is still listed"));
    }
    Ok(())
}

/// Lines through the console producer, then from a group in two turns.
pub(super) fn console(scene: &mut Scene<'_>) -> Result<(), Failure> {
    for turn in ["one", "two"] {
        let lines = numbered(turn, RECORDS);
        produce(scene, "java-console", &lines)?;
        let count = RECORDS.to_string();
        let arguments = [
            "--topic",
            "java-console",
            "--group",
            "java-console",
            "--from-beginning",
            "--max-messages",
            &count,
            "--timeout-ms",
            "60000",
        ];
        let text = run_stdout(scene, CONSUMER, &arguments)?;
        let read: Vec<String> = text.lines().map(str::to_owned).collect();
        same_once(&lines, &read)?;
    }
    Ok(())
}

fn produce(scene: &Scene<'_>, topic: &str, lines: &[String]) -> Result<(), Failure> {
    let input = scene.run.join("java-input.txt");
    fs::write(&input, lines.join("\n") + "\n").context(input.display())?;
    let log = scene.run.join("java-producer.log");
    let mut command = tool(scene, PRODUCER, &["--topic", topic])?;
    let errors = File::create(&log).context(log.display())?;
    let output = errors.try_clone().context(log.display())?;
    command.stdin(File::open(&input).context(input.display())?).stdout(output).stderr(errors);
    let mut child = spawn(&mut command)?;
    let ended = wait(&mut child, TIME_MAX)?.is_some_and(|status| status.success());
    let text = fs::read_to_string(&log).context(log.display())?;
    // The tool ends with success even when a record was refused; it says so in its log.
    if !ended || text.contains("ERROR") {
        return Err(Failure::broken(format!("the console producer failed:\n{text}")));
    }
    Ok(())
}

/// Standard output alone: these tools say much on the other one.
fn run_stdout(scene: &Scene<'_>, class: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = scene.run.join("java-output.txt");
    let log = scene.run.join("java-consumer.log");
    let mut command = tool(scene, class, arguments)?;
    command.stdin(Stdio::null());
    command.stdout(File::create(&output).context(output.display())?);
    command.stderr(File::create(&log).context(log.display())?);
    let mut child = spawn(&mut command)?;
    let ended = wait(&mut child, TIME_MAX)?.is_some_and(|status| status.success());
    if !ended {
        let text = fs::read_to_string(&log).context(log.display())?;
        return Err(Failure::broken(format!("{class} failed:\n{text}")));
    }
    fs::read_to_string(&output).context(output.display())
}

/// An idempotent producer works while the broker is killed: what it was told is stored is there,
/// once, and the client itself goes on without help. The lines are handed to it in three parts:
/// before the kill, right at the kill, and after the restart. (kcat cannot be used: it ends
/// by itself when its only broker is away.)
pub(super) fn survives_kill(scene: &mut Scene<'_>) -> Result<(), Failure> {
    const PART: usize = 5_000;
    let lines = numbered("survives", 3 * PART);
    let arguments = ["--topic", "survives", "--message-send-max-retries", "1000000"];
    let mut command = tool(scene, PRODUCER, &arguments)?;
    let log = scene.run.join("java-survives.log");
    let errors = File::create(&log).context(log.display())?;
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors);
    let mut producer = spawn(&mut command)?;
    let input = producer.stdin.take().ok_or_else(|| Failure::broken("it has no pipe"))?;
    let handed_in = feed_around_a_kill(scene, input, &lines, PART);
    let status = wait(&mut producer, TIME_MAX)?;
    handed_in?;
    if !status.is_some_and(|status| status.success()) {
        let said = fs::read_to_string(&log).context(log.display())?;
        return Err(Failure::broken(format!("the producer ended with {status:?}:\n{said}")));
    }
    same_once(&lines, &super::kcat::read_all(scene, "survives")?)
}

fn feed_around_a_kill(
    scene: &mut Scene<'_>,
    mut input: ChildStdin,
    lines: &[String],
    part: usize,
) -> Result<(), Failure> {
    let mut hand_in = |lines: &[String]| {
        let text = lines.join("\n") + "\n";
        input.write_all(text.as_bytes()).context("hand lines to the producer")
    };
    hand_in(&lines[..part])?;
    poll_until("the first records are stored", TIME_MAX, || {
        let some = super::kcat::read_all(scene, "survives").is_ok_and(|read| !read.is_empty());
        Ok(some.then_some(()))
    })?;
    hand_in(&lines[part..2 * part])?;
    scene.broker.kill()?;
    // The client takes no more lines while it knows no broker.
    scene.broker.restart()?;
    hand_in(&lines[2 * part..])
}

/// Storage rule 13: the broker has lost what was acknowledged unsafely, and with it what it knew of
/// the producer, which goes on in the middle of its sequence. It must not be told that all is
/// stored; and what is acknowledged from then on must be there, without help by anybody.
pub(super) fn starts_over(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let run = scene.run.join("starts-over");
    let mut broker = Broker::start_unsafe(&scene.binaries.lossproof, &run)?;
    let Scene { cache, binaries, .. } = *scene;
    let mut scene = Scene { cache, broker: &mut broker, binaries, run: &run };
    let arguments = ["--topic", "again", "--message-send-max-retries", "1000000"];
    let mut command = tool(&scene, PRODUCER, &arguments)?;
    let log = run.join("producer.log");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(File::create(&log).context(log.display())?);
    let mut producer = spawn(&mut command)?;
    let input = producer.stdin.take().ok_or_else(|| Failure::broken("it has no pipe"))?;
    let handed_in = lose_and_go_on(&mut scene, input);
    let status = wait(&mut producer, TIME_MAX)?;
    handed_in?;
    if !status.is_some_and(|status| status.success()) {
        let said = fs::read_to_string(&log).context(log.display())?;
        return Err(Failure::broken(format!("the producer ended with {status:?}:\n{said}")));
    }
    let read = super::kcat::read_all(&scene, "again")?;
    let said = fs::read_to_string(run.join("broker.log")).context("the broker's log")?;
    if !said.contains("append refused") {
        return Err(Failure::broken("the broker knew the producer: the test shows nothing"));
    }
    same_once(&["kept".to_owned()], &read)
}

/// The start of the journal is zeroed in steps that end with a sync, which would save what is to be
/// lost: waits for the last of them, at 16 MiB.
fn wait_until_zeroed(run: &Path) -> Result<(), Failure> {
    const ZEROED_BYTES: u64 = 16 << 20;
    poll_until("the journal is zeroed ahead", TIME_MAX, || {
        let segments = fs::read_dir(run.join("broker").join("journal"));
        let lengths = segments.context("the journal")?.flatten().map(|it| it.metadata());
        Ok(lengths.flatten().any(|it| it.len() >= ZEROED_BYTES).then_some(()))
    })
}

fn lose_and_go_on(scene: &mut Scene<'_>, mut input: ChildStdin) -> Result<(), Failure> {
    wait_until_zeroed(scene.run)?;
    input.write_all(b"lost\n").context("hand a line to the producer")?;
    poll_until("the first record is stored", TIME_MAX, || {
        let some = super::kcat::read_all(scene, "again").is_ok_and(|read| !read.is_empty());
        Ok(some.then_some(()))
    })?;
    scene.broker.kill()?;
    scene.broker.restart()?;
    input.write_all(b"kept\n").context("hand a line to the producer")
}

/// A producer of Kafka's own system tests: it prints one line for each acknowledgement.
pub(super) fn verifiable(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let count = RECORDS.to_string();
    let arguments = ["--topic", "java-verifiable", "--max-messages", &count, "--acks", "-1"];
    let text = run_stdout(scene, VERIFIABLE, &arguments)?;
    let acknowledged = text.lines().filter(|line| line.contains("producer_send_success")).count();
    let read = super::kcat::read_all(scene, "java-verifiable")?;
    if acknowledged == RECORDS && read.len() == RECORDS {
        return Ok(());
    }
    let stored = read.len();
    Err(Failure::broken(format!("sent {RECORDS}, acknowledged {acknowledged}, stored {stored}")))
}
