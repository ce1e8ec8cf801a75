//! # Invariants
//!
//! - `JUDGE-1`: every value that was acknowledged, or stands in the final read of the topic, has
//!   arrived: in the sink, in the dead letters, or filtered; without a sink, in the topic.
//! - `JUDGE-2`: no more documents and no more identities than input lines; one identity at several
//!   offsets is re-sent and legal, and so is a line of a producer that is known to re-send.
//! - `JUDGE-3`: an offset holds one value, for ever; offsets are dense.
//! - `JUDGE-4`: lines of one producer keep their order within a partition, by first arrival.
//! - `JUDGE-5`: a group commits nothing that has not arrived, nothing that is not there, and never
//!   backwards.
//! - `JUDGE-6`: there is nothing that was not handed in or was refused, and contents are equal.
//! - `JUDGE-7`: nothing is concluded from evidence that is not there.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Position;
use crate::evidence::{Evidence, Line, PartitionRead, Place};
use crate::history::History;
use crate::report::{Anomaly, Class, Counts, Report, Verdict};

pub(crate) fn check(history: &History) -> Report {
    let evidence = Evidence::collect(history);
    let missing = missing(history, &evidence);
    let case = Case {
        final_read: history.final_read.as_deref().unwrap_or_default(),
        sink: history.declaration.sink,
        whole: missing.is_empty(),
        evidence,
    };
    let mut anomalies = Vec::new();
    for (value, line) in &case.evidence.lines {
        case.check_arrival(value, line, &mut anomalies);
        case.check_copies(value, line, &mut anomalies);
        check_origin(value, line, &mut anomalies);
    }
    case.check_identities(&mut anomalies);
    case.check_offsets(&mut anomalies);
    case.check_order(&mut anomalies);
    case.check_commits(&mut anomalies);
    let lost: BTreeSet<String> = anomalies.iter().filter_map(lost_value).cloned().collect();
    let verdict = verdict(&anomalies, case.whole);
    let counts = case.counts();
    Report { verdict, lost: lost.into_iter().collect(), anomalies, counts, missing }
}

/// What has to be there before absence means anything (`JUDGE-7`).
fn missing(history: &History, evidence: &Evidence) -> Vec<String> {
    let mut missing = Vec::new();
    let Some(final_read) = &history.final_read else {
        missing.push("the history breaks off before its end".to_owned());
        return missing;
    };
    if history.declaration.topics.is_empty() {
        missing.push("no topic is declared".to_owned());
    }
    for (topic, partitions) in &history.declaration.topics {
        for partition in 0..*partitions {
            let key = (final_read.clone(), (topic.clone(), partition));
            if evidence.reads.get(&key).and_then(|read| read.range).is_none() {
                missing.push(format!("read '{final_read}' has no end for {topic}-{partition}"));
            }
        }
    }
    if history.declaration.sink {
        match evidence.sink_documents {
            None => missing.push("the sink was not read to its end".to_owned()),
            Some(documents) if documents != evidence.indexed => missing.push(format!(
                "the sink has {documents} documents, the history {}",
                evidence.indexed
            )),
            Some(_) => {}
        }
    }
    missing
}

fn lost_value(anomaly: &Anomaly) -> Option<&String> {
    match anomaly {
        Anomaly::LostWrite { value, .. }
        | Anomaly::UnseenInTopic { value }
        | Anomaly::UnseenInSink { value, .. }
        | Anomaly::CommitAhead { value, .. } => Some(value),
        _ => None,
    }
}

fn verdict(anomalies: &[Anomaly], whole: bool) -> Verdict {
    match anomalies.iter().map(Anomaly::class).max() {
        Some(Class::Loss) => Verdict::Loss,
        Some(Class::Broken) => Verdict::Broken,
        _ if !whole => Verdict::Undecided,
        Some(Class::Duplicate) => Verdict::DuplicatesOnly,
        None => Verdict::Complete,
    }
}

/// `JUDGE-6`.
fn check_origin(value: &str, line: &Line, anomalies: &mut Vec<Anomaly>) {
    let value = value.to_owned();
    let is_there = !line.stored.is_empty() || !line.documents.is_empty() || line.dead_letters > 0;
    if is_there && line.hand_ins == 0 {
        anomalies.push(Anomaly::Phantom { value: value.clone() });
    }
    // Handed in again after a refusal, it may be there by right.
    if is_there && line.refused && !line.kept && line.hand_ins == 1 {
        anomalies.push(Anomaly::RefusedButStored { value: value.clone() });
    }
    if line.digests.len() > 1 {
        anomalies.push(Anomaly::Altered { value });
    }
}

/// A history on trial.
struct Case<'a> {
    final_read: &'a str,
    sink: bool,
    /// Whether absence from the final reads means anything.
    whole: bool,
    evidence: Evidence,
}

impl Case<'_> {
    fn final_reads(&self) -> impl Iterator<Item = (&Place, &PartitionRead)> {
        let reads = self.evidence.reads.iter();
        reads
            .filter(|((read, _), _)| read == self.final_read)
            .map(|((_, place), read)| (place, read))
    }

    /// `JUDGE-1`.
    fn check_arrival(&self, value: &str, line: &Line, anomalies: &mut Vec<Anomaly>) {
        if !self.whole {
            return;
        }
        let value = value.to_owned();
        let arrived = self.sink && line.has_arrived() || !self.sink && line.filtered;
        if !line.stored.is_empty() {
            if self.sink && !arrived {
                let position = line.stored.first().map(|(position, _)| position.clone());
                anomalies.push(Anomaly::UnseenInSink { value, position });
            }
            return;
        }
        if !line.kept && line.known_at.is_empty() {
            return;
        }
        if arrived {
            if !self.may_have_been_deleted(line) {
                anomalies.push(Anomaly::Vanished { value });
            }
            return;
        }
        // Retention may have removed it, which ends no duty towards the sink.
        match line.known_at.iter().find(|position| self.went_past(position)) {
            Some(position) => {
                anomalies.push(Anomaly::LostWrite { value, position: position.clone() });
            }
            None if self.was_deleted(line) && self.sink => {
                anomalies.push(Anomaly::UnseenInSink { value, position: None });
            }
            None if self.was_deleted(line) => {}
            None => anomalies.push(Anomaly::UnseenInTopic { value }),
        }
    }

    fn range(&self, position: &Position) -> Option<(i64, i64)> {
        let place = (position.topic.clone(), position.partition);
        self.evidence.reads.get(&(self.final_read.to_owned(), place)).and_then(|read| read.range)
    }

    /// Whether the final read covers that offset.
    fn went_past(&self, position: &Position) -> bool {
        self.range(position).is_some_and(|(start, end)| (start..end).contains(&position.offset))
    }

    /// Whether every place it is known to have been at is below the start of the log.
    fn was_deleted(&self, line: &Line) -> bool {
        let below =
            |position| self.range(position).is_some_and(|(start, _)| position.offset < start);
        !line.known_at.is_empty() && line.known_at.iter().all(below)
    }

    /// Whether retention can be why the final read has it not.
    fn may_have_been_deleted(&self, line: &Line) -> bool {
        if line.known_at.is_empty() {
            let mut ranges = self.final_reads().filter_map(|(_, read)| read.range);
            ranges.any(|(start, _)| start > 0)
        } else {
            self.was_deleted(line)
        }
    }

    /// `JUDGE-2`.
    fn check_copies(&self, value: &str, line: &Line, anomalies: &mut Vec<Anomaly>) {
        let allowed = line.copies_allowed();
        let value = value.to_owned();
        if line.documents.len() > allowed {
            let documents = line.documents.clone();
            anomalies.push(Anomaly::DuplicateDocument { value: value.clone(), documents });
        }
        if line.identities.len() > allowed {
            let identities = line.identities.iter().cloned().collect();
            anomalies.push(Anomaly::TwoIdentities { value: value.clone(), identities });
        }
        let unstamped = line.stored.iter().filter(|(_, identity)| identity.is_none()).count();
        let may_be_resent = self.evidence.may_be_resent(line);
        if !may_be_resent && unstamped > 0 && line.stored.len() > allowed {
            let positions = line.stored.iter().map(|(position, _)| position.clone()).collect();
            anomalies.push(Anomaly::DuplicateInTopic { value, positions });
        }
    }

    fn check_identities(&self, anomalies: &mut Vec<Anomaly>) {
        let shared = self.evidence.identities.iter().filter(|(_, values)| values.len() > 1);
        anomalies.extend(shared.map(|(identity, values)| Anomaly::IdentityShared {
            identity: identity.clone(),
            values: values.iter().cloned().collect(),
        }));
    }

    /// `JUDGE-3`.
    fn check_offsets(&self, anomalies: &mut Vec<Anomaly>) {
        let mut held: BTreeMap<Position, BTreeSet<String>> = self.evidence.promised_at.clone();
        for ((_, (topic, partition)), read) in &self.evidence.reads {
            for (offset, values) in &read.values {
                let position =
                    Position { topic: topic.clone(), partition: *partition, offset: *offset };
                held.entry(position).or_default().extend(values.iter().cloned());
            }
            let Some((start, end)) = read.range else { continue };
            let mut expected = start;
            for offset in read.values.range(start..end).map(|(offset, _)| *offset).chain([end]) {
                if offset > expected {
                    let (topic, partition) = (topic.clone(), *partition);
                    let position = Position { topic, partition, offset: expected };
                    anomalies.push(Anomaly::OffsetGap { position });
                }
                expected = offset + 1;
            }
        }
        let inconsistent = held.into_iter().filter(|(_, values)| values.len() > 1);
        anomalies.extend(inconsistent.map(|(position, values)| Anomaly::InconsistentOffsets {
            position,
            values: values.into_iter().collect(),
        }));
    }

    /// `JUDGE-4`.
    fn check_order(&self, anomalies: &mut Vec<Anomaly>) {
        for ((topic, partition), read) in self.final_reads() {
            // Per producer: the line handed in last, of those that have come so far.
            let mut latest: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            let mut late: Vec<Anomaly> = Vec::new();
            let records = read.values.iter().flat_map(|(offset, values)| {
                values.iter().map(move |value| (*offset, value.as_str()))
            });
            for (offset, value) in records.filter(|(_, value)| seen.insert(*value)) {
                let line = self.evidence.lines.get(value);
                // Handed in twice, it may have been kept by either.
                let Some(line) = line.filter(|line| line.hand_ins == 1) else { continue };
                let Some((process, order)) = &line.handed_to else { continue };
                match latest.get(process.as_str()) {
                    Some((last, later)) if last > order => {
                        let (topic, partition) = (topic.clone(), *partition);
                        late.push(Anomaly::NonmonotonicSend {
                            process: process.clone(),
                            earlier: value.to_owned(),
                            later: (*later).to_owned(),
                            position: Position { topic, partition, offset },
                        });
                    }
                    _ => {
                        latest.insert(process, (*order, value));
                    }
                }
            }
            anomalies.append(&mut late);
        }
    }

    /// `JUDGE-5`.
    fn check_commits(&self, anomalies: &mut Vec<Anomaly>) {
        for ((group, place), offsets) in &self.evidence.commits {
            let (topic, partition) = place;
            let at = |offset| Position { topic: topic.clone(), partition: *partition, offset };
            for pair in offsets.windows(2) {
                if let [before, after] = pair
                    && after < before
                {
                    let (group, position) = (group.clone(), at(*after));
                    anomalies.push(Anomaly::CommitRegressed { group, position, before: *before });
                }
            }
            let key = (self.final_read.to_owned(), place.clone());
            let Some(read) = self.evidence.reads.get(&key).filter(|_| self.whole) else { continue };
            let Some(committed) = offsets.iter().max().copied() else { continue };
            if let Some((_, end)) = read.range.filter(|(_, end)| committed > *end) {
                let (group, position) = (group.clone(), at(committed));
                anomalies.push(Anomaly::CommitBeyondEnd { group, position, end });
            }
            if !self.sink {
                continue;
            }
            for (offset, values) in read.values.range(..committed) {
                let arrived = |value: &&String| {
                    self.evidence.lines.get(*value).is_some_and(Line::has_arrived)
                };
                anomalies.extend(values.iter().filter(|value| !arrived(value)).map(|value| {
                    let (group, position) = (group.clone(), at(*offset));
                    Anomaly::CommitAhead { group, committed, position, value: value.clone() }
                }));
            }
        }
    }

    fn counts(&self) -> Counts {
        let lines = || self.evidence.lines.values();
        let count = |holds: fn(&Line) -> bool| lines().filter(|line| holds(line)).count() as u64;
        let resent = |line: &&Line| {
            let stamped = line.stored.iter().all(|(_, identity)| identity.is_some());
            let known = stamped && line.identities.len() == 1;
            line.stored.len() > 1 && (known || self.evidence.may_be_resent(line))
        };
        let lived_on = |line: &&Line| {
            let process = line.handed_to.as_ref().map(|(process, _)| process);
            process.is_some_and(|process| !self.evidence.crashed.contains(process))
        };
        Counts {
            handed_in: count(|line| line.hand_ins > 0),
            acknowledged: count(|line| line.kept),
            unknown: count(|line| line.hand_ins > 0 && !line.kept && !line.refused),
            stored: count(|line| !line.stored.is_empty()),
            indexed: count(|line| !line.documents.is_empty()),
            dead_lettered: count(|line| line.dead_letters > 0),
            filtered: count(|line| line.filtered),
            resent: lines().filter(resent).count() as u64,
            resent_without_crash: lines().filter(resent).filter(lived_on).count() as u64,
            handed_in_again: count(|line| line.hand_ins > 1),
            dead_lettered_and_indexed: count(|line| {
                line.dead_letters > 0 && !line.documents.is_empty()
            }),
            uncommitted: self.uncommitted(),
        }
    }

    fn uncommitted(&self) -> u64 {
        let mut committed: BTreeMap<&Place, i64> = BTreeMap::new();
        for ((_, place), offsets) in &self.evidence.commits {
            let last = committed.entry(place).or_default();
            *last = offsets.iter().copied().max().unwrap_or_default().max(*last);
        }
        let above = self.final_reads().map(|(place, read)| {
            let from = committed.get(place).copied().unwrap_or_default();
            read.values.range(from..).count() as u64
        });
        above.sum()
    }
}
