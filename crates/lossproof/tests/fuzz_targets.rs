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

use std::path::Path;

use lossproof_audit::interval::IntervalSet;
use lossproof_audit::receipt::{
    Entry, Kind, LaneId, Mark, Place, Receipt, ReceiptNumber, Role, Stage,
};
use lossproof_wire::batch::{BatchBuilder, Compression, RecordHeader};
use lossproof_wire::samples::{Seeded, mutate, probes};

fn rounds(default: u64) -> u64 {
    let name = "LOSSPROOF_FUZZ_ROUNDS";
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Each of the valid inputs holds what its target promises; they are kept for the fuzzer if asked.
fn begin_with(target: &str, mut check: impl FnMut(&[u8]), valid: &[Vec<u8>]) {
    let folder = std::env::var_os("LOSSPROOF_FUZZ_CORPUS").map(|all| Path::new(&all).join(target));
    if let Some(folder) = &folder {
        std::fs::create_dir_all(folder).expect("a folder for the corpus");
    }
    for (number, input) in valid.iter().enumerate() {
        check(input);
        if let Some(folder) = &folder {
            let path = folder.join(format!("valid-{number:04}"));
            std::fs::write(path, input).expect("room for the corpus");
        }
    }
}

/// Of every message in every version one.
fn valid_messages(random: &mut Seeded) -> Vec<Vec<u8>> {
    let mut valid = Vec::new();
    for (choice, probe) in probes().iter().enumerate() {
        for version in probe.versions() {
            let body = probe.sample(&random.bytes(60), version).expect("a served version");
            valid.push([&[choice as u8, version as u8], &body[..]].concat());
        }
    }
    valid
}

#[test]
fn any_bytes_as_a_message() {
    let mut random = Seeded(1);
    let valid = valid_messages(&mut random);
    begin_with("messages", messages::check, &valid);
    for _ in 0..rounds(2_000) {
        let (choice, body) = valid[random.below(valid.len())].split_at(2);
        // Now and then as another version than the one that it was made for.
        let other = [choice[0], random.below(20) as u8];
        let choice = if random.below(4) == 0 { &other } else { choice };
        messages::check(&[choice, &mutate(body, &mut random)].concat());
    }
}

/// In each compression: of one record and of several, of an idempotent producer, of a transaction,
/// and the end of one.
fn valid_batches() -> Vec<Vec<u8>> {
    let mut valid = Vec::new();
    let header = [RecordHeader::new("header", "x")];
    for compression in Compression::ALL {
        let builder = || BatchBuilder::new().compression(compression);
        let producer = || builder().producer(7, 1, 5);
        let [mut one, mut three, mut idempotent] = [builder(), builder(), producer()];
        let mut transactional = producer().transactional(true);
        let mut end = producer().transactional(true).control(true);
        one.push(7, None, Some(b"value"), &[]);
        for number in 0..3 {
            three.push(7 + number, Some(b"key"), Some(&[b'v'; 90]), &header);
        }
        idempotent.push(7, Some(b"key"), None, &header);
        transactional.push(7, None, Some(b"value"), &[]);
        end.push(7, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 0]), &[]);
        let builders = [one, three, idempotent, transactional, end];
        valid.extend(builders.map(|builder| builder.build().expect("a batch").to_vec()));
    }
    valid
}

#[test]
fn any_bytes_as_a_record_batch() {
    let mut random = Seeded(2);
    let valid = valid_batches();
    begin_with("record_batch", record_batch::check, &valid);
    for round in 0..rounds(1_000) {
        record_batch::check(&mutate(&valid[round as usize % valid.len()], &mut random));
    }
}

fn valid_receipt() -> Vec<u8> {
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
    valid.encode()
}

#[test]
fn any_bytes_as_a_receipt() {
    let sealed = valid_receipt();
    assert!(Receipt::decode(&sealed).is_ok());
    let body = &sealed[..sealed.len() - 4];
    begin_with("receipt", receipt::check, &[sealed.clone(), body.to_vec()]);
    let mut random = Seeded(3);
    for _ in 0..rounds(5_000) {
        receipt::check(&mutate(body, &mut random));
    }
}

/// Few bytes somewhere, as decay does; many, as a wrong restore does; and sectors from elsewhere.
fn draw_pieces(random: &mut Seeded) -> Vec<u8> {
    let mut pieces = Vec::new();
    for _ in 0..=random.below(3) {
        let place = random.bytes(4);
        let is_copied = place[0] & 0x80 != 0;
        let length = 1 + random.below(if is_copied { 32 } else { 200 });
        pieces.extend(place);
        pieces.push(length as u8);
        // A copy tells the place that it is from.
        pieces.extend(random.bytes(if is_copied { 4 } else { length }));
    }
    pieces
}

#[test]
fn any_bytes_in_the_files_of_a_journal() {
    let mut random = Seeded(4);
    let mut some = vec![Vec::new()];
    some.extend((0..20).map(|_| draw_pieces(&mut random)));
    some.push(journal::without_end());
    let (mut opened, mut tried) = (0, 0);
    let mut check = |input: &[u8]| {
        tried += 1;
        opened += usize::from(journal::check(input));
    };
    begin_with("journal", &mut check, &some);
    for _ in 0..rounds(150) {
        check(&draw_pieces(&mut random));
    }
    assert!(
        10 * opened >= 9 * tried,
        "only {opened} of {tried} opened: nothing was read of others"
    );
}
