//! Story: a batch that is stored but cannot be read is lost for every consumer, and it was
//! acknowledged. So each way in which a batch can be wrong is refused at the door, with the error
//! that makes the producer do the right thing; and nothing a batch claims makes us allocate.
//!
//! Holds `BATCH-1`, `BATCH-2`, `BATCH-3`.

use crate::support;

use std::io::Write as _;

use bytes::Bytes;
use lossproof_wire::ErrorCode;
use lossproof_wire::batch::{
    self, BatchBuilder, BatchError, BatchHeader, Compression, HEADER_BYTES, Limits, RecordHeader,
};
use support::{reseal, with_payload};

fn three_records(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new().compression(compression).producer(7, 1, 10);
    let headers = [RecordHeader::new("name", "content")];
    builder.push(1_000, Some(b"k"), Some(b"first"), &headers);
    builder.push(1_001, None, Some(b"second"), &[]);
    builder.push(999, Some(b"k"), None, &headers);
    builder.build().unwrap()
}

fn validate(batch: &Bytes) -> Result<batch::BatchInfo, BatchError> {
    batch::validate(batch, &Limits::default())
}

/// The batch with bytes replaced and the checksum made good again.
fn edited(at: usize, with: &[u8]) -> Bytes {
    let mut batch = three_records(Compression::None).to_vec();
    batch[at..at + with.len()].copy_from_slice(with);
    reseal(batch)
}

fn refusal(batch: &Bytes) -> (BatchError, ErrorCode) {
    let error = validate(batch).expect_err("must be refused");
    let code = error.error_code();
    (error, code)
}

#[test]
fn every_changed_byte_is_noticed_but_for_the_two_fields_of_the_broker() {
    for compression in Compression::ALL {
        let batch = three_records(compression);
        for at in 0..batch.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = batch.to_vec();
                changed[at] ^= flip;
                let brokers_own = at < 8 || (12..16).contains(&at);
                assert_eq!(validate(&changed.into()).is_ok(), brokers_own, "byte {at}");
            }
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let batch = three_records(Compression::None);
    for length in 0..batch.len() {
        assert!(validate(&batch.slice(..length)).is_err(), "{length} bytes");
    }
    let longer = Bytes::from([&batch[..], b"x"].concat());
    assert!(matches!(refusal(&longer).0, BatchError::WrongLength { .. }));
}

#[test]
fn a_broken_checksum_is_the_only_fault_that_sending_again_can_cure() {
    let mut batch = three_records(Compression::None).to_vec();
    *batch.last_mut().unwrap() ^= 1;
    let (error, code) = refusal(&batch.into());
    assert!(matches!(error, BatchError::WrongChecksum { .. }));
    assert_eq!(code, ErrorCode::CORRUPT_MESSAGE);
}

#[test]
fn old_formats_are_named() {
    for magic in [0, 1, 3] {
        let (error, code) = refusal(&edited(16, &[magic]));
        assert_eq!(error, BatchError::UnsupportedMagic { magic: magic as i8 });
        assert_eq!(code, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT);
    }
}

#[test]
fn impossible_headers_are_refused() {
    let count = |n: i32| edited(57, &n.to_be_bytes());
    let delta = |n: i32| edited(23, &n.to_be_bytes());
    for batch in [count(0), count(-1), count(2), count(i32::MAX), delta(1), delta(-1), delta(3)] {
        let (error, code) = refusal(&batch);
        assert!(matches!(error, BatchError::WrongCount { .. }), "{error}");
        assert_eq!(code, ErrorCode::INVALID_RECORD);
    }
    for batch in [edited(51, &(-1_i16).to_be_bytes()), edited(53, &(-1_i32).to_be_bytes())] {
        assert!(matches!(refusal(&batch).0, BatchError::WrongSequence { .. }));
    }
    let attributes = |bits: i16| refusal(&edited(21, &bits.to_be_bytes()));
    assert_eq!(attributes(5).1, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(attributes(1 << 3).1, ErrorCode::INVALID_TIMESTAMP);
    for bit in 6..16 {
        assert!(matches!(attributes(1 << bit).0, BatchError::UnknownAttributes { .. }));
    }
}

#[test]
fn a_count_beyond_the_records_is_refused() {
    for (count, records) in [(4_i32, 3), (2, 3)] {
        let mut batch = three_records(Compression::None).to_vec();
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        let (error, _) = refusal(&reseal(batch));
        let expected = if count > records {
            BatchError::MalformedRecord { index: 3, reason: "it ends early" }
        } else {
            BatchError::TrailingBytes { count }
        };
        assert_eq!(error, expected);
    }
}

#[test]
fn malformed_records_are_refused_in_every_compression() {
    // length, attributes, timestamp delta, offset delta, key, value, header count
    let cases: [(&[u8], &str); 9] = [
        (&[1, 0, 0, 0, 1, 1, 0], "its length is negative"),
        (&[0, 0, 0, 0, 1, 1, 0], "its fields are longer than its length"),
        (&[10, 0, 0, 0, 1, 1, 0], "its fields are longer than its length"),
        (&[14, 0, 0, 0, 1, 1, 0, 0], "its length is longer than its fields"),
        (&[12, 0, 0, 0, 3, 1, 0], "a length is below -1"),
        (&[12, 0, 0, 0, 1, 1, 1], "its header count is negative"),
        (&[16, 0, 0, 0, 1, 1, 2, 1, 1], "a header has no key"),
        (&[20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0], "a number is wider than 32 bits"),
        (&[12, 0, 0, 0, 1, 1], "it ends early"),
    ];
    let mut one = BatchBuilder::new();
    one.push(5, None, None, &[]);
    let one = one.build().unwrap();
    assert_eq!(&one[HEADER_BYTES..], [12, 0, 0, 0, 1, 1, 0]);
    for (payload, expected) in cases {
        for (attributes, payload) in
            [(0, payload.to_vec()), (4, zstd::encode_all(payload, 1).unwrap())]
        {
            match refusal(&with_payload(&one, attributes, &payload)).0 {
                BatchError::MalformedRecord { index: 0, reason } => assert_eq!(reason, expected),
                other => panic!("{expected}: {other}"),
            }
        }
    }
}

#[test]
fn offsets_that_skip_or_repeat_are_refused() {
    for delta in [1_u8, 2, 4] {
        let mut one = BatchBuilder::new();
        one.push(5, None, None, &[]);
        let one = one.build().unwrap();
        let batch = with_payload(&one, 0, &[12, 0, 0, delta, 1, 1, 0]);
        assert!(matches!(refusal(&batch).0, BatchError::NotDense { index: 0, .. }));
    }
}

#[test]
fn a_huge_header_count_or_length_costs_nothing() {
    let mut one = BatchBuilder::new();
    one.push(5, None, None, &[]);
    let one = one.build().unwrap();
    let max = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    let count = [&[20, 0, 0, 0, 1, 1][..], &max].concat();
    let value = [&[20, 0, 0, 0, 1][..], &max, &[0]].concat();
    let length = [&max[..], &[0, 0, 0, 1, 1, 0]].concat();
    for payload in [count, value, length] {
        assert!(matches!(
            refusal(&with_payload(&one, 0, &payload)).0,
            BatchError::MalformedRecord { .. }
        ));
        assert!(batch::records(&with_payload(&one, 0, &payload)).unwrap().next().unwrap().is_err());
    }
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    const LIMIT: u64 = 1 << 20;
    let limits = Limits { uncompressed_bytes_max: LIMIT, ..Limits::default() };
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let mut builder = BatchBuilder::new().compression(compression);
        builder.push(1, None, Some(&vec![0; 8 << 20]), &[]);
        let bomb = builder.build().unwrap();
        assert!(bomb.len() < 1 << 20, "{compression}: {} bytes", bomb.len());
        let error = batch::validate(&bomb, &limits).unwrap_err();
        assert_eq!(error, BatchError::TooLargeUncompressed { limit: LIMIT });
        assert_eq!(error.error_code(), ErrorCode::MESSAGE_TOO_LARGE);
        let error = batch::records_within(&bomb, &limits).unwrap_err();
        assert_eq!(error, BatchError::TooLargeUncompressed { limit: LIMIT });
        assert!(validate(&bomb).is_ok(), "{compression}: within the default limit");
    }
}

#[test]
fn a_snappy_block_cannot_claim_more_than_its_bytes_can_give() {
    let one = three_records(Compression::None);
    // A raw block whose preamble says 1 GiB, and the same inside the xerial framing.
    let raw = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00, 0x61];
    let framed = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07", &raw[..]].concat();
    for payload in [&raw[..], &framed] {
        let (error, _) = refusal(&with_payload(&one, 2, payload));
        assert!(error.to_string().contains("claims too many bytes"), "{error}");
    }
}

/// BATCH-2: what a decompressor holds at a time does not grow with what a batch claims.
#[test]
fn no_decompressor_is_made_to_hold_more_than_32_mib() {
    let one = three_records(Compression::None);
    let limits = Limits { batch_bytes_max: 16 << 20, ..Limits::default() };
    let raw = snap::raw::Encoder::new().compress_vec(&vec![0; (32 << 20) + 1]).unwrap();
    let snappy = with_payload(&one, Compression::Snappy.code(), &raw);
    let error = batch::validate(&snappy, &limits).unwrap_err();
    assert!(error.to_string().contains("claims too many bytes"), "{error}");

    for (window_log, accepted) in [(25, true), (26, false)] {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&one[HEADER_BYTES..]).unwrap();
        let payload = encoder.finish().unwrap();
        let zstd = with_payload(&one, Compression::Zstd.code(), &payload);
        assert_eq!(validate(&zstd).is_ok(), accepted, "2^{window_log}");
    }
}

#[test]
fn compressed_data_that_is_none_is_refused() {
    let plain = three_records(Compression::None);
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        for payload in [&b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"[..], &plain[HEADER_BYTES..], b""] {
            let batch = with_payload(&plain, compression.code(), payload);
            let code = refusal(&batch).1;
            assert_eq!(code, ErrorCode::INVALID_RECORD, "{compression}");
        }
        // Cut off in the middle of the compressed stream.
        let whole = three_records(compression);
        for cut in 1..whole.len() - HEADER_BYTES - 8 {
            let batch = with_payload(&whole, compression.code(), &whole[HEADER_BYTES..][..cut]);
            assert_eq!(refusal(&batch).1, ErrorCode::INVALID_RECORD, "{compression} cut at {cut}");
        }
    }
}

#[test]
fn size_is_refused_before_anything_is_read() {
    let batch = three_records(Compression::None);
    let limits = Limits { batch_bytes_max: batch.len() - 1, ..Limits::default() };
    let error = batch::validate(&batch, &limits).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn transactional_and_control_batches_are_reported() {
    let mut builder = BatchBuilder::new().transactional(true).control(true);
    builder.push(1, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 0]), &[]);
    let info = validate(&builder.build().unwrap()).unwrap();
    assert!(info.header.attributes.is_transactional());
    assert!(info.header.attributes.is_control());
    let plain = validate(&three_records(Compression::None)).unwrap();
    assert!(!plain.header.attributes.is_transactional());
    assert!(!plain.header.attributes.is_control());
}

#[test]
fn the_broker_sets_offset_and_epoch_in_place() {
    let mut batch = three_records(Compression::Zstd).to_vec();
    batch::set_base_offset(&mut batch, 1 << 40).unwrap();
    batch::set_leader_epoch(&mut batch, 9).unwrap();
    let batch = Bytes::from(batch);
    let info = validate(&batch).expect("BATCH-3: the checksum still holds");
    assert_eq!((info.header.base_offset, info.header.partition_leader_epoch), (1 << 40, 9));
    assert_eq!(info.header.last_offset(), (1 << 40) + 2);
    let offsets: Vec<_> = batch::records(&batch).unwrap().map(|r| r.unwrap().offset).collect();
    assert_eq!(offsets, [1 << 40, (1 << 40) + 1, (1 << 40) + 2]);
    assert!(batch::set_base_offset(&mut [0; 7], 1).is_err());
    assert!(batch::set_leader_epoch(&mut [0; 15], 1).is_err());
}

#[test]
fn sequences_begin_again_after_the_largest() {
    let mut builder = BatchBuilder::new().producer(1, 0, i32::MAX - 1);
    for _ in 0..4 {
        builder.push(1, None, None, &[]);
    }
    let header = BatchHeader::parse(&builder.build().unwrap()).unwrap();
    assert_eq!(header.last_sequence(), 1);
}

#[test]
fn several_batches_come_apart_at_their_lengths() {
    let batches = [three_records(Compression::None), three_records(Compression::Gzip)];
    let joined = Bytes::from(batches.concat());
    let parts: Result<Vec<_>, _> = batch::split(&joined).collect();
    assert_eq!(parts.unwrap(), batches);
    assert_eq!(batch::split(&Bytes::new()).count(), 0);

    let cut = joined.slice(..joined.len() - 1);
    let parts: Vec<_> = batch::split(&cut).collect();
    assert_eq!(parts.len(), 2);
    assert!(matches!(parts[1], Err(BatchError::Truncated { .. })));

    // A length that lies forwards, backwards or below a header ends the walk.
    for length in [0, 48, -1, i32::MIN, i32::MAX] {
        let mut lying = joined.to_vec();
        lying[8..12].copy_from_slice(&length.to_be_bytes());
        let parts: Vec<_> = batch::split(&lying.into()).collect();
        assert_eq!(parts.len(), 1, "length {length}");
        assert!(parts[0].is_err());
    }
}
