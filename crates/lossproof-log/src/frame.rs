//! A frame: what one group commit writes. The layout is drawn in `docs/format/journal.md`.
//!
//! # Invariants
//! - LAYOUT-1: a frame starts at and is padded to a multiple of [`BLOCK`].
//! - LAYOUT-2: nothing of a frame verifies but with the [`Life`] it was written in.
//! - LAYOUT-3: the directory of entries stands twice, at the front and at the very end; either
//!   copy alone tells which offsets of which partitions the frame holds.

use bytes::Bytes;

use crate::batch;
use crate::commit::{LaneRange, PartitionId};

pub(crate) const BLOCK: u64 = 4096;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const ENTRY_BYTES: usize = 64;
pub(crate) const FORMAT_VERSION: u8 = 1;

const MAGIC_FRONT: [u8; 7] = *b"LPFRAME";
const MAGIC_END: [u8; 7] = *b"LPFREND";
const HEADER_CRC_AT: usize = 60;

/// Sets the sequences of cold files and checkpoints apart from those of segments.
pub(crate) const COLD_LIFE: u64 = 1 << 63;
pub(crate) const CHECKPOINT_LIFE: u64 = 1 << 62;
/// The same in the index, where a file has 32 bits.
pub(crate) const COLD_KEY: u32 = 1 << 31;

/// One use of one segment file. Checksums are seeded with it, so that bytes of an earlier use or of
/// another log never pass for a frame. (What a record holds of its own segment is told from frames
/// by its number and place: [`Scan`](crate::scan::Scan).)
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Life {
    pub(crate) directory_id: u64,
    pub(crate) segment: u64,
    pub(crate) incarnation: u64,
    seed: u32,
}

impl Life {
    pub(crate) fn new(directory_id: u64, segment: u64, incarnation: u64) -> Self {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&directory_id.to_be_bytes());
        bytes[8..16].copy_from_slice(&segment.to_be_bytes());
        bytes[16..].copy_from_slice(&incarnation.to_be_bytes());
        Self { directory_id, segment, incarnation, seed: crc32c::crc32c(&bytes) }
    }

    /// A file of moved batches.
    pub(crate) fn cold(directory_id: u64, sequence: u64, incarnation: u64) -> Self {
        Self::new(directory_id, COLD_LIFE | sequence, incarnation)
    }

    /// A file of a checkpoint.
    pub(crate) fn checkpoint(directory_id: u64, sequence: u64, incarnation: u64) -> Self {
        Self::new(directory_id, CHECKPOINT_LIFE | sequence, incarnation)
    }

    /// The sequence in the name of a cold file.
    pub(crate) fn file_sequence(&self) -> u32 {
        self.segment as u32
    }

    /// What the index knows the file by.
    pub(crate) fn file_key(&self) -> u32 {
        let cold = self.segment & COLD_LIFE != 0;
        self.segment as u32 | if cold { COLD_KEY } else { 0 }
    }

    pub(crate) fn crc(&self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.seed, bytes)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EntryKind {
    Batch,
    Metadata,
    Offsets,
    InputPosition,
    Cursor,
    Receipt,
    Transactions,
    /// In files of a checkpoint only.
    Checkpoint,
}

impl EntryKind {
    fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Metadata => 2,
            Self::Offsets => 3,
            Self::InputPosition => 4,
            Self::Cursor => 5,
            Self::Receipt => 6,
            Self::Transactions => 7,
            Self::Checkpoint => 8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Batch,
            2 => Self::Metadata,
            3 => Self::Offsets,
            4 => Self::InputPosition,
            5 => Self::Cursor,
            6 => Self::Receipt,
            7 => Self::Transactions,
            8 => Self::Checkpoint,
            _ => return None,
        })
    }
}

/// One line of a frame's directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// A keyed entry that removes its key.
    pub(crate) removed: bool,
    pub(crate) partition: PartitionId,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) identity: Option<LaneRange>,
    /// Of the payload; set by [`encode`], as is `crc`.
    pub(crate) length: u32,
    pub(crate) crc: u32,
}

/// The highest timestamp of a batch that holds no records.
pub(crate) const NO_RECORDS: i64 = i64::MIN;

const FLAG_IDENTITY: u8 = 1;
const FLAG_REMOVED: u8 = 2;

impl Entry {
    /// An entry that belongs to no partition.
    pub(crate) fn plain(kind: EntryKind) -> Self {
        Self {
            kind,
            removed: false,
            partition: PartitionId(0),
            base_offset: 0,
            last_offset: 0,
            max_timestamp: 0,
            identity: None,
            length: 0,
            crc: 0,
        }
    }

    fn encode(&self, out: &mut [u8]) {
        let identity = self.identity.unwrap_or(LaneRange { session: 0, lane: 0, first_seq: 0 });
        out[0] = self.kind.code();
        out[1] = if self.identity.is_some() { FLAG_IDENTITY } else { 0 }
            | if self.removed { FLAG_REMOVED } else { 0 };
        out[2..4].fill(0);
        out[4..8].copy_from_slice(&self.length.to_be_bytes());
        out[8..16].copy_from_slice(&self.partition.0.to_be_bytes());
        out[16..24].copy_from_slice(&self.base_offset.to_be_bytes());
        out[24..32].copy_from_slice(&self.last_offset.to_be_bytes());
        out[32..36].copy_from_slice(&self.crc.to_be_bytes());
        out[36..40].copy_from_slice(&identity.lane.to_be_bytes());
        out[40..48].copy_from_slice(&identity.session.to_be_bytes());
        out[48..56].copy_from_slice(&identity.first_seq.to_be_bytes());
        out[56..64].copy_from_slice(&self.max_timestamp.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let flags = *bytes.get(1)?;
        let identity = LaneRange {
            session: get_u64(bytes, 40)?,
            lane: get_u32(bytes, 36)?,
            first_seq: get_u64(bytes, 48)?,
        };
        Some(Self {
            kind: EntryKind::from_code(*bytes.first()?)?,
            removed: flags & FLAG_REMOVED != 0,
            partition: PartitionId(get_u64(bytes, 8)?),
            base_offset: get_i64(bytes, 16)?,
            last_offset: get_i64(bytes, 24)?,
            max_timestamp: get_i64(bytes, 56)?,
            identity: (flags & FLAG_IDENTITY != 0).then_some(identity),
            length: get_u32(bytes, 4)?,
            crc: get_u32(bytes, 32)?,
        })
    }
}

/// Which of the two headers of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Copy {
    Front,
    End,
}

impl Copy {
    fn magic(self) -> [u8; 7] {
        match self {
            Self::Front => MAGIC_FRONT,
            Self::End => MAGIC_END,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameHeader {
    /// From 1 without gaps.
    pub(crate) number: u64,
    /// Of the whole frame with its padding.
    pub(crate) length: u32,
    /// Entries in the directory.
    pub(crate) count: u32,
    /// The highest frame whose fdatasync had returned when this one was written.
    pub(crate) durable_through: u64,
    pub(crate) wall_ms: i64,
    /// Milliseconds for which the log has been open, over all its opens: a clock that never jumps.
    pub(crate) running_ms: u64,
    directory_crc: u32,
}

impl FrameHeader {
    fn encode(&self, life: &Life, copy: Copy) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..7].copy_from_slice(&copy.magic());
        out[7] = FORMAT_VERSION;
        out[8..16].copy_from_slice(&self.number.to_be_bytes());
        out[16..24].copy_from_slice(&life.incarnation.to_be_bytes());
        out[24..28].copy_from_slice(&self.length.to_be_bytes());
        out[28..32].copy_from_slice(&self.count.to_be_bytes());
        out[32..40].copy_from_slice(&self.durable_through.to_be_bytes());
        out[40..48].copy_from_slice(&self.wall_ms.to_be_bytes());
        out[48..56].copy_from_slice(&self.running_ms.to_be_bytes());
        out[56..60].copy_from_slice(&self.directory_crc.to_be_bytes());
        let crc = life.crc(&out[..HEADER_CRC_AT]);
        out[HEADER_CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// `None` for anything but an undamaged header of this life (LAYOUT-2).
    pub(crate) fn decode(bytes: &[u8], life: &Life, copy: Copy) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        if bytes.get(..7)? != copy.magic()
            || bytes.get(7) != Some(&FORMAT_VERSION)
            || get_u64(bytes, 16)? != life.incarnation
            || get_u32(bytes, HEADER_CRC_AT)? != life.crc(bytes.get(..HEADER_CRC_AT)?)
        {
            return None;
        }
        let header = Self {
            number: get_u64(bytes, 8)?,
            length: get_u32(bytes, 24)?,
            count: get_u32(bytes, 28)?,
            durable_through: get_u64(bytes, 32)?,
            wall_ms: get_i64(bytes, 40)?,
            running_ms: get_u64(bytes, 48)?,
            directory_crc: get_u32(bytes, 56)?,
        };
        let enough = u64::from(header.length) >= overhead(header.count as usize) as u64;
        (enough && u64::from(header.length).is_multiple_of(BLOCK)).then_some(header)
    }

    /// The incarnation that a header names, verified or not.
    pub(crate) fn claimed_incarnation(bytes: &[u8], copy: Copy) -> Option<u64> {
        (bytes.get(..7)? == copy.magic()).then(|| get_u64(bytes, 16)).flatten()
    }

    /// Whether a block begins with a front header or ends with an end header, readable or not,
    /// that names `incarnation`.
    pub(crate) fn block_claims(block: &[u8], incarnation: u64) -> bool {
        let end_at = block.len().saturating_sub(HEADER_BYTES);
        let claims =
            |bytes: &[u8], copy| Self::claimed_incarnation(bytes, copy) == Some(incarnation);
        claims(block, Copy::Front) || block.get(end_at..).is_some_and(|it| claims(it, Copy::End))
    }

    pub(crate) fn directory_bytes(&self) -> usize {
        self.count as usize * ENTRY_BYTES
    }

    /// Where the first payload begins in the frame.
    pub(crate) fn payload_at(&self) -> usize {
        HEADER_BYTES + self.directory_bytes()
    }

    /// Where the second copy of the directory begins in the frame.
    pub(crate) fn end_directory_at(&self) -> usize {
        self.length as usize - HEADER_BYTES - self.directory_bytes()
    }

    /// The entries, or `None` when they do not verify. Both copies of the directory are alike.
    pub(crate) fn entries(&self, directory: &[u8], life: &Life) -> Option<Vec<Entry>> {
        let directory = directory.get(..self.directory_bytes())?;
        if life.crc(directory) != self.directory_crc {
            return None;
        }
        let entries: Option<Vec<Entry>> =
            directory.chunks_exact(ENTRY_BYTES).map(Entry::decode).collect();
        let entries = entries?;
        let payload: u64 = entries.iter().map(|entry| u64::from(entry.length)).sum();
        let space = u64::from(self.length) - overhead(entries.len()) as u64;
        (payload <= space).then_some(entries)
    }
}

/// What a frame takes besides payload and padding.
pub(crate) fn overhead(count: usize) -> usize {
    2 * (HEADER_BYTES + count * ENTRY_BYTES)
}

/// Size of a frame of `count` entries with `payload` bytes together (LAYOUT-1).
pub(crate) fn frame_bytes(count: usize, payload: usize) -> u64 {
    ((overhead(count) + payload) as u64).next_multiple_of(BLOCK)
}

/// What goes behind the directory for one entry.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// A client's batch; base offset (from the entry) and leader epoch are patched in.
    Batch {
        bytes: Bytes,
        leader_epoch: i32,
    },
    Plain(Bytes),
}

impl Payload {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Batch { bytes, .. } | Self::Plain(bytes) => bytes.len(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    pub(crate) payload: Payload,
}

/// The header fields that the writer chooses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) number: u64,
    pub(crate) durable_through: u64,
    pub(crate) wall_ms: i64,
    pub(crate) running_ms: u64,
}

/// Writes a whole frame into `buffer`, which is emptied first.
pub(crate) fn encode(buffer: &mut Vec<u8>, life: &Life, stamp: Stamp, items: &[Item]) {
    let payload: usize = items.iter().map(|item| item.payload.len()).sum();
    let length = frame_bytes(items.len(), payload);
    let directory_bytes = items.len() * ENTRY_BYTES;
    buffer.clear();
    buffer.reserve(length as usize);
    buffer.resize(HEADER_BYTES + directory_bytes, 0);
    for (index, item) in items.iter().enumerate() {
        let start = buffer.len();
        match &item.payload {
            Payload::Plain(bytes) => buffer.extend_from_slice(bytes),
            Payload::Batch { bytes, leader_epoch } => {
                buffer.extend_from_slice(bytes);
                batch::patch(&mut buffer[start..], item.entry.base_offset, *leader_epoch);
            }
        }
        let crc = life.crc(&buffer[start..]);
        let entry = Entry { length: (buffer.len() - start) as u32, crc, ..item.entry };
        let at = HEADER_BYTES + index * ENTRY_BYTES;
        entry.encode(&mut buffer[at..at + ENTRY_BYTES]);
    }
    buffer.resize(length as usize - HEADER_BYTES - directory_bytes, 0);
    buffer.extend_from_within(HEADER_BYTES..HEADER_BYTES + directory_bytes);
    let header = FrameHeader {
        number: stamp.number,
        length: length as u32,
        count: items.len() as u32,
        durable_through: stamp.durable_through,
        wall_ms: stamp.wall_ms,
        running_ms: stamp.running_ms,
        directory_crc: life.crc(&buffer[HEADER_BYTES..HEADER_BYTES + directory_bytes]),
    };
    buffer[..HEADER_BYTES].copy_from_slice(&header.encode(life, Copy::Front));
    buffer.extend_from_slice(&header.encode(life, Copy::End));
    assert_eq!(buffer.len() as u64, length, "LAYOUT-1");
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

pub(crate) fn get_i16(bytes: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn get_i32(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn get_i64(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(life: &Life) -> Vec<u8> {
        let stamp = Stamp { number: 7, durable_through: 6, wall_ms: 1, running_ms: 2 };
        let identity = LaneRange { session: 9, lane: 1, first_seq: 4 };
        let items = [
            Item {
                entry: Entry {
                    partition: PartitionId(3),
                    base_offset: 10,
                    last_offset: 12,
                    identity: Some(identity),
                    ..Entry::plain(EntryKind::Offsets)
                },
                payload: Payload::Plain(Bytes::from_static(b"first")),
            },
            Item {
                entry: Entry { removed: true, ..Entry::plain(EntryKind::Receipt) },
                payload: Payload::Plain(Bytes::from(vec![5; 5000])),
            },
        ];
        let mut buffer = Vec::new();
        encode(&mut buffer, life, stamp, &items);
        buffer
    }

    #[test]
    fn both_directories_tell_the_same() {
        // LAYOUT-1, LAYOUT-3
        let life = Life::new(1, 2, 3);
        let bytes = sample(&life);
        assert_eq!(bytes.len() as u64 % BLOCK, 0);
        let front = FrameHeader::decode(&bytes, &life, Copy::Front).unwrap();
        let end_at = bytes.len() - HEADER_BYTES;
        let end = FrameHeader::decode(&bytes[end_at..], &life, Copy::End).unwrap();
        assert_eq!(front, end);
        let first = front.entries(&bytes[HEADER_BYTES..], &life).unwrap();
        let second = end.entries(&bytes[end.end_directory_at()..], &life).unwrap();
        assert_eq!(first, second);
        assert_eq!(first[0].identity.map(|identity| identity.first_seq), Some(4));
        assert!(first[1].removed);
        let payload = &bytes[front.payload_at()..front.payload_at() + 5];
        assert_eq!((payload, life.crc(payload)), (&b"first"[..], first[0].crc));
    }

    #[test]
    fn another_life_reads_nothing() {
        // LAYOUT-2
        let life = Life::new(1, 2, 3);
        let bytes = sample(&life);
        for other in [Life::new(0, 2, 3), Life::new(1, 1, 3), Life::new(1, 2, 4)] {
            assert_eq!(FrameHeader::decode(&bytes, &other, Copy::Front), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_header_and_directory_is_seen() {
        let life = Life::new(1, 2, 3);
        let bytes = sample(&life);
        let directory_end = HEADER_BYTES + 2 * ENTRY_BYTES;
        for bit in 0..directory_end * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let entries = FrameHeader::decode(&damaged, &life, Copy::Front)
                .and_then(|header| header.entries(&damaged[HEADER_BYTES..], &life));
            assert_eq!(entries, None, "bit {bit}");
        }
    }
}
