//! What waits for the commit thread, in the order in which it will stand in the journal.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::accept::Loss;
use crate::commit::{Commit, Committed, PartitionId, ProducerIds, ProducerView};
use crate::error::{CloseError, CommitCause, CommitError, FenceCause, Fenced};

/// Whom to answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Commit(oneshot::Sender<Result<Committed, CommitError>>),
    ProducerIds {
        count: u32,
        to: oneshot::Sender<Result<ProducerIds, CommitCause>>,
    },
    Producers {
        partition: PartitionId,
        to: oneshot::Sender<Result<Vec<ProducerView>, CommitCause>>,
    },
    Accept {
        losses: Vec<Loss>,
        to: oneshot::Sender<Result<(), CommitCause>>,
    },
}

/// A commit on its way. Its permit keeps its bytes counted until it is answered.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) commit: Box<Commit>,
    pub(crate) reply: Reply,
    pub(crate) _permit: Option<OwnedSemaphorePermit>,
}

impl Submission {
    /// Hands the commit back. Who has stopped waiting is not told.
    pub(crate) fn refuse(self, cause: CommitCause) {
        match self.reply {
            Reply::Commit(to) => {
                let _ = to.send(Err(CommitError { commit: self.commit, cause }));
            }
            Reply::ProducerIds { to, .. } => {
                let _ = to.send(Err(cause));
            }
            Reply::Producers { to, .. } => {
                let _ = to.send(Err(cause));
            }
            Reply::Accept { to, .. } => {
                let _ = to.send(Err(cause));
            }
        }
    }
}

/// A commit that is queued: its place in the journal's order is fixed. Resolves when it is
/// acknowledged or refused.
#[derive(Debug)]
#[must_use = "a commit counts only once this has resolved to `Ok`"]
pub struct Pending {
    pub(crate) receiver: oneshot::Receiver<Result<Committed, CommitError>>,
}

impl Future for Pending {
    type Output = Result<Committed, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|received| {
            // Nobody is left to answer only when the commit thread is gone: fail closed.
            received.unwrap_or_else(|_| Err(abandoned(Box::default())))
        })
    }
}

pub(crate) fn abandoned(commit: Box<Commit>) -> CommitError {
    let fenced = Fenced { cause: FenceCause::Panic, since_ms: 0 };
    CommitError { commit, cause: CommitCause::Fenced(fenced) }
}

pub(crate) type CloseReply = oneshot::Sender<Result<(), CloseError>>;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    submissions: Vec<Submission>,
    /// The commit thread waits for the condition variable.
    waiting: bool,
    closing: Option<CloseReply>,
    closed: bool,
    /// No handle is left that could submit anything.
    abandoned: bool,
}

/// What the commit thread has to do next.
#[derive(Debug)]
pub(crate) enum Work {
    Commits(Vec<Submission>),
    Idle,
    Close(Option<CloseReply>),
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues, unless the log is closed.
    pub(crate) fn push(&self, submission: Submission) -> Result<(), Submission> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(submission);
        }
        inner.submissions.push(submission);
        let waiting = inner.waiting;
        drop(inner);
        if waiting {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Everything that is queued; waits for something to do, for at most `patience`.
    pub(crate) fn take(&self, patience: Option<Duration>) -> Work {
        let mut inner = self.lock();
        loop {
            if !inner.submissions.is_empty() {
                return Work::Commits(std::mem::take(&mut inner.submissions));
            }
            if inner.closed || inner.abandoned {
                inner.closed = true;
                return Work::Close(inner.closing.take());
            }
            inner.waiting = true;
            let timed_out;
            (inner, timed_out) = self.wait(inner, patience);
            inner.waiting = false;
            if timed_out && inner.submissions.is_empty() && !inner.closed && !inner.abandoned {
                return Work::Idle;
            }
        }
    }

    fn wait<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        patience: Option<Duration>,
    ) -> (MutexGuard<'a, Inner>, bool) {
        match patience {
            None => (self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner), false),
            Some(patience) => {
                let waited = self.wake.wait_timeout(inner, patience);
                let (inner, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                (inner, timeout.timed_out())
            }
        }
    }

    /// Everything that is queued, without waiting.
    pub(crate) fn drain(&self) -> Vec<Submission> {
        std::mem::take(&mut self.lock().submissions)
    }

    /// Takes nothing more from now on; false when it was closed before.
    pub(crate) fn close(&self, reply: Option<CloseReply>) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.closed = true;
        inner.closing = reply;
        drop(inner);
        self.wake.notify_one();
        true
    }

    pub(crate) fn abandon(&self) {
        self.lock().abandoned = true;
        self.wake.notify_one();
    }
}
