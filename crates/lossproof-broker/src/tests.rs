//! What only the inside of a broker can show: its memory, and changes whose client goes away.

use core::future::Future;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lossproof_env::{
    Clock, Environment, ManualClock, MemoryNet, Net, RealClock, SeededRng, SimDisk,
};
use lossproof_log::{Commit, FlushPolicy, LogConfig, PartitionChange, StateKind};
use lossproof_wire::batch::BatchBuilder;
use lossproof_wire::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::broker::Broker;
use crate::budget::{Budget, DECODERS_MAX, SMALL_ANSWER_BYTES, Share, WAITING_BYTES};
use crate::compaction;
use crate::group::{ClientName, GroupError, Join, Sync};
use crate::offsets::{CommittedOffset, OffsetKey};
use crate::removal::{ClosedGroup, remove_offsets};
use crate::retention;
use crate::topic_config::{Alteration, Change, TopicConfig};
use crate::topics::{NewTopic, TopicId};
use crate::{BrokerConfig, Server};

/// More than the network in memory takes before a writer waits.
const LARGE_BYTES: usize = 200 << 10;
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// The broker answers at once, or closes: only a broken one keeps a test waiting for so long.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

/// Looks for what goes on in the background until it has happened. Where it never does, that is
/// told after a minute or more, and the test does not hang.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    const LOOKS_MAX: u32 = 12_000;
    for _ in 0..LOOKS_MAX {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never happens: {what}");
}

/// Becomes member `a`, the only one of `group`.
pub(crate) async fn become_member(broker: &Broker, group: &str, subscription: Bytes) {
    let answer = broker.groups.join(Join {
        group: group.into(),
        member_id: String::new(),
        instance: None,
        client: ClientName::default(),
        fresh_member_id: "a".into(),
        requires_known_member_id: false,
        can_skip_assignment: false,
        session_timeout: Duration::from_mins(1),
        rebalance_timeout: Duration::from_mins(1),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), subscription)],
    });
    assert_eq!(answer.await.expect("an answer").error, None);
    let answer = broker.groups.sync(Sync {
        group: group.into(),
        generation: 1,
        member_id: "a".into(),
        instance: None,
        protocol_type: None,
        protocol: None,
        assignments: vec![],
    });
    assert_eq!(answer.await.expect("an answer").error, None);
}

pub(crate) async fn server() -> (Server, MemoryNet) {
    server_on(SimDisk::new()).await
}

pub(crate) async fn server_on(disk: SimDisk) -> (Server, MemoryNet) {
    let net = MemoryNet::new();
    let env = Environment {
        disk: Arc::new(disk),
        clock: Arc::new(RealClock::new()),
        rng: Arc::new(SeededRng::new(7)),
    };
    (Server::start(&env, &net, small_config()).await.expect("the broker starts"), net)
}

pub(crate) fn small_config() -> BrokerConfig {
    let mut config = BrokerConfig::new("127.0.0.1:9092".parse().expect("an address"), "/data");
    config.request_bytes_max = REQUEST_BYTES_MAX;
    config.memory_budget_bytes = REQUEST_BYTES_MAX + (4 << 20);
    config.fetch_bytes_max = REQUEST_BYTES_MAX;
    config.log.segment_bytes = 4 << 20;
    config.log.initial_zero_bytes = 1 << 20;
    config.log.zero_step_bytes = 1 << 20;
    config.log.reserve_bytes = 64 << 10;
    config
}

pub(crate) fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic { name: name.into(), partitions, config: TopicConfig::default() }
}

pub(crate) fn frame<M: Message>(request: &M, version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    let header = RequestHeader {
        request_api_key: M::API_KEY.code(),
        request_api_version: version,
        ..Default::default()
    };
    header.encode(&mut body, M::API_KEY.request_header_version(version)).expect("a header");
    request.encode(&mut body, version).expect("a request");
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.put_slice(&body);
    frame
}

/// Everything that topic `t` has from `fetch_offset` on.
pub(crate) fn one_partition(fetch_offset: i64) -> FetchRequest {
    let partition =
        FetchPartition { fetch_offset, partition_max_bytes: i32::MAX, ..Default::default() };
    FetchRequest {
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Sends `request` and reads no more than the length of its answer: the rest is under way then, and
/// held in memory. Returns the length, and how much of the budget is used meanwhile.
async fn held_by(server: Server, net: &MemoryNet, request: &[u8]) -> (usize, usize) {
    let broker: Arc<Broker> = Arc::clone(&server.broker);
    let free_before = broker.answers.free_bytes();
    let stopper = server.stopper();
    let served = tokio::spawn(server.run());
    let mut client = net.connect(broker.config.listen).await.expect("the broker listens");
    client.write_all(request).await.expect("connected");
    let length = client.read_i32().await.expect("an answer") as usize;
    let used = free_before - broker.answers.free_bytes();
    let mut answer = vec![0; length];
    client.read_exact(&mut answer).await.expect("all of it");
    drop(client);
    stopper.drain();
    served.await.expect("no panic").expect("the log closes");
    assert_eq!(broker.answers.free_bytes(), free_before, "everything is given back");
    (length, used)
}

/// BUDGET-1.
#[tokio::test]
async fn an_answer_that_is_being_sent_is_charged() {
    let (server, net) = server().await;
    server.broker.create_topic(topic("t", 5_000)).await.expect("a topic");
    let (length, used) = held_by(server, &net, &frame(&MetadataRequest::default(), 12)).await;
    assert!(length > LARGE_BYTES / 2 && used >= length, "{length} bytes, {used} charged");
}

/// BUDGET-1.
#[tokio::test]
async fn a_fetched_batch_that_is_being_sent_is_charged() {
    let (server, net) = server().await;
    let topic = server.broker.create_topic(topic("t", 1)).await.expect("a topic");
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&vec![b'x'; LARGE_BYTES]), &[]);
    let batch = builder.build().expect("a batch");
    let commit = lossproof_log::Commit::append(topic.partitions[0], batch);
    server.broker.log.commit(commit).await.expect("acknowledged");
    let (length, used) = held_by(server, &net, &frame(&one_partition(0), 12)).await;
    assert!(length > LARGE_BYTES && used >= length, "{length} bytes, {used} charged");
}

/// The pool, and then the reserve.
async fn hold_all(budget: &Budget) -> [Share; 2] {
    let mut held = [Share::default(), Share::default()];
    budget.grow(&mut held[0], budget.free_bytes()).await;
    budget.grow(&mut held[1], 1).await;
    held
}

/// BUDGET-4: all memory for requests is taken, and a group still forms, a consumer still reads.
#[tokio::test]
async fn groups_and_consumers_go_on_while_requests_wait_for_memory() {
    let (server, net) = server().await;
    let broker = Arc::clone(&server.broker);
    let topic = broker.create_topic(topic("t", 1)).await.expect("a topic");
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(b"x"), &[]);
    let commit = lossproof_log::Commit::append(topic.partitions[0], builder.build().expect("one"));
    broker.log.commit(commit).await.expect("acknowledged");
    let stopper = server.stopper();
    let served = tokio::spawn(server.run());
    let held = hold_all(&broker.budget).await;
    assert!(held[1].is_on_reserve());
    let mut client = net.connect(broker.config.listen).await.expect("the broker listens");
    let requests: [(BytesMut, i32); 3] = [
        (frame(&FindCoordinatorRequest { key: "g".into(), ..Default::default() }, 2), 0),
        (frame(&MetadataRequest::default(), 12), 1),
        (frame(&one_partition(0), 12), 2),
    ];
    for (request, number) in requests {
        client.write_all(&request).await.expect("connected");
        let length = client.read_i32().await.expect("an answer") as usize;
        client.read_exact(&mut vec![0; length]).await.expect("all of it");
        assert!(length > 4, "request {number}");
    }
    drop((client, held));
    stopper.drain();
    served.await.expect("no panic").expect("the log closes");
}

/// BUDGET-5: readers who take nothing hold all memory for answers. Others are told what is small,
/// and read, in small pieces; what is large and finds no place to wait in is not kept.
#[tokio::test]
async fn who_takes_no_answers_does_not_keep_others_from_theirs() {
    const BATCHES: usize = 3;
    let (server, net) = server().await;
    let broker = Arc::clone(&server.broker);
    let topic = broker.create_topic(topic("t", 1)).await.expect("a topic");
    for _ in 0..BATCHES {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(&vec![b'x'; SMALL_ANSWER_BYTES / 3]), &[]);
        let batch = builder.build().expect("a batch");
        broker.log.commit(Commit::append(topic.partitions[0], batch)).await.expect("acknowledged");
    }
    let stopper = server.stopper();
    let served = tokio::spawn(server.run());
    let held = hold_all(&broker.answers).await;
    let _all = broker.waiting.try_acquire_many(WAITING_BYTES as u32).expect("nobody waits");
    let mut client = net.connect(broker.config.listen).await.expect("the broker listens");
    for offset in 0..BATCHES {
        client.write_all(&frame(&one_partition(offset as i64), 12)).await.expect("connected");
        let length = client.read_i32().await.expect("BUDGET-5: what is small is answered");
        let length = length as usize;
        client.read_exact(&mut vec![0; length]).await.expect("all of it");
        assert!(length > SMALL_ANSWER_BYTES / 3 && length < SMALL_ANSWER_BYTES, "one batch");
    }
    broker.create_topic(self::topic("many", 5_000)).await.expect("a topic");
    client.write_all(&frame(&MetadataRequest::default(), 12)).await.expect("connected");
    tokio::select! {
        answer = client.read_i32() => assert!(answer.is_err(), "BUDGET-1: no memory for it"),
        () = broker.env.clock.sleep(ANSWER_TIME_MAX) => {
            panic!("BUDGET-1: one that waits would be one too many");
        }
    }
    drop((client, held));
    stopper.drain();
    served.await.expect("no panic").expect("the log closes");
}

/// BUDGET-1: an answer that is larger than its request, and written at once, has memory before the
/// next request is taken: very many could wait to be sent.
#[tokio::test]
async fn an_answer_that_is_written_at_once_waits_for_memory() {
    let (server, net) = server().await;
    let broker = Arc::clone(&server.broker);
    let stopper = server.stopper();
    let served = tokio::spawn(server.run());
    let held = hold_all(&broker.answers).await;
    let mut client = net.connect(broker.config.listen).await.expect("the broker listens");
    let new = |name: i32| CreatableTopic {
        name: name.to_string(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let topics = (0..10).map(new).collect();
    let request = CreateTopicsRequest { topics, validate_only: true, ..Default::default() };
    client.write_all(&frame(&request, 7)).await.expect("connected");
    let waits = async {
        while broker.waiting.available_permits() == WAITING_BYTES {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = waits => {}
        answer = client.read_i32() => panic!("BUDGET-1: there is no memory for it: {answer:?}"),
    }
    drop(held);
    let length = client.read_i32().await.expect("an answer") as usize;
    assert!(length < SMALL_ANSWER_BYTES, "nor for a small one");
    client.read_exact(&mut vec![0; length]).await.expect("all of it");
    drop(client);
    stopper.drain();
    served.await.expect("no panic").expect("the log closes");
}

/// BUDGET-3: one batch more than there are places waits for a place.
#[tokio::test]
async fn few_batches_are_decompressed_at_a_time() {
    let (server, _net) = server().await;
    let broker = &server.broker;
    let gate = Arc::new(std::sync::Barrier::new(DECODERS_MAX + 1));
    let mut running = Vec::new();
    for _ in 0..DECODERS_MAX {
        let (broker, gate) = (Arc::clone(broker), Arc::clone(&gate));
        running.push(tokio::spawn(async move { broker.decode(move |_| gate.wait()).await }));
    }
    while broker.decoders.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let (late, is_late) = std::sync::mpsc::channel();
    let mut one_more = Box::pin(broker.decode(move |_| late.send(()).expect("the test waits")));
    assert!(one_more.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(is_late.try_recv().is_err(), "it has no place");
    tokio::task::spawn_blocking(move || gate.wait()).await.expect("no panic");
    one_more.await.expect("no panic");
    is_late.try_recv().expect("it has run");
    for decoded in running {
        decoded.await.expect("no panic").expect("no panic");
    }
    broker.log.close().await.expect("the log closes");
}

/// TOPIC-6: damage has taken the change from the topic, or from a partition.
#[tokio::test]
async fn a_start_sets_right_a_policy_that_is_not_the_topics() {
    let disk = SimDisk::new();
    let (server, _net) = server_on(disk.clone()).await;
    let broker = &server.broker;
    let id = broker.create_topic(topic("t", 1)).await.expect("a topic").partitions[0];
    let policy = |server: &Server| server.broker.log.partition(id).expect("it is there").flush;
    let change = PartitionChange::Flush { id, flush: FlushPolicy::UnsafePageCache };
    broker.log.commit(Commit::partition(change)).await.expect("committed");
    assert_eq!(policy(&server), FlushPolicy::UnsafePageCache);
    broker.log.close().await.expect("the log closes");
    let (server, _net) = server_on(disk.clone()).await;
    assert_eq!(policy(&server), FlushPolicy::Commit);
    // The other way round: the change that was answered with yes is the one to `commit`.
    let broker = &server.broker;
    let topic = broker.topics.catalog().by_name("t").cloned().expect("a topic").id;
    let risky = vec![("lossproof.flush".into(), Some("page-cache".into()))];
    broker.topics.alter(topic, &Alteration::Replace(risky)).await.expect("altered");
    assert_eq!(policy(&server), FlushPolicy::UnsafePageCache);
    let change = PartitionChange::Flush { id, flush: FlushPolicy::Commit };
    broker.log.commit(Commit::partition(change)).await.expect("committed");
    broker.log.close().await.expect("the log closes");
    let (server, _net) = server_on(disk).await;
    assert_eq!(policy(&server), FlushPolicy::Commit);
    let topic = server.broker.topics.catalog().by_name("t").cloned().expect("a topic");
    assert_eq!(topic.flush, FlushPolicy::Commit, "as it is told");
    server.broker.log.close().await.expect("the log closes");
}

/// TOPIC-4: the client of a change is gone after its first step.
#[tokio::test]
async fn a_change_of_topics_is_finished_though_its_client_goes_away() {
    let (server, _net) = server().await;
    let broker = &server.broker;
    let there = |name: &str| broker.topics.catalog().by_name(name).is_some();
    let old = broker.create_topic(topic("old", 1)).await.expect("a topic").id;
    let mut context = Context::from_waker(Waker::noop());
    let mut deletion = Box::pin(broker.delete_topic(old));
    assert!(deletion.as_mut().poll(&mut context).is_pending());
    drop(deletion);
    let mut creation = Box::pin(broker.create_topic(topic("new", 1)));
    assert!(creation.as_mut().poll(&mut context).is_pending());
    drop(creation);
    // One change at a time, in their order: those two are done when this one is.
    broker.create_topic(topic("last", 1)).await.expect("a topic");
    assert_eq!([there("old"), there("new"), there("last")], [false, true, true]);
    broker.log.close().await.expect("the log closes");
}

/// REMOVAL-1, REMOVAL-2: the client of a removal is gone after its first step.
#[tokio::test]
async fn a_removal_of_offsets_is_finished_though_its_client_goes_away() {
    let (server, _net) = server().await;
    let broker = &server.broker;
    let key = OffsetKey { group: "g".into(), topic_id: TopicId([1; 16]), partition: 0 };
    let value = CommittedOffset {
        order: 0,
        offset: 0,
        leader_epoch: 0,
        committed_at_ms: 0,
        metadata: String::new(),
    };
    let commit = Commit::state(StateKind::Offsets, key.encode(), Some(value.encode()));
    broker.log.commit(commit).await.expect("acknowledged");
    let all = |broker: &Broker, group: ClosedGroup| {
        assert_eq!(broker.groups.close("g"), Err(GroupError::CoordinatorNotAvailable));
        Ok((group.keys, ()))
    };
    let mut removal = Box::pin(remove_offsets(broker, "g".into(), all));
    assert!(removal.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(removal);
    let mut again = remove_offsets(broker, "g".into(), all).await;
    while again == Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) {
        tokio::task::yield_now().await;
        again = remove_offsets(broker, "g".into(), all).await;
    }
    assert_eq!(again, Err(ErrorCode::GROUP_ID_NOT_FOUND), "the first one has removed all");
    broker.log.close().await.expect("the log closes");
}

pub(crate) fn batch_of(timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(timestamp_ms, Some(b"key"), Some(&[7; 1_000]), &[]);
    builder.build().expect("a batch")
}

pub(crate) async fn with_manual_clock(config: BrokerConfig) -> (Server, ManualClock) {
    let clock = ManualClock::new(1_700_000_000_000);
    let env = Environment {
        disk: Arc::new(SimDisk::new()),
        clock: Arc::new(clock.clone()),
        rng: Arc::new(SeededRng::new(7)),
    };
    (Server::start(&env, &MemoryNet::new(), config).await.expect("the broker starts"), clock)
}

/// RETENTION-1, RETENTION-2.
#[tokio::test]
async fn records_are_removed_by_age_and_size_and_not_by_a_clock_that_jumps() {
    let config = BrokerConfig::new("127.0.0.1:9092".parse().expect("an address"), "/data");
    let (server, clock) = with_manual_clock(config).await;
    let broker = &server.broker;
    let make = async |name: &str, settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), Some((*value).into())));
        let config = TopicConfig::new(settings).expect("settings");
        let new = NewTopic { name: name.into(), partitions: 1, config };
        let topic = broker.create_topic(new).await.expect("a topic");
        let id = topic.partition(0).expect("a partition");
        for _ in 0..3 {
            let batch = batch_of(clock.wall_ms());
            broker.log.commit(Commit::append(id, batch)).await.expect("a batch");
        }
        id
    };
    let old = make("old", &[("retention.ms", "60000")]).await;
    let large = make("large", &[("retention.bytes", "1")]).await;
    let both = make("compacted", &[("retention.ms", "1"), ("cleanup.policy", "compact")]).await;
    let kept = make("kept", &[]).await;
    let start = |id| broker.log.partition(id).expect("a partition").log_start;
    retention::run_once(broker).await;
    assert_eq!([old, both, kept].map(start), [0, 0, 0]);
    // Three batches next to each other are one entry of the index, and go together or not at all.
    assert_eq!(start(large), 0, "the last byte stays");
    clock.advance(Duration::from_secs(61));
    clock.jump_wall_ms(7_200_000);
    retention::run_once(broker).await;
    assert_eq!(start(old), 0, "by a clock that has jumped nothing is old");
    clock.jump_wall_ms(-7_200_000);
    retention::run_once(broker).await;
    assert_eq!(start(old), 0, "nor by one that was only just set right");
    clock.advance(Duration::from_hours(1));
    retention::run_once(broker).await;
    assert_eq!([old, large, both, kept].map(start), [3, 0, 0, 0]);
}

/// RETENTION-1: a round may take long, and an answer that settings are others now is kept
/// meanwhile.
#[tokio::test]
async fn a_round_goes_by_the_settings_of_the_moment() {
    let config = BrokerConfig::new("127.0.0.1:9092".parse().expect("an address"), "/data");
    let (server, clock) = with_manual_clock(config).await;
    let broker = &server.broker;
    let set = |settings: &[(&str, &str)]| {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), Some((*value).into())));
        settings.collect::<Vec<(String, Option<String>)>>()
    };
    let config = TopicConfig::new(set(&[("retention.ms", "60000")])).expect("settings");
    let new = NewTopic { name: "t".into(), partitions: 1, config };
    let then = broker.create_topic(new).await.expect("a topic");
    let id = then.partition(0).expect("a partition");
    let batch = batch_of(clock.wall_ms());
    broker.log.commit(Commit::append(id, batch)).await.expect("a batch");
    clock.advance(Duration::from_hours(1));
    let now_ms = broker.log.believed_wall_ms();
    assert!(now_ms.is_some());
    let start = || broker.log.partition(id).expect("a partition").log_start;
    for settings in
        [&[("retention.ms", "-1")][..], &[("retention.ms", "60000"), ("cleanup.policy", "compact")]]
    {
        let alteration = Alteration::Replace(set(settings));
        broker.alter_topic(then.id, alteration).await.expect("other settings");
        retention::expire_topic(broker, &then, now_ms).await;
        assert_eq!(start(), 0, "{settings:?}");
    }
    let alteration = Alteration::Replace(set(&[("retention.ms", "60000")]));
    broker.alter_topic(then.id, alteration).await.expect("other settings");
    retention::expire_topic(broker, &then, now_ms).await;
    assert_eq!(start(), 1);
    broker.delete_topic(then.id).await.expect("it is gone");
    retention::expire_topic(broker, &then, now_ms).await;
    broker.log.close().await.expect("the log closes");
}

/// CLEANING-1, CLEANING-2.
#[tokio::test]
async fn topics_are_compacted_when_their_settings_say_so() {
    let mut config = BrokerConfig::new("127.0.0.1:9092".parse().expect("an address"), "/data");
    config.log = LogConfig { reserve_bytes: 64 << 10, ..LogConfig::small() };
    config.log.segment_bytes = 4 << 20;
    config.log.initial_zero_bytes = 1 << 20;
    let (server, clock) = with_manual_clock(config).await;
    let broker = &server.broker;
    let ratio = |value| ("min.cleanable.dirty.ratio", value);
    let mut names = HashMap::new();
    for (name, policy, settings) in [
        ("plain", "delete", vec![ratio("0")]),
        ("eager", "compact", vec![ratio("0"), ("segment.ms", "30000")]),
        ("both", "delete,compact", vec![ratio("0.9")]),
        ("young", "compact", vec![ratio("0"), ("min.compaction.lag.ms", "60000")]),
        ("old", "compact", vec![ratio("1"), ("max.compaction.lag.ms", "120000")]),
        ("never", "compact", vec![ratio("1")]),
    ] {
        let settings = settings.into_iter().chain([("cleanup.policy", policy)]);
        let settings = settings.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        let config = TopicConfig::new(settings).expect("settings");
        let new = NewTopic { name: name.into(), partitions: 1, config };
        let id = broker.create_topic(new).await.expect("a topic").partitions[0];
        names.insert(id, name);
        let batch = batch_of(clock.wall_ms());
        broker.log.commit(Commit::append(id, batch)).await.expect("a batch");
    }
    let now = || broker.log.believed_wall_ms().expect("the clock is right");
    let due = |now_ms| {
        let due = compaction::all_due(broker, now_ms).into_iter();
        let mut due: Vec<_> = due.map(|(id, _)| names[&id]).collect();
        due.sort_unstable();
        due
    };
    assert_eq!((due(now()), compaction::has_unsealed(broker, now())), (vec![], false));
    clock.advance(Duration::from_secs(30));
    assert!(compaction::has_unsealed(broker, now()), "segment.ms is over");
    broker.log.seal().await.expect("the segment ends");
    assert!(!compaction::has_unsealed(broker, now()));
    assert_eq!(due(now()), ["both", "eager"]);
    clock.advance(Duration::from_secs(31));
    assert_eq!(due(now()), ["both", "eager", "young"]);
    clock.advance(Duration::from_mins(1));
    assert_eq!(due(now()), ["both", "eager", "old", "young"]);
    clock.jump_wall_ms(7_200_000);
    assert_eq!(broker.log.believed_wall_ms(), None);
    retention::run_once(broker).await;
    assert_eq!(due(clock.wall_ms()).len(), 4, "by a clock that has jumped nothing is done");
    clock.jump_wall_ms(-7_200_000);
    assert_eq!(broker.log.believed_wall_ms(), None, "it has jumped again");
    clock.advance(Duration::from_hours(1));
    retention::run_once(broker).await;
    eventually("all are compacted", async || due(now()).is_empty()).await;
    broker.log.close().await.expect("the log closes");
}

/// CLEANING-1. The trap: a topic is altered between the look and the order, which says how by what
/// was found.
#[tokio::test]
async fn compaction_that_was_judged_by_other_settings_is_called_off() {
    let config = BrokerConfig::new("127.0.0.1:9092".parse().expect("an address"), "/data");
    let (server, _clock) = with_manual_clock(config).await;
    let broker = &server.broker;
    let (mut topics, mut asked_for) = (Vec::new(), Vec::new());
    for name in ["same", "later"] {
        let settings = [("cleanup.policy".to_owned(), Some("compact".to_owned()))];
        let config = TopicConfig::new(settings).expect("settings");
        let new = NewTopic { name: name.into(), partitions: 1, config };
        let topic = broker.create_topic(new).await.expect("a topic");
        asked_for.push(topic.partitions[0]);
        topics.push(topic.id);
    }
    let before = broker.topics.catalog();
    let altered = |wanted: &[_]| {
        let after = broker.topics.catalog();
        assert_eq!(compaction::altered(&before, &after, asked_for.clone()), wanted);
    };
    altered(&[]);
    let lag = ("min.compaction.lag.ms".to_owned(), Change::Set("60000".to_owned()));
    let alteration = Alteration::Change(vec![lag]);
    broker.alter_topic(topics[1], alteration).await.expect("other settings");
    altered(&asked_for[1..]);
    broker.delete_topic(topics[0]).await.expect("it is gone");
    altered(&asked_for);
    broker.log.close().await.expect("the log closes");
}

#[tokio::test]
async fn a_broker_whose_tasks_stand_still_is_not_alive() {
    let config = BrokerConfig::new("127.0.0.1:9092".parse().expect("an address"), "/data");
    let (server, clock) = with_manual_clock(config).await;
    let monitor = server.monitor();
    assert!(monitor.is_alive(), "it does not run yet");
    let counters = &server.broker.counters;
    let mut beating = Box::pin(counters.beat(&*server.broker.env.clock));
    let mut context = Context::from_waker(Waker::noop());
    assert!(beating.as_mut().poll(&mut context).is_pending());
    assert!(monitor.is_alive());
    clock.advance(Duration::from_secs(31));
    assert!(!monitor.is_alive());
    assert!(beating.as_mut().poll(&mut context).is_pending());
    assert!(monitor.is_alive(), "it goes on");
    server.broker.log.close().await.expect("the log closes");
}
