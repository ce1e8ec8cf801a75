use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lossproof_env::{Clock, Rng};
use tokio::sync::{Notify, oneshot};

use super::message::{
    Answer, CommitFence, GroupError, Join, JoinAnswer, Leaving, Sync, SyncAnswer, Token,
};
use super::overview::{GroupOverview, Inside};
use super::state::{GroupSettings, Groups, Phase};

/// Client ids are part of member ids; longer ones are cut.
const CLIENT_ID_CHARS_MAX: usize = 255;

/// Drives [`Groups`] with the clock and hands the answers to those who wait.
#[derive(Debug)]
pub(crate) struct Coordinator {
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    inner: Mutex<Inner>,
    /// Told whenever a deadline may have come nearer.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    groups: Groups,
    joins: HashMap<Token, oneshot::Sender<JoinAnswer>>,
    syncs: HashMap<Token, oneshot::Sender<SyncAnswer>>,
    next_token: u64,
}

impl Inner {
    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// A receiver that is gone belongs to a connection that is gone: nobody to tell.
    fn deliver(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            match answer {
                Answer::Join(token, answer) => {
                    let waiting = self.joins.remove(&token);
                    assert!(waiting.is_some(), "GROUP-1: one answer for each join");
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(answer);
                    }
                }
                Answer::Sync(token, answer) => {
                    let waiting = self.syncs.remove(&token);
                    assert!(waiting.is_some(), "GROUP-1: one answer for each sync");
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(answer);
                    }
                }
            }
        }
    }
}

impl Coordinator {
    pub(crate) fn new(clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, settings: GroupSettings) -> Self {
        let inner = Inner {
            groups: Groups::new(settings),
            joins: HashMap::new(),
            syncs: HashMap::new(),
            next_token: 0,
        };
        Self { clock, rng, inner: Mutex::new(inner), changed: Notify::new() }
    }

    pub(crate) fn fresh_member_id(&self, client_id: &str) -> String {
        let client: String = client_id.chars().take(CLIENT_ID_CHARS_MAX).collect();
        format!("{client}-{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    pub(crate) fn join(&self, join: Join) -> oneshot::Receiver<JoinAnswer> {
        let (sender, receiver) = oneshot::channel();
        self.step(|inner, now, answers| {
            let token = inner.token();
            inner.joins.insert(token, sender);
            inner.groups.join(now, token, join, answers);
        });
        receiver
    }

    pub(crate) fn sync(&self, sync: Sync) -> oneshot::Receiver<SyncAnswer> {
        let (sender, receiver) = oneshot::channel();
        self.step(|inner, now, answers| {
            let token = inner.token();
            inner.syncs.insert(token, sender);
            inner.groups.sync(now, token, sync, answers);
        });
        receiver
    }

    pub(crate) fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupError> {
        let now = self.clock.monotonic();
        self.lock().groups.heartbeat(now, group, member_id, instance, generation)
    }

    /// Every group, with the number of its members.
    pub(crate) fn member_counts(&self) -> Vec<(String, usize)> {
        self.lock().groups.member_counts()
    }

    pub(crate) fn check_commit(&self, fence: &CommitFence) -> Result<(), GroupError> {
        let now = self.clock.monotonic();
        self.lock().groups.check_commit(now, fence)
    }

    pub(crate) fn leave(&self, group: &str, leaving: &Leaving) -> Result<(), GroupError> {
        self.step(|inner, now, answers| inner.groups.leave(now, group, leaving, answers))
    }

    pub(crate) fn list(&self) -> Result<Vec<(String, Phase, String)>, GroupError> {
        self.lock().groups.list()
    }

    pub(crate) fn overview(&self, group: &str) -> Result<Option<GroupOverview>, GroupError> {
        self.lock().groups.overview(group)
    }

    pub(crate) fn close(&self, group: &str) -> Result<Inside, GroupError> {
        self.lock().groups.close(group)
    }

    pub(crate) fn reopen(&self, group: &str) {
        self.lock().groups.reopen(group);
    }

    /// Answers everything that waits; from here on every request is refused.
    pub(crate) fn stop(&self) {
        self.step(|inner, _, answers| inner.groups.stop(answers));
    }

    /// Ends sessions and rebalances in time. Runs until it is dropped.
    pub(crate) async fn run(&self) {
        loop {
            let changed = self.changed.notified();
            let now = self.clock.monotonic();
            let deadline = self.lock().groups.next_deadline();
            match deadline {
                Some(deadline) if deadline <= now => {
                    self.step(|inner, now, answers| inner.groups.tick(now, answers));
                }
                Some(deadline) => tokio::select! {
                    () = self.clock.sleep(deadline.saturating_sub(now)) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    fn step<T>(&self, act: impl FnOnce(&mut Inner, Duration, &mut Vec<Answer>) -> T) -> T {
        let now = self.clock.monotonic();
        let mut answers = Vec::new();
        let mut inner = self.lock();
        let result = act(&mut inner, now, &mut answers);
        inner.deliver(answers);
        drop(inner);
        self.changed.notify_one();
        result
    }

    /// A panic while the lock was held would have been a broken invariant of the group's state:
    /// the process would rather not go on with it, but neither must it hang.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
