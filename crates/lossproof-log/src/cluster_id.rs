use std::fmt;

/// 16 bytes in base64 without padding.
pub(crate) const LENGTH: usize = 22;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a cluster is called, in the form that Apache Kafka gives it: 16 bytes in URL-safe base64.
/// It is kept as it was written: the last character has four bits that no byte needs, and many
/// people use one that has them set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClusterId([u8; LENGTH]);

impl ClusterId {
    pub(crate) fn of_bytes(bytes: [u8; 16]) -> Self {
        // The two bits that are missing at the end are zeros.
        let number = u128::from_be_bytes(bytes);
        let digit = |at: usize| match 122_usize.checked_sub(6 * at) {
            Some(shift) => (number >> shift) as usize % 64,
            None => (number << 4) as usize % 64,
        };
        Self(std::array::from_fn(|at| ALPHABET[digit(at)]))
    }

    /// `None` where it is no such text.
    pub fn parse(text: &str) -> Option<Self> {
        let characters: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        characters.iter().all(|it| ALPHABET.contains(it)).then_some(Self(characters))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The alphabet is ASCII.
        f.write_str(str::from_utf8(&self.0).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_kafka() {
        // From the tests of Apache Kafka's own class.
        let id = ClusterId::of_bytes(0x_0000_0000_0000_0001_0000_0000_0000_0002_u128.to_be_bytes());
        assert_eq!(id.to_string(), "AAAAAAAAAAEAAAAAAAAAAg");
        let highest = ClusterId::of_bytes([0xff; 16]);
        assert_eq!(highest.to_string(), "_____________________w");
        assert_eq!(ClusterId::parse("_____________________w"), Some(highest));
    }

    #[test]
    fn what_was_written_stays_as_it_is() {
        let written = "MkU3OEVBNTcwNTJENDM2Qk";
        assert_eq!(ClusterId::parse(written).unwrap().to_string(), written);
        let wrong = ["", "news", "MkU3OEVBNTcwNTJENDM2Q", "MkU3OEVBNTcwNTJENDM2Qk=="];
        for text in
            wrong.into_iter().chain(["MkU3OEVBNTcwNTJENDM2Q=", "MkU3OEVBNTcwNTJENDM2\u{fc}"])
        {
            assert_eq!(ClusterId::parse(text), None, "{text}");
        }
    }
}
