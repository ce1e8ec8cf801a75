//! Files of format version 1 stay readable: the log in `fixtures/v1` was written when the format
//! was fixed, and the present code writes the same bytes (LAYOUT-1, LAYOUT-3, storage rule 18). The
//! layout is drawn in `docs/format/journal.md`.
//!
//! To write the fixture of a new version: `LOSSPROOF_WRITE_FIXTURE=1 cargo test --test format_v1`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{Commit, FlushPolicy, Log, LogConfig, PartitionChange, StateKind};
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

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(name)
}

fn environment(disk: &SimDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        rng: Arc::new(SeededRng::new(1)),
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

/// Without the zeros at the end, which say nothing.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used.next_multiple_of(4096));
    bytes
}

#[test]
fn the_present_code_writes_version_1() {
    let disk = write();
    for name in FILES {
        let bytes = trimmed(disk.bytes(&Path::new("/data").join(name)).unwrap());
        if std::env::var_os("LOSSPROOF_WRITE_FIXTURE").is_some() {
            std::fs::create_dir_all(fixture(name).parent().unwrap()).unwrap();
            std::fs::write(fixture(name), &bytes).unwrap();
        }
        let known = std::fs::read(fixture(name)).unwrap();
        assert!(bytes == known, "{name} is not what version 1 is");
    }
}

#[test]
fn version_1_is_read() {
    let disk = SimDisk::new();
    let env = environment(&disk);
    env.disk.create_dir_all(Path::new("/data/journal")).unwrap();
    for name in FILES {
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        if name == "meta" {
            // The fixture's lock file is not here: the log must not think that it was moved.
            for copy in bytes.chunks_exact_mut(4096) {
                copy[44] = 0;
                let crc = crc32c::crc32c(&copy[..4092]);
                copy[4092..].copy_from_slice(&crc.to_be_bytes());
            }
        }
        let file = env.disk.create(&Path::new("/data").join(name)).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
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
