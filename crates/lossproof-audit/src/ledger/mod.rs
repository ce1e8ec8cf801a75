//! Gathers the evidence of all reporters, of the topics themselves, of the committed offsets and,
//! where it was read, of the sink; [`Ledger::verdict`] compares it.
//!
//! # Invariants
//! - `LEDGER-1`: a record is complete only by positive evidence: for each group the sink's word
//!   or a disposition, and without a group the auditor's own read of the topic.
//! - `LEDGER-2`: a record is lost only where no reporter that could say otherwise is silent, open
//!   or missing a receipt, or where the harness has read everything after all had ended.
//! - `LEDGER-3`: order and repetition of the evidence do not matter.
//! - `LEDGER-4`: copies, reordering, rebalances and restarts are never loss.
//! - `LEDGER-5`: the word on an unstamped record holds for one topic, not for its name: it ends
//!   when a group begins a partition anew, and it does not hold for what the group has yet to
//!   read. A document of such a record in the sink holds only together with the word. (No Kafka
//!   client tells the id of a topic; a cluster drops the committed offsets of a topic together
//!   with it, and that is seen. It is not seen where somebody sets the group's offsets in the new
//!   topic by hand before a pipeline has begun with it: the old word goes on then.)
//! - `LEDGER-6`: a dead letter is one that the auditor has read in the topic of dead letters.
//! - `LEDGER-7`: what one reporter said is ordered by incarnation and receipt number, whatever its
//!   clock does. Clocks order the words of different reporters, and where they are within a
//!   minute of each other it is unknown which topic a word was about.
//! - `LEDGER-8`: sessions of one journal are numbered from 0 without gaps, and their receipts leave
//!   it in that order: where a later one is known and an earlier one is not, receipts are gone.
//! - `LEDGER-9`: a group has to account for each topic that it has begun with, told of, committed
//!   to or is said to read, also where nothing was delivered to it yet; one that is known for no
//!   topic, for all.
//! - `LEDGER-10`: so it is for a record that was moved under its identity into another topic, as
//!   dead letters are: each group that reads this topic has to account for what the auditor finds
//!   there, by what it said at this place. What was removed from there before is not missed here:
//!   LEDGER-6 does.

mod dead_letters;
mod group;
mod judgement;
mod lookup;
mod manifest;
mod moved;
mod producer_side;
mod sessions;
mod stages;
mod topic;

pub use judgement::VerdictOptions;
pub use manifest::{Manifest, ManifestEntry};
pub use topic::{header_of, identity_of};

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::{Identity, RecordId};
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, Kind, LaneEnd, LaneId, Mark, Place, Receipt, Stage};
use dead_letters::DeadLetters;
use group::{GroupEvidence, Moment};
use moved::Moved;
use sessions::Sessions;
use topic::{Runs, TopicParts};

/// Which numbers a record goes by: its place in a lane, or its offset.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum LaneKey {
    Stamped(LaneId),
    Natural(Place),
}

/// All that is known of the records of one lane.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Topic and partition of origin, once somebody has told.
    place: Option<Place>,
    /// Where a consumer has read it: the origin too, unless it was moved.
    consumed_at: Option<Place>,
    /// Numbers that somebody has told of. Those of a stamped lane have no gaps from 0 on, so that
    /// the highest one proves all below it.
    told: IntervalSet,
    sent: IntervalSet,
    acked: IntervalSet,
    /// Highest offset that was acknowledged.
    acked_offset_max: Option<u64>,
    ended: Endings,
    /// What of it waits in a journal, by the latest statement.
    pending: Option<(StatementOrder, IntervalSet)>,
    /// Read by the auditor, whole and in the right place.
    stored: IntervalSet,
    /// Where the stored ones lie.
    runs: Runs,
    altered: IntervalSet,
    misplaced: BTreeMap<Place, IntervalSet>,
    /// Copies beyond the first.
    resent: u64,
    groups: BTreeMap<String, GroupEvidence>,
    /// When somebody spoke of which numbers.
    words: Vec<(i64, IntervalSet)>,
}

type Endings = BTreeMap<(Disposition, String), IntervalSet>;

/// Later statements of the same reporter supersede earlier ones.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct StatementOrder {
    incarnation: u64,
    number: u64,
    /// A heartbeat has the number of the receipt after it.
    is_receipt: bool,
    wall_ms: i64,
}

fn union_of(endings: &Endings, wanted: impl Fn(Disposition) -> bool) -> IntervalSet {
    let mut union = IntervalSet::new();
    for ((disposition, _), set) in endings {
        if wanted(*disposition) {
            union.union_with(set);
        }
    }
    union
}

impl Lane {
    fn is_stamped(key: &LaneKey) -> bool {
        matches!(key, LaneKey::Stamped(_))
    }

    /// All records of the lane that there have been, as far as anybody has told.
    fn universe(&self, key: &LaneKey) -> IntervalSet {
        if Self::is_stamped(key) {
            return IntervalSet::below(self.told.end());
        }
        let mut universe = self.told.clone();
        self.groups.values().for_each(|evidence| universe.union_with(&evidence.everything()));
        universe
    }

    /// LEDGER-3: the smallest of all, whoever comes first.
    fn is_consumed_at(&mut self, place: &Place) {
        if self.consumed_at.as_ref().is_none_or(|known| place < known) {
            self.consumed_at = Some(place.clone());
        }
    }

    /// The last word on any of these records.
    fn last_word_ms(&self, records: &IntervalSet) -> Option<i64> {
        let speaks = |(_, set): &&(i64, IntervalSet)| !set.intersection(records).is_empty();
        self.words.iter().filter(speaks).map(|(wall_ms, _)| *wall_ms).max()
    }
}

/// Compares what was accepted with what arrived. Feed it in any order, then ask.
#[derive(Debug, Default)]
pub struct Ledger {
    lanes: BTreeMap<LaneKey, Lane>,
    sessions: Sessions,
    topics: TopicParts,
    /// Committed offsets by group.
    committed: BTreeMap<String, BTreeMap<Place, u64>>,
    /// Topics that each group is known to read.
    group_topics: BTreeMap<String, BTreeSet<String>>,
    /// Groups whose sink was read in full.
    sinks_read: BTreeSet<String>,
    sink_copies: BTreeMap<(String, Identity), u64>,
    dead_letters: DeadLetters,
    moved: Moved,
    manifest: Option<Manifest>,
    /// Receipts that could not be read, and what else is missing of the evidence.
    gaps: BTreeSet<String>,
    /// Groups whose committed offsets could not be read, and why.
    unread_commits: BTreeMap<String, String>,
    /// Topics of which a part could not be read.
    unread_topics: BTreeMap<String, String>,
    remarks: Vec<String>,
}

impl Ledger {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one receipt or heartbeat.
    pub fn apply(&mut self, receipt: &Receipt) {
        self.sessions.apply(receipt);
        let order = StatementOrder {
            incarnation: receipt.incarnation,
            number: receipt.number.0,
            is_receipt: receipt.kind != Kind::Heartbeat,
            wall_ms: receipt.wall_ms,
        };
        for end in &receipt.lane_ends {
            self.apply_lane_end(end, order);
        }
        let group = receipt.role.group();
        if let Some(group) = group {
            self.add_group(group);
        }
        for entry in &receipt.entries {
            match (&entry.mark, group) {
                (Mark::Began { wall_ms }, Some(group)) => {
                    let key = LaneKey::Natural(entry.place.clone());
                    let lane = self.lanes.entry(key).or_default();
                    let evidence = lane.groups.entry(group.to_owned()).or_default();
                    evidence.begin(Moment::of(receipt).at(*wall_ms));
                    self.add_group_topic(group, &entry.place.topic);
                    continue;
                }
                (Mark::DeadLettersIn, Some(group)) => {
                    self.dead_letters.name_topic(group, &entry.place.topic);
                    continue;
                }
                _ => {}
            }
            let key = match entry.lane {
                Some(lane) => LaneKey::Stamped(lane),
                None => LaneKey::Natural(entry.place.clone()),
            };
            let numbers = if entry.lane.is_some() { &entry.seqs } else { &entry.offsets };
            if numbers.is_empty() {
                // REPORT-4: the reporter has forgotten something, and not even knows what.
                self.sessions.forgot(receipt.session);
                continue;
            }
            let stamped = Lane::is_stamped(&key);
            let lane = self.lanes.entry(key).or_default();
            lane.words.push((receipt.wall_ms, numbers.clone()));
            if stamped {
                lane.told.union_with(numbers);
            }
            if let Some(group) = group {
                lane.is_consumed_at(&entry.place);
                let evidence = lane.groups.entry(group.to_owned()).or_default();
                if stamped {
                    evidence.apply(&entry.mark, numbers);
                } else {
                    evidence.apply_unstamped(Moment::of(receipt), &entry.mark, numbers);
                }
                self.add_group_topic(group, &entry.place.topic);
                if let Some(id) = entry.lane {
                    self.apply_to_moved(id, &entry.place, group, (&entry.mark, numbers));
                }
            } else {
                lane.place = Some(entry.place.clone());
                apply_to_producer(lane, &entry.mark, numbers, &entry.offsets);
            }
        }
    }

    fn apply_lane_end(&mut self, end: &LaneEnd, order: StatementOrder) {
        let lane = self.lanes.entry(LaneKey::Stamped(end.lane)).or_default();
        lane.place = Some(end.place.clone());
        if let Some(last) = end.end.checked_sub(1) {
            lane.told.insert(last);
            lane.words.push((order.wall_ms, IntervalSet::of(last, last)));
        }
        if lane.pending.as_ref().is_none_or(|(known, _)| *known <= order) {
            lane.pending = Some((order, end.pending.clone()));
        }
    }

    /// Something of the receipts topic that is no receipt, or not there any more: what it said is
    /// missing.
    pub fn apply_unreadable(&mut self, what: String) {
        self.gaps.insert(what);
    }

    /// Something else that should be known with the verdict.
    pub fn remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// This group is to be judged, whether it has reported or not.
    pub fn add_group(&mut self, group: &str) {
        self.group_topics.entry(group.to_owned()).or_default();
    }

    /// This group is to be judged on this topic, whether it has begun with it or not.
    pub fn add_group_topic(&mut self, group: &str, topic: &str) {
        self.group_topics.entry(group.to_owned()).or_default().insert(topic.to_owned());
    }

    /// What OffsetFetch says: the next offset that the group will read.
    pub fn apply_committed(&mut self, group: &str, place: &Place, offset: u64) {
        self.add_group_topic(group, &place.topic);
        self.committed.entry(group.to_owned()).or_default().insert(place.clone(), offset);
    }

    /// What this group has committed, or a part of it, could not be read.
    pub fn committed_is_unreadable(&mut self, group: &str, why: String) {
        self.unread_commits.entry(group.to_owned()).or_insert(why);
    }

    /// One document of the sink that `group` writes to. Call [`Ledger::sink_was_read`] at the end.
    pub fn apply_sink_document(&mut self, group: &str, id: &Identity) {
        let (key, number) = match id {
            Identity::Stamped(id) => {
                (LaneKey::Stamped(LaneId { session: id.session, lane: id.lane }), id.seq)
            }
            Identity::Natural { topic, partition, offset } => {
                let Ok(offset) = u64::try_from(*offset) else { return };
                (LaneKey::Natural(Place::new(topic.clone(), *partition)), offset)
            }
        };
        let stamped = Lane::is_stamped(&key);
        let lane = self.lanes.entry(key).or_default();
        if stamped {
            // LEDGER-5: an unstamped one may be a record of an earlier topic.
            lane.told.insert(number);
        }
        let evidence = lane.groups.entry(group.to_owned()).or_default();
        if evidence.in_sink.contains(number) {
            *self.sink_copies.entry((group.to_owned(), id.clone())).or_insert(1) += 1;
        }
        evidence.in_sink.insert(number);
    }

    /// The sink of this group was read in full.
    pub fn sink_was_read(&mut self, group: &str) {
        self.sinks_read.insert(group.to_owned());
    }

    /// The harness's list of what it handed in.
    pub fn set_manifest(&mut self, manifest: Manifest) {
        for id in manifest.entries.iter().filter_map(|entry| entry.id) {
            self.lane_of(id).told.insert(id.seq);
        }
        self.manifest = Some(manifest);
    }

    fn lane_of(&mut self, id: RecordId) -> &mut Lane {
        let key = LaneKey::Stamped(LaneId { session: id.session, lane: id.lane });
        self.lanes.entry(key).or_default()
    }

    /// Topics that any reporter has named.
    pub fn topics(&self) -> BTreeSet<String> {
        let mut topics: BTreeSet<String> = self.topics_told_of().map(str::to_owned).collect();
        topics.extend(self.group_topics.values().flatten().cloned());
        topics
    }

    /// Topics of which somebody tells a record; each as often as there are lanes.
    fn topics_told_of(&self) -> impl Iterator<Item = &str> {
        let places = self.lanes.iter().filter_map(|(key, lane)| match key {
            LaneKey::Natural(place) => Some(place),
            LaneKey::Stamped(_) => lane.place.as_ref(),
        });
        places.map(|place| place.topic.as_str())
    }

    /// Groups that are to be judged.
    pub fn groups(&self) -> Vec<String> {
        self.group_topics.keys().cloned().collect()
    }
}

fn apply_to_producer(lane: &mut Lane, mark: &Mark, numbers: &IntervalSet, offsets: &IntervalSet) {
    match mark {
        Mark::Reached(Stage::Accepted)
        | Mark::Unknown(_)
        | Mark::Began { .. }
        | Mark::DeadLettersIn => {}
        Mark::Reached(Stage::Sent) => lane.sent.union_with(numbers),
        Mark::Reached(_) => {
            lane.acked.union_with(numbers);
            lane.acked_offset_max = lane.acked_offset_max.max(offsets.last());
        }
        Mark::Ended { disposition, reason } => {
            lane.ended.entry((*disposition, reason.clone())).or_default().union_with(numbers);
        }
    }
}
