//! The records of a batch, one by one.

use std::io::Read as _;

use bytes::Bytes;

use crate::batch::compression::decompress;
use crate::batch::record::{Fault, read_record};
use crate::batch::{BatchError, BatchHeader, Compression, HEADER_BYTES, Limits};

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// UTF-8 by convention, which nobody on the way checks.
    pub key: Bytes,
    /// `None`: null.
    pub value: Option<Bytes>,
}

impl RecordHeader {
    /// A header with a value.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// In milliseconds since 1970; -1: none.
    pub timestamp: i64,
    /// `None`: null.
    pub key: Option<Bytes>,
    /// `None`: null, which deletes the key in a compacted topic.
    pub value: Option<Bytes>,
    /// In the order in which they were set.
    pub headers: Vec<RecordHeader>,
}

/// The records of one batch; see [`records`]. Ends after the first error.
#[derive(Debug)]
pub struct RecordIterator {
    header: BatchHeader,
    compression: Compression,
    content: Bytes,
    index: i32,
}

/// The records of one batch, which must begin at the front of `batch`. Keys and values share its
/// memory where it is not compressed. The checksum is not looked at.
pub fn records(batch: &Bytes) -> Result<RecordIterator, BatchError> {
    records_within(batch, &Limits::default())
}

/// As [`records`], with another bound on what the batch may decompress to.
pub fn records_within(batch: &Bytes, limits: &Limits) -> Result<RecordIterator, BatchError> {
    let (header, compression, content) = open_content(batch, limits.uncompressed_bytes_max)?;
    Ok(RecordIterator { header, compression, content, index: 0 })
}

/// The parts of the batch at the front of `batch`; the last one is its records, decompressed.
pub(super) fn open_content(
    batch: &Bytes,
    limit: u64,
) -> Result<(BatchHeader, Compression, Bytes), BatchError> {
    let (header, compression, payload) = open(batch)?;
    let content = match compression {
        Compression::None => payload,
        _ => decompress_all(compression, &payload, limit)?,
    };
    Ok((header, compression, content))
}

/// The parts of the batch at the front of `batch`; the last one is its records as they are stored.
pub(super) fn open(batch: &Bytes) -> Result<(BatchHeader, Compression, Bytes), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let (needed, remaining) = (header.total_bytes(), batch.len());
    if needed > remaining {
        return Err(BatchError::Truncated { needed, remaining });
    }
    let compression = header.attributes.compression()?;
    Ok((header, compression, batch.slice(HEADER_BYTES..needed)))
}

fn decompress_all(
    compression: Compression,
    payload: &[u8],
    limit: u64,
) -> Result<Bytes, BatchError> {
    let undecodable =
        |error: std::io::Error| BatchError::Undecodable { compression, reason: error.to_string() };
    let mut content = Vec::new();
    let mut stream =
        decompress(compression, payload, limit).map_err(undecodable)?.take(limit.saturating_add(1));
    stream.read_to_end(&mut content).map_err(undecodable)?;
    if content.len() as u64 > limit {
        return Err(BatchError::TooLargeUncompressed { limit });
    }
    Ok(content.into())
}

impl RecordIterator {
    fn read(&mut self) -> Result<Record, BatchError> {
        let mut headers = Vec::new();
        let raw = read_record(&mut self.content, |key, value| {
            headers.push(RecordHeader { key, value });
        })
        .map_err(|fault| fault.at(self.index, self.compression, u64::MAX))?;
        let timestamp = self.header.timestamp_of(raw.timestamp_delta);
        let offset = self.header.base_offset.saturating_add(i64::from(raw.offset_delta));
        Ok(Record { offset, timestamp, key: raw.key, value: raw.value, headers })
    }
}

impl Iterator for RecordIterator {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.record_count {
            return None;
        }
        let item = self.read();
        self.index = if item.is_ok() { self.index + 1 } else { self.header.record_count };
        Some(item)
    }
}

impl Fault {
    /// The error for a fault in the record at `index`.
    pub(super) fn at(self, index: i32, compression: Compression, limit: u64) -> BatchError {
        match self {
            Self::Malformed(reason) => BatchError::MalformedRecord { index, reason },
            Self::Stream(error) => {
                BatchError::Undecodable { compression, reason: error.to_string() }
            }
            Self::Limit => BatchError::TooLargeUncompressed { limit },
        }
    }
}
