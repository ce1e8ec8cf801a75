//! Standard output.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// `println!`, but nobody is obliged to read to the end: `| head` changes neither what is done nor
/// the exit code.
macro_rules! say {
    ($($part:tt)*) => { $crate::output::write_line(format_args!($($part)*)) };
}
pub(crate) use say;

pub(crate) fn write_line(line: Arguments<'_>) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("standard output: {error}");
        }
        _ => {}
    }
}
