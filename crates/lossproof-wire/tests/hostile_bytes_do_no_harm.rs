//! Story: the port is open to anybody. Valid messages of every API and version, valid batches of
//! every compression, each mutated in the ways that break parsers: no panic, no endless loop, no
//! allocation for what is only claimed. Seeded; `LOSSPROOF_WIRE_MUTATIONS` sets how many mutations
//! per type and version (default below), `LOSSPROOF_WIRE_SEED` another seed.
//!
//! Holds `WIRE-1` and `WIRE-2`.

use crate::support;

use bytes::Bytes;
use lossproof_wire::batch::{self, BatchBuilder, Compression, Limits};
use lossproof_wire::samples::{Seeded, broken_counts, broken_tags, mutate, probes, varint};
use lossproof_wire::{
    ApiKey, DECODED_BYTES_MAX, DecodeError, FindCoordinatorRequest, MetadataRequest,
    ProduceRequest, RequestHeader,
};
use support::reseal;

const MUTATIONS: u64 = 200;
const SEED: u64 = 3;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn mutated_messages_of_every_api_and_version() {
    let mutations = setting("LOSSPROOF_WIRE_MUTATIONS", MUTATIONS);
    let mut random = Seeded(setting("LOSSPROOF_WIRE_SEED", SEED));
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    for probe in probes() {
        for version in probe.versions() {
            for _ in 0..mutations {
                let draw_length = random.below(400);
                let draw = random.bytes(draw_length);
                let valid = probe.sample(&draw, version).unwrap();
                let mut bytes = Bytes::from(mutate(&valid, &mut random));
                let whole = bytes.len();
                match probe.decode(&mut bytes, version) {
                    Ok(decoded) => {
                        accepted += 1;
                        assert!(bytes.len() <= whole);
                        // What passes is a message: WIRE-3 holds for it too.
                        let again = decoded.encoded.expect("what was decoded can be encoded");
                        let reread = probe.decode(&mut again.into(), version).unwrap();
                        assert_eq!(reread.debug, decoded.debug, "{}", probe.name);
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    // The loop is only worth its time if it reaches both outcomes often.
    assert!(accepted * 20 > refused && refused * 20 > accepted, "{accepted} to {refused}");
}

/// What is served has a sample: a new API is broken here, in the broker's tests and by the fuzzer
/// without anybody thinking of it.
#[test]
fn every_api_and_version_has_a_sample() {
    for key in ApiKey::ALL {
        for kind in ["Request", "Response"] {
            let probes = probes();
            let probe = probes.iter().find(|it| it.api_key == key && it.name.ends_with(kind));
            let probe = probe.unwrap_or_else(|| panic!("no sample of a {key:?}{kind}"));
            assert_eq!(probe.versions(), key.served(), "{}", probe.name);
        }
    }
}

/// Nothing here is left to chance but the message: each count is met with each wrong value.
#[test]
fn every_count_at_and_over_every_bound_and_every_broken_tag() {
    const DRAW_BYTES: usize = 40;
    let mut random = Seeded(setting("LOSSPROOF_WIRE_SEED", SEED));
    let (mut accepted, mut refused) = (0_u64, 0_u64);
    for probe in probes() {
        for version in probe.versions() {
            let draw = random.bytes(DRAW_BYTES);
            let valid = probe.sample(&draw, version).unwrap();
            let tags = broken_tags(&valid).filter(|_| probe.api_key.is_flexible(version));
            for mutant in broken_counts(&valid).chain(tags) {
                match probe.decode(&mut mutant.into(), version) {
                    Ok(decoded) => {
                        accepted += 1;
                        decoded.encoded.expect("what was decoded can be encoded");
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(accepted * 20 > refused && refused * 20 > accepted, "{accepted} to {refused}");
}

#[test]
fn bytes_behind_a_message_are_left_alone() {
    let mut random = Seeded(SEED);
    for probe in probes() {
        for version in probe.versions() {
            let draw = random.bytes(60);
            let valid = probe.sample(&draw, version).unwrap();
            let mut longer = Bytes::from([&valid[..], b"more"].concat());
            probe.decode(&mut longer, version).unwrap();
            assert_eq!(&longer[..], b"more", "{} {version}", probe.name);
        }
    }
}

#[test]
fn every_truncation_of_a_message_is_an_error_or_leaves_nothing_half_read() {
    let mut random = Seeded(SEED);
    for probe in probes() {
        for version in probe.versions() {
            let draw = random.bytes(120);
            let valid = Bytes::from(probe.sample(&draw, version).unwrap());
            for length in 0..valid.len() {
                let cut = probe.decode(&mut valid.slice(..length), version);
                assert!(cut.is_err(), "{} {version} cut at {length}", probe.name);
            }
        }
    }
}

#[test]
fn noise_as_request_with_header() {
    let mut random = Seeded(setting("LOSSPROOF_WIRE_SEED", SEED));
    let rounds = setting("LOSSPROOF_WIRE_MUTATIONS", MUTATIONS) * 50;
    for _ in 0..rounds {
        let length = random.below(64);
        let mut frame = random.bytes(length);
        // Half of the frames name an API that exists, so that they get past the door.
        if frame.len() > 4 && random.below(2) == 0 {
            let key = ApiKey::ALL[random.below(ApiKey::ALL.len())];
            frame[..2].copy_from_slice(&key.code().to_be_bytes());
            frame[2] = 0;
            frame[3] %= 16;
        }
        let mut bytes = Bytes::from(frame);
        if let Ok(header) = RequestHeader::decode(&mut bytes) {
            for probe in probes().iter().filter(|probe| {
                probe.api_key.code() == header.request_api_key && probe.name.ends_with("Request")
            }) {
                let _ = probe.decode(&mut bytes.clone(), header.request_api_version);
            }
        }
    }
}

#[test]
fn mutated_batches_of_every_compression() {
    let mut random = Seeded(setting("LOSSPROOF_WIRE_SEED", SEED));
    let limits = Limits { uncompressed_bytes_max: 1 << 20, ..Limits::default() };
    let mut accepted = 0;
    for compression in Compression::ALL {
        for round in 0..setting("LOSSPROOF_WIRE_MUTATIONS", MUTATIONS) * 10 {
            let mut builder = BatchBuilder::new().compression(compression);
            for _ in 0..=random.below(4) {
                let length = random.below(200);
                let value = random.bytes(length);
                builder.push(random.draw() as i64 >> 20, Some(b"key"), Some(&value), &[]);
            }
            let valid = builder.build().unwrap();
            let mut bytes = mutate(&valid, &mut random);
            // Most rounds repair length and checksum, or nothing deeper would ever be reached.
            if round % 8 != 0 && bytes.len() > 61 {
                bytes[16] = 2;
                bytes = reseal(bytes).to_vec();
            }
            let bytes = Bytes::from(bytes);
            for part in batch::split(&bytes) {
                let Ok(part) = part else { break };
                let read: Option<Result<Vec<_>, _>> =
                    batch::records_within(&part, &limits).ok().map(Iterator::collect);
                if let Ok(info) = batch::validate(&part, &limits) {
                    accepted += 1;
                    let read = read.expect("BATCH-1").expect("BATCH-1");
                    assert_eq!(read.len(), info.header.record_count as usize, "BATCH-1");
                }
            }
        }
    }
    assert!(accepted > 0, "no mutant was ever valid: the loop does not reach the records");
}

#[test]
fn a_count_is_believed_only_as_far_as_its_bytes_go() {
    // The four bytes that abort a process which believes them.
    let mut classic = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(
        MetadataRequest::decode(&mut classic, 1),
        Err(DecodeError::CountTooLarge { count: 0x7fff_ffff, remaining: 0 })
    );
    let mut compact = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(
        MetadataRequest::decode(&mut compact, 9),
        Err(DecodeError::CountTooLarge { count: 0xffff_fffe, remaining: 0 })
    );
    // One entry too many for the bytes that follow: version 9 entries take at least 2 bytes.
    let mut close = Bytes::from_static(&[4, 1, 0, 1, 0, 0]);
    assert!(matches!(
        MetadataRequest::decode(&mut close, 9),
        Err(DecodeError::CountTooLarge { count: 3, remaining: 5 })
    ));
    let mut records = Bytes::from_static(&[
        0xff, 0xff, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 0xff,
        0xff, 0xff,
    ]);
    assert_eq!(
        ProduceRequest::decode(&mut records, 3),
        Err(DecodeError::Truncated { needed: 0x7fff_ffff, remaining: 0 })
    );
}

/// An array of `count` entries in compact form.
fn compact_count(count: u32) -> Vec<u8> {
    varint(count + 1)
}

#[test]
fn empty_entries_cannot_blow_a_frame_up() {
    // Each empty string takes one byte on the wire and 24 in memory.
    let keys = |count: u32| {
        let body = [&[1, 0][..], &compact_count(count), &vec![1; count as usize], &[0]].concat();
        FindCoordinatorRequest::decode(&mut body[1..].to_vec().into(), 4)
    };
    assert_eq!(keys(500).unwrap().coordinator_keys.len(), 500);
    assert!(matches!(keys(100_000), Err(DecodeError::TooMuchMemory { .. })));
    assert_eq!(
        keys(8 << 20),
        Err(DecodeError::TooMuchMemory { limit: DECODED_BYTES_MAX }),
        "and there is an end to it for large frames"
    );

    // 200,000 topics without a name, of two bytes each.
    let topics = 200_000;
    let body = [&compact_count(topics)[..], &[1, 0].repeat(topics as usize), &[1, 0, 0, 0]];
    assert!(matches!(
        MetadataRequest::decode(&mut body.concat().into(), 9),
        Err(DecodeError::TooMuchMemory { .. })
    ));
}

/// As in Apache Kafka: a compact length can tell of more, and what is kept by its name would be.
#[test]
fn no_string_is_longer_than_those_of_the_older_versions() {
    let topic = |length: u32| {
        let name = vec![b'x'; length as usize];
        let body = [&compact_count(1)[..], &varint(length + 1), &name, &[0], &[1, 0, 0, 0]];
        MetadataRequest::decode(&mut body.concat().into(), 9)
    };
    assert_eq!(topic(32_767).unwrap().topics.unwrap().len(), 1);
    assert_eq!(topic(32_768), Err(DecodeError::StringTooLong { length: 32_768 }));
}

#[test]
fn a_large_honest_request_passes() {
    // 10,000 topics with the names that people give them.
    let mut body = compact_count(10_000);
    for topic in 0..10_000 {
        let name = format!("orders-eu-{topic:05}");
        body.push(name.len() as u8 + 1);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
    }
    body.extend_from_slice(&[1, 0, 0, 0]);
    let request = MetadataRequest::decode(&mut body.into(), 9).unwrap();
    assert_eq!(request.topics.unwrap().len(), 10_000);
}
