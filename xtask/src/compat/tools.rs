//! Apache Kafka's command-line tools: a script of their own. Many of them end with success when
//! the broker refused, so each step looks at what was printed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::clients::Program;
use super::member::{Member, STEP_TIME_MAX};
use crate::command::run_to_log;
use crate::e2e::{numbered, same_once};
use crate::failure::{Context, Failure};
use crate::fetch::KAFKA_3_VERSION;
use crate::service::Broker;

/// Each topic of the script has as many at least.
const DELETED_PARTITIONS: usize = 3;
const TOPIC: &str = "tools";
const GROUP: &str = "tools-group";
const RECORDS: usize = 200;
/// What `--time` of the offsets tool calls the two ends of a partition.
const EARLIEST: &str = "-2";
const LATEST: &str = "-1";

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const GET_OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const PRODUCER_PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER_PERF: &str = "org.apache.kafka.tools.ConsumerPerformance";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const VERIFIABLE_CONSUMER: &str = "org.apache.kafka.tools.VerifiableConsumer";

/// A version of the tools at work against a broker of its own.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    version: &'static str,
    program: &'a Program,
    broker: Broker,
    run: &'a Path,
    started: usize,
}

type Step = fn(&mut Scene<'_>) -> Result<(), Failure>;

pub(crate) const STEPS: [(&str, Step); 17] = [
    ("topics", topics),
    ("configs", configs),
    ("console producer", console_producer),
    ("console consumer", console_consumer),
    ("get offsets", get_offsets),
    ("list groups", list_groups),
    ("describe group", describe_group),
    ("reset offsets", reset_offsets),
    ("delete offsets", delete_offsets),
    ("delete group", delete_group),
    ("producer perf", producer_perf),
    ("consumer perf", consumer_perf),
    ("verifiable producer and consumer", verifiable),
    ("transactions", transactions),
    ("alter configs", alter_configs),
    ("add partitions", add_partitions),
    ("delete records", delete_records),
];

impl<'a> Scene<'a> {
    pub(crate) fn new(
        version: &'static str,
        program: &'a Program,
        broker: Broker,
        run: &'a Path,
    ) -> Self {
        Scene { version, program, broker, run, started: 0 }
    }

    /// Runs a tool to its end; what it printed on both outputs.
    fn tool(&mut self, class: &str, arguments: &[&str]) -> Result<String, Failure> {
        self.started += 1;
        let name = class.rsplit('.').next().unwrap_or(class);
        let log = self.run.join(format!("{:02}-{name}.log", self.started));
        let mut command = self.program.bare();
        command.arg(class);
        if class != PRODUCER_PERF || self.version != KAFKA_3_VERSION {
            command.args(["--bootstrap-server", &self.broker.address()]);
        }
        run_to_log(&log, command.args(arguments), STEP_TIME_MAX)?.expect_success(name)
    }

    fn console_producer(&self) -> &'static str {
        match self.version {
            KAFKA_3_VERSION => "kafka.tools.ConsoleProducer",
            _ => "org.apache.kafka.tools.ConsoleProducer",
        }
    }

    /// A read of the topic in a group.
    fn consume(&mut self, count: usize) -> Result<Vec<String>, Failure> {
        let count = count.to_string();
        let text = self.tool(
            CONSUMER,
            &["--topic", TOPIC, "--group", GROUP, "--from-beginning", "--max-messages", &count],
        )?;
        Ok(text.lines().filter(|line| line.starts_with("tools-")).map(str::to_owned).collect())
    }
}

fn contains(text: &str, part: &str) -> Result<(), Failure> {
    if text.contains(part) {
        return Ok(());
    }
    Err(Failure::broken(format!("`{part}` is not in:\n{text}")))
}

fn topics(scene: &mut Scene<'_>) -> Result<(), Failure> {
    scene.tool(TOPICS, &["--create", "--topic", TOPIC, "--partitions", "4"])?;
    scene.tool(TOPICS, &["--create", "--topic", "gone", "--partitions", "1"])?;
    let described = scene.tool(TOPICS, &["--describe", "--topic", TOPIC])?;
    contains(&described, "PartitionCount: 4")?;
    scene.tool(TOPICS, &["--delete", "--topic", "gone"])?;
    let listed = scene.tool(TOPICS, &["--list"])?;
    contains(&listed, TOPIC)?;
    if listed.lines().any(|line| line == "gone") {
        return Err(Failure::broken("the deleted topic is still listed"));
    }
    Ok(())
}

fn configs(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let described = scene.tool(CONFIGS, &["--describe", "--topic", TOPIC, "--all"])?;
    contains(&described, "cleanup.policy=delete")
}

fn console_producer(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let mut command = scene.program.bare();
    command.args([scene.console_producer(), "--bootstrap-server", &scene.broker.address()]);
    command.args(["--topic", TOPIC, "--compression-codec", "zstd"]);
    let mut producer = Member::start(scene.run, "console-producer", command, true, false)?;
    producer.give(&numbered("tools", RECORDS))?;
    producer.leave().map(drop)
}

fn console_consumer(scene: &mut Scene<'_>) -> Result<(), Failure> {
    same_once(&numbered("tools", RECORDS), &scene.consume(RECORDS)?)
}

fn get_offsets(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let ends = offsets(scene, LATEST)?;
    let sum: usize = ends.values().sum();
    if sum == RECORDS {
        return Ok(());
    }
    Err(Failure::broken(format!("the ends add up to {sum}, not {RECORDS}: {ends:?}")))
}

/// By partition: where it begins or ends.
fn offsets(scene: &mut Scene<'_>, time: &str) -> Result<BTreeMap<usize, usize>, Failure> {
    let text = scene.tool(GET_OFFSETS, &["--topic", TOPIC, "--time", time])?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("tools:")?.split_once(':'));
    let found =
        lines.filter_map(|(partition, at)| Some((partition.parse().ok()?, at.parse().ok()?)));
    Ok(found.collect())
}

fn list_groups(scene: &mut Scene<'_>) -> Result<(), Failure> {
    contains(&scene.tool(GROUPS, &["--list"])?, GROUP)
}

/// All is consumed and committed: no lag on any of the partitions.
fn describe_group(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let text = scene.tool(GROUPS, &["--describe", "--group", GROUP])?;
    let rows = text.lines().filter(|line| line.starts_with(GROUP));
    let lags: Vec<&str> = rows.filter_map(|row| row.split_whitespace().nth(5)).collect();
    if lags == ["0"; 4] {
        return Ok(());
    }
    Err(Failure::broken(format!("4 partitions without lag were expected:\n{text}")))
}

/// Back to the beginning: everything is read once more.
fn reset_offsets(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let arguments =
        ["--reset-offsets", "--to-earliest", "--execute", "--group", GROUP, "--topic", TOPIC];
    contains(&scene.tool(GROUPS, &arguments)?, "NEW-OFFSET")?;
    same_once(&numbered("tools", RECORDS), &scene.consume(RECORDS)?)
}

/// Of one partition only: a group without members and without offsets is none.
fn delete_offsets(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let first = format!("{TOPIC}:0");
    let arguments = ["--delete-offsets", "--group", GROUP, "--topic", &first];
    contains(&scene.tool(GROUPS, &arguments)?, "Successful")
}

fn delete_group(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let text = scene.tool(GROUPS, &["--delete", "--group", GROUP])?;
    contains(&text, "was successful")
}

fn producer_perf(scene: &mut Scene<'_>) -> Result<(), Failure> {
    perf(scene, &[])
}

/// The same in transactions of a tenth of a second.
fn transactions(scene: &mut Scene<'_>) -> Result<(), Failure> {
    perf(scene, &["--transactional-id", "tools", "--transaction-duration-ms", "100"])
}

fn perf(scene: &mut Scene<'_>, more: &[&str]) -> Result<(), Failure> {
    let address = format!("bootstrap.servers={}", scene.broker.address());
    let mut arguments = vec!["--topic", "perf", "--num-records", "2000", "--record-size", "100"];
    arguments.extend(["--throughput", "-1"]);
    arguments.extend(more);
    if scene.version == KAFKA_3_VERSION {
        arguments.extend(["--producer-props", &address]);
    }
    contains(&scene.tool(PRODUCER_PERF, &arguments)?, "2000 records sent")
}

fn consumer_perf(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let count = match scene.version {
        KAFKA_3_VERSION => "--messages",
        _ => "--num-records",
    };
    let text = scene.tool(CONSUMER_PERF, &["--topic", "perf", count, "2000"])?;
    contains(&text, ", 2000, ")
}

/// The clients of Kafka's own system tests: a line for each acknowledgement, for each batch read.
fn verifiable(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let count = RECORDS.to_string();
    let topic = "verifiable";
    let arguments = ["--topic", topic, "--max-messages", &count, "--acks", "-1"];
    let text = scene.tool(VERIFIABLE_PRODUCER, &arguments)?;
    let acked = text.lines().filter(|line| line.contains("producer_send_success")).count();
    let arguments = [
        "--topic",
        topic,
        "--group-id",
        topic,
        "--max-messages",
        &count,
        "--reset-policy",
        "earliest",
    ];
    let text = scene.tool(VERIFIABLE_CONSUMER, &arguments)?;
    contains(&text, "offsets_committed")?;
    let read: u64 = text.lines().filter_map(records_consumed).sum();
    if acked == RECORDS && read == RECORDS as u64 {
        return Ok(());
    }
    Err(Failure::broken(format!("{RECORDS} were sent, {acked} acknowledged, {read} read")))
}

fn records_consumed(line: &str) -> Option<u64> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event["name"] == "records_consumed").then(|| event["count"].as_u64()).flatten()
}

fn alter_configs(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let setting = "retention.ms=86400000";
    scene.tool(CONFIGS, &["--alter", "--topic", TOPIC, "--add-config", setting])?;
    contains(&scene.tool(CONFIGS, &["--describe", "--topic", TOPIC])?, setting)
}

fn add_partitions(scene: &mut Scene<'_>) -> Result<(), Failure> {
    scene.tool(TOPICS, &["--alter", "--topic", TOPIC, "--partitions", "6"])?;
    contains(&scene.tool(TOPICS, &["--describe", "--topic", TOPIC])?, "PartitionCount: 6")
}

/// All records of the first partitions, which have some of them or none: each begins at its end.
fn delete_records(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let file = scene.run.join("delete-records.json");
    let all = |partition: usize| {
        format!("{{\"topic\":\"{TOPIC}\",\"partition\":{partition},\"offset\":-1}}")
    };
    let partitions = (0..DELETED_PARTITIONS).map(all).collect::<Vec<_>>().join(",");
    let text = format!("{{\"version\":1,\"partitions\":[{partitions}]}}");
    fs::write(&file, text).context(file.display())?;
    let file = file.to_string_lossy().into_owned();
    let answer = scene.tool(DELETE_RECORDS, &["--offset-json-file", &file])?;
    for partition in 0..DELETED_PARTITIONS {
        contains(&answer, &format!("partition: {TOPIC}-{partition}\tlow_watermark: "))?;
    }
    let (begins, ends) = (offsets(scene, EARLIEST)?, offsets(scene, LATEST)?);
    let is_empty = |partition: &usize| {
        begins.contains_key(partition) && begins.get(partition) == ends.get(partition)
    };
    if (0..DELETED_PARTITIONS).all(|partition| is_empty(&partition)) {
        return Ok(());
    }
    Err(Failure::broken(format!("{answer}\nnow from {begins:?} to {ends:?}")))
}
