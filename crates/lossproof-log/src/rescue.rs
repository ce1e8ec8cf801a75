//! What goes on when the disk is full, and what can be given back with no more room than the
//! ballast.

use std::collections::{BTreeMap, BTreeSet};

use crate::commit::{Commit, PartitionChange};
use crate::committer::Committer;
use crate::partition::View;
use crate::shared::Shared;
use crate::staging;
use crate::waste::wasteful;
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
#[derive(Debug)]
pub(crate) struct Plan {
    /// The first so many sealed segments.
    pub(crate) sealed: usize,
    /// Keys of cold files.
    pub(crate) colds: BTreeSet<u32>,
    /// The segment in use holds more than a new one takes, and could be moved if it were sealed.
    pub(crate) leaves_active: bool,
}

/// What gives back space and needs no more of it than the ballast has; `None`: nothing.
pub(crate) fn plan(shared: &Shared) -> Option<Plan> {
    let live = live_bytes(&shared.view);
    let live_in = |key: u32| live.get(&key).copied().unwrap_or(0);
    // The new segment and the checkpoint have to fit beside what is copied.
    let beside = shared.config.initial_zero_bytes + shared.ballast.target() / 4;
    let mut room = shared.ballast.target().saturating_sub(beside);
    let journal = shared.segments.journal();
    let (active, sealed) = journal.split_last()?;
    let mut plan = Plan { sealed: 0, colds: BTreeSet::new(), leaves_active: false };
    for segment in sealed {
        let cost = live_in(segment.life.file_key());
        if cost > room {
            break;
        }
        room -= cost;
        plan.sealed += 1;
    }
    let in_use = live_in(active.life.file_key());
    let length = active.file.len().unwrap_or(0);
    let pays = length.saturating_sub(in_use) > shared.config.initial_zero_bytes;
    if plan.sealed == sealed.len() && in_use <= room && pays {
        plan.leaves_active = true;
        room -= in_use;
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
    let is_empty = plan.sealed == 0 && plan.colds.is_empty() && !plan.leaves_active;
    (!is_empty).then_some(plan)
}

impl Plan {
    /// Whether there is anything to move before the segment in use is left.
    pub(crate) fn moves(&self) -> bool {
        self.sealed > 0 || !self.colds.is_empty()
    }
}

/// About what a copy of all that is wanted of each file takes: its batches, and a quarter more for
/// directories and padding.
fn live_bytes(view: &View) -> BTreeMap<u32, u64> {
    let mut live: BTreeMap<u32, u64> = BTreeMap::new();
    for partition in view.partition_ids().into_iter().filter_map(|id| view.partition(id)) {
        for entry in partition.entries() {
            *live.entry(entry.segment).or_default() += u64::from(entry.bytes) / 4 * 5;
        }
    }
    live
}

impl Committer {
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
            Purpose::Small => shared.ballast.lend(disk, shared.config.zero_step_bytes),
            Purpose::Removal => shared.ballast.give_up_now(disk),
        };
        let Some(lent) = lent else {
            // It may be on its way, and records wait until it is found whole.
            if shared.ballast.is_given_up() != was_given_up {
                self.writer.note_given_up();
            }
            return short;
        };
        let room = self.writer.room(need, false, &shared.segments);
        drop(lent);
        self.writer.note_given_up();
        room
    }

    /// What was removed from the segment in use comes back only when that is left, and that is
    /// not put off on a full disk.
    pub(crate) fn leave_segment(&mut self) {
        let shared = self.shared.clone();
        let pays =
            shared.ballast.is_disk_full() && plan(&shared).is_some_and(|plan| plan.leaves_active);
        if !pays || shared.fenced().is_some() {
            return;
        }
        let Some(room) = shared.ballast.give_up_now(&*shared.env.disk) else {
            return self.writer.note_given_up();
        };
        let left = self.writer.leave(&shared.segments);
        drop(room);
        self.writer.note_given_up();
        match left {
            Ok(()) => {
                self.write_mark(false);
                shared.mover.wake();
            }
            // Tried again after the next change.
            Err(RoomError::Short(_)) => {}
            Err(RoomError::Fence(cause)) => drop(self.fence(cause)),
        }
    }
}
