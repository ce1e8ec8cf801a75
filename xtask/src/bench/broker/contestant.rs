//! The brokers that are compared: each on its own port, in its own directory of the same disk, on
//! the same core. They end with this value, however a run ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::probe;
use crate::cache::Cache;
use crate::failure::Failure;
use crate::service::{Broker, Kafka, Process, free_port};

const STUB_START_MAX: Duration = Duration::from_secs(20);
/// As many as any load that it gets has.
const STUB_PARTITIONS: &str = "16";
const STUB_READY: &str = "ready bootstrap.servers=";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Who {
    Ours,
    /// Another build of lossproof: what it was before a change.
    Before,
    /// Apache Kafka, told to flush every append.
    Flushing,
    /// Apache Kafka as it comes.
    Defaults,
    /// A broker that only answers, and keeps nothing.
    Stub,
}

impl Who {
    pub(super) fn name(self) -> &'static str {
        match self {
            Who::Ours => "lossproof (fsync)",
            Who::Before => "lossproof before (fsync)",
            Who::Flushing => "Kafka, flush.interval.messages=1",
            Who::Defaults => "Kafka, defaults (no fsync)",
            Who::Stub => "answers only",
        }
    }
}

#[derive(Debug)]
enum Program {
    Ours(Broker),
    Kafka(Kafka),
    Stub { process: Process, address: String },
}

#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) who: Who,
    program: Program,
}

/// What they are made from, and where they run.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) lossproof: PathBuf,
    pub(super) before: Option<PathBuf>,
    pub(super) load: PathBuf,
    pub(super) recovery: PathBuf,
    pub(super) rdkafka_load: PathBuf,
    pub(super) cpus: Cpus,
}

/// Processors, as `taskset` names them.
#[derive(Debug)]
pub(super) struct Cpus {
    pub(super) broker: String,
    pub(super) load: String,
}

impl Cpus {
    /// Brokers on one, the load on another.
    pub(super) fn apart() -> Self {
        Self { broker: "0".to_owned(), load: "1".to_owned() }
    }

    /// Whoever wants one takes it.
    pub(super) fn shared() -> Self {
        let last = std::thread::available_parallelism().map_or(0, |count| count.get() - 1);
        let all = format!("0-{last}");
        Self { broker: all.clone(), load: all }
    }
}

impl Contestant {
    pub(super) fn start(
        who: Who,
        binaries: &Binaries,
        cache: &Cache,
        run: &Path,
    ) -> Result<Self, Failure> {
        let cpu = &binaries.cpus.broker;
        let ours = |binary: &Path, name: &str| {
            Broker::start_on_cpu(binary, &run.join(name), cpu).map(Program::Ours)
        };
        let kafka = |name: &str, settings| {
            Kafka::start(cache, &run.join(name), cpu, settings).map(Program::Kafka)
        };
        let program = match who {
            Who::Ours => ours(&binaries.lossproof, "lossproof")?,
            Who::Before => {
                ours(binaries.before.as_deref().unwrap_or(&binaries.lossproof), "before")?
            }
            Who::Flushing => kafka("kafka-flushing", "log.flush.interval.messages=1\n")?,
            Who::Defaults => kafka("kafka", "")?,
            Who::Stub => stub(binaries, run)?,
        };
        Ok(Self { who, program })
    }

    pub(super) fn address(&self) -> String {
        match &self.program {
            Program::Ours(broker) => broker.address(),
            Program::Kafka(kafka) => kafka.address().to_owned(),
            Program::Stub { address, .. } => address.clone(),
        }
    }

    pub(super) fn cpu_seconds(&self) -> Result<f64, Failure> {
        probe::cpu_seconds(self.pid())
    }

    pub(super) fn resident_mb(&self) -> f64 {
        probe::resident_mb(self.pid())
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.program {
            Program::Ours(broker) => broker.pid(),
            Program::Kafka(kafka) => kafka.pid(),
            Program::Stub { process, .. } => process.pid(),
        }
    }
}

fn stub(binaries: &Binaries, run: &Path) -> Result<Program, Failure> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new("taskset");
    command.args(["-c", &binaries.cpus.broker]).arg(&binaries.load).args([
        "stub",
        &address,
        STUB_PARTITIONS,
    ]);
    let mut process = Process::start("the stub", &run.join("stub.log"), &mut command)?;
    process.wait_for_log(STUB_READY, 0, STUB_START_MAX)?;
    Ok(Program::Stub { process, address })
}
