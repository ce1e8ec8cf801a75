use std::io;

const EIO: i32 = 5;
const EACCES: i32 = 13;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// What to count to the moment of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counted {
    Calls,
    Changes,
    Creates,
    Syncs,
}

/// An error that a [`SimDisk`](crate::SimDisk) is to give, once or from then on.
///
/// Counting begins with 0 when the fault is injected. A failed write has written nothing, unless
/// [`Fault::torn`]. A failed sync of a file behaves as on Linux with ext4: the unsynced bytes stay
/// visible, are gone from the disk, and the next sync says yes (`SIM-4`), unless
/// [`Fault::still_dirty`]. A failed sync of a directory leaves its names to the next one, unless
/// [`Fault::names_lost`].
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    counted: Counted,
    at: u64,
    errno: i32,
    sticky: bool,
    pub(crate) torn: bool,
    pub(crate) still_dirty: bool,
    pub(crate) names_lost: bool,
}

impl Fault {
    /// The call number `at` of any kind fails with EIO.
    pub fn call(at: u64) -> Self {
        Self::new(Counted::Calls, at)
    }

    /// The change number `at` fails with EIO: create, rename, remove, write, preallocate, truncate.
    pub fn change(at: u64) -> Self {
        Self::new(Counted::Changes, at)
    }

    /// The creation of a file number `at` fails with EIO.
    pub fn create(at: u64) -> Self {
        Self::new(Counted::Creates, at)
    }

    /// The sync number `at` fails with EIO, of a file or a directory.
    pub fn sync(at: u64) -> Self {
        Self::new(Counted::Syncs, at)
    }

    fn new(counted: Counted, at: u64) -> Self {
        let (sticky, torn, still_dirty, names_lost) = (false, false, false, false);
        Self { counted, at, errno: EIO, sticky, torn, still_dirty, names_lost }
    }

    /// Every later one that is counted fails as well, until the fault is taken away.
    #[must_use]
    pub fn sticky(self) -> Self {
        Self { sticky: true, ..self }
    }

    /// With ENOSPC instead of EIO.
    #[must_use]
    pub fn no_space(self) -> Self {
        Self { errno: ENOSPC, ..self }
    }

    /// With EMFILE: the process has as many files open as it may.
    #[must_use]
    pub fn no_files(self) -> Self {
        Self { errno: EMFILE, ..self }
    }

    /// With EACCES: somebody else's.
    #[must_use]
    pub fn forbidden(self) -> Self {
        Self { errno: EACCES, ..self }
    }

    /// A failing write has written its first half.
    #[must_use]
    pub fn torn(self) -> Self {
        Self { torn: true, ..self }
    }

    /// A failing sync leaves the bytes to be synced by the next one, as a few file systems do.
    #[must_use]
    pub fn still_dirty(self) -> Self {
        Self { still_dirty: true, ..self }
    }

    /// A failing sync of a directory takes the unsynced names with it, as one of a file does with
    /// its bytes: no later one brings them. A file system with a journal would take no more writes;
    /// nobody may go by that.
    #[must_use]
    pub fn names_lost(self) -> Self {
        Self { names_lost: true, ..self }
    }

    pub(crate) fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// A bound on what all files may hold together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) bytes: u64,
    errno: i32,
}

impl Capacity {
    pub(crate) fn of_disk(bytes: u64) -> Self {
        Self { bytes, errno: ENOSPC }
    }

    pub(crate) fn of_quota(bytes: u64) -> Self {
        Self { bytes, errno: EDQUOT }
    }

    pub(crate) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// The error of a medium that does not give back what it was given.
pub(crate) fn unreadable() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

/// Calls since the fault was injected, by what they were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: u64,
    pub(crate) changes: u64,
    pub(crate) creates: u64,
    pub(crate) syncs: u64,
}

/// What kind of call is being made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CallKind {
    Read,
    /// A change as well.
    Create,
    Change,
    Sync,
}

impl Counters {
    /// Counts one call and says whether `fault` strikes it.
    pub(crate) fn count(&mut self, kind: CallKind, fault: Option<&Fault>) -> bool {
        let is_change = matches!(kind, CallKind::Change | CallKind::Create);
        let struck = fault.is_some_and(|fault| {
            let counted = match fault.counted {
                Counted::Calls => Some(self.calls),
                Counted::Changes => is_change.then_some(self.changes),
                Counted::Creates => (kind == CallKind::Create).then_some(self.creates),
                Counted::Syncs => (kind == CallKind::Sync).then_some(self.syncs),
            };
            counted.is_some_and(|now| now == fault.at || fault.sticky && now > fault.at)
        });
        self.calls += 1;
        self.changes += u64::from(is_change);
        self.creates += u64::from(kind == CallKind::Create);
        self.syncs += u64::from(kind == CallKind::Sync);
        struck
    }
}
