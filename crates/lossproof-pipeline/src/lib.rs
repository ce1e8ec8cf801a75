//! Consumes a topic, runs each record through steps, writes it to a sink, and commits only what
//! is confirmed there, filtered, or in the dead letters, with receipts for all of it.

pub mod breaker;
pub mod config;
mod dead_letters;
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
pub use reported::Reported;
pub use pipeline::{Parts, ProducerFactory, StartError, Stop, Summary, run};
pub use sink::lines::OpenLinesError;
