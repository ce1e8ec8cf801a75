//! What goes on when the disk is full, and what can be given back with no more room than the
//! ballast.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::commit::{Commit, PartitionChange};
use crate::committer::Committer;
use crate::mover::{MoveError, Mover, failed};
use crate::shared::Shared;
use crate::staging;
use crate::waste::{by_file, wasteful};
use crate::writer::RoomError;

/// What a commit wants room for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Records,
    /// Offsets, markers, state: they have the reserve, and a part of the ballast.
    Small,
    /// What gives back space must not wait for it.
    Removal,
}

impl Purpose {
    pub(crate) fn of(commit: &Commit, plan: &staging::Plan) -> Self {
        let removes = |change: &PartitionChange| {
            matches!(change, PartitionChange::Delete { .. } | PartitionChange::LogStart { .. })
        };
        if plan.has_records {
            Self::Records
        } else if commit.partitions.iter().any(removes) {
            Self::Removal
        } else {
            Self::Small
        }
    }
}

/// What a move is to take, where there is room for a part only.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Plan {
    /// The first so many sealed segments.
    pub(crate) sealed: usize,
    /// Keys of cold files.
    pub(crate) colds: BTreeSet<u32>,
    /// The segment in use holds more than a new one takes, and could be moved if it were sealed.
    pub(crate) leaves_active: bool,
    /// About the bytes of what is copied.
    pub(crate) cost: u64,
}

/// What the ballast has for copies: the checkpoint has to fit beside. It may be more than there is,
/// since less is tried then.
fn room(shared: &Shared) -> u64 {
    shared.ballast.target().saturating_sub(shared.config.ballast_bytes / CHECKPOINT_SHARE)
}

/// What gives back space and needs no more than `room` for copies; `None`: nothing. With how much
/// is written of the segment in use, for who may leave it: zeros ahead are not given back by that,
/// since records have them anyway.
fn plan(shared: &Shared, mut room: u64, written: Option<u64>) -> Option<Plan> {
    let live = by_file(&shared.view, |entry| {
        u64::from(entry.bytes) / DIRECTORY_SHARE * (DIRECTORY_SHARE + 1)
    });
    let live_in = |key: u32| live.get(&key).copied().unwrap_or(0);
    let whole = room;
    let journal = shared.segments.journal();
    let (active, sealed) = journal.split_last()?;
    let mut plan = Plan::default();
    for segment in sealed {
        let cost = live_in(segment.life.file_key());
        if cost > room {
            break;
        }
        room -= cost;
        plan.sealed += 1;
    }
    let in_use = live_in(active.life.file_key());
    let beside = written.map_or(0, |written| written.saturating_sub(in_use));
    let pays = beside > shared.config.initial_zero_bytes;
    let costs = in_use + shared.config.initial_zero_bytes;
    if plan.sealed == sealed.len() && costs <= room && pays {
        plan.leaves_active = true;
        room -= costs;
    }
    let colds = wasteful(shared, &shared.view, &shared.segments);
    let mut colds: Vec<(u64, u32)> =
        colds.iter().map(|cold| (live_in(cold.life.file_key()), cold.life.file_key())).collect();
    colds.sort_unstable();
    for (cost, key) in colds {
        if cost <= room {
            room -= cost;
            plan.colds.insert(key);
        }
    }
    plan.cost = whole - room;
    let is_empty = plan.sealed == 0 && plan.colds.is_empty() && !plan.leaves_active;
    (!is_empty).then_some(plan)
}

impl Plan {
    /// Whether there is anything to move before the segment in use is left.
    pub(crate) fn moves(&self) -> bool {
        self.sealed > 0 || !self.colds.is_empty()
    }
}

/// How often to look whether the disk is full, where there is something to give back.
const FULL_LOOK: Duration = Duration::from_secs(1);
/// How long to leave a full disk alone.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// A checkpoint takes such a part of the smallest ballast.
const CHECKPOINT_SHARE: u64 = 4;
/// The directories and the padding of a copy are such a part of it, where batches are not small.
const DIRECTORY_SHARE: u64 = 16;

/// Plans that are tried with what the ballast gives, each of half of what the one before takes.
const PLANS_MAX: u32 = 4;

/// What is known of what a full disk can be given back: it is looked for once after each change.
#[derive(Debug, Default)]
pub(crate) struct GivingBack {
    /// There may be something that was not looked for yet.
    is_wanted: bool,
    /// Not before.
    at: Duration,
    /// The disk had no room for the last records.
    is_short: bool,
}

impl GivingBack {
    pub(crate) fn note_removed(&mut self) {
        self.is_wanted = true;
    }

    /// What was removed while there was room, if only before the start, was left for later.
    pub(crate) fn note_short(&mut self) {
        self.is_wanted |= !std::mem::replace(&mut self.is_short, true);
    }

    pub(crate) fn note_room(&mut self) {
        self.is_short = false;
    }

    /// How long until it is looked for. Who waits for readiness to send anything must not be the
    /// only one to ask, and the mover may be the first to find the disk full.
    pub(crate) fn patience(&self, is_full: bool) -> Option<Duration> {
        let pause = if is_full { FULL_PAUSE } else { FULL_LOOK };
        (self.is_wanted || self.is_short).then_some(pause)
    }
}

impl Committer {
    /// Gives back what was not looked for since; what could not be is tried again a moment later.
    pub(crate) fn give_back(&mut self) {
        if !self.shared.ballast.is_disk_full() {
            return;
        }
        // What did not pay may do so when something was moved.
        self.giving_back.is_wanted |= self.giving_back.is_short && self.shared.mover.take_moved();
        let now = self.shared.env.clock.monotonic();
        if self.giving_back.is_wanted && now >= self.giving_back.at {
            self.giving_back.is_wanted = !self.leave_segment();
            if self.giving_back.is_wanted {
                self.giving_back.at = now + FULL_PAUSE;
            }
        }
    }

    /// Tries again with what the ballast gives for it.
    pub(crate) fn room_of_ballast(
        &mut self,
        need: u64,
        purpose: Purpose,
        short: Result<u64, RoomError>,
    ) -> Result<u64, RoomError> {
        let shared = self.shared.clone();
        let disk = &*shared.env.disk;
        let was_given_up = shared.ballast.is_given_up();
        let lent = match purpose {
            Purpose::Records => None,
            Purpose::Small => {
                let bytes = need.next_multiple_of(shared.config.zero_step_bytes);
                shared.ballast.lend(disk, bytes)
            }
            Purpose::Removal => {
                let using = shared.ballast.use_now();
                using.and_then(|using| shared.ballast.give_up_in(disk, using).ok())
            }
        };
        let Some(lent) = lent else {
            // It may be on its way, and records wait until it is found whole.
            if shared.ballast.is_given_up() != was_given_up {
                self.writer.wake_zeroer();
            }
            return short;
        };
        let room = if purpose == Purpose::Small {
            self.writer.room_of_reserve(need)
        } else {
            self.writer.room(need, false, &shared.segments)
        };
        drop(lent);
        self.writer.wake_zeroer();
        room
    }

    /// What was removed from the segment in use comes back only when that is left, and that is
    /// not put off on a full disk. False where it is to be tried again: the ballast was in use, or
    /// gave no room for the next one.
    fn leave_segment(&mut self) -> bool {
        let shared = self.shared.clone();
        let Some(using) = shared.ballast.use_now() else { return false };
        let written = Some(self.writer.position());
        let plan = plan(&shared, room(&shared), written).filter(|_| shared.fenced().is_none());
        let Some(plan) = plan else { return true };
        if plan.moves() {
            shared.mover.wake();
        }
        if !plan.leaves_active {
            return true;
        }
        let room = shared.ballast.give_up_in(&*shared.env.disk, using);
        let left = room.map(|_room| self.writer.leave(&shared.segments));
        self.writer.wake_zeroer();
        match left {
            Ok(Ok(())) => {
                self.write_mark(false);
                shared.mover.wake();
            }
            Err(_) | Ok(Err(RoomError::Short(_))) => return false,
            Ok(Err(RoomError::Fence(cause))) => drop(self.fence(cause)),
        }
        true
    }
}

impl Mover {
    /// The ballast is given up for what gives back more than it takes.
    pub(crate) fn move_what_fits(&mut self, error: MoveError) -> Result<(), MoveError> {
        let shared = self.shared.clone();
        shared.ballast.note_move_short(true);
        let Some(plan) = self.what_fits() else { return Err(error) };
        let action = "give up what is held back";
        if let Some(zeroer) = &self.zeroer {
            zeroer.remove_free().map_err(failed(action))?;
        }
        let using = shared.ballast.use_later();
        let held = shared.ballast.held();
        let room = shared.ballast.give_up_in(&*shared.env.disk, using).map_err(failed(action));
        let moved = room.and_then(|_room| {
            let moved = self.move_by_plans(plan.clone());
            let is_vain = moved.as_ref().is_err_and(MoveError::is_full_disk);
            self.vain = is_vain.then_some((plan, held));
            moved
        });
        // Also where it could not be: records wait until it is found whole.
        if let Some(zeroer) = &self.zeroer {
            zeroer.look();
        }
        moved
    }

    /// What there may be room for; nothing where the same was tried in vain, with no less.
    pub(crate) fn what_fits(&self) -> Option<Plan> {
        let shared = &self.shared;
        let plan = plan(shared, room(shared), None).filter(Plan::moves)?;
        let vain = self.vain.as_ref();
        let is_vain =
            vain.is_some_and(|(tried, with)| plan == *tried && shared.ballast.held() <= *with);
        (!is_vain).then_some(plan)
    }

    /// First what costs nothing, and then less and less: the ballast is smaller than it is to be
    /// where the disk was full before it had grown, or somebody else has taken what it gave.
    fn move_by_plans(&mut self, whole: Plan) -> Result<(), MoveError> {
        let free = plan(&self.shared, 0, None).filter(Plan::moves);
        let mut tried = free.unwrap_or(whole);
        let mut moved = self.move_sealed(Some(&tried));
        for _ in 1..PLANS_MAX {
            if !moved.as_ref().is_err_and(MoveError::is_full_disk) {
                break;
            }
            let less = plan(&self.shared, tried.cost / 2, None);
            let Some(less) = less.filter(|it| it.moves() && it.cost < tried.cost) else { break };
            tried = less;
            moved = self.move_sealed(Some(&tried));
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use lossproof_env::{Disk, Fault, ManualClock, SimDisk};

    use super::*;
    use crate::{Log, LogConfig, PartitionId, Stepper, testing};

    const BULK: PartitionId = PartitionId(1);
    const KEPT: PartitionId = PartitionId(2);
    /// More than there are steps to write zeros.
    const ZEROS_MAX: usize = 50;
    /// More than any disk here has room for.
    const APPENDS_MAX: usize = 1_000;

    fn is_taken(stepper: &mut Stepper, commit: Commit) -> bool {
        stepper.submit(vec![commit]).remove(0).is_ok()
    }

    fn append(id: PartitionId) -> Commit {
        testing::append(id, 1, &[b'x'; 3_000])
    }

    fn open_on(disk: &SimDisk, segment_bytes: u64) -> (ManualClock, Log, Stepper) {
        let clock = ManualClock::new(1_000_000);
        let config = LogConfig { segment_bytes, ..LogConfig::small() };
        let (log, stepper) = testing::open_at(disk, &clock, config);
        assert!(log.shared().mover.is_woken(), "what earlier runs have left may be moved");
        log.shared().mover.wait(None);
        (clock, log, stepper)
    }

    /// A log with two partitions.
    fn open(segment_bytes: u64) -> (SimDisk, ManualClock, Log, Stepper) {
        let disk = SimDisk::new();
        let (clock, log, mut stepper) = open_on(&disk, segment_bytes);
        for id in [BULK, KEPT] {
            assert!(is_taken(&mut stepper, testing::create(id)));
        }
        (disk, clock, log, stepper)
    }

    /// One on a disk that the records of BULK have filled, and that has no room for one more.
    fn full() -> (SimDisk, ManualClock, Log, Stepper) {
        let (disk, clock, log, mut stepper) = open(1 << 20);
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        disk.set_capacity(400 << 10);
        assert!((0..APPENDS_MAX).any(|_| !is_taken(&mut stepper, append(BULK))));
        (disk, clock, log, stepper)
    }

    fn fill_to(log: &Log, stepper: &mut Stepper, id: PartitionId, segments: usize) {
        while log.shared().segments.journal_len() < segments {
            assert!(is_taken(stepper, append(id)));
        }
    }

    /// Until there is no room for one more.
    fn fill_disk(disk: &SimDisk, stepper: &mut Stepper) {
        disk.set_capacity(disk.used_bytes());
        while is_taken(stepper, append(KEPT)) {}
    }

    /// A log with a full segment of what is kept.
    fn with_a_full_segment() -> (SimDisk, Log, Stepper) {
        let (disk, _clock, log, mut stepper) = open(LogConfig::small().segment_bytes);
        fill_to(&log, &mut stepper, KEPT, 2);
        (disk, log, stepper)
    }

    fn delete(stepper: &mut Stepper) {
        let removal = PartitionChange::Delete { id: BULK };
        assert!(is_taken(stepper, Commit::partition(removal)));
    }

    fn is_given_back(stepper: &mut Stepper) -> bool {
        stepper.checkpoint().unwrap();
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        is_taken(stepper, append(KEPT))
    }

    /// The trap: it grows again at that moment, and then nobody sends anything, since all wait for
    /// readiness.
    #[test]
    fn what_is_removed_while_somebody_uses_the_ballast_is_given_back_later() {
        for is_silent in [true, false] {
            let (_disk, clock, log, mut stepper) = full();
            let shared = log.shared().clone();
            let using = shared.ballast.use_now().unwrap();
            delete(&mut stepper);
            drop(using);
            if is_silent {
                // The mark is due before.
                for _ in 0..2 {
                    clock.advance(stepper.patience().expect("it is tried again"));
                    stepper.idle();
                }
            } else {
                clock.advance(FULL_PAUSE);
                assert!(!is_taken(&mut stepper, append(KEPT)));
            }
            assert!(is_given_back(&mut stepper), "silent: {is_silent}");
        }
    }

    /// The trap: the ballast cannot be shortened on a disk that is so full, or somebody else takes
    /// what it gave.
    #[test]
    fn a_segment_that_could_not_be_left_is_left_later() {
        for is_shortened in [false, true] {
            let (disk, clock, log, mut stepper) = full();
            let shared = log.shared().clone();
            let segments = shared.segments.journal_len();
            // After the zeros for which there is no room, and the frame.
            let fails = if is_shortened { 3 } else { 2 };
            disk.inject(Fault::change(fails).no_space().sticky());
            delete(&mut stepper);
            assert_eq!(shared.segments.journal_len(), segments);
            assert_eq!(shared.ballast.held() == 0, is_shortened);
            disk.heal();
            disk.set_capacity(400 << 10);
            (0..ZEROS_MAX).for_each(|_| stepper.zero());
            clock.advance(FULL_PAUSE);
            assert!(!is_taken(&mut stepper, append(KEPT)));
            assert!(is_given_back(&mut stepper), "shortened: {is_shortened}");
        }
    }

    /// The trap: what a copy takes was guessed by the count of records, of which a batch has many,
    /// and thought to be more than there is room for.
    #[test]
    fn a_segment_with_many_small_records_that_stay_is_left() {
        let (disk, _clock, log, mut stepper) = open(1 << 20);
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        disk.set_capacity(400 << 10);
        let kept = || testing::append(KEPT, 50, &[b'x'; 10]);
        let mut refused = (0..APPENDS_MAX).map(|_| {
            let both = stepper.submit(vec![append(BULK), kept()]);
            both.iter().any(Result::is_err)
        });
        assert!(refused.any(|it| it));
        let segments = log.shared().segments.journal_len();
        delete(&mut stepper);
        assert_eq!(log.shared().segments.journal_len(), segments + 1);
        assert!(is_given_back(&mut stepper));
    }

    #[test]
    fn a_segment_that_is_kept_to_be_used_again_is_used_on_a_full_disk() {
        let segment_bytes = 128 << 10;
        let (disk, _clock, log, mut stepper) = open(segment_bytes);
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        assert!(is_taken(&mut stepper, append(KEPT)));
        let free = Path::new("/data/journal/0000000000000009.wal");
        disk.create(free).unwrap().preallocate(segment_bytes).unwrap();
        stepper.zeroer().offer(free.to_owned());
        disk.set_capacity(disk.used_bytes());
        let large = || testing::append(KEPT, 1, &vec![b'x'; 80 << 10]);
        assert!(is_taken(&mut stepper, large()));
        assert!(!is_taken(&mut stepper, large()));
        assert_eq!(log.shared().fenced(), None);
    }

    /// The trap: what there was no room for is not wanted any more, and nobody tries it again.
    #[test]
    fn a_move_that_is_not_due_any_more_does_not_leave_the_disk_full() {
        let (_disk, _clock, log, stepper) = open(1 << 20);
        log.shared().ballast.note_move_short(true);
        assert!(log.shared().ballast.is_disk_full());
        assert!(!stepper.is_move_due() && !log.shared().ballast.is_disk_full());
    }

    /// The trap: it would take what the ballast has just given to a small commit.
    #[test]
    fn the_mover_is_not_woken_on_a_full_disk_where_it_gives_nothing_back() {
        let (_disk, _clock, log, mut stepper) = full();
        assert!(log.shared().ballast.is_disk_full() && !log.shared().mover.is_woken());
        delete(&mut stepper);
        assert!(log.shared().mover.is_woken());
    }

    /// The trap: it was deleted while there was room, and is not in the segment in use; or nobody
    /// has deleted anything since the start.
    #[test]
    fn the_mover_is_woken_on_a_full_disk_where_it_gives_something_back() {
        for is_restarted in [false, true] {
            let segment_bytes = LogConfig::small().segment_bytes;
            let (mut disk, _, mut log, mut stepper) = open(segment_bytes);
            fill_to(&log, &mut stepper, BULK, 3);
            delete(&mut stepper);
            fill_to(&log, &mut stepper, KEPT, 4);
            if is_restarted {
                drop((log, stepper));
                disk = disk.killed();
                (_, log, stepper) = open_on(&disk, segment_bytes);
            }
            let segments = log.shared().segments.journal_len();
            log.shared().mover.wait(Some(Duration::ZERO));
            assert!(!log.shared().mover.is_woken());
            disk.set_capacity(disk.used_bytes());
            assert!((0..APPENDS_MAX).any(|_| !is_taken(&mut stepper, append(KEPT))));
            assert_eq!(log.shared().segments.journal_len(), segments, "neither left nor full");
            assert!(log.shared().mover.is_woken(), "restarted: {is_restarted}");
        }
    }

    /// The trap: nobody wakes the mover when the ballast has grown.
    #[test]
    fn what_was_tried_in_vain_is_looked_at_again_and_tried_with_more() {
        let (disk, log, mut stepper) = with_a_full_segment();
        let ballast = &log.shared().clone().ballast;
        while ballast.held() == 0 {
            stepper.zero();
        }
        fill_disk(&disk, &mut stepper);
        assert!(stepper.is_move_due());
        stepper.checkpoint().unwrap_err();
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        assert!(!stepper.is_move_due() && ballast.is_disk_full());
        let turn = stepper.move_turn();
        assert!(matches!(turn, ControlFlow::Continue(Some(_))), "{turn:?}");
        disk.set_capacity(disk.used_bytes() + (64 << 10));
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        assert!(stepper.is_move_due(), "it has {} now", ballast.held());
        assert_eq!(stepper.move_turn(), ControlFlow::Continue(Some(Duration::ZERO)));
        disk.heal();
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        assert!(!stepper.is_move_due());
        assert_eq!(stepper.move_turn(), ControlFlow::Continue(None));
    }

    /// The trap: the mover would have waited for what nobody wants any more.
    #[test]
    fn what_was_tried_in_vain_is_forgotten_with_the_full_disk_or_when_it_was_moved() {
        for is_moved in [false, true] {
            let (disk, log, mut stepper) = with_a_full_segment();
            fill_disk(&disk, &mut stepper);
            stepper.checkpoint().unwrap_err();
            assert!(matches!(stepper.move_turn(), ControlFlow::Continue(Some(_))));
            disk.heal();
            if is_moved {
                stepper.checkpoint().unwrap();
            } else {
                (0..ZEROS_MAX).for_each(|_| stepper.zero());
            }
            assert_eq!(log.shared().ballast.is_disk_full(), is_moved);
            assert_eq!(stepper.move_turn(), ControlFlow::Continue(None));
        }
    }

    /// The trap: it was taken for what there is no room for.
    #[test]
    fn what_was_not_tried_since_the_ballast_could_not_be_shortened_is_tried_again() {
        let mut kept = 0;
        for fails in 0..APPENDS_MAX as u64 {
            let (disk, log, mut stepper) = with_a_full_segment();
            let ballast = &log.shared().clone().ballast;
            (0..ZEROS_MAX).for_each(|_| stepper.zero());
            fill_disk(&disk, &mut stepper);
            let held = ballast.held();
            assert!(held > 0 && stepper.is_move_due());
            disk.inject(Fault::change(fails).no_space());
            if stepper.checkpoint().is_err() && ballast.held() == held {
                kept += 1;
                assert!(stepper.is_move_due(), "{fails}");
                stepper.checkpoint().unwrap();
            }
            if !disk.was_struck() {
                assert!(kept > 0, "the test does not test");
                return;
            }
        }
        panic!("a move ends");
    }

    /// The trap: all was durable and marked when the mover found the disk full.
    #[test]
    fn what_was_removed_while_there_was_room_is_given_back_once_the_mover_finds_none() {
        let (disk, clock, log, mut stepper) = full();
        disk.heal();
        (0..ZEROS_MAX).for_each(|_| stepper.zero());
        assert!(is_taken(&mut stepper, append(KEPT)));
        let shared = log.shared().clone();
        assert!(!shared.ballast.is_disk_full());
        delete(&mut stepper);
        stepper.mark();
        clock.advance(stepper.patience().expect("it looks again"));
        disk.set_capacity(disk.used_bytes());
        shared.ballast.note_full(true);
        stepper.idle();
        assert!(is_given_back(&mut stepper));
    }
}
