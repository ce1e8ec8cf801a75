//! Transactions at the wire: who may write and when, what readers see, what a second producer with
//! the same id does to the first, and what a restart leaves. Traps are named by what others have
//! got wrong.

use crate::common;

use std::time::Duration;

use common::Broker;
use common::producer::Producer;
use lossproof_env::ManualClock;
use lossproof_wire::*;

const FENCED: ErrorCode = ErrorCode::PRODUCER_FENCED;

async fn started(partitions: i32) -> (Broker, Producer) {
    let broker = Broker::start().await;
    broker.client().await.create("t", partitions).await;
    let producer = Producer::new(&broker, "payments").await;
    (broker, producer)
}

/// High watermark and last stable offset.
async fn bounds(broker: &Broker) -> (i64, i64) {
    let data = broker.client().await.fetch("t", 0, 0).await;
    assert_eq!(data.aborted_transactions, None, "it reads uncommitted");
    (data.high_watermark, data.last_stable_offset)
}

async fn latest(broker: &Broker, isolation_level: i8) -> i64 {
    let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
    let topics = vec![topic];
    let request =
        ListOffsetsRequest { replica_id: -1, isolation_level, topics, ..Default::default() };
    let answer: ListOffsetsResponse = broker.client().await.call(&request, 7).await;
    answer.topics[0].partitions[0].offset
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_readers_see_a_transaction_when_it_has_committed() {
    let (broker, mut producer) = started(2).await;
    let mut reader = broker.client().await;
    assert_eq!(producer.add("t", &[0, 1]).await, [ErrorCode::NONE; 2]);
    assert_eq!(producer.send("t", 0, 0, &["a", "b"]).await, ErrorCode::NONE);
    reader.produce("t", 0, common::records(&["plain"])).await;
    assert_eq!(reader.values("t", 0).await, ["a", "b", "plain"], "the others see it at once");
    let open = reader.committed_values("t").await;
    assert_eq!(open, Vec::<String>::new(), "FETCH-1: not before its end");
    assert_eq!((bounds(&broker).await, latest(&broker, 1).await), ((3, 0), 0));
    assert_eq!(latest(&broker, 0).await, 3);
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    assert_eq!(reader.committed_values("t").await, ["a", "b", "plain"]);
    assert_eq!((bounds(&broker).await, latest(&broker, 1).await), ((4, 4), 4));
    let other = reader.fetch("t", 1, 0).await;
    assert_eq!(other.high_watermark, 1, "a marker stands where nothing was written, too");
    assert_eq!(producer.add("t", &[0]).await, [ErrorCode::NONE]);
    assert_eq!(producer.send("t", 0, 2, &["c"]).await, ErrorCode::NONE, "sequences go on");
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    assert_eq!(reader.committed_values("t").await, ["a", "b", "plain", "c"]);
    broker.stop().await;
}

/// FETCH-1. The trap: the list has to be by first offset, whatever the order of the ends; a client
/// that goes through it side by side with the batches would surface aborted records.
#[tokio::test(flavor = "multi_thread")]
async fn aborted_transactions_are_listed_by_first_offset() {
    let (broker, mut first) = started(1).await;
    let mut second = Producer::new(&broker, "second").await;
    for (producer, value) in [(&mut first, "a"), (&mut second, "b")] {
        producer.add("t", &[0]).await;
        assert_eq!(producer.send("t", 0, 0, &[value]).await, ErrorCode::NONE);
    }
    let mut reader = broker.client().await;
    reader.produce("t", 0, common::records(&["plain"])).await;
    assert_eq!(second.end(false).await, ErrorCode::NONE);
    assert_eq!(first.end(false).await, ErrorCode::NONE);
    let data = reader.fetch_committed("t", 0).await;
    let aborted = data.aborted_transactions.expect("a list");
    let listed: Vec<_> = aborted.iter().map(|it| (it.first_offset, it.producer_id)).collect();
    assert_eq!(listed, [(0, first.bearer.0), (1, second.bearer.0)]);
    assert_eq!(reader.committed_values("t").await, ["plain"]);
    let later = reader.fetch_committed("t", 4).await;
    assert_eq!(later.aborted_transactions.expect("a list").len(), 1, "those that reach it");
    broker.stop().await;
}

/// PRODUCE-4: so no transaction can be left hanging, which would hold committed readers for ever.
#[tokio::test(flavor = "multi_thread")]
async fn records_outside_of_an_open_transaction_are_refused() {
    let (broker, mut producer) = started(2).await;
    let state = ErrorCode::INVALID_TXN_STATE;
    assert_eq!(producer.send("t", 0, 0, &["early"]).await, state);
    producer.add("t", &[0]).await;
    assert_eq!(producer.send("t", 1, 0, &["elsewhere"]).await, state);
    let anonymous = producer.batch(0, &["anonymous"]);
    assert_eq!(producer.client.produce("t", 0, anonymous).await.error_code, state);
    let plain = common::sequenced(&["plain"], producer.bearer, 0);
    assert_eq!(producer.send_batch("t", 0, plain.clone()).await, state);
    assert_eq!(producer.send("t", 0, 0, &["a"]).await, ErrorCode::NONE);
    assert_eq!(producer.client.produce("t", 0, plain).await.error_code, state, "by the log");
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    assert_eq!(producer.send("t", 0, 1, &["late"]).await, state);
    let mut stranger = Producer { id: "stranger".into(), ..producer };
    let mapping = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
    assert_eq!(stranger.send("t", 0, 1, &["unknown id"]).await, mapping);
    assert_eq!(broker.client().await.values("t", 1).await, Vec::<String>::new());
    assert_eq!(bounds(&broker).await, (2, 2));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_from_a_client_is_refused() {
    let (broker, mut producer) = started(1).await;
    producer.add("t", &[0]).await;
    producer.send("t", 0, 0, &["a"]).await;
    let (id, epoch) = producer.bearer;
    let mut marker = common::builder(&[]).producer(id, epoch, 1).transactional(true).control(true);
    marker.push(1, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
    let marker = marker.build().expect("a batch");
    assert_eq!(producer.send_batch("t", 0, marker).await, ErrorCode::INVALID_RECORD);
    assert_eq!(bounds(&broker).await, (1, 0));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_producer_fences_the_first_and_aborts_its_transaction() {
    let (broker, mut zombie) = started(1).await;
    zombie.add("t", &[0]).await;
    zombie.send("t", 0, 0, &["a"]).await;
    let mut producer = Producer::new(&broker, "payments").await;
    assert_eq!(producer.bearer, (zombie.bearer.0, zombie.bearer.1 + 1));
    assert_eq!(bounds(&broker).await, (2, 2), "aborted with the same commit");
    for (version, fenced) in [(1, ErrorCode::INVALID_PRODUCER_EPOCH), (2, FENCED)] {
        assert_eq!(zombie.add_in("t", &[0], version).await, [fenced]);
        assert_eq!(zombie.add_group("g", version).await, fenced);
        assert_eq!(zombie.end_in(true, version).await, fenced);
        assert_eq!(zombie.end_in(false, version).await, fenced);
    }
    let epoch = ErrorCode::INVALID_PRODUCER_EPOCH;
    assert_eq!(zombie.send("t", 0, 1, &["late"]).await, epoch);
    assert_eq!(zombie.offsets(&zombie.offsets_request("g", "t", 0)).await, epoch);
    producer.add("t", &[0]).await;
    assert_eq!(zombie.send("t", 0, 1, &["late"]).await, epoch);
    let skipped = producer.send("t", 0, 1, &["b"]).await;
    assert_eq!(skipped, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "a new epoch starts at 0");
    assert_eq!(producer.send("t", 0, 0, &["b"]).await, ErrorCode::NONE);
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    assert_eq!(broker.client().await.committed_values("t").await, ["b"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_next_epoch_by_name_is_not_fenced_by_its_own_retry() {
    let (broker, mut producer) = started(1).await;
    let (id, epoch) = producer.bearer;
    let by_name = |producer_epoch| InitProducerIdRequest {
        producer_id: id,
        producer_epoch,
        ..producer.init_request()
    };
    let (present, older) = (by_name(epoch), by_name(epoch - 1));
    let first = producer.try_init(&present, 4).await;
    assert_eq!((first.producer_id, first.producer_epoch), (id, epoch + 1));
    let retry = producer.try_init(&present, 4).await;
    assert_eq!(retry, first, "its first answer may have been lost");
    producer.bearer = (id, epoch + 1);
    producer.add("t", &[0]).await;
    assert_eq!(producer.try_init(&present, 4).await.error_code, FENCED, "the epoch is in use");
    let old = ErrorCode::INVALID_PRODUCER_EPOCH;
    assert_eq!(producer.try_init(&present, 3).await.error_code, old);
    assert_eq!(producer.try_init(&older, 4).await.error_code, ErrorCode::INVALID_REQUEST);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_ids_and_timeouts_are_refused() {
    let (broker, mut producer) = started(1).await;
    let fine = producer.init_request();
    let empty = InitProducerIdRequest { transactional_id: Some(String::new()), ..fine.clone() };
    assert_eq!(producer.try_init(&empty, 4).await.error_code, ErrorCode::INVALID_REQUEST);
    for transaction_timeout_ms in [0, -1, 900_001, i32::MAX] {
        let request = InitProducerIdRequest { transaction_timeout_ms, ..fine.clone() };
        let answer = producer.try_init(&request, 4).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        assert_eq!((answer.producer_id, answer.producer_epoch), (-1, -1));
    }
    let longest = InitProducerIdRequest { transaction_timeout_ms: 900_000, ..fine.clone() };
    for version in common::ends(ApiKey::InitProducerId) {
        assert_eq!(producer.try_init(&longest, version).await.error_code, ErrorCode::NONE);
    }
    let half = InitProducerIdRequest { producer_epoch: 3, ..fine };
    assert_eq!(producer.try_init(&half, 4).await.error_code, ErrorCode::INVALID_REQUEST);
    broker.stop().await;
}

/// The trap: a batch outside of any transaction needs no right to a producer id, and with a higher
/// epoch it makes the partition refuse the marker; then readers of the others would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_in_the_name_of_a_producer_cannot_keep_its_transaction_open() {
    for committed in [true, false] {
        let (broker, mut producer) = started(3).await;
        producer.add("t", &[0, 1, 2]).await;
        assert_eq!(producer.send("t", 0, 0, &["a"]).await, ErrorCode::NONE);
        let mut other = broker.client().await;
        let (id, epoch) = producer.bearer;
        for (partition, higher) in [(1, 9), (2, 7)] {
            let batch = common::sequenced(&["of another"], (id, epoch + higher), 0);
            assert_eq!(other.produce("t", partition, batch).await.error_code, ErrorCode::NONE);
        }
        assert_eq!(producer.end(committed).await, ErrorCode::NONE, "{committed}");
        assert_eq!(bounds(&broker).await, (2, 2), "{committed}");
        let expected: &[&str] = if committed { &["a"] } else { &[] };
        assert_eq!(other.committed_values("t").await, expected);
        assert_eq!(producer.init().await, ErrorCode::NONE);
        broker.stop().await;
    }
}

/// TRANSACTION-2.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_transaction_can_be_asked_for_again_but_not_changed() {
    let (broker, mut producer) = started(1).await;
    let state = ErrorCode::INVALID_TXN_STATE;
    assert_eq!(producer.end(true).await, state, "nothing was begun");
    for committed in [true, false] {
        producer.add("t", &[0]).await;
        assert_eq!(producer.end(committed).await, ErrorCode::NONE);
        assert_eq!(producer.end(committed).await, ErrorCode::NONE, "a retry");
        assert_eq!(producer.end(!committed).await, state);
    }
    assert_eq!(bounds(&broker).await, (2, 2), "one marker each");
    let mut successor = Producer::new(&broker, "payments").await;
    assert_eq!(producer.end(false).await, FENCED, "it is not a retry of its own");
    successor.add("t", &[0]).await;
    assert_eq!(successor.end(false).await, ErrorCode::NONE);
    assert_eq!(producer.end(false).await, FENCED, "what a later epoch did is not its own either");
    let stranger = (producer.bearer.0 + 1, producer.bearer.1);
    let mut stranger = Producer { bearer: stranger, ..producer };
    assert_eq!(stranger.end(true).await, ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_added_all_or_none() {
    let (broker, mut producer) = started(1).await;
    let (unknown, untouched) =
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::OPERATION_NOT_ATTEMPTED);
    assert_eq!(producer.add("t", &[0, 7]).await, [untouched, unknown]);
    assert_eq!(producer.send("t", 0, 0, &["a"]).await, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(producer.end(true).await, ErrorCode::INVALID_TXN_STATE, "nothing was begun");
    for version in common::ends(ApiKey::AddPartitionsToTxn) {
        assert_eq!(producer.add_in("t", &[0], version).await, [ErrorCode::NONE]);
    }
    broker.stop().await;
}

/// TRANSACTION-3.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_takes_no_more_partitions_than_one_commit_can_end() {
    let broker = Broker::with(|config| config.transactions.partitions_max = 2).await;
    broker.client().await.create("t", 3).await;
    let mut producer = Producer::new(&broker, "payments").await;
    assert_eq!(producer.add("t", &[0, 1]).await, [ErrorCode::NONE; 2]);
    assert_eq!(producer.add("t", &[2]).await, [ErrorCode::POLICY_VIOLATION]);
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_does_not_keep_its_transaction_from_ending() {
    for with_power_cut in [false, true] {
        let (mut broker, mut producer) = started(1).await;
        let mut admin = broker.client().await;
        admin.create("gone", 2).await;
        producer.add("t", &[0]).await;
        producer.add("gone", &[0, 1]).await;
        producer.send("t", 0, 0, &["a"]).await;
        producer.send("gone", 1, 0, &["b"]).await;
        let topic_names = vec!["gone".into()];
        let request = DeleteTopicsRequest { topic_names, ..Default::default() };
        let answer: DeleteTopicsResponse = admin.call(&request, 5).await;
        assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
        if with_power_cut {
            broker = broker.power_cut().await;
            producer.client = broker.client().await;
        }
        assert_eq!(producer.end(true).await, ErrorCode::NONE, "{with_power_cut}");
        assert_eq!(broker.client().await.committed_values("t").await, ["a"]);
        broker.stop().await;
    }
}

/// COORDINATOR-1.
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_changes_nothing() {
    let (broker, mut producer) = started(1).await;
    for (sequence, committed) in [(0, true), (1, false)] {
        producer.add("t", &[0]).await;
        producer.send("t", 0, sequence, &[if committed { "a" } else { "b" }]).await;
        assert_eq!(producer.end(committed).await, ErrorCode::NONE);
    }
    producer.add("t", &[0]).await;
    producer.send("t", 0, 2, &["c"]).await;
    let broker = broker.power_cut().await;
    let (id, bearer) = (producer.id, producer.bearer);
    let mut producer = Producer { client: broker.client().await, id, bearer };
    let mut reader = broker.client().await;
    assert_eq!(reader.committed_values("t").await, ["a"]);
    assert_eq!(bounds(&broker).await, (5, 4));
    assert_eq!(producer.send("t", 0, 3, &["d"]).await, ErrorCode::NONE, "it goes on");
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    let broker = broker.power_cut().await;
    assert_eq!(broker.client().await.committed_values("t").await, ["a", "c", "d"]);
    let (id, bearer) = (producer.id, producer.bearer);
    let mut producer = Producer { client: broker.client().await, id, bearer };
    assert_eq!(producer.end(true).await, ErrorCode::NONE, "a retry after the restart");
    assert_eq!(producer.init().await, ErrorCode::NONE);
    assert_eq!(producer.bearer, (bearer.0, bearer.1 + 1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_have_a_coordinator() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let request =
        FindCoordinatorRequest { key: "payments".into(), key_type: 1, ..Default::default() };
    let answer: FindCoordinatorResponse = client.call(&request, 2).await;
    assert_eq!((answer.error_code, answer.node_id), (ErrorCode::NONE, 1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_and_their_producers_can_be_looked_at() {
    let (broker, mut producer) = started(2).await;
    let mut client = broker.client().await;
    producer.add("t", &[0, 1]).await;
    producer.send("t", 0, 0, &["a", "b"]).await;
    let transactional_ids = vec!["payments".to_owned(), "nobody".to_owned()];
    let request = DescribeTransactionsRequest { transactional_ids };
    let answer: DescribeTransactionsResponse = client.call(&request, 0).await;
    let [found, missing] = answer.transaction_states.as_slice() else { panic!("{answer:?}") };
    assert_eq!((&*found.transaction_state, found.transaction_timeout_ms), ("Ongoing", 60_000));
    assert_eq!((found.producer_id, found.producer_epoch), producer.bearer);
    let topic = DescribedTransactionTopic { topic: "t".into(), partitions: vec![0, 1] };
    assert_eq!((&found.topics, found.transaction_start_time_ms > 0), (&vec![topic], true));
    assert_eq!(missing.error_code, ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
    let topic = DescribeProducersTopic { name: "t".into(), partition_indexes: vec![0, 9] };
    let request = DescribeProducersRequest { topics: vec![topic] };
    let answer: DescribeProducersResponse = client.call(&request, 0).await;
    let [known, unknown] = answer.topics[0].partitions.as_slice() else { panic!("{answer:?}") };
    let active = &known.active_producers[0];
    assert_eq!((active.producer_id, active.producer_epoch), (producer.bearer.0, 0));
    assert_eq!((active.last_sequence, active.current_txn_start_offset), (1, 0));
    let since_ms = active.last_timestamp - found.transaction_start_time_ms;
    assert!((-1_000..60_000).contains(&since_ms), "{active:?}");
    assert_eq!(unknown.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    let answer: DescribeProducersResponse = client.call(&request, 0).await;
    let active = &answer.topics[0].partitions[0].active_producers[0];
    assert_eq!((active.last_sequence, active.current_txn_start_offset), (1, -1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_listed_by_a_pattern_of_the_whole_id() {
    let broker = Broker::start().await;
    for id in ["pay-1", "pay-2", "repay-1", "other"] {
        Producer::new(&broker, id).await;
    }
    let mut client = broker.client().await;
    for (pattern, error, expected) in [
        (None, ErrorCode::NONE, vec!["other", "pay-1", "pay-2", "repay-1"]),
        (Some(""), ErrorCode::NONE, vec!["other", "pay-1", "pay-2", "repay-1"]),
        (Some("pay"), ErrorCode::NONE, vec![]),
        (Some("pay-."), ErrorCode::NONE, vec!["pay-1", "pay-2"]),
        (Some("other|.*-1"), ErrorCode::NONE, vec!["other", "pay-1", "repay-1"]),
        (Some("other)|(pay-1"), ErrorCode::INVALID_REGULAR_EXPRESSION, vec![]),
        (Some("("), ErrorCode::INVALID_REGULAR_EXPRESSION, vec![]),
        (Some("(((a{99}){99}){99}){99}"), ErrorCode::INVALID_REGULAR_EXPRESSION, vec![]),
    ] {
        let transactional_id_pattern = pattern.map(str::to_owned);
        let request = ListTransactionsRequest { transactional_id_pattern, ..Default::default() };
        let answer: ListTransactionsResponse = client.call(&request, 2).await;
        let listed = answer.transaction_states.iter();
        let mut listed: Vec<_> = listed.map(|it| &*it.transactional_id).collect();
        listed.sort_unstable();
        assert_eq!((answer.error_code, listed), (error, expected), "{pattern:?}");
    }
    broker.stop().await;
}

/// Only of those that are open it can be said for how long.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_listed_by_age() {
    let clock = ManualClock::new(1_700_000_000_000);
    let broker = Broker::on_clock(&clock).await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    Producer::new(&broker, "other").await;
    let mut producer = Producer::new(&broker, "payments").await;
    producer.add("t", &[0]).await;
    clock.advance(Duration::from_secs(5));
    for (age_ms, expected) in
        [(4_999, vec!["payments"]), (5_000, vec![]), (-1, vec!["other", "payments"])]
    {
        let request = ListTransactionsRequest { duration_filter: age_ms, ..Default::default() };
        let answer: ListTransactionsResponse = client.call(&request, 1).await;
        let listed = answer.transaction_states.iter();
        let listed: Vec<_> = listed.map(|it| &*it.transactional_id).collect();
        assert_eq!(listed, expected, "older than {age_ms} ms");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_listed_by_state_and_producer() {
    let (broker, mut producer) = started(1).await;
    let other = Producer::new(&broker, "other").await;
    producer.add("t", &[0]).await;
    let mut client = broker.client().await;
    let all = ListTransactionsRequest::default();
    let ongoing = ListTransactionsRequest {
        state_filters: vec!["Ongoing".into(), "Dreaming".into()],
        ..Default::default()
    };
    let by_id =
        ListTransactionsRequest { producer_id_filters: vec![other.bearer.0], ..Default::default() };
    let both = vec![("other", "Empty"), ("payments", "Ongoing")];
    for (request, expected) in
        [(all, both), (ongoing, vec![("payments", "Ongoing")]), (by_id, vec![("other", "Empty")])]
    {
        let answer: ListTransactionsResponse = client.call(&request, 1).await;
        let listed = answer.transaction_states.iter();
        let listed: Vec<_> =
            listed.map(|it| (&*it.transactional_id, &*it.transaction_state)).collect();
        assert_eq!(listed, expected);
        assert_eq!(
            answer.unknown_state_filters.len(),
            usize::from(request.state_filters.len() > 1)
        );
    }
    broker.stop().await;
}
