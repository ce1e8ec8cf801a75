use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use lossproof_log::{StateChange, StateKind};

use super::notes::Notes;
use crate::receipt::{Kind, Receipt};

/// Durable receipts that the topic has not acknowledged; beyond, old ones are merged. One of each
/// session stays: over so many restarts without a cluster there can be more.
pub const KEPT_RECEIPTS_MAX: usize = 1_024;
/// Receipts that the client holds at a time. What it holds cannot be merged: while the topic is
/// away, the others can.
pub const RECEIPTS_IN_FLIGHT_MAX: usize = 16;

const RECEIPT_KEY: u8 = b'r';

/// In the order in which they were cut.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct KeptKey {
    pub(super) incarnation: u64,
    pub(super) session: u64,
    pub(super) number: u64,
}

impl KeptKey {
    pub(super) fn of(receipt: &Receipt) -> Self {
        Self {
            incarnation: receipt.incarnation,
            session: receipt.session,
            number: receipt.number.0,
        }
    }

    pub(super) fn to_bytes(self) -> Bytes {
        let mut key = vec![RECEIPT_KEY];
        key.extend(self.incarnation.to_be_bytes());
        key.extend(self.session.to_be_bytes());
        key.extend(self.number.to_be_bytes());
        key.into()
    }

    pub(super) fn is_one(key: &[u8]) -> bool {
        key.first() == Some(&RECEIPT_KEY)
    }
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    /// The lowest number it contains.
    first_number: u64,
    used: Use,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Use {
    Free,
    /// With this token, at the client.
    InFlight(u64),
    /// By a merge that is being made durable: were it acknowledged meanwhile, its removal could
    /// take the merged receipt, which has its key, out of the journal.
    InMerge,
}

/// Receipts that are durable here and not yet known to be in the topic.
#[derive(Debug, Default)]
pub(super) struct KeptReceipts {
    kept: BTreeMap<KeptKey, Kept>,
    in_flight: HashMap<u64, Option<KeptKey>>,
    next_token: u64,
    /// In the topic, and still in the journal.
    acknowledged: Vec<KeptKey>,
}

/// Old receipts and the one that replaces them.
#[derive(Debug)]
pub(super) struct Merge {
    replaced: Vec<KeptKey>,
    receipt: Receipt,
}

impl KeptReceipts {
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn keep(&mut self, receipt: &Receipt, bytes: Bytes) {
        let first_number = receipt.number.0.saturating_sub(receipt.merged);
        self.kept.insert(KeptKey::of(receipt), Kept { bytes, first_number, used: Use::Free });
    }

    pub(super) fn holds(&self, session: u64, number: u64) -> bool {
        self.kept.iter().any(|(key, kept)| {
            key.session == session && (kept.first_number..=key.number).contains(&number)
        })
    }

    /// `None` also where the client has enough.
    pub(super) fn next_waiting(&self) -> Option<(KeptKey, Bytes)> {
        if self.receipts_in_flight() >= RECEIPTS_IN_FLIGHT_MAX {
            return None; // REPORT-4
        }
        self.free().next().map(|(key, kept)| (*key, kept.bytes.clone()))
    }

    fn free(&self) -> impl Iterator<Item = (&KeptKey, &Kept)> {
        self.kept.iter().filter(|(_, kept)| kept.used == Use::Free)
    }

    /// A token for one receipt that is about to be sent, or for a heartbeat.
    pub(super) fn token(&mut self, key: Option<KeptKey>) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.in_flight.insert(token, key);
        if let Some(kept) = key.and_then(|key| self.kept.get_mut(&key)) {
            kept.used = Use::InFlight(token);
        }
        token
    }

    pub(super) fn receipts_in_flight(&self) -> usize {
        self.in_flight.values().flatten().count()
    }

    pub(super) fn heartbeat_in_flight(&self) -> bool {
        self.in_flight.values().any(Option::is_none)
    }

    /// The outcome of one token is known.
    pub(super) fn settle(&mut self, token: u64, acknowledged: bool) {
        let Some(key) = self.in_flight.remove(&token).flatten() else { return };
        let in_flight = Use::InFlight(token);
        let Some(kept) = self.kept.get_mut(&key).filter(|kept| kept.used == in_flight) else {
            return;
        };
        if acknowledged {
            self.drop_acknowledged(key);
        } else {
            kept.used = Use::Free;
        }
    }

    /// REPORT-2: the only way out of the journal, but for a merge.
    pub(super) fn drop_acknowledged(&mut self, key: KeptKey) {
        if self.kept.remove(&key).is_some() {
            self.acknowledged.push(key);
        }
    }

    /// The client is gone, and with it every outcome that was to come.
    pub(super) fn forget_in_flight(&mut self) {
        self.in_flight.clear();
        let sent = self.kept.values_mut().filter(|kept| matches!(kept.used, Use::InFlight(_)));
        sent.for_each(|kept| kept.used = Use::Free);
    }

    pub(super) fn take_removals(&mut self) -> Vec<StateChange> {
        let removal = |key: KeptKey| StateChange {
            kind: StateKind::Receipt,
            key: key.to_bytes(),
            value: None,
        };
        self.acknowledged.drain(..).map(removal).collect()
    }

    pub(super) fn put_back_removals(&mut self, removals: &[StateChange]) {
        let known = |change: &StateChange| {
            let number = |at: usize| {
                let bytes = change.key.get(at..at + 8)?;
                bytes.try_into().ok().map(u64::from_be_bytes)
            };
            Some(KeptKey { incarnation: number(1)?, session: number(9)?, number: number(17)? })
        };
        self.acknowledged.extend(removals.iter().filter_map(known));
    }

    /// REPORT-4: once there are too many, old ones of a session become one receipt. Those are sent
    /// no more until the merge is applied or abandoned.
    pub(super) fn plan_merge(&mut self) -> Option<Merge> {
        if self.kept.len() < KEPT_RECEIPTS_MAX {
            return None;
        }
        let merge = self.merge_of(self.first_run())?;
        self.set_use(&merge.replaced, Use::InMerge);
        Some(merge)
    }

    /// The oldest receipts of one session that follow each other, where there are several; at most
    /// half of all that are to be kept. Of an earlier session a single one may be left.
    fn first_run(&self) -> Vec<KeptKey> {
        let mut run: Vec<KeptKey> = Vec::new();
        for (key, kept) in self.free() {
            let before = KeptKey { number: kept.first_number.wrapping_sub(1), ..*key };
            if run.last() != Some(&before) {
                if run.len() > 1 {
                    break;
                }
                run.clear();
            }
            run.push(*key);
            if run.len() >= KEPT_RECEIPTS_MAX / 2 {
                break;
            }
        }
        run
    }

    fn merge_of(&self, replaced: Vec<KeptKey>) -> Option<Merge> {
        let mut notes = Notes::default();
        let mut merged: Option<Receipt> = None;
        for key in &replaced {
            let receipt = Receipt::decode(&self.kept.get(key)?.bytes).ok()?;
            notes.absorb(&receipt.entries);
            merged = Some(match merged {
                None => receipt,
                Some(before) => follow(before, receipt),
            });
        }
        let mut receipt = merged.filter(|_| replaced.len() > 1)?;
        receipt.entries = notes.take();
        Some(Merge { replaced, receipt })
    }

    fn set_use(&mut self, keys: &[KeptKey], used: Use) {
        for key in keys {
            if let Some(kept) = self.kept.get_mut(key) {
                kept.used = used;
            }
        }
    }

    /// The merge is not durable.
    pub(super) fn abandon_merge(&mut self, merge: &Merge) {
        self.set_use(&merge.replaced, Use::Free);
    }

    pub(super) fn apply_merge(&mut self, merge: &Merge) {
        merge.replaced.iter().for_each(|key| {
            self.kept.remove(key);
        });
        self.keep(&merge.receipt, merge.receipt.encode().into());
    }
}

impl Merge {
    pub(super) fn changes(&self) -> Vec<StateChange> {
        let kind = StateKind::Receipt;
        let remove = |key: &KeptKey| StateChange { kind, key: key.to_bytes(), value: None };
        let key = KeptKey::of(&self.receipt);
        let gone = self.replaced.iter().filter(|replaced| **replaced != key).map(remove);
        let value = Some(self.receipt.encode().into());
        gone.chain([StateChange { kind, key: key.to_bytes(), value }]).collect()
    }
}

/// One statement out of two of the same session; entries are merged apart.
fn follow(before: Receipt, mut after: Receipt) -> Receipt {
    after.merged += before.merged + 1;
    if after.kind == Kind::Ongoing {
        after.kind = before.kind;
    }
    let later = std::mem::take(&mut after.lane_ends);
    let superseded = |end: &&crate::receipt::LaneEnd| later.iter().all(|l| l.lane != end.lane);
    after.lane_ends = before.lane_ends.iter().filter(superseded).cloned().collect();
    after.lane_ends.extend(later);
    after
}
