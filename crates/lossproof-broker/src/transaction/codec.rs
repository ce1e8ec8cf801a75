//! How a transaction stands in the journal: one keyed entry per transactional id.
//!
//! ```text
//! | version | producer id | epoch | previous id | previous epoch | timeout ms | phase |
//!   1         8             2       8             2                4            1
//! | started ms | count | partition id (8) ... | count | group ... | count | key, value ... |
//!   8            4                              4               4
//! ```
//! Groups, keys and values have their length (4) in front; a previous id of -1 is none. The fields
//! are told in `docs/format/broker.md`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lossproof_log::PartitionId;

use super::state::{Identity, Outcome, Phase, Transaction};
use crate::offsets::UnreadableEntry;

const VERSION: u8 = 1;

pub(super) fn encode(transaction: &Transaction) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    let nobody = Identity { producer_id: -1, epoch: -1 };
    for identity in [transaction.identity, transaction.previous.unwrap_or(nobody)] {
        out.put_i64(identity.producer_id);
        out.put_i16(identity.epoch);
    }
    out.put_i32(transaction.timeout_ms);
    out.put_u8(match transaction.phase {
        Phase::Empty => 0,
        Phase::Ongoing => 1,
        Phase::Complete(Outcome::Commit) => 2,
        Phase::Complete(Outcome::Abort) => 3,
    });
    out.put_i64(transaction.started_ms);
    // TRANSACTION-3 keeps all of these far below 4 GiB.
    out.put_u32(transaction.partitions.len() as u32);
    transaction.partitions.iter().for_each(|id| out.put_u64(id.0));
    out.put_u32(transaction.groups.len() as u32);
    transaction.groups.iter().for_each(|group| put_bytes(&mut out, group.as_bytes()));
    out.put_u32(transaction.offsets.len() as u32);
    for (key, value) in &transaction.offsets {
        put_bytes(&mut out, key);
        put_bytes(&mut out, value);
    }
    out.freeze()
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

pub(super) fn decode(mut bytes: Bytes) -> Result<Transaction, UnreadableEntry> {
    let wrong = |_| UnreadableEntry;
    if bytes.try_get_u8().map_err(wrong)? != VERSION {
        return Err(UnreadableEntry);
    }
    let identity = decode_identity(&mut bytes)?;
    let previous = decode_identity(&mut bytes)?;
    let timeout_ms = bytes.try_get_i32().map_err(wrong)?;
    let phase = match bytes.try_get_u8().map_err(wrong)? {
        0 => Phase::Empty,
        1 => Phase::Ongoing,
        2 => Phase::Complete(Outcome::Commit),
        3 => Phase::Complete(Outcome::Abort),
        _ => return Err(UnreadableEntry),
    };
    let started_ms = bytes.try_get_i64().map_err(wrong)?;
    let mut transaction = Transaction::new(identity, timeout_ms);
    transaction.previous = (previous.producer_id >= 0).then_some(previous);
    transaction.phase = phase;
    transaction.started_ms = started_ms;
    // Nothing is allocated by these counts: each entry needs bytes that must be there.
    for _ in 0..bytes.try_get_u32().map_err(wrong)? {
        transaction.partitions.insert(PartitionId(bytes.try_get_u64().map_err(wrong)?));
    }
    for _ in 0..bytes.try_get_u32().map_err(wrong)? {
        let group = String::from_utf8(take_bytes(&mut bytes)?.to_vec());
        transaction.groups.insert(group.map_err(|_| UnreadableEntry)?);
    }
    for _ in 0..bytes.try_get_u32().map_err(wrong)? {
        let key = take_bytes(&mut bytes)?;
        transaction.offsets.insert(key, take_bytes(&mut bytes)?);
    }
    if bytes.is_empty() { Ok(transaction) } else { Err(UnreadableEntry) }
}

fn decode_identity(bytes: &mut Bytes) -> Result<Identity, UnreadableEntry> {
    let producer_id = bytes.try_get_i64().map_err(|_| UnreadableEntry)?;
    let epoch = bytes.try_get_i16().map_err(|_| UnreadableEntry)?;
    Ok(Identity { producer_id, epoch })
}

fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, UnreadableEntry> {
    let length = bytes.try_get_u32().map_err(|_| UnreadableEntry)? as usize;
    if length > bytes.len() {
        return Err(UnreadableEntry);
    }
    Ok(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn transactions_survive_and_cut_ones_are_unreadable() {
        let me = Identity { producer_id: 1 << 40, epoch: 9 };
        let mut full = Transaction::new(me, 60_000);
        full.add_partitions(me, &[PartitionId(3), PartitionId(9)], 9, 77).unwrap();
        full.add_group(me, "group", 999, 78).unwrap();
        let offset = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
        full.add_offsets(me, "group", [offset], 999).unwrap();
        full.previous = Some(Identity { epoch: 8, ..me });
        let ended = [full.ended(Outcome::Commit), full.ended(Outcome::Abort)];
        for transaction in [Transaction::new(me, 1), full].into_iter().chain(ended) {
            let bytes = encode(&transaction);
            assert_eq!(decode(bytes.clone()), Ok(transaction));
            for cut in 0..bytes.len() {
                assert_eq!(decode(bytes.slice(..cut)), Err(UnreadableEntry));
            }
        }
    }

    /// A transaction as it stands in the journal, with this code of its phase.
    fn stored(phase: u8, previous: &[u8; 10]) -> Bytes {
        let bytes = [
            &[1][..],                            // version
            b"\x11\x12\x13\x14\x15\x16\x17\x18", // producer id
            b"\x21\x22",                         // epoch
            previous,                            // previous id and epoch
            b"\x51\x52\x53\x54",                 // timeout, ms
            &[phase],
            b"\x61\x62\x63\x64\x65\x66\x67\x68", // started, ms
            b"\0\0\0\x02",                       // partitions
            b"\x71\x72\x73\x74\x75\x76\x77\x78", // id of the first
            b"\x79\x7a\x7b\x7c\x7d\x7e\x7f\x80", // id of the second
            b"\0\0\0\x02",                       // groups
            b"\0\0\0\x07",
            b"another",
            b"\0\0\0\x05",
            b"group",
            b"\0\0\0\x01", // offsets
            b"\0\0\0\x03",
            b"key",
            b"\0\0\0\x05",
            b"value",
        ];
        bytes.concat().into()
    }

    /// Version 1, drawn in `docs/format/broker.md`: what is taken for another transaction, or for
    /// another's end, is lost or comes twice.
    #[test]
    fn a_transaction_stands_in_the_journal_as_it_is_drawn() {
        let phases = [
            Phase::Empty,
            Phase::Ongoing,
            Phase::Complete(Outcome::Commit),
            Phase::Complete(Outcome::Abort),
        ];
        let before = Identity { producer_id: 0x3132_3334_3536_3738, epoch: 0x4142 };
        let previous =
            [(Some(before), b"\x31\x32\x33\x34\x35\x36\x37\x38\x41\x42"), (None, &[0xff; 10])];
        for (code, phase) in (0..).zip(phases) {
            for (previous, previous_bytes) in previous {
                let transaction = Transaction {
                    identity: Identity { producer_id: 0x1112_1314_1516_1718, epoch: 0x2122 },
                    previous,
                    timeout_ms: 0x5152_5354,
                    phase,
                    started_ms: 0x6162_6364_6566_6768,
                    partitions: [0x7172_7374_7576_7778, 0x797a_7b7c_7d7e_7f80]
                        .map(PartitionId)
                        .into(),
                    groups: ["another", "group"].map(str::to_owned).into(),
                    offsets: [("key".into(), "value".into())].into(),
                };
                let bytes = stored(code, previous_bytes);
                assert_eq!(encode(&transaction), bytes);
                assert_eq!(decode(bytes), Ok(transaction));
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes: Vec<u8>) {
            let _ = decode(Bytes::from(bytes));
        }
    }
}
