//! The auditor comes from outside, at any time, with nothing but a client: it finds everything in
//! the cluster, and what it cannot read it never calls complete (AUDIT-1).

use crate::support;

use core::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lossproof_audit::auditor::{Audit, Plan, Query, SinkRead, audit, audit_with_sinks};
use lossproof_audit::identity::{Identity, RecordId};
use lossproof_audit::receipt::{Disposition, Role, Stage};
use lossproof_audit::report::{LEASE, RECEIPTS_TOPIC, Reporter};
use lossproof_audit::verdict::{Blame, Mechanism, Outcome, SessionState};
use lossproof_client::memory::Cluster;
use lossproof_client::{Admin, ConsumeError, Rebalance, Record, TopicPartition, Watermarks};
use support::{DEAD, Journal, SECOND, World, dead_letter, record, ship, stamped, unstamped};

const RECORDS: u64 = 10;

fn send(cluster: &Cluster, records: impl IntoIterator<Item = Record>) {
    let mut producer = cluster.producer();
    for record in records {
        producer.send(record, 0).unwrap();
        assert!(producer.poll(SECOND).iter().all(|delivery| delivery.outcome.is_ok()));
    }
}

/// A member that reads from the beginning and keeps what it has when it leaves.
#[derive(Debug)]
struct FromTheBeginning;

impl Rebalance for FromTheBeginning {
    fn assigned(
        &mut self,
        _partition: &TopicPartition,
        committed: Option<i64>,
        watermarks: Watermarks,
    ) -> Result<i64, ConsumeError> {
        Ok(committed.unwrap_or(watermarks.low))
    }

    fn revoked(&mut self, _partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }

    fn lost(&mut self, _partitions: &[TopicPartition]) {}
}

fn commit(cluster: &Cluster, offset: i64) {
    let mut member = cluster.consumer("indexer", &["news"]);
    let mut first = None;
    for _ in 0..RECORDS {
        first = first.or(member.poll(SECOND, &mut FromTheBeginning).unwrap());
    }
    assert!(first.is_some(), "the member has got its partition");
    let place = TopicPartition { topic: "news".to_owned(), partition: 0 };
    member.commit(&[(place, offset)]).unwrap();
    member.close(&mut FromTheBeginning, Duration::ZERO).unwrap();
}

/// Ten messages, from the producer's yes to the committed offset; `dropped` is lost on the way
/// between topic and sink. A receipt every third record, so that there are several.
fn run(dropped: Option<u64>) -> (World, Cluster) {
    let (world, cluster) = (World::new(7), Cluster::new());
    cluster.create_topic("news", 1);
    let environment = &world.environment;
    let producer =
        Reporter::open(Journal::new(1), environment, Role::Producer, Vec::new()).unwrap();
    let session = producer.session();
    for seq in 0..RECORDS {
        producer.note(Stage::Accepted, &record(session, seq, None));
        producer.note(Stage::Sent, &record(session, seq, None));
        send(&cluster, [stamped(session, seq, 0)]);
        producer.note(Stage::Acked, &record(session, seq, Some(seq as i64)));
    }
    producer.seal().unwrap();
    ship(&producer, &cluster);

    let role = Role::Pipeline { group: "indexer".to_owned() };
    let pipeline = Reporter::open(Journal::new(2), environment, role, Vec::new()).unwrap();
    pipeline.announce(&mut *cluster.producer(), SECOND).unwrap();
    for seq in (0..RECORDS).filter(|seq| Some(*seq) != dropped) {
        for stage in [Stage::Delivered, Stage::Processed, Stage::Confirmed] {
            pipeline.note(stage, &record(session, seq, Some(seq as i64)));
        }
        if seq % 3 == 2 {
            pipeline.flush_durable().unwrap();
        }
    }
    pipeline.flush_durable().unwrap();
    commit(&cluster, RECORDS as i64);
    pipeline.seal().unwrap();
    ship(&pipeline, &cluster);
    (world, cluster)
}

/// LEDGER-6: a power cut takes a dead letter that was acknowledged from a page cache.
#[test]
fn dead_letters_are_read_where_the_receipts_say_that_they_are() {
    let (world, cluster) = run(Some(4));
    let session = shipped_session(&cluster);
    let role = Role::Pipeline { group: "indexer".to_owned() };
    let member = Reporter::open(Journal::new(3), &world.environment, role, Vec::new()).unwrap();
    let member = member.with_dead_letters(Some(DEAD.to_owned()));
    let reason = "HTTP 422";
    member.note_end(Disposition::DeadLettered, reason, &record(session, 4, Some(4)));
    member.seal().unwrap();
    ship(&member, &cluster);
    let verdict = || look(&world, &cluster, Plan::default(), None).verdict;
    assert_eq!(verdict().outcome, Outcome::Unknown, "{:#?}", verdict());
    cluster.create_topic(DEAD, 1);
    assert_eq!(verdict().lost[0].mechanism, Mechanism::DeadLetterMissing, "{:#?}", verdict());
    send(&cluster, [dead_letter(session, 4)]);
    assert_eq!(verdict().outcome, Outcome::Complete, "{:#?}", verdict());
}

fn look(world: &World, cluster: &Cluster, plan: Plan, query: Option<&Query>) -> Audit {
    audit(&mut *cluster.admin(), &*world.environment.clock, plan, query)
}

/// The test that the planted bug `receipt-lost` must fail: every receipt arrives, and the proof
/// is whole. With the bug the auditor says which receipt is missing.
#[test]
fn no_receipt_is_lost_in_silence() {
    let (world, cluster) = run(None);
    let verdict = look(&world, &cluster, Plan::default(), None).verdict;
    assert_eq!(verdict.unknown, [], "a receipt was lost");
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Complete, 0), "{verdict:#?}");
    let stages = &verdict.stages;
    assert_eq!((stages.accepted, stages.acked, stages.stored), (RECORDS, RECORDS, RECORDS));
    let group = &stages.groups[0];
    assert_eq!((group.delivered, group.confirmed, group.committed), (RECORDS, RECORDS, RECORDS));
}

#[test]
fn a_loss_is_named_and_its_way_is_shown() {
    let (world, cluster) = run(Some(4));
    let query = Query::Field { field: "id".to_owned(), value: "message-4".to_owned() };
    let found = look(&world, &cluster, Plan::default(), Some(&query));
    let verdict = &found.verdict;
    assert_eq!((verdict.outcome, verdict.lost.len()), (Outcome::Lost, 1), "{verdict:#?}");
    assert_eq!(verdict.lost[0].stage, Blame::Consumer);
    assert_eq!(verdict.lost[0].mechanism, Mechanism::Skipped);
    assert_eq!(verdict.lost[0].group.as_deref(), Some("indexer"));

    let traces = found.trace(&query);
    assert_eq!(traces.len(), 1);
    let reached: Vec<Stage> =
        traces[0].stages.iter().filter(|s| s.reached).map(|s| s.stage).collect();
    let expected = [Stage::Accepted, Stage::Sent, Stage::Acked, Stage::Stored, Stage::Committed];
    assert_eq!(reached, expected);
    assert_eq!((traces[0].copies.len(), traces[0].copies[0].offset), (1, 4));
    assert_eq!(traces[0].findings.len(), 1);

    let by_place: Query = "news-0-4".parse().unwrap();
    let again = look(&world, &cluster, Plan::default(), Some(&by_place));
    assert_eq!(again.trace(&by_place), traces);
    let by_id: Query = traces[0].id.parse().unwrap();
    assert_eq!(look(&world, &cluster, Plan::default(), Some(&by_id)).trace(&by_id), traces);
    let nobody: Query = "00000000000000aa-0-4".parse().unwrap();
    assert_eq!(look(&world, &cluster, Plan::default(), Some(&nobody)).trace(&nobody), []);
}

/// The sink is believed more than the receipts on it.
#[test]
fn a_sink_that_was_read_decides() {
    let (world, cluster) = run(None);
    let session = shipped_session(&cluster);
    let id = |seq| RecordId { session, lane: 0, seq }.to_string();
    let ids: Vec<String> = (0..RECORDS).filter(|seq| *seq != 6).map(id).collect();
    let query = Query::Field { field: "id".to_owned(), value: "message-4".to_owned() };
    let look = |ids: Vec<String>| {
        let plan = Plan { all_ended: true, ..Plan::default() };
        let found = vec![id(7)];
        let sink = SinkRead { group: "indexer".to_owned(), ids, found };
        let sinks = || Ok::<_, Infallible>(vec![sink]);
        let clock = &*world.environment.clock;
        let Ok(audit) = audit_with_sinks(&mut *cluster.admin(), clock, plan, Some(&query), sinks);
        let traced: Vec<String> = audit.trace(&query).into_iter().map(|trace| trace.id).collect();
        assert_eq!(traced, [id(4), id(7)], "one found in the topic, one in the sink");
        audit
    };
    let verdict = look(ids).verdict;
    assert_eq!((verdict.lost.len(), verdict.lost[0].stage), (1, Blame::Sink), "{verdict:#?}");
    assert_eq!(verdict.lost[0].ids.to_string(), id(6));
    let twice: Vec<String> = (0..RECORDS).chain([3]).map(id).collect();
    let verdict = look(twice).verdict;
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Duplicates, 4), "{verdict:#?}");
}

/// AUDIT-4: a session is not called crashed for what was not heard of it while the sink was read.
#[test]
fn a_session_lives_by_what_was_heard_of_it_when_the_receipts_were_read() {
    let (world, cluster) = run(None);
    let role = Role::Pipeline { group: "indexer".to_owned() };
    let member = Reporter::open(Journal::new(3), &world.environment, role, Vec::new()).unwrap();
    member.announce(&mut *cluster.producer(), SECOND).unwrap();
    let reading = 2 * LEASE;
    let sinks = || {
        world.clock.advance(reading);
        Ok::<_, Infallible>(Vec::new())
    };
    let clock = &*world.environment.clock;
    let began_ms = clock.wall_ms();
    let Ok(audit) = audit_with_sinks(&mut *cluster.admin(), clock, Plan::default(), None, sinks);
    let states: Vec<SessionState> = audit.verdict.sessions.iter().map(|s| s.state).collect();
    assert!(states.contains(&SessionState::Open), "{states:?}");
    assert!(!states.contains(&SessionState::Expired), "{states:?}");
    let took_ms = audit.verdict.wall_ms - began_ms;
    assert_eq!(took_ms, reading.as_millis() as i64, "the verdict is as old as it is");
}

/// The document of a record that nobody stamped proves nothing, and is shown all the same.
#[test]
fn what_only_the_sink_still_has_is_shown() {
    let (world, cluster) = run(None);
    let (query, id) = (Query::Field { field: "id".to_owned(), value: "7".to_owned() }, "news-0-77");
    let sink = SinkRead {
        group: "indexer".to_owned(),
        ids: vec![id.to_owned()],
        found: vec![id.to_owned()],
    };
    let (clock, plan) = (&*world.environment.clock, Plan::default());
    let sinks = || Ok::<_, Infallible>(vec![sink]);
    let Ok(audit) = audit_with_sinks(&mut *cluster.admin(), clock, plan, Some(&query), sinks);
    let traces = audit.trace(&query);
    assert_eq!((traces.len(), traces[0].id.as_str()), (1, id), "{traces:#?}");
    let reached: Vec<Stage> =
        traces[0].stages.iter().filter(|s| s.reached).map(|s| s.stage).collect();
    assert!(
        reached.contains(&Stage::Confirmed) && !reached.contains(&Stage::Stored),
        "{reached:?}"
    );
}

fn shipped_session(cluster: &Cluster) -> u64 {
    let receipts = support::shipped(cluster);
    receipts.iter().find(|receipt| receipt.role == Role::Producer).unwrap().session
}

fn assert_undecided(world: &World, cluster: &Cluster, why: &str) {
    let plan = Plan { topics: vec!["news".to_owned()], all_ended: true, ..Plan::default() };
    let verdict = look(world, cluster, plan, None).verdict;
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Unknown, 1), "{verdict:#?}");
    let told: Vec<&str> = verdict.unknown.iter().map(|u| u.silent.as_str()).collect();
    assert!(told.iter().any(|silent| silent.contains(why)), "{told:?}");
}

/// AUDIT-1
#[test]
fn what_cannot_be_read_is_unknown() {
    let (world, cluster) = (World::new(8), Cluster::new());
    cluster.create_topic("news", 1);
    send(&cluster, [unstamped(0)]);
    assert_undecided(&world, &cluster, "nobody has reported");

    let (world, cluster) = run(None);
    let junk =
        Record { topic: RECEIPTS_TOPIC.to_owned(), value: Some("junk".into()), ..unstamped(0) };
    send(&cluster, [junk]);
    assert_undecided(&world, &cluster, "receipt version");

    let (world, cluster) = run(None);
    cluster.set_reachable(false);
    assert_undecided(&world, &cluster, "not reachable");

    // What a group has committed: the question itself, or which partitions there are, fails.
    for refused in ["committed", "partitions of news"] {
        let (world, cluster) = run(None);
        let mut witness = Witness::new(&cluster);
        witness.refused = Some(refused.to_owned());
        let verdict = audit(&mut witness, &*world.environment.clock, Plan::default(), None).verdict;
        assert_eq!(verdict.outcome, Outcome::Unknown, "{refused}: {verdict:#?}");
        let about = |u: &lossproof_audit::verdict::Unknown| u.group.as_deref() == Some("indexer");
        assert!(verdict.unknown.iter().any(about), "{refused}: {verdict:#?}");
    }
}

#[test]
fn a_partition_that_cannot_be_read_does_not_hide_the_others() {
    let (world, cluster) = run(None);
    cluster.create_topic("other", 3);
    for partition in 0..3 {
        send(&cluster, [Record { topic: "other".to_owned(), partition, ..unstamped(0) }]);
    }
    let plan = || Plan { topics: vec!["other".to_owned()], ..Plan::default() };
    let stored = look(&world, &cluster, plan(), None).verdict.stages.stored;
    let mut witness = Witness::new(&cluster);
    witness.refused = Some("other-1".to_owned());
    let verdict = audit(&mut witness, &*world.environment.clock, plan(), None).verdict;
    assert_eq!((verdict.outcome, verdict.stages.stored), (Outcome::Unknown, stored - 1));
    let told: Vec<&str> = verdict.unknown.iter().map(|u| u.silent.as_str()).collect();
    assert!(told.iter().any(|silent| silent.contains("partition 1:")), "{told:?}");
}

#[test]
fn a_topic_that_is_not_there_is_not_complete() {
    let (world, cluster) = run(None);
    let plan = Plan { topics: vec!["nwes".to_owned()], ..Plan::default() };
    let verdict = look(&world, &cluster, plan, None).verdict;
    assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Unknown, 1), "{verdict:#?}");
}

#[test]
fn it_reads_topics_that_only_the_plan_names() {
    let (world, cluster) = run(None);
    cluster.create_topic("other", 1);
    send(&cluster, [Record { topic: "other".to_owned(), ..unstamped(0) }]);
    let plan = Plan {
        topics: vec!["other".to_owned()],
        groups: vec!["archiver".to_owned()],
        ..Plan::default()
    };
    let query =
        Query::Identity(Identity::Natural { topic: "other".to_owned(), partition: 0, offset: 0 });
    let found = look(&world, &cluster, plan, Some(&query));
    assert_eq!(found.verdict.outcome, Outcome::Waiting, "{:#?}", found.verdict);
    let waits = |waiting: &lossproof_audit::verdict::Waiting| {
        waiting.group.as_deref() == Some("archiver") && waiting.ids.to_string() == "other-0-0"
    };
    assert!(found.verdict.waiting.iter().any(waits), "{:#?}", found.verdict);
    assert_eq!(found.trace(&query)[0].copies[0].topic, "other");
}

/// Lets the auditor ask, and remembers in which order.
#[derive(Debug)]
struct Witness {
    inner: Box<dyn Admin>,
    asked: Arc<Mutex<Vec<String>>>,
    /// The first question of this kind is refused.
    refused: Option<String>,
}

impl Witness {
    fn new(cluster: &Cluster) -> Self {
        Self { inner: cluster.admin(), asked: Arc::default(), refused: None }
    }

    fn refuse(&mut self, question: &str) -> Result<(), ConsumeError> {
        match self.refused.take_if(|refused| refused == question) {
            Some(detail) => Err(ConsumeError::Refused { detail }),
            None => Ok(()),
        }
    }
}

impl Admin for Witness {
    fn partitions(&mut self, topic: &str) -> Result<Option<Vec<i32>>, ConsumeError> {
        self.refuse(&format!("partitions of {topic}"))?;
        self.inner.partitions(topic)
    }

    fn watermarks(&mut self, partition: &TopicPartition) -> Result<Watermarks, ConsumeError> {
        self.asked.lock().unwrap().push(partition.topic.clone());
        self.inner.watermarks(partition)
    }

    fn committed(
        &mut self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Option<i64>)>, ConsumeError> {
        self.refuse("committed")?;
        self.asked.lock().unwrap().push("committed".to_owned());
        self.inner.committed(group, partitions)
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: i64,
        to: i64,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), ConsumeError> {
        self.refuse(&format!("{}-{}", partition.topic, partition.partition))?;
        self.inner.read(partition, from, to, each)
    }

    fn create_topic(&mut self, topic: &str, _partitions: i32) -> Result<bool, ConsumeError> {
        panic!("AUDIT-3: the auditor makes a topic: {topic}");
    }
}

/// AUDIT-2; and AUDIT-3, where what it reads with can do nothing else.
#[test]
fn it_reads_commits_then_receipts_then_topics_then_sinks_and_writes_nothing() {
    let (world, cluster) = run(None);
    let mut witness = Witness::new(&cluster);
    let clock = &*world.environment.clock;
    let asked = Arc::clone(&witness.asked);
    let sinks = || {
        asked.lock().unwrap().push("sinks".to_owned());
        Ok::<_, Infallible>(Vec::new())
    };
    let Ok(audit) = audit_with_sinks(&mut witness, clock, Plan::default(), None, sinks);
    assert_eq!(audit.verdict.exit_code(), 0);
    let asked = asked.lock().unwrap();
    let last = |what: &str| asked.iter().rposition(|asked| asked == what).unwrap();
    let first = |what: &str| asked.iter().position(|asked| asked == what).unwrap();
    assert!(last("committed") < last(RECEIPTS_TOPIC), "{asked:?}");
    assert!(last(RECEIPTS_TOPIC) < first("news"), "{asked:?}");
    assert!(last("news") < first("sinks"), "{asked:?}");
}
