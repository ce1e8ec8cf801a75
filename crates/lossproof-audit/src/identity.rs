//! Which record is this? The identity that a record keeps from accept to sink.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Name of the record header that carries a [`Header`].
pub const HEADER_NAME: &str = "lossproof";
/// Headers of a dead letter: the group that put it aside, and where the record was read.
pub const GROUP_HEADER: &str = "lossproof.group";
pub const ORIGIN_TOPIC_HEADER: &str = "lossproof.origin.topic";
pub const ORIGIN_PARTITION_HEADER: &str = "lossproof.origin.partition";
pub const ORIGIN_OFFSET_HEADER: &str = "lossproof.origin.offset";
/// Size in bytes of a [`Header`].
pub const HEADER_BYTES: usize = 30;

/// Given once, when the record is accepted: the incarnation of the process that accepted it, the
/// lane (topic and partition) it was put in, its place in that lane from 0 without gaps.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordId {
    pub session: u64,
    pub lane: u32,
    pub seq: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}-{}", self.session, self.lane, self.seq)
    }
}

/// What a text that is no [`RecordId`] looks like instead.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{text}' is no identity: expected SESSION-LANE-SEQ, with the session in 16 hex digits")]
pub struct ParseRecordIdError {
    pub text: String,
}

impl FromStr for RecordId {
    type Err = ParseRecordIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split('-');
            let session = parts.next().filter(|part| part.len() == 16)?;
            let id = RecordId {
                session: u64::from_str_radix(session, 16).ok()?,
                lane: parts.next()?.parse().ok()?,
                seq: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(id)
        };
        parse().ok_or_else(|| ParseRecordIdError { text: text.to_owned() })
    }
}

/// The header's content: 30 bytes, big endian.
///
/// ```text
/// 0        1       2         10      14     22         26          30
/// | version | flags | session | lane  | seq  | binding  | checksum  |
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    pub id: RecordId,
    /// The record was written on purpose to another topic than its origin.
    pub moved: bool,
    /// Its bytes were changed on purpose, and the checksum refreshed.
    pub transformed: bool,
    /// [`binding`] of the topic and partition of origin.
    pub binding: u32,
    /// [`checksum`] of key and value.
    pub checksum: u32,
}

const VERSION: u8 = 1;
const FLAG_MOVED: u8 = 1;
const FLAG_TRANSFORMED: u8 = 2;

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1] = if self.moved { FLAG_MOVED } else { 0 }
            | if self.transformed { FLAG_TRANSFORMED } else { 0 };
        bytes[2..10].copy_from_slice(&self.id.session.to_be_bytes());
        bytes[10..14].copy_from_slice(&self.id.lane.to_be_bytes());
        bytes[14..22].copy_from_slice(&self.id.seq.to_be_bytes());
        bytes[22..26].copy_from_slice(&self.binding.to_be_bytes());
        bytes[26..30].copy_from_slice(&self.checksum.to_be_bytes());
        bytes
    }

    /// `None` for bytes that are no header of this version: the record counts as unstamped.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().ok()?;
        let (flags, known) = (bytes[1], FLAG_MOVED | FLAG_TRANSFORMED);
        if bytes[0] != VERSION || flags & !known != 0 {
            return None;
        }
        Some(Self {
            id: RecordId {
                session: u64::from_be_bytes(bytes[2..10].try_into().ok()?),
                lane: u32::from_be_bytes(bytes[10..14].try_into().ok()?),
                seq: u64::from_be_bytes(bytes[14..22].try_into().ok()?),
            },
            moved: flags & FLAG_MOVED != 0,
            transformed: flags & FLAG_TRANSFORMED != 0,
            binding: u32::from_be_bytes(bytes[22..26].try_into().ok()?),
            checksum: u32::from_be_bytes(bytes[26..30].try_into().ok()?),
        })
    }
}

/// Ties a record to its topic and partition of origin, so that one written elsewhere is found.
pub fn binding(topic: &str, partition: i32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(topic.as_bytes()), &partition.to_be_bytes())
}

/// CRC32C of key and value, each with its length (-1 for none), so that neither can be shifted
/// into the other.
pub fn checksum(key: Option<&[u8]>, value: Option<&[u8]>) -> u32 {
    [key, value].into_iter().fold(0, |crc, part| {
        let length = part.map_or(-1, |bytes| bytes.len() as i64);
        let crc = crc32c::crc32c_append(crc, &length.to_be_bytes());
        crc32c::crc32c_append(crc, part.unwrap_or_default())
    })
}

/// A record's identity with or without a header: records nobody stamped go by their place.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Identity {
    Stamped(RecordId),
    Natural { topic: String, partition: i32, offset: i64 },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stamped(id) => id.fmt(f),
            Self::Natural { topic, partition, offset } => write!(f, "{topic}-{partition}-{offset}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_refuses_what_it_does_not_know() {
        let id = RecordId { session: 0xfeed, lane: 3, seq: u64::MAX };
        let header = Header {
            id,
            moved: true,
            transformed: false,
            binding: binding("news", 2),
            checksum: checksum(None, Some(b"text")),
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        assert_eq!(Header::decode(&bytes[1..]), None);
        let mut unknown_flag = bytes;
        unknown_flag[1] |= 0x80;
        assert_eq!(Header::decode(&unknown_flag), None);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("feed-3-1".parse::<RecordId>().is_err());
    }

    #[test]
    fn checksum_separates_key_and_value() {
        assert_ne!(checksum(Some(b"ab"), Some(b"c")), checksum(Some(b"a"), Some(b"bc")));
        assert_ne!(checksum(None, Some(b"a")), checksum(Some(b""), Some(b"a")));
    }
}
