//! Which cold files are worth being written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::frame::{BLOCK, ENTRY_BYTES};
use crate::partition::{IndexEntry, View};
use crate::reader::{ReadSegment, Segments};
use crate::segment::DATA_AT;
use crate::shared::Shared;

/// The header of a batch.
const BATCH_BYTES_MIN: u64 = 61;
/// An entry that covers so much is not worth being joined to others.
const COVERED_BYTES: u64 = 256 << 10;
/// Fewer files are not written together: it would not save much.
const TOGETHER_MIN: usize = 4;
/// They have no more bytes than so many times what makes a move due.
const TOGETHER_SHARES: u64 = 4;

/// What a copy of the batches of an entry takes at most, but for padding; not much more, since a
/// file that is written anew must not be wasteful again. How many batches they are is not known:
/// no more than there are offsets, nor than have room.
fn copy_bytes(entry: &IndexEntry) -> u64 {
    let bytes = u64::from(entry.bytes);
    let batches = (u64::from(entry.span) + 1).min(bytes / BATCH_BYTES_MIN);
    let in_directories = batches * 2 * ENTRY_BYTES as u64;
    (bytes + in_directories).min(u64::from(entry.blocks) * BLOCK)
}

/// Cold files of which less than half is still wanted, but for damaged ones (MOVE-3).
pub(crate) fn wasteful(shared: &Shared, view: &View, segments: &Segments) -> Vec<Arc<ReadSegment>> {
    let damaged = shared.damaged_colds();
    let live = by_file(view, copy_bytes);
    let is_wasteful = |cold: &Arc<ReadSegment>| {
        let key = cold.life.file_key();
        let live = live.get(&key).copied().unwrap_or(0);
        // Beside the headers and the padding of the last frame.
        let is_half = |length: u64| live < length.saturating_sub(DATA_AT + BLOCK) / 2 || live == 0;
        !damaged.contains(&key) && cold.file.len().is_ok_and(is_half)
    };
    segments.cold().into_iter().filter(is_wasteful).collect()
}

/// Cold files that are worth being written together while the index is long, since an entry covers
/// no more than its partition's part of one file: the smallest of those whose entries cover little.
pub(crate) fn scattered(
    shared: &Shared,
    view: &View,
    segments: &Segments,
) -> Vec<Arc<ReadSegment>> {
    let damaged = shared.damaged_colds();
    let entries = by_file(view, |_| 1);
    let mut small: Vec<(u64, Arc<ReadSegment>)> = Vec::new();
    for cold in segments.cold() {
        let key = cold.life.file_key();
        let (Some(count), Ok(length)) = (entries.get(&key), cold.file.len()) else { continue };
        if !damaged.contains(&key) && length < count.saturating_mul(COVERED_BYTES) {
            small.push((length, cold));
        }
    }
    small.sort_by_key(|(length, _)| *length);
    let most = shared.config.checkpoint_bytes.saturating_mul(TOGETHER_SHARES);
    let mut bytes = 0;
    let fits = small.into_iter().take_while(|(length, _)| {
        bytes += length;
        bytes <= most
    });
    let fits: Vec<_> = fits.map(|(_, cold)| cold).collect();
    if fits.len() < TOGETHER_MIN { Vec::new() } else { fits }
}

/// The files that any index entry names.
pub(crate) fn named_files(view: &View) -> BTreeSet<u32> {
    by_file(view, |_| 1).into_keys().collect()
}

/// What the index entries of each file come to.
pub(crate) fn by_file(view: &View, amount: impl Fn(&IndexEntry) -> u64) -> BTreeMap<u32, u64> {
    let mut files = BTreeMap::new();
    for partition in view.partition_ids().into_iter().filter_map(|id| view.partition(id)) {
        for entry in partition.entries() {
            *files.entry(entry.segment).or_default() += amount(&entry);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use lossproof_env::SimDisk;

    use super::*;
    use crate::testing::{append, create, open};
    use crate::{Commit, LogConfig, PartitionChange, PartitionId};

    const GOES: PartitionId = PartitionId(1);
    const STAYS: PartitionId = PartitionId(2);

    /// The traps: a file of which all is wanted is written anew for ever; the frames that two
    /// partitions share count for both, and nothing of the one that was deleted comes back.
    #[test]
    fn a_file_is_wasteful_for_what_is_not_wanted_however_small_or_large_the_batches_are() {
        for bytes in [0, 10, 100, 1_000, 10_000] {
            let (log, mut stepper) = open(&SimDisk::new(), LogConfig::small());
            for id in [GOES, STAYS] {
                stepper.submit(vec![create(id)]).remove(0).unwrap();
            }
            let shared = log.shared().clone();
            while shared.segments.journal_len() < 3 {
                for id in [GOES, GOES, GOES, STAYS] {
                    let append = append(id, 1, &vec![b'x'; bytes]);
                    stepper.submit(vec![append]).remove(0).unwrap();
                }
            }
            stepper.checkpoint().unwrap();
            let count = || wasteful(&shared, &shared.view, &shared.segments).len();
            let colds = shared.segments.cold().len();
            assert_eq!(count(), 0, "{bytes}: all of {colds} files is wanted");
            let deletion = Commit::partition(PartitionChange::Delete { id: GOES });
            stepper.submit(vec![deletion]).remove(0).unwrap();
            assert_eq!(count(), colds, "{bytes}");
            stepper.checkpoint().unwrap();
            assert_eq!((count(), shared.segments.cold().len()), (0, 1), "{bytes}");
        }
    }
}
