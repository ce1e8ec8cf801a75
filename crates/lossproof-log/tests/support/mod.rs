//! What the behaviour tests share.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{
    AcceptError, Append, CheckReport, Commit, CommitCause, Committed, FlushPolicy, LaneRange, Log,
    LogConfig, Loss, PartitionChange, PartitionId, RecoveryReport, Stepper, StoredBatch, check,
};
use lossproof_wire::batch::BatchBuilder;

pub(crate) const P1: PartitionId = PartitionId(1);
pub(crate) const P2: PartitionId = PartitionId(2);

pub(crate) fn create(id: PartitionId, flush: FlushPolicy) -> Commit {
    let topic_id = [id.0 as u8; 16];
    Commit::partition(PartitionChange::Create { id, topic_id, index: 0, flush })
}

/// Why it was refused.
pub(crate) fn cause(stepper: &mut Stepper, commit: Commit) -> Option<CommitCause> {
    stepper.submit(vec![commit]).remove(0).err().map(|error| error.cause)
}

/// Those of a disk whose names end so.
pub(crate) fn files_of(disk: &SimDisk, kind: &str) -> Vec<PathBuf> {
    let paths = disk.paths().into_iter();
    paths.filter(|path| path.extension().is_some_and(|it| it == kind)).collect()
}

/// A batch without a producer, one record per value.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    build(BatchBuilder::new(), values)
}

/// A batch of an idempotent producer.
pub(crate) fn produced(producer_id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    build(BatchBuilder::new().producer(producer_id, epoch, sequence), values)
}

fn build(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for (index, value) in values.iter().enumerate() {
        builder.push(1000 + index as i64, None, Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

pub(crate) fn append(id: PartitionId, values: &[&str]) -> Commit {
    Commit::append(id, batch(values))
}

/// An append with an identity whose first sequence is `first_seq`.
pub(crate) fn identified(id: PartitionId, first_seq: u64, values: &[&str]) -> Commit {
    let identity = Some(LaneRange { session: 7, lane: 1, first_seq });
    let appends = vec![Append { partition: id, batch: batch(values), identity }];
    Commit { appends, ..Commit::default() }
}

/// The records of a stored batch: offsets and values.
pub(crate) fn values_of(stored: &StoredBatch) -> Vec<(i64, String)> {
    let records = lossproof_wire::batch::records(&stored.bytes).unwrap();
    let value = |record: lossproof_wire::batch::Record| {
        (record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap())
    };
    records.map(|record| value(record.unwrap())).collect()
}

/// All record values from `from` on, with their offsets.
pub(crate) fn values(log: &Log, id: PartitionId, from: i64) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let slice = log.read(id, next, 1 << 20).unwrap();
        let Some(last) = slice.batches.last() else { return found };
        next = last.last_offset + 1;
        found.extend(slice.batches.iter().flat_map(values_of));
    }
}

/// The world of a test: a disk in memory, a clock that stands, numbers that repeat.
pub(crate) fn simulated(disk: &SimDisk) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_000_000)),
        rng: Arc::new(SeededRng::new(disk.position() as u64)),
    }
}

pub(crate) fn only(committed: &Committed) -> lossproof_log::Appended {
    assert_eq!(committed.appended.len(), 1);
    committed.appended[0]
}

/// Gives up `losses`, with one step of the commit thread where it comes to that.
pub(crate) fn accept(
    log: &Log,
    stepper: &mut Stepper,
    losses: Vec<Loss>,
) -> Result<(), AcceptError> {
    let mut accepting = pin!(log.accept_losses(losses));
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(refused) = accepting.as_mut().poll(&mut context) {
        return refused;
    }
    stepper.step();
    match accepting.poll(&mut context) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("it was not answered"),
    }
}

/// Where a text stands in the journal.
pub(crate) fn place_of(disk: &SimDisk, text: &[u8]) -> (PathBuf, usize) {
    let find = |path: PathBuf| {
        let bytes = disk.bytes(&path).unwrap();
        let at = bytes.windows(text.len()).position(|it| it == text)?;
        Some((path, at))
    };
    let mut journal: Vec<PathBuf> = disk.paths();
    journal.retain(|path| path.extension().is_some_and(|it| it == "wal"));
    journal.into_iter().find_map(find).expect("it stands in the journal")
}

/// Flips one bit of it.
pub(crate) fn strike(disk: &SimDisk, text: &[u8]) {
    let (path, at) = place_of(disk, text);
    disk.damage(&path, at as u64, &[text[0] ^ 1]).unwrap();
}

/// Ends the segment in use, however much it holds.
pub(crate) fn end_segment(log: &Log, stepper: &mut Stepper) {
    let mut sealing = pin!(log.seal());
    let mut context = Context::from_waker(Waker::noop());
    assert!(sealing.as_mut().poll(&mut context).is_pending());
    stepper.step();
    assert!(matches!(sealing.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
}

/// Leaves nothing of the frame of one block that it stands in, both copies of the directory too.
pub(crate) fn blank(disk: &SimDisk, text: &[u8]) {
    const BLOCK: usize = 4096;
    let (path, at) = place_of(disk, text);
    disk.damage(&path, (at / BLOCK * BLOCK) as u64, &[0; BLOCK]).unwrap();
}

/// A small log, damaged or not.
pub(crate) fn open(disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
    Log::open_stepped(&simulated(disk), Path::new("/data"), LogConfig::small()).unwrap()
}

/// What a check says of it.
pub(crate) fn look(disk: &SimDisk) -> CheckReport {
    let looked = check(&simulated(disk), Path::new("/data"), LogConfig::small(), &mut |_| {});
    looked.unwrap().report
}
