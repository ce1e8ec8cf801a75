//! Which partitions the last frames have changed, so that who waits for news of many does not look
//! at all of them after each frame.
//!
//! # Invariants
//!
//! - CHANGES-1: a partition that a frame has changed is told to whoever has seen no later frame;
//!   who has seen too little to be told is told that everything may have changed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::commit::PartitionId;
use crate::effect::Effect;

/// Ids that are kept, over all frames: what one large frame holds, or thousands of small ones.
const IDS_MAX: usize = 1 << 14;

#[derive(Debug, Default)]
pub(crate) struct Changes {
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The last frame that is not told of any more.
    forgotten: u64,
    /// Frame and partition, in the order of the frames.
    ids: VecDeque<(u64, PartitionId)>,
}

impl Changes {
    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called for each frame in turn, before it is said that there is one.
    pub(crate) fn note(&self, frame: u64, effects: &[Effect]) {
        let mut recent = self.lock();
        for id in effects.iter().filter_map(Effect::partition) {
            // Of a batch after the other in one partition, as a saturating producer sends them.
            if recent.ids.back() != Some(&(frame, id)) {
                recent.ids.push_back((frame, id));
            }
        }
        while recent.ids.len() > IDS_MAX {
            recent.forgotten = recent.ids.pop_front().map_or(frame, |(frame, _)| frame);
        }
    }

    /// CHANGES-1.
    pub(crate) fn since(&self, seen: u64, is_wanted: impl Fn(PartitionId) -> bool) -> bool {
        let recent = self.lock();
        seen < recent.forgotten
            || recent.ids.iter().rev().take_while(|it| it.0 > seen).any(|it| is_wanted(it.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::StateKind;

    fn change(id: u64) -> Effect {
        Effect::LogStart { id: PartitionId(id), offset: 0 }
    }

    fn has_changed(changes: &Changes, seen: u64, id: u64) -> bool {
        changes.since(seen, |it| it == PartitionId(id))
    }

    #[test]
    fn a_change_is_told_to_whoever_has_seen_no_later_frame() {
        let changes = Changes::default();
        changes.note(1, &[change(7), change(8)]);
        changes.note(2, &[change(9)]);
        for (seen, id, is_told) in
            [(0, 7, true), (0, 8, true), (0, 9, true), (1, 7, false), (1, 9, true), (2, 9, false)]
        {
            assert_eq!(has_changed(&changes, seen, id), is_told, "{id} after frame {seen}");
        }
    }

    #[test]
    fn who_has_seen_too_little_is_told_that_all_may_have_changed() {
        let changes = Changes::default();
        let many: Vec<Effect> = (0..IDS_MAX as u64).map(change).collect();
        changes.note(1, &[change(1 << 40)]);
        changes.note(2, &many);
        assert!(has_changed(&changes, 0, 1 << 40), "CHANGES-1: frame 1 is forgotten");
        assert!(!has_changed(&changes, 1, 1 << 40), "frame 2 is not");
        changes.note(3, &[change(5)]);
        assert!(has_changed(&changes, 1, 1 << 40), "CHANGES-1: a part of frame 2 is forgotten");
        assert!(!has_changed(&changes, 2, 6));
    }

    #[test]
    fn frames_that_change_no_partition_are_no_change() {
        let changes = Changes::default();
        changes.note(1, &[Effect::AcceptState { kind: StateKind::Offsets, missing: Vec::new() }]);
        assert!(!has_changed(&changes, 0, 1));
    }
}
