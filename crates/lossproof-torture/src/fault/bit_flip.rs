use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::asking::{Answer, Asking, Batch};
use crate::broker::{Broker, PARTITIONS, Started};
use crate::client::TOPIC;
use crate::failure::{Context, Failure};
use crate::journal::Region;
use crate::reading::{Damaged, Reader};
use crate::round::{self, Round, Setup};
use crate::tally::Tally;
use crate::transacting;

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
/// says which offsets are not, and nothing that was not written, or was aborted, is ever served.
pub(crate) fn round(setup: &Setup, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    round::run(setup, "bit-flip", seed, tally, |round| {
        for _ in 0..SESSIONS {
            session(round)?;
        }
        // What is written from here on stays in the journal: nothing looks for what to compact.
        round.settings.options.clear();
        round.roles.compacts = false;
        session(round)?;
        // The next start begins a segment; until then the last frame is the journal's last.
        let files = read_files(&round.settings.data)?;
        keep_meta(&round.settings.data)?;
        let broker = round.settings.start()?;
        round.verify()?;
        let baseline = Baseline::see(round, files)?;
        broker.terminate()?;
        restore(&round.settings.data, &baseline.files)?;
        for region in Region::ALL {
            for _ in 0..FLIPS {
                flip_and_look(round, region, &baseline)?;
                restore(&round.settings.data, &baseline.files)?;
            }
        }
        for _ in 0..FLIPS {
            flip_batch_and_ask(round, &baseline)?;
            restore(&round.settings.data, &baseline.files)?;
        }
        Ok(())
    })
}

fn session(round: &mut Round) -> Result<(), Failure> {
    let broker = round.settings.start()?;
    round.make_topics()?;
    let load = round.load()?;
    load.progress().wait_for(SESSION_RECORDS)?;
    round.wait_until_settled()?;
    load.end()?;
    broker.terminate()
}

type Records = BTreeMap<(i32, i64), String>;

/// Files without a flip, and what a full read of them sees that found nothing wrong.
struct Baseline {
    files: Files,
    records: Records,
    committed: BTreeMap<i32, i64>,
    /// What is shown of transactions.
    transactions: Records,
    /// By topic and partition: all batches as they are served.
    batches: BTreeMap<(&'static str, i32), Vec<Batch>>,
}

impl Baseline {
    fn see(round: &Round, files: Files) -> Result<Self, Failure> {
        let bootstrap = round.settings.bootstrap();
        let records = round.recorder.stored("read-0");
        let committed = Reader::new(&bootstrap, &round.recorder)?.committed()?;
        let transactions = transactions(&bootstrap, &Damaged::new())?;
        if committed.values().all(|offset| *offset == 0) || transactions.is_empty() {
            return Err(Failure::broken("nothing is committed that a flip could change"));
        }
        let mut asking = Asking::new(&bootstrap)?;
        let mut batches = BTreeMap::new();
        for topic in [TOPIC, transacting::TOPIC] {
            for partition in 0..PARTITIONS {
                batches.insert((topic, partition), asking.read_all(topic, partition)?);
            }
        }
        Ok(Self { files, records, committed, transactions, batches })
    }
}

/// What is shown of transactions, of damaged partitions as much as comes with the others.
fn transactions(bootstrap: &str, damaged: &Damaged) -> Result<Records, Failure> {
    let is_whole = |of: &i32| damaged.iter().all(|(partition, ..)| partition != of);
    let seen = transacting::read(bootstrap, (0..PARTITIONS).filter(is_whole).collect())?;
    let at_place = |(partition, offset, value)| ((partition, offset), value);
    Ok(seen.into_iter().map(at_place).collect())
}

/// What was done to the files, and what is told of it.
struct Flipped {
    what: String,
    /// By the log of the start.
    said: String,
    checked: Checked,
    is_cold: bool,
}

impl Flipped {
    fn damaged(&self, topic: &str) -> Damaged {
        if self.is_cold { self.checked.lost_of(topic) } else { reported(&self.said, topic) }
    }

    fn broken(&self, why: impl Display) -> Failure {
        Failure::broken(format!("{}: {why}\n{}", self.what, self.said))
    }
}

fn flip_and_look(round: &mut Round, region: Region, baseline: &Baseline) -> Result<(), Failure> {
    let what = flip(round, region, &baseline.files)?;
    let (broker, flipped) = start_flipped(round, what, region.must_be_found(), region.is_cold())?;
    check_told(round, baseline, &flipped)?;
    if check_records(round, baseline, &flipped)? {
        check_transactions(round, baseline, &flipped)?;
        check_committed(round, baseline, &flipped)?;
        round.tally.reported += u64::from(flipped.checked.is_found);
    } else {
        round.tally.reported += 1;
    }
    broker.kill()
}

/// The same for a batch, in all copies of it that there are: it must be refused.
fn flip_batch_and_ask(round: &mut Round, baseline: &Baseline) -> Result<(), Failure> {
    let (what, (topic, partition), offset) = flip_batch(round, baseline)?;
    round.tally.struck_batches += 1;
    let (broker, flipped) = start_flipped(round, what, true, false)?;
    let lost = flipped.checked.lost_of(topic);
    let answer = Asking::new(&round.settings.bootstrap())?.fetch(topic, partition, offset)?;
    if !covers(&lost, (partition, offset)) || answer.error == 0 {
        round.tally.undetected += 1;
        let error = answer.error;
        let why = format!("{topic}-{partition} at {offset}: error {error}, told of {lost:?}");
        return Err(flipped.broken(why));
    }
    check_told(round, baseline, &flipped)?;
    round.tally.reported += 1;
    round.tally.reported_batches += 1;
    broker.kill()
}

/// A check and a start of what was flipped.
fn start_flipped(
    round: &mut Round,
    what: String,
    must_be_found: bool,
    is_cold: bool,
) -> Result<(Broker, Flipped), Failure> {
    round.note_strike();
    let checked = check(round)?;
    if must_be_found && !checked.is_found {
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
    Ok((broker, Flipped { what, said, checked, is_cold }))
}

/// At both ends of each range that is told of, which full reads go around: an error, or what was
/// there before where a check has not called it lost.
fn check_told(round: &mut Round, baseline: &Baseline, flipped: &Flipped) -> Result<(), Failure> {
    let mut asking = Asking::new(&round.settings.bootstrap())?;
    for ((topic, partition), before) in &baseline.batches {
        let lost = flipped.checked.lost_of(topic);
        let end = before.last().map_or(-1, |batch| batch.last);
        let told = [reported(&flipped.said, topic), lost.clone()].concat();
        let told = told.iter().filter(|(of, first, _)| of == partition && *first <= end);
        let offsets: BTreeSet<i64> =
            told.flat_map(|(_, first, last)| [*first, *last.min(&end)]).collect();
        for offset in offsets {
            let answer = asking.fetch(topic, *partition, offset)?;
            let is_lost = covers(&lost, (*partition, offset));
            if let Some(why) = wrong_with(&answer, before, offset, is_lost) {
                round.tally.altered += 1;
                return Err(flipped.broken(format!("{topic}-{partition} at {offset}: {why}")));
            }
        }
    }
    Ok(())
}

fn wrong_with(
    answer: &Answer,
    before: &[Batch],
    offset: i64,
    is_lost: bool,
) -> Option<&'static str> {
    if answer.batches.iter().any(|batch| !before.contains(batch)) {
        return Some("a batch is served that was never written");
    }
    let is_there = |batch: &Batch| (batch.first..=batch.last).contains(&offset);
    match answer.batches.first() {
        _ if answer.error != 0 => None,
        _ if is_lost => Some("it is lost, and that is no error"),
        Some(batch) if is_there(batch) => None,
        _ => Some("neither it nor an error is served"),
    }
}

/// Whether the topic can be read. Without its name it cannot; then that must have been said.
fn check_records(
    round: &mut Round,
    baseline: &Baseline,
    flipped: &Flipped,
) -> Result<bool, Failure> {
    let damaged = flipped.damaged(TOPIC);
    let read = format!("flip-{}", round.tally.cycles);
    let reader = Reader::new(&round.settings.bootstrap(), &round.recorder)?;
    let result = reader.read_all(&read, &damaged);
    let stored = round.recorder.stored(&read);
    for (place, value) in &stored {
        if baseline.records.get(place) != Some(value) {
            round.tally.altered += 1;
            return Err(flipped.broken(format!("{place:?} holds '{value}'")));
        }
    }
    if let Err(failure) = result {
        return if is_nameless(flipped) { Ok(false) } else { Err(flipped.broken(failure)) };
    }
    let lost = flipped.checked.lost_of(TOPIC);
    let is_told = |place: (i32, i64)| covers(&damaged, place) && covers(&lost, place);
    let is_listed = flipped.is_cold || is_listed(&round.settings.data);
    for (place, value) in baseline.records.iter().filter(|(place, _)| !stored.contains_key(place)) {
        if !is_listed || !is_told(*place) {
            round.tally.undetected += 1;
            let why = format!("'{value}' at {place:?} is gone, and nobody says so");
            return Err(flipped.broken(why));
        }
    }
    Ok(true)
}

fn is_nameless(flipped: &Flipped) -> bool {
    flipped.said.contains("state=Metadata")
}

/// What is shown of transactions was shown before, nothing aborted is among it, and it is all there
/// in partitions of which no damage is told.
fn check_transactions(
    round: &mut Round,
    baseline: &Baseline,
    flipped: &Flipped,
) -> Result<(), Failure> {
    let damaged = flipped.damaged(transacting::TOPIC);
    let shown = match transactions(&round.settings.bootstrap(), &damaged) {
        Err(_) if is_nameless(flipped) => return Ok(()),
        shown => shown.map_err(|failure| flipped.broken(failure))?,
    };
    let before = &baseline.transactions;
    if let Some((place, value)) = shown.iter().find(|(place, it)| before.get(place) != Some(it)) {
        round.tally.altered += 1;
        return Err(flipped.broken(format!("{value} is shown as committed at {place:?}")));
    }
    let is_whole = |of: i32| damaged.iter().all(|(partition, ..)| *partition != of);
    let mut gone = before.iter().filter(|(place, _)| !shown.contains_key(place));
    if let Some((place, value)) = gone.find(|(place, _)| is_whole(place.0)) {
        round.tally.undetected += 1;
        let why = format!("{value} at {place:?}, committed, is gone, and nobody says so");
        return Err(flipped.broken(why));
    }
    Ok(())
}

/// What `lossproof broker --check` says of a directory.
struct Checked {
    /// Something does not read back, or may never have been durable.
    is_found: bool,
    /// By the name of the topic.
    lost: Vec<(String, (i32, i64, i64))>,
}

impl Checked {
    fn lost_of(&self, topic: &str) -> Damaged {
        let ours = self.lost.iter().filter(|(name, _)| name == topic);
        ours.map(|(_, range)| *range).collect()
    }
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
    let lost = ranges.filter_map(|range| {
        let partition = i32::try_from(range["partition"].as_i64()?).ok()?;
        let last = range["last"].as_i64().unwrap_or(i64::MAX);
        Some((range["topic"].as_str()?.to_owned(), (partition, range["first"].as_i64()?, last)))
    });
    Ok(Checked { is_found: is_damaged || !in_doubt.is_empty(), lost: lost.collect() })
}

fn covers(damaged: &Damaged, (partition, offset): (i32, i64)) -> bool {
    let holds = |(of, first, last): &(i32, i64, i64)| {
        *of == partition && (*first..=*last).contains(&offset)
    };
    damaged.iter().any(holds)
}

/// Committed offsets are as they were; where the broker has told of damage to what it keeps, they
/// may be refused or be gone, and are never others.
fn check_committed(
    round: &mut Round,
    baseline: &Baseline,
    flipped: &Flipped,
) -> Result<(), Failure> {
    let is_told = flipped.said.contains("state=");
    let reader = Reader::new(&round.settings.bootstrap(), &round.recorder)?;
    let found = match reader.committed() {
        Err(_) if is_told => return Ok(()),
        found => found?,
    };
    let committed = &baseline.committed;
    if is_unharmed(committed, &found, is_told) {
        return Ok(());
    }
    round.tally.undetected += 1;
    Err(flipped.broken(format!("committed: {committed:?}, found: {found:?}")))
}

fn is_unharmed(committed: &BTreeMap<i32, i64>, found: &BTreeMap<i32, i64>, is_told: bool) -> bool {
    let mut all = committed.iter().map(|(partition, offset)| (offset, found.get(partition)));
    all.all(|(offset, found)| found == Some(offset) || is_told && found.is_none_or(|it| *it == 0))
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

/// Changes one bit of a batch wherever it is, and says which, in which partition, and its offset.
fn flip_batch(
    round: &mut Round,
    baseline: &Baseline,
) -> Result<(String, (&'static str, i32), i64), Failure> {
    let of_partition = |(place, batches): (&(_, _), &Vec<Batch>)| {
        let place = *place;
        batches.iter().map(move |batch| (place, batch.clone())).collect::<Vec<_>>()
    };
    let batches: Vec<_> = baseline.batches.iter().flat_map(of_partition).collect();
    let (place, batch) = round.random.pick(&batches);
    let at = round.random.between(0, batch.bytes.len() as u64) as usize;
    let flipped = batch.bytes[at] ^ (1 << round.random.between(0, 8));
    let mut what = format!("byte {at} of the batch at {} of {place:?}", batch.first);
    for (path, bytes) in &baseline.files {
        let mut from = 0;
        while let Some(found) = find(&bytes[from..], &batch.bytes) {
            let begin = from + found;
            let file = OpenOptions::new().write(true).open(path).context(path.display())?;
            file.write_all_at(&[flipped], (begin + at) as u64).context(path.display())?;
            what = format!("{what}, at {begin} of {}", path.display());
            from = begin + 1;
        }
    }
    Ok((what, *place, batch.first))
}

/// Most of a file is zeros.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The offsets that the log of a start tells of: `NAME-PARTITION: offsets A to B`, or `from A on`.
fn reported(said: &str, topic: &str) -> Damaged {
    let of_line = |line: &str| {
        let (name, range) = line.trim().split_once(": offsets ")?;
        let partition = name.strip_prefix(topic)?.strip_prefix('-')?.parse().ok()?;
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

/// Each start of the broker makes another meta file, which knows itself by inode and birth. This
/// one stays, under a second name.
fn keep_meta(data: &Path) -> Result<(), Failure> {
    let (meta, kept) = (data.join("meta"), data.with_file_name("meta.kept"));
    fs::hard_link(&meta, &kept).context(kept.display())
}

/// Makes every file what it was; the meta file is the same one again.
fn restore(data: &Path, files: &Files) -> Result<(), Failure> {
    for (path, now) in read_files(data)? {
        match files.get(&path) {
            Some(before) if *before == now => {}
            Some(before) => fs::write(&path, before).context(path.display())?,
            None => fs::remove_file(&path).context(path.display())?,
        }
    }
    let (meta, kept) = (data.join("meta"), data.with_file_name("meta.kept"));
    if meta.exists() {
        fs::remove_file(&meta).context(meta.display())?;
    }
    fs::hard_link(&kept, &meta).context(meta.display())?;
    if let Some(before) = files.get(&meta) {
        // Something was flipped in it.
        fs::write(&meta, before).context(meta.display())?;
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
    fn a_committed_offset_is_the_one_or_told_to_be_gone() {
        let at = |offset: i64| BTreeMap::from([(0, 3), (1, offset)]);
        for (found, is_told, expected) in [
            (at(7), false, true),
            (at(6), false, false),
            (at(0), false, false),
            (at(0), true, true),
            (at(6), true, false),
            (at(8), true, false),
        ] {
            assert_eq!(is_unharmed(&at(7), &found, is_told), expected, "{found:?}");
        }
    }

    #[test]
    fn of_what_is_damaged_only_an_error_or_the_very_batch_is_right() {
        let batch = |first: i64, fill: u8| Batch { first, last: first + 1, bytes: vec![fill; 9] };
        let before = [batch(0, 1), batch(2, 2), batch(4, 3)];
        let is_right = |error: i16, batches: &[Batch], is_lost: bool| {
            let answer = Answer { error, end: 6, batches: batches.to_vec() };
            wrong_with(&answer, &before, 3, is_lost).is_none()
        };
        assert!(is_right(56, &[], true) && is_right(56, &[], false));
        assert!(is_right(0, &before[1..], false), "another copy has it");
        assert!(!is_right(0, &before[1..], true), "who says that it is lost must not serve it");
        assert!(!is_right(0, &[batch(2, 7)], false), "altered");
        assert!(!is_right(56, &[batch(2, 7)], true), "altered, and an error beside it");
        assert!(!is_right(0, &before[2..], false), "stepped over");
        assert!(!is_right(0, &[], false), "silence");
    }

    #[test]
    fn the_words_of_the_broker_are_understood() {
        let said = "warning[LP1012]: journal\n  damaged: frame-damaged partition=7:4-6\n    \
                    torture-1: offsets 4 to 6\n    torture-2: offsets from 9 on\n";
        assert_eq!(reported(said, TOPIC), [(1, 4, 6), (2, 9, i64::MAX)]);
        assert!(reported(said, transacting::TOPIC).is_empty());
        assert!(reported("ready bootstrap.servers=127.0.0.1:9", TOPIC).is_empty());
    }
}
