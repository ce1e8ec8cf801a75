//! The demo's processes: started from this binary, listened to, killed, and gone at the end.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::exit::{DEMO_FAILED, Failure};

/// Set for a child to its parent's process id: the child ends when the parent does.
pub(crate) const PARENT_VARIABLE: &str = "LOSSPROOF_PARENT";

/// How long a process may take to say that it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of standard output that may wait to be read by the demo; a fuller pipe holds the child.
const STDOUT_LINES_MAX: usize = 16_384;
/// Last lines of standard error that are kept to explain a failure.
const STDERR_LINES_KEPT: usize = 40;

/// For a process that the demo started: makes the kernel kill it when the demo ends, however the
/// demo ends. Called first thing in `main`.
pub(crate) fn end_with_parent() {
    let Some(parent) = std::env::var(PARENT_VARIABLE).ok().and_then(|id| id.parse::<i32>().ok())
    else {
        return;
    };
    let asked = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have ended before the kernel was asked.
    let alive = rustix::process::getppid().is_some_and(|id| id.as_raw_nonzero().get() == parent);
    if asked.is_err() || !alive {
        std::process::exit(1);
    }
}

/// One running process.
#[derive(Debug)]
pub(crate) struct Child {
    name: &'static str,
    process: std::process::Child,
    stdout: Receiver<String>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Child {
    /// Starts this very binary with `arguments`, in a process group of its own so that Ctrl-C
    /// reaches the demo alone, which then ends the others.
    pub(crate) fn start(name: &'static str, arguments: &[&str]) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(DEMO_FAILED, format_args!("{name} does not start: {error}"))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut process = Command::new(program)
            .args(arguments)
            .env(PARENT_VARIABLE, std::process::id().to_string())
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (lines, stdout) = sync_channel(STDOUT_LINES_MAX);
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        if let Some(pipe) = process.stdout.take() {
            readers.push(std::thread::spawn(move || forward(pipe, &lines)));
        }
        if let Some(pipe) = process.stderr.take() {
            let kept = Arc::clone(&stderr);
            readers.push(std::thread::spawn(move || keep_last(name, pipe, &kept)));
        }
        Ok(Self { name, process, stdout, stderr, readers })
    }

    /// Waits for the line `ready KEY=VALUE` and returns the value.
    pub(crate) fn ready(&mut self, key: &str) -> Result<String, Failure> {
        let prefix = format!("ready {key}=");
        loop {
            match self.stdout.recv_timeout(READY_TIMEOUT) {
                Ok(line) => {
                    if let Some(value) = line.strip_prefix(&prefix) {
                        return Ok(value.to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("is not ready in time")),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failure("ended before it was ready"));
                }
            }
        }
    }

    /// A line of standard output, if there is one now.
    pub(crate) fn line(&self) -> Option<String> {
        self.stdout.try_recv().ok()
    }

    pub(crate) fn stdin(&mut self) -> Option<&mut std::process::ChildStdin> {
        self.process.stdin.as_mut()
    }

    /// No more input: what ends a process that reads lines.
    pub(crate) fn close_stdin(&mut self) {
        self.process.stdin = None;
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.process.try_wait().map_err(|error| self.failure(&format!("cannot be asked: {error}")))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            // An error means that it has ended by itself, which is what a signal asks for.
            rustix::process::kill_process(pid, signal).ok();
        }
    }

    /// SIGKILL, and waits until it is gone. The lines that it still wrote are returned: what it
    /// said, it said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.signal(Signal::KILL);
        self.reap()
    }

    /// SIGTERM, waits until it has drained and gone; SIGKILL after `patience` polls by `pause`.
    pub(crate) fn stop(
        mut self,
        patience: u32,
        pause: impl Fn(),
    ) -> Result<(Vec<String>, ExitStatus), Failure> {
        self.signal(Signal::TERM);
        for _ in 0..patience {
            if let Some(status) = self.ended()? {
                return Ok((self.reap(), status));
            }
            pause();
        }
        let failure = self.failure("did not stop when asked");
        self.kill();
        Err(failure)
    }

    fn reap(&mut self) -> Vec<String> {
        self.process.stdin = None;
        let mut lines = Vec::new();
        // The reader ends with the pipe, and this with the reader.
        while let Ok(line) = self.stdout.recv() {
            lines.push(line);
        }
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
        self.process.wait().ok();
        lines
    }

    /// A failure of this process, with the last it said.
    pub(crate) fn failure(&self, what: &str) -> Failure {
        let said = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        let said = if said.is_empty() { "nothing".to_owned() } else { said.join("\n  ") };
        Failure::new(DEMO_FAILED, format_args!("{} {what}; it said:\n  {said}", self.name))
    }
}

fn forward(pipe: impl Read, lines: &SyncSender<String>) {
    for line in BufReader::new(pipe).lines() {
        let Ok(line) = line else { break };
        if lines.send(line).is_err() {
            break;
        }
    }
}

fn keep_last(name: &'static str, pipe: impl Read, kept: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(pipe).lines() {
        let Ok(line) = line else { break };
        tracing::debug!(target: "demo", process = name, "{line}");
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == STDERR_LINES_KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
