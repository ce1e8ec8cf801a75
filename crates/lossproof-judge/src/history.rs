use std::io::{self, BufRead, BufReader, Read, Write};

use thiserror::Error;

use crate::event::{Declaration, Entry, Event};

/// The only version there is.
pub(crate) const VERSION: u32 = 1;
/// A longer line is no event: whatever wrote it was no harness.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Why a history cannot be judged. That is no verdict: nothing is known then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HistoryError {
    #[error("line {line}: cannot read")]
    Io { line: u64, source: io::Error },
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    TooLong { line: u64 },
    #[error("line {line} is no event")]
    NoEvent { line: u64, source: serde_json::Error },
    #[error("line 1 is no history header")]
    NoHeader,
    #[error("history version {found} is not known, this judge reads version {VERSION}")]
    UnknownVersion { found: u32 },
    #[error("line {line}: a second header")]
    SecondHeader { line: u64 },
    #[error("line {line} comes after the end")]
    AfterEnd { line: u64 },
    #[error("line {line}: {reason}")]
    Impossible { line: u64, reason: &'static str },
}

/// Writes a history, one JSON line for each event.
///
/// Write each event when it is seen, with [`HistoryWriter::flush`] before whatever may kill the
/// harness: a history without its end is judged as undecided, one with a torn line not at all.
#[derive(Debug)]
pub struct HistoryWriter<W: Write> {
    output: W,
}

impl<W: Write> HistoryWriter<W> {
    /// Begins a history with its header.
    pub fn begin(output: W, declaration: Declaration) -> io::Result<Self> {
        let mut writer = Self { output };
        writer.record(0, &Event::History { version: VERSION, declaration })?;
        Ok(writer)
    }

    /// Appends one event, observed at `t_ns`.
    pub fn record(&mut self, t_ns: u64, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Entry { t_ns, event: event.clone() })?;
        line.push(b'\n');
        self.output.write_all(&line)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    /// Ends the history; `final_read` is the read of the topics that counts.
    pub fn end(mut self, t_ns: u64, final_read: impl Into<String>) -> io::Result<W> {
        self.record(t_ns, &Event::End { final_read: final_read.into() })?;
        self.output.flush()?;
        Ok(self.output)
    }
}

/// A history as read.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) declaration: Declaration,
    pub(crate) events: Vec<Event>,
    /// `None` where the history breaks off.
    pub(crate) final_read: Option<String>,
}

pub(crate) fn read(input: impl Read) -> Result<History, HistoryError> {
    let mut input = BufReader::new(input);
    let mut number = 1;
    let Some(Event::History { version, declaration }) = read_event(&mut input, number)? else {
        return Err(HistoryError::NoHeader);
    };
    if version != VERSION {
        return Err(HistoryError::UnknownVersion { found: version });
    }
    let mut history = History { declaration, events: Vec::new(), final_read: None };
    loop {
        number += 1;
        let Some(event) = read_event(&mut input, number)? else { return Ok(history) };
        if history.final_read.is_some() {
            return Err(HistoryError::AfterEnd { line: number });
        }
        check_event(&event, number)?;
        match event {
            Event::History { .. } => return Err(HistoryError::SecondHeader { line: number }),
            Event::End { final_read } => history.final_read = Some(final_read),
            event => history.events.push(event),
        }
    }
}

fn read_event(input: &mut impl BufRead, line: u64) -> Result<Option<Event>, HistoryError> {
    let mut bytes = Vec::new();
    let limited = &mut input.take(LINE_BYTES_MAX);
    let count = limited
        .read_until(b'\n', &mut bytes)
        .map_err(|source| HistoryError::Io { line, source })?;
    if count == 0 {
        return Ok(None);
    }
    if count as u64 == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
        return Err(HistoryError::TooLong { line });
    }
    let entry: Entry =
        serde_json::from_slice(&bytes).map_err(|source| HistoryError::NoEvent { line, source })?;
    Ok(Some(entry.event))
}

/// Refuses numbers that no honest harness writes, so that later sums cannot overflow.
fn check_event(event: &Event, line: u64) -> Result<(), HistoryError> {
    let reason = match event {
        Event::Store { position, .. } | Event::Commit { position, .. } if position.offset < 0 => {
            "a negative offset"
        }
        Event::ReadEnd { start, end, .. } if *start < 0 || end < start => {
            "a read that ends before it starts"
        }
        _ => return Ok(()),
    };
    Err(HistoryError::Impossible { line, reason })
}
