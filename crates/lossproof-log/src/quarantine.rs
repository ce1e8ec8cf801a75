//! Pieces of the journal that were found wanting are copied here and listed, and stay.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use lossproof_env::{Disk, DiskFile};

use crate::report::{Finding, FindingKind};
use crate::scan::read_around;

const LIST: &str = "list";
/// A piece is copied in parts of this size.
const COPY_BYTES: u64 = 1 << 20;

/// Copies the bytes of a finding; durable when it returns. The same piece is copied once; one that
/// has grown, with what is new of it, is another.
pub(crate) fn keep(
    disk: &dyn Disk,
    quarantine: &Path,
    source: &dyn DiskFile,
    finding: &Finding,
) -> io::Result<PathBuf> {
    let prefix = match finding.kind {
        FindingKind::ColdDamaged => "cold-",
        FindingKind::UnknownPartition | FindingKind::Misplaced => "unplaced-",
        _ => "",
    };
    let &Finding { segment, position, bytes, .. } = finding;
    let path = quarantine.join(format!("{prefix}{segment:016}-{position:010}-{bytes:010}.piece"));
    if disk.exists(&path)? {
        // Who named it so may have been killed before it could sync that.
        disk.sync_dir(quarantine)?;
        return Ok(path);
    }
    let temporary = path.with_extension("new");
    let file = create_anew(disk, &temporary)?;
    let mut done = 0;
    while done < finding.bytes {
        let part = COPY_BYTES.min(finding.bytes - done);
        let mut buffer = vec![0; part as usize];
        read_around(source, &mut buffer, finding.position + done)?;
        file.write_all_at(&buffer, done)?;
        done += part;
    }
    file.sync_data()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(quarantine)?;
    Ok(path)
}

/// Adds findings to the list, one line each, unless they are there; durable when it returns.
pub(crate) fn list(
    disk: &dyn Disk,
    quarantine: &Path,
    open_count: u64,
    findings: &[Finding],
) -> io::Result<()> {
    let path = quarantine.join(LIST);
    let (mut text, is_whole) = read_list(disk, &path)?;
    let known: HashSet<String> = text.lines().filter_map(description).map(str::to_owned).collect();
    let mut changed = false;
    for finding in findings {
        let line = finding.to_string();
        if !known.contains(&line) {
            text.extend([&format!("open={open_count} "), &*line, "\n"]);
            changed = true;
        }
    }
    if !changed {
        // The same of what is listed there.
        return if findings.is_empty() { Ok(()) } else { disk.sync_dir(quarantine) };
    }
    if !is_whole {
        // What can be read of it goes into the new one; the rest may come back.
        disk.rename(&path, &quarantine.join(format!("list.kept-{open_count}")))?;
    }
    let temporary = quarantine.join("list.new");
    let file = create_anew(disk, &temporary)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(quarantine)
}

/// Lines of the list that tell of an end that was cut: nothing else does once the start that cut it
/// is over.
pub(crate) fn cuts(disk: &dyn Disk, quarantine: &Path) -> io::Result<Vec<String>> {
    let (text, _) = read_list(disk, &quarantine.join(LIST))?;
    let kind = FindingKind::TailCut.to_string();
    let is_cut = |line: &&str| {
        description(line).is_some_and(|it| it.split(' ').next() == Some(kind.as_str()))
    };
    Ok(text.lines().filter(is_cut).map(str::to_owned).collect())
}

/// A line without the open that wrote it.
fn description(line: &str) -> Option<&str> {
    line.split_once(' ').map(|(_, rest)| rest)
}

/// What can be read of the list, and whether that is all.
fn read_list(disk: &dyn Disk, path: &Path) -> io::Result<(String, bool)> {
    if !disk.exists(path)? {
        return Ok((String::new(), true));
    }
    let file = disk.open_read_only(path)?;
    let mut bytes = vec![0; file.len()? as usize];
    read_around(&*file, &mut bytes, 0)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => (text, true),
        Err(error) => {
            let mut text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            text.retain(|it| it != char::REPLACEMENT_CHARACTER);
            (text, false)
        }
    })
}

fn create_anew(disk: &dyn Disk, path: &Path) -> io::Result<std::sync::Arc<dyn DiskFile>> {
    if disk.exists(path)? {
        disk.remove(path)?;
    }
    disk.create(path)
}
