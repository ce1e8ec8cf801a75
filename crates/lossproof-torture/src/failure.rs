use std::fmt::{self, Display};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Something that a machine may not let us do. Where it has once, it is not missing.
#[derive(Debug)]
pub(crate) struct Ability {
    is_here: AtomicBool,
}

impl Ability {
    pub(crate) const fn new() -> Self {
        Self { is_here: AtomicBool::new(false) }
    }

    pub(crate) fn seen(&self) {
        self.is_here.store(true, Ordering::SeqCst);
    }

    pub(crate) fn failure(&self, what: impl Into<String>) -> Failure {
        let is_here = self.is_here.load(Ordering::SeqCst);
        if is_here { Failure::broken(what) } else { Failure::missing(what) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_once_is_not_missing() {
        let ability = Ability::new();
        assert!(matches!(ability.failure("not allowed"), Failure::Missing(_)));
        ability.seen();
        assert!(matches!(ability.failure("not allowed"), Failure::Broken(_)));
    }
}
