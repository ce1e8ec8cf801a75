//! Segment files: preallocated, zero-written, and used again when a checkpoint covers them.
//!
//! # Invariants
//! - SEGMENT-1: bytes at or beyond [`SegmentFile::zeroed`] are never written by the commit
//!   thread, and bytes before it never by the one that writes zeros.
//! - SEGMENT-2: a valid header is durable evidence that every frame before its `first_frame` is
//!   durable elsewhere: the segment before was synced, or recovery has judged it.
//! - SEGMENT-3: a segment that is used again has a new sequence, and loses its old headers before
//!   it gets its new name: nothing that stands behind them verifies in its new life (LAYOUT-2).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lossproof_env::{Disk, DiskFile, Planted, planted};

use crate::frame::{BLOCK, FORMAT_VERSION, Life, get_u32, get_u64};
use crate::scan::read_around;

/// Two copies of the header, each in a block of its own, come first.
pub(crate) const DATA_AT: u64 = 2 * BLOCK;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const MAGIC: [u8; 7] = *b"LPSEGMT";
const CRC_AT: usize = 60;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SegmentHeader {
    pub(crate) life: Life,
    /// Frames of earlier segments with this number or a higher one are void.
    pub(crate) first_frame: u64,
    /// The file was in use before: behind its frames stands what is left of an earlier life.
    pub(crate) recycled: bool,
}

/// What stands where a segment's header should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HeaderState {
    Valid(SegmentHeader),
    /// Never activated.
    Blank,
    /// The first copy is unreadable and the second was never written: what a crash in the middle
    /// of the activation leaves, since the copies are synced one after the other.
    Torn,
    /// Torn, and no frame behind it.
    Void,
    Damaged,
    /// A header of a format that this program does not know.
    Version(u8),
}

impl SegmentHeader {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..7].copy_from_slice(&MAGIC);
        out[7] = FORMAT_VERSION;
        out[8..16].copy_from_slice(&self.life.directory_id.to_be_bytes());
        out[16..24].copy_from_slice(&self.life.segment.to_be_bytes());
        out[24..32].copy_from_slice(&self.life.incarnation.to_be_bytes());
        out[32..40].copy_from_slice(&self.first_frame.to_be_bytes());
        out[40] = u8::from(self.recycled);
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Writes both copies to a file that nobody reads yet.
    pub(crate) fn write_both(&self, file: &dyn DiskFile) -> io::Result<()> {
        let bytes = self.encode();
        file.write_all_at(&bytes, 0)?;
        file.write_all_at(&bytes, BLOCK)
    }

    fn decode(bytes: &[u8], directory_id: u64, segment: u64) -> HeaderState {
        match Self::parse(bytes) {
            HeaderState::Valid(found)
                if (found.life.directory_id, found.life.segment) != (directory_id, segment) =>
            {
                HeaderState::Damaged
            }
            state => state,
        }
    }

    /// Of whatever log and file.
    pub(crate) fn parse(bytes: &[u8]) -> HeaderState {
        let parse = || {
            let bytes = bytes.get(..HEADER_BYTES)?;
            if bytes.iter().all(|byte| *byte == 0) {
                return Some(HeaderState::Blank);
            }
            if bytes.get(..7)? != MAGIC || get_u32(bytes, CRC_AT)? != crc32c::crc32c(&bytes[..60]) {
                return None;
            }
            if *bytes.get(7)? != FORMAT_VERSION {
                return Some(HeaderState::Version(*bytes.get(7)?));
            }
            let life = Life::new(get_u64(bytes, 8)?, get_u64(bytes, 16)?, get_u64(bytes, 24)?);
            let (first_frame, recycled) = (get_u64(bytes, 32)?, *bytes.get(40)? == 1);
            Some(HeaderState::Valid(Self { life, first_frame, recycled }))
        };
        parse().unwrap_or(HeaderState::Damaged)
    }
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Size it will have.
    pub(crate) capacity: u64,
    pub(crate) recycled: bool,
    zeroed: AtomicU64,
    extending: Mutex<()>,
}

pub(crate) fn path_of(journal: &Path, sequence: u64) -> PathBuf {
    journal.join(format!("{sequence:016}.wal"))
}

/// The sequence in a segment's file name.
pub(crate) fn sequence_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    (name.len() == 16).then(|| name.parse().ok()).flatten()
}

impl SegmentFile {
    /// Makes a segment that is durable with its name, but not yet activated. Leaves nothing
    /// behind when it fails.
    pub(crate) fn create(
        disk: &dyn Disk,
        journal: &Path,
        sequence: u64,
        sizes: SegmentSizes,
    ) -> io::Result<Arc<Self>> {
        assert!(sizes.initial <= sizes.capacity, "the first step lies within the segment");
        let path = path_of(journal, sequence);
        make_way(disk, &path)?;
        let file = disk.create(&path)?;
        let made = file.preallocate(sizes.initial).and_then(|()| file.sync_data()).and_then(|()| {
            if planted(Planted::SkipDirSync) { Ok(()) } else { disk.sync_dir(journal) }
        });
        if let Err(error) = made {
            // The file holds nothing. Where it cannot even be removed, the next try does so.
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(Arc::new(Self {
            sequence,
            path,
            file,
            capacity: sizes.capacity,
            recycled: false,
            zeroed: AtomicU64::new(sizes.initial),
            extending: Mutex::new(()),
        }))
    }

    /// Makes a segment out of the file at `old`, which has its full size and which nothing needs
    /// any more (SEGMENT-3). Removes it where that fails, whatever its name is by then: a file with
    /// a failed sync is not used.
    pub(crate) fn recycle(
        disk: &dyn Disk,
        journal: &Path,
        sequence: u64,
        old: &Path,
    ) -> io::Result<Arc<Self>> {
        let path = path_of(journal, sequence);
        let mut place = old;
        let mut make = || {
            let file = disk.open(old)?;
            if !planted(Planted::RecycledHeaderKept) {
                file.write_all_at(&[0; DATA_AT as usize], 0)?;
            }
            if !planted(Planted::RecycledHeaderNotSynced) {
                file.sync_data()?;
            }
            // A rename would replace what is there.
            make_way(disk, &path)?;
            disk.rename(old, &path)?;
            place = &path;
            disk.sync_dir(journal)?;
            Ok((file.len()?, file))
        };
        let made: io::Result<_> = make();
        if made.is_err() {
            // As in `create`; under its old name the next open removes it.
            let _ = disk.remove(place);
        }
        let (capacity, file) = made?;
        let (zeroed, extending) = (AtomicU64::new(capacity), Mutex::new(()));
        Ok(Arc::new(Self { sequence, path, file, capacity, recycled: true, zeroed, extending }))
    }

    /// Where the part ends that has been written before, with zeros or in an earlier life. The
    /// commit thread writes before it only (SEGMENT-1).
    pub(crate) fn zeroed(&self) -> u64 {
        self.zeroed.load(Ordering::Acquire)
    }

    /// Writes zeros up to `target`; `file` is this segment's own or another handle of it. Syncs
    /// where `sync` is set, before the new part may be used.
    pub(crate) fn extend(&self, file: &dyn DiskFile, target: u64, sync: bool) -> io::Result<()> {
        let guard = self.extending.lock();
        let target = target.min(self.capacity);
        if target > self.zeroed() {
            file.preallocate(target)?;
            if sync {
                file.sync_data()?;
            }
            self.zeroed.store(target, Ordering::Release);
        }
        drop(guard);
        Ok(())
    }

    /// Writes both copies of the header, and syncs each before it goes on, so that no crash can
    /// ruin both. Before this call recovery takes no notice of the segment, whatever it holds.
    pub(crate) fn activate(&self, header: &SegmentHeader) -> io::Result<()> {
        assert_eq!(header.life.segment, self.sequence, "a header belongs to its segment");
        let bytes = header.encode();
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync_data()?;
        self.file.write_all_at(&bytes, BLOCK)?;
        self.file.sync_data()
    }
}

/// Makes sure that there is nothing at `path`. A file that was never activated holds nothing: it is
/// what a try has left that failed, and that could not even remove it.
fn make_way(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if !disk.exists(path)? {
        return Ok(());
    }
    if header_copies(&*disk.open(path)?, 0, 0)? != [HeaderState::Blank; 2] {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    disk.remove(path)
}

/// What stands where each copy of a header should be.
pub(crate) fn header_copies(
    file: &dyn DiskFile,
    directory_id: u64,
    sequence: u64,
) -> io::Result<[HeaderState; 2]> {
    let mut states = [HeaderState::Damaged; 2];
    for (index, state) in states.iter_mut().enumerate() {
        let mut bytes = [0; HEADER_BYTES];
        match read_around(file, &mut bytes, index as u64 * BLOCK) {
            Ok(()) => *state = SegmentHeader::decode(&bytes, directory_id, sequence),
            // A file that ends before its header was never activated.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                *state = HeaderState::Blank;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(states)
}

/// Reads a segment's header from whichever copy is good.
pub(crate) fn read_header(
    file: &dyn DiskFile,
    directory_id: u64,
    sequence: u64,
) -> io::Result<HeaderState> {
    let [first, second] = header_copies(file, directory_id, sequence)?;
    Ok(match (first, second) {
        (HeaderState::Valid(_) | HeaderState::Version(_), _) => first,
        (_, HeaderState::Valid(_) | HeaderState::Version(_)) => second,
        (HeaderState::Blank, HeaderState::Blank) => HeaderState::Blank,
        (HeaderState::Damaged, HeaderState::Blank) => HeaderState::Torn,
        _ => HeaderState::Damaged,
    })
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSizes {
    pub(crate) capacity: u64,
    /// Zero-written before the first use.
    pub(crate) initial: u64,
}
