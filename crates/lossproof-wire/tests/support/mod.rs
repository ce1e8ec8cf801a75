//! Batches taken apart and put together again with a valid length and checksum, and a small seeded
//! generator. Not all test files need all of it.
#![allow(dead_code)]

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

/// SplitMix64.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
