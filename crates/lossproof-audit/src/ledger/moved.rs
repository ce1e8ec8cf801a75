//! LEDGER-10: records that were moved into another topic and kept their identity: dead letters.

use std::collections::BTreeMap;

use lossproof_client::Record;

use super::{GroupEvidence, Lane, LaneKey, Ledger};
use crate::identity::RecordId;
use crate::interval::IntervalSet;
use crate::receipt::{LaneId, Mark, Place};

/// Of each stamped lane, what was said of it at each place where a consumer has read it; and what
/// lies there, of records that were moved. At the place of origin nothing was.
pub(super) type Moved = BTreeMap<LaneId, BTreeMap<Place, Lane>>;

impl Ledger {
    pub(super) fn observe_moved(&mut self, id: RecordId, record: &Record, offset: u64) {
        let place = Place::new(record.topic.clone(), record.partition);
        let lane = self.moved_lane(LaneId { session: id.session, lane: id.lane }, &place);
        lane.runs.add(id.seq, offset);
        lane.stored.insert(id.seq);
    }

    pub(super) fn apply_to_moved(
        &mut self,
        id: LaneId,
        place: &Place,
        group: &str,
        (mark, numbers): (&Mark, &IntervalSet),
    ) {
        let groups = &mut self.moved_lane(id, place).groups;
        groups.entry(group.to_owned()).or_default().apply(mark, numbers);
    }

    fn moved_lane(&mut self, id: LaneId, place: &Place) -> &mut Lane {
        let lane = self.moved.entry(id).or_default().entry(place.clone()).or_default();
        lane.place.get_or_insert_with(|| place.clone());
        lane
    }

    /// The places to which records of the lane were moved, with these records.
    pub(super) fn moved_of(&self, key: &LaneKey) -> impl Iterator<Item = (&Place, &Lane)> {
        let places = match key {
            LaneKey::Stamped(id) => self.moved.get(id),
            LaneKey::Natural(_) => None,
        };
        places.into_iter().flatten().filter(|(_, lane)| !lane.stored.is_empty())
    }

    /// What the group said of the lane at the place of `moved`. A document in its sink tells
    /// nothing of a place.
    pub(super) fn evidence_on_moved(
        &self,
        group: &str,
        key: &LaneKey,
        moved: &Lane,
    ) -> GroupEvidence {
        let mut evidence = moved.groups.get(group).cloned().unwrap_or_default();
        if let Some(anywhere) = self.lanes.get(key).and_then(|lane| lane.groups.get(group)) {
            evidence.in_sink.clone_from(&anywhere.in_sink);
        }
        evidence
    }
}
