//! Bounded reading of the bytes of one message.

use bytes::{Buf, Bytes};

/// Why bytes are not the message they were taken for. The connection they came on cannot be
/// trusted to be in step any more and should be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message has no such version, or we do not serve it.
    #[error("{message} version {version} is not served (served: {min} to {max})")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// What was asked for.
        version: i16,
        /// Lowest version served.
        min: i16,
        /// Highest version served.
        max: i16,
    },
    /// The bytes end inside a value.
    #[error("message ends early: {needed} bytes needed, {remaining} left")]
    Truncated {
        /// Bytes that the next value needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// An array announces more entries than the bytes that are left can hold.
    #[error("array of {count} entries announced, but only {remaining} bytes are left")]
    CountTooLarge {
        /// Entries announced.
        count: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A length or count is negative where only -1 (null) is allowed.
    #[error("length {length} is negative")]
    NegativeLength {
        /// The length on the wire.
        length: i64,
    },
    /// Null where this version has no null.
    #[error("null where a value is required")]
    UnexpectedNull,
    /// A string is longer than any version can tell.
    #[error("string of {length} bytes announced; {STRING_BYTES_MAX} are possible")]
    StringTooLong {
        /// Bytes announced.
        length: usize,
    },
    /// A string is not UTF-8.
    #[error("string is not valid UTF-8")]
    NotUtf8,
    /// A variable-length integer does not end within its width.
    #[error("variable-length integer is too long")]
    VarintTooLong,
    /// A known tagged field did not fill the size it announced.
    #[error("tagged field {tag} leaves {left} bytes of its announced size unread")]
    TagSizeMismatch {
        /// Number of the tagged field.
        tag: u32,
        /// Bytes not read.
        left: usize,
    },
    /// Decoding would take more memory than the message's size allows.
    #[error("decoded message would need more than {limit} bytes of memory")]
    TooMuchMemory {
        /// The bound that would be passed.
        limit: usize,
    },
}

/// Memory allowed for a decoded message per byte of it (`WIRE-2`). Payloads cost nothing, they
/// share the received bytes. Real messages need about 4.
pub const DECODED_PER_BYTE_MAX: usize = 16;
/// Memory that the smallest message may take, so that short lists of empty entries pass.
pub const DECODED_FLOOR: usize = 16 * 1024;
/// Memory that no decoded message may pass, whatever its size.
pub const DECODED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an entry of a list costs at least, where its bytes allow for it: a million are the most.
const ENTRY_COST_MIN: usize = 64;

/// Of a string, as in Apache Kafka: compact lengths could tell of more than the others.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A cursor over the bytes of one message, with the memory it may still allocate.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a mut Bytes,
    limit: usize,
    allowance: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a mut Bytes) -> Self {
        let proportional = bytes.len().saturating_mul(DECODED_PER_BYTE_MAX);
        let limit = proportional.clamp(DECODED_FLOOR, DECODED_BYTES_MAX);
        Self { bytes, limit, allowance: limit }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Charges memory that is about to be allocated.
    pub(crate) fn charge(&mut self, size: usize) -> Result<(), DecodeError> {
        let left = self.allowance.checked_sub(size);
        self.allowance = left.ok_or(DecodeError::TooMuchMemory { limit: self.limit })?;
        Ok(())
    }

    /// The same for `count` entries of `size`, each of at least `min_bytes` of the message. The
    /// shortest would be by the million in a request, and the larger for what each is turned into:
    /// they cost as much as their bytes allow, within a bound.
    pub(crate) fn charge_entries(
        &mut self,
        count: usize,
        size: usize,
        min_bytes: usize,
    ) -> Result<(), DecodeError> {
        let least = min_bytes.saturating_mul(DECODED_PER_BYTE_MAX).min(ENTRY_COST_MIN);
        self.charge(count.saturating_mul(size.max(least)))
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(DecodeError::Truncated { needed, remaining });
        }
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.need(N)?;
        let mut value = [0; N];
        self.bytes.copy_to_slice(&mut value);
        Ok(value)
    }

    /// The next `length` bytes, sharing the memory they were received in (`WIRE-4`).
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.need(length)?;
        Ok(self.bytes.split_to(length))
    }

    pub(crate) fn string(&mut self, length: usize) -> Result<String, DecodeError> {
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::StringTooLong { length });
        }
        self.need(length)?;
        self.charge(length)?;
        let slice = self.bytes.get(..length).unwrap_or_default();
        let value = std::str::from_utf8(slice).map_err(|_| DecodeError::NotUtf8)?.to_owned();
        self.bytes.advance(length);
        Ok(value)
    }

    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::VarintTooLong);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Reads the tagged fields at the end of a flexible struct. `known` gets each tag with a
    /// reader of its own over exactly the field's bytes, and says whether it read them.
    pub(crate) fn tagged_fields(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'_>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        // A field takes at least two bytes, so a huge count runs out of bytes at once.
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let mut field = self.take(size)?;
            let mut inner =
                Reader { bytes: &mut field, limit: self.limit, allowance: self.allowance };
            let read = known(tag, &mut inner)?;
            self.allowance = inner.allowance;
            if read && !field.is_empty() {
                return Err(DecodeError::TagSizeMismatch { tag, left: field.len() });
            }
        }
        Ok(())
    }
}
