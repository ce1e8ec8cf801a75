//! Under any script of faults of service, index, dead letters, receipts, commits and group:
//! nothing is committed that is not confirmed or in the dead letters, and in the end everything is
//! there: each record under its identity, whole, in the index or among the dead letters, and never
//! in both. (The index answers as a server does that knows each identity once.) Records are stamped
//! or not, and what is stamped is written with either operation.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use common::service::{Reply, Seen, Service, answer, bulk, bulk_id, bulk_ids};
use common::{
    DEAD, GROUP, TOPIC, append, bulk_sink, cluster, dead_letters, head, http_step, start_failing,
};
use lossproof_audit::identity::{HEADER_NAME, Header, RecordId, binding, checksum};
use lossproof_client::Record;
use lossproof_client::memory::{Cluster, CommitFault, DeliveryFault};
use proptest::prelude::*;

const RECORDS: i64 = 60;
const PARTITIONS: i64 = 3;
/// Of the stamped records, and how their identities begin.
const SESSION: u64 = 7;
const SESSION_TEXT: &str = "0000000000000007";

#[derive(Clone, Debug)]
struct Script {
    mode: &'static str,
    operation: &'static str,
    workers: usize,
    stamped: Vec<bool>,
    service: Vec<u8>,
    index: Vec<u8>,
    poison: Vec<i64>,
    commits: Vec<u8>,
    deliveries: Vec<u8>,
    flushes: usize,
    revokes: usize,
    expires: usize,
}

fn scripts() -> impl Strategy<Value = Script> {
    let faults = |kinds: u8, max: usize| prop::collection::vec(0..kinds, 0..max);
    let mode = prop_oneof![Just("unordered"), Just("key"), Just("partition")];
    let operation = prop_oneof![Just("index"), Just("create")];
    let stamped = prop::collection::vec(any::<bool>(), RECORDS as usize);
    (
        (mode, operation, 1..20_usize, stamped, faults(8, 60), faults(8, 30)),
        prop::collection::vec(0..RECORDS, 0..6),
        (faults(3, 6), faults(6, 6), 0..4_usize, 0..6_usize, 0..3_usize),
    )
        .prop_map(|((mode, operation, workers, stamped, service, index), poison, rest)| {
            let (commits, deliveries, flushes, revokes, expires) = rest;
            Script {
                mode,
                operation,
                workers,
                stamped,
                service,
                index,
                poison,
                commits,
                deliveries,
                flushes,
                revokes,
                expires,
            }
        })
}

fn service_reply(fault: u8) -> Reply {
    match fault {
        0 => answer(500, "crash"),
        1 => answer(429, ""),
        2 => answer(200, "<html>"),
        3 => answer(401, ""),
        4 => answer(200, "{\"entities\""),
        5 => answer(503, ""),
        _ => answer(200, r#"{"entities":[]}"#),
    }
}

type Index = Arc<Mutex<BTreeMap<String, String>>>;

/// Answers as an index does: what it says is stored, is stored, and a document is made once.
fn index_reply(index: &Index, fault: u8, seen: &Seen) -> Reply {
    let ids = bulk_ids(seen);
    let heads = seen.body.lines().step_by(2).filter(|head| head.starts_with(r#"{"create""#));
    let creates: BTreeSet<String> = heads.map(bulk_id).collect();
    let mut index = index.lock().unwrap();
    let mut store = |id: &str, source: &str| {
        let create = creates.contains(id);
        assert!(create || id.starts_with(SESSION_TEXT), "{id} begins anew with its topic");
        if create && index.contains_key(id) {
            return 409;
        }
        if index.insert(id.to_owned(), source.to_owned()).is_some() { 200 } else { 201 }
    };
    match fault {
        0 => answer(503, ""),
        1 => answer(429, ""),
        2 => answer(403, ""),
        3 if ids.len() > 1 => answer(413, ""),
        4 if ids.len() > 1 => answer(400, ""),
        // Stored, and the answer is lost.
        5 => {
            for pair in seen.body.lines().collect::<Vec<_>>().chunks(2) {
                store(&bulk_id(pair[0]), pair[1]);
            }
            answer(200, "{\"items\":[{")
        }
        6 => bulk(seen, |id, source| if refused(&ids, id) { 429 } else { store(id, source) }),
        _ => bulk(seen, store),
    }
}

/// The document that a record without header is compared with.
fn document_reply(index: &Index, id: &str) -> Reply {
    let index = index.lock().unwrap();
    let source = &index[id];
    answer(200, format!(r#"{{"found":true,"_source":{source}}}"#))
}

fn is_stamped(script: &Script, number: i64) -> bool {
    script.stamped[number as usize]
}

/// Records go around the partitions; each of these is a lane of the session.
fn id_of(script: &Script, number: i64) -> String {
    let (partition, offset) = (number % PARTITIONS, number / PARTITIONS);
    if is_stamped(script, number) {
        format!("{SESSION_TEXT}-{partition}-{offset}")
    } else {
        format!("news-{partition}-{offset}")
    }
}

fn append_record(cluster: &Cluster, script: &Script, number: i64) {
    let poison = script.poison.contains(&number);
    let value = if poison { "poison".to_owned() } else { format!(r#"{{"text":"n{number}"}}"#) };
    let (partition, key) = ((number % PARTITIONS) as i32, (number % 7).to_string());
    if !is_stamped(script, number) {
        append(cluster, partition, Some(&key), &value);
        return;
    }
    let id =
        RecordId { session: SESSION, lane: partition as u32, seq: (number / PARTITIONS) as u64 };
    let header = Header {
        id,
        moved: false,
        transformed: false,
        binding: binding(TOPIC, partition),
        checksum: checksum(Some(key.as_bytes()), Some(value.as_bytes())),
    };
    let record = Record {
        topic: TOPIC.to_owned(),
        partition,
        key: Some(key.into()),
        value: Some(value.into()),
        headers: vec![(HEADER_NAME.to_owned(), Some(header.encode().to_vec().into()))],
        ..Record::default()
    };
    cluster.append(record).expect("the topic is there");
}

/// Every third document, from the second on.
fn refused(ids: &[String], id: &str) -> bool {
    ids.iter().position(|other| other == id).is_some_and(|place| place % 3 == 1)
}

fn commit_fault(fault: u8) -> CommitFault {
    match fault {
        0 => CommitFault::Retriable,
        1 => CommitFault::RetriableStored,
        _ => CommitFault::Accept,
    }
}

fn delivery_fault(fault: u8) -> DeliveryFault {
    match fault {
        0 => DeliveryFault::NotStored,
        1 => DeliveryFault::UnknownStored,
        2 => DeliveryFault::UnknownNotStored,
        3 => DeliveryFault::FatalStored,
        4 => DeliveryFault::Delay { polls: 2 },
        _ => DeliveryFault::Deliver,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn everything_ends_where_it_belongs(script in scripts()) {
        check(&script);
    }
}

fn check(script: &Script) {
    let cluster = cluster(PARTITIONS as i32);
    (0..RECORDS).for_each(|number| append_record(&cluster, script, number));
    cluster.script_commits(script.commits.iter().copied().map(commit_fault));
    cluster.script_deliveries(script.deliveries.iter().copied().map(delivery_fault));
    let index = Index::default();
    let (held, faults) = (Arc::clone(&index), script.clone());
    let counts = Mutex::new((0, 0));
    let service = Service::start(move |_, seen: &Seen| {
        let mut counts = counts.lock().unwrap();
        if seen.path == "/_bulk" {
            counts.1 += 1;
            let fault = faults.index.get(counts.1 - 1).copied().unwrap_or(9);
            return index_reply(&held, fault, seen);
        }
        if let Some(id) = seen.path.strip_prefix("/news/_doc/") {
            return document_reply(&held, id);
        }
        counts.0 += 1;
        service_reply(faults.service.get(counts.0 - 1).copied().unwrap_or(9))
    });
    let source = format!("mode = \"{}\"\nworkers = {}", script.mode, script.workers);
    // A record may get many of the faults while others pass: here none is at fault but poison.
    let head = head(&source).replace("attempts = 3", "attempts = 1000");
    let config = head.replace("revoke_wait = \"2s\"", "revoke_wait = \"20ms\"");
    let sink = format!("{}operation = \"{}\"\n", bulk_sink(&service.url), script.operation);
    let rest = http_step(&service.url) + &sink + &dead_letters();
    let running = start_failing(&cluster, &(config + &rest), script.flushes);
    for revoke in 1..=script.revokes {
        let assigned = revoke * PARTITIONS as usize;
        running.wait_until("the assignment", || running.ledger.assignments() >= assigned);
        cluster.revoke(GROUP);
        running.wait_until("the revoke", || running.ledger.revokes() >= revoke);
    }
    for _ in 0..script.expires {
        cluster.expire_member(GROUP, 0);
    }
    for partition in 0..PARTITIONS {
        running.wait_committed(&cluster, partition as i32, RECORDS / PARTITIONS);
    }
    assert_eq!(running.ledger.flush_faults_left(), 0, "nothing is committed before a flush");
    let summary = running.end();
    assert!(summary.is_good(), "{summary}");
    let index = index.lock().unwrap();
    let dead = cluster.records(DEAD);
    for number in 0..RECORDS {
        let (partition, offset) = (number % PARTITIONS, number / PARTITIONS);
        let document = index.get(&id_of(script, number));
        let whole = format!(r#"{{"text":"n{number}","analysis":{{"entities":[]}}}}"#);
        assert!(document.is_none_or(|document| *document == whole), "{document:?}");
        let in_index = document.is_some();
        let origin = |name: &str, value: i64| {
            (format!("lossproof.origin.{name}"), Some(value.to_string().into()))
        };
        let (from, at) = (origin("partition", partition), origin("offset", offset));
        let in_dead = dead.iter().any(|r| r.headers.contains(&from) && r.headers.contains(&at));
        assert_eq!(in_dead, script.poison.contains(&number), "{number}");
        assert_eq!(in_index, !in_dead, "{number}");
    }
}
