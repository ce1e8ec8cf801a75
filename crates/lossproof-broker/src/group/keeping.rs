//! Writes groups to the journal, in the order of their changes.

use std::collections::HashMap;

use bytes::Bytes;
use lossproof_log::{Commit, CommitError, Log, Pending, StateChange, StateKind};

use super::state::GroupSettings;
use super::stored::{self, StoredGroup};
use super::storing::Unstored;
use crate::offsets::{has_offsets, stored_groups};

/// Knows how much the groups take of the journal.
#[derive(Debug)]
pub(super) struct Keeper {
    settings: GroupSettings,
    /// Of groups with members, by the keys of their entries.
    bytes: HashMap<Bytes, usize>,
    all_bytes: usize,
}

impl Keeper {
    pub(super) fn new(log: &Log, settings: GroupSettings) -> Self {
        let stored = stored_groups(log).unwrap_or_default().into_iter();
        let stable = stored.filter(|(_, group)| matches!(group, StoredGroup::Stable { .. }));
        let bytes: HashMap<Bytes, usize> =
            stable.map(|(name, group)| (stored::key_of(&name), group.encode().len())).collect();
        Self { settings, all_bytes: bytes.values().sum(), bytes }
    }

    /// Returns when all of it is durable, or refused; with whether it is.
    pub(super) async fn store(
        &mut self,
        log: &Log,
        unstored: Vec<Unstored>,
    ) -> Vec<(Unstored, bool)> {
        let mut queued: Vec<(Unstored, Result<Option<Pending>, CommitError>)> = Vec::new();
        for unstored in unstored {
            let change = self.change(log, &unstored);
            let pending = match change {
                Some(change) => {
                    let commit = Commit { changes: vec![change], ..Commit::default() };
                    log.enqueue(commit).await.map(Some)
                }
                None => Ok(None),
            };
            queued.push((unstored, pending));
        }
        let mut done = Vec::with_capacity(queued.len());
        for (unstored, pending) in queued {
            let stored = match pending {
                Ok(Some(pending)) => pending.await.map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = &stored {
                tracing::warn!(group = unstored.group, cause = %error.cause, "group not stored");
            }
            done.push((unstored, stored.is_ok()));
        }
        done
    }

    /// What to write; nothing for a group that has left nothing.
    fn change(&mut self, log: &Log, unstored: &Unstored) -> Option<StateChange> {
        let key = stored::key_of(&unstored.group);
        let value = match &unstored.value {
            Some(group) => Some(group.encode()).filter(|value| self.has_room(&key, value)),
            // From here on the time runs after which its offsets expire.
            None if has_offsets(log, &unstored.group) == Ok(true) => {
                Some(StoredGroup::Empty { since_ms: log.stamp_ms() }.encode())
            }
            None => None,
        };
        if value.is_none() && unstored.value.is_some() {
            tracing::warn!(
                group = unstored.group,
                max = self.settings.stored_bytes_max,
                all_max = self.settings.all_stored_bytes_max,
                "the group is too large to be kept: after a restart its members join again"
            );
        }
        let kept = value.as_ref().filter(|_| unstored.value.is_some());
        self.note(&key, kept.map_or(0, Bytes::len));
        let is_known = log.state_value(StateKind::Offsets, &key).is_some();
        let change = StateChange { kind: StateKind::Offsets, key, value };
        (change.value.is_some() || is_known).then_some(change)
    }

    fn has_room(&self, key: &Bytes, value: &Bytes) -> bool {
        let others = self.all_bytes - self.bytes.get(key).copied().unwrap_or_default();
        value.len() <= self.settings.stored_bytes_max
            && others.saturating_add(value.len()) <= self.settings.all_stored_bytes_max
    }

    fn note(&mut self, key: &Bytes, bytes: usize) {
        let old =
            if bytes == 0 { self.bytes.remove(key) } else { self.bytes.insert(key.clone(), bytes) };
        self.all_bytes = self.all_bytes + bytes - old.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};
    use lossproof_log::LogConfig;

    use super::*;
    use crate::group::ClientName;
    use crate::offsets::{CommittedOffset, OffsetKey};
    use crate::topics::TopicId;

    fn group(name: &str, version: u64, value: Option<StoredGroup>) -> Unstored {
        Unstored { group: name.into(), version, value }
    }

    fn with_assignment(bytes: usize) -> StoredGroup {
        let member = crate::group::StoredMember {
            id: "a".into(),
            instance: None,
            client: ClientName::default(),
            session_timeout: core::time::Duration::from_secs(45),
            rebalance_timeout: core::time::Duration::from_secs(45),
            protocols: vec![],
            assignment: vec![7; bytes].into(),
        };
        StoredGroup::Stable {
            generation: 1,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            leader: "a".into(),
            members: vec![member],
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_goes_with_the_last_member_but_for_when_that_was() {
        let clock = ManualClock::new(1_700_000_000_000);
        let env = Environment {
            disk: Arc::new(SimDisk::new()),
            clock: Arc::new(clock.clone()),
            rng: Arc::new(SeededRng::new(7)),
        };
        let (log, _) = Log::open(&env, Path::new("/data"), LogConfig::default()).expect("a log");
        let settings = GroupSettings {
            stored_bytes_max: 1_000,
            all_stored_bytes_max: 1_500,
            ..GroupSettings::default()
        };
        let mut keeper = Keeper::new(&log, settings.clone());
        let kept = |name: &str| {
            let value = log.state_value(StateKind::Offsets, &stored::key_of(name))?;
            Some(StoredGroup::decode(value).expect("an entry of a group"))
        };
        let mut store = async |unstored: Vec<Unstored>| {
            let done = keeper.store(&log, unstored).await;
            assert!(done.iter().all(|(_, succeeded)| *succeeded), "it works, kept or not");
        };
        let (small, large) = (with_assignment(500), with_assignment(1_000));
        store(vec![group("h", 1, Some(large.clone()))]).await;
        assert_eq!(kept("h"), None, "too large, though nobody else is there");
        store(vec![group("g", 1, Some(small.clone())), group("h", 2, Some(small.clone()))]).await;
        assert_eq!((kept("g"), kept("h")), (Some(small.clone()), Some(small.clone())));
        store(vec![group("i", 3, Some(small.clone())), group("h", 4, Some(large))]).await;
        assert_eq!((kept("i"), kept("h")), (None, None), "all together, and one alone");
        store(vec![group("i", 5, Some(small.clone()))]).await;
        assert_eq!(kept("i"), Some(small), "there is room again");

        let key = OffsetKey { group: "g".into(), topic_id: TopicId([1; 16]), partition: 0 };
        let offset = CommittedOffset {
            order: 0,
            offset: 0,
            leader_epoch: 0,
            committed_at_ms: 0,
            metadata: String::new(),
        };
        let commit = Commit::state(StateKind::Offsets, key.encode(), Some(offset.encode()));
        log.commit(commit).await.expect("durable");
        clock.jump_wall_ms(-1_600_000_000_000);
        store(vec![group("g", 6, None), group("i", 7, None), group("never", 8, None)]).await;
        let believed_ms = 1_700_000_000_000;
        assert_eq!(kept("g"), Some(StoredGroup::Empty { since_ms: believed_ms }), "RETENTION-2");
        assert_eq!((kept("i"), kept("never")), (None, None));
        assert_eq!(Keeper::new(&log, settings).all_bytes, 0);
        log.close().await.expect("the log closes");
    }
}
