//! Any bytes as record batches, as they are and with length and checksum repaired, so that the
//! fuzzer gets past these. What validates must read completely (`BATCH-1`).

use bytes::Bytes;
use lossproof_wire::batch::{
    HEADER_BYTES, LENGTH_END, Limits, find_record, records_within, split, validate,
};

const LIMITS: Limits = Limits { batch_bytes_max: 1 << 20, uncompressed_bytes_max: 1 << 20 };

pub fn check(data: &[u8]) {
    for part in split(&Bytes::copy_from_slice(data)).flatten() {
        let _ = validate(&part, &LIMITS);
    }
    if data.len() < HEADER_BYTES {
        return;
    }
    let mut repaired = data.to_vec();
    let length = (repaired.len() - LENGTH_END) as u32;
    repaired[8..12].copy_from_slice(&length.to_be_bytes());
    repaired[16] = 2;
    let checksum = crc32c::crc32c(&repaired[21..]);
    repaired[17..21].copy_from_slice(&checksum.to_be_bytes());
    let batch = Bytes::from(repaired);
    let read = records_within(&batch, &LIMITS).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = find_record(&batch, &LIMITS, |_| true);
    if let Ok(info) = validate(&batch, &LIMITS) {
        let read = read.expect("BATCH-1");
        assert_eq!(read.len(), info.header.record_count as usize, "BATCH-1");
        let first = found.expect("BATCH-1").expect("a batch has a record");
        assert_eq!(first.offset, info.header.base_offset, "BATCH-1");
    }
}
