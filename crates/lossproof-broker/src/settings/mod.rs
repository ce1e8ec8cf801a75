//! The settings of topics and of the broker as data: one table for whoever describes, checks,
//! changes or documents them.
//!
//! # Invariants
//!
//! - SETTING-1: no value is stored or shown that its setting does not allow; an unknown name is an
//!   error that names the nearest known one.
//! - SETTING-2: a value that would promise what is not done here is refused.

mod broker_table;
mod page;
mod topic_table;

use std::sync::LazyLock;

pub use page::settings_page;

use broker_table::BROKER_SETTINGS;
pub(crate) use topic_table::TOPIC_SETTINGS;

pub(crate) const FLUSH: &str = "lossproof.flush";

/// Names that have less than this in common are no misspellings of each other.
const LIKENESS_MIN: f64 = 0.7;

/// Type codes of the protocol's DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettingType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// Which values of its type a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    Any,
    /// A whole number, both ends included.
    Within(i64, i64),
    /// From 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// At least one of these, separated by commas.
    SomeOf(&'static [&'static str]),
    /// The default: another would be a false promise.
    Only,
}

/// What comes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Enforced,
    /// Accepted, because clients send it; it means nothing to this storage.
    Unused,
}

/// One setting that exists.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: SettingType,
    /// Holds where nobody set another; `None`: no value.
    pub(crate) default: Option<&'static str>,
    pub(crate) rule: Rule,
    pub(crate) standing: Standing,
    /// Of a topic's setting: the broker's that holds for topics without a value of their own.
    pub(crate) broker_name: Option<&'static str>,
    /// One line.
    pub(crate) about: &'static str,
}

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    #[error("there is no {of} setting {name}{}", hint(*nearest))]
    Unknown { of: &'static str, name: String, nearest: Option<&'static str> },
    #[error("{name} can only be {only:?} here")]
    Fixed { name: &'static str, only: &'static str },
    #[error("{name} cannot be {value:?}: {expected} wanted")]
    Value { name: &'static str, value: String, expected: String },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; the nearest is {name}")).unwrap_or_default()
}

impl Setting {
    /// SETTING-1, SETTING-2.
    pub(crate) fn check(&self, value: &str) -> Result<(), SettingError> {
        let well_formed = match self.kind {
            SettingType::Boolean => matches!(value, "true" | "false"),
            SettingType::Int => value.parse::<i32>().is_ok(),
            SettingType::Long => value.parse::<i64>().is_ok(),
            SettingType::Double => value.parse::<f64>().is_ok(),
            SettingType::String | SettingType::List => true,
        };
        let allowed = match self.rule {
            Rule::Any => true,
            Rule::Within(min, max) => {
                value.parse::<i64>().is_ok_and(|number| (min..=max).contains(&number))
            }
            Rule::Ratio => value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
            Rule::OneOf(values) => values.contains(&value),
            Rule::SomeOf(values) => value.split(',').all(|part| values.contains(&part.trim())),
            Rule::Only => {
                let only = self.default.unwrap_or_default();
                if value != only {
                    return Err(SettingError::Fixed { name: self.name, only });
                }
                true
            }
        };
        if well_formed && allowed { Ok(()) } else { Err(self.refusal(value, &self.expected())) }
    }

    pub(crate) fn refusal(&self, value: &str, expected: &str) -> SettingError {
        let (value, expected) = (value.to_owned(), expected.to_owned());
        SettingError::Value { name: self.name, value, expected }
    }

    /// The values that pass, in words.
    pub(crate) fn expected(&self) -> String {
        let kind = match self.kind {
            SettingType::Boolean => "true or false",
            SettingType::String => "text",
            SettingType::Int | SettingType::Long => "a whole number",
            SettingType::Double => "a number",
            SettingType::List => "a list with commas",
        };
        match self.rule {
            Rule::Any => kind.to_owned(),
            Rule::Within(min, i64::MAX) => format!("{kind} from {min} up"),
            Rule::Within(min, max) => format!("{kind} from {min} to {max}"),
            Rule::Ratio => format!("{kind} from 0 to 1"),
            Rule::OneOf(values) => values.join(" or "),
            Rule::SomeOf(values) => format!("{kind} of {}", values.join(" and ")),
            Rule::Only => format!("only {:?}", self.default.unwrap_or_default()),
        }
    }

    /// What DescribeConfigs tells in its field for documentation.
    pub(crate) fn documentation(&self) -> String {
        match (self.rule, self.standing) {
            (Rule::Only, _) => format!("{} No other value is possible here.", self.about),
            (_, Standing::Enforced) => self.about.to_owned(),
            (_, Standing::Unused) => format!("{} Without effect here.", self.about),
        }
    }
}

pub(crate) fn topic_setting(name: &str) -> Result<&'static Setting, SettingError> {
    let found = TOPIC_SETTINGS.iter().find(|setting| setting.name == name);
    found.ok_or_else(|| unknown("topic", name, TOPIC_SETTINGS.iter().map(|known| known.name)))
}

/// A setting of the broker, under its name there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerSetting {
    pub(crate) name: &'static str,
    pub(crate) setting: &'static Setting,
    /// It is the default of this setting of topics.
    pub(crate) topic_name: Option<&'static str>,
}

pub(crate) fn broker_setting(name: &str) -> Result<BrokerSetting, SettingError> {
    let all = broker_settings();
    let found = all.binary_search_by_key(&name, |setting| setting.name).ok();
    let found = found.and_then(|at| all.get(at)).copied();
    found.ok_or_else(|| unknown("broker", name, all.iter().map(|known| known.name)))
}

/// All of them by name: its own, and the defaults of topics.
pub(crate) fn broker_settings() -> &'static [BrokerSetting] {
    static ALL: LazyLock<Vec<BrokerSetting>> = LazyLock::new(all_broker_settings);
    &ALL
}

fn all_broker_settings() -> Vec<BrokerSetting> {
    let own = BROKER_SETTINGS.iter();
    let own = own.map(|setting| BrokerSetting { name: setting.name, setting, topic_name: None });
    let defaults = TOPIC_SETTINGS.iter().filter_map(|setting| {
        let name = setting.broker_name?;
        Some(BrokerSetting { name, setting, topic_name: Some(setting.name) })
    });
    let mut all: Vec<_> = own.chain(defaults).collect();
    all.sort_unstable_by_key(|setting| setting.name);
    all
}

fn unknown(
    of: &'static str,
    name: &str,
    known: impl Iterator<Item = &'static str>,
) -> SettingError {
    let likeness = known.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let nearest = likeness.max_by(|(one, _), (other, _)| one.total_cmp(other));
    let nearest = nearest.filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    SettingError::Unknown { of, name: name.to_owned(), nearest: nearest.map(|(_, known)| known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SETTING-1.
    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let error = topic_setting("retention.sm").expect_err("no such setting");
        assert_eq!(
            error.to_string(),
            "there is no topic setting retention.sm; the nearest is retention.ms"
        );
        let error = broker_setting("num.partition").expect_err("no such setting");
        assert!(error.to_string().ends_with("the nearest is num.partitions"), "{error}");
        let error = broker_setting("zookeeper.connect").expect_err("no such setting");
        assert_eq!(error.to_string(), "there is no broker setting zookeeper.connect");
    }

    /// SETTING-1, SETTING-2.
    #[test]
    fn each_rule_refuses_something() {
        for (name, value) in [
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("max.message.bytes", "0"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("message.timestamp.type", "Never"),
            ("cleanup.policy", "delete,shred"),
            ("cleanup.policy", ""),
            ("preallocate", "yes"),
            ("segment.bytes", "3000000000"),
        ] {
            let setting = topic_setting(name).expect("it exists");
            let refused = setting.check(value);
            assert!(matches!(refused, Err(SettingError::Value { .. })), "{name}={value}");
        }
        let compression = topic_setting("compression.type").expect("it exists");
        assert!(matches!(compression.check("zstd"), Err(SettingError::Fixed { .. })));
    }

    #[test]
    fn names_are_sorted_and_defaults_pass_their_own_check() {
        assert!(TOPIC_SETTINGS.is_sorted_by_key(|setting| setting.name));
        assert!(BROKER_SETTINGS.is_sorted_by_key(|setting| setting.name));
        for setting in TOPIC_SETTINGS.iter().chain(BROKER_SETTINGS) {
            if let Some(default) = setting.default {
                assert_eq!(setting.check(default), Ok(()), "{}", setting.name);
            }
        }
        let mut names: Vec<_> = broker_settings().iter().map(|setting| setting.name).collect();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands for one setting");
    }
}
