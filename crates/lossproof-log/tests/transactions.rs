//! Transactions in the log: what is open holds the last stable offset, what was aborted is known by
//! range, a marker fences, and an ending over several partitions is one commit. A crash changes
//! none of it. (TXN-1, TXN-2, TXN-3, TXN-4, PRODUCER-3, LOG-9)

use crate::support;

use std::path::Path;

use bytes::Bytes;
use lossproof_env::{Fault, SimDisk};
use lossproof_log::{
    AbortedTransaction, Append, Commit, CommitCause, FlushPolicy, FullCause, Log, LogConfig, Loss,
    OffsetRange, PartitionChange, PartitionId, PartitionRange, ReadError, StateChange, StateKind,
    Stepper,
};
use lossproof_wire::batch::BatchBuilder;
use support::{P1, P2, append, create, produced, simulated};

const A: i64 = 40;
const B: i64 = 41;

fn open(disk: &SimDisk, config: LogConfig) -> (Log, Stepper) {
    let env = simulated(disk);
    let (log, stepper, _) = Log::open_stepped(&env, Path::new("/data"), config).unwrap();
    (log, stepper)
}

fn started(disk: &SimDisk, flush: FlushPolicy) -> (Log, Stepper) {
    let (log, mut stepper) = open(disk, LogConfig::small());
    let made = stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, flush)]);
    assert!(made.iter().all(Result::is_ok));
    (log, stepper)
}

fn records(producer_id: i64, epoch: i16, sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new().producer(producer_id, epoch, sequence);
    builder = builder.transactional(true);
    builder.push(1000, None, Some(b"value"), &[]);
    builder.build().unwrap()
}

fn marker(producer_id: i64, epoch: i16, commit: bool) -> Bytes {
    let builder = BatchBuilder::new().producer(producer_id, epoch, -1);
    let mut builder = builder.transactional(true).control(true);
    let key = [0, 0, 0, u8::from(commit)];
    builder.push(1000, Some(&key), Some(&[0; 6]), &[]);
    builder.build().unwrap()
}

fn submit(stepper: &mut Stepper, commit: Commit) -> Result<i64, CommitCause> {
    let outcome = stepper.submit(vec![commit]).remove(0).map_err(|error| error.cause)?;
    Ok(outcome.appended[0].base_offset)
}

fn put(stepper: &mut Stepper, id: PartitionId, batch: Bytes) -> Result<i64, CommitCause> {
    submit(stepper, Commit::append(id, batch))
}

fn ending(partitions: &[PartitionId], batch: &Bytes) -> Commit {
    let append = |id: &PartitionId| Append { partition: *id, batch: batch.clone(), identity: None };
    let change = StateChange {
        kind: StateKind::Transactions,
        key: Bytes::from_static(b"id"),
        value: Some(Bytes::from_static(b"ended")),
    };
    Commit {
        appends: partitions.iter().map(append).collect(),
        changes: vec![change],
        ..Commit::default()
    }
}

/// Last stable offset, high watermark, and all that was aborted.
fn seen(log: &Log, id: PartitionId) -> (i64, i64, Vec<AbortedTransaction>) {
    let view = log.partition(id).unwrap();
    (view.last_stable, view.high_watermark, log.aborted(id, 0, i64::MAX).unwrap())
}

fn aborted(producer_id: i64, first_offset: i64, last_offset: i64) -> AbortedTransaction {
    AbortedTransaction { first_offset, last_offset, producer_id }
}

#[test]
fn open_transactions_hold_the_stable_offset_and_a_crash_changes_nothing() {
    // TXN-1, TXN-2, TXN-3
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::Commit);
    assert_eq!(put(&mut stepper, P1, records(A, 0, 0)), Ok(0));
    assert_eq!(submit(&mut stepper, append(P1, &["plain"])), Ok(1));
    assert_eq!(put(&mut stepper, P1, records(B, 0, 0)), Ok(2));
    assert_eq!(seen(&log, P1), (0, 3, vec![]));
    assert_eq!(put(&mut stepper, P1, marker(B, 0, false)), Ok(3));
    assert_eq!(seen(&log, P1), (0, 4, vec![aborted(B, 2, 3)]));
    drop((log, stepper));
    let (log, mut stepper) = open(&disk.power_cut(), LogConfig::small());
    assert_eq!(seen(&log, P1), (0, 4, vec![aborted(B, 2, 3)]));
    assert_eq!(put(&mut stepper, P1, marker(A, 0, false)), Ok(4));
    let both = vec![aborted(A, 0, 4), aborted(B, 2, 3)];
    assert_eq!(seen(&log, P1), (5, 5, both), "sorted by first offset, not by their ends");
    assert_eq!(put(&mut stepper, P1, records(A, 0, 1)), Ok(5));
    assert_eq!(put(&mut stepper, P1, marker(A, 0, true)), Ok(6));
    assert_eq!(seen(&log, P1).0, 7);
    assert_eq!(log.aborted(P1, 4, 5).unwrap(), [aborted(A, 0, 4)]);
    assert_eq!(log.aborted(P1, 5, 7).unwrap(), []);
}

#[test]
fn an_ending_is_seen_in_all_partitions_at_once_and_only_when_it_is_durable() {
    // LOG-9: also where one of the partitions shows everything else before it is synced.
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::UnsafePageCache);
    for id in [P1, P2] {
        assert_eq!(put(&mut stepper, id, records(A, 0, 0)), Ok(0));
    }
    disk.inject(Fault::sync(0));
    let refused = submit(&mut stepper, ending(&[P1, P2], &marker(A, 0, true)));
    assert!(matches!(refused, Err(CommitCause::Fenced(_))));
    for id in [P1, P2] {
        assert_eq!(seen(&log, id).0, 0, "nothing of it is visible");
    }
    drop((log, stepper));
    let (log, mut stepper) = open(&disk.killed(), LogConfig::small());
    let before = [P1, P2].map(|id| seen(&log, id).0);
    assert!(before == [0, 0] || before == [2, 2], "whole or not at all: {before:?}");
    submit(&mut stepper, ending(&[P1, P2], &marker(A, 0, true))).unwrap();
    assert_eq!(log.state_value(StateKind::Transactions, b"id"), Some("ended".into()));
}

#[test]
fn an_ending_alone_is_synced_as_well() {
    // LOG-9: whatever else is in its commit, and whatever the policy of the partition.
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::UnsafePageCache);
    assert_eq!(put(&mut stepper, P2, records(A, 0, 0)), Ok(0));
    disk.inject(Fault::sync(0));
    let refused = put(&mut stepper, P2, marker(A, 0, true));
    assert!(matches!(refused, Err(CommitCause::Fenced(_))), "{refused:?}");
    assert_eq!(seen(&log, P2).0, 0, "it is not seen");
}

#[test]
fn a_marker_fences_lower_epochs_and_the_next_epoch_starts_at_0() {
    // PRODUCER-3
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::Commit);
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    let outside = put(&mut stepper, P1, produced(A, 0, 1, &["x"]));
    assert_eq!(outside, Err(CommitCause::InTransaction { partition: P1, producer_id: A }));
    put(&mut stepper, P1, marker(A, 1, false)).unwrap();
    drop((log, stepper));
    let (_log, mut stepper) = open(&disk.power_cut(), LogConfig::small());
    for late in [records(A, 0, 1), records(A, 0, 0), marker(A, 0, true)] {
        let fenced = put(&mut stepper, P1, late);
        assert!(matches!(fenced, Err(CommitCause::InvalidProducerEpoch { known: 1, .. })));
    }
    let skipped = put(&mut stepper, P1, records(A, 1, 1));
    assert!(matches!(skipped, Err(CommitCause::OutOfOrderSequence { expected: 0, .. })));
    assert_eq!(put(&mut stepper, P1, records(A, 1, 0)), Ok(2));
}

#[test]
fn a_marker_takes_no_part_in_sequences_and_is_no_duplicate() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::Commit);
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    assert_eq!(put(&mut stepper, P1, marker(A, 0, true)), Ok(1));
    assert_eq!(put(&mut stepper, P1, marker(A, 0, true)), Ok(2), "appended, for whatever reason");
    assert_eq!(put(&mut stepper, P1, records(A, 0, 1)), Ok(3));
    assert_eq!(put(&mut stepper, P1, records(A, 0, 0)), Ok(0), "a duplicate of before the marker");
    assert_eq!(seen(&log, P1).0, 3);
}

#[test]
fn what_is_no_marker_or_of_no_producer_is_refused() {
    let disk = SimDisk::new();
    let (_log, mut stepper) = started(&disk, FlushPolicy::Commit);
    let mut unknown = BatchBuilder::new().producer(A, 0, -1).transactional(true).control(true);
    unknown.push(1000, Some(&[0, 0, 0, 7]), Some(&[0; 6]), &[]);
    let mut outside = BatchBuilder::new().producer(A, 0, -1).control(true);
    outside.push(1000, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
    let mut nobody = BatchBuilder::new().transactional(true);
    nobody.push(1000, None, Some(b"value"), &[]);
    for builder in [unknown, outside, nobody] {
        let refused = put(&mut stepper, P1, builder.build().unwrap());
        assert!(matches!(refused, Err(CommitCause::InvalidBatch { .. })), "{refused:?}");
    }
}

#[test]
fn transactions_are_bounded_and_ending_one_is_always_possible() {
    let disk = SimDisk::new();
    let config = LogConfig { transactions_max: 2, ..LogConfig::small() };
    let (log, mut stepper) = open(&disk, config.clone());
    submit_all(
        &mut stepper,
        vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)],
    );
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    put(&mut stepper, P2, records(B, 0, 0)).unwrap();
    let full = Err(CommitCause::Full(FullCause::Transactions));
    assert_eq!(put(&mut stepper, P1, records(B, 0, 0)), full);
    put(&mut stepper, P1, records(A, 0, 1)).unwrap();
    put(&mut stepper, P1, marker(A, 0, false)).unwrap();
    assert_eq!(put(&mut stepper, P1, records(B, 0, 0)), full, "an aborted one is still known");
    put(&mut stepper, P2, marker(B, 0, true)).unwrap();
    put(&mut stepper, P1, records(B, 0, 0)).unwrap();
    drop((log, stepper));
    let (_log, mut stepper) = open(&disk.power_cut(), config);
    assert_eq!(put(&mut stepper, P2, records(A, 0, 0)), full, "counted anew by replay");
    submit_all(&mut stepper, vec![Commit::partition(PartitionChange::Delete { id: P1 })]);
    put(&mut stepper, P2, records(A, 0, 0)).unwrap();
}

/// Storage rule 8: what ends a transaction does not wait for space.
#[test]
fn a_transaction_ends_on_a_full_disk() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::Commit);
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    disk.set_capacity(disk.used_bytes());
    let full = loop {
        if let Err(cause) = submit(&mut stepper, append(P1, &["x"])) {
            break cause;
        }
    };
    assert_eq!(full, CommitCause::Full(FullCause::Disk));
    assert_eq!(put(&mut stepper, P1, records(A, 0, 1)), Err(full));
    submit(&mut stepper, ending(&[P1], &marker(A, 0, true))).unwrap();
    let (last_stable, high_watermark, _) = seen(&log, P1);
    assert_eq!(last_stable, high_watermark);
}

/// The last stable offset would stand still, for all who read what is committed.
#[test]
fn a_transaction_ends_where_index_and_state_are_full() {
    let disk = SimDisk::new();
    let config = LogConfig { index_entries_max: 1, state_bytes_max: 200, ..LogConfig::small() };
    let (log, mut stepper) = open(&disk, config);
    submit_all(&mut stepper, vec![create(P1, FlushPolicy::Commit)]);
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    let state = |key: &'static str, length| StateChange {
        kind: StateKind::Transactions,
        key: key.into(),
        value: Some(Bytes::from(vec![7; length])),
    };
    let changes = vec![state("id", 100), state("full", 94)];
    submit_all(&mut stepper, vec![Commit { changes, ..Commit::default() }]);
    let more = submit(&mut stepper, Commit { changes: vec![state("x", 0)], ..Commit::default() });
    assert_eq!(more, Err(CommitCause::Full(FullCause::State)));
    let more = put(&mut stepper, P1, records(A, 0, 1));
    assert_eq!(more, Err(CommitCause::Full(FullCause::Index)));
    // The entry of the transaction gives up the offsets that become committed with it.
    let changes = vec![state("offset", 50), state("id", 40)];
    submit_all(&mut stepper, vec![Commit { changes, ..ending(&[P1], &marker(A, 0, true)) }]);
    assert_eq!(seen(&log, P1), (2, 2, vec![]));
}

fn submit_all(stepper: &mut Stepper, commits: Vec<Commit>) {
    assert!(stepper.submit(commits).iter().all(Result::is_ok));
}

/// TXN-4. The bytes of a marker rot; its directory still says that something was there.
#[test]
fn a_lost_marker_never_makes_its_transaction_look_committed() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::Commit);
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    put(&mut stepper, P1, marker(A, 0, false)).unwrap();
    put(&mut stepper, P1, records(A, 0, 1)).unwrap();
    put(&mut stepper, P1, marker(A, 0, true)).unwrap();
    drop((log, stepper));
    let disk = disk.killed();
    damage(&disk, &marker(A, 0, false)[61..]);
    let (log, _stepper) = open(&disk, LogConfig::small());
    let view = log.partition(P1).unwrap();
    assert_eq!(view.damaged.len(), 1);
    assert_eq!((view.last_stable, view.high_watermark), (0, 4), "the commit was of the next one");
}

/// ACCEPT-4, TXN-3. The frame of the loss is not there at the next start either, to bring the
/// transaction into doubt in front of what gives it up.
#[test]
fn what_a_loss_that_was_given_up_made_of_a_transaction_stays_so() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::Commit);
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    submit(&mut stepper, append(P1, &["will be lost"])).unwrap();
    submit(&mut stepper, append(P2, &["behind it"])).unwrap();
    drop((log, stepper));
    let disk = disk.killed();
    let path = Path::new("/data/journal/0000000000000001.wal");
    let journal = disk.bytes(path).unwrap();
    let at = journal.windows(12).position(|window| window == b"will be lost").unwrap();
    disk.damage(path, (at / 4096 * 4096) as u64, &[0; 4096]).unwrap();
    let (log, mut stepper) = open(&disk, LogConfig::small());
    assert_eq!(seen(&log, P1), (0, 1, vec![]), "it is open, and its end is not known");
    let range = OffsetRange { first: 1, last: 1 };
    let mut losses = vec![Loss::Offsets(PartitionRange { partition: P1, range })];
    losses.extend(StateKind::ALL.map(Loss::State));
    support::accept(&log, &mut stepper, losses).unwrap();
    // What seems to go on behind the loss may still end as it likes.
    let decided = (0, 2, vec![aborted(A, 0, 0)]);
    assert_eq!(seen(&log, P1), decided);
    drop((log, stepper));
    let mut disk = disk.power_cut();
    for _ in 0..3 {
        let (log, mut stepper) = open(&disk, LogConfig::small());
        assert_eq!(seen(&log, P1), decided);
        stepper.checkpoint().unwrap();
        drop((log, stepper));
        disk = disk.power_cut();
    }
}

/// Flips a bit in the one place of the journal that holds `bytes`.
fn damage(disk: &SimDisk, bytes: &[u8]) {
    let path = Path::new("/data/journal/0000000000000001.wal");
    let journal = disk.bytes(path).unwrap();
    let at = journal.windows(bytes.len()).position(|window| window == bytes).unwrap();
    disk.damage(path, at as u64, &[!bytes[0]]).unwrap();
}

/// TXN-2. A reader has the records of an aborted transaction in its hands, and asks which they are
/// when they have just been deleted: an empty list would make them committed ones.
#[test]
fn what_was_aborted_below_the_log_start_is_not_known_and_no_list_says_otherwise() {
    let disk = SimDisk::new();
    let (log, mut stepper) = started(&disk, FlushPolicy::Commit);
    put(&mut stepper, P1, records(A, 0, 0)).unwrap();
    put(&mut stepper, P1, marker(A, 0, false)).unwrap();
    put(&mut stepper, P1, records(A, 0, 1)).unwrap();
    let read = log.read(P1, 0, 1 << 20).unwrap();
    assert_eq!(read.batches.len(), 3);
    let start = PartitionChange::LogStart { id: P1, offset: 2 };
    assert!(stepper.submit(vec![Commit::partition(start)]).iter().all(Result::is_ok));
    let asked = log.aborted(P1, 0, 3);
    let expected = ReadError::OffsetOutOfRange { offset: 0, log_start: 2, high_watermark: 3 };
    assert_eq!(asked.unwrap_err().to_string(), expected.to_string());
    assert_eq!(log.aborted(P1, 2, 3).unwrap(), []);
}
