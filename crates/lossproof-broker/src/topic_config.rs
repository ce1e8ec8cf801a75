//! The settings of a topic that clients ask for, and what the broker makes of them.
//!
//! A setting that would make the broker keep less (retention, compaction) is stored and shown, and
//! more is kept than it asks for. A setting that would make it promise something it does not do is
//! refused.

use std::collections::BTreeMap;

use lossproof_log::FlushPolicy;

pub(crate) const FLUSH: &str = "lossproof.flush";
pub(crate) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";

/// Type codes of the protocol's DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// One setting that exists, with the value that holds where nobody set another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigEntry {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: ConfigType,
}

const fn entry(name: &'static str, default: &'static str, kind: ConfigType) -> ConfigEntry {
    ConfigEntry { name, default, kind }
}

/// Every topic setting of Apache Kafka that clients look for, with what holds here: nothing is
/// deleted yet, nothing is compacted, and every message is synced on its own account.
pub(crate) const TOPIC_CONFIGS: &[ConfigEntry] = &[
    entry("cleanup.policy", "delete", ConfigType::List),
    entry("compression.type", "producer", ConfigType::String),
    entry("delete.retention.ms", "86400000", ConfigType::Long),
    entry("file.delete.delay.ms", "60000", ConfigType::Long),
    entry("flush.messages", "1", ConfigType::Long),
    entry("flush.ms", "0", ConfigType::Long),
    entry("follower.replication.throttled.replicas", "", ConfigType::List),
    entry("index.interval.bytes", "4096", ConfigType::Int),
    entry("leader.replication.throttled.replicas", "", ConfigType::List),
    entry("local.retention.bytes", "-2", ConfigType::Long),
    entry("local.retention.ms", "-2", ConfigType::Long),
    entry(FLUSH, "commit", ConfigType::String),
    entry("max.compaction.lag.ms", "9223372036854775807", ConfigType::Long),
    entry(MAX_MESSAGE_BYTES, "16777216", ConfigType::Int),
    entry("message.timestamp.after.max.ms", "9223372036854775807", ConfigType::Long),
    entry("message.timestamp.before.max.ms", "9223372036854775807", ConfigType::Long),
    entry("message.timestamp.type", "CreateTime", ConfigType::String),
    entry("min.cleanable.dirty.ratio", "0.5", ConfigType::Double),
    entry("min.compaction.lag.ms", "0", ConfigType::Long),
    entry("min.insync.replicas", "1", ConfigType::Int),
    entry("preallocate", "true", ConfigType::Boolean),
    entry("remote.storage.enable", "false", ConfigType::Boolean),
    entry("retention.bytes", "-1", ConfigType::Long),
    entry("retention.ms", "-1", ConfigType::Long),
    entry("segment.bytes", "67108864", ConfigType::Int),
    entry("segment.index.bytes", "10485760", ConfigType::Int),
    entry("segment.jitter.ms", "0", ConfigType::Long),
    entry("segment.ms", "604800000", ConfigType::Long),
    entry("unclean.leader.election.enable", "false", ConfigType::Boolean),
];

/// Settings whose only possible value is the default: another would be a false promise.
const FIXED: &[&str] = &[
    "compression.type",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
    "remote.storage.enable",
    "unclean.leader.election.enable",
];

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TopicConfigError {
    #[error("there is no topic setting {name}")]
    Unknown { name: String },
    #[error("{name} can only be {only} here")]
    Fixed { name: &'static str, only: &'static str },
    #[error("{name} cannot be {value:?}: {expected}")]
    Value { name: &'static str, value: String, expected: String },
}

/// The settings that were made for one topic; the others have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicConfig(BTreeMap<String, String>);

impl TopicConfig {
    /// Checks each setting; `message_bytes_max` is what the broker can take at all.
    pub(crate) fn new(
        settings: impl IntoIterator<Item = (String, Option<String>)>,
        message_bytes_max: usize,
    ) -> Result<Self, TopicConfigError> {
        let mut config = Self::default();
        for (name, value) in settings {
            let Some(known) = TOPIC_CONFIGS.iter().find(|entry| entry.name == name) else {
                return Err(TopicConfigError::Unknown { name });
            };
            let Some(value) = value else { continue };
            check(known, &value, message_bytes_max)?;
            config.0.insert(name, value);
        }
        Ok(config)
    }

    /// As read back from the journal; was checked when it was made.
    pub(crate) fn from_entries(entries: BTreeMap<String, String>) -> Self {
        Self(entries)
    }

    pub(crate) fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn flush(&self) -> Option<FlushPolicy> {
        self.get(FLUSH).and_then(parse_flush)
    }

    pub(crate) fn message_bytes_max(&self) -> Option<usize> {
        self.get(MAX_MESSAGE_BYTES).and_then(|value| value.parse().ok())
    }
}

fn check(
    known: &ConfigEntry,
    value: &str,
    message_bytes_max: usize,
) -> Result<(), TopicConfigError> {
    let refuse = |expected: String| {
        let (name, value) = (known.name, value.to_owned());
        Err(TopicConfigError::Value { name, value, expected })
    };
    if FIXED.contains(&known.name) && value != known.default {
        return Err(TopicConfigError::Fixed { name: known.name, only: known.default });
    }
    match known.name {
        FLUSH if parse_flush(value).is_none() => {
            return refuse("one of commit, every-second, page-cache".to_owned());
        }
        MAX_MESSAGE_BYTES => match value.parse::<usize>() {
            Ok(bytes) if (1..=message_bytes_max).contains(&bytes) => {}
            _ => return refuse(format!("a number from 1 to {message_bytes_max}")),
        },
        _ => {}
    }
    let well_formed = match known.kind {
        ConfigType::Boolean => matches!(value, "true" | "false"),
        ConfigType::Int => value.parse::<i32>().is_ok(),
        ConfigType::Long => value.parse::<i64>().is_ok(),
        ConfigType::Double => value.parse::<f64>().is_ok(),
        ConfigType::String | ConfigType::List => true,
    };
    if well_formed { Ok(()) } else { refuse(format!("{:?} wanted", known.kind)) }
}

/// The name of a flush policy, as in settings and on the command line.
pub fn parse_flush(name: &str) -> Option<FlushPolicy> {
    match name {
        "commit" => Some(FlushPolicy::Commit),
        "every-second" => Some(FlushPolicy::UnsafeEverySecond),
        "page-cache" => Some(FlushPolicy::UnsafePageCache),
        _ => None,
    }
}

/// The other way round.
pub fn flush_name(flush: FlushPolicy) -> &'static str {
    match flush {
        FlushPolicy::Commit => "commit",
        FlushPolicy::UnsafeEverySecond => "every-second",
        FlushPolicy::UnsafePageCache => "page-cache",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, value: &str) -> Result<TopicConfig, TopicConfigError> {
        TopicConfig::new([(name.to_owned(), Some(value.to_owned()))], 1 << 20)
    }

    #[test]
    fn keeping_less_is_accepted_and_shown() {
        let kept = config("retention.ms", "1000").expect("a number");
        assert_eq!(kept.get("retention.ms"), Some("1000"));
        assert!(config("cleanup.policy", "compact").is_ok());
    }

    #[test]
    fn false_promises_and_nonsense_are_refused() {
        assert!(matches!(config("min.insync.replicas", "2"), Err(TopicConfigError::Fixed { .. })));
        assert!(matches!(config("max.message.bytes", "0"), Err(TopicConfigError::Value { .. })));
        assert!(matches!(config("retention.ms", "soon"), Err(TopicConfigError::Value { .. })));
        assert!(matches!(config("lossproof.flush", "no"), Err(TopicConfigError::Value { .. })));
        assert!(matches!(config("no.such", "1"), Err(TopicConfigError::Unknown { .. })));
    }

    #[test]
    fn defaults_pass_their_own_check() {
        for entry in TOPIC_CONFIGS {
            assert_eq!(check(entry, entry.default, 16 << 20), Ok(()), "{}", entry.name);
        }
    }
}
