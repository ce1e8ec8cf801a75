use std::ops::AddAssign;

use lossproof_judge::{Anomaly, Report};
use serde::{Deserialize, Serialize};

/// The sums over all rounds of a fault.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Tally {
    /// Places at which a fault may strike, ...
    pub(crate) points: u64,
    /// ... and of these: where one was to strike. Only of a fault that may miss.
    pub(crate) tried: u64,
    /// Faults that struck, each with a restart and a judgement after it.
    pub(crate) cycles: u64,
    /// Of these: while a transaction was open ...
    pub(crate) struck_open: u64,
    /// ... and while a commit was asked for and had no answer yet.
    pub(crate) struck_in_doubt: u64,
    pub(crate) acknowledged: u64,
    /// That were committed, each with records in several partitions and an offset.
    pub(crate) transactions: u64,
    /// Acknowledged records that compaction has removed, since their key was written again.
    pub(crate) compacted: u64,
    /// Acknowledged to members of a group, one partition each.
    pub(crate) member_commits: u64,
    /// Of members that had partitions before.
    pub(crate) rebalances: u64,
    pub(crate) lost: u64,
    pub(crate) altered: u64,
    pub(crate) reordered: u64,
    pub(crate) duplicates: u64,
    /// Offsets with holes, committed offsets that went back or beyond the end, a part of a
    /// transaction, deleted records that came back, and what members were given twice or never.
    pub(crate) broken: u64,
    /// Flipped bits of whatever kind of which a check or a start has told something.
    pub(crate) reported: u64,
    /// Acknowledged batches in which a bit was flipped, in all copies that there are, ...
    pub(crate) struck_batches: u64,
    /// ... and of these: by name called lost, and refused.
    pub(crate) reported_batches: u64,
    /// Damage of acknowledged data that nobody reported.
    pub(crate) undetected: u64,
}

impl Tally {
    /// What a judgement found; the cycles are the round's to count.
    pub(crate) fn of(report: &Report) -> Self {
        let mut tally = Self {
            acknowledged: report.counts.acknowledged,
            lost: report.lost.len() as u64,
            ..Self::default()
        };
        for anomaly in &report.anomalies {
            let counter = match anomaly {
                Anomaly::LostWrite { .. } | Anomaly::UnseenInTopic { .. } => continue,
                Anomaly::Altered { .. }
                | Anomaly::Phantom { .. }
                | Anomaly::RefusedButStored { .. }
                | Anomaly::InconsistentOffsets { .. } => &mut tally.altered,
                Anomaly::NonmonotonicSend { .. } => &mut tally.reordered,
                Anomaly::DuplicateInTopic { .. } => &mut tally.duplicates,
                _ => &mut tally.broken,
            };
            *counter += 1;
        }
        tally
    }

    /// Whether nothing is wrong. A run that acknowledged nothing proves nothing.
    pub(crate) fn is_clean(&self) -> bool {
        let Self { lost, altered, reordered, duplicates, broken, undetected, .. } = self;
        self.acknowledged > 0 && lost + altered + reordered + duplicates + broken + undetected == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.tried += other.tried;
        self.cycles += other.cycles;
        self.struck_open += other.struck_open;
        self.struck_in_doubt += other.struck_in_doubt;
        self.acknowledged += other.acknowledged;
        self.transactions += other.transactions;
        self.compacted += other.compacted;
        self.member_commits += other.member_commits;
        self.rebalances += other.rebalances;
        self.lost += other.lost;
        self.altered += other.altered;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
        self.broken += other.broken;
        self.reported += other.reported;
        self.struck_batches += other.struck_batches;
        self.reported_batches += other.reported_batches;
        self.undetected += other.undetected;
    }
}

#[cfg(test)]
mod tests {
    use lossproof_judge::{Declaration, Event, HistoryWriter, Outcome, Position, judge};

    use super::*;

    fn tally(events: &[Event]) -> Tally {
        let declaration = Declaration { topics: [("t".to_owned(), 1)].into(), sink: false };
        let mut writer = HistoryWriter::begin(Vec::new(), declaration).unwrap();
        for event in events {
            writer.record(0, event).unwrap();
        }
        let history = writer.end(0, "r").unwrap();
        Tally::of(&judge(history.as_slice()).unwrap())
    }

    fn acknowledged(value: &str, offset: i64) -> [Event; 2] {
        let mut event = Event::acknowledge("p", value, Outcome::Ok);
        if let Event::Acknowledge { position, .. } = &mut event {
            *position = Some(Position { topic: "t".to_owned(), partition: 0, offset });
        }
        [Event::hand_in("p", value), event]
    }

    fn sent() -> Vec<Event> {
        [acknowledged("a", 0), acknowledged("b", 1)].concat()
    }

    fn read(values: &[&str]) -> Vec<Event> {
        let mut events = sent();
        let numbered = (0..).zip(values);
        events.extend(numbered.map(|(at, value)| Event::store("r", "t", 0, at, *value)));
        events.push(Event::read_end("r", "t", 0, 0, values.len() as i64));
        events
    }

    #[test]
    fn each_kind_of_harm_is_counted_by_its_name() {
        assert!(tally(&read(&["a", "b"])).is_clean());
        assert_eq!(tally(&read(&["a"])).lost, 1);
        assert_eq!(tally(&read(&["b", "a"])).reordered, 1);
        assert_eq!(tally(&read(&["a", "b", "b"])).duplicates, 1);
        assert_eq!(tally(&read(&["a", "b", "c"])).altered, 1);
        let mut back = read(&["a", "b"]);
        back.extend([2, 1].map(|offset| Event::commit("g", "t", 0, offset)));
        assert_eq!(tally(&back).broken, 1);
    }

    #[test]
    fn a_run_that_acknowledged_nothing_proves_nothing() {
        assert!(!tally(&[Event::read_end("r", "t", 0, 0, 0)]).is_clean());
    }
}
