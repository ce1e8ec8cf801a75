//! Standard output, and what is told on standard error.

use std::fmt::{Arguments, Display};
use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

/// The log is JSON: then all of standard error is.
static TALKS_JSON: AtomicBool = AtomicBool::new(false);

pub(crate) fn talk_json() {
    TALKS_JSON.store(true, Ordering::Relaxed);
}

/// `eprintln!`, but nobody is obliged to take it: what is done goes on.
macro_rules! mutter {
    ($($part:tt)*) => { $crate::output::write_error_line(format_args!($($part)*)) };
}
pub(crate) use mutter;

pub(crate) fn write_error_line(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The same, or a line of the log where that is JSON.
pub(crate) fn tell(text: impl Display) {
    if TALKS_JSON.load(Ordering::Relaxed) && tracing::enabled!(tracing::Level::WARN) {
        tracing::warn!("{text}");
    } else {
        mutter!("{text}");
    }
}

/// `println!`, but nobody is obliged to read to the end: `| head` changes neither what is done nor
/// the exit code.
macro_rules! say {
    ($($part:tt)*) => { $crate::output::write_line(format_args!($($part)*)) };
}
pub(crate) use say;

pub(crate) fn write_line(line: Arguments<'_>) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            mutter!("standard output: {error}");
        }
        _ => {}
    }
}
