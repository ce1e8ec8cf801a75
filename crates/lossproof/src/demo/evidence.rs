//! What the demo saw from outside, written down for the judge: the lines it handed in, what the
//! producer said on standard output, its own reading of topic, dead letters, sink and committed
//! offsets. Nothing in it comes from receipts, ledger or journal, nor from the audit's reader: with
//! the audit it shares librdkafka, a client that others wrote, and nothing else.

use std::collections::BTreeMap;
use std::io;

use lossproof_judge::{Declaration, Event, HistoryWriter, Outcome, Position, Report};
use serde_json::Value;

use super::input::Line;
use super::scene::{DEAD_LETTERS, GROUP, Scene, TOPIC};
use super::witness::{Seen, Witness};
use crate::exit::{DEMO_FAILED, Failure};

const READ: &str = "final";
const PRODUCER: &str = "producer";

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(DEMO_FAILED, format_args!("the evidence could not be gathered: {error}"))
}

/// The value that stands for a line wherever it turns up: its `id`.
fn value_of(json: &[u8]) -> Option<String> {
    let record: Value = serde_json::from_slice(json).ok()?;
    Some(record.get("id")?.as_str()?.to_owned())
}

/// One line of the sink.
#[derive(Clone, Debug)]
struct Document {
    identity: String,
    value: String,
}

/// The sink's whole lines; a torn last one is no document.
fn documents(sink: &str) -> Result<Vec<Document>, Failure> {
    let whole = sink.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let document: Value = serde_json::from_str(line).map_err(failed)?;
            let text = |key: &str| document.get(key).and_then(Value::as_str).map(str::to_owned);
            let missing = || failed(format_args!("a sink line has no _id or id: {line:.200}"));
            Ok(Document {
                identity: text("_id").ok_or_else(missing)?,
                value: text("id").ok_or_else(missing)?,
            })
        })
        .collect()
}

/// Writes the history and has it judged. Also returns it, for who wants to keep it.
pub(crate) fn judge(scene: &Scene, lines: &[Line]) -> Result<(Report, Vec<u8>), Failure> {
    let witness = Witness::new(&scene.bootstrap, GROUP)?;
    let topic = witness.read(TOPIC)?;
    let topics = BTreeMap::from([(TOPIC.to_owned(), topic.ranges.len() as u32)]);
    let declaration = Declaration { topics, sink: true };
    let mut history = HistoryWriter::begin(Vec::new(), declaration).map_err(failed)?;
    let now = || scene.environment.clock.monotonic().as_nanos() as u64;
    let mut note = |event: &Event| history.record(now(), event);
    note_producer(scene, lines, &mut note).map_err(failed)?;
    for seen in &topic.records {
        note(&store(seen)).map_err(failed)?;
    }
    let committed = witness.committed(TOPIC, topic.ranges.keys().copied())?;
    for (partition, (start, end)) in &topic.ranges {
        let number = *partition as u32;
        note(&Event::read_end(READ, TOPIC, number, *start, *end)).map_err(failed)?;
        let offset = committed.get(partition).unwrap_or(start);
        note(&Event::commit(GROUP, TOPIC, number, *offset)).map_err(failed)?;
    }
    for seen in witness.read(DEAD_LETTERS)?.records {
        let letter = Event::DeadLetter { value: line_of(&seen), identity: seen.identity };
        note(&letter).map_err(failed)?;
    }
    note_sink(&documents(&scene.read_sink()?)?, &mut note).map_err(failed)?;
    let history = history.end(now(), READ).map_err(failed)?;
    let report = lossproof_judge::judge(history.as_slice()).map_err(failed)?;
    Ok((report, history))
}

/// What was handed in, and what was said of it.
fn note_producer(
    scene: &Scene,
    lines: &[Line],
    note: &mut impl FnMut(&Event) -> io::Result<()>,
) -> io::Result<()> {
    for (index, line) in lines.iter().enumerate() {
        note(&Event::hand_in(PRODUCER, &line.id))?;
        for identity in scene.accepted.get(&(index + 1)).into_iter().flatten() {
            note(&Event::Acknowledge {
                process: PRODUCER.to_owned(),
                value: line.id.clone(),
                outcome: Outcome::Ok,
                identity: Some(identity.clone()),
                position: None,
            })?;
        }
    }
    note(&Event::Crash { process: PRODUCER.to_owned() })
}

fn note_sink(
    documents: &[Document],
    note: &mut impl FnMut(&Event) -> io::Result<()>,
) -> io::Result<()> {
    for document in documents {
        note(&Event::Index {
            document: document.identity.clone(),
            value: document.value.clone(),
            identity: Some(document.identity.clone()),
            digest: None,
        })?;
    }
    note(&Event::SinkEnd { documents: documents.len() as u64 })
}

/// Whatever is no line of ours is one that nobody handed in.
fn line_of(seen: &Seen) -> String {
    value_of(&seen.value).unwrap_or_else(|| format!("not ours, at offset {}", seen.offset))
}

fn store(seen: &Seen) -> Event {
    Event::Store {
        read: READ.to_owned(),
        position: Position {
            topic: TOPIC.to_owned(),
            partition: seen.partition as u32,
            offset: seen.offset,
        },
        value: line_of(seen),
        identity: seen.identity.clone(),
        digest: None,
    }
}
