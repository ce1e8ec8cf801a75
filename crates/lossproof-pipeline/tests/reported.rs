//! POLL-1 with the receipts that are used in production: at each commit, a journal that has just
//! lost power, or the receipts topic, must say how every record below the offset ended.

use crate::common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::receipts::{Ledger, Witness};
use common::{GROUP, append, cluster, dead_letters, head, lines_sink, start_with};
use lossproof_audit::receipt::{Mark, Receipt, Role, Stage};
use lossproof_audit::report::{RECEIPTS_TOPIC, Reporter};
use lossproof_client::TopicPartition;
use lossproof_client::memory::Cluster;
use lossproof_env::{Environment, SimDisk};
use lossproof_log::{Log, LogConfig, StateKind};
use lossproof_pipeline::Reported;

const JOURNAL: &str = "/journal";
const RECORDS: i64 = 40;

fn on(disk: &SimDisk) -> Environment {
    Environment { disk: Arc::new(disk.clone()), ..Environment::real() }
}

fn open(environment: &Environment) -> Log {
    Log::open(environment, Path::new(JOURNAL), LogConfig::small()).unwrap().0
}

#[derive(Debug)]
struct Evidence {
    disk: SimDisk,
    cluster: Cluster,
}

impl Witness for Evidence {
    fn settled(&self, partition: &TopicPartition) -> BTreeSet<i64> {
        // The journal first: a receipt leaves it only when the topic has it.
        let log = open(&on(&self.disk.power_cut()));
        let mut kept: Vec<_> =
            log.state(StateKind::Receipt).into_iter().map(|(_, bytes)| bytes).collect();
        log.close_blocking().unwrap();
        kept.extend(self.cluster.records(RECEIPTS_TOPIC).into_iter().filter_map(|r| r.value));
        let receipts = kept.iter().filter_map(|bytes| Receipt::decode(bytes).ok());
        let entries = receipts.flat_map(|receipt| receipt.entries).filter(|entry| {
            let ends = matches!(entry.mark, Mark::Reached(Stage::Confirmed) | Mark::Ended { .. });
            let here = (&entry.place.topic, entry.place.partition);
            ends && here == (&partition.topic, partition.partition)
        });
        entries
            .flat_map(|entry| entry.offsets.numbers().collect::<Vec<_>>())
            .map(|offset| offset as i64)
            .collect()
    }
}

#[test]
fn an_offset_is_committed_only_with_its_receipt_in_the_journal_or_in_the_topic() {
    let (disk, cluster) = (SimDisk::new(), cluster(2));
    let environment = on(&disk);
    let log = open(&environment);
    let role = Role::Pipeline { group: GROUP.to_owned() };
    let reporter = Reporter::open(log.clone(), &environment, role, Vec::new()).unwrap();
    let (producers, clock) = (cluster.clone(), Arc::clone(&environment.clock));
    let producers = Box::new(move || Ok(producers.producer()));
    let receipts = Reported::start(Arc::new(reporter), producers, clock).unwrap();

    let ledger = Ledger::with_witness(Evidence { disk: disk.clone(), cluster: cluster.clone() });
    let config = head("") + &lines_sink(Path::new("/out/news.jsonl")) + &dead_letters();
    let running = start_with(&cluster, &config, environment, ledger, Box::new(receipts));
    for number in 0..RECORDS {
        let value = if number % 10 == 7 { "poison" } else { r#"{"n":1}"# };
        append(&cluster, 0, None, value);
        append(&cluster, 1, None, value);
        if number % 8 == 0 {
            running.wait_committed(&cluster, 0, number + 1);
        }
    }
    running.wait_committed(&cluster, 0, RECORDS);
    running.wait_committed(&cluster, 1, RECORDS);
    let summary = running.end();
    assert!(summary.is_good(), "{summary}");
    log.close_blocking().unwrap();
}
