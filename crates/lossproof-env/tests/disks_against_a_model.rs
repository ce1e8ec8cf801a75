//! Both disks that can lose something agree with a model of ten lines: after any sequence of
//! calls the process sees what the model sees, and after a power cut there is what the model says
//! was synced, no more and no less (`SIM-1`, `FORGET-1`, `FORGET-2`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lossproof_env::{Disk, DiskFile, ForgetfulDisk, RealDisk, ScratchDisk, SimDisk};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Call {
    Create(u8),
    Write { name: u8, offset: u16, length: u16, byte: u8 },
    Preallocate { name: u8, length: u16 },
    Truncate { name: u8, length: u16 },
    SyncData(u8),
    SyncDirectory,
    Rename(u8, u8),
    Remove(u8),
}

fn any_call() -> impl Strategy<Value = Call> {
    let name = 0_u8..4;
    let size = 0_u16..12_000;
    prop_oneof![
        3 => name.clone().prop_map(Call::Create),
        6 => (name.clone(), size.clone(), 0_u16..9_000, any::<u8>())
            .prop_map(|(name, offset, length, byte)| Call::Write { name, offset, length, byte }),
        1 => (name.clone(), size.clone())
            .prop_map(|(name, length)| Call::Preallocate { name, length }),
        2 => (name.clone(), size).prop_map(|(name, length)| Call::Truncate { name, length }),
        3 => name.clone().prop_map(Call::SyncData),
        2 => Just(Call::SyncDirectory),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Call::Rename(from, to)),
        1 => name.prop_map(Call::Remove),
    ]
}

#[derive(Clone, Default)]
struct ModelFile {
    visible: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
struct Model {
    files: Vec<ModelFile>,
    visible: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
}

type Bytes = BTreeMap<String, Vec<u8>>;

impl Model {
    fn visible_bytes(&self) -> Bytes {
        let entry =
            |(name, file): (&String, &usize)| (name.clone(), self.files[*file].visible.clone());
        self.visible.iter().map(entry).collect()
    }

    fn durable_bytes(&self) -> Bytes {
        let entry =
            |(name, file): (&String, &usize)| (name.clone(), self.files[*file].durable.clone());
        self.durable.iter().map(entry).collect()
    }

    fn file(&mut self, name: &str) -> Option<&mut ModelFile> {
        self.visible.get(name).map(|file| &mut self.files[*file])
    }

    /// Whether the call is to succeed.
    fn call(&mut self, call: &Call) -> bool {
        match call {
            Call::Create(name) => {
                if self.visible.contains_key(&file_name(*name)) {
                    return false;
                }
                self.visible.insert(file_name(*name), self.files.len());
                self.files.push(ModelFile::default());
                true
            }
            Call::SyncDirectory => {
                self.durable = self.visible.clone();
                true
            }
            Call::Rename(from, to) => {
                let Some(file) = self.visible.get(&file_name(*from)).copied() else { return false };
                self.visible.remove(&file_name(*from));
                self.visible.insert(file_name(*to), file);
                true
            }
            Call::Remove(name) => self.visible.remove(&file_name(*name)).is_some(),
            Call::Write { name, .. }
            | Call::Preallocate { name, .. }
            | Call::Truncate { name, .. }
            | Call::SyncData(name) => {
                let Some(file) = self.file(&file_name(*name)) else { return false };
                file.call(call);
                true
            }
        }
    }
}

impl ModelFile {
    fn call(&mut self, call: &Call) {
        let bytes = &mut self.visible;
        match call {
            Call::Write { offset, length, byte, .. } if *length > 0 => {
                let (start, end) = (*offset as usize, *offset as usize + *length as usize);
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].fill(*byte);
            }
            Call::Preallocate { length, .. } => bytes.resize(bytes.len().max(*length as usize), 0),
            Call::Truncate { length, .. } => bytes.truncate(*length as usize),
            Call::SyncData(_) => self.durable.clone_from(&self.visible),
            _ => {}
        }
    }
}

fn file_name(name: u8) -> String {
    format!("file-{name}")
}

/// Does the call on a real candidate; handles stay open over renames, as a log's do.
fn call(disk: &dyn Disk, root: &Path, call: &Call) -> std::io::Result<()> {
    let path = |name: u8| root.join(file_name(name));
    let open = |name: u8| -> std::io::Result<Arc<dyn DiskFile>> { disk.open(&path(name)) };
    match call {
        Call::Create(name) => disk.create(&path(*name)).map(drop),
        Call::Write { name, offset, length, byte } => {
            open(*name)?.write_all_at(&vec![*byte; *length as usize], u64::from(*offset))
        }
        Call::Preallocate { name, length } => open(*name)?.preallocate(u64::from(*length)),
        Call::Truncate { name, length } => open(*name)?.truncate(u64::from(*length)),
        Call::SyncData(name) => open(*name)?.sync_data(),
        Call::SyncDirectory => disk.sync_dir(root),
        Call::Rename(from, to) => disk.rename(&path(*from), &path(*to)),
        Call::Remove(name) => disk.remove(&path(*name)),
    }
}

fn bytes_of(disk: &dyn Disk, root: &Path) -> Bytes {
    let read = |path: PathBuf| {
        let file = disk.open_read_only(&path).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), bytes)
    };
    disk.list(root).unwrap().into_iter().map(read).collect()
}

fn agree(disk: &dyn Disk, root: &Path, calls: &[Call]) -> Model {
    let mut model = Model::default();
    for one in calls {
        let expected = model.call(one);
        let found = call(disk, root, one);
        assert_eq!(found.is_ok(), expected, "{one:?} gave {found:?}");
    }
    assert_eq!(bytes_of(disk, root), model.visible_bytes());
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn sim_disk(calls in prop::collection::vec(any_call(), 0..40)) {
        let root = Path::new("/data");
        let disk = SimDisk::new();
        disk.create_dir_all(root).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let model = agree(&disk, root, &calls);
        prop_assert_eq!(bytes_of(&disk.power_cut(), root), model.durable_bytes());
        // The death of the process alone loses nothing.
        prop_assert_eq!(bytes_of(&disk.killed(), root), model.visible_bytes());
        prop_assert!(disk.exists(root).is_err(), "the killed process is dead");
    }
}

proptest! {
    // Each case syncs real files.
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn scratch_disk(before in prop::collection::vec(any_call(), 0..20),
                    calls in prop::collection::vec(any_call(), 0..40)) {
        let root = Path::new("/root");
        let below = SimDisk::new();
        below.create_dir_all(root).unwrap();
        let mut model = agree(&below, root, &before);
        let bytes = bytes_of(&below, root);
        let disk = ScratchDisk::new(Arc::new(below.clone()));
        for made in &calls {
            let agrees = call(&disk, root, made).is_ok() == model.call(made);
            prop_assert!(agrees, "{:?}", made);
        }
        prop_assert_eq!(bytes_of(&disk, root), model.visible_bytes());
        prop_assert_eq!(bytes_of(&below, root), bytes, "SCRATCH-1");
    }

    #[test]
    fn forgetful_disk(calls in prop::collection::vec(any_call(), 0..40)) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let disk = ForgetfulDisk::new();
        let model = agree(&disk, root, &calls);
        // Another process sees only what is synced; nothing happens when the memory goes.
        drop(disk);
        prop_assert_eq!(bytes_of(&ForgetfulDisk::new(), root), model.durable_bytes());
        let successor = ForgetfulDisk::new();
        let path = root.join("successor");
        successor.create(&path).unwrap();
        successor.sync_dir(root).unwrap();
        let mut kept = model.durable_bytes();
        kept.insert("successor".to_owned(), Vec::new());
        prop_assert_eq!(bytes_of(&RealDisk, root), kept, "leftovers are cleaned away");
    }
}
