//! Story: a client and a broker that disagree on one field of one version lose records in ways
//! nobody finds. So every message is drawn at random in every version, encoded by us, decoded by an
//! independent codec (the `kafka-protocol` crate, generated from Kafka's schemas), compared field
//! by field, encoded by it, and decoded by us again.
//!
//! Holds `WIRE-3`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use lossproof_wire::samples::{Probe, probes};
use proptest::prelude::*;

/// Messages per type and version.
const CASES: u32 = 48;
/// Bytes to draw one message from.
const DRAW_MAX: usize = 600;

/// What the oracle made of some bytes.
struct Reading {
    debug: String,
    encoded: Vec<u8>,
    left: usize,
}

fn read_with<M>(bytes: &[u8], version: i16) -> Option<Reading>
where
    M: Decodable + Encodable + OracleMessage + std::fmt::Debug,
{
    if version < M::VERSIONS.min || version > M::VERSIONS.max {
        return None;
    }
    let mut rest = Bytes::copy_from_slice(bytes);
    let message = M::decode(&mut rest, version).expect("the oracle decodes what we encode");
    let mut encoded = BytesMut::new();
    message.encode(&mut encoded, version).expect("the oracle encodes what it decoded");
    Some(Reading { debug: format!("{message:?}"), encoded: encoded.to_vec(), left: rest.len() })
}

/// Decodes with the oracle; `None` where it does not know the version.
fn oracle_reading(name: &str, bytes: &[u8], version: i16) -> Option<Reading> {
    macro_rules! by_name {
        ($($message:ident)*) => {
            match name {
                $(stringify!($message) => read_with::<oracle::$message>(bytes, version),)*
                _ => panic!("the oracle is not asked about {name}"),
            }
        };
    }
    by_name! {
        ProduceRequest ProduceResponse FetchRequest FetchResponse ListOffsetsRequest
        ListOffsetsResponse MetadataRequest MetadataResponse OffsetCommitRequest
        OffsetCommitResponse OffsetFetchRequest OffsetFetchResponse FindCoordinatorRequest
        FindCoordinatorResponse JoinGroupRequest JoinGroupResponse HeartbeatRequest
        HeartbeatResponse LeaveGroupRequest LeaveGroupResponse SyncGroupRequest
        SyncGroupResponse DescribeGroupsRequest DescribeGroupsResponse ListGroupsRequest
        ListGroupsResponse ApiVersionsRequest ApiVersionsResponse CreateTopicsRequest
        CreateTopicsResponse DeleteTopicsRequest DeleteTopicsResponse DeleteRecordsRequest
        DeleteRecordsResponse InitProducerIdRequest InitProducerIdResponse
        OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse AddPartitionsToTxnRequest
        AddPartitionsToTxnResponse AddOffsetsToTxnRequest AddOffsetsToTxnResponse EndTxnRequest
        EndTxnResponse TxnOffsetCommitRequest TxnOffsetCommitResponse DescribeConfigsRequest
        DescribeConfigsResponse AlterConfigsRequest AlterConfigsResponse DescribeLogDirsRequest
        DescribeLogDirsResponse CreatePartitionsRequest CreatePartitionsResponse
        DeleteGroupsRequest DeleteGroupsResponse ElectLeadersRequest ElectLeadersResponse
        IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse
        AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse
        ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse OffsetDeleteRequest
        OffsetDeleteResponse DescribeClusterRequest DescribeClusterResponse
        DescribeProducersRequest DescribeProducersResponse DescribeTransactionsRequest
        DescribeTransactionsResponse ListTransactionsRequest ListTransactionsResponse
        DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse
    }
}

/// What the oracle's structs have beyond ours: unknown tags, which we skip, and the fields that
/// came after the versions we serve, always at their defaults.
const ORACLE_ONLY: [&str; 4] = [
    ",unknown_tagged_fields:{}",
    "unknown_tagged_fields:{}",
    ",enable_2_pc:false,keep_prepared_txn:false",
    ",ongoing_txn_producer_id:-1,ongoing_txn_producer_epoch:-1",
];

/// Reduces a `Debug` text to field names and values: type names and parentheses go, and so does the
/// oracle's field for unknown tags. Field order is the schemas' in both codecs.
fn fields(debug: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let mut in_string = false;
    let mut escaped = false;
    for character in debug.chars() {
        if in_string {
            out.push(character);
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '(' => word.clear(),
            '{' => {
                word.clear();
                out.push('{');
            }
            ' ' => {}
            ')' => out.push_str(&std::mem::take(&mut word)),
            '"' => {
                out.push_str(&std::mem::take(&mut word));
                out.push('"');
                in_string = true;
            }
            ',' | '}' | ']' | '[' | ':' => {
                out.push_str(&std::mem::take(&mut word));
                out.push(character);
            }
            other => word.push(other),
        }
    }
    out.push_str(&word);
    ORACLE_ONLY.iter().fold(out, |text, field| text.replace(field, ""))
}

/// Where a version lacks an optional string, the oracle shows the schemas' default, which is mostly
/// the empty string; ours is always `None`. Nothing of it reaches the wire. Nor do the fields of
/// versions that we do not offer.
fn with_our_defaults(probe: &Probe, version: i16, theirs: String) -> String {
    match (probe.name, version) {
        ("FindCoordinatorResponse", 0 | 4..) => {
            theirs.replace(r#",error_message:"",node_id"#, ",error_message:None,node_id")
        }
        ("DescribeConfigsResponse", ..3) => {
            theirs.replace(r#",documentation:"""#, ",documentation:None")
        }
        // The fields of versions 4 and 5, which are not offered, at their defaults.
        ("AddPartitionsToTxnRequest", _) => theirs.replace("transactions:[],", ""),
        ("AddPartitionsToTxnResponse", _) => {
            theirs.replace("error_code:0,results_by_transaction:[],", "")
        }
        ("EndTxnResponse", _) => theirs.replace(",producer_id:-1,producer_epoch:-1", ""),
        _ => theirs,
    }
}

fn check(probe: &Probe, version: i16, draw: &[u8]) -> Result<(), TestCaseError> {
    let ours = probe.sample(draw, version).expect("a drawn message can be encoded");

    let mut rest = Bytes::from(ours.clone());
    let decoded = probe.decode(&mut rest, version).expect("we decode what we encode");
    prop_assert!(rest.is_empty(), "{} bytes left", rest.len());
    prop_assert_eq!(decoded.encoded.as_deref(), Ok(&ours[..]));

    if let Some(theirs) = oracle_reading(probe.name, &ours, version) {
        prop_assert_eq!(theirs.left, 0);
        prop_assert_eq!(
            with_our_defaults(probe, version, fields(&theirs.debug)),
            fields(&decoded.debug)
        );
        // Equal bytes also mean that we decode what the oracle encodes: done just above.
        prop_assert_eq!(&theirs.encoded, &ours);
    }
    Ok(())
}

fn check_all(part: impl Fn(&str) -> bool) {
    for probe in probes().iter().filter(|probe| part(probe.name)) {
        for version in probe.versions() {
            let config = ProptestConfig {
                cases: CASES,
                max_shrink_iters: 2_000,
                failure_persistence: None,
                ..ProptestConfig::default()
            };
            let mut runner = proptest::test_runner::TestRunner::new_with_rng(
                config,
                proptest::test_runner::TestRng::deterministic_rng(
                    proptest::test_runner::RngAlgorithm::ChaCha,
                ),
            );
            let draws = proptest::collection::vec(any::<u8>(), 0..DRAW_MAX);
            runner
                .run(&draws, |draw| check(probe, version, &draw))
                .unwrap_or_else(|error| panic!("{} version {version}: {error}", probe.name));
        }
    }
}

#[test]
fn requests_of_every_api_and_version_agree() {
    check_all(|name| name.ends_with("Request"));
}

#[test]
fn responses_of_every_api_and_version_agree() {
    check_all(|name| name.ends_with("Response"));
}

#[test]
fn the_oracle_knows_all_versions_but_two() {
    let mut unknown = Vec::new();
    for probe in probes() {
        for version in probe.versions() {
            let ours = probe.sample(&[], version).unwrap();
            if oracle_reading(probe.name, &ours, version).is_none() {
                unknown.push((probe.name, version));
            }
        }
    }
    // Their bytes are held by hand in `bytes_are_kafkas.rs`.
    assert_eq!(unknown, [("OffsetCommitRequest", 10), ("OffsetFetchRequest", 10)]);
}

#[test]
fn the_comparison_sees_swapped_and_missing_fields() {
    let theirs = r#"A { x: BrokerId(1), y: 2, s: Some(T("a, \"b")), unknown_tagged_fields: {} }"#;
    assert_eq!(fields(theirs), fields(r#"Other { x: 1, y: 2, s: Some("a, \"b") }"#));
    assert_ne!(fields(theirs), fields(r#"A { x: 2, y: 1, s: Some("a, \"b") }"#));
    assert_ne!(fields(theirs), fields(r#"A { x: 1, s: Some("a, \"b") }"#));
    assert_ne!(fields(theirs), fields("A { x: 1, y: 2, s: None }"));
}
