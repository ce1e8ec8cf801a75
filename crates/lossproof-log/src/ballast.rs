//! The ballast: a file of zeros that is given up on a full disk for what has to go on there.
//!
//! # Invariants
//! - BALLAST-1: once any of it was given up no records are taken until it is whole again, or has
//!   `ballast_bytes` and the disk no more: the room is for what gives space back, and for small
//!   commits.
//! - BALLAST-2: small commits take a quarter of it at most before it is whole again; the rest is
//!   for starts, moves and removals. A start that finds `ballast_bytes` or more cannot tell what
//!   was given up, and takes it for whole.
//! - BALLAST-3: it holds nothing, so that whatever a crash leaves of it is good; it gets its name
//!   when it is whole, so that a shorter one is known to have been given up.
//! - BALLAST-4: it grows in turns with the zeros for records: who writes as fast as these are made
//!   does not fill the disk before it is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use lossproof_env::Disk;

use crate::config::LogConfig;
use crate::error::FullCause;
use crate::writer::shortage;

const COMMITS_SHARE: u64 = 4;

/// Said once it was given up.
const REFUSED: &str = "records are refused until there is room for the ballast again";

#[derive(Debug)]
pub(crate) struct Ballast {
    directory: PathBuf,
    /// With less of it no records are taken once any was given up.
    bytes: u64,
    /// As much as makes it whole; set by the thread that writes zeros.
    target: AtomicU64,
    /// As much as there is.
    held: AtomicU64,
    /// What small commits have had of it since it was whole (BALLAST-2).
    lent: AtomicU64,
    given_up: AtomicBool,
    /// There was no room for what somebody wanted to write to the journal. Only what got room there
    /// takes it back: a small record may have some where a large one had none.
    full: AtomicBool,
    /// There was none for what is to be moved.
    move_short: AtomicBool,
    /// Whether the disk is full, as far as the log has said.
    said: Mutex<bool>,
    /// Nobody tells any more when there is room for the journal again.
    unwatched: AtomicBool,
    /// Taken by whoever changes the file, and kept while what was given up is put to use.
    using: Mutex<()>,
}

/// What was given up is not taken back while this lives.
pub(crate) type Room<'a> = MutexGuard<'a, ()>;

fn whole_path(directory: &Path) -> PathBuf {
    directory.join("ballast")
}

fn growing_path(directory: &Path) -> PathBuf {
    directory.join("ballast.new")
}

/// Its file, under whichever name.
fn find(disk: &dyn Disk, directory: &Path) -> io::Result<Option<PathBuf>> {
    for path in [whole_path(directory), growing_path(directory)] {
        if disk.exists(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Gives up all there is before the log is open; false where there is nothing.
pub(crate) fn give_up(disk: &dyn Disk, directory: &Path) -> io::Result<bool> {
    let Some(path) = find(disk, directory)? else { return Ok(false) };
    let held = disk.open(&path)?.len()?;
    shorten(disk, &path, 0)?;
    Ok(held > 0)
}

/// A file system may give the space to others only when the shorter length is durable.
fn shorten(disk: &dyn Disk, path: &Path, length: u64) -> io::Result<()> {
    let file = disk.open(path)?;
    file.truncate(length)?;
    file.sync_data()
}

impl Ballast {
    /// Looks at what there is.
    pub(crate) fn open(disk: &dyn Disk, directory: &Path, config: &LogConfig) -> io::Result<Self> {
        let path = find(disk, directory)?;
        let held = match &path {
            Some(path) => disk.open_read_only(path)?.len()?,
            None => 0,
        };
        let has_been_whole = path.is_some_and(|path| path == whole_path(directory));
        let given_up = has_been_whole && held < config.ballast_bytes; // BALLAST-3
        if given_up {
            tracing::warn!("{REFUSED}");
        }
        let ballast = Self {
            directory: directory.to_owned(),
            bytes: config.ballast_bytes,
            target: AtomicU64::new(config.ballast_bytes),
            held: AtomicU64::new(held),
            // How it was given up nobody knows.
            lent: AtomicU64::new(if given_up { config.ballast_bytes - held } else { 0 }),
            given_up: AtomicBool::new(given_up),
            full: AtomicBool::new(given_up),
            move_short: AtomicBool::new(false),
            said: Mutex::new(false),
            unwatched: AtomicBool::new(false),
            using: Mutex::new(()),
        };
        ballast.say();
        Ok(ballast)
    }

    /// Whether records must wait (BALLAST-1).
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Whether the disk was full when room was last asked for, by whoever wants it: who waits for
    /// readiness to send anything must not be the only one to ask.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.is_full_for_records() || self.move_short.load(Ordering::Acquire)
    }

    /// Whether records are refused, large ones at least.
    pub(crate) fn is_full_for_records(&self) -> bool {
        self.is_journal_short() || self.is_given_up()
    }

    pub(crate) fn is_journal_short(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Whether that is news.
    pub(crate) fn note_full(&self, full: bool) -> bool {
        self.note(&self.full, full)
    }

    pub(crate) fn note_move_short(&self, short: bool) {
        self.note(&self.move_short, short);
    }

    /// The thread that tells when there is room for the journal again has ended.
    pub(crate) fn note_unwatched(&self) {
        self.unwatched.store(true, Ordering::Release);
    }

    /// Where nobody else tells of it, a record that finds room has to do.
    pub(crate) fn note_record(&self) {
        if self.unwatched.load(Ordering::Acquire) {
            self.note_full(false);
        }
    }

    fn note(&self, flag: &AtomicBool, short: bool) -> bool {
        let was_short = flag.swap(short, Ordering::AcqRel);
        self.say();
        was_short != short
    }

    /// Called after each change of what makes the disk full.
    fn say(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that whoever comes last says how it is.
        let is_full = self.is_disk_full();
        match (std::mem::replace(&mut *said, is_full), is_full) {
            (false, true) => tracing::warn!("the disk is full"),
            (true, false) => tracing::info!("nothing is refused for want of room any more"),
            _ => {}
        }
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Acquire)
    }

    /// As much as it may come to.
    pub(crate) fn target(&self) -> u64 {
        self.target.load(Ordering::Acquire)
    }

    /// With `more` to copy in a move it is larger by that.
    pub(crate) fn aim(&self, more: u64) {
        self.target.store(self.bytes + more, Ordering::Release);
    }

    /// Whether it is to grow, or to be found whole: where it could not be shortened records wait
    /// for that as well.
    pub(crate) fn is_wanted(&self) -> bool {
        self.held() < self.target() || self.is_given_up()
    }

    /// Adds up to `step` bytes; false while what was given up is in use, or where there is no room.
    pub(crate) fn grow(&self, disk: &dyn Disk, step: u64) -> io::Result<bool> {
        let Some(using) = self.use_now() else { return Ok(false) };
        let found = find(disk, &self.directory)?;
        let path = found.clone().unwrap_or_else(|| growing_path(&self.directory));
        let file = if found.is_some() { disk.open(&path)? } else { disk.create(&path)? };
        let length = file.len()?.saturating_add(step).min(self.target());
        let grown = file.preallocate(length).and_then(|()| file.sync_data());
        // Part of a step is there even where it failed, and can be given up like the rest.
        self.held.store(file.len()?, Ordering::Release);
        let is_full = grown.as_ref().is_err_and(|it| shortage(it) == Some(FullCause::Disk));
        if !is_full {
            grown?;
        }
        let is_whole = self.held() >= self.target();
        let is_back = is_whole || is_full && self.held() >= self.bytes;
        if is_whole {
            self.lent.store(0, Ordering::Release);
        }
        if self.held() >= self.bytes {
            let whole = whole_path(&self.directory);
            if path != whole {
                disk.rename(&path, &whole)?;
                disk.sync_dir(&self.directory)?;
            }
        }
        if is_back && self.is_given_up() {
            // First: whoever is let in by the other and finds no room says so after this.
            if !is_full {
                self.note_full(false);
            }
            self.given_up.store(false, Ordering::Release);
            tracing::info!("records wait for the ballast no more");
            self.say();
        }
        drop(using);
        Ok(!is_full)
    }

    /// Gives up `bytes` for commits without records; `None` where they have had their share, or
    /// somebody else makes use of it (BALLAST-2).
    pub(crate) fn lend(&self, disk: &dyn Disk, bytes: u64) -> Option<Room<'_>> {
        let using = self.use_now()?;
        let (held, lent) = (self.held(), self.lent.load(Ordering::Acquire));
        let share = (held + lent) / COMMITS_SHARE;
        let rest = held.checked_sub(bytes).filter(|_| lent + bytes <= share)?;
        self.shrink(disk, rest).ok()?;
        self.lent.store(lent + bytes, Ordering::Release);
        Some(using)
    }

    /// For the mover, which waits until nobody else makes use of it.
    pub(crate) fn use_later(&self) -> Room<'_> {
        self.using.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the commit thread, which waits for nobody: `None` while somebody else makes use of it.
    pub(crate) fn use_now(&self) -> Option<Room<'_>> {
        match self.using.try_lock() {
            Ok(using) => Some(using),
            // Whoever has panicked there: what there is of the file is looked at anew.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Gives up all of it, for whoever makes use of it: for what gives space back.
    pub(crate) fn give_up_in<'a>(&self, disk: &dyn Disk, using: Room<'a>) -> io::Result<Room<'a>> {
        self.shrink(disk, 0)?;
        Ok(using)
    }

    fn shrink(&self, disk: &dyn Disk, length: u64) -> io::Result<()> {
        if self.held() <= length {
            return Ok(());
        }
        let Some(path) = find(disk, &self.directory)? else { return Ok(()) };
        // Before it is so: no record may come in between (BALLAST-1).
        if !self.given_up.swap(true, Ordering::AcqRel) {
            tracing::warn!("{REFUSED}");
            self.say();
        }
        shorten(disk, &path, length)?;
        self.held.store(length, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lossproof_env::{Fault, SimDisk};

    use super::*;

    fn ballast(disk: &SimDisk) -> Ballast {
        let directory = Path::new("/data");
        disk.create_dir_all(directory).unwrap();
        let config = LogConfig { ballast_bytes: 64, ..LogConfig::small() };
        Ballast::open(disk, directory, &config).unwrap()
    }

    /// Whether the log has said how it is.
    fn said_so(ballast: &Ballast) -> bool {
        *ballast.said.lock().unwrap() == ballast.is_disk_full()
    }

    /// One that has grown to twice its size, since there is something to move.
    fn grown() -> (SimDisk, Ballast) {
        let disk = SimDisk::new();
        let held = ballast(&disk);
        held.aim(64);
        assert!(held.is_wanted());
        (0..4).for_each(|_| assert!(held.grow(&disk, 32).unwrap()));
        assert_eq!(held.held(), 128);
        (disk, held)
    }

    #[test]
    fn it_grows_by_steps_and_is_lent_in_part() {
        let disk = SimDisk::new();
        let held = ballast(&disk);
        assert!(!held.is_given_up(), "one that never was is not missed");
        for length in [40, 64, 64] {
            held.grow(&disk, 40).unwrap();
            assert_eq!(held.held(), length);
        }
        // BALLAST-2
        drop(held.lend(&disk, 16).unwrap());
        assert!(held.lend(&disk, 16).is_none());
        assert!(held.is_given_up() && ballast(&disk).is_given_up(), "BALLAST-1, BALLAST-3");
        assert!(said_so(&held) && said_so(&ballast(&disk)));
        let room = held.give_up_in(&disk, held.use_later()).unwrap();
        assert!(!held.grow(&disk, 64).unwrap(), "not while it is in use");
        assert_eq!((held.held(), disk.used_bytes()), (0, 0));
        drop(room);
        assert!(held.note_full(true) && !held.note_full(true), "news once");
        held.grow(&disk, 64).unwrap();
        assert!(!held.is_given_up() && !ballast(&disk).is_given_up());
        assert!(!held.is_disk_full(), "with room for it there is some for records");
        assert!(said_so(&held));
    }

    /// There are file systems where that takes room. (BALLAST-1)
    #[test]
    fn one_that_could_not_be_given_up_holds_records_back_no_longer_than_the_disk_is_full() {
        let disk = SimDisk::new();
        let held = ballast(&disk);
        held.grow(&disk, 64).unwrap();
        assert!(!held.is_wanted());
        disk.inject(Fault::change(0).no_space().sticky());
        held.give_up_in(&disk, held.use_later()).unwrap_err();
        assert!(held.is_given_up() && held.is_wanted());
        assert!(!held.grow(&disk, 64).unwrap());
        assert!(!held.is_given_up() && !held.is_wanted() && said_so(&held));
    }

    /// The trap: it is larger once there is more to move, and records take the rest of it whenever
    /// it was given up. (BALLAST-1)
    #[test]
    fn records_wait_for_all_of_it_unless_the_disk_has_no_more() {
        for is_full in [false, true] {
            let (disk, held) = grown();
            held.note_full(true);
            drop(held.give_up_in(&disk, held.use_later()).unwrap());
            disk.set_capacity(if is_full { 100 } else { 128 });
            for step in 1..=4 {
                assert!(held.is_given_up(), "{step}");
                held.grow(&disk, 32).unwrap();
            }
            assert!(!held.is_given_up() && said_so(&held));
            assert_eq!(
                (held.held(), held.is_disk_full()),
                if is_full { (96, true) } else { (128, false) }
            );
        }
    }

    /// The trap: it counts as being back where the disk has no more, and a quarter of what is left
    /// is lent again and again; or nothing is known of what was lent before a start. (BALLAST-2)
    #[test]
    fn no_more_than_a_quarter_is_lent_before_it_is_whole_again() {
        let (disk, held) = grown();
        for free in [112, 96, 96, 96] {
            // Somebody else takes what was lent.
            drop(held.lend(&disk, 16));
            disk.set_capacity(disk.used_bytes());
            assert!(!held.grow(&disk, 32).unwrap() && !held.is_given_up());
            assert_eq!(held.held(), free);
        }
        disk.heal();
        held.grow(&disk, 32).unwrap();
        assert!(held.lend(&disk, 16).is_some(), "it was whole again");
        give_up(&disk, Path::new("/data")).unwrap();
        let held = ballast(&disk);
        disk.set_capacity(40);
        held.grow(&disk, 32).unwrap();
        assert!(held.held() == 32 && held.lend(&disk, 8).is_none());
    }

    /// The trap: a move gave it up, and records have room that lies ready.
    #[test]
    fn one_that_does_not_become_whole_again_says_nothing_of_records() {
        let (disk, held) = grown();
        drop(held.give_up_in(&disk, held.use_later()).unwrap());
        disk.set_capacity(127);
        let grown: Vec<bool> = (0..5).map(|_| held.grow(&disk, 32).unwrap()).collect();
        assert_eq!(grown, [true, true, true, false, false]);
        assert!(!held.is_full_for_records());
    }

    #[test]
    fn it_grows_again_after_a_panic_of_whoever_made_use_of_it() {
        let disk = SimDisk::new();
        let held = ballast(&disk);
        held.grow(&disk, 64).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _room = held.give_up_in(&disk, held.use_later()).unwrap();
            panic!("a bug");
        }));
        assert!(panicked.is_err() && held.is_given_up());
        assert!(held.grow(&disk, 64).unwrap() && !held.is_given_up());
    }

    #[test]
    fn what_fits_on_a_full_disk_is_taken_and_given_up_again() {
        let disk = SimDisk::new();
        let held = ballast(&disk);
        disk.set_capacity(50);
        held.grow(&disk, 40).unwrap();
        assert!(!held.grow(&disk, 40).unwrap());
        assert!(!ballast(&disk).is_given_up(), "BALLAST-3: it was never whole");
        assert_eq!(held.held(), 40);
        assert!(give_up(&disk, Path::new("/data")).unwrap());
        assert!(!give_up(&disk, Path::new("/data")).unwrap());
        assert_eq!(disk.used_bytes(), 0);
    }
}
