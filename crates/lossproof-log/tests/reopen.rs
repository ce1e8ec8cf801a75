//! What was acknowledged is there after the log is opened again: batches with their offsets and
//! identities, keyed state, partitions, producer ids; after an orderly close and without one.

use crate::support;

use std::path::Path;

use bytes::Bytes;
use lossproof_env::{Disk, Environment, Fault, SimDisk};
use lossproof_log::{Commit, FlushPolicy, Log, LogConfig, ReadError, StateKind};
use support::{P1, P2, append, create, identified, only, simulated, values};

#[test]
fn an_orderly_close_keeps_everything_and_the_epochs() {
    let directory = tempfile::tempdir().unwrap();
    let env = Environment::real();
    let (log, report) = Log::open(&env, directory.path(), LogConfig::default()).unwrap();
    assert!(report.fresh && report.is_sound());
    log.commit_blocking(create(P1, FlushPolicy::Commit)).unwrap();
    log.commit_blocking(create(P2, FlushPolicy::Commit)).unwrap();
    let first = log.commit_blocking(identified(P1, 0, &["a", "b"])).unwrap();
    assert_eq!((only(&first).base_offset, only(&first).last_offset), (0, 1));
    let second = log.commit_blocking(identified(P1, 2, &["c"])).unwrap();
    assert_eq!(only(&second).base_offset, 2);
    log.commit_blocking(append(P2, &["x"])).unwrap();
    let value = Some(Bytes::from_static(b"17"));
    log.commit_blocking(Commit::state(StateKind::Offsets, "group", value.clone())).unwrap();
    log.commit_blocking(Commit::state(StateKind::Cursor, "gone", value.clone())).unwrap();
    log.commit_blocking(Commit::state(StateKind::Cursor, "gone", None)).unwrap();
    let id = log.directory_id();
    log.close_blocking().unwrap();

    let (log, report) = Log::open(&env, directory.path(), LogConfig::default()).unwrap();
    assert!(report.clean && report.is_sound(), "{report:?}");
    assert_eq!((report.open_count, report.rewritten), (2, 0));
    assert_eq!(log.directory_id(), id);
    assert_eq!(values(&log, P1, 0), [(0, "a".into()), (1, "b".into()), (2, "c".into())]);
    assert_eq!(values(&log, P2, 0), [(0, "x".into())]);
    let slice = log.read(P1, 1, 1).unwrap();
    assert_eq!(slice.batches.len(), 1);
    assert_eq!(slice.batches[0].identity.unwrap().first_seq, 0);
    assert_eq!(log.state_value(StateKind::Offsets, b"group"), value);
    assert!(log.state(StateKind::Cursor).is_empty());
    assert_eq!(log.partition(P1).unwrap().leader_epoch, 0);
    assert!(matches!(log.read(P1, 4, 1), Err(ReadError::OffsetOutOfRange { .. })));
    assert!(log.read(P1, 3, 1).unwrap().batches.is_empty());
    let third = log.commit_blocking(append(P1, &["d"])).unwrap();
    assert_eq!(only(&third).base_offset, 3);
    log.close_blocking().unwrap();
}

#[test]
fn without_a_close_everything_is_kept_and_the_epochs_rise() {
    let directory = tempfile::tempdir().unwrap();
    let env = Environment::real();
    for open in 1..=3_i64 {
        let opened = Log::open_stepped(&env, directory.path(), LogConfig::small());
        let (log, mut stepper, report) = opened.unwrap();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.open_count as i64, open, "META-2: counted before anything else");
        if open == 1 {
            stepper.submit(vec![create(P1, FlushPolicy::Commit)])[0].as_ref().unwrap();
        } else {
            assert_eq!(report.rewritten, 1, "the last frame was not known to be durable");
        }
        let view = log.partition(P1).unwrap();
        assert_eq!(i64::from(view.leader_epoch), open - 1, "the epoch rises");
        assert_eq!(view.high_watermark, open - 1);
        let outcome = stepper.submit(vec![append(P1, &["again"])]).remove(0).unwrap();
        assert_eq!(only(&outcome).base_offset, open - 1);
        assert_eq!(values(&log, P1, 0).len() as i64, open);
    }
}

#[test]
fn many_segments_are_walked_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let env = Environment::real();
    let opened = Log::open_stepped(&env, directory.path(), LogConfig::small());
    let (log, mut stepper, _) = opened.unwrap();
    stepper.submit(vec![create(P1, FlushPolicy::Commit)])[0].as_ref().unwrap();
    let long = "x".repeat(5000);
    for _ in 0..40 {
        stepper.submit(vec![append(P1, &[&long])])[0].as_ref().unwrap();
    }
    assert_eq!(values(&log, P1, 0).len(), 40);
    drop((log, stepper));
    let opened = Log::open_stepped(&env, directory.path(), LogConfig::small());
    let (log, _stepper, report) = opened.unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(values(&log, P1, 0).len(), 40);
    assert_eq!(values(&log, P1, 33).len(), 7);
}

#[test]
fn the_names_of_the_directory_and_of_those_above_it_survive_a_power_cut() {
    for directory in ["/srv/lossproof/data", "data", "lossproof/data"] {
        let disk = SimDisk::new();
        let path = Path::new(directory);
        let open = |disk: &SimDisk| Log::open_stepped(&simulated(disk), path, LogConfig::small());
        let (_log, mut stepper, _) = open(&disk).unwrap();
        stepper.submit(vec![create(P1, FlushPolicy::Commit)]).remove(0).unwrap();
        stepper.submit(vec![append(P1, &["kept"])]).remove(0).unwrap();
        let (log, _stepper, report) = open(&disk.power_cut()).unwrap();
        assert!(!report.fresh, "{directory} is gone, and all that was acknowledged in it");
        assert_eq!(values(&log, P1, 0), [(0, "kept".to_owned())]);
    }
}

#[test]
fn only_what_may_have_been_made_has_to_be_durable() {
    let path = Path::new("/home/me/data");
    let open = |disk: &SimDisk| Log::open_stepped(&simulated(disk), path, LogConfig::small());
    let forbidden = |disk: &SimDisk| disk.inject(Fault::sync(0).forbidden());
    let disk = SimDisk::new();
    forbidden(&disk);
    assert!(open(&disk).is_err(), "the root holds the name of what was made");
    assert!(disk.was_struck());
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/home/me")).unwrap();
    forbidden(&disk);
    assert!(open(&disk).is_ok(), "the root is not this user's, and nothing was made in it");
    assert!(disk.was_struck());
}
