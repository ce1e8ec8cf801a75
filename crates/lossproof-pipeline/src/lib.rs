//! Consumes a topic, runs each record through steps, writes it to a sink, and commits only what
//! is confirmed there, filtered, or in the dead letters, with receipts for all of it.
//!
//! ```
//! use lossproof_client::{Record, TopicPartition, memory::Cluster};
//! use lossproof_env::Environment;
//! use lossproof_pipeline::receipts::{Note, Receipts, ReceiptsError};
//! use lossproof_pipeline::{Config, Parts, Stop};
//!
//! /// Receipts that nobody keeps; a real pipeline has `lossproof_pipeline::Reported`.
//! #[derive(Debug)]
//! struct NoReceipts;
//! impl Receipts for NoReceipts {
//!     fn note(&mut self, _note: &Note) {}
//!     fn note_beginning(&mut self, _partition: &TopicPartition) {}
//!     fn flush_durable(&mut self) -> Result<(), ReceiptsError> {
//!         Ok(())
//!     }
//!     fn close(self: Box<Self>) -> Result<(), ReceiptsError> {
//!         Ok(())
//!     }
//! }
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("out.jsonl");
//! let config = Config::parse(&format!(
//!     "[source]\nbootstrap_servers = 'memory'\ntopic = 'news'\ngroup = 'g'\n\
//!      [journal]\ndirectory = 'none'\n[sink]\nkind = 'jsonl'\npath = '{}'",
//!     path.display()
//! ))?;
//! let cluster = Cluster::waiting();
//! cluster.create_topic("news", 1);
//! let value = Some(r#"{"text":"hello"}"#.into());
//! cluster.append(Record { topic: "news".into(), value, ..Record::default() });
//!
//! let producers = cluster.clone();
//! let parts = Parts {
//!     environment: Environment::real(),
//!     consumer: cluster.consumer("g", &["news"]),
//!     producers: Box::new(move || Ok(producers.producer())),
//!     receipts: Box::new(NoReceipts),
//! };
//! let stop = Stop::default();
//! let end = stop.clone();
//! let pipeline = std::thread::spawn(move || lossproof_pipeline::run(&config, parts, &end));
//! while !std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')) {
//!     std::thread::yield_now();
//! }
//! stop.request();
//! let summary = pipeline.join().expect("no thread panics")?;
//! assert_eq!(summary.counts.confirmed, 1);
//! let line = "{\"_id\":\"news-0-0\",\"text\":\"hello\"}\n";
//! assert_eq!(std::fs::read_to_string(&path)?, line);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod breaker;
pub mod config;
mod dead_letters;
mod depth;
mod document;
mod endpoint;
mod expression;
pub mod flow;
pub mod frontier;
mod http_step;
mod pipeline;
mod poller;
pub mod receipts;
mod reported;
pub mod retry;
mod shared;
pub mod sink;
mod worker;

pub use config::{Config, ConfigError};
pub use document::{Document, DocumentError};
pub use expression::{CompileError, EvaluateError, Expression};
pub use http_step::HeaderError;
pub use pipeline::{Parts, ProducerFactory, StartError, Stop, Summary, run};
pub use reported::Reported;
pub use sink::lines::OpenLinesError;
