use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::broker::Started;
use crate::failure::{Context, Failure};
use crate::journal::Region;
use crate::reading::{Damaged, Reader};
use crate::round::{self, Round, Setup};
use crate::tally::Tally;

/// Sessions in which batches are moved; one more leaves them in the journal.
const SESSIONS: usize = 3;
const SESSION_RECORDS: u64 = 60;
/// Flips in each region by one round.
const FLIPS: usize = 2;
/// Reading that turns back, where a folder has more in it than a broker makes.
const DEPTH_MAX: usize = 4;

/// By path: the content of every file of a data directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// One bit changes between two starts, in every region of the files that hold something, be it a
/// second copy. A check of the directory finds it. The broker starts; everything is there, or it
/// says which offsets are not, and nothing that was not written is ever served.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    round::run(setup, "bit-flip", seed, tally, |round| {
        // A flip in a topic that is not read would change nothing.
        round.roles.transacts = false;
        for _ in 0..SESSIONS {
            session(round)?;
        }
        // What is written from here on stays in the journal: nothing looks for what to compact.
        round.settings.options.clear();
        round.roles.compacts = false;
        session(round)?;
        // The next start begins a segment; until then the last frame is the journal's last.
        let files = read_files(&round.settings.data)?;
        let broker = round.settings.start()?;
        round.verify()?;
        let baseline = round.recorder.stored("read-0");
        broker.terminate()?;
        restore(&round.settings.data, &files)?;
        for region in Region::ALL {
            for _ in 0..FLIPS {
                flip_and_look(round, region, &files, &baseline)?;
                restore(&round.settings.data, &files)?;
            }
        }
        Ok(())
    })
}

fn session(round: &mut Round) -> Result<(), Failure> {
    let broker = round.settings.start()?;
    round.make_topics()?;
    let load = round.load()?;
    load.progress().wait_for(SESSION_RECORDS)?;
    load.end()?;
    broker.terminate()
}

type Records = BTreeMap<(i32, i64), String>;

fn flip_and_look(
    round: &mut Round,
    region: Region,
    files: &Files,
    baseline: &Records,
) -> Result<(), Failure> {
    let what = flip(round, region, files)?;
    round.note_strike();
    let checked = check(round)?;
    if region.must_be_found() && !checked.is_found {
        round.tally.undetected += 1;
        return Err(Failure::broken(format!("{what}: a check does not find it")));
    }
    let skip = round.settings.log_length();
    let broker = match round.settings.start_under(&[])? {
        Started::Ready(broker) => broker,
        Started::Ended(text) => {
            return Err(Failure::broken(format!("{what}: the broker does not start:\n{text}")));
        }
    };
    let said = round.settings.log_after(skip)?;
    let damaged = if region.is_cold() { checked.lost.clone() } else { reported(&said) };
    let read = format!("flip-{}", round.tally.cycles);
    let bootstrap = round.settings.bootstrap();
    let recorder = Arc::clone(&round.recorder);
    let reader = Reader::new(&bootstrap, &recorder)?;
    let result = reader.read_all(&read, &damaged);
    let stored = round.recorder.stored(&read);
    for (place, value) in &stored {
        if baseline.get(place) != Some(value) {
            round.tally.altered += 1;
            return Err(Failure::broken(format!("{what}: {place:?} holds '{value}'\n{said}")));
        }
    }
    if let Err(failure) = result {
        // Without its name a topic cannot be read; then that must have been said.
        if !said.contains("state=Metadata") {
            return Err(Failure::broken(format!("{what}: {failure}\n{said}")));
        }
        round.tally.reported += 1;
        return broker.kill();
    }
    let is_told = |place: (i32, i64)| covers(&damaged, place) && covers(&checked.lost, place);
    let is_listed = region.is_cold() || is_listed(&round.settings.data);
    for (place, value) in baseline.iter().filter(|(place, _)| !stored.contains_key(place)) {
        if !is_listed || !is_told(*place) {
            round.tally.undetected += 1;
            return Err(Failure::broken(format!(
                "{what}: '{value}' at {place:?} is gone, and nobody says so\n{said}"
            )));
        }
    }
    round.tally.reported += u64::from(checked.is_found);
    check_committed(round, &reader, &what, &said)?;
    broker.kill()
}

/// What `lossproof broker --check` says of a directory.
struct Checked {
    /// Something does not read back, or may never have been durable.
    is_found: bool,
    lost: Damaged,
}

fn check(round: &Round) -> Result<Checked, Failure> {
    let mut command = Command::new(&round.settings.binary);
    command.args(["broker", "--format", "json", "--check"]).arg(&round.settings.data);
    let output = command.output().context("lossproof broker --check")?;
    let verdict: Value = serde_json::from_slice(&output.stdout).context("what a check says")?;
    let code = output.status.code();
    let is_damaged = match (code, verdict["verdict"].as_str()) {
        (Some(3), Some("damaged")) => true,
        (Some(0), Some("clean")) => false,
        _ => return Err(Failure::broken(format!("a check ends with {code:?}: {verdict}"))),
    };
    let in_doubt = verdict["in_doubt"].as_array().cloned().unwrap_or_default();
    let lists = in_doubt.iter().map(|finding| &finding["ranges"]).chain([&verdict["lost"]]);
    let ranges = lists.filter_map(Value::as_array).flatten();
    let ours = ranges.filter(|range| range["topic"] == crate::client::TOPIC);
    let lost = ours.filter_map(|range| {
        let partition = i32::try_from(range["partition"].as_i64()?).ok()?;
        Some((partition, range["first"].as_i64()?, range["last"].as_i64().unwrap_or(i64::MAX)))
    });
    Ok(Checked { is_found: is_damaged || !in_doubt.is_empty(), lost: lost.collect() })
}

fn covers(damaged: &Damaged, (partition, offset): (i32, i64)) -> bool {
    let holds = |(of, first, last): &(i32, i64, i64)| {
        *of == partition && (*first..=*last).contains(&offset)
    };
    damaged.iter().any(holds)
}

/// Committed offsets are as they were, or the broker has told of damage to them.
fn check_committed(
    round: &mut Round,
    reader: &Reader<'_>,
    what: &str,
    said: &str,
) -> Result<(), Failure> {
    if said.contains("state=") {
        return Ok(());
    }
    reader.read_committed()?;
    let report = round.recorder.judge("read-0")?;
    let back = report.anomalies.iter().any(|it| it.id() == "commit-regressed");
    if !back {
        return Ok(());
    }
    round.tally.undetected += 1;
    Err(Failure::broken(format!("{what}: a committed offset went back\n{report}\n{said}")))
}

/// Changes one bit of that region on the disk, and says which.
fn flip(round: &mut Round, region: Region, files: &Files) -> Result<String, Failure> {
    let mut places = Vec::new();
    for (path, bytes) in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if region.is_in(&name) {
            places.extend(region.place(bytes, &mut round.random).map(|place| (path, bytes, place)));
        }
    }
    if places.is_empty() {
        return Err(Failure::broken(format!("no file has a {region:?}")));
    }
    let (path, bytes, (begin, end)) = *round.random.pick(&places);
    let at = round.random.between(begin as u64, end as u64);
    let bit = round.random.between(0, 8);
    let flipped = bytes[at as usize] ^ (1 << bit);
    let file = OpenOptions::new().write(true).open(path).context(path.display())?;
    file.write_all_at(&[flipped], at).context(path.display())?;
    Ok(format!("bit {bit} of byte {at} in {} ({region:?})", path.display()))
}

/// The offsets that the log of a start tells of: `NAME-PARTITION: offsets A to B`, or `from A on`.
fn reported(said: &str) -> Damaged {
    let of_line = |line: &str| {
        let (name, range) = line.trim().split_once(": offsets ")?;
        let partition = name.strip_prefix(crate::client::TOPIC)?.strip_prefix('-')?.parse().ok()?;
        if let Some(first) = range.strip_prefix("from ") {
            return Some((partition, first.strip_suffix(" on")?.parse().ok()?, i64::MAX));
        }
        let (first, last) = range.split_once(" to ")?;
        Some((partition, first.parse().ok()?, last.parse().ok()?))
    };
    said.lines().filter_map(of_line).collect()
}

fn is_listed(data: &Path) -> bool {
    fs::read(data.join("quarantine/list")).is_ok_and(|list| !list.is_empty())
}

fn read_files(data: &Path) -> Result<Files, Failure> {
    let mut files = Files::new();
    let mut folders = vec![(data.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).context(folder.display())? {
            let path = entry.context(folder.display())?.path();
            if path.is_dir() && depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            } else {
                files.insert(path.clone(), fs::read(&path).context(path.display())?);
            }
        }
    }
    Ok(files)
}

/// Makes every file what it was; the files stay the same, since the broker knows its lock by the
/// inode.
fn restore(data: &Path, files: &Files) -> Result<(), Failure> {
    for (path, now) in read_files(data)? {
        match files.get(&path) {
            Some(before) if *before == now => {}
            Some(before) => fs::write(&path, before).context(path.display())?,
            None => fs::remove_file(&path).context(path.display())?,
        }
    }
    let gone = files.iter().filter(|(path, _)| !path.exists());
    for (path, before) in gone {
        fs::write(path, before).context(path.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_broker_are_understood() {
        let said = "warning[LP1012]: journal\n  damaged: frame-damaged partition=7:4-6\n    \
                    torture-1: offsets 4 to 6\n    torture-2: offsets from 9 on\n";
        assert_eq!(reported(said), [(1, 4, 6), (2, 9, i64::MAX)]);
        assert!(reported("ready bootstrap.servers=127.0.0.1:9").is_empty());
    }
}
