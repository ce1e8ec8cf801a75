//! A journal in memory for reporters, and short ways to say things.

pub(crate) mod history;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lossproof_audit::identity::{GROUP_HEADER, HEADER_NAME, Header, RecordId, binding, checksum};
use lossproof_audit::receipt::{Kind, LaneId, Receipt, ReceiptNumber, Role};
use lossproof_audit::report::{RECEIPTS_TOPIC, ReceiptStore, RecordRef, Reporter};
use lossproof_client::TopicPartition;
use lossproof_client::memory::Cluster;
use lossproof_env::{Environment, ManualClock, RealDisk, SeededRng};
use lossproof_log::{CommitCause, FullCause, StateChange, StateKind};

/// What it holds outlives the reporter, as a journal does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    entries: Arc<Mutex<BTreeMap<Bytes, Bytes>>>,
    full: Arc<Mutex<bool>>,
    id: u64,
}

impl Journal {
    pub(crate) fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    pub(crate) fn set_full(&self, full: bool) {
        *self.full.lock().unwrap() = full;
    }

    /// Receipts that wait in it.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        let entries = self.entries.lock().unwrap();
        let receipts = entries.iter().filter(|(key, _)| key.starts_with(b"r"));
        receipts.map(|(_, value)| Receipt::decode(value).unwrap()).collect()
    }
}

impl ReceiptStore for Journal {
    fn directory_id(&self) -> u64 {
        self.id
    }

    fn state(&self, kind: StateKind) -> Vec<(Bytes, Bytes)> {
        assert_eq!(kind, StateKind::Receipt);
        let entries = self.entries.lock().unwrap();
        entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn state_is_damaged(&self, _kind: StateKind) -> bool {
        false
    }

    fn commit(&self, changes: Vec<StateChange>) -> Result<(), CommitCause> {
        if *self.full.lock().unwrap() {
            return Err(CommitCause::Full(FullCause::Disk));
        }
        let mut entries = self.entries.lock().unwrap();
        for change in changes.into_iter().filter(|change| change.kind == StateKind::Receipt) {
            match change.value {
                Some(value) => entries.insert(change.key, value),
                None => entries.remove(&change.key),
            };
        }
        Ok(())
    }
}

/// Everything a reporter knows of the world: time that a test moves, seeded randomness.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) environment: Environment,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let clock = ManualClock::new(1_000_000);
        let environment = Environment {
            disk: Arc::new(RealDisk),
            clock: Arc::new(clock.clone()),
            rng: Arc::new(SeededRng::new(seed)),
        };
        Self { clock, environment }
    }
}

/// When verdicts are given.
pub(crate) const NOW: i64 = 100_000;
/// The session of the one producer, and its lane.
pub(crate) const PRODUCER: u64 = 0x77;
pub(crate) const LANE: LaneId = LaneId { session: PRODUCER, lane: 0 };

/// The first receipt of a session, which says nothing yet.
pub(crate) fn receipt(session: u64, role: Role, kind: Kind) -> Receipt {
    Receipt {
        kind,
        reporter: session,
        incarnation: 0,
        session,
        role,
        wall_ms: NOW - 3_000,
        lease_ms: 10_000,
        number: ReceiptNumber(0),
        merged: 0,
        lane_ends: Vec::new(),
        entries: Vec::new(),
    }
}

/// The topic of the dead letters.
pub(crate) const DEAD: &str = "news-dead";
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn record(session: u64, seq: u64, offset: Option<i64>) -> RecordRef<'static> {
    RecordRef { id: Some(RecordId { session, lane: 0, seq }), topic: "news", partition: 0, offset }
}

/// The receipts (no heartbeats) that the topic holds, in order.
pub(crate) fn shipped(cluster: &Cluster) -> Vec<Receipt> {
    let mut admin = cluster.admin();
    let mut receipts = Vec::new();
    for partition in admin.partitions(RECEIPTS_TOPIC).unwrap().unwrap_or_default() {
        let place = TopicPartition { topic: RECEIPTS_TOPIC.to_owned(), partition };
        let high = admin.watermarks(&place).unwrap().high;
        let mut each = |record: lossproof_client::Record| {
            receipts.push(Receipt::decode(&record.value.unwrap()).unwrap());
        };
        admin.read(&place, 0, high, &mut each).unwrap();
    }
    receipts.retain(|receipt| receipt.kind != Kind::Heartbeat);
    receipts
}

pub(crate) fn ship(reporter: &Reporter, cluster: &Cluster) {
    let mut producer = cluster.producer();
    assert_eq!(reporter.ship(&mut *producer, SECOND), Ok(0));
}

/// A record of topic `news`, partition 0, with its header.
pub(crate) fn stamped(session: u64, seq: u64, offset: i64) -> lossproof_client::Record {
    let value = Bytes::from(format!("{{\"id\":\"message-{seq}\"}}"));
    let header = Header {
        id: RecordId { session, lane: 0, seq },
        moved: false,
        transformed: false,
        binding: binding("news", 0),
        checksum: checksum(None, Some(&value)),
    };
    let header = Bytes::copy_from_slice(&header.encode());
    lossproof_client::Record {
        headers: vec![(HEADER_NAME.to_owned(), Some(header))],
        value: Some(value),
        ..unstamped(offset)
    }
}

/// What a pipeline of group `indexer` puts aside of [`stamped`].
pub(crate) fn dead_letter(session: u64, seq: u64) -> lossproof_client::Record {
    let mut record = stamped(session, seq, 0);
    DEAD.clone_into(&mut record.topic);
    for (_, value) in &mut record.headers {
        let header = Header::decode(value.as_ref().unwrap()).unwrap();
        let moved = Header { moved: true, ..header };
        *value = Some(Bytes::copy_from_slice(&moved.encode()));
    }
    record.headers.push((GROUP_HEADER.to_owned(), Some("indexer".into())));
    record
}

pub(crate) fn unstamped(offset: i64) -> lossproof_client::Record {
    lossproof_client::Record {
        topic: "news".to_owned(),
        partition: 0,
        offset,
        value: Some(Bytes::from_static(b"plain")),
        ..lossproof_client::Record::default()
    }
}
