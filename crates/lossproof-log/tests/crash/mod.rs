//! What the crash tests share: a model of the log, workloads, and the oracle that compares what a
//! log opened on a crash image holds with what the model says it must.

pub(crate) mod model;
pub(crate) mod oracle;
pub(crate) mod run;
pub(crate) mod workload;

use std::path::Path;
use std::sync::Arc;

use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};

/// Deep, and not there before: that its own name and those above it are durable is part of what is
/// tested.
pub(crate) const DIRECTORY: &str = "/srv/lossproof/log";

pub(crate) fn directory() -> &'static Path {
    Path::new(DIRECTORY)
}

/// An environment around a simulated disk, where nothing moves by itself.
pub(crate) fn environment(disk: &SimDisk, seed: u64) -> (Environment, ManualClock) {
    let clock = ManualClock::new(1_700_000_000_000);
    let env = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        rng: Arc::new(SeededRng::new(seed)),
    };
    (env, clock)
}

/// Says it on the terminal even where the test passes: counts are part of the result.
pub(crate) fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A number from the environment, or a default.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
