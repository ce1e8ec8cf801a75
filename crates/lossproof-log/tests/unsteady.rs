//! The medium changes its mind between a start and a move: what it gave the start and does not give
//! the move was not known, and nothing that it gives to the move alone goes. (MOVE-3, RECOVERY-1)

use crate::support;

use std::path::{Path, PathBuf};

use lossproof_env::SimDisk;
use lossproof_log::{
    Commit, FlushPolicy, Log, LogConfig, Loss, OffsetRange, PartitionId, PartitionRange,
    RecoveryReport, StateKind, Stepper,
};
use support::{P1, P2, accept, append, create, simulated};

const DATA: &str = "/data";
const BLOCK: usize = 4096;
const RECORDS: usize = 40;
/// Its creation and its only batch have a frame each, one behind the other.
const P3: PartitionId = PartitionId(3);

fn open(disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&simulated(disk), Path::new(DATA), LogConfig::small()).unwrap()
}

fn state(key: &'static str, value: &'static str) -> Commit {
    Commit::state(StateKind::Offsets, key, Some(value.into()))
}

/// Several segments. Of two partitions a batch stands in the second frame, of the first one all
/// others, each in a frame of one block; record `n` has offset `n`.
fn sample() -> SimDisk {
    let disk = SimDisk::new();
    let (_log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    let frame = vec![
        append(P1, &["record 0."]),
        append(P2, &["other 0."]),
        state("a", "value 0."),
        state("b", "value 1."),
    ];
    assert!(stepper.submit(frame).iter().all(Result::is_ok));
    stepper.submit(vec![create(P3, FlushPolicy::Commit)]).remove(0).unwrap();
    stepper.submit(vec![append(P3, &["third 0."])]).remove(0).unwrap();
    for index in 1..RECORDS {
        stepper.submit(vec![append(P1, &[&format!("record {index}.")])]).remove(0).unwrap();
        stepper.zero();
    }
    stepper.close().unwrap();
    disk.power_cut()
}

fn place_of(disk: &SimDisk, text: &[u8]) -> (PathBuf, usize) {
    let find = |path: PathBuf| {
        let bytes = disk.bytes(&path).unwrap();
        let at = bytes.windows(text.len()).position(|it| it == text)?;
        Some((path, at))
    };
    let mut journal: Vec<PathBuf> = disk.paths();
    journal.retain(|path| path.extension().is_some_and(|it| it == "wal"));
    journal.into_iter().find_map(find).expect("it stands in the journal")
}

/// One bit of it.
fn strike(disk: &SimDisk, text: &[u8]) {
    let (path, at) = place_of(disk, text);
    disk.damage(&path, at as u64, &[text[0] ^ 1]).unwrap();
}

/// The whole frame of one block that it stands in, both copies of the directory too.
fn blank(disk: &SimDisk, text: &[u8]) {
    let (path, at) = place_of(disk, text);
    disk.damage(&path, (at / BLOCK * BLOCK) as u64, &[0; BLOCK]).unwrap();
}

/// The damage of a start, and what has come to it before the move.
type Growth = (fn(&SimDisk), fn(&SimDisk));

const GROWTHS: [(&str, Growth); 4] = [
    ("a batch", (|disk| strike(disk, b"record 0."), |disk| strike(disk, b"other 0."))),
    ("state", (|disk| strike(disk, b"record 0."), |disk| strike(disk, b"value 1."))),
    (
        "state of the same kind",
        (|disk| strike(disk, b"value 0."), |disk| strike(disk, b"value 1.")),
    ),
    ("a frame", (|disk| blank(disk, b"record 4."), |disk| blank(disk, b"record 5."))),
];

#[test]
fn damage_that_grows_after_the_start_ends_the_moving() {
    for (what, (first, then)) in GROWTHS {
        let disk = sample();
        first(&disk);
        let known = open(&disk).2.damage;
        let (_log, mut stepper, report) = open(&disk);
        assert_eq!(report.damage, known, "{what}");
        then(&disk);
        let moved = stepper.checkpoint();
        assert!(
            moved.as_ref().is_err_and(|it| it.contains("damage was found")),
            "{what}: {moved:?}"
        );
        drop(stepper);
        let (_log, mut stepper, report) = open(&disk);
        assert_ne!(report.damage, known, "{what}: the next start tells of it");
        stepper.checkpoint().unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn damage_that_grows_behind_what_was_given_up_ends_the_moving() {
    // ACCEPT-5
    let disk = sample();
    strike(&disk, b"record 0.");
    let (log, mut stepper, _) = open(&disk);
    let range = OffsetRange { first: 0, last: 0 };
    let loss = Loss::Offsets(PartitionRange { partition: P1, range });
    accept(&log, &mut stepper, vec![loss]).unwrap();
    drop((log, stepper));
    let (_log, mut stepper, report) = open(&disk);
    assert!(report.damage.is_empty() && !report.accepted.is_empty(), "{report:?}");
    strike(&disk, b"other 0.");
    assert!(stepper.checkpoint().is_err());
    drop(stepper);
    let (_log, _stepper, report) = open(&disk);
    assert_eq!(report.damage.len(), 1, "the next start tells of it: {report:?}");
}
