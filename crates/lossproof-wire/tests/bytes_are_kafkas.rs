//! Story: some bytes are too important to be held only against another codec: what librdkafka reads
//! first, what it chokes on, and the two versions that the oracle does not know.

use bytes::{Bytes, BytesMut};
use lossproof_wire::{
    ApiKey, ApiVersion, ApiVersionsRequest, ApiVersionsResponse, DecodeError, EncodeError,
    ErrorCode, FetchRequest, FetchTopic, JoinGroupResponse, MetadataRequest, MetadataRequestTopic,
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, RequestHeader,
    ResponseHeader, Uuid,
};

macro_rules! encode {
    ($message:expr, $version:expr) => {{
        let mut out = BytesMut::new();
        $message.encode(&mut out, $version).unwrap();
        out.freeze()
    }};
}

fn one_api() -> ApiVersionsResponse {
    ApiVersionsResponse {
        api_keys: vec![ApiVersion { api_key: 18, min_version: 0, max_version: 4 }],
        throttle_time_ms: 7,
        ..Default::default()
    }
}

#[test]
fn the_tail_of_api_versions_3_is_throttle_time_and_no_tags() {
    // librdkafka 2.0.2 gives the connection up when anything else stands here.
    let expected = [
        0, 0, // error
        2, 0, 18, 0, 0, 0, 4, 0, // one entry: key, from, to, no tags
        0, 0, 0, 7, // throttle time
        0, // no tags
    ];
    assert_eq!(encode!(one_api(), 3), expected[..]);
    let mut with_epoch = one_api();
    with_epoch.finalized_features_epoch = 5;
    let tail = [1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_eq!(encode!(with_epoch, 3), [&expected[..14], &tail].concat());
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let mut answer = one_api();
    answer.error_code = ErrorCode::UNSUPPORTED_VERSION;
    answer.throttle_time_ms = 0;
    assert_eq!(encode!(answer, 0), [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4][..]);

    // The request: version 99, whose header and body nobody knows.
    let mut request = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 42, 0xff, 0xff, 1, 2, 3]);
    let header = RequestHeader::decode(&mut request).unwrap();
    assert_eq!((header.request_api_version, header.correlation_id), (99, 42));
    assert!(matches!(
        ApiVersionsRequest::decode(&mut request, 99),
        Err(DecodeError::UnsupportedVersion { version: 99, min: 0, max: 4, .. })
    ));
    for version in 0..=4 {
        assert_eq!(ApiKey::ApiVersions.response_header_version(version), 0);
    }
}

#[test]
fn headers_stand_as_in_the_schemas() {
    let header = RequestHeader {
        request_api_key: 3,
        request_api_version: 12,
        correlation_id: 9,
        client_id: Some("ab".into()),
    };
    let flexible = [0, 3, 0, 12, 0, 0, 0, 9, 0, 2, b'a', b'b', 0];
    assert_eq!(encode!(header, ApiKey::Metadata.request_header_version(12)), flexible[..]);
    assert_eq!(encode!(header, ApiKey::Metadata.request_header_version(8)), flexible[..12]);
    let mut bytes = Bytes::copy_from_slice(&flexible);
    assert_eq!(RequestHeader::decode(&mut bytes).unwrap(), header);
    assert!(bytes.is_empty());

    let response = ResponseHeader { correlation_id: 9 };
    assert_eq!(encode!(response, 0), [0, 0, 0, 9][..]);
    assert_eq!(encode!(response, 1), [0, 0, 0, 9, 0][..]);
    for (bytes, version) in [(&[0, 0, 0, 9][..], 0), (&[0, 0, 0, 9, 1, 5, 1, 0xff], 1)] {
        let mut bytes = Bytes::copy_from_slice(bytes);
        assert_eq!(ResponseHeader::decode(&mut bytes, version), Ok(response));
        assert!(bytes.is_empty());
    }
}

#[test]
fn the_advertised_table_is_the_one_that_clients_need() {
    let table: Vec<_> = ApiKey::ALL
        .iter()
        .map(|key| (key.code(), *key.versions().start(), *key.versions().end()))
        .collect();
    let expected = [
        (0, 0, 13), // from 0, or librdkafka does not compress
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
    assert_eq!(table, expected);
    for probe in lossproof_wire::samples::probes() {
        assert_eq!(probe.api_key.served(), probe.versions(), "{}", probe.name);
    }
    for code in -1..100 {
        assert_eq!(ApiKey::from_code(code).map(ApiKey::code), table_has(&table, code));
    }
}

fn table_has(table: &[(i16, i16, i16)], code: i16) -> Option<i16> {
    table.iter().map(|row| row.0).find(|known| *known == code)
}

#[test]
fn offset_commit_10_names_topics_by_id() {
    let topic = OffsetCommitRequestTopic {
        name: "left out".into(),
        topic_id: Uuid([0xab; 16]),
        partitions: vec![OffsetCommitRequestPartition {
            partition_index: 1,
            committed_offset: 2,
            committed_leader_epoch: 3,
            committed_metadata: None,
        }],
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 4,
        member_id: "m".into(),
        topics: vec![topic],
        ..Default::default()
    };
    let head = [2, b'g', 0, 0, 0, 4, 2, b'm', 0, 2];
    let partition = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0];
    assert_eq!(encode!(request, 10), [&head[..], &[0xab; 16], &partition].concat());
}

#[test]
fn offset_fetch_10_names_topics_by_id() {
    let topic = OffsetFetchRequestTopics {
        name: "left out".into(),
        topic_id: Uuid([0xcd; 16]),
        partition_indexes: vec![6],
    };
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: Some("m".into()),
        member_epoch: 5,
        topics: Some(vec![topic]),
    };
    let request =
        OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    let head = [2, 2, b'g', 2, b'm', 0, 0, 0, 5, 2];
    let tail = [2, 0, 0, 0, 6, 0, 0, 1, 0];
    assert_eq!(encode!(request, 10), [&head[..], &[0xcd; 16], &tail].concat());
}

#[test]
fn a_field_that_a_version_lacks_is_dropped_only_where_that_is_harmless() {
    let harmless = FetchRequest { rack_id: "r".into(), ..Default::default() };
    assert!(!encode!(harmless, 10).contains(&b'r'));
    let by_id = FetchTopic { topic_id: Uuid([77; 16]), ..Default::default() };
    let by_id = FetchRequest { topics: vec![by_id], ..Default::default() };
    assert!(!encode!(by_id, 12).contains(&77));
    assert!(encode!(by_id, 13).contains(&77));

    let not = MetadataRequest { allow_auto_topic_creation: false, ..Default::default() };
    assert_eq!(
        not.encode(&mut BytesMut::new(), 3),
        Err(EncodeError::FieldNotInVersion {
            field: "MetadataRequest.allow_auto_topic_creation",
            version: 3
        })
    );
    assert!(not.encode(&mut BytesMut::new(), 4).is_ok());
}

#[test]
fn null_is_kept_where_there_is_one_and_empty_elsewhere() {
    let response = JoinGroupResponse { protocol_name: None, ..Default::default() };
    let read = |version| JoinGroupResponse::decode(&mut encode!(response, version), version);
    assert_eq!(read(6).unwrap().protocol_name.as_deref(), Some(""));
    assert_eq!(read(7).unwrap().protocol_name, None);

    // Metadata version 9 has topics without null names, version 10 with.
    let unnamed = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic::default()]),
        ..Default::default()
    };
    let mut version_10 = encode!(unnamed, 10);
    assert_eq!(MetadataRequest::decode(&mut version_10, 10), Ok(unnamed));
    let mut version_9 = Bytes::from_static(&[2, 0, 0, 1, 0, 0, 0]);
    assert_eq!(MetadataRequest::decode(&mut version_9, 9), Err(DecodeError::UnexpectedNull));
    let mut version_0 = Bytes::from_static(&[0xff; 4]);
    assert_eq!(MetadataRequest::decode(&mut version_0, 0), Err(DecodeError::UnexpectedNull));
}

#[test]
fn unknown_tags_are_skipped_and_known_ones_must_fill_their_size() {
    let body = [1, 1]; // two empty names
    let unknown = [&body[..], &[2, 9, 3, 1, 2, 3, 0x80, 0x01, 0]].concat();
    let mut bytes = Bytes::from(unknown);
    assert_eq!(ApiVersionsRequest::decode(&mut bytes, 3), Ok(ApiVersionsRequest::default()));
    assert!(bytes.is_empty());

    let response = |tag: &[u8]| {
        let bytes = [&[0, 0, 1, 0, 0, 0, 0][..], tag].concat();
        ApiVersionsResponse::decode(&mut bytes.into(), 3)
    };
    let epoch = [1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 5];
    assert_eq!(response(&epoch).unwrap().finalized_features_epoch, 5);
    let long = [1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0];
    assert_eq!(response(&long), Err(DecodeError::TagSizeMismatch { tag: 1, left: 1 }));
    let short = [1, 1, 7, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(response(&short), Err(DecodeError::Truncated { needed: 8, remaining: 7 }));
}

#[test]
fn errors_have_kafkas_names() {
    assert_eq!(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(), 3);
    assert_eq!(ErrorCode(45).to_string(), "OUT_OF_ORDER_SEQUENCE_NUMBER (45)");
    assert_eq!(ErrorCode(32_000).name(), "UNNAMED");
    // The oracle's table agrees wherever both have a name.
    for code in -1..=200 {
        let ours = ErrorCode(code);
        if let Some(theirs) = kafka_protocol::error::ResponseError::try_from_code(code)
            && ours.name() != "UNNAMED"
        {
            let folded = ours.name().replace('_', "").to_lowercase();
            assert_eq!(format!("{theirs:?}").to_lowercase(), folded, "code {code}");
        }
    }
}
