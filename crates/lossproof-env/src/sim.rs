//! A disk in memory that knows what a power cut would leave.
//!
//! # Invariants
//!
//! - `SIM-1`: the process sees every change at once; the disk has those only that a sync of the
//!   file (its bytes) or of the directory (its names) has covered.
//! - `SIM-2`: an image holds all that was synced at its position, and of the rest whatever its
//!   [`Choice`] says, in the order it was done.
//! - `SIM-3`: position and choice give the same image every time, on every machine.
//! - `SIM-4`: a sync that failed leaves bytes, or names, visible and gone: no later sync brings
//!   them.
//! - `SIM-5`: a name is in an image only with all directories above it.

mod choice;
mod content;
mod disk;
mod fault;
mod recording;
mod step;
mod tree;

pub(crate) use content::spans;

pub use choice::{Choice, Kept, Ruin, Unit};
pub use disk::{SimDisk, StepObserver};
pub use fault::Fault;
pub use recording::{CrashImage, CrashPlan, ImageCounts, Recording};
pub use step::{FileId, Step};
