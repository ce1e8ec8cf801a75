//! The meta file: who this log is, and whether its directory is still where it was made.
//!
//! # Invariants
//! - META-1: the file is replaced as a whole and holds its content twice, and in it the stamp of
//!   the very file: content that was put into another file, or back into a later one, is told.
//! - META-2: the open counter is durable before anything of that open is written.
//! - META-3: it says that the journal has begun once the first mark is durable, and before there is
//!   any segment: from then on a journal without a mark is missing or damaged, never new.
//! - META-4: an adopted directory gets a name of its own, while the id that seeds all checksums
//!   stays; until its new range of producer ids is in the journal it counts as being adopted.
//! - META-5: a directory has one cluster id for ever; one of another cluster is not opened, and
//!   nothing is written to it.
//! - META-6: a directory is one program's for ever; another one does not open it, since it would
//!   take the entries for damage and add its own.

use std::io;
use std::path::{Path, PathBuf};

use lossproof_env::{Environment, FileStamp};

use crate::cluster_id::{self, ClusterId};
use crate::error::OpenError;
use crate::frame::{BLOCK, FORMAT_VERSION, get_u32, get_u64};
use crate::scan::read_around;

pub(crate) const MAGIC: [u8; 7] = *b"LPMETA\0";
pub(crate) const COPY_BYTES: usize = BLOCK as usize;
const CRC_AT: usize = COPY_BYTES - 4;
const MACHINE_AT: usize = 72;
/// Longer machine ids are cut; `/etc/machine-id` has 32 digits.
const MACHINE_BYTES_MAX: usize = 128;
const FLAGS_AT: usize = 47;
const ADOPTED_AT: usize = 200;
const CLUSTER_AT: usize = 208;
const PURPOSE_AT: usize = 232;
const ADOPTED: u8 = 1;
const ADOPTING: u8 = 2;
/// The stamp is the file's own. 1 was that of the lock file, which is not looked at any more.
const OWN_STAMP: u8 = 2;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Meta {
    /// Seeds all checksums in the directory; never changes.
    pub(crate) directory_id: u64,
    /// Who the directory is since it was taken over from another one.
    pub(crate) adopted_id: Option<u64>,
    /// It is being taken over (META-4).
    pub(crate) adopting: bool,
    pub(crate) drawn_cluster_id: [u8; 16],
    /// The cluster id that the operator gave when the directory was made, if any.
    pub(crate) given_cluster_id: Option<ClusterId>,
    pub(crate) open_count: u64,
    /// High half of all producer ids given here.
    pub(crate) producer_id_high: u32,
    /// Of the file that it was read from, as it was when that was written; `None` where the disk
    /// could not say, and in one of before.
    pub(crate) stamp: Option<FileStamp>,
    pub(crate) machine_id: Option<String>,
    /// There is a durable mark (META-3).
    pub(crate) begun: bool,
    /// A [`Purpose`](crate::Purpose), 0 where nobody has said it yet (META-6).
    pub(crate) purpose: u8,
}

impl Meta {
    /// The identity of a new directory.
    pub(crate) fn new(env: &Environment, given_cluster_id: Option<ClusterId>) -> Self {
        let mut drawn_cluster_id = [0; 16];
        drawn_cluster_id[..8].copy_from_slice(&env.rng.next_u64().to_be_bytes());
        drawn_cluster_id[8..].copy_from_slice(&env.rng.next_u64().to_be_bytes());
        Self {
            directory_id: env.rng.next_u64(),
            adopted_id: None,
            adopting: false,
            drawn_cluster_id,
            given_cluster_id,
            open_count: 0,
            producer_id_high: (env.rng.next_u64() >> 33) as u32,
            stamp: None,
            machine_id: None,
            begun: false,
            purpose: 0,
        }
    }

    /// Who the directory is to others.
    pub(crate) fn identity(&self) -> u64 {
        self.adopted_id.unwrap_or(self.directory_id)
    }

    /// Never changes.
    pub(crate) fn cluster_id(&self) -> ClusterId {
        self.given_cluster_id.unwrap_or_else(|| ClusterId::of_bytes(self.drawn_cluster_id))
    }

    /// Makes it another one than that which it was copied from (META-4).
    pub(crate) fn adopt(&mut self, env: &Environment) {
        self.adopted_id = Some(env.rng.next_u64());
        self.adopting = true;
    }

    fn encode(&self) -> Vec<u8> {
        let mut copy = vec![0; COPY_BYTES];
        copy[..7].copy_from_slice(&MAGIC);
        copy[7] = FORMAT_VERSION;
        copy[8..16].copy_from_slice(&self.directory_id.to_be_bytes());
        copy[16..32].copy_from_slice(&self.drawn_cluster_id);
        copy[32..40].copy_from_slice(&self.open_count.to_be_bytes());
        copy[40..44].copy_from_slice(&self.producer_id_high.to_be_bytes());
        if let Some(stamp) = self.stamp {
            copy[44] = OWN_STAMP;
            copy[48..56].copy_from_slice(&stamp.inode.to_be_bytes());
            copy[56..64].copy_from_slice(&stamp.birth_ns.to_be_bytes());
        }
        if let Some(machine) = &self.machine_id {
            let bytes = &machine.as_bytes()[..machine.len().min(MACHINE_BYTES_MAX)];
            copy[45] = 1;
            copy[64..68].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
            copy[MACHINE_AT..MACHINE_AT + bytes.len()].copy_from_slice(bytes);
        }
        copy[46] = u8::from(self.begun);
        copy[PURPOSE_AT] = self.purpose;
        if let Some(id) = self.adopted_id {
            copy[FLAGS_AT] = ADOPTED | if self.adopting { ADOPTING } else { 0 };
            copy[ADOPTED_AT..ADOPTED_AT + 8].copy_from_slice(&id.to_be_bytes());
        }
        if let Some(given) = &self.given_cluster_id {
            copy[CLUSTER_AT..CLUSTER_AT + cluster_id::LENGTH].copy_from_slice(given.as_bytes());
        }
        let crc = crc32c::crc32c(&copy[..CRC_AT]);
        copy[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        copy.extend_from_within(..);
        copy
    }

    pub(crate) fn decode(copy: &[u8]) -> Option<Self> {
        let good = copy.get(..7)? == MAGIC
            && copy.get(7) == Some(&FORMAT_VERSION)
            && get_u32(copy, CRC_AT)? == crc32c::crc32c(copy.get(..CRC_AT)?);
        if !good {
            return None;
        }
        let stamp = FileStamp { inode: get_u64(copy, 48)?, birth_ns: get_u64(copy, 56)? };
        let machine_end = MACHINE_AT.checked_add(get_u32(copy, 64)? as usize)?;
        let flags = *copy.get(FLAGS_AT)?;
        let given = copy.get(CLUSTER_AT..CLUSTER_AT + cluster_id::LENGTH)?;
        let adopted_id = get_u64(copy, ADOPTED_AT)?;
        let machine = String::from_utf8(copy.get(MACHINE_AT..machine_end)?.to_vec()).ok()?;
        Some(Self {
            directory_id: get_u64(copy, 8)?,
            adopted_id: (flags & ADOPTED != 0).then_some(adopted_id),
            adopting: flags & ADOPTING != 0,
            drawn_cluster_id: copy.get(16..32)?.try_into().ok()?,
            // Zeros where none was given.
            given_cluster_id: str::from_utf8(given).ok().and_then(ClusterId::parse),
            open_count: get_u64(copy, 32)?,
            producer_id_high: get_u32(copy, 40)?,
            stamp: (copy.get(44) == Some(&OWN_STAMP)).then_some(stamp),
            machine_id: (copy.get(45) == Some(&1)).then_some(machine),
            begun: copy.get(46) == Some(&1),
            purpose: *copy.get(PURPOSE_AT)?,
        })
    }
}

pub(crate) fn path_of(directory: &Path) -> PathBuf {
    directory.join("meta")
}

/// What becomes the meta file.
pub(crate) fn temporary_of(directory: &Path) -> PathBuf {
    directory.join("meta.new")
}

/// Both copies, as they stand; `None` where there is no meta file yet.
fn read_copies(env: &Environment, directory: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    let path = path_of(directory);
    let failed = |source| OpenError::Io { action: "read", path: path.clone(), source };
    if !env.disk.exists(&path).map_err(failed)? {
        return Ok(None);
    }
    let file = env.disk.open_read_only(&path).map_err(failed)?;
    let mut bytes = vec![0; 2 * COPY_BYTES];
    match read_around(&*file, &mut bytes, 0) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(OpenError::MetaDamaged { path })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Where copies begin that do not verify.
pub(crate) fn damaged_copies(env: &Environment, directory: &Path) -> Result<Vec<u64>, OpenError> {
    let bytes = read_copies(env, directory)?.unwrap_or_default();
    let numbered = (0..).step_by(COPY_BYTES).zip(bytes.chunks(COPY_BYTES));
    Ok(numbered.filter(|(_, copy)| Meta::decode(copy).is_none()).map(|(at, _)| at).collect())
}

/// Says which copies do not verify, since the next [`write()`] makes them good.
pub(crate) fn tell_damaged_copies(env: &Environment, directory: &Path) -> Result<(), OpenError> {
    for at in damaged_copies(env, directory)? {
        let path = path_of(directory);
        let path = path.display();
        tracing::warn!(%path, at, "a copy of the identity is damaged; the other makes it good");
    }
    Ok(())
}

/// Reads the meta file; `None` where there is none yet.
pub(crate) fn read(env: &Environment, directory: &Path) -> Result<Option<Meta>, OpenError> {
    let path = path_of(directory);
    let Some(bytes) = read_copies(env, directory)? else { return Ok(None) };
    let (first, second) = bytes.split_at(COPY_BYTES);
    if let Some(meta) = Meta::decode(first).or_else(|| Meta::decode(second)) {
        return Ok(Some(meta));
    }
    // Both copies name the same unknown version: not damage, but a newer program's file.
    let version = |copy: &[u8]| (copy.get(..7) == Some(&MAGIC[..])).then(|| copy[7]);
    match (version(first), version(second)) {
        (Some(found), Some(other)) if found == other && found != FORMAT_VERSION => {
            Err(OpenError::UnknownVersion { path, found, known: FORMAT_VERSION })
        }
        _ => Err(OpenError::MetaDamaged { path }),
    }
}

/// Replaces the meta file; durable when it returns (META-1).
pub(crate) fn write(env: &Environment, directory: &Path, meta: &Meta) -> Result<(), OpenError> {
    let path = path_of(directory);
    let temporary = temporary_of(directory);
    let replace = || {
        if env.disk.exists(&temporary)? {
            env.disk.remove(&temporary)?;
        }
        let file = env.disk.create(&temporary)?;
        let meta = Meta { stamp: env.disk.stamp(&temporary)?, ..meta.clone() };
        file.write_all_at(&meta.encode(), 0)?;
        file.sync_data()?;
        env.disk.rename(&temporary, &path)?;
        env.disk.sync_dir(directory)
    };
    replace().map_err(|source| OpenError::Io { action: "write", path: path.clone(), source })
}

/// What tells a directory from the one that the log was made in (storage rule 16), in words; `None`
/// where it is the same, as far as that can be told. `mark_count` is the open that wrote the mark.
pub(crate) fn difference(
    meta: &Meta,
    stamp: Option<FileStamp>,
    machine_id: Option<&str>,
    mark_count: u64,
) -> Option<String> {
    let mut differences = Vec::new();
    if let (Some(known), Some(found)) = (meta.stamp, stamp) {
        if known.birth_ns != 0 && found.birth_ns != 0 {
            // Some file systems of containers number their files anew at each mount.
            if known.birth_ns != found.birth_ns {
                let (known, found) = (known.birth_ns, found.birth_ns);
                differences.push(format!("its meta file was made at {found} ns, not {known}"));
            }
        } else if known.inode != found.inode {
            let (known, found) = (known.inode, found.inode);
            differences.push(format!("its meta file has inode {found}, not {known}"));
        }
    }
    if let (Some(known), Some(found)) = (meta.machine_id.as_deref(), machine_id)
        && known != &found[..found.len().min(MACHINE_BYTES_MAX)]
    {
        differences.push(format!("this is machine {found}, not {known}"));
    }
    if mark_count > meta.open_count {
        let known = meta.open_count;
        differences.push(format!("its journal knows of {mark_count} starts, meta of {known}"));
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Meta {
        Meta {
            directory_id: 1,
            adopted_id: Some(8),
            adopting: true,
            drawn_cluster_id: [2; 16],
            given_cluster_id: ClusterId::parse("MkU3OEVBNTcwNTJENDM2Qk"),
            open_count: 3,
            producer_id_high: 4,
            stamp: Some(FileStamp { inode: 5, birth_ns: 6 }),
            machine_id: Some("seven".to_owned()),
            begun: true,
            purpose: 2,
        }
    }

    #[test]
    fn either_copy_is_enough() {
        // META-1
        let bytes = sample().encode();
        assert_eq!(Meta::decode(&bytes[..COPY_BYTES]), Some(sample()));
        assert_eq!(Meta::decode(&bytes[COPY_BYTES..]), Some(sample()));
        let mut damaged = bytes;
        damaged[33] ^= 1;
        assert_eq!(Meta::decode(&damaged[..COPY_BYTES]), None);
    }

    #[test]
    fn a_directory_of_before_adoption_is_who_it_was() {
        // META-4
        let old = Meta {
            adopted_id: None,
            adopting: false,
            given_cluster_id: None,
            purpose: 0,
            ..sample()
        };
        let bytes = old.encode();
        assert_eq!(
            (bytes[FLAGS_AT], &bytes[ADOPTED_AT..CRC_AT]),
            (0, &[0; CRC_AT - ADOPTED_AT][..])
        );
        let read = Meta::decode(&bytes[..COPY_BYTES]).unwrap();
        assert_eq!((read.identity(), read.adopting), (1, false));
        assert_eq!(read.cluster_id(), ClusterId::of_bytes([2; 16]));
        assert_eq!(sample().identity(), 8);
    }

    #[test]
    fn what_differs_is_named() {
        let meta = sample();
        let told = |stamp, machine, count| difference(&meta, stamp, machine, count);
        let stamp = |inode, birth_ns| Some(FileStamp { inode, birth_ns });
        let here = meta.stamp;
        assert_eq!(told(here, Some("seven"), 3), None);
        assert_eq!(told(None, None, 0), None, "what cannot be told is no difference");
        assert_eq!(told(stamp(9, 6), Some("seven"), 3), None, "inodes change where births do not");
        assert_eq!(told(stamp(5, 0), Some("seven"), 3), None, "the birth is not known any more");
        let cases = [
            (told(stamp(5, 7), Some("seven"), 3), "made at 7 ns, not 6"),
            (told(stamp(9, 0), Some("seven"), 3), "inode 9, not 5"),
            (told(here, Some("eight"), 3), "machine eight, not seven"),
            (told(here, Some("seven"), 4), "knows of 4 starts, meta of 3"),
            (told(stamp(5, 7), Some("eight"), 3), "not 6, this is machine eight"),
        ];
        for (told, expected) in cases {
            assert!(told.as_ref().is_some_and(|it| it.contains(expected)), "{told:?}: {expected}");
        }
    }
}
