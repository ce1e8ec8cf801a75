//! How moving leaves disk and processors to the commits, as long as the journal stays short.

use std::sync::Arc;
use std::time::Duration;

use crate::reader::ReadSegment;
use crate::shared::Shared;

/// The journal may become so many times as long as what is moved at a time, before moving is as
/// urgent as committing.
const BACKLOG_MAX: u64 = 4;

/// What the mover does between two pauses.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    shared: &'a Shared,
    begun: Duration,
    /// The last that was acknowledged then.
    frame: u64,
    /// Bytes of the cold file that were synced then.
    synced: u64,
}

impl<'a> Pace<'a> {
    pub(crate) fn begin(shared: &'a Shared) -> Self {
        let frame = *shared.acknowledged.borrow();
        Self { shared, begun: shared.env.clock.monotonic(), frame, synced: 0 }
    }

    /// After each piece that was synced, leaves the disk to the commits, if there are any, for some
    /// times as long as the piece took.
    pub(crate) fn give_way(&mut self, synced: u64) {
        if synced == self.synced {
            return;
        }
        let took = self.shared.env.clock.monotonic().saturating_sub(self.begun);
        let commits = *self.shared.acknowledged.borrow() != self.frame;
        if commits {
            self.shared.mover.pause(took.saturating_mul(pauses(self.shared)));
        }
        *self = Self { synced, ..Self::begin(self.shared) };
    }
}

/// Whether the journal is so long that commits have to wait for it to become shorter.
pub(crate) fn is_urgent(shared: &Shared) -> bool {
    pauses(shared) == 0
}

fn pauses(shared: &Shared) -> u32 {
    pauses_for(bytes_of(&shared.segments.sealed()), shared.config.checkpoint_bytes)
}

/// How many times as long as its work the mover's pauses are: fewer the longer the journal is.
fn pauses_for(sealed_bytes: u64, checkpoint_bytes: u64) -> u32 {
    let moves_behind = sealed_bytes / checkpoint_bytes.max(1);
    BACKLOG_MAX.saturating_sub(moves_behind) as u32
}

pub(crate) fn bytes_of(segments: &[Arc<ReadSegment>]) -> u64 {
    segments.iter().filter_map(|segment| segment.file.len().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_journal_makes_shorter_pauses_and_then_none() {
        let pauses = [100, 199, 200, 399, 400, 10_000].map(|bytes| pauses_for(bytes, 100));
        assert_eq!(pauses, [3, 3, 2, 1, 0, 0]);
        assert_eq!(pauses_for(1 << 40, u64::MAX), 4);
    }
}
