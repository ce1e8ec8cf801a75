//! What is done on a scratch disk is seen there, and the disk below stays as it is (SCRATCH-1).
//! That it is a disk like any other is checked in `disks_against_a_model.rs`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use lossproof_env::{Disk, ScratchDisk, SimDisk};

#[test]
fn the_disk_below_stays_as_it_is() {
    let below = SimDisk::new();
    let directory = Path::new("/data");
    below.create_dir_all(directory).unwrap();
    for name in ["a", "b", "c"] {
        below.create(&directory.join(name)).unwrap().write_all_at(&[7; 9_000], 0).unwrap();
    }
    let before = below.position();
    let disk = ScratchDisk::new(Arc::new(below.clone())).discarding(Path::new("/data/kept"));
    let file = disk.open(&directory.join("a")).unwrap();
    file.write_all_at(b"new", 4_095).unwrap();
    file.preallocate(20_000).unwrap();
    file.sync_data().unwrap();
    let mut seen = [0; 5];
    file.read_exact_at(&mut seen, 4_094).unwrap();
    assert_eq!(&seen, b"\x07new\x07");
    file.read_exact_at(&mut seen, 15_000).unwrap();
    assert_eq!(seen, [0; 5]);
    disk.open(&directory.join("b")).unwrap().truncate(10).unwrap();
    disk.remove(&directory.join("c")).unwrap();
    disk.rename(&directory.join("b"), &directory.join("d")).unwrap();
    disk.create_dir_all(&directory.join("kept")).unwrap();
    let discarded = disk.create(&directory.join("kept/e")).unwrap();
    discarded.write_all_at(b"anything", 0).unwrap();
    assert_eq!(discarded.len().unwrap(), 8);
    disk.sync_dir(directory).unwrap();
    assert_eq!(disk.list(directory).unwrap(), ["/data/a", "/data/d"].map(Path::new));
    assert_eq!(disk.list(&directory.join("kept")).unwrap(), [directory.join("kept/e")]);
    assert_eq!(disk.open_read_only(&directory.join("d")).unwrap().len().unwrap(), 10);
    let error = disk.open(&directory.join("c")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(below.position(), before, "SCRATCH-1: a step was done below");
}
