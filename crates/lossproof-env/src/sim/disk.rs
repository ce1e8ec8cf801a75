use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::{CallKind, Capacity, Counters, Fault, unreadable};
use super::recording::Recording;
use super::step::{FileId, Step, parent};
use super::tree::Tree;
use crate::{Disk, DiskFile, DiskLock, FileStamp};

/// Called before each step with the number of steps done before it. It may wait, but must not
/// call the disk.
pub type StepObserver = Arc<dyn Fn(usize, &Step) + Send + Sync>;

/// A disk in memory that tells what was written from what was synced, keeps a log of every step,
/// and gives errors on demand. Its [`Recording`] builds the images that a power cut could leave.
///
/// Clones are the same disk. Renames across directories are refused: nobody needs them, and what
/// a power cut makes of them differs from one file system to the next.
///
/// ```
/// use std::path::Path;
/// use lossproof_env::{Disk, SimDisk};
///
/// let disk = SimDisk::new();
/// let (directory, path) = (Path::new("/data"), Path::new("/data/a"));
/// disk.create_dir_all(directory).unwrap();
/// disk.sync_dir(Path::new("/")).unwrap();
/// let file = disk.create(path).unwrap();
/// file.write_all_at(b"kept", 0).unwrap();
/// file.sync_data().unwrap();
/// disk.sync_dir(directory).unwrap();
/// file.write_all_at(b"lost", 4).unwrap();
/// assert_eq!(disk.bytes(path).unwrap(), b"keptlost");
/// assert_eq!(disk.power_cut().bytes(path).unwrap(), b"kept");
/// ```
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    life: u64,
}

struct Shared {
    /// Held around observer and step, so that the observer's position is exact.
    turn: Mutex<Option<StepObserver>>,
    state: Mutex<State>,
}

struct State {
    base: Tree,
    visible: Tree,
    steps: Vec<Step>,
    next_file: u64,
    locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life belong to a process that was killed.
    life: u64,
    fault: Option<Fault>,
    struck: bool,
    counters: Counters,
    capacity: Option<Capacity>,
    /// Pieces of files that cannot be read.
    unreadable: Vec<(FileId, Range<u64>)>,
    read_bytes: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, Option<StepObserver>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call that changes nothing.
    fn read(&self, life: u64) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.enter(life, CallKind::Read).map(|()| state)
    }

    /// Makes one change or sync. `step` looks at the state and says what is to be done, or `None`
    /// where there is nothing to do.
    fn step(
        &self,
        life: u64,
        kind: CallKind,
        step: impl FnOnce(&mut State) -> io::Result<Option<Step>>,
    ) -> io::Result<()> {
        let turn = self.turn();
        let mut state = self.lock();
        let entered = state.enter(life, kind);
        let planned = match (entered, state.fault) {
            (Ok(()), _) => step(&mut state).map(|step| (step, Ok(()))),
            (Err(error), Some(fault)) if state.life == life => {
                let remains = step(&mut state)?.and_then(|step| what_a_fault_leaves(step, fault));
                Ok((remains, Err(error)))
            }
            (Err(error), _) => Err(error),
        };
        let (step, outcome) = planned?;
        let Some(step) = step else { return outcome };
        let position = state.steps.len();
        drop(state);
        if let Some(observer) = turn.as_ref() {
            observer(position, &step);
        }
        let mut state = self.lock();
        state.visible.apply(&step);
        state.steps.push(step);
        outcome
    }
}

/// What has happened on the disk although the call failed.
fn what_a_fault_leaves(step: Step, fault: Fault) -> Option<Step> {
    match step {
        Step::Write { file, offset, bytes } if fault.torn => {
            let bytes = bytes[..bytes.len() / 2].into();
            Some(Step::Write { file, offset, bytes })
        }
        Step::SyncData { file } if !fault.still_dirty => Some(Step::LoseUnsynced { file }),
        Step::SyncDirectory { path } if fault.names_lost => Some(Step::LoseNames { path }),
        _ => None,
    }
}

impl State {
    fn new(tree: Tree) -> Self {
        let next_file = tree.files.keys().next_back().map_or(1, |last| last.0 + 1);
        Self {
            base: tree.clone(),
            visible: tree,
            steps: Vec::new(),
            next_file,
            locks: BTreeSet::new(),
            life: 0,
            fault: None,
            struck: false,
            counters: Counters::default(),
            capacity: None,
            unreadable: Vec::new(),
            read_bytes: 0,
        }
    }

    fn enter(&mut self, life: u64, kind: CallKind) -> io::Result<()> {
        if self.life != life {
            return Err(io::Error::other("the simulated process was killed"));
        }
        if self.counters.count(kind, self.fault.as_ref()) {
            self.struck = true;
            return Err(self.fault.map_or_else(unreadable, |fault| fault.error()));
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<FileId> {
        self.visible.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn length(&self, file: FileId) -> u64 {
        self.visible.files.get(&file).map_or(0, super::content::Content::len)
    }

    /// Refuses to let `file` grow to `length` where the disk has no room for it.
    fn reserve(&self, file: FileId, length: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let growth = length.saturating_sub(self.length(file));
        if growth > 0 && self.used_bytes() + growth > capacity.bytes {
            return Err(capacity.error());
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        self.visible.names.values().map(|file| self.length(*file)).sum()
    }

    fn require_directory(&self, path: &Path) -> io::Result<()> {
        if self.visible.has_directory(path) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// Control, for tests.
impl SimDisk {
    /// An empty disk with a root directory.
    pub fn new() -> Self {
        Self::from_tree(Tree::default())
    }

    pub(crate) fn from_tree(tree: Tree) -> Self {
        let shared = Shared { turn: Mutex::new(None), state: Mutex::new(State::new(tree)) };
        Self { shared: Arc::new(shared), life: 0 }
    }

    /// All steps so far, from which images can be built.
    pub fn recording(&self) -> Recording {
        let state = self.shared.lock();
        Recording::new(state.base.clone(), state.steps.clone())
    }

    /// Steps done so far: the position of a crash that happens now.
    pub fn position(&self) -> usize {
        self.shared.lock().steps.len()
    }

    /// A disk as after a power cut at this moment that left nothing unsynced. This one goes on.
    #[must_use]
    pub fn power_cut(&self) -> Self {
        self.recording().synced(usize::MAX)
    }

    /// The same disk after its process was killed and while the operating system went on: nothing
    /// is lost, locks are free, and handles from before give errors.
    #[must_use]
    pub fn killed(&self) -> Self {
        let mut state = self.shared.lock();
        state.life += 1;
        state.locks.clear();
        Self { shared: Arc::clone(&self.shared), life: state.life }
    }

    /// A byte for byte copy, as `cp -r` or a restored backup makes it: same names and bytes, other
    /// files.
    #[must_use]
    pub fn copied(&self) -> Self {
        let mut tree = self.shared.lock().visible.clone();
        tree.drop_unreachable();
        let first = tree.files.keys().next_back().map_or(1, |last| last.0 + 1);
        let renumber = |file: FileId| FileId(file.0 + first);
        tree.names.values_mut().for_each(|file| *file = renumber(*file));
        tree.files = tree.files.into_iter().map(|(id, file)| (renumber(id), file)).collect();
        Self::from_tree(tree)
    }

    /// Replaces the fault to come; counting starts anew.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.shared.lock();
        (state.fault, state.struck, state.counters) = (Some(fault), false, Counters::default());
    }

    /// Takes the fault away, and any bound of the capacity; everything can be read again.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        (state.fault, state.capacity) = (None, None);
        state.unreadable.clear();
    }

    /// Whether the injected fault has struck. A loop over all N ends where it has not.
    pub fn was_struck(&self) -> bool {
        self.shared.lock().struck
    }

    /// Files may hold this many bytes together, from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.lock().capacity = Some(Capacity::of_disk(bytes));
    }

    /// The same where the bound is one user's quota.
    pub fn set_quota(&self, bytes: u64) {
        self.shared.lock().capacity = Some(Capacity::of_quota(bytes));
    }

    /// Every read that touches `range` of a file fails with EIO, as of a bad sector.
    pub fn make_unreadable(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let mut state = self.shared.lock();
        let file = state.find(path)?;
        state.unreadable.push((file, range));
        Ok(())
    }

    /// Bytes that all files hold together.
    pub fn used_bytes(&self) -> u64 {
        self.shared.lock().used_bytes()
    }

    /// Bytes that were asked for of all files so far.
    pub fn read_bytes(&self) -> u64 {
        self.shared.lock().read_bytes
    }

    /// Replaces the observer of steps.
    pub fn observe(&self, observer: Option<StepObserver>) {
        *self.shared.turn() = observer;
    }

    /// Changes bytes of a file behind everybody's back, as a decaying medium does.
    pub fn damage(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.shared.lock();
        let file = state.find(path)?;
        let step = Step::Damage { file, offset, bytes: bytes.into() };
        state.visible.apply(&step);
        state.steps.push(step);
        Ok(())
    }

    /// All bytes of a file as the process sees them.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.shared.lock();
        let file = state.find(path)?;
        let mut bytes = vec![0; state.length(file) as usize];
        if let Some(content) = state.visible.files.get(&file) {
            content.read(&mut bytes, 0);
        }
        Ok(bytes)
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.shared.lock().visible.names.keys().cloned().collect()
    }

    fn handle(&self, file: FileId, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { shared: Arc::clone(&self.shared), life: self.life, file, writable })
    }

    fn step(
        &self,
        kind: CallKind,
        step: impl FnOnce(&mut State) -> io::Result<Option<Step>>,
    ) -> io::Result<()> {
        self.shared.step(self.life, kind, step)
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("SimDisk")
            .field("files", &state.visible.names.len())
            .field("steps", &state.steps.len())
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = path.ancestors().collect();
        missing.reverse();
        for directory in missing {
            self.step(CallKind::Change, |state| {
                if state.visible.names.contains_key(directory) {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                let there = state.visible.has_directory(directory);
                Ok((!there).then(|| Step::MakeDirectory { path: directory.to_path_buf() }))
            })?;
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut created = FileId(0);
        self.step(CallKind::Create, |state| {
            state.require_directory(parent(path))?;
            if state.visible.names.contains_key(path) || state.visible.has_directory(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            created = FileId(state.next_file);
            state.next_file += 1;
            Ok(Some(Step::Create { path: path.to_path_buf(), file: created }))
        })?;
        Ok(self.handle(created, true))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.shared.read(self.life)?.find(path)?;
        Ok(self.handle(file, true))
    }

    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.shared.read(self.life)?.find(path)?;
        Ok(self.handle(file, false))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(CallKind::Sync, |state| {
            state.require_directory(path)?;
            Ok(Some(Step::SyncDirectory { path: path.to_path_buf() }))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(CallKind::Change, |state| {
            let file = state.find(from)?;
            state.require_directory(parent(to))?;
            if parent(from) != parent(to) {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            let step = Step::Rename { from: from.to_path_buf(), to: to.to_path_buf(), file };
            Ok((from != to).then_some(step))
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(CallKind::Change, |state| {
            let file = state.find(path)?;
            Ok(Some(Step::Remove { path: path.to_path_buf(), file }))
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.shared.read(self.life)?;
        state.require_directory(path)?;
        let inside = |entry: &&PathBuf| parent(entry) == path && entry.as_path() != path;
        let names = state.visible.names.keys().filter(inside);
        let directories = state.visible.directories.iter().filter(inside);
        let mut entries: Vec<PathBuf> = names.chain(directories).cloned().collect();
        entries.sort();
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.shared.read(self.life)?;
        Ok(state.visible.names.contains_key(path) || state.visible.has_directory(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        if !self.exists(path)? {
            self.create(path)?;
        }
        let mut state = self.shared.read(self.life)?;
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(SimLock { shared, life: self.life, path: path.to_path_buf() }))
    }

    /// Only one may hold it here, which is enough to find out whether anybody does.
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.shared.read(self.life)?.find(path)?;
        self.lock(path)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        let file = self.shared.read(self.life)?.find(path)?;
        Ok(Some(FileStamp { inode: file.0, birth_ns: 0 }))
    }

    fn machine_id(&self) -> io::Result<Option<String>> {
        Ok(Some("simulated".to_owned()))
    }
}

/// An open file of a [`SimDisk`]; it stays usable when its name is gone.
struct SimFile {
    shared: Arc<Shared>,
    life: u64,
    file: FileId,
    writable: bool,
}

impl SimFile {
    fn change(&self, step: impl FnOnce(&mut State) -> io::Result<Option<Step>>) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.shared.step(self.life, CallKind::Change, step)
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.shared.read(self.life)?.length(self.file))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.shared.read(self.life)?;
        state.read_bytes += buffer.len() as u64;
        let end = offset + buffer.len() as u64;
        let touches = |(file, range): &(FileId, Range<u64>)| {
            *file == self.file && range.start < end && offset < range.end
        };
        if state.unreadable.iter().any(touches) {
            return Err(unreadable());
        }
        let content = state.visible.files.get(&self.file);
        Ok(content.map_or(0, |content| content.read(buffer, offset)))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.file;
        self.change(|state| {
            state.reserve(file, offset + bytes.len() as u64)?;
            Ok(Some(Step::Write { file, offset, bytes: bytes.into() }))
        })
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        let file = self.file;
        self.change(|state| {
            state.reserve(file, length)?;
            Ok((length > state.length(file)).then_some(Step::Preallocate { file, length }))
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let file = self.file;
        self.change(|state| {
            Ok((length < state.length(file)).then_some(Step::Truncate { file, length }))
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.file;
        self.shared.step(self.life, CallKind::Sync, |_| Ok(Some(Step::SyncData { file })))
    }
}

struct SimLock {
    shared: Arc<Shared>,
    life: u64,
    path: PathBuf,
}

impl DiskLock for SimLock {}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLock").field("path", &self.path).finish_non_exhaustive()
    }
}

/// As the kernel does when the last descriptor closes.
impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}
