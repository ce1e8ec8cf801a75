//! Opening a directory: lock, identity, recovery, and the segment of this open.

use std::io;
use std::path::{Path, PathBuf};

use lossproof_env::{Disk, DiskLock, Environment, Planted, planted};

use crate::accept::is_accepted;
use crate::ballast::{self, Ballast};
use crate::check::unplaced;
use crate::checkpoint::{self, Checkpoint};
use crate::cluster_id::ClusterId;
use crate::cold;
use crate::committer::{Committer, CommitterStart};
use crate::config::{LogConfig, Purpose, purpose_name};
use crate::error::{FenceCause, FullCause, OpenError};
use crate::frame::frame_bytes;
use crate::gather::{Gathered, gather};
use crate::mark::Mark;
use crate::meta::{self, Meta};
use crate::mover::{self, Mover, SEALED_MAX, SHORT_PAUSE};
use crate::paths::Paths;
use crate::quarantine;
use crate::reader::Segments;
use crate::recovery::{KeptFrame, Recovery, failed};
use crate::report::{Finding, RecoveryReport};
use crate::segment::{DATA_AT, path_of};
use crate::shared::{Identity, Shared};
use crate::slots::{self, Slots};
use crate::writer::{Writer, WriterStart, shortage};

/// Recovers the log in `directory`, which is made where it is missing, up to the point where
/// commits can be taken.
pub(crate) fn open(
    env: &Environment,
    directory: &Path,
    config: LogConfig,
) -> Result<(Committer, Mover, RecoveryReport), OpenError> {
    match open_once(env, directory, config.clone()) {
        // Like a start after a crash in the middle of the first.
        Err(OpenError::Io { source, .. })
            if shortage(&source) == Some(FullCause::Disk)
                && ballast::give_up(&*env.disk, directory)
                    .map_err(failed("give up the ballast in", directory))? =>
        {
            open_once(env, directory, config)
        }
        opened => opened,
    }
}

fn open_once(
    env: &Environment,
    directory: &Path,
    config: LogConfig,
) -> Result<(Committer, Mover, RecoveryReport), OpenError> {
    config.check()?;
    let paths = Paths::of(directory);
    if config.adopt && !is_there(&*env.disk, &paths)? {
        return Err(OpenError::NoLog { directory: paths.directory });
    }
    let lock = prepare(env, &paths)?;
    let (mut meta, fresh) = count_open(env, &paths, &config)?;
    let (mut marks, mark) = Slots::open::<Mark>(&*env.disk, &paths.journal, meta.directory_id)
        .map_err(failed("open the marks in", &paths.journal))?;
    let (slots, checkpoint) = open_checkpoint(env, &paths, meta.directory_id)?;
    let gathered = gather(env, &paths, meta.directory_id, mark, checkpoint)?;
    if mark.is_none() && !gathered.segments.is_empty() {
        return Err(OpenError::MarksUnreadable { directory: paths.directory });
    }
    if mark.is_none() {
        let first = Mark { open_count: meta.open_count, ..Mark::default() };
        marks.write_both(&first).map_err(failed("write a mark in", &paths.journal))?;
    }
    if !meta.begun {
        // From here on a missing mark is damage (META-3): a segment only ever comes after it.
        meta.begun = true;
        meta::write(env, &paths.directory, &meta)?;
    }
    let mut recovery = Recovery::new(env, &paths.quarantine, meta.producer_id_high);
    recovery.running_ms = mark.map_or(0, |mark| mark.running_ms);
    match &checkpoint {
        Some(checkpoint) => recovery.load(&paths, meta.directory_id, checkpoint)?,
        None => check_beginning(env, &paths, &gathered)?,
    }
    for path in &gathered.unused {
        env.disk.remove(path).map_err(failed("remove", path))?;
    }
    env.disk.sync_dir(&paths.journal).map_err(failed("sync", &paths.journal))?;
    let sequence = gathered.last_sequence + 1;
    recovery.walk(gathered, None)?;
    if recovery.end_lost && config.accept_lost_end {
        // Durable before the new segment is, which would make the end look like the middle, and
        // until all that this comes to is durable.
        let kept = Mark { clean: false, end_lost: true, ..mark.unwrap_or_default() };
        marks.write_both(&kept).map_err(failed("write a mark in", &paths.journal))?;
    }
    let started =
        Started { paths, meta, marks, mark, slots, checkpoint, fresh, sequence, config, lock };
    start(env, started, recovery)
}

struct Started {
    paths: Paths,
    meta: Meta,
    marks: Slots,
    mark: Option<Mark>,
    slots: Slots,
    checkpoint: Option<Checkpoint>,
    fresh: bool,
    sequence: u64,
    config: LogConfig,
    lock: Box<dyn DiskLock>,
}

/// Which checkpoint counts. It is written anew before it is believed: after a failed sync the page
/// cache shows what is not on the disk, and what it replaces is removed by this open.
fn open_checkpoint(
    env: &Environment,
    paths: &Paths,
    directory_id: u64,
) -> Result<(Slots, Option<Checkpoint>), OpenError> {
    let (mut slots, checkpoint) =
        Slots::open::<Checkpoint>(&*env.disk, &paths.checkpoint, directory_id)
            .map_err(failed("open the slots in", &paths.checkpoint))?;
    if slots.unreadable {
        return Err(OpenError::CheckpointUnreadable { directory: paths.directory.clone() });
    }
    if let Some(checkpoint) = &checkpoint {
        slots.write_both(checkpoint).map_err(failed("write to", &paths.checkpoint))?;
    }
    Ok((slots, checkpoint))
}

/// Without a checkpoint the journal begins at its beginning. Where it does not, and there was a
/// checkpoint once, that one is what is missing.
fn check_beginning(env: &Environment, paths: &Paths, gathered: &Gathered) -> Result<(), OpenError> {
    let Some(first) = gathered.segments.first() else { return Ok(()) };
    if first.first_frame > 1 && !moved_files(env, paths)?.is_empty() {
        return Err(OpenError::CheckpointUnreadable { directory: paths.directory.clone() });
    }
    Ok(())
}

/// All files of checkpoints, and all cold files.
fn moved_files(env: &Environment, paths: &Paths) -> Result<Vec<PathBuf>, OpenError> {
    let list = |directory: &PathBuf| env.disk.list(directory).map_err(failed("list", directory));
    let mut files = list(&paths.cold)?;
    files.extend(list(&paths.checkpoint)?);
    files.retain(|it| cold::sequence_of(it).or(checkpoint::sequence_of(it)).is_some());
    Ok(files)
}

/// Makes the directory, and takes the lock.
fn prepare(env: &Environment, paths: &Paths) -> Result<Box<dyn DiskLock>, OpenError> {
    let disk = &*env.disk;
    make_directory(disk, &paths.directory)?;
    refuse_foreign(disk, paths)?;
    match disk.lock(&paths.lock) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::Locked { path: paths.directory.clone() })
        }
        Err(error) => Err(failed("lock", &paths.lock)(error)),
    }
}

/// Whether a directory is a log's: it has a meta file, or a journal that may have lost it.
pub(crate) fn is_there(disk: &dyn Disk, paths: &Paths) -> Result<bool, OpenError> {
    let exists = |path: &Path| disk.exists(path).map_err(failed("look at", path));
    if exists(&meta::path_of(&paths.directory))? {
        return Ok(true);
    }
    let list = || disk.list(&paths.journal).map_err(failed("list", &paths.journal));
    Ok(exists(&paths.journal)? && !list()?.is_empty())
}

/// Refuses a directory that is no log's and holds files of others, before anything is written: it
/// was hardly meant, and what becomes of them there (or of the log) nobody could say.
fn refuse_foreign(disk: &dyn Disk, paths: &Paths) -> Result<(), OpenError> {
    if is_there(disk, paths)? {
        return Ok(());
    }
    let list = disk.list(&paths.directory).map_err(failed("list", &paths.directory))?;
    match list.iter().find(|path| !paths.is_of_first_start(path)) {
        Some(foreign) => Err(OpenError::Foreign {
            directory: paths.directory.clone(),
            found: foreign.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }),
        None => Ok(()),
    }
}

/// Makes a directory, and its name and those above it durable: also those that are there already,
/// since who made them may have been killed before it could sync them.
fn make_directory(disk: &dyn Disk, path: &Path) -> Result<(), OpenError> {
    let mut missing = 0;
    for directory in path.ancestors() {
        if disk.exists(directory).map_err(failed("look at", directory))? {
            break;
        }
        missing += 1;
    }
    disk.create_dir_all(path).map_err(failed("create", path))?;
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for (depth, directory) in above.into_iter().enumerate().rev() {
        match disk.sync_dir(directory) {
            Ok(()) => {}
            Err(error) if depth >= missing && is_foreign(&error) => {}
            Err(error) => return Err(failed("sync", directory)(error)),
        }
    }
    Ok(())
}

/// The error of a sync in a directory where this user makes nothing anyway: it may not look there,
/// nobody may write there, or the file system has no such sync.
fn is_foreign(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Unsupported
    )
}

/// Reads or makes the meta file and counts this open.
fn count_open(
    env: &Environment,
    paths: &Paths,
    config: &LogConfig,
) -> Result<(Meta, bool), OpenError> {
    let known = meta::read(env, &paths.directory)?;
    meta::tell_damaged_copies(env, &paths.directory)?;
    let machine =
        env.disk.machine_id().map_err(failed("ask for the machine id of", &paths.directory))?;
    let fresh = known.is_none();
    let mut difference = None;
    let mut mark_count = 0;
    if let Some(meta) = &known {
        check_cluster(paths, meta, config.cluster_id)?;
        check_purpose(paths, meta, config.purpose)?;
        mark_count = check_begun(env, paths, meta)?.map_or(0, |mark| mark.open_count);
        let path = meta::path_of(&paths.directory);
        let stamp = env.disk.stamp(&path).map_err(failed("look at", &path))?;
        difference = meta::difference(meta, stamp, machine.as_deref(), mark_count);
        if let Some(what) = difference.clone().filter(|_| !config.adopt) {
            return Err(OpenError::Moved { directory: paths.directory.clone(), what });
        }
    }
    for directory in [&paths.journal, &paths.cold, &paths.checkpoint, &paths.quarantine] {
        env.disk.create_dir_all(directory).map_err(failed("create", directory))?;
    }
    if fresh && holds_files(env, paths)? {
        return Err(OpenError::MetaMissing { directory: paths.directory.clone() });
    }
    if let Some(meta) = &known {
        remove_remains(env, paths, meta.directory_id)?;
    }
    // A meta file says that the directories are there.
    env.disk.sync_dir(&paths.directory).map_err(failed("sync", &paths.directory))?;
    let mut meta = known.unwrap_or_else(|| Meta::new(env, config.cluster_id));
    if let Some(what) = difference {
        meta.adopt(env);
        meta.open_count = meta.open_count.max(mark_count);
        tracing::warn!(what, "a directory that was copied or restored is taken over");
    }
    if config.purpose != Purpose::Any {
        meta.purpose = config.purpose as u8;
    }
    meta.machine_id = machine.or(meta.machine_id);
    meta.open_count += 1;
    meta::write(env, &paths.directory, &meta)?;
    Ok((meta, fresh))
}

/// Removes the files of a move that was cut short, before room is needed for anything: on a full
/// disk they take up what was held back for it. They are younger than the checkpoint that is named,
/// and hold nothing but copies: what they were made of is given back only when both slots name a
/// later one (MOVE-1). Without a checkpoint they may be all that is left of one, and stay for now.
fn remove_remains(env: &Environment, paths: &Paths, directory_id: u64) -> Result<(), OpenError> {
    let named = slots::read::<Checkpoint>(&*env.disk, &paths.checkpoint, directory_id)
        .map_err(failed("read the slots in", &paths.checkpoint))?;
    let Some(named) = named else { return Ok(()) };
    let is_younger = |path: &PathBuf| {
        let sequence = cold::sequence_of(path).or(checkpoint::sequence_of(path));
        sequence.is_some_and(|sequence| sequence > named.sequence)
    };
    let remains: Vec<_> = moved_files(env, paths)?.into_iter().filter(is_younger).collect();
    for path in &remains {
        env.disk.remove(path).map_err(failed("remove", path))?;
    }
    if remains.is_empty() { Ok(()) } else { sync_moved(env, paths) }
}

/// Makes names of cold files and of checkpoints durable.
fn sync_moved(env: &Environment, paths: &Paths) -> Result<(), OpenError> {
    for directory in [&paths.cold, &paths.checkpoint] {
        env.disk.sync_dir(directory).map_err(failed("sync", directory))?;
    }
    Ok(())
}

/// Refuses the directory of another cluster, before anything is written (META-5).
fn check_cluster(paths: &Paths, meta: &Meta, wanted: Option<ClusterId>) -> Result<(), OpenError> {
    let found = meta.cluster_id();
    match wanted {
        Some(wanted) if wanted != found => {
            Err(OpenError::OtherCluster { directory: paths.directory.clone(), found, wanted })
        }
        _ => Ok(()),
    }
}

/// Refuses the directory of another program, before anything is written (META-6).
fn check_purpose(paths: &Paths, meta: &Meta, wanted: Purpose) -> Result<(), OpenError> {
    let is_open_to_all = wanted == Purpose::Any || meta.purpose == Purpose::Any as u8;
    if is_open_to_all || meta.purpose == wanted as u8 {
        return Ok(());
    }
    Err(OpenError::OtherPurpose {
        directory: paths.directory.clone(),
        found: purpose_name(meta.purpose),
        wanted: purpose_name(wanted as u8),
    })
}

/// Whether there are files of a log: where nothing says which one it is, they are no new one's, and
/// may be all that is left of it.
fn holds_files(env: &Environment, paths: &Paths) -> Result<bool, OpenError> {
    for directory in [&paths.journal, &paths.cold, &paths.checkpoint] {
        let files = env.disk.list(directory).map_err(failed("list", directory))?;
        // A file system of its own has that from the beginning.
        if files.iter().any(|path| !path.ends_with("lost+found")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses a journal that had begun and has no mark any more, before anything is written: it may
/// be on a file system that is not mounted (META-3). Gives the mark.
fn check_begun(env: &Environment, paths: &Paths, meta: &Meta) -> Result<Option<Mark>, OpenError> {
    if !meta.begun {
        return Ok(None);
    }
    let mark = slots::read::<Mark>(&*env.disk, &paths.journal, meta.directory_id)
        .map_err(failed("read the marks in", &paths.journal))?;
    let missing = || OpenError::MarksUnreadable { directory: paths.directory.clone() };
    mark.map(Some).ok_or_else(missing)
}

/// Makes this open's segment, with everything beyond the durable mark written anew, and only then
/// lets the journal go on there.
fn start(
    env: &Environment,
    started: Started,
    mut recovery: Recovery,
) -> Result<(Committer, Mover, RecoveryReport), OpenError> {
    let Started { paths, mut meta, marks, mark, slots, checkpoint, fresh, sequence, config, lock } =
        started;
    let gives_up = recovery.end_lost && config.accept_lost_end;
    let leaves = recovery.end_lost && !gives_up;
    let mut kept = std::mem::take(&mut recovery.kept);
    let first_frame = recovery.expected - kept.len() as u64;
    if leaves {
        kept.clear(); // RECOVERY-5: they stay where they are.
        recovery.expected = first_frame;
    }
    let writer_start = WriterStart {
        journal: paths.journal.clone(),
        directory_id: meta.directory_id,
        sequence,
        next_frame: first_frame,
        durable_through: first_frame - 1,
        run: recovery.run + 1,
        at_least: bytes_for(&kept, &config),
    };
    if !leaves {
        // On a full disk the zeros are the room for the new segment.
        trim(env, recovery.ends.iter().map(|end| (&*end.path, end.used)))?;
    }
    let failed_journal = || failed("write to", &paths.journal);
    let mut writer = Writer::create(env, &config, writer_start).map_err(failed_journal())?;
    rewrite(&mut writer, &mut recovery, &kept, gives_up)
        .map_err(|cause| failed_journal()(io::Error::other(cause.to_string())))?;
    recovery.close_suspects(gives_up);
    recovery.tell_unexplained();
    // Listed before the cut takes effect: a crash in between must not make it a silent one.
    let report = report(&meta, mark, fresh, &recovery, kept.len() as u64);
    tell(env, &paths, &report)?;
    let segments = std::mem::take(&mut recovery.segments);
    if !leaves {
        writer.activate(first_frame, &segments).map_err(failed_journal())?;
        // Nothing behind these ends counts any more: what was kept is written anew, what was cut
        // is in quarantine.
        trim(env, recovery.ends.iter().map(|end| (&*end.path, end.counted)))?;
        remove_void(env, &paths.journal, &recovery, &segments)?;
    }
    let identity = Identity {
        directory_id: meta.identity(),
        cluster_id: meta.cluster_id(),
        open_count: meta.open_count,
        believed_ms: mark.map(|mark| mark.wall_ms).filter(|wall_ms| *wall_ms != 0),
    };
    let ballast = Ballast::open(&*env.disk, &paths.directory, &config)
        .map_err(failed("look at the ballast in", &paths.directory))?;
    let (seed, view) = (meta.directory_id, recovery.view);
    let shared = Shared::new(env.clone(), config, seed, identity, view, segments, ballast);
    let mut committer = Committer::new(CommitterStart {
        shared: shared.clone(),
        staging: recovery.staging,
        writer,
        marks,
        running_before_ms: recovery.running_ms,
        lock,
    });
    let unsure = Unsure { end_lost: recovery.end_lost, ids: recovery.ids_unclear };
    // Among what is lost may be who raised the epochs last.
    let is_sure = report.clean && report.is_whole();
    begin(env, &paths, &mut committer, &mut meta, (is_sure, unsure))?;
    let mover = mover(env, paths, &committer, slots, checkpoint, &report, &meta)?;
    Ok((committer, mover, report))
}

/// What damage leaves open.
struct Unsure {
    end_lost: bool,
    /// Which producer ids were given.
    ids: bool,
}

/// Writes what must be durable before anything is served.
fn begin(
    env: &Environment,
    paths: &Paths,
    committer: &mut Committer,
    meta: &mut Meta,
    (clean, unsure): (bool, Unsure),
) -> Result<(), OpenError> {
    if unsure.end_lost && !committer.shared.config.accept_lost_end {
        committer.shared.fence(FenceCause::EndLost);
        return Ok(());
    }
    if !clean && !planted(Planted::EpochNotRaised) {
        committer.raise_epochs();
    }
    // RECOVERY-4
    if meta.adopting || unsure.ids && !planted(Planted::ProducerIdsNotMoved) {
        committer.move_producer_ids(env.rng.next_u64());
    }
    // The one before says that an end is lost which is given up; from here on a gap does.
    committer.write_mark(false);
    if let Some(fenced) = committer.shared.fenced() {
        let source = io::Error::other(fenced.cause.to_string());
        return Err(OpenError::Io { action: "write to", path: paths.journal.clone(), source });
    }
    if meta.adopting {
        meta.adopting = false; // META-4
        meta::write(env, &paths.directory, meta)?;
    }
    Ok(())
}

/// Removes what no checkpoint names, and begins behind what is there. Where there is damage, what
/// is there may be all that is left of a checkpoint, or have been missing when it was written, and
/// is set aside.
fn mover(
    env: &Environment,
    paths: Paths,
    committer: &Committer,
    slots: Slots,
    current: Option<Checkpoint>,
    report: &RecoveryReport,
    meta: &Meta,
) -> Result<Mover, OpenError> {
    let shared = &committer.shared;
    let cold = shared.segments.cold();
    let is_named = |path: &Path| cold.iter().any(|cold| cold.path == path);
    if !report.is_whole() {
        set_aside(env, &paths, current.as_ref(), &is_named, report.open_count)?;
        if report.damage.iter().all(Finding::holds_nothing) {
            // Nothing is lost that could be put back in its place: a checkpoint makes it good.
            shared.mover.note_findings();
        }
    }
    if current.is_some() || report.is_whole() {
        let goes = |path: &Path| !is_named(path);
        mover::remove_files(&*env.disk, &paths, current.as_ref(), &goes)
            .map_err(failed("clean up", &paths.directory))?;
    }
    let last = cold.iter().map(|cold| u64::from(cold.life.file_sequence())).max();
    let last = last.max(current.map(|current| current.sequence)).unwrap_or(0);
    let known: Vec<Finding> = report.damage.iter().chain(&report.accepted).cloned().collect();
    let unplaced = unplaced(committer, &known).iter().map(|held| held.partition).collect();
    // What earlier runs have left is looked at before anything is written.
    shared.mover.note_garbage();
    Ok(Mover {
        shared: shared.clone(),
        paths,
        slots,
        current,
        producer_id_high: meta.producer_id_high,
        known,
        unplaced,
        zeroer: None,
        sequence: last + 1,
        first_sequence: last + 1,
        most: SEALED_MAX,
        vain: None,
        said_short: false,
        pause: SHORT_PAUSE,
        halted: false,
    })
}

/// Gives files names that no checkpoint to come takes for those of files which it replaces. Not
/// files of a move that was cut short: they are younger than the checkpoint, and none named them.
fn set_aside(
    env: &Environment,
    paths: &Paths,
    current: Option<&Checkpoint>,
    is_named: &dyn Fn(&Path) -> bool,
    open_count: u64,
) -> Result<(), OpenError> {
    let is_lost = |path: &PathBuf| match (current, cold::sequence_of(path)) {
        (None, _) => true,
        (Some(current), Some(sequence)) => sequence <= current.sequence && !is_named(path),
        (Some(_), None) => false,
    };
    for path in moved_files(env, paths)?.into_iter().filter(is_lost) {
        let mut kept = path.clone().into_os_string();
        kept.push(format!(".kept-{open_count}"));
        env.disk.rename(&path, Path::new(&kept)).map_err(failed("set aside", &path))?;
        tracing::warn!(path = %path.display(), "no checkpoint names it; it is set aside and kept");
    }
    sync_moved(env, paths)
}

fn report(
    meta: &Meta,
    mark: Option<Mark>,
    fresh: bool,
    recovery: &Recovery,
    rewritten: u64,
) -> RecoveryReport {
    let was_clean = mark.is_some_and(|mark| {
        mark.clean
            && mark.open_count + 1 == meta.open_count
            && mark.durable_through + 1 == recovery.expected
            && !meta.adopting
    });
    let found = recovery.damage.iter().cloned();
    let (accepted, damage) = found.partition(|finding| is_accepted(&recovery.view, finding));
    RecoveryReport {
        fresh,
        clean: was_clean && recovery.in_doubt.is_empty() && !recovery.end_lost,
        open_count: meta.open_count,
        last_frame: recovery.expected - 1,
        durable_through: recovery.durable,
        rewritten,
        damage,
        accepted,
        in_doubt: recovery.in_doubt.clone(),
    }
}

/// What a segment must hold to take `kept` whole.
fn bytes_for(kept: &[KeptFrame], config: &LogConfig) -> u64 {
    let frames = kept.iter().map(|frame| {
        let payload: usize = frame.payloads.iter().map(bytes::Bytes::len).sum();
        frame_bytes(frame.entries.len(), payload)
    });
    DATA_AT + frames.sum::<u64>() + config.reserve_bytes
}

fn rewrite(
    writer: &mut Writer,
    recovery: &mut Recovery,
    kept: &[KeptFrame],
    gives_up: bool,
) -> Result<(), FenceCause> {
    for frame in kept {
        let (wall_ms, running_ms) = (frame.header.wall_ms, frame.header.running_ms);
        let place = writer.write(&frame.items(), wall_ms, running_ms)?;
        recovery.apply_kept(frame, &place);
    }
    recovery.tell_kept_misfits();
    if gives_up {
        // A frame that is missing says so from now on, where none that was lost is known.
        recovery.lose(writer.active.sequence, writer.position(), 0, writer.next_frame);
        writer.skip_frame();
    }
    writer.sync()
}

/// Gives back the space behind the ends of older segments.
fn trim<'a>(
    env: &Environment,
    ends: impl Iterator<Item = (&'a Path, u64)>,
) -> Result<(), OpenError> {
    for (path, end) in ends {
        let file = env.disk.open(path).map_err(failed("open", path))?;
        if file.len().map_err(failed("measure", path))? > end {
            file.truncate(end).map_err(failed("shorten", path))?;
            file.sync_data().map_err(failed("sync", path))?;
        }
    }
    Ok(())
}

/// Removes older segments in which no frame counts any more. Those with findings stay.
fn remove_void(
    env: &Environment,
    journal: &Path,
    recovery: &Recovery,
    segments: &Segments,
) -> Result<(), OpenError> {
    let void = recovery.ends.iter().filter(|end| {
        let concerned = |finding: &Finding| path_of(journal, finding.segment) == end.path;
        end.counted == DATA_AT && !recovery.damage.iter().any(concerned)
    });
    for end in void {
        env.disk.remove(&end.path).map_err(failed("remove", &end.path))?;
        segments.remove(end.key);
    }
    env.disk.sync_dir(journal).map_err(failed("sync", journal))
}

/// Lists what was found, and logs it.
fn tell(env: &Environment, paths: &Paths, report: &RecoveryReport) -> Result<(), OpenError> {
    for finding in &report.damage {
        tracing::error!(%finding, "damage was found and is kept; a check says what is lost");
    }
    for finding in &report.accepted {
        tracing::info!(%finding, "damage that was accepted is still there");
    }
    for finding in &report.in_doubt {
        tracing::warn!(%finding, "the journal's unsynced end was cut; it is kept, in doubt");
    }
    let findings: Vec<_> = report.damage.iter().chain(&report.in_doubt).cloned().collect();
    quarantine::list(&*env.disk, &paths.quarantine, report.open_count, &findings)
        .map_err(failed("list a finding in", &paths.quarantine))
}
