//! The targets of the fuzzer (fuzz/README.md) on seeds, with a stable compiler: so they do not rot,
//! and what they promise holds here too. `LOSSPROOF_FUZZ_ROUNDS` sets how many inputs of each.

#![allow(clippy::indexing_slicing, unreachable_pub)]

#[path = "../../../fuzz/src/journal.rs"]
mod journal;
#[path = "../../../fuzz/src/messages.rs"]
mod messages;
#[path = "../../../fuzz/src/receipt.rs"]
mod receipt;
#[path = "../../../fuzz/src/record_batch.rs"]
mod record_batch;

use lossproof_audit::interval::IntervalSet;
use lossproof_audit::receipt::{
    Entry, Kind, LaneId, Mark, Place, Receipt, ReceiptNumber, Role, Stage,
};
use lossproof_wire::batch::{BatchBuilder, Compression};
use lossproof_wire::samples::{Seeded, mutate, probes};

fn rounds(default: u64) -> u64 {
    let name = "LOSSPROOF_FUZZ_ROUNDS";
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn any_bytes_as_a_message() {
    let mut random = Seeded(1);
    let probes = probes();
    for _ in 0..rounds(2_000) {
        let choice = random.below(probes.len());
        let version = random.below(20);
        let draw = random.bytes(60);
        let valid = probes[choice].sample(&draw, version as i16).unwrap_or(draw);
        let body = mutate(&valid, &mut random);
        messages::check(&[&[choice as u8, version as u8], &body[..]].concat());
    }
}

#[test]
fn any_bytes_as_a_record_batch() {
    let mut random = Seeded(2);
    for round in 0..rounds(1_000) {
        let compression = Compression::ALL[round as usize % Compression::ALL.len()];
        let mut builder = BatchBuilder::new().compression(compression);
        for _ in 0..=random.below(3) {
            let length = random.below(100);
            builder.push(7, None, Some(&random.bytes(length)), &[]);
        }
        record_batch::check(&mutate(&builder.build().unwrap(), &mut random));
    }
}

#[test]
fn any_bytes_as_a_receipt() {
    let mut seqs = IntervalSet::new();
    seqs.insert_range(3, 900);
    let entry = |mark| Entry {
        mark,
        lane: Some(LaneId { session: 7, lane: 1 }),
        place: Place::new("news", 3),
        seqs: seqs.clone(),
        offsets: seqs.clone(),
    };
    let valid = Receipt {
        kind: Kind::Ongoing,
        reporter: 1,
        incarnation: 2,
        session: 7,
        role: Role::Producer,
        wall_ms: 1_700_000_000_000,
        lease_ms: 60_000,
        number: ReceiptNumber(5),
        merged: 1,
        lane_ends: Vec::new(),
        entries: Stage::ALL.map(|stage| entry(Mark::Reached(stage))).to_vec(),
    };
    let sealed = valid.encode();
    assert!(Receipt::decode(&sealed).is_ok());
    let body = &sealed[..sealed.len() - 4];
    let mut random = Seeded(3);
    for _ in 0..rounds(5_000) {
        receipt::check(&mutate(body, &mut random));
    }
}

/// Few bytes somewhere, as decay does; many, as a wrong restore does.
#[test]
fn any_bytes_in_the_files_of_a_journal() {
    let mut random = Seeded(4);
    for _ in 0..rounds(150) {
        let mut pieces = Vec::new();
        for _ in 0..=random.below(3) {
            let length = 1 + random.below(200);
            pieces.extend(random.bytes(4));
            pieces.push(length as u8);
            pieces.extend(random.bytes(length));
        }
        journal::check(&pieces);
    }
}
