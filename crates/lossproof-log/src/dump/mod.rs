//! Looking inside the files of a log, whatever state they are in: one line for each thing that is
//! found. Nothing is written, and no lock is taken: it may be used on a log that is in use, whose
//! end then is whatever was written when it was read.

mod entry;
mod line;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lossproof_env::{DiskFile, Environment};
use lossproof_wire::batch::records;

pub use line::{Field, Line};

use crate::checkpoint::Checkpoint;
use crate::commit::PartitionId;
use crate::error::OpenError;
use crate::frame::{
    BLOCK, CHECKPOINT_LIFE, COLD_LIFE, Copy, Entry, EntryKind, FrameHeader, HEADER_BYTES, Life,
};
use crate::mark::Mark;
use crate::meta::{self, Meta};
use crate::paths::Paths;
use crate::recovery::failed;
use crate::scan::{FoundFrame, Piece, Scan, read_around};
use crate::segment::{self, DATA_AT, HeaderState, SegmentHeader};
use crate::slots::{self, Slotted};

/// Which of what is found is shown.
#[derive(Clone, Debug, Default)]
pub struct DumpOptions {
    /// Only entries of this partition, and frames that have some.
    pub partition: Option<PartitionId>,
    /// Only frames with this number or a higher one.
    pub from_frame: u64,
    /// The records of each batch as well.
    pub records: bool,
}

/// Gives `each` what is found in `path`, a file of a log or the directory of one, until it breaks.
/// Of a directory what lies in quarantine is left out: most of it are copies.
pub fn dump(
    env: &Environment,
    path: &Path,
    options: &DumpOptions,
    each: &mut dyn FnMut(&Line) -> ControlFlow<()>,
) -> Result<(), OpenError> {
    let files = files_of(env, path)?;
    let mut dump = Dump { env, options, each };
    for file in files {
        match dump.file(&file) {
            Ok(()) => {}
            Err(Stop::Enough) => return Ok(()),
            Err(Stop::Io(error)) => return Err(failed("read", &file)(error)),
        }
    }
    Ok(())
}

/// The files of a directory in the order in which they build on each other, or the one file.
fn files_of(env: &Environment, path: &Path) -> Result<Vec<PathBuf>, OpenError> {
    if !env.disk.exists(path).map_err(failed("look at", path))? {
        return Err(OpenError::NoLog { directory: path.to_owned() });
    }
    if env.disk.list(path).is_err() {
        return Ok(vec![path.to_owned()]);
    }
    let paths = Paths::of(path);
    let mut files = vec![meta::path_of(path)];
    for directory in [&paths.checkpoint, &paths.cold, &paths.journal] {
        if env.disk.exists(directory).map_err(failed("look at", directory))? {
            files.extend(env.disk.list(directory).map_err(failed("list", directory))?);
        }
    }
    if !env.disk.exists(&files[0]).map_err(failed("look at", &files[0]))? {
        files.remove(0);
    }
    if files.is_empty() {
        return Err(OpenError::NoLog { directory: path.to_owned() });
    }
    Ok(files)
}

enum Stop {
    Enough,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

struct Dump<'a> {
    env: &'a Environment,
    options: &'a DumpOptions,
    each: &'a mut dyn FnMut(&Line) -> ControlFlow<()>,
}

impl Dump<'_> {
    fn say(&mut self, line: &Line) -> Result<(), Stop> {
        match (self.each)(line) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Enough),
        }
    }

    fn file(&mut self, path: &Path) -> Result<(), Stop> {
        let file = self.env.disk.open_read_only(path)?;
        let length = file.len()?;
        let shown = path.display().to_string();
        self.say(&Line::new("file").text("path", shown).count("bytes", length))?;
        let mut bytes = vec![0; length.min(BLOCK) as usize];
        read_around(&*file, &mut bytes, 0)?;
        match bytes.get(..7) {
            _ if path.extension().is_some_and(|it| it == "piece") => self.piece(path, &file),
            Some(magic) if magic == meta::MAGIC => self.meta(&*file),
            Some(magic) if magic == Mark::MAGIC => self.slot(path, &bytes, mark_line),
            Some(magic) if magic == Checkpoint::MAGIC => self.slot(path, &bytes, checkpoint_line),
            _ => self.frames_of(path, &file),
        }
    }

    fn meta(&mut self, file: &dyn DiskFile) -> Result<(), Stop> {
        let copies = file.len()? / meta::COPY_BYTES as u64;
        for copy in 0..copies {
            let mut bytes = vec![0; meta::COPY_BYTES];
            read_around(file, &mut bytes, copy * meta::COPY_BYTES as u64)?;
            let found = Meta::decode(&bytes);
            let line = Line::new("meta").count("copy", copy).flag("verifies", found.is_some());
            let line = match found {
                Some(meta) => meta_line(line, &meta),
                None => line,
            };
            self.say(&line)?;
        }
        Ok(())
    }

    fn slot<T: Slotted>(
        &mut self,
        path: &Path,
        bytes: &[u8],
        describe: impl Fn(Line, &T) -> Line,
    ) -> Result<(), Stop> {
        let slot = bytes.first_chunk::<{ slots::BYTES }>();
        let Some((turn, value)) = slot.and_then(|slot| slots::parse::<T>(slot)) else {
            return self.say(&Line::new("slot").flag("verifies", false));
        };
        // Without the identity of the log it cannot be told whether the slot is its own.
        let verifies = self.directory_of(path)?.and_then(|id| slots::decode::<T>(slot?, id));
        let line = Line::new("slot").flag("verifies", verifies.is_some()).count("turn", turn);
        self.say(&describe(line, &value))
    }

    /// The id of the log that a file lies in.
    fn directory_of(&self, path: &Path) -> io::Result<Option<u64>> {
        let Some(parent) = path.parent() else { return Ok(None) };
        let directory = match parent.to_str() {
            Some("" | ".") => Some(Path::new("..")),
            _ => parent.parent(),
        };
        let Some(directory) = directory else { return Ok(None) };
        match meta::read(self.env, directory) {
            Ok(meta) => Ok(meta.map(|meta| meta.directory_id)),
            Err(OpenError::Io { source, .. }) => Err(source),
            Err(_) => Ok(None),
        }
    }

    /// A copy of frames that lies in quarantine: they begin with it.
    fn piece(&mut self, path: &Path, file: &Arc<dyn DiskFile>) -> Result<(), Stop> {
        if let Some(life) = self.life_by_name(path, file, 0)? {
            return self.frames(&mut Scan::new(file.clone(), life)?, 0);
        }
        let line = Line::new("unreadable").count("position", 0).count("bytes", file.len()?);
        let reason = "no frame verifies with the file's name and the meta file of its directory";
        self.say(&line.text("reason", reason))
    }

    /// A segment, a cold file or a file of a checkpoint.
    fn frames_of(&mut self, path: &Path, file: &Arc<dyn DiskFile>) -> Result<(), Stop> {
        let (mut known, mut is_blank) = (None, true);
        for copy in 0..2 {
            let mut bytes = [0; segment::HEADER_BYTES];
            let state = match read_around(&**file, &mut bytes, copy * BLOCK) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => HeaderState::Blank,
                read => read.map(|()| SegmentHeader::parse(&bytes))?,
            };
            if let (None, HeaderState::Valid(header)) = (known, state) {
                known = Some((header.life, header.recycled));
            }
            is_blank &= state == HeaderState::Blank;
            self.say(&header_line(copy, state))?;
        }
        if known.is_none() {
            known = self.life_by_name(path, file, DATA_AT)?.map(|life| (life, false));
        }
        let Some((life, recycled)) = known else {
            // A segment that was made ready, or used in an earlier life, has no headers.
            let what = if is_blank { "unused" } else { "unreadable" };
            return self.say(&Line::new(what).count("position", 0).count("bytes", file.len()?));
        };
        self.frames(&mut Scan::new(file.clone(), life)?.recycled(recycled), DATA_AT)
    }

    /// Whose file it is, by where it is and what the first header of a frame claims that verifies
    /// with it, be it the one at a frame's end.
    fn life_by_name(
        &self,
        path: &Path,
        file: &Arc<dyn DiskFile>,
        begin: u64,
    ) -> io::Result<Option<Life>> {
        let known = (self.directory_of(path)?, segment_of(path));
        let (Some(directory_id), Some(segment)) = known else { return Ok(None) };
        let mut scan = Scan::new(file.clone(), Life::new(directory_id, segment, 0))?;
        let mut at = begin;
        while let Some(block) = scan.bytes(at, BLOCK as usize)? {
            let end = &block[block.len() - HEADER_BYTES..];
            for (copy, header) in [(Copy::Front, &block[..]), (Copy::End, end)] {
                let claimed = FrameHeader::claimed_incarnation(header, copy);
                let Some(incarnation) = claimed else { continue };
                let life = Life::new(directory_id, segment, incarnation);
                if FrameHeader::decode(header, &life, copy).is_some() {
                    return Ok(Some(life));
                }
            }
            at += BLOCK;
        }
        Ok(None)
    }

    fn frames(&mut self, scan: &mut Scan, begin: u64) -> Result<(), Stop> {
        let (mut position, mut number) = (begin, 0);
        while let Some(piece) = scan.piece_at(position, number)? {
            number = piece.next_number(number);
            position = match piece {
                Piece::Frame(frame) => {
                    if frame.header.number >= self.options.from_frame {
                        self.frame(scan, &frame)?;
                    }
                    frame.end()
                }
                Piece::Unreadable { end } => {
                    let line = Line::new("unreadable").count("position", position);
                    self.say(&line.count("bytes", end - position))?;
                    end
                }
            };
        }
        Ok(())
    }

    fn frame(&mut self, scan: &mut Scan, frame: &FoundFrame) -> Result<(), Stop> {
        let FoundFrame { header, entries, position, whole } = frame;
        if !entries.iter().any(|entry| self.is_wanted(entry)) && !entries.is_empty() {
            return Ok(());
        }
        let line = Line::new("frame")
            .count("position", *position)
            .count("number", header.number)
            .count("bytes", u64::from(header.length))
            .count("entries", u64::from(header.count))
            .flag("whole", *whole)
            .count("durable_through", header.durable_through)
            .number("wall_ms", header.wall_ms)
            .count("running_ms", header.running_ms);
        self.say(&line)?;
        for (entry, payload) in entries.iter().zip(scan.payloads(frame)?) {
            if self.is_wanted(entry) {
                let good = payload.filter(|bytes| scan.life.crc(bytes) == entry.crc);
                self.entry(entry, good.as_ref())?;
            }
        }
        Ok(())
    }

    fn is_wanted(&self, entry: &Entry) -> bool {
        self.options.partition.is_none_or(|wanted| entry.partition == wanted)
    }

    fn entry(&mut self, entry: &Entry, payload: Option<&Bytes>) -> Result<(), Stop> {
        self.say(&entry::entry_line(entry, payload))?;
        let Some(batch) = payload.filter(|_| self.options.records) else { return Ok(()) };
        if entry.kind != EntryKind::Batch {
            return Ok(());
        }
        let undecodable = |error: &dyn std::fmt::Display| {
            Line::new("undecodable").text("reason", error.to_string())
        };
        match records(batch) {
            Ok(records) => {
                for record in records {
                    match record {
                        Ok(record) => self.say(&entry::record_line(&record))?,
                        Err(error) => self.say(&undecodable(&error))?,
                    }
                }
                Ok(())
            }
            Err(error) => self.say(&undecodable(&error)),
        }
    }
}

/// What the life of a file's frames has as their segment, by the name of the file.
fn segment_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let (name, _) = name.split_once(".kept-").unwrap_or((name, ""));
    let (stem, extension) = name.rsplit_once('.')?;
    let (sort, sequence) = match extension {
        "wal" => (0, stem),
        "cold" => (COLD_LIFE, stem),
        "a" | "b" => (CHECKPOINT_LIFE, stem),
        "piece" => {
            let (sort, place) = match stem.strip_prefix("cold-") {
                Some(place) => (COLD_LIFE, place),
                None => (0, stem.strip_prefix("unplaced-").unwrap_or(stem)),
            };
            (sort, place.split_once('-')?.0)
        }
        _ => return None,
    };
    Some(sort | sequence.parse::<u64>().ok()?)
}

fn meta_line(line: Line, meta: &Meta) -> Line {
    line.id("directory_id", meta.directory_id)
        .text("cluster_id", meta.cluster_id().to_string())
        .count("open_count", meta.open_count)
        .count("producer_id_high", u64::from(meta.producer_id_high))
        .flag("begun", meta.begun)
        .text("machine_id", meta.machine_id.as_deref().unwrap_or("none"))
        .count("inode", meta.stamp.map_or(0, |stamp| stamp.inode))
}

fn mark_line(line: Line, mark: &Mark) -> Line {
    line.text("kind", "mark")
        .count("open_count", mark.open_count)
        .count("durable_through", mark.durable_through)
        .count("segment", mark.segment)
        .flag("clean", mark.clean)
        .flag("end_lost", mark.end_lost)
        .count("running_ms", mark.running_ms)
        .number("wall_ms", mark.wall_ms)
}

fn checkpoint_line(line: Line, checkpoint: &Checkpoint) -> Line {
    line.text("kind", "checkpoint")
        .count("sequence", checkpoint.sequence)
        .id("incarnation", checkpoint.incarnation)
        .count("length", checkpoint.bytes)
        .count("frames", u64::from(checkpoint.frames))
        .count("through_frame", checkpoint.through_frame)
        .count("through_segment", checkpoint.through_segment)
}

fn header_line(copy: u64, state: HeaderState) -> Line {
    let line = Line::new("header").count("copy", copy);
    let header = match state {
        HeaderState::Valid(header) => header,
        HeaderState::Blank => return line.text("state", "blank"),
        HeaderState::Version(version) => return line.count("version", u64::from(version)),
        _ => return line.flag("verifies", false),
    };
    let SegmentHeader { life, first_frame, recycled } = header;
    let kind = match life.segment {
        it if it & COLD_LIFE != 0 => "cold",
        it if it & CHECKPOINT_LIFE != 0 => "checkpoint",
        _ => "segment",
    };
    line.flag("verifies", true)
        .text("kind", kind)
        .count("sequence", life.segment & !(COLD_LIFE | CHECKPOINT_LIFE))
        .id("incarnation", life.incarnation)
        .id("directory_id", life.directory_id)
        .count("first_frame", first_frame)
        .flag("recycled", recycled)
}
