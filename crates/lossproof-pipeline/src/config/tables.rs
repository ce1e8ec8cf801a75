//! The shape of the file. Unknown keys are errors everywhere.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use toml::Spanned;

use super::Operation;
use crate::flow::Mode;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentTable {
    pub source: SourceTable,
    pub journal: JournalTable,
    #[serde(default)]
    pub steps: Vec<Spanned<StepTable>>,
    pub sink: Spanned<SinkTable>,
    pub dead_letters: Option<DeadLettersTable>,
    #[serde(default)]
    pub breaker: BreakerTable,
    #[serde(default)]
    pub retry: RetryTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceTable {
    pub bootstrap_servers: String,
    pub topic: Spanned<String>,
    pub group: Spanned<String>,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default = "max_in_flight")]
    pub max_in_flight: Spanned<usize>,
    #[serde(default = "max_in_flight_per_partition")]
    pub max_in_flight_per_partition: Spanned<usize>,
    #[serde(default = "workers")]
    pub workers: Spanned<usize>,
    pub static_member: Option<String>,
    #[serde(default = "session_timeout")]
    pub session_timeout: Span,
    #[serde(default = "commit_interval")]
    pub commit_interval: Span,
    #[serde(default = "commit_records")]
    pub commit_records: Spanned<usize>,
    #[serde(default = "revoke_wait")]
    pub revoke_wait: Span,
    #[serde(default = "drain_wait")]
    pub drain_wait: Span,
    #[serde(default)]
    pub client: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub unsafe_commit_before_processing: bool,
}

fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
fn max_in_flight() -> Spanned<usize> {
    unplaced(512)
}
fn max_in_flight_per_partition() -> Spanned<usize> {
    unplaced(256)
}
fn workers() -> Spanned<usize> {
    unplaced(64)
}
fn session_timeout() -> Span {
    Span(Duration::from_secs(45))
}
fn commit_interval() -> Span {
    Span(Duration::from_secs(1))
}
fn commit_records() -> Spanned<usize> {
    unplaced(1000)
}
fn revoke_wait() -> Span {
    Span(Duration::from_secs(5))
}
fn drain_wait() -> Span {
    Span(Duration::from_secs(10))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JournalTable {
    pub directory: PathBuf,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum StepKind {
    Http,
    Filter,
    Map,
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Filter => "filter",
            Self::Map => "map",
        })
    }
}

/// The keys of all kinds: which belong to which is in [`StepTable::given`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepTable {
    pub kind: Spanned<StepKind>,
    pub name: Option<String>,
    pub url: Option<Spanned<String>>,
    pub field: Option<Spanned<String>>,
    pub into: Option<Spanned<String>>,
    pub require: Option<Spanned<Vec<String>>>,
    pub timeout: Option<Spanned<Span>>,
    pub headers: Option<Spanned<BTreeMap<String, String>>>,
    pub keep: Option<Spanned<String>>,
    pub reason: Option<Spanned<String>>,
    pub expression: Option<Spanned<String>>,
}

type Given<K> = Vec<(&'static str, Range<usize>, &'static [K])>;

fn push<T, K>(
    given: &mut Given<K>,
    key: &'static str,
    value: Option<&Spanned<T>>,
    kinds: &'static [K],
) {
    if let Some(value) = value {
        given.push((key, value.span(), kinds));
    }
}

impl StepTable {
    /// The keys that are there, where, and for which kinds they are meant.
    pub(super) fn given(&self) -> Given<StepKind> {
        const HTTP: &[StepKind] = &[StepKind::Http];
        const FILTER: &[StepKind] = &[StepKind::Filter];
        let mut given = Vec::new();
        push(&mut given, "url", self.url.as_ref(), HTTP);
        push(&mut given, "field", self.field.as_ref(), HTTP);
        push(&mut given, "into", self.into.as_ref(), HTTP);
        push(&mut given, "require", self.require.as_ref(), HTTP);
        push(&mut given, "timeout", self.timeout.as_ref(), HTTP);
        push(&mut given, "headers", self.headers.as_ref(), HTTP);
        push(&mut given, "keep", self.keep.as_ref(), FILTER);
        push(&mut given, "reason", self.reason.as_ref(), FILTER);
        push(&mut given, "expression", self.expression.as_ref(), &[StepKind::Map]);
        given
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum SinkKind {
    Opensearch,
    Elasticsearch,
    Jsonl,
}

impl fmt::Display for SinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opensearch => "opensearch",
            Self::Elasticsearch => "elasticsearch",
            Self::Jsonl => "jsonl",
        })
    }
}

/// The keys of all kinds, as in [`StepTable`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkTable {
    pub kind: Spanned<SinkKind>,
    pub url: Option<Spanned<String>>,
    pub index: Option<Spanned<String>>,
    pub operation: Option<Spanned<Operation>>,
    pub timeout: Option<Spanned<Span>>,
    pub batch_records: Option<Spanned<usize>>,
    pub batch_bytes: Option<Spanned<usize>>,
    pub requests_in_flight: Option<Spanned<usize>>,
    pub headers: Option<Spanned<BTreeMap<String, String>>>,
    pub path: Option<Spanned<PathBuf>>,
    pub id_field: Option<Spanned<String>>,
}

impl SinkTable {
    /// See [`StepTable::given`].
    pub(super) fn given(&self) -> Given<SinkKind> {
        const BULK: &[SinkKind] = &[SinkKind::Opensearch, SinkKind::Elasticsearch];
        const LINES: &[SinkKind] = &[SinkKind::Jsonl];
        let mut given = Vec::new();
        push(&mut given, "url", self.url.as_ref(), BULK);
        push(&mut given, "index", self.index.as_ref(), BULK);
        push(&mut given, "operation", self.operation.as_ref(), BULK);
        push(&mut given, "timeout", self.timeout.as_ref(), BULK);
        push(&mut given, "batch_records", self.batch_records.as_ref(), BULK);
        push(&mut given, "batch_bytes", self.batch_bytes.as_ref(), BULK);
        push(&mut given, "requests_in_flight", self.requests_in_flight.as_ref(), BULK);
        push(&mut given, "headers", self.headers.as_ref(), BULK);
        push(&mut given, "path", self.path.as_ref(), LINES);
        push(&mut given, "id_field", self.id_field.as_ref(), LINES);
        given
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLettersTable {
    pub topic: Spanned<String>,
    #[serde(default = "consecutive_dead_letters_max")]
    pub consecutive_max: u64,
}

fn consecutive_dead_letters_max() -> u64 {
    1000
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BreakerTable {
    pub window: Spanned<usize>,
    pub calls_min: Spanned<usize>,
    pub failure_percent: Spanned<usize>,
    pub consecutive_max: Spanned<usize>,
    pub open: Span,
    pub open_max: Span,
    pub probes: Spanned<usize>,
    pub unsafe_no_breaker: bool,
}

impl Default for BreakerTable {
    fn default() -> Self {
        let settings = crate::breaker::BreakerSettings::default();
        Self {
            window: unplaced(settings.window),
            calls_min: unplaced(settings.calls_min),
            failure_percent: unplaced(settings.failure_percent),
            consecutive_max: unplaced(settings.consecutive_max),
            open: Span(settings.open),
            open_max: Span(settings.open_max),
            probes: unplaced(settings.probes),
            unsafe_no_breaker: false,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RetryTable {
    pub attempts: Spanned<u32>,
    pub first: Span,
    pub max: Span,
    pub unsafe_skip_failed: bool,
}

impl Default for RetryTable {
    fn default() -> Self {
        let settings = crate::retry::RetrySettings::default();
        Self {
            attempts: unplaced(settings.attempts_max),
            first: Span(settings.first),
            max: Span(settings.max),
            unsafe_skip_failed: false,
        }
    }
}

/// A length of time: a whole number and its unit, as in `"200ms"`, `"2s"`, `"5m"`, `"1h"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_span(&text).map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no length of time: a whole number above 0 with ms, s, m or h, as \
                 in \"2s\""
            ))
        })
    }
}

fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_needs_number_and_unit() {
        assert_eq!(parse_span("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(parse_span("5m"), Some(Duration::from_mins(5)));
        for bad in ["", "5", "s", "0s", "1.5s", "-1s", "5 s", "5d", "99999999999999999999h"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }
}
