//! Committed group offsets: one keyed entry of the journal each. Those of the groups themselves
//! ([`crate::group::stored`]) stand among them. The layout is drawn in `docs/format/broker.md`.
//!
//! # Invariants
//!
//! - OFFSETS-1: an offset is answered as committed only after it is durable.
//! - OFFSETS-2: an entry belongs to a topic id, not to a name: a topic that was deleted and made
//!   anew starts without offsets.
//! - OFFSETS-3: an entry that cannot be read is damage, never "no offset".
//! - OFFSETS-4: of all that was said yes to for a key, in a transaction or outside, the last
//!   stands, in the order in which it came, and not in that in which transactions end. The order is
//!   kept with the offsets, so that it is the same after a restart. A removal leaves nothing to be
//!   compared with: what a transaction holds by then is committed with it all the same.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lossproof_log::{Log, StateChange, StateKind};

use crate::group::StoredGroup;
use crate::group::stored;
use crate::topics::TopicId;

const VERSION: u8 = 2;
/// The one before 2 had no order.
const VERSION_WITHOUT_ORDER: u8 = 1;

/// As `offset.metadata.max.bytes` of Apache Kafka.
pub(crate) const METADATA_BYTES_MAX: usize = 4_096;

/// Every offset of a group is kept with its id.
pub(crate) const GROUP_ID_BYTES_MAX: usize = 1_024;

/// What a committed offset belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OffsetKey {
    pub(crate) group: String,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: i32,
}

/// What a group has committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// Higher than that of all before (OFFSETS-4).
    pub(crate) order: u64,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) committed_at_ms: i64,
    pub(crate) metadata: String,
}

/// An entry of the journal that passed its checksum and still makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry of the journal cannot be read: written by a newer version, or damaged")]
pub(crate) struct UnreadableEntry;

impl OffsetKey {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(Self::prefix_length(&self.group) + 20);
        out.put_slice(&Self::group_prefix(&self.group));
        out.put_slice(&self.topic_id.0);
        out.put_i32(self.partition);
        out.freeze()
    }

    /// What the keys of a group begin with; no other group's do.
    pub(crate) fn group_prefix(group: &str) -> Bytes {
        let mut out = BytesMut::with_capacity(Self::prefix_length(group));
        // Within GROUP_ID_BYTES_MAX, and what is only asked for within a string of the protocol.
        out.put_u32(group.len() as u32);
        out.put_slice(group.as_bytes());
        out.freeze()
    }

    fn prefix_length(group: &str) -> usize {
        4 + group.len()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, UnreadableEntry> {
        let length = bytes.try_get_u32().map_err(|_| UnreadableEntry)? as usize;
        if bytes.len() != length.saturating_add(20) {
            return Err(UnreadableEntry);
        }
        let group = String::from_utf8(bytes.split_to(length).to_vec());
        let group = group.map_err(|_| UnreadableEntry)?;
        let mut topic_id = [0; 16];
        bytes.try_copy_to_slice(&mut topic_id).map_err(|_| UnreadableEntry)?;
        let partition = bytes.try_get_i32().map_err(|_| UnreadableEntry)?;
        Ok(Self { group, topic_id: TopicId(topic_id), partition })
    }
}

/// More than are given between two starts.
const LEAP: u64 = 1 << 40;
/// More than are given in a millisecond; the orders of all days to come fit into 64 bits by it.
const ORDERS_PER_MS: u64 = 1 << 20;

/// Gives each offset its place among all of them (OFFSETS-4).
#[derive(Debug)]
pub(crate) struct OffsetOrder(AtomicU64);

impl OffsetOrder {
    /// Goes on after what is committed, and after `pending`, which transactions hold. Where some of
    /// them may be hidden by damage, which a later start may not meet, it goes on far above all
    /// that can have been given: also by an earlier such start, hence `hidden_at_ms`, the time of
    /// day.
    pub(crate) fn open(
        log: &Log,
        pending: impl Iterator<Item = Bytes>,
        hidden_at_ms: Option<i64>,
    ) -> Self {
        let committed = log.state(StateKind::Offsets).into_iter();
        let committed = committed.filter(|(key, _)| !stored::is_key(key)).map(|(_, value)| value);
        let orders = committed.chain(pending).filter_map(order_of);
        let last = orders.max().unwrap_or(0);
        let by_day = |ms: i64| (ms.max(0) as u64).saturating_mul(ORDERS_PER_MS);
        let leap = |ms| last.saturating_add(LEAP).max(by_day(ms));
        Self(AtomicU64::new(hidden_at_ms.map_or(last, leap)))
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Looks no further than it must: the commit thread asks.
fn order_of(mut value: Bytes) -> Option<u64> {
    take_order(&mut value).ok()
}

fn take_order(bytes: &mut Bytes) -> Result<u64, UnreadableEntry> {
    match bytes.try_get_u8() {
        Ok(VERSION) => bytes.try_get_u64().map_err(|_| UnreadableEntry),
        Ok(VERSION_WITHOUT_ORDER) => Ok(0),
        _ => Err(UnreadableEntry),
    }
}

/// Whether what stands came after the offset that is to take its place (OFFSETS-4).
pub(crate) fn is_outdated(change: &StateChange, standing: &Bytes) -> bool {
    if change.kind != StateKind::Offsets {
        return false;
    }
    let order = change.value.clone().and_then(order_of);
    order.is_some_and(|order| order_of(standing.clone()).is_some_and(|stands| stands > order))
}

/// The groups that have offsets (OFFSETS-3: all of them, or an error).
pub(crate) fn groups_of(log: &Log) -> Result<BTreeSet<String>, UnreadableEntry> {
    if is_damaged(log) {
        return Err(UnreadableEntry);
    }
    let keys = log.state(StateKind::Offsets).into_iter().map(|(key, _)| key);
    let keys = keys.filter(|key| !stored::is_key(key)).map(OffsetKey::decode);
    keys.map(|key| Ok(key?.group)).collect()
}

/// What is kept of groups (OFFSETS-3: all of it, or an error).
pub(crate) fn stored_groups(log: &Log) -> Result<Vec<(String, StoredGroup)>, UnreadableEntry> {
    if log.state_is_damaged(StateKind::Offsets) {
        return Err(UnreadableEntry);
    }
    let entries = log.state(StateKind::Offsets).into_iter();
    let entries = entries.filter(|(key, _)| stored::is_key(key));
    let read =
        |(key, value): (Bytes, Bytes)| Ok((stored::group_of(&key)?, StoredGroup::decode(value)?));
    entries.map(read).collect()
}

/// What a group has offsets for (OFFSETS-3: all of it, or an error).
pub(crate) fn keys_of(log: &Log, group: &str) -> Result<Vec<OffsetKey>, UnreadableEntry> {
    if is_damaged(log) {
        return Err(UnreadableEntry);
    }
    let prefix = OffsetKey::group_prefix(group);
    let entries = log.state_with_prefix(StateKind::Offsets, &prefix).into_iter();
    entries.map(|(key, _)| OffsetKey::decode(key)).collect()
}

/// Whether a group has offsets.
pub(crate) fn has_offsets(log: &Log, group: &str) -> Result<bool, UnreadableEntry> {
    keys_of(log, group).map(|keys| !keys.is_empty())
}

/// Offsets, or the topics that they belong to, may be missing.
pub(crate) fn is_damaged(log: &Log) -> bool {
    [StateKind::Offsets, StateKind::Metadata].iter().any(|kind| log.state_is_damaged(*kind))
}

impl CommittedOffset {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(29 + self.metadata.len());
        out.put_u8(VERSION);
        out.put_u64(self.order);
        out.put_i64(self.offset);
        out.put_i32(self.leader_epoch);
        out.put_i64(self.committed_at_ms);
        out.put_slice(self.metadata.as_bytes());
        out.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, UnreadableEntry> {
        let order = take_order(&mut bytes)?;
        let offset = bytes.try_get_i64().map_err(|_| UnreadableEntry)?;
        let leader_epoch = bytes.try_get_i32().map_err(|_| UnreadableEntry)?;
        let committed_at_ms = bytes.try_get_i64().map_err(|_| UnreadableEntry)?;
        let metadata = String::from_utf8(bytes.to_vec()).map_err(|_| UnreadableEntry)?;
        Ok(Self { order, offset, leader_epoch, committed_at_ms, metadata })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Version 2, drawn in `docs/format/broker.md`: an offset that is taken for another one skips
    /// records, or has them read again.
    #[test]
    fn an_offset_stands_in_the_journal_as_it_is_drawn() {
        let key = OffsetKey {
            group: "group".into(),
            topic_id: TopicId(*b"0123456789abcdef"),
            partition: 0x1112_1314,
        };
        let key_bytes = [
            &b"\0\0\0\x05"[..], // length of the group's name
            b"group",
            b"0123456789abcdef", // topic id
            b"\x11\x12\x13\x14", // partition
        ];
        let key_bytes = Bytes::from(key_bytes.concat());
        assert_eq!(key.encode(), key_bytes);
        assert_eq!(OffsetKey::decode(key_bytes), Ok(key));
        let value = CommittedOffset {
            order: 0x2122_2324_2526_2728,
            offset: 0x3132_3334_3536_3738,
            leader_epoch: 0x4142_4344,
            committed_at_ms: 0x5152_5354_5556_5758,
            metadata: "metadata".into(),
        };
        let value_bytes = [
            &[2][..],                            // version
            b"\x21\x22\x23\x24\x25\x26\x27\x28", // order
            b"\x31\x32\x33\x34\x35\x36\x37\x38", // offset
            b"\x41\x42\x43\x44",                 // leader epoch
            b"\x51\x52\x53\x54\x55\x56\x57\x58", // committed at, ms
            b"metadata",
        ];
        let value_bytes = Bytes::from(value_bytes.concat());
        assert_eq!(value.encode(), value_bytes);
        assert_eq!(CommittedOffset::decode(value_bytes), Ok(value));
    }

    /// Directories of before there was one have it still: it comes before all that have an order.
    #[test]
    fn an_offset_without_an_order_is_read_and_gives_way() {
        let bytes = [
            &[1][..],                            // version
            b"\x31\x32\x33\x34\x35\x36\x37\x38", // offset
            b"\x41\x42\x43\x44",                 // leader epoch
            b"\x51\x52\x53\x54\x55\x56\x57\x58", // committed at, ms
            b"metadata",
        ];
        let bytes = Bytes::from(bytes.concat());
        let value = CommittedOffset {
            order: 0,
            offset: 0x3132_3334_3536_3738,
            leader_epoch: 0x4142_4344,
            committed_at_ms: 0x5152_5354_5556_5758,
            metadata: "metadata".into(),
        };
        assert_eq!(CommittedOffset::decode(bytes.clone()), Ok(value.clone()));
        let ordered = CommittedOffset { order: 1, ..value }.encode();
        let change = |value: &Bytes| StateChange {
            kind: StateKind::Offsets,
            key: Bytes::new(),
            value: Some(value.clone()),
        };
        assert!(is_outdated(&change(&bytes), &ordered), "OFFSETS-4");
        assert!(!is_outdated(&change(&ordered), &bytes), "OFFSETS-4");
    }

    #[test]
    fn an_offset_of_another_version_is_unreadable() {
        // OFFSETS-3
        for version in [0, 3] {
            let bytes = [&[version][..], &[0; 28]].concat();
            assert_eq!(CommittedOffset::decode(bytes.into()), Err(UnreadableEntry), "{version}");
        }
    }

    proptest! {
        #[test]
        fn keys_and_values_survive(group in ".{0,40}", id: [u8; 16], partition: i32, order: u64,
                                   offset: i64, leader_epoch: i32, committed_at_ms: i64,
                                   metadata in ".{0,40}") {
            let key = OffsetKey { group: group.clone(), topic_id: TopicId(id), partition };
            let bytes = key.encode();
            prop_assert!(bytes.starts_with(&OffsetKey::group_prefix(&group)));
            prop_assert_eq!(OffsetKey::decode(bytes), Ok(key));
            let value = CommittedOffset { order, offset, leader_epoch, committed_at_ms, metadata };
            prop_assert_eq!(CommittedOffset::decode(value.encode()), Ok(value));
        }

        /// OFFSETS-3.
        #[test]
        fn no_bytes_make_a_panic(bytes: Vec<u8>) {
            let _ = OffsetKey::decode(Bytes::from(bytes.clone()));
            let _ = CommittedOffset::decode(Bytes::from(bytes));
        }
    }
}
