//! Losses that a person has given up for good, so that what stands around them can go on.
//!
//! # Invariants
//! - ACCEPT-1: only what cannot be read is ever given up, and nothing is removed by it.
//! - ACCEPT-2: it is durable before it has any effect, and known for as long as the partition: it
//!   is told at each start and by each check, as what it is.
//! - ACCEPT-3: an offset that may have been given before is not given again.
//! - ACCEPT-4: a transaction that was open where a given up range begins never looks committed.
//! - ACCEPT-5: what is lost later is not given up with it, wherever it stood.

use tokio::sync::oneshot;

use crate::commit::{PartitionId, StateKind};
use crate::error::{CommitCause, OffsetRange, ReadError};
use crate::log::Log;
use crate::partition::{PartitionView, View};
use crate::queue::{Reply, Submission, abandoned};
use crate::reader::{self, Slice, Unread};
use crate::report::{Finding, PartitionRange};
use crate::shared::Shared;

/// Something that was acknowledged and cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// Offsets of a partition. Where it is not known how many were given, the partition goes on
    /// behind the last of these.
    Offsets(PartitionRange),
    /// Whatever is missing of the keyed entries of a kind.
    State(StateKind),
}

/// Why a loss was not accepted. Nothing is changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    #[error("{0}: the last offset is below the first, or is none that can be given")]
    NoRange(PartitionRange),
    #[error("partition {0} does not exist")]
    UnknownPartition(PartitionId),
    #[error("partition {partition}: offset {offset} can be read, so it is not lost")]
    Readable { partition: PartitionId, offset: i64 },
    #[error("partition {partition} was never given offset {offset}, as far as is known")]
    NeverGiven { partition: PartitionId, offset: i64 },
    #[error("nothing is missing of {0:?}")]
    StateWhole(StateKind),
    #[error("{0}")]
    Read(ReadError),
    #[error("{0}")]
    Commit(CommitCause),
}

impl Log {
    /// Gives up `losses`, all of them or none; durable when it returns (ACCEPT-2).
    pub async fn accept_losses(&self, losses: Vec<Loss>) -> Result<(), AcceptError> {
        for loss in &losses {
            match loss {
                Loss::Offsets(range) => self.check_unreadable(*range)?,
                Loss::State(kind) if !self.state_is_damaged(*kind) => {
                    return Err(AcceptError::StateWhole(*kind));
                }
                Loss::State(_) => {}
            }
        }
        if let Some(fenced) = self.fenced() {
            return Err(AcceptError::Commit(CommitCause::Fenced(fenced)));
        }
        let (to, receiver) = oneshot::channel();
        let reply = Reply::Accept { losses, to };
        let submission = Submission { commit: Box::default(), reply, _permit: None };
        let queued = self.shared().queue.push(submission);
        queued.map_err(|_| AcceptError::Commit(CommitCause::Closed))?;
        let done = receiver.await.unwrap_or_else(|_| Err(abandoned(Box::default()).cause));
        done.map_err(AcceptError::Commit)
    }

    /// As [`Log::read`], batch by batch; what the medium does not give back is damage to who gives
    /// it up.
    pub(crate) fn read_or_damage(&self, id: PartitionId, offset: i64) -> Result<Slice, ReadError> {
        let Shared { view, segments, .. } = &**self.shared();
        let partition = view.partition(id).ok_or(ReadError::UnknownPartition(id))?;
        reader::read(segments, id, &partition, offset, 1, Unread::IsDamage)
    }

    /// Nothing of `lost` may be there (ACCEPT-1). Only where the end is not known may it reach
    /// beyond what is.
    fn check_unreadable(&self, lost: PartitionRange) -> Result<(), AcceptError> {
        let PartitionRange { partition, range } = lost;
        if range.first < 0 || range.last < range.first || range.is_open() {
            return Err(AcceptError::NoRange(lost));
        }
        let view = self.partition(partition).ok_or(AcceptError::UnknownPartition(partition))?;
        let is_end = |known: &OffsetRange| known.is_open() && range.contains(known.first);
        let is_closed = view.damaged.iter().any(is_end);
        if range.last < view.log_start {
            return Err(never_given(partition, range.last));
        }
        // What was lost keeps its name where only the front of it is deleted.
        let mut offset = range.first.max(view.log_start);
        while offset <= range.last {
            if offset >= view.high_watermark {
                let last = range.last;
                return if is_closed { Ok(()) } else { Err(never_given(partition, last)) };
            }
            match self.read_or_damage(partition, offset) {
                Err(ReadError::Damaged { range: found, .. }) => {
                    offset = found.last.saturating_add(1);
                }
                Ok(_) => return Err(AcceptError::Readable { partition, offset }),
                Err(ReadError::OffsetOutOfRange { .. }) => {
                    return Err(never_given(partition, offset));
                }
                Err(error) => return Err(AcceptError::Read(error)),
            }
        }
        Ok(())
    }
}

fn never_given(partition: PartitionId, offset: i64) -> AcceptError {
    AcceptError::NeverGiven { partition, offset }
}

/// What is left of `whole` without `cuts`, which are in order.
pub(crate) fn without(whole: OffsetRange, cuts: &[OffsetRange]) -> Vec<OffsetRange> {
    let mut left = Vec::new();
    let mut next = Some(whole.first);
    for cut in cuts.iter().filter(|cut| cut.last >= whole.first && cut.first <= whole.last) {
        let Some(first) = next else { break };
        if cut.first > first {
            left.push(OffsetRange { first, last: cut.first - 1 });
        }
        next = cut.last.checked_add(1).map(|behind| behind.max(first));
    }
    left.extend(
        next.filter(|next| *next <= whole.last).map(|first| OffsetRange { first, ..whole }),
    );
    left
}

/// Adds a range to those that are in order, none of which overlap.
pub(crate) fn add_range(ranges: &mut Vec<OffsetRange>, range: OffsetRange) {
    ranges.extend(without(range, &ranges.clone()));
    ranges.sort_unstable();
}

/// Whether everything that a finding tells of has been given up: then it is no news any more.
pub(crate) fn is_accepted(view: &View, finding: &Finding) -> bool {
    let (accepted, damaged) = view.state(|table| (table.accepted_kinds(), table.damaged_kinds()));
    let is_state = |kind: &StateKind| accepted.contains(kind) && !damaged.contains(kind);
    let is_given_up = |held: &PartitionRange| match view.partition(held.partition) {
        Some(it) => {
            let PartitionView { log_start, accepted, .. } = it.view();
            let OffsetRange { first, last } = held.range;
            let first = if last < log_start { first } else { first.max(log_start) };
            without(OffsetRange { first, last }, &accepted).is_empty()
        }
        // Its creation is among the entries of that kind: nobody can name its offsets any more.
        None => is_state(&StateKind::Metadata),
    };
    let names_something = !finding.partitions.is_empty() || !finding.states.is_empty();
    names_something
        && finding.partitions.iter().all(is_given_up)
        && finding.states.iter().all(is_state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_and_added() {
        let range = |first, last| OffsetRange { first, last };
        assert_eq!(without(range(3, 9), &[]), [range(3, 9)]);
        assert_eq!(without(range(3, 9), &[range(0, 2), range(10, 12)]), [range(3, 9)]);
        assert_eq!(without(range(3, 9), &[range(0, 4), range(6, 6)]), [range(5, 5), range(7, 9)]);
        assert_eq!(without(range(3, 9), &[range(3, i64::MAX)]), []);
        assert_eq!(without(range(3, i64::MAX), &[range(3, 8)]), [range(9, i64::MAX)]);
        let mut ranges = vec![range(5, 6)];
        add_range(&mut ranges, range(4, 9));
        assert_eq!(ranges, [range(4, 4), range(5, 6), range(7, 9)]);
    }
}
