//! Hands lines to `lossproof produce` and listens to what it says of them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::TOPIC;
use super::evidence::{Evidence, value_of};
use crate::failure::{Context, Failure};
use crate::service::{Process, append};

/// The producer's name in the history.
pub(super) const PRODUCER: &str = "producer";
/// How it says on standard output that a line is accepted; its number and its identity follow.
const ACCEPTED: &str = "ACCEPTED ";

pub(super) struct Feed {
    process: Process,
    gate: Arc<Gate>,
    accepted: Arc<Mutex<usize>>,
    writer: Option<JoinHandle<Result<(), Failure>>>,
    reader: Option<JoinHandle<Result<(), Failure>>>,
}

/// How many lines may be handed in by now.
#[derive(Default)]
struct Gate {
    open_until: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn open_until(&self, count: usize) {
        *self.open_until.lock().unwrap_or_else(PoisonError::into_inner) = count;
        self.changed.notify_all();
    }

    fn wait_for(&self, index: usize) {
        let mut open = self.open_until.lock().unwrap_or_else(PoisonError::into_inner);
        while *open <= index {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Feed {
    pub(super) fn start(
        binary: &Path,
        broker: &str,
        run: &Path,
        lines: Vec<String>,
        evidence: Evidence,
    ) -> Result<Self, Failure> {
        let log = run.join("produce.log");
        let mut command = Command::new(binary);
        command.args(["produce", "--bootstrap-server", broker, "--topic", TOPIC, "--journal"]);
        command.arg(run.join("produce")).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(append(&log)?);
        let mut process = Process::start_with_pipes("the producer", &log, &mut command)?;
        let missing = || Failure::broken("the producer has no pipe");
        let input = process.child().stdin.take().ok_or_else(missing)?;
        let output = process.child().stdout.take().ok_or_else(missing)?;
        let gate = Arc::new(Gate::default());
        let accepted = Arc::new(Mutex::new(0));
        let values = lines.iter().map(|line| value_of(line)).collect::<Result<Vec<_>, _>>()?;
        let writer = {
            let (gate, evidence) = (gate.clone(), evidence.clone());
            thread::spawn(move || write_lines(input, &lines, &gate, &evidence))
        };
        let reader = {
            let accepted = accepted.clone();
            thread::spawn(move || read_answers(output, &values, &accepted, &evidence))
        };
        Ok(Feed { process, gate, accepted, writer: Some(writer), reader: Some(reader) })
    }

    /// Lets the lines through up to this count.
    pub(super) fn open_until(&self, count: usize) {
        self.gate.open_until(count);
    }

    /// Lines that the producer has accepted.
    pub(super) fn count(&self) -> usize {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check_alive(&mut self) -> Result<(), Failure> {
        // Once everything is handed in it may end by itself.
        if self.writer.as_ref().is_some_and(|writer| !writer.is_finished()) {
            self.process.check_alive()?;
        }
        Ok(())
    }

    /// Waits for the end of the producer, which must be a success: everything was delivered.
    pub(super) fn finish(&mut self, time_max: Duration) -> Result<(), Failure> {
        let status = self.process.wait(time_max)?;
        for thread in [self.writer.take(), self.reader.take()].into_iter().flatten() {
            thread.join().map_err(|_| Failure::broken("a thread of the feed died"))??;
        }
        if status.success() {
            return Ok(());
        }
        Err(Failure::broken(format!("the producer ended with {status}")))
    }
}

fn write_lines(
    mut input: ChildStdin,
    lines: &[String],
    gate: &Gate,
    evidence: &Evidence,
) -> Result<(), Failure> {
    for (index, line) in lines.iter().enumerate() {
        gate.wait_for(index);
        // Noted before it is done: the history may know of a line too early, never too late.
        evidence.hand_in(line)?;
        writeln!(input, "{line}").context("hand a line to the producer")?;
        input.flush().context("hand a line to the producer")?;
    }
    Ok(())
}

fn read_answers(
    output: ChildStdout,
    values: &[String],
    accepted: &Mutex<usize>,
    evidence: &Evidence,
) -> Result<(), Failure> {
    for line in BufReader::new(output).lines() {
        let line = line.context("standard output of the producer")?;
        let Some(said) = line.strip_prefix(ACCEPTED) else { continue };
        let unclear = || Failure::broken(format!("the producer says `{line}`"));
        let (number, identity) = said.split_once(' ').ok_or_else(unclear)?;
        let number: usize = number.parse().map_err(|_| unclear())?;
        let value = number.checked_sub(1).and_then(|index| values.get(index));
        evidence.acknowledge(value.ok_or_else(unclear)?, identity);
        *accepted.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
    Ok(())
}
