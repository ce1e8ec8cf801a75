//! What handle and commit thread have in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use lossproof_env::Environment;

use crate::ballast::Ballast;
use crate::cluster_id::ClusterId;
use crate::commit::PartitionId;
use crate::compaction::Order;
use crate::config::LogConfig;
use crate::counters::{Counters, LogFigures};
use crate::error::{FenceCause, Fenced};
use crate::partition::View;
use crate::queue::Queue;
use crate::reader::Segments;

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
    pub(crate) mover: MoverSignal,
    pub(crate) scrub: MoverSignal,
    pub(crate) ballast: Ballast,
    pub(crate) counters: Counters,
    /// The journal is to go on in its next segment.
    seal: AtomicBool,
    fenced: OnceLock<Fenced>,
    /// Wall and monotonic time of the open.
    opened_at: (i64, Duration),
}

/// How the mover is told what happens.
#[derive(Debug, Default)]
pub(crate) struct MoverSignal {
    stopped: AtomicBool,
    /// Something was removed: there may be cold files that hold little.
    garbage: AtomicBool,
    /// What is to be compacted; one wish of each partition at most.
    orders: Mutex<BTreeMap<PartitionId, Order>>,
    woken: Mutex<bool>,
    wake: Condvar,
}

impl MoverSignal {
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

    pub(crate) fn note_garbage(&self) {
        self.garbage.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn take_garbage(&self) -> bool {
        self.garbage.swap(false, Ordering::AcqRel)
    }

    /// Wishes to compact are carried out together; a later one takes the place of an earlier one.
    pub(crate) fn order(&self, orders: impl IntoIterator<Item = (PartitionId, Order)>) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).extend(orders);
        self.wake();
    }

    pub(crate) fn has_orders(&self) -> bool {
        !self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn take_orders(&self) -> BTreeMap<PartitionId, Order> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
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
}

/// Who a log is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// To others; that which seeds checksums where the directory was not adopted.
    pub(crate) directory_id: u64,
    pub(crate) cluster_id: ClusterId,
    pub(crate) open_count: u64,
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
        let opened_at = (env.clock.wall_ms(), env.clock.monotonic());
        Arc::new(Self {
            env,
            directory_id,
            identity,
            view,
            segments,
            queue: Queue::default(),
            permits: Arc::new(Semaphore::new(permits as usize)),
            acknowledged: watch::Sender::new(0),
            mover: MoverSignal::default(),
            scrub: MoverSignal::default(),
            ballast,
            counters: Counters::new(),
            seal: AtomicBool::new(false),
            fenced: OnceLock::new(),
            opened_at,
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
        LogFigures {
            ballast_bytes: self.ballast.held(),
            is_disk_full: self.ballast.is_disk_full(),
            ..self.counters.figures(used as u64 * 1024)
        }
    }

    pub(crate) fn fenced(&self) -> Option<Fenced> {
        self.fenced.get().cloned()
    }

    /// Latches a failure; an earlier one stays. Gives the one that holds.
    pub(crate) fn fence(&self, cause: FenceCause) -> Fenced {
        let since_ms = self.env.clock.wall_ms();
        let fenced = self.fenced.get_or_init(|| {
            let fenced = Fenced { cause, since_ms };
            tracing::error!("{fenced}");
            fenced
        });
        fenced.clone()
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

    pub(crate) fn clock_drift_ms(&self) -> i64 {
        let (wall_ms, monotonic) = self.opened_at;
        let passed = self.env.clock.monotonic().saturating_sub(monotonic).as_millis() as i64;
        self.env.clock.wall_ms() - wall_ms - passed
    }

    pub(crate) fn acknowledged(&self, frame: u64) {
        self.acknowledged.send_replace(frame);
    }
}

fn permits_for(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}
