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
    /// Has it so many cycles that some must meet a transaction that is open, some one in doubt,
    /// and that something must be committed and compacted?
    pub(crate) meets_all: bool,
}

impl Fault {
    const fn new(
        name: &'static str,
        cycles_min: u64,
        round: fn(&Setup, u64, &mut Tally) -> Result<(), Failure>,
    ) -> Self {
        Self { name, cycles_min, round, is_control: false, meets_all: false }
    }
}

pub(crate) const FAULTS: [Fault; 7] = [
    Fault { is_control: true, ..Fault::new("canary", 1, canary::round) },
    Fault { meets_all: true, ..Fault::new("kill", 60, kill::round) },
    Fault { meets_all: true, ..Fault::new("power-cut", 60, power_cut::round) },
    Fault::new("bit-flip", 36, bit_flip::round),
    Fault::new("sync-error", 12, sync_error::round),
    Fault::new("disk-full", 6, disk_full::round),
    Fault::new("syscall-kill", 10, syscall_kill::round),
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
