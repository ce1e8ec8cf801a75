//! Sink `opensearch` and `elasticsearch`. Documents that are waiting go out together, with no
//! delay to gather more; each gets its own answer.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lossproof_audit::identity::Identity;
use lossproof_env::Clock;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::Written;
use super::bulk_answer::{Answer, Item, judge};
use crate::breaker::Report;
use crate::config::{BulkSettings, Operation};
use crate::document::Document;
use crate::endpoint::Endpoint;
use crate::http_step::{HeaderError, broken, client, header_map, read_bounded, retry_after};
use crate::retry::Failure;
use crate::shared::{Patience, Shared};

/// Longer answers are failures.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Of both servers: a longer identity would get the whole request refused.
const ID_BYTES_MAX: usize = 512;
/// Documents in a request that probes.
const PROBE_RECORDS: usize = 8;

/// Hands documents to the senders.
#[derive(Debug)]
pub(crate) struct BulkSink {
    queue: mpsc::Sender<Entry>,
    operation: Operation,
}

#[derive(Debug)]
struct Entry {
    id: String,
    /// Is the identity unique for ever, or does it start anew with a topic that is made anew?
    stamped: bool,
    operation: Operation,
    source: String,
    reply: oneshot::Sender<Outcome>,
}

type Outcome = Result<Written, Failure>;

/// What the senders share.
#[derive(Debug)]
struct Sender {
    settings: BulkSettings,
    headers: HeaderMap,
    client: Client,
    clock: Arc<dyn Clock>,
    endpoint: Arc<Endpoint>,
    queue: Mutex<mpsc::Receiver<Entry>>,
    /// Documents per request at present; halved when the server finds a request too much.
    batch_records: AtomicUsize,
}

impl BulkSink {
    /// Starts the senders among `tasks`.
    pub(crate) fn start(
        settings: BulkSettings,
        endpoint: Arc<Endpoint>,
        clock: Arc<dyn Clock>,
        shared: &Arc<Shared>,
        tasks: &mut JoinSet<()>,
        queue_max: usize,
    ) -> Result<Self, HeaderError> {
        let mut headers = header_map(&settings.headers)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let (queue, receiver) = mpsc::channel(queue_max);
        let (operation, senders) = (settings.operation, settings.requests_in_flight);
        let sender = Arc::new(Sender {
            batch_records: settings.batch_records.into(),
            settings,
            headers,
            client: client(),
            clock,
            endpoint,
            queue: Mutex::new(receiver),
        });
        for _ in 0..senders {
            tasks.spawn(Arc::clone(&sender).run(shared.patience(None)));
        }
        Ok(Self { queue, operation })
    }

    pub(crate) async fn write(&self, id: &Identity, document: &Document) -> Outcome {
        let text = id.to_string();
        if text.len() > ID_BYTES_MAX {
            return Err(Failure::poison(format!("an identity too long for the server: {text}")));
        }
        let (reply, outcome) = oneshot::channel();
        let stamped = matches!(id, Identity::Stamped(_));
        // An identity that begins anew with its topic must overwrite nothing.
        let operation = if stamped { self.operation } else { Operation::Create };
        let entry = Entry { id: text, stamped, operation, source: document.to_json(), reply };
        // A sender that is gone has sent nothing more; a reply that is dropped confirms nothing.
        self.queue.send(entry).await.map_err(|_| Failure::Abandoned)?;
        outcome.await.unwrap_or(Err(Failure::Abandoned))
    }
}

impl Sender {
    async fn run(self: Arc<Self>, mut patience: Patience) {
        while let Some(mut batch) = self.gather().await {
            while !batch.is_empty() {
                let Some(leave) = self.endpoint.leave(0, &mut patience).await else {
                    let abandoned = vec![Err(Failure::Abandoned); batch.len()];
                    answer(batch.drain(..), abandoned);
                    break;
                };
                let probe = batch.len().min(PROBE_RECORDS);
                let count = if leave.is_probe() { probe } else { batch.len() };
                let part: Vec<Entry> = batch.drain(..count).collect();
                let outcomes = self.deliver(&part).await;
                let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                self.endpoint.count_passes(stored as u64);
                self.endpoint.report(leave, report_of(&outcomes));
                answer(part.into_iter(), outcomes);
            }
        }
    }

    /// Waits for a document, and takes what else is waiting. `None`: there will be no more.
    async fn gather(&self) -> Option<Vec<Entry>> {
        let records_max = self.batch_records.load(Ordering::SeqCst);
        let mut queue = self.queue.lock().await;
        let first = queue.recv().await?;
        let mut bytes = first.source.len();
        let mut batch = vec![first];
        while batch.len() < records_max
            && bytes < self.settings.batch_bytes
            && let Ok(entry) = queue.try_recv()
        {
            bytes += entry.source.len();
            batch.push(entry);
        }
        Some(batch)
    }

    /// One outcome for each entry, in order.
    async fn deliver(&self, batch: &[Entry]) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = vec![Err(Failure::Abandoned); batch.len()];
        // Ranges still to be sent. Each is sent once; a range of n is halved at most log2(n) times.
        let mut ranges: Vec<_> = std::iter::once(0..batch.len()).collect();
        while let Some(range) = ranges.pop() {
            let Some(part) = batch.get(range.clone()) else { continue };
            match self.request(part).await {
                Answer::Items(items) => {
                    for ((index, entry), item) in range.zip(part).zip(items) {
                        outcomes[index] = self.settle(entry, item).await;
                    }
                }
                Answer::Halve(_) if part.len() > 1 => {
                    let middle = range.start + part.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
                Answer::Halve(failure) | Answer::All(failure) => {
                    fill(&mut outcomes, range, &failure);
                    if failure.blames_endpoint() {
                        // The rest of the batch would meet the same.
                        ranges.drain(..).for_each(|rest| fill(&mut outcomes, rest, &failure));
                    }
                }
            }
        }
        outcomes
    }

    async fn request(&self, part: &[Entry]) -> Answer {
        let sent: Vec<_> = part.iter().map(|entry| (entry.id.as_str(), entry.operation)).collect();
        let url = format!("{}/_bulk", self.settings.url);
        let body: String = part.iter().map(|entry| self.lines(entry)).collect();
        let request = self.client.post(url).headers(self.headers.clone());
        let answered = request.timeout(self.settings.timeout).body(body).send().await;
        let response = match answered {
            Ok(response) => response,
            Err(error) => return Answer::All(broken(error)),
        };
        let status = response.status().as_u16();
        let wait = retry_after(response.headers(), self.clock.wall_ms());
        let body = match read_bounded(response, ANSWER_BYTES_MAX).await {
            Ok(body) => body,
            // Refused for its size, perhaps with the connection cut: the status is enough.
            Err(_) if status == 413 => bytes::Bytes::new(),
            Err(failure) => return Answer::All(failure),
        };
        let answer = judge(status, &body, &sent);
        self.adapt(status, part.len());
        match answer {
            Answer::All(Failure::Pushback { reason, .. }) => {
                Answer::All(Failure::Pushback { reason, retry_after: wait })
            }
            answer => answer,
        }
    }

    fn lines(&self, entry: &Entry) -> String {
        let action = match entry.operation {
            Operation::Index => "index",
            Operation::Create => "create",
        };
        let head = json!({ action: { "_index": self.settings.index, "_id": entry.id } });
        format!("{head}\n{}\n", entry.source)
    }

    /// A request refused for its load is followed by smaller ones, which grow again with success.
    fn adapt(&self, status: u16, sent: usize) {
        let limit = self.batch_records.load(Ordering::SeqCst);
        let next = match status {
            413 | 429 => (sent / 2).max(1).min(limit),
            200 if sent >= limit => (limit * 2).min(self.settings.batch_records),
            _ => limit,
        };
        self.batch_records.store(next, Ordering::SeqCst);
    }

    async fn settle(&self, entry: &Entry, item: Item) -> Outcome {
        match item {
            Item::Stored => Ok(Written::Now),
            Item::Failed(failure) => Err(failure),
            // A stamped identity is given once: what is there is this record, put there by an
            // attempt whose answer was lost.
            Item::Exists if entry.stamped => Ok(Written::Before),
            Item::Exists => self.compare(entry).await.map(|()| Written::Before),
        }
    }

    /// Is the document that holds the identity the same? Offsets begin anew with a topic that is
    /// deleted and made again, so that another record may have had the place.
    async fn compare(&self, entry: &Entry) -> Result<(), Failure> {
        let mut url = reqwest::Url::parse(&self.settings.url)
            .map_err(|error| Failure::transient(error.to_string()))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend([&self.settings.index, "_doc", &entry.id]);
        }
        let request = self.client.get(url).headers(self.headers.clone());
        let response = request.timeout(self.settings.timeout).send().await.map_err(broken)?;
        let body = read_bounded(response, ANSWER_BYTES_MAX).await?;
        let there: Value = serde_json::from_slice(&body)
            .map_err(|error| Failure::transient(format!("bad answer: {error}")))?;
        let Some(source) = there.get("_source") else {
            return Err(Failure::transient("a document that exists is not there"));
        };
        let own: Value = serde_json::from_str(&entry.source).unwrap_or(Value::Null);
        if *source == own {
            return Ok(());
        }
        Err(Failure::poison("another document has this identity"))
    }
}

fn fill(outcomes: &mut [Outcome], range: Range<usize>, failure: &Failure) {
    for outcome in outcomes.get_mut(range).into_iter().flatten() {
        *outcome = Err(failure.clone());
    }
}

fn answer(batch: impl Iterator<Item = Entry>, outcomes: Vec<Outcome>) {
    for (entry, outcome) in batch.zip(outcomes) {
        // Nobody is there to hear it only after the record was given up.
        let _ = entry.reply.send(outcome);
    }
}

/// The endpoint has failed when it took nothing and is to blame for some of it.
fn report_of(outcomes: &[Outcome]) -> Report {
    let stored = outcomes.iter().any(Result::is_ok);
    let blamed = outcomes.iter().any(|o| o.as_ref().is_err_and(Failure::blames_endpoint));
    if blamed && !stored { Report::Failed } else { Report::Answered }
}
