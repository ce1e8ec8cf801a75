//! Where lines come from: a file, of which the position is journaled, or standard input.

use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use lossproof_env::{DiskFile, Environment};
use lossproof_relay::{
    InputPosition, KnownInput, Line, LineSplitter, PositionError, RECORD_BYTES_MAX,
};

use super::Arguments;
use super::format::Lines;
use crate::exit::{self, Failure};
use crate::stop::Stop;

/// Of a line end, at most.
const LINE_END_BYTES: u64 = 2;
const CHUNK_BYTES: usize = 256 << 10;
/// Lines and bytes that are accepted with one sync.
const BATCH_LINES_MAX: usize = 500;
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// Lines of standard input that wait to be accepted; beyond, the writer waits.
const STDIN_LINES_MAX: usize = 1_000;
const STDIN_WAIT: Duration = Duration::from_millis(50);
/// With a rate, lines are accepted in so many steps a second.
const STEPS_PER_SECOND: u32 = 20;

/// Lines that are accepted together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) lines: Vec<Line>,
    /// Number of the first one, from 1.
    pub(super) first_line: u64,
    pub(super) is_last: bool,
}

pub(super) struct Source {
    from: From,
    /// Lines handed out so far.
    lines: u64,
    rate: Option<u32>,
}

enum From {
    File(FileInput),
    Stdin(Receiver<Result<Line, std::io::Error>>),
}

struct FileInput {
    file: Arc<dyn DiskFile>,
    name: String,
    input: KnownInput,
    position: InputPosition,
    /// The next byte to be read; ahead of the position by what is split but not accepted.
    read_offset: u64,
    splitter: LineSplitter,
    waiting: VecDeque<Line>,
    at_end: bool,
}

impl Source {
    /// Opens the input where `known` says that it was left.
    pub(super) fn open(
        environment: &Environment,
        arguments: &Arguments,
        known: impl Fn(&KnownInput) -> Result<InputPosition, PositionError>,
    ) -> Result<Self, Failure> {
        let rate = arguments.rate;
        let Some(path) = &arguments.file else {
            let from = From::Stdin(read_stdin()?);
            return Ok(Self { from, lines: 0, rate });
        };
        let file = FileInput::open(environment, &arguments.topic, path, known)?;
        Ok(Self { lines: file.position.lines, from: From::File(file), rate })
    }

    /// Lines that were refused by earlier starts.
    pub(super) fn refused(&self) -> u64 {
        match &self.from {
            From::File(file) => file.position.refused,
            From::Stdin(_) => 0,
        }
    }

    /// The next lines, or none after a short while.
    pub(super) fn next_batch(&mut self, stop: &Stop) -> Result<Batch, Failure> {
        let lines_max = self.rate.map_or(BATCH_LINES_MAX, |rate| {
            (rate.div_ceil(STEPS_PER_SECOND) as usize).min(BATCH_LINES_MAX)
        });
        let (lines, is_last) = match &mut self.from {
            From::File(file) => file.take(lines_max)?,
            From::Stdin(lines) => take_stdin(lines, lines_max, stop)?,
        };
        let first_line = self.lines + 1;
        self.lines += lines.len() as u64;
        Ok(Batch { lines, first_line, is_last })
    }

    /// The position behind a batch, to be journaled with its records.
    pub(super) fn advance(
        &mut self,
        lines: &Lines,
    ) -> Result<Option<(KnownInput, InputPosition)>, Failure> {
        let From::File(file) = &mut self.from else { return Ok(None) };
        file.position.offset += lines.byte_count;
        file.position.lines += lines.line_count;
        file.position.refused += lines.refused;
        let [head, tail] = file.samples()?;
        file.position = file.position.clone().sample(&head, &tail);
        Ok(Some((file.input.clone(), file.position.clone())))
    }

    /// Waits as the rate wants it.
    pub(super) fn pace(&self, environment: &Environment, batch: &Batch) {
        if let Some(rate) = self.rate {
            let seconds = batch.lines.len() as f64 / f64::from(rate);
            environment.clock.sleep_blocking(Duration::from_secs_f64(seconds));
        }
    }
}

impl FileInput {
    fn open(
        environment: &Environment,
        topic: &str,
        path: &Path,
        known: impl Fn(&KnownInput) -> Result<InputPosition, PositionError>,
    ) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let unreadable = |error| unreadable(&name, &error);
        let file = environment.disk.open_read_only(path).map_err(unreadable)?;
        let stamp = environment.disk.stamp(path).map_err(unreadable)?;
        let identity = stamp
            .map_or_else(|| name.clone(), |stamp| format!("{}-{}", stamp.inode, stamp.birth_ns));
        let input = KnownInput::new(topic, &identity);
        let changed = |error: PositionError| {
            Failure::new(exit::INPUT_CHANGED, format_args!("{name}: {error}"))
        };
        let position = known(&input).map_err(changed)?;
        let mut opened = Self {
            file,
            input,
            read_offset: position.offset,
            position,
            splitter: LineSplitter::new(RECORD_BYTES_MAX),
            waiting: VecDeque::new(),
            at_end: false,
            name: name.clone(),
        };
        let length = opened.file.len().map_err(unreadable)?;
        if length >= opened.position.offset {
            let [head, tail] = opened.samples()?;
            opened.position.verify(length, &head, &tail).map_err(changed)?;
            let mut next = vec![0; (length - opened.position.offset).min(LINE_END_BYTES) as usize];
            opened.file.read_exact_at(&mut next, opened.read_offset).map_err(unreadable)?;
            opened.position.offset += opened.position.line_end(&tail, &next).map_err(changed)?;
            opened.read_offset = opened.position.offset;
        } else {
            opened.position.verify(length, b"", b"").map_err(changed)?;
        }
        if opened.position.lines > 0 {
            let InputPosition { lines, offset, .. } = opened.position;
            crate::output::mutter!(
                "{name}: {lines} lines ({offset} bytes) were accepted before; going on"
            );
        }
        Ok(opened)
    }

    fn samples(&self) -> Result<[Vec<u8>; 2], Failure> {
        let read = |(from, to): (u64, u64)| {
            let mut bytes = vec![0; (to - from) as usize];
            let read = self.file.read_exact_at(&mut bytes, from);
            read.map_err(|error| unreadable(&self.name, &error)).map(|()| bytes)
        };
        let [head, tail] = InputPosition::sample_ranges(self.position.offset);
        Ok([read(head)?, read(tail)?])
    }

    fn take(&mut self, lines_max: usize) -> Result<(Vec<Line>, bool), Failure> {
        while self.waiting.is_empty() && !self.at_end {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = self.file.read_at(&mut chunk, self.read_offset);
            let count = read.map_err(|error| unreadable(&self.name, &error))?;
            self.read_offset += count as u64;
            let waiting = &mut self.waiting;
            self.splitter.push(chunk.get(..count).unwrap_or_default(), |l| waiting.push_back(l));
            if count == 0 {
                self.at_end = true;
                self.waiting.extend(self.splitter.finish());
            }
        }
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < lines_max && bytes < BATCH_BYTES_MAX {
            let Some(line) = self.waiting.pop_front() else { break };
            bytes += line.consumed;
            lines.push(line);
        }
        Ok((lines, self.at_end && self.waiting.is_empty()))
    }
}

/// Whether the input can be opened at all.
pub(super) fn look_at(environment: &Environment, path: &Path) -> Result<(), Failure> {
    let opened = environment.disk.open_read_only(path);
    opened.map(drop).map_err(|error| unreadable(&path.display().to_string(), &error))
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(exit::INPUT_UNREADABLE, format_args!("{name}: {error}"))
}

/// A thread of its own reads, since a read of a terminal or a pipe cannot be interrupted.
fn read_stdin() -> Result<Receiver<Result<Line, std::io::Error>>, Failure> {
    let (lines, receiver) = sync_channel(STDIN_LINES_MAX);
    let thread = std::thread::Builder::new().name("stdin".into());
    let spawned = thread.spawn(move || forward_stdin(&lines));
    spawned.map_err(|error| Failure::new(exit::START_FAILED, error))?;
    Ok(receiver)
}

fn forward_stdin(lines: &SyncSender<Result<Line, std::io::Error>>) {
    let mut stdin = std::io::stdin().lock();
    let mut splitter = LineSplitter::new(RECORD_BYTES_MAX);
    let mut chunk = vec![0; CHUNK_BYTES];
    // A failed send means that nobody accepts lines any more.
    let mut is_open = true;
    while is_open {
        match stdin.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                let bytes = chunk.get(..count).unwrap_or_default();
                splitter.push(bytes, |line| is_open = is_open && lines.send(Ok(line)).is_ok());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                let _ = lines.send(Err(error));
                return;
            }
        }
    }
    if let Some(line) = splitter.finish() {
        let _ = lines.send(Ok(line));
    }
}

fn take_stdin(
    from: &Receiver<Result<Line, std::io::Error>>,
    lines_max: usize,
    stop: &Stop,
) -> Result<(Vec<Line>, bool), Failure> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    let mut wait = STDIN_WAIT;
    while lines.len() < lines_max && bytes < BATCH_BYTES_MAX && !stop.is_set() {
        match from.recv_timeout(wait) {
            Ok(line) => {
                let line = line.map_err(|error| unreadable("standard input", &error))?;
                bytes += line.consumed;
                lines.push(line);
                // Whatever else is there goes along; nothing waits for more.
                wait = Duration::ZERO;
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return Ok((lines, true)),
        }
    }
    Ok((lines, false))
}
