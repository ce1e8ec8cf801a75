use std::collections::HashMap;

use super::RecordRef;
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, Entry, LaneId, Mark, Place, Stage, cut_text};

/// Entries of one receipt; more are forgotten, and that is said.
pub const NOTED_ENTRIES_MAX: usize = 8_192;
/// Intervals of one receipt (about 1 MiB in memory, at most 650 kB on the wire).
pub const NOTED_INTERVALS_MAX: usize = 32_768;

/// Reasons carry what a server said: where each record has its own, the rest share one.
const REASONS_MAX: usize = 256;
const OTHER_REASONS: &str = "other reasons";

/// What was noted since the last receipt was cut.
#[derive(Debug, Default)]
pub(super) struct Notes {
    places: HashMap<String, HashMap<i32, u32>>,
    place_list: Vec<Place>,
    reasons: HashMap<String, u32>,
    reason_list: Vec<String>,
    sets: HashMap<Key, Sets>,
    intervals: usize,
    /// REPORT-4: stages of which something had to be forgotten without trace.
    forgotten: Vec<Stage>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Key {
    mark: MarkKey,
    lane: Option<LaneId>,
    place: u32,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum MarkKey {
    Reached(Stage),
    Ended(Disposition, u32),
    Unknown(Stage),
    Began(i64),
    DeadLettersIn,
}

impl MarkKey {
    /// The stage that is in doubt where this mark is forgotten.
    fn stage(self) -> Stage {
        match self {
            Self::Reached(stage) | Self::Unknown(stage) => stage,
            Self::Ended(..) | Self::DeadLettersIn => Stage::Confirmed,
            Self::Began(_) => Stage::Delivered,
        }
    }
}

#[derive(Debug, Default)]
struct Sets {
    seqs: IntervalSet,
    offsets: IntervalSet,
}

impl Sets {
    fn interval_count(&self) -> usize {
        self.seqs.interval_count() + self.offsets.interval_count()
    }
}

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty() && self.forgotten.is_empty()
    }

    pub(super) fn note(&mut self, stage: Stage, record: &RecordRef<'_>) {
        self.add_record(MarkKey::Reached(stage), record);
    }

    pub(super) fn note_end(
        &mut self,
        disposition: Disposition,
        reason: &str,
        record: &RecordRef<'_>,
    ) {
        let reason = self.reason(cut_text(reason));
        self.add_record(MarkKey::Ended(disposition, reason), record);
    }

    /// What was noted of unstamped records of this place was about an earlier topic of its name.
    pub(super) fn begin(&mut self, topic: &str, partition: i32, wall_ms: i64) {
        let place = self.place(topic, partition);
        self.sets.retain(|key, _| key.lane.is_some() || key.place != place);
        self.intervals = self.sets.values().map(Sets::interval_count).sum();
        self.add(Key { mark: MarkKey::Began(wall_ms), lane: None, place }, |_| {});
    }

    /// Dead letters that are noted are in this topic.
    pub(super) fn dead_letters_in(&mut self, topic: &str) {
        let place = self.place(topic, nowhere().partition);
        self.add(Key { mark: MarkKey::DeadLettersIn, lane: None, place }, |_| {});
    }

    fn add_record(&mut self, mark: MarkKey, record: &RecordRef<'_>) {
        let place = self.place(record.topic, record.partition);
        let lane = record.id.map(|id| LaneId { session: id.session, lane: id.lane });
        self.add(Key { mark, lane, place }, |sets| {
            if let Some(id) = record.id {
                sets.seqs.insert(id.seq);
            }
            if let Some(offset) = record.offset.and_then(|offset| u64::try_from(offset).ok()) {
                sets.offsets.insert(offset);
            }
        });
    }

    fn add(&mut self, key: Key, fill: impl FnOnce(&mut Sets)) {
        if self.sets.len() >= NOTED_ENTRIES_MAX && !self.sets.contains_key(&key) {
            self.forget(key.mark.stage());
            return;
        }
        let sets = self.sets.entry(key).or_default();
        let before = sets.interval_count();
        fill(sets);
        self.intervals = self.intervals + sets.interval_count() - before;
        if self.intervals > NOTED_INTERVALS_MAX {
            self.collapse(key);
        }
    }

    fn forget(&mut self, stage: Stage) {
        if !self.forgotten.contains(&stage) {
            self.forgotten.push(stage);
        }
    }

    /// REPORT-4: gives up the details of one entry for the range from its first to its last.
    fn collapse(&mut self, key: Key) {
        let Some(sets) = self.sets.remove(&key) else { return };
        self.intervals -= sets.interval_count();
        let unknown = Key { mark: MarkKey::Unknown(key.mark.stage()), ..key };
        let into = self.sets.entry(unknown).or_default();
        self.intervals -= into.interval_count();
        into.seqs = hull(&into.seqs.union(&sets.seqs));
        into.offsets = hull(&into.offsets.union(&sets.offsets));
        self.intervals += into.interval_count();
    }

    fn place(&mut self, topic: &str, partition: i32) -> u32 {
        if let Some(place) = self.places.get(topic).and_then(|places| places.get(&partition)) {
            return *place;
        }
        let place = self.place_list.len() as u32;
        self.place_list.push(Place::new(topic, partition));
        self.places.entry(topic.to_owned()).or_default().insert(partition, place);
        place
    }

    fn reason(&mut self, reason: &str) -> u32 {
        if let Some(index) = self.reasons.get(reason) {
            return *index;
        }
        if self.reason_list.len() >= REASONS_MAX && reason != OTHER_REASONS {
            return self.reason(OTHER_REASONS);
        }
        let index = self.reason_list.len() as u32;
        self.reason_list.push(reason.to_owned());
        self.reasons.insert(reason.to_owned(), index);
        index
    }

    /// Takes in the entries of a receipt: one that could not be made durable, or an old one that
    /// is merged.
    pub(super) fn absorb(&mut self, entries: &[Entry]) {
        // What stands in one receipt with a beginning was said after it.
        for Entry { mark, place, .. } in entries {
            if let Mark::Began { wall_ms } = mark {
                self.begin(&place.topic, place.partition, *wall_ms);
            }
        }
        for entry in entries {
            let mark = match &entry.mark {
                Mark::Reached(stage) => MarkKey::Reached(*stage),
                Mark::Unknown(stage) if entry.place == nowhere() => {
                    self.forget(*stage);
                    continue;
                }
                Mark::Unknown(stage) => MarkKey::Unknown(*stage),
                Mark::Ended { disposition, reason } => {
                    MarkKey::Ended(*disposition, self.reason(reason))
                }
                Mark::DeadLettersIn => MarkKey::DeadLettersIn,
                Mark::Began { .. } => continue,
            };
            let place = self.place(&entry.place.topic, entry.place.partition);
            self.add(Key { mark, lane: entry.lane, place }, |sets| {
                sets.seqs.union_with(&entry.seqs);
                sets.offsets.union_with(&entry.offsets);
            });
        }
    }

    /// All that was noted, in a stable order; nothing is left.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        let notes = std::mem::take(self);
        let place_of = |index: u32| notes.place_list.get(index as usize).cloned();
        let reason_of = |index: u32| notes.reason_list.get(index as usize).cloned();
        let entry = |(key, sets): (Key, Sets)| Entry {
            mark: match key.mark {
                MarkKey::Reached(stage) => Mark::Reached(stage),
                MarkKey::Unknown(stage) => Mark::Unknown(stage),
                MarkKey::Began(wall_ms) => Mark::Began { wall_ms },
                MarkKey::DeadLettersIn => Mark::DeadLettersIn,
                MarkKey::Ended(disposition, reason) => {
                    Mark::Ended { disposition, reason: reason_of(reason).unwrap_or_default() }
                }
            },
            lane: key.lane,
            place: place_of(key.place).unwrap_or_else(nowhere),
            seqs: sets.seqs,
            offsets: sets.offsets,
        };
        let forgotten = notes.forgotten.iter().map(|stage| Entry {
            mark: Mark::Unknown(*stage),
            lane: None,
            place: nowhere(),
            seqs: IntervalSet::new(),
            offsets: IntervalSet::new(),
        });
        let mut entries: Vec<Entry> = forgotten.chain(notes.sets.into_iter().map(entry)).collect();
        entries.sort_unstable();
        entries
    }
}

/// The place of entries that are about records nobody remembers.
fn nowhere() -> Place {
    Place::new("", -1)
}

fn hull(set: &IntervalSet) -> IntervalSet {
    match (set.first(), set.last()) {
        (Some(first), Some(last)) => IntervalSet::of(first, last),
        _ => IntervalSet::new(),
    }
}
