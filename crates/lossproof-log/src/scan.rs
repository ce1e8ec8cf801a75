//! Reading a segment's frames at recovery, whatever state they are in.

use std::cmp::Reverse;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use lossproof_env::DiskFile;

use crate::frame::{BLOCK, Copy, Entry, FrameHeader, HEADER_BYTES, Life};

/// Segments are read in pieces of this size.
const WINDOW_BYTES: u64 = 1 << 20;

/// Stands for each byte that the medium does not give back: no header begins with it, no checksum
/// fits it, and it is not the nothing that zeros are.
const UNREADABLE: u8 = 0xff;
const EIO: i32 = 5;

/// Whether the medium does not give back what stands there.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// Fills `buffer` from `at`, around blocks that cannot be read: these come out as
/// [`UNREADABLE`], to be judged as any damage is.
pub(crate) fn read_around(file: &dyn DiskFile, buffer: &mut [u8], at: u64) -> io::Result<()> {
    let whole = file.read_exact_at(buffer, at);
    if !whole.as_ref().is_err_and(is_unreadable) {
        return whole;
    }
    let (mut at, mut rest) = (at, buffer);
    while !rest.is_empty() {
        let block = rest.len().min((BLOCK - at % BLOCK) as usize);
        let (piece, behind) = rest.split_at_mut(block);
        match file.read_exact_at(piece, at) {
            Err(error) if is_unreadable(&error) => piece.fill(UNREADABLE),
            result => result?,
        }
        (at, rest) = (at + block as u64, behind);
    }
    Ok(())
}

#[derive(Debug)]
pub(crate) struct Scan {
    file: Arc<dyn DiskFile>,
    pub(crate) life: Life,
    /// Behind the frames stands what is left of an earlier life.
    recycled: bool,
    /// Length of the file.
    pub(crate) length: u64,
    window_at: u64,
    window: Bytes,
    /// All of the file, where somebody has asked.
    pub(crate) known: Option<Headers>,
}

/// A frame whose directory is known.
#[derive(Debug)]
pub(crate) struct FoundFrame {
    pub(crate) header: FrameHeader,
    pub(crate) entries: Vec<Entry>,
    pub(crate) position: u64,
    /// Both headers, both directories and all payloads verify.
    pub(crate) whole: bool,
}

/// What stands at a place of a file of frames.
#[derive(Debug)]
pub(crate) enum Piece {
    Frame(FoundFrame),
    /// Not even a directory is left up to here, where the next frame or the end is.
    Unreadable {
        end: u64,
    },
}

impl Piece {
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.end(),
            Self::Unreadable { end } => *end,
        }
    }

    /// The lowest number that a frame behind it has, where there was none below `number` before it.
    pub(crate) fn next_number(&self, number: u64) -> u64 {
        match self {
            Self::Frame(frame) => frame.header.number + 1,
            Self::Unreadable { .. } => number,
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Frame(frame) if frame.whole)
    }
}

impl FoundFrame {
    pub(crate) fn end(&self) -> u64 {
        self.position + u64::from(self.header.length)
    }
}

/// The headers of a run of blocks, of frames and of what records hold of frames. A copy has a lower
/// number than the frame that it stands in, which tells it from a frame that follows; where frames
/// are missing, only that it begins behind that one does.
#[derive(Debug)]
pub(crate) struct Headers {
    /// By their place.
    fronts: Vec<(u64, FrameHeader)>,
    /// Those too that stand at an end; by where their frame begins.
    all: Vec<(u64, FrameHeader)>,
}

impl Headers {
    /// The first frame that begins at or behind `from` and has a number of at least `number`.
    pub(crate) fn first(&self, from: u64, number: u64) -> Option<(u64, FrameHeader)> {
        let skipped = self.all.partition_point(|(begin, _)| *begin < from);
        let mut behind = self.all.iter().skip(skipped);
        behind.find(|(begin, it)| it.number >= number && self.is_frame(*begin, it)).copied()
    }

    /// A copy of an end alone may seem to begin before the frame that holds it, and one of a front
    /// alone to end behind it. What holds a later frame is no frame.
    fn is_frame(&self, begin: u64, header: &FrameHeader) -> bool {
        let end = begin + u64::from(header.length);
        let skipped = self.fronts.partition_point(|(at, _)| *at <= begin);
        let mut inside = self.fronts.iter().skip(skipped).take_while(|(at, _)| *at < end);
        !inside.any(|(_, it)| it.number > header.number)
    }

    /// The highest `durable_through` that any of them names.
    pub(crate) fn durable_through(&self) -> u64 {
        self.all.iter().map(|(_, header)| header.durable_through).max().unwrap_or(0)
    }
}

impl Scan {
    pub(crate) fn new(file: Arc<dyn DiskFile>, life: Life) -> io::Result<Self> {
        let length = file.len()?;
        let (window_at, window) = (0, Bytes::new());
        Ok(Self { file, life, recycled: false, length, window_at, window, known: None })
    }

    pub(crate) fn recycled(self, recycled: bool) -> Self {
        Self { recycled, ..self }
    }

    /// The bytes at `at`; `None` where the file ends before.
    pub(crate) fn bytes(&mut self, at: u64, length: usize) -> io::Result<Option<Bytes>> {
        let end = at.saturating_add(length as u64);
        if end > self.length {
            return Ok(None);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if at < self.window_at || end > window_end {
            let from = at / BLOCK * BLOCK;
            let to = end.max((from + WINDOW_BYTES).min(self.length));
            // The memory of the window before, unless somebody has kept a part of it.
            let before = std::mem::take(&mut self.window);
            let mut window = before.try_into_mut().unwrap_or_default();
            window.resize((to - from) as usize, 0);
            read_around(&*self.file, &mut window, from)?;
            (self.window_at, self.window) = (from, window.freeze());
        }
        let start = (at - self.window_at) as usize;
        Ok(Some(self.window.slice(start..start + length)))
    }

    fn header(&mut self, at: u64, copy: Copy) -> io::Result<Option<FrameHeader>> {
        let bytes = self.bytes(at, HEADER_BYTES)?;
        Ok(bytes.and_then(|bytes| FrameHeader::decode(&bytes, &self.life, copy)))
    }

    /// The front header at `position`, if it verifies and the file is long enough for its frame.
    pub(crate) fn front_header(&mut self, position: u64) -> io::Result<Option<FrameHeader>> {
        let header = self.header(position, Copy::Front)?;
        let fits = |header: &FrameHeader| position + u64::from(header.length) <= self.length;
        Ok(header.filter(fits))
    }

    /// The frame that ends at `end`, told by its second header, with its position.
    fn frame_before(&mut self, end: u64) -> io::Result<Option<(u64, FrameHeader)>> {
        let header = self.header(end - HEADER_BYTES as u64, Copy::End)?;
        Ok(header.and_then(|header| Some((end.checked_sub(u64::from(header.length))?, header))))
    }

    fn entries(&mut self, at: u64, header: &FrameHeader) -> io::Result<Option<Vec<Entry>>> {
        let bytes = self.bytes(at, header.directory_bytes())?;
        Ok(bytes.and_then(|bytes| header.entries(&bytes, &self.life)))
    }

    /// The frame at `position`, if it has at least `number`, and either copy of its header and of
    /// its directory verifies.
    pub(crate) fn frame_at(
        &mut self,
        position: u64,
        number: u64,
    ) -> io::Result<Option<FoundFrame>> {
        match self.next_frame(position, number)? {
            Some((begin, header)) if begin == position => self.frame_of(begin, header),
            _ => Ok(None),
        }
    }

    /// The frame at `position` with this header, if either copy of its directory verifies.
    pub(crate) fn frame_of(
        &mut self,
        position: u64,
        header: FrameHeader,
    ) -> io::Result<Option<FoundFrame>> {
        // All of it at once: what follows looks at its front, its end, and again its front.
        self.bytes(position, header.length as usize)?;
        let front = self.front_header(position)?;
        let end = position + u64::from(header.length);
        let end_header = self.frame_before(end)?.map(|(_, header)| header);
        let at_front = self.entries(position + HEADER_BYTES as u64, &header)?;
        let at_end = self.entries(position + header.end_directory_at() as u64, &header)?;
        let copies_agree = front == end_header && at_front.is_some() && at_front == at_end;
        let Some(entries) = at_front.or(at_end) else { return Ok(None) };
        let mut found = FoundFrame { header, entries, position, whole: copies_agree };
        found.whole = found.whole && self.payloads_verify(&found)?;
        Ok(Some(found))
    }

    /// The payloads of a frame's entries, whether they verify or not; `None` where the file ends.
    pub(crate) fn payloads(&mut self, frame: &FoundFrame) -> io::Result<Vec<Option<Bytes>>> {
        let mut at = frame.position + frame.header.payload_at() as u64;
        let mut payloads = Vec::with_capacity(frame.entries.len());
        for entry in &frame.entries {
            payloads.push(self.bytes(at, entry.length as usize)?);
            at += u64::from(entry.length);
        }
        Ok(payloads)
    }

    fn payloads_verify(&mut self, frame: &FoundFrame) -> io::Result<bool> {
        let payloads = self.payloads(frame)?;
        let good = |(entry, bytes): (&Entry, Option<Bytes>)| {
            bytes.is_some_and(|bytes| self.life.crc(&bytes) == entry.crc)
        };
        Ok(frame.entries.iter().zip(payloads).all(good))
    }

    /// The next frame at or after `from` that either of its headers tells of, with a number of at
    /// least `number`. What a payload holds passes for none: it looks at block boundaries only, and
    /// a copy of a frame has a lower number than the one that it stands in.
    pub(crate) fn next_frame(
        &mut self,
        from: u64,
        number: u64,
    ) -> io::Result<Option<(u64, FrameHeader)>> {
        let mut at = from;
        while at + BLOCK <= self.length {
            if let Some(header) = self.front_header(at)?
                && header.number >= number
            {
                return Ok(Some((at, header)));
            }
            if let Some((begin, header)) = self.frame_before(at + BLOCK)?
                && begin >= from
                && header.number >= number
            {
                return Ok(Some((begin, header)));
            }
            at += BLOCK;
        }
        Ok(None)
    }

    /// All headers that verify in the blocks from `from` to below `to`.
    pub(crate) fn headers(&mut self, from: u64, to: u64) -> io::Result<Headers> {
        let (mut fronts, mut all) = (Vec::new(), Vec::new());
        let mut at = from;
        while at + BLOCK <= to.min(self.length) {
            fronts.extend(self.front_header(at)?.map(|header| (at, header)));
            all.extend(self.frame_before(at + BLOCK)?);
            at += BLOCK;
        }
        all.extend_from_slice(&fronts);
        all.sort_unstable_by_key(|(begin, header)| (*begin, Reverse(header.number)));
        Ok(Headers { fronts, all })
    }

    /// The next frame behind damage, in a file that nobody writes to: it is read through once.
    pub(crate) fn behind_damage(
        &mut self,
        from: u64,
        number: u64,
    ) -> io::Result<Option<(u64, FrameHeader)>> {
        let headers = match self.known.take() {
            Some(known) => known,
            None => self.headers(0, self.length)?,
        };
        Ok(self.known.insert(headers).first(from, number))
    }

    /// What stands at `position`, behind all frames below `number`; `None` where nothing of this
    /// life follows.
    pub(crate) fn piece_at(&mut self, position: u64, number: u64) -> io::Result<Option<Piece>> {
        if let Some(frame) = self.frame_at(position, number)? {
            return Ok(Some(Piece::Frame(frame)));
        }
        let next = self.behind_damage(position, number)?;
        if let Some((begin, header)) = next
            && begin == position
            && let Some(frame) = self.frame_of(begin, header)?
        {
            return Ok(Some(Piece::Frame(frame)));
        }
        let end = match next {
            Some((at, _)) if at > position => at,
            // A header is left, and no directory that belongs to it.
            Some((at, header)) => at + u64::from(header.length),
            None => self.data_end(position)?,
        };
        Ok((end > position).then_some(Piece::Unreadable { end }))
    }

    /// One above the last block of this life, from `from` on: in a new file the last one that holds
    /// anything but zeros, in one that was used before the last one with a header, verified or
    /// not, that names this life. A frame begins and ends with one. What the medium does not give
    /// back may have been such a block.
    pub(crate) fn data_end(&mut self, from: u64) -> io::Result<u64> {
        if !self.recycled {
            return self.nonzero_end(from);
        }
        let (mut at, mut end) = (from, from);
        while at + BLOCK <= self.length {
            let bytes = self.bytes(at, BLOCK as usize)?.unwrap_or_default();
            let is_unreadable = bytes.iter().all(|byte| *byte == UNREADABLE);
            if is_unreadable || FrameHeader::block_claims(&bytes, self.life.incarnation) {
                end = at + BLOCK;
            }
            at += BLOCK;
        }
        Ok(end)
    }

    /// One above the last block that holds anything but zeros, from `from` on.
    pub(crate) fn nonzero_end(&mut self, from: u64) -> io::Result<u64> {
        let (mut at, mut end) = (from, from);
        while at < self.length {
            let length = BLOCK.min(self.length - at);
            let bytes = self.bytes(at, length as usize)?.unwrap_or_default();
            if bytes.iter().any(|byte| *byte != 0) {
                end = at + length;
            }
            at += length;
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lossproof_env::{Disk, SimDisk};

    use super::*;
    use crate::frame::{EntryKind, Item, Payload, Stamp, encode};

    /// Frames of `payload` bytes each, one after the other, and how many bytes are read to have
    /// all of them, for each byte that there is.
    fn read_per_byte(frames: u64, payload: usize) -> f64 {
        let (life, mut all, mut frame) = (Life::new(1, 2, 3), Vec::new(), Vec::new());
        for number in 1..=frames {
            let entry = Entry::plain(EntryKind::Receipt);
            let items = [Item { entry, payload: Payload::Plain(vec![7; payload].into()) }];
            let stamp = Stamp { number, durable_through: 0, wall_ms: 0, running_ms: 0 };
            encode(&mut frame, &life, stamp, &items);
            all.extend_from_slice(&frame);
        }
        let disk = SimDisk::new();
        let file = disk.create(Path::new("/a")).unwrap();
        file.write_all_at(&all, 0).unwrap();
        let mut scan = Scan::new(file, life).unwrap();
        let mut position = 0;
        for number in 1..=frames {
            let frame = scan.frame_at(position, number).unwrap().unwrap();
            assert!(frame.whole && frame.header.number == number);
            assert_eq!(scan.payloads(&frame).unwrap(), [Some(vec![7; payload].into())]);
            position = frame.end();
        }
        disk.read_bytes() as f64 / all.len() as f64
    }

    #[test]
    fn a_frame_is_read_once_and_the_front_of_one_beyond_the_window_twice() {
        assert!(read_per_byte(100, 64 << 10) < 1.1);
        let with_front = 1.0 + WINDOW_BYTES as f64 / (3 << 20) as f64;
        assert!(read_per_byte(4, 3 << 20) <= with_front);
    }
}
