//! What is done to the broker, one file for each fault.

mod bit_flip;
mod canary;
mod disk_full;
mod kill;
mod power_cut;
mod sync_error;
mod syscall_kill;

use std::str::FromStr;

use crate::failure::Failure;
use crate::round::Setup;
use crate::tally::Tally;

/// Something that a fault is there to meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Met {
    Committed,
    Open,
    InDoubt,
    Compacted,
    MemberCommitted,
    Rebalanced,
    ReportedBatch,
}

impl Met {
    /// How often it was met.
    pub(crate) fn count(self, tally: &Tally) -> u64 {
        match self {
            Self::Committed => tally.transactions,
            Self::Open => tally.struck_open,
            Self::InDoubt => tally.struck_in_doubt,
            Self::Compacted => tally.compacted,
            Self::MemberCommitted => tally.member_commits,
            Self::Rebalanced => tally.rebalances,
            Self::ReportedBatch => tally.reported_batches,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Committed => "transaction was committed",
            Self::Open => "transaction was open at a strike",
            Self::InDoubt => "commit was in doubt at a strike",
            Self::Compacted => "record was compacted",
            Self::MemberCommitted => "member of a group has committed",
            Self::Rebalanced => "group was rebalanced",
            Self::ReportedBatch => "damaged batch was reported",
        }
    }
}

/// In so many cycles some must meet each of these.
const ALL_UNDER_LOAD: &[Met] = &[
    Met::Committed,
    Met::Open,
    Met::InDoubt,
    Met::Compacted,
    Met::MemberCommitted,
    Met::Rebalanced,
];
/// Each cycle waits for a commit and a move.
const SETTLED: &[Met] = &[Met::Committed, Met::Compacted];
/// Before anything is flipped it waits for commits.
const OF_FLIPS: &[Met] = &[Met::Committed, Met::ReportedBatch];

/// A fault, and how it is injected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Cycles that the short form makes at least.
    pub(crate) cycles_min: u64,
    /// Runs one round with that seed.
    pub(crate) round: fn(&Setup, u64, &mut Tally) -> Result<(), Failure>,
    /// Is it there to find something? Then its figures are no evidence.
    pub(crate) is_control: bool,
    /// What it is sure to meet in its least number of cycles; else it was not what it should be.
    pub(crate) meets: &'static [Met],
}

impl Fault {
    const fn new(
        name: &'static str,
        cycles_min: u64,
        round: fn(&Setup, u64, &mut Tally) -> Result<(), Failure>,
    ) -> Self {
        Self { name, cycles_min, round, is_control: false, meets: &[] }
    }
}

/// The longest first, so that no lane has to wait for it at the end.
pub(crate) const FAULTS: [Fault; 7] = [
    Fault { is_control: true, ..Fault::new("canary", 1, canary::round) },
    Fault { meets: SETTLED, ..Fault::new("syscall-kill", 10, syscall_kill::round) },
    Fault { meets: ALL_UNDER_LOAD, ..Fault::new("kill", 60, kill::round) },
    Fault { meets: ALL_UNDER_LOAD, ..Fault::new("power-cut", 60, power_cut::round) },
    Fault { meets: OF_FLIPS, ..Fault::new("bit-flip", 36, bit_flip::round) },
    Fault { meets: SETTLED, ..Fault::new("sync-error", 12, sync_error::round) },
    Fault { meets: &[Met::Committed], ..Fault::new("disk-full", 6, disk_full::round) },
];

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = FAULTS.into_iter().find(|fault| fault.name == name);
        found.ok_or_else(|| {
            let names = FAULTS.map(|fault| fault.name).join(", ");
            format!("no fault '{name}'; there are: {names}")
        })
    }
}
