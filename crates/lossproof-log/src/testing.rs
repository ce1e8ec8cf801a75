//! What the tests beside the code share.

use std::path::Path;
use std::sync::Arc;

use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};
use lossproof_wire::batch::BatchBuilder;

use crate::{Commit, FlushPolicy, Log, LogConfig, PartitionChange, PartitionId, Stepper};

pub(crate) const DATA: &str = "/data";

/// A log on a simulated disk, with a clock that stands.
pub(crate) fn open(disk: &SimDisk, config: LogConfig) -> (Log, Stepper) {
    open_at(disk, &ManualClock::new(1_000_000), config)
}

pub(crate) fn open_at(disk: &SimDisk, clock: &ManualClock, config: LogConfig) -> (Log, Stepper) {
    let env = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        rng: Arc::new(SeededRng::new(7)),
    };
    let (log, stepper, _) = Log::open_stepped(&env, Path::new(DATA), config).unwrap();
    (log, stepper)
}

pub(crate) fn create(id: PartitionId) -> Commit {
    let (topic_id, flush) = ([1; 16], FlushPolicy::Commit);
    Commit::partition(PartitionChange::Create { id, topic_id, index: 0, flush })
}

/// A batch of so many records with this value.
pub(crate) fn append(id: PartitionId, records: usize, value: &[u8]) -> Commit {
    let mut batch = BatchBuilder::new();
    (0..records).for_each(|_| batch.push(1_000, None, Some(value), &[]));
    Commit::append(id, batch.build().unwrap())
}
