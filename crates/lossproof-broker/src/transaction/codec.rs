//! How a transaction stands in the journal: one keyed entry per transactional id.
//!
//! ```text
//! | version | producer id | epoch | previous id | previous epoch | timeout ms | phase |
//!   1         8             2       8             2                4            1
//! | started ms | count | partition id (8) ... | count | group ... | count | key, value ... |
//!   8            4                              4               4
//! ```
//! Groups, keys and values have their length (4) in front; a previous id of -1 is none.

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

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes: Vec<u8>) {
            let _ = decode(Bytes::from(bytes));
        }
    }
}
