//! Batches taken apart and put together again with a valid length and checksum. Not all test files
//! need all of it.

use bytes::Bytes;
use lossproof_wire::batch::HEADER_BYTES;

/// Recomputes length and checksum after an edit.
pub(crate) fn reseal(mut batch: Vec<u8>) -> Bytes {
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    batch.into()
}

/// The batch with other compression bits and another payload.
pub(crate) fn with_payload(batch: &[u8], attributes: i16, payload: &[u8]) -> Bytes {
    let mut edited = [&batch[..HEADER_BYTES], payload].concat();
    edited[21..23].copy_from_slice(&attributes.to_be_bytes());
    reseal(edited)
}
