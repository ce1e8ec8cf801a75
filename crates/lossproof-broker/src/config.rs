//! What a broker is told at its start.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lossproof_log::{FlushPolicy, LogConfig, Purpose};

use crate::group::GroupSettings;
use crate::transaction::TransactionSettings;

/// librdkafka's and Java's tests and this project's documentation count on it.
pub const PARTITIONS_DEFAULT: i32 = 4;
pub(crate) const NODE_ID_DEFAULT: i32 = 1;
/// Larger frames close the connection.
pub const REQUEST_BYTES_MAX: usize = 100 << 20;
/// All requests in flight together; answers have a budget of their own.
pub const MEMORY_BUDGET_BYTES: usize = 256 << 20;
pub const CONNECTIONS_MAX: usize = 1_024;
/// As `connections.max.idle.ms` of Apache Kafka.
pub const IDLE_CONNECTION: Duration = Duration::from_mins(10);
/// A peer that neither sends the rest of a request nor takes an answer for this long is gone.
pub const STALLED_CONNECTION: Duration = Duration::from_mins(1);
/// A batch must fit a journal segment with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// One answer to a Fetch, but for a single larger batch.
pub const FETCH_BYTES_MAX: usize = 8 << 20;
/// All partitions of all topics: each costs memory for as long as it exists.
pub const PARTITIONS_MAX: usize = 100_000;
/// As `log.retention.check.interval.ms` of Apache Kafka.
pub(crate) const RETENTION_CHECK: Duration = Duration::from_mins(5);
/// How long a drain waits for requests in work.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Everything that can be set. [`BrokerConfig::new`] fills in the defaults, [`BrokerConfig::set`]
/// takes settings under Kafka's names.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub listen: SocketAddr,
    /// The operator knows that everybody who reaches the listener may do everything.
    pub insecure_listen: bool,
    pub data: PathBuf,
    /// What clients know this node as; it stands nowhere on the disk.
    pub node_id: i32,
    /// What clients are told to connect to; `None`: the address that is listened on.
    pub advertise: Option<(String, u16)>,
    /// When an acknowledgement is given on topics that do not say it themselves.
    pub flush: FlushPolicy,
    pub auto_create_topics: bool,
    pub partitions_default: i32,
    pub partitions_max: usize,
    pub request_bytes_max: usize,
    pub memory_budget_bytes: usize,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub idle_connection: Duration,
    pub stalled_connection: Duration,
    /// Of topics that do not say it themselves.
    pub message_bytes_max: usize,
    pub fetch_bytes_max: usize,
    /// How often it is looked for records that need not be kept any more.
    pub retention_check: Duration,
    /// How long offsets are kept that nobody needs; `None` is for ever.
    pub offsets_retention: Option<Duration>,
    pub drain_max: Duration,
    pub groups: GroupSettings,
    pub transactions: TransactionSettings,
    pub log: LogConfig,
    /// The settings that were given by name; those with a field of their own are there as well.
    pub(crate) given: BTreeMap<&'static str, String>,
}

impl BrokerConfig {
    pub fn new(listen: SocketAddr, data: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            insecure_listen: false,
            data: data.into(),
            node_id: NODE_ID_DEFAULT,
            advertise: None,
            flush: FlushPolicy::Commit,
            auto_create_topics: true,
            partitions_default: PARTITIONS_DEFAULT,
            partitions_max: PARTITIONS_MAX,
            request_bytes_max: REQUEST_BYTES_MAX,
            memory_budget_bytes: MEMORY_BUDGET_BYTES,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: i32::MAX as usize,
            idle_connection: IDLE_CONNECTION,
            stalled_connection: STALLED_CONNECTION,
            message_bytes_max: MESSAGE_BYTES_MAX,
            fetch_bytes_max: FETCH_BYTES_MAX,
            retention_check: RETENTION_CHECK,
            offsets_retention: None,
            drain_max: DRAIN_MAX,
            groups: GroupSettings::default(),
            transactions: TransactionSettings::default(),
            log: LogConfig { purpose: Purpose::Broker, ..LogConfig::default() },
            given: BTreeMap::new(),
        }
    }

    /// Why these settings cannot work, in words.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.advertise.is_none() && self.listen.ip().is_unspecified() {
            return Err("clients cannot connect to an unspecified address: set \
                        advertised.listeners as well (--advertise HOST:PORT)");
        }
        if self.memory_budget_bytes < self.request_bytes_max.saturating_add(1 << 20) {
            return Err("the memory budget must exceed the largest request by at least 1 MiB");
        }
        if self.partitions_default < 1 || self.connections_max < 1 || self.request_bytes_max < 1 {
            return Err("partitions, connections and request bytes must be at least 1");
        }
        if self.groups.session_timeout_min > self.groups.session_timeout_max {
            return Err("group.min.session.timeout.ms is above group.max.session.timeout.ms");
        }
        Ok(())
    }
}
