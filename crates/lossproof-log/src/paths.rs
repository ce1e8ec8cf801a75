use std::path::{Path, PathBuf};

use crate::meta;

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

    /// What a first start that was cut short, before there was a meta file, may leave, and what a
    /// file system of its own has from the beginning.
    pub(crate) fn is_of_first_start(&self, path: &Path) -> bool {
        let ours = [&self.journal, &self.cold, &self.checkpoint, &self.quarantine, &self.lock];
        ours.iter().any(|ours| *ours == path)
            || *path == meta::temporary_of(&self.directory)
            || path.ends_with("lost+found")
    }
}
