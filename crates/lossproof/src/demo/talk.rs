//! What the demo says while it runs: events as lines, progress as a bar, both on standard error.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lossproof_env::Clock;

#[derive(Clone, Debug)]
pub(crate) struct Talk {
    clock: Arc<dyn Clock>,
    start: Duration,
    bar: ProgressBar,
    terminal: bool,
}

impl Talk {
    pub(crate) fn new(clock: Arc<dyn Clock>, records: usize) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(records as u64), target);
        if let Ok(style) = ProgressStyle::with_template("  {bar:40} {pos} of {len} in the sink") {
            bar.set_style(style);
        }
        Self { start: clock.monotonic(), clock, bar, terminal }
    }

    /// One line, with the seconds since the start.
    pub(crate) fn event(&self, what: &str) {
        let line = format!("{:5.1} s  {what}", self.seconds());
        if self.terminal {
            self.bar.println(line);
        } else {
            crate::output::mutter!("{line}");
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.clock.monotonic().saturating_sub(self.start).as_secs_f64()
    }

    pub(crate) fn progress(&self, records: usize) {
        self.bar.set_position(records as u64);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
