//! What handlers hold, and for how long, and when they answer: polled by hand, without a
//! connection.

mod stored_offsets;

use core::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use lossproof_env::{Clock, ManualClock};
use lossproof_log::{Commit, PartitionId, StateChange, StateKind};
use lossproof_wire::batch::{BatchBuilder, split};
use lossproof_wire::*;

use super::start;
use crate::Server;
use crate::broker::Broker;
use crate::budget::{DECODERS_MAX, Share};
use crate::call::{Answer, Call, Later, Reply};
use crate::group::Leaving;
use crate::offsets::{CommittedOffset, OffsetKey};
use crate::tests::{
    become_member, eventually, frame, one_partition, server, small_config, topic, with_manual_clock,
};
use crate::topic_config::TopicConfig;
use crate::topics::{NewTopic, TopicId};
use crate::turn::{LOOKED_AT_ONCE, TURNS_MAX};

/// Far more than what is at hand takes to be seen.
const TURNS: usize = 1_000;

fn call<M: Message>(request: &M, version: i16) -> Call {
    let mut frame = frame(request, version).freeze();
    frame.advance(size_of::<i32>());
    Call::parse(frame, Ipv4Addr::LOCALHOST.into(), Share::default()).expect("a request")
}

fn read<M: Message>(answer: Answer, version: i16) -> M {
    let mut bytes = Bytes::from(Vec::from(answer.pieces.into_pieces()).concat());
    assert_eq!(bytes.get_i32() as usize, bytes.len());
    let header_version = M::API_KEY.response_header_version(version);
    ResponseHeader::decode(&mut bytes, header_version).expect("a header");
    M::decode(&mut bytes, version).expect("an answer")
}

async fn later<M: Message>(broker: &Arc<Broker>, request: &M, version: i16) -> Later {
    match start(broker, call(request, version)).await.expect("a request") {
        Reply::Later(later) => later,
        Reply::Ready(answer) => panic!("answered at once: {answer:?}"),
    }
}

async fn ask<Q: Message, A: Message>(broker: &Arc<Broker>, request: &Q, version: i16) -> A {
    match start(broker, call(request, version)).await.expect("a request") {
        Reply::Later(later) => read(finished(later).await, version),
        Reply::Ready(answer) => read(answer, version),
    }
}

async fn finished(later: Later) -> Answer {
    later.await.expect("an answer can be written").expect("an answer")
}

fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    core::pin::Pin::new(future).poll(&mut context).is_pending()
}

fn batch() -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(b"value"), &[]);
    builder
}

/// Something without batches is acknowledged, and who waits has had the time to look.
async fn settle(broker: &Broker) {
    broker.log.commit(Commit::default()).await.expect("acknowledged");
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// Of the group "g" at partition 0 of the topic "t", by nobody who is a member.
fn offset_commit(committed_offset: i64) -> OffsetCommitRequest {
    let partitions = vec![OffsetCommitRequestPartition { committed_offset, ..Default::default() }];
    let topics =
        vec![OffsetCommitRequestTopic { name: "t".into(), partitions, ..Default::default() }];
    OffsetCommitRequest { group_id: "g".into(), topics, ..Default::default() }
}

/// In a time that stands. The server is to be kept: without it the broker drains.
async fn waiting_world() -> (Server, ManualClock, PartitionId) {
    let (server, clock) = with_manual_clock(small_config()).await;
    let topic = server.broker.create_topic(topic("t", 1)).await.expect("a topic");
    (server, clock, topic.partitions[0])
}

fn waiting(isolation_level: i8, max_wait_ms: i32) -> FetchRequest {
    FetchRequest { min_bytes: 1, max_wait_ms, isolation_level, ..one_partition(0) }
}

fn batches_in(response: FetchResponse) -> usize {
    let partition = response.responses.into_iter().next().expect("a topic").partitions.remove(0);
    assert_eq!(partition.error_code, ErrorCode::NONE);
    split(&partition.records.expect("records").into_bytes()).count()
}

/// The fetch stands waiting before there is anything, and nothing but the log wakes it.
#[tokio::test]
async fn a_fetch_that_waits_is_woken_by_the_next_batch() {
    let (server, _clock, id) = waiting_world().await;
    let broker = Arc::clone(&server.broker);
    let mut fetch = later(&broker, &waiting(0, i32::MAX), 12).await;
    assert!(is_pending(&mut fetch));
    let fetch = tokio::spawn(finished(fetch));
    settle(&broker).await;
    assert!(!fetch.is_finished(), "a commit without batches is no news");
    let commit = Commit::append(id, batch().build().expect("a batch"));
    broker.log.commit(commit).await.expect("acknowledged");
    assert_eq!(batches_in(read(fetch.await.expect("no panic"), 12)), 1);
    broker.log.close().await.expect("the log closes");
}

#[tokio::test]
async fn a_fetch_with_nothing_to_come_is_answered_after_its_time_and_not_before() {
    let (server, clock, _) = waiting_world().await;
    let broker = Arc::clone(&server.broker);
    let mut fetch = later(&broker, &waiting(0, 20), 12).await;
    assert!(is_pending(&mut fetch));
    clock.advance(Duration::from_millis(19));
    assert!(is_pending(&mut fetch));
    clock.advance(Duration::from_millis(1));
    assert_eq!(batches_in(read(finished(fetch).await, 12)), 0);
    broker.log.close().await.expect("the log closes");
}

/// As Apache Kafka does: some ask so for what there is.
#[tokio::test]
async fn who_wants_nothing_does_not_wait_for_it() {
    let (server, _clock, _) = waiting_world().await;
    let broker = Arc::clone(&server.broker);
    for min_bytes in [0, -1] {
        let request = FetchRequest { min_bytes, ..waiting(0, i32::MAX) };
        assert!(!is_pending(&mut later(&broker, &request, 12).await), "{min_bytes}");
    }
    let nowhere = FetchRequest { topics: vec![], ..waiting(0, i32::MAX) };
    assert!(!is_pending(&mut later(&broker, &nowhere, 12).await));
    broker.log.close().await.expect("the log closes");
}

/// BUDGET-6: a few bytes may stand for very many partitions, which it takes memory to wait for.
#[tokio::test]
async fn a_request_of_a_session_counts_as_the_one_it_stands_for() {
    const PARTITIONS: i32 = 100;
    // Each 80, the topic 64, and its name.
    const COUNTED: usize = 8_068;
    let (server, clock, _) = waiting_world().await;
    let broker = Arc::clone(&server.broker);
    broker.create_topic(topic("many", PARTITIONS)).await.expect("a topic");
    let of_one = |partition| FetchPartition { partition, ..Default::default() };
    let all = FetchTopic {
        topic: "many".into(),
        partitions: (0..PARTITIONS).map(of_one).collect(),
        ..Default::default()
    };
    let free = broker.budget.free_bytes();
    for (own, wait_ms) in [(10_000, i32::MAX as u64), (1_000, 500)] {
        let opening = FetchRequest { session_epoch: 0, topics: vec![all.clone()], ..waiting(0, 0) };
        let opened: FetchResponse = ask(&broker, &opening, 12).await;
        assert_ne!(opened.session_id, 0);
        let next = FetchRequest {
            session_id: opened.session_id,
            session_epoch: 1,
            topics: vec![],
            ..waiting(0, i32::MAX)
        };
        let own = Arc::new(tokio::sync::Semaphore::new(own));
        let share = Share::small(&own, 100).expect("there is room");
        let call = Call { share, ..call(&next, 12) };
        let Reply::Later(mut fetch) = start(&broker, call).await.expect("a request") else {
            panic!("a fetch waits");
        };
        assert!(is_pending(&mut fetch));
        let is_small = wait_ms > 500;
        assert_eq!(own.available_permits(), if is_small { 10_000 - COUNTED } else { 900 });
        assert_eq!(broker.budget.free_bytes() == free, is_small);
        clock.advance(Duration::from_millis(wait_ms.min(300_000) - 1));
        assert!(is_pending(&mut fetch));
        clock.advance(Duration::from_millis(1));
        let answer: FetchResponse = read(finished(fetch).await, 12);
        assert!(answer.responses.is_empty(), "nothing is new");
        assert_eq!(broker.budget.free_bytes(), free);
    }
    // Where there is no room it is to be asked in full, which waits; also who does not wait.
    let mut held = Share::default();
    broker.budget.grow(&mut held, free).await;
    let mut refused = Vec::new();
    for min_bytes in [0, 1] {
        let opening = FetchRequest { session_epoch: 0, topics: vec![all.clone()], ..waiting(0, 0) };
        let opened: FetchResponse = ask(&broker, &opening, 12).await;
        assert_ne!(opened.session_id, 0);
        let (session_id, session_epoch) = (opened.session_id, 1);
        let next = FetchRequest { session_id, session_epoch, min_bytes, ..FetchRequest::default() };
        let answer: FetchResponse = ask(&broker, &next, 12).await;
        assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND, "{min_bytes}");
        refused.push(session_id);
    }
    drop(held);
    for session_id in refused {
        let next = FetchRequest { session_id, session_epoch: 2, ..FetchRequest::default() };
        let answer: FetchResponse = ask(&broker, &next, 12).await;
        assert_eq!(answer.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND, "it is gone");
    }
    broker.log.close().await.expect("the log closes");
}

/// RETENTION-2. The trap: a clock that is far behind for a while; once it is right, what was
/// stamped by it would be old.
#[tokio::test]
async fn nothing_is_stamped_with_a_time_before_what_was_believed() {
    let (server, clock, _) = waiting_world().await;
    let broker = Arc::clone(&server.broker);
    let settings = [("message.timestamp.type".into(), Some("LogAppendTime".into()))];
    let config = TopicConfig::new(settings.into_iter()).expect("settings");
    let stamped = NewTopic { config, ..topic("stamped", 1) };
    broker.create_topic(stamped).await.expect("a topic");
    let believed_ms = clock.wall_ms();
    clock.jump_wall_ms(1_000 - believed_ms);
    let records = Some(batch().build().expect("a batch"));
    let partition_data = vec![PartitionProduceData { index: 0, records }];
    let name = "stamped".into();
    let topic_data = vec![TopicProduceData { name, partition_data, ..Default::default() }];
    let produce = ProduceRequest { acks: -1, topic_data, ..Default::default() };
    let sent: ProduceResponse = ask(&broker, &produce, 9).await;
    let sent = &sent.responses[0].partition_responses[0];
    assert_eq!((sent.error_code, sent.log_append_time_ms), (ErrorCode::NONE, believed_ms));
    let committed: OffsetCommitResponse = ask(&broker, &offset_commit(0), 8).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, ErrorCode::NONE);
    let (_, value) = broker.log.state(StateKind::Offsets).remove(0);
    let stored = CommittedOffset::decode(value).expect("an offset");
    assert_eq!(stored.committed_at_ms, believed_ms);
    broker.log.close().await.expect("the log closes");
}

/// FETCH-1.
#[tokio::test]
async fn a_committed_reader_that_waits_is_woken_by_the_end_of_a_transaction() {
    let (server, _clock, _) = waiting_world().await;
    let broker = Arc::clone(&server.broker);
    let id = "payments".to_owned();
    let init = InitProducerIdRequest {
        transactional_id: Some(id.clone()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let bearer: InitProducerIdResponse = ask(&broker, &init, 4).await;
    assert_eq!(bearer.error_code, ErrorCode::NONE);
    let (producer_id, producer_epoch) = (bearer.producer_id, bearer.producer_epoch);
    let add = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.clone(),
        v3_and_below_producer_id: producer_id,
        v3_and_below_producer_epoch: producer_epoch,
        v3_and_below_topics: vec![AddPartitionsToTxnTopic {
            name: "t".into(),
            partitions: vec![0],
        }],
    };
    let _: AddPartitionsToTxnResponse = ask(&broker, &add, 3).await;
    let batch = batch().producer(producer_id, producer_epoch, 0).transactional(true);
    let records = Some(batch.build().expect("a batch"));
    let partition_data = vec![PartitionProduceData { index: 0, records }];
    let produce = ProduceRequest {
        transactional_id: Some(id.clone()),
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: "t".into(),
            partition_data,
            ..Default::default()
        }],
        ..Default::default()
    };
    let sent: ProduceResponse = ask(&broker, &produce, 11).await;
    assert_eq!(sent.responses[0].partition_responses[0].error_code, ErrorCode::NONE);

    let mut fetch = later(&broker, &waiting(1, i32::MAX), 12).await;
    assert!(is_pending(&mut fetch));
    let fetch = tokio::spawn(finished(fetch));
    settle(&broker).await;
    assert!(!fetch.is_finished(), "the transaction is open");
    let end = EndTxnRequest { transactional_id: id, producer_id, producer_epoch, committed: true };
    let ended: EndTxnResponse = ask(&broker, &end, 3).await;
    assert_eq!(ended.error_code, ErrorCode::NONE);
    assert_eq!(batches_in(read(fetch.await.expect("no panic"), 12)), 2, "and the marker");
    broker.log.close().await.expect("the log closes");
}

/// What was read for one partition, and is nearly all of what was read, is not copied.
#[tokio::test]
async fn batches_are_sent_from_the_memory_they_were_read_into() {
    /// Nearly fills the blocks that it takes on the disk.
    const VALUE_BYTES: usize = 7_700;
    const BATCHES: usize = 100;
    let (server, _clock, id) = waiting_world().await;
    let broker = Arc::clone(&server.broker);
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&vec![b'x'; VALUE_BYTES]), &[]);
    let batch = builder.build().expect("a batch");
    for _ in 0..BATCHES {
        broker.log.commit(Commit::append(id, batch.clone())).await.expect("acknowledged");
    }
    let fetched = finished(later(&broker, &one_partition(0), 12).await).await;
    let long = |piece: &&Bytes| piece.len() == batch.len();
    assert_eq!(fetched.pieces.into_pieces().iter().filter(long).count(), BATCHES);
    broker.log.close().await.expect("the log closes");
}

/// What is read and looked up waits there behind what the test does.
fn one_blocking_thread() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.max_blocking_threads(1).enable_all().build().expect("a runtime")
}

/// BUDGET-1: the client of a fetch goes away while it is read for it.
#[test]
fn the_memory_of_a_read_is_held_until_the_read_has_ended() {
    one_blocking_thread().block_on(async {
        let (server, _net) = server().await;
        let broker = &server.broker;
        let id = broker.create_topic(topic("t", 1)).await.expect("a topic").partitions[0];
        let commit = Commit::append(id, batch().build().expect("a batch"));
        broker.log.commit(commit).await.expect("acknowledged");
        let (go_on, gate) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || gate.recv());
        let free = broker.answers.free_bytes();
        let mut fetch = later(broker, &one_partition(0), 12).await;
        assert!(is_pending(&mut fetch));
        let held = broker.answers.free_bytes();
        assert!(held < free, "it has its share");
        drop(fetch);
        assert_eq!(broker.answers.free_bytes(), held, "BUDGET-1: it is still to be read");
        go_on.send(()).expect("it waits");
        busy.await.expect("no panic").expect("sent");
        tokio::task::spawn_blocking(|| ()).await.expect("no panic");
        assert_eq!(broker.answers.free_bytes(), free);
        broker.log.close().await.expect("the log closes");
    });
}

/// BUDGET-3: who looks up many partitions lets others in between.
#[test]
fn a_place_to_decode_is_held_for_one_partition() {
    one_blocking_thread().block_on(async {
        let (server, _net) = server().await;
        let broker = &server.broker;
        broker.create_topic(topic("t", 2)).await.expect("a topic");
        let partitions = [0, 1]
            .map(|partition_index| ListOffsetsPartition { partition_index, ..Default::default() });
        let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: partitions.into() }];
        let by_time = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let others = DECODERS_MAX as u32 - 1;
        let _others = broker.decoders.acquire_many(others).await.expect("nobody decodes");
        let (go_on, gate) = mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || gate.recv());
        let mut listed = later(broker, &by_time, 7).await;
        assert!(is_pending(&mut listed));
        let mut place = Box::pin(Arc::clone(&broker.decoders).acquire_owned());
        assert!(is_pending(&mut place), "all places are taken");
        go_on.send(()).expect("it waits");
        busy.await.expect("no panic").expect("sent");
        let place = tokio::select! {
            biased;
            place = place => place.expect("never closed"),
            _ = &mut listed => panic!("BUDGET-3: it has had its place to the end"),
        };
        for _ in 0..TURNS {
            assert!(is_pending(&mut listed), "BUDGET-3: it has had its place to the end");
            tokio::task::yield_now().await;
        }
        drop(place);
        let answer: ListOffsetsResponse = read(finished(listed).await, 7);
        assert_eq!(answer.topics[0].partitions.len(), 2);
        broker.log.close().await.expect("the log closes");
    });
}

/// GATES-2: the answer to a commit waits for its turn, and nobody waits for that.
#[tokio::test]
async fn a_gate_is_open_again_when_the_commit_is_durable() {
    let (server, _net) = server().await;
    let broker = &server.broker;
    broker.create_topic(topic("t", 1)).await.expect("a topic");
    let answer = later(broker, &offset_commit(0), 8).await;
    eventually("GATES-2", async || broker.offset_gates.close("g").is_some()).await;
    let answer: OffsetCommitResponse = read(finished(answer).await, 8);
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    broker.log.close().await.expect("the log closes");
}

/// Of group `g`, whose one member is `a` and whose offset 0 is committed: what that member sends
/// to transaction `id`.
async fn offsets_of_a_member(
    broker: &Arc<Broker>,
    partition: PartitionId,
) -> TxnOffsetCommitRequest {
    let commit = Commit::append(partition, batch().build().expect("a batch"));
    broker.log.commit(commit).await.expect("acknowledged");
    let partitions = vec![OffsetCommitRequestPartition::default()];
    let topics =
        vec![OffsetCommitRequestTopic { name: "t".into(), partitions, ..Default::default() }];
    let request = OffsetCommitRequest { group_id: "g".into(), topics, ..Default::default() };
    let answer: OffsetCommitResponse = ask(broker, &request, 8).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    become_member(broker, "g", Bytes::new()).await;
    let request = InitProducerIdRequest {
        transactional_id: Some("id".into()),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let granted: InitProducerIdResponse = ask(broker, &request, 4).await;
    let (producer_id, producer_epoch) = (granted.producer_id, granted.producer_epoch);
    let (transactional_id, group_id) = ("id".into(), "g".into());
    let request =
        AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id };
    let added: AddOffsetsToTxnResponse = ask(broker, &request, 3).await;
    assert_eq!(added.error_code, ErrorCode::NONE);
    let partition = TxnOffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
    TxnOffsetCommitRequest {
        transactional_id: "id".into(),
        group_id: "g".into(),
        producer_id,
        producer_epoch,
        generation_id: 1,
        member_id: "a".into(),
        topics: vec![TxnOffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition] }],
        ..Default::default()
    }
}

fn leave(broker: &Broker) {
    let leaving = Leaving { member_id: "a".into(), instance: None };
    broker.groups.leave("g", &leaving).expect("it is there");
}

/// The world of [`waiting_world`], where a group is complete with its first member.
async fn world_with_groups() -> (Server, PartitionId) {
    let mut config = small_config();
    config.groups.initial_rebalance_delay = Duration::ZERO;
    let (server, _) = with_manual_clock(config).await;
    let storer = Arc::clone(&server.broker);
    tokio::spawn(async move { storer.groups.store().await });
    let topic = server.broker.create_topic(topic("t", 1)).await.expect("a topic");
    (server, topic.partitions[0])
}

async fn take_offsets(broker: Arc<Broker>, request: TxnOffsetCommitRequest) -> ErrorCode {
    let answer: TxnOffsetCommitResponse = ask(&broker, &request, 3).await;
    answer.topics[0].partitions[0].error_code
}

/// What a consumer of group `g` is told that can wait for open transactions.
async fn stable(broker: &Arc<Broker>) -> (i64, ErrorCode) {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: Some(vec![topic]),
        require_stable: true,
        ..Default::default()
    };
    let answer: OffsetFetchResponse = ask(broker, &request, 7).await;
    let partition = &answer.topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}

/// OFFSET-FETCH-2, GATES-2. Records of a transaction are on their way, and its offsets have to
/// wait. Their sender leaves, and who comes instead is told what is committed: then they must not
/// become so.
#[tokio::test]
async fn offsets_that_wait_for_their_transaction_are_not_taken_from_who_has_left() {
    let (server, partition) = world_with_groups().await;
    let broker = &server.broker;
    let request = offsets_of_a_member(broker, partition).await;
    let guard = broker.transactions.guard("id").await.expect("it is known");
    let taken = tokio::spawn(take_offsets(Arc::clone(broker), request));
    settle(broker).await;
    assert!(broker.offset_gates.close("g").is_some(), "GATES-2");
    leave(broker);
    assert_eq!(stable(broker).await, (0, ErrorCode::NONE));
    drop(guard);
    assert_eq!(taken.await.expect("no panic"), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(stable(broker).await, (0, ErrorCode::NONE));
    broker.log.close().await.expect("the log closes");
}

/// OFFSET-FETCH-2: from before it is asked whether their sender is a member, so that nobody who
/// comes after that one sees what stood there before.
#[tokio::test]
async fn offsets_are_pending_before_their_sender_can_be_out_of_the_group() {
    for leaves in [true, false] {
        let (server, partition) = world_with_groups().await;
        let broker = &server.broker;
        let request = offsets_of_a_member(broker, partition).await;
        let removal = broker.offset_gates.close("g").expect("nobody commits");
        let taken = tokio::spawn(take_offsets(Arc::clone(broker), request));
        settle(broker).await;
        let unstable = (-1, ErrorCode::UNSTABLE_OFFSET_COMMIT);
        assert_eq!(stable(broker).await, unstable, "they wait for the removal");
        if leaves {
            leave(broker);
        }
        drop(removal);
        let (code, then) = if leaves {
            (ErrorCode::UNKNOWN_MEMBER_ID, (0, ErrorCode::NONE))
        } else {
            (ErrorCode::NONE, unstable)
        };
        assert_eq!((taken.await.expect("no panic"), stable(broker).await), (code, then));
        broker.log.close().await.expect("the log closes");
    }
}

/// Set when the journal may go on.
static GOES_ON: AtomicBool = AtomicBool::new(false);

struct Stopped;

impl Drop for Stopped {
    fn drop(&mut self) {
        GOES_ON.store(true, Ordering::Release);
    }
}

/// Keeps the journal in the middle of a commit until what it gives is dropped.
async fn stop_journal(broker: &Broker) -> Stopped {
    fn wait(_: &StateChange, _: &Bytes) -> bool {
        while !GOES_ON.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        false
    }
    let (key, value) = broker.log.state(StateKind::Offsets).remove(0);
    let changes = vec![StateChange { kind: StateKind::Offsets, key, value: Some(value) }];
    let commit = Commit { changes, outdated: Some(wait), ..Commit::default() };
    drop(broker.log.enqueue(commit).await.expect("there is room"));
    Stopped
}

fn is_pending_in_transaction(broker: &Broker) -> bool {
    let pending = broker.transactions.pending(&OffsetKey::group_prefix("g"));
    !pending.expect("nothing is damaged").is_empty()
}

/// GATES-1: the client of a commit goes away while it is under way.
#[tokio::test]
async fn a_gate_stays_closed_though_the_client_of_the_commit_goes_away() {
    let (server, partition) = world_with_groups().await;
    let broker = &server.broker;
    let request = offsets_of_a_member(broker, partition).await;
    let stopped = stop_journal(broker).await;
    let mut commit = Box::pin(start(broker, call(&request, 3)));
    assert!(is_pending(&mut commit));
    drop(commit);
    eventually("it has begun", async || is_pending_in_transaction(broker)).await;
    assert!(broker.offset_gates.close("g").is_none(), "GATES-1: it is not durable");
    drop(stopped);
    eventually("it is over", async || broker.offset_gates.close("g").is_some()).await;
    let held = broker.transactions.get("id").expect("it is known").expect("it is there");
    assert_eq!(held.offsets.len(), 1);
    broker.log.close().await.expect("the log closes");
}

/// Polled to its end: how often others are let in meanwhile.
fn pauses(mut later: Later) -> usize {
    (0..TURNS).find(|_| !is_pending(&mut later)).expect("it comes to an end")
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("name-{number}"))
}

/// Stable offsets of `count` groups that nobody has ever seen.
fn of_groups(count: usize) -> OffsetFetchRequest {
    let groups = names(count).map(|group_id| OffsetFetchRequestGroup {
        group_id,
        topics: None,
        ..Default::default()
    });
    OffsetFetchRequest { groups: groups.collect(), require_stable: true, ..Default::default() }
}

/// BUDGET-6: whoever asks for very much does not stop the broker for as long as that takes.
#[tokio::test]
async fn others_are_let_in_while_a_request_of_many_things_is_answered() {
    const PAUSES: usize = 10;
    const THINGS: usize = PAUSES * LOOKED_AT_ONCE;
    let (server, _net) = server().await;
    let broker = &server.broker;
    let fetch = later(broker, &of_groups(THINGS), 8).await;
    assert_eq!(pauses(fetch), PAUSES, "offsets of groups");

    let partition_indexes = (0..THINGS as i32).collect();
    let topics = Some(vec![OffsetFetchRequestTopic { name: "t".into(), partition_indexes }]);
    let of_partitions = OffsetFetchRequest { group_id: "g".into(), topics, ..Default::default() };
    assert_eq!(pauses(later(broker, &of_partitions, 7).await), PAUSES, "offsets of partitions");

    let key = |partition| OffsetKey { group: "g".into(), topic_id: TopicId([1; 16]), partition };
    let changes = (0..THINGS as i32).map(|partition| StateChange {
        kind: StateKind::Offsets,
        key: key(partition).encode(),
        value: Some(Bytes::new()),
    });
    let commit = Commit { changes: changes.collect(), ..Commit::default() };
    broker.log.commit(commit).await.expect("durable");
    let of_all = OffsetFetchRequest { group_id: "g".into(), topics: None, ..Default::default() };
    assert_eq!(pauses(later(broker, &of_all, 7).await), PAUSES, "all offsets of a group");

    let groups = DescribeGroupsRequest { groups: names(THINGS).collect(), ..Default::default() };
    assert_eq!(pauses(later(broker, &groups, 5).await), PAUSES, "groups");
    let groups = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    assert_eq!(pauses(later(broker, &groups, 5).await), 1, "a group with many offsets");

    let partitions = (0..THINGS as i32)
        .map(|partition| OffsetForLeaderPartition { partition, ..Default::default() });
    let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions: partitions.collect() }];
    let epochs = OffsetForLeaderEpochRequest { topics, ..Default::default() };
    assert_eq!(pauses(later(broker, &epochs, 3).await), PAUSES, "epochs");

    let topics = names(THINGS).map(|name| DescribeTopicPartitionsTopic { name });
    let topics = DescribeTopicPartitionsRequest { topics: topics.collect(), ..Default::default() };
    assert_eq!(pauses(later(broker, &topics, 0).await), PAUSES, "topics");

    let resources = names(THINGS).map(|resource_name| DescribeConfigsResource {
        resource_type: 2,
        resource_name,
        ..Default::default()
    });
    let configs = DescribeConfigsRequest { resources: resources.collect(), ..Default::default() };
    assert_eq!(pauses(later(broker, &configs, 4).await), PAUSES, "settings");

    let transactional_ids = names(THINGS).collect();
    let transactions = DescribeTransactionsRequest { transactional_ids };
    assert_eq!(pauses(later(broker, &transactions, 0).await), PAUSES, "transactions");
    broker.log.close().await.expect("the log closes");
}

/// BUDGET-6: what a request is decoded to stays while others are let in, so that only few may.
#[tokio::test]
async fn few_requests_at_a_time_are_in_work_and_the_next_one_comes_when_one_goes_away() {
    let (server, _net) = server().await;
    let broker = &server.broker;
    let mut in_work = Vec::new();
    for _ in 0..TURNS_MAX {
        let mut fetch = later(broker, &of_groups(LOOKED_AT_ONCE), 8).await;
        assert!(is_pending(&mut fetch));
        in_work.push(fetch);
    }
    let mut next = later(broker, &of_groups(LOOKED_AT_ONCE), 8).await;
    for _ in 0..TURNS {
        assert!(is_pending(&mut next), "it has no turn yet");
        tokio::task::yield_now().await;
    }
    drop(in_work.pop());
    let answer: OffsetFetchResponse = read(finished(next).await, 8);
    assert_eq!(answer.groups.len(), LOOKED_AT_ONCE);
    for fetch in in_work {
        finished(fetch).await;
    }
    broker.log.close().await.expect("the log closes");
}
