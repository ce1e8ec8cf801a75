//! REPORT-2, REPORT-4: while the receipts topic is away, a bounded number of receipts waits for it,
//! whatever the client holds and however often the process was started again, and none is lost.

use crate::support;

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use lossproof_audit::interval::IntervalSet;
use lossproof_audit::receipt::{Role, Stage};
use lossproof_audit::report::{KEPT_RECEIPTS_MAX, RECEIPTS_IN_FLIGHT_MAX, ReceiptStore, Reporter};
use lossproof_client::memory::{Cluster, DeliveryFault};
use lossproof_log::{CommitCause, StateChange, StateKind};
use support::{Journal, SECOND, World, record, ship, shipped};

/// One more than is to be kept: the receipt that was cut last is merged with the next.
const BOUND: usize = KEPT_RECEIPTS_MAX + 1;

fn open(journal: impl ReceiptStore + 'static, world: &World) -> Reporter {
    Reporter::open(journal, &world.environment, Role::Producer, Vec::new()).unwrap()
}

fn accept(reporter: &Reporter, seq: u64) {
    reporter.note(Stage::Accepted, &record(reporter.session(), seq, None));
    reporter.flush_durable().unwrap();
}

/// REPORT-3: the numbers of a session that the topic has.
fn numbers(cluster: &Cluster, session: u64) -> IntervalSet {
    let mut numbers = IntervalSet::new();
    for receipt in shipped(cluster).iter().filter(|receipt| receipt.session == session) {
        numbers.insert_range(receipt.number.0 - receipt.merged, receipt.number.0);
    }
    numbers
}

/// Of a former session one receipt is left after a merge; no later session was merged behind it.
#[test]
fn the_bound_holds_after_restarts_without_a_cluster() {
    let (world, journal, cluster) = (World::new(5), Journal::new(9), Cluster::new());
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let reporter = open(journal.clone(), &world);
        (0..3).for_each(|seq| accept(&reporter, seq));
        sessions.push(reporter.session());
    }
    let last = open(journal.clone(), &world);
    let total = KEPT_RECEIPTS_MAX as u64 * 3;
    for seq in 0..total {
        accept(&last, seq);
        assert!(seq % 256 != 0 || journal.receipts().len() <= BOUND, "after {seq}");
    }
    assert!(journal.receipts().len() <= BOUND, "{}", journal.receipts().len());
    ship(&last, &cluster);
    for session in sessions {
        assert_eq!(numbers(&cluster, session), IntervalSet::of(0, 4), "with opening and seal");
    }
    assert_eq!(numbers(&cluster, last.session()), IntervalSet::of(0, total));
}

/// A client that takes all, as librdkafka does, held all, and what it holds is never merged.
#[test]
fn the_client_holds_few_so_that_the_others_can_be_merged() {
    let (world, journal, cluster) = (World::new(5), Journal::new(9), Cluster::new());
    cluster.set_queue_records_max(20_000);
    let reporter = open(journal.clone(), &world);
    let mut producer = cluster.producer();
    reporter.announce(&mut *producer, SECOND).unwrap();
    cluster.set_reachable(false);
    let total = KEPT_RECEIPTS_MAX as u64 * 3;
    for seq in 0..total {
        accept(&reporter, seq);
        reporter.ship(&mut *producer, Duration::ZERO).unwrap();
    }
    let held = producer.in_flight();
    assert!(held <= RECEIPTS_IN_FLIGHT_MAX + 1, "{held} with a heartbeat");
    assert!(journal.receipts().len() <= BOUND, "{}", journal.receipts().len());
    cluster.set_reachable(true);
    // One call sends all that is left, a few at a time.
    assert_eq!(reporter.ship(&mut *producer, SECOND), Ok(0));
    assert_eq!(numbers(&cluster, reporter.session()), IntervalSet::of(0, total));
    assert!(journal.receipts().is_empty());
}

/// Ships, once, when a frame is in the journal and the reporter has not heard of it yet.
#[derive(Clone, Debug)]
struct ShippingJournal {
    journal: Journal,
    at_next_commit: Arc<Mutex<Option<Shipping>>>,
}

type Shipping = (Weak<Reporter>, Cluster);

impl ReceiptStore for ShippingJournal {
    fn directory_id(&self) -> u64 {
        self.journal.directory_id()
    }

    fn state(&self, kind: StateKind) -> Vec<(Bytes, Bytes)> {
        self.journal.state(kind)
    }

    fn state_is_damaged(&self, kind: StateKind) -> bool {
        self.journal.state_is_damaged(kind)
    }

    fn commit(&self, changes: Vec<StateChange>) -> Result<(), CommitCause> {
        self.journal.commit(changes)?;
        let armed = self.at_next_commit.lock().unwrap().take();
        if let Some((reporter, cluster)) = armed {
            let reporter = reporter.upgrade().unwrap();
            reporter.ship(&mut *cluster.producer(), SECOND).unwrap();
            reporter.client_replaced();
        }
        Ok(())
    }
}

/// REPORT-2: a receipt whose key a merge takes, acknowledged while the merge became durable, took
/// the merged one out of the journal, and with it what had not been acknowledged.
#[test]
fn a_receipt_acknowledged_during_its_merge_takes_nothing_else_with_it() {
    let (world, journal, cluster) = (World::new(5), Journal::new(9), Cluster::new());
    let former = open(journal.clone(), &world).session();
    let at_next_commit = Arc::default();
    let store = ShippingJournal { journal: journal.clone(), at_next_commit };
    let reporter = Arc::new(open(store.clone(), &world));
    for seq in 0..KEPT_RECEIPTS_MAX as u64 - 3 {
        accept(&reporter, seq);
    }
    // Two of the former session, which are merged next, under the key of the second.
    assert_eq!(journal.receipts().len(), KEPT_RECEIPTS_MAX);
    cluster.script_deliveries([DeliveryFault::NotStored, DeliveryFault::Deliver]);
    let armed = (Arc::downgrade(&reporter), cluster.clone());
    *store.at_next_commit.lock().unwrap() = Some(armed);
    accept(&reporter, KEPT_RECEIPTS_MAX as u64);
    assert!(store.at_next_commit.lock().unwrap().is_none() && !shipped(&cluster).is_empty());
    drop(reporter);

    let next = open(journal, &world);
    ship(&next, &cluster);
    assert_eq!(numbers(&cluster, former), IntervalSet::of(0, 1), "opening and seal");
}

/// A merge that cannot be made durable leaves its receipts as they were.
#[test]
fn a_merge_that_fails_holds_up_nothing() {
    let (world, journal, cluster) = (World::new(5), Journal::new(9), Cluster::new());
    let reporter = open(journal.clone(), &world);
    for seq in 0..KEPT_RECEIPTS_MAX as u64 - 1 {
        accept(&reporter, seq);
    }
    assert_eq!(journal.receipts().len(), KEPT_RECEIPTS_MAX);
    reporter.note(Stage::Accepted, &record(reporter.session(), 5_000, None));
    journal.set_full(true);
    assert!(reporter.flush_durable().is_err());
    journal.set_full(false);
    ship(&reporter, &cluster);
    assert!(journal.receipts().is_empty());
    let last = KEPT_RECEIPTS_MAX as u64 - 1;
    assert_eq!(numbers(&cluster, reporter.session()), IntervalSet::of(0, last));
}
