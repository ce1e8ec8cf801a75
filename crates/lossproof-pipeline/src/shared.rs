//! What the poll thread and the workers share, under one lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lossproof_audit::identity::{HEADER_NAME, Header, Identity};
use lossproof_client::{Record, TopicPartition};
use tokio::sync::{Notify, watch};
use tracing::{error, warn};

use crate::flow::{End, Flow, Task, Ticket};
use crate::receipts::{Fact, Note};

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    /// Told when a record may be there to start.
    pub(crate) work: Notify,
    /// Raised when a record may no longer wait: its partition leaves, or the process ends.
    turn: watch::Sender<u64>,
    dead_letters_max: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) flow: Flow,
    /// Facts not yet handed to the receipts. Bounded: the poll thread takes them at the latest
    /// with each commit, and commits before more than a few thousand are there.
    pub(crate) notes: Vec<Note>,
    /// Records finished since the last commit.
    pub(crate) finished: usize,
    /// Dead letters with nothing confirmed or filtered in between.
    dead_in_a_row: u64,
    /// Why the whole pipeline has to end.
    pub(crate) fatal: Option<String>,
    /// The poll thread is over.
    pub(crate) closed: bool,
}

impl Shared {
    pub(crate) fn new(flow: Flow, dead_letters_max: Option<u64>) -> Self {
        let inner = Inner {
            flow,
            notes: Vec::new(),
            finished: 0,
            dead_in_a_row: 0,
            fatal: None,
            closed: false,
        };
        Self {
            inner: Mutex::new(inner),
            work: Notify::new(),
            turn: watch::Sender::new(0),
            dead_letters_max,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nobody may go on with a state that was left in the middle of a change.
        self.inner.lock().expect("no thread has panicked while it changed the flow")
    }

    /// Takes in a record that the consumer handed out.
    pub(crate) fn admit(&self, record: Record) {
        let identity = identity_of(&record);
        let mut inner = self.lock();
        if let Some(task) = inner.flow.admit(record, identity) {
            inner.notes.push(note_of(&task, Fact::Delivered));
            self.work.notify_one();
        }
    }

    pub(crate) fn start(&self) -> Option<Task> {
        self.lock().flow.start()
    }

    /// Says what happened to a record on its way, if that still counts.
    pub(crate) fn note(&self, task: &Task, fact: Fact) {
        let mut inner = self.lock();
        if inner.flow.is_current(&task.ticket) {
            inner.notes.push(note_of(task, fact));
        }
    }

    /// A record is done with. Facts and frontier change under one lock (`FLOW-2`), so that a
    /// commit sees both or neither.
    pub(crate) fn finish(&self, task: &Task, end: End, facts: impl IntoIterator<Item = Fact>) {
        let mut inner = self.lock();
        if inner.flow.finish(task, end) {
            inner.finished += 1;
            inner.notes.extend(facts.into_iter().map(|fact| note_of(task, fact)));
            match end {
                End::DeadLettered => inner.dead_in_a_row += 1,
                End::Confirmed | End::Filtered => inner.dead_in_a_row = 0,
                End::UnsafeSkipped => {}
            }
        }
        self.work.notify_one();
    }

    pub(crate) fn give_up(&self, task: &Task) {
        self.lock().flow.give_up(task);
        self.work.notify_one();
    }

    pub(crate) fn stop_partition(&self, task: &Task, reason: &str) {
        let TopicPartition { topic, partition } = task.ticket.partition.as_ref();
        let offset = task.ticket.offset;
        if self.lock().flow.stop_partition(task, reason) {
            error!(
                "{topic}-{partition} stops at offset {offset} ({}): {reason}; nothing behind it is \
                 committed, the other partitions go on",
                task.identity
            );
        }
        self.change_turn();
        self.work.notify_one();
    }

    /// The whole pipeline ends.
    pub(crate) fn fail(&self, reason: String) {
        error!("{reason}");
        let mut inner = self.lock();
        inner.fatal.get_or_insert(reason);
        inner.flow.drain();
        drop(inner);
        self.change_turn();
    }

    /// So many dead letters in a row say that it is not the records. `true`: no more of them.
    pub(crate) fn too_many_dead_letters(&self) -> bool {
        let in_a_row = self.lock().dead_in_a_row;
        let too_many = self.dead_letters_max.is_some_and(|max| in_a_row >= max);
        if too_many {
            self.fail(format!(
                "{in_a_row} records in a row went to the dead letters and none to the sink: the \
                 fault is not in the records"
            ));
        }
        too_many
    }

    pub(crate) fn drain(&self) {
        self.lock().flow.drain();
        self.change_turn();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.change_turn();
        self.work.notify_one();
    }

    /// The same for a lock that a panic may have left poisoned.
    pub(crate) fn close_after_panic(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.inner.clear_poison();
        self.work.notify_one();
    }

    pub(crate) fn change_turn(&self) {
        self.turn.send_modify(|turn| *turn += 1);
    }

    /// Of one record, or (`None`) of the pipeline as a whole.
    pub(crate) fn patience(self: &Arc<Self>, ticket: Option<Ticket>) -> Patience {
        Patience { shared: Arc::clone(self), ticket, turn: self.turn.subscribe() }
    }
}

/// Whether somebody may go on waiting for better times.
#[derive(Debug)]
pub(crate) struct Patience {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
    turn: watch::Receiver<u64>,
}

impl Patience {
    pub(crate) fn is_left(&self) -> bool {
        let inner = self.shared.lock();
        match &self.ticket {
            Some(ticket) => inner.flow.may_wait(ticket),
            None => !inner.flow.is_draining(),
        }
    }

    /// Returns when it is worth while to ask [`Patience::is_left`] again.
    pub(crate) async fn changed(&mut self) {
        // The sender lives in `shared`, which this value keeps alive.
        self.turn.changed().await.expect("the sender is never dropped");
    }
}

fn note_of(task: &Task, fact: Fact) -> Note {
    Note {
        identity: task.identity.clone(),
        partition: Arc::clone(&task.ticket.partition),
        offset: task.ticket.offset,
        fact,
    }
}

/// The header's identity, or the place where there is no (readable) header.
fn identity_of(record: &Record) -> Identity {
    let natural = || Identity::Natural {
        topic: record.topic.clone(),
        partition: record.partition,
        offset: record.offset,
    };
    let Some((_, value)) = record.headers.iter().find(|(name, _)| name == HEADER_NAME) else {
        return natural();
    };
    let header = value.as_ref().and_then(|bytes| Header::decode(bytes));
    header.map_or_else(
        || {
            let Record { topic, partition, offset, .. } = record;
            warn!("{topic}-{partition} offset {offset}: unreadable identity, its place is used");
            natural()
        },
        |header| Identity::Stamped(header.id),
    )
}
