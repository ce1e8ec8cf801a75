//! Start, run and end of a broker.
//!
//! # Invariants
//!
//! - BROKER-1: clients are served only after recovery has ended and the topics are known.
//! - BROKER-2: the log is closed only after every connection has ended, so that no request in work
//!   finds it closed.
//! - BROKER-3: connections are bounded; one too many is closed at once.

use core::net::SocketAddr;
use std::io;
use std::sync::Arc;

use lossproof_env::{Environment, Listener, Net};
use lossproof_log::{CloseError, Log, OpenError, PartitionId, RecoveryReport};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::budget::{ANSWER_BYTES, Budget, DECODERS_MAX};
use crate::config::BrokerConfig;
use crate::connection;
use crate::group::Coordinator;
use crate::producer_ids::ProducerIdBlocks;
use crate::topics::{TopicId, Topics, TopicsUnreadable};
use crate::transaction::TransactionCoordinator;

/// After a failed accept (no file descriptors left, mostly) nothing is accepted for so long.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Why a broker did not start. Nothing was served, and nothing is changed by trying again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("the settings cannot work: {reason}")]
    Config { reason: &'static str },
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
        config: BrokerConfig,
    ) -> Result<Self, StartError> {
        config.check().map_err(|reason| StartError::Config { reason })?;
        // The port first: it is the mistake that happens most, and leaves the data alone. Clients
        // that come before recovery has ended wait in the backlog (BROKER-1).
        let listener = listen(net, config.listen).await?;
        let address = listener
            .local_address()
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let (log, recovery) = open_log(env, &config).await?;
        let (flush, partitions_max) = (config.flush, config.partitions_max);
        let topics = Topics::open(log.clone(), Arc::clone(&env.rng), flush, partitions_max)?;
        let (host, port) =
            config.advertise.clone().unwrap_or_else(|| (address.ip().to_string(), address.port()));
        let (clock, rng) = (Arc::clone(&env.clock), Arc::clone(&env.rng));
        let settings = config.transactions.clone().within(config.log.segment_bytes);
        let transactions = TransactionCoordinator::open(log.clone(), clock.clone(), settings);
        let (drain, draining) = watch::channel(false);
        let broker = Arc::new(Broker {
            transactions: Arc::new(transactions),
            groups: Coordinator::new(clock, rng, config.groups.clone()),
            budget: Budget::new(config.memory_budget_bytes, config.request_bytes_max),
            answers: Budget::new(ANSWER_BYTES, config.fetch_bytes_max.saturating_mul(2)),
            decoders: Arc::new(Semaphore::new(DECODERS_MAX)),
            cluster_id: TopicId(log.cluster_id()).to_string(),
            producer_ids: ProducerIdBlocks::new(log.clone()),
            env: env.clone(),
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
        let Broker { host, port, .. } = &*self.broker;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// What opening the log found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// What clients know a partition as: its topic and number. `None`: of no topic that is known.
    pub fn name_of(&self, id: PartitionId) -> Option<String> {
        let catalog = self.broker.topics.catalog();
        let mut names = catalog.iter().flat_map(|topic| {
            let numbered = (0..).zip(&topic.partitions);
            numbered.map(|(number, known): (i32, _)| (format!("{}-{number}", topic.name), *known))
        });
        names.find_map(|(name, known)| (known == id).then_some(name))
    }

    pub fn stopper(&self) -> Stopper {
        Stopper(self.drain.clone())
    }

    /// Serves until it is told to drain, and has drained.
    pub async fn run(self) -> Result<(), StopError> {
        let Self { broker, listener, drain, .. } = self;
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&broker, listener, &mut connections) => {}
            () = broker.groups.run() => {}
            () = broker.transactions.run() => {}
        }
        drop(drain);
        drain_connections(&broker, &mut connections).await;
        broker.log.close().await?; // BROKER-2
        Ok(())
    }
}

/// Accepts connections until a drain begins.
async fn accept(broker: &Arc<Broker>, listener: Box<dyn Listener>, connections: &mut JoinSet<()>) {
    let room = Arc::new(Semaphore::new(broker.config.connections_max));
    let mut draining = broker.draining.clone();
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
            let max = broker.config.connections_max;
            tracing::warn!(%peer, max, "connection refused: there are as many as there may be");
            continue;
        };
        let broker = Arc::clone(broker);
        connections.spawn(async move {
            connection::serve(broker, stream, peer).await;
            drop(place);
        });
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
