//! The end of the journal: where the next frame goes, and what of it is durable.
//!
//! # Invariants
//! - LOG-1: under `commit` a frame is written only after the sync of the one before returned.
//! - LOG-2: a segment is synced before the first byte of the next one.
//! - LOG-3: a frame lies within one segment, and in its zero-written part.
//! - LOG-4: `durable_through` counts frames whose fdatasync has returned, and nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lossproof_env::{DiskFile, Environment, Planted, planted};

use crate::config::LogConfig;
use crate::error::{FenceCause, FullCause};
use crate::frame::{BLOCK, Item, Life, Stamp, encode};
use crate::partition::Place;
use crate::reader::{ReadSegment, Segments};
use crate::segment::{DATA_AT, SegmentFile, SegmentHeader, SegmentSizes};
use crate::zeroer::Zeroer;

/// Why there is no room for a frame.
#[derive(Debug)]
pub(crate) enum RoomError {
    /// Something runs short, and will not for ever; nothing was written.
    Short(FullCause),
    Fence(FenceCause),
}

impl RoomError {
    fn of(error: &io::Error) -> Self {
        shortage(error).map_or_else(|| Self::Fence(write_fault(error)), Self::Short)
    }
}

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// What runs short where an error tells of nothing worse: whoever needs it tries again later
/// (storage rule 8). Any other error may hide what has happened to the disk.
pub(crate) fn shortage(error: &io::Error) -> Option<FullCause> {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, _) => Some(FullCause::Disk),
        (_, Some(ENFILE | EMFILE)) => Some(FullCause::Files),
        _ => None,
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    env: Environment,
    journal: PathBuf,
    directory_id: u64,
    sizes: SegmentSizes,
    step: u64,
    reserve: u64,
    pub(crate) active: Arc<SegmentFile>,
    life: Life,
    position: u64,
    pub(crate) next_frame: u64,
    pub(crate) durable_through: u64,
    run: u32,
    zeroer: Option<Arc<Zeroer>>,
    buffer: Vec<u8>,
}

/// Where a writer starts.
#[derive(Debug)]
pub(crate) struct WriterStart {
    pub(crate) journal: PathBuf,
    pub(crate) directory_id: u64,
    pub(crate) sequence: u64,
    pub(crate) next_frame: u64,
    pub(crate) durable_through: u64,
    pub(crate) run: u32,
    /// Room that the first segment must have, beyond the usual.
    pub(crate) at_least: u64,
}

fn text(error: &io::Error) -> Arc<str> {
    error.to_string().into()
}

pub(crate) fn write_fault(error: &io::Error) -> FenceCause {
    FenceCause::Write(text(error))
}

pub(crate) fn sync_fault(error: &io::Error) -> FenceCause {
    FenceCause::Sync(text(error))
}

impl Writer {
    /// Makes the segment of this open. It takes part in the journal only after
    /// [`Writer::activate`].
    pub(crate) fn create(
        env: &Environment,
        config: &LogConfig,
        start: WriterStart,
    ) -> io::Result<Self> {
        let sizes = SegmentSizes {
            capacity: config.segment_bytes.max(start.at_least),
            initial: config.initial_zero_bytes.max(start.at_least),
        };
        let active = SegmentFile::create(&*env.disk, &start.journal, start.sequence, sizes)?;
        let life = Life::new(start.directory_id, start.sequence, env.rng.next_u64());
        Ok(Self {
            env: env.clone(),
            journal: start.journal,
            directory_id: start.directory_id,
            sizes: SegmentSizes {
                capacity: config.segment_bytes,
                initial: config.initial_zero_bytes,
            },
            step: config.zero_step_bytes,
            reserve: config.reserve_bytes,
            active,
            life,
            position: DATA_AT,
            next_frame: start.next_frame,
            durable_through: start.durable_through,
            run: start.run,
            zeroer: None,
            buffer: Vec::new(),
        })
    }

    /// Lets the journal go on in this segment from frame `first_frame` on, for readers too.
    pub(crate) fn activate(&self, first_frame: u64, segments: &Segments) -> io::Result<()> {
        let void = u64::from(planted(Planted::SegmentRollLosesFrame) && first_frame > 1);
        let first_frame = first_frame - void;
        let recycled = self.active.recycled;
        self.active.activate(&SegmentHeader { life: self.life, first_frame, recycled })?;
        let (path, file) = (self.active.path.clone(), self.active.file.clone());
        let segment = ReadSegment { life: self.life, path, file, first_frame, recycled };
        segments.insert(Arc::new(segment));
        Ok(())
    }

    /// Where the next frame goes.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Leaves out a number, for frames that are lost for good.
    pub(crate) fn skip_frame(&mut self) {
        self.next_frame += 1;
    }

    pub(crate) fn set_zeroer(&mut self, zeroer: Arc<Zeroer>) {
        self.zeroer = Some(zeroer);
    }

    /// The largest frame that a segment takes.
    pub(crate) fn frame_bytes_max(&self) -> u64 {
        self.sizes.capacity - DATA_AT - self.reserve
    }

    /// What is left of the reserve, for frames without batches once the disk is full.
    pub(crate) fn reserve_room(&self) -> u64 {
        self.active.zeroed() - self.position
    }

    /// Makes room for a frame of `need` bytes and tells how many there are beside the reserve; in
    /// the next segment, where this one is full or `seals` and not empty.
    pub(crate) fn room(
        &mut self,
        need: u64,
        seals: bool,
        segments: &Segments,
    ) -> Result<u64, RoomError> {
        assert!(need <= self.frame_bytes_max(), "LOG-3: larger commits are refused before");
        let is_full = self.position + need + self.reserve > self.active.capacity;
        if is_full || seals && self.position > DATA_AT {
            self.roll(segments)?;
        }
        let wanted = need + self.reserve;
        if let Err(error) = self.extend(self.position + wanted) {
            let is_full = shortage(&error) == Some(FullCause::Disk) && self.position > DATA_AT;
            if !is_full || !self.roll_into_ready(wanted, segments)? {
                return Err(RoomError::of(&error));
            }
        }
        let room = self.active.zeroed().saturating_sub(self.position + self.reserve);
        assert!(room >= need, "LOG-3");
        Ok(room)
    }

    /// In the segment in use, by whole steps; the sync of the frame makes it durable.
    fn extend(&self, target: u64) -> io::Result<()> {
        if target <= self.active.zeroed() {
            return Ok(());
        }
        self.active.extend(&*self.active.file, target.next_multiple_of(self.step), false)
    }

    /// Room for a frame of `need` bytes that may use the reserve, which is made longer by no more
    /// than that takes.
    pub(crate) fn room_of_reserve(&mut self, need: u64) -> Result<u64, RoomError> {
        self.extend(self.position + need).map_err(|error| RoomError::of(&error))?;
        let room = self.reserve_room();
        if room < need { Err(RoomError::Short(FullCause::Disk)) } else { Ok(room) }
    }

    /// Where ballast was given up, or the disk found full.
    pub(crate) fn wake_zeroer(&self) {
        if let Some(zeroer) = &self.zeroer {
            zeroer.look();
        }
    }

    /// Leaves the segment, wherever it is full.
    pub(crate) fn leave(&mut self, segments: &Segments) -> Result<(), RoomError> {
        self.roll(segments)
    }

    /// Goes on to the next segment (LOG-2). Leaves everything as it is where something runs short.
    fn roll(&mut self, segments: &Segments) -> Result<(), RoomError> {
        self.sync().map_err(RoomError::Fence)?;
        let sequence = self.active.sequence + 1;
        let made = match &self.zeroer {
            Some(zeroer) => zeroer.take_next(sequence),
            None => SegmentFile::create(&*self.env.disk, &self.journal, sequence, self.sizes),
        };
        self.enter(made.map_err(|error| RoomError::of(&error))?, segments)
    }

    /// The same where there is one with room for so much: a segment that lies ready is no use to
    /// anybody on a full disk.
    fn roll_into_ready(&mut self, bytes: u64, segments: &Segments) -> Result<bool, RoomError> {
        let Some(zeroer) = self.zeroer.clone() else { return Ok(false) };
        self.sync().map_err(RoomError::Fence)?;
        let ready = zeroer.take_ready(self.active.sequence + 1, bytes);
        match ready.map_err(|error| RoomError::of(&error))? {
            Some(next) => self.enter(next, segments).map(|()| true),
            None => Ok(false),
        }
    }

    fn enter(&mut self, next: Arc<SegmentFile>, segments: &Segments) -> Result<(), RoomError> {
        let sequence = next.sequence;
        self.active = next;
        self.life = Life::new(self.directory_id, sequence, self.env.rng.next_u64());
        self.position = DATA_AT;
        self.activate(self.next_frame, segments)
            .map_err(|error| RoomError::Fence(sync_fault(&error)))?;
        if let Some(zeroer) = &self.zeroer {
            zeroer.watch(self.active.clone());
        }
        Ok(())
    }

    /// Writes the next frame. It is durable only after [`Writer::sync`].
    pub(crate) fn write(
        &mut self,
        items: &[Item],
        wall_ms: i64,
        running_ms: u64,
    ) -> Result<Place, FenceCause> {
        let stamp = Stamp {
            number: self.next_frame,
            durable_through: self.durable_through,
            wall_ms,
            running_ms,
        };
        encode(&mut self.buffer, &self.life, stamp, items);
        let length = self.buffer.len() as u64;
        assert!(self.position + length <= self.active.zeroed(), "LOG-3, SEGMENT-1");
        self.active
            .file
            .write_all_at(&self.buffer, self.position)
            .map_err(|error| write_fault(&error))?;
        let place = Place {
            segment: self.active.sequence as u32,
            block: (self.position / BLOCK) as u32,
            blocks: (length / BLOCK) as u32,
            run: self.run,
        };
        self.position += length;
        self.next_frame += 1;
        if let Some(zeroer) = &self.zeroer {
            zeroer.progress(self.position);
        }
        Ok(place)
    }

    /// Makes all frames durable (LOG-4).
    pub(crate) fn sync(&mut self) -> Result<(), FenceCause> {
        if self.durable_through + 1 == self.next_frame {
            return Ok(());
        }
        sync_once(&*self.active.file).map_err(|error| sync_fault(&error))?;
        self.durable_through = self.next_frame - 1;
        Ok(())
    }
}

/// What a sync said is final: no error is overlooked, and none is taken back by a second try.
fn sync_once(file: &dyn DiskFile) -> io::Result<()> {
    match file.sync_data() {
        Err(_) if planted(Planted::SyncErrorIgnored) => Ok(()),
        Err(_) if planted(Planted::SyncRetried) => file.sync_data(),
        said => said,
    }
}
