//! Start, run and end of a broker.
//!
//! # Invariants
//!
//! - BROKER-1: clients are served only after recovery has ended and the topics are known.
//! - BROKER-2: the log is closed only after every connection has ended, so that no request in work
//!   finds it closed.
//! - BROKER-3: connections are bounded, those of each address as well; one too many is closed at
//!   once.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lossproof_env::{Environment, Listener, Net};
use lossproof_log::{CloseError, Log, OpenError, PartitionId, RecoveryReport, StateKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::acceptance::end_forgotten;
use crate::broker::Broker;
use crate::budget::{ANSWER_BYTES, Budget, DECODERS_MAX, WAITING_BYTES};
use crate::config::BrokerConfig;
use crate::connection;
use crate::fetch_sessions::FetchSessions;
use crate::gates::OffsetGates;
use crate::group::Coordinator;
use crate::monitor::{Counters, Monitor};
use crate::offsets::OffsetOrder;
use crate::producer_ids::ProducerIdBlocks;
use crate::retention;
use crate::told::Told;
use crate::topics::{Topics, TopicsUnreadable};
use crate::transaction::{TransactionCoordinator, pending_offsets};
use crate::turn::Turns;

/// After a failed accept (no file descriptors left, mostly) nothing is accepted for so long.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Why a broker did not start. Nothing was served, and nothing is changed by trying again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("the settings cannot work: {reason}")]
    Config { reason: &'static str },
    #[error(
        "{address} is not of this machine alone, and whoever reaches it can read, write and delete \
         everything: there is no TLS, no SASL and no ACL yet"
    )]
    Insecure { address: SocketAddr },
    #[error("{address} is in use by another program: stop it, or listen on another port")]
    PortTaken { address: SocketAddr },
    #[error("no permission to listen on {address}: ports below 1024 need privileges")]
    PortForbidden { address: SocketAddr },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{0}")]
    Log(#[from] OpenError),
    #[error("{0}")]
    Topics(#[from] TopicsUnreadable),
    #[error(
        "damage has taken the flush policy of a topic from some of its partitions, and it cannot \
         be set right: {reason}; make room on the disk if it is full, and start again"
    )]
    FlushPolicies { reason: String },
    #[error("{0}")]
    Close(#[from] CloseError),
    #[error("the thread that opened the log has panicked")]
    Panic,
}

/// Why a broker did not end well. What was acknowledged is not touched by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    #[error("the log did not close: {0}")]
    Log(#[from] CloseError),
}

/// A broker that listens; [`Server::run`] serves.
#[derive(Debug)]
pub struct Server {
    pub(crate) broker: Arc<Broker>,
    listener: Box<dyn Listener>,
    drain: watch::Sender<bool>,
    recovery: RecoveryReport,
}

/// Tells a [`Server`] to end.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// No new connections and requests; those in work are finished, then the log is closed.
    pub fn drain(&self) {
        self.0.send_replace(true);
    }
}

impl Server {
    /// Opens the log, recovers, and begins to listen.
    pub async fn start(
        env: &Environment,
        net: &dyn Net,
        mut config: BrokerConfig,
    ) -> Result<Self, StartError> {
        config.check().map_err(|reason| StartError::Config { reason })?;
        if !config.listen.ip().is_loopback() && !config.insecure_listen {
            return Err(StartError::Insecure { address: config.listen });
        }
        // The port first: it is the mistake that happens most, and leaves the data alone. Clients
        // that come before recovery has ended wait in the backlog (BROKER-1).
        let listener = listen(net, config.listen).await?;
        let address = listener
            .local_address()
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let (log, recovery) = open_log(env, &config).await?;
        config.log.cluster_id = Some(log.cluster_id());
        let topics = Topics::open(log.clone(), Arc::clone(&env.rng), &config)?;
        if let Err(error) = topics.restore_flush_policies().await {
            // Where the journal takes no more writes nothing is acknowledged at all. Else it may
            // take some later, and would acknowledge them too early.
            if log.fenced().is_none() {
                log.close().await?;
                return Err(StartError::FlushPolicies { reason: error.to_string() });
            }
            tracing::error!(%error, "flush policies could not be set right");
        }
        topics.sweep_offsets().await;
        let (host, port) =
            config.advertise.clone().unwrap_or_else(|| (address.ip().to_string(), address.port()));
        let (clock, rng) = (Arc::clone(&env.clock), Arc::clone(&env.rng));
        let settings = config.transactions.clone().within(config.log.segment_bytes);
        let transactions = TransactionCoordinator::open(log.clone(), clock.clone(), settings);
        match end_forgotten(&log, env, &transactions).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "transactions that nobody could end were aborted"),
            // Committed readers wait before them as they did: the next start tries again.
            Err(error) => tracing::error!(%error, "transactions that nobody can end are left open"),
        }
        let settings = config.groups.clone().within(&config.log);
        let groups = Coordinator::open(log.clone(), Arc::clone(&clock), rng, settings);
        let hidden = transactions.is_damaged() || log.state_is_damaged(StateKind::Offsets);
        let hidden_at_ms = hidden.then(|| later_than_before(&log));
        let pending = pending_offsets(&log);
        let (drain, draining) = watch::channel(false);
        let broker = Arc::new(Broker {
            fetch_sessions: FetchSessions::new(clock, Arc::clone(&env.rng)),
            transactions: Arc::new(transactions),
            groups,
            offset_gates: OffsetGates::new(),
            offset_order: OffsetOrder::open(&log, pending.map(|(_, value)| value), hidden_at_ms),
            budget: Budget::new(config.memory_budget_bytes, config.request_bytes_max),
            answers: Budget::new(ANSWER_BYTES, config.fetch_bytes_max.saturating_mul(2)),
            waiting: Semaphore::new(WAITING_BYTES),
            decoders: Arc::new(Semaphore::new(DECODERS_MAX)),
            turns: Turns::new(),
            producer_ids: ProducerIdBlocks::new(log.clone()),
            counters: Counters::new(),
            told: Told::default(),
            env: env.clone(),
            started_at_ms: log.stamp_ms(),
            topics,
            config,
            log,
            host,
            port,
            draining,
        });
        Ok(Self { broker, listener, drain, recovery })
    }

    /// What clients connect to, as in `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.broker.bootstrap_servers()
    }

    /// What opening the log found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// What clients know a partition as: its topic and number. `None`: of no topic that is known.
    pub fn name_of(&self, id: PartitionId) -> Option<String> {
        self.broker.name_of(id)
    }

    /// For as long as the broker lives, and after.
    pub fn monitor(&self) -> Monitor {
        let quarantined = self.recovery.damage.len() + self.recovery.in_doubt.len();
        Monitor { broker: Arc::clone(&self.broker), quarantined }
    }

    pub fn stopper(&self) -> Stopper {
        Stopper(self.drain.clone())
    }

    /// Serves until it is told to drain, and has drained.
    pub async fn run(self) -> Result<(), StopError> {
        let Self { broker, listener, drain, .. } = self;
        let mut connections = JoinSet::new();
        // To its end, unlike what is dropped with the drain: a commit is not cut in two.
        let mut storing = JoinSet::new();
        let storer = Arc::clone(&broker);
        storing.spawn(async move { storer.groups.store().await });
        tokio::select! {
            () = accept(&broker, listener, &mut connections) => {}
            () = broker.groups.run() => {}
            () = broker.transactions.run() => {}
            () = retention::run(&broker) => {}
            () = broker.counters.beat(&*broker.env.clock) => {}
        }
        broker.counters.end_pulse(); // What follows has an end of its own.
        drop(drain);
        drain_connections(&broker, &mut connections).await;
        if let Some(Err(error)) = storing.join_next().await {
            tracing::error!(%error, "groups may not be stored as they are");
        }
        broker.log.close().await?; // BROKER-2
        Ok(())
    }
}

/// Accepts connections until a drain begins.
async fn accept(broker: &Arc<Broker>, listener: Box<dyn Listener>, connections: &mut JoinSet<()>) {
    let room = Arc::new(Semaphore::new(broker.config.connections_max));
    let mut rooms = Rooms::new(broker.config.connections_per_address_max);
    let mut draining = broker.draining.clone();
    let counters = &broker.counters;
    loop {
        let accepted = tokio::select! {
            biased;
            () = connection::drained(&mut draining) => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                broker.env.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            // BROKER-3.
            counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            let max = broker.config.connections_max;
            tracing::warn!(%peer, max, "connection refused: there are as many as there may be");
            continue;
        };
        let Some(own_place) = rooms.enter(peer.ip()) else {
            counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            let max = broker.config.connections_per_address_max;
            tracing::warn!(%peer, max, "connection refused: its address has all it may have");
            continue;
        };
        let broker = Arc::clone(broker);
        connections.spawn(async move {
            broker.counters.connections.fetch_add(1, Ordering::Relaxed);
            connection::serve(Arc::clone(&broker), stream, peer).await;
            broker.counters.connections.fetch_sub(1, Ordering::Relaxed);
            drop((place, own_place));
        });
    }
}

/// The places of each address that has connections.
struct Rooms {
    places_max: usize,
    by_address: HashMap<IpAddr, Arc<Semaphore>>,
}

impl Rooms {
    fn new(places_max: usize) -> Self {
        let places_max = places_max.min(Semaphore::MAX_PERMITS);
        Self { places_max, by_address: HashMap::new() }
    }

    /// A place, given back when dropped; `None` when the address has none left (BROKER-3).
    fn enter(&mut self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        // As many as there are connections, and not as many as there ever were.
        self.by_address.retain(|_, room| room.available_permits() < self.places_max);
        let empty = || Arc::new(Semaphore::new(self.places_max));
        let room = self.by_address.entry(address).or_insert_with(empty);
        Arc::clone(room).try_acquire_owned().ok()
    }
}

/// Every request in work is finished, as far as that takes no longer than it may.
async fn drain_connections(broker: &Broker, connections: &mut JoinSet<()>) {
    tracing::info!(connections = connections.len(), "draining");
    broker.groups.stop();
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        () = broker.env.clock.sleep(broker.config.drain_max) => {
            tracing::warn!(connections = connections.len(), "connections cut off");
            connections.shutdown().await;
        }
    }
}

async fn listen(net: &dyn Net, address: SocketAddr) -> Result<Box<dyn Listener>, StartError> {
    net.listen(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortTaken { address },
        io::ErrorKind::PermissionDenied => StartError::PortForbidden { address },
        _ => StartError::Listen { address, source },
    })
}

/// Recovery reads files: not on a thread on which others wait.
async fn open_log(
    env: &Environment,
    config: &BrokerConfig,
) -> Result<(Log, RecoveryReport), StartError> {
    let (env, directory, log) = (env.clone(), config.data.clone(), config.log.clone());
    let opened = tokio::task::spawn_blocking(move || Log::open(&env, &directory, log)).await;
    let opened = opened.map_err(|_| StartError::Panic)?;
    Ok(opened?)
}

/// A time above that of the start before, also while the clock stands behind what was believed.
fn later_than_before(log: &Log) -> i64 {
    log.stamp_ms().saturating_add_unsigned(log.open_count())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lossproof_env::{ManualClock, SeededRng, SimDisk};
    use lossproof_log::LogConfig;

    use super::*;

    /// OFFSETS-4: what is committed after this start must not look older than what is hidden.
    #[tokio::test]
    async fn each_start_is_later_than_the_one_before_though_the_clock_stands() {
        let (mut disk, mut before) = (SimDisk::new(), 0);
        for _ in 0..3 {
            let env = Environment {
                disk: Arc::new(disk.clone()),
                clock: Arc::new(ManualClock::new(1_000)),
                rng: Arc::new(SeededRng::new(7)),
            };
            let opened = Log::open(&env, Path::new("/data"), LogConfig::small());
            let (log, _) = opened.expect("a log");
            let now = later_than_before(&log);
            assert!(now > before, "{before}, {now}");
            before = now;
            log.close().await.expect("it closes");
            disk = disk.killed();
        }
    }
}
