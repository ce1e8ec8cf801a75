//! The pipeline file: TOML, read in two stages. First its shape (`tables`, where every key is
//! known or an error), then its meaning, which gives the settings that the parts are made from.
//!
//! Every key, its default and the reason for it: `docs/config.md`.

mod place;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use lossproof_client::check_topic_name;
use thiserror::Error;
use toml::Spanned;

use crate::breaker::BreakerSettings;
use crate::flow::{Limits, Mode};
use crate::retry::RetrySettings;
use place::Place;
use tables::{DocumentTable, SinkKind, SinkTable, StepKind, StepTable};

/// Everything a pipeline file says.
#[derive(Clone, Debug)]
pub struct Config {
    pub source: Source,
    /// Where receipts are kept until the cluster has them.
    pub journal_directory: PathBuf,
    pub steps: Vec<Step>,
    pub sink: Sink,
    pub dead_letters: Option<DeadLetters>,
    /// `None`: no breaker at all, which is unsafe.
    pub breaker: Option<BreakerSettings>,
    pub retry: RetrySettings,
    /// Skips a record whose attempts are used up, as if it had been dealt with. Unsafe.
    pub unsafe_skip_failed: bool,
}

#[derive(Clone, Debug)]
pub struct Source {
    pub bootstrap_servers: String,
    pub topic: String,
    pub group: String,
    pub mode: Mode,
    pub limits: Limits,
    /// Records worked on at the same time.
    pub workers: usize,
    pub static_member: Option<String>,
    pub session_timeout: Duration,
    pub commit_interval: Duration,
    /// Finished records after which a commit does not wait for the interval.
    pub commit_records: usize,
    /// How long a partition that is taken away waits for its running records.
    pub revoke_wait: Duration,
    /// How long the end of the process waits for them.
    pub drain_wait: Duration,
    /// Further settings of the client library.
    pub client: BTreeMap<String, String>,
    pub unsafe_commit_before_processing: bool,
}

#[derive(Clone, Debug)]
pub enum Step {
    Http(HttpStep),
    Filter(FilterStep),
    Map(MapStep),
}

impl Step {
    pub fn name(&self) -> &str {
        match self {
            Self::Http(step) => &step.name,
            Self::Filter(step) => &step.name,
            Self::Map(step) => &step.name,
        }
    }
}

#[derive(Clone, Debug)]
pub struct HttpStep {
    pub name: String,
    pub url: String,
    /// The field that is sent, as the only one of an object; `None` sends the whole record.
    pub field: Option<String>,
    /// The field that the answer is put in.
    pub into: String,
    /// Fields that the answer must have.
    pub require: Vec<String>,
    pub timeout: Duration,
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct FilterStep {
    pub name: String,
    /// jq: records for which it gives neither `false` nor `null` go on.
    pub keep: String,
    /// What is reported for the others.
    pub reason: String,
}

#[derive(Clone, Debug)]
pub struct MapStep {
    pub name: String,
    /// jq: gives the object that takes the record's place.
    pub expression: String,
}

#[derive(Clone, Debug)]
pub enum Sink {
    Bulk(BulkSettings),
    Lines(LinesSettings),
}

/// How a document is put into the index.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Overwrites what is there under the same identity.
    #[default]
    Index,
    /// For data streams: what is there already is compared, not overwritten.
    Create,
}

#[derive(Clone, Debug)]
pub struct BulkSettings {
    pub url: String,
    pub index: String,
    pub operation: Operation,
    pub timeout: Duration,
    pub batch_records: usize,
    pub batch_bytes: usize,
    pub requests_in_flight: usize,
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct LinesSettings {
    pub path: PathBuf,
    /// The field of each line that holds the record's identity.
    pub id_field: String,
}

#[derive(Clone, Debug)]
pub struct DeadLetters {
    pub topic: String,
    /// So many dead letters in a row, with nothing confirmed in between, stop the pipeline: then
    /// it is not the records.
    pub consecutive_max: u64,
}

/// What is wrong with a pipeline file, and where.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {message}{}", after_semicolon(hint.as_deref()))]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

fn after_semicolon(hint: Option<&str>) -> String {
    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// Settings of the client library that are not for the file to choose, and why.
const CLIENT_FORBIDDEN: [(&str, &str); 7] = [
    ("auto.offset.reset", "it would jump over records that are gone without a word"),
    ("bootstrap.servers", "it is `source.bootstrap_servers`"),
    ("enable.auto.commit", "it would commit what has not been processed"),
    ("enable.auto.offset.store", "it would commit what has not been processed"),
    ("group.id", "it is `source.group`"),
    ("group.instance.id", "it is `source.static_member`"),
    ("session.timeout.ms", "it is `source.session_timeout`"),
];

impl Config {
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let place = Place::in_text(text);
        let document: DocumentTable = toml::from_str(text).map_err(|e| place.of_toml(&e))?;
        let reader = Reader { place };
        let steps =
            document.steps.iter().map(|step| reader.step(step)).collect::<Result<_, _>>()?;
        let breaker = reader.breaker(&document.breaker)?;
        Ok(Self {
            source: reader.source(&document)?,
            journal_directory: document.journal.directory.clone(),
            steps,
            sink: reader.sink(&document.sink)?,
            dead_letters: reader.dead_letters(&document)?,
            breaker: (!document.breaker.unsafe_no_breaker).then_some(breaker),
            retry: RetrySettings {
                attempts_max: *reader.positive(&document.retry.attempts, "attempts")?,
                first: document.retry.first.0,
                max: document.retry.max.0.max(document.retry.first.0),
            },
            unsafe_skip_failed: document.retry.unsafe_skip_failed,
        })
    }

    /// What was switched on that can lose records, in the words of the file.
    pub fn unsafe_switches(&self) -> Vec<&'static str> {
        let switches = [
            ("unsafe_commit_before_processing", self.source.unsafe_commit_before_processing),
            ("unsafe_no_breaker", self.breaker.is_none()),
            ("unsafe_skip_failed", self.unsafe_skip_failed),
        ];
        switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
    }
}

struct Reader<'a> {
    place: Place<'a>,
}

impl Reader<'_> {
    fn source(&self, document: &DocumentTable) -> Result<Source, ConfigError> {
        let table = &document.source;
        for (key, value) in &table.client {
            let forbidden = CLIENT_FORBIDDEN.iter().find(|(name, _)| name == key);
            if let Some((name, reason)) = forbidden {
                let message = format!("`{name}` cannot be set here: {reason}");
                return Err(self.place.error(value.span(), message));
            }
        }
        let client = table.client.iter().map(|(k, v)| (k.clone(), v.get_ref().clone())).collect();
        let in_flight_max = *self.positive(&table.max_in_flight, "max_in_flight")?;
        let own = &table.max_in_flight_per_partition;
        Ok(Source {
            bootstrap_servers: table.bootstrap_servers.clone(),
            topic: self.topic_name(&table.topic)?,
            group: self.group_name(&table.group)?,
            mode: table.mode,
            limits: Limits {
                in_flight_max,
                partition_in_flight_max: *self.positive(own, "max_in_flight_per_partition")?,
            },
            workers: *self.positive(&table.workers, "workers")?,
            static_member: table.static_member.clone(),
            session_timeout: table.session_timeout.0,
            commit_interval: table.commit_interval.0,
            commit_records: *self.positive(&table.commit_records, "commit_records")?,
            revoke_wait: table.revoke_wait.0,
            drain_wait: table.drain_wait.0,
            client,
            unsafe_commit_before_processing: table.unsafe_commit_before_processing,
        })
    }

    fn step(&self, spanned: &Spanned<StepTable>) -> Result<Step, ConfigError> {
        let table = spanned.get_ref();
        let kind = table.kind.get_ref();
        let given = table.given();
        if let Some((key, span, _)) = given.iter().find(|(_, _, kinds)| !kinds.contains(kind)) {
            let message = format!("`{key}` does not belong to a step of kind \"{kind}\"");
            return Err(self.place.error(span.clone(), message));
        }
        let name = table.name.clone().unwrap_or_else(|| kind.to_string());
        let missing = |key: &str| self.missing(table.kind.span(), key, &format!("kind \"{kind}\""));
        let step = match kind {
            StepKind::Http => Step::Http(HttpStep {
                name,
                url: self.url(table.url.as_ref().ok_or_else(|| missing("url"))?)?,
                field: table.field.as_ref().map(|field| field.get_ref().clone()),
                into: text(table.into.as_ref()).ok_or_else(|| missing("into"))?,
                require: table.require.as_ref().map(|r| r.get_ref().clone()).unwrap_or_default(),
                timeout: table.timeout.as_ref().map_or(STEP_TIMEOUT, |t| t.get_ref().0),
                headers: table.headers.as_ref().map(|h| h.get_ref().clone()).unwrap_or_default(),
            }),
            StepKind::Filter => {
                let keep = table.keep.as_ref().ok_or_else(|| missing("keep"))?;
                self.expression(keep)?;
                let reason = text(table.reason.as_ref()).ok_or_else(|| missing("reason"))?;
                Step::Filter(FilterStep { name, keep: keep.get_ref().clone(), reason })
            }
            StepKind::Map => {
                let expression = table.expression.as_ref().ok_or_else(|| missing("expression"))?;
                self.expression(expression)?;
                Step::Map(MapStep { name, expression: expression.get_ref().clone() })
            }
        };
        Ok(step)
    }

    fn sink(&self, spanned: &Spanned<SinkTable>) -> Result<Sink, ConfigError> {
        let table = spanned.get_ref();
        let kind = table.kind.get_ref();
        let given = table.given();
        if let Some((key, span, _)) = given.iter().find(|(_, _, kinds)| !kinds.contains(kind)) {
            let message = format!("`{key}` does not belong to a sink of kind \"{kind}\"");
            return Err(self.place.error(span.clone(), message));
        }
        let missing = |key: &str| self.missing(table.kind.span(), key, &format!("kind \"{kind}\""));
        if *kind == SinkKind::Jsonl {
            let path = table.path.as_ref().ok_or_else(|| missing("path"))?.get_ref().clone();
            let id_field = text(table.id_field.as_ref()).unwrap_or_else(|| ID_FIELD.to_owned());
            return Ok(Sink::Lines(LinesSettings { path, id_field }));
        }
        let url = self.url(table.url.as_ref().ok_or_else(|| missing("url"))?)?;
        let index = table.index.as_ref().ok_or_else(|| missing("index"))?;
        self.index_name(index)?;
        let number = |value: &Option<Spanned<usize>>, key: &str, default: usize| match value {
            Some(value) => self.positive(value, key).copied(),
            None => Ok(default),
        };
        Ok(Sink::Bulk(BulkSettings {
            url: url.trim_end_matches('/').to_owned(),
            index: index.get_ref().clone(),
            operation: table.operation.as_ref().map(|o| *o.get_ref()).unwrap_or_default(),
            timeout: table.timeout.as_ref().map_or(BULK_TIMEOUT, |t| t.get_ref().0),
            batch_records: number(&table.batch_records, "batch_records", BATCH_RECORDS)?,
            batch_bytes: number(&table.batch_bytes, "batch_bytes", BATCH_BYTES)?,
            requests_in_flight: number(&table.requests_in_flight, "requests_in_flight", 2)?,
            headers: table.headers.as_ref().map(|h| h.get_ref().clone()).unwrap_or_default(),
        }))
    }

    fn dead_letters(&self, document: &DocumentTable) -> Result<Option<DeadLetters>, ConfigError> {
        let Some(table) = &document.dead_letters else { return Ok(None) };
        if table.topic.get_ref() == document.source.topic.get_ref() {
            let message = "the topic that is read gets no dead letters: each would be read again \
                           and put there again, without end; name another topic";
            return Err(self.place.error(table.topic.span(), message));
        }
        let (topic, consecutive_max) = (self.topic_name(&table.topic)?, table.consecutive_max);
        Ok(Some(DeadLetters { topic, consecutive_max }))
    }

    fn breaker(&self, table: &tables::BreakerTable) -> Result<BreakerSettings, ConfigError> {
        let percent = self.positive(&table.failure_percent, "failure_percent")?;
        if *percent > 100 {
            let span = table.failure_percent.span();
            return Err(self.place.error(span, "`failure_percent` is at most 100"));
        }
        Ok(BreakerSettings {
            window: *self.positive(&table.window, "window")?,
            calls_min: *self.positive(&table.calls_min, "calls_min")?,
            failure_percent: *percent,
            consecutive_max: *self.positive(&table.consecutive_max, "consecutive_max")?,
            open: table.open.0,
            open_max: table.open_max.0.max(table.open.0),
            probes: *self.positive(&table.probes, "probes")?,
        })
    }

    fn topic_name(&self, name: &Spanned<String>) -> Result<String, ConfigError> {
        let checked = check_topic_name(name.get_ref());
        checked.map_err(|wanted| self.place.error(name.span(), wanted.to_owned()))?;
        Ok(name.get_ref().clone())
    }

    fn group_name(&self, name: &Spanned<String>) -> Result<String, ConfigError> {
        if name.get_ref().is_empty() {
            return Err(self.place.error(name.span(), "`group` needs a name"));
        }
        Ok(name.get_ref().clone())
    }

    fn positive<'t, T: PartialEq + Default>(
        &self,
        value: &'t Spanned<T>,
        key: &str,
    ) -> Result<&'t T, ConfigError> {
        if *value.get_ref() == T::default() {
            return Err(self.place.error(value.span(), format!("`{key}` must be at least 1")));
        }
        Ok(value.get_ref())
    }

    fn url(&self, url: &Spanned<String>) -> Result<String, ConfigError> {
        let parsed = reqwest::Url::parse(url.get_ref()).map_err(|error| {
            self.place.error(url.span(), format!("`{}` is no URL: {error}", url.get_ref()))
        })?;
        if parsed.scheme() != "http" {
            let message = format!("`{}`: only http:// is supported yet, no TLS", url.get_ref());
            return Err(self.place.error(url.span(), message));
        }
        Ok(url.get_ref().clone())
    }

    fn expression(&self, code: &Spanned<String>) -> Result<(), ConfigError> {
        crate::expression::Expression::compile(code.get_ref())
            .map(drop)
            .map_err(|error| self.place.error(code.span(), error.to_string()))
    }

    /// A bad name would be refused for each document, and the dead letters would get them all.
    fn index_name(&self, index: &Spanned<String>) -> Result<(), ConfigError> {
        let name = index.get_ref();
        let bad_character = name.chars().find(|character| {
            character.is_uppercase()
                || character.is_whitespace()
                || "\\/*?\"<>|,#:".contains(*character)
        });
        let bad = name.is_empty()
            || name.len() > INDEX_NAME_BYTES_MAX
            || name.starts_with(['-', '_', '+', '.'])
            || bad_character.is_some();
        if bad {
            let message = format!(
                "`{name}` is no index name: lower case, up to 255 bytes, no blanks \
                 or \\/*?\"<>|,#: and none of -_+. in front"
            );
            return Err(self.place.error(index.span(), message));
        }
        Ok(())
    }

    fn missing(&self, span: std::ops::Range<usize>, key: &str, of: &str) -> ConfigError {
        self.place.error(span, format!("`{key}` is missing, which {of} needs"))
    }
}

fn text(value: Option<&Spanned<String>>) -> Option<String> {
    value.map(|value| value.get_ref().clone())
}

const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the minute for which the servers themselves wait for a shard.
const BULK_TIMEOUT: Duration = Duration::from_secs(90);
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 5 << 20;
const INDEX_NAME_BYTES_MAX: usize = 255;
const ID_FIELD: &str = "_id";
