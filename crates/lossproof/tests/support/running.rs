//! The binary while it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lossproof"))
}

/// Killed where a test fails before it has ended. What it writes is taken up all the time: it
/// never waits for the test.
pub(crate) struct Running {
    process: Child,
    stdin: Option<ChildStdin>,
    pub(crate) stdout: Receiver<String>,
    stderr: Receiver<String>,
    said: String,
}

pub(crate) struct End {
    pub(crate) code: Option<i32>,
    /// All of standard error.
    pub(crate) said: String,
    /// What nobody has taken of standard output.
    pub(crate) lines: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_telling(command, Stdio::piped())
    }

    /// Nobody takes what it writes to standard error: each line is an error to it.
    pub(crate) fn start_unheard(command: &mut Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Self::start_telling(command, writer.into())
    }

    fn start_telling(command: &mut Command, stderr: Stdio) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take();
        let stdout = lines(process.stdout.take().unwrap());
        let stderr = process.stderr.take().map_or_else(|| channel().1, lines);
        Self { process, stdin, stdout, stderr, said: String::new() }
    }

    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).unwrap();
    }

    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    pub(crate) fn wait_for_talk(&mut self, text: &str) {
        while !self.said.contains(text) {
            let line = self.stderr.recv();
            let line = line.unwrap_or_else(|_| panic!("no '{text}' in: {}", self.said));
            self.said += &(line + "\n");
        }
    }

    pub(crate) fn end(mut self) -> End {
        // Both end where the process does.
        let lines = self.stdout.iter().collect();
        for line in &self.stderr {
            self.said += &(line + "\n");
        }
        let code = self.process.wait().unwrap().code();
        End { code, said: std::mem::take(&mut self.said), lines }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}
