//! As many records as librdkafka can deliver: acks=all, idempotent, the library's own batching.
//! Works against every Kafka broker; `cargo xtask bench broker` compares brokers with it.
//!
//! The topic must exist. One JSON object on standard output: records, the seconds from the first
//! send to the last acknowledgement, and the time from handing a record in to its acknowledgement.
//!
//! ```text
//! cargo run --release -p lossproof-client --features rdkafka --example produce_load -- \
//!     BOOTSTRAP_SERVER TOPIC PARTITIONS RECORDS RECORD_BYTES
//! ```

use std::time::{Duration, Instant};

use lossproof_client::librdkafka::{self, ClientSettings, ProducerSettings};
use lossproof_client::{LogProducer, Record, SendCause};

/// 16 MiB of 1 KiB records: enough to fill every request, and little enough to see its age.
const IN_FLIGHT_MAX: u32 = 16_384;
/// A broker that acknowledges nothing for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(1);
const SENDS_PER_POLL: u64 = 64;

struct Load {
    producer: Box<dyn LogProducer>,
    sent_at: Vec<Instant>,
    latencies: Vec<Duration>,
    last_acknowledged: Instant,
}

impl Load {
    fn poll(&mut self, wait: Duration) {
        for delivery in self.producer.poll(wait) {
            delivery.outcome.expect("acknowledged");
            self.last_acknowledged = Instant::now();
            let sent_at = self.sent_at[delivery.token as usize];
            self.latencies.push(self.last_acknowledged - sent_at);
        }
        assert!(self.last_acknowledged.elapsed() < SILENCE_MAX, "no acknowledgement in a minute");
    }

    fn send(&mut self, mut record: Record) {
        let token = self.sent_at.len() as u64;
        self.sent_at.push(Instant::now());
        while let Err(refused) = self.producer.send(record, token) {
            assert_eq!(refused.cause, SendCause::QueueFull);
            record = *refused.record;
            self.poll(POLL);
        }
        // A report that nobody takes says nothing of when it came.
        if token.is_multiple_of(SENDS_PER_POLL) {
            self.poll(Duration::ZERO);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, topic, partitions, records, record_bytes] = arguments.as_slice() else {
        eprintln!("usage: produce_load BOOTSTRAP_SERVER TOPIC PARTITIONS RECORDS RECORD_BYTES");
        std::process::exit(2);
    };
    let partitions: i32 = partitions.parse().expect("a number of partitions");
    let records: usize = records.parse().expect("a number of records");
    let record_bytes: usize = record_bytes.parse().expect("a number of bytes");

    let mut settings = ProducerSettings::new(ClientSettings::new(server.as_str()));
    settings.queue_records_max = IN_FLIGHT_MAX;
    let mut producer = librdkafka::producer(&settings).expect("a producer");
    // Connected, and the topic is known, before the clock runs.
    producer.partition_count(topic, SILENCE_MAX).expect("the topic");

    let value = bytes::Bytes::from(vec![b'x'; record_bytes]);
    let mut load = Load {
        producer,
        sent_at: Vec::with_capacity(records + 1),
        latencies: Vec::with_capacity(records + 1),
        last_acknowledged: Instant::now(),
    };
    let record = |number: usize| Record {
        topic: topic.clone(),
        partition: number as i32 % partitions,
        value: Some(value.clone()),
        ..Record::default()
    };
    // The library takes half a second to get its producer id: that is not the broker's time.
    load.send(record(0));
    while load.latencies.pop().is_none() {
        load.poll(POLL);
    }
    let start = Instant::now();
    for number in 0..records {
        load.send(record(number));
    }
    while load.latencies.len() < records {
        load.poll(POLL);
    }
    let seconds = (load.last_acknowledged - start).as_secs_f64();
    load.latencies.sort_unstable();
    let percentile = |share: f64| {
        let index = ((records - 1) as f64 * share) as usize;
        load.latencies[index].as_secs_f64() * 1e3
    };
    println!(
        "{{\"records\":{records},\"record_bytes\":{record_bytes},\"seconds\":{seconds:.4},\
         \"p50_ms\":{:.2},\"p99_ms\":{:.2}}}",
        percentile(0.5),
        percentile(0.99)
    );
}
