//! The group in memory deals partitions as a broker does: nobody owns a partition before its
//! former owner has given it up (MEMORY-3), who was thrown out commits nothing (MEMORY-4), and
//! every record reaches the group.

use std::collections::BTreeSet;
use std::time::Duration;

use lossproof_client::memory::{Cluster, CommitFault};
use lossproof_client::{
    CommitError, ConsumeError, LogConsumer, Rebalance, Record, TopicPartition, Watermarks,
};

#[derive(Default)]
struct Seen {
    owned: BTreeSet<i32>,
    revoked: usize,
    lost: usize,
    /// Next to read, per partition, for `revoked` to commit.
    next: Vec<(TopicPartition, i64)>,
}

impl Rebalance for Seen {
    fn assigned(
        &mut self,
        place: &TopicPartition,
        committed: Option<i64>,
        watermarks: Watermarks,
    ) -> Result<i64, ConsumeError> {
        assert!(self.owned.insert(place.partition));
        Ok(committed.unwrap_or(watermarks.low))
    }

    fn revoked(&mut self, places: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        self.revoked += 1;
        assert!(places.iter().all(|place| self.owned.remove(&place.partition)));
        std::mem::take(&mut self.next)
    }

    fn lost(&mut self, places: &[TopicPartition]) {
        self.lost += 1;
        assert!(places.iter().all(|place| self.owned.remove(&place.partition)));
        self.next.clear();
    }
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition { topic: "news".into(), partition }
}

fn cluster_of(partitions: i32, records: i64) -> Cluster {
    let cluster = Cluster::new();
    cluster.create_topic("news", partitions);
    for number in 0..records {
        let partition = i32::try_from(number).unwrap() % partitions;
        let value = Some(number.to_string().into());
        let record = Record { topic: "news".into(), partition, value, ..Record::default() };
        cluster.append(record).expect("the partition is there");
    }
    cluster
}

fn poll(consumer: &mut dyn LogConsumer, seen: &mut Seen) -> Option<Record> {
    let record = consumer.poll(Duration::ZERO, seen).expect("nothing fails here")?;
    assert!(seen.owned.contains(&record.partition));
    let next = (place(record.partition), record.offset + 1);
    seen.next.retain(|(held, _)| *held != next.0);
    seen.next.push(next);
    Some(record)
}

#[test]
fn partitions_change_hands_only_after_they_were_given_up() {
    let cluster = cluster_of(4, 8);
    let (mut first, mut one) = (cluster.consumer("g", &["news"]), Seen::default());
    for _ in 0..2 {
        assert!(poll(&mut *first, &mut one).is_none());
    }
    assert_eq!(one.owned.len(), 4);
    let read: Vec<_> = (0..4).map(|_| poll(&mut *first, &mut one).unwrap().partition).collect();
    assert_eq!(read, [0, 1, 2, 3]);

    let (mut second, mut two) = (cluster.consumer("g", &["news"]), Seen::default());
    assert!(poll(&mut *second, &mut two).is_none());
    assert!(poll(&mut *second, &mut two).is_none());
    assert!(two.owned.is_empty(), "the first member still holds them all");
    assert!(poll(&mut *first, &mut one).is_none());
    assert!(one.owned.is_empty() && one.revoked == 1);
    assert_eq!(cluster.committed("g", &place(3)), Some(1));
    poll(&mut *first, &mut one);
    poll(&mut *second, &mut two);
    assert_eq!((one.owned.clone(), two.owned.clone()), ([0, 2].into(), [1, 3].into()));
    let rest: Vec<_> = (0..2).map(|_| poll(&mut *second, &mut two).unwrap().offset).collect();
    assert_eq!(rest, [1, 1]);

    first.close(&mut one, Duration::ZERO).unwrap();
    for _ in 0..2 {
        poll(&mut *second, &mut two);
    }
    assert_eq!(two.owned.len(), 4);
}

#[test]
fn who_was_thrown_out_learns_it_and_commits_nothing() {
    let cluster = cluster_of(1, 2);
    let (mut member, mut seen) = (cluster.consumer("g", &["news"]), Seen::default());
    while poll(&mut *member, &mut seen).is_none() {}
    cluster.expire_member("g", 0);
    assert_eq!(member.commit(&[(place(0), 1)]), Err(CommitError::Fenced));
    assert_eq!(cluster.committed("g", &place(0)), None);
    assert!(poll(&mut *member, &mut seen).is_none());
    assert_eq!((seen.lost, seen.revoked), (1, 0));
    let again = (0..4).find_map(|_| poll(&mut *member, &mut seen)).expect("it joins again");
    assert_eq!(again.offset, 0);
}

#[test]
fn commit_faults_pause_and_a_position_that_is_gone() {
    let cluster = cluster_of(1, 4);
    let (mut member, mut seen) = (cluster.consumer("g", &["news"]), Seen::default());
    while poll(&mut *member, &mut seen).is_none() {}
    cluster.script_commits([
        CommitFault::Retriable,
        CommitFault::Refuse,
        CommitFault::RetriableStored,
    ]);
    assert!(matches!(member.commit(&[(place(0), 1)]), Err(CommitError::Retriable { .. })));
    assert!(matches!(member.commit(&[(place(0), 1)]), Err(CommitError::Refused { .. })));
    assert_eq!(cluster.committed("g", &place(0)), None);
    assert!(matches!(member.commit(&[(place(0), 1)]), Err(CommitError::Retriable { .. })));
    assert_eq!(cluster.committed("g", &place(0)), Some(1));

    member.pause(&[place(0)]).unwrap();
    assert!(poll(&mut *member, &mut seen).is_none());
    member.resume(&[place(0)]).unwrap();
    assert_eq!(poll(&mut *member, &mut seen).unwrap().offset, 1);

    cluster.delete_records(&place(0), 3);
    let gone = ConsumeError::OutOfRange { partition: place(0), offset: 2 };
    assert_eq!(member.poll(Duration::ZERO, &mut seen), Err(gone));
    assert_eq!(member.poll(Duration::ZERO, &mut seen), Ok(None), "it never jumps by itself");
}
