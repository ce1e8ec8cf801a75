use std::path::{Path, PathBuf};

/// The places in a log's directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) directory: PathBuf,
    pub(crate) journal: PathBuf,
    pub(crate) cold: PathBuf,
    pub(crate) checkpoint: PathBuf,
    pub(crate) quarantine: PathBuf,
    pub(crate) lock: PathBuf,
}

impl Paths {
    pub(crate) fn of(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            journal: directory.join("journal"),
            cold: directory.join("cold"),
            checkpoint: directory.join("checkpoint"),
            quarantine: directory.join("quarantine"),
            lock: directory.join("lock"),
        }
    }
}
