//! SIGKILL, the real one, does to a process on the forgetful disk what a power cut does to a
//! machine. The test starts itself again as a child, lets it write and kills it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lossproof_env::{Disk, ForgetfulDisk, RealDisk};

const CHILD_VARIABLE: &str = "LOSSPROOF_TEST_FORGETFUL_CHILD";
const READY: &str = "child is ready";

/// In the child: writes, syncs some of it, says so, and waits for the end.
#[test]
fn child_writes_and_waits() {
    let Some(directory) = std::env::var_os(CHILD_VARIABLE) else { return };
    let directory = PathBuf::from(directory);
    let disk = ForgetfulDisk::new();
    let kept = disk.create(&directory.join("kept")).unwrap();
    kept.write_all_at(b"synced", 0).unwrap();
    kept.preallocate(8_192).unwrap();
    kept.sync_data().unwrap();
    disk.create(&directory.join("old-name")).unwrap();
    disk.sync_dir(&directory).unwrap();

    kept.write_all_at(b"UNSYNCED", 0).unwrap();
    kept.write_all_at(b"UNSYNCED", 20_000).unwrap();
    disk.create(&directory.join("unlinked")).unwrap().sync_data().unwrap();
    disk.rename(&directory.join("old-name"), &directory.join("new-name")).unwrap();
    let mut seen = [0; 8];
    disk.open(&directory.join("kept")).unwrap().read_exact_at(&mut seen, 20_000).unwrap();
    assert_eq!(&seen, b"UNSYNCED");
    assert_eq!(names(&disk, &directory), ["kept", "new-name", "unlinked"]);
    println!("\n{READY}");
    // Ends by itself where the parent dies first.
    std::io::stdin().lines().next();
}

fn names(disk: &dyn Disk, directory: &Path) -> Vec<String> {
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    disk.list(directory).unwrap().into_iter().map(name).collect()
}

#[test]
fn what_was_not_synced_dies_with_the_process() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "forgetful_disk::child_writes_and_waits", "--nocapture"])
        .env(CHILD_VARIABLE, scratch.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let ready = stdout.lines().map(Result::unwrap).any(|line| line == READY);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready, "the child failed before it was killed");

    let disk = ForgetfulDisk::new();
    assert_eq!(names(&disk, scratch.path()), ["kept", "old-name"]);
    let kept = disk.open(&scratch.path().join("kept")).unwrap();
    assert_eq!(kept.len().unwrap(), 8_192);
    let mut bytes = [0; 8];
    kept.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"synced\0\0");
    // The same through the plain file system: no trick of the forgetful one.
    assert_eq!(RealDisk.open(&scratch.path().join("kept")).unwrap().len().unwrap(), 8_192);
}
