//! The real disk does what the seam promises, as far as one process can see: zeros are written on
//! preallocation, truncation only shortens, a lock keeps the second one out.

use std::io::ErrorKind;

use lossproof_env::{Disk, ForgetfulDisk, RealDisk};

#[test]
fn preallocation_writes_zeros_and_never_shortens() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    let file = RealDisk.create(&path).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    let length = (2 << 20) + 5;
    file.preallocate(length).unwrap();
    assert_eq!(file.len().unwrap(), length);
    file.preallocate(10).unwrap();
    assert_eq!(file.len().unwrap(), length);
    let mut bytes = vec![1; length as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes[..3], b"abc");
    assert!(bytes[3..].iter().all(|byte| *byte == 0));
    // Written, not merely promised: the file system holds blocks for all of it.
    let allocated = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap());
    assert!(allocated * 512 >= length, "{allocated} sectors for {length} bytes");
    file.truncate(length + 1).unwrap();
    assert_eq!(file.len().unwrap(), length);
    file.truncate(2).unwrap();
    assert_eq!(file.len().unwrap(), 2);
    assert_eq!(file.read_exact_at(&mut [0; 3], 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn names_are_created_once_renamed_over_and_listed_in_order() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    RealDisk.create(&b).unwrap().write_all_at(b"old", 0).unwrap();
    RealDisk.create(&a).unwrap().write_all_at(b"newer", 0).unwrap();
    assert_eq!(RealDisk.create(&a).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(RealDisk.list(scratch.path()).unwrap(), [a.clone(), b.clone()]);
    RealDisk.rename(&a, &b).unwrap();
    RealDisk.sync_dir(scratch.path()).unwrap();
    assert_eq!(RealDisk.open(&b).unwrap().len().unwrap(), 5);
    assert!(!RealDisk.exists(&a).unwrap());
    RealDisk.remove(&b).unwrap();
    assert_eq!(RealDisk.open(&b).unwrap_err().kind(), ErrorKind::NotFound);
    let read_only = {
        RealDisk.create(&a).unwrap();
        RealDisk.open_read_only(&a).unwrap()
    };
    assert!(read_only.write_all_at(b"x", 0).is_err());
}

#[test]
fn a_lock_keeps_the_second_one_out_until_it_ends() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("lock");
    let held = RealDisk.lock(&path).unwrap();
    assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    // As somebody does who takes it for a leftover.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(RealDisk.lock_shared(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
    let shared = RealDisk.lock_shared(&path).unwrap();
    RealDisk.lock_shared(&path).unwrap();
    assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(shared);
    RealDisk.lock(&path).unwrap();
}

#[test]
fn a_copy_has_another_stamp_than_its_original() {
    let scratch = tempfile::tempdir().unwrap();
    let (a, b) = (scratch.path().join("a"), scratch.path().join("b"));
    RealDisk.create(&a).unwrap();
    std::fs::copy(&a, &b).unwrap();
    let stamp = RealDisk.stamp(&a).unwrap();
    assert!(stamp.is_some());
    assert_eq!(RealDisk.stamp(&a).unwrap(), stamp);
    assert_ne!(RealDisk.stamp(&b).unwrap(), stamp);
}

#[test]
fn the_empty_path_is_the_working_directory() {
    let path = std::path::Path::new("data").parent().unwrap();
    RealDisk.sync_dir(path).unwrap();
    ForgetfulDisk::new().sync_dir(path).unwrap();
}

#[test]
fn the_file_system_has_a_size() {
    let scratch = tempfile::tempdir().unwrap();
    for disk in [&RealDisk as &dyn Disk, &ForgetfulDisk::new()] {
        let space = disk.space(scratch.path()).unwrap().unwrap();
        assert!(space.usable_bytes > 0 && space.usable_bytes <= space.total_bytes, "{space:?}");
        assert!(disk.space(&scratch.path().join("missing")).is_err());
    }
}
