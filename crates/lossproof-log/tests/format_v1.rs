//! Files of format version 1 stay readable: the log in `fixtures/v1` was written when the format
//! was fixed, and the present code writes the same bytes (LAYOUT-1, LAYOUT-3, storage rule 18). The
//! layout is drawn in `docs/format/journal.md`.
//!
//! `fixtures/v1-moved` is of the time when cold files, checkpoints and transactions had been added
//! to it; `fixtures/v1-losses`, of `format_v1_losses.rs`, holds what came of damage and compaction.
//!
//! To write the fixtures of a new version:
//! `LOSSPROOF_WRITE_FIXTURE=1 cargo test -p lossproof-log --test it format_v1`.

use crate::support;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{Commit, FlushPolicy, Log, LogConfig, PartitionChange, StateKind, check};
use lossproof_wire::batch::BatchBuilder;
use support::{P1, P2, append, create, identified, only, produced, values};

/// The kinds that there were when the fixture was written.
const KINDS: [StateKind; 5] = [
    StateKind::Metadata,
    StateKind::Offsets,
    StateKind::InputPosition,
    StateKind::Cursor,
    StateKind::Receipt,
];

const FILES: [&str; 4] =
    ["meta", "journal/mark.0", "journal/mark.1", "journal/0000000000000001.wal"];

/// After a move: what is in the segments before this one is in the cold file.
const MOVED_FILES: [&str; 9] = [
    "meta",
    "journal/mark.0",
    "journal/mark.1",
    "journal/0000000000000003.wal",
    "cold/0000000000000001.cold",
    "checkpoint/checkpoint.0",
    "checkpoint/checkpoint.1",
    "checkpoint/0000000000000002.a",
    "checkpoint/0000000000000002.b",
];

const MARKS: [&str; 2] = ["journal/mark.0", "journal/mark.1"];
const MARK_TURN: Range<usize> = 8..16;
/// What a mark says of the wall clock was added later, where there were zeros.
const MARK_WALL: Range<usize> = 50..58;
/// Behind all that it is over.
const MARK_CHECKSUM: Range<usize> = 60..64;
const META_DIRECTORY_ID: Range<usize> = 8..16;

pub(crate) const WALL_MS: i64 = 1_700_000_000_000;

pub(crate) fn fixture(kind: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(kind).join(name)
}

fn environment(disk: &SimDisk) -> Environment {
    drawing(disk, 1)
}

/// Each seed draws other numbers.
pub(crate) fn drawing(disk: &SimDisk, seed: u64) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(WALL_MS)),
        rng: Arc::new(SeededRng::new(seed)),
    }
}

/// Two sectors of everything: all kinds of entries, several frames, an orderly close.
fn write() -> SimDisk {
    let disk = SimDisk::new();
    let opened = Log::open_stepped(&environment(&disk), Path::new("/data"), LogConfig::small());
    let (_log, mut stepper, _) = opened.unwrap();
    let value = Some(Bytes::from_static(b"value"));
    let frames = [
        vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::UnsafePageCache)],
        vec![identified(P1, 5, &["a", "b"]), append(P2, &["x"])],
        vec![Commit::append(P1, produced(77, 1, 0, &["c"]))],
        KINDS.map(|kind| Commit::state(kind, "key", value.clone())).to_vec(),
        vec![Commit::state(StateKind::Cursor, "key", None)],
        vec![Commit::partition(PartitionChange::Delete { id: P2 })],
    ];
    for commits in frames {
        assert!(stepper.submit(commits).iter().all(Result::is_ok));
    }
    stepper.reserve_producer_ids(100).unwrap();
    stepper.close().unwrap();
    disk
}

/// So small that a few frames fill a segment.
pub(crate) fn tiny() -> LogConfig {
    LogConfig {
        segment_bytes: 32 << 10,
        initial_zero_bytes: 32 << 10,
        reserve_bytes: 4 << 10,
        ..LogConfig::small()
    }
}

/// A batch of a transaction, or the marker that ends it.
fn transactional(producer_id: i64, sequence: i32, marker: Option<bool>) -> Commit {
    let builder = BatchBuilder::new().producer(producer_id, 0, sequence).transactional(true);
    let mut builder = builder.control(marker.is_some());
    let key = marker.map(|commits| [0, 0, 0, u8::from(commits)]);
    builder.push(1000, key.as_ref().map(|key| &key[..]), Some(&[0; 6]), &[]);
    Commit::append(P2, builder.build().unwrap())
}

/// Three segments, of which two are moved: batches, producers, each state of a transaction, keyed
/// entries.
fn write_moved() -> SimDisk {
    let disk = SimDisk::new();
    let opened = Log::open_stepped(&environment(&disk), Path::new("/data"), tiny());
    let (_log, mut stepper, _) = opened.unwrap();
    let value = Some(Bytes::from_static(b"value"));
    let frames = [
        vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::UnsafePageCache)],
        vec![identified(P1, 5, &["a", "b"])],
        vec![Commit::append(P1, produced(77, 1, 0, &["c"]))],
        StateKind::ALL.map(|kind| Commit::state(kind, "key", value.clone())).to_vec(),
        vec![transactional(80, 0, None)],
        vec![transactional(81, 0, None)],
        vec![transactional(80, -1, Some(false))],
        vec![append(P1, &["d"])],
        vec![Commit::partition(PartitionChange::LogStart { id: P1, offset: 1 })],
        vec![append(P1, &["e"])],
        vec![append(P1, &["f"])],
        vec![append(P1, &["g"])],
    ];
    for commits in frames {
        let done = stepper.submit(commits);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        stepper.zero();
    }
    stepper.checkpoint().unwrap();
    stepper.submit(vec![append(P1, &["h"])]);
    stepper.close().unwrap();
    disk
}

#[test]
fn what_was_moved_in_version_1_is_read() {
    let disk = read("v1-moved", &MOVED_FILES);
    let env = environment(&disk);
    let looked = check(&env, Path::new("/data"), tiny(), &mut |_| {}).unwrap().report;
    assert!(!looked.is_damaged() && looked.looked_at.cold_files == 1, "{looked:?}");
    let (log, mut stepper, report) = Log::open_stepped(&env, Path::new("/data"), tiny()).unwrap();
    assert!(report.clean && report.is_sound(), "{report:?}");
    let wanted: Vec<(i64, String)> =
        (1..).zip(["b", "c", "d", "e", "f", "g", "h"].map(str::to_owned)).collect();
    let found = values(&log, P1, 1);
    assert_eq!(found.into_iter().filter(|(offset, _)| *offset > 0).collect::<Vec<_>>(), wanted);
    assert_eq!(log.partition(P1).unwrap().log_start, 1);
    for kind in StateKind::ALL {
        assert_eq!(log.state_value(kind, b"key"), Some(Bytes::from_static(b"value")));
    }
    let view = log.partition(P2).unwrap();
    assert_eq!((view.last_stable, view.high_watermark), (1, 3), "one transaction is open");
    assert_eq!(log.aborted(P2, 0, 3).unwrap().len(), 1);
    let next = Commit::append(P1, produced(77, 1, 0, &["c"]));
    assert!(only(&stepper.submit(vec![next]).remove(0).unwrap()).duplicate);
}

/// Without the zeros at the end, which say nothing.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used.next_multiple_of(4096));
    bytes
}

/// The later mark with what was added to it later, as `turn`: since then both slots hold it.
fn later_mark(turn: &[u8], kind: &str) -> Vec<u8> {
    let marks = MARKS.map(|name| std::fs::read(fixture(kind, name)).unwrap());
    let mut mark = marks.into_iter().max_by_key(|mark| mark[MARK_TURN].to_vec()).unwrap();
    let meta = std::fs::read(fixture(kind, "meta")).unwrap();
    let id = crc32c::crc32c(&meta[META_DIRECTORY_ID]);
    let checksum = |mark: &[u8]| crc32c::crc32c_append(id, &mark[..MARK_CHECKSUM.start]);
    assert_eq!(mark[MARK_CHECKSUM], checksum(&mark).to_be_bytes());
    mark[MARK_TURN].copy_from_slice(turn);
    mark[MARK_WALL].copy_from_slice(&WALL_MS.to_be_bytes());
    let sum = checksum(&mark).to_be_bytes();
    mark[MARK_CHECKSUM].copy_from_slice(&sum);
    mark
}

/// A meta file with its own stamp in the place of the lock file's, as it is written since.
pub(crate) fn with_own_stamp(mut meta: Vec<u8>, disk: &SimDisk) -> Vec<u8> {
    let stamp = environment(disk).disk.stamp(Path::new("/data/meta")).unwrap().unwrap();
    for copy in meta.chunks_exact_mut(4096) {
        copy[44] = 2;
        copy[48..56].copy_from_slice(&stamp.inode.to_be_bytes());
        let crc = crc32c::crc32c(&copy[..4092]);
        copy[4092..].copy_from_slice(&crc.to_be_bytes());
    }
    meta
}

/// What stands in `name` of `fixture`, the same as what the present code has written to `disk`.
pub(crate) fn compare(disk: &SimDisk, name: &str, kind: &str) {
    let bytes = trimmed(disk.bytes(&Path::new("/data").join(name)).unwrap());
    let path = fixture(kind, name);
    if std::env::var_os("LOSSPROOF_WRITE_FIXTURE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(&path, &bytes).unwrap();
    }
    let mut known = std::fs::read(path).unwrap();
    if name.starts_with("journal/mark.") {
        known = later_mark(&bytes[MARK_TURN], kind);
    }
    if name == "meta" {
        known = with_own_stamp(known, disk);
    }
    assert!(bytes == known, "{name} is not what version 1 is");
}

#[test]
fn the_present_code_writes_version_1() {
    let disk = write();
    for name in FILES {
        compare(&disk, name, "v1");
    }
    let disk = write_moved();
    for name in MOVED_FILES {
        compare(&disk, name, "v1-moved");
    }
}

/// A disk with the files of a fixture.
pub(crate) fn read(kind: &str, names: &[&str]) -> SimDisk {
    let disk = SimDisk::new();
    let env = environment(&disk);
    for name in names {
        let path = Path::new("/data").join(name);
        env.disk.create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = std::fs::read(fixture(kind, name)).unwrap();
        env.disk.create(&path).unwrap().write_all_at(&bytes, 0).unwrap();
    }
    disk
}

#[test]
fn version_1_is_read() {
    let disk = read("v1", &FILES);
    let opened = Log::open_stepped(&environment(&disk), Path::new("/data"), LogConfig::small());
    let (log, mut stepper, report) = opened.unwrap();
    assert!(report.clean && report.is_sound(), "{report:?}");
    assert_eq!((report.last_frame, report.open_count), (7, 2));
    assert_eq!(values(&log, P1, 0), [(0, "a".into()), (1, "b".into()), (2, "c".into())]);
    assert_eq!(log.partitions(), [P1]);
    let identity = log.read(P1, 0, 1).unwrap().batches[0].identity.unwrap();
    assert_eq!((identity.session, identity.lane, identity.first_seq), (7, 1, 5));
    for kind in KINDS {
        let value = (kind != StateKind::Cursor).then(|| Bytes::from_static(b"value"));
        assert_eq!(log.state_value(kind, b"key"), value);
    }
    let next = Commit::append(P1, produced(77, 1, 0, &["c"]));
    let duplicate = stepper.submit(vec![next]).remove(0).unwrap();
    assert!(only(&duplicate).duplicate, "the producer is known");
    let ids = stepper.reserve_producer_ids(1).unwrap();
    assert_eq!(ids.first & 0xffff_ffff, 101);
}
