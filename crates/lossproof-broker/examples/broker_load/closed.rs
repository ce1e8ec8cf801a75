//! A closed loop: every connection has one record of 1 KiB in flight, all the time. Connections
//! share the partitions, or go round the partitions that are theirs where there are more.

use std::time::{Duration, Instant};

use lossproof_wire::{ErrorCode, ProduceResponse};
use tokio::task::JoinSet;

use crate::client::{Client, PRODUCE_VERSION, RECORD_BYTES, Topic, noise, produce_request};

/// What one connection has seen.
struct Seen {
    /// Partition and offset of all records, those of the warm-up too.
    offsets: Vec<(i32, i64)>,
    /// Of those that were sent within the time that counts, however late their answers came.
    latencies: Vec<Duration>,
}

pub(crate) async fn run(topic: Topic, connections: i32, time: Duration) {
    // A fifth of the time warms up, and does not count.
    let begin = Instant::now() + time / 5;
    let end = begin + time;
    let mut loops = JoinSet::new();
    for number in 0..connections {
        let first = number % topic.partitions;
        let partitions = (first..topic.partitions).step_by(connections as usize).collect();
        loops.spawn(connection(topic.clone(), partitions, begin, end));
    }
    let seen = loops.join_all().await;
    check_offsets(&seen);
    let mut latencies: Vec<Duration> = seen.into_iter().flat_map(|seen| seen.latencies).collect();
    latencies.sort_unstable();
    let rate = latencies.len() as f64 / time.as_secs_f64();
    println!("{{\"acks\":{},\"per_second\":{rate:.1},{}}}", latencies.len(), text(&latencies));
}

/// Percentiles of sorted latencies, as fields of a JSON object.
pub(crate) fn text(sorted: &[Duration]) -> String {
    let percentile = |share: f64| {
        let index = (sorted.len().saturating_sub(1) as f64 * share) as usize;
        sorted.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(percentile);
    format!("\"p50_ms\":{p50:.3},\"p99_ms\":{p99:.3},\"p999_ms\":{p999:.3},\"max_ms\":{max:.3}")
}

async fn connection(topic: Topic, partitions: Vec<i32>, begin: Instant, end: Instant) -> Seen {
    let value = noise(RECORD_BYTES, partitions.len() as u64);
    let requests = partitions.iter().map(|it| (*it, produce_request(&topic, *it, &value)));
    let mut requests: Vec<(i32, Vec<u8>)> = requests.collect();
    let mut client = Client::connect(&topic.address).await;
    let mut seen = Seen { offsets: Vec::new(), latencies: Vec::new() };
    let mut sent_at = Instant::now();
    while sent_at < end {
        let turn = seen.offsets.len() % requests.len();
        let (partition, request) = &mut requests[turn];
        let id = client.send(request).await;
        let answer: ProduceResponse = client.receive(PRODUCE_VERSION, id).await;
        let now = Instant::now();
        let acknowledged = &answer.responses[0].partition_responses[0];
        assert_eq!(acknowledged.error_code, ErrorCode::NONE, "{acknowledged:?}");
        seen.offsets.push((*partition, acknowledged.base_offset));
        if sent_at >= begin {
            seen.latencies.push(now - sent_at);
        }
        sent_at = now;
    }
    seen
}

/// Nobody else writes: the offsets of a partition are all different, and without a gap.
fn check_offsets(seen: &[Seen]) {
    let mut all: Vec<(i32, i64)> = seen.iter().flat_map(|seen| seen.offsets.clone()).collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        let [(partition, offset), (next_partition, next_offset)] = pair else { continue };
        let follows = partition != next_partition || offset + 1 == *next_offset;
        assert!(follows, "offsets of a partition are given once, without a gap: {pair:?}");
    }
}
