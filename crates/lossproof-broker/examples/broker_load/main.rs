//! A load for any broker that speaks Kafka: the same program for each of those that
//! `cargo xtask bench broker` compares. It takes no library but the codec, so that what it costs
//! itself is small and the same for all. One JSON object on standard output.
//!
//! ```text
//! cargo run --release -p lossproof-broker --example broker_load -- create ADDRESS TOPIC PARTITIONS
//! ... closed  ADDRESS TOPIC PARTITIONS CONNECTIONS SECONDS
//! ... consume ADDRESS TOPIC PARTITIONS LAST_RECORDS_OR_0
//! ... latency ADDRESS TOPIC PARTITIONS RECORDS_PER_SECOND SECONDS
//! ... stub    ADDRESS PARTITIONS
//! ```

mod client;
mod closed;
mod consume;
mod latency;
mod stub;

use std::time::Duration;

const USAGE: &str = "broker_load create | closed | consume | latency | stub, see its source";

/// Arguments in order.
struct Arguments(std::env::Args);

impl Arguments {
    fn text(&mut self) -> String {
        self.0.next().unwrap_or_else(|| {
            eprintln!("usage: {USAGE}");
            std::process::exit(2);
        })
    }

    fn number(&mut self) -> i32 {
        self.text().parse().expect("a number")
    }

    fn seconds(&mut self) -> Duration {
        Duration::from_secs_f64(self.text().parse().expect("a number of seconds"))
    }

    fn topic(&mut self) -> client::Topic {
        let (address, name) = (self.text(), self.text());
        client::Topic { address, name, partitions: self.number() }
    }
}

fn main() {
    let mut arguments = Arguments(std::env::args());
    let _program = arguments.text();
    let command = arguments.text();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        match command.as_str() {
            "create" => client::create(&arguments.topic()).await,
            "closed" => {
                let topic = arguments.topic();
                closed::run(topic, arguments.number(), arguments.seconds()).await;
            }
            "consume" => {
                let topic = arguments.topic();
                consume::run(&topic, arguments.number().into()).await;
            }
            "latency" => {
                let topic = arguments.topic();
                latency::run(topic, arguments.number(), arguments.seconds()).await;
            }
            "stub" => stub::run(&arguments.text(), arguments.number()).await,
            _ => eprintln!("usage: {USAGE}"),
        }
    });
}
