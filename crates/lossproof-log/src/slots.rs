//! Two small files written in turn, for what must be known even where a write was torn.
//!
//! # Invariants
//! - SLOT-1: the two slots are written in turn, each in a block of its own and synced before the
//!   other is touched, so that a torn write leaves the other one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossproof_env::{Disk, DiskFile};

use crate::frame::{BLOCK, FORMAT_VERSION, get_u32, get_u64};
use crate::scan::read_around;

pub(crate) const BYTES: usize = 64;
/// What a slot says begins here; before it stand magic, version and turn.
pub(crate) const BODY_AT: usize = 16;
pub(crate) const CRC_AT: usize = 60;

/// What a pair of slots holds.
pub(crate) trait Slotted: Copy {
    const MAGIC: [u8; 7];
    const NAMES: [&'static str; 2];
    /// Writes itself from [`BODY_AT`] to [`CRC_AT`].
    fn put(&self, out: &mut [u8; BYTES]);
    fn get(bytes: &[u8; BYTES]) -> Option<Self>;
}

pub(crate) fn encode<T: Slotted>(value: &T, directory_id: u64, turn: u64) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..7].copy_from_slice(&T::MAGIC);
    out[7] = FORMAT_VERSION;
    out[8..BODY_AT].copy_from_slice(&turn.to_be_bytes());
    value.put(&mut out);
    let crc = checksum(&out, directory_id);
    out[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    out
}

pub(crate) fn decode<T: Slotted>(bytes: &[u8; BYTES], directory_id: u64) -> Option<(u64, T)> {
    let good = get_u32(bytes, CRC_AT)? == checksum(bytes, directory_id);
    parse(bytes).filter(|_| good)
}

/// What a slot says, whether it verifies or not.
pub(crate) fn parse<T: Slotted>(bytes: &[u8; BYTES]) -> Option<(u64, T)> {
    let ours = bytes[..7] == T::MAGIC && bytes[7] == FORMAT_VERSION;
    if ours { Some((get_u64(bytes, 8)?, T::get(bytes)?)) } else { None }
}

fn checksum(bytes: &[u8; BYTES], directory_id: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&directory_id.to_be_bytes()), &bytes[..CRC_AT])
}

/// Both slots, open for writing.
#[derive(Debug)]
pub(crate) struct Slots {
    files: [Arc<dyn DiskFile>; 2],
    directory_id: u64,
    turn: u64,
    /// Both were written, and neither can be read: no crash leaves that (SLOT-1).
    pub(crate) unreadable: bool,
}

impl Slots {
    /// Opens the slots, creating what is missing, and reads the newer valid one.
    pub(crate) fn open<T: Slotted>(
        disk: &dyn Disk,
        directory: &Path,
        directory_id: u64,
    ) -> io::Result<(Self, Option<T>)> {
        let [first, second] = T::NAMES.map(|name| open_slot(disk, &directory.join(name)));
        let files = [first?, second?];
        disk.sync_dir(directory)?;
        let newest = newest::<T>(files.iter(), directory_id)?;
        let turn = newest.map_or(0, |(turn, _)| turn);
        let mut unreadable = newest.is_none();
        for file in &files {
            let mut bytes = [0; BYTES];
            read_around(&**file, &mut bytes, 0)?;
            unreadable &= bytes != [0; BYTES];
        }
        let slots = Self { files, directory_id, turn, unreadable };
        Ok((slots, newest.map(|(_, value)| value)))
    }

    /// Makes `value` durable in the slot that does not hold the present one (SLOT-1).
    pub(crate) fn write<T: Slotted>(&mut self, value: &T) -> io::Result<()> {
        let turn = self.turn + 1;
        let slot = &self.files[(turn % 2) as usize];
        slot.write_all_at(&encode(value, self.directory_id, turn), 0)?;
        slot.sync_data()?;
        self.turn = turn;
        Ok(())
    }

    /// Twice, one after the other, so that the loss of one slot loses nothing.
    pub(crate) fn write_both<T: Slotted>(&mut self, value: &T) -> io::Result<()> {
        self.write(value)?;
        self.write(value)
    }
}

/// The newer valid slot, if there is any; changes nothing.
pub(crate) fn read<T: Slotted>(
    disk: &dyn Disk,
    directory: &Path,
    directory_id: u64,
) -> io::Result<Option<T>> {
    let mut files = Vec::new();
    for path in T::NAMES.map(|name| directory.join(name)) {
        if disk.exists(&path)? {
            files.push(disk.open_read_only(&path)?);
        }
    }
    Ok(newest::<T>(files.iter(), directory_id)?.map(|(_, value)| value))
}

/// Slots that were written and do not verify: torn by a crash, or damaged since.
pub(crate) fn unreadable<T: Slotted>(
    disk: &dyn Disk,
    directory: &Path,
    directory_id: u64,
) -> io::Result<Vec<PathBuf>> {
    let mut unreadable = Vec::new();
    for path in T::NAMES.map(|name| directory.join(name)) {
        if !disk.exists(&path)? {
            continue;
        }
        let mut bytes = [0; BYTES];
        match read_around(&*disk.open_read_only(&path)?, &mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            result => result?,
        }
        if bytes != [0; BYTES] && decode::<T>(&bytes, directory_id).is_none() {
            unreadable.push(path);
        }
    }
    Ok(unreadable)
}

/// The valid slot with the higher turn.
fn newest<'a, T: Slotted>(
    files: impl Iterator<Item = &'a Arc<dyn DiskFile>>,
    directory_id: u64,
) -> io::Result<Option<(u64, T)>> {
    let mut newest: Option<(u64, T)> = None;
    for file in files {
        let mut bytes = [0; BYTES];
        match read_around(&**file, &mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            result => result?,
        }
        let found = decode(&bytes, directory_id);
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
