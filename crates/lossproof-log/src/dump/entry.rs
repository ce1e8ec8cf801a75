//! Entries of frames, in words.

use bytes::Bytes;
use lossproof_wire::batch::{self as wire_batch, Record};

use super::line::Line;
use crate::batch::BatchHeader;
use crate::effect::{Effect, flush_code};
use crate::frame::{Entry, EntryKind};
use crate::snapshot::{ColdFact, Fact, LogFact, PartitionFact};
use crate::transactions::Step;

const FLUSHES: [&str; 3] = ["commit", "every-second", "page-cache"];

fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Batch => "batch",
        EntryKind::Metadata => "metadata",
        EntryKind::Offsets => "offsets",
        EntryKind::InputPosition => "input-position",
        EntryKind::Cursor => "cursor",
        EntryKind::Receipt => "receipt",
        EntryKind::Transactions => "transactions",
        EntryKind::Checkpoint => "checkpoint",
    }
}

/// An entry and what its payload says; `payload` only where it verifies.
pub(super) fn entry_line(entry: &Entry, payload: Option<&Bytes>) -> Line {
    let what = if entry.kind == EntryKind::Batch { "batch" } else { "entry" };
    let mut line = Line::new(what);
    if entry.kind != EntryKind::Batch {
        line = line.text("kind", kind_name(entry.kind));
    }
    line = line.count("bytes", u64::from(entry.length)).flag("verifies", payload.is_some());
    if entry.kind == EntryKind::Batch {
        line = line
            .count("partition", entry.partition.0)
            .number("base_offset", entry.base_offset)
            .number("last_offset", entry.last_offset)
            .number("max_timestamp", entry.max_timestamp);
    }
    if let Some(identity) = entry.identity {
        line = line
            .id("session", identity.session)
            .count("lane", u64::from(identity.lane))
            .count("first_seq", identity.first_seq);
    }
    let Some(payload) = payload else { return line };
    if entry.kind == EntryKind::Checkpoint {
        return match Fact::decode(entry, payload) {
            Some(fact) => fact_line(line, entry, fact),
            None => line.text("what", "unknown"),
        };
    }
    match Effect::decode(entry, payload) {
        Some((Effect::Batch(_), Some(header))) => batch_line(line, &header, payload),
        Some((effect, _)) => effect_line(line, entry, &effect),
        None => line.text("what", "unknown"),
    }
}

fn batch_line(mut line: Line, header: &BatchHeader, payload: &Bytes) -> Line {
    line = line.number("leader_epoch", header.leader_epoch);
    if header.is_idempotent() {
        line = line
            .number("producer_id", header.producer_id)
            .number("producer_epoch", header.producer_epoch)
            .number("base_sequence", header.base_sequence);
    }
    if let Some(part) = header.part {
        let step = match part.step {
            Step::Records => "records",
            Step::Commit => "commit",
            Step::Abort => "abort",
        };
        line = line.text("transaction", step);
    }
    let Ok(parsed) = wire_batch::BatchHeader::parse(payload) else { return line };
    let compression = parsed.attributes.compression();
    line.number("records", parsed.record_count)
        .text("compression", compression.map_or_else(|it| it.to_string(), |it| it.to_string()))
        .flag("batch_crc", parsed.verify_checksum(payload).is_ok())
}

fn effect_line(line: Line, entry: &Entry, effect: &Effect) -> Line {
    let partition =
        |line: Line, what| line.text("what", what).count("partition", entry.partition.0);
    match effect {
        Effect::Create { topic_id, index, flush, .. } => partition(line, "create")
            .hex("topic_id", topic_id)
            .number("index", *index)
            .text("flush", FLUSHES[usize::from(flush_code(*flush))]),
        Effect::Delete { .. } => partition(line, "delete"),
        Effect::LogStart { offset, .. } => partition(line, "log-start").number("offset", *offset),
        Effect::Flush { flush, .. } => {
            partition(line, "flush").text("flush", FLUSHES[usize::from(flush_code(*flush))])
        }
        Effect::EpochRaise => line.text("what", "epoch-raise"),
        Effect::ProducerIds(ids) => line
            .text("what", "producer-ids")
            .number("first", ids.first)
            .count("count", u64::from(ids.count)),
        Effect::AcceptOffsets { range, end, .. } => partition(line, "accept-offsets")
            .number("first_offset", range.first)
            .number("last_offset", range.last)
            .flag("closed", end.is_none()),
        Effect::AcceptState { kind, .. } => {
            line.text("what", "accept-state").text("state", format!("{kind:?}"))
        }
        Effect::State { key, value, .. } => match value {
            Some(value) => line.text("what", "set").bytes("key", key).bytes("value", value),
            None => line.text("what", "remove").bytes("key", key),
        },
        Effect::Batch(_) => line,
    }
}

fn fact_line(line: Line, entry: &Entry, fact: Fact) -> Line {
    let partition =
        |line: Line, what| line.text("what", what).count("partition", entry.partition.0);
    match fact {
        Fact::Log(LogFact { running_ms, next_producer_id, highest_id }) => line
            .text("what", "log")
            .count("running_ms", running_ms)
            .number("next_producer_id", next_producer_id)
            .count("highest_partition", highest_id.0),
        Fact::Cold(ColdFact { sequence, incarnation, bytes }) => line
            .text("what", "cold-file")
            .count("sequence", sequence)
            .id("incarnation", incarnation)
            .count("length", bytes),
        Fact::Partition(_, fact) => partition_line(partition(line, "partition"), &fact),
        Fact::Index(_, entries) => {
            let line = partition(line, "index").count("entries", entries.len() as u64);
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return line };
            line.number("first_offset", first.base_offset).number("last_offset", last.last_offset())
        }
        Fact::Compacted(_, compacted) => partition(line, "compacted")
            .number("below_offset", compacted.end)
            .number("settled_below_offset", compacted.settled)
            .number("settled_ms", compacted.settled_ms)
            .flag("tombstones", compacted.tombstones),
        Fact::Producers(_, producers) => {
            partition(line, "producers").count("producers", producers.len() as u64)
        }
        Fact::Transactions(_, transactions) => partition(line, "transactions")
            .count("open", transactions.open.len() as u64)
            .count("aborted", transactions.aborted.len() as u64)
            .count("doubtful", transactions.doubtful.len() as u64),
        Fact::StateDamaged(kind, _) => {
            line.text("what", "state-damaged").text("state", format!("{kind:?}"))
        }
        Fact::StateAccepted(kind) => {
            line.text("what", "state-accepted").text("state", format!("{kind:?}"))
        }
        Fact::Accepted(_, ranges) => {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            partition(line, "accepted").text("offsets", ranges.join(", "))
        }
        Fact::State { key, value, .. } => {
            line.text("what", "set").bytes("key", &key).bytes("value", &value)
        }
    }
}

fn partition_line(mut line: Line, fact: &PartitionFact) -> Line {
    line = line
        .hex("topic_id", &fact.topic_id)
        .number("index", fact.index)
        .text("flush", FLUSHES[usize::from(flush_code(fact.flush))])
        .number("log_start", fact.log_start)
        .number("log_end", fact.next_offset)
        .number("leader_epoch", fact.epochs.last().map_or(0, |present| present.epoch))
        .flag("suspect", fact.suspect);
    if let Some(closed) = fact.closed {
        line = line.text("closed", closed.to_string());
    }
    let damaged: Vec<String> = fact.damaged.iter().map(ToString::to_string).collect();
    if damaged.is_empty() { line } else { line.text("damaged", damaged.join(", ")) }
}

pub(super) fn record_line(record: &Record) -> Line {
    let mut line =
        Line::new("record").number("offset", record.offset).number("timestamp", record.timestamp);
    for (name, bytes) in [("key", &record.key), ("value", &record.value)] {
        if let Some(bytes) = bytes {
            line = line.bytes(name, bytes);
        }
    }
    if let Some(value) = &record.value {
        line = line.count("value_bytes", value.len() as u64);
    }
    line.headers(&record.headers)
}
