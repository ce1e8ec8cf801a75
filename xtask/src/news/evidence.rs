//! What was seen from outside, as the history that `docs/format/history.md` describes. Written as
//! plain JSON: this program knows neither the product nor the judge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::feed::PRODUCER;
use super::{GROUP, TOPIC};
use crate::command::run_to_log;
use crate::failure::{Context, Failure};

const FINAL_READ: &str = "final";
const READ_TIME_MAX: Duration = Duration::from_mins(5);

/// Reads a topic from its beginning to its end, and the group's offsets, by kafka-python.
const TOPIC_READ: &str = r#"
import json, struct, sys
from kafka import KafkaConsumer, TopicPartition

address, topic, group = sys.argv[1:4]
consumer = KafkaConsumer(bootstrap_servers=address, group_id=group, enable_auto_commit=False,
                         auto_offset_reset="none")
places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
consumer.assign(places)
starts, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)

def identity(record):
    for name, value in record.headers:
        if name == "lossproof" and len(value) == 30:
            return "%016x-%d-%d" % struct.unpack(">QIQ", value[2:22])
    return None

for place in places:
    consumer.seek(place, starts[place])
while any(consumer.position(place) < ends[place] for place in places):
    for records in consumer.poll(timeout_ms=1000).values():
        for record in records:
            print(json.dumps({"partition": record.partition, "offset": record.offset,
                              "identity": identity(record),
                              "text": record.value.decode("utf-8")}))
for place in places:
    print(json.dumps({"partition": place.partition, "start": starts[place], "end": ends[place],
                      "committed": consumer.committed(place)}))
"#;

/// The history so far. Cheap to clone: all clones write to one.
#[derive(Clone)]
pub(super) struct Evidence {
    started: Instant,
    events: Arc<Mutex<Vec<Value>>>,
}

/// The value that stands for an input line: the tweet's own id.
pub(super) fn value_of(line: &str) -> Result<String, Failure> {
    let record: Value = serde_json::from_str(line).context("input line")?;
    let id = record["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| Failure::broken("an input line has no id"))
}

/// Stands for what the text says, wherever it is found.
fn digest_of(record: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    record["text"].as_str().unwrap_or_default().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

impl Evidence {
    pub(super) fn new() -> Self {
        Evidence { started: Instant::now(), events: Arc::default() }
    }

    fn add(&self, mut event: Value) {
        event["t_ns"] = json!(self.started.elapsed().as_nanos() as u64);
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    pub(super) fn hand_in(&self, line: &str) -> Result<(), Failure> {
        let record: Value = serde_json::from_str(line).context("input line")?;
        let (value, digest) = (value_of(line)?, digest_of(&record));
        self.add(json!({"f": "hand_in", "process": PRODUCER, "value": value, "digest": digest}));
        Ok(())
    }

    pub(super) fn acknowledge(&self, value: &str, identity: &str) {
        self.add(json!({
            "f": "acknowledge", "process": PRODUCER, "value": value, "outcome": "ok",
            "identity": identity,
        }));
    }

    pub(super) fn crash(&self, process: &str) {
        self.add(json!({"f": "crash", "process": process}));
    }

    /// A full read through a client that shares no code with the product.
    pub(super) fn read_topic(
        &self,
        python: &Path,
        broker: &str,
        run: &Path,
    ) -> Result<(), Failure> {
        let mut command = Command::new(python);
        command.args(["-c", TOPIC_READ, broker, TOPIC, GROUP]);
        let read = run_to_log(&run.join("topic.log"), &mut command, READ_TIME_MAX)?;
        let text = read.expect_success("the foreign read of the topic")?;
        let mut partitions = 0;
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let seen: Value = serde_json::from_str(line).context("foreign read")?;
            if seen["text"].is_null() {
                partitions += 1;
                self.add_end(&seen);
            } else {
                self.add_record(&seen)?;
            }
        }
        let declaration = json!({"topics": {TOPIC: partitions}, "sink": true});
        let head = json!({
            "t_ns": 0, "f": "history", "version": 1, "declaration": declaration,
        });
        self.events.lock().unwrap_or_else(PoisonError::into_inner).insert(0, head);
        Ok(())
    }

    fn add_record(&self, seen: &Value) -> Result<(), Failure> {
        let text = seen["text"].as_str().unwrap_or_default();
        let record: Value = serde_json::from_str(text).context("record of the topic")?;
        self.add(json!({
            "f": "store", "read": FINAL_READ, "value": value_of(text)?,
            "identity": seen["identity"], "digest": digest_of(&record),
            "position": {
                "topic": TOPIC, "partition": seen["partition"], "offset": seen["offset"],
            },
        }));
        Ok(())
    }

    fn add_end(&self, seen: &Value) {
        let partition = &seen["partition"];
        self.add(json!({
            "f": "read_end", "read": FINAL_READ, "topic": TOPIC, "partition": partition,
            "start": seen["start"], "end": seen["end"],
        }));
        if !seen["committed"].is_null() {
            self.add(json!({
                "f": "commit", "group": GROUP,
                "position": {
                    "topic": TOPIC, "partition": partition, "offset": seen["committed"],
                },
            }));
        }
    }

    /// The harness's own look at the index, before any judge is asked.
    pub(super) fn check_documents(
        &self,
        documents: &BTreeMap<String, Value>,
    ) -> Result<String, Failure> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let handed: BTreeSet<&str> = events
            .iter()
            .filter(|event| event["f"] == "hand_in")
            .filter_map(|event| event["value"].as_str())
            .collect();
        let found: BTreeSet<&str> =
            documents.values().filter_map(|document| document["id"].as_str()).collect();
        let missing = handed.difference(&found).count();
        let with_entities = documents
            .values()
            .filter(|document| document["analysis"]["entities"].is_array())
            .count();
        let count = documents.len();
        if missing == 0 && found == handed && count == handed.len() && with_entities == count {
            return Ok(format!("  {count} tweets are in the index, each once, each analysed"));
        }
        let distinct = found.len();
        let handed = handed.len();
        Err(Failure::broken(format!(
            "{handed} tweets were handed in; the index has {count} documents of {distinct} of \
             them, {missing} are missing, {with_entities} documents are analysed"
        )))
    }

    pub(super) fn add_documents(&self, documents: &BTreeMap<String, Value>) {
        for (id, document) in documents {
            self.add(json!({
                "f": "index", "document": id, "identity": id, "value": document["id"],
                "digest": digest_of(document),
            }));
        }
        self.add(json!({"f": "sink_end", "documents": documents.len()}));
        self.add(json!({"f": "end", "final_read": FINAL_READ}));
    }

    pub(super) fn write(&self, file: &Path) -> Result<(), Failure> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        fs::write(file, lines.join("\n") + "\n").context(file.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(id: &str) -> Value {
        json!({"id": id, "text": "t", "analysis": {"entities": []}})
    }

    #[test]
    fn an_index_that_lacks_doubles_or_did_not_analyse_a_tweet_is_noticed() {
        let evidence = Evidence::new();
        for id in ["a", "b"] {
            evidence.hand_in(&json!({"id": id, "text": "t"}).to_string()).unwrap();
        }
        let mut documents: BTreeMap<String, Value> =
            [("1".to_owned(), document("a")), ("2".to_owned(), document("b"))].into();
        assert!(evidence.check_documents(&documents).is_ok());
        documents.insert("3".to_owned(), document("b"));
        assert!(evidence.check_documents(&documents).is_err());
        documents.retain(|id, _| id == "1");
        assert!(evidence.check_documents(&documents).is_err());
        documents.insert("2".to_owned(), json!({"id": "b", "text": "t"}));
        assert!(evidence.check_documents(&documents).is_err());
    }

    #[test]
    fn the_history_has_a_line_for_each_event() {
        let evidence = Evidence::new();
        evidence.hand_in("{\"id\":\"a\",\"text\":\"t\"}").unwrap();
        evidence.acknowledge("a", "0-0-0");
        evidence.crash("broker");
        evidence.add_documents(&[("x".to_owned(), document("a"))].into());
        let events = evidence.events.lock().unwrap();
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["f"].as_str()).collect();
        let expected = ["hand_in", "acknowledge", "crash", "index", "sink_end", "end"];
        assert_eq!(kinds, expected);
        assert_eq!(events[0]["digest"], events[3]["digest"]);
    }
}
