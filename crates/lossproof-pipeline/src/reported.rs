//! Receipts kept by a [`Reporter`], and shipped by a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lossproof_audit::identity::Identity;
use lossproof_audit::receipt::{Disposition, Stage};
use lossproof_audit::report::{FlushError, RecordRef, Reporter, ShipError};
use lossproof_client::{LogProducer, TopicPartition};
use lossproof_env::Clock;
use lossproof_log::CommitCause;
use tracing::{info, warn};

use crate::dead_letters::ProducerFactory;
use crate::receipts::{Fact, Note, Receipts, ReceiptsError};

/// Receipts are shipped so often.
const SHIP_INTERVAL: Duration = Duration::from_secs(1);
/// One look at what there is to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// For acknowledgements, each time.
const SHIP_WAIT: Duration = Duration::from_secs(2);
/// For the last acknowledgements; what is left goes out with the next start.
const LAST_SHIP_WAIT: Duration = Duration::from_secs(5);

/// Why a record is a duplicate.
const IN_THE_SINK: &str = "the sink has it already";

/// The receipts of a pipeline in its journal. Until the receipts topic knows of this session,
/// nothing is durable in the sense of [`Receipts`], so that nothing is committed.
#[derive(Debug)]
pub struct Reported {
    reporter: Arc<Reporter>,
    ending: Arc<AtomicBool>,
    shipping: JoinHandle<()>,
}

impl Reported {
    pub fn start(
        reporter: Arc<Reporter>,
        producers: ProducerFactory,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let mut shipper = Shipper {
            reporter: Arc::clone(&reporter),
            producers,
            clock,
            ending: Arc::clone(&ending),
            producer: None,
            announced: false,
        };
        let thread = std::thread::Builder::new().name("receipts".to_owned());
        let shipping = thread.spawn(move || shipper.run())?;
        Ok(Self { reporter, ending, shipping })
    }
}

impl Receipts for Reported {
    fn note(&mut self, note: &Note) {
        let record = RecordRef {
            id: match &note.identity {
                Identity::Stamped(id) => Some(*id),
                Identity::Natural { .. } => None,
            },
            topic: &note.partition.topic,
            partition: note.partition.partition,
            offset: Some(note.offset),
        };
        match &note.fact {
            Fact::Delivered => self.reporter.note(Stage::Delivered, &record),
            Fact::Processed => self.reporter.note(Stage::Processed, &record),
            Fact::Confirmed => self.reporter.note(Stage::Confirmed, &record),
            Fact::Duplicate => {
                self.reporter.note_end(Disposition::Duplicate, IN_THE_SINK, &record);
            }
            Fact::Filtered { reason } => {
                self.reporter.note_end(Disposition::Filtered, reason, &record);
            }
            Fact::DeadLettered { reason } => {
                self.reporter.note_end(Disposition::DeadLettered, reason, &record);
            }
        }
    }

    fn note_beginning(&mut self, partition: &TopicPartition) {
        self.reporter.note_beginning(&partition.topic, partition.partition);
    }

    fn flush_durable(&mut self) -> Result<(), ReceiptsError> {
        self.reporter.flush_durable().map(drop).map_err(|error| flush_error(&error))
    }

    fn close(self: Box<Self>) -> Result<(), ReceiptsError> {
        let sealed = self.reporter.seal().map(drop).map_err(|error| flush_error(&error));
        self.ending.store(true, Ordering::SeqCst);
        if self.shipping.join().is_err() {
            return Err(ReceiptsError::Fenced { detail: "their thread has panicked".to_owned() });
        }
        sealed
    }
}

fn flush_error(error: &FlushError) -> ReceiptsError {
    let detail = error.to_string();
    match error {
        FlushError::NotAnnounced | FlushError::Journal { cause: CommitCause::Full { .. } } => {
            ReceiptsError::Retriable { detail }
        }
        _ => ReceiptsError::Fenced { detail },
    }
}

/// Owned by its thread.
struct Shipper {
    reporter: Arc<Reporter>,
    producers: ProducerFactory,
    clock: Arc<dyn Clock>,
    ending: Arc<AtomicBool>,
    producer: Option<Box<dyn LogProducer>>,
    announced: bool,
}

impl Shipper {
    fn run(&mut self) {
        while !self.ending.load(Ordering::SeqCst) {
            self.ship(SHIP_WAIT);
            let interval = if self.announced { SHIP_INTERVAL } else { LOOK_INTERVAL };
            let next = self.clock.monotonic() + interval;
            while self.clock.monotonic() < next && !self.ending.load(Ordering::SeqCst) {
                self.clock.sleep_blocking(LOOK_INTERVAL);
            }
        }
        let left = self.ship(LAST_SHIP_WAIT);
        if left != Some(0) {
            warn!("receipts are left in the journal; they go out with the next start");
        }
        if let Some(producer) = self.producer.take() {
            producer.close(SHIP_WAIT);
        }
    }

    /// How many receipts are left, where that is known.
    fn ship(&mut self, wait: Duration) -> Option<usize> {
        if self.producer.is_none() {
            match (self.producers)() {
                Ok(producer) => self.producer = Some(producer),
                Err(detail) => {
                    warn!("no client for receipts: {detail}");
                    return None;
                }
            }
        }
        let producer = self.producer.as_mut()?.as_mut();
        let outcome = if self.announced {
            self.reporter.ship(producer, wait)
        } else {
            self.reporter.announce(producer, wait).map(|()| {
                info!("the receipts topic knows of this session");
                self.announced = true;
                1 // looked at again soon
            })
        };
        match outcome {
            Ok(left) => Some(left),
            Err(error) => {
                warn!("{error}");
                if matches!(error, ShipError::Fatal { .. }) {
                    if let Some(producer) = self.producer.take() {
                        producer.close(Duration::ZERO);
                    }
                    self.reporter.client_replaced();
                }
                None
            }
        }
    }
}
