//! What the operator gives up does not hold up the rest: readers, committed ones as well, go on
//! behind it, transactions that overlap it are aborted, and a coordinator is there again.

use crate::alter_configs::{SET, alter, change};
use crate::common;
use crate::topic_admin::{grow, growth, try_to_grow};

use std::path::{Path, PathBuf};

use common::producer::{Producer, committed_in};
use common::{Broker, Client, environment, fetch, log_config, records, values_of};
use lossproof_broker::{AcceptanceError, accept_losses};
use lossproof_env::SimDisk;
use lossproof_log::{Commit, Log, Loss, OffsetRange, PartitionRange, StateKind};
use lossproof_wire::batch::BatchBuilder;
use lossproof_wire::*;

/// Flips a bit of the last place where `text` stands.
pub(crate) fn spoil(disk: &SimDisk, text: &str) {
    for path in disk.paths() {
        let bytes = disk.bytes(&path).expect("a file");
        let mut windows = bytes.windows(text.len());
        if let Some(at) = windows.rposition(|window| window == text.as_bytes()) {
            let flipped = [bytes[at] ^ 1];
            return disk.damage(&path, at as u64, &flipped).expect("a file");
        }
    }
    panic!("{text} stands nowhere");
}

/// Gives up `losses` on a stopped log; how many transactions were aborted.
async fn accept(disk: &SimDisk, losses: &[Loss]) -> Result<usize, AcceptanceError> {
    let env = environment(disk);
    let (log, _) = Log::open(&env, Path::new("/data"), log_config()).expect("it opens");
    let accepted = accept_losses(&log, &env, losses).await;
    log.close().await.expect("it closes");
    accepted
}

/// All that a committed reader is given, answer by answer.
async fn read_committed(client: &mut Client) -> Vec<String> {
    let (mut all, mut offset) = (vec![], 0);
    loop {
        let (values, next) = client.committed_part("t", offset).await;
        if next == offset {
            return all;
        }
        all.extend(values);
        offset = next;
    }
}

/// What a committed reader is given of a partition from its beginning.
async fn committed_data(client: &mut Client, partition: i32) -> PartitionData {
    let request = FetchRequest { isolation_level: 1, ..fetch("t", partition, 0) };
    let answer: FetchResponse = client.call(&request, 12).await;
    answer.responses[0].partitions[0].clone()
}

/// Asked for only to be validated, too.
async fn refuses_growth(client: &mut Client, count: i32, way_out: &str) {
    for validate_only in [true, false] {
        let (refused, says) = try_to_grow(client, growth("t", count), validate_only, 3).await;
        assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR, "{says}, {validate_only}");
        assert!(says.contains(way_out), "{says}");
    }
}

/// Leaves nothing of the frame that holds `text`: not even what it was is known any more.
fn lose_frame(disk: &SimDisk, text: &str) {
    lose_frame_with(disk, text.as_bytes());
}

fn lose_frame_with(disk: &SimDisk, text: &[u8]) {
    const BLOCK: usize = 4_096; // Small frames take one.
    let place = |path: std::path::PathBuf| {
        let bytes = disk.bytes(&path).expect("a file");
        let at = bytes.windows(text.len()).position(|window| window == text)?;
        Some((path, at))
    };
    let (path, at) = disk.paths().into_iter().find_map(place).expect("it is stored");
    disk.damage(&path, (at / BLOCK * BLOCK) as u64, &[0xff; BLOCK]).expect("a file");
}

fn range(disk: &SimDisk, first: i64, last: i64) -> Loss {
    let env = environment(disk);
    let (log, _) = Log::open(&env, Path::new("/data"), log_config()).expect("it opens");
    let partition = log.partitions()[0];
    log.close_blocking().expect("it closes");
    Loss::Offsets(PartitionRange { partition, range: OffsetRange { first, last } })
}

/// ACCEPTANCE-1. The trap: the first transaction has lost no marker but part of what was open, and
/// its producer goes on; a reader that takes both sides of the range in one answer leaves out what
/// it has committed since.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_overlap_it_are_aborted_and_later_ones_are_not() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let mut first = Producer::new(&broker, "first").await;
    let mut second = Producer::new(&broker, "second").await;
    for (producer, value) in [(&mut first, "a"), (&mut second, "c")] {
        producer.add("t", &[0]).await;
        assert_eq!(producer.send("t", 0, 0, &[value]).await, ErrorCode::NONE);
    }
    client.produce("t", 0, records(&["to be lost"])).await;
    assert_eq!(first.end(true).await, ErrorCode::NONE);
    first.add("t", &[0]).await;
    assert_eq!(first.send("t", 0, 1, &["b"]).await, ErrorCode::NONE);
    assert_eq!(first.end(true).await, ErrorCode::NONE);
    client.produce("t", 0, records(&["after"])).await;
    let disk = broker.stop().await.killed();
    spoil(&disk, "to be lost");

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    let data = client.fetch_committed("t", 0).await;
    assert_eq!(data.last_stable_offset, 0, "whether the first has committed is not known");
    assert_eq!(broker.monitor.figures().fetches_damaged, 0);
    assert_eq!(client.fetch("t", 0, 2).await.error_code, ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(broker.monitor.figures().fetches_damaged, 1, "an alarm before any scrub");
    let disk = broker.stop().await.killed();
    let lost = range(&disk, 2, 2);
    assert_eq!(accept(&disk, &[lost]).await.expect("it is lost"), 1, "the second is ongoing");
    assert_eq!(accept(&disk, &[lost]).await.expect("again"), 0, "nothing is left to do");

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    let data = client.fetch_committed("t", 0).await;
    assert_eq!(data.last_stable_offset, data.high_watermark);
    assert_eq!(read_committed(&mut client).await, ["b", "after"]);
    let behind = client.fetch("t", 0, 2).await;
    assert_eq!(values_of(&behind.records.expect("records").into_bytes(), 4)[0], "b");
    let mut second = Producer { client, ..second };
    assert_ne!(second.end(true).await, ErrorCode::NONE, "a part of it is gone");
    let appended = second.client.produce("t", 0, records(&["new"])).await;
    assert_eq!(appended.error_code, ErrorCode::NONE);
    broker.stop().await;
}

/// ACCEPTANCE-1. The trap: its producer is known, by another transaction, which is open elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_lost_its_marker_is_ended_though_its_producer_goes_on() {
    let broker = Broker::start().await;
    broker.client().await.create("t", 2).await;
    let mut producer = Producer::new(&broker, "payments").await;
    producer.add("t", &[1]).await;
    assert_eq!(producer.send("t", 1, 0, &["a"]).await, ErrorCode::NONE);
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    let marker = producer.client.fetch("t", 1, 1).await.records.expect("records").into_bytes();
    producer.add("t", &[0]).await;
    assert_eq!(producer.send("t", 0, 0, &["b"]).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    // From its checksum on: what stands before that is written by the log.
    spoil_entry(&disk, &marker[17..]);
    let env = environment(&disk);
    let (log, _) = Log::open(&env, Path::new("/data"), log_config()).expect("it opens");
    let partition = log.partitions()[1];
    log.close().await.expect("it closes");
    let lost = PartitionRange { partition, range: OffsetRange { first: 1, last: 1 } };
    assert_eq!(accept(&disk, &[Loss::Offsets(lost)]).await.expect("it is lost"), 1);

    let broker = Broker::on(disk, |_| {}).await;
    let mut producer = Producer { client: broker.client().await, ..producer };
    let data = committed_data(&mut producer.client, 1).await;
    assert_eq!(data.last_stable_offset, data.high_watermark);
    assert_eq!(producer.end(true).await, ErrorCode::NONE, "it is another one");
    assert_eq!(producer.client.committed_values("t").await, ["b"]);
    broker.stop().await;
}

/// FETCH-6. Nobody knows how many there were, so a billion is given up.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_to_an_end_that_was_given_up_gets_there() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for value in ["kept", "to be lost"] {
        client.produce("t", 0, records(&[value])).await;
    }
    client.create("later", 1).await;
    let disk = broker.stop().await.killed();
    lose_frame(&disk, "to be lost");
    let last = 1_000_000_000;
    accept(&disk, &[range(&disk, 1, last)]).await.expect("it is lost");

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    let data = client.fetch("t", 0, 1).await;
    assert_eq!((data.error_code, data.high_watermark), (ErrorCode::NONE, last + 1));
    let header = batch::BatchHeader::parse(&data.records.expect("records").into_bytes());
    let header = header.expect("a batch");
    assert_eq!((header.base_offset, header.last_offset()), (1, last));
    assert_eq!(header.record_count, 0);
    assert_eq!(client.committed_part("t", 1).await, (vec![], last + 1));
    assert_eq!(client.committed_part("t", 0).await, (vec!["kept".to_owned()], 1));
    assert!(client.fetch("t", 0, last + 1).await.records.expect("records").is_empty());
    let appended = client.produce("t", 0, records(&["new"])).await;
    assert_eq!((appended.error_code, appended.base_offset), (ErrorCode::NONE, last + 1));
    let behind = client.fetch("t", 0, 1).await.records.expect("records").into_bytes();
    assert_eq!(values_of(&behind, last + 1)[0], "new");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_offsets_are_served_again() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for value in ["a", "b"] {
        client.produce("t", 0, records(&[value])).await;
    }
    for offset in [1, 2] {
        assert_eq!(client.commit("readers", "t", 0, offset).await, ErrorCode::NONE);
    }
    let disk = broker.stop().await.killed();
    spoil(&disk, "readers");
    let broker = Broker::on(disk, |_| {}).await;
    let (_, error) = broker.client().await.committed("readers", "t", 0).await;
    assert_ne!(error, ErrorCode::NONE, "an old offset passes for good");
    let disk = broker.stop().await.killed();
    accept(&disk, &[Loss::State(StateKind::Offsets)]).await.expect("it is damaged");
    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(client.committed("readers", "t", 0).await, (1, ErrorCode::NONE), "what is there");
    assert_eq!(client.commit("readers", "t", 0, 2).await, ErrorCode::NONE);
    broker.stop().await;
}

/// ACCEPTANCE-1: what only the lost entry knew to be open would hold up committed readers for ever.
#[tokio::test(flavor = "multi_thread")]
async fn transactional_ids_are_served_again_and_nothing_is_left_open() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    let mut producer = Producer::new(&broker, "payments").await;
    producer.add("t", &[0]).await;
    assert_eq!(producer.send("t", 0, 0, &["a"]).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    spoil(&disk, "payments");
    let broker = Broker::on(disk, |_| {}).await;
    let mut producer = Producer { client: broker.client().await, ..producer };
    assert_eq!(producer.init().await, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    let disk = broker.stop().await.killed();
    let aborted = accept(&disk, &[Loss::State(StateKind::Transactions)]).await;
    assert_eq!(aborted.expect("it is damaged"), 1);
    let broker = Broker::on(disk, |_| {}).await;
    let mut producer = Producer { client: broker.client().await, ..producer };
    // Else it would go on, and be told that all of it is committed.
    let unknown = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
    assert_eq!(producer.add("t", &[0]).await, [unknown]);
    assert_eq!(producer.end(true).await, unknown);
    assert_eq!(producer.init().await, ErrorCode::NONE);
    let data = producer.client.fetch_committed("t", 0).await;
    assert_eq!((data.last_stable_offset, data.high_watermark), (2, 2));
    assert_eq!(producer.client.committed_values("t").await, Vec::<String>::new());
    broker.stop().await;
}

/// ACCEPTANCE-3. The trap: an older entry is left, whose next epoch has been granted already; who
/// gets it again begins at sequence 0, and his records are taken for those of before.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_not_granted_again_where_its_grant_was_lost() {
    let broker = Broker::start().await;
    broker.client().await.create("t", 1).await;
    Producer::new(&broker, "payments").await;
    let mut second = Producer::new(&broker, "payments").await;
    second.add("t", &[0]).await;
    assert_eq!(second.send("t", 0, 0, &["a"]).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    for _granted_and_begun in 0..2 {
        spoil(&disk, "payments");
    }
    let lost = [Loss::State(StateKind::Transactions)];
    assert_eq!(accept(&disk, &lost).await.expect("it is damaged"), 1);

    let broker = Broker::on(disk, |_| {}).await;
    let mut third = Producer::new(&broker, "payments").await;
    assert_ne!(third.bearer.0, second.bearer.0);
    third.add("t", &[0]).await;
    assert_eq!(third.send("t", 0, 0, &["b"]).await, ErrorCode::NONE);
    assert_eq!(third.end(true).await, ErrorCode::NONE);
    assert_eq!(third.client.committed_values("t").await, ["b"]);
    // Once more, for an answer that was lost: what was begun since is no part of that.
    third.add("t", &[0]).await;
    assert_eq!(third.send("t", 0, 1, &["c"]).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    assert_eq!(accept(&disk, &lost).await.expect("again"), 0);
    let broker = Broker::on(disk, |_| {}).await;
    let mut third = Producer { client: broker.client().await, ..third };
    assert_eq!(third.end(true).await, ErrorCode::NONE);
    assert_eq!(third.client.committed_values("t").await, ["b", "c"]);
    broker.stop().await;
}

/// ACCEPTANCE-3. The trap: what is left is open by an epoch that its partition would refuse.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_epoch_has_open_is_aborted_where_an_older_entry_is_left() {
    let broker = Broker::start().await;
    broker.client().await.create("t", 1).await;
    let mut first = Producer::new(&broker, "payments").await;
    first.add("t", &[0]).await;
    Producer::new(&broker, "payments").await;
    let mut third = Producer::new(&broker, "payments").await;
    third.add("t", &[0]).await;
    assert_eq!(third.send("t", 0, 0, &["a"]).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    for _two_granted_and_one_begun in 0..3 {
        spoil(&disk, "payments");
    }
    let aborted = accept(&disk, &[Loss::State(StateKind::Transactions)]).await;
    assert_eq!(aborted.expect("it is damaged"), 1);

    let broker = Broker::on(disk, |_| {}).await;
    let mut last = Producer::new(&broker, "payments").await;
    let data = last.client.fetch_committed("t", 0).await;
    assert_eq!(data.last_stable_offset, data.high_watermark);
    assert_eq!(last.client.committed_values("t").await, [""; 0]);
    broker.stop().await;
}

/// Nothing is changed by a mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_transactions_that_is_whole_is_not_given_up() {
    let broker = Broker::start().await;
    broker.client().await.create("t", 1).await;
    let mut producer = Producer::new(&broker, "payments").await;
    producer.add("t", &[0]).await;
    assert_eq!(producer.send("t", 0, 0, &["a"]).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    let refused = accept(&disk, &[Loss::State(StateKind::Transactions)]).await;
    assert!(matches!(refused, Err(AcceptanceError::Log(_))), "{refused:?}");
    let broker = Broker::on(disk, |_| {}).await;
    let mut producer = Producer { client: broker.client().await, ..producer };
    assert_eq!(producer.end(true).await, ErrorCode::NONE);
    assert_eq!(producer.client.committed_values("t").await, ["a"]);
    broker.stop().await;
}

/// ACCEPTANCE-1. What is left where a marker was lost and the loss is gone from the log: open, and
/// known to no coordinator.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_end_is_aborted_by_a_start_but_not_beside_a_loss() {
    for is_damaged in [false, true] {
        let broker = Broker::start().await;
        let mut client = broker.client().await;
        client.create("t", 1).await;
        client.produce("t", 0, records(&["plain"])).await;
        let disk = broker.stop().await;
        let (log, _) =
            Log::open(&environment(&disk), Path::new("/data"), log_config()).expect("a log");
        let mut batch = BatchBuilder::new().producer(1 << 40, 0, 0).transactional(true);
        batch.push(0, None, Some(b"forgotten"), &[]);
        let batch = batch.build().expect("a batch");
        log.commit(Commit::append(log.partitions()[0], batch)).await.expect("appended");
        log.close().await.expect("it closes");
        if is_damaged {
            spoil(&disk, "plain");
        }
        let broker = Broker::on(disk, |_| {}).await;
        let data = broker.client().await.fetch_committed("t", 1).await;
        let expected = if is_damaged { (1, 2) } else { (3, 3) };
        assert_eq!((data.last_stable_offset, data.high_watermark), expected, "{is_damaged}");
    }
}

async fn delete(client: &mut Client, name: &str) -> ErrorCode {
    let topic_names = vec![name.into()];
    let request = DeleteTopicsRequest { topic_names, ..Default::default() };
    let answer: DeleteTopicsResponse = client.call(&request, 5).await;
    answer.responses[0].error_code
}

/// What the journal holds of the creation of a partition.
fn creation(topic: &CreatableTopicResult, partition: i32) -> Vec<u8> {
    [&[1][..], &topic.topic_id.0, &partition.to_be_bytes()].concat()
}

/// And of the entry of a topic: version, id, flush policy and number of partitions.
fn listing(topic: &CreatableTopicResult, partitions: u8) -> Vec<u8> {
    [&[1][..], &topic.topic_id.0, &[0, 0, 0, 0, partitions]].concat()
}

/// A topic that has grown from one partition to two.
async fn grown() -> (Broker, Client, CreatableTopicResult) {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let made = client.create("t", 1).await;
    assert_eq!(grow(&mut client, growth("t", 2), false, 3).await, ErrorCode::NONE);
    (broker, client, made)
}

fn spoil_entry(disk: &SimDisk, begin: &[u8]) {
    let hit = |path: &PathBuf| {
        let bytes = disk.bytes(path).ok()?;
        let at = bytes.windows(begin.len()).position(|window| window == begin)?;
        disk.damage(path, at as u64, &[!bytes[at]]).ok()
    };
    disk.paths().iter().find_map(hit).expect("it stands in the journal");
}

/// COORDINATOR-5. The trap: a partition whose creation is lost looks like one of a deleted topic,
/// whose records nobody misses. All the more where nothing tells of the topic any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_with_a_partition_whose_creation_is_lost_can_only_be_aborted() {
    for (is_accepted, is_listed) in [(false, true), (true, true), (false, false), (true, false)] {
        let place = format!("accepted {is_accepted}, listed {is_listed}");
        let broker = Broker::start().await;
        let mut client = broker.client().await;
        let made = client.create("t", 2).await;
        client.create("input", 1).await;
        client.produce("input", 0, records(&["a", "b"])).await;
        assert_eq!(client.commit("g", "input", 0, 1).await, ErrorCode::NONE);
        let mut producer = Producer::new(&broker, "payments").await;
        producer.add("t", &[0, 1]).await;
        for partition in [0, 1] {
            assert_eq!(producer.send("t", partition, 0, &["paid"]).await, ErrorCode::NONE);
        }
        producer.add_group("g", 3).await;
        let offsets = producer.offsets_request("g", "input", 2);
        assert_eq!(producer.offsets(&offsets).await, ErrorCode::NONE);
        let disk = broker.stop().await.killed();
        spoil_entry(&disk, &creation(&made, 1));
        if !is_listed {
            let topic = listing(&made, 2);
            spoil_entry(&disk, &topic);
        }
        let metadata = [Loss::State(StateKind::Metadata)];
        if is_accepted {
            accept(&disk, &metadata).await.expect("it is damaged");
        }

        let broker = Broker::on(disk, |_| {}).await;
        producer.client = broker.client().await;
        assert_eq!(producer.end(true).await, ErrorCode::KAFKA_STORAGE_ERROR, "{place}");
        if is_listed {
            assert_eq!(producer.client.committed_values("t").await, [""; 0], "not a part of it");
        }
        assert_eq!(producer.end(false).await, ErrorCode::NONE, "{place}");
        let mut disk = broker.stop().await.killed();
        if !is_accepted {
            accept(&disk, &metadata).await.expect("it is damaged");
            disk = disk.killed();
        }
        let broker = Broker::on(disk, |_| {}).await;
        let committed = broker.client().await.committed("g", "input", 0).await;
        assert_eq!(committed, (1, ErrorCode::NONE), "{place}");
        broker.stop().await;
    }
}

/// The trap: the journal refuses to delete what it does not know, and with it all of the topic.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_a_partition_whose_creation_was_given_up_is_deleted_and_made_again() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let made = client.create("t", 2).await;
    for partition in [0, 1] {
        client.produce("t", partition, records(&["old"])).await;
    }
    let disk = broker.stop().await.killed();
    spoil_entry(&disk, &creation(&made, 1));

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    assert_ne!(client.fetch("t", 1, 0).await.error_code, ErrorCode::NONE, "it is not there");
    assert_ne!(delete(&mut client, "t").await, ErrorCode::NONE, "nobody has given it up");
    assert_eq!(client.values("t", 0).await, ["old"]);
    let disk = broker.stop().await.killed();
    accept(&disk, &[Loss::State(StateKind::Metadata)]).await.expect("it is damaged");

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    let risky = change("lossproof.flush", SET, Some("page-cache"));
    assert_eq!(alter(&mut client, "t", risky).await, ErrorCode::NONE);
    assert_eq!(delete(&mut client, "t").await, ErrorCode::NONE);
    assert_eq!(client.create("t", 2).await.error_code, ErrorCode::NONE);
    for partition in [0, 1] {
        let appended = client.produce("t", partition, records(&["new"])).await;
        assert_eq!(appended.error_code, ErrorCode::NONE);
    }
    let broker = broker.restart().await;
    let mut client = broker.client().await;
    for partition in [0, 1] {
        assert_eq!(client.values("t", partition).await, ["new"]);
    }
    broker.stop().await;
}

/// ACCEPTANCE-1, in the order in which a check tells of it: the range first, while it is not known
/// whose it was. The trap: then the state of transactions is given up, and nobody thinks of the
/// range any more. Whatever is lost of it, the transaction is known by what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_aborted_though_its_state_is_given_up_after_its_records() {
    for (lost, value) in [(0, "debit"), (1, "fee")] {
        let broker = Broker::start().await;
        broker.client().await.create("t", 2).await;
        let mut producer = Producer::new(&broker, "payments").await;
        producer.add("t", &[0, 1]).await;
        for (partition, sequence, value) in [(0, 0, "debit"), (0, 1, "fee"), (1, 0, "credit")] {
            let sent = producer.send("t", partition, sequence, &[value]).await;
            assert_eq!(sent, ErrorCode::NONE);
        }
        for partition in [0, 1] {
            producer.client.produce("t", partition, records(&["plain"])).await;
        }
        let disk = broker.stop().await.killed();
        lose_frame(&disk, value);
        let range = range(&disk, lost, lost);
        assert_eq!(accept(&disk, &[range]).await.expect("it is lost"), 0, "whose is not known");
        let state = StateKind::ALL.map(Loss::State);
        assert_eq!(accept(&disk, &state).await.expect("it is damaged"), 1, "{value}");

        let broker = Broker::on(disk, |_| {}).await;
        let mut producer = Producer { client: broker.client().await, ..producer };
        assert_ne!(producer.end(true).await, ErrorCode::NONE, "{value}: a part of it is gone");
        for partition in [0, 1] {
            let data = committed_data(&mut producer.client, partition).await;
            assert_eq!(data.last_stable_offset, data.high_watermark);
            let (values, _) = committed_in(data, 0);
            assert!(values.iter().all(|value| value == "plain"), "{value}: {values:?}");
        }
        broker.stop().await;
    }
}

/// TOPIC-7. The trap: what a group has committed of a partition that was lost with its creation
/// skips what is new in the next one of its number.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_partition_that_is_lost_are_none_of_the_next_one() {
    let (broker, mut client, made) = grown().await;
    client.create("later", 1).await;
    client.produce("t", 1, records(&["old"])).await;
    assert_eq!(client.commit("g", "t", 1, 1).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    // All of the growth.
    let entry = listing(&made, 2);
    lose_frame_with(&disk, &entry);
    accept(&disk, &StateKind::ALL.map(Loss::State)).await.expect("they are damaged");

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(grow(&mut client, growth("t", 2), false, 3).await, ErrorCode::NONE);
    client.produce("t", 1, records(&["new"])).await;
    assert_eq!(client.values("t", 1).await, ["new"]);
    assert_eq!(client.committed("g", "t", 1).await, (-1, ErrorCode::NONE), "it would skip that");
    broker.stop().await;
}

/// TOPIC-7. The trap: the entry that holds the offset does not read now, and does at a later start.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_does_not_grow_while_an_offset_beyond_its_end_may_be_hidden() {
    for (hidden, kind) in [("readers", StateKind::Offsets), ("pay", StateKind::Transactions)] {
        let (broker, mut client, made) = grown().await;
        client.produce("t", 1, records(&["old"])).await;
        Producer::new(&broker, "pay").await;
        assert_eq!(client.commit("readers", "t", 1, 1).await, ErrorCode::NONE);
        let disk = broker.stop().await.killed();
        spoil(&disk, hidden);
        spoil_entry(&disk, &creation(&made, 1));
        spoil_entry(&disk, &listing(&made, 2));
        accept(&disk, &[Loss::State(StateKind::Metadata)]).await.expect("it is damaged");

        let broker = Broker::on(disk, |_| {}).await;
        let mut client = broker.client().await;
        refuses_growth(&mut client, 2, "give up what a check names").await;
        let disk = broker.stop().await.killed();
        accept(&disk, &[Loss::State(kind)]).await.expect("it is damaged");
        let broker = Broker::on(disk, |_| {}).await;
        let mut client = broker.client().await;
        assert_eq!(grow(&mut client, growth("t", 2), false, 3).await, ErrorCode::NONE);
        assert_eq!(client.committed("readers", "t", 1).await, (-1, ErrorCode::NONE));
        broker.stop().await;
    }
}

/// TOPIC-7. The trap: behind the one that is lost is one of a number that would be given again;
/// nobody can name it, so it would be there for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_a_partition_behind_a_lost_one_can_only_be_deleted_and_goes_whole() {
    let (broker, mut client, made) = grown().await;
    assert_eq!(grow(&mut client, growth("t", 3), false, 3).await, ErrorCode::NONE);
    client.produce("t", 2, records(&["behind"])).await;
    let disk = broker.stop().await.killed();
    for partitions in [2, 3] {
        spoil_entry(&disk, &listing(&made, partitions));
    }
    spoil_entry(&disk, &creation(&made, 1));
    accept(&disk, &[Loss::State(StateKind::Metadata)]).await.expect("it is damaged");

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    refuses_growth(&mut client, 3, "delete the topic").await;
    assert_eq!(delete(&mut client, "t").await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    let (log, _) = Log::open(&environment(&disk), Path::new("/data"), log_config()).expect("a log");
    assert_eq!(log.partitions(), []);
    log.close().await.expect("it closes");
}

/// COORDINATOR-5. The trap: the partition is there, and nobody can read it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_with_a_partition_that_no_topic_lists_can_only_be_aborted() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let made = client.create("t", 1).await;
    client.create("other", 1).await;
    let mut producer = Producer::new(&broker, "payments").await;
    for topic in ["t", "other"] {
        assert_eq!(producer.add(topic, &[0]).await, [ErrorCode::NONE]);
        assert_eq!(producer.send(topic, 0, 0, &["paid"]).await, ErrorCode::NONE);
    }
    let disk = broker.stop().await.killed();
    spoil_entry(&disk, &listing(&made, 1));
    let broker = Broker::on(disk, |_| {}).await;
    producer.client = broker.client().await;
    assert_eq!(producer.end(true).await, ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(producer.client.committed_values("other").await, [""; 0], "not a part of it");
    assert_eq!(producer.end(false).await, ErrorCode::NONE);
    broker.stop().await;
}

/// TOPIC-7. The trap: an open transaction holds what a group wants to have committed of a partition
/// that is lost; it would be committed for the next one of its number.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_does_not_grow_while_a_transaction_holds_an_offset_beyond_its_end() {
    let (broker, mut client, made) = grown().await;
    client.produce("t", 1, records(&["old"])).await;
    let mut producer = Producer::new(&broker, "payments").await;
    producer.add_group("g", 3).await;
    let mut offsets = producer.offsets_request("g", "t", 1);
    offsets.topics[0].partitions[0].partition_index = 1;
    assert_eq!(producer.offsets(&offsets).await, ErrorCode::NONE);
    let disk = broker.stop().await.killed();
    spoil_entry(&disk, &creation(&made, 1));
    spoil_entry(&disk, &listing(&made, 2));
    accept(&disk, &[Loss::State(StateKind::Metadata)]).await.expect("it is damaged");

    let broker = Broker::on(disk, |_| {}).await;
    let mut client = broker.client().await;
    refuses_growth(&mut client, 2, "end the transaction").await;
    producer.client = broker.client().await;
    assert_eq!(producer.end(true).await, ErrorCode::NONE, "it has no record there");
    assert_eq!(grow(&mut client, growth("t", 2), false, 3).await, ErrorCode::NONE);
    client.produce("t", 1, records(&["new"])).await;
    assert_eq!(client.committed("g", "t", 1).await, (-1, ErrorCode::NONE), "it would skip that");
    broker.stop().await;
}

/// TOPIC-7. The trap: the topic is there, with fewer partitions, and grows by a second one of the
/// same number; what a group has committed of the first skips what is new in that.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_a_topic_has_lost_sight_of_is_served() {
    let (broker, mut client, made) = grown().await;
    for value in ["a", "b"] {
        client.produce("t", 1, records(&[value])).await;
    }
    assert_eq!(client.commit("g", "t", 1, 1).await, ErrorCode::NONE);
    let mut disk = broker.stop().await.killed();
    spoil_entry(&disk, &listing(&made, 2));
    for is_accepted in [false, true] {
        if is_accepted {
            let metadata = [Loss::State(StateKind::Metadata)];
            accept(&disk, &metadata).await.expect("it is damaged");
        }
        let broker = Broker::on(disk, |_| {}).await;
        let mut client = broker.client().await;
        assert_eq!(client.values("t", 1).await, ["a", "b"], "accepted {is_accepted}");
        if is_accepted {
            assert_eq!(client.committed("g", "t", 1).await, (1, ErrorCode::NONE));
            assert_eq!(grow(&mut client, growth("t", 3), false, 3).await, ErrorCode::NONE);
            assert_eq!(client.values("t", 1).await, ["a", "b"]);
            assert_eq!(client.values("t", 2).await, [""; 0]);
        }
        disk = broker.stop().await.killed();
    }
}
