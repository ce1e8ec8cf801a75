//! Where messages are written to.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Takes the bytes of a message, in their order.
pub trait Out {
    fn put(&mut self, bytes: &[u8]);

    /// The same bytes, which need not be copied.
    fn put_shared(&mut self, bytes: &Bytes) {
        self.put(bytes);
    }
}

impl Out for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// What is shorter than this is cheaper to copy than to send as a piece of its own.
pub const SHARED_BYTES_MIN: usize = 4 << 10;

/// Keeps long payloads as they are, so that an answer is sent from the memory it was read into.
///
/// ```
/// use bytes::Bytes;
/// use lossproof_wire::{Out, Pieces, SHARED_BYTES_MIN};
///
/// let long = Bytes::from(vec![7; SHARED_BYTES_MIN]);
/// let mut out = Pieces::default();
/// out.put(b"ab");
/// out.put_shared(&long);
/// out.put(b"c");
/// assert_eq!(out.len(), 3 + long.len());
/// assert_eq!(out.into_pieces(), ["ab".into(), long, "c".into()]);
/// ```
#[derive(Debug, Default)]
pub struct Pieces {
    /// All that was copied.
    copied: BytesMut,
    /// The others, and how much of `copied` comes before each.
    shared: Vec<(usize, Bytes)>,
    length: usize,
}

impl Pieces {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first four bytes, where they have been put as such.
    pub fn front_mut(&mut self) -> Option<&mut [u8; 4]> {
        let is_copied = self.shared.first().is_none_or(|(before, _)| *before >= 4);
        self.copied.first_chunk_mut().filter(|_| is_copied)
    }

    /// None of them is empty.
    pub fn into_pieces(self) -> VecDeque<Bytes> {
        let mut copied = self.copied.freeze();
        let mut pieces = VecDeque::with_capacity(2 * self.shared.len() + 1);
        let mut taken = 0;
        for (before, shared) in self.shared {
            pieces.push_back(copied.split_to(before - taken));
            pieces.push_back(shared);
            taken = before;
        }
        pieces.push_back(copied);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

impl Out for Pieces {
    fn put(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.copied.put_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            return self.put(bytes);
        }
        self.length += bytes.len();
        self.shared.push((self.copied.len(), bytes.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FetchResponse, FetchableTopicResponse, PartitionData, Records};

    #[test]
    fn the_front_is_what_was_put_first() {
        let long = Bytes::from(vec![1; SHARED_BYTES_MIN]);
        let mut out = Pieces::default();
        assert_eq!(out.front_mut(), None);
        out.put(b"abcd");
        out.put_shared(&long);
        *out.front_mut().unwrap() = *b"ABCD";
        assert_eq!(out.into_pieces(), ["ABCD".into(), long.clone()]);
        let mut out = Pieces::default();
        out.put_shared(&long);
        out.put(b"abcd");
        assert_eq!(out.front_mut(), None);
    }

    /// WIRE-4.
    #[test]
    fn pieces_are_the_same_bytes_and_long_ones_are_not_copied() {
        let long = Bytes::from(vec![1; SHARED_BYTES_MIN]);
        let short = Bytes::from(vec![2; SHARED_BYTES_MIN - 1]);
        let mut response = FetchResponse::default();
        for pieces in [vec![&long, &short, &long, &long], vec![], vec![&short], vec![&long]] {
            let mut records = Records::default();
            for piece in pieces {
                records.push(piece.clone());
            }
            let partition = PartitionData { records: Some(records), ..Default::default() };
            let topic =
                FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
            response.responses.push(topic);
        }
        let whole = |partition: &PartitionData| {
            let records = partition.records.clone().map(|it| Records::from(it.into_bytes()));
            PartitionData { records, ..partition.clone() }
        };
        for topic in &response.responses {
            assert!(topic.partitions[0] == whole(&topic.partitions[0]), "equal by their bytes");
        }
        for version in [4, 12, 17] {
            let (mut whole, mut out) = (BytesMut::new(), Pieces::default());
            response.encode(&mut whole, version).unwrap();
            response.encode(&mut out, version).unwrap();
            assert_eq!(out.len(), whole.len());
            let pieces = out.into_pieces();
            let shared = pieces.iter().filter(|piece| piece.as_ptr() == long.as_ptr());
            assert_eq!(shared.count(), 4, "sent from where they are");
            assert!(Vec::from(pieces).concat() == whole, "version {version}");
        }
    }
}
