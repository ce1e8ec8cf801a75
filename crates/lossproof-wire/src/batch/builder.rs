//! Writing batches.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::compression::compress;
use crate::batch::header::Attributes;
use crate::batch::record::{put_chunk, put_varint, put_varlong};
use crate::batch::{BatchError, BatchHeader, Compression, RecordHeader};

/// Collects records and writes them as one batch. Offsets run from the base offset without gaps.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    transactional: bool,
    control: bool,
    records: BytesMut,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch at offset 0, not compressed, not idempotent.
    pub fn new() -> Self {
        Self {
            header: BatchHeader::EMPTY,
            compression: Compression::None,
            transactional: false,
            control: false,
            records: BytesMut::new(),
        }
    }

    /// Compresses the records.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Makes the batch idempotent: `base_sequence` is the first record's.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.header.base_offset = base_offset;
        self
    }

    /// Ends a batch without records at `last_offset_delta` from its base offset, as compaction
    /// leaves one whose last records are not wanted any more: clients go on behind it.
    #[must_use]
    pub fn reaching(mut self, last_offset_delta: i32) -> Self {
        self.header.last_offset_delta = last_offset_delta;
        self
    }

    /// Epoch of the leader that appends it.
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.header.partition_leader_epoch = leader_epoch;
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Marks the batch as the end of a transaction.
    #[must_use]
    pub fn control(mut self, control: bool) -> Self {
        self.control = control;
        self
    }

    /// Adds a record. `timestamp` is in milliseconds since 1970.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) {
        if self.header.record_count == 0 {
            self.header.base_timestamp = timestamp;
            self.header.max_timestamp = timestamp;
        }
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        let mut body = BytesMut::new();
        body.put_u8(0);
        put_varlong(&mut body, timestamp.wrapping_sub(self.header.base_timestamp));
        put_varint(&mut body, self.header.record_count);
        put_chunk(&mut body, key);
        put_chunk(&mut body, value);
        put_varlong(&mut body, headers.len() as i64);
        for header in headers {
            put_chunk(&mut body, Some(&header.key));
            put_chunk(&mut body, header.value.as_deref());
        }
        put_varlong(&mut self.records, body.len() as i64);
        self.records.put_slice(&body);
        self.header.record_count = self.header.record_count.saturating_add(1);
        self.header.last_offset_delta = self.header.record_count - 1;
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        usize::try_from(self.header.record_count).unwrap_or_default()
    }

    /// Whether there is no record yet. Such a batch can be built, but no broker takes it.
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Bytes of the records so far, before compression.
    pub fn uncompressed_bytes(&self) -> usize {
        self.records.len()
    }

    /// Writes the batch.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] where it does not fit the length field.
    pub fn build(mut self) -> Result<Bytes, BatchError> {
        self.header.attributes =
            Attributes::new(self.compression, self.transactional, self.control);
        match self.compression {
            Compression::None => self.header.write(&self.records),
            _ => self.header.write(&compress(self.compression, &self.records)?),
        }
    }
}
