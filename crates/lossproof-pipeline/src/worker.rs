//! Carries one record through the steps into the sink, or puts it aside.

use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{Clock, Rng};
use serde_json::value::RawValue;
use tracing::{error, warn};

use crate::breaker::Report;
use crate::config::{FilterStep, MapStep};
use crate::dead_letters::{DeadLetterQueue, Reason};
use crate::document::Document;
use crate::endpoint::Endpoint;
use crate::expression::Expression;
use crate::flow::{End, Task};
use crate::http_step::HttpCall;
use crate::receipts::Fact;
use crate::retry::{Budget, Failure, RetrySettings};
use crate::shared::{Patience, Shared};
use crate::sink::{Sink, Written};

/// One step, ready to run.
#[derive(Debug)]
pub(crate) enum Step {
    Http { call: HttpCall, endpoint: Arc<Endpoint> },
    Filter { step: FilterStep, expression: Expression },
    Map { step: MapStep, expression: Expression },
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) shared: Arc<Shared>,
    pub(crate) steps: Vec<Step>,
    pub(crate) sink: Sink,
    pub(crate) sink_endpoint: Arc<Endpoint>,
    pub(crate) dead_letters: Option<DeadLetterQueue>,
    pub(crate) retry: RetrySettings,
    pub(crate) unsafe_skip_failed: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

/// Where a record's way ends other than in the sink.
enum Exit {
    Filtered { reason: String },
    Poison(Reason),
    Abandoned,
}

impl Workers {
    pub(crate) async fn run(self: Arc<Self>, task: Task) {
        match self.carry(&task).await {
            Ok(Written::Now) => self.shared.finish(&task, End::Confirmed, [Fact::Confirmed]),
            Ok(Written::Before) => {
                let facts = [Fact::Duplicate, Fact::Confirmed];
                self.shared.finish(&task, End::Confirmed, facts);
            }
            Err(Exit::Filtered { reason }) => {
                self.shared.finish(&task, End::Filtered, Some(Fact::Filtered { reason }));
            }
            Err(Exit::Poison(reason)) => self.put_aside(&task, &reason).await,
            Err(Exit::Abandoned) => self.shared.give_up(&task),
        }
    }

    async fn carry(&self, task: &Task) -> Result<Written, Exit> {
        let value = task.record.value.as_deref().unwrap_or_default();
        let parsed = Document::parse(value);
        let mut document = parsed.map_err(|error| poison("value", 0, error.to_string()))?;
        for step in &self.steps {
            self.step(task, step, &mut document).await?;
        }
        self.shared.note(task, Fact::Processed);
        // The bulk sink asks the breaker for each request, not for each document.
        let guarded = matches!(self.sink, Sink::Lines(_));
        let (sink, document) = (&self.sink, &document);
        let attempt = || sink.write(&task.identity, document);
        self.insist(task, &self.sink_endpoint, guarded, attempt).await
    }

    async fn step(&self, task: &Task, step: &Step, document: &mut Document) -> Result<(), Exit> {
        match step {
            Step::Filter { step, expression } => match expression.is_true(document) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Exit::Filtered { reason: step.reason.clone() }),
                Err(error) => Err(poison(&step.name, 1, error.to_string())),
            },
            Step::Map { step, expression } => {
                let mapped = expression.map(document);
                *document = mapped.map_err(|error| poison(&step.name, 1, error.to_string()))?;
                Ok(())
            }
            Step::Http { call, endpoint } => {
                let body = call.body(document);
                let body = body.map_err(|f| poison(endpoint.name(), 1, f.reason().to_owned()))?;
                let attempt = || call.call(&task.identity, body.clone());
                let answer: Box<RawValue> = self.insist(task, endpoint, true, attempt).await?;
                document.set(call.target_field(), answer);
                Ok(())
            }
        }
    }

    /// Tries until the endpoint has done it, the record turns out to be at fault, or the record
    /// may no longer wait. An attempt is charged only if another record has passed since it
    /// began; while none passes, it is the endpoint.
    async fn insist<T, F, A>(
        &self,
        task: &Task,
        endpoint: &Endpoint,
        guarded: bool,
        attempt: A,
    ) -> Result<T, Exit>
    where
        F: Future<Output = Result<T, Failure>>,
        A: Fn() -> F,
    {
        let mut patience = self.shared.patience(Some(task.ticket.clone()));
        let mut budget = Budget::new(self.retry.clone());
        let mut probes = 0;
        loop {
            let leave = if guarded {
                let leave = endpoint.leave(probes, &mut patience).await.ok_or(Exit::Abandoned)?;
                probes += u32::from(leave.is_probe());
                Some(leave)
            } else {
                None
            };
            let passes = endpoint.passes();
            let outcome = attempt().await;
            if let Some(leave) = leave {
                let passed = outcome.as_ref().err().is_none_or(|f| !f.blames_endpoint());
                endpoint.count_passes(u64::from(passed));
                endpoint.report(leave, if passed { Report::Answered } else { Report::Failed });
            }
            let failure = match outcome {
                Ok(result) => return Ok(result),
                Err(Failure::Abandoned) => return Err(Exit::Abandoned),
                Err(failure) => failure,
            };
            if let Failure::Poison { reason } = failure {
                return Err(poison(endpoint.name(), budget.tried() + 1, reason));
            }
            let wait = budget.wait_after(&failure, self.rng.as_ref());
            tell(task, endpoint, &failure, budget.tried());
            self.sleep(wait, &mut patience).await?;
            let others_pass = !endpoint.has_breaker() || endpoint.passes() > passes;
            if !budget.charge(&failure, others_pass) {
                let reason = format!("attempts used up: {}", failure.reason());
                return Err(poison(endpoint.name(), budget.tried(), reason));
            }
        }
    }

    async fn sleep(&self, wait: Duration, patience: &mut Patience) -> Result<(), Exit> {
        let mut slept = self.clock.sleep(wait);
        while patience.is_left() {
            tokio::select! {
                () = &mut slept => return Ok(()),
                () = patience.changed() => {}
            }
        }
        Err(Exit::Abandoned)
    }

    /// The record counts as done with once the dead-letter topic has acknowledged it. Without
    /// such a topic its partition stops.
    async fn put_aside(&self, task: &Task, reason: &Reason) {
        let what = format!("{}: {}", reason.place, reason.text);
        if self.unsafe_skip_failed {
            error!("UNSAFE: {} is dropped: {what}", task.identity);
            return self.shared.finish(task, End::UnsafeSkipped, None);
        }
        let Some(dead_letters) = &self.dead_letters else {
            let reason = format!("{what} (there is no [dead_letters] topic to put it in)");
            return self.shared.stop_partition(task, &reason);
        };
        if self.shared.too_many_dead_letters() {
            return self.shared.give_up(task);
        }
        match dead_letters.put(task, reason).await {
            Ok(()) => {
                warn!("{} put into the dead letters: {what}", task.identity);
                let fact = Fact::DeadLettered { reason: reason.kind() };
                self.shared.finish(task, End::DeadLettered, Some(fact));
            }
            Err(detail) => {
                let reason = format!("{what}; and the dead-letter topic refuses it: {detail}");
                self.shared.stop_partition(task, &reason);
            }
        }
    }
}

fn poison(place: &str, attempts: u32, text: String) -> Exit {
    Exit::Poison(Reason { text, place: place.to_owned(), attempts })
}

fn tell(task: &Task, endpoint: &Endpoint, failure: &Failure, tried: u32) {
    let (name, reason) = (endpoint.name(), failure.reason());
    if matches!(failure, Failure::Held { .. }) {
        warn!("{name} takes nothing, {} waits: {reason}", task.identity);
    } else {
        tracing::debug!("{name}, attempt {tried} for {}: {reason}", task.identity);
    }
}
