use std::collections::BTreeMap;

use super::RecordRef;
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, LaneEnd, LaneId, Place, Stage};

/// How far each lane of a producer goes, and what of it is settled.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<LaneId, Lane>,
}

#[derive(Debug)]
struct Lane {
    place: Place,
    end: u64,
    /// Acknowledged or rejected. Kept instead of its opposite, because an acknowledgement may be
    /// noted before the accept.
    settled: IntervalSet,
    /// Since the last receipt.
    changed: bool,
}

impl Lane {
    fn to_end(&self, lane: LaneId) -> LaneEnd {
        let pending = IntervalSet::below(self.end).difference(&self.settled);
        LaneEnd { lane, place: self.place.clone(), end: self.end, pending }
    }
}

impl Lanes {
    pub(super) fn recover(ends: &[LaneEnd]) -> Self {
        let lane = |end: &LaneEnd| Lane {
            place: end.place.clone(),
            end: end.end,
            settled: IntervalSet::below(end.end).difference(&end.pending),
            changed: false,
        };
        Self { lanes: ends.iter().map(|end| (end.lane, lane(end))).collect() }
    }

    pub(super) fn note(&mut self, stage: Stage, record: &RecordRef<'_>) {
        match stage {
            Stage::Accepted => self.update(record, false),
            Stage::Acked => self.update(record, true),
            _ => {}
        }
    }

    pub(super) fn note_end(&mut self, disposition: Disposition, record: &RecordRef<'_>) {
        match disposition {
            Disposition::Rejected | Disposition::Expired | Disposition::Discarded => {
                self.update(record, true);
            }
            Disposition::Filtered | Disposition::DeadLettered | Disposition::Duplicate => {}
        }
    }

    fn update(&mut self, record: &RecordRef<'_>, settled: bool) {
        let Some(id) = record.id else { return };
        let lane = LaneId { session: id.session, lane: id.lane };
        let lane = self.lanes.entry(lane).or_insert_with(|| Lane {
            place: Place::new(record.topic, record.partition),
            end: 0,
            settled: IntervalSet::new(),
            changed: true,
        });
        lane.changed = true;
        lane.end = lane.end.max(id.seq.saturating_add(1));
        if settled {
            lane.settled.insert(id.seq);
        }
    }

    /// What changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<LaneEnd> {
        let changed = self.lanes.iter_mut().filter(|(_, lane)| lane.changed);
        let end = |(id, lane): (&LaneId, &mut Lane)| {
            lane.changed = false;
            lane.to_end(*id)
        };
        changed.map(end).collect()
    }

    /// These were taken, and not made durable.
    pub(super) fn put_back(&mut self, ends: &[LaneEnd]) {
        for end in ends {
            if let Some(lane) = self.lanes.get_mut(&end.lane) {
                lane.changed = true;
            }
        }
    }

    pub(super) fn all(&self) -> Vec<LaneEnd> {
        self.lanes.iter().map(|(id, lane)| lane.to_end(*id)).collect()
    }
}
