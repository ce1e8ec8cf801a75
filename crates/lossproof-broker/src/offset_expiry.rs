//! Removal of committed offsets that nobody has needed for long.
//!
//! # Invariants
//!
//! - OFFSET-EXPIRY-1: an offset goes only when, for all of `offsets.retention.minutes`, it was not
//!   committed, and its group had no members, as far back as that is known; or, of a stable group
//!   of consumers, when it was not committed for so long and no member subscribes to its topic.
//! - OFFSET-EXPIRY-2: what cannot be read, or what an open transaction is about to change, stays.

use std::collections::BTreeSet;
use std::sync::Arc;

use lossproof_log::StateKind;
use lossproof_wire::ErrorCode;

use crate::broker::Broker;
use crate::group::{Inside, Phase, StoredGroup, stored};
use crate::offsets::{CommittedOffset, OffsetKey, UnreadableEntry, groups_of, stored_groups};
use crate::removal::{ClosedGroup, remove_offsets};

/// Looks at all groups once.
pub(crate) async fn run_once(broker: &Arc<Broker>, now_ms: i64) {
    let Some(retention) = broker.config.offsets_retention else { return };
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let before_ms = now_ms.saturating_sub(retention_ms);
    let groups = match old_groups(broker, before_ms) {
        Ok(groups) => groups,
        Err(error) => {
            tracing::error!(%error, "no offsets expire"); // OFFSET-EXPIRY-2.
            return;
        }
    };
    for group in groups {
        let name = group.clone();
        let choose = move |broker: &Broker, closed: ClosedGroup| {
            let expired = expired(broker, &name, closed, before_ms);
            let count = expired.len();
            Ok((expired, count))
        };
        match remove_offsets(broker, group.clone(), choose).await {
            Ok(0) | Err(ErrorCode::GROUP_ID_NOT_FOUND) => {}
            Ok(offsets) => tracing::info!(group, offsets, "committed offsets have expired"),
            // Somebody commits just now, mostly. Tried again by the next round.
            Err(error) => tracing::debug!(group, ?error, "offsets not expired"),
        }
    }
}

/// Groups with an offset that may have expired, and those that are kept without any.
fn old_groups(broker: &Broker, before_ms: i64) -> Result<BTreeSet<String>, UnreadableEntry> {
    let with_offsets = groups_of(&broker.log)?;
    let without = stored_groups(&broker.log)?.into_iter().map(|(group, _)| group);
    let mut groups: BTreeSet<String> =
        without.filter(|group| !with_offsets.contains(group)).collect();
    for (key, value) in broker.log.state(StateKind::Offsets) {
        if stored::is_key(&key) || CommittedOffset::decode(value)?.committed_at_ms > before_ms {
            continue;
        }
        groups.insert(OffsetKey::decode(key)?.group);
    }
    Ok(groups)
}

/// OFFSET-EXPIRY-1, of a group that nobody joins, and to which nobody commits, at the moment.
fn expired(broker: &Broker, group: &str, closed: ClosedGroup, before_ms: i64) -> Vec<OffsetKey> {
    let ClosedGroup { inside, keys } = closed;
    let subscribed = match inside {
        Inside::Unknown if is_long_empty(broker, group, before_ms) => BTreeSet::new(),
        Inside::Consumers(Some(topics)) if is_stable(broker, group) => topics,
        _ => return Vec::new(),
    };
    let catalog = broker.topics.catalog();
    let is_needed = |key: &OffsetKey| {
        catalog.by_id(key.topic_id).is_some_and(|topic| subscribed.contains(&topic.name))
    };
    let is_expired = |key: &OffsetKey| {
        // The transaction first: once it is not pending any more, its offset can be seen.
        let is_pending = broker.transactions.is_pending(key).unwrap_or(true);
        let value = broker.log.state_value(StateKind::Offsets, &key.encode());
        let committed = value.and_then(|value| CommittedOffset::decode(value).ok());
        let is_old = committed.is_some_and(|committed| committed.committed_at_ms <= before_ms);
        is_old && !is_pending && !is_needed(key)
    };
    keys.into_iter().filter(is_expired).collect()
}

/// A group of which nothing is kept had its last member before it had its offsets, never had one,
/// or was too large to be kept: then it may have had members until this start. Members are kept of
/// one whose end could not be written: it ends again after a restart.
fn is_long_empty(broker: &Broker, group: &str, before_ms: i64) -> bool {
    let Some(value) = broker.log.state_value(StateKind::Offsets, &stored::key_of(group)) else {
        return broker.started_at_ms <= before_ms;
    };
    match StoredGroup::decode(value) {
        Ok(StoredGroup::Empty { since_ms }) => since_ms <= before_ms,
        Ok(StoredGroup::Stable { .. }) | Err(_) => false,
    }
}

/// While a group rebalances, its members may be about to say what they subscribe to.
fn is_stable(broker: &Broker, group: &str) -> bool {
    let overview = broker.groups.overview(group).ok().flatten();
    overview.is_some_and(|overview| overview.phase == Phase::Stable)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use bytes::Bytes;
    use lossproof_env::{Environment, ManualClock, MemoryNet, SeededRng, SimDisk};
    use lossproof_log::Commit;

    use super::*;
    use crate::tests::become_member;
    use crate::topic_config::TopicConfig;
    use crate::topics::{NewTopic, TopicId};
    use crate::{BrokerConfig, Server, retention};

    const MINUTE: Duration = Duration::from_mins(1);
    const HOURS_MS: i64 = 7_200_000;

    struct World {
        broker: Arc<Broker>,
        clock: ManualClock,
    }

    impl World {
        async fn new() -> Self {
            Self::on(&SimDisk::new(), ManualClock::new(1_700_000_000_000)).await
        }

        async fn on(disk: &SimDisk, clock: ManualClock) -> Self {
            let env = Environment {
                disk: Arc::new(disk.clone()),
                clock: Arc::new(clock.clone()),
                rng: Arc::new(SeededRng::new(7)),
            };
            let listen = "127.0.0.1:9092".parse().expect("an address");
            let mut config = BrokerConfig::new(listen, "/data");
            config.groups.initial_rebalance_delay = Duration::ZERO;
            config.set("offsets.retention.minutes", "10").expect("a setting");
            let server = Server::start(&env, &MemoryNet::new(), config).await;
            Self { broker: Arc::clone(&server.expect("the broker starts").broker), clock }
        }

        async fn topic(&self, name: &str) -> TopicId {
            let config = TopicConfig::default();
            let new = NewTopic { name: name.into(), partitions: 1, config };
            self.broker.create_topic(new).await.expect("a topic").id
        }

        fn entry(&self, group: &str, topic_id: TopicId) -> (Bytes, Bytes) {
            let key = OffsetKey { group: group.into(), topic_id, partition: 0 };
            let value = CommittedOffset {
                order: 0,
                offset: 0,
                leader_epoch: 0,
                committed_at_ms: self.broker.env.clock.wall_ms(),
                metadata: String::new(),
            };
            (key.encode(), value.encode())
        }

        async fn set(&self, key: Bytes, value: Bytes) {
            let commit = Commit::state(StateKind::Offsets, key, Some(value));
            self.broker.log.commit(commit).await.expect("durable");
        }

        async fn commit(&self, group: &str, topic_id: TopicId) {
            let (key, value) = self.entry(group, topic_id);
            self.set(key, value).await;
        }

        async fn left(&self, group: &str) {
            let since_ms = self.broker.env.clock.wall_ms();
            let value = StoredGroup::Empty { since_ms }.encode();
            self.set(stored::key_of(group), value).await;
        }

        /// Becomes the one member of `group`, subscribed to topic `t`.
        async fn join(&self, group: &str) {
            let subscription = Bytes::from_static(b"\0\x03\0\0\0\x01\0\x01t");
            become_member(&self.broker, group, subscription).await;
        }

        async fn after(&self, time: Duration) -> Vec<String> {
            self.clock.advance(time);
            self.now().await
        }

        /// The groups with offsets after another round, once for each offset.
        async fn now(&self) -> Vec<String> {
            retention::run_once(&self.broker).await;
            let keys = self.broker.log.state(StateKind::Offsets).into_iter();
            let keys = keys.filter_map(|(key, _)| OffsetKey::decode(key).ok());
            let mut groups: Vec<String> = keys.map(|key| key.group).collect();
            groups.sort_unstable();
            groups
        }
    }

    /// RETENTION-2.
    #[tokio::test]
    async fn by_a_clock_that_has_jumped_nothing_is_old() {
        let world = World::new().await;
        let t = world.topic("t").await;
        world.commit("g", t).await;
        world.clock.jump_wall_ms(HOURS_MS);
        assert_eq!(world.now().await, ["g"]);
        assert_eq!(world.after(59 * MINUTE).await, ["g"]);
        assert_eq!(world.after(MINUTE).await, [""; 0], "it has run on for an hour");
        world.broker.log.close().await.expect("the log closes");
    }

    /// OFFSET-EXPIRY-1, OFFSET-EXPIRY-2.
    #[tokio::test]
    async fn offsets_expire_that_nobody_needs_and_no_others() {
        let world = World::new().await;
        let storing = Arc::clone(&world.broker);
        let storing = tokio::spawn(async move { storing.groups.store().await });
        let (t, u) = (world.topic("t").await, world.topic("u").await);
        world.join("busy").await;
        for (group, topic) in
            [("busy", t), ("busy", u), ("left", t), ("open", t), ("simple", t), ("simple", u)]
        {
            world.commit(group, topic).await;
        }
        let transactions = &world.broker.transactions;
        let me = transactions.init(&world.broker.producer_ids, "me", 60_000, None).await;
        let me = me.expect("an identity");
        transactions.add_group("me", me, "open").await.expect("added");
        let offset = vec![world.entry("open", t)];
        transactions.add_offsets("me", me, "open", offset, async { Ok(()) }).await.expect("added");
        world.left("left without offsets").await;

        world.clock.advance(5 * MINUTE);
        world.left("left").await;
        world.commit("simple", u).await;
        let all = ["busy", "busy", "left", "open", "simple", "simple"];
        assert_eq!(world.after(Duration::from_millis(299_999)).await, all);
        let kept = stored_groups(&world.broker.log).expect("all can be read").into_iter();
        let names: Vec<String> = kept.map(|(name, _)| name).collect();
        assert_eq!(names, ["busy", "left"]);
        assert_eq!(
            world.after(Duration::from_millis(1)).await,
            ["busy", "left", "open", "simple"],
            "what is subscribed to, was left later, is in a transaction, was committed again"
        );
        assert_eq!(world.after(5 * MINUTE).await, ["busy", "open"]);
        let kept = stored_groups(&world.broker.log).expect("all can be read");
        assert_eq!(kept.len(), 1, "the entry of a group goes with its last offset");
        storing.abort();
        world.broker.log.close().await.expect("the log closes");
    }

    /// OFFSET-EXPIRY-1: nothing was kept of its members, who may come back just now.
    #[tokio::test]
    async fn a_group_that_was_too_large_to_be_kept_has_its_time_after_a_start() {
        let disk = SimDisk::new();
        let clock = ManualClock::new(1_700_000_000_000);
        let world = World::on(&disk, clock.clone()).await;
        let t = world.topic("t").await;
        world.commit("too large", t).await;
        clock.advance(20 * MINUTE);
        world.broker.log.close().await.expect("the log closes");
        let disk = disk.killed();
        let world = World::on(&disk, clock).await;
        assert_eq!(world.after(Duration::from_millis(599_999)).await, ["too large"]);
        assert_eq!(world.after(Duration::from_millis(1)).await, [""; 0]);
        world.broker.log.close().await.expect("the log closes");
        // RETENTION-2: by a clock that is behind at first.
        let world = World::on(&disk.killed(), ManualClock::new(1_000)).await;
        assert!(world.broker.started_at_ms >= 1_700_000_000_000);
        world.broker.log.close().await.expect("the log closes");
    }

    /// REMOVAL-1, GATES-1: somebody may be about to commit what was judged.
    #[tokio::test]
    async fn nothing_expires_while_somebody_commits() {
        let world = World::new().await;
        let t = world.topic("t").await;
        world.commit("g", t).await;
        let entered = world.broker.offset_gates.enter("g").await;
        assert_eq!(world.after(10 * MINUTE).await, ["g"]);
        drop(entered);
        assert_eq!(world.now().await, [""; 0]);
        world.broker.log.close().await.expect("the log closes");
    }
}
