//! What the demo has on stage: its four processes, the directory they work in, and what can be
//! seen of them from outside: the lines they print and the file they write.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lossproof_env::{DiskFile, Environment};

use super::children::Child;
use super::talk::Talk;
use crate::exit::{DEMO_FAILED, Failure};
use crate::files::read_text;

pub(crate) const TOPIC: &str = "news";
/// Of the safe run.
pub(crate) const DEAD_LETTERS: &str = "news-dead";
pub(crate) const GROUP: &str = "news-analysis";
/// Records a second the producer is held to, so that every kill falls in the middle of the work.
const RECORDS_PER_SECOND: &str = "900";
/// Answers after which the analysis service begins to fail; then 2 s of HTTP 500, 2 s of hanging.
const SERVICE_FAILS_AFTER: &str = "600";
const SERVICE_ERROR_MS: &str = "2000";
const SERVICE_HANG_MS: &str = "2000";
/// Polls that a process may take to drain after SIGTERM.
const STOP_POLLS_MAX: u32 = 400;
const POLL: Duration = Duration::from_millis(25);
/// Bytes of the sink file looked at in one go.
const SINK_CHUNK_BYTES: usize = 1 << 20;

/// Safe or not: the same processes, other settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Safe,
    Unsafe,
}

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) environment: Environment,
    pub(crate) talk: Talk,
    pub(crate) bootstrap: String,
    /// Identity by line number (from 1), as the producer acknowledged them on standard output.
    pub(crate) accepted: HashMap<usize, Vec<String>>,
    pub(crate) mode: Mode,
    directory: PathBuf,
    service: Child,
    broker: Option<Child>,
    pipeline: Option<Child>,
    pub(crate) producer: Option<Child>,
    /// Line number that the producer's own line 1 stands for: above 0 after a restart that reads
    /// standard input.
    pub(crate) first_line: usize,
    sink: Option<Arc<dyn DiskFile>>,
    sink_bytes: u64,
    sink_lines: usize,
}

impl Scene {
    /// Starts service, broker and pipeline; the producer comes later.
    pub(crate) fn start(
        environment: Environment,
        directory: &Path,
        mode: Mode,
        talk: Talk,
    ) -> Result<Self, Failure> {
        let mut service = Child::start(
            "analysis service",
            &[
                "demo-service",
                "--fail-after",
                SERVICE_FAILS_AFTER,
                "--error-ms",
                SERVICE_ERROR_MS,
                "--hang-ms",
                SERVICE_HANG_MS,
            ],
        )?;
        let url = service.ready("url")?;
        let mut scene = Self {
            environment,
            talk,
            bootstrap: String::new(),
            accepted: HashMap::new(),
            mode,
            directory: directory.to_owned(),
            service,
            broker: None,
            pipeline: None,
            producer: None,
            first_line: 0,
            sink: None,
            sink_bytes: 0,
            sink_lines: 0,
        };
        scene.start_broker("127.0.0.1:0")?;
        let settings = super::settings::pipeline(mode, &scene.bootstrap, &url, directory);
        scene.write("pipeline.toml", settings.as_bytes())?;
        Ok(scene)
    }

    /// Writes a file of the demo's own into its directory and returns its path.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<String, Failure> {
        let path = self.directory.join(name);
        let disk = &self.environment.disk;
        disk.create(&path)
            .and_then(|file| {
                file.write_all_at(bytes, 0)?;
                file.sync_data()?;
                disk.sync_dir(&self.directory)
            })
            .map_err(|error| {
                Failure::new(DEMO_FAILED, format_args!("cannot write {}: {error}", path.display()))
            })?;
        Ok(path.display().to_string())
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn start_broker(&mut self, listen: &str) -> Result<(), Failure> {
        let data = self.path("broker");
        let mut arguments =
            vec!["broker", "--listen", listen, "--data", &data, "--disk", "forgets"];
        if self.mode == Mode::Unsafe {
            arguments.extend(["--flush", "page-cache"]);
        }
        let mut broker = Child::start("broker", &arguments)?;
        self.bootstrap = broker.ready("bootstrap.servers")?;
        self.broker = Some(broker);
        Ok(())
    }

    pub(crate) fn start_pipeline(&mut self) -> Result<(), Failure> {
        let file = self.path("pipeline.toml");
        self.pipeline = Some(Child::start("pipeline", &["run", &file])?);
        Ok(())
    }

    /// The producer with a journal, reading the file of lines.
    pub(crate) fn start_safe_producer(&mut self, input: &str) -> Result<(), Failure> {
        let journal = self.path("journal");
        self.start_producer(&[
            "--journal",
            &journal,
            "--print-ids",
            "--rate",
            RECORDS_PER_SECOND,
            input,
        ])
    }

    /// The producer that has no journal and looks at no outcome, fed through its standard input.
    pub(crate) fn start_unsafe_producer(&mut self, first_line: usize) -> Result<(), Failure> {
        self.first_line = first_line;
        self.start_producer(&["--unsafe-no-journal"])
    }

    fn start_producer(&mut self, special: &[&str]) -> Result<(), Failure> {
        let mut arguments = vec!["produce", "--bootstrap-server", &self.bootstrap];
        arguments.extend(["--topic", TOPIC, "--format", "json", "--key-field", "id"]);
        arguments.extend(special);
        self.producer = Some(Child::start("producer", &arguments)?);
        Ok(())
    }

    pub(crate) fn kill_producer(&mut self) {
        if let Some(producer) = self.producer.take() {
            let said = producer.kill();
            for line in &said {
                self.note_accepted(line);
            }
        }
    }

    pub(crate) fn kill_broker(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.kill();
        }
    }

    /// On the port it had, as after a reboot.
    pub(crate) fn restart_broker(&mut self) -> Result<(), Failure> {
        let listen = self.bootstrap.clone();
        self.start_broker(&listen)
    }

    pub(crate) fn kill_pipeline(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.kill();
        }
    }

    /// Waits a little, then looks: what the producer acknowledged, what the sink holds, whether
    /// something ended that should not.
    pub(crate) fn look(&mut self) -> Result<(), Failure> {
        self.environment.clock.sleep_blocking(POLL);
        self.look_at_producer()?;
        self.look_at_sink()?;
        let running = [Some(&mut self.service), self.broker.as_mut(), self.pipeline.as_mut()];
        for child in running.into_iter().flatten() {
            if let Some(status) = child.ended()? {
                return Err(child.failure(&format!("ended by itself ({status})")));
            }
        }
        self.talk.progress(self.sink_lines);
        Ok(())
    }

    fn look_at_producer(&mut self) -> Result<(), Failure> {
        while let Some(line) = self.producer.as_ref().and_then(Child::line) {
            self.note_accepted(&line);
        }
        let Some(status) = self.producer.as_mut().map(Child::ended).transpose()?.flatten() else {
            return Ok(());
        };
        let Some(producer) = self.producer.take() else { return Ok(()) };
        if !status.success() {
            return Err(producer.failure(&format!("ended by itself ({status})")));
        }
        let said = producer.kill();
        for line in &said {
            self.note_accepted(line);
        }
        Ok(())
    }

    /// `ACCEPTED LINE IDENTITY`
    fn note_accepted(&mut self, line: &str) {
        let mut words = line.split(' ');
        if let (Some("ACCEPTED"), Some(number), Some(identity)) =
            (words.next(), words.next().and_then(|word| word.parse::<usize>().ok()), words.next())
        {
            let identities = self.accepted.entry(self.first_line + number).or_default();
            if !identities.iter().any(|known| known == identity) {
                identities.push(identity.to_owned());
            }
        }
    }

    fn look_at_sink(&mut self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(DEMO_FAILED, format_args!("the sink cannot be read: {error}"))
        };
        let path = self.directory.join("sink.jsonl");
        if self.sink.is_none() && self.environment.disk.exists(&path).map_err(failed)? {
            self.sink = Some(self.environment.disk.open_read_only(&path).map_err(failed)?);
        }
        let Some(sink) = &self.sink else { return Ok(()) };
        let mut chunk = vec![0; SINK_CHUNK_BYTES];
        let count = sink.read_at(&mut chunk, self.sink_bytes).map_err(failed)?;
        self.sink_bytes += count as u64;
        self.sink_lines += chunk.iter().take(count).filter(|byte| **byte == b'\n').count();
        Ok(())
    }

    /// Lines in the sink so far.
    pub(crate) fn sink_lines(&self) -> usize {
        self.sink_lines
    }

    /// The whole sink, as the demo itself reads it.
    pub(crate) fn read_sink(&self) -> Result<String, Failure> {
        if self.sink.is_none() {
            return Ok(String::new());
        }
        let path = self.directory.join("sink.jsonl");
        read_text(&*self.environment.disk, &path).map_err(|error| {
            Failure::new(DEMO_FAILED, format_args!("the sink cannot be read: {error}"))
        })
    }

    /// Lets the pipeline finish what it has and leave.
    pub(crate) fn stop_pipeline(&mut self) -> Result<(), Failure> {
        let clock = Arc::clone(&self.environment.clock);
        let Some(pipeline) = self.pipeline.take() else { return Ok(()) };
        pipeline.stop(STOP_POLLS_MAX, || clock.sleep_blocking(POLL)).map(drop)
    }

    /// Ends whatever runs.
    pub(crate) fn end(mut self) {
        let running = [self.producer.take(), self.pipeline.take(), self.broker.take()];
        running.into_iter().flatten().for_each(|child| drop(child.kill()));
        self.service.kill();
    }
}
