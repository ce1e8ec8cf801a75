//! Bytes of the journal decay: what they held is an error from then on, never nothing.

use crate::common;

use std::path::{Path, PathBuf};

use common::producer::{Producer, committed_in};
use common::{Broker, Client, records, values_of};
use lossproof_env::SimDisk;
use lossproof_wire::*;

const VALUES: [&str; 3] = ["a", "b", "c"];
/// Of a topic of transactions, what is committed; one more was aborted, between the two.
const COMMITTED: [&str; 2] = ["yes", "after"];
/// Bytes between two places that are damaged, a prime: every kind of byte is met.
const STRIDE: usize = 29;

/// The journal of a broker that was stopped in order, and where in which file it is written.
async fn written() -> (SimDisk, Vec<(PathBuf, usize)>) {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for value in VALUES {
        client.produce("t", 0, records(&[value])).await;
    }
    assert_eq!(client.commit("g", "t", 0, 2).await, ErrorCode::NONE);
    client.create("x", 1).await;
    let mut producer = Producer::new(&broker, "id").await;
    for (sequence, value, is_committed) in [(0, "yes", true), (1, "no", false)] {
        assert_eq!(producer.add("x", &[0]).await, [ErrorCode::NONE]);
        assert_eq!(producer.send("x", 0, sequence, &[value]).await, ErrorCode::NONE);
        assert_eq!(producer.end(is_committed).await, ErrorCode::NONE);
    }
    client.produce("x", 0, records(&["after"])).await;
    assert_eq!(client.committed_values("x").await, COMMITTED);
    let disk = broker.stop().await.power_cut();
    let mut places = Vec::new();
    for path in disk.paths() {
        let bytes = disk.bytes(&path).unwrap_or_default();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        places.extend((0..used).step_by(STRIDE).map(|at| (path.clone(), at)));
    }
    (disk, places)
}

fn damage(disk: &SimDisk, path: &Path, at: usize) {
    let byte = disk.bytes(path).expect("it was there")[at];
    disk.damage(path, at as u64, &[!byte]).expect("a file");
}

/// FETCH-3: a record or an error, never silence and never a later record instead.
async fn fetch_gives_it_or_says_so(client: &mut Client) -> bool {
    let mut whole = true;
    for (offset, value) in (0..).zip(VALUES) {
        let data = client.fetch("t", 0, offset).await;
        let values = values_of(&data.records.unwrap_or_default().into_bytes(), offset);
        let given = data.error_code == ErrorCode::NONE;
        assert!(
            !given || values.first().is_some_and(|found| found == value),
            "FETCH-3: {values:?}"
        );
        whole &= given;
    }
    whole
}

/// What is committed, in its order, as far as it is given; where that is not all, an offset is an
/// error. What was aborted is never among it.
async fn committed_is_given_or_told(client: &mut Client, place: &str) -> bool {
    let (mut values, mut next) = (vec![], 0);
    loop {
        let data = client.fetch_committed("x", next).await;
        if data.error_code != ErrorCode::NONE {
            break;
        }
        let (more, after) = committed_in(data, next);
        if after == next {
            break;
        }
        values.extend(more);
        next = after;
    }
    let seen: Vec<&str> = values.iter().map(String::as_str).collect();
    assert!(COMMITTED.starts_with(&seen), "{place}: {seen:?}");
    let is_whole = seen == COMMITTED;
    let mut is_told = false;
    for offset in 0..5 {
        is_told |= client.fetch("x", 0, offset).await.error_code != ErrorCode::NONE;
    }
    assert!(is_whole || is_told, "{place}: {seen:?} is all that is shown, and nobody says so");
    is_whole
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_and_never_nothing() {
    let (disk, places) = written().await;
    let (mut refused, mut told, mut harmless) = (0, 0, 0);
    for (path, at) in places {
        let disk = disk.power_cut();
        damage(&disk, &path, at);
        let Ok(broker) = Broker::try_on(disk, |_| {}).await else {
            refused += 1;
            continue;
        };
        let mut client = broker.client().await;
        let place = format!("{} at {at}", path.display());
        let (offset, error) = client.committed("g", "t", 0).await;
        assert!(error != ErrorCode::NONE || offset == 2, "OFFSET-FETCH-1: {place}: {offset}");
        let made = client.create("t", 1).await.error_code;
        assert_ne!(made, ErrorCode::NONE, "TOPIC-5: {place}: a second topic of the same name");
        let whole = fetch_gives_it_or_says_so(&mut client).await;
        let committed = committed_is_given_or_told(&mut client, &place).await;
        let is_harmless = whole && committed && error == ErrorCode::NONE;
        *(if is_harmless { &mut harmless } else { &mut told }) += 1;
        broker.stop().await;
    }
    assert!(told > 10, "{refused} starts refused, {told} told, {harmless} harmless");
    assert_eq!(refused, 0, "one byte keeps no broker from its start");
}

/// TOPIC-4.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_make_the_same_topic_one_is_told_that_it_exists() {
    let broker = Broker::start().await;
    let (mut one, mut two) = (broker.client().await, broker.client().await);
    for round in 0..20 {
        let name = format!("t{round}");
        let (first, second) = tokio::join!(one.create(&name, 1), two.create(&name, 1));
        let mut codes = [first.error_code, second.error_code];
        codes.sort_by_key(|code| code.0);
        assert_eq!(codes, [ErrorCode::NONE, ErrorCode::TOPIC_ALREADY_EXISTS], "TOPIC-4");
    }
    broker.stop().await;
}

/// FETCH-3. After KAFKA_STORAGE_ERROR clients look for another leader, and wait without a word.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_damaged_record_is_told_that_it_is_corrupt() {
    let broker = Broker::start().await;
    let mut client = broker.client().await;
    client.create("t", 1).await;
    for value in ["first", "second", "third"] {
        client.produce("t", 0, records(&[value])).await;
    }
    let disk = broker.stop().await.power_cut();
    let place = |path: PathBuf| {
        let at = disk.bytes(&path).ok()?.windows(6).position(|it| it == b"second")?;
        Some((path, at))
    };
    let (path, at) = disk.paths().into_iter().find_map(place).expect("it is stored");
    damage(&disk, &path, at);
    let broker = Broker::try_on(disk, |_| {}).await.expect("one byte keeps none from its start");
    let mut client = broker.client().await;
    let mut codes = Vec::new();
    for offset in 0..3 {
        codes.push(client.fetch("t", 0, offset).await.error_code);
    }
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::CORRUPT_MESSAGE, ErrorCode::NONE]);
    broker.stop().await;
}
