use std::fmt::{self, Display};
use std::io;

use rdkafka::error::KafkaError;

/// Why a round came to no good end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The machine lacks what the fault needs: without `CI` the fault is skipped, with it it fails.
    Missing(String),
    /// Something is lost, altered or otherwise as it must not be; or the round could not be run.
    Broken(String),
}

impl Failure {
    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Self::Missing(what.into())
    }

    pub(crate) fn broken(what: impl Into<String>) -> Self {
        Self::Broken(what.into())
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) | Self::Broken(what) => formatter.write_str(what),
        }
    }
}

/// Says what was being done when an error came up.
pub(crate) trait Context<T> {
    fn context(self, what: impl Display) -> Result<T, Failure>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::broken(format!("{what}: {error}")))
    }
}

impl<T> Context<T> for Result<T, KafkaError> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::broken(format!("{what}: {error}")))
    }
}

impl<T> Context<T> for serde_json::Result<T> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::broken(format!("{what}: {error}")))
    }
}
