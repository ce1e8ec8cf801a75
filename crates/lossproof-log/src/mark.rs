//! The durable mark: what is known to be on disk, kept apart from the frames.
//!
//! # Invariants
//! - MARK-1: a torn write of a mark leaves the one before (SLOT-1).
//! - MARK-2: a mark never names a frame whose fdatasync has not returned.
//! - MARK-3: what has been durable for longer than `mark_after` and the syncs in work is named by
//!   both slots, however busy the log is: what is damaged at the end is known for that, and not cut
//!   as never acknowledged; also where a slot is lost with it.

use crate::frame::{get_i64, get_u64};
use crate::slots::{BYTES, Slotted};

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    /// Of the open that wrote it.
    pub(crate) open_count: u64,
    pub(crate) durable_through: u64,
    /// The segment in use.
    pub(crate) segment: u64,
    /// Written at the end of an orderly close.
    pub(crate) clean: bool,
    /// A start gives up the end: what follows the segment in use was made behind frames that it
    /// did not see.
    pub(crate) end_lost: bool,
    /// As in a frame, at the time of writing.
    pub(crate) running_ms: u64,
    /// The wall clock as it was believed last (CLOCK-3); 0 in marks of before that.
    pub(crate) wall_ms: i64,
}

impl Slotted for Mark {
    const MAGIC: [u8; 7] = *b"LPMARK\0";
    const NAMES: [&'static str; 2] = ["mark.0", "mark.1"];

    fn put(&self, out: &mut [u8; BYTES]) {
        out[16..24].copy_from_slice(&self.open_count.to_be_bytes());
        out[24..32].copy_from_slice(&self.durable_through.to_be_bytes());
        out[32..40].copy_from_slice(&self.segment.to_be_bytes());
        out[40..48].copy_from_slice(&self.running_ms.to_be_bytes());
        out[48] = u8::from(self.clean);
        out[49] = u8::from(self.end_lost);
        out[50..58].copy_from_slice(&self.wall_ms.to_be_bytes());
    }

    fn get(bytes: &[u8; BYTES]) -> Option<Self> {
        Some(Self {
            open_count: get_u64(bytes, 16)?,
            durable_through: get_u64(bytes, 24)?,
            segment: get_u64(bytes, 32)?,
            running_ms: get_u64(bytes, 40)?,
            wall_ms: get_i64(bytes, 50)?,
            clean: bytes[48] == 1,
            end_lost: bytes[49] == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::{decode, encode};

    #[test]
    fn a_mark_reads_back_and_only_in_its_directory() {
        let mark = Mark {
            open_count: 2,
            durable_through: 77,
            segment: 3,
            clean: true,
            end_lost: true,
            running_ms: 5,
            wall_ms: 6,
        };
        let bytes = encode(&mark, 9, 4);
        assert_eq!(decode(&bytes, 9), Some((4, mark)));
        assert_eq!(decode::<Mark>(&bytes, 8), None);
        for bit in 0..BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode::<Mark>(&damaged, 9), None, "bit {bit}");
        }
    }
}
