//! `--unsafe-no-journal`: what many producers are. Here to be compared with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lossproof_audit::identity::RecordId;
use lossproof_audit::receipt::Stage;
use lossproof_client::librdkafka::{self, DeliverySafety};
use lossproof_client::{Delivery, LogProducer};
use lossproof_env::Environment;
use lossproof_relay::{InputPosition, UnsafeMemory};

use super::format::Reader;
use super::shipping::Receipts;
use super::source::Source;
use super::{Acknowledge, Arguments, ask_partitions, settings_failure};
use crate::Outcome;
use crate::exit::{self, Exit, Failure};
use crate::stop::Stop;

/// A careless producer does not wait for its outcomes when it ends.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &Arguments, stop: &Stop) -> Outcome {
    tracing::warn!(
        "UNSAFE: --unsafe-no-journal acknowledges lines that it keeps in memory only, and ignores \
         what becomes of them"
    );
    let environment = Environment::real();
    let Some(count) = ask_partitions(arguments, stop)? else {
        return Err(Failure::new(exit::STILL_WAITING, "stopped before anything was accepted"));
    };
    let memory = UnsafeMemory::new(&environment, count);
    let memory = memory.map_err(|error| Failure::new(exit::START_FAILED, error))?;
    let receipts = Receipts::start(
        Arc::clone(memory.reporter()),
        arguments.producer_settings(),
        Arc::clone(&environment.clock),
        true,
        Box::new(|_| {}),
    )?;
    let mut settings = arguments.producer_settings();
    settings.safety = DeliverySafety::UnsafeFireAndForget;
    let producer = librdkafka::producer(&settings).map_err(|error| settings_failure(&error))?;
    let accepted = forget_all(&environment, memory, arguments, stop, producer);
    receipts.finish(stop);
    crate::output::mutter!("{} lines sent, and forgotten", accepted?);
    Ok(Exit::Proven)
}

fn forget_all(
    environment: &Environment,
    mut memory: UnsafeMemory,
    arguments: &Arguments,
    stop: &Stop,
    mut producer: Box<dyn LogProducer>,
) -> Result<u64, Failure> {
    let reader = Reader::new(arguments);
    let mut source = Source::open(environment, arguments, |_| Ok(InputPosition::start()))?;
    let mut acknowledged = Acknowledge::new(arguments);
    let (mut accepted, mut is_complete) = (0, false);
    let mut sent = BTreeMap::new();
    while !is_complete && !stop.is_set() {
        let batch = source.next_batch(stop)?;
        let lines = reader.read(&batch);
        let stamped = memory.accept(&arguments.topic, lines.records);
        let ids: Vec<RecordId> = stamped.iter().map(|(id, _)| *id).collect();
        acknowledged.write(&lines.numbers, &ids)?;
        for (id, record) in stamped {
            accepted += 1;
            memory.note(Stage::Accepted, id, &arguments.topic, None);
            // A full queue loses the record, and so does every failed delivery: nothing is done
            // about it. That it was acknowledged is noted, for the audit alone.
            if producer.send(record, accepted).is_ok() {
                memory.note(Stage::Sent, id, &arguments.topic, None);
                sent.insert(accepted, id);
            }
        }
        let delivered = producer.poll(Duration::ZERO);
        note_acknowledged(&memory, &arguments.topic, &mut sent, delivered);
        is_complete = batch.is_last;
        source.pace(environment, &batch);
    }
    let (delivered, _) = producer.close(CLOSE_TIMEOUT);
    note_acknowledged(&memory, &arguments.topic, &mut sent, delivered);
    Ok(accepted)
}

fn note_acknowledged(
    memory: &UnsafeMemory,
    topic: &str,
    sent: &mut BTreeMap<u64, RecordId>,
    delivered: Vec<Delivery>,
) {
    for delivery in delivered {
        if let (Some(id), Ok(stored)) = (sent.remove(&delivery.token), delivery.outcome) {
            memory.note(Stage::Acked, id, topic, Some(stored.offset));
        }
    }
}
