//! The settings that were made for one topic, and what holds for it.

use std::collections::BTreeMap;

use lossproof_log::FlushPolicy;
use lossproof_wire::batch::TimestampType;

use crate::settings::{FLUSH, SettingError, SettingType, topic_setting};

/// The settings that were made for one topic; the others have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicConfig(BTreeMap<String, String>);

/// One change of a setting.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(String),
    /// The default holds again.
    Remove,
    /// To a list.
    Append(String),
    /// From a list.
    Subtract(String),
}

/// What is wanted of the settings of a topic.
#[derive(Clone, Debug)]
pub(crate) enum Alteration {
    /// These, and no others.
    Replace(Vec<(String, Option<String>)>),
    /// These changes, one after the other.
    Change(Vec<(String, Change)>),
}

impl Alteration {
    pub(crate) fn apply(
        &self,
        config: &TopicConfig,
        defaults: &TopicConfig,
    ) -> Result<TopicConfig, ChangeError> {
        match self {
            Self::Replace(settings) => Ok(TopicConfig::new(settings.iter().cloned())?),
            Self::Change(changes) => config.changed(changes, defaults),
        }
    }
}

/// Why the settings of a topic cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChangeError {
    #[error("{0}")]
    Setting(#[from] SettingError),
    #[error("{name} is no list: it can be set, and not be appended to or subtracted from")]
    NoList { name: &'static str },
}

impl TopicConfig {
    /// Checks each setting; one without a value has its default.
    pub(crate) fn new(
        settings: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<Self, SettingError> {
        let mut config = Self::default();
        for (name, value) in settings {
            let known = topic_setting(&name)?;
            let Some(value) = value else { continue };
            known.check(&value)?; // SETTING-1
            config.0.insert(name, value);
        }
        Ok(config)
    }

    /// As read back from the journal; was checked when it was made.
    pub(crate) fn from_entries(entries: BTreeMap<String, String>) -> Self {
        Self(entries)
    }

    /// These settings with `changes`, each of which builds on the ones before it. A list without a
    /// value of its own begins with that of `defaults`.
    pub(crate) fn changed(
        &self,
        changes: &[(String, Change)],
        defaults: &Self,
    ) -> Result<Self, ChangeError> {
        let mut config = self.clone();
        for (name, change) in changes {
            let known = topic_setting(name)?;
            let value = match change {
                Change::Set(value) => value.clone(),
                Change::Remove => {
                    config.0.remove(name);
                    continue;
                }
                Change::Append(_) | Change::Subtract(_) if known.kind != SettingType::List => {
                    return Err(ChangeError::NoList { name: known.name });
                }
                Change::Append(parts) => {
                    let mut list = list(config.value(known.name, defaults));
                    let new = self::list(parts).into_iter();
                    list.extend(new.filter(|part| !list.contains(part)).collect::<Vec<_>>());
                    list.join(",")
                }
                Change::Subtract(parts) => {
                    let gone = list(parts);
                    let mut list = list(config.value(known.name, defaults));
                    list.retain(|part| !gone.contains(part));
                    list.join(",")
                }
            };
            known.check(&value)?; // SETTING-1
            config.0.insert(name.clone(), value);
        }
        Ok(config)
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

    /// The topic's own value, or the broker's, or the built-in one.
    fn value<'a>(&'a self, name: &str, defaults: &'a Self) -> &'a str {
        let built_in = || topic_setting(name).ok().and_then(|setting| setting.default);
        self.get(name).or_else(|| defaults.get(name)).or_else(built_in).unwrap_or_default()
    }
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// What is to become of old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cleanup {
    pub(crate) delete: bool,
    pub(crate) compact: bool,
}

/// Everything that holds for a topic beside its flush policy, as numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopicSettings {
    pub(crate) cleanup: Cleanup,
    /// `None`: for ever.
    pub(crate) retention_ms: Option<u64>,
    /// `None`: without a bound.
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) delete_retention_ms: u64,
    pub(crate) segment_ms: u64,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) min_compaction_lag_ms: u64,
    pub(crate) max_compaction_lag_ms: u64,
    pub(crate) message_bytes_max: usize,
    pub(crate) timestamps: TimestampType,
    pub(crate) timestamp_before_max_ms: i64,
    pub(crate) timestamp_after_max_ms: i64,
}

impl TopicSettings {
    pub(crate) fn of(config: &TopicConfig, defaults: &TopicConfig) -> Self {
        let text = |name| config.value(name, defaults);
        // Both have been checked; what a later version allows is as good as no bound.
        let number = |name| text(name).parse().unwrap_or(i64::MAX);
        let unsigned = |name| number(name).unsigned_abs();
        let bound = |name| u64::try_from(number(name)).ok();
        let policies = list(text("cleanup.policy"));
        let append_time = text("message.timestamp.type") == "LogAppendTime";
        Self {
            cleanup: Cleanup {
                delete: policies.contains(&"delete"),
                compact: policies.contains(&"compact"),
            },
            retention_ms: bound("retention.ms"),
            retention_bytes: bound("retention.bytes"),
            delete_retention_ms: unsigned("delete.retention.ms"),
            segment_ms: unsigned("segment.ms"),
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: unsigned("min.compaction.lag.ms"),
            max_compaction_lag_ms: unsigned("max.compaction.lag.ms"),
            message_bytes_max: unsigned("max.message.bytes") as usize,
            timestamps: if append_time { TimestampType::LogAppend } else { TimestampType::Create },
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
        }
    }
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

    fn config(name: &str, value: &str) -> TopicConfig {
        TopicConfig::new([(name.to_owned(), Some(value.to_owned()))]).expect("a good value")
    }

    fn cleanup(config: &TopicConfig) -> (bool, bool) {
        let Cleanup { delete, compact } =
            TopicSettings::of(config, &TopicConfig::default()).cleanup;
        (delete, compact)
    }

    #[test]
    fn a_topic_has_its_own_value_or_the_brokers_or_the_built_in_one() {
        let (none, defaults) = (TopicConfig::default(), config("retention.ms", "7"));
        let of = |own: &TopicConfig, defaults| TopicSettings::of(own, defaults).retention_ms;
        assert_eq!(of(&none, &none), None);
        assert_eq!(of(&none, &defaults), Some(7));
        assert_eq!(of(&config("retention.ms", "8"), &defaults), Some(8));
        assert_eq!(of(&config("retention.ms", "-1"), &defaults), None);
    }

    #[test]
    fn lists_are_appended_to_and_subtracted_from() {
        let none = TopicConfig::default();
        let change = |config: &TopicConfig, change| {
            config.changed(&[("cleanup.policy".to_owned(), change)], &none)
        };
        let both = change(&none, Change::Append("compact,delete".into())).expect("a list");
        assert_eq!(both.get("cleanup.policy"), Some("delete,compact"));
        assert_eq!(cleanup(&both), (true, true));
        let compact = change(&both, Change::Subtract("delete".into())).expect("a list");
        assert_eq!(cleanup(&compact), (false, true));
        assert_eq!(change(&compact, Change::Remove), Ok(none.clone()));
        change(&compact, Change::Subtract("compact".into())).expect_err("one policy must stay");
        let number = [("retention.ms".to_owned(), Change::Append("1".into()))];
        let refused = none.changed(&number, &none);
        assert_eq!(refused, Err(ChangeError::NoList { name: "retention.ms" }));
    }
}
