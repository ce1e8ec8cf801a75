//! Checkpoints: what all segments up to one have left, so that these are not needed any more.
//!
//! # Invariants
//! - CHECKPOINT-1: both slots name a checkpoint, durably, before anything that it replaces is used
//!   again or removed.
//! - CHECKPOINT-2: a checkpoint stands in two files, alike; one that cannot be read whole from the
//!   two together is not used in part.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossproof_env::{Disk, DiskFile, Planted, planted};

use crate::cold::ColdFile;
use crate::commit::{PartitionId, StateKind};
use crate::compaction::Compacted;
use crate::frame::{Item, Life, Stamp, encode, frame_bytes, get_u32, get_u64};
use crate::recovery::Recovery;
use crate::scan::{FoundFrame, Scan};
use crate::segment::{DATA_AT, SegmentHeader};
use crate::slots::{BYTES, Slotted};
use crate::snapshot::{ColdFact, Fact, LogFact, MANY, PartitionFact};
use crate::state::StateTable;

/// A frame takes no more facts once it has reached this size.
const FRAME_TARGET_BYTES: u64 = 256 << 10;
const EXTENSIONS: [&str; 2] = ["a", "b"];

/// What a slot says: which checkpoint counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Checkpoint {
    pub(crate) sequence: u64,
    pub(crate) incarnation: u64,
    /// Of each of its files.
    pub(crate) bytes: u64,
    pub(crate) frames: u32,
    /// The last frame of the journal that it covers, which ends this segment.
    pub(crate) through_frame: u64,
    pub(crate) through_segment: u64,
}

impl Slotted for Checkpoint {
    const MAGIC: [u8; 7] = *b"LPCHKPT";
    const NAMES: [&'static str; 2] = ["checkpoint.0", "checkpoint.1"];

    fn put(&self, out: &mut [u8; BYTES]) {
        out[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        out[24..32].copy_from_slice(&self.incarnation.to_be_bytes());
        out[32..40].copy_from_slice(&self.bytes.to_be_bytes());
        out[40..44].copy_from_slice(&self.frames.to_be_bytes());
        out[44..52].copy_from_slice(&self.through_frame.to_be_bytes());
        out[52..60].copy_from_slice(&self.through_segment.to_be_bytes());
    }

    fn get(bytes: &[u8; BYTES]) -> Option<Self> {
        Some(Self {
            sequence: get_u64(bytes, 16)?,
            incarnation: get_u64(bytes, 24)?,
            bytes: get_u64(bytes, 32)?,
            frames: get_u32(bytes, 40)?,
            through_frame: get_u64(bytes, 44)?,
            through_segment: get_u64(bytes, 52)?,
        })
    }
}

pub(crate) fn paths_of(directory: &Path, sequence: u64) -> [PathBuf; 2] {
    EXTENSIONS.map(|copy| directory.join(format!("{sequence:016}.{copy}")))
}

/// The sequence in the name of a file of a checkpoint.
pub(crate) fn sequence_of(path: &Path) -> Option<u64> {
    let (stem, copy) = path.file_name()?.to_str()?.split_once('.')?;
    (stem.len() == 16 && EXTENSIONS.contains(&copy)).then(|| stem.parse().ok()).flatten()
}

/// Both files of a checkpoint in the making.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    files: [Arc<dyn DiskFile>; 2],
    life: Life,
    position: u64,
    frames: u32,
    items: Vec<Item>,
    payload: usize,
    buffer: Vec<u8>,
}

impl CheckpointWriter {
    pub(crate) fn create(disk: &dyn Disk, paths: &[PathBuf; 2], life: Life) -> io::Result<Self> {
        let files = [disk.create(&paths[0])?, disk.create(&paths[1])?];
        for file in &files {
            let header = SegmentHeader { life, first_frame: 1, recycled: false };
            header.write_both(&**file)?;
        }
        let (position, buffer) = (DATA_AT, Vec::new());
        Ok(Self { files, life, position, frames: 0, items: Vec::new(), payload: 0, buffer })
    }

    pub(crate) fn push(&mut self, fact: &Fact) -> io::Result<()> {
        let item = fact.to_item();
        let together = frame_bytes(self.items.len() + 1, self.payload + item.payload.len());
        if together > FRAME_TARGET_BYTES {
            self.flush()?;
        }
        self.payload += item.payload.len();
        self.items.push(item);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.frames += 1;
        let number = u64::from(self.frames);
        let stamp = Stamp { number, durable_through: 0, wall_ms: 0, running_ms: 0 };
        encode(&mut self.buffer, &self.life, stamp, &self.items);
        for file in &self.files {
            file.write_all_at(&self.buffer, self.position)?;
        }
        self.position += self.buffer.len() as u64;
        self.items.clear();
        self.payload = 0;
        Ok(())
    }

    /// Makes both files durable, but for their names; their length and number of frames.
    pub(crate) fn finish(mut self) -> io::Result<(u64, u32)> {
        self.flush()?;
        for file in self.files.iter().filter(|_| !planted(Planted::CheckpointNotSynced)) {
            file.sync_data()?;
        }
        Ok((self.position, self.frames))
    }
}

/// Reads a checkpoint back, frame by frame, each from whichever file has it whole. `None` where
/// neither has (CHECKPOINT-2).
pub(crate) fn read(
    disk: &dyn Disk,
    directory: &Path,
    directory_id: u64,
    checkpoint: &Checkpoint,
    mut take: impl FnMut(Fact),
) -> io::Result<Option<()>> {
    let life = Life::checkpoint(directory_id, checkpoint.sequence, checkpoint.incarnation);
    let mut scans = Vec::new();
    for path in paths_of(directory, checkpoint.sequence) {
        if disk.exists(&path)? {
            scans.push(Scan::new(disk.open_read_only(&path)?, life)?);
        }
    }
    let mut position = DATA_AT;
    for number in 1..=u64::from(checkpoint.frames) {
        let Some((frame, from)) = whole_frame(&mut scans, position, number)? else {
            return Ok(None);
        };
        let Some(scan) = scans.get_mut(from) else { return Ok(None) };
        for (entry, payload) in frame.entries.iter().zip(scan.payloads(&frame)?) {
            let fact = payload.and_then(|payload| Fact::decode(entry, &payload));
            let Some(fact) = fact else { return Ok(None) };
            take(fact);
        }
        position = frame.end();
    }
    Ok((position == checkpoint.bytes).then_some(()))
}

fn whole_frame(
    scans: &mut [Scan],
    position: u64,
    number: u64,
) -> io::Result<Option<(FoundFrame, usize)>> {
    for (index, scan) in scans.iter_mut().enumerate() {
        let found = scan.frame_at(position, number)?;
        if let Some(frame) = found.filter(|it| it.whole && it.header.number == number) {
            return Ok(Some((frame, index)));
        }
    }
    Ok(None)
}

/// Writes down everything that `recovery` has come to.
pub(crate) fn write_facts(
    writer: &mut CheckpointWriter,
    recovery: &Recovery,
    new: Option<&ColdFile>,
    kept: &BTreeSet<u32>,
) -> io::Result<()> {
    let Recovery { staging, view, .. } = recovery;
    let highest_id = PartitionId(view.unused_partition_id().0 - 1);
    let next_producer_id = staging.next_producer_id();
    let running_ms = recovery.running_ms;
    writer.push(&Fact::Log(LogFact { running_ms, next_producer_id, highest_id }))?;
    let older = recovery.segments.cold();
    let older = older.iter().map(|it| (it.life, it.file.len()));
    let newer = new.iter().map(|cold| (cold.segment.life, Ok(cold.bytes)));
    for (life, bytes) in older.chain(newer).filter(|(life, _)| kept.contains(&life.file_key())) {
        let (sequence, incarnation) = (u64::from(life.file_sequence()), life.incarnation);
        writer.push(&Fact::Cold(ColdFact { sequence, incarnation, bytes: bytes? }))?;
    }
    for (_, fact) in recovery.segments.missing.iter().filter(|(key, _)| kept.contains(key)) {
        writer.push(&Fact::Cold(*fact))?;
    }
    let mut ids: Vec<PartitionId> = staging.partitions.keys().copied().collect();
    ids.sort_unstable();
    for id in ids {
        write_partition(writer, recovery, id)?;
    }
    for kind in StateKind::ALL {
        for (key, value) in view.state(|table| table.all(kind)) {
            writer.push(&Fact::State { kind, key, value })?;
        }
    }
    for kind in view.state(StateTable::damaged_kinds) {
        let missing = view.state(|table| table.missing(kind));
        for missing in missing.chunks(MANY) {
            writer.push(&Fact::StateDamaged(kind, missing.to_vec()))?;
        }
    }
    for kind in view.state(StateTable::accepted_kinds) {
        writer.push(&Fact::StateAccepted(kind))?;
    }
    Ok(())
}

fn write_partition(
    writer: &mut CheckpointWriter,
    recovery: &Recovery,
    id: PartitionId,
) -> io::Result<()> {
    let Recovery { staging, view, suspects, .. } = recovery;
    let (Some(staged), Some(partition)) = (staging.partitions.get(&id), view.partition(id)) else {
        return Ok(());
    };
    let known = partition.view();
    writer.push(&Fact::Partition(
        id,
        PartitionFact {
            topic_id: known.topic_id,
            index: known.index,
            flush: staged.flush,
            log_start: if planted(Planted::LogStartForgotten) { 0 } else { staged.log_start },
            next_offset: staged.next_offset,
            epochs: partition.epochs(),
            suspect: suspects.contains(&id),
            closed: staged.closed,
            damaged: known.damaged,
        },
    ))?;
    let compacted = partition.compacted();
    if compacted != Compacted::default() {
        writer.push(&Fact::Compacted(id, compacted))?;
    }
    for ranges in known.accepted.chunks(MANY) {
        writer.push(&Fact::Accepted(id, ranges.to_vec()))?;
    }
    for entries in partition.entries().chunks(MANY) {
        writer.push(&Fact::Index(id, entries.to_vec()))?;
    }
    let mut transactions = partition.transactions();
    while let Some(some) = transactions.split_first() {
        writer.push(&Fact::Transactions(id, some))?;
    }
    for producers in staging.producers.facts(id).chunks(MANY) {
        writer.push(&Fact::Producers(id, producers.to_vec()))?;
    }
    Ok(())
}
