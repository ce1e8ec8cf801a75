//! What a partition knows of transactions: where the open ones begin, and which were aborted.
//!
//! # Invariants
//! - TXN-1: the last stable offset is at or below the first offset of every open transaction, and
//!   passes it only with that transaction's marker.
//! - TXN-2: an aborted transaction is known from the moment its marker is visible, so that no
//!   committed reader ever sees a record of it.
//! - TXN-3: appends and replay come to the same: all of it follows from the batches alone.
//! - TXN-4: where a marker may have been lost to damage, the transaction it may have ended never
//!   looks committed: the last stable offset stays below it until a person has decided.

use lossproof_env::{Planted, planted};

use crate::error::OffsetRange;

/// What a batch is to its producer's transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Part {
    pub(crate) producer_id: i64,
    pub(crate) step: Step,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// The first of them opens the transaction.
    Records,
    Commit,
    Abort,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OpenTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
}

/// A transaction that was open where batches were lost: its marker may have been among them
/// (TXN-4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Doubtful {
    pub(crate) transaction: OpenTransaction,
    /// Where the first and the last of those losses begin. What its producer wrote up to the last
    /// is its own, or that of further ones whose end is not known either.
    pub(crate) first_loss: i64,
    pub(crate) last_loss: i64,
}

/// A transaction whose records a committed reader leaves out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct AbortedTransaction {
    pub first_offset: i64,
    /// Of its marker.
    pub last_offset: i64,
    pub producer_id: i64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Aborted {
    pub(crate) transaction: AbortedTransaction,
    /// The last stable offset behind its marker: no later one begins before, unless it is the
    /// first offset itself ([`Transactions::decided`]).
    pub(crate) stable: i64,
}

/// The transactions of one partition; plain data, to be kept and brought back as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Transactions {
    /// In the order in which they were opened, so by first offset.
    pub(crate) open: Vec<OpenTransaction>,
    /// In the order in which they were aborted, so by last offset.
    pub(crate) aborted: Vec<Aborted>,
    /// Those whose marker may be lost, by first offset (TXN-4).
    pub(crate) doubtful: Vec<Doubtful>,
}

impl Transactions {
    /// What counts against the bound.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.aborted.len()
    }

    /// Adds what a checkpoint has of them, part by part.
    pub(crate) fn extend(&mut self, more: Self) {
        self.open.extend(more.open);
        self.aborted.extend(more.aborted);
        self.doubtful.extend(more.doubtful);
    }

    /// Those that were aborted below the log start concern nobody any more; how many. Nor do those
    /// in doubt of which nothing stands above it.
    pub(crate) fn forget_below(&mut self, log_start: i64) -> usize {
        let gone = self.aborted.partition_point(|it| it.transaction.last_offset < log_start);
        self.aborted.drain(..gone);
        self.doubtful.retain(|it| it.last_loss > log_start);
        gone
    }

    /// Takes over a batch that begins at `offset`.
    pub(crate) fn take(&mut self, part: &Part, offset: i64) {
        let known = self.open.iter().position(|open| open.producer_id == part.producer_id);
        match (part.step, known) {
            (Step::Records, None) => {
                let open = OpenTransaction { producer_id: part.producer_id, first_offset: offset };
                assert!(self.open.last().is_none_or(|last| last.first_offset < offset), "TXN-1");
                self.open.push(open);
            }
            (Step::Commit, Some(at)) => {
                self.open.remove(at);
            }
            (Step::Abort, Some(at)) => {
                let OpenTransaction { producer_id, first_offset } = self.open.remove(at);
                let transaction =
                    AbortedTransaction { first_offset, last_offset: offset, producer_id };
                let stable = self.last_stable(offset + 1);
                if !planted(Planted::AbortedForgotten) {
                    self.aborted.push(Aborted { transaction, stable }); // TXN-2
                }
            }
            // More of an open one; or the end of one that has brought nothing to this partition.
            (Step::Records, Some(_)) | (Step::Commit | Step::Abort, None) => {}
        }
    }

    /// The batches of `lost` are gone, maybe with markers: what is open there stays so for ever
    /// (TXN-4).
    pub(crate) fn doubt(&mut self, lost: OffsetRange) {
        for open in self.open.iter().filter(|open| open.first_offset <= lost.last) {
            match self.doubtful.iter_mut().find(|it| it.transaction == *open) {
                Some(known) => {
                    known.first_loss = known.first_loss.min(lost.first);
                    known.last_loss = known.last_loss.max(lost.first);
                }
                None => self.doubtful.push(Doubtful {
                    transaction: *open,
                    first_loss: lost.first,
                    last_loss: lost.first,
                }),
            }
        }
        self.doubtful.sort_unstable_by_key(|it| it.transaction.first_offset);
    }

    /// `range` is given up: transactions that came into doubt by it count as aborted (ACCEPT-4),
    /// but not what their producers wrote behind it, which is none of theirs. What seems to go on
    /// behind it stays open, and may still end as it likes.
    pub(crate) fn accept(&mut self, range: OffsetRange) {
        let (decided, left): (Vec<Doubtful>, Vec<Doubtful>) =
            self.doubtful.drain(..).partition(|it| range.contains(it.first_loss));
        self.doubtful = left;
        for Doubtful { transaction: open, last_loss, .. } in decided {
            let OpenTransaction { producer_id, first_offset } = open;
            let last_offset = last_loss - 1;
            if first_offset > last_offset {
                continue;
            }
            let transaction = AbortedTransaction { first_offset, last_offset, producer_id };
            let at = self.aborted.partition_point(|it| it.transaction.last_offset <= last_offset);
            self.aborted.insert(at, Aborted { transaction, stable: first_offset });
        }
    }

    /// Those that count as aborted because of what was given up ([`Self::accept`]): no marker says
    /// so of them. What they hold back themselves tells them apart from the others: a transaction
    /// that has its own marker holds nothing back, but while it is in doubt.
    pub(crate) fn decided(&self) -> Vec<AbortedTransaction> {
        let is_doubtful = |it: &AbortedTransaction| {
            self.doubtful.iter().any(|known| known.transaction.first_offset == it.first_offset)
        };
        let own = self.aborted.iter().filter(|it| it.stable == it.transaction.first_offset);
        let mut all: Vec<AbortedTransaction> =
            own.map(|it| it.transaction).filter(|it| !is_doubtful(it)).collect();
        all.sort_unstable();
        all.dedup_by_key(|it| it.first_offset);
        all
    }

    /// The last stable offset (TXN-1).
    pub(crate) fn last_stable(&self, high_watermark: i64) -> i64 {
        let open = self.open.first().filter(|_| !planted(Planted::StableTooFar));
        let doubtful = self.doubtful.first().map(|it| &it.transaction);
        let first = [open, doubtful].into_iter().flatten();
        first.map(|open| open.first_offset).min().unwrap_or(high_watermark)
    }

    /// Those with batches from `from` to below `to`, by first offset: a client goes through the
    /// list and the batches side by side, and one in the wrong place would be read as committed.
    pub(crate) fn aborted(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let ended = self.aborted.partition_point(|it| it.transaction.last_offset < from);
        let mut found = Vec::new();
        for aborted in &self.aborted[ended..] {
            if aborted.transaction.first_offset < to {
                found.push(aborted.transaction);
            }
            // What was decided says nothing of those behind it: they may have been lost later, and
            // have begun before.
            if aborted.stable >= to && aborted.stable != aborted.transaction.first_offset {
                break;
            }
        }
        found.sort_unstable();
        // Of what was given up, and then aborted behind that as well.
        found.dedup_by_key(|it| it.first_offset);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(transactions: &mut Transactions, producer_id: i64, step: Step, offset: i64) {
        transactions.take(&Part { producer_id, step }, offset);
    }

    #[test]
    fn the_earliest_open_one_holds_the_stable_offset() {
        // TXN-1
        let mut known = Transactions::default();
        assert_eq!(known.last_stable(5), 5);
        take(&mut known, 1, Step::Records, 5);
        take(&mut known, 2, Step::Records, 6);
        take(&mut known, 1, Step::Records, 7);
        assert_eq!(known.last_stable(8), 5);
        take(&mut known, 1, Step::Commit, 8);
        assert_eq!(known.last_stable(9), 6);
        take(&mut known, 2, Step::Abort, 9);
        assert_eq!((known.last_stable(10), known.len()), (10, 1));
        take(&mut known, 3, Step::Commit, 10);
        assert_eq!((known.last_stable(11), known.len()), (11, 1), "it had brought nothing");
    }

    #[test]
    fn aborted_ones_are_found_by_range_and_sorted_by_first_offset() {
        // TXN-2: the trap is that they end in another order than they begin.
        let mut known = Transactions::default();
        for (producer_id, offset) in [(1, 0), (2, 1), (3, 2)] {
            take(&mut known, producer_id, Step::Records, offset);
        }
        for (producer_id, offset) in [(3, 3), (1, 4), (2, 5)] {
            take(&mut known, producer_id, Step::Abort, offset);
        }
        take(&mut known, 4, Step::Records, 6);
        take(&mut known, 4, Step::Abort, 7);
        let firsts = |from, to| -> Vec<i64> {
            known.aborted(from, to).iter().map(|it| it.first_offset).collect()
        };
        assert_eq!(firsts(0, 8), [0, 1, 2, 6]);
        assert_eq!(firsts(4, 6), [0, 1]);
        assert_eq!(firsts(0, 1), [0]);
        assert_eq!(firsts(5, 7), [1, 6]);
        assert_eq!(firsts(8, 100), []);
        assert_eq!(known.forget_below(5), 2);
        assert_eq!(known.aborted(0, 8).len(), 2);
    }

    #[test]
    fn a_range_is_searched_no_further_than_it_reaches() {
        let mut known = Transactions::default();
        for index in 0..100 {
            take(&mut known, index, Step::Records, index * 2);
            take(&mut known, index, Step::Abort, index * 2 + 1);
        }
        assert!(known.aborted.iter().all(|it| it.stable == it.transaction.last_offset + 1));
        assert_eq!(known.aborted(50, 52).len(), 1);
    }

    #[test]
    fn what_was_open_at_a_range_that_is_given_up_counts_as_aborted() {
        // ACCEPT-4
        let range = OffsetRange { first: 4, last: 19 };
        let mut known = Transactions::default();
        take(&mut known, 1, Step::Records, 2);
        take(&mut known, 2, Step::Records, 3);
        known.doubt(range);
        take(&mut known, 1, Step::Commit, 20);
        take(&mut known, 3, Step::Records, 21);
        take(&mut known, 3, Step::Abort, 22);
        assert_eq!(known.last_stable(23), 2);
        known.accept(range);
        let firsts = |from, to| -> Vec<(i64, i64)> {
            let found = known.aborted(from, to);
            found.iter().map(|it| (it.producer_id, it.first_offset)).collect()
        };
        assert_eq!(firsts(0, 23), [(1, 2), (2, 3), (3, 21)]);
        assert_eq!(firsts(4, 23), [(3, 21)], "what comes behind is not touched by it");
        assert_eq!(known.last_stable(23), 3, "one of them has not ended yet");
        take(&mut known, 2, Step::Abort, 23);
        assert_eq!((known.last_stable(24), known.aborted(0, 4).len()), (24, 2));
    }

    /// ACCEPT-4. The next transaction of the same producer has begun where the range is given up:
    /// it looks like more of the first, and with its commit that one must not look committed.
    #[test]
    fn what_goes_on_behind_a_loss_commits_nothing_before_it() {
        let range = OffsetRange { first: 4, last: 19 };
        let mut known = Transactions::default();
        take(&mut known, 1, Step::Records, 3);
        known.doubt(range);
        take(&mut known, 1, Step::Records, 20);
        known.accept(range);
        assert_eq!(known.last_stable(21), 3);
        take(&mut known, 1, Step::Commit, 21);
        let aborted = AbortedTransaction { first_offset: 3, last_offset: 3, producer_id: 1 };
        assert_eq!((known.last_stable(22), known.aborted(0, 22)), (22, vec![aborted]));
        assert_eq!(known.aborted(20, 22), []);
    }

    /// ACCEPT-4. Two losses, of which the later one is given up first: it decides nothing of a
    /// transaction that the earlier one brought into doubt, and hides nothing that was committed
    /// between the two.
    #[test]
    fn a_transaction_is_decided_with_the_loss_that_brought_it_into_doubt() {
        let [early, late] = [(4, 9), (30, 39)].map(|(first, last)| OffsetRange { first, last });
        let mut known = Transactions::default();
        take(&mut known, 1, Step::Records, 2);
        known.doubt(early);
        take(&mut known, 1, Step::Records, 10);
        take(&mut known, 1, Step::Commit, 11);
        known.doubt(late);
        known.accept(late);
        assert_eq!((known.last_stable(40), known.aborted(0, 40)), (2, vec![]), "not decided yet");
        known.accept(early);
        let aborted = AbortedTransaction { first_offset: 2, last_offset: 3, producer_id: 1 };
        assert_eq!((known.last_stable(40), known.aborted(0, 40)), (40, vec![aborted]));
        assert_eq!(known.aborted(10, 40), [], "what was committed behind it is shown");
    }

    /// ACCEPT-4. Two losses in what seems one transaction: all of it up to the second is in doubt.
    #[test]
    fn what_stands_between_two_losses_never_looks_committed() {
        let [early, late] = [(4, 9), (30, 39)].map(|(first, last)| OffsetRange { first, last });
        let mut known = Transactions::default();
        take(&mut known, 1, Step::Records, 2);
        known.doubt(early);
        take(&mut known, 1, Step::Records, 10);
        known.doubt(late);
        take(&mut known, 1, Step::Records, 40);
        take(&mut known, 1, Step::Commit, 41);
        known.accept(early);
        assert_eq!(known.aborted(10, 30).len(), 1, "its marker may be in the second loss");
        assert_eq!(known.aborted(40, 42), []);
    }

    /// ACCEPT-4. The trap: of two transactions the one that began first was lost last.
    #[test]
    fn of_two_that_are_given_up_neither_hides_the_other() {
        let [early, late] = [(20, 24), (40, 44)].map(|(first, last)| OffsetRange { first, last });
        let mut known = Transactions::default();
        take(&mut known, 2, Step::Records, 5);
        take(&mut known, 1, Step::Records, 10);
        known.doubt(early);
        take(&mut known, 1, Step::Commit, 30);
        known.doubt(late);
        take(&mut known, 2, Step::Commit, 50);
        for range in [early, late] {
            known.accept(range);
        }
        let second = AbortedTransaction { first_offset: 5, last_offset: 39, producer_id: 2 };
        let first = AbortedTransaction { first_offset: 10, last_offset: 19, producer_id: 1 };
        assert_eq!((known.last_stable(51), known.aborted(0, 51)), (51, vec![second, first]));
        for to in 6..=10 {
            assert_eq!(known.aborted(0, to), [second], "to {to}");
        }
    }

    /// Else nothing would ever be committed there again.
    #[test]
    fn doubt_ends_where_all_of_it_is_below_the_log_start() {
        let mut known = Transactions::default();
        take(&mut known, 1, Step::Records, 2);
        known.doubt(OffsetRange { first: 4, last: 9 });
        take(&mut known, 1, Step::Commit, 10);
        known.forget_below(3);
        assert_eq!(known.last_stable(11), 2);
        known.forget_below(4);
        assert_eq!(known.last_stable(11), 11);
    }

    #[test]
    fn a_marker_that_may_be_lost_leaves_its_transaction_open_for_ever() {
        // TXN-4
        let mut known = Transactions::default();
        take(&mut known, 1, Step::Records, 3);
        known.doubt(OffsetRange { first: 4, last: 19 });
        take(&mut known, 1, Step::Records, 20);
        take(&mut known, 1, Step::Commit, 21);
        assert_eq!(known.last_stable(22), 3);
        let mut calm = Transactions::default();
        calm.doubt(OffsetRange { first: 20, last: 21 });
        assert_eq!(calm.last_stable(22), 22, "nothing was open");
    }
}
