//! What is to be said of records that the auditor has not found in their topic.

use super::judgement::VerdictOptions;
use super::{Lane, LaneKey, Ledger, union_of};
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, Place};
use crate::verdict::{Blame, Mechanism, SessionState};

/// One lane, seen from its producer: which records are not in the log, and why.
#[derive(Debug, Default)]
pub(super) struct ProducerSide {
    pub(super) lost: Vec<(IntervalSet, Blame, Mechanism)>,
    /// With who is silent.
    pub(super) unknown: Vec<(IntervalSet, String)>,
    /// With where they are.
    pub(super) waiting: Vec<(IntervalSet, String)>,
    /// Expired by policy or discarded by an operator.
    pub(super) ended: IntervalSet,
    /// In the log once; its start has moved past them.
    pub(super) removed: IntervalSet,
}

impl ProducerSide {
    fn lose(&mut self, records: IntervalSet, stage: Blame, mechanism: Mechanism) {
        if !records.is_empty() {
            self.lost.push((records, stage, mechanism));
        }
    }

    fn doubt(&mut self, records: IntervalSet, silent: impl Into<String>) {
        if !records.is_empty() {
            self.unknown.push((records, silent.into()));
        }
    }

    fn wait(&mut self, records: IntervalSet, place: impl Into<String>) {
        if !records.is_empty() {
            self.waiting.push((records, place.into()));
        }
    }
}

impl Ledger {
    pub(super) fn producer_side(
        &self,
        key: &LaneKey,
        lane: &Lane,
        place: &Place,
        options: &VerdictOptions,
    ) -> ProducerSide {
        let mut side = ProducerSide::default();
        let mut absent = lane.universe(key).difference(&lane.stored);
        let altered = lane.altered.intersection(&absent);
        absent = absent.difference(&altered);
        side.lose(altered, Blame::Broker, Mechanism::Altered);
        side.ended = union_of(&lane.ended, |disposition| {
            matches!(disposition, Disposition::Expired | Disposition::Discarded)
        });
        absent = absent.difference(&side.ended);
        if absent.is_empty() {
            return side;
        }
        if let Some(why) = self.unread_topics.get(&place.topic) {
            side.doubt(absent, format!("topic {}: {why}", place.topic));
            return side;
        }
        if self.topics.watermarks(place).is_none() {
            side.doubt(absent, format!("{place} was not read"));
            return side;
        }
        // Before all that the log could explain: these never were in it.
        for ((disposition, reason), records) in &lane.ended {
            if *disposition == Disposition::Rejected {
                let rejected = absent.intersection(records);
                absent = absent.difference(&rejected);
                side.lose(rejected, Blame::Producer, Mechanism::Rejected(reason.clone()));
            }
        }
        side.removed = self.removed(key, lane, place, &absent);
        absent = absent.difference(&side.removed);
        for (elsewhere, records) in &lane.misplaced {
            let gone = absent.intersection(records);
            absent = absent.difference(&gone);
            side.lose(gone, Blame::Producer, Mechanism::Misplaced(elsewhere.to_string()));
        }
        let acked = absent.intersection(&lane.acked);
        absent = absent.difference(&acked);
        side.lose(acked, Blame::Broker, self.broker_mechanism(lane, place));
        if !absent.is_empty() {
            self.judge_unsent(key, lane, absent, options, &mut side);
        }
        side
    }

    /// Records that were in the log below its present start, as far as that can be told. That the
    /// log was cut is no evidence that a record was in it: only an acknowledgement is, or a
    /// consumer's word on an offset.
    fn removed(
        &self,
        key: &LaneKey,
        lane: &Lane,
        place: &Place,
        absent: &IntervalSet,
    ) -> IntervalSet {
        let low =
            self.topics.watermarks(place).map_or(0, |watermarks| watermarks.low.max(0) as u64);
        if low == 0 {
            return IntervalSet::new();
        }
        if !Lane::is_stamped(key) {
            return absent.intersection(&IntervalSet::below(low));
        }
        let acked = absent.intersection(&lane.acked);
        match lane.stored.first() {
            Some(first) => acked.intersection(&IntervalSet::below(first)),
            None if lane.acked_offset_max.is_some_and(|offset| offset < low) => acked,
            None => IntervalSet::new(),
        }
    }

    fn broker_mechanism(&self, lane: &Lane, place: &Place) -> Mechanism {
        let high = self.topics.watermarks(place).map_or(0, |watermarks| watermarks.high.max(0));
        match lane.acked_offset_max {
            Some(offset) if offset >= high as u64 => Mechanism::LogTruncated,
            _ => Mechanism::Replaced,
        }
    }

    /// Neither in the log nor acknowledged: in a journal, in memory, or gone.
    fn judge_unsent(
        &self,
        key: &LaneKey,
        lane: &Lane,
        absent: IntervalSet,
        options: &VerdictOptions,
        side: &mut ProducerSide,
    ) {
        let LaneKey::Stamped(id) = key else {
            side.doubt(absent, "a record that nobody stamped, and that is not in the log");
            return;
        };
        let Some((heir, session)) = self.sessions.heir(id.session) else {
            if options.all_ended {
                lose_unsent(lane, absent, side);
            } else {
                side.doubt(absent, format!("nobody reports for session {:016x}", id.session));
            }
            return;
        };
        let ended = match self.sessions.state(session, options.heard_until_ms) {
            SessionState::Open if !options.all_ended => {
                side.wait(absent, format!("producer session {heir:016x}"));
                return;
            }
            SessionState::Sealed => true,
            SessionState::Open | SessionState::Expired | SessionState::Recovered => false,
        };
        if !ended {
            if session.role.is_safe() {
                side.wait(absent, "journal of the crashed producer: start it again");
            } else if options.all_ended {
                lose_unsent(lane, absent, side);
            } else {
                let why = format!("producer session {heir:016x} has ended without a seal");
                side.doubt(absent, why);
            }
            return;
        }
        let pending = lane.pending.as_ref().map(|(_, set)| absent.intersection(set));
        let pending = pending.unwrap_or_default();
        let settled = absent.difference(&pending);
        if session.role.is_safe() {
            side.wait(pending, "journal of the closed producer: start it again");
        } else {
            lose_unsent(lane, pending, side);
        }
        match self.sessions.lineage_silence(id.session) {
            Some(silent) if !options.all_ended => side.doubt(settled, silent),
            _ => lose_unsent(lane, settled, side),
        }
    }
}

fn lose_unsent(lane: &Lane, records: IntervalSet, side: &mut ProducerSide) {
    let in_doubt = records.intersection(&lane.sent);
    side.lose(records.difference(&in_doubt), Blame::Producer, Mechanism::NeverSent);
    side.lose(in_doubt, Blame::Producer, Mechanism::InDoubt);
}
