//! The little of a RecordBatch v2 that the journal itself needs: its 61-byte header.

use crate::frame::{get_i16, get_i32, get_i64};
use crate::transactions::{Part, Step};

pub(crate) const HEADER_BYTES: usize = 61;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
/// Bytes before those that the batch's length counts.
const BEFORE_LENGTH: usize = 12;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) last_offset_delta: i32,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    /// -1 in a marker, which takes no part in the sequences.
    pub(crate) base_sequence: i32,
    /// None where compaction has left none.
    pub(crate) records: i32,
    /// What the batch is to its producer's transaction.
    pub(crate) part: Option<Part>,
}

impl BatchHeader {
    /// Checks what offsets and sequences depend on; the records are the caller's matter.
    pub(crate) fn parse(batch: &[u8]) -> Result<Self, &'static str> {
        if batch.len() < HEADER_BYTES {
            return Err("it is shorter than a batch header");
        }
        let missing = "it is shorter than a batch header";
        let field_i32 = |at| get_i32(batch, at).ok_or(missing);
        let field_i64 = |at| get_i64(batch, at).ok_or(missing);
        if batch.get(MAGIC_AT) != Some(&2) {
            return Err("its magic is not 2");
        }
        let length = field_i32(LENGTH_AT)?;
        if usize::try_from(length).ok() != Some(batch.len() - BEFORE_LENGTH) {
            return Err("its length does not match its bytes");
        }
        let attributes = get_i16(batch, ATTRIBUTES_AT).ok_or(missing)?;
        let step = step(attributes, &batch[HEADER_BYTES..])?;
        let producer_id = field_i64(PRODUCER_ID_AT)?;
        if producer_id < 0 && step.is_some() {
            return Err("it is part of a transaction, but has no producer id");
        }
        let header = Self {
            base_offset: field_i64(0)?,
            leader_epoch: field_i32(LEADER_EPOCH_AT)?,
            last_offset_delta: field_i32(LAST_OFFSET_DELTA_AT)?,
            max_timestamp: field_i64(MAX_TIMESTAMP_AT)?,
            producer_id,
            producer_epoch: get_i16(batch, PRODUCER_EPOCH_AT).ok_or(missing)?,
            base_sequence: field_i32(BASE_SEQUENCE_AT)?,
            records: field_i32(COUNT_AT)?,
            part: step.map(|step| Part { producer_id, step }),
        };
        if header.last_offset_delta < 0 {
            return Err("its last offset delta is negative");
        }
        if header.records < 0 {
            return Err("its number of records is negative");
        }
        let numbered = header.is_marker() || header.base_sequence >= 0;
        if header.producer_id >= 0 && (header.producer_epoch < 0 || !numbered) {
            return Err("it has a producer id, but no epoch or sequence");
        }
        Ok(header)
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Whether it ends a transaction.
    pub(crate) fn is_marker(&self) -> bool {
        self.part.is_some_and(|part| part.step != Step::Records)
    }

    pub(crate) fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

/// What a batch with these attributes and records is to a transaction.
fn step(attributes: i16, records: &[u8]) -> Result<Option<Step>, &'static str> {
    match (attributes & TRANSACTIONAL != 0, attributes & CONTROL != 0) {
        (false, false) => Ok(None),
        (true, false) => Ok(Some(Step::Records)),
        (false, true) => Err("it is a control batch outside of transactions"),
        (true, true) => marker(records).map(Some).ok_or("it is no marker that is known"),
    }
}

/// Reads over length, attributes, timestamp, offset and the key's length of the one record, to the
/// key: version and type.
fn marker(record: &[u8]) -> Option<Step> {
    let attributes = skip_varint(record)?;
    let timestamp = attributes.get(1..)?;
    let key_length = skip_varint(skip_varint(timestamp)?)?;
    match get_i16(skip_varint(key_length)?, 2)? {
        0 => Some(Step::Abort),
        1 => Some(Step::Commit),
        _ => None,
    }
}

fn skip_varint(bytes: &[u8]) -> Option<&[u8]> {
    let last = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    bytes.get(last + 1..)
}

/// Sequences go from 0 to `i32::MAX` and start again at 0.
pub(crate) fn sequence_after(sequence: i32, steps: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(steps);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

/// Sets base offset and leader epoch, neither of which the batch's own CRC covers.
pub(crate) fn patch(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= HEADER_BYTES, "only parsed batches are patched");
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_from_the_highest_to_zero() {
        assert_eq!(sequence_after(0, 4), 4);
        assert_eq!(sequence_after(i32::MAX, 0), i32::MAX);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn short_and_foreign_bytes_are_refused() {
        assert!(BatchHeader::parse(&[0; 60]).is_err());
        assert!(BatchHeader::parse(&[0; 61]).is_err());
    }
}
