//! Story: producers in Java, C and Python compress each in their way. Whatever they store must come
//! out for every consumer as it went in. So random records go through an independent codec in both
//! directions, in all compressions, and through both ways in which Snappy is framed.
//!
//! Holds `BATCH-1`.
#![allow(clippy::default_trait_access)]

use crate::support;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use lossproof_wire::batch::{
    self, BatchBuilder, Compression, HEADER_BYTES, Limits, Record, RecordHeader,
};
use proptest::prelude::*;
use support::with_payload;

fn oracle_compression(compression: Compression) -> oracle::Compression {
    match compression {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    }
}

fn to_oracle(record: &Record) -> oracle::Record {
    let mut theirs = oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: 77,
        producer_epoch: 3,
        timestamp_type: oracle::TimestampType::Creation,
        offset: record.offset,
        sequence: record.offset as i32 + 5,
        timestamp: record.timestamp,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: Default::default(),
    };
    for header in &record.headers {
        let name = StrBytes::from_utf8(header.key.clone()).unwrap();
        theirs.headers.insert(name, header.value.clone());
    }
    theirs
}

fn from_oracle(theirs: oracle::Record) -> Record {
    let headers = theirs.headers.into_iter();
    Record {
        offset: theirs.offset,
        timestamp: theirs.timestamp,
        key: theirs.key,
        value: theirs.value,
        headers: headers
            .map(|(key, value)| RecordHeader { key: key.into_bytes(), value })
            .collect(),
    }
}

fn build(records: &[Record], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new().compression(compression).producer(77, 3, 5);
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(record.timestamp, key, value, &record.headers);
    }
    builder.build().unwrap()
}

fn read(batch: &Bytes) -> Vec<Record> {
    batch::records(batch).unwrap().map(Result::unwrap).collect()
}

/// Payloads from nothing to several Snappy blocks, some random, some that compress well.
fn payload() -> impl Strategy<Value = Option<Bytes>> {
    prop_oneof![
        1 => Just(None),
        4 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(|v| Some(v.into())),
        1 => (any::<u8>(), 0_usize..90_000).prop_map(|(b, n)| Some(vec![b; n].into())),
    ]
}

/// Header names differ within a record, since the oracle keeps them in a map.
fn headers() -> impl Strategy<Value = Vec<RecordHeader>> {
    proptest::collection::vec(payload(), 0..3).prop_map(|values| {
        let named = values.into_iter().enumerate();
        named.map(|(n, value)| RecordHeader { key: format!("h{n}").into(), value }).collect()
    })
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = (0_i64..2_000_000_000_000, payload(), payload(), headers());
    proptest::collection::vec(one, 1..12).prop_map(|drawn| {
        let numbered = drawn.into_iter().zip(0_i64..);
        numbered
            .map(|((timestamp, key, value, headers), offset)| Record {
                offset,
                timestamp,
                key,
                value,
                headers,
            })
            .collect()
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    proptest::sample::select(Compression::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_we_write_the_oracle_reads(drawn in records(), compression in compression()) {
        let batch = build(&drawn, compression);
        let info = batch::validate(&batch, &Limits::default()).unwrap();
        prop_assert_eq!(info.compression, compression);
        prop_assert_eq!(info.header.record_count as usize, drawn.len());
        prop_assert_eq!(info.header.last_sequence(), 5 + drawn.len() as i32 - 1);
        let newest = drawn.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!((info.max_timestamp, info.header.max_timestamp), (newest, newest));
        prop_assert_eq!(read(&batch), drawn.clone());
        for sought in drawn.iter().map(|record| record.timestamp) {
            let first = drawn.iter().find(|record| record.timestamp == sought);
            let found = batch::find_record(&batch, &Limits::default(), |it| it.timestamp == sought);
            let found = found.unwrap().map(|found| (found.offset, found.timestamp));
            prop_assert_eq!(found, first.map(|record| (record.offset, record.timestamp)));
        }

        let set = oracle::RecordBatchDecoder::decode(&mut batch.clone()).unwrap();
        prop_assert_eq!(set.compression, oracle_compression(compression));
        prop_assert_eq!(set.records[0].producer_id, 77);
        prop_assert_eq!(set.records[0].sequence, 5);
        let theirs: Vec<_> = set.records.into_iter().map(from_oracle).collect();
        prop_assert_eq!(theirs, drawn);
    }

    #[test]
    fn what_the_oracle_writes_we_read(drawn in records(), compression in compression()) {
        let theirs: Vec<_> = drawn.iter().map(to_oracle).collect();
        let options = oracle::RecordEncodeOptions {
            version: 2,
            compression: oracle_compression(compression),
        };
        let mut out = BytesMut::new();
        oracle::RecordBatchEncoder::encode(&mut out, &theirs, &options).unwrap();
        let batch = out.freeze();
        let info = batch::validate(&batch, &Limits::default()).unwrap();
        prop_assert_eq!(info.header.producer_id, 77);
        prop_assert_eq!((info.header.producer_epoch, info.header.base_sequence), (3, 5));
        prop_assert_eq!(read(&batch), drawn);
    }

    #[test]
    fn raw_snappy_is_read_as_librdkafka_writes_it(drawn in records()) {
        let plain = build(&drawn, Compression::None);
        let raw = snap::raw::Encoder::new().compress_vec(&plain[HEADER_BYTES..]).unwrap();
        let batch = with_payload(&plain, Compression::Snappy.code(), &raw);
        let info = batch::validate(&batch, &Limits::default()).unwrap();
        prop_assert_eq!(info.uncompressed_bytes as usize, plain.len() - HEADER_BYTES);
        prop_assert_eq!(read(&batch), drawn);
    }
}

#[test]
fn keys_and_values_share_the_memory_of_an_uncompressed_batch() {
    let mut builder = BatchBuilder::new();
    builder.push(1, Some(b"key"), Some(b"value"), &[]);
    let batch = builder.build().unwrap();
    let record = batch::records(&batch).unwrap().next().unwrap().unwrap();
    let within = batch.as_ptr_range();
    assert!(within.contains(&record.value.unwrap().as_ptr()), "WIRE-4");
}

#[test]
fn log_append_time_counts_for_all_records() {
    let mut builder = BatchBuilder::new().base_offset(40);
    builder.push(1, None, Some(b"a"), &[]);
    builder.push(9, None, Some(b"b"), &[]);
    let mut batch = builder.build().unwrap().to_vec();
    batch[22] |= 1 << 3;
    let times: Vec<_> =
        read(&support::reseal(batch)).iter().map(|r| (r.offset, r.timestamp)).collect();
    assert_eq!(times, [(40, 9), (41, 9)]);
}
