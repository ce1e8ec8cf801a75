//! The simulated disk loses exactly what a power cut may lose, fails when told to, and builds the
//! same images every time.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};

use lossproof_env::{
    Choice, CrashImage, CrashPlan, Disk, DiskFile, Fault, ImageCounts, Kept, Ruin, SimDisk, Unit,
};

const PLAN: CrashPlan = CrashPlan { seed: 1, subsets_max: 256 };
const A: &str = "/a";

/// A disk whose file `/a` holds `bytes`, durably.
fn disk_with(bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = disk.create(Path::new(A)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

fn bytes(image: &CrashImage) -> Vec<u8> {
    image.disk().bytes(Path::new(A)).unwrap()
}

/// All images of the end of the recording.
fn images_at_end(disk: &SimDisk) -> (Vec<CrashImage>, ImageCounts) {
    let mut images = Vec::new();
    let recording = disk.recording();
    let end = recording.len();
    let counts = recording.visit(PLAN, &[], |image| {
        if image.position == end {
            images.push(image);
        }
    });
    (images, counts)
}

/// `SIM-2`: all of what was synced, and every part of the rest.
#[test]
fn every_subset_of_sectors_of_a_small_write_is_tried() {
    let (disk, file) = disk_with(&[1; 2048]);
    file.write_all_at(&[2; 2048], 0).unwrap();
    let (images, _) = images_at_end(&disk);
    let whole_sectors: BTreeSet<Vec<u8>> = images
        .iter()
        .map(bytes)
        .filter(|bytes| bytes.chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0])))
        .map(|bytes| bytes.iter().step_by(512).copied().collect())
        .filter(|sectors: &Vec<u8>| sectors.iter().all(|b| *b == 1 || *b == 2))
        .collect();
    assert_eq!(whole_sectors.len(), 16);
    // Torn inside a sector, both ways.
    let torn = |first: u8, last: u8| {
        images.iter().map(bytes).any(|b| b[0] == first && b[1] == last && b[2047] == last)
    };
    assert!(torn(2, 1) && torn(1, 2));
    // Ruined: neither old nor new.
    assert!(images.iter().map(bytes).any(|b| b.iter().all(|b| *b == 0)));
}

#[test]
fn every_prefix_and_every_order_of_writes_over_two_files_is_tried() {
    let (disk, first) = disk_with(b"1");
    let second = disk.create(Path::new("/b")).unwrap();
    second.write_all_at(b"1", 0).unwrap();
    second.sync_data().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    first.write_all_at(b"2", 0).unwrap();
    second.write_all_at(b"2", 0).unwrap();
    let (images, _) = images_at_end(&disk);
    let pair = |image: &CrashImage| {
        let disk = image.disk();
        (disk.bytes(Path::new(A)).unwrap()[0], disk.bytes(Path::new("/b")).unwrap()[0])
    };
    let pairs: BTreeSet<_> = images.iter().map(pair).collect();
    for expected in [(b'1', b'1'), (b'2', b'1'), (b'1', b'2'), (b'2', b'2')] {
        assert!(pairs.contains(&expected), "{expected:?} is missing");
    }
}

#[test]
fn a_rename_without_its_directory_may_be_undone_and_its_bytes_may_be_missing() {
    let (disk, _) = disk_with(b"old");
    let (temporary, target) = (Path::new("/a.tmp"), Path::new(A));
    disk.create(temporary).unwrap().write_all_at(b"new", 0).unwrap();
    disk.rename(temporary, target).unwrap();
    let (images, _) = images_at_end(&disk);
    let contents: BTreeSet<Vec<u8>> = images.iter().map(bytes).collect();
    for expected in [&b"old"[..], b"new", b""] {
        assert!(contents.contains(expected), "{expected:?} is missing");
    }
    disk.open(target).unwrap().sync_data().unwrap();
    let undone: BTreeSet<Vec<u8>> = images_at_end(&disk).0.iter().map(bytes).collect();
    assert_eq!(undone, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
    disk.sync_dir(Path::new("/")).unwrap();
    let synced: BTreeSet<Vec<u8>> = images_at_end(&disk).0.iter().map(bytes).collect();
    assert_eq!(synced, BTreeSet::from([b"new".to_vec()]));
}

/// `SIM-5`.
#[test]
fn a_name_in_an_unsynced_directory_is_lost_with_it() {
    let disk = SimDisk::new();
    let directory = Path::new("/deep/down");
    disk.create_dir_all(directory).unwrap();
    let file = disk.create(&directory.join("a")).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(directory).unwrap();
    disk.sync_dir(Path::new("/deep")).unwrap();
    assert!(disk.power_cut().paths().is_empty());
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(disk.power_cut().paths(), [directory.join("a")]);
}

/// `SIM-4`: what Linux does, and what makes recovery write everything anew.
#[test]
fn after_a_failed_sync_the_bytes_are_seen_and_gone_and_the_next_sync_says_yes() {
    let (disk, file) = disk_with(b"old");
    file.write_all_at(b"new", 0).unwrap();
    disk.inject(Fault::sync(0));
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    assert!(disk.was_struck());
    file.sync_data().unwrap();
    assert_eq!(disk.bytes(Path::new(A)).unwrap(), b"new");
    assert_eq!(disk.killed().bytes(Path::new(A)).unwrap(), b"new");
    assert_eq!(disk.power_cut().bytes(Path::new(A)).unwrap(), b"old");
    let (images, _) = images_at_end(&disk);
    assert!(images.iter().all(|image| bytes(image) == b"old"));
}

/// `SIM-4`: a name that was lost so has to be made anew.
#[test]
fn after_a_failed_sync_of_a_directory_its_names_are_seen_and_gone() {
    let (root, path) = (Path::new("/"), Path::new(A));
    let disk = SimDisk::new();
    disk.create(path).unwrap().sync_data().unwrap();
    disk.inject(Fault::sync(0).names_lost());
    disk.sync_dir(root).unwrap_err();
    disk.sync_dir(root).unwrap();
    assert!(disk.exists(path).unwrap() && disk.power_cut().paths().is_empty());
    let other = Path::new("/b");
    disk.rename(path, other).unwrap();
    disk.sync_dir(root).unwrap();
    assert_eq!(disk.power_cut().paths(), [other]);
}

#[test]
fn a_failed_sync_that_leaves_its_bytes_dirty_is_made_good_by_the_next() {
    let (disk, file) = disk_with(b"old");
    file.write_all_at(b"new", 0).unwrap();
    disk.inject(Fault::sync(0).still_dirty());
    file.sync_data().unwrap_err();
    assert_eq!(disk.power_cut().bytes(Path::new(A)).unwrap(), b"old");
    file.sync_data().unwrap();
    assert_eq!(disk.power_cut().bytes(Path::new(A)).unwrap(), b"new");
}

#[test]
fn faults_strike_the_call_they_name_once_or_from_then_on() {
    let (disk, file) = disk_with(b"abcd");
    disk.inject(Fault::change(1));
    file.write_all_at(b"1", 0).unwrap();
    file.write_all_at(b"2", 1).unwrap_err();
    file.write_all_at(b"3", 2).unwrap();
    assert_eq!(disk.bytes(Path::new(A)).unwrap(), b"1b3d");

    disk.inject(Fault::change(0).torn().sticky().no_space());
    for _ in 0..2 {
        let error = file.write_all_at(b"XYZW", 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
    assert_eq!(disk.bytes(Path::new(A)).unwrap(), b"XY3d");
    assert!(file.read_at(&mut [0], 0).is_ok(), "reads do not count as changes");

    disk.inject(Fault::call(0));
    file.read_at(&mut [0], 0).unwrap_err();
    disk.inject(Fault::call(5));
    file.read_at(&mut [0], 0).unwrap();
    assert!(!disk.was_struck());
}

#[test]
fn a_full_disk_refuses_to_grow_and_takes_overwrites() {
    let (disk, file) = disk_with(b"abcd");
    disk.set_capacity(6);
    file.write_all_at(b"efg", 4).unwrap_err();
    assert_eq!(file.preallocate(7).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_all_at(b"ef", 4).unwrap();
    file.write_all_at(b"xxxxxx", 0).unwrap();
    assert_eq!(disk.used_bytes(), 6);
    disk.heal();
    file.write_all_at(b"efg", 4).unwrap();
}

/// `SIM-3`: a failing image is worth nothing if it cannot be built again.
#[test]
fn the_same_plan_gives_the_same_images_and_position_and_choice_rebuild_each() {
    let (disk, file) = disk_with(&[1; 9_000]);
    file.write_all_at(&[2; 9_000], 100).unwrap();
    file.write_all_at(&[3; 5_000], 4_000).unwrap();
    let run = || {
        let mut images = Vec::new();
        let counts = disk.recording().visit(PLAN, &[], |image| images.push(image));
        (images, counts)
    };
    let ((first, counts), (second, _)) = (run(), run());
    assert_eq!(counts.images as usize, first.len());
    assert!(counts.sampled_positions > 0, "{counts}");
    assert!(first.len() > 300, "{counts}");
    for (left, right) in first.iter().zip(&second) {
        assert_eq!(left.to_string(), right.to_string());
        assert_eq!(left.disk().bytes(Path::new(A)).ok(), right.disk().bytes(Path::new(A)).ok());
        let again = disk.recording().image(left.position, &left.choice);
        assert_eq!(again.disk().bytes(Path::new(A)).ok(), left.disk().bytes(Path::new(A)).ok());
    }
    let other = CrashPlan { seed: 2, ..PLAN };
    let mut texts = BTreeSet::new();
    disk.recording().visit(other, &[], |image| {
        texts.insert(image.to_string());
    });
    assert!(first.iter().any(|image| !texts.contains(&image.to_string())));
}

#[test]
fn a_ruined_block_takes_synced_bytes_in_the_same_block_with_it() {
    let (disk, file) = disk_with(&[1; 8_192]);
    file.write_all_at(&[2; 10], 4_096).unwrap();
    let choice = Choice::Ruined { block: 0, ruin: Ruin::HalfNoise };
    let image = disk.recording().image(usize::MAX, &choice);
    let found = bytes(&image);
    assert_eq!(found[..4_096], [1; 4_096]);
    assert_eq!(found[4_096..4_106], [2; 10]);
    assert_eq!(found[4_106..4_096 + 2_048], [1; 2_038]);
    assert_ne!(found[6_144..], [1; 2_048]);
    let pieces =
        Choice::Pieces { unit: Unit::Block, pieces: Kept(vec![false]), names: Kept(Vec::new()) };
    assert_eq!(bytes(&disk.recording().image(usize::MAX, &pieces)), [1; 8_192]);
}

#[test]
fn the_observer_sees_each_step_before_it_happens() {
    let disk = SimDisk::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    disk.observe(Some(Arc::new(move |position, step| {
        log.lock().unwrap().push((position, format!("{step:?}")));
    })));
    let file = disk.create(Path::new(A)).unwrap();
    file.write_all_at(b"abc", 1).unwrap();
    file.sync_data().unwrap();
    let seen = seen.lock().unwrap();
    let expected = [(0, "create /a as #1"), (1, "write 3 bytes at 1 of #1"), (2, "sync #1")];
    assert_eq!(*seen, expected.map(|(position, step)| (position, step.to_owned())));
}

#[test]
fn locks_end_with_their_holder_and_with_the_process() {
    let disk = SimDisk::new();
    let path = Path::new("/lock");
    let held = disk.lock(path).unwrap();
    assert_eq!(disk.lock(path).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
    let held = disk.lock(path).unwrap();
    let next = disk.killed();
    let taken = next.lock(path).unwrap();
    drop(held);
    assert_eq!(next.lock(path).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(taken);
}

#[test]
fn damage_is_seen_at_once_and_after_a_power_cut_and_a_copy_is_another_file() {
    let (disk, _) = disk_with(b"abcd");
    let path = Path::new(A);
    disk.damage(path, 1, b"X").unwrap();
    assert_eq!(disk.bytes(path).unwrap(), b"aXcd");
    assert_eq!(disk.power_cut().bytes(path).unwrap(), b"aXcd");
    assert_eq!(disk.power_cut().stamp(path).unwrap(), disk.stamp(path).unwrap());
    let copy = disk.copied();
    assert_eq!(copy.bytes(path).unwrap(), b"aXcd");
    assert_ne!(copy.stamp(path).unwrap(), disk.stamp(path).unwrap());
}

#[test]
fn only_reads_that_touch_an_unreadable_piece_fail() {
    let disk = SimDisk::new();
    let path = Path::new("/a");
    let file = disk.create(path).unwrap();
    file.write_all_at(&[7; 100], 0).unwrap();
    disk.make_unreadable(path, 40..50).unwrap();
    let mut bytes = [0; 40];
    file.read_exact_at(&mut bytes, 0).unwrap();
    file.read_exact_at(&mut bytes, 50).unwrap();
    for offset in [1, 49] {
        let error = file.read_exact_at(&mut bytes, offset).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
    }
    disk.heal();
    file.read_exact_at(&mut bytes, 30).unwrap();
    assert_eq!(bytes, [7; 40]);
}

#[test]
fn a_quota_and_a_shortage_of_files_have_errors_of_their_own() {
    let disk = SimDisk::new();
    let file = disk.create(Path::new("/a")).unwrap();
    disk.set_quota(10);
    let error = file.write_all_at(&[7; 11], 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
    disk.inject(Fault::create(1).no_files());
    file.write_all_at(&[7; 10], 0).unwrap();
    disk.create(Path::new("/b")).unwrap();
    let error = disk.create(Path::new("/c")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(24));
}
