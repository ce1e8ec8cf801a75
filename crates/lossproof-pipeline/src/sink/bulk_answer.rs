//! What an answer to a bulk request says about each of its documents. Sans-io; the recorded
//! answers of real servers are its tests.
//!
//! # Invariants
//!
//! - `BULK-1`: a document counts as stored only when its own item says so.
//! - `BULK-2`: an answer whose items are not those of the request stores nothing.
//! - `BULK-3`: no failure of the server, of credentials or of the index is blamed on a document.

use serde_json::Value;

use crate::config::Operation;
use crate::http_step::excerpt;
use crate::retry::Failure;

/// What became of one document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item {
    Stored,
    /// There is a document with this identity already, and it was left as it is.
    Exists,
    Failed(Failure),
}

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// One for each document, in the order of the request.
    Items(Vec<Item>),
    /// Refused as a whole because of its size or of one document in it: halve it. With one
    /// document only, that one has failed in this way.
    Halve(Failure),
    /// Refused as a whole; nothing was stored, or nobody knows.
    All(Failure),
}

/// Judges an answer to a request with these documents, each by identity and action.
pub fn judge(status: u16, body: &[u8], sent: &[(&str, Operation)]) -> Answer {
    let reason = || format!("HTTP {status}: {}", excerpt(body));
    match status {
        200 => judge_items(body, sent).unwrap_or_else(|detail| {
            Answer::All(Failure::transient(format!("bad answer: {detail}: {}", excerpt(body))))
        }),
        413 => Answer::Halve(Failure::poison("the document is too large for the server")),
        400 => Answer::Halve(Failure::poison(reason())),
        429 | 503 => Answer::All(Failure::Pushback { reason: reason(), retry_after: None }),
        300..=499 => Answer::All(Failure::Held { reason: reason() }),
        _ => Answer::All(Failure::transient(reason())),
    }
}

fn judge_items(body: &[u8], sent: &[(&str, Operation)]) -> Result<Answer, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let items = answer.get("items").and_then(Value::as_array).ok_or("it has no items")?;
    if items.len() != sent.len() {
        return Err(format!("{} items for {} documents", items.len(), sent.len())); // BULK-2
    }
    let pairs = items.iter().zip(sent);
    pairs
        .map(|(item, (id, operation))| judge_item(item, id, *operation))
        .collect::<Result<_, _>>()
        .map(Answer::Items)
}

fn judge_item(item: &Value, id: &str, operation: Operation) -> Result<Item, String> {
    let action = match operation {
        Operation::Index => "index",
        Operation::Create => "create",
    };
    let result = item.get(action).ok_or_else(|| format!("an item is no {action}"))?;
    if result.get("_id").and_then(Value::as_str) != Some(id) {
        return Err(format!("the item of {id} is about another document")); // BULK-2
    }
    let status = result.get("status").and_then(Value::as_u64).ok_or("an item has no status")?;
    let error = result.get("error");
    if lossproof_env::planted(lossproof_env::Planted::BulkItemErrorIgnored) {
        return Ok(Item::Stored);
    }
    if matches!(status, 200 | 201) && error.is_none() {
        return Ok(Item::Stored); // BULK-1
    }
    Ok(failed_item(status, error, operation))
}

/// By status: the types of errors differ between the servers. The exceptions are errors of the
/// index that come with a status of the document.
fn failed_item(status: u64, error: Option<&Value>, operation: Operation) -> Item {
    let kind = error.and_then(|error| error.get("type")).and_then(Value::as_str).unwrap_or("");
    let said = error.and_then(|error| error.get("reason")).and_then(Value::as_str).unwrap_or("");
    let reason = format!("status {status}: {kind}: {}", excerpt(said.as_bytes()));
    let failure = match (status, kind) {
        (409, _) if operation == Operation::Create => return Item::Exists,
        // BULK-3
        (401 | 403 | 404, _) | (400, "index_closed_exception" | "invalid_index_name_exception") => {
            Failure::Held { reason }
        }
        (429 | 503, _) => Failure::Pushback { reason, retry_after: None },
        (400..=499, _) if status != 409 => Failure::Poison { reason },
        _ => Failure::transient(reason),
    };
    Item::Failed(failure)
}
