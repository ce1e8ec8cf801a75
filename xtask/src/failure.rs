use std::fmt::{self, Display};
use std::io;

/// Why a task could not be done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The machine lacks something that the project does not bring along: a tool, a network.
    /// Without `CI` this skips a part of the tests, with it it fails them.
    Missing(String),
    /// What was tried went wrong.
    Broken(String),
}

impl Failure {
    pub(crate) fn missing(what: impl Into<String>) -> Self {
        Failure::Missing(what.into())
    }

    pub(crate) fn broken(what: impl Into<String>) -> Self {
        Failure::Broken(what.into())
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Missing(what) | Failure::Broken(what) => formatter.write_str(what),
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

impl<T> Context<T> for serde_json::Result<T> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::broken(format!("{what}: {error}")))
    }
}
