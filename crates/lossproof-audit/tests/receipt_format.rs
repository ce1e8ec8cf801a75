//! RECEIPT-1, RECEIPT-2, RECEIPT-3: a receipt survives its bytes, damaged bytes are refused, and
//! a receipt on 1,000 records is small.

use lossproof_audit::interval::IntervalSet;
use lossproof_audit::receipt::{
    DecodeError, Disposition, Entry, Kind, LaneEnd, LaneId, Mark, Place, Receipt, ReceiptNumber,
    Role, Stage,
};
use proptest::prelude::*;

fn set() -> impl Strategy<Value = IntervalSet> {
    let number = prop_oneof![0..1000_u64, any::<u64>()];
    prop::collection::vec((number, 0..50_u64), 0..6).prop_map(|ranges| {
        let mut set = IntervalSet::new();
        for (first, more) in ranges {
            set.insert_range(first, first.saturating_add(more));
        }
        set
    })
}

fn lane() -> impl Strategy<Value = LaneId> {
    (prop_oneof![Just(7_u64), any::<u64>()], any::<u32>())
        .prop_map(|(session, lane)| LaneId { session, lane })
}

fn place() -> impl Strategy<Value = Place> {
    ("[a-z.]{0,12}", any::<i32>()).prop_map(|(topic, partition)| Place { topic, partition })
}

fn mark() -> impl Strategy<Value = Mark> {
    let stage = prop::sample::select(Stage::ALL.to_vec());
    let disposition = prop::sample::select(Disposition::ALL.to_vec());
    prop_oneof![
        4 => stage.clone().prop_map(Mark::Reached),
        1 => stage.prop_map(Mark::Unknown),
        1 => (disposition, ".{0,30}")
            .prop_map(|(disposition, reason)| Mark::Ended { disposition, reason }),
        1 => any::<i64>().prop_map(|wall_ms| Mark::Began { wall_ms }),
        1 => Just(Mark::DeadLettersIn),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (mark(), prop::option::of(lane()), place(), set(), set()).prop_map(
        |(mark, lane, place, seqs, offsets)| {
            let seqs = if lane.is_some() { seqs } else { IntervalSet::new() };
            Entry { mark, lane, place, seqs, offsets }
        },
    )
}

fn lane_end() -> impl Strategy<Value = LaneEnd> {
    (lane(), place(), any::<u64>(), set()).prop_map(|(lane, place, end, pending)| LaneEnd {
        lane,
        place,
        end,
        pending,
    })
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Producer),
        Just(Role::UnsafeProducer),
        ".{0,20}".prop_map(|group| Role::Pipeline { group }),
        ".{0,20}".prop_map(|group| Role::UnsafePipeline { group }),
    ]
}

fn receipt() -> impl Strategy<Value = Receipt> {
    let kind = prop::sample::select(vec![
        Kind::Opened,
        Kind::Ongoing,
        Kind::Heartbeat,
        Kind::Sealed,
        Kind::Recovered,
    ]);
    let head = (kind, any::<u64>(), any::<u64>(), role(), any::<i64>(), any::<u64>());
    let lists = (prop::collection::vec(lane_end(), 0..4), prop::collection::vec(entry(), 0..8));
    (head, lists, any::<u64>(), 0..100_u64).prop_map(
        |(head, (lane_ends, entries), number, merged)| {
            let (kind, reporter, incarnation, role, wall_ms, lease_ms) = head;
            Receipt {
                kind,
                reporter,
                incarnation,
                session: 7,
                role,
                wall_ms,
                lease_ms,
                number: ReceiptNumber(number),
                merged: merged.min(number),
                lane_ends,
                entries,
            }
        },
    )
}

fn sorted(mut receipt: Receipt) -> Receipt {
    receipt.entries.sort();
    receipt.entries.dedup();
    receipt
}

proptest! {
    #[test]
    fn a_receipt_survives_its_bytes(receipt in receipt()) {
        let back = Receipt::decode(&receipt.encode()).expect("RECEIPT-1");
        prop_assert_eq!(sorted(back), sorted(receipt));
    }

    #[test]
    fn a_flipped_bit_is_refused(
        receipt in receipt(),
        place in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        let mut bytes = receipt.encode();
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        prop_assert!(Receipt::decode(&bytes).is_err(), "RECEIPT-1");
    }

    /// With a checksum that fits, so that the parser itself is reached.
    #[test]
    fn hostile_bytes_are_refused_or_read_but_never_more(
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = vec![1];
        bytes.extend(body);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_be_bytes());
        let _ = Receipt::decode(&bytes);
    }

    #[test]
    fn a_changed_byte_under_a_fitting_checksum_does_no_harm(
        receipt in receipt(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = receipt.encode();
        bytes.truncate(bytes.len() - 4);
        let place = 1 + place.index(bytes.len() - 1);
        bytes[place] = byte;
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_be_bytes());
        let _ = Receipt::decode(&bytes);
    }
}

/// What a pipeline says of 1,000 records of one lane and partition.
fn thousand_records(stages: &[Stage]) -> Receipt {
    let entry = |stage: &Stage| Entry {
        mark: Mark::Reached(*stage),
        lane: Some(LaneId { session: 0xfeed_feed_feed_feed, lane: 3 }),
        place: Place::new("news-articles", 3),
        seqs: IntervalSet::of(1_000_000, 1_000_999),
        offsets: IntervalSet::of(2_000_000, 2_000_999),
    };
    Receipt {
        kind: Kind::Ongoing,
        reporter: 1,
        incarnation: 4,
        session: 2,
        role: Role::Pipeline { group: "news-indexer".to_owned() },
        wall_ms: 1_795_000_000_000,
        lease_ms: 10_000,
        number: ReceiptNumber(12_345),
        merged: 0,
        lane_ends: Vec::new(),
        entries: stages.iter().map(entry).collect(),
    }
}

#[test]
fn a_receipt_on_a_thousand_records_is_at_most_a_tenth_of_a_byte_each() {
    let stages = [Stage::Delivered, Stage::Processed, Stage::Confirmed];
    let size = thousand_records(&stages).encode().len();
    assert!(size <= 100, "RECEIPT-3: {size} bytes for 1,000 records and three stages");
}

/// Fixture of format version 1: the same bytes must be read for ever.
#[test]
fn version_1_is_read() {
    let receipt = thousand_records(&[Stage::Delivered, Stage::Confirmed]);
    let bytes = include_bytes!("fixtures/receipt-v1.bin");
    assert_eq!(Receipt::decode(bytes).map(sorted), Ok(sorted(receipt.clone())));
    assert_eq!(receipt.encode(), bytes, "a change of the format needs a new version");
}

#[test]
fn an_unknown_version_says_so() {
    let mut bytes = thousand_records(&[Stage::Delivered]).encode();
    bytes[0] = 2;
    assert_eq!(Receipt::decode(&bytes), Err(DecodeError::UnknownVersion { found: 2, known: 1 }));
    assert_eq!(Receipt::decode(&[1, 2]), Err(DecodeError::Checksum));
}
