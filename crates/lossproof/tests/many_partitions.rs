//! Memory does not grow with what nobody uses: 10,000 partitions stay within the bound that is
//! promised, while they are made and written to, after an end in order and after a kill.

use crate::hostile::{Client, batch_of, peak_memory_bytes};
use crate::support::Broker;

use lossproof_wire::batch::Compression;
use lossproof_wire::*;

const TOPICS: i32 = 10;
const PARTITIONS_PER_TOPIC: i32 = 1_000;
const MEMORY_BYTES_MAX: usize = 200 << 20;

fn name(topic: i32) -> String {
    format!("many-{topic}")
}

fn make(client: &mut Client, topic: i32) {
    let topic = CreatableTopic {
        name: name(topic),
        num_partitions: PARTITIONS_PER_TOPIC,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer: CreateTopicsResponse = client.call(&request, 7);
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
}

/// One record in each partition.
fn fill(client: &mut Client, topic: i32) {
    let batch = batch_of(b"one", Compression::None);
    let partition_data = (0..PARTITIONS_PER_TOPIC)
        .map(|index| PartitionProduceData { index, records: Some(batch.clone()) })
        .collect();
    let topic = TopicProduceData { name: name(topic), partition_data, ..Default::default() };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 60_000,
        topic_data: vec![topic],
        ..Default::default()
    };
    let answer: ProduceResponse = client.call(&request, 9);
    let mut answers = answer.responses[0].partition_responses.iter();
    assert!(answers.all(|it| (it.error_code, it.base_offset) == (ErrorCode::NONE, 0)));
}

/// All partitions are there, each with its record, and memory is within its bound.
fn check(broker: &Broker, when: &str) {
    let mut client = Client::connect(&broker.server);
    for topic in 0..TOPICS {
        let partitions = (0..PARTITIONS_PER_TOPIC)
            .map(|partition_index| ListOffsetsPartition {
                partition_index,
                timestamp: -1,
                ..Default::default()
            })
            .collect();
        let topics = vec![ListOffsetsTopic { name: name(topic), partitions }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let answer: ListOffsetsResponse = client.call(&request, 4);
        let found = &answer.topics[0].partitions;
        assert_eq!(found.len(), PARTITIONS_PER_TOPIC as usize, "{when}");
        let is_whole =
            |it: &ListOffsetsPartitionResponse| (it.error_code, it.offset) == (ErrorCode::NONE, 1);
        assert!(found.iter().all(is_whole), "{when}: {found:?}");
    }
    let peak = peak_memory_bytes(broker.id());
    println!("{when}: {} KiB at its peak", peak >> 10);
    assert!(peak < MEMORY_BYTES_MAX, "{when}: {peak} bytes");
}

#[test]
fn ten_thousand_partitions_take_under_200_mb() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let broker = Broker::start(&data, &[]);
    let mut client = Client::connect(&broker.server);
    for topic in 0..TOPICS {
        make(&mut client, topic);
        fill(&mut client, topic);
    }
    check(&broker, "made");
    broker.stop();
    let broker = Broker::start(&data, &[]);
    check(&broker, "after an end in order");
    broker.kill();
    let broker = Broker::start(&data, &[]);
    check(&broker, "after a kill");
    broker.stop();
}
