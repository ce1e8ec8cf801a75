//! A dump shows what stands in the files of a log, goes on behind what is damaged, and writes
//! nothing.

use crate::support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lossproof_env::SimDisk;
use lossproof_log::{
    Commit, DumpOptions, Field, FlushPolicy, Line, Log, LogConfig, OpenError, StateKind, dump,
};
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
