//! The list of what a broker that anybody can reach has to bear, one test for each. In each of them
//! the process lives to the end, its memory stays below what docs/config.md says, and a client that
//! was there before is served all the while. What takes minutes, one byte per second, is with the
//! tests of `lossproof-broker`, whose clock does not wait (`hostile_bytes`).

use crate::hostile;

use std::io::{Read, Write};

use bytes::{BufMut, BytesMut};
use hostile::{Client, Scene, batch_of, frame, produce};
use lossproof_wire::batch::Compression;
use lossproof_wire::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const MIB: usize = 1 << 20;
/// What docs/config.md says of a broker with nothing to do.
const IDLE_BYTES: usize = 32 * MIB;
/// The same of each connection without a request in work.
const CONNECTION_BYTES: usize = 16 << 10;
/// The same of all batches that are decompressed at a time.
const DECOMPRESSION_BYTES: usize = 160 * MIB;
/// The same of all answers that wait to be taken: those with a share of memory, and those without.
const ANSWER_BYTES: usize = (256 + 64) * MIB;
const COMPRESSED: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// With what the allocator keeps between pieces of different sizes.
fn with_gaps(bytes: usize) -> usize {
    bytes + bytes / 4
}

fn api_versions() -> BytesMut {
    frame(&ApiVersionsRequest::default(), 0, 1)
}

#[test]
fn frame_lengths_of_0_below_it_and_of_2_gib() {
    let mut scene = Scene::start(&["socket.request.max.bytes=1048576"]);
    for length in [0, -1, i32::MIN, i32::MAX, MIB as i32 + 1] {
        let mut client = scene.client();
        client.stream.write_all(&length.to_be_bytes()).unwrap();
        assert!(client.is_closed(), "{length}");
        // For this reason, and not because it says nothing more.
        scene.broker.wait_for_talk(&format!("the peer announced a request of {length} bytes"));
        scene.is_served();
    }
    // What may be announced takes no memory before it comes.
    let announced: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = scene.client();
            client.stream.write_all(&(MIB as i32).to_be_bytes()).unwrap();
            client
        })
        .collect();
    scene.is_served();
    drop(announced);
    scene.end(IDLE_BYTES);
}

#[test]
fn frames_cut_at_every_byte() {
    let mut scene = Scene::start(&[]);
    let request = frame(&produce("t", batch_of(b"cut", Compression::None)), 9, 1);
    let whole = [&(request.len() as i32).to_be_bytes()[..], &request].concat();
    for length in 0..whole.len() {
        let mut client = scene.client();
        client.stream.write_all(&whole[..length]).unwrap();
        client.half_close();
    }
    scene.is_served();
    scene.end(IDLE_BYTES);
}

/// Before: what is sent. After: what it becomes, 256 times as much and 256 MiB at most.
#[test]
fn compression_bombs_are_bounded_by_max_message_bytes_before_and_after() {
    const MESSAGE_BYTES_MAX: usize = MIB / 4;
    const AFTER_BYTES_MAX: usize = MESSAGE_BYTES_MAX * 256;
    let mut scene = Scene::start(&["message.max.bytes=262144"]);
    let mut client = scene.client();
    client.create("t", &[]);
    let zeros = vec![0; AFTER_BYTES_MAX + 1];
    for compression in COMPRESSED {
        // Snappy shrinks to no less than a twentieth, LZ4 to a 255th: these are too large before.
        let bomb = batch_of(&zeros, compression);
        let refusal = client.produce("t", bomb);
        assert_eq!(refusal.error_code, ErrorCode::MESSAGE_TOO_LARGE, "{compression}");
        scene.is_served();
    }
    // A topic that takes so much before, and whose limit after is the same for all topics.
    client.create("large", &[("max.message.bytes", "16777216")]);
    drop(zeros);
    let zeros = vec![0; 257 * MIB];
    let bomb = batch_of(&zeros, Compression::Zstd);
    drop(zeros);
    let at_once: Vec<_> = (0..6)
        .map(|_| {
            let (mut client, bomb) = (scene.client(), bomb.clone());
            std::thread::spawn(move || client.produce("large", bomb).error_code)
        })
        .collect();
    scene.is_served();
    for refusal in at_once {
        assert_eq!(refusal.join().unwrap(), ErrorCode::MESSAGE_TOO_LARGE);
    }
    scene.end(IDLE_BYTES + with_gaps(DECOMPRESSION_BYTES));
}

#[test]
fn a_wrong_checksum_is_refused_and_the_connection_goes_on() {
    let mut scene = Scene::start(&[]);
    let mut client = scene.client();
    client.create("t", &[]);
    for compression in Compression::ALL {
        let mut batch = batch_of(b"value", compression).to_vec();
        batch[17] ^= 1;
        let refusal = client.produce("t", batch.into());
        assert_eq!(refusal.error_code, ErrorCode::CORRUPT_MESSAGE);
    }
    assert_eq!(client.produce("t", batch_of(b"v", Compression::Zstd)).base_offset, 0);
    scene.is_served();
    scene.end(IDLE_BYTES);
}

#[test]
fn unknown_keys_and_versions() {
    let mut scene = Scene::start(&[]);
    let answer: ApiVersionsResponse = scene.client().call(&ApiVersionsRequest::default(), 0);
    let mut unknown: Vec<(i16, i16)> = vec![(i16::MIN, 0), (-1, 0), (i16::MAX, i16::MAX)];
    for key in 0..128 {
        let served = answer.api_keys.iter().find(|api| api.api_key == key);
        match served {
            None => unknown.push((key, 0)),
            // It is answered whatever its version: protocol_traps.rs of the broker.
            Some(_) if key == ApiKey::ApiVersions.code() => {}
            Some(api) => {
                let beyond = [api.min_version - 1, api.max_version + 1, i16::MIN, i16::MAX];
                unknown.extend(beyond.map(|version| (key, version)));
            }
        }
    }
    for (key, version) in unknown {
        let mut request = BytesMut::new();
        request.put_i16(key);
        request.put_i16(version);
        request.put_i32(1);
        request.put_bytes(0, 64);
        let mut client = scene.client();
        client.send_frame(&request);
        assert!(client.is_closed(), "key {key}, version {version}");
    }
    scene.is_served();
    scene.end(IDLE_BYTES);
}

/// The writing half is closed, and the other one is kept open for ever: no place is taken by that.
#[test]
fn half_closed_sockets_take_no_place() {
    const PLACES: usize = 20;
    /// Some are refused; it takes the broker a moment to notice an end.
    const TRIES_MAX: usize = 100_000;
    let mut scene = Scene::start(&["max.connections=20"]);
    let mut half_closed = vec![];
    for _ in 0..TRIES_MAX {
        if half_closed.len() == 5 * PLACES {
            break;
        }
        let mut client = scene.client();
        client.send_frame(&api_versions());
        // Refused for as long as the broker has not noticed the end of those before.
        if client.receive_frame().is_some() {
            client.half_close();
            half_closed.push(client);
        }
    }
    assert_eq!(half_closed.len(), 5 * PLACES, "places are never given back");
    scene.is_served();
    drop(half_closed);
    scene.end(IDLE_BYTES);
}

/// Each asks for all that there is, again and again, and takes nothing of it.
#[test]
fn answers_that_are_never_read() {
    const READERS: usize = 100;
    let mut scene = Scene::start(&[]);
    let mut client = scene.client();
    client.create("large", &[]);
    for _ in 0..8 {
        let batch = batch_of(&vec![7; MIB], Compression::None);
        assert_eq!(client.produce("large", batch).error_code, ErrorCode::NONE);
    }
    let mut readers: Vec<Client> = (0..READERS).map(|_| scene.client()).collect();
    for reader in &mut readers {
        for _ in 0..4 {
            reader.send_fetch("large");
        }
        scene.is_served();
    }
    // Those that do read get something too, if in smaller pieces.
    for _ in 0..20 {
        scene.is_served();
    }
    drop(readers);
    scene.end(IDLE_BYTES + with_gaps(ANSWER_BYTES) + READERS * CONNECTION_BYTES);
}

/// Requests that are never finished take all memory for requests, and small ones need none of it.
#[test]
fn large_requests_that_stop_in_the_middle() {
    let requests = ["socket.request.max.bytes=33554432", "queued.max.request.bytes=67108864"];
    let mut scene = Scene::start(&requests);
    let mut halves = vec![];
    for _ in 0..8 {
        let mut client = scene.client();
        client.stream.write_all(&(32 * MIB as i32).to_be_bytes()).unwrap();
        // It is taken as far as there is memory for it.
        client.stream.set_nonblocking(true).unwrap();
        let _ = client.stream.write_all(&vec![0; 24 * MIB]);
        halves.push(client);
        scene.is_served();
    }
    scene.end(IDLE_BYTES + with_gaps(64 * MIB));
}

fn allow_open_files(wanted: u64) {
    let limits = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(wanted), maximum: limits.maximum };
    setrlimit(Resource::Nofile, wanted).expect("ulimit -Hn must allow 12000 open files");
}

/// They are let in, cost next to nothing, and all others are served; the next one is refused.
#[test]
fn ten_thousand_idle_connections_and_not_one_more() {
    const CONNECTIONS: usize = 10_000;
    allow_open_files(12_000);
    let mut scene = Scene::start(&["max.connections=10001"]);
    let idle: Vec<Client> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = scene.client();
            client.send_frame(&api_versions());
            client
        })
        .collect();
    let mut idle: Vec<Client> = idle
        .into_iter()
        .map(|mut client| {
            assert!(client.receive_frame().is_some(), "it is served");
            client
        })
        .collect();
    scene.is_served();
    let mut one_more = scene.client();
    one_more.send_frame(&api_versions());
    assert!(one_more.is_closed(), "there are as many as there may be");
    scene.broker.wait_for_talk("connection refused: there are as many as there may be");
    scene.is_served();
    let mut nothing = [0];
    for client in &mut idle {
        client.stream.set_nonblocking(true).unwrap();
        let read = client.stream.read(&mut nothing).expect_err("nobody was thrown out");
        assert_eq!(read.kind(), std::io::ErrorKind::WouldBlock);
    }
    scene.end(IDLE_BYTES + CONNECTIONS * CONNECTION_BYTES);
}

/// One address has used up what it may have; `max.connections` has room.
#[test]
fn connections_over_the_quota_of_an_address_are_refused_and_named() {
    let mut scene = Scene::start(&["max.connections.per.ip=3"]);
    let mut others = [scene.client(), scene.client()];
    for client in &mut others {
        client.send_frame(&api_versions());
        assert!(client.receive_frame().is_some());
    }
    for _ in 0..50 {
        let mut one_more = scene.client();
        one_more.send_frame(&api_versions());
        assert!(one_more.is_closed(), "its address has all it may have");
    }
    scene.broker.wait_for_talk("connection refused: its address has all it may have");
    scene.is_served();
    drop(others);
    scene.end(IDLE_BYTES);
}
