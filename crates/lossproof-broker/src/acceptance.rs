//! Losses that the operator gives up, on a log that nobody serves.
//!
//! # Invariants
//!
//! - ACCEPTANCE-1: a transaction that overlaps a given up range ends aborted in all of its
//!   partitions, and none is left open that nobody could end. In whatever order ranges and state
//!   are given up: where transactions are not known, with these.
//! - ACCEPTANCE-2: a partition does not go on below what a group has read.
//! - ACCEPTANCE-3: where the state of transactions is given up each transactional id begins anew,
//!   with another producer id, and all that was open is aborted: an entry that is left may be older
//!   than what was done in its name, and an epoch that was granted before must not be so again.

use std::collections::BTreeSet;
use std::sync::Arc;

use lossproof_env::Environment;
use lossproof_log::{
    AcceptError, Append, Commit, CommitCause, Log, Loss, PartitionId, PartitionRange, ProducerView,
    StateKind,
};

use crate::offsets::{CommittedOffset, OffsetKey};
use crate::transaction::{
    Identity, Transaction, TransactionCoordinator, TransactionError, TransactionSettings,
    abort_marker, pending_offsets,
};

const TRANSACTIONS: Loss = Loss::State(StateKind::Transactions);

/// Why losses were not accepted, or not all that follows from it was done: then the same call
/// does the rest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptanceError {
    #[error("{0}")]
    Log(#[from] AcceptError),
    #[error(
        "partition {partition}: group {group} has committed offset {offset}, or is about to in a \
         transaction: a range whose end is not known has to reach at least to {}, or new messages \
         would be skipped", offset - 1
    )]
    BelowCommitted { partition: PartitionId, group: String, offset: i64 },
    #[error("not all transactions that the loss concerns were ended: {reason}")]
    Transaction { reason: String },
}

impl From<TransactionError> for AcceptanceError {
    fn from(error: TransactionError) -> Self {
        Self::Transaction { reason: error.to_string() }
    }
}

impl From<CommitCause> for AcceptanceError {
    fn from(cause: CommitCause) -> Self {
        Self::Transaction { reason: cause.to_string() }
    }
}

/// Gives up `losses`, all or none, the state of transactions last, and aborts what overlaps them;
/// how many transactions that was. What was given up before is no error.
pub async fn accept_losses(
    log: &Log,
    env: &Environment,
    losses: &[Loss],
) -> Result<usize, AcceptanceError> {
    let mut new: Vec<Loss> = losses.to_vec();
    new.retain(|loss| !is_accepted(log, loss));
    for lost in &new {
        check_committed(log, lost)?;
    }
    let of_transactions = new.contains(&TRANSACTIONS);
    if of_transactions && !log.state_is_damaged(StateKind::Transactions) {
        return Err(AcceptError::StateWhole(StateKind::Transactions).into());
    }
    new.retain(|loss| *loss != TRANSACTIONS);
    if !new.is_empty() {
        log.accept_losses(new).await?;
    }
    if of_transactions {
        // First: what is done in their names once that is given up is not to be forgotten by the
        // same call (ACCEPTANCE-3).
        forget_transactions(log).await?;
        let given_up = log.accept_losses(vec![TRANSACTIONS]).await;
        given_up.map_err(|error| AcceptanceError::Transaction { reason: error.to_string() })?;
    }
    if log.state_is_damaged(StateKind::Transactions) {
        // Whose they are is not known before that is given up as well.
        return Ok(0);
    }
    let overlapping: BTreeSet<PartitionId> = losses.iter().filter_map(partition_of).collect();
    let mut concerned = overlapping.clone();
    if losses.contains(&TRANSACTIONS) {
        // Whatever was open when that was given up is nobody's (ACCEPTANCE-3).
        concerned.extend(log.partitions());
    }
    let settings = TransactionSettings::default();
    let clock = Arc::clone(&env.clock);
    let coordinator = TransactionCoordinator::open(log.clone(), clock, settings);
    let aborted = coordinator.abort_in(&overlapping).await?;
    let hanging = end_hanging(log, env, &coordinator, &concerned).await?;
    Ok(aborted + hanging)
}

/// ACCEPTANCE-3.
async fn forget_transactions(log: &Log) -> Result<(), CommitCause> {
    let mut queued = Vec::new();
    for (id, _) in log.state(StateKind::Transactions) {
        let commit = Commit::state(StateKind::Transactions, id, None);
        queued.push(log.enqueue(commit).await.map_err(|error| error.cause)?);
    }
    for pending in queued {
        pending.await.map_err(|error| error.cause)?;
    }
    Ok(())
}

/// ACCEPTANCE-2: what a group has read was given.
fn check_committed(log: &Log, loss: &Loss) -> Result<(), AcceptanceError> {
    let Loss::Offsets(PartitionRange { partition, range }) = *loss else { return Ok(()) };
    let Some(view) = log.partition(partition) else { return Ok(()) };
    if range.last < view.high_watermark {
        return Ok(());
    }
    // What an open transaction holds may be committed yet, also where it is not known whether that
    // has ended.
    for (key, value) in log.state(StateKind::Offsets).into_iter().chain(pending_offsets(log)) {
        let (key, value) = (OffsetKey::decode(key), CommittedOffset::decode(value));
        let (Ok(key), Ok(CommittedOffset { offset, .. })) = (key, value) else { continue };
        let is_here = (key.topic_id.0, key.partition) == (view.topic_id, view.index);
        if is_here && offset > range.last + 1 {
            let group = key.group;
            return Err(AcceptanceError::BelowCommitted { partition, group, offset });
        }
    }
    Ok(())
}

fn partition_of(loss: &Loss) -> Option<PartitionId> {
    match loss {
        Loss::Offsets(range) => Some(range.partition),
        Loss::State(_) => None,
    }
}

fn is_accepted(log: &Log, loss: &Loss) -> bool {
    match loss {
        Loss::Offsets(lost) => {
            let accepted = log.partition(lost.partition).map(|view| view.accepted);
            accepted.is_some_and(|accepted| accepted.contains(&lost.range))
        }
        Loss::State(kind) => !log.state_is_damaged(*kind) && log.accepted_states().contains(kind),
    }
}

/// At a start: ends what nobody can end any more, where there is nothing left to decide on: a
/// marker was lost, and then retention or DeleteRecords has removed the loss (ACCEPTANCE-1).
pub(crate) async fn end_forgotten(
    log: &Log,
    env: &Environment,
    coordinator: &TransactionCoordinator,
) -> Result<usize, AcceptanceError> {
    if log.state_is_damaged(StateKind::Transactions) {
        return Ok(0);
    }
    let mut held = log.partitions();
    held.retain(|id| {
        let view = log.partition(*id);
        view.is_some_and(|it| it.last_stable < it.high_watermark && it.damaged.is_empty())
    });
    if held.is_empty() {
        return Ok(0);
    }
    end_hanging(log, env, coordinator, &held.into_iter().collect()).await
}

/// Ends what is open in `partitions` and belongs to no transactional id any more; of how many
/// producers.
async fn end_hanging(
    log: &Log,
    env: &Environment,
    coordinator: &TransactionCoordinator,
    partitions: &BTreeSet<PartitionId>,
) -> Result<usize, AcceptanceError> {
    // An ongoing one holds every partition that it has written to (PRODUCE-4).
    let ongoing = |_: &str, it: &Transaction| {
        let of = |id: &PartitionId| (it.identity.producer_id, *id);
        it.is_ongoing().then(|| it.partitions.iter().map(of).collect::<Vec<_>>())
    };
    let known: BTreeSet<(i64, PartitionId)> =
        coordinator.of_all(ongoing).await?.into_iter().flatten().collect();
    let mut ended = BTreeSet::new();
    for id in partitions {
        let closed = log
            .partition(*id)
            .is_none_or(|view| view.damaged.iter().any(lossproof_log::OffsetRange::is_open));
        if closed {
            continue; // Nothing can be written there before that is given up as well.
        }
        let is_hanging = |it: &ProducerView| {
            it.transaction_start.is_some() && !known.contains(&(it.producer_id, *id))
        };
        let producers = log.producers(*id).await?.into_iter();
        for ProducerView { producer_id, epoch, .. } in producers.filter(is_hanging) {
            let batch = abort_marker(Identity { producer_id, epoch }, env.clock.wall_ms());
            let append = Append { partition: *id, batch, identity: None };
            let commit = Commit { appends: vec![append], ..Commit::default() };
            log.commit(commit).await.map_err(|error| error.cause)?;
            ended.insert(producer_id);
        }
    }
    Ok(ended.len())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lossproof_env::{ManualClock, SeededRng, SimDisk};
    use lossproof_log::{FlushPolicy, LogConfig, OffsetRange, PartitionChange};

    use super::*;
    use crate::topics::TopicId;
    use crate::transaction::state_of;

    /// ACCEPTANCE-2.
    #[test]
    fn a_partition_does_not_go_on_below_what_a_group_has_read() {
        // ACCEPTANCE-2
        let env = Environment {
            disk: Arc::new(SimDisk::new()),
            clock: Arc::new(ManualClock::new(0)),
            rng: Arc::new(SeededRng::new(1)),
        };
        let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
        let (log, mut stepper, _) = opened.expect("it opens");
        let (partition, topic_id) = (PartitionId(1), TopicId([7; 16]));
        let flush = FlushPolicy::Commit;
        let made = PartitionChange::Create { id: partition, topic_id: topic_id.0, index: 3, flush };
        let key = OffsetKey { group: "g".into(), topic_id, partition: 3 };
        let value = CommittedOffset {
            order: 0,
            offset: 50,
            leader_epoch: 0,
            committed_at_ms: 0,
            metadata: String::new(),
        };
        let committed = Commit::state(StateKind::Offsets, key.encode(), Some(value.encode()));
        let done = stepper.submit(vec![Commit::partition(made), committed]);
        assert!(done.iter().all(Result::is_ok));
        let lost = |last| {
            let range = OffsetRange { first: 0, last };
            Loss::Offsets(PartitionRange { partition, range })
        };
        let refused = check_committed(&log, &lost(48)).expect_err("the next one would be 49");
        assert!(matches!(refused, AcceptanceError::BelowCommitted { offset: 50, .. }));
        assert!(check_committed(&log, &lost(49)).is_ok());
        // What a transaction holds, whether it is still open or not.
        let me = Identity { producer_id: 9, epoch: 0 };
        let mut transaction = Transaction::new(me, 1);
        transaction.add_group(me, "g", 999, 0).expect("it begins");
        let held = CommittedOffset { offset: 60, ..value };
        transaction.add_offsets(me, "g", [(key.encode(), held.encode())], 999).expect("it fits");
        let entry = [state_of("payments", Some(&transaction))];
        let done = stepper.submit(vec![Commit { changes: entry.into(), ..Commit::default() }]);
        assert!(done.iter().all(Result::is_ok));
        let refused = check_committed(&log, &lost(58)).expect_err("the next one would be 59");
        assert!(matches!(refused, AcceptanceError::BelowCommitted { offset: 60, .. }));
        assert!(check_committed(&log, &lost(59)).is_ok());
    }
}
