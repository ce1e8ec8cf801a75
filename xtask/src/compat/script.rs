//! The script: the same steps for every client. A step returns what was wrong as its error; the
//! steps after it build on what it has left.

use std::collections::BTreeSet;
use std::path::Path;

use super::clients::{CODECS, Program};
use super::lines::{Floor, Line, Place, Sent, fact, parse, records};
use super::member::{Member, STEP_TIME_MAX};
use crate::command::{poll_slowly, poll_until, run_to_log};
use crate::e2e::numbered;
use crate::failure::Failure;
use crate::service::Broker;

const TOPIC: &str = "compat";
const GROUP: &str = "compat-group";
const PARTITIONS: usize = 4;
/// Records of each step that sends.
const RECORDS: usize = 200;
/// Records that are sent while a rebalance is waited for, each time.
const TRICKLE: usize = 20;

/// One client at work against a broker of its own.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) program: &'a Program,
    pub(crate) broker: Broker,
    pub(crate) run: &'a Path,
    /// All that was sent to [`TOPIC`].
    sent: Sent,
    /// What [`GROUP`] has committed.
    floor: Floor,
    /// The member of [`GROUP`] that stays from one step to the next.
    stays: Option<Member>,
    /// What the other member of it has read.
    others: BTreeSet<String>,
    started: usize,
}

type Step = fn(&mut Scene<'_>, &str) -> Result<(), Failure>;

/// The steps by the names that stand in the report.
pub(crate) fn steps() -> Vec<(&'static str, Step)> {
    let mut steps: Vec<(&'static str, Step)> = vec![("admin", admin)];
    steps.extend(CODECS.map(|codec| (codec, produce as Step)));
    steps.extend::<[(&str, Step); 4]>([
        ("group", group),
        ("kill", kill),
        ("read again", read_again),
        ("transactions", transactions),
    ]);
    steps
}

impl<'a> Scene<'a> {
    pub(crate) fn new(program: &'a Program, broker: Broker, run: &'a Path) -> Self {
        Scene {
            program,
            broker,
            run,
            sent: Sent::default(),
            floor: Floor::default(),
            stays: None,
            others: BTreeSet::new(),
            started: 0,
        }
    }

    fn start(&mut self, order: &str, topic: &str, choice: &str) -> Result<Member, Failure> {
        self.started += 1;
        let name = format!("{:02}-{order}", self.started);
        let command = self.program.order(order, &self.broker.address(), topic, choice);
        let sends = order != "consume";
        // A producer ends with its input, but for one that shall abort.
        let by_input = (sends && order != "abort") || self.program.leaves_at_end_of_input();
        let said_in_log = sends && !self.program.says_which();
        Member::start(self.run, &name, command, by_input, said_in_log)
    }

    fn start_producer(&mut self, codec: &str) -> Result<Producer, Failure> {
        Ok(Producer { member: self.start("produce", TOPIC, codec)?, given: Vec::new() })
    }

    /// The producer has had its last value: all of them must be acknowledged.
    fn end_producer(&mut self, producer: Producer) -> Result<(), Failure> {
        let lines = producer.member.leave()?;
        self.sent.add(&producer.given, &lines, self.program.says_which())
    }

    /// Runs an order to its end.
    fn run(&mut self, order: &str, topic: &str, choice: &str) -> Result<Vec<Line>, Failure> {
        self.started += 1;
        let log = self.run.join(format!("{:02}-{order}.log", self.started));
        let mut command = self.program.order(order, &self.broker.address(), topic, choice);
        let run = run_to_log(&log, &mut command, STEP_TIME_MAX)?;
        Ok(parse(&run.expect_success(order)?))
    }
}

/// A producing program, and what it was given.
struct Producer {
    member: Member,
    given: Vec<String>,
}

impl Producer {
    fn give(&mut self, prefix: &str, count: usize) -> Result<(), Failure> {
        let values = numbered(&format!("{prefix}-{}", self.given.len()), count);
        self.member.give(&values)?;
        self.given.extend(values);
        Ok(())
    }
}

/// Creates the topic and another one, describes it, reads its settings, deletes the other.
fn admin(scene: &mut Scene<'_>, _: &str) -> Result<(), Failure> {
    let lines = scene.run("admin", TOPIC, "")?;
    let partitions = fact(&lines, "partitions");
    if partitions != [PARTITIONS.to_string()] {
        return Err(Failure::broken(format!("asked for 4 partitions, described: {partitions:?}")));
    }
    let configs = fact(&lines, "config");
    if !configs.contains(&"cleanup.policy=delete") {
        return Err(Failure::broken(format!("no cleanup.policy among the settings: {configs:?}")));
    }
    let topics = fact(&lines, "topics").join(" ");
    let topics: Vec<&str> = topics.split(' ').collect();
    if !topics.contains(&TOPIC) || topics.contains(&"compat-gone") {
        return Err(Failure::broken(format!("one was deleted, the other not: {topics:?}")));
    }
    Ok(())
}

fn produce(scene: &mut Scene<'_>, codec: &str) -> Result<(), Failure> {
    let mut producer = scene.start_producer(codec)?;
    producer.give(codec, RECORDS)?;
    scene.end_producer(producer)?;
    // Each codec has one step, so that no batch of an earlier one is taken for this one's.
    let dump = scene.broker.dump(&scene.run.join(format!("dump-{codec}.log")))?;
    if has_batch_of(&dump, codec) {
        return Ok(());
    }
    Err(Failure::broken(format!("no batch that is compressed with {codec} was stored")))
}

/// A client may leave single batches as they are, where compression does not pay.
fn has_batch_of(dump: &str, codec: &str) -> bool {
    dump.lines().any(|line| {
        let line = serde_json::from_str::<serde_json::Value>(line);
        line.is_ok_and(|line| line["compression"] == codec)
    })
}

/// One member reads everything; a second one joins, and both get records; it leaves, and the first
/// gets all partitions back.
fn group(scene: &mut Scene<'_>, _: &str) -> Result<(), Failure> {
    let mut first = scene.start("consume", TOPIC, GROUP)?;
    let lines = read_all(&mut first, scene.sent.values(), &BTreeSet::new())?;
    let mut floor = Floor::default();
    floor.check(&lines)?;

    let mut second = scene.start("consume", TOPIC, GROUP)?;
    let mut producer = scene.start_producer("none")?;
    trickle("the second member gets records", &mut producer, || {
        Ok(!records(&second.lines()?).is_empty())
    })?;
    let before = records(&first.lines()?).len();
    trickle("the first member gets records too", &mut producer, || {
        Ok(records(&first.lines()?).len() > before)
    })?;
    // Ahead of the leave: what the first one gets again below the commit may come at once.
    let given = first.lines()?;
    let before = records(&given).len();
    let lines = second.leave()?;
    Floor::check_handover(&given, &lines)?;
    floor.after_leaving(&lines, scene.program.says_committed())?;
    scene.sent.check_values(&records(&lines))?;
    scene.others = records(&lines).into_iter().map(|(_, value)| value).collect();

    trickle("the first member has all partitions again", &mut producer, || {
        let since = records(&first.lines()?).split_off(before);
        Ok(since.iter().map(|(place, _)| place.0).collect::<BTreeSet<_>>().len() == PARTITIONS)
    })?;
    scene.end_producer(producer)?;
    let lines = read_all(&mut first, scene.sent.values(), &scene.others)?;
    check_since(&floor, &lines, before)?;
    scene.stays = Some(first);
    Ok(())
}

/// The records of a member after its first `before` ones, against a floor.
fn check_since(floor: &Floor, lines: &[Line], before: usize) -> Result<(), Failure> {
    let since: Vec<Line> = records(lines)
        .into_iter()
        .skip(before)
        .map(|(place, value)| Line::Record(place, value))
        .collect();
    floor.clone().check(&since)
}

/// Sends a few more records every now and then until `done`: a member without records may still
/// be joining, or may have partitions in which there is nothing new.
fn trickle(
    what: &str,
    producer: &mut Producer,
    mut done: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    poll_slowly(what, STEP_TIME_MAX, || {
        if done()? {
            return Ok(Some(()));
        }
        producer.give("shared", TRICKLE)?;
        Ok(None)
    })
}

/// Waits until a member has read all `values`, but for those that `others` have read.
fn read_all(
    member: &mut Member,
    values: &[String],
    others: &BTreeSet<String>,
) -> Result<Vec<Line>, Failure> {
    let what = format!("all of {} values are read", values.len());
    poll_until(&what, STEP_TIME_MAX, || {
        let lines = member.lines()?;
        let read: BTreeSet<String> = records(&lines).into_iter().map(|(_, value)| value).collect();
        let all = values.iter().all(|value| read.contains(value) || others.contains(value));
        Ok(all.then_some(lines))
    })
}

/// The broker is killed, and all that is not synced lost, while a producer and a member work; both
/// go on without help.
fn kill(scene: &mut Scene<'_>, _: &str) -> Result<(), Failure> {
    let stays = scene.stays.take();
    let mut member = stays.ok_or_else(|| Failure::broken("no member has stayed"))?;
    let mut producer = scene.start_producer("gzip")?;
    producer.give("before", RECORDS)?;
    let start = producer.given.clone();
    poll_until("some are read before the kill", STEP_TIME_MAX, || {
        let read = records(&member.lines()?);
        Ok(read.iter().any(|(_, value)| start.contains(value)).then_some(()))
    })?;
    producer.give("at", RECORDS)?;
    scene.broker.kill()?;
    producer.give("after", RECORDS)?;
    scene.broker.restart()?;
    scene.end_producer(producer)?;
    read_all(&mut member, scene.sent.values(), &scene.others)?;
    let lines = member.leave()?;
    scene.floor.after_leaving(&lines, scene.program.says_committed())?;
    // Without commits nothing could come again below one.
    let silent = (0..PARTITIONS as i32).find(|partition| scene.floor.of(*partition) == 0);
    if let Some(partition) = silent {
        return Err(Failure::broken(format!("nothing was committed of partition {partition}")));
    }
    scene.sent.check_values(&records(&lines))
}

/// The group goes on where it was; and another group reads the whole of it.
fn read_again(scene: &mut Scene<'_>, _: &str) -> Result<(), Failure> {
    let before = scene.sent.values().len();
    let mut producer = scene.start_producer("none")?;
    producer.give("again", RECORDS)?;
    scene.end_producer(producer)?;
    let new = scene.sent.values()[before..].to_vec();
    let mut member = scene.start("consume", TOPIC, GROUP)?;
    read_all(&mut member, &new, &BTreeSet::new())?;
    let lines = member.leave()?;
    scene.floor.check(&lines)?;

    let mut reader = scene.start("consume", TOPIC, "compat-reader")?;
    read_all(&mut reader, scene.sent.values(), &BTreeSet::new())?;
    let lines = reader.leave()?;
    scene.sent.check_whole(&records(&lines))
}

/// One transaction is committed, one aborted, one carries the offsets of a group: a reader of
/// committed records sees the first and the last, the group goes on at its offsets.
fn transactions(scene: &mut Scene<'_>, _: &str) -> Result<(), Failure> {
    const TOPIC: &str = "compat-transactions";
    const GROUP: &str = "compat-moved";
    let by_runs = scene.program.transacts_by_runs();
    let committed = if by_runs {
        transact_by_runs(scene, TOPIC)?;
        Vec::new()
    } else {
        scene.run("transact", TOPIC, GROUP)?
    };
    let mut expected: Vec<String> =
        ["kept", "moved"].iter().flat_map(|it| numbered(it, 10)).collect();
    expected.extend(send_behind(scene, TOPIC)?);
    let mut reader = scene.start("consume", TOPIC, "compat-reader")?;
    read_all(&mut reader, &expected, &BTreeSet::new())?;
    let whole = records(&reader.leave()?);
    let read: Vec<String> = whole.iter().map(|(_, value)| value.clone()).collect();
    crate::e2e::same_once(&expected, &read)?;
    if by_runs {
        return Ok(());
    }

    let mut floor = Floor::default();
    floor.check(&committed)?;
    let above = |(place, _): &&(Place, String)| place.1 >= floor.of(place.0);
    let rest: Vec<String> = whole.iter().filter(above).map(|(_, value)| value.clone()).collect();
    if rest.len() == whole.len() {
        return Err(Failure::broken("no offsets were committed in the transaction"));
    }
    let mut member = scene.start("consume", TOPIC, GROUP)?;
    read_all(&mut member, &rest, &BTreeSet::new())?;
    floor.check(&member.leave()?)
}

/// The three transactions of kcat, a run each: the end of the input commits, SIGTERM aborts.
fn transact_by_runs(scene: &mut Scene<'_>, topic: &str) -> Result<(), Failure> {
    commit_run(scene, topic, "kept")?;
    let before = records_in_journal(scene)?;
    let mut dropped = scene.start("abort", topic, "dropped")?;
    // It reads a KiB at a time, and ends without an abort when its signal finds it in the middle of
    // one. Where these were stored it says only at its end.
    let kib = vec!["dropped-by-kcat".to_owned(); 64];
    dropped.give(&kib)?;
    poll_slowly("all of the transaction is stored", STEP_TIME_MAX, || {
        dropped.lines()?;
        Ok((records_in_journal(scene)? >= before + kib.len() as u64).then_some(()))
    })?;
    let lines = dropped.leave()?;
    Sent::default().add(&kib, &lines, false)?;
    commit_run(scene, topic, "moved")
}

/// As many as its batches say.
fn records_in_journal(scene: &Scene<'_>) -> Result<u64, Failure> {
    let dump = scene.broker.dump(&scene.run.join("dump-transactions.log"))?;
    let lines = dump.lines().map(serde_json::from_str::<serde_json::Value>);
    Ok(lines.flatten().filter_map(|line| line["records"].as_u64()).sum())
}

fn commit_run(scene: &mut Scene<'_>, topic: &str, prefix: &str) -> Result<(), Failure> {
    let values = numbered(prefix, 10);
    let mut producer = scene.start("commit", topic, prefix)?;
    producer.give(&values)?;
    Sent::default().add(&values, &producer.leave()?, scene.program.says_which())
}

/// Sends to all partitions of a topic: who has read all of that has also been shown what is before
/// it, be it to stay hidden.
fn send_behind(scene: &mut Scene<'_>, topic: &str) -> Result<Vec<String>, Failure> {
    let values = numbered("behind", RECORDS);
    let mut producer = scene.start("produce", topic, "none")?;
    producer.give(&values)?;
    let lines = producer.leave()?;
    Sent::default().add(&values, &lines, scene.program.says_which())?;
    let partitions: BTreeSet<i32> = lines.iter().filter_map(Line::stored_in).collect();
    if partitions.len() == PARTITIONS {
        return Ok(values);
    }
    Err(Failure::broken(format!("{RECORDS} records, and only in the partitions {partitions:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_batch_with_the_compression_is_one() {
        let dump = "{\"line\":\"frame\"}\n{\"records\":3,\"compression\":\"lz4\"}\n";
        assert!(has_batch_of(dump, "lz4"));
        assert!(!has_batch_of(dump, "zstd"));
    }
}
