//! How far a partition may be committed while its records finish in any order.
//!
//! # Invariants
//!
//! - `FRONTIER-1`: the committable offset is never above an admitted offset that is unfinished.
//! - `FRONTIER-2`: it never goes back.
//! - `FRONTIER-3`: an admitted offset finishes once; finishing anything else is refused.
//! - `FRONTIER-4`: offsets are admitted in rising order; one below the position is refused.
//! - `FRONTIER-5`: it is never above the position: what was never admitted is never committed.

use std::collections::BTreeSet;

/// One assignment of one partition. Its size is bounded by what its owner admits at a time.
///
/// An offset is unfinished from the moment it is admitted, under the same lock under which the
/// committable offset is read: there is no moment in which it is in neither set.
#[derive(Debug)]
pub struct Frontier {
    /// One past the highest admitted offset; where reading began as long as there is none.
    position: i64,
    unfinished: BTreeSet<i64>,
}

impl Frontier {
    pub fn starting_at(start: i64) -> Self {
        Self { position: start, unfinished: BTreeSet::new() }
    }

    /// Takes an offset in. Gaps are legal (compaction, transaction markers). `false`: it was
    /// admitted before, or lies before the start.
    #[must_use]
    pub fn admit(&mut self, offset: i64) -> bool {
        if offset < self.position {
            return false; // FRONTIER-4
        }
        self.position = offset + 1;
        self.unfinished.insert(offset)
    }

    /// Marks an admitted offset as done with. `false`: it is none, or was finished before.
    #[must_use]
    pub fn finish(&mut self, offset: i64) -> bool {
        let before = self.committable();
        let finished = self.unfinished.remove(&offset); // FRONTIER-3
        assert!(self.committable() >= before, "FRONTIER-2: the frontier went back");
        finished
    }

    /// The offset to commit, which is the next to be read after a restart.
    pub fn committable(&self) -> i64 {
        let committable = self.unfinished.first().copied().unwrap_or(self.position);
        assert!(committable <= self.position, "FRONTIER-5: the frontier passed the position");
        committable
    }

    pub fn position(&self) -> i64 {
        self.position
    }

    pub fn unfinished_count(&self) -> usize {
        self.unfinished.len()
    }
}
