//! An HTTP server whose answers a test chooses.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The answer, once the gate is open.
    Behind(Gate, Box<Reply>),
}

/// Closed until it is opened, for all who wait at it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn open(&self) {
        self.0.close();
    }

    pub fn hold(&self, reply: Reply) -> Reply {
        Reply::Behind(self.clone(), Box::new(reply))
    }

    async fn wait(&self) {
        // A closed semaphore is an open gate.
        let _ = self.0.acquire().await;
    }
}

/// As a bulk interface answers: a status for each document, by its identity and source.
pub fn bulk(seen: &Seen, mut status: impl FnMut(&str, &str) -> u16) -> Reply {
    let mut items = Vec::new();
    let mut errors = false;
    let lines: Vec<&str> = seen.body.lines().collect();
    for pair in lines.chunks(2) {
        let head: serde_json::Value = serde_json::from_str(pair[0]).expect("an action");
        let (action, meta) = head.as_object().unwrap().iter().next().unwrap();
        let id = meta["_id"].as_str().unwrap();
        let status = status(id, pair[1]);
        let mut item = serde_json::json!({ "_index": "news", "_id": id, "status": status });
        if status >= 300 {
            errors = true;
            item["error"] = serde_json::json!({ "type": "scripted", "reason": "scripted" });
        }
        items.push(serde_json::json!({ action: item }));
    }
    answer(200, serde_json::json!({ "took": 1, "errors": errors, "items": items }).to_string())
}

/// The identities of the documents in a bulk request.
pub fn bulk_ids(seen: &Seen) -> Vec<String> {
    seen.body.lines().step_by(2).map(bulk_id).collect()
}

/// The identity that the head of a document names.
pub fn bulk_id(head: &str) -> String {
    let head: serde_json::Value = serde_json::from_str(head).expect("an action");
    let meta = head.as_object().unwrap().values().next().unwrap().clone();
    meta["_id"].as_str().unwrap().to_owned()
}

pub fn answer(status: u16, body: impl Into<String>) -> Reply {
    Reply::Answer(status, Vec::new(), body.into())
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub idempotency_key: Option<String>,
    pub body: String,
}

type Handler = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Handler>,
}

/// Runs until it is dropped.
pub struct Service {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    runtime: Option<Runtime>,
}

impl Service {
    /// `handler` gets the number of the request (from 0) and the request.
    pub fn start(handler: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().expect("threads");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared { seen: Arc::clone(&seen), handler: Arc::new(handler) };
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(serve).with_state(shared);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url: format!("http://{address}"), seen, runtime: Some(runtime) }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let header = |name: &str| parts.headers.get(name)?.to_str().ok().map(ToOwned::to_owned);
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        idempotency_key: header("idempotency-key"),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let number = {
        let mut all = shared.seen.lock().unwrap();
        all.push(seen.clone());
        all.len() - 1
    };
    let mut reply = (shared.handler)(number, &seen);
    let (status, headers, body) = loop {
        match reply {
            Reply::Answer(status, headers, body) => break (status, headers, Body::from(body)),
            Reply::Behind(gate, then) => {
                gate.wait().await;
                reply = *then;
            }
        }
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).expect("a response")
}

/// A server that answers every connection with these bytes and closes it. Ends with the process.
pub fn raw_service(response: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(response);
        }
    });
    format!("http://{address}")
}
