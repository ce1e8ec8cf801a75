//! What is known of transactions, and the judgement of what a reader of committed records sees.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::failure::Failure;
use crate::tally::Tally;

/// No load waits longer for one of its transactions.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// What became of a transaction, as its producer knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// Nobody has asked to commit it: it was aborted, or left open by a producer that died.
    NotCommitted,
    /// Its commit was asked for and not answered: all of it is there, or nothing.
    Unknown,
    Committed,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    fate: Fate,
    records: u64,
    /// The offset that its group has once it is committed.
    place: Option<i64>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By number, in the order of their beginning; the first is 1.
    transactions: BTreeMap<u64, Transaction>,
    /// The one that its producer is at work on.
    under_way: Option<u64>,
    next_place: i64,
    /// How many their producer has aborted.
    aborted: u64,
    /// What a reader of committed records has seen while the load lasted.
    shown: BTreeSet<Seen>,
}

/// Partition, offset, and what lay there.
pub(crate) type Seen = (i32, i64, String);

/// The one transactional id of a round, over all its producers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// A moment in the life of a producer of transactions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moment {
    /// One is open, and another one was committed since it was begun to wait.
    Open,
    /// A commit was asked for and has no answer.
    InDoubt,
}

/// What one full read and the group's offset came to.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) tally: Tally,
    findings: Vec<String>,
}

impl Display for Judgement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.findings.join("\n"))
    }
}

impl Judgement {
    pub(crate) fn find(&mut self, counter: fn(&mut Tally) -> &mut u64, what: String) {
        *counter(&mut self.tally) += 1;
        self.findings.push(what);
    }

    #[cfg(test)]
    fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Inner {
    fn committed(&self) -> usize {
        self.transactions.values().filter(|it| it.fate == Fate::Committed).count()
    }

    fn moment(&self) -> Option<Moment> {
        match self.transactions.get(&self.under_way?)?.fate {
            Fate::NotCommitted => Some(Moment::Open),
            Fate::Unknown => Some(Moment::InDoubt),
            Fate::Committed => None,
        }
    }
}

/// The name of a transaction in its records.
pub(crate) fn name(number: u64) -> String {
    format!("tx-{number}")
}

/// Transaction and place in it of a record.
fn parse(value: &str) -> Option<(u64, u64)> {
    let (name, sequence) = value.split_once('/')?;
    Some((name.strip_prefix("tx-")?.parse().ok()?, sequence.parse().ok()?))
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a transaction is open or in doubt right now.
    pub(crate) fn moment(&self) -> Option<Moment> {
        self.lock().moment()
    }

    pub(crate) fn wait_for(&self, wanted: Moment) -> Result<(), Failure> {
        let inner = self.lock();
        let enough = inner.committed() + usize::from(wanted == Moment::Open);
        let is_early =
            |inner: &mut Inner| inner.moment() != Some(wanted) || inner.committed() < enough;
        let waited = self.changed.wait_timeout_while(inner, WAIT_MAX, is_early);
        let (_inner, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(Failure::broken(format!("no transaction is {wanted:?} for a minute")));
        }
        Ok(())
    }

    /// Until one more is committed, and one more aborted.
    pub(crate) fn wait_for_ends(&self) -> Result<(), Failure> {
        let inner = self.lock();
        let (committed, aborted) = (inner.committed(), inner.aborted);
        let is_early =
            |inner: &mut Inner| inner.committed() == committed || inner.aborted == aborted;
        let waited = self.changed.wait_timeout_while(inner, WAIT_MAX, is_early);
        let (_inner, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return Err(Failure::broken(
                "no transaction is committed, or none aborted, for a minute",
            ));
        }
        Ok(())
    }

    /// A new transaction of so many records.
    pub(crate) fn begin(&self, records: u64) -> u64 {
        let mut inner = self.lock();
        let number = inner.transactions.len() as u64 + 1;
        let transaction = Transaction { fate: Fate::NotCommitted, records, place: None };
        inner.transactions.insert(number, transaction);
        inner.under_way = Some(number);
        drop(inner);
        self.changed.notify_all();
        number
    }

    /// The offset that is to be committed with it; higher than all before.
    pub(crate) fn next_place(&self) -> i64 {
        self.lock().next_place
    }

    /// Its commit is about to be asked for, with that place.
    pub(crate) fn ask(&self, number: u64) {
        let mut inner = self.lock();
        let place = inner.next_place;
        inner.next_place += 1;
        if let Some(transaction) = inner.transactions.get_mut(&number) {
            (transaction.fate, transaction.place) = (Fate::Unknown, Some(place));
        }
        drop(inner);
        self.changed.notify_all();
    }

    pub(crate) fn committed(&self, number: u64) {
        let mut inner = self.lock();
        if let Some(transaction) = inner.transactions.get_mut(&number) {
            transaction.fate = Fate::Committed;
        }
    }

    /// Its abort was answered, be it after a commit that was refused: nothing of it may be shown.
    pub(crate) fn aborted(&self, number: u64) {
        let mut inner = self.lock();
        if let Some(transaction) = inner.transactions.get_mut(&number) {
            transaction.fate = Fate::NotCommitted;
        }
        inner.under_way = None;
        inner.aborted += 1;
        drop(inner);
        self.changed.notify_all();
    }

    pub(crate) fn show(&self, seen: Seen) {
        self.lock().shown.insert(seen);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().transactions.is_empty()
    }

    /// Judges a full read, after which no transaction is open, and the offset of the group. What
    /// was unknown before is known from here on.
    pub(crate) fn judge(&self, read: &[Seen], place: Option<i64>) -> Judgement {
        let mut inner = self.lock();
        inner.under_way = None;
        let mut judgement = Judgement::default();
        let found = sort(read, &mut judgement);
        for number in found.keys().filter(|number| !inner.transactions.contains_key(number)) {
            judgement.find(|tally| &mut tally.altered, format!("nobody began tx-{number}"));
        }
        for (number, transaction) in &mut inner.transactions {
            let count = found.get(number).map_or(0, |sequences| sequences.len() as u64);
            judge_one(*number, transaction, count, &mut judgement);
        }
        let there: BTreeSet<Seen> = read.iter().cloned().collect();
        for (partition, offset, value) in inner.shown.difference(&there) {
            let what = format!("{value} was shown at {partition}-{offset} and is gone");
            judgement.find(|tally| &mut tally.lost, what);
        }
        let committed = inner.transactions.values().filter(|it| it.fate == Fate::Committed);
        let expected = committed.filter_map(|transaction| transaction.place).max();
        if place != expected {
            let what = format!("committed with the transactions: {expected:?}, found: {place:?}");
            judgement.find(|tally| &mut tally.broken, what);
        }
        judgement
    }
}

/// By transaction: which of its records are there, each once and in order.
fn sort(read: &[Seen], judgement: &mut Judgement) -> BTreeMap<u64, BTreeSet<u64>> {
    let mut found: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut last: BTreeMap<i32, (u64, u64)> = BTreeMap::new();
    for (partition, offset, value) in read {
        let Some((number, sequence)) = parse(value) else {
            let what = format!("{partition}-{offset} holds '{value}'");
            judgement.find(|tally| &mut tally.altered, what);
            continue;
        };
        if !found.entry(number).or_default().insert(sequence) {
            judgement.find(|tally| &mut tally.duplicates, format!("{value} is there twice"));
        } else if last.insert(*partition, (number, sequence)) > Some((number, sequence)) {
            judgement.find(|tally| &mut tally.reordered, format!("{value} is out of order"));
        }
    }
    found
}

fn judge_one(number: u64, transaction: &mut Transaction, count: u64, judgement: &mut Judgement) {
    let records = transaction.records;
    match transaction.fate {
        Fate::NotCommitted if count > 0 => {
            let what = format!("{count} records of tx-{number} are shown; it was not committed");
            judgement.find(|tally| &mut tally.altered, what);
        }
        Fate::Committed if count < records => {
            let what = format!("tx-{number} was committed: {count} of {records} are there");
            judgement.find(|tally| &mut tally.lost, what);
        }
        Fate::Unknown if count == 0 => transaction.fate = Fate::NotCommitted,
        Fate::Unknown if count == records => transaction.fate = Fate::Committed,
        Fate::Unknown => {
            let what = format!("{count} of the {records} records of tx-{number} are there");
            judgement.find(|tally| &mut tally.broken, what);
        }
        Fate::NotCommitted | Fate::Committed => {}
    }
    if transaction.fate == Fate::Committed {
        judgement.tally.acknowledged += records;
        judgement.tally.transactions += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transaction 1 is committed, 2 aborted, 3 unknown; two records each.
    fn ledger() -> Ledger {
        let ledger = Ledger::default();
        for number in 1..=3 {
            assert_eq!(ledger.begin(2), number);
            if number != 2 {
                ledger.ask(number);
            }
        }
        ledger.committed(1);
        ledger
    }

    fn read(values: &[&str]) -> Vec<Seen> {
        let at = |(offset, value): (i64, &&str)| (0, offset, (*value).to_owned());
        (0..).zip(values).map(at).collect()
    }

    fn tally(values: &[&str], place: Option<i64>) -> Tally {
        ledger().judge(&read(values), place).tally
    }

    #[test]
    fn transactions_are_there_as_a_whole_or_not_at_all() {
        let first = ["tx-1/0", "tx-1/1"];
        let both = ["tx-1/0", "tx-1/1", "tx-3/0", "tx-3/1"];
        for (values, place, acknowledged) in [(&first[..], 0, 2), (&both[..], 1, 4)] {
            let clean = Tally { acknowledged, transactions: acknowledged / 2, ..Tally::default() };
            assert_eq!(tally(values, Some(place)), clean, "{values:?}");
        }
        let lost = Tally { acknowledged: 2, transactions: 1, lost: 1, ..Tally::default() };
        assert_eq!(tally(&["tx-1/0"], Some(0)), lost);
        let torn = ledger().judge(&read(&["tx-1/0", "tx-1/1", "tx-3/0"]), Some(0));
        assert_eq!((torn.tally.broken, torn.is_clean()), (1, false));
        assert!(torn.to_string().contains("1 of the 2 records of tx-3"));
    }

    #[test]
    fn what_is_aborted_foreign_doubled_or_out_of_order_is_found() {
        let first = ["tx-1/0", "tx-1/1"];
        let with = |more: &str| tally(&[first[0], first[1], more], Some(0));
        assert_eq!(with("tx-2/0").altered, 1);
        assert_eq!(with("tx-9/0").altered, 1);
        assert_eq!(with("unreadable").altered, 1);
        assert_eq!(with("tx-1/1").duplicates, 1);
        assert_eq!(tally(&["tx-1/1", "tx-1/0"], Some(0)).reordered, 1);
    }

    #[test]
    fn an_offset_goes_with_its_transaction() {
        let first = ["tx-1/0", "tx-1/1"];
        for place in [None, Some(1), Some(-1)] {
            assert_eq!(tally(&first, place).broken, 1, "{place:?}");
        }
        let both = ["tx-1/0", "tx-1/1", "tx-3/0", "tx-3/1"];
        assert_eq!(tally(&both, Some(0)).broken, 1);
    }

    #[test]
    fn what_was_aborted_after_its_commit_was_refused_is_found_when_it_is_shown() {
        let all = ["tx-1/0", "tx-1/1", "tx-3/0", "tx-3/1"];
        let judged = |values: &[&str]| {
            let ledger = ledger();
            ledger.aborted(3);
            ledger.judge(&read(values), Some(0)).tally
        };
        let clean = Tally { acknowledged: 2, transactions: 1, ..Tally::default() };
        assert_eq!(judged(&all[..2]), clean);
        assert_eq!(judged(&all), Tally { altered: 1, ..clean });
    }

    #[test]
    fn the_moment_of_a_strike_is_known() {
        let ledger = Ledger::default();
        assert_eq!(ledger.moment(), None);
        let number = ledger.begin(2);
        assert_eq!(ledger.moment(), Some(Moment::Open));
        ledger.ask(number);
        assert_eq!(ledger.moment(), Some(Moment::InDoubt));
        ledger.wait_for(Moment::InDoubt).unwrap();
        ledger.committed(number);
        assert_eq!(ledger.moment(), None);
        let number = ledger.begin(1);
        ledger.aborted(number);
        assert_eq!(ledger.moment(), None);
    }

    #[test]
    fn what_was_shown_or_decided_once_stays_so() {
        let ledger = ledger();
        ledger.show((0, 2, "tx-3/0".to_owned()));
        let without = read(&["tx-1/0", "tx-1/1"]);
        assert_eq!(ledger.judge(&without, Some(0)).tally.lost, 1);
        let both = read(&["tx-1/0", "tx-1/1", "tx-3/0", "tx-3/1"]);
        let judgement = ledger.judge(&both, Some(1));
        assert_eq!((judgement.tally.altered, judgement.tally.lost), (1, 0));
    }
}
