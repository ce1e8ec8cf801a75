//! The same as `full_disk.rs` on a real file system that is really full: a tmpfs of its own. Needs
//! root; without it the test says that it was skipped, and under CI it fails.

use crate::crash::tell;
use crate::support;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use lossproof_env::Environment;
use lossproof_log::{
    Commit, CommitCause, FlushPolicy, FullCause, Log, LogConfig, PartitionChange, StateKind,
    Stepper,
};
use support::{P1, P2, append, cause, create, values};

const DISK: &str = "size=24m";
const STEPS_MAX: usize = 100;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 4 << 20,
        initial_zero_bytes: 1 << 20,
        zero_step_bytes: 256 << 10,
        zero_ahead_bytes: 1 << 20,
        reserve_bytes: 64 << 10,
        ballast_bytes: 4 << 20,
        checkpoint_bytes: 8 << 20,
        ..LogConfig::default()
    }
}

/// Unmounted when it is dropped.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: what is still open goes with its process.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// `None` where nothing can be mounted.
fn mount(path: &Path) -> Option<Mount> {
    let mut command = Command::new("mount");
    let output = command.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(path).output();
    if output.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(Mount(path.to_owned()));
    }
    let strict = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!strict, "a tmpfs cannot be mounted: {output:?}");
    tell("skipped: full_disk_real: mounting a tmpfs needs root");
    None
}

/// Takes all the room there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for step in [1 << 20, 4 << 10] {
        let zeros = vec![0; step];
        while file.write_all(&zeros).is_ok() {}
    }
}

fn zero(stepper: &mut Stepper) {
    (0..STEPS_MAX).for_each(|_| stepper.zero());
}

fn open(data: &Path) -> (Log, Stepper) {
    let (log, stepper, report) = Log::open_stepped(&Environment::real(), data, config()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    (log, stepper)
}

#[test]
fn a_full_tmpfs_is_worked_on_and_started_on() {
    let scratch = tempfile::tempdir().unwrap();
    let Some(_mount) = mount(scratch.path()) else { return };
    let data = scratch.path().join("data");
    let (log, mut stepper) = open(&data);
    stepper.submit(vec![create(P1, FlushPolicy::Commit), create(P2, FlushPolicy::Commit)]);
    zero(&mut stepper);
    let long = "x".repeat(60_000);
    let mut kept = 0;
    let full = loop {
        kept += i32::from(cause(&mut stepper, append(P2, &["kept"])).is_none());
        if let Some(cause) = cause(&mut stepper, append(P1, &[&long])) {
            break cause;
        }
        stepper.zero();
    };
    assert_eq!(full, CommitCause::Full(FullCause::Disk));
    assert!(full.is_retriable());
    let bulk = values(&log, P1, 0).len();
    let offset = || Commit::state(StateKind::Offsets, "group", Some("1".into()));
    assert_eq!(cause(&mut stepper, offset()), None);
    drop(log);
    stepper.close().unwrap();
    fill(&scratch.path().join("filler"));

    let (log, mut stepper) = open(&data);
    assert_eq!((values(&log, P1, 0).len(), values(&log, P2, 0).len() as i32), (bulk, kept));
    fill(&scratch.path().join("more"));
    assert_eq!(cause(&mut stepper, append(P1, &["early"])), Some(full), "BALLAST-1");
    assert_eq!(cause(&mut stepper, offset()), None);
    fs::remove_file(scratch.path().join("more")).unwrap();
    let deletion = Commit::partition(PartitionChange::Delete { id: P1 });
    assert_eq!(cause(&mut stepper, deletion), None);
    stepper.checkpoint().unwrap();
    zero(&mut stepper);
    assert_eq!(cause(&mut stepper, append(P2, &["again"])), None, "it goes on");
    drop((log, stepper));

    let (log, _stepper) = open(&data);
    assert_eq!(values(&log, P2, 0).len() as i32, kept + 1);
    assert_eq!(log.state_value(StateKind::Offsets, b"group"), Some("1".into()));
    assert_eq!(log.partitions(), [P2]);
}
