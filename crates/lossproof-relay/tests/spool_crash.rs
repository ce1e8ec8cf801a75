//! A power cut at any moment while lines are accepted: whoever starts again accepts each line
//! exactly once, with one identity, and what was acknowledged before the cut is still there
//! (SPOOL-1, SPOOL-2, SPOOL-3).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lossproof_audit::identity::RecordId;
use lossproof_env::{CrashPlan, Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{Log, LogConfig};
use lossproof_relay::{InputPosition, KnownInput, NewRecord, Spool};
use lossproof_wire::batch;

const LINES: u64 = 7;

fn environment(disk: &SimDisk, seed: u64) -> Environment {
    Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_000)),
        rng: Arc::new(SeededRng::new(seed)),
    }
}

fn input() -> KnownInput {
    KnownInput::new("news", "7-1")
}

fn open(disk: &SimDisk, seed: u64) -> Spool {
    let environment = environment(disk, seed);
    let (log, report) = Log::open(&environment, Path::new("/j"), LogConfig::small()).unwrap();
    Spool::open(&environment, log).unwrap_or_else(|error| panic!("{error}: {report:?}"))
}

/// Goes on where the input was left, two lines at a time; `accepted` hears of each commit.
fn produce(spool: &Spool, mut accepted: impl FnMut(u64, &[RecordId])) {
    spool.set_partition_count("news", 2).unwrap();
    let mut position = spool.position(&input()).unwrap();
    while position.lines < LINES {
        let lines = position.lines..LINES.min(position.lines + 2);
        let record = |line: u64| NewRecord {
            key: (line.is_multiple_of(3)).then(|| format!("key {line}").into()),
            ..NewRecord::value(format!("line {line}"))
        };
        let records: Vec<NewRecord> = lines.clone().map(record).collect();
        position = InputPosition { offset: lines.end * 10, lines: lines.end, ..position };
        let ids = spool.accept("news", &records, Some((&input(), &position))).unwrap();
        accepted(lines.start, &ids);
    }
}

/// Every line in the journal, with all identities that it has.
fn journaled(spool: &Spool) -> BTreeMap<String, Vec<RecordId>> {
    let mut lines: BTreeMap<String, Vec<RecordId>> = BTreeMap::new();
    for view in spool.lanes() {
        let mut next = 0;
        while next < view.end {
            let slice = spool.log().read(view.id, next as i64, 1 << 20).unwrap();
            for stored in slice.batches {
                let range = stored.identity.unwrap();
                assert_eq!(range.first_seq, stored.base_offset as u64);
                assert_eq!((range.session, range.lane), (view.lane.session, view.lane.lane));
                for record in batch::records(&stored.bytes).unwrap() {
                    let record = record.unwrap();
                    let line = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    let (session, lane) = (range.session, range.lane);
                    let id = RecordId { session, lane, seq: record.offset as u64 };
                    lines.entry(line).or_default().push(id);
                    next = record.offset as u64 + 1;
                }
            }
        }
    }
    lines
}

#[test]
fn after_a_power_cut_at_any_moment_every_line_is_accepted_exactly_once() {
    let disk = SimDisk::new();
    let spool = open(&disk, 1);
    // What had been acknowledged, by the position of the disk from which on it must survive.
    let mut promised: Vec<(usize, String, RecordId)> = Vec::new();
    produce(&spool, |first, ids| {
        let position = disk.position();
        for (line, id) in (first..).zip(ids) {
            promised.push((position, format!("line {line}"), *id));
        }
    });
    let marks: Vec<usize> = promised.iter().map(|(position, ..)| *position).collect();
    let recording = disk.recording();
    let mut images = 0;
    recording.visit(CrashPlan { seed: 1, subsets_max: 4 }, &marks, |image| {
        images += 1;
        let (rebooted, position) = (image.disk(), image.position);
        let again = open(&rebooted, 2);
        let survived = journaled(&again);
        for (_, line, id) in promised.iter().filter(|(from, ..)| *from <= position) {
            assert_eq!(survived.get(line), Some(&vec![*id]), "{line} at {image}");
        }
        produce(&again, |_, _| {});
        let lines = journaled(&again);
        assert_eq!(lines.len() as u64, LINES, "at {image}");
        assert!(lines.values().all(|ids| ids.len() == 1), "accepted twice at {image}: {lines:?}");
        again.log().close_blocking().unwrap();
    });
    assert!(images > 20, "only {images} images were looked at");
}
