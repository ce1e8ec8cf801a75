//! What operators see of a running broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lossproof_env::Clock;
use lossproof_log::{Ended, FlushPolicy, LogFigures, PartitionId, StateKind};
use lossproof_wire::ApiKey;

use crate::broker::Broker;
use crate::offsets::{CommittedOffset, OffsetKey};

/// Counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// By [`ApiKey::ALL`].
    requests: Vec<AtomicU64>,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) batches_refused: AtomicU64,
    /// Fetches of a partition that met damage.
    pub(crate) fetches_damaged: AtomicU64,
    /// Monotonic milliseconds of the last sign of life of [`crate::Server::run`]; 0: not running.
    pulse_ms: AtomicU64,
}

/// A sign of life comes so often.
const PULSE: Duration = Duration::from_secs(1);
/// Without one for so long the broker hangs.
const PULSE_MAX: Duration = Duration::from_secs(30);

impl Counters {
    pub(crate) fn new() -> Self {
        let requests = ApiKey::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self { requests, ..Self::default() }
    }

    /// Gives signs of life until it is dropped. Whoever else runs in its task and never waits stops
    /// them.
    pub(crate) async fn beat(&self, clock: &dyn Clock) {
        loop {
            self.pulse_ms.store(milliseconds(clock.monotonic()), Ordering::Relaxed);
            clock.sleep(PULSE).await;
        }
    }

    pub(crate) fn end_pulse(&self) {
        self.pulse_ms.store(0, Ordering::Relaxed);
    }

    pub(crate) fn request(&self, key: ApiKey) {
        let index = ApiKey::ALL.iter().position(|known| *known == key);
        if let Some(count) = index.and_then(|index| self.requests.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Never 0.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Whether clients should be sent here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    Draining,
    /// The journal takes no more writes.
    Fenced,
    /// Topics, groups or transactions may be missing: what depends on them is refused.
    Damaged,
    /// What is produced is refused until there is room again.
    DiskFull,
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    pub log: LogFigures,
    pub is_fenced: bool,
    /// Pieces that the start found damaged or in doubt, or that were found so since.
    pub quarantined: usize,
    /// Ranges of acknowledged records, and kinds of state, that the operator has given up.
    pub accepted: usize,
    /// Partitions that are acknowledged before they are synced.
    pub unsafe_partitions: usize,
    /// Topics are made so, where they do not say otherwise.
    pub unsafe_default: bool,
    pub node_id: i32,
    pub connections: u64,
    pub connections_refused: u64,
    pub batches_refused: u64,
    /// Fetches of a partition that met damage: it may not be among what was found by others yet.
    pub fetches_damaged: u64,
    /// By name of the API.
    pub requests: Vec<(String, u64)>,
    pub topics: Vec<TopicFigures>,
    pub groups: Vec<GroupFigures>,
}

#[derive(Clone, Debug)]
pub struct TopicFigures {
    pub name: String,
    /// First offset and the one after the last, by partition; those that are offline are missing.
    pub partitions: BTreeMap<usize, (i64, i64)>,
    pub partition_count: usize,
}

#[derive(Clone, Debug, Default)]
pub struct GroupFigures {
    pub name: String,
    pub members: usize,
    pub offsets: Vec<OffsetFigures>,
}

#[derive(Clone, Debug)]
pub struct OffsetFigures {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Records behind it, where the partition can be read.
    pub lag: Option<i64>,
    /// Records are missing in front of it: it is an error for whoever fetches it.
    pub is_above_end: bool,
}

/// What clients cannot do without.
const SERVED_STATE: [StateKind; 3] =
    [StateKind::Metadata, StateKind::Offsets, StateKind::Transactions];

/// Looks at a broker from outside.
#[derive(Clone, Debug)]
pub struct Monitor {
    pub(crate) broker: Arc<Broker>,
    pub(crate) quarantined: usize,
}

impl Monitor {
    pub fn readiness(&self) -> Readiness {
        if self.broker.log.fenced().is_some() {
            Readiness::Fenced
        } else if *self.broker.draining.borrow() {
            Readiness::Draining
        } else if SERVED_STATE.iter().any(|kind| self.broker.log.state_is_damaged(*kind)) {
            Readiness::Damaged
        } else if self.broker.log.figures().is_disk_full {
            Readiness::DiskFull
        } else {
            Readiness::Ready
        }
    }

    /// False: connections, groups and transactions stand still, and only a new start helps.
    pub fn is_alive(&self) -> bool {
        let pulse_ms = self.broker.counters.pulse_ms.load(Ordering::Relaxed);
        let now_ms = milliseconds(self.broker.env.clock.monotonic());
        pulse_ms == 0 || now_ms.saturating_sub(pulse_ms) <= milliseconds(PULSE_MAX)
    }

    /// Threads of the journal that do their work no more. Clients are served all the same, for as
    /// long as the disk has room.
    pub fn ended(&self) -> Vec<Ended> {
        self.broker.log.figures().ended
    }

    pub fn figures(&self) -> Figures {
        let broker = &*self.broker;
        let counters = &broker.counters;
        let log = broker.log.figures();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let requests = ApiKey::ALL.iter().zip(&counters.requests);
        let catalog = broker.topics.catalog();
        let is_unsafe = |id: &&PartitionId| {
            let view = broker.log.partition(**id);
            view.is_some_and(|view| view.flush != FlushPolicy::Commit)
        };
        let partitions = || catalog.iter().flat_map(|topic| &topic.partitions);
        let views = partitions().filter_map(|id| broker.log.partition(*id));
        let accepted: usize = views.map(|view| view.accepted.len()).sum();
        Figures {
            is_fenced: broker.log.fenced().is_some(),
            quarantined: self.quarantined + log.scrub.findings as usize,
            log,
            accepted: accepted + broker.log.accepted_states().len(),
            unsafe_partitions: partitions().filter(is_unsafe).count(),
            unsafe_default: broker.config.flush != FlushPolicy::Commit,
            node_id: broker.node_id(),
            connections: load(&counters.connections),
            connections_refused: load(&counters.connections_refused),
            batches_refused: load(&counters.batches_refused),
            fetches_damaged: load(&counters.fetches_damaged),
            requests: requests.map(|(key, count)| (format!("{key:?}"), load(count))).collect(),
            topics: self.topics(),
            groups: self.groups(),
        }
    }

    fn topics(&self) -> Vec<TopicFigures> {
        let catalog = self.broker.topics.catalog();
        let topics = catalog.iter().map(|topic| {
            let bounds = topic.partitions.iter().enumerate().filter_map(|(index, id)| {
                let view = self.broker.log.partition(*id)?;
                Some((index, (view.log_start, view.high_watermark)))
            });
            TopicFigures {
                name: topic.name.clone(),
                partitions: bounds.collect(),
                partition_count: topic.partitions.len(),
            }
        });
        topics.collect()
    }

    fn groups(&self) -> Vec<GroupFigures> {
        let catalog = self.broker.topics.catalog();
        let mut groups: BTreeMap<String, GroupFigures> = BTreeMap::new();
        for (name, members) in self.broker.groups.member_counts() {
            groups.entry(name).or_default().members = members;
        }
        for (key, value) in self.broker.log.state(StateKind::Offsets) {
            let Ok(key) = OffsetKey::decode(key) else { continue };
            let Ok(CommittedOffset { offset, .. }) = CommittedOffset::decode(value) else {
                continue;
            };
            let Some(topic) = catalog.by_id(key.topic_id) else { continue };
            let view = topic.partition(key.partition).and_then(|id| self.broker.log.partition(id));
            let is_above_end = view.as_ref().is_some_and(|view| offset > view.high_watermark);
            groups.entry(key.group).or_default().offsets.push(OffsetFigures {
                topic: topic.name.clone(),
                partition: key.partition,
                offset,
                lag: view.map(|view| view.high_watermark.saturating_sub(offset).max(0)),
                is_above_end,
            });
        }
        let named = groups.into_iter().map(|(name, group)| GroupFigures { name, ..group });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use lossproof_env::{Fault, SimDisk};
    use lossproof_log::{Commit, CommitError};

    use super::*;
    use crate::Server;
    use crate::tests::{batch_of, eventually, server_on, topic};

    async fn append(server: &Server) -> Result<(), CommitError> {
        let broker = &server.broker;
        let topic = match broker.topics.catalog().by_name("t").cloned() {
            Some(topic) => topic,
            None => broker.create_topic(topic("t", 1)).await.expect("a topic"),
        };
        let id = topic.partition(0).expect("a partition");
        broker.log.commit(Commit::append(id, batch_of(0))).await.map(drop)
    }

    #[tokio::test]
    async fn a_failed_sync_and_a_drain_are_seen() {
        let disk = SimDisk::new();
        let (server, _net) = server_on(disk.clone()).await;
        append(&server).await.expect("acknowledged");
        let monitor = server.monitor();
        assert_eq!((monitor.readiness(), monitor.figures().is_fenced), (Readiness::Ready, false));
        server.stopper().drain();
        assert_eq!(monitor.readiness(), Readiness::Draining);
        disk.inject(Fault::sync(0).sticky());
        append(&server).await.expect_err("not synced");
        assert_eq!((monitor.readiness(), monitor.figures().is_fenced), (Readiness::Fenced, true));
    }

    #[tokio::test]
    async fn a_full_disk_is_seen_and_so_is_its_end() {
        let disk = SimDisk::new();
        let (server, _net) = server_on(disk.clone()).await;
        append(&server).await.expect("acknowledged");
        disk.set_capacity(disk.used_bytes());
        let monitor = server.monitor();
        // Meanwhile room is looked for, made and taken back, until there is none.
        let is_seen = |seen| monitor.readiness() == seen;
        let is_full = async || append(&server).await.is_err() && is_seen(Readiness::DiskFull);
        eventually("it is full", is_full).await;
        disk.heal();
        eventually("it has room again", async || append(&server).await.is_ok()).await;
        eventually("it is seen", async || is_seen(Readiness::Ready)).await;
        server.broker.log.close().await.expect("the log closes");
    }

    /// An offset that cannot be read any more, between others.
    #[tokio::test]
    async fn damage_in_what_is_served_is_seen() {
        let disk = SimDisk::new();
        let (server, _net) = server_on(disk.clone()).await;
        for key in ["a", "to be lost", "b"] {
            let commit = Commit::state(StateKind::Offsets, key, Some("value".into()));
            server.broker.log.commit(commit).await.expect("acknowledged");
        }
        server.broker.log.close().await.expect("the log closes");
        drop(server);
        let disk = disk.killed();
        let is_it = |bytes: &[u8]| bytes == b"to be lost";
        let found = disk.paths().into_iter().find_map(|path| {
            let bytes = disk.bytes(&path).ok()?;
            let at = bytes.windows(10).position(is_it)?;
            Some((path, at as u64 / BLOCK * BLOCK))
        });
        let (path, at) = found.expect("it was written");
        disk.damage(&path, at, &[0xff; BLOCK as usize]).expect("a file");
        let (server, _net) = server_on(disk).await;
        let monitor = server.monitor();
        assert_eq!(monitor.readiness(), Readiness::Damaged);
        assert!(monitor.figures().quarantined > 0);
        server.broker.log.close().await.expect("the log closes");
    }

    /// Small frames take one.
    const BLOCK: u64 = 4_096;
}
