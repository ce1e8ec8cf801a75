//! What only time and a coordinator without a network can show.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lossproof_env::{Clock, Environment, ManualClock, SeededRng, SimDisk};
use lossproof_log::{
    Commit, FlushPolicy, Log, LogConfig, Loss, OffsetRange, PartitionChange, PartitionId,
    PartitionRange, StateKind, Stepper,
};
use lossproof_wire::batch::BatchBuilder;

use super::coordinator::with_prefix;
use super::expiry::EXPIRED_AT_ONCE;
use super::state::Phase;
use super::{Identity, Outcome, TransactionCoordinator, TransactionError};
use crate::TransactionSettings;
use crate::offsets::OffsetKey;
use crate::producer_ids::ProducerIdBlocks;
use crate::tests::eventually;
use crate::topics::{Catalog, TopicId};

const P: PartitionId = PartitionId(1);
const Q: PartitionId = PartitionId(2);
/// Small frames take one.
const BLOCK: usize = 4_096;
const ID: &str = "payments";
const TIMEOUT_MS: i32 = 60_000;

fn append(id: PartitionId, bearer: Identity, sequence: i32, value: &str) -> Commit {
    let builder = BatchBuilder::new().producer(bearer.producer_id, bearer.epoch, sequence);
    let mut builder = builder.transactional(true);
    builder.push(1_000, None, Some(value.as_bytes()), &[]);
    Commit::append(id, builder.build().unwrap())
}

fn create(id: PartitionId) -> Commit {
    let flush = FlushPolicy::Commit;
    Commit::partition(PartitionChange::Create { id, topic_id: [1; 16], index: 0, flush })
}

fn surroundings(disk: &SimDisk) -> (ManualClock, Environment) {
    let clock = ManualClock::new(1_700_000_000_000);
    let env = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(clock.clone()),
        rng: Arc::new(SeededRng::new(disk.position() as u64)),
    };
    (clock, env)
}

/// What comes of `work` while the log is stepped.
async fn driven<T>(stepper: &mut Stepper, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::task::yield_now() => stepper.step(),
        }
    }
}

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
        world.create(P).await;
        world
    }

    async fn create(&self, id: PartitionId) {
        self.log.commit(create(id)).await.unwrap();
    }

    async fn restarted(self) -> Self {
        self.log.close().await.unwrap();
        Self::on(self.disk.killed(), TransactionSettings::default())
    }

    fn place_of(&self, text: &str) -> (PathBuf, usize) {
        let place = |path: PathBuf| {
            let bytes = self.disk.bytes(&path).unwrap();
            let at = bytes.windows(text.len()).position(|it| it == text.as_bytes())?;
            Some((path, at))
        };
        self.disk.paths().into_iter().find_map(place).expect("it is stored")
    }

    /// Leaves nothing of the frame that holds `text`: not even what it was is known any more.
    fn lose_frame(&self, text: &str) {
        let (path, at) = self.place_of(text);
        self.disk.damage(&path, (at / BLOCK * BLOCK) as u64, &[0xff; BLOCK]).unwrap();
    }

    /// What stood there is known, and cannot be read any more.
    fn spoil(&self, text: &str) {
        let (path, at) = self.place_of(text);
        self.disk.damage(&path, at as u64, b"?").unwrap();
    }

    fn on(disk: SimDisk, settings: TransactionSettings) -> Self {
        let (clock, env) = surroundings(&disk);
        let (log, _) = Log::open(&env, Path::new("/data"), LogConfig::small()).unwrap();
        Self::of(disk, clock, log, settings)
    }

    /// Whatever the log does, the test says when.
    fn stepped() -> (Self, Stepper) {
        let disk = SimDisk::new();
        let (clock, env) = surroundings(&disk);
        let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
        let (log, stepper, _) = opened.unwrap();
        (Self::of(disk, clock, log, TransactionSettings::default()), stepper)
    }

    fn of(disk: SimDisk, clock: ManualClock, log: Log, settings: TransactionSettings) -> Self {
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let coordinator = TransactionCoordinator::open(log.clone(), shared, settings);
        let ids = ProducerIdBlocks::new(log.clone());
        Self { clock, disk, ids, coordinator: Arc::new(coordinator), log }
    }

    async fn init(&self) -> Identity {
        self.coordinator.init(&self.ids, ID, TIMEOUT_MS, None).await.unwrap()
    }

    fn phase(&self) -> Option<Phase> {
        self.phase_of(ID)
    }

    fn phase_of(&self, id: &str) -> Option<Phase> {
        self.coordinator.get(id).unwrap().map(|transaction| transaction.phase)
    }

    /// Lets all that is due expire, to its end.
    async fn expire(&self) -> Option<Duration> {
        let next = self.coordinator.expire_due().await;
        drop(self.coordinator.expiring.acquire_many(EXPIRED_AT_ONCE as u32).await.unwrap());
        next
    }

    async fn write(&self, bearer: Identity, sequence: i32) {
        self.write_to(P, bearer, sequence, "value").await;
    }

    async fn write_to(&self, id: PartitionId, bearer: Identity, sequence: i32, value: &str) {
        self.log.commit(append(id, bearer, sequence, value)).await.unwrap();
    }

    fn stable(&self) -> (i64, i64) {
        self.stable_of(P)
    }

    fn stable_of(&self, id: PartitionId) -> (i64, i64) {
        let view = self.log.partition(id).unwrap();
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
    let next = world.expire().await;
    assert_eq!(next, Some(world.clock.monotonic() + Duration::from_millis(1)));
    assert_eq!((world.phase(), world.stable()), (Some(Phase::Ongoing), (0, 1)));
    world.clock.advance(Duration::from_millis(1));
    world.expire().await;
    assert_eq!(world.phase(), Some(Phase::Complete(Outcome::Abort)));
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
    world.expire().await;
    assert_eq!(world.phase(), Some(Phase::Complete(Outcome::Abort)));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_an_ongoing_transaction_goes_on_and_its_time_is_measured_anew() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.write(me, 0).await;
    let world = World::on(world.disk.power_cut(), TransactionSettings::default());
    assert_eq!((world.phase(), world.stable()), (Some(Phase::Ongoing), (0, 1)));
    world.clock.advance(Duration::from_secs(59));
    world.expire().await;
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
    world.expire().await;
    assert_eq!(world.phase(), Some(Phase::Empty));
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    world.expire().await;
    assert_eq!(world.phase(), Some(Phase::Ongoing));
    world.coordinator.end(&Catalog::default(), ID, me, Outcome::Abort).await.unwrap();
    world.clock.advance(week);
    assert_eq!(world.expire().await, None);
    assert_eq!((world.phase(), world.log.state(StateKind::Transactions)), (None, vec![]));
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
    let catalog = Catalog::default();
    let ending = world.coordinator.end(&catalog, ID, me, Outcome::Commit);
    let mut ending = std::pin::pin!(ending);
    // As far as it comes: where it did not wait, its markers would be queued by now.
    assert_eq!(at_once(ending.as_mut()), None);
    world.write(me, 0).await;
    assert_eq!(world.stable(), (0, 1), "no marker has come first");
    drop(guard);
    ending.await.unwrap();
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
    world.coordinator.add_offsets(ID, me, "g", offsets, async { Ok(()) }).await.unwrap();
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
    assert_eq!(world.expire().await, None);
    let refused = Err(TransactionError::Damaged);
    let coordinator = &world.coordinator;
    assert_eq!(coordinator.init(&world.ids, ID, TIMEOUT_MS, None).await, refused);
    assert_eq!(coordinator.guard(ID).await.map(drop), Err(TransactionError::Damaged));
    assert_eq!(coordinator.of_all(|_, _| Some(())).await.map(drop), Err(TransactionError::Damaged));
    assert_eq!(coordinator.pending(b""), Err(TransactionError::Damaged));
}

/// A partition whose end is lost takes no marker. A commit would be a lie there, and is refused as
/// a whole; an abort leaves that partition out, which stays closed to committed readers.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_end_of_a_partition_is_lost_a_transaction_can_only_be_aborted() {
    let world = World::start().await;
    world.create(Q).await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P, Q]).await.unwrap();
    world.write_to(P, me, 0, "to be lost").await;
    world.write_to(Q, me, 0, "kept").await;
    world.lose_frame("to be lost");
    let world = world.restarted().await;
    let end = async |world: &World, outcome| {
        world.coordinator.end(&Catalog::default(), ID, me, outcome).await
    };
    // For all that is known the transaction may have ended in that frame (COORDINATOR-3).
    assert_eq!(end(&world, Outcome::Abort).await, Err(TransactionError::Damaged));
    world.log.accept_losses(vec![Loss::State(StateKind::Transactions)]).await.unwrap();
    let world = world.restarted().await;
    let refused = end(&world, Outcome::Commit).await;
    let Err(TransactionError::Lost { partition, range }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((partition, range.is_open()), (P, true));
    assert_eq!(world.phase(), Some(Phase::Ongoing));
    assert_eq!(world.stable_of(Q), (0, 1), "not a part of it is committed");
    end(&world, Outcome::Abort).await.unwrap();
    let world = world.restarted().await;
    assert_eq!(world.phase(), Some(Phase::Complete(Outcome::Abort)));
    assert_eq!(world.stable_of(Q), (2, 2));
    assert_eq!(world.log.aborted(Q, 0, 2).unwrap().len(), 1);
    assert_eq!(world.log.partition(P).unwrap().last_stable, 0);
}

/// COORDINATOR-5, whichever record of it is lost: of the first nobody knows that it was one.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_has_lost_a_record_can_only_be_aborted() {
    for lost in ["first", "second", "third"] {
        let world = World::start().await;
        world.create(Q).await;
        let me = world.init().await;
        world.coordinator.add_partitions(ID, me, &[P, Q]).await.unwrap();
        for (sequence, value) in (0..).zip(["first", "second", "third"]) {
            world.write_to(P, me, sequence, value).await;
        }
        world.write_to(Q, me, 0, "kept").await;
        world.spoil(lost);
        let world = world.restarted().await;
        let damaged = world.log.partition(P).unwrap().damaged;
        assert!(damaged.iter().all(|range| !range.is_open()) && damaged.len() == 1);
        let commit = world.coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await;
        let refused = TransactionError::Lost { partition: P, range: damaged[0] };
        assert_eq!(commit, Err(refused), "{lost}");
        assert_eq!(world.stable_of(Q), (0, 1), "not a part of it is committed");
        world.coordinator.end(&Catalog::default(), ID, me, Outcome::Abort).await.unwrap();
        assert_eq!(world.stable_of(Q), (2, 2));
        // The next one has nothing to do with it.
        let me = world.init().await;
        world.coordinator.add_partitions(ID, me, &[P, Q]).await.unwrap();
        world.write_to(P, me, 0, "next").await;
        world.coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await.unwrap();
    }
}

/// COORDINATOR-5, of one that has begun since the start.
#[tokio::test]
async fn what_decays_while_a_transaction_is_open_keeps_it_from_being_committed() {
    let (world, mut stepper) = World::stepped();
    stepper.submit(vec![create(P)]);
    let me = driven(&mut stepper, world.init()).await;
    driven(&mut stepper, world.coordinator.add_partitions(ID, me, &[P])).await.unwrap();
    // More than a segment: the last one is not looked at.
    for sequence in 0..30 {
        let value = format!("number {sequence} {}", "x".repeat(3_000));
        let done = stepper.submit(vec![append(P, me, sequence, &value)]);
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        stepper.zero();
    }
    world.spoil("number 1 ");
    for _ in 0..10 {
        world.clock.advance(Duration::from_mins(1));
        stepper.scrub();
    }
    let damaged = world.log.partition(P).unwrap().damaged;
    assert_eq!(damaged, [OffsetRange { first: 1, last: 1 }]);
    let catalog = Catalog::default();
    let end = |outcome| world.coordinator.end(&catalog, ID, me, outcome);
    let commit = driven(&mut stepper, end(Outcome::Commit)).await;
    assert_eq!(commit, Err(TransactionError::Lost { partition: P, range: damaged[0] }));
    driven(&mut stepper, end(Outcome::Abort)).await.unwrap();
}

/// COORDINATOR-5: whoever gave it up was cut off before the transaction was aborted.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_of_a_transaction_is_not_committed_either() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.write_to(P, me, 0, "kept").await;
    world.write_to(P, me, 1, "to be lost").await;
    world.spoil("to be lost");
    let world = world.restarted().await;
    let range = OffsetRange { first: 1, last: 1 };
    let loss = Loss::Offsets(PartitionRange { partition: P, range });
    world.log.accept_losses(vec![loss]).await.unwrap();
    let world = world.restarted().await;
    let commit = world.coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await;
    assert_eq!(commit, Err(TransactionError::Lost { partition: P, range }));
    world.coordinator.end(&Catalog::default(), ID, me, Outcome::Abort).await.unwrap();
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    world.write_to(P, me, 0, "next").await;
    world.coordinator.end(&Catalog::default(), ID, me, Outcome::Commit).await.unwrap();
}

/// EXPIRY-1. A producer is held up in the middle of a request, and somebody waits for it.
#[tokio::test]
async fn who_is_held_up_keeps_no_other_transaction_from_its_timeout_and_nobody_from_looking() {
    let world = World::start().await;
    let me = world.init().await;
    world.coordinator.add_partitions(ID, me, &[P]).await.unwrap();
    let other = world.coordinator.init(&world.ids, "other", TIMEOUT_MS, None).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    world.coordinator.add_partitions("other", other, &[P]).await.unwrap();
    let guard = world.coordinator.guard(ID).await.unwrap();
    world.clock.advance(Duration::from_millis(TIMEOUT_MS as u64));
    let coordinator = Arc::clone(&world.coordinator);
    let running = tokio::spawn(async move { coordinator.run().await });
    let aborted = Some(Phase::Complete(Outcome::Abort));
    eventually("EXPIRY-1", async || world.phase_of("other") == aborted).await;
    assert_eq!(world.phase(), Some(Phase::Ongoing));
    let ids = world.coordinator.of_all(|id, _| Some(id.to_owned()));
    assert_eq!(at_once(ids).unwrap().unwrap(), ["other", ID]);
    drop(guard);
    eventually("its turn has come", async || world.phase() == aborted).await;
    running.abort();
}

/// What comes of something that waits for nothing.
fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(work).poll(&mut context) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
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

thread_local! {
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

/// A key that counts how often keys are looked at.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Watched(Vec<u8>);

impl Borrow<[u8]> for Watched {
    fn borrow(&self) -> &[u8] {
        LOOKS.set(LOOKS.get() + 1);
        &self.0
    }
}

/// One request may ask for thousands of groups, while others have tens of thousands of offsets in
/// open transactions: nobody else is served while each of those is looked at for each group.
#[test]
fn what_a_group_has_pending_is_found_without_a_look_at_what_others_have() {
    const OTHERS: i32 = 1_000;
    let key = |group: &str, partition| {
        let key = OffsetKey { group: group.into(), topic_id: TopicId([1; 16]), partition };
        Watched(key.encode().to_vec())
    };
    let others = (0..OTHERS).flat_map(|number| [key("f", number), key("h", number)]);
    let pending: BTreeMap<Watched, i32> =
        others.chain([key("g", 0), key("g", 1)]).map(|key| (key, 1)).collect();
    for (group, found) in [("g", 2), ("f", OTHERS as usize), ("nobody", 0)] {
        LOOKS.set(0);
        assert_eq!(with_prefix(&pending, &OffsetKey::group_prefix(group)).count(), found);
        let beside = LOOKS.get() - found;
        assert!(beside < 200, "{beside} looks at keys of others than {group}");
    }
}
