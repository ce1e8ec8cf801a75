//! Story: whoever reaches the port can send what he likes. Every request of every version that the
//! broker says it serves, broken in every way, over a real socket, while another client writes and
//! reads: each is answered or its connection closed, the process lives, what it has stored can be
//! read, its memory is bounded, the other one notices nothing. Seeded;
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

/// A request that is answered when others come, on purpose: nobody waits for it here. It is decoded
/// when it arrives, so that this side may close at once.
const WAITS_FOR_OTHERS: [ApiKey; 2] = [ApiKey::JoinGroup, ApiKey::SyncGroup];

/// A fetch may wait as long as it says, and is decoded only when it is its turn: so it must not
/// wait, and this side must not close. Whatever else of it is broken, what the broker takes for its
/// waiting time is 0.
fn do_not_wait(fetch: &mut [u8], version: i16) {
    const LAST_WITH_REPLICA_FIRST: i16 = 14;
    let begin = if version <= LAST_WITH_REPLICA_FIRST { 4 } else { 0 };
    fetch.iter_mut().skip(begin).take(4).for_each(|byte| *byte = 0);
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

/// Sends a frame and makes sure that the broker has dealt with it. Returns how many answers came,
/// unless the connection is closed.
fn deal_with(client: &mut Client, mutant: &[u8], waits: bool) -> Option<u64> {
    const MARK: i32 = i32::MAX - 1;
    client.send_frame(mutant);
    if waits {
        client.half_close();
        return None;
    }
    client.send_frame(&frame(&ApiVersionsRequest::default(), 0, MARK));
    let mut answers = 0;
    while !client.receive_frame()?.starts_with(&MARK.to_be_bytes()) {
        answers += 1;
    }
    Some(answers)
}

/// One in eight is broken in its header, and may be any request then: that one comes with `None`.
fn broken(probe: &Probe, version: i16, random: &mut Seeded) -> (Vec<u8>, Option<ApiKey>) {
    let draw = random.bytes(DRAW_BYTES);
    let valid = probe.sample(&draw, version).unwrap();
    let head = header(probe.api_key, version, 1);
    if random.below(8) == 0 {
        return (mutate(&[&head[..], &valid].concat(), random), None);
    }
    let mut body = mutate(&valid, random);
    if probe.api_key == ApiKey::Fetch {
        do_not_wait(&mut body, version);
    }
    ([&head[..], &body].concat(), Some(probe.api_key))
}

/// Whether an answer may be long in coming.
fn waits(mutant: &[u8], key: Option<ApiKey>) -> bool {
    let code = mutant.first_chunk().map(|code| i16::from_be_bytes(*code));
    let is = |other: &ApiKey| code == Some(other.code());
    WAITS_FOR_OTHERS.iter().any(is) || key.is_none() && is(&ApiKey::Fetch)
}

/// What became of requests with a header that can be read.
#[derive(Default)]
struct Ends {
    closed: u64,
    answered: u64,
}

#[test]
fn every_request_in_every_version_broken_in_every_way() {
    let mut scene = scene();
    let mut random = Seeded(setting("LOSSPROOF_HOSTILE_SEED", SEED));
    let mut client = scene.client();
    let (mut fetches, mut others) = (Ends::default(), Ends::default());
    for (probe, version) in served(&scene) {
        for _ in 0..setting("LOSSPROOF_HOSTILE_MUTATIONS", MUTATIONS) {
            let (mutant, key) = broken(&probe, version, &mut random);
            let waits = waits(&mutant, key);
            let answers = deal_with(&mut client, &mutant, waits);
            if answers.is_none() {
                client = scene.client();
            }
            let Some(key) = key.filter(|_| !waits) else { continue };
            let ends = if key == ApiKey::Fetch { &mut fetches } else { &mut others };
            match answers {
                None => ends.closed += 1,
                // Who asks for no acknowledgement gets none.
                Some(0) if key == ApiKey::Produce => {}
                Some(answers) => {
                    assert_eq!(answers, 1, "{key:?} version {version}: {mutant:?}");
                    ends.answered += 1;
                }
            }
        }
        scene.is_served();
    }
    for (Ends { closed, answered }, least) in [(fetches, 50), (others, 1_000)] {
        println!("{closed} closed, {answered} answered");
        assert!(closed > least && answered > least, "{closed} closed, {answered} answered");
    }
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
