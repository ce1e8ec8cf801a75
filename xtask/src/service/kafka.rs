//! A real Apache Kafka: one node, broker and controller in one, as it comes but for what is named.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Process, free_port};
use crate::cache::Cache;
use crate::command::run_to_log;
use crate::failure::{Context, Failure};
use crate::fetch::{any_java, kafka_libraries};

/// Five seconds on a quiet machine.
const START_TIME_MAX: Duration = Duration::from_mins(2);
/// Logged once its listeners are open to clients.
const READY: &str = "Kafka Server started";
const CLUSTER_ID: &str = "bG9zc3Byb29mLWJlbmNoMQ";
/// As Kafka's own start script sets them.
const JVM: [&str; 7] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];
const LOGGING: &str = "\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
";

#[derive(Debug)]
pub(crate) struct Kafka {
    address: String,
    process: Process,
}

impl Kafka {
    /// Formats and starts a node in `directory`, on `cpu` alone, with `settings` (`name=value`
    /// lines) on top of the defaults.
    pub(crate) fn start(
        cache: &Cache,
        directory: &Path,
        cpu: &str,
        settings: &str,
    ) -> Result<Self, Failure> {
        fs::create_dir_all(directory).context(directory.display())?;
        let port = free_port()?;
        let properties = directory.join("server.properties");
        let text = node_properties(directory, port, free_port()?) + settings;
        fs::write(&properties, text).context(properties.display())?;
        let logging = directory.join("log4j2.properties");
        fs::write(&logging, LOGGING).context(logging.display())?;

        let mut format = java(cache, &logging, Command::new(any_java()?))?;
        format.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
        format.arg(&properties);
        run_to_log(&directory.join("format.log"), &mut format, START_TIME_MAX)?
            .expect_success("format Kafka's directory")?;

        let mut pinned = Command::new("taskset");
        pinned.args(["-c", cpu]).arg(any_java()?).args(JVM);
        let mut command = java(cache, &logging, pinned)?;
        command.arg("kafka.Kafka").arg(&properties);
        let log = directory.join("server.log");
        let mut process = Process::start("Apache Kafka", &log, &mut command)?;
        process.wait_for_log(READY, 0, START_TIME_MAX)?;
        Ok(Kafka { address: format!("127.0.0.1:{port}"), process })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn java(cache: &Cache, logging: &Path, mut command: Command) -> Result<Command, Failure> {
    let libraries = kafka_libraries(cache)?;
    command.arg(format!("-Dlog4j2.configurationFile={}", logging.display()));
    command.arg("-cp").arg(libraries.join("*"));
    command.env("JAVA_TOOL_OPTIONS", "");
    Ok(command)
}

/// What a single node needs to run at all; everything else stays at Kafka's defaults.
fn node_properties(directory: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n",
        directory.join("data").display()
    )
}
