//! Keyed entries: the last value of each key, in memory, replayed from the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};

use bytes::Bytes;

use crate::commit::StateKind;

#[derive(Debug, Default)]
pub(crate) struct StateTable {
    kinds: [BTreeMap<Bytes, Bytes>; StateKind::ALL.len()],
    /// Kinds of which an entry was lost to damage: what is missing cannot be told.
    damaged: BTreeSet<usize>,
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

    pub(crate) fn note_damage(&mut self, kind: StateKind) {
        self.damaged.insert(slot(kind));
    }

    /// What is missing is given up: what is there counts.
    pub(crate) fn accept(&mut self, kind: StateKind) {
        self.damaged.remove(&slot(kind));
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
        self.damaged.contains(&slot(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
