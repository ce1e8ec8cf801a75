//! A pipeline on the cluster in memory, with a watch over every commit.

// Each test file uses a part of it.
#![allow(unreachable_pub, missing_debug_implementations)]

pub mod receipts;
pub mod service;

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use lossproof_client::memory::Cluster;
use lossproof_client::{Record, TopicPartition};
use lossproof_env::Environment;
use lossproof_pipeline::receipts::Receipts;
use lossproof_pipeline::{Config, Parts, Stop, Summary};
use receipts::{Ledger, Watched};

pub const TOPIC: &str = "news";
pub const GROUP: &str = "index";
pub const DEAD: &str = "news-dead";

/// One run of a pipeline in threads of its own.
#[derive(Debug)]
pub struct Running {
    stop: Stop,
    thread: JoinHandle<Summary>,
    pub ledger: Ledger,
}

pub fn cluster(partitions: i32) -> Cluster {
    let cluster = Cluster::waiting();
    cluster.create_topic(TOPIC, partitions);
    cluster
}

pub fn place(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC.to_owned(), partition }
}

pub fn append(cluster: &Cluster, partition: i32, key: Option<&str>, value: &str) -> i64 {
    let record = Record {
        topic: TOPIC.to_owned(),
        partition,
        key: key.map(|key| key.to_owned().into()),
        value: Some(value.to_owned().into()),
        ..Record::default()
    };
    cluster.append(record).expect("the topic is there").offset
}

/// Source and journal, with settings that make tests short.
pub fn head(source: &str) -> String {
    head_with(source, "open = \"20ms\"\nopen_max = \"40ms\"")
}

pub fn head_with(source: &str, breaker: &str) -> String {
    format!(
        "[source]\nbootstrap_servers = \"memory\"\ntopic = \"{TOPIC}\"\ngroup = \"{GROUP}\"\n\
         commit_interval = \"10ms\"\nrevoke_wait = \"2s\"\n{source}\n\
         [journal]\ndirectory = \"none\"\n\
         [breaker]\n{breaker}\n\
         [retry]\nattempts = 3\nfirst = \"1ms\"\nmax = \"5ms\"\n"
    )
}

pub fn lines_sink(path: &Path) -> String {
    format!("[sink]\nkind = \"jsonl\"\npath = \"{}\"\n", path.display())
}

pub fn bulk_sink(url: &str) -> String {
    format!("[sink]\nkind = \"opensearch\"\nurl = \"{url}\"\nindex = \"news\"\ntimeout = \"5s\"\n")
}

pub fn http_step(url: &str) -> String {
    format!(
        "[[steps]]\nkind = \"http\"\nname = \"ner\"\nurl = \"{url}\"\nfield = \"text\"\n\
         into = \"analysis\"\nrequire = [\"entities\"]\ntimeout = \"5s\"\n"
    )
}

pub fn dead_letters() -> String {
    format!("[dead_letters]\ntopic = \"{DEAD}\"\n")
}

pub fn start(cluster: &Cluster, config: &str) -> Running {
    start_in(cluster, config, Environment::real())
}

pub fn start_in(cluster: &Cluster, config: &str, environment: Environment) -> Running {
    let ledger = Ledger::default();
    let receipts = Box::new(ledger.receipts());
    start_with(cluster, config, environment, ledger, receipts)
}

/// With receipts of which the first `flushes` are not made durable.
pub fn start_failing(cluster: &Cluster, config: &str, flushes: usize) -> Running {
    let ledger = Ledger::default();
    ledger.fail_flushes(flushes);
    let receipts = Box::new(ledger.receipts());
    start_with(cluster, config, Environment::real(), ledger, receipts)
}

pub fn start_with(
    cluster: &Cluster,
    config: &str,
    environment: Environment,
    ledger: Ledger,
    receipts: Box<dyn Receipts>,
) -> Running {
    let config = Config::parse(config).unwrap_or_else(|error| panic!("{error}\n{config}"));
    let stop = Stop::default();
    let consumer = Watched::new(cluster.consumer(GROUP, &[TOPIC]), ledger.clone());
    let producers = cluster.clone();
    let parts = Parts {
        environment,
        consumer: Box::new(consumer),
        producers: Box::new(move || Ok(producers.producer())),
        receipts,
    };
    let end = stop.clone();
    let thread = std::thread::spawn(move || {
        lossproof_pipeline::run(&config, parts, &end).expect("it starts")
    });
    Running { stop, thread, ledger }
}

impl Running {
    /// Waits until `done`; a run that ended by itself or hangs fails the test.
    pub fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..6000 {
            let ended = self.thread.is_finished();
            if done() {
                return;
            }
            assert!(!ended, "ended before: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("hangs: {what}");
    }

    pub fn wait_committed(&self, cluster: &Cluster, partition: i32, offset: i64) {
        let what = format!("commit of {offset} in partition {partition}");
        self.wait_until(&what, || cluster.committed(GROUP, &place(partition)) == Some(offset));
    }

    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks it to end, waits, and checks what must hold for every run.
    pub fn end(self) -> Summary {
        self.stop.request();
        self.join()
    }

    /// Ends a run that was allowed to go wrong.
    pub fn end_unchecked(self) -> Summary {
        self.stop.request();
        self.thread.join().expect("no thread panics")
    }

    /// Waits for an end that comes by itself.
    pub fn join(self) -> Summary {
        let summary = self.thread.join().expect("no thread panics");
        assert!(summary.counts.conserved(), "{summary}");
        assert_eq!(summary.counts.in_flight, 0, "{summary}");
        assert_eq!(self.ledger.violations(), Vec::<String>::new());
        summary
    }
}

/// The identities in a file of the sink; each line must be whole.
pub fn ids_in(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let id = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a whole line");
        value["_id"].as_str().expect("an identity").to_owned()
    };
    text.lines().map(id).collect()
}
