//! The seams to the outside world: [`Disk`], [`Clock`], [`Net`], [`Rng`].
//!
//! Nothing else in lossproof reads time, files, sockets or randomness. That is what makes crash
//! images, simulated power cuts and seeded runs possible.

mod clock;
mod disk;
mod net;
mod rng;

pub use clock::Clock;
pub use disk::{Disk, DiskFile, DiskLock, FileStamp};
pub use net::{Connection, Listener, Net};
pub use rng::Rng;

use std::sync::Arc;

/// Everything a component may know of the outside world, handed to it once when it is made.
#[derive(Clone, Debug)]
pub struct Environment {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
}
