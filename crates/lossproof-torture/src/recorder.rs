use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lossproof_judge::{Declaration, Event, HistoryWriter, Report, judge};

use crate::broker::PARTITIONS;
use crate::client::TOPIC;
use crate::failure::{Context, Failure};

/// What was seen so far, by all threads of a round, in the order of seeing.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Instant,
    events: Mutex<Vec<(u64, Event)>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), events: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Event)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, event: Event) {
        let mut events = self.lock();
        // Taken under the lock: times rise with the lines.
        let t_ns = self.started.elapsed().as_nanos() as u64;
        events.push((t_ns, event));
    }

    /// The history; without a final read it breaks off.
    pub(crate) fn history(&self, final_read: Option<&str>) -> Result<Vec<u8>, Failure> {
        let topics = [(TOPIC.to_owned(), PARTITIONS as u32)].into();
        let declaration = Declaration { topics, sink: false };
        let events = self.lock();
        let mut history = Vec::new();
        let mut writer = HistoryWriter::begin(&mut history, declaration).context("history")?;
        for (t_ns, event) in events.iter() {
            writer.record(*t_ns, event).context("history")?;
        }
        let end = events.last().map_or(0, |(t_ns, _)| *t_ns);
        if let Some(name) = final_read {
            writer.end(end, name).context("history")?;
        }
        Ok(history)
    }

    pub(crate) fn judge(&self, final_read: &str) -> Result<Report, Failure> {
        let history = self.history(Some(final_read))?;
        judge(history.as_slice()).map_err(|error| Failure::broken(format!("history: {error}")))
    }

    /// By partition and offset: every record that one read has seen.
    pub(crate) fn stored(&self, wanted: &str) -> BTreeMap<(i32, i64), String> {
        let events = self.lock();
        let seen = events.iter().filter_map(|(_, event)| match event {
            Event::Store { read, position, value, .. } if read == wanted => {
                Some(((position.partition as i32, position.offset), value.clone()))
            }
            _ => None,
        });
        seen.collect()
    }
}
