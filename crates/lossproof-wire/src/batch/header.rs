//! The 61 bytes in front of the records.

use crate::ErrorCode;
use crate::batch::Compression;

/// Length of the header.
pub const HEADER_BYTES: usize = 61;
/// Where the length field ends and what it counts begins.
pub const LENGTH_END: usize = 12;
/// The only format we speak.
const MAGIC: i8 = 2;
/// First byte that the checksum covers.
const CHECKSUM_FROM: usize = 21;

/// Why bytes are not a batch that can be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the header has, or than its length field says.
    #[error("batch ends early: {needed} bytes needed, {remaining} there")]
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        remaining: usize,
    },
    /// A message set of Kafka before 0.11, or no batch at all.
    #[error("record format {magic} is not served, only format 2 (Kafka 0.11 and later) is")]
    UnsupportedMagic {
        /// The format byte.
        magic: i8,
    },
    /// The length field is smaller than a header or differs from the bytes handed in.
    #[error("length field says {length}, which does not fit the {actual} bytes of the batch")]
    WrongLength {
        /// The length field.
        length: i32,
        /// Bytes handed in.
        actual: usize,
    },
    /// The batch is larger than allowed.
    #[error("batch of {size} bytes is larger than the {limit} allowed")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The batch decompresses to more than allowed.
    #[error("batch decompresses to more than the {limit} bytes allowed")]
    TooLargeUncompressed {
        /// Bytes allowed.
        limit: u64,
    },
    /// The bytes were changed on their way.
    #[error("checksum is {computed:#010x}, the batch says {stored:#010x}")]
    WrongChecksum {
        /// What the batch says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Attribute bits that have no meaning we know.
    #[error("attributes {attributes:#06x} have bits of unknown meaning")]
    UnknownAttributes {
        /// All sixteen bits.
        attributes: i16,
    },
    /// A compression that does not exist.
    #[error("compression {code} does not exist")]
    UnknownCompression {
        /// The three bits.
        code: i16,
    },
    /// The timestamps claim to be the broker's, which only the broker may say.
    #[error("timestamp type is log-append time, which a producer may not set")]
    AppendTimeFromProducer,
    /// Count and last offset delta do not describe at least one record without gaps.
    #[error("{count} records announced with last offset delta {last_offset_delta}")]
    WrongCount {
        /// The announced count.
        count: i32,
        /// The announced delta.
        last_offset_delta: i32,
    },
    /// A producer id without a usable epoch or sequence.
    #[error("producer {producer_id} came with epoch {epoch} and sequence {sequence}")]
    WrongSequence {
        /// The producer id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
        /// Sequence of the first record.
        sequence: i32,
    },
    /// The compressed part is not what the attributes say.
    #[error("{compression} data does not decompress: {reason}")]
    Undecodable {
        /// The announced compression.
        compression: Compression,
        /// What the decompressor said.
        reason: String,
    },
    /// A record is not well formed.
    #[error("record {index} is malformed: {reason}")]
    MalformedRecord {
        /// Its place in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An offset delta is not one more than the one before.
    #[error("record {index} has offset delta {delta}")]
    NotDense {
        /// Its place in the batch, from 0.
        index: i32,
        /// Its offset delta.
        delta: i32,
    },
    /// Bytes follow the last announced record.
    #[error("bytes follow the last of the {count} announced records")]
    TrailingBytes {
        /// The announced count.
        count: i32,
    },
}

impl BatchError {
    /// What to answer to the producer. None of these is cured by sending the same bytes again,
    /// but for a checksum that was broken on the way.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::WrongChecksum { .. } => ErrorCode::CORRUPT_MESSAGE,
            Self::TooLarge { .. } | Self::TooLargeUncompressed { .. } => {
                ErrorCode::MESSAGE_TOO_LARGE
            }
            Self::UnsupportedMagic { .. } => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
            Self::UnknownCompression { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            Self::AppendTimeFromProducer => ErrorCode::INVALID_TIMESTAMP,
            _ => ErrorCode::INVALID_RECORD,
        }
    }
}

/// Whose clock the timestamps are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    Create,
    /// The broker's: all records have the batch's `max_timestamp`.
    LogAppend,
}

/// Sixteen bits: compression (0-2), timestamp type (3), transactional (4), control (5), delete
/// horizon (6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION: i16 = 0b111;
    const LOG_APPEND: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const FROM_PRODUCER: i16 =
        Self::COMPRESSION | Self::LOG_APPEND | Self::TRANSACTIONAL | Self::CONTROL;

    /// How the records are compressed.
    pub fn compression(self) -> Result<Compression, BatchError> {
        let code = self.0 & Self::COMPRESSION;
        Compression::from_code(code).ok_or(BatchError::UnknownCompression { code })
    }

    /// Whose clock the timestamps are of.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND == 0 {
            TimestampType::Create
        } else {
            TimestampType::LogAppend
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch marks the end of a transaction.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    pub(super) fn has_unknown_bits(self) -> bool {
        self.0 & !Self::FROM_PRODUCER != 0
    }

    pub(super) fn new(compression: Compression, transactional: bool, control: bool) -> Self {
        let mut bits = compression.code();
        if transactional {
            bits |= Self::TRANSACTIONAL;
        }
        if control {
            bits |= Self::CONTROL;
        }
        Self(bits)
    }
}

/// What stands in front of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; from a producer 0.
    pub base_offset: i64,
    /// Bytes after the length field.
    pub length: i32,
    /// Epoch of the leader that appended it; -1 from a producer.
    pub partition_leader_epoch: i32,
    /// Format: 2.
    pub magic: i8,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Compression and flags.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, in milliseconds.
    pub base_timestamp: i64,
    /// Largest timestamp as the producer gives it, in milliseconds.
    pub max_timestamp: i64,
    /// -1: not idempotent.
    pub producer_id: i64,
    /// -1: not idempotent.
    pub producer_epoch: i16,
    /// Sequence of the first record; -1: not idempotent.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], BatchError> {
    let found = bytes.get(at..at + N).and_then(|slice| slice.try_into().ok());
    found.ok_or(BatchError::Truncated { needed: HEADER_BYTES, remaining: bytes.len() })
}

impl BatchHeader {
    /// Of a batch without records, producer and leader epoch.
    pub(crate) const EMPTY: Self = Self {
        base_offset: 0,
        length: 0,
        partition_leader_epoch: -1,
        magic: MAGIC,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: -1,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    };

    /// Reads the header at the front of `bytes`. Only format and the plausibility of the length
    /// are checked; for the rest see [`validate`](super::validate()).
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The format byte comes first: all else depends on it, in old formats too.
        let magic = i8::from_be_bytes(field(bytes, 16)?);
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic });
        }
        let this = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)?),
            length: i32::from_be_bytes(field(bytes, 8)?),
            partition_leader_epoch: i32::from_be_bytes(field(bytes, 12)?),
            magic,
            crc: u32::from_be_bytes(field(bytes, 17)?),
            attributes: Attributes(i16::from_be_bytes(field(bytes, 21)?)),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)?),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)?),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)?),
            producer_id: i64::from_be_bytes(field(bytes, 43)?),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)?),
            base_sequence: i32::from_be_bytes(field(bytes, 53)?),
            record_count: i32::from_be_bytes(field(bytes, 57)?),
        };
        if this.length < (HEADER_BYTES - LENGTH_END) as i32 {
            return Err(BatchError::WrongLength { length: this.length, actual: bytes.len() });
        }
        Ok(this)
    }

    /// Bytes of the whole batch, header included.
    pub fn total_bytes(&self) -> usize {
        usize::try_from(self.length).unwrap_or_default().saturating_add(LENGTH_END)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence of the last record: they run from 0 to `i32::MAX` and begin again at 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (sum % (i64::from(i32::MAX) + 1)) as i32
    }

    /// The timestamp of a record, in milliseconds.
    pub(super) fn timestamp_of(&self, delta: i64) -> i64 {
        match self.attributes.timestamp_type() {
            TimestampType::Create => self.base_timestamp.wrapping_add(delta),
            TimestampType::LogAppend => self.max_timestamp,
        }
    }

    /// Whether the producer wants duplicates to be found.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Compares the checksum with the bytes of the batch.
    pub fn verify_checksum(&self, batch: &[u8]) -> Result<(), BatchError> {
        let covered = batch.get(CHECKSUM_FROM..self.total_bytes());
        let covered = covered
            .ok_or(BatchError::Truncated { needed: self.total_bytes(), remaining: batch.len() })?;
        let computed = crc32c::crc32c(covered);
        if computed != self.crc {
            return Err(BatchError::WrongChecksum { stored: self.crc, computed });
        }
        Ok(())
    }

    /// Writes the header in front of the records of `batch`.
    fn write_anew(self, batch: &[u8]) -> Result<bytes::Bytes, BatchError> {
        let (needed, remaining) = (self.total_bytes(), batch.len());
        let payload = batch.get(HEADER_BYTES..needed);
        self.write(payload.ok_or(BatchError::Truncated { needed, remaining })?)
    }

    /// Writes the header in front of `payload`, with length and checksum set from it.
    pub(super) fn write(mut self, payload: &[u8]) -> Result<bytes::Bytes, BatchError> {
        use bytes::BufMut as _;
        let size = HEADER_BYTES.saturating_add(payload.len());
        let limit = i32::MAX as usize;
        self.length =
            i32::try_from(size - LENGTH_END).map_err(|_| BatchError::TooLarge { size, limit })?;
        let mut covered = bytes::BytesMut::with_capacity(size - CHECKSUM_FROM);
        covered.put_i16(self.attributes.0);
        covered.put_i32(self.last_offset_delta);
        covered.put_i64(self.base_timestamp);
        covered.put_i64(self.max_timestamp);
        covered.put_i64(self.producer_id);
        covered.put_i16(self.producer_epoch);
        covered.put_i32(self.base_sequence);
        covered.put_i32(self.record_count);
        covered.put_slice(payload);
        let mut out = bytes::BytesMut::with_capacity(size);
        out.put_i64(self.base_offset);
        out.put_i32(self.length);
        out.put_i32(self.partition_leader_epoch);
        out.put_i8(MAGIC);
        out.put_u32(crc32c::crc32c(&covered));
        out.put_slice(&covered);
        Ok(out.freeze())
    }
}

/// The batch at the front of `bytes` with another maximum timestamp and the checksum that goes with
/// it.
pub fn with_max_timestamp(bytes: &[u8], max_timestamp: i64) -> Result<bytes::Bytes, BatchError> {
    BatchHeader { max_timestamp, ..BatchHeader::parse(bytes)? }.write_anew(bytes)
}

/// The batch at the front of `bytes` with the broker's time in the place of the producer's
/// timestamps, and the checksum that goes with it.
pub fn with_append_time(bytes: &[u8], append_time_ms: i64) -> Result<bytes::Bytes, BatchError> {
    let mut header = BatchHeader { max_timestamp: append_time_ms, ..BatchHeader::parse(bytes)? };
    header.attributes.0 |= Attributes::LOG_APPEND;
    header.write_anew(bytes)
}

fn set(batch: &mut [u8], at: usize, value: &[u8]) -> Result<(), BatchError> {
    let remaining = batch.len();
    let place = batch.get_mut(at..at + value.len());
    let place = place.ok_or(BatchError::Truncated { needed: HEADER_BYTES, remaining })?;
    place.copy_from_slice(value);
    Ok(())
}

/// Gives the first record of the batch its offset, in place (`BATCH-3`).
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) -> Result<(), BatchError> {
    set(batch, 0, &base_offset.to_be_bytes())
}

/// Tells which leader appended the batch, in place (`BATCH-3`).
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) -> Result<(), BatchError> {
    set(batch, 12, &leader_epoch.to_be_bytes())
}
