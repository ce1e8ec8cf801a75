//! How a group stands in the journal: one keyed entry, among the offsets, as with Apache Kafka.
//!
//! ```text
//! key:    | ff ff ff ff | group ... |
//! empty:  | version | 0 | since when, ms |
//!           1         1   8
//! else:   | version | 1 | generation | protocol type | protocol | leader | count | member ... |
//!           1         1   4            text            text       text     4
//! member: | id   | has instance | instance | client id | client host | session timeout, ms |
//!           text   1              text       text        text          4
//!         | rebalance timeout, ms | count | name, metadata ... | assignment |
//!           4                       4       text, bytes          bytes
//! ```
//! Texts and bytes have their length (4) in front. No offset has such a key: it begins with the
//! length of its group's name, which is far below. The fields are told in `docs/format/broker.md`.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::message::ClientName;
use crate::offsets::UnreadableEntry;

const VERSION: u8 = 1;
const KEY_MARK: [u8; 4] = [0xff; 4];

/// What is kept of a group over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredGroup {
    /// Nobody has been in it since then, by the wall clock.
    Empty { since_ms: i64 },
    /// The members of a generation, with their assignments.
    Stable {
        generation: i32,
        protocol_type: String,
        protocol: String,
        leader: String,
        /// Never empty.
        members: Vec<StoredMember>,
    },
}

/// What is kept of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMember {
    pub(super) id: String,
    pub(super) instance: Option<String>,
    pub(super) client: ClientName,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
}

/// The key of a group's entry.
pub(crate) fn key_of(group: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(KEY_MARK.len() + group.len());
    out.put_slice(&KEY_MARK);
    out.put_slice(group.as_bytes());
    out.freeze()
}

/// Is it the key of a group, and not of an offset?
pub(crate) fn is_key(key: &[u8]) -> bool {
    key.starts_with(&KEY_MARK)
}

pub(crate) fn group_of(key: &[u8]) -> Result<String, UnreadableEntry> {
    let name = key.strip_prefix(&KEY_MARK).ok_or(UnreadableEntry)?;
    String::from_utf8(name.to_vec()).map_err(|_| UnreadableEntry)
}

impl StoredGroup {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match self {
            Self::Empty { since_ms } => {
                out.put_u8(0);
                out.put_i64(*since_ms);
            }
            Self::Stable { generation, protocol_type, protocol, leader, members } => {
                out.put_u8(1);
                out.put_i32(*generation);
                for text in [protocol_type, protocol, leader] {
                    put_bytes(&mut out, text.as_bytes());
                }
                // Their number is bounded (GROUP-5), as are all lengths by that of a request.
                out.put_u32(members.len() as u32);
                for member in members {
                    member.encode(&mut out);
                }
            }
        }
        out.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, UnreadableEntry> {
        let wrong = |_| UnreadableEntry;
        if bytes.try_get_u8().map_err(wrong)? != VERSION {
            return Err(UnreadableEntry);
        }
        let group = match bytes.try_get_u8().map_err(wrong)? {
            0 => Self::Empty { since_ms: bytes.try_get_i64().map_err(wrong)? },
            1 => {
                let generation = bytes.try_get_i32().map_err(wrong)?;
                let protocol_type = take_text(&mut bytes)?;
                let protocol = take_text(&mut bytes)?;
                let leader = take_text(&mut bytes)?;
                let count = bytes.try_get_u32().map_err(wrong)?;
                // Nothing is allocated by the count: each member needs bytes that must be there.
                let mut members = Vec::new();
                for _ in 0..count {
                    members.push(StoredMember::decode(&mut bytes)?);
                }
                if members.is_empty() {
                    return Err(UnreadableEntry);
                }
                Self::Stable { generation, protocol_type, protocol, leader, members }
            }
            _ => return Err(UnreadableEntry),
        };
        if bytes.is_empty() { Ok(group) } else { Err(UnreadableEntry) }
    }
}

impl StoredMember {
    fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self.id.as_bytes());
        out.put_u8(u8::from(self.instance.is_some()));
        put_bytes(out, self.instance.as_deref().unwrap_or_default().as_bytes());
        put_bytes(out, self.client.id.as_bytes());
        put_bytes(out, self.client.host.as_bytes());
        for timeout in [self.session_timeout, self.rebalance_timeout] {
            // They came as 31-bit numbers of milliseconds.
            out.put_u32(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        }
        out.put_u32(self.protocols.len() as u32);
        for (name, metadata) in &self.protocols {
            put_bytes(out, name.as_bytes());
            put_bytes(out, metadata);
        }
        put_bytes(out, &self.assignment);
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, UnreadableEntry> {
        let wrong = |_| UnreadableEntry;
        let id = take_text(bytes)?;
        let has_instance = bytes.try_get_u8().map_err(wrong)?;
        let instance = take_text(bytes)?;
        let instance = match has_instance {
            0 if instance.is_empty() => None,
            1 => Some(instance),
            _ => return Err(UnreadableEntry),
        };
        let client = ClientName { id: take_text(bytes)?, host: take_text(bytes)? };
        let mut timeout =
            || bytes.try_get_u32().map(|ms| Duration::from_millis(ms.into())).map_err(wrong);
        let (session_timeout, rebalance_timeout) = (timeout()?, timeout()?);
        let mut protocols = Vec::new();
        for _ in 0..bytes.try_get_u32().map_err(wrong)? {
            protocols.push((take_text(bytes)?, take_bytes(bytes)?));
        }
        let assignment = take_bytes(bytes)?;
        Ok(Self { id, instance, client, session_timeout, rebalance_timeout, protocols, assignment })
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, UnreadableEntry> {
    let length = bytes.try_get_u32().map_err(|_| UnreadableEntry)? as usize;
    if length > bytes.len() {
        return Err(UnreadableEntry);
    }
    Ok(bytes.split_to(length))
}

fn take_text(bytes: &mut Bytes) -> Result<String, UnreadableEntry> {
    String::from_utf8(take_bytes(bytes)?.to_vec()).map_err(|_| UnreadableEntry)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offsets::OffsetKey;

    fn member(id: &str, instance: Option<&str>) -> StoredMember {
        StoredMember {
            id: id.into(),
            instance: instance.map(str::to_owned),
            client: ClientName { id: "client".into(), host: "/127.0.0.1".into() },
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_mins(5),
            protocols: vec![
                ("range".into(), Bytes::from_static(b"topics")),
                ("sticky".into(), Bytes::new()),
            ],
            assignment: Bytes::from_static(b"partitions"),
        }
    }

    #[test]
    fn groups_survive_and_cut_ones_are_unreadable() {
        let stable = StoredGroup::Stable {
            generation: 7,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            leader: "a".into(),
            members: vec![member("a", None), member("b", Some("")), member("c", Some("i"))],
        };
        for group in [StoredGroup::Empty { since_ms: 1_700_000_000_000 }, stable] {
            let bytes = group.encode();
            assert_eq!(StoredGroup::decode(bytes.clone()), Ok(group));
            for cut in 0..bytes.len() {
                assert_eq!(StoredGroup::decode(bytes.slice(..cut)), Err(UnreadableEntry));
            }
        }
    }

    /// Version 1, drawn in `docs/format/broker.md`, of a group that nobody is in.
    #[test]
    fn an_empty_group_stands_in_the_journal_as_it_is_drawn() {
        let key = Bytes::from_static(b"\xff\xff\xff\xffgroup");
        assert_eq!(key_of("group"), key);
        assert_eq!(group_of(&key), Ok("group".into()));
        let bytes = [
            &[1][..],                            // version
            &[0],                                // empty
            b"\x11\x12\x13\x14\x15\x16\x17\x18", // since when, ms
        ];
        let (bytes, group) =
            (Bytes::from(bytes.concat()), StoredGroup::Empty { since_ms: 0x1112_1314_1516_1718 });
        assert_eq!(group.encode(), bytes);
        assert_eq!(StoredGroup::decode(bytes), Ok(group));
    }

    /// The same of a group with members: they keep what they had assigned.
    #[test]
    fn a_group_with_members_stands_in_the_journal_as_it_is_drawn() {
        let named = [
            &b"\0\0\0\x06"[..], // length of the member's id
            b"member",
            &[1], // has an instance
            b"\0\0\0\x08",
            b"instance",
            b"\0\0\0\x09",
            b"client id",
            b"\0\0\0\x04",
            b"host",
            b"\x21\x22\x23\x24", // session timeout, ms
            b"\x31\x32\x33\x34", // rebalance timeout, ms
            b"\0\0\0\x02",       // protocols
            b"\0\0\0\x05",
            b"range",
            b"\0\0\0\x06",
            b"topics",
            b"\0\0\0\x06",
            b"sticky",
            b"\0\0\0\x05",
            b"owned",
            b"\0\0\0\x0a",
            b"assignment",
        ];
        let (before, behind) = (named[..2].concat(), named[5..].concat());
        let nameless = [
            &before[..],
            &[0],        // has no instance
            b"\0\0\0\0", // nor a name of one
            &behind,
        ];
        let bytes = [
            &[1][..],            // version
            &[1],                // has members
            b"\x11\x12\x13\x14", // generation
            b"\0\0\0\x08",
            b"consumer", // protocol type
            b"\0\0\0\x05",
            b"range", // protocol
            b"\0\0\0\x06",
            b"leader",
            b"\0\0\0\x02", // members
            &named.concat(),
            &nameless.concat(),
        ];
        let protocols = [("range", "topics"), ("sticky", "owned")];
        let member = StoredMember {
            id: "member".into(),
            instance: Some("instance".into()),
            client: ClientName { id: "client id".into(), host: "host".into() },
            session_timeout: Duration::from_millis(0x2122_2324),
            rebalance_timeout: Duration::from_millis(0x3132_3334),
            protocols: protocols.map(|(name, metadata)| (name.into(), metadata.into())).into(),
            assignment: "assignment".into(),
        };
        let group = StoredGroup::Stable {
            generation: 0x1112_1314,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            leader: "leader".into(),
            members: vec![member.clone(), StoredMember { instance: None, ..member }],
        };
        let bytes = Bytes::from(bytes.concat());
        assert_eq!(group.encode(), bytes);
        assert_eq!(StoredGroup::decode(bytes), Ok(group));
    }

    proptest! {
        #[test]
        fn no_key_is_of_a_group_and_of_an_offset(name in ".{0,40}", bytes: Vec<u8>) {
            let key = key_of(&name);
            prop_assert!(is_key(&key));
            prop_assert!(OffsetKey::decode(key.clone()).is_err());
            prop_assert!(!key.starts_with(&OffsetKey::group_prefix(&name)));
            prop_assert_eq!(group_of(&key), Ok(name));
            prop_assert!(!is_key(&bytes) || OffsetKey::decode(bytes.into()).is_err());
        }

        #[test]
        fn no_bytes_make_a_panic(bytes: Vec<u8>) {
            let _ = group_of(&bytes);
            let _ = StoredGroup::decode(Bytes::from(bytes));
        }
    }
}
