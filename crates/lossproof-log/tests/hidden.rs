//! A loss that is given up hides records that can be read from committed readers: each of them is
//! named. (HIDDEN-1)

use crate::keyed;
use crate::support;

use std::path::Path;

use bytes::Bytes;
use keyed::{compact, records_of, wish};
use lossproof_env::SimDisk;
use lossproof_log::{
    Commit, FlushPolicy, Log, LogConfig, Loss, OffsetRange, PartitionRange, Stepper, check,
};
use lossproof_wire::batch::BatchBuilder;
use support::{P1, accept, append, create, end_segment, place_of, simulated, strike};

const DATA: &str = "/data";

fn open(disk: &SimDisk) -> (Log, Stepper) {
    let opened = Log::open_stepped(&simulated(disk), Path::new(DATA), LogConfig::small());
    let (log, stepper, _) = opened.unwrap();
    (log, stepper)
}

/// A record in the transaction of a producer.
fn record(producer_id: i64, sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new().producer(producer_id, 0, sequence).transactional(true);
    builder.push(1_000, None, Some(format!("of {producer_id}: {sequence}").as_bytes()), &[]);
    builder.build().unwrap()
}

fn marker(producer_id: i64, is_commit: bool) -> Bytes {
    let builder = BatchBuilder::new().producer(producer_id, 0, -1);
    let mut builder = builder.transactional(true).control(true);
    builder.push(1_000, Some(&[0, 0, 0, u8::from(is_commit)]), Some(&[0; 6]), &[]);
    builder.build().unwrap()
}

fn hidden(disk: &SimDisk) -> Vec<(i64, i64)> {
    let looked = check(&simulated(disk), Path::new(DATA), LogConfig::small(), &mut |_| {});
    let named = looked.unwrap().report.hidden.into_iter();
    named.map(|it| (it.range.first, it.range.last)).collect()
}

/// The trap: the lost record is of nobody's transaction, and the commit that stands behind it was
/// answered with yes. Nobody is told of what was really aborted: it was never to be seen.
#[test]
fn records_of_a_transaction_that_a_given_up_range_hides_are_named() {
    let disk = SimDisk::new();
    let (log, mut stepper) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
    let mut put = |commit| assert!(stepper.submit(vec![commit])[0].is_ok());
    for batch in [record(4, 0), record(1, 0), marker(1, false), record(2, 0)] {
        put(Commit::append(P1, batch));
    }
    put(append(P1, &["plain"])); // 4
    for batch in [record(2, 1), record(3, 0)] {
        put(Commit::append(P1, batch));
    }
    put(append(P1, &["to be lost"])); // 7
    for batch in [record(2, 2), marker(2, true), marker(3, false), marker(4, false)] {
        put(Commit::append(P1, batch));
    }
    stepper.close().unwrap();
    drop(log);
    strike(&disk, b"to be lost");
    assert_eq!(hidden(&disk), [], "committed readers wait for a decision");
    let (log, mut stepper) = open(&disk);
    let range = OffsetRange { first: 7, last: 7 };
    let loss = Loss::Offsets(PartitionRange { partition: P1, range });
    accept(&log, &mut stepper, vec![loss]).unwrap();
    // Whose marker stands behind the range is not known to be the one of before it.
    let expected = [(0, 0), (3, 3), (5, 6)];
    let named: Vec<_> = log.hidden().iter().map(|it| (it.range.first, it.range.last)).collect();
    assert_eq!(named, expected);
    // What the medium does not give back any more hides nothing of the rest.
    let image = disk.power_cut();
    let (later, _stepper) = open(&image);
    let (path, at) = place_of(&disk, b"of 2: 0");
    let block = at as u64 / 4096 * 4096;
    image.make_unreadable(&path, block..block + 4096).unwrap();
    let left: Vec<_> = later.hidden().iter().map(|it| (it.range.first, it.range.last)).collect();
    assert_eq!(left, [(0, 0), (5, 6)]);
    stepper.checkpoint().unwrap();
    // Nor does compaction take them away, though they look aborted.
    end_segment(&log, &mut stepper);
    compact(&log, &mut stepper, wish(0));
    let first = &log.read(P1, 1, 1).unwrap().batches[0];
    assert_eq!(records_of(first), [], "what was aborted has gone");
    stepper.close().unwrap();
    drop(log);
    assert_eq!(hidden(&disk), expected);
}
