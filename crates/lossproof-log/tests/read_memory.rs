//! A read keeps little more memory than the batches in it fill, however little of what it has gone
//! through is of its partition. (READ-5)

use crate::support;

use std::path::Path;

use lossproof_env::SimDisk;
use lossproof_log::{FlushPolicy, Log, LogConfig, Slice};
use support::{P1, P2, append, create, simulated};

/// Of 16 KiB of journal each: many times what is read at once.
const ROUNDS: usize = 200;
/// Nearly fills them.
const LONG_BYTES: usize = 15_500;

fn bytes_of(slice: &Slice) -> usize {
    slice.batches.iter().map(|batch| batch.bytes.len()).sum()
}

#[test]
fn a_few_bytes_here_and_there_do_not_keep_what_lies_between() {
    let disk = SimDisk::new();
    let config =
        LogConfig { segment_bytes: 4 << 20, initial_zero_bytes: 4 << 20, ..LogConfig::small() };
    let opened = Log::open_stepped(&simulated(&disk), Path::new("/data"), config);
    let (log, mut stepper, _) = opened.expect("a new log");
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
