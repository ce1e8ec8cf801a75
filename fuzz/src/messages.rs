//! Any bytes as any message in any version. The first two bytes choose, the rest is the message.
//! What decodes must encode and decode to the same again (`WIRE-1`, `WIRE-3`).

use std::sync::LazyLock;

use bytes::Bytes;
use lossproof_wire::RequestHeader;
use lossproof_wire::samples::{Probe, probes};

static PROBES: LazyLock<Vec<Probe>> = LazyLock::new(probes);

pub fn check(data: &[u8]) {
    let _ = RequestHeader::decode(&mut Bytes::copy_from_slice(data));
    let [choice, version, body @ ..] = data else { return };
    let probe = &PROBES[usize::from(*choice) % PROBES.len()];
    let version = i16::from(*version % 20);
    if let Ok(decoded) = probe.decode(&mut Bytes::copy_from_slice(body), version) {
        let again = decoded.encoded.expect("what was decoded can be encoded");
        let reread = probe.decode(&mut again.into(), version).expect("and decoded once more");
        assert_eq!(reread.debug, decoded.debug, "WIRE-3");
    }
}
