//! Records that prove themselves: each names its producer and its place in what that producer
//! sent, and carries a CRC32C over all of it.

use rdkafka::Message;

use crate::random::Random;

/// What a record is, as far as its own bytes tell.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) value: String,
    pub(crate) digest: String,
}

/// The name of a record in the history.
pub(crate) fn value(process: &str, sequence: u64) -> String {
    format!("{process}/{sequence}")
}

/// `PRODUCER SEQUENCE CRC FILLER`; the CRC is of producer, sequence and filler. Half of the filler
/// repeats itself, so that compression has something to do and something that it cannot do.
pub(crate) fn encode(process: &str, sequence: u64, bytes: usize) -> Vec<u8> {
    assert!(!process.contains(' '), "the fields are told apart by spaces");
    let seed = u64::from(crc32c::crc32c(process.as_bytes()));
    let mut random = Random::new(seed ^ sequence);
    let filler: Vec<u8> = (0..bytes.div_ceil(8))
        .flat_map(
            |word| if word.is_multiple_of(2) { [b'x'; 8] } else { random.next().to_le_bytes() },
        )
        .take(bytes)
        .collect();
    let crc = checksum(process, sequence, &filler);
    let mut payload = format!("{process} {sequence} {crc:08x} ").into_bytes();
    payload.extend(filler);
    payload
}

/// What a record is that was read: it must also have the key that its payload names.
pub(crate) fn of(message: &impl Message) -> Option<Parsed> {
    with_key(message.key(), message.payload().unwrap_or_default())
}

fn with_key(key: Option<&[u8]>, payload: &[u8]) -> Option<Parsed> {
    let parsed = parse(payload)?;
    let (process, _) = parsed.value.rsplit_once('/')?;
    (key == Some(process.as_bytes())).then_some(parsed)
}

/// `None` where the bytes are not what any producer sent.
pub(crate) fn parse(payload: &[u8]) -> Option<Parsed> {
    let mut fields = payload.splitn(4, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (process, sequence, digest) = (text()?, text()?.parse().ok()?, text()?.to_owned());
    let filler = fields.next()?;
    let good = digest == format!("{:08x}", checksum(process, sequence, filler));
    good.then(|| Parsed { value: value(process, sequence), digest })
}

fn checksum(process: &str, sequence: u64, filler: &[u8]) -> u32 {
    let crc = crc32c::crc32c(process.as_bytes());
    let crc = crc32c::crc32c_append(crc, &sequence.to_be_bytes());
    crc32c::crc32c_append(crc, filler)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_itself() {
        let parsed = parse(&encode("p1", 7, 100)).unwrap();
        assert_eq!(parsed.value, "p1/7");
        assert!(parse(&encode("p1", 7, 0)).is_some());
    }

    #[test]
    fn a_record_has_the_key_that_it_names() {
        let payload = encode("p1", 7, 100);
        assert!(with_key(Some(b"p1"), &payload).is_some());
        for wrong in [None, Some(&b"p2"[..]), Some(b"")] {
            assert_eq!(with_key(wrong, &payload), None);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let payload = encode("producer", 12, 40);
        for bit in 0..payload.len() * 8 {
            let mut damaged = payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&damaged), None, "bit {bit}");
        }
        for length in 0..payload.len() {
            assert_eq!(parse(&payload[..length]), None, "{length}");
        }
    }
}
