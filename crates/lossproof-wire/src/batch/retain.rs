//! What is left of a batch when only some of its records stay.

use bytes::{Bytes, BytesMut};

use crate::batch::compression::compress;
use crate::batch::record::{RawRecord, read_record};
use crate::batch::records::open_content;
use crate::batch::{BatchError, BatchHeader, Compression, Limits};

/// What it is decided by whether a record stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRecord<'a> {
    /// Its place in the partition.
    pub offset: i64,
    /// `None`: null.
    pub key: Option<&'a [u8]>,
    /// Whether its value is null, which deletes the key.
    pub is_tombstone: bool,
}

/// What [`retain`] leaves of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retained {
    /// All of it: the batch stays as it is.
    All,
    /// The batch with only some of its records, at their offsets.
    Some(Bytes),
    /// No record.
    Nothing,
}

/// Tells of each record of a stored batch, in order.
pub fn visit_keys(
    batch: &Bytes,
    limits: &Limits,
    mut visit: impl FnMut(KeyedRecord<'_>),
) -> Result<(), BatchError> {
    walk(batch, limits, |_, record, _, _| visit(record)).map(drop)
}

/// The batch with the records for which `keep` says so. Each of them keeps its bytes, and the batch
/// its first and last offset, its producer, its sequence and its compression; its greatest
/// timestamp is that of the records left (`BATCH-4`).
pub fn retain(
    batch: &Bytes,
    limits: &Limits,
    mut keep: impl FnMut(KeyedRecord<'_>) -> bool,
) -> Result<Retained, BatchError> {
    let (mut kept, mut count, mut max_timestamp) = (BytesMut::new(), 0, i64::MIN);
    let (header, compression) = walk(batch, limits, |header, record, raw, timestamp_delta| {
        if keep(record) {
            kept.extend_from_slice(raw);
            count += 1;
            max_timestamp = max_timestamp.max(header.timestamp_of(timestamp_delta));
        }
    })?;
    if count == 0 {
        return Ok(Retained::Nothing);
    }
    if count == header.record_count {
        return Ok(Retained::All);
    }
    let header = BatchHeader { record_count: count, max_timestamp, ..header };
    let written = match compression {
        Compression::None => header.write(&kept)?,
        _ => header.write(&compress(compression, &kept)?)?,
    };
    Ok(Retained::Some(written))
}

/// A batch without records, for offsets at which there is none any more. Every client takes it: a
/// broker of Apache Kafka leaves such batches too.
pub fn empty_batch(
    base_offset: i64,
    last_offset_delta: i32,
    leader_epoch: i32,
) -> Result<Bytes, BatchError> {
    let header = BatchHeader {
        base_offset,
        partition_leader_epoch: leader_epoch,
        last_offset_delta,
        ..BatchHeader::EMPTY
    };
    header.write(&[])
}

/// Tells of each record, with its bytes and the distance of its timestamp.
fn walk(
    batch: &Bytes,
    limits: &Limits,
    mut visit: impl FnMut(&BatchHeader, KeyedRecord<'_>, &[u8], i64),
) -> Result<(BatchHeader, Compression), BatchError> {
    let limit = limits.uncompressed_bytes_max;
    let (header, compression, mut content) = open_content(batch, limit)?;
    for index in 0..header.record_count {
        let before = content.clone();
        let RawRecord { timestamp_delta, offset_delta, key, value } =
            read_record(&mut content, |_, _| {})
                .map_err(|fault| fault.at(index, compression, limit))?;
        let raw = before.slice(..before.len() - content.len());
        let record = KeyedRecord {
            offset: header.base_offset.saturating_add(i64::from(offset_delta)),
            key: key.as_deref(),
            is_tombstone: value.is_none(),
        };
        visit(&header, record, &raw, timestamp_delta);
    }
    Ok((header, compression))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Record, TimestampType, records, with_append_time};

    fn batch(compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::new().compression(compression).producer(7, 1, 5);
        let builder = {
            for index in 0..6_i64 {
                let key = format!("key {}", index % 3);
                let value = (index != 4).then(|| format!("value {index}"));
                let value = value.as_ref().map(String::as_bytes);
                builder.push(1_000 + index * 70, Some(key.as_bytes()), value, &[]);
            }
            builder.base_offset(100).leader_epoch(3)
        };
        builder.build().expect("a batch")
    }

    fn all(batch: &Bytes) -> Vec<Record> {
        records(batch).expect("records").map(|record| record.expect("a record")).collect()
    }

    #[test]
    fn what_stays_keeps_its_offset_and_the_batch_its_range() {
        // BATCH-4
        for compression in Compression::ALL {
            let before = batch(compression);
            let wanted = [101, 104];
            let keep = |record: KeyedRecord<'_>| wanted.contains(&record.offset);
            let left = retain(&before, &Limits::default(), keep).expect("readable");
            let Retained::Some(after) = left else { panic!("{compression}: {left:?}") };
            let (old, new) = (BatchHeader::parse(&before), BatchHeader::parse(&after));
            let (old, new) = (old.expect("a header"), new.expect("a header"));
            new.verify_checksum(&after).expect("the checksum fits");
            let same = BatchHeader { length: old.length, crc: old.crc, ..new };
            let changed = BatchHeader { record_count: 2, max_timestamp: 1_280, ..old };
            assert_eq!(same, changed, "{compression}");
            let mut expected = all(&before);
            expected.retain(|record| wanted.contains(&record.offset));
            assert_eq!(all(&after), expected, "{compression}");
            assert!(expected[1].value.is_none(), "a tombstone stays one");
        }
    }

    #[test]
    fn all_is_left_alone_and_nothing_is_said_so() {
        let batch = batch(Compression::Lz4);
        let limits = Limits::default();
        assert_eq!(retain(&batch, &limits, |_| true), Ok(Retained::All));
        assert_eq!(retain(&batch, &limits, |_| false), Ok(Retained::Nothing));
        let mut tombstones = Vec::new();
        visit_keys(&batch, &limits, |record| {
            if record.is_tombstone {
                tombstones.push((record.offset, record.key.map(<[u8]>::to_vec)));
            }
        })
        .expect("readable");
        assert_eq!(tombstones, [(104, Some(b"key 1".to_vec()))]);
    }

    #[test]
    fn the_time_of_the_append_stays_that_of_all_records() {
        let stamped = with_append_time(&batch(Compression::None), 9_000).expect("a batch");
        let left = retain(&stamped, &Limits::default(), |record| record.offset == 102);
        let Ok(Retained::Some(after)) = left else { panic!("{left:?}") };
        let header = BatchHeader::parse(&after).expect("a header");
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppend);
        assert_eq!((header.max_timestamp, all(&after)[0].timestamp), (9_000, 9_000));
    }

    #[test]
    fn an_empty_batch_is_nothing_but_a_header() {
        let empty = empty_batch(40, 9, 2).expect("a batch");
        let header = BatchHeader::parse(&empty).expect("a header");
        header.verify_checksum(&empty).expect("the checksum fits");
        assert_eq!((empty.len(), header.base_offset, header.last_offset()), (61, 40, 49));
        assert_eq!((header.partition_leader_epoch, header.record_count), (2, 0));
        assert_eq!(all(&empty), []);
        assert_eq!(retain(&empty, &Limits::default(), |_| true), Ok(Retained::Nothing));
    }
}
