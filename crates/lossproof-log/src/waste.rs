//! Which cold files are worth being written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::frame::BLOCK;
use crate::partition::{IndexEntry, View};
use crate::reader::{ReadSegment, Segments};
use crate::segment::DATA_AT;
use crate::shared::Shared;

/// An entry that covers so much is not worth being joined to others.
const COVERED_BYTES: u64 = 256 << 10;
/// Fewer files are not written together: it would not save much.
const TOGETHER_MIN: usize = 4;
/// They have no more bytes than so many times what makes a move due.
const TOGETHER_SHARES: u64 = 4;

/// Cold files of which less than half is still wanted, but for damaged ones (MOVE-3).
pub(crate) fn wasteful(shared: &Shared, view: &View, segments: &Segments) -> Vec<Arc<ReadSegment>> {
    let damaged = shared.damaged_colds();
    let live = by_file(view, |entry| u64::from(entry.blocks) * BLOCK);
    let is_wasteful = |cold: &Arc<ReadSegment>| {
        let key = cold.life.file_key();
        let live = live.get(&key).copied().unwrap_or(0);
        let is_half = |length: u64| live < length.saturating_sub(DATA_AT) / 2 || live == 0;
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
fn by_file(view: &View, amount: impl Fn(&IndexEntry) -> u64) -> BTreeMap<u32, u64> {
    let mut files = BTreeMap::new();
    for partition in view.partition_ids().into_iter().filter_map(|id| view.partition(id)) {
        for entry in partition.entries() {
            *files.entry(entry.segment).or_default() += amount(&entry);
        }
    }
    files
}
