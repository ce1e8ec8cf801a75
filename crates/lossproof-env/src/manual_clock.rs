use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::Clock;

/// A clock that stands still until a test moves it.
///
/// ```
/// use std::time::Duration;
/// use lossproof_env::{Clock, ManualClock};
///
/// let clock = ManualClock::new(1_000);
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.monotonic(), Duration::from_secs(2));
/// assert_eq!(clock.wall_ms(), 3_000);
/// clock.jump_wall_ms(-500);
/// assert_eq!((clock.monotonic(), clock.wall_ms()), (Duration::from_secs(2), 2_500));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when time moves and when somebody begins to sleep.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    now: Duration,
    wall_ms: i64,
    next_sleeper: u64,
    sleepers: BTreeMap<u64, Sleeper>,
}

#[derive(Debug)]
struct Sleeper {
    deadline: Duration,
    /// `None` for a thread, which waits on the condition variable instead.
    waker: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, sleeper: Sleeper) -> u64 {
        let id = self.next_sleeper;
        self.next_sleeper += 1;
        self.sleepers.insert(id, sleeper);
        id
    }
}

impl ManualClock {
    /// Monotonic time starts at 0, the wall clock at `wall_ms`.
    pub fn new(wall_ms: i64) -> Self {
        let state =
            State { now: Duration::ZERO, wall_ms, next_sleeper: 0, sleepers: BTreeMap::new() };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Moves both clocks forward and wakes everyone whose time has come.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.shared.lock();
        state.now += duration;
        state.wall_ms += duration.as_millis() as i64;
        let now = state.now;
        let due: Vec<Waker> = state
            .sleepers
            .values_mut()
            .filter(|sleeper| sleeper.deadline <= now)
            .filter_map(|sleeper| sleeper.waker.take())
            .collect();
        drop(state);
        self.shared.changed.notify_all();
        due.into_iter().for_each(Waker::wake);
    }

    /// Moves the wall clock alone, as an administrator or NTP does.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        self.shared.lock().wall_ms += by_ms;
    }

    /// How many sleep at this moment, tasks and threads.
    pub fn sleepers(&self) -> usize {
        let state = self.shared.lock();
        state.sleepers.values().filter(|sleeper| sleeper.deadline > state.now).count()
    }

    /// Monotonic time at which the first of them will wake.
    pub fn next_deadline(&self) -> Option<Duration> {
        let state = self.shared.lock();
        let deadlines = state.sleepers.values().map(|sleeper| sleeper.deadline);
        deadlines.filter(|deadline| *deadline > state.now).min()
    }

    /// Whether somebody sleeps until exactly then.
    pub fn is_awaited(&self, deadline: Duration) -> bool {
        self.shared.lock().sleepers.values().any(|sleeper| sleeper.deadline == deadline)
    }

    /// Blocks the calling thread until at least `count` others sleep: the way to know that a
    /// component under test has come to rest.
    pub fn wait_for_sleepers(&self, count: usize) {
        let mut state = self.shared.lock();
        loop {
            let now = state.now;
            if state.sleepers.values().filter(|sleeper| sleeper.deadline > now).count() >= count {
                return;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        self.shared.lock().now
    }

    fn wall_ms(&self) -> i64 {
        self.shared.lock().wall_ms
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let deadline = self.shared.lock().now + duration;
        Box::pin(Sleep { shared: Arc::clone(&self.shared), deadline, id: None })
    }

    fn sleep_blocking(&self, duration: Duration) {
        let mut state = self.shared.lock();
        let deadline = state.now + duration;
        let id = state.add(Sleeper { deadline, waker: None });
        self.shared.changed.notify_all();
        while state.now < deadline {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleepers.remove(&id);
    }
}

/// Future of [`ManualClock::sleep`].
struct Sleep {
    shared: Arc<Shared>,
    deadline: Duration,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if state.now >= self.deadline {
            if let Some(id) = self.id.take() {
                state.sleepers.remove(&id);
            }
            return Poll::Ready(());
        }
        let sleeper = Sleeper { deadline: self.deadline, waker: Some(context.waker().clone()) };
        match self.id {
            Some(id) => {
                state.sleepers.insert(id, sleeper);
            }
            None => self.id = Some(state.add(sleeper)),
        }
        shared.changed.notify_all();
        Poll::Pending
    }
}

/// Only bookkeeping: a cancelled sleep no longer counts as a sleeper.
impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.shared.lock().sleepers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_wakes_when_its_time_has_come_and_not_before() {
        let clock = ManualClock::new(0);
        let mut sleep = tokio_test_spawn(clock.sleep(Duration::from_secs(10)));
        assert!(sleep.poll_once().is_pending());
        assert_eq!(clock.sleepers(), 1);
        assert_eq!(clock.next_deadline(), Some(Duration::from_secs(10)));
        assert!(clock.is_awaited(Duration::from_secs(10)));
        assert!(!clock.is_awaited(Duration::from_secs(9)));
        clock.advance(Duration::from_millis(9_999));
        assert!(sleep.poll_once().is_pending());
        clock.advance(Duration::from_millis(1));
        assert!(sleep.poll_once().is_ready());
        assert_eq!(clock.sleepers(), 0);
        assert!(!clock.is_awaited(Duration::from_secs(10)));
    }

    #[test]
    fn a_thread_wakes_when_its_time_has_come() {
        let clock = ManualClock::new(0);
        let other = clock.clone();
        let thread = std::thread::spawn(move || other.sleep_blocking(Duration::from_secs(3)));
        clock.wait_for_sleepers(1);
        assert!(!thread.is_finished());
        clock.advance(Duration::from_secs(3));
        thread.join().expect("the sleeping thread does not panic");
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test]
    async fn a_spawned_sleeper_is_woken_and_a_dropped_one_forgotten() {
        let clock = ManualClock::new(0);
        let task = tokio::spawn(clock.sleep(Duration::from_secs(1)));
        let mut dropped = tokio_test_spawn(clock.sleep(Duration::from_secs(1)));
        assert!(dropped.poll_once().is_pending());
        drop(dropped);
        while clock.sleepers() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.sleepers(), 1);
        clock.advance(Duration::from_secs(1));
        task.await.expect("the sleeping task does not panic");
    }

    struct Polled(Pin<Box<dyn Future<Output = ()> + Send>>);

    fn tokio_test_spawn(future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Polled {
        Polled(future)
    }

    impl Polled {
        fn poll_once(&mut self) -> Poll<()> {
            self.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        }
    }
}
