//! Keyed entries: the last value of each key, in memory, replayed from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::commit::StateKind;
use crate::config::QUEUE_BYTES_MAX;
use crate::frame::ENTRY_BYTES;

/// Entries of frames that follow each other in the journal, each by the number of its frame and its
/// own within that: what cannot be read is known by where it stood.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Places {
    first: u64,
    last: u64,
}

/// A frame has fewer entries: the queue that it is made of takes fewer bytes.
const ENTRY_BITS: u32 = 22;
const _: () = assert!(QUEUE_BYTES_MAX / ENTRY_BYTES < 1 << ENTRY_BITS);

impl Places {
    pub(crate) fn of_entry(frame: u64, entry: u64) -> Self {
        let place = (frame << ENTRY_BITS) | entry;
        Self { first: place, last: place }
    }

    /// All that these frames may have held.
    pub(crate) fn of_frames(first: u64, last: u64) -> Self {
        Self { first: first << ENTRY_BITS, last: ((last + 1) << ENTRY_BITS) - 1 }
    }

    pub(crate) fn put_all(all: &[Self], out: &mut BytesMut) {
        for places in all {
            out.put_u64(places.first);
            out.put_u64(places.last);
        }
    }

    pub(crate) fn get_all(mut from: &[u8]) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        while !from.is_empty() {
            let (first, last) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
            all.push(Self { first, last });
        }
        Some(all)
    }

    /// What is left of it.
    fn without(self, cut: Self) -> impl Iterator<Item = Self> {
        let is_apart = cut.last < self.first || cut.first > self.last;
        let before = (cut.first > self.first)
            .then(|| Self { first: self.first, last: self.last.min(cut.first - 1) });
        let behind = (cut.last < self.last)
            .then(|| Self { first: self.first.max(cut.last + 1), last: self.last });
        let parts = if is_apart { [Some(self), None] } else { [before, behind] };
        parts.into_iter().flatten()
    }
}

#[derive(Debug, Default)]
pub(crate) struct StateTable {
    kinds: [BTreeMap<Bytes, Bytes>; StateKind::ALL.len()],
    /// Where entries of each kind were lost to damage, as far as they are not given up: what they
    /// said cannot be told.
    missing: [BTreeSet<Places>; StateKind::ALL.len()],
    /// Kinds of which a person has given up what was missing, once or more often.
    accepted: BTreeSet<usize>,
    bytes: usize,
}

fn slot(kind: StateKind) -> usize {
    match kind {
        StateKind::Metadata => 0,
        StateKind::Offsets => 1,
        StateKind::InputPosition => 2,
        StateKind::Cursor => 3,
        StateKind::Receipt => 4,
        StateKind::Transactions => 5,
    }
}

impl StateTable {
    /// Keys and values are copied, so that none keeps a whole frame or request in memory.
    pub(crate) fn apply(&mut self, kind: StateKind, key: &Bytes, value: Option<&Bytes>) {
        let table = &mut self.kinds[slot(kind)];
        let old = match value {
            Some(value) => {
                self.bytes += key.len() + value.len();
                table.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
            }
            None => table.remove(key),
        };
        if let Some(old) = old {
            self.bytes -= key.len() + old.len();
        }
    }

    pub(crate) fn get(&self, kind: StateKind, key: &[u8]) -> Option<Bytes> {
        self.kinds[slot(kind)].get(key).cloned()
    }

    pub(crate) fn all(&self, kind: StateKind) -> Vec<(Bytes, Bytes)> {
        let table = &self.kinds[slot(kind)];
        table.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Those whose keys begin with `prefix`.
    pub(crate) fn with_prefix(&self, kind: StateKind, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let from = self.kinds[slot(kind)].range::<[u8], _>((Included(prefix), Unbounded));
        let found = from.take_while(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn note_damage(&mut self, kind: StateKind, places: Places) {
        self.missing[slot(kind)].insert(places);
    }

    pub(crate) fn missing(&self, kind: StateKind) -> Vec<Places> {
        self.missing[slot(kind)].iter().copied().collect()
    }

    /// What was known to be missing is given up. Where nothing else is, what is there counts
    /// (ACCEPT-5).
    pub(crate) fn accept(&mut self, kind: StateKind, given_up: &[Places]) {
        let missing = &mut self.missing[slot(kind)];
        for cut in given_up {
            let left = std::mem::take(missing).into_iter().flat_map(|it| it.without(*cut));
            *missing = left.collect();
        }
        self.accepted.insert(slot(kind));
    }

    /// That it was given up, without what is missing now.
    pub(crate) fn note_accepted(&mut self, kind: StateKind) {
        self.accepted.insert(slot(kind));
    }

    pub(crate) fn accepted_kinds(&self) -> Vec<StateKind> {
        StateKind::ALL.into_iter().filter(|kind| self.accepted.contains(&slot(*kind))).collect()
    }

    pub(crate) fn damaged_kinds(&self) -> Vec<StateKind> {
        StateKind::ALL.into_iter().filter(|kind| self.is_damaged(*kind)).collect()
    }

    pub(crate) fn is_damaged(&self, kind: StateKind) -> bool {
        !self.missing[slot(kind)].is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_known_to_be_missing_is_given_up() {
        // ACCEPT-5
        let kind = StateKind::Offsets;
        let (early, late) = (Places::of_entry(3, 1), Places::of_frames(7, 9));
        let missing = |lost: &[Places], given_up: &[Places]| {
            let mut table = StateTable::default();
            for places in lost {
                table.note_damage(kind, *places);
            }
            table.accept(kind, given_up);
            assert_eq!(table.is_damaged(kind), !table.missing(kind).is_empty());
            table.missing(kind)
        };
        assert_eq!(missing(&[early, late], &[early, late]), []);
        assert_eq!(missing(&[early], &[early, late]), [], "some of it reads again");
        assert_eq!(missing(&[early, late], &[late]), [early]);
        assert_eq!(missing(&[Places::of_entry(3, 2)], &[early]), [Places::of_entry(3, 2)]);
        let inside = Places::of_frames(8, 8);
        let around = [Places::of_frames(7, 7), Places::of_frames(9, 9)];
        assert_eq!(missing(&[late], &[inside]), around);
        assert_eq!(missing(&[inside], &[late]), []);
        assert_eq!(missing(&[late], &around), [inside]);
        assert_eq!(missing(&[Places::of_frames(6, 8)], &[late]), [Places::of_frames(6, 6)]);
    }

    #[test]
    fn bytes_follow_what_is_kept() {
        let mut table = StateTable::default();
        let key = Bytes::from_static(b"k");
        table.apply(StateKind::Offsets, &key, Some(&Bytes::from_static(b"12")));
        table.apply(StateKind::Offsets, &key, Some(&Bytes::from_static(b"123")));
        assert_eq!(table.bytes(), 4);
        assert_eq!(table.get(StateKind::Offsets, b"k"), Some(Bytes::from_static(b"123")));
        assert_eq!(table.get(StateKind::Cursor, b"k"), None);
        table.apply(StateKind::Offsets, &key, None);
        assert_eq!((table.bytes(), table.all(StateKind::Offsets).len()), (0, 0));
    }
}
