//! An independent judge of what happened to messages.
//!
//! It shares no code with the audit that it checks, and trusts nothing that lossproof says of
//! itself. Its evidence is a *history*, written from outside by whoever runs a test: the lines
//! handed to a producer, the acknowledgements seen, full reads of topic and sink through foreign
//! clients, committed offsets. The format is `docs/format/history.md`.
//!
//! The definitions of loss are those of Jepsen's Kafka workload, carried on to the sink.
//!
//! ```
//! use lossproof_judge::{Declaration, Event, HistoryWriter, Outcome, Verdict, judge};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut history = Vec::new();
//! let declaration = Declaration { topics: [("news".to_owned(), 1)].into(), sink: true };
//! let mut writer = HistoryWriter::begin(&mut history, declaration)?;
//! writer.record(1, &Event::hand_in("producer", "line 1"))?;
//! writer.record(2, &Event::acknowledge("producer", "line 1", Outcome::Ok))?;
//! writer.record(3, &Event::store("final", "news", 0, 0, "line 1"))?;
//! writer.record(4, &Event::read_end("final", "news", 0, 0, 1))?;
//! writer.record(5, &Event::SinkEnd { documents: 0 })?; // the index is empty!
//! writer.end(6, "final")?;
//!
//! let report = judge(history.as_slice())?;
//! assert_eq!(report.verdict, Verdict::Loss);
//! assert_eq!(report.lost, ["line 1"]);
//! assert_eq!(report.anomalies[0].id(), "unseen-in-sink");
//! # Ok(())
//! # }
//! ```

mod check;
mod event;
mod evidence;
mod history;
mod report;

pub use event::{Declaration, Entry, Event, Outcome, Position};
pub use history::{HistoryError, HistoryWriter};
pub use report::{Anomaly, Class, Counts, Report, Verdict};

use std::io::Read;

/// Reads a history to its end and judges it.
pub fn judge(history: impl Read) -> Result<Report, HistoryError> {
    Ok(check::check(&history::read(history)?))
}
