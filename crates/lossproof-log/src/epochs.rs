//! Where the leader epochs of a partition end.
//!
//! # Invariants
//! - EPOCH-1: the end of an epoch is never told below a record of it that is still there: to a
//!   consumer that would look like truncation. Where damage hides the border, it is told too high.
//! - EPOCH-2: the history is bounded. Epochs that are forgotten end where the first one that is
//!   known begins, which is too high again.

/// Known for each partition. A start that was not clean adds one at most, of 16 bytes.
const EPOCHS_MAX: usize = 32;

/// Where an epoch ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEnd {
    /// The highest epoch that is not above the one asked for and has records, as far as is known.
    pub leader_epoch: i32,
    /// The first offset that is of a higher epoch, or the end of the log.
    pub end_offset: i64,
}

/// Where an epoch begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct EpochFact {
    pub(crate) epoch: i32,
    pub(crate) start: i64,
}

/// The present epoch, and those before it that have records.
#[derive(Debug)]
pub(crate) struct Epochs {
    earlier: Vec<EpochFact>,
    present: EpochFact,
}

impl Epochs {
    pub(crate) fn new() -> Self {
        Self { earlier: Vec::new(), present: EpochFact { epoch: 0, start: 0 } }
    }

    /// All that is known, the present one last.
    pub(crate) fn facts(&self) -> Vec<EpochFact> {
        self.earlier.iter().copied().chain([self.present]).collect()
    }

    pub(crate) fn restore(facts: &[EpochFact]) -> Self {
        match facts.split_last() {
            Some((present, earlier)) => Self { earlier: earlier.to_vec(), present: *present },
            None => Self::new(),
        }
    }

    pub(crate) fn present(&self) -> i32 {
        self.present.epoch
    }

    /// A new epoch, in which the log goes on at `log_end`.
    pub(crate) fn raise(&mut self, log_end: i64) {
        self.raise_to(self.present.epoch + 1, log_end);
    }

    pub(crate) fn raise_to(&mut self, epoch: i32, log_end: i64) {
        if self.present.start < log_end {
            if self.earlier.len() + 1 >= EPOCHS_MAX {
                self.earlier.remove(0); // EPOCH-2
            }
            self.earlier.push(self.present);
            self.present.start = log_end;
        }
        self.present.epoch = epoch;
    }

    /// The log goes on at `next` instead of `log_end`. Whose the offsets between are is not known:
    /// they were perhaps written before the present epoch began (EPOCH-1).
    pub(crate) fn skip(&mut self, log_end: i64, next: i64) {
        if self.present.start == log_end {
            self.present.start = next;
        }
    }

    /// The epoch of the record at `offset`; `None` where it is forgotten.
    pub(crate) fn at(&self, offset: i64) -> Option<i32> {
        if offset >= self.present.start {
            return Some(self.present.epoch);
        }
        let above = self.earlier.partition_point(|known| known.start <= offset);
        let known = above.checked_sub(1).and_then(|below| self.earlier.get(below));
        known.map(|known| known.epoch)
    }

    /// `None` for an epoch that has not been yet.
    pub(crate) fn end_of(&self, epoch: i32, log_end: i64) -> Option<EpochEnd> {
        if epoch >= self.present.epoch {
            let end = EpochEnd { leader_epoch: epoch, end_offset: log_end };
            return (epoch == self.present.epoch).then_some(end);
        }
        let above = self.earlier.partition_point(|known| known.epoch <= epoch);
        let higher = self.earlier.get(above).unwrap_or(&self.present);
        let floor = above.checked_sub(1).and_then(|below| self.earlier.get(below));
        let leader_epoch = floor.map_or(epoch, |known| known.epoch);
        Some(EpochEnd { leader_epoch, end_offset: higher.start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(epochs: &Epochs, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        epochs.end_of(epoch, log_end).map(|end| (end.leader_epoch, end.end_offset))
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_with_records_begins() {
        let mut epochs = Epochs::new();
        epochs.raise(0);
        assert_eq!(ends(&epochs, 0, 0), Some((0, 0)), "nothing was ever written in it");
        epochs.raise(10);
        epochs.raise(10);
        epochs.raise(15);
        assert_eq!(epochs.present(), 4);
        assert_eq!(ends(&epochs, 0, 20), Some((0, 0)));
        assert_eq!(ends(&epochs, 1, 20), Some((1, 10)));
        assert_eq!(ends(&epochs, 2, 20), Some((1, 10)), "it has no records: the one below");
        assert_eq!(ends(&epochs, 3, 20), Some((3, 15)));
        assert_eq!(ends(&epochs, 4, 20), Some((4, 20)));
        assert_eq!(ends(&epochs, 5, 20), None);
        assert_eq!([0, 9, 10, 14, 15, 20].map(|at| epochs.at(at)), [1, 1, 3, 3, 4, 4].map(Some));
    }

    /// EPOCH-1.
    #[test]
    fn offsets_that_damage_hides_belong_to_the_epoch_before() {
        let mut epochs = Epochs::new();
        epochs.raise(10);
        epochs.skip(10, 14);
        assert_eq!(ends(&epochs, 0, 14), Some((0, 14)));
        epochs.skip(20, 25);
        assert_eq!(ends(&epochs, 0, 25), Some((0, 14)), "records of epoch 1 lie between");
    }

    /// EPOCH-2.
    #[test]
    fn forgotten_epochs_end_at_the_first_one_that_is_known() {
        let mut epochs = Epochs::new();
        for log_end in 1..=100 {
            epochs.raise(log_end);
        }
        assert_eq!(epochs.earlier.len() + 1, EPOCHS_MAX);
        let oldest = epochs.earlier[0];
        assert_eq!(ends(&epochs, 0, 200), Some((0, oldest.start)));
        assert_eq!(epochs.at(oldest.start - 1), None);
        assert_eq!(ends(&epochs, oldest.epoch, 200), Some((oldest.epoch, oldest.start + 1)));
        assert_eq!(ends(&epochs, 100, 200), Some((100, 200)));
    }
}
