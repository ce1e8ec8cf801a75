//! Sink `jsonl`: one document a line, appended and fsynced before it is confirmed.
//!
//! # Invariants
//!
//! - `LINES-1`: a document is confirmed only after an fsync that began when its line was written.
//! - `LINES-2`: no identity is written twice, restarts included.
//! - `LINES-3`: after a failed fsync nothing is confirmed any more, and what could have been lost
//!   by it is written anew at the next start.
//! - `LINES-4`: a record that nobody stamped is taken for the one that has its identity only where
//!   the lines are the same: offsets begin anew with a topic that is deleted and made again.
//! - `LINES-5`: no field of a record is written over: one that has the identity's is poison, as it
//!   is to an index.
//! - `LINES-6`: nothing is confirmed in a file that was moved away, removed, replaced or cut short.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use lossproof_audit::identity::Identity;
use lossproof_env::{Disk, DiskFile, DiskLock, FileStamp};
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Written;
use super::seen::SeenIds;
use crate::config::LinesSettings;
use crate::document::Document;
use crate::retry::Failure;
use crate::shared::Shared;

/// A batch is closed when it has so many bytes; the last document may go beyond.
const BATCH_BYTES: usize = 8 << 20;
const READ_BYTES: usize = 1 << 20;
/// A longer line is none of ours.
const LINE_BYTES_MAX: usize = 1 << 30;

/// Hands lines to the writing thread, which ends with it.
#[derive(Debug)]
pub(crate) struct LinesSink {
    queue: SyncSender<Entry>,
    id_field: String,
}

#[derive(Debug)]
struct Entry {
    id: String,
    /// Is the identity unique for ever?
    stamped: bool,
    line: Vec<u8>,
    reply: oneshot::Sender<Outcome>,
}

type Outcome = Result<Written, Failure>;

/// Why the file cannot be written to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenLinesError {
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is in use by another process: give each pipeline a file of its own")]
    InUse { path: PathBuf },
    #[error(
        "{path}, line {line}: {detail}; the file is damaged or none of this pipeline: move it away"
    )]
    Foreign { path: PathBuf, line: u64, detail: String },
}

/// The open file, owned by the writing thread.
#[derive(Debug)]
struct Lines {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Tells this file from another one at the same path, where the disk can.
    stamp: Option<FileStamp>,
    _lock: Box<dyn DiskLock>,
    length: u64,
    seen: SeenIds,
    fenced: Option<String>,
}

impl LinesSink {
    /// Opens the file and starts the thread; the file is free again when the thread has ended.
    pub(crate) fn start(
        settings: &LinesSettings,
        disk: Arc<dyn Disk>,
        shared: Arc<Shared>,
        queue_max: usize,
    ) -> Result<(Self, JoinHandle<()>), OpenLinesError> {
        let mut lines = Lines::open(settings, disk)?;
        let (queue, receiver) = sync_channel(queue_max);
        let thread = std::thread::Builder::new().name("jsonl".to_owned());
        let handle = thread
            .spawn(move || lines.run(&receiver, &shared))
            .map_err(|source| OpenLinesError::Io { path: settings.path.clone(), source })?;
        Ok((Self { queue, id_field: settings.id_field.clone() }, handle))
    }

    pub(crate) async fn write(&self, id: &Identity, document: &Document) -> Outcome {
        if document.get(&self.id_field).is_some() {
            let field = &self.id_field; // LINES-5
            return Err(Failure::poison(format!(
                "the record has a field `{field}` of its own, where the file holds the identity: \
                 rename it in a map step, or choose another id_field"
            )));
        }
        let stamped = matches!(id, Identity::Stamped(_));
        let id = id.to_string();
        let mut line = document.to_json_with(&self.id_field, &id).into_bytes();
        line.push(b'\n');
        let (reply, outcome) = oneshot::channel();
        // The queue has room for every record that may be in flight: it never blocks.
        self.queue.try_send(Entry { id, stamped, line, reply }).map_err(|_| Failure::Abandoned)?;
        outcome.await.unwrap_or(Err(Failure::Abandoned))
    }
}

impl Lines {
    fn open(settings: &LinesSettings, disk: Arc<dyn Disk>) -> Result<Self, OpenLinesError> {
        let path = &settings.path;
        let failed = |source| OpenLinesError::Io { path: path.clone(), source };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        disk.create_dir_all(directory).map_err(failed)?;
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock = disk.lock(Path::new(&lock_path)).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenLinesError::InUse { path: path.clone() },
            _ => failed(source),
        })?;
        let exists = disk.exists(path).map_err(failed)?;
        let before = if exists { disk.stamp(path).map_err(failed)? } else { None };
        let file = if exists { disk.open(path) } else { disk.create(path) }.map_err(failed)?;
        let stamp = disk.stamp(path).map_err(failed)?;
        if exists && stamp != before {
            return Err(failed(io::Error::other(
                "it was replaced while it was opened: start again",
            )));
        }
        let mut scan = Scan::new(settings);
        scan.read(file.as_ref())?;
        scan.restore(file.as_ref()).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        sync_names(&*disk, directory).map_err(failed)?;
        info!("{}: {} lines are there", path.display(), scan.lines);
        let (path, length, seen) = (path.clone(), scan.complete, scan.seen);
        Ok(Self { disk, path, file, stamp, _lock: lock, length, seen, fenced: None })
    }

    fn run(&mut self, queue: &Receiver<Entry>, shared: &Shared) {
        while let Ok(first) = queue.recv() {
            let mut bytes = first.line.len();
            let mut batch = vec![first];
            while bytes < BATCH_BYTES
                && let Ok(entry) = queue.try_recv()
            {
                bytes += entry.line.len();
                batch.push(entry);
            }
            let outcomes = match self.append(&batch) {
                Ok(outcomes) => outcomes,
                Err(failure) => vec![Err(failure); batch.len()],
            };
            if let Some(reason) = &self.fenced {
                shared.fail(reason.clone());
            }
            for (entry, outcome) in batch.into_iter().zip(outcomes) {
                // Nobody is there to hear it only after the record was given up.
                let _ = entry.reply.send(outcome);
            }
        }
    }

    /// Writes all that is new in the batch, or nothing of it; one outcome for each entry.
    fn append(&mut self, batch: &[Entry]) -> Result<Vec<Outcome>, Failure> {
        if let Some(reason) = &self.fenced {
            return Err(Failure::Held { reason: reason.clone() }); // LINES-3
        }
        let there = self.lines_there(batch)?;
        let mut fresh: HashMap<&str, &[u8]> = HashMap::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut text = Vec::new();
        for entry in batch {
            let before = fresh.get(entry.id.as_str()).copied();
            if before.is_none() && !self.seen.contains(&entry.id) {
                fresh.insert(&entry.id, &entry.line);
                text.extend_from_slice(&entry.line);
                outcomes.push(Ok(Written::Now));
                continue;
            }
            let line = entry.line.as_slice();
            let same = entry.stamped || before == Some(line) || there.contains(line); // LINES-4
            let other = || Failure::poison("another record has this identity in the file");
            outcomes.push(if same { Ok(Written::Before) } else { Err(other()) });
        }
        if self.file.len().is_ok_and(|length| length < self.length) {
            let path = self.path.display();
            let reason =
                format!("{path} was cut short by somebody: put its lines back, or move it away");
            return Err(self.fence(reason)); // LINES-6
        }
        if let Err(error) = self.file.write_all_at(&text, self.length) {
            // Nothing was confirmed of it; what is left of it is cut or written over.
            if let Err(second) = self.file.truncate(self.length) {
                warn!("a line that was cut short stays at the end: {second}");
            }
            return Err(Failure::Held { reason: format!("cannot append: {error}") });
        }
        if let Err(error) = self.file.sync_data() {
            let reason =
                format!("fsync of the sink failed, restart when the disk is well: {error}");
            return Err(self.fence(reason));
        }
        if self.is_elsewhere() {
            let path = self.path.display();
            let reason = format!(
                "{path} is not the file that is written to any more: it was moved, removed or \
                 replaced. What was confirmed before is in the old file; a restart begins with the \
                 new one, and first writes again what was not committed yet"
            );
            return Err(self.fence(reason)); // LINES-6
        }
        self.length += text.len() as u64; // LINES-1
        for id in fresh.keys() {
            self.seen.insert(id); // LINES-2
        }
        Ok(outcomes)
    }

    fn fence(&mut self, reason: String) -> Failure {
        self.fenced = Some(reason.clone());
        Failure::Held { reason }
    }

    /// Whether another file, or none, has the path now. An error of the look itself says nothing.
    fn is_elsewhere(&self) -> bool {
        match self.disk.stamp(&self.path) {
            Ok(now) => now != self.stamp,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Of the lines of unstamped records whose identities are in the file, those that are in it
    /// byte for byte. Only a crash or a rebalance makes records come again, so that the file is
    /// read then, once for a batch, and nothing of it is kept in memory.
    fn lines_there<'a>(&self, batch: &'a [Entry]) -> Result<HashSet<&'a [u8]>, Failure> {
        let again = batch.iter().filter(|entry| !entry.stamped && self.seen.contains(&entry.id));
        let wanted: HashSet<&[u8]> = again.map(|entry| entry.line.as_slice()).collect();
        let mut there = HashSet::new();
        if wanted.is_empty() {
            return Ok(there);
        }
        let read = each_line(self.file.as_ref(), self.length, |line| {
            there.extend(wanted.get(line));
            Ok(())
        });
        read.map_err(|error: io::Error| Failure::Held {
            reason: format!("cannot read the file: {error}"),
        })?;
        Ok(there)
    }
}

/// Calls `each` with every whole line below `end`, its line break included, until one fails.
/// Returns how many bytes are left behind the last one.
pub(super) fn each_line<E: From<io::Error>>(
    file: &dyn DiskFile,
    end: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<usize, E> {
    let mut rest: Vec<u8> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < end {
        let count = file.read_at(&mut buffer, offset)?;
        let count = count.min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
        offset += count as u64;
        rest.extend_from_slice(chunk);
        let mut used = 0;
        while let Some(length) = rest[used..].iter().position(|byte| *byte == b'\n') {
            each(&rest[used..=used + length])?;
            used += length + 1;
        }
        rest.drain(..used);
        if rest.len() > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end").into());
        }
    }
    Ok(rest.len())
}

/// Makes the name of a file in `directory` durable, and those of the directories above it, of which
/// any may have been made just now or shortly before a crash.
fn sync_names(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    disk.sync_dir(directory)?;
    for parent in directory.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
        match disk.sync_dir(parent) {
            // Where it cannot even be opened, nothing was made in it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            outcome => outcome?,
        }
    }
    if directory.is_relative() { disk.sync_dir(Path::new(".")) } else { Ok(()) }
}

/// Why reading the file ends before its end.
enum ScanEnd {
    Io(io::Error),
    Foreign(OpenLinesError),
}

impl From<io::Error> for ScanEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads what is there.
struct Scan<'a> {
    settings: &'a LinesSettings,
    seen: SeenIds,
    lines: u64,
    /// Bytes up to and with the last line break.
    complete: u64,
    /// Where lines begin whose fsync may have failed: see [`Scan::restore`].
    starts: std::collections::VecDeque<u64>,
}

impl<'a> Scan<'a> {
    fn new(settings: &'a LinesSettings) -> Self {
        let (seen, starts) = (SeenIds::default(), [0].into());
        Self { settings, seen, lines: 0, complete: 0, starts }
    }

    fn read(&mut self, file: &dyn DiskFile) -> Result<(), OpenLinesError> {
        let path = self.settings.path.clone();
        let left = each_line(file, u64::MAX, |line| self.line(line).map_err(ScanEnd::Foreign));
        let left = left.map_err(|end| match end {
            ScanEnd::Io(source) => OpenLinesError::Io { path: path.clone(), source },
            ScanEnd::Foreign(error) => error,
        })?;
        if left > 0 {
            warn!(
                "{}: the last line was cut short by a crash; its {left} bytes were never confirmed \
                 and are removed",
                path.display()
            );
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), OpenLinesError> {
        self.lines += 1;
        let document =
            Document::read_back(line).map_err(|error| self.foreign(error.to_string()))?;
        let field = &self.settings.id_field;
        let id: String = document
            .get(field)
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .ok_or_else(|| self.foreign(format!("no identity in field `{field}`")))?;
        if !self.seen.insert(&id) {
            return Err(self.foreign(format!("{id} is there twice")));
        }
        self.complete += line.len() as u64;
        self.starts.push_back(self.complete);
        // Kept: the start of the last line, and of those up to a batch before it.
        let last = self.starts.len().checked_sub(2).and_then(|i| self.starts.get(i)).copied();
        let tail_start = last.unwrap_or(0).saturating_sub(BATCH_BYTES as u64);
        while self.starts.get(1).is_some_and(|next| *next <= tail_start) {
            self.starts.pop_front();
        }
        Ok(())
    }

    /// `LINES-3`: what the last batch before a failed fsync wrote can be read and need not be on
    /// the disk, and a second fsync would not help. Only that batch can be meant, and it is no
    /// longer than the last line and [`BATCH_BYTES`] before: these are written again.
    fn restore(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.truncate(self.complete)?;
        let mut offset = self.starts.front().copied().unwrap_or(0);
        while offset < self.complete {
            let length = (self.complete - offset).min(READ_BYTES as u64) as usize;
            let mut buffer = vec![0; length];
            file.read_exact_at(&mut buffer, offset)?;
            file.write_all_at(&buffer, offset)?;
            offset += length as u64;
        }
        Ok(())
    }

    fn foreign(&self, detail: String) -> OpenLinesError {
        OpenLinesError::Foreign { path: self.settings.path.clone(), line: self.lines, detail }
    }
}
