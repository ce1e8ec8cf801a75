//! The one table of the foreign clients: what each is, which version, what it has.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Stage;
use crate::command;
use crate::failure::{Context, Failure};
use crate::fetch::{self, KAFKA_3_VERSION, KAFKA_VERSION};

pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    kind: Kind,
    /// The steps that it cannot take, and why.
    lacks: &'static [(&'static str, &'static str)],
}

#[derive(Debug)]
enum Kind {
    /// Debian's program; its version is that of the machine.
    Kcat,
    /// Packages of PyPI that `client.py` needs beside the client itself.
    Python(&'static [&'static str]),
    /// A folder with `package.json` and its lock file.
    Node,
    /// A folder with `go.mod` and `go.sum`.
    Go,
    /// Apache Kafka's jars, for `java/Client.java`.
    Java,
    /// The same jars, for their command-line tools: a script of its own.
    Tools,
}

pub(crate) static CLIENTS: [Client; 12] = [
    Client {
        name: "kcat",
        version: "1.7.1",
        kind: Kind::Kcat,
        lacks: &[("admin", "it only lists topics; the broker creates this one by itself")],
    },
    Client {
        name: "confluent-kafka",
        version: "2.16.1",
        kind: Kind::Python(&["typing_extensions==4.16.0"]),
        lacks: &[],
    },
    Client {
        name: "kafka-python",
        version: "3.0.12",
        kind: Kind::Python(&[
            "cramjam==2.14.0",
            "lz4==4.4.5",
            "python-snappy==0.7.3",
            "zstandard==0.25.0",
        ]),
        lacks: &[],
    },
    Client {
        name: "aiokafka",
        version: "0.14.0",
        kind: Kind::Python(&[
            "async-timeout==5.0.1",
            "cramjam==2.14.0",
            "packaging==26.4",
            "typing_extensions==4.16.0",
        ]),
        lacks: &[],
    },
    Client { name: "kafkajs", version: "2.2.4", kind: Kind::Node, lacks: &[] },
    Client { name: "platformatic", version: "2.12.1", kind: Kind::Node, lacks: &[] },
    Client { name: "sarama", version: "1.61.1", kind: Kind::Go, lacks: &[] },
    Client { name: "franz-go", version: "1.22.3", kind: Kind::Go, lacks: &[] },
    Client { name: "java-4", version: KAFKA_VERSION, kind: Kind::Java, lacks: &[] },
    Client { name: "java-3", version: KAFKA_3_VERSION, kind: Kind::Java, lacks: &[] },
    Client { name: "java-4-tools", version: KAFKA_VERSION, kind: Kind::Tools, lacks: &[] },
    Client { name: "java-3-tools", version: KAFKA_3_VERSION, kind: Kind::Tools, lacks: &[] },
];

impl Client {
    pub(crate) fn is_tools(&self) -> bool {
        matches!(self.kind, Kind::Tools)
    }

    /// Why a step is left out, if so.
    pub(crate) fn lack(&self, step: &str) -> Option<&'static str> {
        self.lacks.iter().find(|(lacking, _)| *lacking == step).map(|(_, why)| *why)
    }

    /// Fetches and builds it; `run` is a directory of this run and client.
    pub(crate) fn prepare(&self, stage: &Stage<'_>, run: &Path) -> Result<Program, Failure> {
        let folder = stage.workspace.root().join("compat").join(self.name);
        let start = match self.kind {
            Kind::Kcat => return kcat(),
            Kind::Python(more) => {
                let requirements =
                    format!("{}=={}\n{}\n", self.name, self.version, more.join("\n"));
                let name = format!("compat-{}", self.name);
                let python = fetch::environment(stage.cache, &name, &requirements)?;
                vec![python.into(), folder.join("client.py").into()]
            }
            Kind::Node => {
                let name = format!("compat-{}", self.name);
                let modules = fetch::node_modules(stage.cache, &name, &folder)?;
                let node = fetch::node(stage.cache, &folder.with_file_name("node"))?;
                vec![node.into(), beside_modules(&folder, &modules, run)?.into()]
            }
            Kind::Go => vec![go_build(&folder, run)?.into()],
            Kind::Java | Kind::Tools => self.java(stage, run)?,
        };
        Ok(Program { start, is_kcat: false })
    }

    fn java(&self, stage: &Stage<'_>, run: &Path) -> Result<Vec<OsString>, Failure> {
        let jars = fetch::kafka_libraries_of(stage.cache, self.version)?;
        let mut path = OsString::from(jars.join("*"));
        let is_program = matches!(self.kind, Kind::Java);
        if is_program {
            let jar = java_build(stage, &path, run)?;
            path.push(":");
            path.push(jar);
        }
        let mut start = vec![fetch::any_java()?.into()];
        // A short life: no time for the second compiler, no memory for a second collector.
        start.extend(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"].map(OsString::from));
        // The first of them, which is alone, keeps its classes for the others; Java 17 can not.
        start.extend(
            ["-XX:+IgnoreUnrecognizedVMOptions", "-XX:+AutoCreateSharedArchive"]
                .map(OsString::from),
        );
        let classes = run.join("classes.jsa");
        start.push(format!("-XX:SharedArchiveFile={}", classes.display()).into());
        let logging = jars.join("log4j2.properties");
        start.push(format!("-Dlog4j2.configurationFile={}", logging.display()).into());
        start.extend(["-cp".into(), path]);
        start.extend(is_program.then(|| "Client".into()));
        Ok(start)
    }
}

/// In a jar: classes that lie in a directory can not be kept for the next start.
fn java_build(stage: &Stage<'_>, libraries: &OsStr, run: &Path) -> Result<PathBuf, Failure> {
    let classes = run.join("classes");
    let mut compiler = Command::new(fetch::compiler()?);
    compiler.arg("-d").arg(&classes).arg("-cp").arg(libraries);
    compiler.arg(stage.workspace.root().join("compat/java/Client.java"));
    finish(run, "javac", &mut compiler)?;
    let jar = run.join("client.jar");
    let mut archiver = Command::new(fetch::compiler()?.with_file_name("jar"));
    archiver.arg("--create").arg("--file").arg(&jar).arg("-C").arg(&classes).arg(".");
    finish(run, "jar", &mut archiver)?;
    Ok(jar)
}

fn kcat() -> Result<Program, Failure> {
    let path = command::find_program("kcat").ok_or_else(|| Failure::missing("no kcat"))?;
    Ok(Program { start: vec![path.into()], is_kcat: true })
}

/// Node looks for modules beside the script: both are brought together in the run's directory.
fn beside_modules(folder: &Path, modules: &Path, run: &Path) -> Result<PathBuf, Failure> {
    for file in ["client.js", "package.json"] {
        fs::copy(folder.join(file), run.join(file)).context(folder.join(file).display())?;
    }
    symlink(modules, run.join("node_modules")).context(modules.display())?;
    Ok(run.join("client.js"))
}

/// Go keeps what it fetches in its own cache, checked against `go.sum`.
fn go_build(folder: &Path, run: &Path) -> Result<PathBuf, Failure> {
    let mut fetch = Command::new("go");
    fetch::download(run, fetch.args(["mod", "download"]).current_dir(folder))?;
    let program = run.join("client");
    let mut build = Command::new("go");
    build.args(["build", "-mod=readonly", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    finish(run, "go-build", build.current_dir(folder))?;
    Ok(program)
}

fn finish(run: &Path, name: &str, command: &mut Command) -> Result<(), Failure> {
    let log = run.join(format!("{name}.log"));
    command::run_to_log(&log, command, command::RUN_TIME_MAX)?.expect_success(name).map(drop)
}

/// A client that is ready to be started.
#[derive(Debug)]
pub(crate) struct Program {
    start: Vec<OsString>,
    is_kcat: bool,
}

impl Program {
    /// Does it say which record was stored where? Otherwise it says, in its log, where one was.
    pub(crate) fn says_which(&self) -> bool {
        !self.is_kcat
    }

    /// Does it say what it has committed, once that was answered?
    pub(crate) fn says_committed(&self) -> bool {
        !self.is_kcat
    }

    /// Does it leave at the end of its input? Otherwise it does at SIGTERM.
    pub(crate) fn leaves_at_end_of_input(&self) -> bool {
        !self.is_kcat
    }

    /// Is a transaction its whole run, without offsets of a group? Otherwise it has `transact`.
    pub(crate) fn transacts_by_runs(&self) -> bool {
        self.is_kcat
    }

    /// The program with one of its orders (`compat/README.md` describes them).
    pub(crate) fn order(&self, order: &str, address: &str, topic: &str, choice: &str) -> Command {
        let mut command = self.bare();
        if self.is_kcat {
            kcat_order(&mut command, order, address, topic, choice);
        } else {
            command.args([order, address, topic]);
            command.args((!choice.is_empty()).then_some(choice));
        }
        command
    }

    /// Without arguments: a tool adds its own.
    pub(crate) fn bare(&self) -> Command {
        let mut parts = self.start.iter();
        let mut command = Command::new(parts.next().map(OsString::as_os_str).unwrap_or_default());
        command.args(parts).env_remove("JAVA_TOOL_OPTIONS").env("PYTHONUNBUFFERED", "1");
        command
    }
}

fn kcat_order(command: &mut Command, order: &str, address: &str, topic: &str, choice: &str) {
    // -E: it does not end when its only broker is away.
    command.args(["-E", "-b", address]);
    if order == "consume" {
        for setting in [
            "auto.offset.reset=earliest",
            "isolation.level=read_committed",
            "heartbeat.interval.ms=500",
        ] {
            command.args(["-X", setting]);
        }
        command.args(["-u", "-f", "record %p %o %s\n", "-G", choice, topic]);
        return;
    }
    // Without a key, and each record to a partition of its own choice; it says of each where it was
    // stored.
    command.args(["-vv", "-P", "-t", topic, "-X", "enable.idempotence=true"]);
    command.args(["-X", "sticky.partitioning.linger.ms=0"]);
    match order {
        "produce" => command.args(["-z", choice]),
        _ => command.arg("-X").arg(format!("transactional.id={choice}")),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock files hold versions too: they must be those of the table.
    #[test]
    fn the_lock_files_have_the_versions_of_the_table() {
        let compat = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compat");
        for client in &CLIENTS {
            let (file, pin) = match client.kind {
                Kind::Node => ("package.json", format!("\": \"{}\"", client.version)),
                Kind::Go => ("go.mod", format!(" v{}\n", client.version)),
                _ => continue,
            };
            let text = fs::read_to_string(compat.join(client.name).join(file)).unwrap();
            let found = text.contains(&pin);
            assert!(found, "{}/{file} is not at {}", client.name, client.version);
        }
    }

    #[test]
    fn what_a_client_lacks_is_a_step() {
        for client in &CLIENTS {
            for (step, _) in client.lacks {
                let known = CODECS.contains(step) || ["admin", "transactions"].contains(step);
                assert!(known, "{}: {step}", client.name);
            }
        }
    }
}
