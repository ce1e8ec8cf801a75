//! Where things stand in the files of a journal, by `docs/format/journal.md`. Read anew here: a bit
//! that is to be flipped in a directory must be in the directory, whatever the product believes.

use std::ops::Range;
use std::path::Path;

use crate::random::Random;

const BLOCK: usize = 4096;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 64;
const INCARNATION_OF_FILE: Range<usize> = 24..32;
const FRAME_MAGIC: &[u8] = b"LPFRAME";
const INCARNATION_OF_FRAME: Range<usize> = 16..24;
const META_BYTES: usize = 76;
const SLOT_BYTES: usize = 64;

/// A part of a file in which each bit has the same purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Region {
    MetaFirst,
    MetaSecond,
    Mark0,
    Mark1,
    SegmentHeaderFirst,
    SegmentHeaderSecond,
    FrameHeader,
    Directory,
    Payload,
    Padding,
    EndDirectory,
    EndHeader,
    LastPayload,
    ColdHeader,
    ColdFrameHeader,
    ColdDirectory,
    ColdPayload,
    ColdEnd,
    Checkpoint,
    CheckpointSlot0,
    CheckpointSlot1,
}

impl Region {
    pub(crate) const ALL: [Self; 21] = [
        Self::MetaFirst,
        Self::MetaSecond,
        Self::Mark0,
        Self::Mark1,
        Self::SegmentHeaderFirst,
        Self::SegmentHeaderSecond,
        Self::FrameHeader,
        Self::Directory,
        Self::Payload,
        Self::Padding,
        Self::EndDirectory,
        Self::EndHeader,
        Self::LastPayload,
        Self::ColdHeader,
        Self::ColdFrameHeader,
        Self::ColdDirectory,
        Self::ColdPayload,
        Self::ColdEnd,
        Self::Checkpoint,
        Self::CheckpointSlot0,
        Self::CheckpointSlot1,
    ];

    /// Whether a check of the directory must find every change. A torn write leaves marks, slots
    /// and second headers as a flipped bit does; the parts of a frame that stand twice are not
    /// looked at twice, and nothing is read from its padding.
    pub(crate) fn must_be_found(self) -> bool {
        matches!(
            self,
            Self::MetaFirst
                | Self::MetaSecond
                | Self::SegmentHeaderFirst
                | Self::Payload
                | Self::LastPayload
                | Self::ColdHeader
                | Self::ColdPayload
                | Self::Checkpoint
        )
    }

    /// Whether a start leaves it to whoever reads it later.
    pub(crate) fn is_cold(self) -> bool {
        matches!(
            self,
            Self::ColdHeader
                | Self::ColdFrameHeader
                | Self::ColdDirectory
                | Self::ColdPayload
                | Self::ColdEnd
        )
    }

    /// The file that it is in; segments are all alike.
    pub(crate) fn is_in(self, name: &str) -> bool {
        let extension = Path::new(name).extension().and_then(|it| it.to_str());
        let ends = |wanted: &[&str]| extension.is_some_and(|it| wanted.contains(&it));
        match self {
            Self::MetaFirst | Self::MetaSecond => name == "meta",
            Self::Mark0 => name == "mark.0",
            Self::Mark1 => name == "mark.1",
            Self::CheckpointSlot0 => name == "checkpoint.0",
            Self::CheckpointSlot1 => name == "checkpoint.1",
            Self::Checkpoint => ends(&["a", "b"]),
            _ if self.is_cold() => ends(&["cold"]),
            _ => ends(&["wal"]),
        }
    }

    /// Where it is in the bytes of such a file: begin and end. `None` where this file has none.
    pub(crate) fn place(self, bytes: &[u8], random: &mut Random) -> Option<(usize, usize)> {
        let at = |begin: usize, length: usize| Some((begin, begin + length));
        match self {
            Self::MetaFirst => return at(0, META_BYTES),
            Self::MetaSecond => return at(BLOCK, META_BYTES),
            Self::Mark0 | Self::Mark1 | Self::CheckpointSlot0 | Self::CheckpointSlot1 => {
                return at(0, SLOT_BYTES);
            }
            _ => {}
        }
        let frames = frames(bytes);
        // A segment without frames counts for nothing, and neither do its headers.
        let last = frames.last()?;
        match self {
            Self::SegmentHeaderFirst | Self::ColdHeader => return at(0, HEADER_BYTES),
            Self::SegmentHeaderSecond => return at(BLOCK, HEADER_BYTES),
            _ => {}
        }
        let frame = if self == Self::LastPayload { last } else { random.pick(&frames) };
        let (payload, padding) = (frame.payload_at(), frame.padding_at(bytes)?);
        let end_directory = frame.end() - HEADER_BYTES - frame.directory_bytes();
        let place = match self {
            Self::FrameHeader | Self::ColdFrameHeader => (frame.begin, frame.begin + HEADER_BYTES),
            Self::Directory | Self::ColdDirectory => (frame.begin + HEADER_BYTES, payload),
            Self::Payload | Self::LastPayload | Self::ColdPayload => (payload, padding),
            Self::Checkpoint => (frame.begin, padding),
            Self::Padding => (padding, end_directory),
            Self::EndDirectory => (end_directory, frame.end() - HEADER_BYTES),
            Self::ColdEnd => (end_directory, frame.end()),
            _ => (frame.end() - HEADER_BYTES, frame.end()),
        };
        (place.0 < place.1).then_some(place)
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    begin: usize,
    length: usize,
    count: usize,
}

impl Frame {
    fn end(&self) -> usize {
        self.begin + self.length
    }

    fn directory_bytes(&self) -> usize {
        self.count * ENTRY_BYTES
    }

    fn payload_at(&self) -> usize {
        self.begin + HEADER_BYTES + self.directory_bytes()
    }

    /// Behind the last payload.
    fn padding_at(&self, bytes: &[u8]) -> Option<usize> {
        let entries = (0..self.count).map(|entry| self.begin + HEADER_BYTES + entry * ENTRY_BYTES);
        let lengths: Option<Vec<usize>> = entries.map(|at| number(bytes, at + 4)).collect();
        Some(self.payload_at() + lengths?.iter().sum::<usize>())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(field) as usize)
}

/// Those of the file's present life: a file that was a segment before has old frames behind its
/// new ones, or nothing but old ones, and those count for nothing.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let incarnation = bytes.get(INCARNATION_OF_FILE);
    let is_of_this_life = |frame: &[u8]| {
        frame.starts_with(FRAME_MAGIC) && frame.get(INCARNATION_OF_FRAME) == incarnation
    };
    let mut frames = Vec::new();
    let mut begin = 2 * BLOCK;
    while bytes.get(begin..).is_some_and(is_of_this_life) {
        let (Some(length), Some(count)) = (number(bytes, begin + 24), number(bytes, begin + 28))
        else {
            break;
        };
        if length == 0 || begin + length > bytes.len() {
            break;
        }
        frames.push(Frame { begin, length, count });
        begin += length;
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_an_earlier_life_of_the_file_have_no_place() {
        let frame = |incarnation: u8| {
            let mut frame = vec![0; BLOCK];
            frame[..FRAME_MAGIC.len()].copy_from_slice(FRAME_MAGIC);
            frame[INCARNATION_OF_FRAME].fill(incarnation);
            frame[24..28].copy_from_slice(&(BLOCK as u32).to_be_bytes());
            frame[28..32].copy_from_slice(&1_u32.to_be_bytes());
            frame[68..72].copy_from_slice(&100_u32.to_be_bytes());
            frame
        };
        let file = |incarnation: u8| {
            let mut file = vec![0; 2 * BLOCK];
            file[INCARNATION_OF_FILE].fill(incarnation);
            [file, frame(7), frame(7), frame(3)].concat()
        };
        let mut random = Random::new(1);
        let last = Region::LastPayload.place(&file(7), &mut random);
        assert_eq!(last, Some((3 * BLOCK + 128, 3 * BLOCK + 228)));
        let spare = Region::LastPayload.place(&file(0), &mut random);
        assert_eq!(spare, None, "it waits for its next life, and has no header yet");
    }
}
