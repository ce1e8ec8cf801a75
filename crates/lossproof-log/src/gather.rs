//! The first look at a journal: which segments count, and what is known to have been durable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossproof_env::{DiskFile, Environment};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::frame::{FORMAT_VERSION, FrameHeader, HEADER_BYTES, Life};
use crate::mark::Mark;
use crate::reader::ReadSegment;
use crate::recovery::failed;
use crate::report::{Finding, FindingKind};
use crate::scan::{Scan, read_around};
use crate::segment::{DATA_AT, HeaderState, SegmentHeader, read_header, sequence_of};

#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Those that count, in order.
    pub(crate) segments: Vec<Arc<ReadSegment>>,
    /// Made, but never activated, or covered by the checkpoint: they hold nothing that counts.
    pub(crate) unused: Vec<PathBuf>,
    /// The highest frame known to be durable.
    pub(crate) durable: u64,
    /// The highest sequence of any file.
    pub(crate) last_sequence: u64,
    pub(crate) damage: Vec<Finding>,
    /// The last segment is missing, or has neither header nor first frame, or was so at an earlier
    /// open: what it held cannot be told.
    pub(crate) end_lost: bool,
}

struct Candidate {
    sequence: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    state: HeaderState,
}

/// Looks at every segment file of `journal`.
pub(crate) fn gather(
    env: &Environment,
    journal: &Path,
    directory_id: u64,
    mark: Option<Mark>,
    checkpoint: Option<Checkpoint>,
) -> Result<Gathered, OpenError> {
    let mut candidates = candidates(env, journal, directory_id)?;
    let (covered, through) = checkpoint.map_or((0, 0), |it| (it.through_segment, it.through_frame));
    let needed = candidates.partition_point(|candidate| candidate.sequence <= covered);
    let not_needed = candidates.drain(..needed).map(|candidate| candidate.path).collect();
    let in_use = mark.map_or(0, |mark| mark.segment);
    let is_used = |candidate: &Candidate| match candidate.state {
        HeaderState::Blank | HeaderState::Void => candidate.sequence <= in_use,
        _ => true,
    };
    let used = candidates.iter().rposition(is_used).map_or(0, |last| last + 1);
    let mut gathered = Gathered {
        last_sequence: candidates.last().map_or(covered, |last| last.sequence).max(in_use),
        unused: not_needed,
        durable: mark.map_or(0, |mark| mark.durable_through).max(through),
        end_lost: mark.is_some_and(|mark| mark.end_lost),
        ..Gathered::default()
    };
    let is_there = in_use == 0 || candidates.iter().any(|it| it.sequence == in_use);
    let is_followed = candidates[..used].last().is_some_and(|last| last.sequence > in_use);
    // Recovery removes a segment that holds nothing only when the next one is in its place, and
    // never after the end was lost.
    if !is_there && (!is_followed || gathered.end_lost) {
        gathered.end_lost = true;
        gathered.damage.push(Finding::whole_file(FindingKind::SegmentMissing, in_use, 0));
    }
    for (index, candidate) in candidates.into_iter().enumerate() {
        if index >= used || candidate.state == HeaderState::Void && candidate.sequence > in_use {
            gathered.unused.push(candidate.path);
            continue;
        }
        let is_last = index + 1 == used;
        take(&mut gathered, candidate, directory_id, is_last)?;
    }
    for segment in &gathered.segments {
        gathered.durable = gathered.durable.max(segment.first_frame - 1);
    }
    if let Some(last) = gathered.segments.last() {
        let evidence = evidence(last).map_err(failed("read", &last.path))?;
        gathered.durable = gathered.durable.max(evidence);
    }
    Ok(gathered)
}

fn candidates(
    env: &Environment,
    journal: &Path,
    directory_id: u64,
) -> Result<Vec<Candidate>, OpenError> {
    let mut candidates = Vec::new();
    for path in env.disk.list(journal).map_err(failed("list", journal))? {
        let Some(sequence) = sequence_of(&path) else { continue };
        let file = env.disk.open(&path).map_err(failed("open", &path))?;
        let state = read_header(&*file, directory_id, sequence).map_err(failed("read", &path))?;
        if let HeaderState::Version(found) = state {
            return Err(OpenError::UnknownVersion { path, found, known: FORMAT_VERSION });
        }
        // Frames stand in a segment with a torn header only if recovery had written them anew
        // when the crash came: they are good, and the segment is as good as activated.
        let read = || first_frame(&file, directory_id, sequence).map_err(failed("read", &path));
        let state = match state {
            HeaderState::Torn if read()?.is_none() => HeaderState::Void,
            state => state,
        };
        candidates.push(Candidate { sequence, path, file, state });
    }
    candidates.sort_by_key(|candidate| candidate.sequence);
    Ok(candidates)
}

fn take(
    gathered: &mut Gathered,
    candidate: Candidate,
    directory_id: u64,
    is_last: bool,
) -> Result<(), OpenError> {
    let Candidate { sequence, path, file, state } = candidate;
    if let HeaderState::Valid(header) = state {
        let SegmentHeader { life, first_frame, recycled } = header;
        let segment = ReadSegment { life, path, file, first_frame, recycled };
        gathered.segments.push(Arc::new(segment));
        return Ok(());
    }
    // Both copies of the header are gone; the first frame names the same life.
    if state != HeaderState::Torn {
        let finding = Finding::whole_file(FindingKind::HeaderDamaged, sequence, DATA_AT);
        gathered.damage.push(finding);
    }
    let found = first_frame(&file, directory_id, sequence).map_err(failed("read", &path))?;
    match found {
        Some((life, number)) => {
            let (first_frame, recycled) = (number, false);
            let segment = ReadSegment { life, path, file, first_frame, recycled };
            gathered.segments.push(Arc::new(segment));
        }
        None if is_last => gathered.end_lost = true,
        None => {}
    }
    Ok(())
}

fn first_frame(
    file: &Arc<dyn DiskFile>,
    directory_id: u64,
    sequence: u64,
) -> std::io::Result<Option<(Life, u64)>> {
    let mut bytes = [0; HEADER_BYTES];
    match read_around(&**file, &mut bytes, DATA_AT) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let Some(incarnation) = FrameHeader::claimed_incarnation(&bytes) else { return Ok(None) };
    let life = Life::new(directory_id, sequence, incarnation);
    let header = Scan::new(file.clone(), life)?.front_header(DATA_AT)?;
    Ok(header.map(|header| (life, header.number)))
}

/// The highest `durable_through` that any frame of a segment names.
fn evidence(segment: &ReadSegment) -> std::io::Result<u64> {
    let mut scan = Scan::new(segment.file.clone(), segment.life)?;
    let (mut at, mut durable) = (DATA_AT, 0);
    while let Some((begin, header)) = scan.next_frame(at, 0)? {
        durable = durable.max(header.durable_through);
        at = begin + u64::from(header.length);
    }
    Ok(durable)
}
