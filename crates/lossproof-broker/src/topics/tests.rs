//! How topics are named and how they are kept.

use proptest::prelude::*;

use super::*;
use crate::tests::{server, small_config, topic};

const TOPIC_ID: [u8; 16] = *b"0123456789abcdef";
const NEXT: u64 = 0x4142_4344_4546_4748;

/// A topic as it stands in the journal, with this code of its flush policy.
fn stored(flush: u8) -> (Bytes, Bytes) {
    let value = [
        &[1][..],                            // version
        b"0123456789abcdef",                 // topic id
        &[flush],                            // flush policy
        b"\0\0\0\x02",                       // partitions
        b"\x21\x22\x23\x24\x25\x26\x27\x28", // id of the first
        b"\x31\x32\x33\x34\x35\x36\x37\x38", // id of the second
        b"\0\0\0\x02",                       // settings
        b"\0\0\0\x0e",
        b"cleanup.policy",
        b"\0\0\0\x07",
        b"compact",
        b"\0\0\0\x0c",
        b"retention.ms",
        b"\0\0\0\x02",
        b"77",
    ];
    (Bytes::from_static(b"topic/name"), value.concat().into())
}

/// What [`stored`] says.
fn meant(flush: FlushPolicy) -> Topic {
    let entries = [("cleanup.policy", "compact"), ("retention.ms", "77")];
    let entries = entries.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = TopicConfig::from_entries(entries.into());
    Topic {
        name: "name".into(),
        id: TopicId(TOPIC_ID),
        partitions: [0x2122_2324_2526_2728, 0x3132_3334_3536_3738].map(PartitionId).into(),
        flush,
        settings: TopicSettings::of(&config, &TopicConfig::default()),
        config,
    }
}

/// Version 1, drawn in `docs/format/broker.md`: a start that took it for something else would lose
/// sight of partitions.
#[test]
fn a_topic_stands_in_the_journal_as_it_is_drawn() {
    let policies =
        [FlushPolicy::Commit, FlushPolicy::UnsafeEverySecond, FlushPolicy::UnsafePageCache];
    for (code, flush) in (0..).zip(policies) {
        let ((key, value), topic) = (stored(code), meant(flush));
        let set = |key, value| StateChange { kind: StateKind::Metadata, key, value: Some(value) };
        let next = set(Bytes::from_static(b"next-partition-id"), Bytes::from_static(b"ABCDEFGH"));
        assert_eq!(creation(&topic, 0, NEXT).changes, [set(key, value.clone()), next]);
        assert_eq!(decode(b"name", value, &TopicConfig::default()), Ok(topic));
    }
    for (at, wrong) in [(0, 0), (0, 2), (17, 3)] {
        let mut value = stored(0).1.to_vec();
        value[at] = wrong;
        let decoded = decode(b"name", value.into(), &TopicConfig::default());
        assert_eq!(decoded, Err(UnreadableEntry), "{wrong} at {at}");
    }
}

/// By their keys as well, and so is the partition id that goes on behind them.
#[tokio::test]
async fn what_is_drawn_is_found_by_a_start() {
    let (server, _net) = server().await;
    let log = &server.broker.log;
    let next = (Bytes::from_static(b"next-partition-id"), Bytes::from_static(b"ABCDEFGH"));
    for (key, value) in [stored(2), next] {
        let commit = Commit::state(StateKind::Metadata, key, Some(value));
        log.commit(commit).await.expect("durable");
    }
    let rng = Arc::new(lossproof_env::SeededRng::new(1));
    let topics = Topics::open(log.clone(), rng, &small_config()).expect("it is readable");
    let found = topics.catalog().by_name("name").cloned().expect("it is there");
    assert_eq!(found.partitions, meant(FlushPolicy::UnsafePageCache).partitions);
    let new = topics.create(topic("new", 1)).await.expect("a topic");
    assert_eq!(new.partitions, [PartitionId(NEXT)]);
    log.close().await.expect("the log closes");
}

#[test]
fn names_are_checked() {
    for name in ["a", "A.b_c-9", "_lossproof.receipts"] {
        assert_eq!(check_name(name), Ok(()));
    }
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "\u{e4}", &long] {
        assert!(matches!(check_name(name), Err(TopicError::InvalidName { .. })), "{name}");
    }
}

proptest! {
    #[test]
    fn topics_survive(name in "[a-z]{1,9}", id: [u8; 16], ids: Vec<u64>, flush in 0..3_u8,
                      entries: BTreeMap<String, String>) {
        let flush = match flush {
            0 => FlushPolicy::Commit,
            1 => FlushPolicy::UnsafeEverySecond,
            _ => FlushPolicy::UnsafePageCache,
        };
        let partitions = ids.into_iter().map(PartitionId).collect();
        let config = TopicConfig::from_entries(entries);
        let none = TopicConfig::default();
        let settings = TopicSettings::of(&config, &none);
        let topic = Topic { name, id: TopicId(id), partitions, flush, config, settings };
        prop_assert_eq!(decode(topic.name.as_bytes(), encode(&topic), &none), Ok(topic));
    }

    #[test]
    fn no_bytes_make_a_panic(bytes: Vec<u8>) {
        let _ = decode(b"t", Bytes::from(bytes), &TopicConfig::default());
    }
}
