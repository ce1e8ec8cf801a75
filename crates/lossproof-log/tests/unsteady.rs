//! The medium changes its mind between a start and a move: what it gave the start and does not give
//! the move was not known, and nothing that it gives to the move alone goes. (MOVE-3, RECOVERY-1)

use crate::support;

use std::path::Path;

use lossproof_env::SimDisk;
use lossproof_log::{
    Commit, FlushPolicy, Loss, OffsetRange, PartitionChange, PartitionId, PartitionRange, StateKind,
};
use support::{P1, P2, accept, append, blank, create, open, place_of, strike, values};

const DATA: &str = "/data";
const BLOCK: usize = 4096;
const RECORDS: usize = 40;
/// Its creation and its only batch have a frame each, one behind the other.
const P3: PartitionId = PartitionId(3);

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

/// What an entry that creates a partition holds.
fn creation(id: PartitionId) -> Vec<u8> {
    [&[1][..], &[id.0 as u8; 16]].concat()
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

type Strike = fn(&SimDisk);

/// What the start could not read, and the move can.
const PASSING: [(&str, Strike); 4] = [
    ("a creation", |disk| strike(disk, &creation(P3))),
    ("the frame of a creation", |disk| blank(disk, &creation(P3))),
    ("a creation and the only batch", |disk| {
        strike(disk, &creation(P3));
        strike(disk, b"third 0.");
    }),
    ("the frames of both", |disk| {
        let (path, at) = place_of(disk, &creation(P3));
        disk.damage(&path, (at / BLOCK * BLOCK) as u64, &[0; 2 * BLOCK]).unwrap();
    }),
];

#[test]
fn a_partition_that_only_the_move_can_read_is_not_taken_for_a_deleted_one() {
    // MOVE-3
    for (what, strike) in PASSING {
        let disk = sample();
        let (path, _) = place_of(&disk, &creation(P3));
        let before = disk.bytes(&path).unwrap();
        strike(&disk);
        let (log, mut stepper, report) = open(&disk);
        assert!(!report.damage.is_empty() && log.partition(P3).is_none(), "{what}: {report:?}");
        let left = disk.bytes(&path).unwrap().len();
        disk.damage(&path, 0, &before[..left]).unwrap();
        let moved = stepper.checkpoint();
        drop((log, stepper));
        for start in 0..2 {
            let hint = format!("{what}, start {start} after {moved:?}");
            let (log, mut stepper, report) = open(&disk);
            assert!(report.damage.is_empty(), "{hint}: {report:?}");
            assert_eq!(values(&log, P3, 0), [(0, "third 0.".to_owned())], "{hint}");
            stepper.checkpoint().unwrap_or_else(|error| panic!("{hint}: {error}"));
        }
    }
}

/// One that was deleted is not taken for one that could not be read, whatever was told of it.
#[test]
fn a_deleted_partition_does_not_end_the_moving() {
    let delete = || Commit::partition(PartitionChange::Delete { id: P3 });
    for before in [false, true] {
        let disk = sample();
        let (_log, mut stepper, _) = open(&disk);
        if before {
            stepper.submit(vec![delete()]).remove(0).unwrap();
        }
        drop(stepper);
        blank(&disk, b"record 4.");
        strike(&disk, &creation(P2));
        strike(&disk, b"third 0.");
        let (_log, mut stepper, report) = open(&disk);
        let told: Vec<_> = report.damage.iter().flat_map(|it| &it.partitions).collect();
        assert!(told.iter().any(|it| it.partition == P3), "{report:?}");
        if !before {
            stepper.submit(vec![delete()]).remove(0).unwrap();
        }
        stepper.checkpoint().unwrap();
    }
}

/// The list of findings is nothing that a start depends on; what cannot be read of it stays.
#[test]
fn an_unreadable_list_in_quarantine_refuses_no_start() {
    let disk = sample();
    strike(&disk, b"record 0.");
    drop(open(&disk));
    let list = Path::new(DATA).join("quarantine/list");
    let before = disk.bytes(&list).unwrap();
    disk.make_unreadable(&list, 0..512).unwrap();
    drop(open(&disk));
    strike(&disk, b"record 4.");
    let (_log, _stepper, report) = open(&disk);
    assert_eq!(report.damage.len(), 2, "{report:?}");
    let text = String::from_utf8(disk.bytes(&list).unwrap()).unwrap();
    assert!(report.damage.iter().all(|finding| text.contains(&finding.to_string())), "{text}");
    let mut paths = disk.paths().into_iter();
    assert!(paths.any(|path| disk.bytes(&path).unwrap() == before), "the old one is gone");
}
