//! What the demo saw from outside, written down for the judge: the lines it handed in, what the
//! producer said on standard output, its own reading of topic, sink and committed offsets through
//! a foreign client. Nothing in it comes from receipts, ledger or journal.

use std::collections::BTreeMap;
use std::io;

use lossproof_audit::identity::{HEADER_NAME, Header};
use lossproof_client::{Admin, ConsumeError, Record, TopicPartition};
use lossproof_judge::{Declaration, Event, HistoryWriter, Outcome, Position, Report};
use serde_json::Value;

use super::input::Line;
use super::scene::{GROUP, Scene, TOPIC};
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
pub(crate) struct Document {
    pub(crate) identity: String,
    pub(crate) value: String,
}

/// The sink's whole lines; a torn last one is no document.
pub(crate) fn documents(sink: &str) -> Result<Vec<Document>, Failure> {
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
pub(crate) fn judge(
    scene: &Scene,
    lines: &[Line],
    documents: &[Document],
    cluster: &mut dyn Admin,
) -> Result<(Report, Vec<u8>), Failure> {
    let partitions = cluster.partitions(TOPIC).map_err(failed)?.unwrap_or_default();
    let topics = BTreeMap::from([(TOPIC.to_owned(), partitions.len() as u32)]);
    let declaration = Declaration { topics, sink: true };
    let mut history = HistoryWriter::begin(Vec::new(), declaration).map_err(failed)?;
    let now = || scene.environment.clock.monotonic().as_nanos() as u64;
    let mut note = |event: &Event| history.record(now(), event);
    for (index, line) in lines.iter().enumerate() {
        note(&Event::hand_in(PRODUCER, &line.id)).map_err(failed)?;
        for identity in scene.accepted.get(&(index + 1)).into_iter().flatten() {
            let said = Event::Acknowledge {
                process: PRODUCER.to_owned(),
                value: line.id.clone(),
                outcome: Outcome::Ok,
                identity: Some(identity.clone()),
                position: None,
            };
            note(&said).map_err(failed)?;
        }
    }
    note(&Event::Crash { process: PRODUCER.to_owned() }).map_err(failed)?;
    for partition in partitions {
        let partition = TopicPartition { topic: TOPIC.to_owned(), partition };
        read_partition(&partition, cluster, &mut note)?;
    }
    for document in documents {
        let seen = Event::Index {
            document: document.identity.clone(),
            value: document.value.clone(),
            identity: Some(document.identity.clone()),
            digest: None,
        };
        note(&seen).map_err(failed)?;
    }
    note(&Event::SinkEnd { documents: documents.len() as u64 }).map_err(failed)?;
    let history = history.end(now(), READ).map_err(failed)?;
    let report = lossproof_judge::judge(history.as_slice()).map_err(failed)?;
    Ok((report, history))
}

fn read_partition(
    partition: &TopicPartition,
    cluster: &mut dyn Admin,
    note: &mut impl FnMut(&Event) -> io::Result<()>,
) -> Result<(), Failure> {
    let refused = |error: ConsumeError| failed(error);
    let ends = cluster.watermarks(partition).map_err(refused)?;
    let mut events = Vec::new();
    cluster
        .read(partition, ends.low, ends.high, &mut |record| events.push(store(&record)))
        .map_err(refused)?;
    let number = partition.partition as u32;
    events.push(Event::read_end(READ, &partition.topic, number, ends.low, ends.high));
    let committed = cluster.committed(GROUP, std::slice::from_ref(partition)).map_err(refused)?;
    for (_, offset) in committed {
        let offset = offset.unwrap_or(ends.low);
        events.push(Event::commit(GROUP, &partition.topic, number, offset));
    }
    events.iter().try_for_each(note).map_err(failed)
}

fn store(record: &Record) -> Event {
    let header = record.headers.iter().find(|(name, _)| name == HEADER_NAME);
    let header = header.and_then(|(_, value)| Header::decode(value.as_deref()?));
    let value = record.value.as_deref().and_then(value_of);
    Event::Store {
        read: READ.to_owned(),
        position: Position {
            topic: record.topic.clone(),
            partition: record.partition as u32,
            offset: record.offset,
        },
        // Whatever is no line of ours is one that nobody handed in.
        value: value.unwrap_or_else(|| format!("not ours, at offset {}", record.offset)),
        identity: header.map(|header| header.id.to_string()),
        digest: None,
    }
}
