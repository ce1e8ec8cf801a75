//! A directory is who it was only where it was made. A copy is refused with what differs, and taken
//! over on request as another one: META-4, storage rule 16. The directory of another cluster is not
//! opened at all.

use crate::support;

use std::path::Path;
use std::process::Command;

use lossproof_env::{Environment, SimDisk};
use lossproof_log::{ClusterId, FlushPolicy, Log, LogConfig, OpenError, Stepper};
use support::{P1, append, create, simulated, values};

const DATA: &str = "/data";

fn adopting() -> LogConfig {
    LogConfig { adopt: true, ..LogConfig::small() }
}

fn open(disk: &SimDisk, config: LogConfig) -> Result<(Log, Stepper), String> {
    match Log::open_stepped(&simulated(disk), Path::new(DATA), config) {
        Ok((log, stepper, report)) => {
            assert!(report.is_sound(), "{report:?}");
            Ok((log, stepper))
        }
        Err(OpenError::Moved { what, .. }) => Err(what),
        Err(error) => panic!("{error}"),
    }
}

/// A log that has given some producer ids; the last of them.
fn original(disk: &SimDisk) -> (Log, Stepper, i64) {
    let (log, mut stepper) = open(disk, LogConfig::small()).unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)]);
    stepper.submit(vec![append(P1, &["a"])]);
    let ids = stepper.reserve_producer_ids(10).unwrap();
    (log, stepper, ids.first + 9)
}

#[test]
fn a_copy_becomes_a_log_of_its_own() {
    let disk = SimDisk::new();
    let (log, mut stepper, last) = original(&disk);
    let (id, epoch) = (log.directory_id(), log.partition(P1).unwrap().leader_epoch);
    let copy = disk.copied();
    assert!(open(&copy, LogConfig::small()).unwrap_err().contains("inode"));
    let (adopted, mut adopted_stepper) = open(&copy, adopting()).unwrap();
    assert_eq!(values(&adopted, P1, 0), values(&log, P1, 0), "what was there is read as before");
    assert_ne!(adopted.directory_id(), id);
    assert_eq!(adopted.cluster_id(), log.cluster_id());
    assert!(adopted.partition(P1).unwrap().leader_epoch > epoch);
    let ids = adopted_stepper.reserve_producer_ids(1).unwrap();
    assert!(ids.first >> 32 > last >> 32, "another range of producer ids");
    stepper.submit(vec![append(P1, &["of the original"])]);
    adopted_stepper.submit(vec![append(P1, &["of the copy"])]);
    let identity = adopted.directory_id();
    drop((adopted, adopted_stepper));
    // From now on it is at home, whether it is told to adopt or not; a copy of it is one again.
    for config in [LogConfig::small(), adopting()] {
        let (adopted, mut stepper) = open(&copy.killed(), config).unwrap();
        assert_eq!(adopted.directory_id(), identity);
        assert_eq!(values(&adopted, P1, 1), [(1, "of the copy".to_owned())]);
        assert_eq!(stepper.reserve_producer_ids(1).unwrap().first >> 32, ids.first >> 32);
    }
    open(&copy.copied(), LogConfig::small()).unwrap_err();
    drop((log, stepper));
    let (log, _stepper) = open(&disk.killed(), LogConfig::small()).unwrap();
    assert_eq!(log.directory_id(), id);
    assert_eq!(values(&log, P1, 1), [(1, "of the original".to_owned())]);
}

#[test]
fn an_adoption_that_was_cut_off_goes_on_where_it_was() {
    let disk = SimDisk::new();
    let (log, stepper, last) = original(&disk);
    let id = log.directory_id();
    drop((log, stepper));
    let copy = disk.copied();
    let begin = copy.position();
    drop(open(&copy, adopting()).unwrap());
    let recording = copy.recording();
    let mut untouched = 0;
    for position in begin..=copy.position() {
        let cut = recording.synced(position);
        // Refused until it is told again, or as good as adopted.
        let opened = open(&cut, LogConfig::small());
        untouched += usize::from(opened.is_err());
        let (log, mut stepper) = opened.or_else(|_| open(&cut, adopting())).unwrap();
        assert_ne!(log.directory_id(), id, "{position}");
        let ids = stepper.reserve_producer_ids(1).unwrap();
        assert!(ids.first >> 32 > last >> 32, "{position}");
        assert_eq!(values(&log, P1, 0).len(), 1, "{position}");
    }
    assert!(0 < untouched && untouched < copy.position() - begin, "{untouched}");
}

#[test]
fn a_meta_file_that_is_older_than_its_journal_is_refused() {
    let disk = SimDisk::new();
    let (log, stepper, _) = original(&disk);
    drop(log);
    stepper.close().unwrap();
    let meta = Path::new("/data/meta");
    let old = disk.bytes(meta).unwrap();
    for _ in 0..2 {
        let (_log, stepper) = open(&disk, LogConfig::small()).unwrap();
        stepper.close().unwrap();
    }
    disk.damage(meta, 0, &old).unwrap();
    let what = open(&disk, LogConfig::small()).unwrap_err();
    assert!(what.contains("knows of 3 starts, meta of 1"), "{what}");
    let (log, _stepper) = open(&disk, adopting()).unwrap();
    assert_eq!(log.open_count(), 4, "counted on from the journal");
}

#[test]
fn a_backup_that_is_put_back_into_the_same_files_is_refused() {
    // META-1
    let disk = SimDisk::new();
    let (log, stepper, _) = original(&disk);
    drop(log);
    stepper.close().unwrap();
    let files: Vec<_> = disk.paths().into_iter().filter(|it| disk.bytes(it).is_ok()).collect();
    let backup: Vec<_> = files.iter().map(|path| (path, disk.bytes(path).unwrap())).collect();
    let (log, mut stepper) = open(&disk, LogConfig::small()).unwrap();
    stepper.submit(vec![append(P1, &["acknowledged after the backup"])]);
    drop((log, stepper));
    let disk = disk.killed();
    for (path, bytes) in &backup {
        disk.damage(path, 0, bytes).unwrap();
    }
    for path in disk.paths().iter().filter(|path| !files.contains(path)) {
        if disk.bytes(path).is_ok() {
            simulated(&disk).disk.remove(path).unwrap();
        }
    }
    let what = open(&disk, LogConfig::small()).unwrap_err();
    assert!(what.contains("its meta file has inode"), "{what}");
    let (log, _stepper) = open(&disk, adopting()).unwrap();
    assert_eq!(values(&log, P1, 0).len(), 1, "what the backup has");
}

#[test]
fn a_directory_of_another_cluster_is_refused_and_left_alone() {
    // META-5
    let called = |text: &str| LogConfig {
        cluster_id: Some(ClusterId::parse(text).unwrap()),
        ..LogConfig::small()
    };
    let (ours, theirs) = ("MkU3OEVBNTcwNTJENDM2Qk", "MkU3OEVBNTcwNTJENDM2Qg");
    let open =
        |disk: &SimDisk, config| Log::open_stepped(&simulated(disk), Path::new(DATA), config);
    let files = |disk: &SimDisk| -> Vec<Vec<u8>> {
        disk.paths().iter().map(|path| disk.bytes(path).unwrap()).collect()
    };
    let disk = SimDisk::new();
    drop(open(&disk, called(ours)).unwrap());
    let disk = disk.killed();
    for adopt in [false, true] {
        // A copy of another cluster's directory is no better.
        let disk = if adopt { disk.copied() } else { disk.clone() };
        let before = files(&disk);
        let refused = open(&disk, LogConfig { adopt, ..called(theirs) });
        let Err(OpenError::OtherCluster { found, wanted, .. }) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((found.to_string(), wanted.to_string()), (ours.to_owned(), theirs.to_owned()));
        assert!(files(&disk) == before, "nothing was written");
    }
    for config in [called(ours), LogConfig::small()] {
        let (log, ..) = open(&disk, config).unwrap();
        assert_eq!(log.cluster_id().to_string(), ours);
    }
    // One that was drawn is kept as well, and can be given from then on.
    let disk = SimDisk::new();
    let drawn = open(&disk, LogConfig::small()).unwrap().0.cluster_id().to_string();
    assert_eq!(drawn.len(), 22);
    open(&disk, called(ours)).unwrap_err();
    open(&disk, called(&drawn)).unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// On the file system of this machine, by the tools that people use.
#[test]
fn copies_of_real_files_are_told_from_moves() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let env = Environment::real();
    let open = |name: &str, config: LogConfig| {
        let opened = Log::open_stepped(&env, &scratch.path().join(name), config);
        opened.map(|(log, stepper, _)| {
            let id = log.directory_id();
            drop(log);
            stepper.close().unwrap();
            id
        })
    };
    let id = open("original", LogConfig::small()).unwrap();
    let refused = |name: &str| {
        let opened = open(name, LogConfig::small());
        assert!(matches!(opened, Err(OpenError::Moved { .. })), "{name}: {opened:?}");
    };
    run("cp", &["-a", &at("original"), &at("copy")]);
    refused("copy");
    run("mkdir", &[&at("restored")]);
    run("tar", &["-C", &at("original"), "-cf", &at("backup.tar"), "."]);
    run("tar", &["-C", &at("restored"), "-xpf", &at("backup.tar")]);
    refused("restored");
    // The same files under another name, and the same directory once more.
    run("mv", &[&at("original"), &at("moved")]);
    assert_eq!(open("moved", LogConfig::small()).unwrap(), id);
    assert_eq!(open("moved", LogConfig::small()).unwrap(), id);
    // The original is gone, and a copy stands in its place.
    run("mv", &[&at("copy"), &at("original")]);
    refused("original");
    let adopted = open("original", adopting()).unwrap();
    assert_ne!(adopted, id);
    assert_eq!(open("original", LogConfig::small()).unwrap(), adopted);
}
