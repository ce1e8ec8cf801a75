//! Reads a sink in full: what an audit compares the receipts with.
//!
//! # Invariants
//!
//! - `SINK-READ-1`: all documents are handed out, or an error says that they are not: a page with a
//!   missing shard, a cut answer or a foreign line is never taken for the end, and a sink that is
//!   not there never for an empty one: it may be looked for in the wrong place.

use std::io;
use std::path::PathBuf;

use lossproof_env::Disk;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use thiserror::Error;

use super::lines::each_line;
use crate::config::{BulkSettings, LinesSettings, Sink};
use crate::document::Document;
use crate::http_step::{HeaderError, broken, client, header_map, read_bounded};

const PAGE_DOCUMENTS: usize = 500;
/// Longer answers are failures.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// How long the server keeps the place between two pages.
const SCROLL: &str = "5m";

/// Why a sink could not be read to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadSinkError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{url}: {detail}")]
    Server { url: String, detail: String },
    #[error("{url}: there is no index {index}; has a pipeline written to it?")]
    NoIndex { url: String, index: String },
    #[error(
        "{path} is not there; a relative path is taken from the present directory: ask from the \
         directory in which the pipeline runs"
    )]
    NoFile { path: PathBuf },
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}, line {line}: {detail}")]
    Foreign { path: PathBuf, line: u64, detail: String },
}

/// Hands each document and its identity to `each`, in no particular order. Documents that come
/// while it reads may be among them or not.
pub async fn read(
    sink: &Sink,
    disk: &dyn Disk,
    each: &mut (dyn FnMut(&str, &[u8]) + Send),
) -> Result<(), ReadSinkError> {
    match sink {
        Sink::Bulk(settings) => Index::new(settings)?.read(each).await,
        Sink::Lines(settings) => read_lines(settings, disk, each),
    }
}

struct Index<'a> {
    settings: &'a BulkSettings,
    headers: HeaderMap,
    client: Client,
}

/// What matters in an answer to a search.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(rename = "_scroll_id")]
    scroll_id: String,
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    #[serde(borrow)]
    hits: Hits<'a>,
}

#[derive(Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
struct Hits<'a> {
    #[serde(borrow)]
    hits: Vec<Hit<'a>>,
}

#[derive(Deserialize)]
struct Hit<'a> {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source", borrow)]
    source: &'a RawValue,
}

impl<'a> Index<'a> {
    fn new(settings: &'a BulkSettings) -> Result<Self, HeaderError> {
        let mut headers = header_map(&settings.headers)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { settings, headers, client: client() })
    }

    async fn read(&self, each: &mut (dyn FnMut(&str, &[u8]) + Send)) -> Result<(), ReadSinkError> {
        let index = &self.settings.index;
        // What is not refreshed is not found.
        let (status, body) = self.ask(Method::POST, &format!("/{index}/_refresh"), None).await?;
        match status {
            200 => {}
            404 => {
                let (url, index) = (self.settings.url.clone(), index.clone());
                return Err(ReadSinkError::NoIndex { url, index }); // SINK-READ-1
            }
            _ => return Err(self.refused(status, &body)),
        }
        let first = json!({ "size": PAGE_DOCUMENTS, "sort": ["_doc"] });
        let path = format!("/{index}/_search?scroll={SCROLL}");
        let (mut status, mut body) = self.ask(Method::POST, &path, Some(&first)).await?;
        loop {
            if status != 200 {
                return Err(self.refused(status, &body));
            }
            let page: Page<'_> =
                serde_json::from_slice(&body).map_err(|error| self.failed(&error.to_string()))?;
            if page.timed_out || page.shards.failed > 0 {
                return Err(self.failed("a part of the index did not answer")); // SINK-READ-1
            }
            if page.hits.hits.is_empty() {
                let place = json!({ "scroll_id": page.scroll_id });
                // The server forgets it by itself where this fails.
                let _ = self.ask(Method::DELETE, "/_search/scroll", Some(&place)).await;
                return Ok(());
            }
            for hit in &page.hits.hits {
                each(&hit.id, hit.source.get().as_bytes());
            }
            let next = json!({ "scroll": SCROLL, "scroll_id": page.scroll_id });
            (status, body) = self.ask(Method::POST, "/_search/scroll", Some(&next)).await?;
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, bytes::Bytes), ReadSinkError> {
        let url = format!("{}{path}", self.settings.url);
        let mut request = self.client.request(method, url).headers(self.headers.clone());
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let failed = |failure: crate::retry::Failure| self.failed(failure.reason());
        let response = request.timeout(self.settings.timeout).send().await;
        let response = response.map_err(|error| failed(broken(error)))?;
        let status = response.status().as_u16();
        let body = read_bounded(response, PAGE_BYTES_MAX).await.map_err(failed)?;
        Ok((status, body))
    }

    fn refused(&self, status: u16, body: &[u8]) -> ReadSinkError {
        const SHOWN_BYTES_MAX: usize = 300;
        let said = String::from_utf8_lossy(body.get(..SHOWN_BYTES_MAX).unwrap_or(body));
        self.failed(&format!("HTTP {status}: {said}"))
    }

    fn failed(&self, detail: &str) -> ReadSinkError {
        ReadSinkError::Server { url: self.settings.url.clone(), detail: detail.to_owned() }
    }
}

fn read_lines(
    settings: &LinesSettings,
    disk: &dyn Disk,
    each: &mut (dyn FnMut(&str, &[u8]) + Send),
) -> Result<(), ReadSinkError> {
    let path = &settings.path;
    let failed = |source| ReadSinkError::File { path: path.clone(), source };
    if !disk.exists(path).map_err(failed)? {
        return Err(ReadSinkError::NoFile { path: path.clone() }); // SINK-READ-1
    }
    let file = disk.open_read_only(path).map_err(failed)?;
    let mut number = 0;
    // What follows the last line break was never confirmed.
    let read = each_line(file.as_ref(), u64::MAX, |line| {
        number += 1;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let foreign = |detail| io::Error::new(io::ErrorKind::InvalidData, detail);
        let document = Document::read_back(line).map_err(|error| foreign(error.to_string()))?;
        let id = document.get(&settings.id_field);
        let id: Option<String> = id.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let missing = || foreign(format!("no identity in field `{}`", settings.id_field));
        each(&id.ok_or_else(missing)?, line);
        Ok(())
    });
    read.map(drop).map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => {
            ReadSinkError::Foreign { path: path.clone(), line: number, detail: source.to_string() }
        }
        _ => failed(source),
    })
}
