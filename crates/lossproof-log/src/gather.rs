//! The first look at a journal: which segments count, and what is known to have been durable.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lossproof_env::{DiskFile, Environment};

use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::frame::{BLOCK, Copy, FORMAT_VERSION, FrameHeader, HEADER_BYTES, Life};
use crate::mark::Mark;
use crate::paths::Paths;
use crate::quarantine;
use crate::reader::ReadSegment;
use crate::recovery::failed;
use crate::report::{Finding, FindingKind};
use crate::scan::Scan;
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
    /// The last segment is missing, or has neither header nor any frame, or was so at an earlier
    /// open: what it held cannot be told.
    pub(crate) end_lost: bool,
}

struct Candidate {
    sequence: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    state: HeaderState,
}

/// Looks at every segment file of the journal.
pub(crate) fn gather(
    env: &Environment,
    paths: &Paths,
    directory_id: u64,
    mark: Option<Mark>,
    checkpoint: Option<Checkpoint>,
) -> Result<Gathered, OpenError> {
    let mut candidates = candidates(env, paths, directory_id)?;
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
        ..Gathered::default()
    };
    let is_there = in_use == 0 || candidates.iter().any(|it| it.sequence == in_use);
    let is_followed = candidates[..used].last().is_some_and(|last| last.sequence > in_use);
    // A start that came to nothing has given up nothing: what it did not see may be back.
    gathered.end_lost = is_followed && mark.is_some_and(|mark| mark.end_lost);
    // Recovery removes a segment that holds nothing only when the next one is in its place, and
    // never after the end was lost.
    if !is_there && (!is_followed || gathered.end_lost) {
        gathered.end_lost = true;
        gathered.damage.push(Finding::whole_file(FindingKind::SegmentMissing, in_use, 0));
    }
    for (index, candidate) in candidates.into_iter().enumerate() {
        // One whose activation failed, with or without a trace of it.
        let is_void = || match candidate.state {
            HeaderState::Void => Ok(true),
            HeaderState::Blank => {
                let first = first_frame(&candidate.file, directory_id, candidate.sequence);
                first.map(|first| first.is_none()).map_err(failed("read", &candidate.path))
            }
            _ => Ok(false),
        };
        if index >= used || candidate.sequence > in_use && is_void()? {
            gathered.unused.push(candidate.path);
            continue;
        }
        let is_last = index + 1 == used;
        if let HeaderState::Valid(header) = candidate.state {
            let SegmentHeader { life, first_frame, recycled } = header;
            let Candidate { path, file, .. } = candidate;
            let segment = ReadSegment { life, path, file, first_frame, recycled };
            gathered.segments.push(Arc::new(segment));
            continue;
        }
        let path = candidate.path.clone();
        take_headless(env, paths, directory_id, &mut gathered, (candidate, is_last))
            .map_err(failed("read", &path))?;
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
    paths: &Paths,
    directory_id: u64,
) -> Result<Vec<Candidate>, OpenError> {
    let journal = &paths.journal;
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

/// Takes a segment of which both copies of the header are gone: its frames name the same life.
/// What stands before them is kept, and all of it where there is none (RECOVERY-1).
fn take_headless(
    env: &Environment,
    paths: &Paths,
    directory_id: u64,
    gathered: &mut Gathered,
    (candidate, is_last): (Candidate, bool),
) -> io::Result<()> {
    let Candidate { sequence, path, file, state } = candidate;
    let found = first_frame(&file, directory_id, sequence)?;
    if state != HeaderState::Torn {
        let lost = match &found {
            Some(first) => first.position,
            None => {
                Scan::new(file.clone(), Life::new(directory_id, sequence, 0))?.nonzero_end(0)?
            }
        };
        let mut finding = Finding::whole_file(FindingKind::HeaderDamaged, sequence, lost);
        if lost > 0 {
            let kept = quarantine::keep(&*env.disk, &paths.quarantine, &*file, &finding)?;
            finding.quarantined = Some(kept);
        }
        gathered.damage.push(finding);
    }
    match found {
        Some(FirstFrame { life, number, .. }) => {
            let (first_frame, recycled) = (number, false);
            let segment = ReadSegment { life, path, file, first_frame, recycled };
            gathered.segments.push(Arc::new(segment));
        }
        None => gathered.end_lost |= is_last,
    }
    Ok(())
}

/// The first frame that can be read in a segment.
struct FirstFrame {
    life: Life,
    position: u64,
    number: u64,
}

/// Finds it by the life that it claims, and that only a frame of this file verifies with.
fn first_frame(
    file: &Arc<dyn DiskFile>,
    directory_id: u64,
    sequence: u64,
) -> io::Result<Option<FirstFrame>> {
    let mut scan = Scan::new(file.clone(), Life::new(directory_id, sequence, 0))?;
    let mut at = DATA_AT;
    while let Some(bytes) = scan.bytes(at, HEADER_BYTES)? {
        if let Some(incarnation) = FrameHeader::claimed_incarnation(&bytes, Copy::Front) {
            scan.life = Life::new(directory_id, sequence, incarnation);
            if scan.front_header(at)?.is_some() {
                // Of one before it the second header may be left.
                let first = scan.headers(DATA_AT, scan.length)?.first(DATA_AT, 0);
                let life = scan.life;
                let found = |(position, header): (u64, FrameHeader)| FirstFrame {
                    life,
                    position,
                    number: header.number,
                };
                return Ok(first.map(found));
            }
        }
        at += BLOCK;
    }
    Ok(None)
}

/// The highest `durable_through` that any header in a segment names. What a record copied of one
/// was true when it was written; and a copy hides none, since all are looked at.
fn evidence(segment: &ReadSegment) -> io::Result<u64> {
    let mut scan = Scan::new(segment.file.clone(), segment.life)?;
    let headers = scan.headers(DATA_AT, scan.length)?;
    Ok(headers.durable_through())
}
