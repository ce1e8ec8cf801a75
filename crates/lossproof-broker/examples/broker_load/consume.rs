//! Reads a topic on one connection, as a consumer with the settings of the Java client does,
//! checks every batch, and counts.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use lossproof_wire::batch::BatchHeader;
use lossproof_wire::{ErrorCode, FetchPartition, FetchRequest, FetchResponse, FetchTopic};

use crate::client::{Client, Topic, next_offsets};

/// The last one that names topics by their names.
pub(crate) const FETCH_VERSION: i16 = 12;
const ANSWER_BYTES_MAX: i32 = 50 << 20;
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Reads all of every partition, or its last `records` where these are not 0.
pub(crate) async fn run(topic: &Topic, records_max: i64) {
    let mut client = Client::connect(&topic.address).await;
    let ends = next_offsets(&mut client, topic).await;
    assert_eq!(ends.len(), topic.partitions as usize, "every partition has an end");
    let from = |end: &i64| if records_max == 0 { 0 } else { (end - records_max).max(0) };
    let mut next: Vec<i64> = ends.iter().map(from).collect();
    let (mut bytes, mut records) = (0, 0);
    let begin = Instant::now();
    while next.iter().zip(&ends).any(|(next, end)| next < end) {
        let answer: FetchResponse = client.call(&fetch(topic, &next), FETCH_VERSION).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            assert_eq!(partition.error_code, ErrorCode::NONE, "{partition:?}");
            let next = &mut next[partition.partition_index as usize];
            for_each_batch(partition.records.unwrap_or_default().into_bytes(), |header, batch| {
                bytes += batch.len();
                records += header.record_count;
                assert!(header.last_offset() >= *next, "a batch is given once");
                *next = header.last_offset() + 1;
            });
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let rate = bytes as f64 / 1e6 / seconds;
    println!("{{\"records\":{records},\"bytes\":{bytes},\"mb_per_second\":{rate:.1}}}");
}

pub(crate) fn fetch(topic: &Topic, next: &[i64]) -> FetchRequest {
    let partitions = (0..).zip(next).map(|(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: PARTITION_BYTES_MAX,
        ..Default::default()
    });
    let wanted = FetchTopic {
        topic: topic.name.clone(),
        partitions: partitions.collect(),
        ..Default::default()
    };
    FetchRequest {
        replica_id: -1,
        max_wait_ms: WAIT_MAX.as_millis() as i32,
        min_bytes: 1,
        max_bytes: ANSWER_BYTES_MAX,
        topics: vec![wanted],
        ..Default::default()
    }
}

/// Whole batches, each as it was meant: a part of one at the end, as Apache Kafka gives it, is not
/// one.
pub(crate) fn for_each_batch(mut records: Bytes, mut each: impl FnMut(&BatchHeader, &Bytes)) {
    while let Ok(header) = BatchHeader::parse(&records) {
        if records.len() < header.total_bytes() {
            return;
        }
        let batch = records.slice(..header.total_bytes());
        header.verify_checksum(&batch).expect("a batch as it was sent");
        each(&header, &batch);
        records.advance(header.total_bytes());
    }
}
