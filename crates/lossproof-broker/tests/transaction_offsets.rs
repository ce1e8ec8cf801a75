//! Offsets that are committed with a transaction: nobody takes them for committed before it is, and
//! who asks for stable ones is told to wait. (COORDINATOR-4, OFFSET-FETCH-2)

use crate::common;

use std::path::Path;

use bytes::Bytes;
use common::member::{Age, Member};
use common::producer::Producer;
use common::{Broker, Client, environment, log_config, records};
use lossproof_env::SimDisk;
use lossproof_log::{Commit, Log, StateKind};
use lossproof_wire::*;

async fn started() -> (Broker, Producer) {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    client.produce("t", 0, records(&["a", "b", "c"])).await;
    let producer = Producer::new(&broker, "payments").await;
    (broker, producer)
}

/// What a consumer is told that can wait for an open transaction.
async fn stable(client: &mut Client, all: bool) -> (i64, ErrorCode) {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let request = OffsetFetchRequest {
        group_id: "g".into(),
        topics: (!all).then(|| vec![topic]),
        require_stable: true,
        ..Default::default()
    };
    let answer: OffsetFetchResponse = client.call(&request, 7).await;
    let Some(topic) = answer.topics.first() else { return (-1, answer.error_code) };
    (topic.partitions[0].committed_offset, topic.partitions[0].error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_count_when_their_transaction_has_committed() {
    let (broker, mut producer) = started().await;
    let mut client = broker.client().await;
    let unstable = (-1, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    for (offset, committed, then) in [(2, true, 2), (3, false, 2)] {
        let before = client.committed("g", "t", 0).await;
        assert_eq!(stable(&mut client, false).await, before);
        assert_eq!(producer.add_group("g", 3).await, ErrorCode::NONE);
        assert_eq!(stable(&mut client, false).await, before, "no offset is pending yet");
        let offsets = producer.offsets_request("g", "t", offset);
        assert_eq!(producer.offsets(&offsets).await, ErrorCode::NONE);
        assert_eq!(client.committed("g", "t", 0).await, before);
        assert_eq!(stable(&mut client, false).await, unstable);
        assert_eq!(stable(&mut client, true).await, unstable);
        assert_eq!(producer.end(committed).await, ErrorCode::NONE);
        assert_eq!(client.committed("g", "t", 0).await, (then, ErrorCode::NONE));
        assert_eq!(stable(&mut client, true).await, (then, ErrorCode::NONE));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_offsets_survive_a_power_cut_and_so_do_committed_ones() {
    let (broker, mut producer) = started().await;
    producer.add_group("g", 3).await;
    producer.offsets(&producer.offsets_request("g", "t", 2)).await;
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.committed("g", "t", 0).await, (-1, ErrorCode::NONE));
    let unstable = (-1, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    assert_eq!(stable(&mut client, true).await, unstable, "though none was ever committed");
    let mut producer = again(&broker, producer).await;
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    let broker = broker.power_cut().await;
    let mut client = broker.client().await;
    assert_eq!(client.committed("g", "t", 0).await, (2, ErrorCode::NONE));
    assert_eq!(stable(&mut client, false).await, (2, ErrorCode::NONE));
    broker.stop().await;
}

/// The same producer, after a restart.
async fn again(broker: &Broker, producer: Producer) -> Producer {
    Producer { client: broker.client().await, ..producer }
}

/// OFFSETS-4. The order is that in which they came, over a restart in between: of two transactions,
/// and of one and what is committed outside of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_transaction_takes_no_later_offset_back() {
    for power_cut in [true, false] {
        let (broker, one) = started().await;
        let mut producers = [one, Producer::new(&broker, "refunds").await];
        for (group, by, offset) in [("g", 0, 1), ("h", 1, 2), ("h", 0, 3), ("g", 1, 3)] {
            let producer = &mut producers[by];
            assert_eq!(producer.add_group(group, 3).await, ErrorCode::NONE);
            let offsets = producer.offsets_request(group, "t", offset);
            assert_eq!(producer.offsets(&offsets).await, ErrorCode::NONE);
        }
        let mut client = broker.client().await;
        assert_eq!(client.commit("g", "t", 0, 2).await, ErrorCode::NONE);
        let restart = async |broker: Broker| {
            if power_cut { broker.power_cut().await } else { broker.restart().await }
        };
        let broker = restart(broker).await;
        let [one, other] = producers;
        let mut one = again(&broker, one).await;
        let mut client = broker.client().await;
        assert_eq!(one.end(true).await, ErrorCode::NONE);
        assert_eq!(client.committed("g", "t", 0).await, (2, ErrorCode::NONE), "1 came before it");
        assert_eq!(client.committed("h", "t", 0).await, (3, ErrorCode::NONE));
        // What comes after a restart is later than all before, also than what is pending.
        assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
        let broker = restart(broker).await;
        let mut other = again(&broker, other).await;
        let mut client = broker.client().await;
        assert_eq!(other.end(true).await, ErrorCode::NONE);
        assert_eq!(client.committed("g", "t", 0).await, (1, ErrorCode::NONE), "3 came before it");
        assert_eq!(client.committed("h", "t", 0).await, (3, ErrorCode::NONE), "2 came before it");
        broker.stop().await;
    }
}

/// What is kept of the transaction `payments`; something else takes its place.
async fn exchange(disk: &SimDisk, put: Bytes) -> Bytes {
    let (log, _) = Log::open(&environment(disk), Path::new("/data"), log_config()).expect("opens");
    let mut kept = log.state(StateKind::Transactions).into_iter();
    let (_, before) = kept.find(|(key, _)| key == "payments").expect("it is there");
    let change = Commit::state(StateKind::Transactions, "payments", Some(put));
    log.commit(change).await.expect("it is taken");
    log.close().await.expect("it closes");
    before
}

/// OFFSETS-4. A transaction is not to be read at one start, and at the next one it is: what was
/// committed meanwhile came after what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_could_not_see_takes_no_later_offset_back() {
    let (broker, mut producer) = started().await;
    assert_eq!(producer.add_group("g", 3).await, ErrorCode::NONE);
    let offsets = producer.offsets_request("g", "t", 3);
    assert_eq!(producer.offsets(&offsets).await, ErrorCode::NONE);
    let disk = broker.stop().await;
    let kept = exchange(&disk, Bytes::from_static(b"of a newer version")).await;
    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(client.commit("g", "t", 0, 1).await, ErrorCode::NONE);
    let disk = broker.stop().await;
    exchange(&disk, kept).await;
    let broker = Broker::on(disk, |_| {}).await;
    let mut producer = again(&broker, producer).await;
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    let mut client = broker.client().await;
    assert_eq!(client.committed("g", "t", 0).await, (1, ErrorCode::NONE), "3 came before it");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_need_an_open_transaction_that_knows_the_group() {
    let (broker, mut producer) = started().await;
    let state = ErrorCode::INVALID_TXN_STATE;
    let offsets = producer.offsets_request("g", "t", 2);
    assert_eq!(producer.offsets(&offsets).await, state);
    producer.add("t", &[0]).await;
    assert_eq!(producer.offsets(&offsets).await, state, "open, but not for this group");
    let long = "g".repeat(1_025);
    for invalid in ["", &long] {
        assert_eq!(producer.add_group(invalid, 3).await, ErrorCode::INVALID_GROUP_ID);
    }
    producer.add_group("g", 3).await;
    let unknown = producer.offsets_request("g", "missing", 2);
    assert_eq!(producer.offsets(&unknown).await, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let beyond = producer.offsets_request("g", "t", 4);
    assert_eq!(producer.offsets(&beyond).await, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(producer.offsets(&offsets).await, ErrorCode::NONE);
    let mut zombie = offsets.clone();
    zombie.producer_epoch -= 1;
    assert_eq!(producer.offsets(&zombie).await, ErrorCode::INVALID_PRODUCER_EPOCH);
    broker.stop().await;
}

/// GROUP-2: a consumer that has lost its partitions does not commit through a producer either.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_who_is_no_member_any_more_are_refused() {
    let (broker, mut producer) = started().await;
    let member = Member::alone(&broker, Age::Newest).await;
    producer.add_group("g", 3).await;
    let mut offsets = producer.offsets_request("g", "t", 2);
    offsets.member_id = member.id.clone();
    offsets.generation_id = member.generation - 1;
    assert_eq!(producer.offsets(&offsets).await, ErrorCode::ILLEGAL_GENERATION);
    offsets.generation_id = member.generation;
    assert_eq!(producer.offsets(&offsets).await, ErrorCode::NONE);
    offsets.member_id = "stranger".into();
    assert_eq!(producer.offsets(&offsets).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let without_member = producer.offsets_request("g", "t", 2);
    assert_eq!(producer.offsets(&without_member).await, ErrorCode::NONE, "fenced by its epoch");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_topic_that_is_deleted_are_left_out() {
    let (broker, mut producer) = started().await;
    producer.add_group("g", 3).await;
    producer.offsets(&producer.offsets_request("g", "t", 2)).await;
    let mut admin = broker.client().await;
    let request = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    let _: DeleteTopicsResponse = admin.call(&request, 5).await;
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    assert_eq!(admin.groups().await, [""; 0], "a group without members is there by its offsets");
    admin.create("t", 1).await;
    assert_eq!(admin.committed("g", "t", 0).await, (-1, ErrorCode::NONE));
    broker.stop().await;
}
