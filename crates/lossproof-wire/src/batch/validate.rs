//! What a broker checks before it stores a batch.

use core::ops::ControlFlow;
use std::io::BufRead;

use bytes::Bytes;

use crate::batch::compression::decompress;
use crate::batch::record::{RawRecord, Skim, read_record};
use crate::batch::records::open;
use crate::batch::{BatchError, BatchHeader, Compression, HEADER_BYTES, TimestampType};

/// Size that a batch may have: Kafka's default of `max.message.bytes`.
pub const BATCH_BYTES_MAX: usize = 1_048_588;
/// Size to which a batch may decompress. Text shrinks to a tenth, seldom to a hundredth; a batch
/// of the default size that grows 250 times is an attack.
pub const UNCOMPRESSED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bounds on what is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the batch as it is sent and stored.
    pub batch_bytes_max: usize,
    /// Bytes of its records when they are decompressed.
    pub uncompressed_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_bytes_max: BATCH_BYTES_MAX, uncompressed_bytes_max: UNCOMPRESSED_BYTES_MAX }
    }
}

/// What is known of a batch that has been validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchInfo {
    /// As the producer wrote it.
    pub header: BatchHeader,
    /// How the records are compressed.
    pub compression: Compression,
    /// Bytes of the decompressed records.
    pub uncompressed_bytes: u64,
    /// Largest timestamp among the records, in milliseconds. (The header's is the producer's
    /// claim.)
    pub max_timestamp: i64,
    /// Smallest timestamp among the records that have one; `None` where none has.
    pub min_timestamp: Option<i64>,
    /// Records whose key is null.
    pub keyless: i32,
}

/// Of a record that has none.
const NO_TIMESTAMP: i64 = -1;

/// What [`visit_records`] tells of each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    /// Its number in the batch.
    pub index: i32,
    /// In milliseconds since 1970; `None`: none.
    pub timestamp: Option<i64>,
    /// Whether its key is not null.
    pub has_key: bool,
}

/// A record that [`find_record`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its place in the partition.
    pub offset: i64,
    /// In milliseconds since 1970.
    pub timestamp: i64,
}

/// Checks that `bytes` are exactly one batch as a producer may send it, and that all of its
/// records can be read (`BATCH-1`). Transactional and control batches pass; whether they are
/// wanted the caller sees in the header. Takes time in proportion to the decompressed size: not
/// for a thread on which others wait.
pub fn validate(bytes: &Bytes, limits: &Limits) -> Result<BatchInfo, BatchError> {
    let (size, limit) = (bytes.len(), limits.batch_bytes_max);
    if size > limit {
        return Err(BatchError::TooLarge { size, limit });
    }
    let header = BatchHeader::parse(bytes)?;
    let needed = header.total_bytes();
    if needed > size {
        return Err(BatchError::Truncated { needed, remaining: size });
    }
    if needed < size {
        return Err(BatchError::WrongLength { length: header.length, actual: size });
    }
    header.verify_checksum(bytes)?;
    let compression = check_header(&header)?;
    let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
    let allowance = limits.uncompressed_bytes_max;
    let walk = if compression == Compression::None {
        walk(&header, payload, compression, allowance)?
    } else {
        let stream = decompress(compression, payload, allowance)
            .map_err(|error| BatchError::Undecodable { compression, reason: error.to_string() })?;
        walk(&header, stream, compression, allowance)?
    };
    Ok(BatchInfo {
        header,
        compression,
        uncompressed_bytes: walk.bytes,
        max_timestamp: walk.max_timestamp,
        min_timestamp: walk.min_timestamp,
        keyless: walk.keyless,
    })
}

/// The first record of a stored batch that is `wanted`. Keeps nothing of the others
/// (`BATCH-2`); takes time in proportion to the decompressed size.
pub fn find_record(
    batch: &Bytes,
    limits: &Limits,
    wanted: impl Fn(Found) -> bool,
) -> Result<Option<Found>, BatchError> {
    let mut found = None;
    skim(batch, limits, |header, _, record| {
        let timestamp = header.timestamp_of(record.timestamp_delta);
        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
        let this = Found { offset, timestamp };
        if !wanted(this) {
            return ControlFlow::Continue(());
        }
        found = Some(this);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Tells of each record of a batch that has been validated, in order, until `visit` wants no more.
/// Keeps nothing of them (`BATCH-2`); takes time in proportion to the decompressed size.
pub fn visit_records(
    batch: &Bytes,
    limits: &Limits,
    mut visit: impl FnMut(RecordFacts) -> ControlFlow<()>,
) -> Result<(), BatchError> {
    skim(batch, limits, |header, index, record| {
        let timestamp = header.timestamp_of(record.timestamp_delta);
        let timestamp = (timestamp != NO_TIMESTAMP).then_some(timestamp);
        visit(RecordFacts { index, timestamp, has_key: record.key.is_some() })
    })
}

/// Reads each record of a batch, and keeps nothing of it, until `visit` wants no more.
fn skim(
    batch: &Bytes,
    limits: &Limits,
    mut visit: impl FnMut(&BatchHeader, i32, &RawRecord<()>) -> ControlFlow<()>,
) -> Result<(), BatchError> {
    let (header, compression, payload) = open(batch)?;
    let limit = limits.uncompressed_bytes_max;
    let stream = decompress(compression, &payload, limit)
        .map_err(|error| BatchError::Undecodable { compression, reason: error.to_string() })?;
    let mut source = Skim { stream, allowance: limit };
    for index in 0..header.record_count {
        let record = read_record(&mut source, |(), _| {})
            .map_err(|fault| fault.at(index, compression, limit))?;
        if visit(&header, index, &record).is_break() {
            break;
        }
    }
    Ok(())
}

/// What the header says must be possible by itself.
fn check_header(header: &BatchHeader) -> Result<Compression, BatchError> {
    let attributes = header.attributes;
    if attributes.has_unknown_bits() {
        return Err(BatchError::UnknownAttributes { attributes: attributes.0 });
    }
    let compression = attributes.compression()?;
    if attributes.timestamp_type() == TimestampType::LogAppend {
        return Err(BatchError::AppendTimeFromProducer);
    }
    let (count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if count < 1 || last_offset_delta != count - 1 {
        return Err(BatchError::WrongCount { count, last_offset_delta });
    }
    let (epoch, sequence) = (header.producer_epoch, header.base_sequence);
    if header.is_idempotent() && (epoch < 0 || sequence < 0) {
        let producer_id = header.producer_id;
        return Err(BatchError::WrongSequence { producer_id, epoch, sequence });
    }
    Ok(compression)
}

struct Walk {
    bytes: u64,
    max_timestamp: i64,
    min_timestamp: Option<i64>,
    keyless: i32,
}

/// Reads over all records and keeps none.
fn walk(
    header: &BatchHeader,
    stream: impl BufRead,
    compression: Compression,
    limit: u64,
) -> Result<Walk, BatchError> {
    let mut source = Skim { stream, allowance: limit };
    let (mut max_timestamp, mut min_timestamp, mut keyless) = (i64::MIN, None, 0);
    for index in 0..header.record_count {
        let record = read_record(&mut source, |(), _| {})
            .map_err(|fault| fault.at(index, compression, limit))?;
        if record.offset_delta != index {
            return Err(BatchError::NotDense { index, delta: record.offset_delta });
        }
        let timestamp = header.base_timestamp.checked_add(record.timestamp_delta).ok_or(
            BatchError::MalformedRecord { index, reason: "its timestamp is out of range" },
        )?;
        max_timestamp = max_timestamp.max(timestamp);
        if timestamp != NO_TIMESTAMP {
            min_timestamp = Some(min_timestamp.map_or(timestamp, |min: i64| min.min(timestamp)));
        }
        keyless += i32::from(record.key.is_none());
    }
    let at_end =
        source.is_at_end().map_err(|fault| fault.at(header.record_count, compression, limit))?;
    if !at_end {
        return Err(BatchError::TrailingBytes { count: header.record_count });
    }
    Ok(Walk { bytes: limit - source.allowance, max_timestamp, min_timestamp, keyless })
}

/// The batches that stand one after the other in `bytes`; see [`split`].
#[derive(Debug, Clone)]
pub struct Split {
    rest: Bytes,
}

/// Takes concatenated batches apart by their length fields, without looking further into them.
/// Ends after the first error, which is also what a cut-off last batch gives.
pub fn split(bytes: &Bytes) -> Split {
    Split { rest: bytes.clone() }
}

impl Iterator for Split {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.rest);
        let header = match BatchHeader::parse(&rest) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let (needed, remaining) = (header.total_bytes(), rest.len());
        if needed > remaining {
            return Some(Err(BatchError::Truncated { needed, remaining }));
        }
        let batch = rest.split_to(needed);
        self.rest = rest;
        Some(Ok(batch))
    }
}
