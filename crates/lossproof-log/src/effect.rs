//! What an entry of the journal means: the one form in which commits are applied and replayed.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::BatchHeader;
use crate::commit::{FlushPolicy, LaneRange, PartitionId, ProducerIds, StateKind};
use crate::error::OffsetRange;
use crate::frame::{Entry, EntryKind, Item, Payload, get_i32, get_i64, get_u32};
use crate::state::Places;
use crate::transactions::{Part, Step};

#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Create {
        id: PartitionId,
        topic_id: [u8; 16],
        index: i32,
        flush: FlushPolicy,
    },
    Delete {
        id: PartitionId,
    },
    LogStart {
        id: PartitionId,
        offset: i64,
    },
    Flush {
        id: PartitionId,
        flush: FlushPolicy,
    },
    /// Every partition's leader epoch goes up by one: an unclean start.
    EpochRaise,
    ProducerIds(ProducerIds),
    /// These offsets are given up: they cannot be read.
    AcceptOffsets {
        id: PartitionId,
        range: OffsetRange,
        /// Where the log went on then; `None` where that stays unknown (ACCEPT-5).
        end: Option<i64>,
    },
    /// What is missing of this kind is given up, as far as it was known to be (ACCEPT-5).
    AcceptState {
        kind: StateKind,
        missing: Vec<Places>,
    },
    Batch(BatchPlace),
    State {
        kind: StateKind,
        key: Bytes,
        value: Option<Bytes>,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BatchPlace {
    pub(crate) id: PartitionId,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    /// Length of the batch.
    pub(crate) bytes: u32,
    /// What it is to its producer's transaction.
    pub(crate) part: Option<Part>,
}

impl BatchPlace {
    pub(crate) fn is_marker(&self) -> bool {
        self.part.is_some_and(|part| part.step != Step::Records)
    }
}

const TAG_CREATE: u8 = 1;
const TAG_DELETE: u8 = 2;
const TAG_EPOCH_RAISE: u8 = 3;
const TAG_PRODUCER_IDS: u8 = 4;
const TAG_STATE: u8 = 5;
const TAG_LOG_START: u8 = 7;
const TAG_FLUSH: u8 = 6;
const TAG_ACCEPT_OFFSETS: u8 = 8;
const TAG_ACCEPT_STATE: u8 = 9;

/// In the place of a log end.
const END_UNKNOWN: i64 = -1;
/// Length of an entry that was written before it had a place for that.
const ACCEPT_WITHOUT_END: usize = 17;

fn entry_kind(kind: StateKind) -> EntryKind {
    match kind {
        StateKind::Metadata => EntryKind::Metadata,
        StateKind::Offsets => EntryKind::Offsets,
        StateKind::InputPosition => EntryKind::InputPosition,
        StateKind::Cursor => EntryKind::Cursor,
        StateKind::Receipt => EntryKind::Receipt,
        StateKind::Transactions => EntryKind::Transactions,
    }
}

/// The keyed kind that an entry may change; `None` for batches.
pub(crate) fn state_kind(kind: EntryKind) -> Option<StateKind> {
    match kind {
        EntryKind::Batch | EntryKind::Checkpoint => None,
        EntryKind::Metadata => Some(StateKind::Metadata),
        EntryKind::Offsets => Some(StateKind::Offsets),
        EntryKind::InputPosition => Some(StateKind::InputPosition),
        EntryKind::Cursor => Some(StateKind::Cursor),
        EntryKind::Receipt => Some(StateKind::Receipt),
        EntryKind::Transactions => Some(StateKind::Transactions),
    }
}

impl Effect {
    /// The one partition that it changes. (Epochs are raised while nobody is there yet.)
    pub(crate) fn partition(&self) -> Option<PartitionId> {
        match self {
            Self::Create { id, .. }
            | Self::Delete { id }
            | Self::LogStart { id, .. }
            | Self::Flush { id, .. }
            | Self::AcceptOffsets { id, .. } => Some(*id),
            Self::Batch(batch) => Some(batch.id),
            Self::EpochRaise
            | Self::ProducerIds(_)
            | Self::AcceptState { .. }
            | Self::State { .. } => None,
        }
    }

    /// The partition of which offsets are given up.
    pub(crate) fn accepts_in(&self) -> Option<PartitionId> {
        match self {
            Self::AcceptOffsets { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The entry of a metadata or keyed effect. Batches are made by [`batch_item`].
    pub(crate) fn to_item(&self) -> Item {
        let mut payload = BytesMut::new();
        let mut entry = Entry::plain(EntryKind::Metadata);
        match self {
            Self::Create { id, topic_id, index, flush } => {
                entry.partition = *id;
                payload.put_u8(TAG_CREATE);
                payload.put_slice(topic_id);
                payload.put_i32(*index);
                payload.put_u8(flush_code(*flush));
            }
            Self::Delete { id } => {
                entry.partition = *id;
                payload.put_u8(TAG_DELETE);
            }
            Self::LogStart { id, offset } => {
                entry.partition = *id;
                payload.put_u8(TAG_LOG_START);
                payload.put_i64(*offset);
            }
            Self::Flush { id, flush } => {
                entry.partition = *id;
                payload.put_u8(TAG_FLUSH);
                payload.put_u8(flush_code(*flush));
            }
            Self::EpochRaise => payload.put_u8(TAG_EPOCH_RAISE),
            Self::ProducerIds(ids) => {
                payload.put_u8(TAG_PRODUCER_IDS);
                payload.put_i64(ids.first);
                payload.put_u32(ids.count);
            }
            Self::AcceptOffsets { id, range, end } => {
                entry.partition = *id;
                payload.put_u8(TAG_ACCEPT_OFFSETS);
                payload.put_i64(range.first);
                payload.put_i64(range.last);
                payload.put_i64(end.unwrap_or(END_UNKNOWN));
            }
            Self::AcceptState { kind, missing } => {
                payload.put_u8(TAG_ACCEPT_STATE);
                payload.put_u8(kind.code());
                Places::put_all(missing, &mut payload);
            }
            Self::State { kind, key, value } => {
                entry.kind = entry_kind(*kind);
                entry.removed = value.is_none();
                payload.put_u8(TAG_STATE);
                payload.put_u32(key.len() as u32);
                payload.put_slice(key);
                payload.put_slice(value.as_deref().unwrap_or_default());
            }
            Self::Batch(_) => unreachable!("batches are made by batch_item"),
        }
        Item { entry, payload: Payload::Plain(payload.freeze()) }
    }

    /// What a verified entry means, and a batch's header with it.
    pub(crate) fn decode(entry: &Entry, payload: &Bytes) -> Option<(Self, Option<BatchHeader>)> {
        if entry.kind == EntryKind::Batch {
            let header = BatchHeader::parse(payload).ok()?;
            let last = header.base_offset.checked_add(i64::from(header.last_offset_delta))?;
            let place = BatchPlace {
                id: entry.partition,
                base_offset: entry.base_offset,
                last_offset: entry.last_offset,
                max_timestamp: entry.max_timestamp,
                bytes: entry.length,
                part: header.part,
            };
            let same = header.base_offset == entry.base_offset && last == entry.last_offset;
            return same.then_some((Self::Batch(place), Some(header)));
        }
        let kind = state_kind(entry.kind)?;
        let effect = match *payload.first()? {
            TAG_STATE => {
                let value_at = 5_usize.checked_add(get_u32(payload, 1)? as usize)?;
                if value_at > payload.len() {
                    return None;
                }
                let value = (!entry.removed).then(|| payload.slice(value_at..));
                Self::State { kind, key: payload.slice(5..value_at), value }
            }
            tag if kind == StateKind::Metadata => decode_metadata(tag, entry.partition, payload)?,
            _ => return None,
        };
        Some((effect, None))
    }
}

fn decode_metadata(tag: u8, id: PartitionId, payload: &[u8]) -> Option<Effect> {
    Some(match tag {
        TAG_CREATE => Effect::Create {
            id,
            topic_id: payload.get(1..17)?.try_into().ok()?,
            index: get_i32(payload, 17)?,
            flush: flush_from(*payload.get(21)?)?,
        },
        TAG_DELETE => Effect::Delete { id },
        TAG_LOG_START => Effect::LogStart { id, offset: get_i64(payload, 1)? },
        TAG_FLUSH => Effect::Flush { id, flush: flush_from(*payload.get(1)?)? },
        TAG_EPOCH_RAISE => Effect::EpochRaise,
        TAG_PRODUCER_IDS => Effect::ProducerIds(ProducerIds {
            first: get_i64(payload, 1)?,
            count: get_u32(payload, 9)?,
        }),
        TAG_ACCEPT_OFFSETS => Effect::AcceptOffsets {
            id,
            range: OffsetRange { first: get_i64(payload, 1)?, last: get_i64(payload, 9)? },
            end: match payload.len() {
                ACCEPT_WITHOUT_END => None,
                _ => Some(get_i64(payload, 17)?).filter(|end| *end != END_UNKNOWN),
            },
        },
        TAG_ACCEPT_STATE => Effect::AcceptState {
            kind: StateKind::from_code(*payload.get(1)?)?,
            missing: Places::get_all(payload.get(2..)?)?,
        },
        _ => return None,
    })
}

/// A batch as an item; its offsets and epoch are patched when the frame is encoded.
pub(crate) fn batch_item(
    place: BatchPlace,
    identity: Option<LaneRange>,
    bytes: Bytes,
    leader_epoch: i32,
) -> Item {
    let entry = Entry {
        partition: place.id,
        base_offset: place.base_offset,
        last_offset: place.last_offset,
        max_timestamp: place.max_timestamp,
        identity,
        ..Entry::plain(EntryKind::Batch)
    };
    Item { entry, payload: Payload::Batch { bytes, leader_epoch } }
}

pub(crate) fn flush_code(flush: FlushPolicy) -> u8 {
    match flush {
        FlushPolicy::Commit => 0,
        FlushPolicy::UnsafeEverySecond => 1,
        FlushPolicy::UnsafePageCache => 2,
    }
}

pub(crate) fn flush_from(code: u8) -> Option<FlushPolicy> {
    Some(match code {
        0 => FlushPolicy::Commit,
        1 => FlushPolicy::UnsafeEverySecond,
        2 => FlushPolicy::UnsafePageCache,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_come_back_as_they_went() {
        let effects = [
            Effect::Create {
                id: PartitionId(4),
                topic_id: [7; 16],
                index: 2,
                flush: FlushPolicy::UnsafeEverySecond,
            },
            Effect::Delete { id: PartitionId(4) },
            Effect::LogStart { id: PartitionId(4), offset: 1 << 33 },
            Effect::Flush { id: PartitionId(4), flush: FlushPolicy::UnsafePageCache },
            Effect::EpochRaise,
            Effect::ProducerIds(ProducerIds { first: 1 << 40, count: 10 }),
            Effect::AcceptOffsets {
                id: PartitionId(4),
                range: OffsetRange { first: 1, last: 1 << 40 },
                end: Some(1 << 41),
            },
            Effect::AcceptOffsets {
                id: PartitionId(4),
                range: OffsetRange { first: 1, last: 1 },
                end: None,
            },
            Effect::AcceptState {
                kind: StateKind::Transactions,
                missing: vec![Places::of_entry(3, 1), Places::of_frames(5, 1 << 40)],
            },
            Effect::State {
                kind: StateKind::Cursor,
                key: Bytes::from_static(b"key"),
                value: Some(Bytes::from_static(b"value")),
            },
            Effect::State {
                kind: StateKind::Metadata,
                key: Bytes::from_static(b"key"),
                value: None,
            },
        ];
        for effect in effects {
            let item = effect.to_item();
            let Payload::Plain(payload) = item.payload else { panic!("no batch here") };
            let (decoded, _) = Effect::decode(&item.entry, &payload).unwrap();
            assert_eq!(format!("{decoded:?}"), format!("{effect:?}"));
            for cut in 0..payload.len() {
                let short = payload.slice(..cut);
                let same = Effect::decode(&item.entry, &short)
                    .is_some_and(|(other, _)| format!("{other:?}") == format!("{effect:?}"));
                let is_older = matches!(effect, Effect::AcceptOffsets { end: None, .. })
                    && cut == ACCEPT_WITHOUT_END;
                assert_eq!(same, is_older, "{effect:?} cut at {cut}");
            }
        }
    }

    /// Tag 8 without its last field, as it was written at first: where the log went on is unknown.
    #[test]
    fn offsets_that_were_given_up_without_an_end_are_known() {
        let range = OffsetRange { first: 3, last: 9 };
        let effect = Effect::AcceptOffsets { id: PartitionId(4), range, end: Some(12) };
        let Item { entry, payload: Payload::Plain(payload) } = effect.to_item() else {
            panic!("no batch here")
        };
        let (decoded, _) = Effect::decode(&entry, &payload.slice(..17)).unwrap();
        let expected = Effect::AcceptOffsets { id: PartitionId(4), range, end: None };
        assert_eq!(format!("{decoded:?}"), format!("{expected:?}"));
        assert!(Effect::decode(&entry, &payload.slice(..16)).is_none());
        assert!(Effect::decode(&entry, &payload.slice(..24)).is_none(), "that is no end");
    }
}
