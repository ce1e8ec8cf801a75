//! The threads behind the accepting one: the relay, and the sending of receipts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lossproof_audit::report::{Reporter, ShipError};
use lossproof_client::LogProducer;
use lossproof_client::librdkafka::{self, ProducerSettings};
use lossproof_env::{Clock, Environment};
use lossproof_relay::{ConnectError, Progress, Relay, RelayError, Spool};

use super::{Arguments, settings_failure};
use crate::exit::{self, Failure};
use crate::stop::Stop;

/// How long the relay waits for outcomes at a time: bounds how late a new record is sent.
const STEP: Duration = Duration::from_millis(10);
/// How long the client may take to tell the last outcomes when it is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const SHIP_EVERY: Duration = Duration::from_secs(1);
const SHIP_TIMEOUT: Duration = Duration::from_millis(500);
/// Last receipts are sent for so long; what is left goes with the next start.
const LAST_SHIPS_MAX: u32 = 20;
/// The number of partitions is asked for so often, in ships.
const ASK_EVERY: u32 = 30;
/// A cluster that is there has the first receipt of a session by then.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3);
/// Until then it is tried so often.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(200);
const TALK_EVERY: Duration = Duration::from_secs(5);
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// What the accepting thread tells the others, and hears from them.
#[derive(Debug, Default)]
struct Shared {
    /// No more is accepted; end when nothing is waiting.
    is_ending: AtomicBool,
    /// End now.
    is_stopped: AtomicBool,
    progress: Mutex<Progress>,
    relay_failed: AtomicBool,
}

pub(super) struct Shipping {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    relay: JoinHandle<Result<Progress, RelayError>>,
    receipts: Receipts,
}

impl Shipping {
    pub(super) fn start(
        environment: &Environment,
        spool: &Arc<Spool>,
        arguments: &Arguments,
    ) -> Result<Self, Failure> {
        let settings = arguments.producer_settings();
        // Made here, so that wrong settings are told at once.
        let first = librdkafka::producer(&settings).map_err(|error| settings_failure(&error))?;
        let mut first = Some(first);
        let shared = Arc::new(Shared::default());
        let connect_settings = settings.clone();
        let connect = Box::new(move || {
            let made = first.take().map(Ok);
            let made = made.unwrap_or_else(|| librdkafka::producer(&connect_settings));
            made.map_err(|error| ConnectError { detail: error.to_string() })
        });
        let relay = Relay::new(environment, Arc::clone(spool), connect);
        let clock = Arc::clone(&environment.clock);
        let (theirs, their_clock) = (Arc::clone(&shared), Arc::clone(&clock));
        let thread = std::thread::Builder::new().name("relay".into());
        let relay = thread.spawn(move || drive(relay, &theirs, &*their_clock));
        let relay = relay.map_err(|error| Failure::new(exit::START_FAILED, error))?;
        let (growing, topic) = (Arc::clone(spool), arguments.topic.clone());
        let grow = move |producer: &mut dyn LogProducer| ask_for_growth(&growing, &topic, producer);
        let reporter = Arc::clone(spool.reporter());
        let receipts =
            Receipts::start(reporter, settings, Arc::clone(&clock), false, Box::new(grow))?;
        Ok(Self { shared, clock, relay, receipts })
    }

    /// Whether the relay still runs; its error comes from [`Shipping::finish`].
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.shared.relay_failed.load(Ordering::Acquire) {
            return Err(Failure::new(exit::JOURNAL_FAILED, "the relay has stopped"));
        }
        Ok(())
    }

    /// Waits until the receipts topic knows of this session: whatever becomes of this machine, the
    /// audit then knows that somebody was accepting. Without a cluster it goes on, and says so.
    pub(super) fn announce(&self, stop: &Stop) {
        let deadline = self.clock.monotonic() + ANNOUNCE_TIMEOUT;
        while !self.receipts.is_announced.load(Ordering::Acquire) {
            if stop.is_set() {
                return;
            }
            if self.clock.monotonic() >= deadline {
                crate::output::mutter!(
                    "the cluster does not take receipts: lines are accepted into the journal, and \
                     no audit knows of them until it does"
                );
                return;
            }
            self.clock.sleep_blocking(WATCH_EVERY);
        }
    }

    /// Ships until nothing is waiting (if `may_wait`, and until told to stop), then seals.
    pub(super) fn finish(self, stop: &Stop, may_wait: bool) -> Result<Progress, Failure> {
        self.shared.is_ending.store(true, Ordering::Release);
        let mut talk_at = self.clock.monotonic() + TALK_EVERY;
        while !self.relay.is_finished() {
            if stop.is_set() || !may_wait {
                self.shared.is_stopped.store(true, Ordering::Release);
            }
            if self.clock.monotonic() >= talk_at {
                let progress = *self.shared.progress.lock().unwrap_or_else(PoisonError::into_inner);
                crate::output::mutter!(
                    "{} records wait to be acknowledged, {} are now",
                    progress.waiting,
                    progress.acked
                );
                talk_at += TALK_EVERY;
            }
            self.clock.sleep_blocking(WATCH_EVERY);
        }
        let shipped = self.relay.join();
        self.receipts.finish(stop);
        match shipped {
            Ok(Ok(progress)) => Ok(progress),
            Ok(Err(error)) => Err(Failure::new(exit::JOURNAL_FAILED, error)),
            Err(_) => Err(Failure::new(exit::JOURNAL_FAILED, "the relay has panicked")),
        }
    }
}

/// Set when the thread ends in any way but the ordered one.
struct FailedUnlessDisarmed<'a>(&'a AtomicBool, bool);

impl Drop for FailedUnlessDisarmed<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Release);
    }
}

fn drive(mut relay: Relay, shared: &Shared, clock: &dyn Clock) -> Result<Progress, RelayError> {
    let mut failed = FailedUnlessDisarmed(&shared.relay_failed, true);
    loop {
        // Read before the step: what was accepted before is seen by it.
        let is_ending = shared.is_ending.load(Ordering::Acquire);
        relay.step(STEP)?;
        let progress = relay.progress();
        *shared.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        let is_done = is_ending && progress.waiting == 0 && progress.is_journaled;
        if is_done || shared.is_stopped.load(Ordering::Acquire) {
            let closed = relay.close(CLOSE_TIMEOUT)?;
            failed.1 = false;
            return Ok(closed);
        }
        if progress.waiting > 0 && progress.in_flight == 0 {
            clock.sleep_blocking(STEP);
        }
    }
}

fn ask_for_growth(spool: &Spool, topic: &str, producer: &mut dyn LogProducer) {
    if let Ok(count) = producer.partition_count(topic, SHIP_TIMEOUT)
        && let Err(error) = spool.set_partition_count(topic, count)
    {
        tracing::warn!("topic {topic} has {count} partitions, not journaled: {error}");
    }
}

type Grow = Box<dyn Fn(&mut dyn LogProducer) + Send>;

/// Sends receipts about once a second, through a client of its own.
pub(super) struct Receipts {
    reporter: Arc<Reporter>,
    is_ending: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
    /// The topic has the first receipt of this session.
    is_announced: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    thread: JoinHandle<()>,
}

impl Receipts {
    /// `flushes`: whether nobody else cuts receipts.
    pub(super) fn start(
        reporter: Arc<Reporter>,
        settings: ProducerSettings,
        clock: Arc<dyn Clock>,
        flushes: bool,
        grow: Grow,
    ) -> Result<Self, Failure> {
        let (is_ending, is_stopped, is_announced) = Default::default();
        let shipper = Shipper {
            reporter: Arc::clone(&reporter),
            settings,
            clock: Arc::clone(&clock),
            is_ending: Arc::clone(&is_ending),
            is_stopped: Arc::clone(&is_stopped),
            is_announced: Arc::clone(&is_announced),
            flushes,
            grow,
            told: false,
        };
        let thread = std::thread::Builder::new().name("receipts".into());
        let thread = thread.spawn(move || shipper.run());
        let thread = thread.map_err(|error| Failure::new(exit::START_FAILED, error))?;
        Ok(Self { reporter, is_ending, is_stopped, is_announced, clock, thread })
    }

    /// Seals the session and sends what can be sent.
    pub(super) fn finish(self, stop: &Stop) {
        if let Err(error) = self.reporter.seal() {
            tracing::warn!("the session is not sealed: {error}; the next start does it");
        }
        self.is_ending.store(true, Ordering::Release);
        while !self.thread.is_finished() {
            if stop.is_set() {
                self.is_stopped.store(true, Ordering::Release);
            }
            self.clock.sleep_blocking(WATCH_EVERY);
        }
    }
}

struct Shipper {
    reporter: Arc<Reporter>,
    settings: ProducerSettings,
    clock: Arc<dyn Clock>,
    is_ending: Arc<AtomicBool>,
    is_stopped: Arc<AtomicBool>,
    is_announced: Arc<AtomicBool>,
    flushes: bool,
    grow: Grow,
    /// That receipts do not get through was said.
    told: bool,
}

impl Shipper {
    fn run(mut self) {
        let mut producer = None;
        let mut left = usize::MAX;
        let mut last_ships = 0;
        for count in 0_u32.. {
            let is_ending = self.is_ending.load(Ordering::Acquire);
            let client = match &mut producer {
                Some(client) => client,
                None => match librdkafka::producer(&self.settings) {
                    Ok(made) => producer.insert(made),
                    Err(error) => {
                        self.tell(&error);
                        if is_ending {
                            break;
                        }
                        self.wait(is_ending);
                        continue;
                    }
                },
            };
            if count % ASK_EVERY == ASK_EVERY - 1 {
                (self.grow)(&mut **client);
            }
            match self.ship(&mut **client) {
                Ok(waiting) => left = waiting,
                Err(ShipError::Fatal { .. }) => {
                    if let Some(dead) = producer.take() {
                        dead.close(Duration::ZERO);
                    }
                    self.reporter.client_replaced();
                }
                Err(_) => {}
            }
            last_ships += u32::from(is_ending);
            let is_over =
                is_ending && (left == 0 || last_ships > LAST_SHIPS_MAX || self.is_stopped());
            if is_over {
                break;
            }
            self.wait(is_ending);
        }
        if left > 0 {
            tracing::warn!("receipts are left in the journal; the next start sends them");
        }
        if let Some(client) = producer {
            client.close(Duration::ZERO);
        }
    }

    fn ship(&mut self, client: &mut dyn LogProducer) -> Result<usize, ShipError> {
        if self.flushes
            && let Err(error) = self.reporter.flush_durable()
        {
            tracing::debug!("{error}");
        }
        let announced = self.announce(client);
        let shipped = announced.and_then(|()| self.reporter.ship(client, SHIP_TIMEOUT));
        match &shipped {
            Ok(_) => self.told = false,
            Err(error) => self.tell(error),
        }
        shipped
    }

    /// Once, until receipts get through again.
    fn tell(&mut self, error: &dyn std::fmt::Display) {
        if self.told {
            tracing::debug!("{error}");
        } else {
            tracing::warn!("{error}; receipts wait in the journal");
            self.told = true;
        }
    }

    fn announce(&self, client: &mut dyn LogProducer) -> Result<(), ShipError> {
        if !self.is_announced.load(Ordering::Acquire) {
            self.reporter.announce(client, SHIP_TIMEOUT)?;
            self.is_announced.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Until the next ship, or until something ends.
    fn wait(&self, was_ending: bool) {
        let mut waited = Duration::ZERO;
        let wait = match (was_ending, self.is_announced.load(Ordering::Acquire)) {
            (true, _) => WATCH_EVERY,
            (false, true) => SHIP_EVERY,
            (false, false) => ANNOUNCE_EVERY,
        };
        while waited < wait && self.is_ending.load(Ordering::Acquire) == was_ending {
            self.clock.sleep_blocking(WATCH_EVERY);
            waited += WATCH_EVERY;
        }
    }
}
