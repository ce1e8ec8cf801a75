//! Apache Kafka's command-line tools: a script of their own. Many of them end with success when
//! the broker refused, so each step looks at what was printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

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
const PERF_RECORDS: usize = 2000;
const PERF_BYTES: usize = 100;
/// Of transactions alone, with one partition.
const TRANSACTED: &str = "transacted";
/// Each of them is the only one of its kind.
const TRANSACTIONAL_ID: &str = "tools-id";

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const GET_OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";
const PRODUCER_PERF: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER_PERF: &str = "org.apache.kafka.tools.ConsumerPerformance";
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
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

pub(crate) const STEPS: [(&str, Step); 18] = [
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
    ("describe transactions", describe_transactions),
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
    produce(scene, TOPIC, &numbered("tools", RECORDS))
}

fn produce(scene: &Scene<'_>, topic: &str, values: &[String]) -> Result<(), Failure> {
    let mut command = scene.program.bare();
    command.args([scene.console_producer(), "--bootstrap-server", &scene.broker.address()]);
    command.args(["--topic", topic, "--compression-codec", "zstd"]);
    let name = format!("console-producer-{topic}");
    let mut producer = Member::start(scene.run, &name, command, true, false)?;
    producer.give(values)?;
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
    perf(scene, "perf", &[])
}

/// The same in transactions of a tenth of a second. A reader of what is committed has all of it,
/// each record once, ahead of one that was sent behind them.
fn transactions(scene: &mut Scene<'_>) -> Result<(), Failure> {
    scene.tool(TOPICS, &["--create", "--topic", TRANSACTED, "--partitions", "1"])?;
    let more = ["--transactional-id", TRANSACTIONAL_ID, "--transaction-duration-ms", "100"];
    perf(scene, TRANSACTED, &more)?;
    let last = "the-last-one".to_owned();
    produce(scene, TRANSACTED, std::slice::from_ref(&last))?;
    let count = (PERF_RECORDS + 1).to_string();
    let isolation = ["--isolation-level", "read_committed", "--max-messages", &count];
    let arguments = [&["--topic", TRANSACTED, "--from-beginning"][..], &isolation].concat();
    let text = scene.tool(CONSUMER, &arguments)?;
    all_and_then(&text, &last)
}

/// Fails unless `text` has lines like those of the tool, all different, and after them the last.
fn all_and_then(text: &str, last: &str) -> Result<(), Failure> {
    let is_record = |line: &&str| {
        line.len() == PERF_BYTES && line.bytes().all(|byte| byte.is_ascii_uppercase())
    };
    let read: Vec<&str> = text.lines().filter(|line| is_record(line) || *line == last).collect();
    let distinct: BTreeSet<&str> = read.iter().copied().collect();
    let wanted = PERF_RECORDS + 1;
    if read.len() == wanted && distinct.len() == wanted && read.last() == Some(&last) {
        return Ok(());
    }
    let (read_count, distinct, end) = (read.len(), distinct.len(), read.last());
    Err(Failure::broken(format!(
        "of {PERF_RECORDS} and one behind them {read_count} were read, {distinct} of them \
         different; the last: {end:?}"
    )))
}

/// What is told of a transaction that is committed, and of its producer in the partition.
fn describe_transactions(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let listed = scene.tool(TRANSACTIONS, &["list"])?;
    let listed = row(&listed, "TransactionalId", TRANSACTIONAL_ID)?;
    let arguments = ["describe", "--transactional-id", TRANSACTIONAL_ID];
    let text = scene.tool(TRANSACTIONS, &arguments)?;
    let described = row(&text, "TransactionalId", TRANSACTIONAL_ID)?;
    let producer = listed.get("ProducerId").map_or("", String::as_str);
    for (row, column, expected) in [
        (&listed, "TransactionState", "CompleteCommit"),
        (&described, "TransactionState", "CompleteCommit"),
        (&described, "ProducerId", producer),
        (&described, "TopicPartitions", ""),
    ] {
        has(row, column, expected)?;
    }
    let arguments = ["describe-producers", "--topic", TRANSACTED, "--partition", "0"];
    let text = scene.tool(TRANSACTIONS, &arguments)?;
    let writing = row(&text, "ProducerId", producer)?;
    has(&writing, "LastSequence", &(PERF_RECORDS - 1).to_string())?;
    has(&writing, "CurrentTransactionStartOffset", "None")
}

type Row = BTreeMap<String, String>;

fn has(row: &Row, column: &str, expected: &str) -> Result<(), Failure> {
    let found = row.get(column);
    if found.is_some_and(|found| found == expected) {
        return Ok(());
    }
    Err(Failure::broken(format!("{column} is {found:?}, not {expected:?}: {row:?}")))
}

/// The one row of a table, cells with a tab behind each, that has `value` in that column.
fn row(text: &str, column: &str, value: &str) -> Result<Row, Failure> {
    let cells = |line: &str| -> Vec<String> {
        line.split('\t').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text.lines().map(cells).skip_while(|cells| cells.iter().all(|it| it != column));
    let names = lines.next().unwrap_or_default();
    let rows = lines.map(|cells| names.iter().cloned().zip(cells).collect::<Row>());
    let mut rows = rows.filter(|row| row.get(column).is_some_and(|it| it == value));
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row),
        _ => Err(Failure::broken(format!("no one row with {column} {value} in:\n{text}"))),
    }
}

fn perf(scene: &mut Scene<'_>, topic: &str, more: &[&str]) -> Result<(), Failure> {
    let address = format!("bootstrap.servers={}", scene.broker.address());
    let (count, bytes) = (PERF_RECORDS.to_string(), PERF_BYTES.to_string());
    let mut arguments = vec!["--topic", topic, "--num-records", &count, "--record-size", &bytes];
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

/// The clients of Kafka's own system tests: a line for each acknowledgement, for each record read.
fn verifiable(scene: &mut Scene<'_>) -> Result<(), Failure> {
    let count = RECORDS.to_string();
    let topic = "verifiable";
    let arguments = ["--topic", topic, "--max-messages", &count, "--acks", "-1"];
    let text = scene.tool(VERIFIABLE_PRODUCER, &arguments)?;
    let acked = placed(&text, "producer_send_success");
    let arguments = [
        "--topic",
        topic,
        "--group-id",
        topic,
        "--max-messages",
        &count,
        "--reset-policy",
        "earliest",
        "--verbose",
    ];
    let text = scene.tool(VERIFIABLE_CONSUMER, &arguments)?;
    contains(&text, "offsets_committed")?;
    same_places(&acked, &placed(&text, "record_data"))
}

/// Partition, offset and value in each event of that name.
fn placed(text: &str, name: &str) -> Vec<(i64, i64, String)> {
    let place = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        let value = event["value"].as_str().filter(|_| event["name"] == name)?.to_owned();
        Some((event["partition"].as_i64()?, event["offset"].as_i64()?, value))
    };
    let mut placed: Vec<_> = text.lines().filter_map(place).collect();
    placed.sort_unstable();
    placed
}

/// Each value was acknowledged once, and read from that very place.
fn same_places(acked: &[(i64, i64, String)], read: &[(i64, i64, String)]) -> Result<(), Failure> {
    let values: Vec<String> = acked.iter().map(|(_, _, value)| value.clone()).collect();
    let sent: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
    same_once(&sent, &values)?;
    let count = (acked.len(), read.len());
    let mut pairs = acked.iter().zip(read).filter(|(acked, read)| acked != read);
    match pairs.next() {
        None if count.0 == count.1 => Ok(()),
        first => Err(Failure::broken(format!(
            "acknowledged and read: {count:?}; the first that differ: {first:?}"
        ))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_below_the_names_of_its_columns() {
        let text =
            "log4j: chatter\nTransactionalId\tState  \t\na     \tOngoing\t\nb     \t       \t\n";
        let a = row(text, "TransactionalId", "a").unwrap();
        assert!(has(&a, "State", "Ongoing").is_ok() && has(&a, "State", "Empty").is_err());
        assert!(has(&row(text, "TransactionalId", "b").unwrap(), "State", "").is_ok());
        assert!(row(text, "TransactionalId", "c").is_err());
        assert!(row(&format!("{text}a\tOngoing\t\n"), "TransactionalId", "a").is_err(), "two");
    }

    #[test]
    fn what_was_acknowledged_must_be_read_from_its_place() {
        let event = |name: &str, number: usize, offset: usize| {
            let value = number.to_string();
            let event = serde_json::json!({
                "name": name, "value": value, "partition": 0, "offset": offset,
            });
            format!("{event}\n")
        };
        let of = |name: &str, order: &[usize]| {
            let events = order.iter().enumerate().map(|(at, number)| event(name, *number, at));
            placed(&events.collect::<String>(), name)
        };
        let order: Vec<usize> = (0..RECORDS).collect();
        let acked = of("acked", &order);
        assert!(same_places(&acked, &of("read", &order)).is_ok());
        let mut swapped = order.clone();
        swapped.swap(0, 1);
        let twice = [&order[..], &[0]].concat();
        for wrong in [&swapped, &twice, &order[1..].to_vec(), &order[..RECORDS - 1].to_vec()] {
            assert!(same_places(&acked, &of("read", wrong)).is_err());
        }
        assert!(same_places(&acked[1..], &acked[1..]).is_err(), "one has no acknowledgement");
    }

    #[test]
    fn all_of_the_transactions_and_then_the_last_one() {
        let letter = |number: usize| char::from(b'A' + (number % 26) as u8).to_string();
        let line = |number: usize| {
            let (low, high) = (letter(number), letter(number / 26));
            format!("{}{}{}", low, high, letter(number / 676)).repeat(34)[..PERF_BYTES].to_owned()
        };
        let text = |numbers: &[usize]| {
            let lines: String = numbers.iter().map(|number| line(*number) + "\n").collect();
            format!("chatter\n{lines}end\n")
        };
        let all: Vec<usize> = (0..PERF_RECORDS).collect();
        assert!(all_and_then(&text(&all), "end").is_ok());
        let twice = [&all[1..], &[1]].concat();
        for wrong in [&all[1..], &[&all[..], &[PERF_RECORDS]].concat(), &twice] {
            assert!(all_and_then(&text(wrong), "end").is_err());
        }
        let early = format!("end\n{}", text(&all).replace("end\n", ""));
        assert!(all_and_then(&early, "end").is_err(), "a record is behind the last one");
    }
}
