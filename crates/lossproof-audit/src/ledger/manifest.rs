use std::collections::{BTreeMap, BTreeSet};

use super::Ledger;
use crate::identity::{Identity, RecordId};
use crate::verdict::Duplicate;

/// What a harness has handed to the producers, durably noted before it did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Manifest {
    pub entries: Vec<ManifestEntry>,
    names_seen: BTreeMap<String, BTreeSet<Identity>>,
}

/// One message that was handed in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManifestEntry {
    /// What the message is called in its own content.
    pub name: String,
    /// The identity it was acknowledged with; `None` where no acknowledgement came.
    pub id: Option<RecordId>,
}

impl Manifest {
    pub fn new(entries: Vec<ManifestEntry>) -> Self {
        Self { entries, names_seen: BTreeMap::new() }
    }

    /// Names without identity that no record in the log has.
    pub(super) fn unaccepted(&self) -> Vec<&str> {
        let unseen = |entry: &&ManifestEntry| {
            entry.id.is_none() && !self.names_seen.contains_key(&entry.name)
        };
        self.entries.iter().filter(unseen).map(|entry| entry.name.as_str()).collect()
    }

    /// Names that were handed in once, and have more than one identity in the log.
    pub(super) fn duplicates(&self) -> Vec<Duplicate> {
        let mut handed_in: BTreeMap<&str, u64> = BTreeMap::new();
        for entry in &self.entries {
            *handed_in.entry(&entry.name).or_default() += 1;
        }
        let once = |name: &str| handed_in.get(name) == Some(&1);
        let several = self.names_seen.iter().filter(|(name, ids)| ids.len() > 1 && once(name));
        let duplicate = |(name, ids): (&String, &BTreeSet<Identity>)| Duplicate {
            id: name.clone(),
            detail: format!("{} identities for one message", ids.len()),
        };
        several.map(duplicate).collect()
    }
}

impl Ledger {
    /// A record of the log has this name in its content. Only with a manifest, which is to be set
    /// before.
    pub fn observe_name(&mut self, name: &str, id: Identity) {
        if let Some(manifest) = &mut self.manifest {
            manifest.names_seen.entry(name.to_owned()).or_default().insert(id);
        }
    }
}
