//! A read keeps little more memory than the batches in it fill, however little of what it has gone
//! through is of its partition (READ-5), and it does not read the batch that has no room in it.

use crate::support;

use std::path::Path;

use lossproof_env::SimDisk;
use lossproof_log::{FlushPolicy, Log, LogConfig, Slice, Stepper};
use support::{P1, P2, append, create, simulated};

/// Of 16 KiB of journal each: many times what is read at once.
const ROUNDS: usize = 200;
/// Nearly fills them.
const LONG_BYTES: usize = 15_500;
/// Longer than what is read at once.
const VALUE_BYTES: usize = 150_000;

fn opened(disk: &SimDisk) -> (Log, Stepper) {
    let bytes = 4 << 20;
    let config =
        LogConfig { segment_bytes: bytes, initial_zero_bytes: bytes, ..LogConfig::small() };
    let opened = Log::open_stepped(&simulated(disk), Path::new("/data"), config);
    let (log, stepper, _) = opened.expect("a new log");
    (log, stepper)
}

fn bytes_of(slice: &Slice) -> usize {
    slice.batches.iter().map(|batch| batch.bytes.len()).sum()
}

#[test]
fn a_few_bytes_here_and_there_do_not_keep_what_lies_between() {
    let (log, mut stepper) = opened(&SimDisk::new());
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    let long = "x".repeat(LONG_BYTES);
    for _ in 0..ROUNDS {
        let done = stepper.submit(vec![append(P1, &["a"]), append(P2, &[&long])]);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }
    let read = |id| log.read(id, 0, 4 << 20).expect("all of it");
    let (short, long) = (read(P1), read(P2));
    assert_eq!((short.batches.len(), long.batches.len()), (ROUNDS, ROUNDS));
    assert_eq!(short.held, bytes_of(&short), "READ-5: copied");
    let (held, bytes) = (long.held, bytes_of(&long));
    assert!(held > bytes && held <= bytes + bytes / 4, "READ-5: {held} for {bytes}");
}

#[test]
fn what_has_no_room_is_left_to_the_next_read() {
    let disk = SimDisk::new();
    let (log, mut stepper) = opened(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
    let value = "x".repeat(VALUE_BYTES);
    for _ in 0..4 {
        let done = stepper.submit(vec![append(P1, &[&value])]);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }
    let before = disk.read_bytes();
    let mut next = 0;
    while next < 4 {
        let slice = log.read(P1, next, VALUE_BYTES + VALUE_BYTES / 10).expect("one of them");
        assert_eq!(slice.batches.len(), 1);
        next = slice.batches[0].last_offset + 1;
    }
    let read = disk.read_bytes() - before;
    // The rest is a window, and the front of the one that has no room.
    assert!(read < 4 * 2 * VALUE_BYTES as u64, "{read} bytes for four batches of {VALUE_BYTES}");
}
