use super::producer_side::ProducerSide;
use super::{GroupEvidence, Lane, LaneKey, Ledger};
use crate::interval::IntervalSet;
use crate::receipt::{Disposition, Role};
use crate::report::RECEIPTS_TOPIC;
use crate::verdict::{
    Blame, Duplicate, Ids, Loss, Mechanism, Outcome, SessionState, Unknown, Verdict, Waiting,
};

/// Where a cluster keeps the committed offsets.
const COMMITTED_OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Under which conditions the evidence was gathered.
#[derive(Clone, Copy, Debug)]
pub struct VerdictOptions {
    /// Wall time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Wall time up to which all receipts were read: a session whose lease had ended by then has
    /// crashed.
    pub heard_until_ms: i64,
    /// The harness vouches that every process has ended, and that log, committed offsets and the
    /// sinks that are marked as read were read in full after that: what is still unknown for
    /// lack of a receipt is lost then.
    pub all_ended: bool,
}

/// The verdict while it is being put together.
struct Findings<'a> {
    options: &'a VerdictOptions,
    lost: Vec<Loss>,
    unknown: Vec<Unknown>,
    waiting: Vec<Waiting>,
}

/// One lane, with what is the same for all of its findings.
#[derive(Clone, Copy)]
struct Subject<'a> {
    key: &'a LaneKey,
    lane: &'a Lane,
    group: Option<&'a str>,
}

impl Subject<'_> {
    fn ids(&self, records: &IntervalSet) -> Vec<Ids> {
        let ids = |range| match self.key {
            LaneKey::Stamped(lane) => {
                Ids::Stamped { lane: *lane, place: self.lane.place.clone(), range }
            }
            LaneKey::Natural(place) => Ids::Natural { place: place.clone(), range },
        };
        records.iter().map(ids).collect()
    }
}

impl Findings<'_> {
    fn lose(
        &mut self,
        subject: Subject<'_>,
        records: &IntervalSet,
        stage: Blame,
        mechanism: &Mechanism,
    ) {
        if records.is_empty() {
            return;
        }
        let last_word_ms = subject.lane.last_word_ms(records);
        let time_to_detect_ms = last_word_ms
            .map(|ms| u64::try_from(self.options.now_ms.saturating_sub(ms)).unwrap_or(0));
        self.lost.extend(subject.ids(records).into_iter().map(|ids| Loss {
            ids,
            group: subject.group.map(str::to_owned),
            stage,
            mechanism: mechanism.clone(),
            time_to_detect_ms,
        }));
    }

    fn doubt(&mut self, subject: Subject<'_>, records: &IntervalSet, silent: &str) {
        self.unknown.extend(subject.ids(records).into_iter().map(|ids| Unknown {
            ids,
            group: subject.group.map(str::to_owned),
            silent: silent.to_owned(),
        }));
    }

    fn wait(&mut self, subject: Subject<'_>, records: &IntervalSet, place: &str) {
        self.waiting.extend(subject.ids(records).into_iter().map(|ids| Waiting {
            ids,
            group: subject.group.map(str::to_owned),
            place: place.to_owned(),
        }));
    }

    fn doubt_ids(&mut self, ids: Ids, silent: String) {
        self.unknown.push(Unknown { ids, group: None, silent });
    }
}

/// What keeps a group from being judged.
enum Hold {
    /// A reporter that could say otherwise is silent.
    Silent(String),
    /// One may still report.
    Open(String),
    /// All has been said.
    None,
}

impl Ledger {
    /// Compares everything that was gathered.
    pub fn verdict(&self, options: &VerdictOptions) -> Verdict {
        let mut findings =
            Findings { options, lost: Vec::new(), unknown: Vec::new(), waiting: Vec::new() };
        self.judge_evidence(&mut findings);
        for (key, lane) in &self.lanes {
            self.judge_lane(key, lane, &mut findings);
        }
        self.judge_moved(&mut findings);
        self.judge_tails(&mut findings);
        self.judge_manifest(&mut findings);
        let mut verdict = Verdict {
            outcome: Outcome::Unknown,
            wall_ms: options.now_ms,
            stages: self.stage_table(),
            lost: findings.lost,
            unknown: findings.unknown,
            waiting: findings.waiting,
            duplicates: self.duplicates(),
            sessions: self.sessions.reports(options.heard_until_ms),
            remarks: self.remarks(),
        };
        verdict.outcome = verdict.outcome_of();
        verdict
    }

    /// Evidence that is missing as a whole.
    fn judge_evidence(&self, findings: &mut Findings<'_>) {
        let receipts = || Ids::AllOf { topic: RECEIPTS_TOPIC.to_owned() };
        if self.sessions.is_empty() {
            findings.doubt_ids(receipts(), "nobody has reported".to_owned());
        }
        for gap in &self.gaps {
            findings.doubt_ids(receipts(), gap.clone());
        }
        for (group, silent) in self.sessions.unheard() {
            findings.unknown.push(Unknown {
                ids: receipts(),
                group: group.map(str::to_owned),
                silent,
            });
        }
        for (group, why) in &self.unread_commits {
            findings.unknown.push(Unknown {
                ids: Ids::AllOf { topic: COMMITTED_OFFSETS_TOPIC.to_owned() },
                group: Some(group.clone()),
                silent: why.clone(),
            });
        }
        for (topic, why) in &self.unread_topics {
            findings.doubt_ids(Ids::AllOf { topic: topic.clone() }, why.clone());
        }
    }

    fn judge_lane(&self, key: &LaneKey, lane: &Lane, findings: &mut Findings<'_>) {
        let place = match key {
            LaneKey::Natural(place) => place,
            LaneKey::Stamped(id) => {
                let Some(place) = lane.place.as_ref().or(lane.consumed_at.as_ref()) else {
                    let subject = Subject { key, lane, group: None };
                    let silent = format!("nobody reports for session {:016x}", id.session);
                    findings.doubt(subject, &lane.universe(key), &silent);
                    return;
                };
                place
            }
        };
        let side = self.producer_side(key, lane, place, findings.options);
        let groups = self.groups_of(&place.topic);
        let none = GroupEvidence::default();
        let evidence = |group: &str| lane.groups.get(group).unwrap_or(&none);
        // What every group has is lost for nobody, wherever it went afterwards.
        let mut arrived = IntervalSet::new();
        for (index, group) in groups.iter().enumerate() {
            let done = self.done(group, key, lane, evidence(group));
            arrived = if index == 0 { done } else { arrived.intersection(&done) };
        }
        let subject = Subject { key, lane, group: None };
        report_producer_side(subject, &side, &arrived, findings);
        if groups.is_empty() {
            // LEDGER-1: nobody has read them.
            findings.doubt(subject, &side.removed, "removed from the log before anybody read it");
        }
        for group in groups {
            let subject = Subject { group: Some(group), ..subject };
            self.judge_group(subject, evidence(group), &side, findings);
        }
    }

    /// LEDGER-10
    fn judge_moved(&self, findings: &mut Findings<'_>) {
        let side = ProducerSide::default();
        for key in self.moved.keys().map(|id| LaneKey::Stamped(*id)) {
            for (place, lane) in self.moved_of(&key) {
                for group in self.groups_of(&place.topic) {
                    let subject = Subject { key: &key, lane, group: Some(group) };
                    let evidence = self.evidence_on_moved(group, &key, lane);
                    self.judge_group(subject, &evidence, &side, findings);
                }
            }
        }
    }

    /// LEDGER-1: what the group has for good.
    fn done(
        &self,
        group: &str,
        key: &LaneKey,
        lane: &Lane,
        evidence: &GroupEvidence,
    ) -> IntervalSet {
        let mut done = evidence.ended_by_word();
        // LEDGER-6
        let dead_letters = self.dead_letters.of(group, key);
        done.union_with(&evidence.dead_lettered().intersection(&dead_letters));
        let mut arrived = evidence.in_sink.clone();
        if !self.sinks_read.contains(group) {
            arrived.union_with(&evidence.confirmed);
        }
        if !Lane::is_stamped(key) {
            // LEDGER-5: a document alone may be of an earlier topic.
            arrived = arrived.intersection(&evidence.confirmed);
        }
        done.union_with(&arrived);
        if !Lane::is_stamped(key) {
            // LEDGER-5: these were said of records of an earlier topic, or will be said again.
            let committed = self.committed_numbers(group, key, lane);
            done = done.difference(&lane.stored.difference(&committed));
        }
        done
    }

    fn judge_group(
        &self,
        subject: Subject<'_>,
        evidence: &GroupEvidence,
        side: &ProducerSide,
        findings: &mut Findings<'_>,
    ) {
        let Some(group) = subject.group else { return };
        let done = self.done(group, subject.key, subject.lane, evidence);
        let mut rest = subject.lane.stored.union(&side.removed);
        rest = rest.difference(&done).difference(&side.ended);
        if rest.is_empty() {
            return;
        }
        let mut behind = self.committed_numbers(group, subject.key, subject.lane);
        behind.union_with(&side.removed);
        if self.sinks_read.contains(group) {
            let mut missing = rest.intersection(&evidence.confirmed);
            missing = missing.difference(&evidence.in_sink);
            if !Lane::is_stamped(subject.key) {
                // LEDGER-5: what is before the group will be read again.
                missing = missing.intersection(&behind);
            }
            rest = rest.difference(&missing);
            findings.lose(subject, &missing, Blame::Sink, &Mechanism::MissingInSink);
        }
        let past = rest.intersection(&behind);
        report_underway(subject, evidence, &rest.difference(&past), findings);
        let all_read = findings.options.all_ended && self.sinks_read.contains(group);
        let unplaced = past.intersection(&evidence.unplaced); // LEDGER-7
        let silent = format!(
            "pipeline of group {group}: what it said may be about an earlier topic of this name"
        );
        findings.doubt(subject, &unplaced, &silent);
        let past = past.difference(&unplaced);
        // LEDGER-5: which topic these documents are of, only the receipts can say.
        let documented = past.intersection(&evidence.in_sink);
        self.judge_past(subject, evidence, side, past.difference(&documented), all_read, findings);
        self.judge_past(subject, evidence, side, documented, false, findings);
    }

    /// Records that the group will not read again, and that are not known to have arrived.
    /// `all_read`: whatever a silent reporter could say, they have not.
    fn judge_past(
        &self,
        subject: Subject<'_>,
        evidence: &GroupEvidence,
        side: &ProducerSide,
        past: IntervalSet,
        all_read: bool,
        findings: &mut Findings<'_>,
    ) {
        let (past, hold) = if all_read {
            (past, Hold::None)
        } else {
            let group = subject.group.unwrap_or_default();
            let hold = self.hold(group, findings.options);
            (self.set_unknown_aside(subject, evidence, past, findings), hold)
        };
        if past.is_empty() {
            return;
        }
        match hold {
            Hold::Silent(silent) => findings.doubt(subject, &past, &silent),
            Hold::Open(place) => findings.wait(subject, &past, &place),
            Hold::None => report_lost(subject, evidence, side, &past, findings),
        }
    }

    /// Records that a reporter has said it forgot, and dead letters where these cannot be read, are
    /// unknown.
    fn set_unknown_aside(
        &self,
        subject: Subject<'_>,
        evidence: &GroupEvidence,
        past: IntervalSet,
        findings: &mut Findings<'_>,
    ) -> IntervalSet {
        let group = subject.group.unwrap_or_default();
        let forgotten = past.intersection(&evidence.unknown);
        let silent = format!("pipeline of group {group}: ran out of memory");
        findings.doubt(subject, &forgotten, &silent);
        let mut past = past.difference(&forgotten);
        if let Some(silent) = self.dead_letters_silence(group) {
            let unread = past.intersection(&evidence.dead_lettered());
            findings.doubt(subject, &unread, &silent);
            past = past.difference(&unread);
        }
        past
    }

    /// LEDGER-2: whether anybody could still say that the group has it.
    fn hold(&self, group: &str, options: &VerdictOptions) -> Hold {
        if let Some(gap) = self.gaps.first().or(self.unread_commits.get(group)) {
            return Hold::Silent(gap.clone());
        }
        if let Some((_, silent)) = self.sessions.unheard().find(|(of, _)| *of == Some(group)) {
            return Hold::Silent(silent);
        }
        let mut open = None;
        let mut known = false;
        for (id, session) in self.sessions.iter() {
            if session.role.group() != Some(group) {
                continue;
            }
            known = true;
            if let Some(silent) = session.silence(id) {
                return Hold::Silent(silent);
            }
            let unsafe_role = !session.role.is_safe();
            match self.sessions.state(session, options.heard_until_ms) {
                SessionState::Open if !options.all_ended => {
                    open = Some(format!("receipts of {} session {id:016x}", session.name()));
                }
                SessionState::Open | SessionState::Expired => {
                    let name = session.name();
                    return Hold::Silent(format!("{name} session {id:016x}: ended without a seal"));
                }
                SessionState::Recovered if unsafe_role => {
                    let why = "crashed, and commits without regard to receipts";
                    return Hold::Silent(format!("{} session {id:016x}: {why}", session.name()));
                }
                SessionState::Recovered | SessionState::Sealed => {}
            }
        }
        match open {
            _ if !known => Hold::Silent(format!("group {group} has never reported")),
            Some(open) => Hold::Open(open),
            None => Hold::None,
        }
    }

    /// What may have been accepted behind everything that was told.
    fn judge_tails(&self, findings: &mut Findings<'_>) {
        let options = findings.options;
        if options.all_ended && self.manifest.is_some() {
            return;
        }
        for (id, session) in self.sessions.iter().filter(|(_, s)| s.role.group().is_none()) {
            let ids = Ids::TailOf { session: id };
            let crashed = match self.sessions.state(session, options.heard_until_ms) {
                SessionState::Open if !options.all_ended => {
                    let place = "producer, which is running".to_owned();
                    findings.waiting.push(Waiting { ids, group: None, place });
                    continue;
                }
                SessionState::Open | SessionState::Expired => true,
                SessionState::Recovered => session.role == Role::UnsafeProducer,
                SessionState::Sealed => false,
            };
            if crashed {
                let silent = format!("producer session {id:016x} has ended without a seal");
                findings.doubt_ids(ids, silent);
            }
        }
        let mut strangers: Vec<u64> = Vec::new();
        for key in self.lanes.keys() {
            if let LaneKey::Stamped(lane) = key {
                strangers.push(lane.session);
            }
        }
        strangers.dedup();
        for session in strangers.into_iter().filter(|id| self.sessions.get(*id).is_none()) {
            let silent = format!("nobody reports for session {session:016x}");
            findings.doubt_ids(Ids::TailOf { session }, silent);
        }
    }

    fn judge_manifest(&self, findings: &mut Findings<'_>) {
        let Some(manifest) = &self.manifest else { return };
        for name in manifest.unaccepted() {
            let ids = Ids::Named { name: name.to_owned() };
            if findings.options.all_ended {
                findings.lost.push(Loss {
                    ids,
                    group: None,
                    stage: Blame::Producer,
                    mechanism: Mechanism::NeverAccepted,
                    time_to_detect_ms: None,
                });
            } else {
                findings.doubt_ids(ids, "the producer has not acknowledged it yet".to_owned());
            }
        }
    }

    fn duplicates(&self) -> Vec<Duplicate> {
        let copies = self.sink_copies.iter().map(|((group, id), count)| Duplicate {
            id: id.to_string(),
            detail: format!("{count} documents in the sink of group {group}"),
        });
        let mut duplicates: Vec<Duplicate> = copies.collect();
        for (key, lane) in &self.lanes {
            let subject = Subject { key, lane, group: None };
            for (place, records) in &lane.misplaced {
                let also_here = records.intersection(&lane.stored);
                duplicates.extend(subject.ids(&also_here).iter().map(|ids| Duplicate {
                    id: ids.to_string(),
                    detail: format!("also written to {place}"),
                }));
            }
        }
        duplicates.extend(self.manifest.iter().flat_map(super::Manifest::duplicates));
        duplicates
    }

    fn remarks(&self) -> Vec<String> {
        let silences = self.sessions.iter().filter_map(|(id, session)| session.silence(id));
        let mut remarks: Vec<String> = silences.collect();
        for (group, places) in &self.committed {
            for (place, committed) in places {
                let high = self.topics.watermarks(place).map_or(0, |w| w.high.max(0) as u64);
                if *committed > high {
                    remarks.push(format!(
                        "group {group} has committed {place} up to {committed}, and the log ends \
                         at {high}: acknowledged records are gone"
                    ));
                }
            }
        }
        remarks.extend(self.remarks.iter().cloned());
        remarks
    }

    /// Numbers of the lane that the group's committed offset is past.
    pub(super) fn committed_numbers(&self, group: &str, key: &LaneKey, lane: &Lane) -> IntervalSet {
        let place = match key {
            LaneKey::Natural(place) => Some(place),
            LaneKey::Stamped(_) => lane.place.as_ref(),
        };
        match place.and_then(|place| self.committed.get(group)?.get(place)) {
            None => IntervalSet::new(),
            Some(offset) if Lane::is_stamped(key) => lane.runs.below(*offset),
            Some(offset) => IntervalSet::below(*offset),
        }
    }

    /// Groups that read this topic; one of which nobody knows what it reads reads them all.
    pub(super) fn groups_of(&self, topic: &str) -> Vec<&str> {
        let reads = |topics: &std::collections::BTreeSet<String>| {
            topics.is_empty() || topics.contains(topic)
        };
        let groups = self.group_topics.iter().filter(|(_, topics)| reads(topics));
        groups.map(|(group, _)| group.as_str()).collect()
    }
}

fn report_producer_side(
    subject: Subject<'_>,
    side: &ProducerSide,
    arrived: &IntervalSet,
    findings: &mut Findings<'_>,
) {
    for (records, stage, mechanism) in &side.lost {
        let records = match mechanism {
            // It may have arrived, but not as or where it was accepted.
            Mechanism::Altered | Mechanism::Misplaced(_) => records.clone(),
            _ => records.difference(arrived),
        };
        findings.lose(subject, &records, *stage, mechanism);
    }
    for (records, silent) in &side.unknown {
        findings.doubt(subject, &records.difference(arrived), silent);
    }
    for (records, place) in &side.waiting {
        findings.wait(subject, &records.difference(arrived), place);
    }
}

fn report_underway(
    subject: Subject<'_>,
    evidence: &GroupEvidence,
    records: &IntervalSet,
    findings: &mut Findings<'_>,
) {
    let processed = records.intersection(&evidence.processed);
    let rest = records.difference(&processed);
    let delivered = rest.intersection(&evidence.delivered);
    findings.wait(subject, &processed, "pipeline, on the way to the sink");
    findings.wait(subject, &delivered, "pipeline");
    findings.wait(subject, &rest.difference(&delivered), "topic, not yet consumed");
}

fn report_lost(
    subject: Subject<'_>,
    evidence: &GroupEvidence,
    side: &ProducerSide,
    past: &IntervalSet,
    findings: &mut Findings<'_>,
) {
    let mut rest = past.clone();
    let mut lose = |part: &IntervalSet, stage, mechanism: &Mechanism| {
        let part = rest.intersection(part);
        rest = rest.difference(&part);
        findings.lose(subject, &part, stage, mechanism);
    };
    // LEDGER-6: and the cluster has acknowledged it.
    lose(&evidence.dead_lettered(), Blame::Broker, &Mechanism::DeadLetterMissing);
    let duplicate = evidence.ended_as(|disposition| disposition == Disposition::Duplicate);
    lose(&duplicate, Blame::Consumer, &Mechanism::FalseDuplicate);
    let handed_on = evidence.processed.union(&evidence.confirmed);
    lose(&handed_on, Blame::Sink, &Mechanism::CommittedBeforeConfirmed);
    lose(&evidence.delivered, Blame::Consumer, &Mechanism::CommittedBeforeProcessing);
    lose(&side.removed, Blame::Consumer, &Mechanism::Removed);
    lose(past, Blame::Consumer, &Mechanism::Skipped);
}
