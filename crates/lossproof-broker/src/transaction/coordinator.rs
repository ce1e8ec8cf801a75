//! Drives [`Transaction`]s with journal and clock.
//!
//! # Invariants
//!
//! - COORDINATOR-1: a change is answered, and acted upon, only after it is durable.
//! - COORDINATOR-2: while a transaction changes, nothing is queued in its name: its records stand
//!   before its markers in every partition, or are refused.
//! - COORDINATOR-3: where the state may be damaged nobody is served, and nothing ends by itself: an
//!   old entry may be of a transaction that has ended otherwise (storage rule 14).
//! - COORDINATOR-4: an offset of an open transaction is never answered as committed, and can be
//!   told from "no offset".
//! - COORDINATOR-5: a transaction of which a record may be lost is never answered as committed. A
//!   partition that the journal does not know need not have been deleted: its creation may be lost.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lossproof_env::Clock;
use lossproof_log::{Commit, CommitCause, Log, OffsetRange, PartitionId, StateChange, StateKind};
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};

use super::codec;
use super::ending::{self, Ending};
use super::expiry::EXPIRED_AT_ONCE;
use super::state::{
    End, Identity, Outcome, Renewal, Transaction, TransactionError, TransactionSettings,
};
use crate::offsets::{OffsetKey, UnreadableEntry};
use crate::producer_ids::ProducerIdBlocks;
use crate::topics::{Catalog, may_lack_topics};

/// Transactions between two pauses.
const LOOKED_AT_ONCE: usize = 1_000;

/// Where a transactional id stands.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None`: not made yet, or forgotten.
    transaction: Option<Arc<Transaction>>,
    /// When the transaction times out, or the id is forgotten.
    pub(super) deadline: Option<Duration>,
    /// It is older than this start: where its records were lost before, nobody knows how many.
    is_resumed: bool,
    /// The id was forgotten: this slot is nobody's any more.
    removed: bool,
}

type Entry = Arc<RwLock<Slot>>;
pub(super) type Change = OwnedRwLockWriteGuard<Slot>;

#[derive(Clone, Debug, Default)]
struct Known {
    entry: Entry,
    /// As in the slot.
    transaction: Option<Arc<Transaction>>,
}

/// What can be asked without waiting for any transaction.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Arc<str>, Known>,
    /// As in the slots, but of those that are being expired.
    pub(super) deadlines: BTreeSet<(Duration, String)>,
    /// Keys of offsets in open transactions, and in how many. In their order, so that those of a
    /// group stand together.
    pending: BTreeMap<Bytes, usize>,
}

#[derive(Debug)]
pub(crate) struct TransactionCoordinator {
    log: Log,
    pub(super) clock: Arc<dyn Clock>,
    settings: TransactionSettings,
    damaged: bool,
    /// Partitions of transactions that the log did not have at this start: deleted, or their
    /// creation is lost. Later none goes but by its deletion.
    missing: BTreeSet<PartitionId>,
    index: Mutex<Index>,
    /// Told whenever a deadline may have come nearer.
    pub(super) changed: Notify,
    /// Places for what is being expired.
    pub(super) expiring: Arc<Semaphore>,
}

/// The right to queue records in the name of a transaction, for as long as it is held
/// (COORDINATOR-2).
#[derive(Debug)]
pub(crate) struct WriteGuard(OwnedRwLockReadGuard<Slot>);

impl WriteGuard {
    pub(crate) fn check(
        &self,
        bearer: Identity,
        partition: PartitionId,
    ) -> Result<(), TransactionError> {
        let transaction = self.0.transaction.as_ref().ok_or(TransactionError::UnknownProducer)?;
        transaction.check_write(bearer, partition)
    }
}

impl TransactionCoordinator {
    /// Takes up what the journal holds. Ongoing transactions go on; their time is measured anew.
    pub(crate) fn open(log: Log, clock: Arc<dyn Clock>, settings: TransactionSettings) -> Self {
        let known = known(&log);
        let taken_up = known.iter().flatten().flat_map(|(_, it)| &it.partitions).copied();
        let missing = taken_up.filter(|id| log.partition(*id).is_none()).collect();
        let this = Self {
            damaged: known.is_err() || log.state_is_damaged(StateKind::Transactions),
            missing,
            log,
            clock,
            settings,
            index: Mutex::default(),
            changed: Notify::new(),
            expiring: Arc::new(Semaphore::new(EXPIRED_AT_ONCE)),
        };
        if this.damaged {
            tracing::error!("transactions are damaged: their ids are not served");
            return this; // COORDINATOR-3
        }
        for (id, transaction) in known.into_iter().flatten() {
            let mut slot = Slot { is_resumed: true, ..Slot::default() };
            this.publish(&id, &mut slot, transaction);
            let transaction = slot.transaction.clone();
            let known = Known { entry: Arc::new(RwLock::new(slot)), transaction };
            this.lock().entries.insert(id.into(), known);
        }
        this
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_id(&self, id: &str) -> Result<(), TransactionError> {
        if id.is_empty() {
            return Err(TransactionError::EmptyId);
        }
        if self.damaged { Err(TransactionError::Damaged) } else { Ok(()) }
    }

    fn find(&self, id: &str) -> Result<Entry, TransactionError> {
        self.check_id(id)?;
        let index = self.lock();
        let known = index.entries.get(id).ok_or(TransactionError::UnknownProducer)?;
        Ok(Arc::clone(&known.entry))
    }

    fn find_or_make(&self, id: &str) -> Result<Entry, TransactionError> {
        self.check_id(id)?;
        let mut index = self.lock();
        if index.entries.len() >= self.settings.ids_max && !index.entries.contains_key(id) {
            return Err(TransactionError::TooManyIds);
        }
        Ok(Arc::clone(&index.entries.entry(id.into()).or_default().entry))
    }

    /// A transaction, to be changed (COORDINATOR-2).
    pub(super) async fn change(&self, id: &str) -> Result<(Change, Transaction), TransactionError> {
        let slot = self.find(id)?.write_owned().await;
        let current = slot.transaction.as_deref().ok_or(TransactionError::UnknownProducer)?;
        let current = current.clone();
        Ok((slot, current))
    }

    /// The right to write in the name of `id`.
    pub(crate) async fn guard(&self, id: &str) -> Result<WriteGuard, TransactionError> {
        Ok(WriteGuard(self.find(id)?.read_owned().await))
    }

    /// Grants a producer id and epoch. Whoever had the id before is fenced by it, and its ongoing
    /// transaction is aborted with it.
    pub(crate) async fn init(
        &self,
        ids: &ProducerIdBlocks,
        id: &str,
        timeout_ms: i32,
        bearer: Option<Identity>,
    ) -> Result<Identity, TransactionError> {
        let timeout = u64::try_from(timeout_ms).map_or(Duration::ZERO, Duration::from_millis);
        if timeout.is_zero() || timeout > self.settings.timeout_max {
            return Err(TransactionError::Timeout);
        }
        let mut slot = self.find_or_make(id)?.write_owned().await;
        if slot.removed {
            return Err(TransactionError::Busy);
        }
        let granted = self.renew(ids, id, &mut slot, timeout_ms, bearer).await;
        if slot.transaction.is_none() {
            self.remove(id, &mut slot);
        }
        granted
    }

    async fn renew(
        &self,
        ids: &ProducerIdBlocks,
        id: &str,
        slot: &mut Slot,
        timeout_ms: i32,
        bearer: Option<Identity>,
    ) -> Result<Identity, TransactionError> {
        let current = slot.transaction.as_deref().cloned();
        let renewal = current.as_ref().map(|current| current.renew(bearer)).transpose()?;
        let identity = match (renewal, &current) {
            (Some(Renewal::Granted), Some(current)) => return Ok(current.identity),
            (Some(Renewal::NextEpoch), Some(current)) => current.identity.next(),
            _ => {
                let producer_id = ids.next().await.map_err(TransactionError::Storage)?;
                Identity { producer_id, epoch: 0 }
            }
        };
        let next = Transaction { previous: bearer, ..Transaction::new(identity, timeout_ms) };
        match current.filter(Transaction::is_ongoing) {
            Some(ongoing) => self.abort(id, slot, &ongoing, next).await?,
            None => self.write(id, slot, next).await?,
        }
        Ok(identity)
    }

    /// Adds partitions to a transaction, and begins it where there is none.
    pub(crate) async fn add_partitions(
        &self,
        id: &str,
        bearer: Identity,
        partitions: &[PartitionId],
    ) -> Result<(), TransactionError> {
        let (mut slot, mut next) = self.change(id).await?;
        let (max, now_ms) = (self.settings.partitions_max, self.clock.wall_ms());
        if next.add_partitions(bearer, partitions, max, now_ms)? {
            self.write(id, &mut slot, next).await?;
        }
        Ok(())
    }

    /// The same for a group whose offsets are to be committed with it.
    pub(crate) async fn add_group(
        &self,
        id: &str,
        bearer: Identity,
        group: &str,
    ) -> Result<(), TransactionError> {
        let (mut slot, mut next) = self.change(id).await?;
        let (max, now_ms) = (self.settings.offset_bytes_max, self.clock.wall_ms());
        if next.add_group(bearer, group, max, now_ms)? {
            self.write(id, &mut slot, next).await?;
        }
        Ok(())
    }

    /// Takes offsets that become committed ones if the transaction commits. Whether the group
    /// takes them from who sends them is up to `admit`; what it gives is kept until they are
    /// durable. They show as pending before it is asked: whoever comes after that one must not be
    /// told what stands there now (OFFSET-FETCH-2).
    pub(crate) async fn add_offsets<T>(
        &self,
        id: &str,
        bearer: Identity,
        group: &str,
        offsets: Vec<(Bytes, Bytes)>,
        admit: impl Future<Output = Result<T, TransactionError>>,
    ) -> Result<(), TransactionError> {
        let (mut slot, mut next) = self.change(id).await?;
        let keys = offsets.iter().map(|(key, _)| key.clone()).collect();
        let announced = Announced::new(&self.index, keys);
        next.add_offsets(bearer, group, offsets, self.settings.offset_bytes_max)?;
        let admitted = admit.await?;
        self.write(id, &mut slot, next).await?;
        drop((admitted, announced));
        Ok(())
    }

    /// Commits or aborts.
    pub(crate) async fn end(
        &self,
        catalog: &Catalog,
        id: &str,
        bearer: Identity,
        outcome: Outcome,
    ) -> Result<(), TransactionError> {
        let (mut slot, current) = self.change(id).await?;
        if current.end(bearer, outcome)? == End::Done {
            return Ok(());
        }
        let next = current.ended(outcome);
        let ending = Ending { outcome, bearer, now_ms: self.clock.wall_ms() };
        // Those of a topic that is gone concern nobody. One that cannot be read stays: it is an
        // error to who asks for it, and not left out in silence.
        let exists = |key: &Bytes| {
            let key = OffsetKey::decode(key.clone());
            key.map_or(true, |key| catalog.by_id(key.topic_id).is_some())
        };
        let offsets = match outcome {
            Outcome::Commit => {
                self.check_whole(catalog, id, &current, slot.is_resumed)?;
                ending::offsets(&current, exists)
            }
            Outcome::Abort => Vec::new(),
        };
        self.finish(id, &mut slot, &current, next, &offsets, ending).await
    }

    /// COORDINATOR-5. Of a transaction that is older than this start the first record in a
    /// partition may be what was lost there, however early that stands. Where a range of it was
    /// given up, the abort may have been cut off.
    fn check_whole(
        &self,
        catalog: &Catalog,
        id: &str,
        ended: &Transaction,
        is_resumed: bool,
    ) -> Result<(), TransactionError> {
        for partition in ended.partitions.iter().copied() {
            let Some(view) = self.log.partition(partition) else { continue };
            let start = self.log.transaction_start(partition, ended.identity.producer_id);
            let begins_by = |range: &OffsetRange| start.is_some_and(|start| start <= range.last);
            let damaged = view.damaged.iter().find(|range| is_resumed || begins_by(range));
            let given_up = || view.accepted.iter().find(|range| begins_by(range));
            if let Some(range) = damaged.or_else(given_up).copied() {
                tracing::error!(transactional_id = id, %partition, %range,
                    "transaction not committed: some of its records may be lost");
                return Err(TransactionError::Lost { partition, range });
            }
        }
        if let Some(partition) = self.unaccounted(catalog, ended) {
            tracing::error!(transactional_id = id, %partition,
                "transaction not committed: a partition of it is lost");
            return Err(TransactionError::LostPartition { partition });
        }
        Ok(())
    }

    /// A partition of the transaction that is missing and not known to have been deleted: the
    /// catalog lists it, or what lists it may be lost as well. Or one that is there, and listed by
    /// nothing any more.
    fn unaccounted(&self, catalog: &Catalog, ended: &Transaction) -> Option<PartitionId> {
        let may_lack = may_lack_topics(&self.log);
        if !may_lack && ended.partitions.is_disjoint(&self.missing) {
            return None;
        }
        let listed: BTreeSet<PartitionId> =
            catalog.iter().flat_map(|topic| &topic.partitions).copied().collect();
        let is_lost = |id: &&PartitionId| {
            let (is_missing, is_listed) = (self.missing.contains(*id), listed.contains(*id));
            let is_nameless = !is_listed && self.log.partition(**id).is_some();
            if may_lack { is_missing || is_nameless } else { is_missing && is_listed }
        };
        ended.partitions.iter().find(is_lost).copied()
    }

    /// Aborts with an epoch that fences the producer.
    pub(super) async fn abort(
        &self,
        id: &str,
        slot: &mut Slot,
        ongoing: &Transaction,
        next: Transaction,
    ) -> Result<(), TransactionError> {
        let bearer = ongoing.identity.next();
        let ending = Ending { outcome: Outcome::Abort, bearer, now_ms: self.clock.wall_ms() };
        self.finish(id, slot, ongoing, next, &[], ending).await
    }

    /// The one commit that ends a transaction. Partitions that are gone need no marker; nor do, on
    /// an abort, those that are lost, or whose end is: they stay closed to committed readers. One
    /// that anybody has sent a batch in this producer's name, outside of a transaction and with a
    /// higher epoch, gets its marker with that one: with the other nobody could end it any more.
    async fn finish(
        &self,
        id: &str,
        slot: &mut Slot,
        ended: &Transaction,
        next: Transaction,
        offsets: &[StateChange],
        ending: Ending,
    ) -> Result<(), TransactionError> {
        let there = ended.partitions.iter().filter(|id| self.log.partition(**id).is_some());
        let mut partitions: BTreeMap<PartitionId, i16> =
            there.map(|id| (*id, ending.bearer.epoch)).collect();
        // Each turn leaves out one partition, or knows the epoch of one more.
        for _ in 0..=2 * partitions.len() {
            let commit = ending::commit(id, &next, &partitions, offsets, ending);
            match self.commit(commit).await {
                Ok(()) => {
                    self.publish(id, slot, next);
                    return Ok(());
                }
                Err(CommitCause::UnknownPartition(gone)) if partitions.remove(&gone).is_some() => {}
                Err(CommitCause::InvalidProducerEpoch { partition, known, .. })
                    if partitions.get(&partition).is_some_and(|epoch| *epoch < known) =>
                {
                    partitions.insert(partition, known);
                }
                Err(CommitCause::Damaged { partition, range })
                    if ending.outcome == Outcome::Abort
                        && partitions.remove(&partition).is_some() =>
                {
                    tracing::error!(transactional_id = id, %partition, %range,
                        "no abort marker can be written to a damaged partition");
                }
                Err(cause) => return Err(TransactionError::Storage(cause)),
            }
        }
        Err(TransactionError::Busy)
    }

    async fn write(
        &self,
        id: &str,
        slot: &mut Slot,
        next: Transaction,
    ) -> Result<(), TransactionError> {
        let changes = vec![ending::state_of(id, Some(&next))];
        let commit = Commit { changes, ..Commit::default() };
        self.commit(commit).await.map_err(TransactionError::Storage)?;
        self.publish(id, slot, next);
        Ok(())
    }

    /// COORDINATOR-1: returns when it is durable.
    pub(super) async fn commit(&self, commit: Commit) -> Result<(), CommitCause> {
        let committed = self.log.commit(commit).await;
        committed.map(drop).map_err(|error| {
            tracing::warn!(cause = %error.cause, "the state of a transaction was not written");
            error.cause
        })
    }

    /// Acts upon what has become durable.
    fn publish(&self, id: &str, slot: &mut Slot, next: Transaction) {
        let was_ongoing = slot.transaction.as_ref().is_some_and(|it| it.is_ongoing());
        let now = self.clock.monotonic();
        let timeout = u64::try_from(next.timeout_ms).map_or(Duration::ZERO, Duration::from_millis);
        let deadline = match (next.is_ongoing(), was_ongoing) {
            (true, true) => slot.deadline,
            (true, false) => Some(now.saturating_add(timeout)),
            (false, _) => Some(now.saturating_add(self.settings.id_expiry)),
        };
        slot.is_resumed &= next.is_ongoing();
        let next = Arc::new(next);
        let old = slot.transaction.replace(Arc::clone(&next));
        let mut index = self.lock();
        index.hold(next.offsets.keys());
        index.release(old.iter().flat_map(|old| old.offsets.keys()));
        if let Some(known) = index.entries.get_mut(id) {
            known.transaction = Some(next);
        }
        drop(index);
        self.set_deadline(id, slot, deadline);
    }

    pub(super) fn set_deadline(&self, id: &str, slot: &mut Slot, deadline: Option<Duration>) {
        let mut index = self.lock();
        let old = std::mem::replace(&mut slot.deadline, deadline);
        old.map(|old| index.deadlines.remove(&(old, id.to_owned())));
        deadline.map(|deadline| index.deadlines.insert((deadline, id.to_owned())));
        drop(index);
        self.changed.notify_one();
    }

    pub(super) fn remove(&self, id: &str, slot: &mut Slot) {
        self.set_deadline(id, slot, None);
        slot.transaction = None;
        slot.removed = true;
        self.lock().entries.remove(id);
    }

    /// Aborts every transaction that has batches in any of `partitions`; how many.
    pub(crate) async fn abort_in(
        &self,
        partitions: &BTreeSet<PartitionId>,
    ) -> Result<usize, TransactionError> {
        let mut aborted = 0;
        let is_concerned = |transaction: &Transaction| {
            transaction.is_ongoing() && !transaction.partitions.is_disjoint(partitions)
        };
        let concerned = |id: &str, it: &Transaction| is_concerned(it).then(|| id.to_owned());
        for id in self.of_all(concerned).await? {
            let (mut slot, current) = self.change(&id).await?;
            let ended = current.ended(Outcome::Abort);
            let next = Transaction { identity: current.identity.next(), ..ended };
            self.abort(&id, &mut slot, &current, next).await?;
            aborted += 1;
        }
        Ok(aborted)
    }

    /// Whether an open transaction holds an offset for `key` (COORDINATOR-4).
    pub(crate) fn is_pending(&self, key: &OffsetKey) -> Result<bool, TransactionError> {
        if self.damaged {
            return Err(TransactionError::Damaged);
        }
        Ok(self.lock().pending.contains_key(&key.encode()))
    }

    /// Keys of offsets in open transactions that begin with `prefix`.
    pub(crate) fn pending(&self, prefix: &[u8]) -> Result<Vec<Bytes>, TransactionError> {
        if self.damaged {
            return Err(TransactionError::Damaged);
        }
        Ok(with_prefix(&self.lock().pending, prefix).cloned().collect())
    }

    /// What `look` makes of all ids, in their order, and of the newest of each that is durable.
    pub(crate) async fn of_all<T>(
        &self,
        look: impl Fn(&str, &Transaction) -> Option<T>,
    ) -> Result<Vec<T>, TransactionError> {
        if self.damaged {
            return Err(TransactionError::Damaged);
        }
        let mut known: Vec<(Arc<str>, Arc<Transaction>)> = {
            let index = self.lock();
            let latest = |(id, known): (&Arc<str>, &Known)| {
                Some((Arc::clone(id), known.transaction.clone()?))
            };
            index.entries.iter().filter_map(latest).collect()
        };
        known.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut all = Vec::new();
        for (count, (id, transaction)) in known.into_iter().enumerate() {
            if count % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1 {
                tokio::task::yield_now().await; // A look may take its time, and others wait.
            }
            all.extend(look(&id, &transaction));
        }
        Ok(all)
    }

    /// Whether there may be transactions that it does not know of.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged
    }

    pub(crate) fn get(&self, id: &str) -> Result<Option<Arc<Transaction>>, TransactionError> {
        self.check_id(id)?;
        Ok(self.lock().entries.get(id).and_then(|known| known.transaction.clone()))
    }
}

impl Index {
    fn hold<'a>(&mut self, keys: impl Iterator<Item = &'a Bytes>) {
        for key in keys {
            *self.pending.entry(key.clone()).or_default() += 1;
        }
    }

    fn release<'a>(&mut self, keys: impl Iterator<Item = &'a Bytes>) {
        for key in keys {
            if let Some(count) = self.pending.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    self.pending.remove(key);
                }
            }
        }
    }
}

/// Keys that begin with `prefix`. Looks at no others: who asks may ask for very many prefixes.
pub(super) fn with_prefix<'a, K: Borrow<[u8]> + Ord, V>(
    map: &'a BTreeMap<K, V>,
    prefix: &'a [u8],
) -> impl Iterator<Item = &'a K> {
    let from = map.range::<[u8], _>((Included(prefix), Unbounded));
    from.map(|(key, _)| key).take_while(move |key| (*key).borrow().starts_with(prefix))
}

/// Keys that count as pending for as long as this is kept.
struct Announced<'a> {
    index: &'a Mutex<Index>,
    keys: Vec<Bytes>,
}

impl<'a> Announced<'a> {
    fn new(index: &'a Mutex<Index>, keys: Vec<Bytes>) -> Self {
        index.lock().unwrap_or_else(PoisonError::into_inner).hold(keys.iter());
        Self { index, keys }
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.release(self.keys.iter());
    }
}

/// Keys and values of offsets that transactions of the journal hold, as far as these can be read.
pub(crate) fn pending_offsets(log: &Log) -> impl Iterator<Item = (Bytes, Bytes)> {
    let values = log.state(StateKind::Transactions).into_iter().map(|(_, value)| value);
    let transactions = values.filter_map(|value| codec::decode(value).ok());
    transactions.flat_map(|transaction| transaction.offsets)
}

/// The transactions of the journal.
fn known(log: &Log) -> Result<Vec<(String, Transaction)>, UnreadableEntry> {
    let entry = |(key, value): (Bytes, Bytes)| {
        let id = String::from_utf8(key.to_vec()).map_err(|_| UnreadableEntry)?;
        Ok((id, codec::decode(value)?))
    };
    log.state(StateKind::Transactions).into_iter().map(entry).collect()
}
