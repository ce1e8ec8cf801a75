use std::time::Duration;

use bytes::Bytes;
use lossproof_client::{Delivery, DeliveryError, LogProducer, Record, SendCause};
use lossproof_env::{Planted, planted};
use tracing::warn;

use super::{HEARTBEAT_EVERY, RECEIPTS_TOPIC, Reporter, ShipError, State};
use crate::receipt::Kind;

/// Polls of one call, for a client that answers at once that it has nothing.
const POLLS_MAX: u32 = 1_000;

impl Reporter {
    /// Sends what is durable and not yet acknowledged, and a heartbeat when one is due; waits up
    /// to `timeout` for acknowledgements. Returns how many receipts are left. `producer` must be
    /// used for nothing else. Call it about once a second.
    pub fn ship(
        &self,
        producer: &mut dyn LogProducer,
        timeout: Duration,
    ) -> Result<usize, ShipError> {
        let deadline = self.clock.monotonic() + timeout;
        let partition = self.receipts_partition(producer, timeout)?;
        // Also where no receipt is under way: a heartbeat whose outcome nobody takes would be the
        // last one.
        let settled = self.settle(producer.poll(Duration::ZERO)).and_then(|()| fatal(producer));
        let mut outcome = settled.and_then(|()| self.send_waiting(producer, partition));
        let mut more = true;
        for _ in 0..POLLS_MAX {
            let left = deadline.saturating_sub(self.clock.monotonic());
            if outcome.is_err() || left.is_zero() || self.lock().kept.receipts_in_flight() == 0 {
                break;
            }
            let deliveries = producer.poll(left);
            // What has failed waits for the next call.
            more = more && deliveries.iter().all(|delivery| delivery.outcome.is_ok());
            outcome = self.settle(deliveries).and_then(|()| fatal(producer));
            if more && outcome.is_ok() {
                outcome = self.send_waiting(producer, partition);
            }
        }
        if matches!(outcome, Err(ShipError::Fatal { .. })) {
            self.lock().kept.forget_in_flight();
        }
        self.journal_removals()?;
        outcome?;
        Ok(self.lock().kept.len())
    }

    /// Ships until the receipts topic has the opening of this session, so that whatever happens
    /// to this process, the auditor knows that somebody was there.
    pub fn announce(
        &self,
        producer: &mut dyn LogProducer,
        timeout: Duration,
    ) -> Result<(), ShipError> {
        let left = self.ship(producer, timeout)?;
        let mut state = self.lock();
        state.announced = state.announced || !state.kept.holds(self.session, 0);
        if state.announced { Ok(()) } else { Err(ShipError::TimedOut { left }) }
    }

    /// The client that [`Reporter::ship`] was given is gone: what it had not acknowledged is sent
    /// again through the next one.
    pub fn client_replaced(&self) {
        self.lock().kept.forget_in_flight();
    }

    fn receipts_partition(
        &self,
        producer: &mut dyn LogProducer,
        timeout: Duration,
    ) -> Result<i32, ShipError> {
        if let Some(partition) = self.lock().partition {
            return Ok(partition);
        }
        // AUDIT-5: made by the question alone, it would have the cluster's retention.
        match producer.create_topic_without_retention(RECEIPTS_TOPIC, timeout) {
            Ok(_) => {}
            Err(DeliveryError::Refused { detail }) => warn!(
                "topic {RECEIPTS_TOPIC} is not made: {detail}; make it with retention.ms=-1, \
                 retention.bytes=-1, cleanup.policy=delete: when receipts are removed, the audit \
                 is unknown for good"
            ),
            Err(cause) => return Err(ShipError::Unreachable { cause }),
        }
        let count = producer.partition_count(RECEIPTS_TOPIC, timeout);
        let count = count.map_err(|cause| ShipError::Unreachable { cause })?;
        let partition = (self.directory % (count.max(1) as u64)) as i32;
        self.lock().partition = Some(partition);
        Ok(partition)
    }

    fn send_waiting(
        &self,
        producer: &mut dyn LogProducer,
        partition: i32,
    ) -> Result<(), ShipError> {
        let mut state = self.lock();
        while let Some((key, bytes)) = state.kept.next_waiting() {
            if planted(Planted::ReceiptLost) && key.number == 1 {
                state.kept.drop_acknowledged(key);
                continue;
            }
            let token = state.kept.token(Some(key));
            if let Err(cause) = self.send(producer, partition, bytes.clone(), token) {
                state.kept.settle(token, false);
                return match cause {
                    SendCause::QueueFull => Ok(()),
                    SendCause::Fatal => fatal(producer),
                    cause => Err(ShipError::NotQueued { bytes: bytes.len(), cause }),
                };
            }
        }
        self.send_heartbeat(&mut state, producer, partition);
        Ok(())
    }

    /// A heartbeat that does not get through is no harm: silence is what it would have denied.
    fn send_heartbeat(&self, state: &mut State, producer: &mut dyn LogProducer, partition: i32) {
        let now = self.clock.monotonic();
        if state.sealed || now < state.heartbeat_at || state.kept.heartbeat_in_flight() {
            return;
        }
        state.heartbeat_at = now + HEARTBEAT_EVERY;
        let heartbeat = self.receipt(Kind::Heartbeat, state.next_number, state.lanes.all());
        let token = state.kept.token(None);
        if self.send(producer, partition, heartbeat.encode().into(), token).is_err() {
            state.kept.settle(token, false);
        }
    }

    fn send(
        &self,
        producer: &mut dyn LogProducer,
        partition: i32,
        value: Bytes,
        token: u64,
    ) -> Result<(), SendCause> {
        let record = Record {
            topic: RECEIPTS_TOPIC.to_owned(),
            partition,
            key: Some(Bytes::copy_from_slice(&self.directory.to_be_bytes())),
            value: Some(value),
            ..Record::default()
        };
        producer.send(record, token).map_err(|error| error.cause)
    }

    fn settle(&self, deliveries: Vec<Delivery>) -> Result<(), ShipError> {
        let mut state = self.lock();
        let mut outcome = Ok(());
        for delivery in deliveries {
            state.kept.settle(delivery.token, delivery.outcome.is_ok());
            match delivery.outcome {
                // The next call sends it again.
                Ok(_) | Err(DeliveryError::NotStored { .. } | DeliveryError::Unknown { .. }) => {}
                Err(DeliveryError::Fatal { detail }) => outcome = Err(ShipError::Fatal { detail }),
                Err(cause) => outcome = Err(ShipError::Refused { cause }),
            }
        }
        outcome
    }

    fn journal_removals(&self) -> Result<(), ShipError> {
        let removals = self.lock().kept.take_removals();
        if removals.is_empty() {
            return Ok(());
        }
        let outcome = self.store.commit(removals.clone());
        if outcome.is_err() {
            self.lock().kept.put_back_removals(&removals);
        }
        Ok(outcome?)
    }
}

fn fatal(producer: &dyn LogProducer) -> Result<(), ShipError> {
    match producer.fatal() {
        None => Ok(()),
        Some(cause) => Err(ShipError::Fatal { detail: cause.to_string() }),
    }
}
