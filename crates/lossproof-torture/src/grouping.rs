//! Two members of one group: they are given the records that are written, and commit; one of them
//! leaves again and again, and comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use crate::broker::PARTITIONS;
use crate::client::{self, REQUEST_TIMEOUT};
use crate::failure::{Context, Failure};
use crate::ledger::Judgement;
use crate::load::{Ending, Shared};
use crate::members::{Holding, Members, Partition};
use crate::transacting;

const GROUP: &str = "torture-members";
/// Records after which a member commits, where nothing speaks against it.
pub(crate) const COMMIT_EVERY: u64 = 20;
/// Records after which the second member leaves.
const LEAVE_EVERY: u64 = 200;
const POLL: Duration = Duration::from_millis(20);
/// A poll tells of one rebalance at most, as if there was nothing.
const LEAVE_POLLS_QUIET: u32 = 3;
const LEAVE_POLLS_MAX: u32 = 500;
/// Of short life: who was killed must not hold up the members of the next load. The broker accepts
/// no shorter one.
const SESSION_MS: &str = "1000";
/// A member learns by it that others have come or gone.
const HEARTBEAT_MS: &str = "30";

/// What a member holds, which changes within its polls.
struct Member {
    members: Arc<Members>,
    holding: Mutex<Option<Holding>>,
}

impl Member {
    fn lock(&self) -> MutexGuard<'_, Option<Holding>> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Member {
    /// That the broker is away is what this is about.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Member {
    /// Before it fetches anything: what is committed later is committed by itself.
    fn pre_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut holding = self.lock();
        if let Rebalance::Assign(list) = rebalance {
            if holding.is_some() {
                self.members.rebalanced();
            }
            let starts = partitions(list).map(|it| (it.clone(), self.members.committed(&it)));
            holding.get_or_insert_default().assign(starts.collect());
        } else if let Some(holding) = holding.as_mut() {
            holding.revoke();
        }
    }
}

fn partitions(list: &TopicPartitionList) -> impl Iterator<Item = Partition> {
    let names = list.elements().into_iter().map(|it| (it.topic().to_owned(), it.partition()));
    names.collect::<Vec<_>>().into_iter()
}

fn config(bootstrap: &str) -> rdkafka::ClientConfig {
    let mut config = client::consumer(bootstrap);
    config.set("group.id", GROUP);
    config.set("session.timeout.ms", SESSION_MS).set("heartbeat.interval.ms", HEARTBEAT_MS);
    config.set("partition.assignment.strategy", "range");
    config
}

/// Commits the beginning of every partition, before anybody joins: librdkafka asks once more where
/// it begins when the answer is that of an earlier assignment, also where it has begun by then
/// (`rd_kafka_toppar_handle_Offset` of 2.12.1), and a member was given all of it twice.
pub(crate) fn begin(bootstrap: &str, topics: &[&str]) -> Result<(), Failure> {
    // With a usual session, and so long waits.
    let mut config = client::consumer(bootstrap);
    let consumer: BaseConsumer =
        config.set("group.id", GROUP).create().context("start a consumer")?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in topics.iter().flat_map(|it| (0..PARTITIONS).map(move |n| (*it, n))) {
        let first = Offset::Offset(0);
        list.add_partition_offset(topic, partition, first).context("commit the beginning")?;
    }
    consumer.commit(&list, CommitMode::Sync).context("commit the beginning")
}

/// Is a member until the load is to end; with `leaves` not of one piece.
pub(crate) fn take_part(shared: &Shared, leaves: bool, commit_every: u64) -> Result<(), Failure> {
    while shared.ending() == Ending::NotYet {
        let member = Member { members: Arc::clone(&shared.members), holding: Mutex::default() };
        let consumer: BaseConsumer<Member> = config(&shared.bootstrap)
            .create_with_context(member)
            .context("start a member of a group")?;
        consumer.subscribe(&[client::TOPIC, transacting::TOPIC]).context("subscribe")?;
        consume(shared, &consumer, leaves, commit_every)?;
        leave(&consumer);
    }
    Ok(())
}

/// Where the broker is there to hear it. Who is dropped while he is still to be told of a rebalance
/// waits for ever: librdkafka takes no assignment any more once it is closed, and says nothing.
fn leave(consumer: &BaseConsumer<Member>) {
    consumer.unsubscribe();
    let mut quiet = 0;
    for _ in 0..LEAVE_POLLS_MAX {
        let holds_nothing = consumer.assignment().is_ok_and(|list| list.count() == 0);
        let is_quiet = consumer.poll(POLL).is_none() && holds_nothing;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet == LEAVE_POLLS_QUIET {
            return;
        }
    }
}

fn consume(
    shared: &Shared,
    consumer: &BaseConsumer<Member>,
    leaves: bool,
    commit_every: u64,
) -> Result<(), Failure> {
    let mut given = 0;
    while shared.ending() == Ending::NotYet && !(leaves && given >= LEAVE_EVERY) {
        let message = match consumer.poll(POLL) {
            Some(Ok(message)) => message,
            Some(Err(error)) if error.rdkafka_error_code() == Some(Code::AutoOffsetReset) => {
                shared.members.find(format!("a member cannot go on where it was: {error}"));
                continue;
            }
            // Other errors are those of a broker that is away.
            _ => continue,
        };
        let partition = (message.topic().to_owned(), message.partition());
        // Markers and what was aborted take offsets, too.
        let is_dense = message.topic() == client::TOPIC;
        let member = consumer.context();
        let mut holding = member.lock();
        let holding = holding.get_or_insert_default();
        if let Some(what) = holding.take(&partition, message.offset(), is_dense) {
            member.members.find(what);
        }
        given += 1;
        let news = if given % commit_every == 0 { holding.news() } else { Vec::new() };
        commit(&shared.members, consumer, news)?;
    }
    Ok(())
}

/// One partition at a time: librdkafka calls a commit good in which one of several was refused.
fn commit(
    members: &Members,
    consumer: &BaseConsumer<Member>,
    news: Vec<(Partition, i64)>,
) -> Result<(), Failure> {
    for (partition, offset) in news {
        let mut list = TopicPartitionList::new();
        let place = Offset::Offset(offset);
        list.add_partition_offset(&partition.0, partition.1, place).context("commit")?;
        members.ask(&partition, offset);
        // An error leaves open whether it is committed; that of a member whose partitions went to
        // another one in the meantime is as it must be.
        if consumer.commit(&list, CommitMode::Sync).is_ok() {
            members.acknowledged(&partition, offset);
        }
    }
    Ok(())
}

/// Judges what the members were given, and what is committed for their group.
pub(crate) fn verify(bootstrap: &str, members: &Members) -> Result<Judgement, Failure> {
    let partitions = members.partitions();
    if partitions.is_empty() {
        return Ok(members.judge(&BTreeMap::new()));
    }
    let consumer: BaseConsumer = config(bootstrap).create().context("start a consumer")?;
    let mut list = TopicPartitionList::new();
    for (topic, partition) in &partitions {
        list.add_partition(topic, *partition);
    }
    let answer = consumer.committed_offsets(list, REQUEST_TIMEOUT).context("committed offsets")?;
    let mut found = BTreeMap::new();
    for element in answer.elements() {
        element.error().context("a committed offset")?;
        if let Offset::Offset(offset) = element.offset() {
            found.insert((element.topic().to_owned(), element.partition()), offset);
        }
    }
    Ok(members.judge(&found))
}
