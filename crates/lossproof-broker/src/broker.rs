use lossproof_env::Environment;
use lossproof_log::{CommitCause, Log, PartitionId, ReadError};
use lossproof_wire::{ErrorCode, Uuid};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinError;

use crate::budget::Budget;
use crate::config::BrokerConfig;
use crate::fetch_sessions::FetchSessions;
use crate::gates::OffsetGates;
use crate::group::Coordinator;
use crate::monitor::Counters;
use crate::offsets::OffsetOrder;
use crate::producer_ids::ProducerIdBlocks;
use crate::told::{Subject, Told};
use crate::topic_config::Alteration;
use crate::topics::{Catalog, NewTopic, Topic, TopicError, TopicId, Topics};
use crate::transaction::{TransactionCoordinator, TransactionError};
use crate::turn::Turns;

/// Everything that the handlers share.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) env: Environment,
    pub(crate) log: Log,
    pub(crate) topics: Topics,
    pub(crate) groups: Coordinator,
    pub(crate) offset_gates: OffsetGates,
    pub(crate) offset_order: OffsetOrder,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) transactions: Arc<TransactionCoordinator>,
    pub(crate) producer_ids: ProducerIdBlocks,
    pub(crate) counters: Counters,
    /// Errors of fetches.
    pub(crate) told: Told,
    /// For requests.
    pub(crate) budget: Budget,
    pub(crate) answers: Budget,
    /// Bytes of answers that are written and wait for a share.
    pub(crate) waiting: Semaphore,
    /// Places for [`Broker::decode`].
    pub(crate) decoders: Arc<Semaphore>,
    /// Of requests that may ask for very much.
    pub(crate) turns: Turns,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// By the wall clock.
    pub(crate) started_at_ms: i64,
    /// Becomes true once, when the broker is to end.
    pub(crate) draining: watch::Receiver<bool>,
}

impl Broker {
    /// Of the one node: leader, controller and coordinator of everything.
    pub(crate) fn node_id(&self) -> i32 {
        self.config.node_id
    }

    /// What clients know a partition as: its topic and number. `None`: of no topic that is known.
    pub(crate) fn name_of(&self, id: PartitionId) -> Option<String> {
        let catalog = self.topics.catalog();
        let mut names = catalog.iter().flat_map(|topic| {
            let numbered = (0..).zip(&topic.partitions);
            numbered.map(|(number, known): (i32, _)| (format!("{}-{number}", topic.name), *known))
        });
        names.find_map(|(name, known)| (known == id).then_some(name))
    }

    pub(crate) fn tell_of_fetch(&self, id: PartitionId, error: &ReadError) {
        let is_damaged = matches!(error, ReadError::Damaged { .. });
        if is_damaged {
            self.counters.fetches_damaged.fetch_add(1, Ordering::Relaxed);
        }
        if !self.told.is_due(Subject::Fetch(id), self.env.clock.monotonic()) {
            return;
        }
        let partition = self.name_of(id).unwrap_or_default();
        if is_damaged {
            tracing::error!(%error, partition, "LP1012: a fetch met damage; told once a minute");
        } else {
            tracing::warn!(%error, partition, "fetch refused; told once a minute");
        }
    }

    pub(crate) fn cluster_id(&self) -> String {
        self.log.cluster_id().to_string()
    }

    /// What clients connect to, as in `bootstrap.servers`.
    pub(crate) fn bootstrap_servers(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Runs what decompresses batches, on a thread of its own and few at a time (BUDGET-3).
    pub(crate) async fn decode<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Never closed. Held by the work itself, which runs to its end even if nobody waits.
        let place = Arc::clone(&self.decoders).acquire_owned().await;
        let broker = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let done = work(&broker);
            drop(place);
            done
        })
        .await
    }

    /// [`Topics::create`], to its end even if the caller goes away (TOPIC-4).
    pub(crate) async fn create_topic(
        self: &Arc<Self>,
        new: NewTopic,
    ) -> Result<Arc<Topic>, TopicError> {
        let broker = Arc::clone(self);
        finished(tokio::spawn(async move { broker.topics.create(new).await }).await)
    }

    /// [`Topics::grow`], to its end even if the caller goes away (TOPIC-4).
    pub(crate) async fn grow_topic(
        self: &Arc<Self>,
        name: String,
        count: i32,
    ) -> Result<(), TopicError> {
        let broker = Arc::clone(self);
        finished(tokio::spawn(async move { broker.topics.grow(&name, count).await }).await)
    }

    /// [`Topics::alter`], to its end even if the caller goes away (TOPIC-4).
    pub(crate) async fn alter_topic(
        self: &Arc<Self>,
        id: TopicId,
        alteration: Alteration,
    ) -> Result<(), TopicError> {
        let broker = Arc::clone(self);
        finished(tokio::spawn(async move { broker.topics.alter(id, &alteration).await }).await)
    }

    /// [`Topics::delete`], to its end even if the caller goes away (TOPIC-4).
    pub(crate) async fn delete_topic(self: &Arc<Self>, id: TopicId) -> Result<(), TopicError> {
        let broker = Arc::clone(self);
        finished(tokio::spawn(async move { broker.topics.delete(id).await }).await)
    }

    /// A change of a transaction, to its end even if the caller goes away: what is durable is
    /// acted upon (COORDINATOR-1).
    pub(crate) async fn change_transaction<T, F>(
        self: &Arc<Self>,
        change: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<T, TransactionError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, TransactionError>> + Send + 'static,
    {
        let ended = tokio::spawn(change(Arc::clone(self))).await;
        ended.unwrap_or(Err(TransactionError::Storage(CommitCause::Closed)))
    }
}

/// A change of a topic is never cancelled: only the end of the process or a panic cuts it off.
fn finished<T>(ended: Result<Result<T, TopicError>, JoinError>) -> Result<T, TopicError> {
    ended.unwrap_or(Err(TopicError::Log(CommitCause::Closed)))
}

/// How a request names a topic: by name, or by id in the newer versions.
pub(crate) fn find_topic(
    catalog: &Catalog,
    by_id: bool,
    name: &str,
    id: Uuid,
) -> Result<Arc<Topic>, ErrorCode> {
    if by_id {
        catalog.by_id(TopicId(id.0)).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        catalog.by_name(name).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

pub(crate) fn find_partition(
    topic: &Result<Arc<Topic>, ErrorCode>,
    index: i32,
) -> Result<PartitionId, ErrorCode> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    topic.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// What a client believes the leader epoch to be, against what it is.
pub(crate) fn check_leader_epoch(claimed: i32, leader_epoch: i32) -> Result<(), ErrorCode> {
    match claimed {
        claimed if claimed < 0 || claimed == leader_epoch => Ok(()),
        claimed if claimed < leader_epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
    }
}
