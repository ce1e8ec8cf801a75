//! From the moment a record was to be sent to the moment a consumer has it, at a fixed rate. What
//! is late is late by the schedule, whatever held it up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lossproof_wire::batch::records;
use lossproof_wire::{ErrorCode, FetchResponse, ProduceResponse};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::client::{
    Client, PRODUCE_VERSION, RECORD_BYTES, Topic, next_offsets, noise, produce_request,
};
use crate::closed::text;
use crate::consume::{FETCH_VERSION, fetch, for_each_batch};

const CONNECTIONS: i32 = 64;
/// The first part of the records warms up, and does not count.
const WARM_UP: f64 = 0.2;

pub(crate) async fn run(topic: Topic, per_second: i32, time: Duration) {
    let mut consumer = Client::connect(&topic.address).await;
    let next = next_offsets(&mut consumer, &topic).await;
    let begin = Instant::now() + Duration::from_millis(100);
    let sent = Arc::new(AtomicU64::new(0));
    let mut loops = JoinSet::new();
    let each = Duration::from_secs_f64(f64::from(CONNECTIONS) / f64::from(per_second));
    for number in 0..CONNECTIONS {
        // They take turns, evenly.
        let first = begin + each.mul_f64(f64::from(number) / f64::from(CONNECTIONS));
        let schedule = Schedule { begin, first, each, end: begin + time };
        let partition = number % topic.partitions;
        loops.spawn(produce(topic.clone(), partition, schedule, Arc::clone(&sent)));
    }
    let consuming = tokio::spawn(consume(topic, consumer, next, begin, Arc::clone(&sent)));
    while loops.join_next().await.is_some_and(|ended| ended.is_ok()) {}
    assert!(loops.is_empty(), "every producer ends well");
    let all = sent.load(Ordering::SeqCst);
    sent.store(all | ENDED, Ordering::SeqCst);
    let mut latencies = consuming.await.expect("the consumer ends well");
    assert_eq!(latencies.len() as u64, all, "every record has come once");
    latencies.drain(..(latencies.len() as f64 * WARM_UP) as usize);
    latencies.sort_unstable();
    let rate = all as f64 / time.as_secs_f64();
    println!("{{\"records\":{all},\"per_second\":{rate:.1},{}}}", text(&latencies));
}

/// In the count of the records that were sent: there are no more.
const ENDED: u64 = 1 << 63;

#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin: Instant,
    first: Instant,
    each: Duration,
    end: Instant,
}

/// Sends one record at each time of the schedule, or at once when it is behind.
async fn produce(topic: Topic, partition: i32, schedule: Schedule, sent: Arc<AtomicU64>) {
    let mut client = Client::connect(&topic.address).await;
    let mut value = noise(RECORD_BYTES, partition as u64);
    let mut ticks = interval_at(schedule.first.into(), schedule.each);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        let due = ticks.tick().await.into_std();
        if due >= schedule.end {
            return;
        }
        let after = (due - schedule.begin).as_nanos() as u64;
        value[..8].copy_from_slice(&after.to_be_bytes());
        let id = client.send(&mut produce_request(&topic, partition, &value)).await;
        let answer: ProduceResponse = client.receive(PRODUCE_VERSION, id).await;
        let acknowledged = &answer.responses[0].partition_responses[0];
        assert_eq!(acknowledged.error_code, ErrorCode::NONE, "{acknowledged:?}");
        sent.fetch_add(1, Ordering::SeqCst);
    }
}

/// The latencies of all records, in the order in which they came.
async fn consume(
    topic: Topic,
    mut client: Client,
    mut next: Vec<i64>,
    begin: Instant,
    sent: Arc<AtomicU64>,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while sent.load(Ordering::SeqCst) != latencies.len() as u64 | ENDED {
        let answer: FetchResponse = client.call(&fetch(&topic, &next), FETCH_VERSION).await;
        let now = begin.elapsed();
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            assert_eq!(partition.error_code, ErrorCode::NONE, "{partition:?}");
            let next = &mut next[partition.partition_index as usize];
            for_each_batch(partition.records.unwrap_or_default().into_bytes(), |header, batch| {
                *next = header.last_offset() + 1;
                for record in records(batch).expect("a batch with records") {
                    let value = record.expect("a record").value.expect("a value");
                    let due = u64::from_be_bytes(*value.first_chunk().expect("its time"));
                    latencies.push(now.saturating_sub(Duration::from_nanos(due)));
                }
            });
        }
    }
    latencies
}
