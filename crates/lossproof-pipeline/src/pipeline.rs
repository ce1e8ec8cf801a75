//! Puts the parts together and runs them: one poll thread, workers on a tokio runtime.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use lossproof_client::{LogConsumer, TopicPartition};
use lossproof_env::Environment;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::{self, Config};
use crate::dead_letters::DeadLetterQueue;
pub use crate::dead_letters::ProducerFactory;
use crate::endpoint::Endpoint;
use crate::expression::{CompileError, Expression};
use crate::flow::{Counts, Flow};
use crate::http_step::{HeaderError, HttpCall};
use crate::poller::Poller;
use crate::receipts::Receipts;
use crate::shared::Shared;
use crate::sink::Sink;
use crate::sink::bulk::BulkSink;
use crate::sink::lines::{LinesSink, OpenLinesError};
use crate::worker::{Step, Workers};

/// Threads for workers, which wait for the network most of the time.
const WORKER_THREADS: usize = 2;
/// Records that may come in after a pause was asked for; see [`queue_max`].
const QUEUE_SLACK: usize = 1024;

/// Everything of the outside world that a pipeline needs.
pub struct Parts {
    pub environment: Environment,
    pub consumer: Box<dyn LogConsumer>,
    /// Makes producers for the dead letters.
    pub producers: ProducerFactory,
    pub receipts: Box<dyn Receipts>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Tells a pipeline to end, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    requested: Arc<AtomicBool>,
}

impl Stop {
    /// What is running is finished, in bounded time, and committed.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Summary {
    pub counts: Counts,
    /// Partitions that ended before their time, and why.
    pub stopped: Vec<(TopicPartition, String)>,
    /// Why the whole pipeline had to end, if it was not told to.
    pub fatal: Option<String>,
}

impl Summary {
    /// Did it end because it was told to, with all partitions running until then?
    pub fn is_good(&self) -> bool {
        self.stopped.is_empty() && self.fatal.is_none()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.counts))?;
        for (TopicPartition { topic, partition }, reason) in &self.stopped {
            write!(f, "\n{topic}-{partition} stopped: {reason}")?;
        }
        self.fatal.iter().try_for_each(|reason| write!(f, "\nended early: {reason}"))
    }
}

/// The counts on one line, as an equation (`FLOW-1`).
pub(crate) fn describe(counts: &Counts) -> String {
    let Counts { admitted, confirmed, filtered, dead_lettered, in_flight, given_back, .. } = counts;
    let skipped = match counts.unsafe_skipped {
        0 => String::new(),
        skipped => format!(" + {skipped} DROPPED (unsafe)"),
    };
    format!(
        "{admitted} in = {confirmed} confirmed + {filtered} filtered + {dead_lettered} \
         dead-lettered{skipped} + {in_flight} in flight + {given_back} given back"
    )
}

/// Why a pipeline does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("step {name}: {source}")]
    Expression {
        name: String,
        #[source]
        source: CompileError,
    },
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Lines(#[from] OpenLinesError),
    #[error("the system gives no thread: {0}")]
    Thread(#[from] io::Error),
}

/// Runs until `stop` is requested or something makes it end.
pub fn run(config: &Config, parts: Parts, stop: &Stop) -> Result<Summary, StartError> {
    for switch in config.unsafe_switches() {
        warn!("UNSAFE: {switch} is on: this pipeline can lose records");
    }
    let source = &config.source;
    let unsafe_commit = source.unsafe_commit_before_processing;
    let dead_letters_max = config.dead_letters.as_ref().map(|letters| letters.consecutive_max);
    let flow = Flow::new(source.mode, source.limits, unsafe_commit);
    let shared = Arc::new(Shared::new(flow, dead_letters_max));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()?;
    let environment = parts.environment.clone();
    let Built { workers, endpoints, senders, threads } = {
        let _inside = runtime.enter();
        build(config, &environment, parts.producers, &shared)?
    };
    let poller = Poller::new(
        parts.consumer,
        parts.receipts,
        Arc::clone(&shared),
        endpoints,
        environment.clock,
        source,
        stop.clone(),
    );
    let watch = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name("poll".to_owned()).spawn(move || {
        let guard = PollEnd(watch);
        poller.run();
        drop(guard);
    })?;
    dispatch(&runtime, &workers, senders, source.workers);
    if thread.join().is_err() {
        shared.fail("the poll thread has panicked".to_owned());
    }
    // First whoever could still hand something to the threads, then the threads.
    drop(runtime);
    drop(workers);
    for thread in threads {
        if thread.join().is_err() {
            shared.fail("a writing thread has panicked".to_owned());
        }
    }
    Ok(summary(&shared))
}

/// The dispatcher must not wait for a poll thread that has panicked. Nothing but a flag.
struct PollEnd(Arc<Shared>);

impl Drop for PollEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close_after_panic();
        }
    }
}

fn summary(shared: &Shared) -> Summary {
    let mut inner = shared.lock();
    let stopped = inner.flow.stopped();
    let summary = Summary { counts: inner.flow.counts(), stopped, fatal: inner.fatal.take() };
    info!("{summary}");
    summary
}

struct Built {
    workers: Arc<Workers>,
    endpoints: Vec<Arc<Endpoint>>,
    /// Tasks of the sink.
    senders: JoinSet<()>,
    /// End when the workers are dropped.
    threads: Vec<JoinHandle<()>>,
}

fn build(
    config: &Config,
    environment: &Environment,
    producers: ProducerFactory,
    shared: &Arc<Shared>,
) -> Result<Built, StartError> {
    let clock = &environment.clock;
    let endpoint =
        |name: &str| Arc::new(Endpoint::new(name, config.breaker.clone(), Arc::clone(clock)));
    let mut endpoints = Vec::new();
    let mut steps = Vec::new();
    for step in &config.steps {
        steps.push(build_step(step, environment, |name| {
            let made = endpoint(name);
            endpoints.push(Arc::clone(&made));
            made
        })?);
    }
    let sink_endpoint = endpoint("sink");
    endpoints.push(Arc::clone(&sink_endpoint));
    let (mut senders, mut threads) = (JoinSet::new(), Vec::new());
    let queue_max = queue_max(config);
    let sink = match &config.sink {
        config::Sink::Lines(settings) => {
            let (disk, shared) = (Arc::clone(&environment.disk), Arc::clone(shared));
            let (sink, thread) = LinesSink::start(settings, disk, shared, queue_max)?;
            threads.push(thread);
            Sink::Lines(sink)
        }
        config::Sink::Bulk(settings) => {
            let (endpoint, clock) = (Arc::clone(&sink_endpoint), Arc::clone(clock));
            let settings = settings.clone();
            let sink = BulkSink::start(settings, endpoint, clock, shared, &mut senders, queue_max)?;
            Sink::Bulk(sink)
        }
    };
    let mut dead_letters = None;
    if let Some(letters) = &config.dead_letters {
        let (topic, group) = (letters.topic.clone(), config.source.group.clone());
        let clock = Arc::clone(clock);
        let (queue, thread) = DeadLetterQueue::start(topic, group, producers, clock, queue_max)?;
        threads.push(thread);
        dead_letters = Some(queue);
    }
    let workers = Workers {
        shared: Arc::clone(shared),
        steps,
        sink,
        sink_endpoint,
        dead_letters,
        retry: config.retry.clone(),
        unsafe_skip_failed: config.unsafe_skip_failed,
        clock: Arc::clone(clock),
        rng: Arc::clone(&environment.rng),
    };
    Ok(Built { workers: Arc::new(workers), endpoints, senders, threads })
}

fn build_step(
    step: &config::Step,
    environment: &Environment,
    mut endpoint: impl FnMut(&str) -> Arc<Endpoint>,
) -> Result<Step, StartError> {
    let compile = |name: &str, code: &str| {
        Expression::compile(code)
            .map_err(|source| StartError::Expression { name: name.to_owned(), source })
    };
    Ok(match step {
        config::Step::Http(step) => Step::Http {
            endpoint: endpoint(&step.name),
            call: HttpCall::new(step.clone(), Arc::clone(&environment.clock))?,
        },
        config::Step::Filter(step) => {
            Step::Filter { expression: compile(&step.name, &step.keep)?, step: step.clone() }
        }
        config::Step::Map(step) => {
            Step::Map { expression: compile(&step.name, &step.expression)?, step: step.clone() }
        }
    })
}

/// Room for every record that a worker may have in hand: workers of an assignment that has ended
/// may still hold theirs.
fn queue_max(config: &Config) -> usize {
    config.source.workers + config.source.limits.in_flight_max + QUEUE_SLACK
}

/// Starts workers until the poll thread is over.
fn dispatch(runtime: &Runtime, workers: &Arc<Workers>, senders: JoinSet<()>, workers_max: usize) {
    runtime.block_on(async {
        let shared = &workers.shared;
        let mut running = JoinSet::new();
        while !shared.lock().closed {
            while running.len() < workers_max
                && let Some(task) = shared.start()
            {
                running.spawn(Arc::clone(workers).run(task));
            }
            tokio::select! {
                () = shared.work.notified() => {}
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    if let Err(error) = ended {
                        // Its record stays unfinished and holds its partition.
                        shared.fail(format!("a worker has panicked: {error}"));
                    }
                }
            }
        }
        // What is left belongs to assignments that have ended: nobody hears of its outcome.
        drop((running, senders));
    });
}
