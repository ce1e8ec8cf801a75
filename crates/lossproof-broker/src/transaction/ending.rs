//! The one commit in which a transaction ends.

use std::collections::BTreeMap;

use bytes::Bytes;
use lossproof_log::{Append, Commit, PartitionId, StateChange, StateKind};
use lossproof_wire::batch::BatchBuilder;

use super::codec;
use super::state::{Identity, Outcome, Transaction};
use crate::offsets::is_outdated;

/// Version 0 of a marker's key and value, and what follows it in the key.
const ABORT_KEY: [u8; 4] = [0, 0, 0, 0];
const COMMIT_KEY: [u8; 4] = [0, 0, 0, 1];
/// Version, and an epoch of the coordinator: there is one coordinator, which never moves.
const VALUE: [u8; 6] = [0; 6];

/// A marker as it stands in a partition: one control record, outside of the producer's sequence.
fn marker(bearer: Identity, outcome: Outcome, now_ms: i64) -> Bytes {
    let key = match outcome {
        Outcome::Commit => COMMIT_KEY,
        Outcome::Abort => ABORT_KEY,
    };
    let builder = BatchBuilder::new().producer(bearer.producer_id, bearer.epoch, -1);
    let mut builder = builder.transactional(true).control(true);
    builder.push(now_ms, Some(&key), Some(&VALUE), &[]);
    builder.build().expect("a batch of 78 bytes fits its length field")
}

/// The marker that aborts what `bearer` has open.
pub(crate) fn abort_marker(bearer: Identity, now_ms: i64) -> Bytes {
    marker(bearer, Outcome::Abort, now_ms)
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    /// Whom the markers name: with a higher epoch than the transaction's they fence its producer.
    /// What each partition knows may be higher still.
    pub(super) bearer: Identity,
    pub(super) now_ms: i64,
}

/// The offsets of a transaction as committed ones, where `wanted` says so of the key.
pub(super) fn offsets(ended: &Transaction, wanted: impl Fn(&Bytes) -> bool) -> Vec<StateChange> {
    let offsets = ended.offsets.iter().filter(|(key, _)| wanted(key));
    let change = |(key, value): (&Bytes, &Bytes)| StateChange {
        kind: StateKind::Offsets,
        key: key.clone(),
        value: Some(value.clone()),
    };
    offsets.map(change).collect()
}

/// Markers for `partitions`, each with its epoch, offsets, and `next`, what becomes of the id: all
/// of it durable, or none.
pub(super) fn commit(
    id: &str,
    next: &Transaction,
    partitions: &BTreeMap<PartitionId, i16>,
    offsets: &[StateChange],
    ending: Ending,
) -> Commit {
    let append = |(partition, epoch): (&PartitionId, &i16)| {
        let bearer = Identity { epoch: *epoch, ..ending.bearer };
        let batch = marker(bearer, ending.outcome, ending.now_ms);
        Append { partition: *partition, batch, identity: None }
    };
    Commit {
        appends: partitions.iter().map(append).collect(),
        changes: offsets.iter().cloned().chain([state_of(id, Some(next))]).collect(),
        outdated: Some(is_outdated),
        ..Commit::default()
    }
}

/// The entry of a transactional id; `None` removes it.
pub(crate) fn state_of(id: &str, transaction: Option<&Transaction>) -> StateChange {
    StateChange {
        kind: StateKind::Transactions,
        key: Bytes::copy_from_slice(id.as_bytes()),
        value: transaction.map(codec::encode),
    }
}
