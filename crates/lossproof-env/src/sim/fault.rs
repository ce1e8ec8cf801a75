use std::io;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What to count to the moment of a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counted {
    Calls,
    Changes,
    Syncs,
}

/// An error that a [`SimDisk`](crate::SimDisk) is to give, once or from then on.
///
/// Counting begins with 0 when the fault is injected. A failed write has written nothing, unless
/// [`Fault::torn`]. A failed sync of a file behaves as on Linux with ext4: the unsynced bytes stay
/// visible, are gone from the disk, and the next sync says yes (`SIM-4`), unless
/// [`Fault::still_dirty`].
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    counted: Counted,
    at: u64,
    errno: i32,
    sticky: bool,
    pub(crate) torn: bool,
    pub(crate) still_dirty: bool,
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

    /// The sync number `at` fails with EIO, of a file or a directory.
    pub fn sync(at: u64) -> Self {
        Self::new(Counted::Syncs, at)
    }

    fn new(counted: Counted, at: u64) -> Self {
        Self { counted, at, errno: EIO, sticky: false, torn: false, still_dirty: false }
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

    pub(crate) fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }
}

/// The error of a full disk.
pub(crate) fn no_space() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}

/// Calls since the fault was injected, by what they were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: u64,
    pub(crate) changes: u64,
    pub(crate) syncs: u64,
}

/// What kind of call is being made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CallKind {
    Read,
    Change,
    Sync,
}

impl Counters {
    /// Counts one call and says whether `fault` strikes it.
    pub(crate) fn count(&mut self, kind: CallKind, fault: Option<&Fault>) -> bool {
        let struck = fault.is_some_and(|fault| {
            let counted = match fault.counted {
                Counted::Calls => Some(self.calls),
                Counted::Changes => (kind == CallKind::Change).then_some(self.changes),
                Counted::Syncs => (kind == CallKind::Sync).then_some(self.syncs),
            };
            counted.is_some_and(|now| now == fault.at || fault.sticky && now > fault.at)
        });
        self.calls += 1;
        self.changes += u64::from(kind == CallKind::Change);
        self.syncs += u64::from(kind == CallKind::Sync);
        struck
    }
}
