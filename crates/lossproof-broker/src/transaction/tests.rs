//! What only time and a coordinator without a network can show.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Clock, Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{Commit, FlushPolicy, Log, LogConfig, PartitionChange, PartitionId, StateKind};
use lossproof_wire::batch::BatchBuilder;

use super::state::Phase;
use super::{Identity, Outcome, TransactionCoordinator, TransactionError};
use crate::TransactionSettings;
use crate::producer_ids::ProducerIdBlocks;
use crate::topics::Catalog;

const P: PartitionId = PartitionId(1);
const ID: &str = "payments";
const TIMEOUT_MS: i32 = 60_000;

struct World {
    clock: ManualClock,
    disk: SimDisk,
    log: Log,
    ids: ProducerIdBlocks,
    coordinator: Arc<TransactionCoordinator>,
}

impl World {
    async fn start() -> Self {
        let world = Self::on(SimDisk::new(), TransactionSettings::default());
        let (id, flush) = (P, FlushPolicy::Commit);
        let create = PartitionChange::Create { id, topic_id: [1; 16], index: 0, flush };
        world.log.commit(Commit::partition(create)).await.unwrap();
        world
    }

    fn on(disk: SimDisk, settings: TransactionSettings) -> Self {
        let clock = ManualClock::new(1_700_000_000_000);
        let env = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(clock.clone()),
            rng: Arc::new(SeededRng::new(disk.position() as u64)),
        };
        let (log, _) = Log::open(&env, Path::new("/data"), LogConfig::small()).unwrap();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let coordinator = TransactionCoordinator::open(log.clone(), shared, settings);
        let ids = ProducerIdBlocks::new(log.clone());
        Self { clock, disk, ids, coordinator: Arc::new(coordinator), log }
    }

    async fn init(&self) -> Identity {
        self.coordinator.init(&self.ids, ID, TIMEOUT_MS, None).await.unwrap()
    }

    async fn phase(&self) -> Option<Phase> {
        self.coordinator.get(ID).await.unwrap().map(|transaction| transaction.phase)
    }

    async fn write(&self, bearer: Identity, sequence: i32) {
        let builder = BatchBuilder::new().producer(bearer.producer_id, bearer.epoch, sequence);
        let mut builder = builder.transactional(true);
        builder.push(1_000, None, Some(b"value"), &[]);
        self.log.commit(Commit::append(P, builder.build().unwrap())).await.unwrap();
    }

    fn stable(&self) -> (i64, i64) {
        let view = self.log.partition(P).unwrap();
        (view.last_stable, view.high_watermark)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.write(me, 0).await;
    let timeout = Duration::from_millis(TIMEOUT_MS as u64);
    world.clock.advance(timeout.saturating_sub(Duration::from_millis(1)));
    let next = world.coordinator.expire_due().await;
    assert_eq!(next, Some(world.clock.monotonic() + Duration::from_millis(1)));
    assert_eq!((world.phase().await, world.stable()), (Some(Phase::Ongoing), (0, 1)));
    world.clock.advance(Duration::from_millis(1));
    world.coordinator.expire_due().await;
    assert_eq!(world.phase().await, Some(Phase::Complete(Outcome::Abort)));
    assert_eq!(world.stable(), (2, 2));
    assert_eq!(world.log.aborted(P, 0, 2).unwrap().len(), 1);
    let late = world.coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await;
    assert_eq!(late, Err(TransactionError::Fenced));
    assert_eq!(world.init().await.epoch, me.epoch + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_transaction_runs_from_its_beginning() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.clock.advance(Duration::from_secs(59));
    world.coordinator.add_group(ID, me, "g").await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    world.coordinator.expire_due().await;
    assert_eq!(world.phase().await, Some(Phase::Complete(Outcome::Abort)));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_an_ongoing_transaction_goes_on_and_its_time_is_measured_anew() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.write(me, 0).await;
    let world = World::on(world.disk.power_cut(), TransactionSettings::default());
    assert_eq!((world.phase().await, world.stable()), (Some(Phase::Ongoing), (0, 1)));
    world.clock.advance(Duration::from_secs(59));
    world.coordinator.expire_due().await;
    let done = world.coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await;
    assert_eq!((done, world.stable()), (Ok(()), (2, 2)));
    assert_eq!(world.log.aborted(P, 0, 2).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_not_used_is_forgotten_and_one_at_work_is_not() {
    let world = World::start().await;
    let me = world.init().await;
    let week = Duration::from_hours(7 * 24);
    world.clock.advance(week.saturating_sub(Duration::from_millis(1)));
    world.coordinator.expire_due().await;
    assert_eq!(world.phase().await, Some(Phase::Empty));
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    world.coordinator.expire_due().await;
    assert_eq!(world.phase().await, Some(Phase::Ongoing));
    world.coordinator.end(&Catalog::default(), ID, me, Outcome::Abort).await.unwrap();
    world.clock.advance(week);
    assert_eq!(world.coordinator.expire_due().await, None);
    assert_eq!((world.phase().await, world.log.state(StateKind::Transactions)), (None, vec![]));
    let forgotten = world.coordinator.add_partitions(ID, me, &[P]).await;
    assert_eq!(forgotten, Err(TransactionError::UnknownProducer));
    assert_ne!(world.init().await.producer_id, me.producer_id);
}

/// COORDINATOR-2: the end of a transaction waits until what is on its way has been queued.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_does_not_end_while_records_are_being_queued() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    let guard = world.coordinator.guard(ID).await.unwrap();
    guard.check(me, P).unwrap();
    let coordinator = Arc::clone(&world.coordinator);
    let ending =
        tokio::spawn(
            async move { coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await },
        );
    world.write(me, 0).await;
    assert_eq!(world.stable(), (0, 1), "no marker has come first");
    drop(guard);
    ending.await.unwrap().unwrap();
    assert_eq!(world.stable(), (2, 2));
    let late = world.coordinator.guard(ID).await.unwrap().check(me, P);
    assert_eq!(late, Err(TransactionError::State));
}

/// What the transaction has said yes to is not left out because its key makes no sense.
#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_cannot_be_read_is_committed_too() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_group(ID, me, "g").await.unwrap();
    let offsets = vec![("no key".into(), "value".into())];
    world.coordinator.add_offsets(ID, me, "g", offsets).await.unwrap();
    world.coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await.unwrap();
    assert_eq!(world.log.state_value(StateKind::Offsets, b"no key"), Some("value".into()));
}

/// COORDINATOR-3.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_stops_all_and_ends_nothing() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    let garbage = Commit::state(StateKind::Transactions, "other", Some("garbage".into()));
    world.log.commit(garbage).await.unwrap();
    let world = World::on(world.disk.power_cut(), TransactionSettings::default());
    world.clock.advance(Duration::from_hours(24));
    assert_eq!(world.coordinator.expire_due().await, None);
    let refused = Err(TransactionError::Damaged);
    let coordinator = &world.coordinator;
    assert_eq!(coordinator.init(&world.ids, ID, TIMEOUT_MS, None).await, refused);
    assert_eq!(coordinator.guard(ID).await.map(drop), Err(TransactionError::Damaged));
    assert_eq!(coordinator.all().await.map(drop), Err(TransactionError::Damaged));
    assert_eq!(coordinator.pending(b""), Err(TransactionError::Damaged));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_bounded() {
    let settings = TransactionSettings { ids_max: 1, ..TransactionSettings::default() };
    let world = World::on(SimDisk::new(), settings);
    let me = world.init().await;
    let second = world.coordinator.init(&world.ids, "second", TIMEOUT_MS, None).await;
    assert_eq!(second, Err(TransactionError::TooManyIds));
    assert_eq!(world.init().await, me.next());
}
