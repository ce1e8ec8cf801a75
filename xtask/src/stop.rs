//! A signal ends a run in order: what waits gives up, and each value that holds a started program
//! goes, and with it the program. A second signal ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{Context, Failure};

static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on a signal asks for the end and no longer is it.
pub(crate) fn listen() -> Result<(), Failure> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // In this order: the first signal must not see the mark that it sets.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ASKED))
            .context("signals")?;
        flag::register(signal, Arc::clone(&ASKED)).context("signals")?;
    }
    Ok(())
}

/// An error once the end was asked for.
pub(crate) fn check() -> Result<(), Failure> {
    if ASKED.load(Ordering::SeqCst) {
        return Err(Failure::broken("stopped by a signal"));
    }
    Ok(())
}
