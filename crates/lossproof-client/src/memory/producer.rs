use std::collections::VecDeque;
use std::time::Duration;

use super::{AUTO_CREATE_PARTITIONS, Cluster, DeliveryFault, State};
use crate::{Delivery, DeliveryError, LogProducer, Record, SendCause, SendError, Stored};

/// A producer of the cluster in memory. What it has queued reaches the topic when it is polled.
#[derive(Debug)]
pub(super) struct MemoryProducer {
    cluster: Cluster,
    queued: VecDeque<(Record, u64)>,
    /// Stored, but the outcome waits for this many more polls.
    delayed: VecDeque<(u32, Delivery)>,
    fatal: Option<DeliveryError>,
}

impl MemoryProducer {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, queued: VecDeque::new(), delayed: VecDeque::new(), fatal: None }
    }

    fn outcomes(&mut self, state: &mut State) -> Vec<Delivery> {
        let mut outcomes = Vec::new();
        if let Some((polls, _)) = self.delayed.front_mut() {
            *polls = polls.saturating_sub(1);
        }
        while let Some((0, _)) = self.delayed.front() {
            outcomes.extend(self.delayed.pop_front().map(|(_, delivery)| delivery));
        }
        if self.fatal.is_none() && !state.reachable {
            return outcomes;
        }
        while let Some((record, token)) = self.queued.pop_front() {
            let (polls, outcome) = self.deliver(state, record);
            let delivery = Delivery { token, outcome };
            if polls == 0 && self.delayed.is_empty() {
                outcomes.push(delivery);
            } else {
                self.delayed.push_back((polls, delivery));
            }
        }
        outcomes
    }

    fn deliver(
        &mut self,
        state: &mut State,
        record: Record,
    ) -> (u32, Result<Stored, DeliveryError>) {
        if let Some(fatal) = &self.fatal {
            return (0, Err(fatal.clone()));
        }
        let fault = state.delivery_faults.pop_front().unwrap_or(DeliveryFault::Deliver);
        let copy = record.clone();
        let detail = || format!("scripted: {fault:?}");
        let stores = !matches!(
            fault,
            DeliveryFault::NotStored
                | DeliveryFault::UnknownNotStored
                | DeliveryFault::Refuse
                | DeliveryFault::FatalNotStored
        );
        let stored = if stores { state.store(record) } else { None };
        if fault == DeliveryFault::Duplicate {
            state.store(copy);
        }
        let fatal = DeliveryError::Fatal { detail: detail() };
        let polls = if let DeliveryFault::Delay { polls } = fault { polls } else { 0 };
        let outcome = match fault {
            DeliveryFault::NotStored => Err(DeliveryError::NotStored { detail: detail() }),
            DeliveryFault::UnknownStored | DeliveryFault::UnknownNotStored => {
                Err(DeliveryError::Unknown { detail: detail() })
            }
            DeliveryFault::Refuse => Err(DeliveryError::Refused { detail: detail() }),
            DeliveryFault::FatalStored | DeliveryFault::FatalNotStored => {
                self.fatal = Some(fatal.clone());
                Err(fatal)
            }
            DeliveryFault::Deliver | DeliveryFault::Duplicate | DeliveryFault::Delay { .. } => {
                let missing = || DeliveryError::NotStored { detail: "no such partition".into() };
                stored.ok_or_else(missing)
            }
        };
        (polls, outcome)
    }
}

impl LogProducer for MemoryProducer {
    fn send(&mut self, record: Record, token: u64) -> Result<(), SendError> {
        let (records_max, bytes_max) = {
            let state = self.cluster.lock();
            (state.queue_records_max, state.record_bytes_max)
        };
        let cause = if self.fatal.is_some() {
            SendCause::Fatal
        } else if record.value.as_ref().map_or(0, bytes::Bytes::len) > bytes_max {
            SendCause::TooLarge
        } else if self.in_flight() >= records_max {
            SendCause::QueueFull
        } else {
            self.queued.push_back((record, token));
            return Ok(());
        };
        Err(SendError { record: Box::new(record), cause })
    }

    fn poll(&mut self, timeout: Duration) -> Vec<Delivery> {
        let cluster = self.cluster.clone();
        let found = cluster.wait_for(timeout, |state| {
            let outcomes = self.outcomes(state);
            (!outcomes.is_empty()).then_some(outcomes)
        });
        cluster.notify();
        found.unwrap_or_default()
    }

    fn create_topic_without_retention(
        &mut self,
        topic: &str,
        _timeout: Duration,
    ) -> Result<bool, DeliveryError> {
        let mut state = self.cluster.lock();
        state.answer()?;
        let is_new = state.create(topic, AUTO_CREATE_PARTITIONS);
        if is_new {
            state.kept_topics.insert(topic.to_owned());
        }
        Ok(is_new)
    }

    fn partition_count(&mut self, topic: &str, _timeout: Duration) -> Result<i32, DeliveryError> {
        let mut state = self.cluster.lock();
        state.answer()?;
        if state.auto_create {
            state.create(topic, AUTO_CREATE_PARTITIONS);
        }
        let missing = || DeliveryError::NotStored { detail: format!("no topic {topic}") };
        let count = state.topics.get(topic).map(Vec::len).ok_or_else(missing)?;
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    fn in_flight(&self) -> usize {
        self.queued.len() + self.delayed.len()
    }

    fn fatal(&self) -> Option<DeliveryError> {
        self.fatal.clone()
    }

    fn close(mut self: Box<Self>, timeout: Duration) -> (Vec<Delivery>, Vec<u64>) {
        let mut outcomes = if self.queued.is_empty() { Vec::new() } else { self.poll(timeout) };
        outcomes.extend(self.delayed.drain(..).map(|(_, delivery)| delivery));
        (outcomes, self.queued.drain(..).map(|(_, token)| token).collect())
    }
}
