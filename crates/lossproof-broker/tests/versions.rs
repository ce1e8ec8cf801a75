//! The table of APIs that clients choose versions from, and what they then send in its oldest and
//! its newest versions.

use crate::common;

use bytes::BytesMut;
use common::{Broker, ends, fetch, produce, records, values_of};
use lossproof_wire::samples::{Probe, probes};
use lossproof_wire::*;

/// Clients are lost where one of them is narrowed. As Apache Kafka 4.3 has them, but for three:
/// 24 has its versions 4 and 5 between brokers only, and 26 and 28 have theirs from 5 on for a
/// `transaction.version` of 2, which is not served.
const TABLE: [(i16, i16, i16); 38] = [
    (0, 0, 13),
    (1, 4, 18),
    (2, 0, 10),
    (3, 0, 13),
    (8, 2, 10),
    (9, 1, 10),
    (10, 0, 6),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 5),
    (23, 2, 4),
    (24, 0, 3),
    (25, 0, 4),
    (26, 0, 4),
    (28, 0, 4),
    (32, 1, 4),
    (33, 0, 2),
    (35, 1, 4),
    (37, 0, 3),
    (42, 0, 2),
    (43, 0, 2),
    (44, 0, 1),
    (45, 0, 1),
    (46, 0, 0),
    (47, 0, 0),
    (60, 0, 2),
    (61, 0, 0),
    (65, 0, 0),
    (66, 0, 2),
    (75, 0, 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_versions_is_the_same_in_each_version_of_it() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    for version in 0..=4 {
        let request = ApiVersionsRequest {
            client_software_name: "test".into(),
            client_software_version: "1".into(),
        };
        let answer: ApiVersionsResponse = client.call(&request, version).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let mut table: Vec<_> = answer
            .api_keys
            .iter()
            .map(|entry| (entry.api_key, entry.min_version, entry.max_version))
            .collect();
        table.sort_unstable();
        assert_eq!(table, TABLE, "version {version}");
        // A transaction.version or group.version would make clients ask for what is not served.
        let features = (answer.supported_features.len(), answer.finalized_features.len());
        assert_eq!(features, (0, 0), "version {version}");
    }
    broker.stop().await;
}

/// What is in the table has a handler, in each of its versions that can be read; the version above,
/// the one below, and all of a key that is not in it are not taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_advertised_is_answered_and_nothing_else_is() {
    /// Above the highest key that Apache Kafka has.
    const KEYS: i16 = 110;
    let broker = Broker::start().await;
    let requests: Vec<_> =
        probes().into_iter().filter(|probe| probe.name.ends_with("Request")).collect();
    for code in -1..KEYS {
        // The smallest Produce wants no answer; others answer it in all tests. ApiVersions is
        // answered in any version, so that both sides can agree on one.
        if [ApiKey::Produce, ApiKey::ApiVersions].iter().any(|key| key.code() == code) {
            continue;
        }
        let probe = requests.iter().find(|probe| probe.api_key.code() == code);
        assert_eq!(probe.is_some(), TABLE.iter().any(|(key, ..)| *key == code), "{code}");
        // As those of the nearest version that there is.
        let served = probe.map_or(0..=0, Probe::versions);
        for version in served.start() - 1..=served.end() + 1 {
            let known = version.clamp(*served.start(), *served.end());
            let mut frame = BytesMut::new();
            let header = RequestHeader {
                request_api_key: code,
                request_api_version: version,
                ..Default::default()
            };
            let header_version = probe.map_or(1, |it| it.api_key.request_header_version(known));
            header.encode(&mut frame, header_version).expect("a header");
            let body = probe.map(|probe| probe.sample(&[], known).expect("a request"));
            frame.extend_from_slice(&body.unwrap_or_default());
            let mut client = broker.client().await;
            client.send_frame(&frame).await;
            let answered = client.receive_frame().await.is_some();
            let expected = probe.is_some() && served.contains(&version);
            assert_eq!(answered, expected, "key {code} version {version}");
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_in_one_version_is_fetched_in_another() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let topic_id = client.create("t", 1).await.topic_id;
    for (offset, version) in (0..).zip(ends(ApiKey::Produce)) {
        let mut request = produce("t", 0, -1, records(&[&version.to_string()]));
        request.topic_data[0].topic_id = topic_id;
        let answer: ProduceResponse = client.call(&request, version).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (ErrorCode::NONE, offset));
    }
    for version in ends(ApiKey::Fetch) {
        let mut request = fetch("t", 0, 0);
        request.topics[0].topic_id = topic_id;
        let answer: FetchResponse = client.call(&request, version).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!((data.error_code, data.high_watermark), (ErrorCode::NONE, 2));
        let bytes = data.records.clone().expect("records").into_bytes();
        assert_eq!(values_of(&bytes, 0), ["3", "13"], "version {version}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_refused_by_name_and_by_id() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let unknown = [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID];
    for (version, expected) in ends(ApiKey::Produce).into_iter().zip(unknown) {
        let mut request = produce("missing", 0, -1, records(&["a"]));
        request.topic_data[0].topic_id = Uuid([7; 16]);
        let answer: ProduceResponse = client.call(&request, version).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (expected, -1));
    }
    for (version, expected) in ends(ApiKey::Fetch).into_iter().zip(unknown) {
        let mut request = fetch("missing", 0, 0);
        request.topics[0].topic_id = Uuid([7; 16]);
        let answer: FetchResponse = client.call(&request, version).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, expected);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_producer_gets_an_id_of_its_own() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    let mut ids = vec![];
    for version in ends(ApiKey::InitProducerId) {
        let request = InitProducerIdRequest { transaction_timeout_ms: 1_000, ..Default::default() };
        for _ in 0..2 {
            let answer: InitProducerIdResponse = client.call(&request, version).await;
            assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::NONE, 0));
            assert!(answer.producer_id >= 0 && !ids.contains(&answer.producer_id), "{ids:?}");
            ids.push(answer.producer_id);
        }
    }
    broker.stop().await;
}

/// Advertised from 0 on for librdkafka's sake (KAFKA-18659); the old message sets are not taken.
#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_only_advertised_close_the_connection() {
    let broker = Broker::start().await;
    for (key, version) in [(0_u8, 0), (0, 1), (0, 2), (2, 0)] {
        let mut client = broker.client().await;
        // Key, version, correlation id, no client id.
        client.send_frame(&[0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff]).await;
        assert!(client.is_closed().await, "key {key}, version {version}");
    }
    broker.stop().await;
}
