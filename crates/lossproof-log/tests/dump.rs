//! A dump shows what stands in the files of a log, goes on behind what is damaged, and writes
//! nothing.

use crate::support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Disk as _, Environment, ManualClock, SimDisk};
use lossproof_log::{
    Commit, DumpOptions, Field, FlushPolicy, Line, Log, LogConfig, OpenError, StateKind, dump,
};
use lossproof_wire::batch::{BatchBuilder, RecordHeader};
use support::{P1, P2, append, create, identified, produced, simulated};

const DATA: &str = "/data";

/// Each kind of file and of entry, most of it moved to a cold file.
fn sample() -> SimDisk {
    let disk = SimDisk::new();
    let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
    let (_log, mut stepper, _) = opened.unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    stepper.submit(vec![Commit::append(P2, produced(77, 0, 0, &["one", "two"]))]);
    for index in 0..90 {
        let text = format!("{index} {}", "x".repeat(3_000));
        assert!(stepper.submit(vec![append(P1, &[&text])])[0].is_ok());
        stepper.zero();
    }
    stepper.submit(vec![Commit::state(StateKind::Offsets, "a group", Some("12".into()))]);
    stepper.checkpoint().unwrap();
    stepper.submit(vec![identified(P1, 9, &["last"])]);
    stepper.reserve_producer_ids(7).unwrap();
    stepper.close().unwrap();
    disk
}

fn lines_of(disk: &SimDisk, path: &Path, options: &DumpOptions) -> Vec<Line> {
    let steps = disk.position();
    let mut lines = Vec::new();
    let take = &mut |line: &Line| {
        lines.push(line.clone());
        ControlFlow::Continue(())
    };
    dump(&simulated(disk), path, options, take).unwrap();
    assert_eq!(disk.position(), steps, "something was written");
    lines
}

fn texts(lines: &[Line]) -> Vec<String> {
    lines.iter().map(ToString::to_string).collect()
}

fn field<'a>(line: &'a Line, name: &str) -> Option<&'a Field> {
    line.fields.iter().find(|(known, _)| *known == name).map(|(_, field)| field)
}

/// The values of all records in a file, as words show them.
fn values(disk: &SimDisk, path: &Path) -> Vec<String> {
    let options = DumpOptions { records: true, ..DumpOptions::default() };
    let lines = lines_of(disk, path, &options);
    lines.iter().filter_map(|line| field(line, "value")).map(ToString::to_string).collect()
}

/// Where `bytes` stand for the first time in a file with this extension.
fn place(disk: &SimDisk, extension: &str, bytes: &[u8]) -> (PathBuf, u64) {
    let found = |path: PathBuf| {
        let held =
            disk.bytes(&path).ok().filter(|_| path.extension().is_some_and(|it| it == extension));
        let at = held?.windows(bytes.len()).position(|window| window == bytes)?;
        Some((path, at as u64))
    };
    disk.paths().into_iter().find_map(found).unwrap()
}

fn file(disk: &SimDisk, extension: &str) -> PathBuf {
    let named = |path: &PathBuf| path.extension().is_some_and(|it| it == extension);
    disk.paths().into_iter().rfind(named).unwrap()
}

/// The last one that is in use.
fn segment(disk: &SimDisk) -> PathBuf {
    let is_used = |path: &PathBuf| {
        let lines = lines_of(disk, path, &DumpOptions::default());
        path.extension().is_some_and(|it| it == "wal") && lines.iter().any(|it| it.what == "frame")
    };
    disk.paths().into_iter().rfind(is_used).unwrap()
}

#[test]
fn every_file_and_entry_is_shown() {
    let disk = sample();
    let all = DumpOptions { records: true, ..DumpOptions::default() };
    let shown = texts(&lines_of(&disk, Path::new(DATA), &all));
    let expected = [
        "file path=/data/meta ",
        "meta copy=1 verifies=true directory_id=",
        "slot verifies=true turn=",
        " kind=mark ",
        " kind=checkpoint sequence=",
        " kind=segment sequence=",
        " kind=cold sequence=",
        "frame position=8192 number=1 ",
        " whole=true ",
        "entry kind=checkpoint ",
        " what=log running_ms=",
        " what=cold-file ",
        " what=partition partition=1 ",
        " what=index partition=1 entries=",
        " what=producers partition=2 producers=1",
        "batch bytes=",
        " partition=2 base_offset=0 last_offset=1 ",
        " producer_id=77 producer_epoch=0 base_sequence=0 records=2 compression=none ",
        " batch_crc=true",
        " session=0000000000000007 lane=1 first_seq=9 ",
        "record offset=0 timestamp=1000 value=one value_bytes=3 headers=0",
        " what=producer-ids first=",
        " what=set key=\"a group\" value=12",
    ];
    for expected in expected {
        assert!(shown.iter().any(|line| line.contains(expected)), "no '{expected}' in {shown:#?}");
    }
    assert!(!shown.iter().any(|line| line.contains("unreadable")));
    let broken = ["verifies=false", "whole=false", "batch_crc=false"];
    assert!(!shown.iter().any(|line| broken.iter().any(|it| line.contains(it))), "{shown:#?}");
}

#[test]
fn what_is_damaged_is_shown_as_such_and_the_walk_goes_on() {
    let disk = sample();
    let cold = file(&disk, "cold");
    let whole = lines_of(&disk, &cold, &DumpOptions::default());
    let frames: Vec<&Line> = whole.iter().filter(|line| line.what == "frame").collect();
    assert!(frames.len() > 1, "{:?}", texts(&whole));
    let bytes = disk.bytes(&cold).unwrap();
    let at = bytes.windows(4).position(|it| it == b"two\x00").unwrap_or(12_000);
    disk.damage(&cold, at as u64, b"T").unwrap();
    let shown = lines_of(&disk, &cold, &DumpOptions::default());
    let broken = shown.iter().filter(|line| field(line, "verifies") == Some(&Field::Flag(false)));
    assert_eq!(broken.count(), 1, "{:?}", texts(&shown));
    assert_eq!(shown.len(), whole.len());
    // Neither header nor directory: both ends of the first frame.
    let Some(Field::Count(length)) = field(frames[0], "bytes") else { panic!("no length") };
    disk.damage(&cold, 8_192, &[0; 200]).unwrap();
    disk.damage(&cold, 8_192 + length - 200, &[0; 200]).unwrap();
    // And both headers of the file: the rest is known by the file's name and what is left of it.
    let shown = lines_of(&disk, &cold, &DumpOptions::default());
    let unreadable: Vec<&Line> = shown.iter().filter(|it| it.what == "unreadable").collect();
    assert_eq!(unreadable.len(), 1, "{:?}", texts(&shown));
    assert_eq!(field(unreadable[0], "bytes"), Some(&Field::Count(*length)));
    let left = shown.iter().filter(|line| line.what == "frame").count();
    assert_eq!(left, frames.len() - 1);
}

#[test]
fn a_file_without_headers_is_known_by_its_name() {
    let disk = sample();
    let segment = segment(&disk);
    let whole = lines_of(&disk, &segment, &DumpOptions::default());
    disk.damage(&segment, 0, &[1; 64]).unwrap();
    disk.damage(&segment, 4_096, &[1; 64]).unwrap();
    let shown = lines_of(&disk, &segment, &DumpOptions::default());
    assert_eq!(shown.len(), whole.len());
    assert_eq!(shown[3..], whole[3..], "all but the lines of file and headers");
}

#[test]
fn a_file_without_headers_and_without_its_first_frame_is_known_as_well() {
    let disk = sample();
    let cold = file(&disk, "cold");
    let whole = values(&disk, &cold);
    for at in [0, 4_096] {
        disk.damage(&cold, at, &[1; 64]).unwrap();
    }
    let first = lines_of(&disk, &cold, &DumpOptions::default());
    let first = first.iter().find(|line| line.what == "frame").unwrap();
    let Some(Field::Count(length)) = field(first, "bytes") else { panic!("no length") };
    disk.damage(&cold, 8_192, &vec![1; *length as usize]).unwrap();
    let left = values(&disk, &cold);
    assert!(!left.is_empty() && left.len() < whole.len(), "{} of {}", left.len(), whole.len());
    assert!(whole.ends_with(&left));
    let kept = cold.with_extension("cold.kept-3");
    disk.rename(&cold, &kept).unwrap();
    assert_eq!(values(&disk, &kept), left);
}

#[test]
fn records_are_given_whole() {
    let disk = SimDisk::new();
    let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
    let (_log, mut stepper, _) = opened.unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
    let headers = [
        RecordHeader { key: "trace".into(), value: Some(vec![0xff].into()) },
        RecordHeader { key: "none".into(), value: None },
    ];
    let value = [0xfe; 2_000];
    let mut batch = BatchBuilder::new();
    batch.push(1_000, Some(b"a \"key\""), Some(&value), &headers);
    stepper.submit(vec![Commit::append(P1, batch.build().unwrap())]).remove(0).unwrap();
    let options = DumpOptions { records: true, ..DumpOptions::default() };
    let lines = lines_of(&disk, &segment(&disk), &options);
    let record = lines.iter().find(|line| line.what == "record").unwrap();
    assert_eq!(field(record, "key"), Some(&Field::Bytes("a \"key\"".into())));
    assert_eq!(field(record, "value"), Some(&Field::Bytes(value.to_vec().into())));
    assert_eq!(field(record, "headers"), Some(&Field::Headers(headers.to_vec())));
    let text = record.to_string();
    assert!(text.contains(r#" key="a \"key\"" value=\xfe\xfe"#), "{text}");
    assert!(text.ends_with("\\xfe... value_bytes=2000 headers=2"), "{text}");
}

/// A segment's pieces: a frame without its first header, one with an entry that does not verify,
/// and whole ones of a partition that is not known for that.
#[test]
fn pieces_of_segments_in_quarantine_are_shown() {
    let disk = SimDisk::new();
    let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
    let (_log, mut stepper, _) = opened.unwrap();
    let commits = [
        create(P1, FlushPolicy::Commit),
        create(P2, FlushPolicy::Commit),
        append(P1, &["headless"]),
        append(P2, &["unplaced"]),
        append(P1, &["whole"]),
    ];
    for commit in commits {
        stepper.submit(vec![commit]).remove(0).unwrap();
    }
    stepper.close().unwrap();
    let (path, at) = place(&disk, "wal", b"headless");
    disk.damage(&path, at / 4_096 * 4_096, &[0; 64]).unwrap();
    let (path, at) = place(&disk, "wal", &[2; 16]);
    disk.damage(&path, at, b"T").unwrap();
    let opened = Log::open_stepped(&simulated(&disk), Path::new(DATA), LogConfig::small());
    let (_, _stepper, report) = opened.unwrap();
    let mut shown = Vec::new();
    for finding in &report.damage {
        let piece = finding.quarantined.as_ref().expect("it is kept");
        let lines = lines_of(&disk, piece, &DumpOptions::default());
        let frames = lines.iter().filter(|line| line.what == "frame");
        let places = frames.map(|line| field(line, "position").cloned().unwrap());
        assert_eq!(places.collect::<Vec<_>>(), [Field::Count(0)], "{:?}", texts(&lines));
        shown.push((finding.kind.to_string(), values(&disk, piece).join(" ")));
    }
    shown.sort();
    let expected =
        [("frame-damaged", ""), ("frame-damaged", "headless"), ("unknown-partition", "unplaced")];
    assert_eq!(shown, expected.map(|(kind, values)| (kind.to_owned(), values.to_owned())));
    let all = texts(&lines_of(&disk, Path::new(DATA), &DumpOptions::default()));
    assert!(!all.iter().any(|line| line.contains("quarantine")), "it would be shown twice");
    // The last one of them, when nothing is left that says whose it is.
    let piece = file(&disk, "piece");
    let length = disk.bytes(&piece).unwrap().len();
    disk.damage(&piece, 0, &vec![1; length]).unwrap();
    let lines = texts(&lines_of(&disk, &piece, &DumpOptions::default()));
    assert_eq!(lines.len(), 2);
    let start = format!("unreadable position=0 bytes={length} reason=\"no frame verifies ");
    assert!(lines[1].starts_with(&start), "{lines:?}");
}

#[test]
fn a_piece_of_a_cold_file_is_shown() {
    let (disk, clock) = (sample(), ManualClock::new(1_000_000));
    let cold = file(&disk, "cold");
    let env = Environment { clock: Arc::new(clock.clone()), ..simulated(&disk) };
    let opened = Log::open_stepped(&env, Path::new(DATA), LogConfig::small());
    let (_log, mut stepper, _) = opened.unwrap();
    let (path, at) = place(&disk, "cold", b"3 xxx");
    assert_eq!(path, cold);
    disk.damage(&cold, at, b"T").unwrap();
    let before = values(&disk, &cold);
    for _ in 0..20 {
        clock.advance(Duration::from_mins(1));
        stepper.scrub();
    }
    let piece = file(&disk, "piece");
    let lines = lines_of(&disk, &piece, &DumpOptions::default());
    let broken = lines.iter().filter(|line| field(line, "verifies") == Some(&Field::Flag(false)));
    assert_eq!(broken.count(), 1, "{:?}", texts(&lines));
    let shown = values(&disk, &piece);
    assert!(shown.len() > 1 && shown.iter().all(|value| before.contains(value)), "{shown:?}");
}

#[test]
fn a_dump_can_be_narrowed() {
    let disk = sample();
    let options = DumpOptions { partition: Some(P2), ..DumpOptions::default() };
    let lines = lines_of(&disk, &file(&disk, "cold"), &options);
    let batches: Vec<&Line> = lines.iter().filter(|line| line.what == "batch").collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(field(batches[0], "partition"), Some(&Field::Count(2)));
    let segment = segment(&disk);
    let numbers = |from_frame| -> Vec<Field> {
        let options = DumpOptions { from_frame, ..DumpOptions::default() };
        let lines = lines_of(&disk, &segment, &options);
        lines.iter().filter_map(|line| field(line, "number").cloned()).collect()
    };
    let all = numbers(0);
    let Some(Field::Count(last)) = all.last() else { panic!("no frames") };
    assert_eq!(numbers(*last), all[all.len() - 1..]);
    let mut seen = 0;
    let stop = &mut |_: &Line| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    dump(&simulated(&disk), Path::new(DATA), &DumpOptions::default(), stop).unwrap();
    assert_eq!(seen, 3);
}

#[test]
fn what_is_no_file_of_a_log_is_no_reason_to_fail() {
    let disk = sample();
    for name in ["lock", "journal/mark.0"] {
        let path = Path::new(DATA).join(name);
        let length = disk.bytes(&path).unwrap().len().min(64);
        disk.damage(&path, 0, &vec![9; length]).unwrap();
        assert!(lines_of(&disk, &path, &DumpOptions::default()).len() > 1, "{name}");
    }
    let nowhere = &mut |_: &Line| ControlFlow::Continue(());
    let missing = dump(&simulated(&disk), Path::new("/no"), &DumpOptions::default(), nowhere);
    assert!(matches!(missing, Err(OpenError::NoLog { .. })));
}
