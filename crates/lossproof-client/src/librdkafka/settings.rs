use std::time::Duration;

use ::rdkafka::ClientConfig;
use ::rdkafka::error::KafkaError;
use thiserror::Error;

/// What every client needs.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Shown in the broker's logs.
    pub client_id: String,
    /// Further librdkafka settings; those that guard against loss are refused.
    pub extra: Vec<(String, String)>,
}

impl ClientSettings {
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            client_id: "lossproof".into(),
            extra: Vec::new(),
        }
    }
}

/// How hard a producer tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliverySafety {
    /// Idempotent, acknowledged by all replicas, tried until it is there.
    #[default]
    UntilStored,
    /// One acknowledgement, no retry, given up after a second: loses records when a broker or
    /// this process dies. For demonstrations of exactly that.
    UnsafeFireAndForget,
}

#[derive(Clone, Debug)]
pub struct ProducerSettings {
    pub client: ClientSettings,
    pub safety: DeliverySafety,
    /// Records held by the client before it answers `QueueFull`.
    pub queue_records_max: u32,
    /// Largest record (with its framing) that is sent.
    pub record_bytes_max: u32,
    /// How long a record waits for others to share its request.
    pub linger: Duration,
}

impl ProducerSettings {
    pub fn new(client: ClientSettings) -> Self {
        Self {
            client,
            safety: DeliverySafety::default(),
            queue_records_max: 20_000,
            record_bytes_max: 1_000_000,
            linger: Duration::from_millis(5),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    pub client: ClientSettings,
    pub group: String,
    pub topics: Vec<String>,
    /// Static membership: a member that comes back under this name within the session time-out
    /// keeps its partitions. Must be unique in the group.
    pub instance_id: Option<String>,
    /// After this long without a sign of life the group gives the partitions to others.
    pub session_timeout: Duration,
    /// The longest time between two polls; the member leaves the group beyond it.
    pub poll_interval_max: Duration,
    /// How long one question to the cluster (committed offset, watermark, commit) may take.
    pub request_timeout: Duration,
}

impl ConsumerSettings {
    pub fn new(client: ClientSettings, group: impl Into<String>, topics: Vec<String>) -> Self {
        Self {
            client,
            group: group.into(),
            topics,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            poll_interval_max: Duration::from_mins(5),
            request_timeout: Duration::from_secs(10),
        }
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingsError {
    #[error("'{name}' guards against loss and is set by lossproof; remove it")]
    Reserved { name: String },
    #[error("the client library refused its settings: {detail}")]
    Refused { detail: String },
}

impl From<KafkaError> for SettingsError {
    fn from(error: KafkaError) -> Self {
        Self::Refused { detail: error.to_string() }
    }
}

/// RDKAFKA-1: set by us; also under their other names.
const RESERVED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "bootstrap.servers",
    "check.crcs",
    "client.id",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "max.poll.interval.ms",
    "message.max.bytes",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "session.timeout.ms",
    "transactional.id",
];

fn config(client: &ClientSettings, ours: &[(&str, String)]) -> Result<ClientConfig, SettingsError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &client.bootstrap_servers)
        .set("client.id", &client.client_id)
        // A broker that comes back is found again within a second, a new partition within ten.
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("log.connection.close", "false");
    for (name, value) in ours {
        config.set(*name, value);
    }
    for (name, value) in &client.extra {
        if RESERVED.contains(&name.trim()) {
            return Err(SettingsError::Reserved { name: name.clone() });
        }
        config.set(name.trim(), value);
    }
    Ok(config)
}

impl ProducerSettings {
    pub(super) fn config(&self) -> Result<ClientConfig, SettingsError> {
        let safety: &[(&str, &str)] = match self.safety {
            DeliverySafety::UntilStored => &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("message.timeout.ms", "0"),
                ("max.in.flight", "5"),
            ],
            DeliverySafety::UnsafeFireAndForget => &[
                ("enable.idempotence", "false"),
                ("acks", "1"),
                ("message.timeout.ms", "1000"),
                ("retries", "0"),
            ],
        };
        let mut ours: Vec<(&str, String)> =
            safety.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        ours.push(("queue.buffering.max.messages", self.queue_records_max.to_string()));
        ours.push(("message.max.bytes", self.record_bytes_max.to_string()));
        ours.push(("linger.ms", self.linger.as_millis().to_string()));
        config(&self.client, &ours)
    }
}

impl ConsumerSettings {
    pub(super) fn config(&self) -> Result<ClientConfig, SettingsError> {
        let timeout_ms = self.request_timeout.as_millis().to_string();
        let mut ours: Vec<(&str, String)> = vec![
            ("group.id", self.group.clone()),
            ("enable.auto.commit", "false".into()),
            ("enable.auto.offset.store", "false".into()),
            ("auto.offset.reset", "error".into()),
            ("check.crcs", "true".into()),
            ("partition.assignment.strategy", "range,roundrobin".into()),
            ("session.timeout.ms", self.session_timeout.as_millis().to_string()),
            ("max.poll.interval.ms", self.poll_interval_max.as_millis().to_string()),
            ("heartbeat.interval.ms", (self.session_timeout.as_millis() / 4).to_string()),
            // These two bound how long a commit can wait for a coordinator that is away: the
            // library itself would wait for ten minutes, with nobody polling.
            ("coordinator.query.interval.ms", timeout_ms.clone()),
            ("socket.timeout.ms", timeout_ms),
            ("queued.max.messages.kbytes", "16384".into()),
        ];
        if let Some(instance) = &self.instance_id {
            ours.push(("group.instance.id", instance.clone()));
        }
        config(&self.client, &ours)
    }
}

impl ClientSettings {
    /// For reading from outside any group: `group` is named in questions about it, never joined.
    pub(super) fn reader_config(&self, group: &str) -> Result<ClientConfig, SettingsError> {
        let ours = [
            ("group.id", group.to_owned()),
            ("enable.auto.commit", "false".into()),
            ("enable.auto.offset.store", "false".into()),
            ("auto.offset.reset", "error".into()),
            ("check.crcs", "true".into()),
            ("enable.partition.eof", "true".into()),
        ];
        config(self, &ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RDKAFKA-1.
    #[test]
    fn safety_settings_cannot_be_overridden_and_others_can() {
        for name in RESERVED {
            let mut client = ClientSettings::new("127.0.0.1:1");
            client.extra.push(((*name).to_owned(), "1".into()));
            let refused = SettingsError::Reserved { name: (*name).to_owned() };
            assert_eq!(ProducerSettings::new(client).config().unwrap_err(), refused);
        }
        let mut client = ClientSettings::new("127.0.0.1:1");
        client.extra.push(("compression.type".into(), "lz4".into()));
        let producer = ProducerSettings::new(client.clone()).config().unwrap();
        assert_eq!(producer.get("compression.type"), Some("lz4"));
        assert_eq!(producer.get("enable.idempotence"), Some("true"));
        assert_eq!(producer.get("message.timeout.ms"), Some("0"));
        let consumer = ConsumerSettings::new(client, "g", vec![]).config().unwrap();
        assert_eq!(consumer.get("auto.offset.reset"), Some("error"));
        assert_eq!(consumer.get("enable.auto.commit"), Some("false"));
    }
}
