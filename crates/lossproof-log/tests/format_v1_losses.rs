//! The rest of what format version 1 has: `fixtures/v1-losses` is the directory of a log that went
//! down and was damaged, of which a person has given up what was lost, and that was compacted. It
//! holds what `format_v1.rs` does not: of the journal, epochs that are raised (tag 3), another
//! flush policy (6), a log start (7) and losses given up (8, 9); of a checkpoint, entries that are
//! missing (6), how far a partition is compacted (8) and what was given up (9, 10); a cold file
//! with compacted batches; and the list of quarantine.

use crate::format_v1::{WALL_MS, compare, drawing, fixture, read, tiny, with_own_stamp};
use crate::support;

use std::path::Path;

use bytes::Bytes;
use lossproof_env::SimDisk;
use lossproof_log::{
    Commit, Compaction, Finding, FindingKind, FlushPolicy, Log, Loss, OffsetRange, PartitionChange,
    PartitionId, PartitionRange, RecoveryReport, StateKind, Stepper, check,
};
use lossproof_wire::batch::{BatchBuilder, records};
use support::{P1, P2, accept, append, blank, create, end_segment, strike};

const KIND: &str = "v1-losses";

/// Segments up to the fifth are moved; what is left of them is in the cold files.
const FILES: [&str; 12] = [
    "meta",
    "journal/mark.0",
    "journal/mark.1",
    "journal/0000000000000006.wal",
    "journal/0000000000000008.wal",
    "cold/0000000000000001.cold",
    "cold/0000000000000003.cold",
    "checkpoint/checkpoint.0",
    "checkpoint/checkpoint.1",
    "checkpoint/0000000000000004.a",
    "checkpoint/0000000000000004.b",
    "quarantine/list",
];

/// Each open draws other numbers.
fn open(disk: &SimDisk, seed: u64) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&drawing(disk, seed), Path::new("/data"), tiny()).unwrap()
}

fn keyed(key: &str, value: Option<&str>) -> Commit {
    let mut builder = BatchBuilder::new();
    builder.push(1_000, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    Commit::append(P1, builder.build().unwrap())
}

fn state(kind: StateKind, key: &'static str, value: &'static str) -> Commit {
    Commit::state(kind, key, Some(Bytes::from_static(value.as_bytes())))
}

fn submit(stepper: &mut Stepper, frames: impl IntoIterator<Item = Vec<Commit>>) {
    for commits in frames {
        let done = stepper.submit(commits);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        stepper.zero();
    }
}

fn lost(first: i64, last: i64) -> Loss {
    Loss::Offsets(PartitionRange { partition: P2, range: OffsetRange { first, last } })
}

/// Ends without order, so that the next open raises the epochs.
fn before_the_damage(disk: &SimDisk) {
    let (_log, mut stepper, _) = open(disk, 1);
    let frames = [
        vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)],
        vec![keyed("a", Some("older")), keyed("b", Some("kept"))],
        vec![append(P2, &["first"])],
        vec![append(P2, &["lost batch", "in two records"])],
        vec![append(P2, &["second"])],
        vec![append(P2, &["lost and not given up", "neither"])],
        vec![state(StateKind::Offsets, "lost", "lost offset")],
        vec![state(StateKind::Cursor, "lost", "lost frame")],
        vec![
            state(StateKind::Offsets, "kept", "offset"),
            state(StateKind::Cursor, "kept", "cursor"),
        ],
        vec![keyed("a", Some("newer")), keyed("c", None), append(P2, &["third"])],
    ];
    submit(&mut stepper, frames);
    for text in ["lost batch", "lost and not given up", "lost offset"] {
        strike(disk, text.as_bytes());
    }
    blank(disk, b"lost frame");
}

/// Gives up some of it, which goes into a checkpoint with a compaction.
fn given_up_and_moved(disk: &SimDisk) {
    let (log, mut stepper, report) = open(disk, 2);
    assert_eq!(report.damage.len(), 4, "{report:?}");
    accept(&log, &mut stepper, vec![lost(1, 2), Loss::State(StateKind::Offsets)]).unwrap();
    // The second leaves what the first one has settled.
    for now_ms in [WALL_MS, WALL_MS + 1] {
        submit(&mut stepper, [vec![keyed("b", Some("kept"))]]);
        end_segment(&log, &mut stepper);
        let wish = Compaction { now_ms, before_ms: None, delete_retention_ms: 1_000 };
        log.compact([(P1, wish)]);
        stepper.checkpoint().unwrap();
    }
    let late = [
        vec![append(P2, &["late loss", "in two records"])],
        vec![state(StateKind::Offsets, "late", "late offset")],
        vec![append(P2, &["fourth"])],
    ];
    submit(&mut stepper, late);
    drop((log, stepper));
    for text in ["late loss", "late offset"] {
        strike(disk, text.as_bytes());
    }
}

/// The same once more, for the journal, which ends in order.
fn given_up_again(disk: &SimDisk) {
    let (log, mut stepper, report) = open(disk, 3);
    assert!(!report.clean, "{report:?}");
    accept(&log, &mut stepper, vec![lost(7, 8), Loss::State(StateKind::Offsets)]).unwrap();
    let changes = [
        PartitionChange::Flush { id: P2, flush: FlushPolicy::UnsafePageCache },
        PartitionChange::LogStart { id: P1, offset: 1 },
    ];
    submit(&mut stepper, changes.map(|change| vec![Commit::partition(change)]));
    stepper.close().unwrap();
}

fn write() -> SimDisk {
    let disk = SimDisk::new();
    before_the_damage(&disk);
    given_up_and_moved(&disk);
    given_up_again(&disk);
    disk
}

/// A piece of quarantine is what stands in the journal where its name says, and is no fixture.
#[test]
fn the_present_code_writes_version_1_of_losses() {
    let disk = write();
    for name in FILES {
        compare(&disk, name, KIND);
    }
    let segment = disk.bytes(Path::new("/data/journal/0000000000000006.wal")).unwrap();
    for at in [8192, 12288] {
        let name = format!("/data/quarantine/0000000000000006-{at:010}-0000004096.piece");
        assert!(disk.bytes(Path::new(&name)).unwrap() == segment[at..at + 4096], "{name}");
    }
}

/// Offsets, keys and values.
fn left_of(log: &Log, id: PartitionId, from: i64) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let batches = log.read(id, from, 1 << 20).unwrap().batches;
    let all = batches.iter().flat_map(|batch| records(&batch.bytes).unwrap());
    let all = all.map(Result::unwrap).filter(|record| record.offset >= from);
    all.map(|it| (it.offset, it.key.map(text).unwrap_or_default(), it.value.map(text))).collect()
}

fn ranges<const N: usize>(all: [(i64, i64); N]) -> Vec<OffsetRange> {
    all.into_iter().map(|(first, last)| OffsetRange { first, last }).collect()
}

/// With its meta file as its own, and not as a copy.
fn as_it_was() -> SimDisk {
    let disk = read(KIND, &FILES);
    let meta = Path::new("/data/meta");
    let stamped = with_own_stamp(disk.bytes(meta).unwrap(), &disk);
    disk.damage(meta, 0, &stamped).unwrap();
    disk
}

#[test]
fn losses_of_version_1_are_read() {
    let disk = as_it_was();
    let env = drawing(&disk, 4);
    let looked = check(&env, Path::new("/data"), tiny(), &mut |_| {}).unwrap().report;
    let still = PartitionRange { partition: P2, range: OffsetRange { first: 4, last: 5 } };
    assert_eq!(looked.lost, [still]);
    assert_eq!(looked.accepted_states, [StateKind::Offsets]);
    let (log, _stepper, report) = open(&disk, 4);
    assert!(report.clean && report.in_doubt.is_empty(), "{report:?}");
    let kinds = |findings: &[Finding]| findings.iter().map(|it| it.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&report.damage), [FindingKind::DamagedBefore]);
    assert_eq!(kinds(&report.accepted), [FindingKind::FrameDamaged; 2]);

    let some = |offset, key: &str, value: &str| (offset, key.to_owned(), Some(value.to_owned()));
    let compacted = [some(2, "a", "newer"), (3, "c".to_owned(), None), some(5, "b", "kept")];
    assert_eq!(left_of(&log, P1, 1), compacted);
    let dirt = log.dirt(P1).unwrap();
    assert_eq!((dirt.from, dirt.tombstones_since_ms), (6, Some(WALL_MS)));
    let view = log.partition(P1).unwrap();
    // Two raises are kept, and this open makes one: what is lost may have been one as well.
    assert_eq!((view.log_start, view.leader_epoch, view.flush), (1, 3, FlushPolicy::Commit));

    for (from, value) in [(0, "first"), (1, "second"), (6, "third"), (7, "fourth")] {
        assert_eq!(left_of(&log, P2, from)[0].2.as_deref(), Some(value), "from {from} on");
    }
    let view = log.partition(P2).unwrap();
    assert_eq!((view.flush, view.high_watermark), (FlushPolicy::UnsafePageCache, 10));
    assert_eq!(view.accepted, ranges([(1, 2), (7, 8)]));
    assert_eq!(view.damaged, ranges([(4, 5)]));
    assert_eq!([6, 9].map(|offset| log.epoch_at(P2, offset).unwrap()), [Some(0), Some(1)]);

    assert_eq!(log.accepted_states(), [StateKind::Offsets]);
    for kind in StateKind::ALL {
        assert_eq!(log.state_is_damaged(kind), kind != StateKind::Offsets, "{kind:?}");
    }
    let kept = [(StateKind::Offsets, "offset"), (StateKind::Cursor, "cursor")];
    for (kind, value) in kept {
        let all = [(Bytes::from_static(b"kept"), Bytes::from_static(value.as_bytes()))];
        assert_eq!(log.state(kind), all);
    }
}

/// What was listed is known, and not listed again.
#[test]
fn the_list_of_quarantine_of_version_1_is_read() {
    let disk = as_it_was();
    let (_log, stepper, _) = open(&disk, 4);
    stepper.close().unwrap();
    let listed = disk.bytes(Path::new("/data/quarantine/list")).unwrap();
    assert!(listed == std::fs::read(fixture(KIND, "quarantine/list")).unwrap(), "{listed:?}");
}
