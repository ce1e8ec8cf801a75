//! Reads the evidence from outside, at any time: the receipts topic, the audited topics, the
//! committed offsets; and gives the verdict.
//!
//! # Invariants
//! - `AUDIT-1`: whatever cannot be read is unknown: no error ends in "complete".
//! - `AUDIT-2`: committed offsets are read before the last receipts, and topics after them: what
//!   was committed by then has its receipt cut, and what was acknowledged by then is in the topic.
//!   Sinks come last: what the receipts say is confirmed must be there.
//! - `AUDIT-3`: it writes nothing to the cluster, and joins no group.
//! - `AUDIT-4`: leases are judged by the time up to which receipts were read: a session is not
//!   called crashed for being unheard while the auditor reads something else.
//! - `AUDIT-5`: a partition of the receipts topic that does not begin at offset 0 has lost
//!   receipts, and nobody can tell whose: the audit is unknown from then on.

mod trace;

pub use trace::{Copy, ParseQueryError, Query, StageReached, Trace};

use core::convert::Infallible;
use std::collections::{BTreeMap, BTreeSet};

use lossproof_client::{Admin, ConsumeError, Record, TopicPartition};
use lossproof_env::Clock;

use crate::identity::{Identity, RecordId};
use crate::ledger::{Ledger, Manifest, VerdictOptions, identity_of};
use crate::receipt::{Place, Receipt};
use crate::report::RECEIPTS_TOPIC;
use crate::verdict::Verdict;

/// What is to be audited, and what the caller knows that the cluster does not.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Topics beside those that the receipts name.
    pub topics: Vec<String>,
    /// Groups beside those that have reported.
    pub groups: Vec<String>,
    pub pipelines: Vec<PlannedPipeline>,
    /// Field of a JSON record (dots for nested ones) that holds the name of a message in the
    /// manifest.
    pub name_field: Option<String>,
    pub manifest: Option<Manifest>,
    /// See [`VerdictOptions::all_ended`].
    pub all_ended: bool,
}

/// A pipeline that may not have begun yet: its group is judged on its topic all the same.
#[derive(Clone, Debug)]
pub struct PlannedPipeline {
    pub group: String,
    pub topic: String,
}

/// The documents of one sink that was read in full, each as often as it is there.
#[derive(Clone, Debug, Default)]
pub struct SinkRead {
    /// The group whose pipeline writes to it.
    pub group: String,
    /// Ids as the pipeline gives them: an identity, or topic-partition-offset.
    pub ids: Vec<String>,
    /// Those of them that the query means by what their documents hold.
    pub found: Vec<String>,
}

/// The evidence, and the verdict on it.
#[derive(Debug)]
pub struct Audit {
    pub ledger: Ledger,
    pub verdict: Verdict,
    /// Records that [`Query::Field`] has found.
    found: BTreeSet<Identity>,
}

/// Reads everything and judges it. `query` is looked for on the way.
pub fn audit(admin: &mut dyn Admin, clock: &dyn Clock, plan: Plan, query: Option<&Query>) -> Audit {
    let Ok(audit) = audit_with_sinks::<Infallible>(admin, clock, plan, query, || Ok(Vec::new()));
    audit
}

/// The same, with sinks: `read_sinks` is called when everything else was read. Where a sink cannot
/// be read in full there is no verdict.
pub fn audit_with_sinks<E>(
    admin: &mut dyn Admin,
    clock: &dyn Clock,
    plan: Plan,
    query: Option<&Query>,
    read_sinks: impl FnOnce() -> Result<Vec<SinkRead>, E>,
) -> Result<Audit, E> {
    let all_ended = plan.all_ended;
    let mut auditor = Auditor {
        admin,
        ledger: Ledger::new(),
        receipts_read: BTreeMap::new(),
        name_field: plan.name_field,
        query,
        found: BTreeSet::new(),
    };
    if let Some(manifest) = plan.manifest {
        auditor.ledger.set_manifest(manifest);
    }
    plan.groups.iter().for_each(|group| auditor.ledger.add_group(group));
    for pipeline in &plan.pipelines {
        auditor.ledger.add_group_topic(&pipeline.group, &pipeline.topic);
    }
    // AUDIT-2: the first reading is to learn of groups and topics, the second to judge by.
    auditor.read_receipts();
    let topics = auditor.topics(&plan.topics);
    auditor.read_committed(&topics);
    // AUDIT-4: what was in the topic by now is read below, however long that takes.
    let heard_until_ms = clock.wall_ms();
    auditor.read_receipts();
    for topic in auditor.topics(&plan.topics) {
        auditor.read_topic(&topic, Reading::Audited);
    }
    let named = plan.topics.iter().chain(plan.pipelines.iter().map(|pipeline| &pipeline.topic));
    named.for_each(|topic| auditor.ledger.expect_topic(topic));
    for topic in auditor.ledger.dead_letter_topics() {
        auditor.read_topic(&topic, Reading::DeadLetters);
    }
    auditor.take_sinks(&read_sinks()?);
    let Auditor { ledger, found, .. } = auditor;
    let now_ms = clock.wall_ms();
    let verdict = ledger.verdict(&VerdictOptions { now_ms, heard_until_ms, all_ended });
    Ok(Audit { ledger, verdict, found })
}

/// What a topic is read for; one that holds dead letters may be audited too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    Audited,
    DeadLetters,
}

struct Auditor<'a> {
    admin: &'a mut dyn Admin,
    ledger: Ledger,
    /// Next offset to be read of each partition of the receipts topic.
    receipts_read: BTreeMap<i32, i64>,
    name_field: Option<String>,
    query: Option<&'a Query>,
    found: BTreeSet<Identity>,
}

impl Auditor<'_> {
    fn read_receipts(&mut self) {
        // AUDIT-1
        if let Err(error) = self.try_read_receipts() {
            self.ledger.apply_unreadable(format!("topic {RECEIPTS_TOPIC}: {error}"));
        }
    }

    fn try_read_receipts(&mut self) -> Result<(), ConsumeError> {
        let Some(partitions) = self.admin.partitions(RECEIPTS_TOPIC)? else {
            return Ok(());
        };
        for partition in partitions {
            let place = TopicPartition { topic: RECEIPTS_TOPIC.to_owned(), partition };
            let watermarks = self.admin.watermarks(&place)?;
            if watermarks.low > 0 {
                self.ledger.apply_unreadable(receipts_removed(partition, watermarks.low));
            }
            let from = self.receipts_read.get(&partition).copied().unwrap_or(watermarks.low);
            if from >= watermarks.high {
                continue;
            }
            let ledger = &mut self.ledger;
            self.admin.read(&place, from, watermarks.high, &mut |record| {
                apply_receipt(ledger, &record);
            })?;
            self.receipts_read.insert(partition, watermarks.high);
        }
        Ok(())
    }

    /// Named by the receipts or by the plan; internal ones are not audited.
    fn topics(&self, named: &[String]) -> BTreeSet<String> {
        let mut topics = self.ledger.topics();
        topics.extend(named.iter().cloned());
        topics.retain(|topic| !topic.is_empty() && !is_internal(topic));
        topics
    }

    fn read_committed(&mut self, topics: &BTreeSet<String>) {
        let mut places = Vec::new();
        let mut missing = None;
        for topic in topics {
            let place = |partition| TopicPartition { topic: topic.clone(), partition };
            match self.admin.partitions(topic) {
                Ok(partitions) => places.extend(partitions.into_iter().flatten().map(place)),
                Err(error) => missing = Some(format!("partitions of topic {topic}: {error}")),
            }
        }
        for group in self.ledger.groups() {
            // AUDIT-1
            if let Some(why) = &missing {
                self.ledger.committed_is_unreadable(&group, why.clone());
            }
            match self.admin.committed(&group, &places) {
                Ok(committed) => self.apply_committed(&group, committed),
                Err(error) => {
                    let why = format!("committed offsets of group {group}: {error}");
                    self.ledger.committed_is_unreadable(&group, why);
                }
            }
        }
    }

    fn apply_committed(&mut self, group: &str, committed: Vec<(TopicPartition, Option<i64>)>) {
        for (place, offset) in committed {
            if let Some(offset) = offset.and_then(|offset| u64::try_from(offset).ok()) {
                let place = Place::new(place.topic, place.partition);
                self.ledger.apply_committed(group, &place, offset);
            }
        }
    }

    /// AUDIT-1. One partition that is refused does not hide the others.
    fn read_topic(&mut self, topic: &str, reading: Reading) {
        let partitions = match self.admin.partitions(topic) {
            Ok(Some(partitions)) => partitions,
            Ok(None) => return self.ledger.topic_is_missing(topic),
            Err(error) => return self.ledger.topic_is_unreadable(topic, error.to_string()),
        };
        let mut unread = Vec::new();
        for partition in partitions {
            let Err(error) = self.read_partition(topic, partition, reading) else { continue };
            unread.push(format!("partition {partition}: {error}"));
            if matches!(error, ConsumeError::Unreachable { .. }) {
                break; // Each further question would wait for its own time-out.
            }
        }
        if !unread.is_empty() {
            self.ledger.topic_is_unreadable(topic, unread.join("; "));
        }
    }

    fn read_partition(
        &mut self,
        topic: &str,
        partition: i32,
        reading: Reading,
    ) -> Result<(), ConsumeError> {
        let place = TopicPartition { topic: topic.to_owned(), partition };
        let watermarks = self.admin.watermarks(&place)?;
        let Self { admin, ledger, name_field, query, found, .. } = self;
        if watermarks.low < watermarks.high {
            admin.read(&place, watermarks.low, watermarks.high, &mut |record| {
                if reading == Reading::DeadLetters {
                    return ledger.observe_dead_letter(&record);
                }
                ledger.observe(&record);
                if let Some(name) = name_field.as_ref().and_then(|f| field_of(&record, f)) {
                    ledger.observe_name(&name, identity_of(&record));
                }
                if query.is_some_and(|query| query.matches(&record)) {
                    found.insert(identity_of(&record));
                }
            })?;
        }
        ledger.topic_was_read(&Place::new(topic, partition), watermarks);
        Ok(())
    }

    fn take_sinks(&mut self, sinks: &[SinkRead]) {
        for sink in sinks {
            for id in &sink.ids {
                match parse_identity(id) {
                    Some(identity) => self.ledger.apply_sink_document(&sink.group, &identity),
                    None => {
                        self.ledger.remark(format!("document {id} in the sink is none of ours"));
                    }
                }
            }
            self.found.extend(sink.found.iter().filter_map(|id| parse_identity(id)));
            self.ledger.sink_was_read(&sink.group);
        }
    }
}

fn apply_receipt(ledger: &mut Ledger, record: &Record) {
    let decoded = record.value.as_deref().map(Receipt::decode);
    match decoded {
        Some(Ok(receipt)) => ledger.apply(&receipt),
        Some(Err(error)) => {
            let (partition, offset) = (record.partition, record.offset);
            ledger.apply_unreadable(format!("receipt at {partition}-{offset}: {error}"));
        }
        None => {}
    }
}

/// AUDIT-5
fn receipts_removed(partition: i32, low: i64) -> String {
    format!(
        "topic {RECEIPTS_TOPIC}, partition {partition}: the receipts below offset {low} were \
         removed; set retention.ms=-1, retention.bytes=-1 and cleanup.policy=delete there"
    )
}

/// Topics of clusters and of lossproof itself.
fn is_internal(topic: &str) -> bool {
    topic.starts_with("__") || topic.starts_with("_lossproof.")
}

/// SESSION-LANE-SEQ, or TOPIC-PARTITION-OFFSET.
pub fn parse_identity(text: &str) -> Option<Identity> {
    if let Ok(id) = text.parse::<RecordId>() {
        return Some(Identity::Stamped(id));
    }
    let mut parts = text.rsplitn(3, '-');
    let offset = parts.next()?.parse().ok()?;
    let partition = parts.next()?.parse().ok()?;
    let topic = parts.next().filter(|topic| !topic.is_empty())?.to_owned();
    Some(Identity::Natural { topic, partition, offset })
}

/// The value of a field of a JSON record, as text; `a.b` goes into nested objects.
pub(crate) fn field_of(record: &Record, field: &str) -> Option<String> {
    value_of(record.value.as_deref()?, field)
}

/// The same of any JSON text.
fn value_of(json: &[u8], field: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(json).ok()?;
    let value = match json.get(field) {
        Some(value) => value,
        None => field.split('.').try_fold(&json, |value, part| value.get(part))?,
    };
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    }
}
