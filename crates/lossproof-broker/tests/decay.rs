//! Bytes of the journal decay: what they held is an error from then on, never nothing.

use crate::common;

use std::path::{Path, PathBuf};

use common::{Broker, Client, records, values_of};
use lossproof_env::SimDisk;
use lossproof_wire::*;

const VALUES: [&str; 3] = ["a", "b", "c"];
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
        let is_harmless = whole && error == ErrorCode::NONE;
        *(if is_harmless { &mut harmless } else { &mut told }) += 1;
        broker.stop().await;
    }
    assert!(told > 10, "{refused} starts refused, {told} told, {harmless} harmless");
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
