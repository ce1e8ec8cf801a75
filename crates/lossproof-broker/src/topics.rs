//! The topics of a broker and their partitions. How they stand in the journal is drawn in
//! `docs/format/broker.md`.
//!
//! # Invariants
//!
//! - TOPIC-1: a topic is visible only after its creation is durable, with all of its partitions.
//! - TOPIC-2: partition ids are never reused: the next one is durable in the same frame as the
//!   partitions that took the ones before.
//! - TOPIC-3: a topic goes with its partitions in one frame, and as many of its offsets with it as
//!   may. The others go right after it, in frames of their own, or at the next start: nobody is
//!   given an offset of a topic id that is gone. Never before it: it may stay.
//! - TOPIC-4: one change at a time, and each to its end: a client that goes away in the middle does
//!   not leave the disk and the catalog apart.
//! - TOPIC-5: where metadata may be missing no topic is made: it could be the second of its name.
//! - TOPIC-6: the settings of a topic and the flush policy of each of its partitions become
//!   durable in one frame, and hold from then on; a start sets right what damage has set apart.
//! - TOPIC-7: a partition that is there belongs to its topic, also where damage took the entry that
//!   lists it: else the topic would grow by a second one of its number.

mod alteration;
mod deletion;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lossproof_env::Rng;
use lossproof_log::{
    Commit, CommitCause, FlushPolicy, Log, PartitionChange, PartitionId, StateChange, StateKind,
};

pub(crate) use self::deletion::may_lack_topics;
use crate::config::BrokerConfig;
use crate::offsets::UnreadableEntry;
use crate::settings::FLUSH;
use crate::topic_config::{ChangeError, TopicConfig, TopicSettings, flush_name};

/// Topics with these prefixes are fsynced before they are acknowledged, whatever is asked for.
const ALWAYS_COMMIT: [&str; 2] = ["_lossproof.", "__"];

const VERSION: u8 = 1;
const TOPIC_PREFIX: &[u8] = b"topic/";
const NEXT_PARTITION: &[u8] = b"next-partition-id";
/// As Apache Kafka: a name must do as a directory name with a suffix.
pub(crate) const NAME_CHARS_MAX: usize = 249;

/// Names a topic for ever, unlike its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicId(pub(crate) [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    /// By partition index.
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) flush: FlushPolicy,
    pub(crate) config: TopicConfig,
    /// What follows from `config` and the broker's defaults.
    pub(crate) settings: TopicSettings,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<PartitionId> {
        self.partitions.get(usize::try_from(index).ok()?).copied()
    }

    /// Topics of the project's own and of Kafka's coordinators.
    pub(crate) fn is_internal(&self) -> bool {
        self.name.starts_with("__")
    }
}

/// A topic to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) config: TopicConfig,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TopicError {
    #[error("topic {name} exists")]
    Exists { name: String },
    #[error("topic does not exist")]
    Unknown,
    #[error(
        "{name:?} is no topic name: 1 to 249 of the characters a-z A-Z 0-9 . _ -, and neither \
         \".\" nor \"..\""
    )]
    InvalidName { name: String },
    #[error("{found} partitions wanted; from 1 to {max} are possible")]
    InvalidPartitions { found: i32, max: usize },
    #[error("{found} partitions wanted of a topic that has {present}; it can grow to {max}")]
    NoGrowth { found: i32, present: usize, max: usize },
    #[error("a part of the metadata is damaged: this topic may exist and only not be known")]
    MetadataDamaged,
    #[error(
        "topic {name} has a partition behind one that is lost, and a new one would get its number: \
         delete the topic, which goes whole"
    )]
    PartitionsLost { name: String },
    #[error(
        "an open transaction holds an offset of a partition that topic {name} has lost, and would \
         skip what is new in one of its number: end the transaction first"
    )]
    OffsetPending { name: String },
    #[error(
        "a part of the group offsets or of the transactions is damaged, and may hold an offset of \
         the partitions to be made: give up what a check names first"
    )]
    OffsetsUnclear,
    #[error("{0}")]
    Config(#[from] ChangeError),
    #[error("topic {name} holds evidence: its {FLUSH} is always commit")]
    AlwaysCommit { name: String },
    #[error("{0}")]
    Log(CommitCause),
}

/// Why the topics could not be read at the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata entry {key:?} of the journal cannot be read: written by a newer version, or \
         damaged"
)]
pub struct TopicsUnreadable {
    key: String,
}

/// What clients know the partitions of a log as: topic and number. For who looks at a log without
/// serving it.
pub fn partition_names(log: &Log) -> Result<PartitionNames, TopicsUnreadable> {
    let (mut names, numbered) = (PartitionNames::new(), numbered(log));
    for (key, value) in log.state(StateKind::Metadata) {
        let Some(name) = key.strip_prefix(TOPIC_PREFIX) else { continue };
        let defaults = TopicConfig::default();
        let mut topic = decode(name, value, &defaults).map_err(|_| unreadable(&key))?;
        complete(&mut topic, &numbered);
        let partitions = topic.partitions.into_iter().zip(0..);
        names.extend(partitions.map(|(id, number)| (id, (topic.name.clone(), number))));
    }
    Ok(names)
}

/// All partitions of the log, by topic and number, where an entry that lists them may be missing.
fn numbered(log: &Log) -> HashMap<(TopicId, i32), PartitionId> {
    if !may_lack_topics(log) {
        return HashMap::new();
    }
    let numbered = |id: PartitionId| {
        let view = log.partition(id)?;
        Some(((TopicId(view.topic_id), view.index), id))
    };
    log.partitions().into_iter().filter_map(numbered).collect()
}

/// TOPIC-7: by those that its entry, an older one, does not list yet; how many.
fn complete(topic: &mut Topic, numbered: &HashMap<(TopicId, i32), PartitionId>) -> usize {
    let listed = topic.partitions.len();
    while let Some(id) = numbered.get(&(topic.id, topic.partitions.len() as i32)) {
        topic.partitions.push(*id);
    }
    topic.partitions.len() - listed
}

/// Topic and number of each partition.
pub type PartitionNames = BTreeMap<PartitionId, (String, i32)>;

fn unreadable(key: &[u8]) -> TopicsUnreadable {
    TopicsUnreadable { key: String::from_utf8_lossy(key).into_owned() }
}

/// All topics at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
    partitions: usize,
}

impl Catalog {
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub(crate) fn by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    fn insert(&mut self, topic: Arc<Topic>) {
        self.partitions += topic.partitions.len();
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }

    /// The same topic, with the same partitions.
    fn replace(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }

    fn remove(&mut self, topic: &Topic) {
        self.partitions -= topic.partitions.len();
        self.by_id.remove(&topic.id);
        self.by_name.remove(&topic.name);
    }
}

#[derive(Debug)]
pub(crate) struct Topics {
    log: Log,
    rng: Arc<dyn Rng>,
    flush_default: FlushPolicy,
    /// For topics that have no value of their own.
    defaults: TopicConfig,
    partitions_max: usize,
    /// Of one commit.
    offset_bytes_max: usize,
    catalog: RwLock<Arc<Catalog>>,
    /// The next partition id; its holder makes the one change under way.
    change: tokio::sync::Mutex<u64>,
}

impl Topics {
    pub(crate) fn open(
        log: Log,
        rng: Arc<dyn Rng>,
        config: &BrokerConfig,
    ) -> Result<Self, TopicsUnreadable> {
        let defaults = config.topic_defaults();
        let mut catalog = Catalog::default();
        let mut next = log.unused_partition_id().0.max(1);
        let numbered = numbered(&log);
        for (key, value) in log.state(StateKind::Metadata) {
            let unreadable = |_| unreadable(&key);
            if let Some(name) = key.strip_prefix(TOPIC_PREFIX) {
                let mut topic = decode(name, value, &defaults).map_err(unreadable)?;
                let taken_up = complete(&mut topic, &numbered);
                if taken_up > 0 {
                    tracing::warn!(topic = %topic.name, partitions = taken_up,
                        "the entry of a growth is lost: what it made is taken up");
                }
                report_missing_partitions(&log, &topic);
                warn_of_unsafe_policy(&topic);
                catalog.insert(Arc::new(topic));
            } else if key == NEXT_PARTITION {
                let stored = value.clone().try_get_u64().map_err(|_| UnreadableEntry);
                next = next.max(stored.map_err(unreadable)?);
            }
        }
        let catalog = RwLock::new(Arc::new(catalog));
        let change = tokio::sync::Mutex::new(next);
        let (flush_default, partitions_max) = (config.flush, config.partitions_max);
        let offset_bytes_max = deletion::offset_bytes_max(config.log.segment_bytes);
        Ok(Self {
            log,
            rng,
            flush_default,
            defaults,
            partitions_max,
            offset_bytes_max,
            catalog,
            change,
        })
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn publish(&self, change: impl FnOnce(&mut Catalog)) {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut catalog));
    }

    /// Everything that [`Topics::create`] would find wrong before it writes.
    pub(crate) fn check(&self, new: &NewTopic) -> Result<(), TopicError> {
        check_name(&new.name)?;
        if self.log.state_is_damaged(StateKind::Metadata) {
            return Err(TopicError::MetadataDamaged); // TOPIC-5
        }
        check_evidence(&new.name, &new.config)?;
        let catalog = self.catalog();
        if catalog.by_name(&new.name).is_some() {
            return Err(TopicError::Exists { name: new.name.clone() });
        }
        let max = self.partitions_max.saturating_sub(catalog.partitions);
        match usize::try_from(new.partitions) {
            Ok(count) if (1..=max).contains(&count) => Ok(()),
            _ => Err(TopicError::InvalidPartitions { found: new.partitions, max }),
        }
    }

    /// The unsafe policies are for records that somebody chose to risk, never for the evidence.
    pub(crate) fn flush_policy(&self, name: &str, config: &TopicConfig) -> FlushPolicy {
        if is_always_commit(name) {
            return FlushPolicy::Commit;
        }
        config.flush().unwrap_or(self.flush_default)
    }

    /// Makes a topic and returns it once it is durable (TOPIC-1).
    pub(crate) async fn create(&self, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
        let mut next = self.change.lock().await; // TOPIC-4
        self.check(&new)?;
        let first = *next;
        let after = first + u64::from(new.partitions.unsigned_abs());
        let topic = Topic {
            id: self.fresh_id(),
            partitions: (first..after).map(PartitionId).collect(),
            flush: self.flush_policy(&new.name, &new.config),
            settings: TopicSettings::of(&new.config, &self.defaults),
            name: new.name,
            config: new.config,
        };
        // Used up even if the commit fails: it may have reached the disk (TOPIC-2).
        *next = after;
        self.commit(creation(&topic, 0, after)).await?;
        let topic = Arc::new(topic);
        self.publish(|catalog| catalog.insert(Arc::clone(&topic)));
        drop(next);
        tracing::info!(topic = %topic.name, id = %topic.id, partitions = topic.partitions.len(),
            "topic created");
        warn_of_unsafe_policy(&topic);
        Ok(topic)
    }

    /// Everything that [`Topics::grow`] would find wrong before it writes.
    pub(crate) fn check_growth(&self, name: &str, count: i32) -> Result<Arc<Topic>, TopicError> {
        if self.log.state_is_damaged(StateKind::Metadata) {
            return Err(TopicError::MetadataDamaged); // TOPIC-5
        }
        let catalog = self.catalog();
        let topic = catalog.by_name(name).cloned().ok_or(TopicError::Unknown)?;
        let present = topic.partitions.len();
        let max = present + self.partitions_max.saturating_sub(catalog.partitions);
        match usize::try_from(count) {
            Ok(wanted) if wanted > present && wanted <= max => {}
            _ => return Err(TopicError::NoGrowth { found: count, present, max }),
        }
        self.check_numbers(&topic)?;
        Ok(topic)
    }

    /// Gives a topic partitions until it has `count`, and returns once they are durable (TOPIC-1).
    pub(crate) async fn grow(&self, name: &str, count: i32) -> Result<(), TopicError> {
        let mut next = self.change.lock().await; // TOPIC-4
        let topic = self.check_growth(name, count)?;
        let present = topic.partitions.len();
        let first = *next;
        let after = first + u64::from(count.unsigned_abs()) - present as u64;
        self.remove_offsets_beyond(&topic).await?;
        let mut grown = Topic::clone(&topic);
        grown.partitions.extend((first..after).map(PartitionId));
        *next = after; // TOPIC-2
        self.commit(creation(&grown, present, after)).await?;
        self.publish(|catalog| {
            catalog.remove(&topic);
            catalog.insert(Arc::new(grown));
        });
        drop(next);
        tracing::info!(topic = %topic.name, id = %topic.id, partitions = count, "topic has grown");
        Ok(())
    }

    async fn commit(&self, commit: Commit) -> Result<(), TopicError> {
        let pending = self.log.enqueue(commit).await;
        let pending = pending.map_err(|error| TopicError::Log(error.cause))?;
        pending.await.map(|_| ()).map_err(|error| TopicError::Log(error.cause))
    }

    /// Random and not zero, which means "no topic id" in the protocol.
    fn fresh_id(&self) -> TopicId {
        let [high, low] = [self.rng.next_u64() | 1, self.rng.next_u64()];
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        TopicId(id)
    }
}

/// It stays with the topic, whatever the broker is told at a later start.
fn warn_of_unsafe_policy(topic: &Topic) {
    if topic.flush != FlushPolicy::Commit {
        tracing::warn!(
            "UNSAFE: topic {} has {FLUSH}={}: a power cut loses acknowledged \
            messages of it",
            topic.name,
            flush_name(topic.flush)
        );
    }
}

fn report_missing_partitions(log: &Log, topic: &Topic) {
    for (index, id) in topic.partitions.iter().enumerate() {
        if log.partition(*id).is_none() {
            tracing::error!(topic = %topic.name, partition = index, %id,
                "partition is not in the journal: it is offline");
        }
    }
}

fn is_always_commit(name: &str) -> bool {
    ALWAYS_COMMIT.iter().any(|prefix| name.starts_with(prefix))
}

/// Evidence is not given a policy that would not hold.
fn check_evidence(name: &str, config: &TopicConfig) -> Result<(), TopicError> {
    let is_unsafe = config.flush().is_some_and(|flush| flush != FlushPolicy::Commit);
    if is_unsafe && is_always_commit(name) {
        return Err(TopicError::AlwaysCommit { name: name.to_owned() });
    }
    Ok(())
}

pub(crate) fn check_name(name: &str) -> Result<(), TopicError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len());
    if fits && name.bytes().all(allowed) && name != "." && name != ".." {
        Ok(())
    } else {
        let name = name.chars().take(NAME_CHARS_MAX).collect();
        Err(TopicError::InvalidName { name })
    }
}

fn topic_key(name: &str) -> Bytes {
    [TOPIC_PREFIX, name.as_bytes()].concat().into()
}

fn remove(kind: StateKind, key: Bytes) -> StateChange {
    StateChange { kind, key, value: None }
}

/// Writes a topic down, and makes its partitions from the index `first_new` on.
fn creation(topic: &Topic, first_new: usize, next_partition: u64) -> Commit {
    let partitions = (0..).zip(&topic.partitions).skip(first_new).map(|(index, id)| {
        PartitionChange::Create { id: *id, topic_id: topic.id.0, index, flush: topic.flush }
    });
    let set = |key: Bytes, value: Bytes| StateChange {
        kind: StateKind::Metadata,
        key,
        value: Some(value),
    };
    let next = Bytes::copy_from_slice(&next_partition.to_be_bytes());
    Commit {
        partitions: partitions.collect(),
        changes: vec![
            set(topic_key(&topic.name), encode(topic)),
            set(Bytes::from_static(NEXT_PARTITION), next),
        ],
        ..Commit::default()
    }
}

fn encode(topic: &Topic) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    out.put_slice(&topic.id.0);
    out.put_u8(match topic.flush {
        FlushPolicy::Commit => 0,
        FlushPolicy::UnsafeEverySecond => 1,
        FlushPolicy::UnsafePageCache => 2,
    });
    out.put_u32(topic.partitions.len() as u32);
    topic.partitions.iter().for_each(|id| out.put_u64(id.0));
    out.put_u32(topic.config.entries().len() as u32);
    for text in topic.config.entries().iter().flat_map(|(name, value)| [name, value]) {
        out.put_u32(text.len() as u32);
        out.put_slice(text.as_bytes());
    }
    out.freeze()
}

fn decode(name: &[u8], mut bytes: Bytes, defaults: &TopicConfig) -> Result<Topic, UnreadableEntry> {
    let wrong = |_| UnreadableEntry;
    if bytes.try_get_u8().map_err(wrong)? != VERSION {
        return Err(UnreadableEntry);
    }
    let mut id = [0; 16];
    bytes.try_copy_to_slice(&mut id).map_err(wrong)?;
    let flush = match bytes.try_get_u8().map_err(wrong)? {
        0 => FlushPolicy::Commit,
        1 => FlushPolicy::UnsafeEverySecond,
        2 => FlushPolicy::UnsafePageCache,
        _ => return Err(UnreadableEntry),
    };
    // Nothing is allocated by these counts: each entry needs bytes that must be there.
    let mut partitions = Vec::new();
    for _ in 0..bytes.try_get_u32().map_err(wrong)? {
        partitions.push(PartitionId(bytes.try_get_u64().map_err(wrong)?));
    }
    let mut entries = BTreeMap::new();
    for _ in 0..bytes.try_get_u32().map_err(wrong)? {
        let key = decode_text(&mut bytes)?;
        entries.insert(key, decode_text(&mut bytes)?);
    }
    let name = String::from_utf8(name.to_vec()).map_err(|_| UnreadableEntry)?;
    let config = TopicConfig::from_entries(entries);
    let settings = TopicSettings::of(&config, defaults);
    Ok(Topic { name, id: TopicId(id), partitions, flush, config, settings })
}

fn decode_text(bytes: &mut Bytes) -> Result<String, UnreadableEntry> {
    let length = bytes.try_get_u32().map_err(|_| UnreadableEntry)? as usize;
    if length > bytes.len() {
        return Err(UnreadableEntry);
    }
    String::from_utf8(bytes.split_to(length).to_vec()).map_err(|_| UnreadableEntry)
}
