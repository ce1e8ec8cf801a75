//! What handle and commit thread have in common.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Semaphore, watch};

use lossproof_env::Environment;

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
    pub(crate) directory_id: u64,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) open_count: u64,
    pub(crate) view: View,
    pub(crate) segments: Segments,
    pub(crate) queue: Queue,
    /// One permit per KiB that is queued or in work.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) acknowledged: watch::Sender<u64>,
    pub(crate) counters: Counters,
    fenced: OnceLock<Fenced>,
}

/// Who a log is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) directory_id: u64,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) open_count: u64,
}

impl Shared {
    pub(crate) fn new(
        env: Environment,
        config: LogConfig,
        identity: Identity,
        view: View,
        segments: Segments,
    ) -> Arc<Self> {
        let permits = permits_for(config.queue_bytes_max);
        Arc::new(Self {
            env,
            directory_id: identity.directory_id,
            cluster_id: identity.cluster_id,
            open_count: identity.open_count,
            view,
            segments,
            queue: Queue::default(),
            permits: Arc::new(Semaphore::new(permits as usize)),
            acknowledged: watch::Sender::new(0),
            counters: Counters::new(),
            fenced: OnceLock::new(),
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
        self.counters.figures(used as u64 * 1024)
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

    pub(crate) fn acknowledged(&self, frame: u64) {
        self.acknowledged.send_replace(frame);
    }
}

fn permits_for(bytes: usize) -> u32 {
    u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX)
}
