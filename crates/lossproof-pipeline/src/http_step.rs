//! Step `http`: a service works on each record, and its answer becomes a field of the record.
//! Whatever is not a complete, well-formed answer is a failure; a record never goes on without.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lossproof_audit::identity::Identity;
use lossproof_env::Clock;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use serde_json::value::RawValue;

use crate::config::HttpStep;
use crate::document::Document;
use crate::retry::Failure;

/// Longer answers are failures.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Of what a service says about a refusal, this much is kept.
const REASON_BYTES_MAX: usize = 512;
/// Services that keep what they did under this header do it once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Debug)]
pub(crate) struct HttpCall {
    step: HttpStep,
    headers: HeaderMap,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// A header of the pipeline file that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("`{name}` with this value is no HTTP header")]
pub struct HeaderError {
    pub name: String,
}

/// The client for steps and sinks: no redirects, which would repeat a POST as a GET, and no proxy
/// from the environment, which nobody wrote into the pipeline file.
pub(crate) fn client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without TLS has nothing to fail on")
}

pub(crate) fn header_map<'a>(
    headers: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<HeaderMap, HeaderError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let error = || HeaderError { name: name.clone() };
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| error())?;
        map.insert(header, HeaderValue::from_str(value).map_err(|_| error())?);
    }
    Ok(map)
}

impl HttpCall {
    pub(crate) fn new(step: HttpStep, clock: Arc<dyn Clock>) -> Result<Self, HeaderError> {
        let mut headers = header_map(&step.headers)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self { step, headers, client: client(), clock })
    }

    /// The field that the answer is put in.
    pub(crate) fn target_field(&self) -> &str {
        &self.step.into
    }

    /// What is to be sent for this record.
    pub(crate) fn body(&self, document: &Document) -> Result<Bytes, Failure> {
        let Some(field) = &self.step.field else { return Ok(document.to_json().into()) };
        let value = document
            .get(field)
            .ok_or_else(|| Failure::poison(format!("the record has no field `{field}`")))?;
        let mut request = Document::default();
        request.set(field, value.to_owned());
        Ok(request.to_json().into())
    }

    /// One attempt.
    pub(crate) async fn call(&self, id: &Identity, body: Bytes) -> Result<Box<RawValue>, Failure> {
        let request = self
            .client
            .post(&self.step.url)
            .headers(self.headers.clone())
            .header(IDEMPOTENCY_KEY, id.to_string().as_bytes())
            .timeout(self.step.timeout)
            .body(body);
        let response = request.send().await.map_err(broken)?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), self.clock.wall_ms());
        let answer = read_bounded(response, ANSWER_BYTES_MAX).await;
        if !status.is_success() {
            let said = answer.map(|bytes| excerpt(&bytes)).unwrap_or_default();
            return Err(refusal(status, retry_after, &said));
        }
        self.understand(&answer?)
    }

    fn understand(&self, answer: &[u8]) -> Result<Box<RawValue>, Failure> {
        let bad = |detail: String| {
            Failure::transient(format!("bad answer: {detail}: {}", excerpt(answer)))
        };
        let object = Document::parse(answer).map_err(|error| bad(error.to_string()))?;
        let missing = self.step.require.iter().find(|field| object.get(field).is_none());
        if let Some(field) = missing {
            return Err(bad(format!("field `{field}` is missing")));
        }
        RawValue::from_string(object.to_json()).map_err(|error| bad(error.to_string()))
    }
}

/// No complete response came.
pub(crate) fn broken(error: reqwest::Error) -> Failure {
    use std::error::Error;
    let mut reason = if error.is_timeout() { "timed out".to_owned() } else { String::new() };
    let error = error.without_url();
    let mut source: Option<&dyn Error> = Some(&error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !reason.contains(&text) {
            reason = if reason.is_empty() { text } else { format!("{reason}: {text}") };
        }
        source = cause.source();
    }
    Failure::transient(reason)
}

/// The whole body, or a failure where it is cut short or too long.
pub(crate) async fn read_bounded(mut response: Response, max: usize) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > max {
            return Err(Failure::transient(format!("an answer of more than {max} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn refusal(status: StatusCode, retry_after: Option<Duration>, said: &str) -> Failure {
    let reason = format!("HTTP {}: {said}", status.as_u16());
    match status.as_u16() {
        // These concern the pipeline, not the record.
        300..=399 | 401 | 403 | 407 => Failure::Held { reason },
        408 | 425 => Failure::Transient { reason, retry_after },
        429 | 503 => Failure::Pushback { reason, retry_after },
        400..=499 => Failure::Poison { reason },
        _ => Failure::Transient { reason, retry_after },
    }
}

/// Seconds or a date, as in RFC 9110.
pub(crate) fn retry_after(headers: &HeaderMap, wall_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date_ms = date.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis() as u64;
    Some(Duration::from_millis(date_ms.saturating_sub(u64::try_from(wall_ms).ok()?)))
}

/// The beginning of what somebody said, on one line.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let start = bytes.get(..REASON_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(start);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let of = |text: &str| {
            let headers = header_map([(&"Retry-After".to_owned(), &text.to_owned())]).unwrap();
            retry_after(&headers, 784_111_777_000)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn whose_fault_a_status_is() {
        let of = |status: u16| refusal(StatusCode::from_u16(status).unwrap(), None, "");
        for status in [400, 404, 409, 413, 422] {
            assert!(matches!(of(status), Failure::Poison { .. }), "{status}");
        }
        for status in [301, 401, 403] {
            assert!(matches!(of(status), Failure::Held { .. }), "{status}");
        }
        for status in [408, 500, 502, 504] {
            assert!(matches!(of(status), Failure::Transient { .. }), "{status}");
        }
        for status in [429, 503] {
            assert!(matches!(of(status), Failure::Pushback { .. }), "{status}");
        }
    }
}
