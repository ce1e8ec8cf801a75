use std::collections::{BTreeMap, BTreeSet};

use crate::interval::IntervalSet;
use crate::receipt::{Kind, Receipt, Role};
use crate::verdict::{SessionReport, SessionState};

/// All sessions of all reporters.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<u64, Session>,
    /// Incarnations of each reporter that were heard of, with their sessions.
    heard: BTreeMap<Lineage, BTreeSet<(u64, u64)>>,
}

/// Sessions that follow each other in one journal.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Lineage {
    reporter: u64,
    group: Option<String>,
}

#[derive(Debug)]
pub(super) struct Session {
    lineage: Lineage,
    incarnation: u64,
    pub(super) role: Role,
    numbers: IntervalSet,
    /// Heartbeats tell of receipts that must be there.
    numbers_end: u64,
    seal: Option<Kind>,
    heard_ms: i64,
    lease_ms: u64,
    forgot: bool,
}

impl Session {
    fn missing(&self) -> IntervalSet {
        IntervalSet::below(self.numbers_end.max(self.numbers.end())).difference(&self.numbers)
    }

    /// What is missing of it, in words; `None` where all that it said is here.
    pub(super) fn silence(&self, session: u64) -> Option<String> {
        let missing = self.missing();
        if !missing.is_empty() {
            let count = missing.count();
            let first = missing.first().unwrap_or_default();
            let what = if count == 1 {
                format!("receipt {first} is missing")
            } else {
                format!("{count} receipts are missing, the first is {first}")
            };
            return Some(format!("{} session {session:016x}: {what}", self.name()));
        }
        self.forgot.then(|| format!("{} session {session:016x}: ran out of memory", self.name()))
    }

    pub(super) fn name(&self) -> String {
        match self.role.group() {
            Some(group) => format!("pipeline of group {group}"),
            None => "producer".to_owned(),
        }
    }
}

impl Sessions {
    pub(super) fn apply(&mut self, receipt: &Receipt) {
        let lineage =
            Lineage { reporter: receipt.reporter, group: receipt.role.group().map(str::to_owned) };
        let heard = self.heard.entry(lineage.clone()).or_default();
        heard.insert((receipt.incarnation, receipt.session));
        let session = self.by_id.entry(receipt.session).or_insert_with(|| Session {
            lineage,
            incarnation: receipt.incarnation,
            role: receipt.role.clone(),
            numbers: IntervalSet::new(),
            numbers_end: 0,
            seal: None,
            heard_ms: receipt.wall_ms,
            lease_ms: receipt.lease_ms,
            forgot: false,
        });
        session.heard_ms = session.heard_ms.max(receipt.wall_ms);
        let number = receipt.number.0;
        match receipt.kind {
            Kind::Heartbeat => session.numbers_end = session.numbers_end.max(number),
            kind => {
                session.numbers.insert_range(number.saturating_sub(receipt.merged), number);
                if matches!(kind, Kind::Sealed | Kind::Recovered) {
                    session.seal = Some(kind);
                }
            }
        }
    }

    pub(super) fn forgot(&mut self, session: u64) {
        if let Some(session) = self.by_id.get_mut(&session) {
            session.forgot = true;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn get(&self, session: u64) -> Option<&Session> {
        self.by_id.get(&session)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    pub(super) fn state(&self, session: &Session, heard_until_ms: i64) -> SessionState {
        let latest = self.latest(&session.lineage);
        let superseded = latest.is_some_and(|(incarnation, _)| incarnation > session.incarnation);
        let lease_ends_ms = session.heard_ms.saturating_add_unsigned(session.lease_ms);
        match session.seal {
            Some(Kind::Recovered) => SessionState::Recovered,
            Some(_) => SessionState::Sealed,
            None if superseded || heard_until_ms > lease_ends_ms => SessionState::Expired,
            None => SessionState::Open,
        }
    }

    /// The session that holds the journal of this one now: itself, or its latest successor.
    pub(super) fn heir(&self, session: u64) -> Option<(u64, &Session)> {
        let known = self.by_id.get(&session)?;
        let (_, heir) = self.latest(&known.lineage)?;
        self.by_id.get(&heir).map(|session| (heir, session))
    }

    fn latest(&self, lineage: &Lineage) -> Option<(u64, u64)> {
        self.heard.get(lineage)?.last().copied()
    }

    /// Whether any session of the same journal has something missing, and what.
    pub(super) fn lineage_silence(&self, session: u64) -> Option<String> {
        let lineage = &self.by_id.get(&session)?.lineage;
        let mut kin = self.by_id.iter().filter(|(_, other)| other.lineage == *lineage);
        let silence = |(id, other): (&u64, &Session)| {
            other.silence(*id).or_else(|| self.unsealed_of(*id, other))
        };
        kin.find_map(silence).or_else(|| self.unheard_of(lineage))
    }

    /// Who opens a journal seals what it finds there: where that is missing, so may be more.
    fn unsealed_of(&self, id: u64, session: &Session) -> Option<String> {
        let (latest, _) = self.latest(&session.lineage)?;
        (session.seal.is_none() && session.incarnation < latest)
            .then(|| format!("{} session {id:016x}: ended without a seal", session.name()))
    }

    /// LEDGER-8: journals of which earlier sessions were never heard of, by group.
    pub(super) fn unheard(&self) -> impl Iterator<Item = (Option<&str>, String)> {
        self.heard
            .keys()
            .filter_map(|lineage| Some((lineage.group.as_deref(), self.unheard_of(lineage)?)))
    }

    fn unheard_of(&self, lineage: &Lineage) -> Option<String> {
        let (latest, session) = self.latest(lineage)?;
        let heard = self.heard.get(lineage)?.iter().map(|(incarnation, _)| *incarnation);
        let earlier = heard.filter(|incarnation| *incarnation < latest).collect::<BTreeSet<u64>>();
        let unheard = latest - earlier.len() as u64;
        (unheard > 0).then(|| {
            let name = self.by_id.get(&session).map(Session::name).unwrap_or_default();
            format!(
                "{name} session {session:016x}: of {latest} sessions of its journal before it \
                 {unheard} were never heard of, or their receipts were removed"
            )
        })
    }

    pub(super) fn reports(&self, heard_until_ms: i64) -> Vec<SessionReport> {
        let report = |(id, session): (&u64, &Session)| SessionReport {
            session: format!("{id:016x}"),
            role: session.role.clone(),
            state: self.state(session, heard_until_ms),
            receipts: session.numbers.count(),
            missing: session.missing().count(),
        };
        self.by_id.iter().map(report).collect()
    }
}
