//! Workloads: what a log is asked to do before the power goes. Drawn from a seed, so that a
//! number is all it takes to have the same again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lossproof_env::{Rng, SeededRng};
use lossproof_log::{
    Append, Commit, FlushPolicy, LaneRange, PartitionChange, PartitionId, StateChange, StateKind,
};
use lossproof_wire::batch::BatchBuilder;

use super::model::{Model, sequence};

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Commits that are queued together and carried out in one go.
    Submit(Vec<Commit>),
    ProducerIds(u32),
    /// Time passes with nothing to do: the durable mark is due.
    Idle,
    /// The thread that writes zeros ahead does its next step, if it has one.
    Zero,
    /// What is in full segments moves to cold files.
    Checkpoint,
    /// An orderly close, and an open.
    Reopen,
    /// The process dies, the machine goes on; then an open.
    Kill,
}

/// Length of the longest records.
const LONG_BYTES: u64 = 9_000;

/// Draws the actions of one workload. All commits are valid, given that those before were taken.
pub(crate) fn draw(seed: u64, actions: usize) -> Vec<Action> {
    draw_with(seed, actions, LONG_BYTES)
}

/// The same with records of at most so many bytes.
pub(crate) fn draw_with(seed: u64, actions: usize, long_bytes: u64) -> Vec<Action> {
    let mut draw = Draw {
        rng: SeededRng::new(seed),
        long_bytes,
        model: Model::default(),
        sent: 0,
        named: 0,
        transactions: BTreeMap::new(),
    };
    let policies = [FlushPolicy::Commit, draw.any_policy(), draw.any_policy()];
    let mut list: Vec<Action> = vec![Action::Submit(policies.map(|p| draw.create(p)).into())];
    // A workload of safe partitions only is what most users have.
    while list.len() < actions {
        let action = match draw.below(34) {
            0..=16 => Action::Submit(draw.group()),
            17 => Action::ProducerIds(1 + draw.below(5) as u32),
            18 | 19 => Action::Idle,
            20 => Action::Reopen,
            21 => Action::Kill,
            22..=27 => Action::Zero,
            28 => {
                let policy = draw.any_policy();
                Action::Submit(vec![draw.create(policy)])
            }
            29 => Action::Submit(draw.delete().into_iter().collect()),
            30..=32 => Action::Checkpoint,
            _ => Action::Submit(vec![draw.log_start()]),
        };
        list.push(action);
    }
    list
}

/// What has been drawn so far decides what may come next.
struct Draw {
    rng: SeededRng,
    long_bytes: u64,
    model: Model,
    sent: u64,
    named: u64,
    transactions: BTreeMap<i64, Transaction>,
}

/// What a transactional producer is at.
#[derive(Default)]
struct Transaction {
    epoch: i16,
    open: BTreeSet<PartitionId>,
    /// The next sequence in each partition, of the present epoch.
    next: BTreeMap<PartitionId, i32>,
}

impl Draw {
    fn below(&self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    fn take(&mut self, commit: Commit) -> Commit {
        self.model.apply(&commit);
        commit
    }

    fn any_policy(&self) -> FlushPolicy {
        match self.below(4) {
            0 => FlushPolicy::UnsafePageCache,
            1 => FlushPolicy::UnsafeEverySecond,
            _ => FlushPolicy::Commit,
        }
    }

    fn create(&mut self, flush: FlushPolicy) -> Commit {
        self.named += 1;
        let id = PartitionId(self.named);
        let topic_id = [id.0 as u8; 16];
        let index = self.named as i32;
        self.take(Commit::partition(PartitionChange::Create { id, topic_id, index, flush }))
    }

    fn delete(&mut self) -> Option<Commit> {
        let ids: Vec<PartitionId> = self.model.partitions.keys().copied().collect();
        // The last ones stay, or there would be nothing to write to.
        let id = (ids.len() > 2).then(|| ids[self.below(ids.len() as u64) as usize])?;
        for transaction in self.transactions.values_mut() {
            transaction.open.remove(&id);
        }
        Some(self.take(Commit::partition(PartitionChange::Delete { id })))
    }

    /// Somewhere in what is there, now and then at the end of it.
    fn log_start(&mut self) -> Commit {
        let id = self.partition();
        let batches = &self.model.partitions[&id].batches;
        let end = batches.last().map_or(0, |batch| batch.last_offset + 1);
        let offset = self.below(end as u64 + 1) as i64;
        self.take(Commit::partition(PartitionChange::LogStart { id, offset }))
    }

    fn group(&mut self) -> Vec<Commit> {
        let count = if self.below(3) == 0 { 1 + self.below(4) } else { 1 };
        (0..count).map(|_| self.commit()).collect()
    }

    fn commit(&mut self) -> Commit {
        let commit = match self.below(14) {
            0..=2 => Commit { appends: vec![self.plain()], ..Commit::default() },
            3..=5 => Commit { appends: vec![self.produced()], ..Commit::default() },
            6 => self.retry(),
            7 => Commit { changes: vec![self.change()], ..Commit::default() },
            8 | 9 => Commit { appends: vec![self.transactional()], ..Commit::default() },
            10 | 11 => self.end_transaction(),
            12 => {
                let changes = vec![self.change(), self.change()];
                Commit { appends: vec![self.plain()], changes, ..Commit::default() }
            }
            _ => {
                let appends = vec![self.plain(), self.plain(), self.produced()];
                let changes = vec![self.change()];
                Commit { appends, changes, ..Commit::default() }
            }
        };
        self.take(commit)
    }

    fn partition(&self) -> PartitionId {
        let ids: Vec<PartitionId> = self.model.partitions.keys().copied().collect();
        ids[self.below(ids.len() as u64) as usize]
    }

    /// Records that tell which they are, now and then long ones.
    fn fill(&mut self, mut builder: BatchBuilder) -> Bytes {
        for _ in 0..=self.below(3) {
            self.sent += 1;
            let mut value = format!("record {}", self.sent).into_bytes();
            if self.below(4) == 0 {
                value.resize(value.len() + self.below(self.long_bytes) as usize, b'.');
            }
            builder.push(1_000 + self.sent as i64, None, Some(&value), &[]);
        }
        builder.build().unwrap()
    }

    fn plain(&mut self) -> Append {
        let partition = self.partition();
        let batch = self.fill(BatchBuilder::new());
        let first_seq = self.sent;
        let identity = (self.below(2) == 0).then_some(LaneRange { session: 7, lane: 1, first_seq });
        Append { partition, batch, identity }
    }

    /// The next batch of one of two producers of a partition.
    fn produced(&mut self) -> Append {
        let partition = self.partition();
        let producer_id = 100 + self.below(2) as i64;
        let window = self.model.windows().remove(&(partition, producer_id)).unwrap_or_default();
        let (epoch, first) = match window.last() {
            // Now and then the producer starts over.
            Some((last, _)) if self.below(8) == 0 => (last.epoch + 1, 0),
            Some((last, batch)) => {
                let count = batch.last_offset - batch.base_offset + 1;
                (last.epoch, last.first + count as i32)
            }
            None => (0, 0),
        };
        let batch = self.fill(BatchBuilder::new().producer(producer_id, epoch, first));
        Append { partition, batch, identity: None }
    }

    fn transactional_producer(&self) -> i64 {
        200 + self.below(3) as i64
    }

    /// The next batch of a transactional producer, which opens a transaction where it has none.
    fn transactional(&mut self) -> Append {
        let partition = self.partition();
        let producer_id = self.transactional_producer();
        let transaction = self.transactions.entry(producer_id).or_default();
        transaction.open.insert(partition);
        let epoch = transaction.epoch;
        let next = transaction.next.entry(partition).or_default();
        let first = *next;
        *next += 1;
        self.sent += 1;
        let builder = BatchBuilder::new().producer(producer_id, epoch, first).transactional(true);
        let batch = one(builder, None, format!("record {}", self.sent).as_bytes());
        Append { partition, batch, identity: None }
    }

    /// Commits or aborts what a producer has open, in all partitions and with its state; now and
    /// then with an epoch that fences it.
    fn end_transaction(&mut self) -> Commit {
        let producer_id = self.transactional_producer();
        let (fences, commits) = (self.below(3) == 0, self.below(2) == 0);
        let transaction = self.transactions.entry(producer_id).or_default();
        if fences {
            transaction.epoch += 1;
            transaction.next.clear();
        }
        let builder = BatchBuilder::new().producer(producer_id, transaction.epoch, -1);
        let builder = builder.transactional(true).control(true);
        let batch = one(builder, Some(&[0, 0, 0, u8::from(commits)]), &[0; 6]);
        let append = |partition| Append { partition, batch: batch.clone(), identity: None };
        let appends = std::mem::take(&mut transaction.open).into_iter().map(append).collect();
        let key = Bytes::from(format!("producer {producer_id}"));
        let value = Some(Bytes::from(format!("ended {}", self.rng.next_u64())));
        let change = StateChange { kind: StateKind::Transactions, key, value };
        Commit { appends, changes: vec![change], ..Commit::default() }
    }

    /// Sends again what a producer has sent among its last five.
    fn retry(&mut self) -> Commit {
        let windows: Vec<_> = self.model.windows().into_iter().collect();
        if windows.is_empty() {
            return Commit { appends: vec![self.plain()], ..Commit::default() };
        }
        let ((partition, _), window) = &windows[self.below(windows.len() as u64) as usize];
        let (_, batch) = &window[self.below(window.len() as u64) as usize];
        assert!(sequence(&batch.as_sent()).is_some());
        Commit::append(*partition, batch.as_sent())
    }

    fn change(&mut self) -> StateChange {
        let kind = StateKind::ALL[self.below(StateKind::ALL.len() as u64) as usize];
        let key = Bytes::from(format!("key {}", self.below(3)));
        let value = format!("value {}", self.rng.next_u64());
        let value = (self.below(4) > 0).then(|| Bytes::from(value));
        StateChange { kind, key, value }
    }
}

fn one(mut builder: BatchBuilder, key: Option<&[u8]>, value: &[u8]) -> Bytes {
    builder.push(1_000, key, Some(value), &[]);
    builder.build().unwrap()
}
