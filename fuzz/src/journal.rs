//! Any bytes anywhere in the files of a journal: it opens or says why it does not, and each batch
//! that it gives is the one that was acknowledged at its offset. Opened once more it gives the
//! same.
//!
//! The bytes are pieces: a file, a place (3 bytes), a length, and so many bytes to write there. In
//! a piece whose file has its highest bit set a file and a place (3 bytes) follow instead, and so
//! many sectors are written there as they stand here: a write that went to the wrong place, or an
//! old one that came back, each with a right checksum.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{
    Commit, FlushPolicy, Log, LogConfig, PartitionChange, PartitionId, RecoveryReport, StateKind,
    Stepper,
};
use lossproof_wire::batch::BatchBuilder;

const DATA: &str = "/data";
const PARTITION: PartitionId = PartitionId(1);
/// Enough for several segments and a checkpoint.
const BATCHES: i64 = 60;
/// In the number of a file: its piece is copied from elsewhere.
const COPIED: u8 = 0x80;
const SECTOR: usize = 512;

/// After a power cut under load. Each input has a disk of its own from it: what one input spoilt
/// would hide what the next ones do.
static SAMPLE: LazyLock<SimDisk> = LazyLock::new(sample);

/// Whether it opened: were it none of them, nothing would have been looked at.
pub fn check(data: &[u8]) -> bool {
    let disk = SAMPLE.power_cut();
    spoil(&disk, data);
    let Ok((log, stepper, report)) = open(&disk) else {
        assert!(!data.is_empty(), "what is sound opens");
        return false;
    };
    let is_told = !report.is_sound();
    let first = judge(&log, is_told);
    if data.is_empty() {
        assert_eq!(first.len(), BATCHES as usize, "what is sound is read");
    }
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk).expect("what opened once opens again");
    // What was cut is told once, by the open that cuts it.
    let again = judge(&log, is_told || !report.is_sound());
    assert_eq!(again, first, "what was read is read again");
    true
}

/// Zeros over the last segment but for its beginning, as if no frame had been written there.
#[allow(dead_code, reason = "an input of the stable test")]
pub fn without_end() -> Vec<u8> {
    const BEGIN: usize = 2 * 4096;
    let disk = SAMPLE.power_cut();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "wal");
    let last = disk.paths().iter().rposition(is_segment).expect("a journal");
    let length = disk.bytes(&disk.paths()[last]).expect("a file").len();
    let zeros = |at: usize| {
        let [.., high, middle, low] = at.to_be_bytes();
        [&[last as u8, high, middle, low, 255][..], &[0; 255]].concat()
    };
    let data: Vec<u8> = (BEGIN..length).step_by(255).flat_map(zeros).collect();
    spoil(&disk, &data);
    let (.., report) = open(&disk).expect("it opens");
    assert!(!report.is_sound(), "the end was known to be durable (MARK-3)");
    data
}

fn spoil(disk: &SimDisk, data: &[u8]) {
    let mut rest = data;
    while let [file, high, middle, low, length, more @ ..] = rest {
        let (place, length) = ([*high, *middle, *low], usize::from(*length));
        let (to, bytes);
        if let [from, high, middle, low, after @ ..] = more
            && *file & COPIED != 0
        {
            let from = Place::find(disk, *from, [*high, *middle, *low], SECTOR);
            to = Place::find(disk, *file, place, SECTOR);
            bytes = from.bytes(length * SECTOR).to_vec();
            rest = after;
        } else {
            let (new, after) = more.split_at(length.min(more.len()));
            to = Place::find(disk, *file, place, 1);
            bytes = new.to_vec();
            rest = after;
        }
        let fits = bytes.len().min(to.bytes(bytes.len()).len());
        // Directories cannot be spoilt.
        let _ = disk.damage(&to.path, to.at as u64, &bytes[..fits]);
    }
}

/// A place in a file of the sample.
struct Place {
    path: PathBuf,
    content: Vec<u8>,
    at: usize,
}

impl Place {
    /// Any numbers are some place, a multiple of the unit.
    fn find(disk: &SimDisk, file: u8, [high, middle, low]: [u8; 3], unit: usize) -> Self {
        let paths = disk.paths();
        let path = paths[usize::from(file & !COPIED) % paths.len()].clone();
        let content = disk.bytes(&path).unwrap_or_default();
        let number = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let at = (number % content.len().div_ceil(unit).max(1)) * unit;
        Self { path, content, at }
    }

    /// So many from there on, or up to the end of the file.
    fn bytes(&self, count: usize) -> &[u8] {
        &self.content[self.at..self.content.len().min(self.at + count)]
    }
}

fn open(disk: &SimDisk) -> Result<(Log, Stepper, RecoveryReport), lossproof_log::OpenError> {
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_000_000)),
        rng: Arc::new(SeededRng::new(disk.position() as u64)),
    };
    // The clock stands still: else no mark would tell that the last frames were durable (MARK-3).
    let config = LogConfig { mark_after: Duration::ZERO, ..LogConfig::small() };
    Log::open_stepped(&environment, Path::new(DATA), config)
}

fn sample() -> SimDisk {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk).expect("an empty disk");
    let change = PartitionChange::Create {
        id: PARTITION,
        topic_id: [1; 16],
        index: 0,
        flush: FlushPolicy::Commit,
    };
    stepper.submit(vec![Commit::partition(change)]);
    for number in 0..BATCHES {
        let committed = stepper.submit(vec![
            Commit::append(PARTITION, batch(number)),
            Commit::state(StateKind::Offsets, "group", Some(Bytes::from(number.to_string()))),
        ]);
        assert!(committed.iter().all(Result::is_ok));
    }
    stepper.checkpoint().expect("there is room");
    disk
}

fn value(number: i64) -> Vec<u8> {
    vec![number as u8; 200 + 4_000 * usize::from(number % 3 == 0)]
}

fn batch(number: i64) -> Bytes {
    let mut builder = BatchBuilder::new().producer(7, 0, number as i32);
    builder.push(1_000 + number, None, Some(&value(number)), &[]);
    builder.build().expect("a batch")
}

/// The offsets that can be read. Any other is an error, or beyond the end of a log that is not said
/// to be sound, which is what must be told.
fn judge(log: &Log, is_told: bool) -> Vec<i64> {
    let Some(view) = log.partition(PARTITION) else {
        assert!(is_told, "the partition is missing in silence");
        return Vec::new();
    };
    let mut read = Vec::new();
    for offset in 0..BATCHES {
        let Ok(slice) = log.read(PARTITION, offset, 1) else { continue };
        let Some(stored) = slice.batches.into_iter().next() else {
            let is_cut = offset >= view.high_watermark && is_told;
            assert!(is_cut, "offset {offset} is missing in silence");
            continue;
        };
        let record = lossproof_wire::batch::records(&stored.bytes).expect("a batch").next();
        let record = record.expect("one record").expect("a record");
        assert_eq!(record.offset, offset, "another record than the one that was asked for");
        assert_eq!(record.value.as_deref(), Some(&value(offset)[..]), "altered");
        read.push(offset);
    }
    assert!(view.high_watermark <= BATCHES, "more than was ever acknowledged");
    read
}
