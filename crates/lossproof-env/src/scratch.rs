//! A disk to try something out on: what is done to it stays in memory, and what it shows is
//! another disk with that on top.
//!
//! # Invariants
//!
//! - `SCRATCH-1`: nothing that is done here changes the disk below in any way.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::overlay::Overlay;
use crate::{Disk, DiskFile, DiskLock, DiskSpace};

/// Shows another disk, and keeps every change to itself.
///
/// It holds what is written in memory without a bound. It says nothing of where its files are
/// ([`Disk::stamp`], [`Disk::machine_id`]): a copy of a directory is as good as the original.
#[derive(Clone, Debug)]
pub struct ScratchDisk {
    below: Arc<dyn Disk>,
    /// Of files in here only the length is kept.
    discarded: Option<PathBuf>,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    /// Files that were used so far; `None` for a name that is gone. Names not in here are as they
    /// are below.
    known: BTreeMap<PathBuf, Option<Arc<Node>>>,
    directories: BTreeSet<PathBuf>,
}

/// One file, whatever its names and however often it is open.
#[derive(Debug)]
struct Node {
    /// `None` for one that was made here.
    below: Option<Arc<dyn DiskFile>>,
    is_discarded: bool,
    overlay: Mutex<Overlay>,
}

impl Node {
    fn lock(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self) -> impl Fn(&mut [u8], u64) -> io::Result<()> {
        |buffer, offset| match &self.below {
            Some(file) => file.read_exact_at(buffer, offset),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl ScratchDisk {
    pub fn new(below: Arc<dyn Disk>) -> Self {
        Self { below, discarded: None, names: Arc::default() }
    }

    /// Of what is written to files in `directory` not even memory keeps more than the length.
    #[must_use]
    pub fn discarding(self, directory: &Path) -> Self {
        Self { discarded: Some(directory.to_owned()), ..self }
    }

    fn lock_names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self, names: &mut Names, path: &Path) -> io::Result<Arc<Node>> {
        match names.known.get(path) {
            Some(Some(node)) => Ok(Arc::clone(node)),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => {
                let file = self.below.open_read_only(path)?;
                let overlay = Mutex::new(Overlay::new(file.len()?));
                let node = Arc::new(Node { below: Some(file), is_discarded: false, overlay });
                names.known.insert(path.to_owned(), Some(Arc::clone(&node)));
                Ok(node)
            }
        }
    }

    fn is_there(&self, names: &Names, path: &Path) -> io::Result<bool> {
        match names.known.get(path) {
            Some(known) => Ok(known.is_some()),
            None => Ok(names.directories.contains(path) || self.below.exists(path)?),
        }
    }
}

impl Disk for ScratchDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.lock_names().directories.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.lock_names();
        if self.is_there(&names, path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let is_discarded = self.discarded.as_deref().is_some_and(|it| path.starts_with(it));
        let overlay = Mutex::new(Overlay::new(0));
        let node = Arc::new(Node { below: None, is_discarded, overlay });
        names.known.insert(path.to_owned(), Some(Arc::clone(&node)));
        Ok(Arc::new(ScratchFile { node, writable: true }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = self.node(&mut self.lock_names(), path)?;
        Ok(Arc::new(ScratchFile { node, writable: true }))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = self.node(&mut self.lock_names(), path)?;
        Ok(Arc::new(ScratchFile { node, writable: false }))
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.lock_names();
        let node = self.node(&mut names, from)?;
        names.known.insert(from.to_owned(), None);
        names.known.insert(to.to_owned(), Some(node));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.lock_names();
        if !self.is_there(&names, path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        names.known.insert(path.to_owned(), None);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.lock_names();
        let mut entries: BTreeSet<PathBuf> = match self.below.list(path) {
            Ok(entries) => entries.into_iter().collect(),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && names.directories.contains(path) =>
            {
                BTreeSet::new()
            }
            Err(error) => return Err(error),
        };
        for (name, node) in names.known.iter().filter(|(name, _)| name.parent() == Some(path)) {
            if node.is_some() {
                entries.insert(name.clone());
            } else {
                entries.remove(name);
            }
        }
        Ok(entries.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.is_there(&self.lock_names(), path)
    }

    /// Keeps nobody out: nobody else sees this disk.
    fn lock(&self, _path: &Path) -> io::Result<Box<dyn DiskLock>> {
        Ok(Box::new(ScratchLock))
    }

    fn lock_shared(&self, _path: &Path) -> io::Result<Box<dyn DiskLock>> {
        Ok(Box::new(ScratchLock))
    }

    fn space(&self, path: &Path) -> io::Result<Option<DiskSpace>> {
        self.below.space(path)
    }
}

#[derive(Debug)]
struct ScratchLock;

impl DiskLock for ScratchLock {}

#[derive(Debug)]
struct ScratchFile {
    node: Arc<Node>,
    writable: bool,
}

impl ScratchFile {
    fn for_writing(&self) -> io::Result<MutexGuard<'_, Overlay>> {
        if self.writable {
            Ok(self.node.lock())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for ScratchFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.node.lock().len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.node.lock().read(&self.node.below(), buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut overlay = self.for_writing()?;
        if self.node.is_discarded {
            overlay.grow(offset + bytes.len() as u64);
            return Ok(());
        }
        let below = self.node.below();
        // What cannot be read and is written over in part has to be something.
        let or_zeros = |buffer: &mut [u8], offset| {
            below(buffer, offset).or_else(|_| {
                buffer.fill(0);
                Ok(())
            })
        };
        overlay.write(&or_zeros, bytes, offset)
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        self.for_writing()?.grow(length);
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.for_writing()?.truncate(length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
