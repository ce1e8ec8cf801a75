//! The seams to the outside world: [`Disk`], [`Clock`], [`Net`], [`Rng`].
//!
//! Nothing else in lossproof reads time, files, sockets or randomness. That is what makes crash
//! images, simulated power cuts and seeded runs possible.
//!
//! ```
//! use std::path::Path;
//! use lossproof_env::Environment;
//!
//! # fn main() -> std::io::Result<()> {
//! # let scratch = tempfile::tempdir()?;
//! # let directory: &Path = scratch.path();
//! let environment = Environment::real();
//! let path = directory.join("example");
//! let file = environment.disk.create(&path)?;
//! file.write_all_at(b"kept", 0)?;
//! file.sync_data()?; // the bytes are durable ...
//! environment.disk.sync_dir(directory)?; // ... and now so is the name
//! assert_eq!(environment.disk.open(&path)?.len()?, 4);
//! # Ok(())
//! # }
//! ```

mod clock;
mod disk;
mod forgetful;
mod manual_clock;
mod memory_net;
mod net;
mod overlay;
mod planted;
mod real;
mod rng;
mod scratch;
mod seeded;
mod sim;

pub use clock::Clock;
pub use disk::{Disk, DiskFile, DiskLock, DiskSpace, FileStamp};
pub use forgetful::ForgetfulDisk;
pub use manual_clock::ManualClock;
pub use memory_net::MemoryNet;
pub use net::{Connection, Listener, Net};
pub use planted::{PLANTED_BUILD, PLANTED_VARIABLE, ParsePlantedError, Planted, planted};
pub use real::{RealClock, RealDisk, RealNet, RealRng};
pub use rng::Rng;
pub use scratch::ScratchDisk;
pub use seeded::SeededRng;
pub use sim::{
    Choice, CrashImage, CrashPlan, Fault, FileId, ImageCounts, Kept, Recording, Ruin, SimDisk,
    Step, StepObserver, Unit,
};

use std::sync::Arc;
/// Everything a component may know of the outside world, handed to it once when it is made.
#[derive(Clone, Debug)]
pub struct Environment {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
}

impl Environment {
    /// The operating system itself.
    pub fn real() -> Self {
        Self { disk: Arc::new(RealDisk), clock: Arc::new(RealClock::new()), rng: Arc::new(RealRng) }
    }
}
