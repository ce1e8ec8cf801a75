//! Story: whoever reaches the port can send what he likes. Every request of every version that the
//! broker says it serves, broken in every way, over a real socket, while another client writes and
//! reads: the process lives, what it has stored can be read, its memory is bounded, the other one
//! notices nothing. Seeded;
//! `LOSSPROOF_HOSTILE_MUTATIONS` sets how many mutants of each, `LOSSPROOF_HOSTILE_SEED` another
//! seed.

use crate::hostile;

use bytes::Bytes;
use hostile::{Client, Scene, frame, header};
use lossproof_wire::batch::{BatchBuilder, Compression};
use lossproof_wire::samples::{Probe, Seeded, mutate, probes};
use lossproof_wire::*;

const MUTATIONS: u64 = 40;
const SEED: u64 = 20_261_127;
const DRAW_BYTES: usize = 60;
/// As with nothing to do: what is small leaves nothing behind.
const MEMORY_BYTES_MAX: usize = 32 << 20;
/// Topics by the names that samples have most often, so that mutants get past the look-up.
const TOPICS: [(&str, &[(&str, &str)]); 4] = [
    ("a", &[]),
    ("b", &[("cleanup.policy", "compact")]),
    ("c", &[("message.timestamp.type", "LogAppendTime")]),
    ("d", &[("max.message.bytes", "200")]),
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn scene() -> Scene {
    // Chance asks for two thousand million partitions now and then.
    let scene = Scene::start(&["lossproof.partitions.max=500", "max.connections=64"]);
    for (name, settings) in TOPICS {
        scene.client().create(name, settings);
    }
    scene
}

/// A request that may be answered late, on purpose: nobody waits for it here.
fn may_wait(key: ApiKey) -> bool {
    matches!(key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// What the broker itself says that it serves.
fn served(scene: &Scene) -> Vec<(Probe, i16)> {
    let answer: ApiVersionsResponse = scene.client().call(&ApiVersionsRequest::default(), 0);
    let requests: Vec<Probe> =
        probes().into_iter().filter(|probe| probe.name.ends_with("Request")).collect();
    let mut served = Vec::new();
    for api in answer.api_keys {
        let probe = requests.iter().find(|probe| probe.api_key.code() == api.api_key);
        let probe = probe.unwrap_or_else(|| panic!("no sample of api {}", api.api_key));
        served.extend(probe.versions().map(|version| (*probe, version)));
    }
    assert!(served.len() > 150, "{} requests and versions", served.len());
    served
}

/// Sends a frame and makes sure that the broker has dealt with it. Returns whether the connection
/// can still be used.
fn deal_with(client: &mut Client, mutant: &[u8], waits: bool) -> bool {
    const MARK: i32 = i32::MAX - 1;
    client.send_frame(mutant);
    if waits {
        client.half_close();
        return false;
    }
    client.send_frame(&frame(&ApiVersionsRequest::default(), 0, MARK));
    loop {
        match client.receive_frame() {
            None => return false,
            Some(answer) if answer.starts_with(&MARK.to_be_bytes()) => return true,
            Some(_) => {}
        }
    }
}

#[test]
fn every_request_in_every_version_broken_in_every_way() {
    let mut scene = scene();
    let mut random = Seeded(setting("LOSSPROOF_HOSTILE_SEED", SEED));
    let mut client = scene.client();
    let (mut closed, mut answered) = (0_u64, 0_u64);
    for (probe, version) in served(&scene) {
        for _ in 0..setting("LOSSPROOF_HOSTILE_MUTATIONS", MUTATIONS) {
            let draw = random.bytes(DRAW_BYTES);
            let valid = probe.sample(&draw, version).unwrap();
            let head = header(probe.api_key, version, 1);
            // One in eight is broken in its header, and may be any request then.
            let any = random.below(8) == 0;
            let mutant = if any {
                mutate(&[&head[..], &valid].concat(), &mut random)
            } else {
                [&head[..], &mutate(&valid, &mut random)].concat()
            };
            let waits = any || may_wait(probe.api_key);
            if deal_with(&mut client, &mutant, waits) {
                answered += 1;
            } else {
                // Where it may wait, this side has closed first.
                closed += u64::from(!waits);
                client = scene.client();
            }
        }
        scene.is_served();
    }
    assert!(closed > 1_000 && answered > 1_000, "{closed} closed, {answered} answered");
    scene.end(MEMORY_BYTES_MAX);
}

/// Length and checksum are right in most of them, so that the broker looks further.
#[test]
fn record_batches_of_every_compression_broken_in_every_way() {
    let mut scene = scene();
    let mut random = Seeded(setting("LOSSPROOF_HOSTILE_SEED", SEED));
    let (mut stored, mut refused) = (0_u64, 0_u64);
    let mut client = scene.client();
    for compression in Compression::ALL {
        for round in 0..setting("LOSSPROOF_HOSTILE_MUTATIONS", MUTATIONS) * 5 {
            let batch = broken_batch(compression, round % 8 != 0, &mut random);
            let (topic, _) = TOPICS[random.below(TOPICS.len())];
            if client.produce(topic, batch).error_code.is_none() {
                stored += 1;
            } else {
                refused += 1;
            }
        }
        scene.is_served();
    }
    assert!(stored > 10 && refused > 100, "{stored} stored, {refused} refused");
    for (topic, _) in TOPICS {
        scene.client().reads_all_of(topic);
    }
    scene.end(MEMORY_BYTES_MAX);
}

fn broken_batch(compression: Compression, sealed: bool, random: &mut Seeded) -> Bytes {
    const HEADER_BYTES: usize = batch::HEADER_BYTES;
    let mut builder = BatchBuilder::new().compression(compression);
    for _ in 0..=random.below(4) {
        let length = random.below(200);
        let value = random.bytes(length);
        builder.push(1_700_000_000_000, Some(b"key"), Some(&value), &[]);
    }
    let mut bytes = mutate(&builder.build().unwrap(), random);
    if sealed && bytes.len() > HEADER_BYTES {
        bytes[16] = 2;
        let length = (bytes.len() - batch::LENGTH_END) as u32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes.into()
}
