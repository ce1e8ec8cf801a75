//! Record batches, format version 2: the only form in which records are stored and sent.
//!
//! ```text
//!  0 base offset         8 | 23 last offset delta  4
//!  8 length              4 | 27 base timestamp     8
//! 12 leader epoch        4 | 35 max timestamp      8
//! 16 magic (2)           1 | 43 producer id        8
//! 17 CRC-32C             4 | 51 producer epoch     2
//! 21 attributes          2 | 53 base sequence      4
//!                          | 57 record count       4
//! 61 records, compressed as the attributes say
//! ```
//! The length counts from byte 12, the checksum covers byte 21 to the end. A broker therefore sets
//! base offset and leader epoch in place; only where a producer claims another max timestamp than
//! its records have, or where the time of the append counts, does it write a header anew, as Apache
//! Kafka does.
//!
//! # Invariants
//! - `BATCH-1`: a batch that [`validate()`] passes decodes completely: [`records()`] yields exactly
//!   the announced count, at offsets base, base + 1, and so on.
//! - `BATCH-2`: validation and [`find_record`] walk the records in a stream; they hold 40 MiB at
//!   most, however much the records decompress to.
//! - `BATCH-3`: [`set_base_offset`] and [`set_leader_epoch`] leave the checksum valid.
//! - `BATCH-4`: what [`retain()`] leaves has its offsets, and the batch its range, producer,
//!   sequence and compression.
//!
//! # Example
//! ```
//! use lossproof_wire::batch::{self, BatchBuilder, Compression, Limits};
//!
//! let mut builder = BatchBuilder::new().compression(Compression::Zstd).producer(7, 0, 0);
//! builder.push(1_700_000_000_000, Some(b"key"), Some(b"value"), &[]);
//! let bytes = builder.build()?;
//!
//! let info = batch::validate(&bytes, &Limits::default())?;
//! assert_eq!((info.header.record_count, info.header.producer_id), (1, 7));
//! let first = batch::records(&bytes)?.next().expect("one record")?;
//! assert_eq!(first.value.as_deref(), Some(&b"value"[..]));
//! # Ok::<(), batch::BatchError>(())
//! ```

mod builder;
mod compression;
mod header;
mod record;
mod records;
mod retain;
mod validate;

pub use builder::BatchBuilder;
pub use compression::Compression;
pub use header::{
    Attributes, BatchError, BatchHeader, HEADER_BYTES, LENGTH_END, TimestampType, set_base_offset,
    set_leader_epoch, with_append_time, with_max_timestamp,
};
pub use records::{Record, RecordHeader, RecordIterator, records, records_within};
pub use retain::{KeyedRecord, Retained, empty_batch, retain, visit_keys};
pub use validate::{
    BATCH_BYTES_MAX, BatchInfo, Found, Limits, RecordFacts, Split, UNCOMPRESSED_BYTES_MAX,
    find_record, split, validate, visit_records,
};
