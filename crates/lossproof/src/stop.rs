//! What SIGINT and SIGTERM do, the same for every command: the first asks for an orderly end, the
//! second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Failure, START_FAILED};

/// Set by the first signal.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    is_set: Arc<AtomicBool>,
}

impl Stop {
    /// `first` is what the first signal makes the command say, `second` what the second does;
    /// `hook` is called with the first.
    pub(crate) fn on_signals(
        first: &'static str,
        second: &'static str,
        hook: impl Fn() + Send + 'static,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(START_FAILED, error);
        let stop = Self { is_set: Arc::new(AtomicBool::new(false)) };
        let is_set = Arc::clone(&stop.is_set);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(failed)?;
        let (ready, wait) = mpsc::channel();
        let listen = move || {
            runtime.block_on(async {
                let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
                let (Ok(mut interrupt), Ok(mut terminate)) = handlers else { return };
                // Nobody waits any more only where the process is ending anyway.
                let _ = ready.send(());
                for count in 0.. {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if count > 0 {
                        crate::output::mutter!("{second}");
                        std::process::exit(1);
                    }
                    crate::output::mutter!("{first}");
                    is_set.store(true, Ordering::Release);
                    hook();
                }
            });
        };
        std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(failed)?;
        let received = wait.recv();
        received.map_err(|_| Failure::new(START_FAILED, "signals cannot be received"))?;
        Ok(stop)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }
}
