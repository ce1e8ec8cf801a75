//! A disk that forgets: real files, but what is not synced stays in the memory of the process, so
//! that SIGKILL does to them what a power cut does.
//!
//! # Invariants
//!
//! - `FORGET-1`: the process reads what it wrote; the file system has it only after `sync_data`.
//! - `FORGET-2`: names made, changed or removed are in the file system only after `sync_dir`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::overlay::Overlay;
use crate::real::{RealDisk, stamp_of};
use crate::{Disk, DiskFile, DiskLock, DiskSpace, FileStamp};

/// New files wait under a name that begins so until their directory is synced.
const HIDDEN_PREFIX: &str = ".unsynced-";

/// Real files that lose what was not synced when the process is killed.
///
/// It holds unsynced bytes in memory without a bound, and is for demonstrations and tests: a
/// broker on the real disk that acknowledges too early survives SIGKILL, on this one it does not.
/// Directories are made at once, they cannot be forgotten. At most one process may use a
/// directory at a time. Renames across directories are refused.
#[derive(Clone, Debug, Default)]
pub struct ForgetfulDisk {
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    /// Every file that was used so far, by its name as the process sees it; `None` for a name
    /// that is gone, but not yet from the file system. Names not in here are as they are there.
    known: BTreeMap<PathBuf, Option<Arc<Node>>>,
    pending: Vec<Pending>,
    /// Directories where nothing of an earlier process waits any more.
    cleaned: BTreeSet<PathBuf>,
    hidden_count: u64,
}

/// One file, whatever its names and however often it is open.
#[derive(Debug)]
struct Node {
    file: File,
    overlay: Mutex<Overlay>,
}

#[derive(Debug)]
enum Pending {
    Create { path: PathBuf, hidden: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl Pending {
    fn directory(&self) -> &Path {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => parent(path),
            Self::Rename { to, .. } => parent(to),
        }
    }

    fn perform(&self) -> io::Result<()> {
        match self {
            Self::Create { path, hidden } => fs::rename(hidden, path),
            Self::Rename { from, to } => fs::rename(from, to),
            Self::Remove { path } => fs::remove_file(path),
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(HIDDEN_PREFIX.as_bytes()))
}

impl Names {
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.known.get(path) {
            Some(known) => Ok(known.is_some()),
            None => path.try_exists(),
        }
    }

    fn node(&mut self, path: &Path) -> io::Result<Arc<Node>> {
        match self.known.get(path) {
            Some(Some(node)) => Ok(Arc::clone(node)),
            Some(None) => Err(io::ErrorKind::NotFound.into()),
            None => {
                let file = OpenOptions::new().read(true).write(true).open(path)?;
                let node = Arc::new(Node::new(file)?);
                self.known.insert(path.to_path_buf(), Some(Arc::clone(&node)));
                Ok(node)
            }
        }
    }

    /// Makes a file that has no name yet as far as the file system's readers are concerned.
    fn create_hidden(&mut self, directory: &Path) -> io::Result<(File, PathBuf)> {
        if self.cleaned.insert(directory.to_path_buf()) {
            for left in RealDisk.list(directory)?.iter().filter(|path| is_hidden(path)) {
                fs::remove_file(left)?;
            }
        }
        self.hidden_count += 1;
        let name = format!("{HIDDEN_PREFIX}{}-{}", std::process::id(), self.hidden_count);
        let hidden = directory.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&hidden)?;
        Ok((file, hidden))
    }

    /// Brings the names of `directory` to the file system (`FORGET-2`).
    fn sync(&mut self, directory: &Path) -> io::Result<()> {
        let mut index = 0;
        while let Some(pending) = self.pending.get(index) {
            if pending.directory() == directory {
                pending.perform()?;
                self.pending.remove(index);
            } else {
                index += 1;
            }
        }
        self.known.retain(|path, node| node.is_some() || parent(path) != directory);
        Ok(())
    }
}

impl Node {
    fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, overlay: Mutex::new(Overlay::new(length)) })
    }

    fn below(&self) -> impl Fn(&mut [u8], u64) -> io::Result<()> {
        |buffer, offset| self.file.read_exact_at(buffer, offset)
    }

    fn lock(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ForgetfulDisk {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock_names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for ForgetfulDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.lock_names();
        if names.exists(path)? {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (file, hidden) = names.create_hidden(parent(path))?;
        let node = Arc::new(Node::new(file)?);
        names.known.insert(path.to_path_buf(), Some(Arc::clone(&node)));
        names.pending.push(Pending::Create { path: path.to_path_buf(), hidden });
        Ok(Arc::new(ForgetfulFile { node, writable: true }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = self.lock_names().node(path)?;
        Ok(Arc::new(ForgetfulFile { node, writable: true }))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.lock_names().node(path) {
            Ok(node) => Ok(Arc::new(ForgetfulFile { node, writable: false })),
            // Nobody in this process can have written to it either: there is nothing to forget.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                RealDisk.open_read_only(path)
            }
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let directory = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.lock_names().sync(directory)?;
        RealDisk.sync_dir(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if parent(from) != parent(to) {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let mut names = self.lock_names();
        let node = names.node(from)?;
        if from == to {
            return Ok(());
        }
        names.known.insert(from.to_path_buf(), None);
        names.known.insert(to.to_path_buf(), Some(node));
        names.pending.push(Pending::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut names = self.lock_names();
        if !names.exists(path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        names.known.insert(path.to_path_buf(), None);
        names.pending.push(Pending::Remove { path: path.to_path_buf() });
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.lock_names();
        let mut entries: BTreeSet<PathBuf> =
            RealDisk.list(path)?.into_iter().filter(|path| !is_hidden(path)).collect();
        for (name, node) in names.known.iter().filter(|(name, _)| parent(name) == path) {
            if node.is_some() {
                entries.insert(name.clone());
            } else {
                entries.remove(name);
            }
        }
        Ok(entries.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.lock_names().exists(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        RealDisk.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        RealDisk.lock_shared(path)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        let node = self.lock_names().node(path)?;
        Ok(Some(stamp_of(&node.file.metadata()?)))
    }

    fn space(&self, path: &Path) -> io::Result<Option<DiskSpace>> {
        RealDisk.space(path)
    }

    fn machine_id(&self) -> io::Result<Option<String>> {
        RealDisk.machine_id()
    }
}

#[derive(Debug)]
struct ForgetfulFile {
    node: Arc<Node>,
    writable: bool,
}

impl ForgetfulFile {
    fn for_writing(&self) -> io::Result<MutexGuard<'_, Overlay>> {
        if self.writable {
            Ok(self.node.lock())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

impl DiskFile for ForgetfulFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.node.lock().len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.node.lock().read(&self.node.below(), buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.for_writing()?.write(&self.node.below(), bytes, offset)
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
        self.node.lock().sync(&self.node.file)
    }
}
