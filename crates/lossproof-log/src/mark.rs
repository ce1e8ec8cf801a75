//! The durable mark: what is known to be on disk, kept apart from the frames.
//!
//! # Invariants
//! - MARK-1: the two slots are written in turn, each in a block of its own, so that a torn write
//!   leaves the other one.
//! - MARK-2: a mark never names a frame whose fdatasync has not returned.

use std::io;
use std::path::Path;
use std::sync::Arc;

use lossproof_env::{Disk, DiskFile};

use crate::frame::{BLOCK, FORMAT_VERSION, get_u32, get_u64};
use crate::scan::read_around;

const MAGIC: [u8; 7] = *b"LPMARK\0";
const BYTES: usize = 64;
const CRC_AT: usize = 60;
const SLOTS: [&str; 2] = ["mark.0", "mark.1"];

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Mark {
    /// Of the open that wrote it.
    pub(crate) open_count: u64,
    pub(crate) durable_through: u64,
    /// The segment in use.
    pub(crate) segment: u64,
    /// Written at the end of an orderly close.
    pub(crate) clean: bool,
    /// Acknowledged frames at the end were found missing: no writes until a person has decided.
    pub(crate) end_lost: bool,
    /// As in a frame, at the time of writing.
    pub(crate) running_ms: u64,
}

impl Mark {
    fn encode(&self, directory_id: u64, turn: u64) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..7].copy_from_slice(&MAGIC);
        out[7] = FORMAT_VERSION;
        out[8..16].copy_from_slice(&turn.to_be_bytes());
        out[16..24].copy_from_slice(&self.open_count.to_be_bytes());
        out[24..32].copy_from_slice(&self.durable_through.to_be_bytes());
        out[32..40].copy_from_slice(&self.segment.to_be_bytes());
        out[40..48].copy_from_slice(&self.running_ms.to_be_bytes());
        out[48] = u8::from(self.clean);
        out[49] = u8::from(self.end_lost);
        let crc = checksum(&out, directory_id);
        out[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8; BYTES], directory_id: u64) -> Option<(u64, Self)> {
        let good = bytes[..7] == MAGIC
            && bytes[7] == FORMAT_VERSION
            && get_u32(bytes, CRC_AT)? == checksum(bytes, directory_id);
        let mark = Self {
            open_count: get_u64(bytes, 16)?,
            durable_through: get_u64(bytes, 24)?,
            segment: get_u64(bytes, 32)?,
            running_ms: get_u64(bytes, 40)?,
            clean: bytes[48] == 1,
            end_lost: bytes[49] == 1,
        };
        good.then_some((get_u64(bytes, 8)?, mark))
    }
}

fn checksum(bytes: &[u8; BYTES], directory_id: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&directory_id.to_be_bytes()), &bytes[..CRC_AT])
}

/// Both slots, open for writing.
#[derive(Debug)]
pub(crate) struct MarkFile {
    slots: [Arc<dyn DiskFile>; 2],
    directory_id: u64,
    turn: u64,
}

impl MarkFile {
    /// Opens the slots, creating what is missing, and reads the newer valid mark.
    pub(crate) fn open(
        disk: &dyn Disk,
        journal: &Path,
        directory_id: u64,
    ) -> io::Result<(Self, Option<Mark>)> {
        let [first, second] = SLOTS.map(|name| open_slot(disk, &journal.join(name)));
        let slots = [first?, second?];
        disk.sync_dir(journal)?;
        let newest = newest(slots.iter(), directory_id)?;
        let turn = newest.map_or(0, |(turn, _)| turn);
        Ok((Self { slots, directory_id, turn }, newest.map(|(_, mark)| mark)))
    }

    /// Makes `mark` durable in the slot that does not hold the present one (MARK-1).
    pub(crate) fn write(&mut self, mark: &Mark) -> io::Result<()> {
        let turn = self.turn + 1;
        let slot = &self.slots[(turn % 2) as usize];
        slot.write_all_at(&mark.encode(self.directory_id, turn), 0)?;
        slot.sync_data()?;
        self.turn = turn;
        Ok(())
    }
}

/// The newer valid mark, if there is any; changes nothing.
pub(crate) fn read(disk: &dyn Disk, journal: &Path, directory_id: u64) -> io::Result<Option<Mark>> {
    let mut slots = Vec::new();
    for path in SLOTS.map(|name| journal.join(name)) {
        if disk.exists(&path)? {
            slots.push(disk.open_read_only(&path)?);
        }
    }
    Ok(newest(slots.iter(), directory_id)?.map(|(_, mark)| mark))
}

/// The valid mark with the higher turn.
fn newest<'a>(
    slots: impl Iterator<Item = &'a Arc<dyn DiskFile>>,
    directory_id: u64,
) -> io::Result<Option<(u64, Mark)>> {
    let mut newest: Option<(u64, Mark)> = None;
    for slot in slots {
        let mut bytes = [0; BYTES];
        match read_around(&**slot, &mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            result => result?,
        }
        let found = Mark::decode(&bytes, directory_id);
        if found.map(|(turn, _)| turn) > newest.map(|(turn, _)| turn) {
            newest = found;
        }
    }
    Ok(newest)
}

fn open_slot(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    let file = if disk.exists(path)? { disk.open(path)? } else { disk.create(path)? };
    if file.len()? < BLOCK {
        file.preallocate(BLOCK)?;
        file.sync_data()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_only_in_its_directory() {
        let mark = Mark {
            open_count: 2,
            durable_through: 77,
            segment: 3,
            clean: true,
            end_lost: true,
            running_ms: 5,
        };
        let bytes = mark.encode(9, 4);
        assert_eq!(Mark::decode(&bytes, 9), Some((4, mark)));
        assert_eq!(Mark::decode(&bytes, 8), None);
        for bit in 0..BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&damaged, 9), None, "bit {bit}");
        }
    }
}
