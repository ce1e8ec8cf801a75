//! The file of JSON lines on a disk that loses power, fails and fills up.

use crate::common;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use common::{
    DEAD, GROUP, append, cluster, dead_letters, head, lines_sink, place, start, start_in,
};
use lossproof_audit::identity::{HEADER_NAME, Header, RecordId, binding, checksum};
use lossproof_client::Record;
use lossproof_client::memory::Cluster;
use lossproof_env::{Environment, Fault, SimDisk};
use lossproof_pipeline::receipts::Fact;
use lossproof_pipeline::sink::seen::SeenIds;
use lossproof_pipeline::{Config, OpenLinesError, Parts, StartError, Stop};
use proptest::prelude::*;
use tempfile::TempDir;

const PATH: &str = "/out/news.jsonl";
/// On a real disk.
const FILE: &str = "news.jsonl";

fn on(disk: &SimDisk) -> Environment {
    Environment { disk: Arc::new(disk.clone()), ..Environment::real() }
}

fn config() -> String {
    head("workers = 2") + &lines_sink(Path::new(PATH))
}

fn fill(cluster: &Cluster, count: usize) {
    for number in 0..count {
        append(cluster, 0, None, &format!(r#"{{"n":{number}}}"#));
    }
}

fn ids(disk: &SimDisk) -> Vec<String> {
    let bytes = disk.bytes(Path::new(PATH)).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let id = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a whole line");
        value["_id"].as_str().expect("an identity").to_owned()
    };
    whole.lines().map(id).collect()
}

fn expected(count: usize) -> HashSet<String> {
    (0..count).map(|number| format!("news-0-{number}")).collect()
}

/// All lines are there, and each once.
fn assert_whole(disk: &SimDisk, count: usize) {
    let ids = ids(disk);
    assert_eq!(ids.len(), count);
    assert_eq!(ids.into_iter().collect::<HashSet<_>>(), expected(count));
}

#[test]
fn what_is_confirmed_survives_a_power_cut_at_any_moment() {
    let (disk, cluster) = (SimDisk::new(), cluster(1));
    fill(&cluster, 100);
    let running = start_in(&cluster, &config(), on(&disk));
    let mut looks = 0;
    running.wait_until("all of it", || {
        let durable = running.ledger.durable();
        let image: HashSet<String> = ids(&disk.power_cut()).into_iter().collect();
        for note in durable.iter().filter(|note| note.fact == Fact::Confirmed) {
            assert!(image.contains(&note.identity.to_string()), "LINES-1: {}", note.identity);
        }
        looks += 1;
        cluster.committed(GROUP, &place(0)) == Some(100)
    });
    assert!(running.end().is_good() && looks > 1);
    assert_whole(&disk.power_cut(), 100);
}

#[test]
fn a_last_line_that_was_cut_short_is_removed_and_written_again() {
    let (disk, cluster) = (SimDisk::new(), cluster(1));
    fill(&cluster, 6);
    let first = start_in(&cluster, &config(), on(&disk));
    first.wait_committed(&cluster, 0, 6);
    assert!(first.end().is_good());
    let bytes = disk.bytes(Path::new(PATH)).unwrap();
    disk.damage(Path::new(PATH), bytes.len() as u64, br#"{"_id":"news-0-6","n"#).unwrap();
    append(&cluster, 0, None, r#"{"n":6}"#);
    let second = start_in(&cluster, &config(), on(&disk.killed()));
    second.wait_committed(&cluster, 0, 7);
    assert!(second.end().is_good());
    assert_whole(&disk, 7);
}

/// After a failed fsync the bytes can be read and are not on the disk, and the next fsync says
/// yes. What had not been confirmed by then must be written anew.
#[test]
fn after_a_failed_fsync_nothing_is_confirmed_that_is_not_on_the_disk() {
    for at in 0..3 {
        let (disk, cluster) = (SimDisk::new(), cluster(1));
        let first = start_in(&cluster, &config(), on(&disk));
        first.wait_until("the start", || first.ledger.flushes() > 0);
        disk.inject(Fault::sync(at));
        fill(&cluster, 30);
        let summary = first.join();
        assert!(summary.fatal.is_some_and(|reason| reason.contains("fsync")), "LINES-3");
        let committed = cluster.committed(GROUP, &place(0)).unwrap_or(0);
        let image = ids(&disk.power_cut());
        assert!(image.len() as i64 >= committed && committed < 30);
        disk.heal();
        let second = start_in(&cluster, &config(), on(&disk.killed()));
        second.wait_committed(&cluster, 0, 30);
        assert!(second.end().is_good());
        assert_whole(&disk.power_cut(), 30);
    }
}

#[test]
fn a_full_disk_holds_the_records_until_there_is_room() {
    let (disk, cluster) = (SimDisk::new(), cluster(1));
    fill(&cluster, 30);
    disk.set_capacity(400);
    let running = start_in(&cluster, &config(), on(&disk));
    running.wait_until("some lines", || !ids(&disk).is_empty());
    let flushes = running.ledger.flushes();
    running.wait_until("time goes by", || running.ledger.flushes() > flushes + 3);
    assert!(!running.is_over() && cluster.committed(GROUP, &place(0)) < Some(30));
    disk.heal();
    running.wait_committed(&cluster, 0, 30);
    assert!(running.end().is_good());
    assert_whole(&disk.power_cut(), 30);
}

#[test]
fn a_write_that_is_torn_leaves_no_half_line() {
    for at in 0..8 {
        let (disk, cluster) = (SimDisk::new(), cluster(1));
        let first = start_in(&cluster, &config(), on(&disk));
        first.wait_until("the start", || first.ledger.flushes() > 0);
        disk.inject(Fault::change(at).torn());
        let mut count = 0;
        // Each is a change of the file at least, so that the fault strikes one of them.
        while !disk.was_struck() {
            append(&cluster, 0, None, &format!(r#"{{"n":{count}}}"#));
            count += 1;
            first.wait_committed(&cluster, 0, count);
        }
        assert!(count <= at as i64 + 1, "{count} records for the change {at}");
        assert!(first.end().is_good());
        assert_whole(&disk.power_cut(), count as usize);
    }
}

/// LINES-2. A record that was sent twice has one identity at two offsets, which is legal; it is
/// one line.
#[test]
fn an_identity_that_comes_twice_is_one_line() {
    let (disk, cluster) = (SimDisk::new(), cluster(1));
    let value = r#"{"n":0}"#;
    for seq in [0, 1, 0, 2, 1, 0] {
        let header = Header {
            id: RecordId { session: 7, lane: 0, seq },
            moved: false,
            transformed: false,
            binding: binding("news", 0),
            checksum: checksum(None, Some(value.as_bytes())),
        };
        let stamp = (HEADER_NAME.to_owned(), Some(header.encode().to_vec().into()));
        cluster.append(Record {
            topic: "news".to_owned(),
            value: Some(value.into()),
            headers: vec![stamp],
            ..Record::default()
        });
    }
    let running = start_in(&cluster, &config(), on(&disk));
    running.wait_committed(&cluster, 0, 6);
    // Both are said: that it was there before, and that the sink has it.
    let duplicate = |offset: &i64| {
        let facts = running.ledger.facts_of(0, *offset);
        assert!(facts.contains(&Fact::Confirmed), "{offset}: {facts:?}");
        facts.contains(&Fact::Duplicate)
    };
    assert_eq!((0..6).filter(duplicate).count(), 3);
    assert_eq!(running.end().counts.confirmed, 6);
    let mut ids = ids(&disk);
    ids.sort();
    let id = |seq| format!("0000000000000007-0-{seq}");
    assert_eq!(ids, [id(0), id(1), id(2)]);
}

/// LINES-5. The identity was written over it, and the record counted as confirmed.
#[test]
fn a_field_of_the_record_that_is_named_as_the_identity_is_never_written_over() {
    let own = r#"{"_id":"mine-42","n":1}"#;
    for (field, confirmed) in [("_id", 1), ("lossproof", 2)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let cluster = cluster(1);
        append(&cluster, 0, None, own);
        append(&cluster, 0, None, r#"{"n":2}"#);
        let sink = format!("{}id_field = \"{field}\"\n", lines_sink(&path));
        let running = start(&cluster, &(head("") + &sink + &dead_letters()));
        running.wait_committed(&cluster, 0, 2);
        let counts = running.end().counts;
        assert_eq!((counts.confirmed, counts.dead_lettered), (confirmed, 2 - confirmed));
        let written = std::fs::read_to_string(&path).unwrap();
        let dead = cluster.records(DEAD);
        let values = dead.iter().map(|letter| letter.value.as_deref().unwrap());
        let kept = values.chain(written.lines().map(str::as_bytes));
        let whole = kept.filter(|kept| kept.ends_with(br#""_id":"mine-42","n":1}"#)).count();
        assert_eq!(whole, 1, "{written}");
    }
}

/// A pipeline that has written ten lines into a real file, which is then treated as `treat` does,
/// and one record more: it must stop, with these words, and commit nothing of it.
fn stops_at_a_file_that(treat: impl FnOnce(&Path), says: &str) -> (TempDir, Cluster, String) {
    let (scratch, cluster) = (tempfile::tempdir().unwrap(), cluster(1));
    let path = scratch.path().join(FILE);
    let config = head("workers = 2") + &lines_sink(&path);
    fill(&cluster, 10);
    let running = start(&cluster, &config);
    running.wait_committed(&cluster, 0, 10);
    treat(&path);
    append(&cluster, 0, None, r#"{"n":10}"#);
    let committed = || cluster.committed(GROUP, &place(0));
    running.wait_until("its end", || running.is_over() || committed() == Some(11));
    assert_eq!(committed(), Some(10), "LINES-6");
    assert!(running.join().fatal.is_some_and(|reason| reason.contains(says)));
    (scratch, cluster, config)
}

/// LINES-6: as a rotation or an editor does it.
#[test]
fn nothing_is_confirmed_in_a_file_that_was_replaced() {
    for by_another in [true, false] {
        let replace = |path: &Path| {
            let old = path.with_file_name("old");
            std::fs::rename(path, &old).unwrap();
            if by_another {
                std::fs::copy(old, path).unwrap();
            }
        };
        let (scratch, cluster, config) = stops_at_a_file_that(replace, "is not the file");
        let second = start(&cluster, &config);
        second.wait_committed(&cluster, 0, 11);
        assert!(second.end().is_good());
        let text = std::fs::read_to_string(scratch.path().join(FILE)).unwrap();
        assert_eq!(text.lines().count(), if by_another { 11 } else { 1 });
        assert!(text.ends_with("\"n\":10}\n"), "{text}");
    }
}

/// LINES-6: `> news.jsonl` leaves the file where it is.
#[test]
fn nothing_is_confirmed_behind_a_hole() {
    let cut = |path: &Path| drop(std::fs::File::create(path).unwrap());
    let (scratch, ..) = stops_at_a_file_that(cut, "was cut short");
    assert_eq!(std::fs::metadata(scratch.path().join(FILE)).unwrap().len(), 0);
}

fn start_error(cluster: &Cluster, path: &Path) -> StartError {
    let config = Config::parse(&(head("") + &lines_sink(path))).unwrap();
    let parts = Parts {
        environment: Environment::real(),
        consumer: cluster.consumer(GROUP, &[common::TOPIC]),
        producers: Box::new(|| Err("not needed".to_owned())),
        receipts: Box::new(common::receipts::Ledger::default().receipts()),
    };
    lossproof_pipeline::run(&config, parts, &Stop::default()).expect_err("it does not start")
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let cluster = cluster(1);
    for foreign in ["not json\n", "{\"a\":1}\n", "{\"_id\":\"a-1\"}\n{\"_id\":\"a-1\"}\n"] {
        std::fs::write(&path, foreign).unwrap();
        let error = start_error(&cluster, &path);
        let StartError::Lines(OpenLinesError::Foreign { .. }) = &error else { panic!("{error}") };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), foreign);
    }
    std::fs::remove_file(&path).unwrap();
    let running = start(&cluster, &(head("") + &lines_sink(&path)));
    running.wait_until("the start", || path.exists());
    let error = start_error(&cluster, &path);
    let StartError::Lines(OpenLinesError::InUse { .. }) = &error else { panic!("{error}") };
    running.end();
}

proptest! {
    #[test]
    fn seen_ids_are_a_set(numbers in prop::collection::vec((0..3_u8, 0..40_u64), 0..200)) {
        let (mut seen, mut model) = (SeenIds::default(), HashSet::new());
        for (lane, number) in numbers {
            let odd = lane == 2;
            let id = if odd { format!("odd-0{number}") } else { format!("s-{lane}-{number}") };
            prop_assert_eq!(seen.contains(&id), model.contains(&id));
            prop_assert_eq!(seen.insert(&id), model.insert(id.clone()));
            prop_assert!(seen.contains(&id));
        }
        let last = [format!("s-0-{}", u64::MAX), format!("s-0-{}", u64::MAX - 1)];
        for id in last {
            prop_assert!(seen.insert(&id) && !seen.insert(&id));
        }
    }
}

#[test]
fn a_lane_without_gaps_takes_no_room() {
    let mut seen = SeenIds::default();
    for number in (0..1000).step_by(2).chain((1..1000).step_by(2)) {
        assert!(seen.insert(&format!("lane-{number}")));
    }
    assert_eq!(seen.size(), 1);
}
