//! Runs a workload on a simulated disk and writes down what was promised when.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lossproof_env::{ManualClock, SimDisk};
use lossproof_log::{
    Appended, Commit, CommitCause, Committed, Log, LogConfig, OpenError, Pending, ProducerIds,
    Stepper,
};

use super::model::Model;
use super::workload::Action;
use super::{directory, environment};

/// One commit, in the order of the journal.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) commit: Commit,
    /// Steps of the disk that were done when it was handed in: none of it is in an earlier image.
    pub(crate) handed_in_at: usize,
    /// Steps that were done when it was acknowledged.
    pub(crate) acked_at: Option<usize>,
    /// It is acknowledged only when durable.
    pub(crate) safe: bool,
}

/// What was promised, and what may be there.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    pub(crate) submitted: Vec<Submitted>,
    /// `models[k]`: what the log holds after the first k commits.
    pub(crate) models: Vec<Model>,
    /// From this position on the first so many commits had been served to readers.
    pub(crate) served: Vec<(usize, usize)>,
    pub(crate) producer_ids: Vec<(usize, ProducerIds)>,
    /// Opens that had succeeded, with the position from which on they count.
    pub(crate) opens: Vec<(usize, u64)>,
}

impl Promises {
    /// How many of the first commits every image of `position` must hold. The journal is one
    /// sequence: whatever comes before something durable is durable.
    pub(crate) fn required(&self, position: usize) -> usize {
        let acked =
            self.submitted.iter().enumerate().filter(|(_, it)| {
                it.safe && it.acked_at.is_some_and(|acked_at| acked_at <= position)
            });
        let served = self.served.iter().filter(|(from, _)| *from <= position);
        let acked = acked.map(|(index, _)| index + 1).max().unwrap_or(0);
        served.map(|(_, count)| *count).max().unwrap_or(0).max(acked)
    }

    /// How many of the first commits an image of `position` may hold.
    pub(crate) fn possible(&self, position: usize) -> usize {
        self.submitted.iter().filter(|it| it.handed_in_at <= position).count()
    }

    /// Positions at which a promise was made.
    pub(crate) fn marks(&self) -> Vec<usize> {
        let acked = self.submitted.iter().filter_map(|it| it.acked_at);
        let served = self.served.iter().map(|(from, _)| *from);
        acked.chain(served).collect::<BTreeSet<usize>>().into_iter().collect()
    }
}

type Answer = Result<Committed, CommitCause>;

/// Outcomes that are awaited, each with the number of its commit.
#[derive(Default)]
struct Awaited {
    pending: Vec<(usize, Pending)>,
    answers: Vec<(usize, usize, Answer)>,
}

impl Awaited {
    /// Notes whoever has been answered by now, which is after `position` steps.
    fn poll(&mut self, position: usize) {
        let mut context = Context::from_waker(Waker::noop());
        let answers = &mut self.answers;
        self.pending.retain_mut(|(index, pending)| match Pin::new(pending).poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                answers.push((*index, position, answer.map_err(|error| error.cause)));
                false
            }
        });
    }
}

/// A log at work, with everything that was promised.
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) promises: Promises,
    log: Option<(Log, Stepper)>,
    clock: ManualClock,
    config: LogConfig,
    seed: u64,
    opens: u64,
    awaited: Arc<Mutex<Awaited>>,
    /// Commits that were refused because there was no room, in order.
    pub(crate) refused: Vec<Commit>,
}

/// Why a run cannot go on; what it means is for its test to say.
#[derive(Debug)]
pub(crate) enum Stop {
    Open(#[expect(dead_code, reason = "a test that fails prints it")] OpenError),
    Commit(CommitCause),
    Close,
    /// The log opened, but a read of it failed.
    Read,
}

impl Run {
    pub(crate) fn new(disk: SimDisk, seed: u64, config: LogConfig) -> Self {
        let awaited = Arc::new(Mutex::new(Awaited::default()));
        let observed = awaited.clone();
        disk.observe(Some(Arc::new(move |position, _| {
            observed.lock().unwrap().poll(position);
        })));
        let promises = Promises { models: vec![Model::default()], ..Promises::default() };
        let (_, clock) = environment(&disk, seed);
        let (log, opens, refused) = (None, 0, Vec::new());
        Self { disk, promises, log, clock, config, seed, opens, awaited, refused }
    }

    /// Runs to the end, or to the first refusal that is not for lack of room.
    pub(crate) fn all(&mut self, actions: &[Action]) -> Result<(), Stop> {
        self.open()?;
        actions.iter().try_for_each(|action| self.act(action))
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log.as_ref().unwrap().0
    }

    /// Ends the process; the machine goes on.
    pub(crate) fn kill(&mut self) {
        self.log = None;
        self.disk = self.disk.killed();
    }

    pub(crate) fn open(&mut self) -> Result<(), Stop> {
        self.opens += 1;
        let (mut env, _) = environment(&self.disk, self.seed ^ self.opens << 32);
        env.clock = Arc::new(self.clock.clone());
        let opened = Log::open_stepped(&env, directory(), self.config.clone());
        let (log, stepper, report) = opened.map_err(Stop::Open)?;
        assert!(report.is_sound(), "seed {}: {report:?}", self.seed);
        let position = self.disk.position();
        let count = self.settle(&log, !report.clean && !report.fresh)?;
        self.promises.served.push((position, count));
        self.promises.opens.push((position, report.open_count));
        self.log = Some((log, stepper));
        Ok(())
    }

    /// After an open, the commits that did not make it are known: they are taken out.
    fn settle(&mut self, log: &Log, raised: bool) -> Result<usize, Stop> {
        let observed = match Model::observe(log, raised) {
            Ok(observed) => observed,
            Err(_) if self.disk.was_struck() => return Err(Stop::Read),
            Err(error) => panic!("seed {}: {error}", self.seed),
        };
        let required = self.promises.required(self.disk.position());
        let models = &self.promises.models;
        let found = (required..models.len()).rev().find(|k| models[*k] == observed);
        let count = found.unwrap_or_else(|| {
            let last = self.promises.submitted.len();
            panic!("seed {}: reopened, but not as after {required} to {last}", self.seed)
        });
        self.promises.submitted.truncate(count);
        self.promises.models.truncate(count + 1);
        Ok(count)
    }

    pub(crate) fn act(&mut self, action: &Action) -> Result<(), Stop> {
        match action {
            Action::Submit(commits) => self.submit(commits),
            Action::ProducerIds(count) => {
                let (_, stepper) = self.log.as_mut().unwrap();
                let ids = stepper.reserve_producer_ids(*count).map_err(Stop::Commit)?;
                self.promises.producer_ids.push((self.disk.position(), ids));
                Ok(())
            }
            Action::Idle => {
                self.clock.advance(Duration::from_secs(2));
                self.log.as_mut().unwrap().1.idle();
                Ok(())
            }
            Action::Zero => {
                self.log.as_mut().unwrap().1.zero();
                Ok(())
            }
            Action::Checkpoint => {
                let moved = self.log.as_mut().unwrap().1.checkpoint();
                if !self.disk.was_struck() {
                    moved.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
                }
                Ok(())
            }
            Action::Reopen => {
                let (log, stepper) = self.log.take().unwrap();
                drop(log);
                stepper.close().map_err(|_| Stop::Close)?;
                self.open()
            }
            Action::Kill => {
                self.kill();
                self.open()
            }
        }
    }

    pub(crate) fn submit(&mut self, commits: &[Commit]) -> Result<(), Stop> {
        let handed_in_at = self.disk.position();
        let first = self.promises.submitted.len();
        let mut expected = Vec::new();
        for commit in commits {
            let mut model = self.promises.models.last().unwrap().clone();
            let safe = model.is_safe(commit);
            let appended = model.apply(commit);
            let safe = safe && writes_anything(commit, &appended);
            expected.push(appended);
            self.promises.models.push(model);
            let (commit, acked_at) = (commit.clone(), None);
            self.promises.submitted.push(Submitted { commit, handed_in_at, acked_at, safe });
        }
        let (log, stepper) = self.log.as_mut().unwrap();
        let mut stop = None;
        for (index, commit) in (first..).zip(commits) {
            match log.try_enqueue(commit.clone()) {
                Ok(pending) => self.awaited.lock().unwrap().pending.push((index, pending)),
                Err(error) => stop = Some(refusal(error)),
            }
        }
        stepper.step();
        let mut awaited = self.awaited.lock().unwrap();
        awaited.poll(self.disk.position());
        assert!(awaited.pending.is_empty(), "LOG-8: every commit is answered");
        let mut answers = std::mem::take(&mut awaited.answers);
        drop(awaited);
        answers.sort_by_key(|(index, ..)| *index);
        for (index, position, answer) in answers {
            match answer {
                Ok(committed) => {
                    let expected = &expected[index - first];
                    assert_eq!(&committed.appended, expected, "seed {}", self.seed);
                    self.promises.submitted[index].acked_at = Some(position);
                }
                Err(cause) if cause.is_retriable() => {
                    self.refuse(first, commits);
                    return Ok(());
                }
                Err(cause) => stop = Some(cause),
            }
        }
        stop.map_or(Ok(()), |cause| Err(Stop::Commit(cause)))
    }

    /// No room: nothing of it may have been written. Only commits handed in alone are looked at.
    fn refuse(&mut self, first: usize, commits: &[Commit]) {
        assert_eq!(commits.len(), 1, "a full disk is tried with one commit at a time");
        self.promises.submitted.truncate(first);
        self.promises.models.truncate(first + 1);
        self.refused.extend_from_slice(commits);
    }

    pub(crate) fn close(&mut self) -> Result<(), Stop> {
        let (log, stepper) = self.log.take().unwrap();
        drop(log);
        stepper.close().map_err(|_| Stop::Close)
    }
}

/// Whether a commit brings anything new. One of nothing but retries is answered at once, and says
/// nothing of what was written before it.
pub(crate) fn writes_anything(commit: &Commit, appended: &[Appended]) -> bool {
    let nothing_new = appended.iter().all(|it| it.duplicate);
    !nothing_new || !commit.partitions.is_empty() || !commit.changes.is_empty()
}

fn refusal(error: lossproof_log::TryEnqueueError) -> CommitCause {
    match error {
        lossproof_log::TryEnqueueError::Refused(refused) => refused.cause,
        other => panic!("the queue is large enough: {other}"),
    }
}
