use std::path::{Path, PathBuf};

/// `meta.new` becomes the meta file, `ballast` is given up on a full disk.
const OTHER_NAMES: [&str; 4] = ["meta", "meta.new", "ballast", "lost+found"];

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

    /// What a start that was cut short may leave in a directory that is new, and what a file system
    /// of its own has from the beginning.
    pub(crate) fn is_ours(&self, path: &Path) -> bool {
        [&self.journal, &self.cold, &self.checkpoint, &self.quarantine, &self.lock]
            .into_iter()
            .any(|ours| ours == path)
            || OTHER_NAMES.iter().any(|name| path.ends_with(name))
    }
}
