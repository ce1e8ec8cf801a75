//! A record may hold any bytes, those of the log's own files too: whole frames as they stand in the
//! segment that the record goes to, each at a place where a frame could begin. They verify, since
//! their life is the same; what tells them from frames is their number, which is lower than that
//! of the frame they stand in (nobody can copy what is not written yet), and that they begin
//! behind it. Whatever is damaged round them, nothing of them is taken for a frame, and the frame
//! that holds them is found by either of its ends.
//! (LAYOUT-2, LAYOUT-3, RECOVERY-1, RECOVERY-2, storage rule 4)

use crate::support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use lossproof_env::{Fault, SimDisk};
use lossproof_log::{
    Commit, DumpOptions, Field, FindingKind, FlushPolicy, Line, Log, LogConfig, OffsetRange,
    PartitionRange, ReadError, RecoveryReport, Stepper, dump,
};
use lossproof_wire::batch::BatchBuilder;
use support::{P1, P2, append, create, look, only, place_of, simulated};

const BLOCK: usize = 4096;
/// Offset of the record that holds the copies.
const HOLDER: i64 = 3;
const LAST: i64 = 5;

/// All of it stands in one segment: another one has another life.
fn open(disk: &SimDisk) -> (Log, Stepper, RecoveryReport) {
    let (segment_bytes, zero_ahead_bytes) = (256 << 10, 128 << 10);
    let config = LogConfig { segment_bytes, zero_ahead_bytes, ..LogConfig::small() };
    Log::open_stepped(&simulated(disk), Path::new("/data"), config).unwrap()
}

/// What is copied, and a record behind it.
fn started() -> (SimDisk, Log, Stepper) {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk);
    for commit in [create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)] {
        stepper.submit(vec![commit]).remove(0).unwrap();
    }
    let long = "long ".repeat(2_000);
    for (id, text) in [(P1, "first."), (P2, "other."), (P1, &*long), (P1, "before.")] {
        stepper.submit(vec![append(id, &[text])]).remove(0).unwrap();
    }
    // There is room for what comes: it is only written.
    (0..20).for_each(|_| stepper.zero());
    (disk, log, stepper)
}

fn segment() -> PathBuf {
    PathBuf::from("/data/journal/0000000000000001.wal")
}

/// A commit of one record that holds the frames with `first.`, `other.` and the long one, each at
/// the beginning of a block once it is written; all bytes of these frames.
fn imitation(disk: &SimDisk) -> (Commit, Vec<u8>) {
    let bytes = disk.bytes(&segment()).unwrap();
    let begin = |text: &[u8]| place_of(disk, text).1 / BLOCK * BLOCK;
    let (first, end) = (begin(b"first."), begin(b"before."));
    let copies = bytes[first..end].to_vec();
    assert_eq!(copies.len(), 5 * BLOCK, "one block, one block, three blocks");
    let at = |pad: &usize| place_in(&holding(*pad, &copies, 30_000), &copies);
    let pad = (0..2 * BLOCK).find(|pad| at(pad).is_multiple_of(BLOCK)).unwrap();
    (holding(pad, &copies, 30_000), copies)
}

/// A commit of one record that holds `copies` between other bytes.
fn holding(before: usize, copies: &[u8], behind: usize) -> Commit {
    let value = [&vec![b'p'; before][..], copies, &vec![b'q'; behind]].concat();
    let mut builder = BatchBuilder::new();
    builder.push(1000, None, Some(&value), &[]);
    Commit::append(P1, builder.build().unwrap())
}

/// Where in its frame the copies stand: in front of a frame's only batch are its header and one
/// entry.
fn place_in(commit: &Commit, copies: &[u8]) -> usize {
    let batch = &commit.appends[0].batch;
    128 + batch.windows(BLOCK).position(|it| it == &copies[..BLOCK]).unwrap()
}

/// Block of the frame that holds the copies, and how many it has.
fn holder(disk: &SimDisk, copies: &[u8]) -> (usize, usize) {
    let bytes = disk.bytes(&segment()).unwrap();
    let before = place_of(disk, b"before.").1 / BLOCK;
    let mut blocks = bytes[(before + 1) * BLOCK..].chunks(BLOCK);
    let at = before + 1 + blocks.position(|it| it == &copies[..BLOCK]).unwrap();
    assert!(bytes[at * BLOCK..].starts_with(copies), "they stand where frames could");
    let length = &bytes[(before + 1) * BLOCK + 24..][..4];
    (before + 1, u32::from_be_bytes(length.try_into().unwrap()) as usize / BLOCK)
}

/// What of the frame that holds the copies is damaged, beside the frame before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Struck {
    Nothing,
    /// One byte of the first header: the record is whole.
    Header,
    FirstBlock,
    BothEnds,
}

fn strike(disk: &SimDisk, (begin, count): (usize, usize), struck: Struck, before: bool) {
    let zero = |block: usize| {
        disk.damage(&segment(), (block * BLOCK) as u64, &[0; BLOCK]).unwrap();
    };
    match struck {
        Struck::Nothing => {}
        Struck::Header => disk.damage(&segment(), (begin * BLOCK) as u64, b"l").unwrap(),
        Struck::FirstBlock => zero(begin),
        Struck::BothEnds => [begin, begin + count - 1].into_iter().for_each(zero),
    }
    if before {
        zero(begin - 1);
    }
}

/// Each record of P1 is as it was written, or its very offset is answered as damaged.
fn judge(log: &Log, written: &[Vec<u8>], lost: &[i64], hint: &str) {
    for (offset, bytes) in (0..).zip(written) {
        match log.read(P1, offset, 1) {
            Ok(slice) if !lost.contains(&offset) => {
                let batch = &slice.batches[0];
                assert_eq!((batch.base_offset, batch.last_offset), (offset, offset), "{hint}");
                assert_eq!(batch.bytes, bytes, "{hint}");
            }
            Err(ReadError::Damaged { range, .. }) if lost.contains(&offset) => {
                let is_exact = lost.contains(&range.first) && lost.contains(&range.last);
                assert!(range.contains(offset) && is_exact, "{hint}: {range:?}");
            }
            other => panic!("{hint}: offset {offset}: {other:?}"),
        }
    }
    assert_eq!(log.partition(P1).unwrap().high_watermark, written.len() as i64, "{hint}");
    assert_eq!(log.partition(P2).unwrap().high_watermark, 2, "{hint}");
    assert_eq!(log.read(P2, 0, 1 << 20).unwrap().batches.len(), 2, "{hint}");
}

fn offsets(first: i64, last: i64) -> PartitionRange {
    PartitionRange { partition: P1, range: OffsetRange { first, last } }
}

/// Numbers of the frames that a dump of the segment shows.
fn dumped(disk: &SimDisk) -> Vec<u64> {
    let mut numbers = Vec::new();
    let take = &mut |line: &Line| {
        let is_number = |(name, _): &&(&str, Field)| line.what == "frame" && *name == "number";
        if let Some((_, Field::Count(number))) = line.fields.iter().find(is_number) {
            numbers.push(*number);
        }
        ControlFlow::Continue(())
    };
    dump(&simulated(disk), &segment(), &DumpOptions::default(), take).unwrap();
    numbers
}

#[test]
fn a_record_that_imitates_frames_is_never_taken_for_them() {
    for struck in [Struck::Nothing, Struck::Header, Struck::FirstBlock, Struck::BothEnds] {
        for before in [false, true] {
            judge_struck(struck, before, &format!("{struck:?}, the frame before: {before}"));
        }
    }
}

fn judge_struck(struck: Struck, before: bool, hint: &str) {
    let (disk, log, mut stepper) = started();
    let (commit, copies) = imitation(&disk);
    let done = stepper.submit(vec![commit]).remove(0).unwrap();
    assert_eq!(only(&done).base_offset, HOLDER);
    for (id, text) in [(P1, "behind."), (P1, "last."), (P2, "last of the other.")] {
        stepper.submit(vec![append(id, &[text])]).remove(0).unwrap();
    }
    let read = |offset| log.read(P1, offset, 1).unwrap().batches[0].bytes.to_vec();
    let written: Vec<Vec<u8>> = (0..=LAST).map(read).collect();
    stepper.mark();
    strike(&disk, holder(&disk, &copies), struck, before);
    let holder_is_lost = matches!(struck, Struck::FirstBlock | Struck::BothEnds);
    let is_lost = [before.then_some(HOLDER - 1), holder_is_lost.then_some(HOLDER)];
    let lost: Vec<i64> = is_lost.into_iter().flatten().collect();
    judge(&log, &written, &lost, &format!("{hint}, in use"));
    drop((log, stepper));
    let mut disk = disk.killed();
    let numbers = dumped(&disk);
    assert!(numbers.is_sorted_by(|one, next| one < next), "{hint}: {numbers:?}");
    for start in 0..3 {
        let hint = format!("{hint}, start {start}");
        let report = look(&disk);
        let is_known = |it: &PartitionRange| it.partition == P1 && it.range.last <= LAST;
        assert!(report.lost.iter().all(is_known), "{hint}: {report:?}");
        let told: Vec<i64> =
            report.lost.iter().flat_map(|it| it.range.first..=it.range.last).collect();
        assert_eq!(told, lost, "{hint}: {report:?}");
        // What kinds of entries were lost is unknown only of frames without a directory.
        let is_open = before || struck == Struck::BothEnds;
        assert_eq!(report.lost_states.is_empty(), !is_open, "{hint}: {report:?}");
        let (log, mut stepper, report) = open(&disk);
        let is_told = |kind| report.damage.iter().any(|it| it.kind == kind);
        if start == 0 {
            assert_eq!(is_told(FindingKind::FramesLost), is_open, "{hint}: {report:?}");
            let is_partly = matches!(struck, Struck::Header | Struck::FirstBlock);
            assert_eq!(is_told(FindingKind::FrameDamaged), is_partly, "{hint}: {report:?}");
        }
        assert!(!is_told(FindingKind::Misplaced), "{hint}: {report:?}");
        judge(&log, &written, &lost, &hint);
        if start == 1 {
            stepper.checkpoint().unwrap();
        }
        drop((log, stepper));
        disk = disk.killed();
    }
    let (log, mut stepper, _) = open(&disk);
    let done = stepper.submit(vec![append(P1, &["new"])]).remove(0).unwrap();
    assert_eq!(only(&done).base_offset, LAST + 1, "{hint}");
    assert_eq!(log.read(P1, LAST + 1, 1).unwrap().batches.len(), 1, "{hint}");
}

/// What was never acknowledged is cut with all that it holds, and told as what it is.
#[test]
fn an_end_that_imitates_frames_is_cut_as_one_piece() {
    for struck in [None, Some(Struck::Header), Some(Struck::FirstBlock), Some(Struck::BothEnds)] {
        let hint = format!("{struck:?}");
        let (disk, log, mut stepper) = started();
        let (commit, copies) = imitation(&disk);
        // Half of it is written, with the copies; or all, without the sync.
        let fault = if struck.is_none() { Fault::change(0).torn() } else { Fault::sync(0) };
        disk.inject(fault);
        stepper.submit(vec![commit]).remove(0).unwrap_err();
        drop((log, stepper));
        let disk = disk.killed();
        disk.heal();
        let place = holder(&disk, &copies);
        if let Some(struck) = struck {
            strike(&disk, place, struck, false);
        }
        let (log, mut stepper, report) = open(&disk);
        assert!(report.damage.is_empty(), "{hint}: {report:?}");
        let [told] = &report.in_doubt[..] else { panic!("{hint}: {report:?}") };
        assert_eq!(told.kind, FindingKind::TailCut, "{hint}");
        assert_eq!(told.position, (place.0 * BLOCK) as u64, "{hint}");
        assert_eq!(told.first_frame, told.last_frame, "{hint}");
        let has_directory = struck != Some(Struck::BothEnds);
        let held = [offsets(HOLDER, HOLDER)];
        assert_eq!(told.partitions, held[..usize::from(has_directory)], "{hint}: {report:?}");
        let kept = disk.bytes(told.quarantined.as_ref().unwrap()).unwrap();
        assert!(kept.windows(BLOCK).any(|it| it == &copies[..BLOCK]), "{hint}");
        assert_eq!(log.partition(P1).unwrap().high_watermark, HOLDER, "{hint}");
        assert_eq!(log.partition(P2).unwrap().high_watermark, 1, "{hint}");
        let done = stepper.submit(vec![append(P1, &["new"])]).remove(0).unwrap();
        assert_eq!(only(&done).base_offset, HOLDER, "{hint}");
        drop((log, stepper));
        let report = look(&disk.power_cut());
        assert!(report.lost.is_empty() && !report.end_lost, "{hint}: {report:?}");
        assert!(report.recovery.damage.is_empty(), "{hint}: {report:?}");
    }
}

/// A record may hold the end of a frame alone: that frame would have begun before the record's own,
/// over frames that are there.
#[test]
fn a_copy_of_an_end_alone_hides_no_frame_before_it() {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    let long = "long ".repeat(4_000);
    for text in [&*long, "struck.", "kept."] {
        stepper.submit(vec![append(P1, &[text])]).remove(0).unwrap();
    }
    let bytes = disk.bytes(&segment()).unwrap();
    let block_of = |text: &[u8]| place_of(&disk, text).1 / BLOCK;
    let (long, struck) = (block_of(b"long "), block_of(b"struck."));
    assert_eq!((struck - long, block_of(b"kept.")), (5, struck + 1));
    let end = &bytes[(struck - 1) * BLOCK..struck * BLOCK];
    // In the third block of its frame, as if it were of one that began where `struck.` does.
    let at = |pad: &usize| place_in(&holding(*pad, end, 9_000), end);
    let pad = (BLOCK..3 * BLOCK).find(|pad| at(pad) == 2 * BLOCK).unwrap();
    stepper.submit(vec![holding(pad, end, 9_000)]).remove(0).unwrap();
    stepper.submit(vec![append(P1, &["last."])]).remove(0).unwrap();
    let read = |offset| log.read(P1, offset, 1).unwrap().batches[0].bytes.to_vec();
    let written: Vec<Vec<u8>> = (0..5).map(read).collect();
    disk.damage(&segment(), (struck * BLOCK) as u64, &[0; BLOCK]).unwrap();
    for (offset, bytes) in (0..).zip(&written) {
        match log.read(P1, offset, 1) {
            Ok(slice) if offset != 1 => assert_eq!(slice.batches[0].bytes, bytes),
            Err(ReadError::Damaged { range, .. }) if offset == 1 => {
                assert_eq!(range, OffsetRange { first: 1, last: 1 });
            }
            other => panic!("offset {offset}: {other:?}"),
        }
    }
}

/// A record may hold the front of a long frame alone, which would end behind the frames that
/// follow: these still tell that the record was durable, where the mark is of before it.
#[test]
fn a_copy_of_a_front_alone_hides_no_evidence_behind_it() {
    let (disk, log, mut stepper, bytes) = written(&[&*"long ".repeat(8_000), "before."]);
    stepper.mark();
    let (long, before) =
        (place_of(&disk, b"long ").1 / BLOCK, place_of(&disk, b"before.").1 / BLOCK);
    let front = &bytes[long * BLOCK..(long + 1) * BLOCK];
    stepper.submit(vec![holding_block(front)]).remove(0).unwrap();
    for text in ["behind.", "last."] {
        stepper.submit(vec![append(P1, &[text])]).remove(0).unwrap();
    }
    let (holder, blocks) = holder(&disk, front);
    assert!(holder == before + 1 && blocks + 2 < before - long, "it would end behind the last one");
    let read = |offset| log.read(P1, offset, 1).unwrap().batches[0].bytes.to_vec();
    let written: Vec<Vec<u8>> = (0..5).map(read).collect();
    // One byte of its first header: the record is whole.
    disk.damage(&segment(), (holder * BLOCK) as u64, b"l").unwrap();
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.killed());
    assert!(report.in_doubt.is_empty(), "{report:?}");
    let told: Vec<FindingKind> = report.damage.iter().map(|it| it.kind).collect();
    assert_eq!(told, [FindingKind::FrameDamaged], "{report:?}");
    assert_eq!(log.partition(P1).unwrap().high_watermark, 5);
    for (offset, bytes) in (0..).zip(&written) {
        assert_eq!(log.read(P1, offset, 1).unwrap().batches[0].bytes, bytes, "offset {offset}");
    }
}

/// A segment in which P1 is made, and `texts` are records of it; its blocks.
fn written(texts: &[&str]) -> (SimDisk, Log, Stepper, Vec<u8>) {
    let disk = SimDisk::new();
    let (log, mut stepper, _) = open(&disk);
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
    for text in texts {
        stepper.submit(vec![append(P1, &[text])]).remove(0).unwrap();
    }
    // A frame counts only where the file is long enough for it.
    (0..20).for_each(|_| stepper.zero());
    let bytes = disk.bytes(&segment()).unwrap();
    (disk, log, stepper, bytes)
}

/// A commit of one record that holds a block of the segment where a frame could begin.
fn holding_block(block: &[u8]) -> Commit {
    let at = |pad: &usize| place_in(&holding(*pad, block, 2_000), block);
    let pad = (0..2 * BLOCK).find(|pad| at(pad).is_multiple_of(BLOCK)).unwrap();
    holding(pad, block, 2_000)
}

/// The end of the frame that holds the copy is all that tells that the one before it was durable,
/// where both are damaged at the place where they meet.
#[test]
fn a_copy_of_a_front_alone_hides_not_what_the_end_of_its_frame_tells() {
    let (disk, log, mut stepper, bytes) = written(&["long ".repeat(8_000).as_str()]);
    stepper.mark();
    let long = place_of(&disk, b"long ").1 / BLOCK;
    stepper.submit(vec![append(P1, &["before."])]).remove(0).unwrap();
    let front = &bytes[long * BLOCK..(long + 1) * BLOCK];
    stepper.submit(vec![holding_block(front)]).remove(0).unwrap();
    let (holder, _) = holder(&disk, front);
    disk.damage(&segment(), (holder * BLOCK - 1) as u64, b"ll").unwrap();
    drop((log, stepper));
    let (log, _stepper, report) = open(&disk.killed());
    let told: Vec<FindingKind> = report.damage.iter().map(|it| it.kind).collect();
    assert_eq!(told, [FindingKind::FrameDamaged], "{report:?}");
    assert_eq!(log.partition(P1).unwrap().high_watermark, 2, "{report:?}");
    assert_eq!(log.read(P1, 1, 1).unwrap().batches.len(), 1);
    let [cut] = &report.in_doubt[..] else { panic!("{report:?}") };
    assert_eq!(cut.position, (holder * BLOCK) as u64, "the last one was not known to be durable");
}

/// The trap: what was copied is among what is lost before the frame that holds it.
#[test]
fn a_copy_of_what_is_lost_hides_no_frame() {
    let long = "long ".repeat(8_000);
    let (disk, log, mut stepper, bytes) = written(&["first.", &long, "before."]);
    let block_of = |text: &[u8]| place_of(&disk, text).1 / BLOCK;
    let (first, long) = (block_of(b"first."), block_of(b"long "));
    stepper.submit(vec![holding_block(&bytes[long * BLOCK..][..BLOCK])]).remove(0).unwrap();
    for text in ["behind.", "last."] {
        stepper.submit(vec![append(P1, &[text])]).remove(0).unwrap();
    }
    stepper.mark();
    let read = |offset| log.read(P1, offset, 1).unwrap().batches[0].bytes.to_vec();
    let written: Vec<Vec<u8>> = (0..6).map(read).collect();
    let (holder, blocks) = holder(&disk, &bytes[long * BLOCK..][..BLOCK]);
    assert!(blocks + 2 < block_of(b"before.") - long, "it would end behind the last one");
    // With one byte of its first header: the record is whole.
    let lost = vec![0; (holder - first) * BLOCK + 1];
    disk.damage(&segment(), (first * BLOCK) as u64, &lost).unwrap();
    drop((log, stepper));
    let disk = disk.killed();
    assert!(dumped(&disk).ends_with(&[5, 6, 7]), "{:?}", dumped(&disk));
    assert_eq!(look(&disk).lost, [offsets(0, 2)]);
    let (log, _stepper, report) = open(&disk);
    let told: Vec<FindingKind> = report.damage.iter().map(|it| it.kind).collect();
    assert_eq!(told, [FindingKind::FramesLost, FindingKind::FrameDamaged], "{report:?}");
    assert_eq!(log.partition(P1).unwrap().high_watermark, 6);
    for (offset, bytes) in (0..).zip(&written).skip(3) {
        assert_eq!(log.read(P1, offset, 1).unwrap().batches[0].bytes, bytes, "offset {offset}");
    }
}

/// The trap: what was copied is the first frame of the segment, where reading it begins.
#[test]
fn a_copy_of_a_lost_first_frame_is_no_begin() {
    let (disk, log, mut stepper, bytes) = written(&["first.", "before."]);
    let begin = place_of(&disk, b"first.").1 / BLOCK - 1;
    stepper.submit(vec![holding_block(&bytes[begin * BLOCK..][..BLOCK])]).remove(0).unwrap();
    stepper.submit(vec![append(P1, &["behind."])]).remove(0).unwrap();
    stepper.mark();
    let (holder, _) = holder(&disk, &bytes[begin * BLOCK..][..BLOCK]);
    let lost = vec![0; (holder - begin) * BLOCK + 1];
    disk.damage(&segment(), (begin * BLOCK) as u64, &lost).unwrap();
    drop((log, stepper));
    let (_log, _stepper, report) = open(&disk.killed());
    let mut lost = report.damage.iter().filter(|it| it.kind == FindingKind::FramesLost);
    let lost = (lost.next().map(|it| (it.first_frame, it.last_frame)), lost.next());
    assert_eq!(lost, (Some((1, 3)), None), "{report:?}");
}
