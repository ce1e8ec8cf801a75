//! Where the real broker takes its settings from, which of them win, what it refuses, and what
//! operators read of it over HTTP.

use crate::hostile::{Client, batch_of};
use crate::support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use lossproof_wire::batch::Compression;
use lossproof_wire::*;
use support::{Broker, Produce, binary};

/// A start that must fail, and what it says.
fn refusal(arguments: &[&str]) -> String {
    let output = binary().arg("broker").args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("\n  next: "), "{said}");
    said
}

fn produce(server: &str, scratch: &Path) {
    let input = scratch.join("input");
    fs::write(&input, "one\ntwo\nthree").unwrap();
    let produce = Produce::start(server, &scratch.join("producer"), &[input.to_str().unwrap()]);
    let (_, code, said) = produce.finish_with_talk();
    assert_eq!(code, Some(0), "{said}");
}

/// Status line and body.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

fn value<'a>(page: &'a str, sample: &str) -> &'a str {
    let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in:\n{page}"))
}

#[test]
fn a_file_is_read_and_set_wins_over_it_and_options_over_both() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("broker.toml");
    let text = "num.partitions = 7\n[lossproof]\nflush = \"page-cache\"\n\
                [transaction]\n\"max.timeout.ms\" = 5\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &str); 3] = [
        (&[], "7"),
        (&["--set", "num.partitions=6"], "6"),
        (&["--set", "num.partitions=6", "--partitions", "5"], "5"),
    ];
    for (number, (more, partitions)) in cases.into_iter().enumerate() {
        let metered = ["--config", file, "--metrics-listen", "127.0.0.1:0"];
        let arguments = [&metered[..], more].concat();
        let data = scratch.path().join(number.to_string());
        let broker = Broker::start(&data, &arguments);
        let (server, metrics) = broker.server.split_once(" metrics=http://").unwrap();
        let own = scratch.path().join(format!("own-{number}"));
        fs::create_dir(&own).unwrap();
        produce(server, &own);
        let (_, page) = get(metrics.strip_suffix("/metrics").unwrap(), "/metrics");
        assert_eq!(value(&page, "kafka_topic_partitions{topic=\"news\"}"), partitions);
        assert_eq!(value(&page, "lossproof_broker_unsafe_partitions"), partitions);
        let said = broker.stop();
        assert!(said.contains("UNSAFE: with lossproof.flush=page-cache"), "{said}");
    }
}

#[test]
fn an_unknown_or_impossible_setting_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let data = data.to_str().unwrap();
    let file = scratch.path().join("broker.toml");
    fs::write(&file, "[num]\npartition = 3\n").unwrap();
    let said = refusal(&["--config", file.to_str().unwrap(), "--data", data]);
    for expected in ["error[LP1008]", "broker.toml", "num.partition;", "num.partitions"] {
        assert!(said.contains(expected), "no '{expected}' in: {said}");
    }
    for (setting, expected) in [
        ("num.partitions=0", "from 1 to"),
        ("compression.type=zstd", "producer"),
        ("node.id=-1", "from 0 to"),
        ("cluster.id=news", "22 characters"),
        ("listeners=SASL_SSL://127.0.0.1:1", "PLAINTEXT"),
    ] {
        let said = refusal(&["--set", setting, "--data", data]);
        assert!(said.contains("error[LP1008]") && said.contains(expected), "{said}");
    }
    let said = refusal(&[]);
    assert!(said.contains("error[LP1008]") && said.contains("log.dirs"), "{said}");
    assert!(!Path::new(data).exists(), "nothing was made");
}

#[test]
fn an_address_that_others_reach_needs_a_word_of_the_operator() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let open = ["--listen", "0.0.0.0:0", "--advertise", "127.0.0.1:9092"];
    let said = refusal(&[&open[..], &["--data", data.to_str().unwrap()]].concat());
    assert!(said.contains("error[LP1013]") && said.contains("--insecure-listen"), "{said}");
    let inside = ["--listen", "127.0.0.1:0", "--metrics-listen", "0.0.0.0:0"];
    let said = refusal(&[&inside[..], &["--data", data.to_str().unwrap()]].concat());
    assert!(said.contains("error[LP1013]"), "{said}");
    assert!(!data.exists(), "nothing was made");
    let said = Broker::start(&data, &[&open[..], &["--insecure-listen"]].concat()).stop();
    assert!(said.contains("UNSAFE: whoever reaches 0.0.0.0:0"), "{said}");
}

/// Group `g` has read so much of each partition.
fn commit(client: &mut Client, topic: &str, offsets: &[i64]) {
    let partition = |(partition_index, offset): (i32, &i64)| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: *offset,
        ..Default::default()
    };
    let partitions = (0..).zip(offsets).map(partition).collect();
    let topic = OffsetCommitRequestTopic { name: topic.into(), partitions, ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer: OffsetCommitResponse = client.call(&request, 8);
    assert!(answer.topics[0].partitions.iter().all(|partition| partition.error_code.is_none()));
}

#[test]
fn operators_read_figures_and_readiness() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = ["--metrics-listen", "127.0.0.1:0", "--log-format", "json"];
    let broker = Broker::start(&scratch.path().join("data"), &arguments);
    let (server, metrics) = broker.server.split_once(" metrics=http://").unwrap();
    let address = metrics.strip_suffix("/metrics").unwrap();
    assert_eq!(get(address, "/livez").0, "HTTP/1.1 200 OK");
    assert_eq!(get(address, "/readyz"), ("HTTP/1.1 200 OK".into(), "ready\n".into()));
    produce(server, scratch.path());
    let (status, page) = get(address, "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let number = |sample: &str| value(&page, sample).parse::<f64>().unwrap();
    assert!(number("lossproof_broker_fsync_seconds_count") >= 1.0);
    assert!(number("lossproof_broker_commit_bytes_sum") >= 4096.0);
    assert!(number("lossproof_broker_requests_total{api=\"Produce\"}") >= 1.0);
    for (sample, expected) in [
        ("lossproof_broker_fenced", "0"),
        ("lossproof_broker_quarantined", "0"),
        ("lossproof_broker_disk_full", "0"),
        ("lossproof_broker_scrub_bytes_total", "0"),
        ("lossproof_broker_scrub_findings", "0"),
        ("lossproof_broker_scrub_finished_timestamp_seconds", "0"),
        ("lossproof_broker_unsafe_partitions", "0"),
        ("lossproof_broker_batches_refused_total", "0"),
        ("lossproof_broker_index_entries_max", "4194304"),
        ("lossproof_broker_producers_max", "100000"),
        ("lossproof_broker_transactions", "0"),
        ("lossproof_broker_offsets_above_end", "0"),
        ("lossproof_broker_thread_ended{thread=\"move\"}", "0"),
        ("kafka_brokers", "1"),
    ] {
        assert_eq!(value(&page, sample), expected, "{sample}");
    }
    let ends: Vec<i64> = (0..4)
        .map(|partition| {
            let labels = format!("{{topic=\"news\",partition=\"{partition}\"}}");
            assert_eq!(value(&page, &format!("kafka_topic_partition_oldest_offset{labels}")), "0");
            let end = format!("kafka_topic_partition_current_offset{labels}");
            value(&page, &end).parse().unwrap()
        })
        .collect();
    assert_eq!(ends.iter().sum::<i64>(), 3);
    // All of one partition, and nothing of the others.
    let most = ends.iter().copied().max().unwrap();
    let read = ends.iter().position(|end| *end == most).unwrap();
    let mut offsets = [0; 4];
    offsets[read] = most;
    let mut client = Client::connect(server);
    commit(&mut client, "news", &offsets);
    let (_, page) = get(address, "/metrics");
    let number = |sample: &str| value(&page, sample).parse::<i64>().unwrap();
    assert!(number("lossproof_broker_connections") >= 1, "this one");
    let labels = "{consumergroup=\"g\",topic=\"news\"}";
    for (sum, expected) in [("current_offset", most), ("lag", 3 - most)] {
        assert_eq!(number(&format!("kafka_consumergroup_{sum}_sum{labels}")), expected);
    }
    drop(client);
    let said = broker.stop();
    let logged = said.lines().find(|line| line.contains("broker has started")).unwrap();
    let logged: serde_json::Value = serde_json::from_str(logged).unwrap();
    assert_eq!(logged["level"], "INFO");
    assert_eq!(logged["fields"]["damaged"], 0, "{logged}");
}

/// Topic `t` of two partitions: three records in the first, of which the oldest is deleted and two
/// are committed by group `g`; group `m` has one member and nothing else.
fn furnish(client: &mut Client) {
    let topic = CreatableTopic {
        name: "t".into(),
        num_partitions: 2,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer: CreateTopicsResponse = client.call(&request, 7);
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
    for value in ["a", "b", "c"] {
        let batch = batch_of(value.as_bytes(), Compression::None);
        assert_eq!(client.produce("t", batch).error_code, ErrorCode::NONE);
    }
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 1 }];
    let topics = vec![DeleteRecordsTopic { name: "t".into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 60_000 };
    let answer: DeleteRecordsResponse = client.call(&request, 2);
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    commit(client, "t", &[2]);
    let protocol = JoinGroupRequestProtocol { name: "range".into(), ..Default::default() };
    // Before version 4 nobody has to ask for a member id first.
    let request = JoinGroupRequest {
        group_id: "m".into(),
        session_timeout_ms: 600_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    };
    let answer: JoinGroupResponse = client.call(&request, 3);
    assert_eq!(answer.error_code, ErrorCode::NONE);
}

/// Dashboards and alerts that were made for kafka_exporter go on working.
#[test]
fn the_names_of_kafka_exporter_have_its_labels_and_the_right_values() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = ["--metrics-listen", "127.0.0.1:0", "--set", "node.id=7"];
    let broker = Broker::start(&scratch.path().join("data"), &arguments);
    let (server, metrics) = broker.server.split_once(" metrics=http://").unwrap();
    furnish(&mut Client::connect(server));
    let (status, page) = get(metrics.strip_suffix("/metrics").unwrap(), "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let mut found: Vec<&str> = page.lines().filter(|line| line.starts_with("kafka_")).collect();
    found.sort_unstable();
    let expected = [
        "kafka_brokers 1",
        "kafka_consumergroup_current_offset_sum{consumergroup=\"g\",topic=\"t\"} 2",
        "kafka_consumergroup_current_offset{consumergroup=\"g\",topic=\"t\",partition=\"0\"} 2",
        "kafka_consumergroup_lag_sum{consumergroup=\"g\",topic=\"t\"} 1",
        "kafka_consumergroup_lag{consumergroup=\"g\",topic=\"t\",partition=\"0\"} 1",
        "kafka_consumergroup_members{consumergroup=\"g\"} 0",
        "kafka_consumergroup_members{consumergroup=\"m\"} 1",
        "kafka_topic_partition_current_offset{topic=\"t\",partition=\"0\"} 3",
        "kafka_topic_partition_current_offset{topic=\"t\",partition=\"1\"} 0",
        "kafka_topic_partition_in_sync_replica{topic=\"t\",partition=\"0\"} 1",
        "kafka_topic_partition_in_sync_replica{topic=\"t\",partition=\"1\"} 1",
        "kafka_topic_partition_leader_is_preferred{topic=\"t\",partition=\"0\"} 1",
        "kafka_topic_partition_leader_is_preferred{topic=\"t\",partition=\"1\"} 1",
        "kafka_topic_partition_leader{topic=\"t\",partition=\"0\"} 7",
        "kafka_topic_partition_leader{topic=\"t\",partition=\"1\"} 7",
        "kafka_topic_partition_oldest_offset{topic=\"t\",partition=\"0\"} 1",
        "kafka_topic_partition_oldest_offset{topic=\"t\",partition=\"1\"} 0",
        "kafka_topic_partition_replicas{topic=\"t\",partition=\"0\"} 1",
        "kafka_topic_partition_replicas{topic=\"t\",partition=\"1\"} 1",
        "kafka_topic_partition_under_replicated_partition{topic=\"t\",partition=\"0\"} 0",
        "kafka_topic_partition_under_replicated_partition{topic=\"t\",partition=\"1\"} 0",
        "kafka_topic_partitions{topic=\"t\"} 2",
    ];
    assert_eq!(found, expected);
    broker.stop();
}
