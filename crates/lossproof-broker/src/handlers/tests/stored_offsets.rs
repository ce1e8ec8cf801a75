//! What earlier versions left in the journal is what their clients are told.

use super::*;

/// As an offset was written before it had an order (OFFSETS-4).
const WITHOUT_ORDER: &[u8] = b"\x01\
    \0\0\0\0\0\0\0\x03\
    \0\0\0\x07\
    \x51\x52\x53\x54\x55\x56\x57\x58\
    metadata";

async fn told(broker: &Arc<Broker>) -> OffsetFetchResponsePartition {
    let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
    let topics = Some(vec![topic]);
    let request = OffsetFetchRequest { group_id: "g".into(), topics, ..Default::default() };
    let mut answer: OffsetFetchResponse = ask(broker, &request, 7).await;
    answer.topics.remove(0).partitions.remove(0)
}

/// A group that is told there is none reads everything again, or skips it (OFFSETS-3).
#[tokio::test]
async fn an_offset_without_an_order_is_told_until_the_next_one_is_committed() {
    let (server, _clock, id) = waiting_world().await;
    let broker = &server.broker;
    for _ in 0..4 {
        let commit = Commit::append(id, batch().build().expect("a batch"));
        broker.log.commit(commit).await.expect("acknowledged");
    }
    let topic_id = broker.topics.catalog().by_name("t").expect("a topic").id;
    let key = OffsetKey { group: "g".into(), topic_id, partition: 0 };
    let value = Some(Bytes::from_static(WITHOUT_ORDER));
    let commit = Commit::state(StateKind::Offsets, key.encode(), value);
    broker.log.commit(commit).await.expect("acknowledged");
    let partition = told(broker).await;
    assert_eq!(partition.error_code, ErrorCode::NONE);
    assert_eq!((partition.committed_offset, partition.committed_leader_epoch), (3, 7));
    assert_eq!(partition.metadata.as_deref(), Some("metadata"));

    let answer: OffsetCommitResponse = ask(broker, &offset_commit(2), 8).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    assert_eq!(told(broker).await.committed_offset, 2, "OFFSETS-4");
    broker.log.close().await.expect("the log closes");
}
