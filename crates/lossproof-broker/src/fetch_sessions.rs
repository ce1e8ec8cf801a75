//! Fetch sessions (KIP-227): a consumer of many partitions names them once, and then only what has
//! changed; it is answered with what is new.
//!
//! A session turns the request of a consumer into the full one that it stands for, and takes out
//! of the full answer what the consumer knows already; reading knows nothing of it.
//!
//! # Invariants
//!
//! - SESSION-1: nothing is left out of an answer but partitions that have no records, no error, no
//!   end of an epoch, and the same offsets as last told.
//! - SESSION-2: each request of a session carries the next epoch; any other is refused and changes
//!   nothing.
//! - SESSION-3: sessions and their partitions are bounded. Where there is no room a consumer gets
//!   session id 0 and goes on with full requests.
//! - SESSION-4: a partition that gave records is asked last the next time, so that no partition
//!   starves behind others that fill every answer.
//! - SESSION-5: ids are drawn, so that a consumer that goes on with a session of before a restart
//!   is not given what another one asks for today, and with it steps over records.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lossproof_env::{Clock, Planted, Rng, planted};
use lossproof_wire::{
    EpochEndOffset, ErrorCode, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
    PartitionData, Uuid,
};

use crate::topics::NAME_CHARS_MAX;

/// As `max.incremental.fetch.session.cache.slots` of Apache Kafka.
const SESSIONS_MAX: usize = 1_000;
/// Of all sessions together; one takes about 150 bytes, and shares the name of its topic.
const PARTITIONS_MAX: usize = 100_000;
/// As Apache Kafka: a session that was used more recently is not taken away from its consumer.
const EVICTION_AGE: Duration = Duration::from_mins(2);

/// No session, or the end of one.
const FINAL_EPOCH: i32 = -1;
/// A new session.
const INITIAL_EPOCH: i32 = 0;

/// What a fetch is to its session; given by [`FetchSessions::begin`], taken by
/// [`FetchSessions::end`].
#[derive(Debug)]
pub(crate) enum SessionStep {
    /// It has none.
    Alone,
    /// It wants one.
    First { by_id: bool, partitions: Vec<SessionPartition> },
    /// It goes on with one.
    Next { id: i32, epoch: i32 },
}

/// A partition that a session asks for.
#[derive(Clone, Debug)]
pub(crate) struct SessionPartition {
    topic: Arc<str>,
    topic_id: Uuid,
    wanted: FetchPartition,
    /// What the consumer was told last; `None`: nothing, or what is told always.
    told: Option<Told>,
}

/// The offsets of a partition as a consumer knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start: i64,
}

#[derive(Debug)]
struct Session {
    /// Topics are named by id, and not by name.
    by_id: bool,
    next_epoch: i32,
    used: Duration,
    partitions: Vec<SessionPartition>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<i32, Session>,
    /// Of all sessions.
    partitions: usize,
}

#[derive(Debug)]
pub(crate) struct FetchSessions {
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    inner: Mutex<Inner>,
}

impl FetchSessions {
    pub(crate) fn new(clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { clock, rng, inner: Mutex::default() }
    }

    /// The full request that a request stands for.
    pub(crate) fn begin(
        &self,
        request: FetchRequest,
        by_id: bool,
    ) -> Result<(FetchRequest, SessionStep), ErrorCode> {
        let id = request.session_id;
        let mut inner = self.lock();
        match request.session_epoch {
            FINAL_EPOCH => {
                inner.remove(id);
                Ok((request, SessionStep::Alone))
            }
            INITIAL_EPOCH => {
                inner.remove(id);
                if !can_be_kept(&request) {
                    return Ok((request, SessionStep::Alone)); // SESSION-3
                }
                let partitions = partitions_of(&request.topics);
                Ok((request, SessionStep::First { by_id, partitions }))
            }
            _ if !can_be_kept(&request) => {
                inner.remove(id); // SESSION-3: the client begins a new one, or none.
                Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
            }
            epoch => {
                let now = self.clock.monotonic();
                let topics = inner.go_on(now, &request, by_id)?;
                let request = FetchRequest { topics, ..request };
                Ok((request, SessionStep::Next { id, epoch }))
            }
        }
    }

    /// Its consumer begins a new one, with a full request.
    pub(crate) fn forget(&self, id: i32) {
        self.lock().remove(id);
    }

    /// What is to be sent of the full answer.
    pub(crate) fn end(&self, step: SessionStep, mut response: FetchResponse) -> FetchResponse {
        let now = self.clock.monotonic();
        let mut inner = self.lock();
        match step {
            SessionStep::Alone => {}
            SessionStep::First { by_id, partitions } => {
                if !response.error_code.is_none() || !inner.make_room(now, partitions.len()) {
                    return response; // SESSION-3
                }
                let session = Session { by_id, next_epoch: INITIAL_EPOCH, used: now, partitions };
                response.session_id = inner.insert(session, self.rng.next_u64());
                inner.answered(now, response.session_id, INITIAL_EPOCH, &mut response);
            }
            SessionStep::Next { id, epoch } => {
                if inner.answered(now, id, epoch, &mut response) {
                    response.session_id = id;
                }
            }
        }
        response
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Under the id that was drawn, or the next one that is free (SESSION-5).
    fn insert(&mut self, session: Session, drawn: u64) -> i32 {
        let mut id = ((drawn >> 33) as i32).max(1);
        // Ends: there are far fewer sessions than ids.
        while self.sessions.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        self.partitions += session.partitions.len();
        self.sessions.insert(id, session);
        id
    }

    fn remove(&mut self, id: i32) {
        let removed = self.sessions.remove(&id);
        self.partitions -= removed.map_or(0, |session| session.partitions.len());
    }

    /// SESSION-3.
    fn make_room(&mut self, now: Duration, partitions: usize) -> bool {
        while self.sessions.len() >= SESSIONS_MAX || self.partitions + partitions > PARTITIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used);
            match oldest.map(|(id, session)| (*id, now.saturating_sub(session.used))) {
                Some((id, idle)) if idle >= EVICTION_AGE => self.remove(id),
                _ => return false,
            }
        }
        true
    }

    /// Takes over what a request changes, and gives all that the session asks for.
    fn go_on(
        &mut self,
        now: Duration,
        request: &FetchRequest,
        by_id: bool,
    ) -> Result<Vec<FetchTopic>, ErrorCode> {
        let id = request.session_id;
        let session = self.sessions.get_mut(&id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.by_id != by_id {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        if session.next_epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH); // SESSION-2
        }
        session.next_epoch = next_epoch(session.next_epoch);
        session.used = now;
        self.partitions -= session.partitions.len();
        session.change(request);
        self.partitions += session.partitions.len();
        let topics = topics_of(&session.partitions);
        if self.partitions > PARTITIONS_MAX {
            self.remove(id); // SESSION-3: the client begins a new one, if it can have one.
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        Ok(topics)
    }

    /// Leaves in the answer to the request of `epoch` what is new, and keeps what has been told.
    /// False: there is no such session any more, and the answer stays a full one.
    fn answered(
        &mut self,
        now: Duration,
        id: i32,
        epoch: i32,
        response: &mut FetchResponse,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if epoch == INITIAL_EPOCH {
            session.next_epoch = next_epoch(epoch);
        } else if session.next_epoch != next_epoch(epoch) || !response.error_code.is_none() {
            // The consumer did not wait for this answer, or it is none.
            self.remove(id);
            return false;
        }
        session.used = now;
        session.tell(response, epoch == INITIAL_EPOCH);
        true
    }
}

impl Session {
    fn change(&mut self, request: &FetchRequest) {
        let forgotten: HashSet<(&str, Uuid, i32)> = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|index| (&*topic.topic, topic.topic_id, *index))
            })
            .collect();
        self.partitions.retain(|partition| !forgotten.contains(&partition.key()));
        let owned = |partition: &SessionPartition| {
            (Arc::clone(&partition.topic), partition.topic_id, partition.wanted.partition)
        };
        let mut places: HashMap<_, usize> = self.partitions.iter().map(owned).zip(0..).collect();
        for partition in partitions_of(&request.topics) {
            let place = *places.entry(owned(&partition)).or_insert(self.partitions.len());
            match self.partitions.get_mut(place) {
                Some(known) => known.wanted = partition.wanted,
                None => self.partitions.push(partition),
            }
        }
    }

    /// The answer has the partitions of the session, in its order: [`Inner::answered`] saw to it
    /// that no other request came in between.
    fn tell(&mut self, response: &mut FetchResponse, all: bool) {
        let mut asked = std::mem::take(&mut self.partitions).into_iter();
        let mut gave_records = Vec::new();
        for topic in &mut response.responses {
            topic.partitions.retain(|data| {
                let Some(mut partition) = asked.next() else { return true };
                let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
                let told = Told::of(data);
                // SESSION-1.
                let bug = planted(Planted::SessionLeavesOutRecords);
                let is_new = has_records && !bug || told.is_none() || told != partition.told;
                partition.told = told;
                if has_records { &mut gave_records } else { &mut self.partitions }.push(partition);
                all || is_new
            });
        }
        response.responses.retain(|topic| !topic.partitions.is_empty());
        self.partitions.extend(asked);
        self.partitions.append(&mut gave_records); // SESSION-4
    }
}

impl SessionPartition {
    fn key(&self) -> (&str, Uuid, i32) {
        (&self.topic, self.topic_id, self.wanted.partition)
    }
}

impl Told {
    /// An error, and the end of an epoch, is told as often as it is met (FETCH-4).
    fn of(data: &PartitionData) -> Option<Self> {
        let is_well =
            data.error_code.is_none() && data.diverging_epoch == EpochEndOffset::default();
        is_well.then_some(Self {
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            log_start: data.log_start_offset,
        })
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// No more partitions than there may be of all sessions, and no name that no topic can have.
fn can_be_kept(request: &FetchRequest) -> bool {
    let (topics, forgotten) = (&request.topics, &request.forgotten_topics_data);
    topics.iter().map(|topic| topic.partitions.len()).sum::<usize>() <= PARTITIONS_MAX
        && forgotten.iter().map(|topic| topic.partitions.len()).sum::<usize>() <= PARTITIONS_MAX
        && topics.iter().all(|topic| topic.topic.len() <= NAME_CHARS_MAX)
}

fn partitions_of(topics: &[FetchTopic]) -> Vec<SessionPartition> {
    let partitions = topics.iter().flat_map(|topic| {
        let name: Arc<str> = topic.topic.as_str().into();
        topic.partitions.iter().map(move |wanted| SessionPartition {
            topic: Arc::clone(&name),
            topic_id: topic.topic_id,
            wanted: wanted.clone(),
            told: None,
        })
    });
    partitions.collect()
}

/// Neighbours of one topic stand together.
fn topics_of(partitions: &[SessionPartition]) -> Vec<FetchTopic> {
    let same = |one: &SessionPartition, other: &SessionPartition| {
        one.topic == other.topic && one.topic_id == other.topic_id
    };
    let topics = partitions.chunk_by(same).filter_map(|group| {
        let first = group.first()?;
        Some(FetchTopic {
            topic: first.topic.as_ref().to_owned(),
            topic_id: first.topic_id,
            partitions: group.iter().map(|partition| partition.wanted.clone()).collect(),
        })
    });
    topics.collect()
}

#[cfg(test)]
mod tests {
    use lossproof_env::{ManualClock, SeededRng};

    use super::*;

    fn request(partitions: i32) -> FetchRequest {
        let wanted = |partition| FetchPartition { partition, ..Default::default() };
        let partitions = (0..partitions).map(wanted).collect();
        let topics = vec![FetchTopic { topic: "t".into(), partitions, ..Default::default() }];
        FetchRequest { session_epoch: INITIAL_EPOCH, topics, ..Default::default() }
    }

    fn started(clock: &Arc<ManualClock>, seed: u64) -> FetchSessions {
        FetchSessions::new(clock.clone(), Arc::new(SeededRng::new(seed)))
    }

    fn open(sessions: &FetchSessions, partitions: i32) -> i32 {
        let (_, step) = sessions.begin(request(partitions), false).expect("a first request");
        sessions.end(step, FetchResponse::default()).session_id
    }

    /// SESSION-3.
    #[test]
    fn sessions_are_bounded_and_only_old_ones_are_taken_away() {
        let clock = Arc::new(ManualClock::new(0));
        let sessions = started(&clock, 1);
        let ids: Vec<i32> = (0..SESSIONS_MAX).map(|_| open(&sessions, 1)).collect();
        assert!(!ids.contains(&0));
        assert_eq!(open(&sessions, 1), 0);
        clock.advance(EVICTION_AGE);
        let used = FetchRequest { session_id: ids[0], session_epoch: 1, ..Default::default() };
        sessions.begin(used, false).expect("it is there");
        assert_ne!(open(&sessions, 1), 0);
        let all = PARTITIONS_MAX as i32;
        assert_eq!(open(&sessions, all), 0, "those that were used just now stay");
        clock.advance(EVICTION_AGE);
        assert_ne!(open(&sessions, all), 0);
        assert_eq!(sessions.lock().sessions.len(), 1);
        assert_eq!(sessions.lock().partitions, PARTITIONS_MAX);
    }

    /// SESSION-5.
    #[test]
    fn a_session_of_before_a_restart_is_none_of_today() {
        let clock = Arc::new(ManualClock::new(0));
        let before = open(&started(&clock, 1), 1);
        let today = started(&clock, 2);
        open(&today, 1);
        let next = FetchRequest { session_id: before, session_epoch: 1, ..Default::default() };
        let answer = today.begin(next, false).map(|_| ());
        assert_eq!(answer, Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
    }

    /// SESSION-3: nothing is copied for it, and a session that asks for it ends.
    #[test]
    fn what_no_session_can_have_is_not_taken_for_one() {
        let sessions = started(&Arc::new(ManualClock::new(0)), 1);
        let mut long = request(1);
        long.topics[0].topic = "x".repeat(NAME_CHARS_MAX + 1);
        let mut many = request(1);
        many.topics.extend(request(PARTITIONS_MAX as i32).topics);
        for impossible in [long, many] {
            let (_, step) = sessions.begin(impossible.clone(), false).expect("a first request");
            assert!(matches!(step, SessionStep::Alone), "{step:?}");
            let session_id = open(&sessions, 1);
            let next = FetchRequest { session_id, session_epoch: 1, ..impossible };
            let refused = sessions.begin(next, false).map(|_| ());
            assert_eq!(refused, Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
            assert_eq!(sessions.lock().partitions, 0);
        }
    }
}
