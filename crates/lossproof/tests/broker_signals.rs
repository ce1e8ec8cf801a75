//! The real broker and its signals: the first one lets it finish what it has begun, however long
//! that takes within its limit; the second one ends it at once.

use crate::support;

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::Signal;
use support::{Broker, End};

/// Of how many topics that are not there one request asks for the settings, each by a name of its
/// own. The answer is more than 16 MiB, several times what the sockets hold between two processes:
/// it is never out before it is read.
const TOPICS: u32 = 80_000;
const NAME_BYTES: usize = 200;
const ANSWER_BYTES_MIN: usize = 16 << 20;
/// So that the system does not let the receiver's part grow.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// A DescribeConfigs request, version 1, as it stands on the wire.
fn request() -> Vec<u8> {
    let mut body = vec![0, 32, 0, 1, 0, 0, 0, 1, 0xff, 0xff]; // Key, version, number, no client id.
    body.extend(TOPICS.to_be_bytes());
    for number in 0..TOPICS {
        body.extend([2, 0, NAME_BYTES as u8]); // A topic.
        body.extend(format!("{number:0NAME_BYTES$}").as_bytes());
        body.extend([0xff; 4]); // All settings.
    }
    body.push(0); // No synonyms.
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// A connection to which the broker has begun to write an answer, and the bytes that are to come.
fn half_answered(server: &str) -> (TcpStream, usize) {
    let mut stream = TcpStream::connect(server).unwrap();
    set_socket_recv_buffer_size(&stream, RECEIVE_BUFFER_BYTES).unwrap();
    stream.write_all(&request()).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let length = u32::from_be_bytes(length) as usize;
    assert!(length > ANSWER_BYTES_MIN, "{length} bytes could hide in the sockets");
    (stream, length)
}

#[test]
fn a_first_signal_waits_for_an_answer_that_is_under_way() {
    let scratch = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(&scratch.path().join("data"), &[]);
    let (mut stream, length) = half_answered(&broker.server);
    broker.signal(Signal::TERM);
    broker.wait_for_talk("draining");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), length, "all of it, and then the end");
    let End { code, said, .. } = broker.end();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_second_signal_ends_the_broker_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let scratch = tempfile::tempdir().unwrap();
        let mut broker = Broker::start(&scratch.path().join("data"), &[]);
        // Held open and not read: the drain cannot end before its limit, which is no error.
        let (stream, _) = half_answered(&broker.server);
        broker.signal(Signal::TERM);
        broker.wait_for_talk("draining");
        broker.signal(second);
        let End { code, said, .. } = broker.end();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("stopped at once"), "{said}");
        assert!(!said.contains("cut off"), "the limit of the drain was not waited for: {said}");
        drop(stream);
    }
}
