//! What is known of the offsets that the members of a group commit, and the judgement of what each
//! of them is given to read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::Failure;
use crate::ledger::Judgement;

/// No round waits longer for its members.
const WAIT_MAX: Duration = Duration::from_mins(1);

pub(crate) type Partition = (String, i32);

/// What may be committed in a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Committed {
    /// Acknowledged; zero is before anybody joins.
    floor: i64,
    /// Asked for with no good answer: each of them may have been stored.
    asked: BTreeSet<i64>,
}

impl Committed {
    fn may_be(&self, offset: i64) -> bool {
        offset == self.floor || offset > self.floor && self.asked.contains(&offset)
    }
}

#[derive(Debug, Default)]
struct Inner {
    committed: BTreeMap<Partition, Committed>,
    commits: u64,
    rebalances: u64,
    findings: Vec<String>,
}

/// The one group with members of a round, over all its loads.
#[derive(Debug, Default)]
pub(crate) struct Members {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// Something that members do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// A commit of theirs is acknowledged.
    Commit,
    /// One that had partitions is given others.
    Rebalance,
}

impl Inner {
    fn count(&self, act: Act) -> u64 {
        match act {
            Act::Commit => self.commits,
            Act::Rebalance => self.rebalances,
        }
    }
}

impl Members {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until they have done so once more.
    pub(crate) fn wait_for(&self, act: Act) -> Result<(), Failure> {
        let inner = self.lock();
        let before = inner.count(act);
        let is_early = |inner: &mut Inner| inner.count(act) == before;
        let waited = self.changed.wait_timeout_while(inner, WAIT_MAX, is_early);
        let (_inner, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(Failure::broken(format!("no {act:?} of a member for a minute")));
        }
        Ok(())
    }

    /// A commit is about to be asked for.
    pub(crate) fn ask(&self, partition: &Partition, offset: i64) {
        let mut inner = self.lock();
        inner.committed.entry(partition.clone()).or_default().asked.insert(offset);
    }

    /// It has a good answer.
    pub(crate) fn acknowledged(&self, partition: &Partition, offset: i64) {
        let mut inner = self.lock();
        inner.commits += 1;
        inner.raise(partition, offset);
        drop(inner);
        self.changed.notify_all();
    }

    pub(crate) fn rebalanced(&self) {
        self.lock().rebalances += 1;
        self.changed.notify_all();
    }

    /// As it stands now.
    pub(crate) fn committed(&self, partition: &Partition) -> Committed {
        self.lock().committed.get(partition).cloned().unwrap_or_default()
    }

    pub(crate) fn find(&self, what: String) {
        self.lock().findings.push(what);
    }

    /// All partitions in which a commit was asked for.
    pub(crate) fn partitions(&self) -> Vec<Partition> {
        self.lock().committed.keys().cloned().collect()
    }

    /// Judges what members were given so far, and what is found to be committed now, with no member
    /// at work.
    pub(crate) fn judge(&self, found: &BTreeMap<Partition, i64>) -> Judgement {
        let mut inner = self.lock();
        let mut judgement = Judgement::default();
        for what in &inner.findings {
            judgement.find(|tally| &mut tally.broken, what.clone());
        }
        for (partition, committed) in inner.committed.clone() {
            match found.get(&partition) {
                Some(offset) if committed.may_be(*offset) => inner.raise(&partition, *offset),
                offset => {
                    let (topic, number) = partition;
                    let what =
                        format!("{topic}-{number}: {offset:?} is committed, of {committed:?}");
                    judgement.find(|tally| &mut tally.broken, what);
                }
            }
        }
        judgement.tally.member_commits = inner.commits;
        judgement.tally.rebalances = inner.rebalances;
        judgement
    }
}

impl Inner {
    fn raise(&mut self, partition: &Partition, offset: i64) {
        let committed = self.committed.entry(partition.clone()).or_default();
        committed.floor = committed.floor.max(offset);
        let floor = committed.floor;
        committed.asked.retain(|asked| *asked > floor);
    }
}

/// What one member has of the group's partitions.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// What may have been committed when it got the partition.
    starts: BTreeMap<Partition, Committed>,
    /// One past what it was given last.
    next: BTreeMap<Partition, i64>,
    /// Given to it since it last committed there.
    is_new: BTreeSet<Partition>,
}

impl Holding {
    pub(crate) fn assign(&mut self, starts: BTreeMap<Partition, Committed>) {
        *self = Self { starts, ..Self::default() };
    }

    pub(crate) fn revoke(&mut self) {
        *self = Self::default();
    }

    /// Takes a record; what is wrong with being given it, if anything is. The first one is the one
    /// that was committed, each other one the next; where a topic has offsets without records for
    /// its readers (`is_dense` says no), not before that one.
    pub(crate) fn take(
        &mut self,
        partition: &Partition,
        offset: i64,
        is_dense: bool,
    ) -> Option<String> {
        self.is_new.insert(partition.clone());
        let is_right = match (self.next.insert(partition.clone(), offset + 1), is_dense) {
            (Some(next), true) => offset == next,
            (Some(next), false) => offset >= next,
            (None, true) => self.starts.get(partition).is_some_and(|it| it.may_be(offset)),
            (None, false) => self.starts.get(partition).is_some_and(|it| offset >= it.floor),
        };
        let (topic, number) = partition;
        (!is_right).then(|| {
            let start = self.starts.get(partition);
            format!("{topic}-{number}: a member is given {offset}, and began at {start:?}")
        })
    }

    /// What it has to commit: of each partition with news the offset behind them.
    pub(crate) fn news(&mut self) -> Vec<(Partition, i64)> {
        let new = std::mem::take(&mut self.is_new).into_iter();
        new.filter_map(|partition| Some((partition.clone(), *self.next.get(&partition)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        ("t".to_owned(), 0)
    }

    /// 10 is acknowledged, 20 was asked for.
    fn members() -> Members {
        let members = Members::default();
        for offset in [5, 10, 20] {
            members.ask(&partition(), offset);
            if offset != 20 {
                members.acknowledged(&partition(), offset);
            }
        }
        members
    }

    fn holding(members: &Members) -> Holding {
        let mut holding = Holding::default();
        holding.assign(BTreeMap::from([(partition(), members.committed(&partition()))]));
        holding
    }

    fn is_right(offsets: &[i64], is_dense: bool) -> bool {
        let mut holding = holding(&members());
        offsets.iter().all(|offset| holding.take(&partition(), *offset, is_dense).is_none())
    }

    #[test]
    fn a_member_begins_at_what_is_committed_and_goes_on_without_a_jump() {
        for right in [&[10, 11, 12][..], &[20, 21]] {
            assert!(is_right(right, true), "{right:?}");
        }
        for wrong in [&[9][..], &[5], &[0], &[11], &[21], &[10, 12], &[10, 10], &[10, 9]] {
            assert!(!is_right(wrong, true), "{wrong:?}");
        }
        assert!(is_right(&[10, 12], false) && is_right(&[15], false), "offsets without records");
        assert!(!is_right(&[9], false) && !is_right(&[10, 10], false));
    }

    #[test]
    fn what_was_committed_later_does_not_count_for_who_was_there_before() {
        let members = members();
        let mut holding = holding(&members);
        members.ask(&partition(), 30);
        members.acknowledged(&partition(), 30);
        assert_eq!(holding.take(&partition(), 10, true), None);
        let assign = |holding: &mut Holding| {
            holding.assign(BTreeMap::from([(partition(), members.committed(&partition()))]));
        };
        assign(&mut holding);
        assert!(holding.take(&partition(), 11, true).is_some(), "what it was given before");
        assign(&mut holding);
        assert_eq!(holding.take(&partition(), 30, true), None);
        holding.revoke();
        assert!(holding.take(&partition(), 30, true).is_some(), "it is not its partition");
    }

    #[test]
    fn a_member_commits_what_it_was_given_and_that_once() {
        let mut holding = holding(&members());
        holding.take(&partition(), 10, true);
        holding.take(&partition(), 11, true);
        assert_eq!(holding.news(), [(partition(), 12)]);
        assert!(holding.news().is_empty());
    }

    #[test]
    fn committed_offsets_are_kept() {
        let broken = |found: Option<i64>| {
            let found = found.map(|offset| (partition(), offset));
            members().judge(&found.into_iter().collect()).tally.broken
        };
        for right in [Some(10), Some(20)] {
            assert_eq!(broken(right), 0, "{right:?}");
        }
        for wrong in [None, Some(0), Some(5), Some(9), Some(15), Some(21)] {
            assert_eq!(broken(wrong), 1, "{wrong:?}");
        }
        let members = members();
        let at = |offset: i64| members.judge(&BTreeMap::from([(partition(), offset)])).tally;
        assert_eq!((at(20).broken, at(20).member_commits), (0, 2));
        assert_eq!(at(10).broken, 1, "what was found once stays");
        members.find("a jump".to_owned());
        assert_eq!(at(20).broken, 1);
    }
}
