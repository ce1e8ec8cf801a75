use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lossproof_env::{Clock, Rng};
use lossproof_log::Log;
use tokio::sync::{Notify, oneshot};

use super::keeping::Keeper;
use super::message::{
    Answer, CommitFence, GroupError, Join, JoinAnswer, Leaving, Sync, SyncAnswer, Token,
};
use super::overview::{GroupOverview, Inside};
use super::state::{GroupSettings, Groups, Phase};
use crate::offsets::stored_groups;

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
    /// Told whenever there may be something to store.
    to_store: Notify,
    log: Log,
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
            let (token, was_open) = match answer {
                Answer::Join(token, answer) => {
                    let waiting = self.joins.remove(&token);
                    (token, waiting.map(|waiting| drop(waiting.send(answer))).is_some())
                }
                Answer::Sync(token, answer) => {
                    let waiting = self.syncs.remove(&token);
                    (token, waiting.map(|waiting| drop(waiting.send(answer))).is_some())
                }
            };
            if !was_open {
                // A second answer is nobody's loss, and no reason to end anything.
                tracing::error!(?token, "GROUP-1: answered twice");
            }
        }
    }
}

impl Coordinator {
    /// Takes up the groups that the journal holds. Where they cannot be trusted nobody is served: a
    /// member that is missing would be taken for one that has left (storage rule 14).
    pub(crate) fn open(
        log: Log,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: GroupSettings,
    ) -> Self {
        let mut groups = Groups::new(settings);
        match stored_groups(&log) {
            Ok(stored) => {
                let now = clock.monotonic();
                for (name, group) in stored {
                    groups.restore(now, &name, group);
                }
            }
            Err(error) => {
                tracing::error!(%error, "groups or their offsets are damaged: no group is served");
                groups.stop(&mut Vec::new());
            }
        }
        let inner = Inner { groups, joins: HashMap::new(), syncs: HashMap::new(), next_token: 0 };
        Self {
            clock,
            rng,
            inner: Mutex::new(inner),
            changed: Notify::new(),
            to_store: Notify::new(),
            log,
        }
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
            let (deadline, due) = {
                let groups = &self.lock().groups;
                (groups.next_deadline(), groups.first_due(now))
            };
            if let Some(group) = due {
                self.step_in(&group, |inner, now, out| {
                    inner.groups.tick(now, out);
                });
                tokio::task::yield_now().await; // Others run in this task.
                continue;
            }
            match deadline {
                Some(deadline) => tokio::select! {
                    () = self.clock.sleep(deadline.saturating_sub(now)) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Stores what has changed and answers what waits for that, until the groups are stopped and
    /// all is stored.
    pub(crate) async fn store(&self) {
        let mut keeper = Keeper::new(&self.log, self.lock().groups.settings.clone());
        loop {
            let changed = self.to_store.notified();
            let (unstored, stopped) = {
                let mut inner = self.lock();
                (inner.groups.unstored(), inner.groups.stopped)
            };
            if unstored.is_empty() && stopped {
                return;
            }
            if unstored.is_empty() {
                changed.await;
                continue;
            }
            for (unstored, succeeded) in keeper.store(&self.log, unstored).await {
                self.step_in(&unstored.group, |inner, now, out| {
                    inner.groups.stored(now, &unstored.group, unstored.version, succeeded, out);
                });
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
        self.to_store.notify_one();
        result
    }

    /// What the broker does by itself, and not for a connection that would end with it: a mistake
    /// in one group must end neither the process nor what is done for the others.
    fn step_in(&self, group: &str, act: impl FnOnce(&mut Inner, Duration, &mut Vec<Answer>)) {
        self.step(|inner, now, out| {
            let acted = catch_unwind(AssertUnwindSafe(|| act(inner, now, out)));
            if acted.is_err() {
                tracing::error!(group, "a panic: whoever is in this group has to join anew");
                inner.groups.dissolve(group, out);
            }
        });
    }

    /// A panic while the lock was held would have been a broken invariant of the group's state:
    /// the process would rather not go on with it, but neither must it hang.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use lossproof_env::{Environment, ManualClock, SeededRng, SimDisk};
    use lossproof_log::LogConfig;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;
    use crate::group::ClientName;

    fn join(group: &str, fresh: &str) -> Join {
        Join {
            group: group.into(),
            member_id: String::new(),
            instance: None,
            client: ClientName::default(),
            fresh_member_id: fresh.into(),
            requires_known_member_id: false,
            can_skip_assignment: false,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(45),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::new())],
        }
    }

    /// What the broker does by itself it does for all groups: nobody would do it any more.
    #[tokio::test]
    async fn a_mistake_in_one_group_is_not_the_end_of_the_others() {
        let env = Environment {
            disk: Arc::new(SimDisk::new()),
            clock: Arc::new(ManualClock::new(0)),
            rng: Arc::new(SeededRng::new(7)),
        };
        let (log, _) = Log::open(&env, Path::new("/data"), LogConfig::default()).expect("a log");
        let settings = GroupSettings::default();
        let (clock, rng) = (Arc::clone(&env.clock), Arc::clone(&env.rng));
        let coordinator = Coordinator::open(log.clone(), clock, rng, settings);
        let mut struck = coordinator.join(join("g", "a"));
        let mut other = coordinator.join(join("h", "b"));
        coordinator.step_in("g", |_, _, _| panic!("planted by a test"));
        let refusal = JoinAnswer::refusal(GroupError::UnknownMember, "a");
        assert_eq!(struck.try_recv(), Ok(refusal));
        assert_eq!(other.try_recv(), Err(TryRecvError::Empty), "it waits for more members");
        let counts = || coordinator.member_counts();
        assert_eq!(counts(), [("h".to_owned(), 1)]);
        let mut again = coordinator.join(join("g", "c"));
        assert_eq!(again.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(counts(), [("g".to_owned(), 1), ("h".to_owned(), 1)]);
        log.close().await.expect("the log closes");
    }
}
