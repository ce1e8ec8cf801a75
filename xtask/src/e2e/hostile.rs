use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Scene;
use crate::failure::{Context, Failure};

const CLOSE_TIME_MAX: Duration = Duration::from_secs(30);

/// Lengths that lie, arrays that cannot be, another protocol, noise.
const HOSTILE: [&[u8]; 6] = [
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x01\x00",
    b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
    // Metadata version 1 with 2 thousand million topics.
    b"\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x01\xff\xff\x7f\xff\xff\xff",
    // An API that nobody has.
    b"\x00\x00\x00\x0a\x7f\xff\x00\x00\x00\x00\x00\x01\xff\xff",
];

/// Each connection is closed, and the process lives and answers others.
pub(super) fn bytes(scene: &mut Scene<'_>) -> Result<(), Failure> {
    for (index, hostile) in HOSTILE.iter().enumerate() {
        let what = || format!("hostile bytes {index}");
        let mut stream = TcpStream::connect(("127.0.0.1", scene.broker.port())).context(what())?;
        stream.set_read_timeout(Some(CLOSE_TIME_MAX)).context(what())?;
        stream.write_all(hostile).context(what())?;
        let mut answer = Vec::new();
        // The end of the stream, or a reset; only silence is wrong.
        if let Err(error) = stream.read_to_end(&mut answer)
            && matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        {
            return Err(Failure::broken(format!("{}: the connection stays open", what())));
        }
        scene.broker.check_alive()?;
    }
    super::kcat::read_all(scene, "acks").map(drop)
}
