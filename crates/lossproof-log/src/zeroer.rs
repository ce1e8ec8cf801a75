//! The background thread that writes zeros ahead of the frames, so that the commit thread never
//! waits for the size of a file to become durable; it makes the ballast as well, and tells when a
//! disk that was full is not so any more.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lossproof_env::{Planted, planted};

use crate::segment::{DATA_AT, SegmentFile, SegmentSizes};
use crate::shared::Shared;
use crate::writer::{shortage, sync_fault};

/// So many segments are kept to be used again; more are removed.
const FREE_MAX: usize = 4;
/// How long to leave a full disk alone.
const FULL_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Zeroer {
    shared: Arc<Shared>,
    sizes: SegmentSizes,
    step: u64,
    ahead: u64,
    /// Where the next frame goes in the active segment; written by the commit thread.
    position: AtomicU64,
    /// Position from which on the thread has something to do; written by the thread.
    due: AtomicU64,
    work: Mutex<Work>,
    wake: Condvar,
}

#[derive(Debug)]
struct Work {
    active: Arc<SegmentFile>,
    /// Sequence of the next segment; known before that one is `active`.
    next: u64,
    spare: Option<Arc<SegmentFile>>,
    /// Segments that were given back, each of its full size.
    free: Vec<PathBuf>,
    /// The ballast is next, where it wants anything.
    ballast_is_next: bool,
    stop: bool,
}

/// What to do next.
enum Task {
    Extend(Extension),
    Ballast,
    /// Everything is ready.
    Rest,
}

/// What a segment is to be extended to.
struct Extension {
    segment: Arc<SegmentFile>,
    target: u64,
}

impl Zeroer {
    pub(crate) fn new(shared: Arc<Shared>, active: Arc<SegmentFile>) -> Arc<Self> {
        let config = &shared.config;
        let zeroer = Arc::new(Self {
            sizes: SegmentSizes {
                capacity: config.segment_bytes,
                initial: config.initial_zero_bytes,
            },
            step: config.zero_step_bytes,
            ahead: config.zero_ahead_bytes,
            position: AtomicU64::new(0),
            // Nothing is written before the first frame: many logs are opened and hardly used.
            due: AtomicU64::new(1),
            work: Mutex::new(Work {
                next: active.sequence + 1,
                active,
                spare: None,
                free: Vec::new(),
                ballast_is_next: false,
                stop: false,
            }),
            wake: Condvar::new(),
            shared,
        });
        // The mover may look for what there is room for before this thread does.
        zeroer.aim();
        zeroer
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told by the commit thread after each frame.
    pub(crate) fn progress(&self, position: u64) {
        self.position.store(position, Ordering::Release);
        if position >= self.due.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }

    /// Told by the commit thread when it goes on to another segment.
    pub(crate) fn watch(&self, active: Arc<SegmentFile>) {
        self.lock().active = active;
        self.position.store(0, Ordering::Release);
        self.due.store(0, Ordering::Release);
        self.wake.notify_one();
    }

    /// Told by whoever gave up ballast or found the disk full: this thread tells when there is
    /// space again.
    pub(crate) fn look(&self) {
        // Under the lock, so that it is not between looking and waiting.
        drop(self.lock());
        self.wake.notify_one();
    }

    /// Whether it takes another segment that is not needed any more, or has enough.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().free.len() < FREE_MAX
    }

    /// Takes a segment that nobody reads any more.
    pub(crate) fn offer(&self, path: PathBuf) {
        self.lock().free.push(path);
    }

    /// The next segment, for the commit thread to go on in: the spare one, or one made now.
    pub(crate) fn take_next(&self, sequence: u64) -> io::Result<Arc<SegmentFile>> {
        let mut work = self.lock();
        assert_eq!(work.next, sequence, "segments follow each other");
        let made = work.spare.take().map_or_else(|| self.make_next(&mut work), Ok);
        work.next += u64::from(made.is_ok());
        made
    }

    /// The same where there is one with room for so much that costs no space.
    pub(crate) fn take_ready(
        &self,
        sequence: u64,
        bytes: u64,
    ) -> io::Result<Option<Arc<SegmentFile>>> {
        let mut work = self.lock();
        assert_eq!(work.next, sequence, "segments follow each other");
        let made = match &work.spare {
            Some(spare) if DATA_AT + bytes <= spare.zeroed() => work.spare.take(),
            None if !work.free.is_empty() => Some(self.make_next(&mut work)?),
            _ => None,
        };
        work.next += u64::from(made.is_some());
        Ok(made)
    }

    /// Makes the next segment, of one that was given back where there is any.
    fn make_next(&self, work: &mut Work) -> io::Result<Arc<SegmentFile>> {
        let journal = work.active.path.parent().unwrap_or(&work.active.path);
        let disk = &*self.shared.env.disk;
        match work.free.pop() {
            Some(old) => SegmentFile::recycle(disk, journal, work.next, &old),
            None => SegmentFile::create(disk, journal, work.next, self.sizes),
        }
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    /// The thread's life: it ends when it is stopped, or the journal fenced.
    pub(crate) fn run(&self) {
        let mut work = self.lock();
        while !work.stop && self.shared.fenced().is_none() {
            let task = self.next(&mut work);
            if matches!(task, Ok(Task::Rest)) {
                work = self.wake.wait(work).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(work);
            let is_done = self.carry_out(task);
            work = self.lock();
            if !is_done && !work.stop {
                work = self.pause(work);
            }
        }
    }

    /// One step of what the thread does, without its pauses.
    pub(crate) fn step(&self) {
        if self.shared.fenced().is_none() {
            let task = self.next(&mut self.lock());
            self.carry_out(task);
        }
    }

    /// False where something runs short, or is in use. The commit thread meets the same error when
    /// it has need of the space, and can say to whom it matters; a failure that must not be has
    /// fenced the journal.
    fn carry_out(&self, task: io::Result<Task>) -> bool {
        match task {
            Ok(Task::Extend(extension)) => {
                let is_done = self.extend(&extension).is_ok();
                if is_done {
                    self.shared.ballast.note_full(false);
                }
                is_done
            }
            Ok(Task::Ballast) => self.grow_ballast().unwrap_or(false),
            Ok(Task::Rest) => true,
            Err(_) => false,
        }
    }

    /// Zeros for the frames and the ballast take turns (BALLAST-4).
    fn next(&self, work: &mut Work) -> io::Result<Task> {
        let was_full = self.shared.ballast.is_journal_short();
        let extension = self.next_extension(work)?;
        if was_full && extension.is_none() && !self.shared.ballast.is_given_up() {
            // All of this segment and of the next one is there.
            self.shared.ballast.note_full(false);
        }
        let ballast_is_next = std::mem::take(&mut work.ballast_is_next) || extension.is_none();
        if ballast_is_next && self.ballast_is_due() {
            return Ok(Task::Ballast);
        }
        work.ballast_is_next = extension.is_some();
        Ok(extension.map_or(Task::Rest, Task::Extend))
    }

    /// Whether the ballast is to grow: from the first frame on, and when it was given up.
    fn ballast_is_due(&self) -> bool {
        self.aim();
        let ballast = &self.shared.ballast;
        let begun = self.position.load(Ordering::Acquire) > 0 || ballast.is_given_up();
        ballast.is_wanted() && begun
    }

    /// Says how large the ballast is to be: larger once there is as much as a segment takes of what
    /// a move would copy.
    fn aim(&self) {
        let Shared { segments, config, ballast, .. } = &*self.shared;
        let may_move =
            segments.sealed_bytes() >= config.segment_bytes || !segments.cold().is_empty();
        ballast.aim(if may_move { config.checkpoint_bytes / 2 } else { 0 });
    }

    /// The commit thread has no need of it: what fails here is tried again.
    fn grow_ballast(&self) -> io::Result<bool> {
        self.shared.ballast.grow(&*self.shared.env.disk, self.step)
    }

    /// Removes the segments that were given back, where their space is needed more.
    pub(crate) fn remove_free(&self) -> io::Result<()> {
        let mut work = self.lock();
        while let Some(path) = work.free.pop() {
            self.shared.env.disk.remove(&path)?;
        }
        Ok(())
    }

    fn pause<'a>(&self, work: MutexGuard<'a, Work>) -> MutexGuard<'a, Work> {
        let waited = self.wake.wait_timeout(work, FULL_PAUSE);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Chooses what to extend next, if anything; makes the spare segment, under the lock, because
    /// the commit thread must not make the same.
    fn next_extension(&self, work: &mut Work) -> io::Result<Option<Extension>> {
        if self.shared.ballast.is_given_up() {
            return Ok(None); // BALLAST-1: the room is not for what comes later.
        }
        let position = self.position.load(Ordering::Acquire);
        // Where there was no room whatever comes next is tried.
        let is_full = self.shared.ballast.is_journal_short();
        if position < self.due.load(Ordering::Acquire) && !is_full {
            return Ok(None);
        }
        let active = &work.active;
        let (zeroed, capacity) = (active.zeroed(), active.capacity);
        if zeroed < capacity && (position + self.ahead > zeroed || is_full) {
            let target = zeroed + self.step;
            return Ok(Some(Extension { segment: active.clone(), target }));
        }
        let for_active = if zeroed < capacity { zeroed - self.ahead } else { u64::MAX };
        if position > capacity / 2 || is_full {
            if work.spare.is_none() {
                let spare = self.fencing(self.make_next(work))?;
                work.spare = Some(spare);
            }
            if let Some(spare) = work.spare.as_ref().filter(|it| it.zeroed() < it.capacity) {
                let target = spare.zeroed() + self.step;
                return Ok(Some(Extension { segment: spare.clone(), target }));
            }
            self.due.store(for_active, Ordering::Release);
        } else {
            self.due.store(for_active.min(capacity / 2 + 1), Ordering::Release);
        }
        Ok(None)
    }

    /// Extends by a handle of its own: where one handle has seen the error of a failed sync,
    /// another sees it still.
    fn extend(&self, extension: &Extension) -> io::Result<()> {
        let Extension { segment, target } = extension;
        let file = self.shared.env.disk.open(&segment.path)?;
        self.fencing(segment.extend(&*file, *target, true))
    }

    /// An error of what the journal is to stand on fences it: it may have been for frames as well,
    /// and a second try would prove nothing. Where something runs short the caller waits.
    fn fencing<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            if shortage(error).is_none() && !planted(Planted::SpareTriedAgain) {
                self.shared.fence(sync_fault(error));
            }
        })
    }
}
