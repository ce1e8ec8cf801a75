use super::{GroupEvidence, Lane, Ledger};
use crate::interval::IntervalSet;
use crate::verdict::{Ended, GroupStages, StageTable};

impl Ledger {
    /// Counts of the stages; a later stage proves the earlier ones.
    pub(super) fn stage_table(&self) -> StageTable {
        let mut table = StageTable::default();
        for (key, lane) in &self.lanes {
            let stored = lane.stored.union(&lane.altered);
            let acked = lane.acked.union(&stored);
            table.accepted += lane.universe(key).count();
            table.sent += lane.sent.union(&acked).count();
            table.acked += acked.count();
            table.stored += stored.count();
            table.resent += lane.resent;
        }
        table.groups = self.groups().iter().map(|group| self.group_stages(group)).collect();
        table
    }

    fn group_stages(&self, group: &str) -> GroupStages {
        let mut stages = GroupStages { group: group.to_owned(), ..GroupStages::default() };
        let mut in_sink = 0;
        let none = GroupEvidence::default();
        for (key, lane) in &self.lanes {
            let evidence = lane.groups.get(group).unwrap_or(&none);
            let mut reached = evidence.confirmed.clone();
            stages.confirmed += reached.count();
            reached.union_with(&evidence.ended_as(|_| true));
            reached.union_with(&evidence.processed);
            stages.processed += reached.count();
            reached.union_with(&evidence.delivered);
            stages.delivered += reached.count();
            in_sink += evidence.in_sink.count();
            let committed =
                |lane: &Lane| self.committed_numbers(group, key, lane).intersection(&lane.stored);
            let mut anywhere = committed(lane);
            self.moved_of(key).for_each(|(_, moved)| anywhere.union_with(&committed(moved)));
            stages.committed += anywhere.count();
            for ((disposition, reason), set) in &evidence.ended {
                add_ended(&mut stages.ended, *disposition, reason, set);
            }
        }
        stages.in_sink = self.sinks_read.contains(group).then_some(in_sink);
        stages
    }
}

fn add_ended(
    ended: &mut Vec<Ended>,
    disposition: crate::receipt::Disposition,
    reason: &str,
    set: &IntervalSet,
) {
    let same = |known: &&mut Ended| known.disposition == disposition && known.reason == reason;
    match ended.iter_mut().find(same) {
        Some(known) => known.count += set.count(),
        None => ended.push(Ended { disposition, reason: reason.to_owned(), count: set.count() }),
    }
}
