//! # Invariants
//!
//! - FETCH-1: only what is below the high watermark is given: acknowledged under the topic's
//!   policy; with read_committed only what is below the last stable offset, with all that was
//!   aborted of it by name.
//! - FETCH-2: the first batch given holds the offset that was asked for, and one batch is given
//!   even where it is larger than all limits, so that no consumer is stuck.
//! - FETCH-3: a range that is damaged or cannot be read is an error, and is never stepped over. The
//!   one of damage is CORRUPT_MESSAGE, which clients do not keep to themselves.
//! - FETCH-4: who says of which epoch its last record is, and has read beyond the end of that epoch
//!   here, gets no records but that end (KIP-595).
//! - FETCH-5: who waits looks at all of its partitions only after a frame that changed one of them:
//!   a thousand quiet partitions cost nothing while others are written.
//! - FETCH-6: who stands before a range that was given up, with nothing behind it, is given a batch
//!   without records that reaches over it: else who reads to the end would wait there for ever.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use lossproof_env::{Planted, planted};
use lossproof_log::{Log, PartitionId, PartitionView, ReadError, StoredBatch};
use lossproof_wire::batch::BatchBuilder;
use lossproof_wire::{
    AbortedTransaction, EpochEndOffset, ErrorCode, FetchPartition, FetchRequest, FetchResponse,
    FetchTopic, FetchableTopicResponse, PartitionData, Records, Uuid,
};
use tokio::sync::watch;

use super::last_words;
use crate::broker::{Broker, check_leader_epoch, find_partition, find_topic};
use crate::budget::{SMALL_ANSWER_BYTES, Share};
use crate::call::{Call, Reply};
use crate::connection::drained;
use crate::error::read_error;
use crate::fetch_sessions::SessionStep;

const FIRST_WITH_IDS: i16 = 13;
const READ_COMMITTED: i8 = 1;
/// Wait no longer than this, whatever the request says.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// The same with memory that others may need. Consumers ask for as much where nobody has set it.
const LARGE_WAIT_MAX: Duration = Duration::from_millis(500);
/// What a partition and a topic, beside its name, take in memory.
const PARTITION_BYTES: usize = 80;
const TOPIC_BYTES: usize = 64;

/// A fetch with its topics looked up.
#[derive(Clone, Debug)]
struct Plan {
    topics: Vec<PlannedTopic>,
    bytes_max: usize,
    committed: bool,
}

#[derive(Clone, Debug)]
struct PlannedTopic {
    name: String,
    id: Uuid,
    partitions: Vec<(FetchPartition, Result<PartitionId, ErrorCode>)>,
}

impl Plan {
    /// Twice: what is read, and where much else is in the memory it was read into, its copy.
    fn share_bytes(&self) -> usize {
        self.bytes_max.saturating_mul(2)
    }
}

/// When a fetch that waits has to look at its partitions again: not for what others write.
struct Watch {
    frames: watch::Receiver<u64>,
    /// The last frame there was when it looked.
    looked_at: Option<u64>,
    /// Made when it comes to waiting: most fetches are answered at once.
    wanted: Option<HashSet<PartitionId>>,
}

impl Watch {
    fn new(log: &Log) -> Self {
        Self { frames: log.watch(), looked_at: None, wanted: None }
    }

    /// FETCH-5. Before anything is looked at: what is written meanwhile is seen the next time.
    fn must_look(&mut self, log: &Log, plan: &Plan) -> bool {
        let frame = *self.frames.borrow_and_update();
        let Some(before) = self.looked_at.replace(frame) else { return true };
        let wanted = self.wanted.get_or_insert_with(|| {
            let partitions = plan.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.filter_map(|(_, id)| id.ok()).collect()
        });
        log.has_changed(before, |id| wanted.contains(&id))
    }
}

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let mut request: FetchRequest = call.decode()?;
        last_words(
            &mut request.topics,
            |topic| (&topic.topic, topic.topic_id, &mut topic.partitions),
            |wanted| wanted.partition,
        );
        let by_id = call.version >= FIRST_WITH_IDS;
        let (request, session) = match broker.fetch_sessions.begin(request, by_id) {
            Ok(begun) => begun,
            Err(error_code) => {
                return call.late(&FetchResponse { error_code, ..Default::default() });
            }
        };
        if let SessionStep::Next { id, .. } = session
            && !covers(&broker, &mut call.share, &request)
        {
            // A full request waits until there is room.
            broker.fetch_sessions.forget(id);
            let error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
            return call.late(&FetchResponse { error_code, ..Default::default() });
        }
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
        let plan = plan(&broker, request, call.version);
        // As in Apache Kafka: no more than can come, and for nothing nobody waits.
        let bytes_min = bytes_min.min(plan.bytes_max);
        let waits = bytes_min > 0 && !plan.topics.is_empty();
        let wait = if waits { wait.min(wait_max(&call.share)) } else { Duration::ZERO };
        let (response, share) = poll(&broker, Arc::new(plan), bytes_min, wait).await;
        call.late_with(&broker.fetch_sessions.end(session, response), share)
    }))
}

/// Makes a share cover the full request that one of a session stands for, where there is room
/// (BUDGET-6).
fn covers(broker: &Broker, share: &mut Share, request: &FetchRequest) -> bool {
    let of_topic = |topic: &FetchTopic| {
        TOPIC_BYTES + topic.topic.len() + topic.partitions.len() * PARTITION_BYTES
    };
    let bytes = request.topics.iter().map(of_topic).sum();
    share.try_grow_small(bytes) || broker.budget.try_grow(share, bytes)
}

/// BUDGET-4.
fn wait_max(share: &Share) -> Duration {
    match (share.is_small(), share.is_on_reserve()) {
        (true, _) => WAIT_MAX,
        (false, false) => LARGE_WAIT_MAX,
        (false, true) => Duration::ZERO,
    }
}

fn plan(broker: &Broker, request: FetchRequest, version: i16) -> Plan {
    let catalog = broker.topics.catalog();
    let topics = request.topics.into_iter().map(|topic| {
        let found = find_topic(&catalog, version >= FIRST_WITH_IDS, &topic.topic, topic.topic_id);
        let partitions = topic.partitions.into_iter().map(|partition| {
            let id = find_partition(&found, partition.partition);
            (partition, id)
        });
        let partitions = partitions.collect();
        PlannedTopic { name: topic.topic, id: topic.topic_id, partitions }
    });
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0);
    Plan {
        topics: topics.collect(),
        bytes_max: bytes_max.min(broker.config.fetch_bytes_max),
        committed: request.isolation_level == READ_COMMITTED,
    }
}

/// Reads until there is enough, something is wrong, time is up or the broker ends.
async fn poll(
    broker: &Arc<Broker>,
    plan: Arc<Plan>,
    bytes_min: usize,
    wait: Duration,
) -> (FetchResponse, Share) {
    let deadline = broker.env.clock.monotonic().saturating_add(wait);
    let mut watch = Watch::new(&broker.log);
    let mut draining = broker.draining.clone();
    loop {
        let must_look = watch.must_look(&broker.log, &plan);
        let left = deadline.saturating_sub(broker.env.clock.monotonic());
        let last = left.is_zero() || *draining.borrow();
        let wanted = if last { 1 } else { bytes_min.max(1) as u64 };
        if (must_look || last) && has_news(broker, &plan, wanted) {
            let mut share = Share::default();
            if !broker.answers.try_grow(&mut share, plan.share_bytes())
                && let Some(response) = read_small(broker, &plan).await
            {
                return (response, share); // BUDGET-5
            }
            let (response, share) = read(broker, Arc::clone(&plan), share).await;
            if last || is_enough(&response, bytes_min) {
                return (response, share);
            }
        } else if last {
            return (read_all(broker, &plan), Share::default());
        }
        tokio::select! {
            changed = watch.frames.changed() => if changed.is_err() {
                // The log is closed: nothing will come any more.
                return (read_all(broker, &plan), Share::default());
            },
            () = broker.env.clock.sleep(left) => {}
            () = drained(&mut draining) => {}
        }
    }
}

/// Whether a read would give an error, or so many bytes as far as the index tells: nothing is read
/// to find out.
fn has_news(broker: &Broker, plan: &Plan, bytes_min: u64) -> bool {
    let mut bytes = 0;
    for (wanted, id) in plan.topics.iter().flat_map(|topic| &topic.partitions) {
        let view = id.as_ref().ok().and_then(|id| Some((*id, broker.log.partition(*id)?)));
        let Some((id, view)) = view else { return true };
        let bounds = view.log_start..=view.high_watermark;
        if !bounds.contains(&wanted.fetch_offset)
            || check_leader_epoch(wanted.current_leader_epoch, view.leader_epoch).is_err()
            || divergence(broker, wanted, id) != Ok(None)
        {
            return true;
        }
        if wanted.fetch_offset < readable_end(&view, plan.committed) {
            bytes += broker.log.bytes_from(id, wanted.fetch_offset, bytes_min);
            if bytes >= bytes_min || !view.damaged.is_empty() {
                return true;
            }
        }
    }
    false
}

/// FETCH-4: where the epoch of the reader's last record ended here, if it has read beyond that.
fn divergence(
    broker: &Broker,
    wanted: &FetchPartition,
    id: PartitionId,
) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = broker.log.epoch_end(id, wanted.last_fetched_epoch);
    // Apache Kafka calls an epoch that has not been yet out of range, which would make a reader
    // begin somewhere else; this one it asks again on, as for all others (EPOCH-END-1).
    let end = end.map_err(|error| read_error(&error))?.ok_or(ErrorCode::UNKNOWN_LEADER_EPOCH)?;
    let diverges =
        end.leader_epoch < wanted.last_fetched_epoch || end.end_offset < wanted.fetch_offset;
    let diverging = EpochEndOffset { epoch: end.leader_epoch, end_offset: end.end_offset };
    Ok(diverges.then_some(diverging))
}

/// FETCH-1: where what may be given ends.
fn readable_end(view: &PartitionView, committed: bool) -> i64 {
    if committed { view.last_stable } else { view.high_watermark }
}

fn is_enough(response: &FetchResponse, bytes_min: usize) -> bool {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let is_told = |partition: &PartitionData| {
        !partition.error_code.is_none() || partition.diverging_epoch != EpochEndOffset::default()
    };
    bytes_of(response) >= bytes_min || partitions.any(is_told)
}

/// What is small enough to need no share.
async fn read_small(broker: &Arc<Broker>, plan: &Plan) -> Option<FetchResponse> {
    let bytes_max = plan.bytes_max.min(SMALL_ANSWER_BYTES / 2);
    let small = Plan { bytes_max, ..plan.clone() };
    // A single batch may be large, so only few are read at a time.
    let response = broker.decode(move |broker| read_all(broker, &small)).await.ok()?;
    (bytes_of(&response) <= bytes_max).then_some(response)
}

async fn read(broker: &Arc<Broker>, plan: Arc<Plan>, mut share: Share) -> (FetchResponse, Share) {
    broker.answers.grow(&mut share, plan.share_bytes()).await;
    let reader = Arc::clone(broker);
    let read = tokio::task::spawn_blocking(move || {
        let response = read_all(&reader, &plan);
        // Held by the read itself, which runs to its end even if nobody waits (BUDGET-1).
        share.shrink(bytes_of(&response).saturating_mul(2));
        (response, share)
    });
    read.await.unwrap_or_else(|panic| {
        tracing::error!(%panic, "reading for a fetch failed");
        let error_code = ErrorCode::UNKNOWN_SERVER_ERROR;
        (FetchResponse { error_code, ..Default::default() }, Share::default())
    })
}

fn bytes_of(response: &FetchResponse) -> usize {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.records.as_ref().map_or(0, Records::len)).sum()
}

fn read_all(broker: &Broker, plan: &Plan) -> FetchResponse {
    let mut left = Allowance { bytes: plan.bytes_max, nothing_yet: true, is_used_up: false };
    let responses = plan.topics.iter().map(|topic| FetchableTopicResponse {
        topic: topic.name.clone(),
        topic_id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .map(|(wanted, id)| read_partition(broker, wanted, *id, plan.committed, &mut left))
            .collect(),
    });
    FetchResponse { responses: responses.collect(), ..Default::default() }
}

/// What an answer may still take.
struct Allowance {
    bytes: usize,
    nothing_yet: bool,
    /// The next batch did not fit: further partitions are told of, and not read.
    is_used_up: bool,
}

impl Allowance {
    /// How many of the batches of a partition there is room for.
    fn take<'a>(&mut self, batches: impl Iterator<Item = &'a StoredBatch>, limit: usize) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for batch in batches {
            // FETCH-2: the very first batch goes whatever its size.
            let with_it = bytes + batch.bytes.len();
            if !self.nothing_yet && with_it > limit {
                self.is_used_up = with_it > self.bytes;
                break;
            }
            self.nothing_yet = false;
            (count, bytes) = (count + 1, with_it);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_used_up |= self.bytes == 0 && !self.nothing_yet;
        count
    }
}

/// The batches as they were read, unless they hold over a quarter more memory than they fill.
fn records_of(batches: &[StoredBatch], held: usize) -> Records {
    let bytes = batches.iter().map(|batch| batch.bytes.len()).sum::<usize>();
    let mut records = Records::default();
    if held <= bytes + bytes / 4 {
        for batch in batches {
            records.push(batch.bytes.clone());
        }
        return records;
    }
    let mut copy = BytesMut::with_capacity(bytes);
    for batch in batches {
        copy.extend_from_slice(&batch.bytes);
    }
    copy.freeze().into()
}

/// FETCH-6: over what was given up alone; anything else that is missing has been an error by now.
fn without_any(from: i64, end: i64, leader_epoch: i32) -> Records {
    if from >= end {
        return Records::default();
    }
    let delta = i32::try_from(end - 1 - from).unwrap_or(i32::MAX);
    let empty = BatchBuilder::new().base_offset(from).reaching(delta).leader_epoch(leader_epoch);
    empty.build().map(Records::from).unwrap_or_default()
}

fn read_partition(
    broker: &Broker,
    wanted: &FetchPartition,
    id: Result<PartitionId, ErrorCode>,
    committed: bool,
    left: &mut Allowance,
) -> PartitionData {
    let refuse = |error_code| PartitionData {
        partition_index: wanted.partition,
        error_code,
        high_watermark: -1,
        records: Some(Records::default()),
        ..Default::default()
    };
    let id = match id {
        Ok(id) => id,
        Err(error_code) => return refuse(error_code),
    };
    let Some(view) = broker.log.partition(id) else {
        return refuse(ErrorCode::KAFKA_STORAGE_ERROR);
    };
    if let Err(error_code) = check_leader_epoch(wanted.current_leader_epoch, view.leader_epoch) {
        return refuse(error_code);
    }
    let bounds = without_records(wanted, &view, committed);
    let diverging = match divergence(broker, wanted, id) {
        Ok(diverging) => diverging,
        Err(error_code) => return refuse(error_code),
    };
    if let Some(diverging_epoch) = diverging.filter(|_| wanted.fetch_offset >= view.log_start) {
        return PartitionData { diverging_epoch, ..bounds };
    }
    let is_inside = (view.log_start..=view.high_watermark).contains(&wanted.fetch_offset);
    if left.is_used_up && is_inside {
        return bounds;
    }
    let limit = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(left.bytes);
    let slice = match broker.log.read(id, wanted.fetch_offset, limit) {
        Ok(slice) => slice,
        Err(error) => {
            broker.tell_of_fetch(id, &error); // FETCH-3
            let log_start_offset = log_start_at(&error, &view);
            return PartitionData { log_start_offset, ..refuse(read_error(&error)) };
        }
    };
    // The view is older than the slice: what was stable then is so with all of its markers.
    let stable_only = committed && !planted(Planted::OpenTransactionShown);
    let end = if stable_only { view.last_stable } else { slice.high_watermark };
    let skipped = |from| planted(Planted::MidBatchSkipped) && from < wanted.fetch_offset;
    let first = slice.batches.iter().take_while(|batch| skipped(batch.base_offset)).count();
    let batches = slice.batches.get(first..).unwrap_or_default();
    let count = left.take(batches.iter().take_while(|batch| batch.last_offset < end), limit);
    let batches = batches.get(..count).unwrap_or_default();
    let next = batches.last().map_or(wanted.fetch_offset, |last| last.last_offset + 1);
    let aborted = committed.then(|| aborted(broker, id, wanted.fetch_offset, next));
    let aborted_transactions = match aborted.transpose() {
        Ok(aborted) => aborted,
        Err(error) => return refuse(read_error(&error)),
    };
    PartitionData {
        high_watermark: slice.high_watermark,
        aborted_transactions,
        log_start_offset: slice.log_start,
        records: Some(match &*slice.batches {
            [] => without_any(wanted.fetch_offset, end.min(slice.next_offset), view.leader_epoch),
            _ => records_of(batches, slice.held),
        }),
        ..bounds
    }
}

/// Something may have been removed since the view was taken.
fn log_start_at(error: &ReadError, view: &PartitionView) -> i64 {
    match error {
        ReadError::OffsetOutOfRange { log_start, .. } => *log_start,
        _ => view.log_start,
    }
}

fn without_records(
    wanted: &FetchPartition,
    view: &PartitionView,
    committed: bool,
) -> PartitionData {
    PartitionData {
        partition_index: wanted.partition,
        high_watermark: view.high_watermark,
        last_stable_offset: view.last_stable,
        aborted_transactions: committed.then(Vec::new),
        log_start_offset: view.log_start,
        records: Some(Records::default()),
        ..Default::default()
    }
}

/// Those that a committed reader needs for `from` to `to`, by first offset.
fn aborted(
    broker: &Broker,
    id: PartitionId,
    from: i64,
    to: i64,
) -> Result<Vec<AbortedTransaction>, ReadError> {
    let aborted = broker.log.aborted(id, from, to)?.into_iter();
    let aborted = aborted.map(|it| AbortedTransaction {
        producer_id: it.producer_id,
        first_offset: it.first_offset,
    });
    Ok(aborted.collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use lossproof_env::{Environment, SimDisk};
    use lossproof_log::{Commit, FlushPolicy, LogConfig, PartitionChange};
    use lossproof_wire::batch::BatchBuilder;

    use super::*;

    /// FETCH-5.
    #[test]
    fn who_waits_looks_again_only_after_a_change_in_its_own_partitions() {
        let env = Environment { disk: Arc::new(SimDisk::new()), ..Environment::real() };
        let opened = Log::open_stepped(&env, Path::new("/data"), LogConfig::small());
        let (log, mut stepper, _) = opened.expect("a log");
        let mut put = |commit| assert!(stepper.submit(vec![commit])[0].is_ok());
        let [mine, other] = [PartitionId(1), PartitionId(2)];
        for id in [mine, other] {
            let (topic_id, flush) = ([7; 16], FlushPolicy::Commit);
            let change = PartitionChange::Create { id, topic_id, index: 0, flush };
            put(Commit::partition(change));
        }
        let partitions = vec![(FetchPartition::default(), Ok(mine))];
        let topic = PlannedTopic { name: "t".to_owned(), id: Uuid::default(), partitions };
        let plan = Plan { topics: vec![topic], bytes_max: 1, committed: false };
        let mut watch = Watch::new(&log);
        assert!(watch.must_look(&log, &plan), "at first");
        for (id, must_look) in [(other, false), (mine, true), (other, false), (mine, true)] {
            let mut batch = BatchBuilder::new();
            batch.push(0, None, Some(b"x"), &[]);
            let batch = batch.build().expect("a batch");
            put(Commit::append(id, batch));
            assert!(watch.frames.has_changed().expect("open"), "every frame wakes it");
            assert_eq!(watch.must_look(&log, &plan), must_look, "after a batch in {id}");
        }
    }

    #[test]
    fn little_of_what_was_read_is_copied_and_most_of_it_is_sent_as_it_is() {
        const HELD: usize = 100_000;
        let read = Bytes::from(vec![7; HELD]);
        for (length, is_copied) in [(100, true), (79_999, true), (80_000, false), (HELD, false)] {
            let bytes = read.slice(..length);
            let batch = StoredBatch { base_offset: 0, last_offset: 0, bytes, identity: None };
            let sent = records_of(&[batch], HELD).into_bytes();
            assert_eq!(sent, read.slice(..length));
            assert_eq!(sent.as_ptr() != read.as_ptr(), is_copied, "{length} bytes");
        }
    }
}
