//! Cold files: batches out of old segments, those of a partition together, in frames like those of
//! the journal, so that one reader, one checksum and one salvage serve both.
//!
//! # Invariants
//! - COLD-1: a cold file is written once, synced with its name, and only then named by a
//!   checkpoint; it is never changed.
//! - COLD-2: every batch is verified when it is copied; one that does not verify ends the copying.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use lossproof_env::{Disk, DiskFile, Planted, planted};

use crate::commit::PartitionId;
use crate::effect::BatchPlace;
use crate::frame::{BLOCK, Entry, Item, Life, Payload, Stamp, encode, frame_bytes};
use crate::partition::{IndexEntry, Place, add_to_index};
use crate::reader::ReadSegment;
use crate::segment::{DATA_AT, SegmentHeader};

/// A frame takes no more batches once it has reached this size.
const FRAME_TARGET_BYTES: usize = 120 << 10;
/// An index entry covers so much of a file at most.
const RUN_BLOCKS_MAX: u32 = (1 << 20) / BLOCK as u32;
/// So much is written between two syncs: the journal's own syncs must not wait for more.
const SYNC_BYTES: u64 = 1 << 20;

pub(crate) fn path_of(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:016}.cold"))
}

/// The sequence in a cold file's name.
pub(crate) fn sequence_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".cold")?;
    (name.len() == 16).then(|| name.parse().ok()).flatten()
}

/// A cold file in the making.
#[derive(Debug)]
pub(crate) struct ColdWriter {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    life: Life,
    position: u64,
    synced: u64,
    frames: u64,
    items: Vec<Item>,
    payload: usize,
    buffer: Vec<u8>,
    index: BTreeMap<PartitionId, Vec<IndexEntry>>,
}

/// A cold file that is durable, and where its batches are.
#[derive(Debug)]
pub(crate) struct ColdFile {
    pub(crate) segment: Arc<ReadSegment>,
    pub(crate) bytes: u64,
    pub(crate) index: BTreeMap<PartitionId, Vec<IndexEntry>>,
}

impl ColdWriter {
    pub(crate) fn create(disk: &dyn Disk, path: PathBuf, life: Life) -> io::Result<Self> {
        let file = disk.create(&path)?;
        let header = SegmentHeader { life, first_frame: 1, recycled: false };
        header.write_both(&*file)?;
        Ok(Self {
            path,
            file,
            life,
            position: DATA_AT,
            synced: 0,
            frames: 0,
            items: Vec::new(),
            payload: 0,
            buffer: Vec::new(),
            index: BTreeMap::new(),
        })
    }

    /// Adds a batch; those of a partition come together, in the order of their offsets.
    pub(crate) fn push(&mut self, entry: Entry, batch: Bytes) -> io::Result<()> {
        let together = frame_bytes(self.items.len() + 1, self.payload + batch.len());
        if !self.items.is_empty() && together > FRAME_TARGET_BYTES as u64 {
            self.flush()?;
        }
        self.payload += batch.len();
        self.items.push(Item { entry, payload: Payload::Plain(batch) });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        let stamp =
            Stamp { number: self.frames + 1, durable_through: 0, wall_ms: 0, running_ms: 0 };
        encode(&mut self.buffer, &self.life, stamp, &self.items);
        self.file.write_all_at(&self.buffer, self.position)?;
        let place = Place {
            segment: self.life.file_key(),
            block: (self.position / BLOCK) as u32,
            blocks: (self.buffer.len() as u64 / BLOCK) as u32,
            run: 0,
        };
        for Item { entry, payload } in self.items.drain(..) {
            let batch = BatchPlace {
                id: entry.partition,
                base_offset: entry.base_offset,
                last_offset: entry.last_offset,
                max_timestamp: entry.max_timestamp,
                bytes: payload.len() as u32,
                part: None,
            };
            let entries = self.index.entry(batch.id).or_default();
            add_to_index(entries, &batch, &place, true, RUN_BLOCKS_MAX);
        }
        self.payload = 0;
        self.frames += 1;
        self.position += self.buffer.len() as u64;
        if self.position >= self.synced + SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.position;
        }
        Ok(())
    }

    /// Writes what is left and makes it all durable, but for the name (COLD-1).
    pub(crate) fn finish(mut self) -> io::Result<ColdFile> {
        self.flush()?;
        if !planted(Planted::ColdFileNotSynced) {
            self.file.sync_data()?;
        }
        let Self { path, file, life, position, index, .. } = self;
        let segment = ReadSegment { life, path, file, first_frame: 1, recycled: false };
        Ok(ColdFile { segment: Arc::new(segment), bytes: position, index })
    }
}
