use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::content::Content;
use super::step::{FileId, Step, parent};

/// Directories, names and bytes at one moment.
#[derive(Clone, Default)]
pub(crate) struct Tree {
    pub(crate) directories: BTreeSet<PathBuf>,
    pub(crate) names: BTreeMap<PathBuf, FileId>,
    pub(crate) files: BTreeMap<FileId, Content>,
}

impl Tree {
    /// The root and the empty path are there without being made.
    pub(crate) fn has_directory(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path.parent().is_none() || self.directories.contains(path)
    }

    pub(crate) fn content_mut(&mut self, file: FileId) -> &mut Content {
        self.files.entry(file).or_default()
    }

    /// Does one step in full. Steps that need another one which did not happen do what a file
    /// system without ordering could: a rename links the file under its new name even where the
    /// old name never arrived.
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::MakeDirectory { path } => {
                self.directories.insert(path.clone());
            }
            Step::Create { path, file } => {
                self.names.insert(path.clone(), *file);
                self.content_mut(*file);
            }
            Step::Rename { from, to, file } => {
                if self.names.get(from) == Some(file) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *file);
                self.content_mut(*file);
            }
            Step::Remove { path, file } => {
                if self.names.get(path) == Some(file) {
                    self.names.remove(path);
                }
            }
            Step::Write { file, offset, bytes } | Step::Damage { file, offset, bytes } => {
                self.content_mut(*file).write(bytes, *offset);
            }
            Step::Preallocate { file, length } => self.content_mut(*file).grow(*length),
            Step::Truncate { file, length } => self.content_mut(*file).truncate(*length),
            Step::SyncData { .. }
            | Step::SyncDirectory { .. }
            | Step::LoseUnsynced { .. }
            | Step::LoseNames { .. } => {}
        }
    }

    /// Drops what no name leads to (`SIM-5`).
    pub(crate) fn drop_unreachable(&mut self) {
        // Sorted order has parents before children, so one pass settles nested directories.
        let mut kept = BTreeSet::new();
        for path in std::mem::take(&mut self.directories) {
            let above = parent(&path);
            if kept.contains(above) || self.has_directory(above) {
                kept.insert(path);
            }
        }
        self.directories = kept;
        let mut names = std::mem::take(&mut self.names);
        names.retain(|path, _| self.has_directory(parent(path)));
        self.names = names;
        let linked: BTreeSet<FileId> = self.names.values().copied().collect();
        self.files.retain(|file, _| linked.contains(file));
    }
}

/// What the disk has for certain, and what it may have of the rest.
#[derive(Clone, Default)]
pub(crate) struct Crashable {
    pub(crate) durable: Tree,
    /// Changes no sync has covered yet, in order.
    pub(crate) pending: Vec<Step>,
}

impl Crashable {
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::SyncData { file } => {
                let durable = &mut self.durable;
                for covered in self.pending.extract_if(.., |step| step.data_of() == Some(*file)) {
                    durable.apply(&covered);
                }
            }
            Step::SyncDirectory { path } => {
                let durable = &mut self.durable;
                let covered = |step: &mut Step| step.names_of() == Some(path.as_path());
                for step in self.pending.extract_if(.., covered) {
                    durable.apply(&step);
                }
            }
            Step::LoseUnsynced { file } => {
                self.pending.retain(|step| step.data_of() != Some(*file));
            }
            Step::LoseNames { path } => {
                self.pending.retain(|step| step.names_of() != Some(path.as_path()));
            }
            Step::Damage { .. } => self.durable.apply(step),
            _ => self.pending.push(step.clone()),
        }
    }
}
