//! What handle and commit thread have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use lossproof_env::Environment;

use crate::ballast::Ballast;
use crate::changes::Changes;
use crate::cluster_id::ClusterId;
use crate::commit::PartitionId;
use crate::compaction::Order;
use crate::config::LogConfig;
use crate::counters::{Bounded, Counters, LogFigures};
use crate::effect::Effect;
use crate::error::{FenceCause, Fenced};
use crate::helper::{Ended, Helper};
use crate::partition::View;
use crate::queue::Queue;
use crate::reader::Segments;
use crate::state::StateTable;
use crate::wall_clock::WallClock;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Environment,
    pub(crate) config: LogConfig,
    /// Seeds all checksums.
    pub(crate) directory_id: u64,
    pub(crate) identity: Identity,
    pub(crate) view: View,
    pub(crate) segments: Segments,
    pub(crate) queue: Queue,
    /// One permit per KiB that is queued or in work.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) acknowledged: watch::Sender<u64>,
    pub(crate) changes: Changes,
    pub(crate) mover: MoverSignal,
    pub(crate) scrub: MoverSignal,
    pub(crate) ballast: Ballast,
    pub(crate) counters: Counters,
    /// Keys of cold files in which moving has found damage: they stay as they are (MOVE-3).
    damaged_colds: Mutex<BTreeSet<u32>>,
    /// The journal is to go on in its next segment.
    seal: AtomicBool,
    fenced: OnceLock<Fenced>,
    ended: Mutex<Vec<Ended>>,
    pub(crate) wall_clock: WallClock,
}

/// How the mover is told what happens.
#[derive(Debug, Default)]
pub(crate) struct MoverSignal {
    stopped: AtomicBool,
    /// Something was removed: there may be cold files that hold little.
    garbage: AtomicBool,
    /// Something was moved since the committer last looked for what a full disk can be given back.
    moved: AtomicBool,
    /// Damage of cold files was found that no checkpoint tells of.
    findings: AtomicBool,
    orders: Mutex<Orders>,
    woken: Mutex<bool>,
    wake: Condvar,
}

/// What is to be compacted.
#[derive(Debug, Default)]
struct Orders {
    /// One wish of each partition at most.
    waiting: BTreeMap<PartitionId, Order>,
    /// Of those that were taken last.
    called_off: BTreeSet<PartitionId>,
}

impl MoverSignal {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    #[cfg(test)]
    pub(crate) fn is_woken(&self) -> bool {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_garbage(&self) {
        self.garbage.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn take_garbage(&self) -> bool {
        self.garbage.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn note_moved(&self) {
        self.moved.store(true, Ordering::Release);
    }

    pub(crate) fn take_moved(&self) -> bool {
        self.moved.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn note_findings(&self) {
        self.put_back_findings();
        self.wake();
    }

    /// No checkpoint tells of them yet; the mover knows why, and need not be woken.
    pub(crate) fn put_back_findings(&self) {
        self.findings.store(true, Ordering::Release);
    }

    pub(crate) fn has_findings(&self) -> bool {
        self.findings.load(Ordering::Acquire)
    }

    pub(crate) fn take_findings(&self) -> bool {
        self.findings.swap(false, Ordering::AcqRel)
    }

    /// Wishes to compact are carried out together; a later one takes the place of an earlier one.
    pub(crate) fn order(&self, orders: impl IntoIterator<Item = (PartitionId, Order)>) {
        let mut all = self.orders();
        for (id, order) in orders {
            all.waiting.insert(id, order);
        }
        drop(all);
        self.wake();
    }

    /// Also of those that were taken, as long as they have not begun.
    pub(crate) fn call_off(&self, partitions: &[PartitionId]) {
        let mut orders = self.orders();
        for id in partitions {
            orders.waiting.remove(id);
            orders.called_off.insert(*id);
        }
    }

    /// To be asked when an order that was taken begins.
    pub(crate) fn is_called_off(&self, partition: PartitionId) -> bool {
        self.orders().called_off.contains(&partition)
    }

    pub(crate) fn has_orders(&self) -> bool {
        !self.orders().waiting.is_empty()
    }

    pub(crate) fn take_orders(&self) -> BTreeMap<PartitionId, Order> {
        let mut orders = self.orders();
        orders.called_off.clear();
        std::mem::take(&mut orders.waiting)
    }

    /// They are carried out by the next try, unless there are later ones.
    pub(crate) fn put_back_orders(&self, orders: BTreeMap<PartitionId, Order>) {
        let mut all = self.orders();
        for (id, order) in orders {
            if !all.called_off.contains(&id) {
                all.waiting.entry(id).or_insert(order);
            }
        }
    }

    /// Waits for [`MoverSignal::wake`], for at most `patience`.
    pub(crate) fn wait(&self, patience: Option<Duration>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            let Some(patience) = patience else {
                woken = self.wake.wait(woken).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.wake.wait_timeout(woken, patience);
            woken = waited.unwrap_or_else(PoisonError::into_inner).0;
            break;
        }
        *woken = false;
    }

    /// Waits for `pause`, or less where it is woken; what woke it is still to be looked at.
    pub(crate) fn pause(&self, pause: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_stopped() {
            drop(self.wake.wait_timeout(woken, pause));
        }
    }
}

/// Who a log is, and when it was there last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// To others; that which seeds checksums where the directory was not adopted.
    pub(crate) directory_id: u64,
    pub(crate) cluster_id: ClusterId,
    pub(crate) open_count: u64,
    /// The wall clock as it was believed last, where that is known.
    pub(crate) believed_ms: Option<i64>,
}

impl Shared {
    pub(crate) fn new(
        env: Environment,
        config: LogConfig,
        directory_id: u64,
        identity: Identity,
        view: View,
        segments: Segments,
        ballast: Ballast,
    ) -> Arc<Self> {
        let permits = permits_for(config.queue_bytes_max);
        let wall_clock = WallClock::new(env.clock.clone(), identity.believed_ms);
        Arc::new(Self {
            env,
            directory_id,
            identity,
            view,
            segments,
            queue: Queue::default(),
            permits: Arc::new(Semaphore::new(permits as usize)),
            acknowledged: watch::Sender::new(0),
            changes: Changes::default(),
            mover: MoverSignal::default(),
            scrub: MoverSignal::default(),
            ballast,
            counters: Counters::new(),
            damaged_colds: Mutex::default(),
            seal: AtomicBool::new(false),
            fenced: OnceLock::new(),
            ended: Mutex::default(),
            wall_clock,
            config,
        })
    }

    /// Permits for a commit of `weight` bytes. One that is larger than the whole queue waits
    /// until it has it for itself.
    pub(crate) fn permits_of(&self, weight: usize) -> u32 {
        permits_for(weight).min(permits_for(self.config.queue_bytes_max))
    }

    pub(crate) fn figures(&self) -> LogFigures {
        let permits = permits_for(self.config.queue_bytes_max) as usize;
        let used = permits.saturating_sub(self.permits.available_permits());
        let Self { view, config, .. } = self;
        let producers = self.counters.producers.load(Ordering::Relaxed);
        LogFigures {
            index_entries: Bounded { used: view.index_entries(), max: config.index_entries_max },
            state_bytes: Bounded {
                used: view.state(StateTable::bytes),
                max: config.state_bytes_max,
            },
            producers: Bounded { used: producers, max: config.producers_max },
            transactions: Bounded { used: view.transactions(), max: config.transactions_max },
            ended: self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            ballast_bytes: self.ballast.held(),
            is_disk_full: self.ballast.is_full_for_records(),
            ..self.counters.figures(used as u64 * 1024)
        }
    }

    pub(crate) fn fenced(&self) -> Option<Fenced> {
        self.fenced.get().cloned()
    }

    /// Latches a failure; an earlier one stays. Gives the one that holds. Before it is told of: a
    /// log that nobody takes must not keep it from holding.
    pub(crate) fn fence(&self, cause: FenceCause) -> Fenced {
        let latched = Fenced { cause, since_ms: self.env.clock.wall_ms() };
        let is_new = self.fenced.set(latched.clone()).is_ok();
        if is_new {
            tracing::error!("{latched}");
        }
        self.fenced().unwrap_or(latched)
    }

    /// Notes that a thread does its work no more.
    pub(crate) fn note_ended(&self, thread: Helper, cause: String) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(Ended { thread, cause: cause.clone() });
        drop(ended);
        tracing::error!(thread = thread.name(), cause, "a thread has ended until the next start");
        match thread {
            Helper::Move => self.ballast.note_move_short(false),
            Helper::Zero => self.ballast.note_unwatched(),
            Helper::Scrub => {}
        }
    }

    /// Notes a cold file that holds what cannot be read, for the scrub to report it; false where
    /// that is known.
    pub(crate) fn note_damaged(&self, file: u32) -> bool {
        let mut damaged = self.damaged_colds.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = damaged.insert(file);
        drop(damaged);
        self.scrub.wake();
        is_new
    }

    pub(crate) fn damaged_colds(&self) -> BTreeSet<u32> {
        self.damaged_colds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn seal(&self) {
        self.seal.store(true, Ordering::Release);
    }

    pub(crate) fn wants_seal(&self) -> bool {
        self.seal.load(Ordering::Acquire)
    }

    pub(crate) fn take_seal(&self) -> bool {
        self.seal.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn acknowledged(&self, frame: u64, effects: &[Effect]) {
        self.changes.note(frame, effects);
        self.acknowledged.send_replace(frame);
    }
}

fn permits_for(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::Compaction;

    /// The trap: orders are taken together, and carried out one after the other.
    #[test]
    fn an_order_that_was_taken_can_be_called_off_until_it_begins() {
        let signal = MoverSignal::default();
        let wish = Compaction { now_ms: 0, before_ms: None, delete_retention_ms: 0 };
        let [first, second, third] = [1, 2, 3].map(PartitionId);
        signal.order([first, second].map(|id| (id, Order { wish, end: 1 })));
        let taken = signal.take_orders();
        signal.call_off(&[second, third]);
        assert!(!signal.is_called_off(first) && signal.is_called_off(second));
        signal.put_back_orders(taken);
        assert_eq!(signal.take_orders().into_keys().collect::<Vec<_>>(), [first]);
        // Asked for once more: that is another wish than the one that was taken.
        signal.call_off(&[first]);
        signal.order([(first, Order { wish, end: 1 })]);
        assert!(signal.is_called_off(first));
        assert_eq!(signal.take_orders().into_keys().collect::<Vec<_>>(), [first]);
        assert!(!signal.is_called_off(first));
    }
}
