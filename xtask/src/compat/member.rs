//! The programs of a client while they run: what they are given and what they have printed.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use super::lines::{Line, parse};
use crate::failure::{Context, Failure};
use crate::service::{Process, append};

/// No step of a client takes longer on the slowest machine; one that does hangs.
pub(crate) const STEP_TIME_MAX: Duration = Duration::from_mins(2);

/// A client program with its standard input in our hands. Its output goes to `NAME.out`, its
/// chatter to `NAME.log`. It is killed when this value goes.
#[derive(Debug)]
pub(crate) struct Member {
    process: Process,
    /// Gone once the program shall end.
    input: Option<ChildStdin>,
    /// Where it says what it did.
    said: PathBuf,
    at_end_of_input: bool,
}

impl Member {
    pub(crate) fn start(
        run: &Path,
        name: &str,
        mut command: Command,
        leaves_at_end_of_input: bool,
        said_in_log: bool,
    ) -> Result<Self, Failure> {
        let output = run.join(format!("{name}.out"));
        let log = run.join(format!("{name}.log"));
        command.stdin(Stdio::piped()).stderr(append(&log)?);
        command.stdout(File::create(&output).context(output.display())?);
        let mut process = Process::start_with_pipes(name, &log, &mut command)?;
        let input = process.child().stdin.take();
        let said = if said_in_log { log } else { output };
        Ok(Member { process, input, said, at_end_of_input: leaves_at_end_of_input })
    }

    /// Hands it values, a line each.
    pub(crate) fn give(&mut self, values: &[String]) -> Result<(), Failure> {
        let input = self.input.as_mut().ok_or_else(|| Failure::broken("its input has ended"))?;
        let text = values.iter().fold(String::new(), |text, value| text + value + "\n");
        input.write_all(text.as_bytes()).context("hand values to the client")
    }

    /// What it has printed so far; an error when it has ended without being asked.
    pub(crate) fn lines(&mut self) -> Result<Vec<Line>, Failure> {
        self.process.check_alive()?;
        self.read()
    }

    /// Asks it to leave, waits until it has, and returns all that it has printed.
    pub(crate) fn leave(mut self) -> Result<Vec<Line>, Failure> {
        if !self.at_end_of_input {
            self.process.ask_to_end()?;
        }
        // Behind the signal: who waits for more input sees the signal only then, and not an end.
        drop(self.input.take());
        let status = self.process.wait(STEP_TIME_MAX)?;
        if status.success() {
            return self.read();
        }
        Err(Failure::broken(format!("it ended with {status}:\n{}", self.process.tail())))
    }

    fn read(&self) -> Result<Vec<Line>, Failure> {
        let bytes = fs::read(&self.said).context(self.said.display())?;
        Ok(parse(&String::from_utf8_lossy(&bytes)))
    }
}
