use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory tree of files, as a storage engine needs it.
///
/// What survives a power cut is stated for each call; an implementation that keeps more is
/// allowed, one that keeps less is not.
pub trait Disk: Debug + Send + Sync {
    /// Makes `path` and its missing parents. Durable only after [`Disk::sync_dir`] of each parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Creates an empty file for reading and writing; fails if it exists. Its name is durable only
    /// after [`DiskFile::sync_data`] and then [`Disk::sync_dir`] of its directory.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading only.
    fn open_read_only(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes creations, renames and removals in `path` durable. The empty path, which is what
    /// [`Path::parent`] gives for a plain name, is the working directory.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Replaces `to` by `from` atomically. Durable only after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable only after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The full paths of the entries of a directory, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Takes an exclusive lock between processes on the file at `path`, which is created if
    /// missing; on a real disk on its directory too, since a file can be removed and made again.
    /// `WouldBlock` when somebody else holds it. The lock ends with the returned value or with the
    /// process.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// Takes a lock on an existing file that others may share, and changes nothing. `WouldBlock`
    /// when somebody has it for himself ([`Disk::lock`]).
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// What tells this very file from a copy or a restored one; `None` where the disk cannot say.
    fn stamp(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        let _ = path;
        Ok(None)
    }

    /// Size of the file system that `path` is on; `None` where the disk has no bounds of its own.
    fn space(&self, path: &Path) -> io::Result<Option<DiskSpace>> {
        let _ = path;
        Ok(None)
    }

    /// What tells this machine from others (`/etc/machine-id`); `None` where unknown, as in a
    /// container.
    fn machine_id(&self) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// A file system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiskSpace {
    pub total_bytes: u64,
    /// What this process may still write.
    pub usable_bytes: u64,
}

/// Number and birth of a file: a copied or restored file has others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileStamp {
    pub inode: u64,
    /// Nanoseconds since the Unix epoch; 0 where the file system does not keep it.
    pub birth_ns: u64,
}

/// An open file; every call takes its position, so that one value serves many threads.
pub trait DiskFile: Debug + Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file where needed. Not durable before
    /// [`DiskFile::sync_data`]; torn in any way by a power cut until then.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Writes zeros from the present end up to `length`, so that later writes there change
    /// neither size nor block map. Does nothing where the file is that long already.
    fn preallocate(&self, length: u64) -> io::Result<()>;

    /// Shortens the file to `length`.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// fdatasync: everything written before the call is durable once it returned `Ok`. After an
    /// error nothing is known of any write since the last success, and a later `Ok` proves
    /// nothing of them (Rebello et al., "Can Applications Recover from fsync Failures?").
    fn sync_data(&self) -> io::Result<()>;

    /// The `length` bytes at `offset`; `UnexpectedEof` where the file ends before.
    fn read_vec_at(&self, length: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Fills `buffer` from `offset`; `UnexpectedEof` where the file ends before.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let rest = buffer;
                    buffer = &mut rest[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Held for as long as the lock is to be kept.
pub trait DiskLock: Debug + Send + Sync {}
