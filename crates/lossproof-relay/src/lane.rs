//! How lanes, counts, cursors and parked records are written down in the journal.

use bytes::Bytes;
use lossproof_audit::receipt::LaneId;
use lossproof_log::{PartitionId, StateChange, StateKind};
use serde::{Deserialize, Serialize};

const LANE: &[u8] = b"lane/";
const COUNT: &[u8] = b"count/";
const PARKED: &[u8] = b"parked/";

/// What is journaled of a lane before its first record counts as accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LaneEntry {
    pub(crate) session: u64,
    pub(crate) lane: u32,
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

impl LaneEntry {
    pub(crate) fn lane_id(&self) -> LaneId {
        LaneId { session: self.session, lane: self.lane }
    }

    pub(crate) fn change(&self, id: PartitionId) -> StateChange {
        let value = serde_json::to_vec(self).expect("numbers and a string always encode");
        StateChange { kind: StateKind::Metadata, key: lane_key(id), value: Some(value.into()) }
    }
}

fn with_prefix(prefix: &[u8], rest: &[u8]) -> Bytes {
    [prefix, rest].concat().into()
}

pub(crate) fn lane_key(id: PartitionId) -> Bytes {
    with_prefix(LANE, &id.0.to_be_bytes())
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

pub(crate) fn count_change(topic: &str, count: i32) -> StateChange {
    let key = with_prefix(COUNT, topic.as_bytes());
    StateChange { kind: StateKind::Metadata, key, value: Some(count.to_string().into()) }
}

fn parked_key(id: PartitionId, seq: u64) -> Bytes {
    with_prefix(PARKED, &[id.0.to_be_bytes(), seq.to_be_bytes()].concat())
}

pub(crate) fn parked_change(id: PartitionId, seq: u64, reason: &str) -> StateChange {
    let value = Some(Bytes::copy_from_slice(reason.as_bytes()));
    StateChange { kind: StateKind::Metadata, key: parked_key(id, seq), value }
}

/// One entry of the journal's metadata.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Entry {
    Lane(PartitionId, LaneEntry),
    Count(String, i32),
    Parked(PartitionId, u64),
}

impl Entry {
    /// The error names what it is that cannot be read.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        if let Some(id) = key.strip_prefix(LANE) {
            let lane = serde_json::from_slice(value).ok();
            let entry = number(id).map(PartitionId).zip(lane);
            entry.map(|(id, lane)| Self::Lane(id, lane)).ok_or("lanes")
        } else if let Some(topic) = key.strip_prefix(COUNT) {
            let parse = || {
                let count = std::str::from_utf8(value).ok()?.parse().ok()?;
                let topic = std::str::from_utf8(topic).ok()?.to_owned();
                (count > 0).then_some(Self::Count(topic, count))
            };
            parse().ok_or("partition counts")
        } else if let Some(rest) = key.strip_prefix(PARKED) {
            let parse = || {
                let id = PartitionId(number(rest.get(..8)?)?);
                Some(Self::Parked(id, number(rest.get(8..)?)?))
            };
            parse().ok_or("parked records")
        } else {
            Err("entries")
        }
    }
}

/// Everything below `next` is settled.
pub(crate) fn cursor_change(id: PartitionId, next: u64) -> StateChange {
    let key = Bytes::copy_from_slice(&id.0.to_be_bytes());
    let value = Bytes::copy_from_slice(&next.to_be_bytes());
    StateChange { kind: StateKind::Cursor, key, value: Some(value) }
}

pub(crate) fn parse_cursor(key: &[u8], value: &[u8]) -> Option<(PartitionId, u64)> {
    Some((PartitionId(number(key)?), number(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_written_and_others_are_refused() {
        let id = PartitionId(7);
        let lane = LaneEntry { session: u64::MAX, lane: 3, topic: "news".into(), partition: 2 };
        let written = [
            (lane.change(id), Entry::Lane(id, lane.clone())),
            (count_change("news", 4), Entry::Count("news".into(), 4)),
            (parked_change(id, 9, "too large"), Entry::Parked(id, 9)),
        ];
        for (change, entry) in written {
            let value = change.value.unwrap();
            assert_eq!(Entry::decode(&change.key, &value), Ok(entry));
            let cut = &change.key[..change.key.len() - 1];
            assert_ne!(Entry::decode(cut, b"0").ok(), Entry::decode(&change.key, &value).ok());
        }
        assert_eq!(Entry::decode(b"count/news", b"0"), Err("partition counts"));
        assert_eq!(Entry::decode(b"else", b""), Err("entries"));
        let cursor = cursor_change(id, 5);
        assert_eq!(parse_cursor(&cursor.key, &cursor.value.unwrap()), Some((id, 5)));
    }
}
