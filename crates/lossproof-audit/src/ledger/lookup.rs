use super::{GroupEvidence, Lane, LaneKey, Ledger};
use crate::auditor::{Copy, StageReached};
use crate::identity::Identity;
use crate::receipt::{LaneId, Place, Stage};

impl Ledger {
    fn find(&self, id: &Identity) -> Option<(LaneKey, &Lane, u64)> {
        let (key, number) = match id {
            Identity::Stamped(id) => {
                (LaneKey::Stamped(LaneId { session: id.session, lane: id.lane }), id.seq)
            }
            Identity::Natural { topic, partition, offset } => {
                let place = Place::new(topic.clone(), *partition);
                (LaneKey::Natural(place), u64::try_from(*offset).ok()?)
            }
        };
        let lane = self.lanes.get(&key)?;
        let in_sink = lane.groups.values().any(|evidence| evidence.in_sink.contains(number));
        (in_sink || lane.universe(&key).contains(number)).then_some((key, lane, number))
    }

    /// Stage by stage, whether the record has been there; `None` for one nobody knows.
    pub(crate) fn stages_of(&self, id: &Identity) -> Option<Vec<StageReached>> {
        let (key, lane, number) = self.find(id)?;
        let stored = lane.stored.contains(number);
        let acked = stored || lane.acked.contains(number);
        let sent = acked || lane.sent.contains(number);
        let ended = lane.ended.iter().find(|(_, set)| set.contains(number));
        let ended =
            ended.map(|((disposition, reason), _)| format!("{}: {reason}", disposition.name()));
        let producer = [
            (Stage::Accepted, true, None),
            (Stage::Sent, sent, None),
            (Stage::Acked, acked, ended),
            (Stage::Stored, stored, None),
        ];
        let mut stages: Vec<StageReached> = producer
            .into_iter()
            .filter(|(stage, ..)| Lane::is_stamped(&key) || *stage == Stage::Stored)
            .map(|(stage, reached, ended)| StageReached { stage, group: None, reached, ended })
            .collect();
        let topic = match &key {
            LaneKey::Natural(place) => Some(&place.topic),
            LaneKey::Stamped(_) => lane.place.as_ref().map(|place| &place.topic),
        };
        for group in topic.map(|topic| self.groups_of(topic)).unwrap_or_default() {
            let none = GroupEvidence::default();
            let evidence = lane.groups.get(group).unwrap_or(&none);
            let committed = self.committed_numbers(group, &key, lane).contains(number);
            stages.extend(group_stages(group, evidence, number, committed));
        }
        for (place, moved) in self.moved_of(&key).filter(|(_, m)| m.stored.contains(number)) {
            for group in self.groups_of(&place.topic) {
                let evidence = self.evidence_on_moved(group, &key, moved);
                let committed = self.committed_numbers(group, &key, moved).contains(number);
                stages.extend(group_stages(group, &evidence, number, committed));
            }
        }
        Some(stages)
    }

    /// Where the copies of a record lie in the log.
    pub(crate) fn copies_of(&self, id: &Identity) -> Vec<Copy> {
        let Some((key, lane, number)) = self.find(id) else { return Vec::new() };
        let (place, offsets) = match &key {
            LaneKey::Natural(place) => {
                (Some(place), if lane.stored.contains(number) { vec![number] } else { vec![] })
            }
            LaneKey::Stamped(_) => (lane.place.as_ref(), lane.runs.offsets_of(number)),
        };
        let moved =
            self.moved_of(&key).map(|(place, moved)| (place, moved.runs.offsets_of(number)));
        let places = place.map(|place| (place, offsets)).into_iter().chain(moved);
        let copies = places.flat_map(|(place, offsets)| {
            offsets.into_iter().map(|offset| Copy {
                topic: place.topic.clone(),
                partition: place.partition,
                offset,
            })
        });
        copies.collect()
    }
}

fn group_stages(
    group: &str,
    evidence: &GroupEvidence,
    number: u64,
    committed: bool,
) -> Vec<StageReached> {
    let ended = evidence.ended.iter().find(|(_, set)| set.contains(number));
    let ended = ended.map(|((disposition, reason), _)| format!("{}: {reason}", disposition.name()));
    let confirmed = evidence.confirmed.contains(number) || evidence.in_sink.contains(number);
    let processed = confirmed || ended.is_some() || evidence.processed.contains(number);
    let delivered = processed || evidence.delivered.contains(number);
    let stages = [
        (Stage::Delivered, delivered, None),
        (Stage::Processed, processed, ended),
        (Stage::Confirmed, confirmed, None),
        (Stage::Committed, committed, None),
    ];
    let reached = |(stage, reached, ended)| StageReached {
        stage,
        group: Some(group.to_owned()),
        reached,
        ended,
    };
    stages.into_iter().map(reached).collect()
}
