use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file as such, whatever its names: what other systems call an inode.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileId(pub u64);

/// One change or sync that a [`SimDisk`](crate::SimDisk) was asked for, in the order of asking.
#[derive(Clone)]
pub enum Step {
    MakeDirectory {
        path: PathBuf,
    },
    Create {
        path: PathBuf,
        file: FileId,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: FileId,
    },
    Remove {
        path: PathBuf,
        file: FileId,
    },
    Write {
        file: FileId,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Preallocate {
        file: FileId,
        length: u64,
    },
    Truncate {
        file: FileId,
        length: u64,
    },
    SyncData {
        file: FileId,
    },
    SyncDirectory {
        path: PathBuf,
    },
    /// A sync that failed and took the unsynced bytes of the file with it (`SIM-4`).
    LoseUnsynced {
        file: FileId,
    },
    /// A sync that failed and took the unsynced names of the directory with it (`SIM-4`).
    LoseNames {
        path: PathBuf,
    },
    /// Decay of the medium: at once in what the process sees and in what the disk has.
    Damage {
        file: FileId,
        offset: u64,
        bytes: Arc<[u8]>,
    },
}

impl Step {
    /// The file whose bytes this step changes.
    pub(crate) fn data_of(&self) -> Option<FileId> {
        match self {
            Self::Write { file, .. }
            | Self::Preallocate { file, .. }
            | Self::Truncate { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// The directory whose names this step changes.
    pub(crate) fn names_of(&self) -> Option<&Path> {
        match self {
            Self::MakeDirectory { path }
            | Self::Create { path, .. }
            | Self::Rename { to: path, .. }
            | Self::Remove { path, .. } => Some(parent(path)),
            _ => None,
        }
    }

    /// Whether this is a sync, by which a crash just before and just after differ most.
    pub fn is_sync(&self) -> bool {
        matches!(
            self,
            Self::SyncData { .. }
                | Self::SyncDirectory { .. }
                | Self::LoseUnsynced { .. }
                | Self::LoseNames { .. }
        )
    }
}

/// The directory a path is in; the root (or the empty path) for a name without one.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDirectory { path } => write!(f, "mkdir {}", path.display()),
            Self::Create { path, file } => write!(f, "create {} as #{}", path.display(), file.0),
            Self::Rename { from, to, .. } => {
                write!(f, "rename {} to {}", from.display(), to.display())
            }
            Self::Remove { path, .. } => write!(f, "remove {}", path.display()),
            Self::Write { file, offset, bytes } => {
                write!(f, "write {} bytes at {offset} of #{}", bytes.len(), file.0)
            }
            Self::Preallocate { file, length } => {
                write!(f, "preallocate #{} to {length}", file.0)
            }
            Self::Truncate { file, length } => write!(f, "truncate #{} to {length}", file.0),
            Self::SyncData { file } => write!(f, "sync #{}", file.0),
            Self::SyncDirectory { path } => write!(f, "sync directory {}", path.display()),
            Self::LoseUnsynced { file } => write!(f, "failed sync of #{}", file.0),
            Self::LoseNames { path } => write!(f, "failed sync of directory {}", path.display()),
            Self::Damage { file, offset, bytes } => {
                write!(f, "damage of {} bytes at {offset} of #{}", bytes.len(), file.0)
            }
        }
    }
}
