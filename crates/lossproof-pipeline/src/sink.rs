//! Where documents go: an index over its bulk interface, or a file of JSON lines.

pub(crate) mod bulk;
pub mod bulk_answer;
pub(crate) mod lines;
pub mod read;
pub mod seen;

use lossproof_audit::identity::Identity;

use crate::document::Document;
use crate::retry::Failure;

/// How a document came to be in the sink.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Written {
    Now,
    /// It was there already: another attempt, or another copy of the record, had put it there.
    Before,
}

/// One sink; a document is confirmed when the call returns `Ok`, and not before.
#[derive(Debug)]
pub(crate) enum Sink {
    Bulk(bulk::BulkSink),
    Lines(lines::LinesSink),
}

impl Sink {
    pub(crate) async fn write(
        &self,
        id: &Identity,
        document: &Document,
    ) -> Result<Written, Failure> {
        match self {
            Self::Bulk(sink) => sink.write(id, document).await,
            Self::Lines(sink) => sink.write(id, document).await,
        }
    }
}
