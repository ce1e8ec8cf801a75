//! The news run: real texts, a real model, a real search server, and every one of them killed or
//! failing while it runs. What counts is what is seen from outside.

mod evidence;
mod feed;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cache::{Cache, remove_all};
use crate::command::{RUN_TIME_MAX, poll_slowly, run_to_log};
use crate::e2e::run_directory;
use crate::failure::{Context, Failure};
use crate::fetch::{Java, java_home, kafka_python, ner_python, opensearch_archive, tweets};
use crate::service::{Binaries, Broker, Ner, OpenSearch, Process, build, log_length};
use crate::workspace::Workspace;

use evidence::Evidence;
use feed::Feed;

const TOPIC: &str = "news";
const INDEX: &str = "news";
const GROUP: &str = "news";
const TWEETS: usize = 2000;

/// The course of the run, in tweets. The feed stops at each gate until what is planned there has
/// happened, so that every kill meets work in progress, on a fast machine as on a slow one; where
/// the kill of the pipeline did not, the run fails.
const BROKER_KILL_AT: usize = 300;
const FIRST_GATE: usize = 700;
const OUTAGE_AT: usize = 500;
const OUTAGE_GATE: usize = 1000;
const PIPELINE_KILL_AT: usize = 900;
const PIPELINE_GATE: usize = 1500;
const SEARCH_KILL_AT: usize = 1400;
const SEARCH_GATE: usize = 1900;

const OUTAGE: Duration = Duration::from_secs(20);
const OUTAGE_STATUS: u16 = 500;
/// A bound for each step of the course; they take seconds.
const STEP_TIME_MAX: Duration = Duration::from_mins(10);

/// What the run proved.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) notes: Vec<String>,
}

/// What the run starts, fetched and built before anything runs.
struct Needs {
    archive: PathBuf,
    java: Java,
    model: PathBuf,
    foreign_client: PathBuf,
    texts: PathBuf,
    binaries: Binaries,
}

pub(crate) fn run(workspace: &Workspace, cache: &Cache) -> Result<Proof, Failure> {
    let needs = Needs {
        archive: opensearch_archive(cache)?,
        java: java_home(cache)?,
        model: ner_python(workspace, cache)?,
        foreign_client: kafka_python(cache)?,
        texts: tweets(cache)?,
        binaries: build(workspace)?,
    };
    let run = run_directory("news")?;
    match run_in(workspace, &needs, &run) {
        Ok(proof) => remove_all(&run).map(|()| proof),
        Err(failure) => {
            let kept = run.display();
            Err(Failure::broken(format!("{failure}\neverything that it left: {kept}")))
        }
    }
}

fn run_in(workspace: &Workspace, needs: &Needs, run: &Path) -> Result<Proof, Failure> {
    let binary = &needs.binaries.lossproof;
    let search = OpenSearch::start(&needs.archive, &needs.java, run)?;
    let service = Ner::start(workspace, &needs.model, run)?;
    let broker = Broker::start(binary, run)?;
    let evidence = Evidence::new();
    let lines = read_lines(&needs.texts)?;
    let feed = Feed::start(binary, &broker.address(), run, lines, evidence.clone())?;
    let file = write_pipeline(workspace, run, &broker, &service, &search)?;
    let pipeline = Pipeline::start(binary, &file, run)?;
    let mut course = Course { search, service, broker, feed, pipeline, evidence };
    let mut notes = course.run()?;
    notes.extend(course.prove(needs, run)?);
    Ok(Proof { notes })
}

fn read_lines(file: &Path) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(file).context(file.display())?;
    let lines: Vec<String> = text.lines().take(TWEETS).map(str::to_owned).collect();
    if lines.len() == TWEETS {
        return Ok(lines);
    }
    Err(Failure::broken(format!("{} has only {} texts", file.display(), lines.len())))
}

/// The example's own pipeline file, with the addresses of this run.
fn write_pipeline(
    workspace: &Workspace,
    run: &Path,
    broker: &Broker,
    service: &Ner,
    search: &OpenSearch,
) -> Result<PathBuf, Failure> {
    let example = workspace.root().join("examples/news/pipeline.toml");
    let mut text = fs::read_to_string(&example).context(example.display())?;
    for (written, real) in [(9092, broker.port()), (8099, service.port()), (9200, search.port())] {
        let (written, real) = (format!("127.0.0.1:{written}"), format!("127.0.0.1:{real}"));
        if text.matches(&written).count() != 1 {
            let example = example.display();
            return Err(Failure::broken(format!("{example} must name {written} exactly once")));
        }
        text = text.replace(&written, &real);
    }
    let file = run.join("pipeline.toml");
    fs::write(&file, text).context(file.display())?;
    Ok(file)
}

struct Pipeline {
    binary: PathBuf,
    file: PathBuf,
    run: PathBuf,
    process: Process,
}

impl Pipeline {
    fn start(binary: &Path, file: &Path, run: &Path) -> Result<Self, Failure> {
        let process = launch_pipeline(binary, file, run)?;
        let (binary, file, run) = (binary.to_path_buf(), file.to_path_buf(), run.to_path_buf());
        Ok(Pipeline { binary, file, run, process })
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.process = launch_pipeline(&self.binary, &self.file, &self.run)?;
        Ok(())
    }
}

fn launch_pipeline(binary: &Path, file: &Path, run: &Path) -> Result<Process, Failure> {
    let mut command = Command::new(binary);
    command.current_dir(run).arg("run").arg(file);
    Process::start("the pipeline", &run.join("pipeline.log"), &mut command)
}

struct Course {
    search: OpenSearch,
    service: Ner,
    broker: Broker,
    feed: Feed,
    pipeline: Pipeline,
    evidence: Evidence,
}

impl Course {
    fn run(&mut self) -> Result<Vec<String>, Failure> {
        self.feed.open_until(FIRST_GATE);
        self.wait_for_fed(BROKER_KILL_AT)?;
        self.broker.kill()?;
        self.evidence.crash("broker");
        self.broker.restart()?;
        let mut notes = vec![format!("  broker killed with {} tweets in", self.feed.count())];

        self.wait_for_indexed(OUTAGE_AT)?;
        let before = self.service.refused()?;
        self.service.fail_for(OUTAGE_STATUS, OUTAGE)?;
        self.feed.open_until(OUTAGE_GATE);
        self.wait_for_indexed(PIPELINE_KILL_AT)?;
        let refused = self.service.refused()? - before;
        if refused == 0 {
            return Err(Failure::broken("nobody noticed that the service failed"));
        }
        notes.push(format!("  service failed for 20 s: {refused} requests got HTTP 500"));

        self.feed.open_until(PIPELINE_GATE);
        self.wait_for_fed(PIPELINE_GATE)?;
        self.pipeline.process.kill()?;
        self.evidence.crash("pipeline");
        let indexed = self.search.count(INDEX);
        if indexed >= PIPELINE_GATE as u64 {
            return Err(Failure::broken(
                "the kill of the pipeline met no work: everything that was handed in was in the \
                 index already",
            ));
        }
        notes.push(format!("  pipeline killed with {indexed} tweets in the index"));
        self.pipeline.restart()?;

        self.feed.open_until(SEARCH_GATE);
        self.wait_for_indexed(SEARCH_KILL_AT)?;
        self.search.kill()?;
        self.evidence.crash("search");
        notes.push("  search server killed before the last 100 tweets were handed in".to_owned());
        self.feed.open_until(TWEETS);
        self.search.restart()?;

        self.wait_for_indexed(TWEETS)?;
        self.feed.finish(STEP_TIME_MAX)?;
        let status = self.pipeline.process.terminate(STEP_TIME_MAX)?;
        if status.success() {
            return Ok(notes);
        }
        Err(Failure::broken(format!("the pipeline ended with {status} on SIGTERM")))
    }

    fn wait_for_fed(&mut self, count: usize) -> Result<(), Failure> {
        poll_slowly(&format!("{count} tweets accepted"), STEP_TIME_MAX, || {
            self.check_alive()?;
            Ok((self.feed.count() >= count).then_some(()))
        })
    }

    fn wait_for_indexed(&mut self, count: usize) -> Result<(), Failure> {
        poll_slowly(&format!("{count} tweets in the index"), STEP_TIME_MAX, || {
            self.check_alive()?;
            Ok((self.search.count(INDEX) >= count as u64).then_some(()))
        })
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        self.broker.check_alive()?;
        self.service.check_alive()?;
        self.pipeline.process.check_alive()?;
        self.feed.check_alive()
    }

    /// One tweet by its own id, in the topic and in the index.
    fn trace(&self, binary: &Path, id: &str, run: &Path) -> Result<(), Failure> {
        let mut show = Command::new(binary);
        show.args(["audit", "show", "--field", &format!("id={id}"), "--output", "json"]);
        show.args(["--bootstrap-server", &self.broker.address(), "--pipeline"]);
        show.arg(&self.pipeline.file);
        let text = run_to_log(&run.join("show.log"), &mut show, RUN_TIME_MAX)?;
        let text = text.expect_success("audit show")?;
        let traces: Value = serde_json::from_str(&text).context("audit show")?;
        let confirmed = traces[0]["stages"].as_array().into_iter().flatten().any(|stage| {
            stage["stage"].as_str() == Some("confirmed") && stage["reached"] == Value::Bool(true)
        });
        if confirmed && traces.as_array().is_some_and(|all| all.len() == 1) {
            return Ok(());
        }
        Err(Failure::broken(format!("audit show of tweet {id} says {traces}")))
    }

    /// Reads everything from outside, then asks both judges.
    fn prove(&mut self, needs: &Needs, run: &Path) -> Result<Vec<String>, Failure> {
        let documents = self.search.documents(INDEX)?;
        let own = self.evidence.check_documents(&documents)?;
        self.evidence.read_topic(&needs.foreign_client, &self.broker.address(), run)?;
        self.evidence.add_documents(&documents);

        let mut audit = Command::new(&needs.binaries.lossproof);
        audit.args(["audit", "status", "--bootstrap-server", &self.broker.address()]);
        audit.arg("--pipeline").arg(&self.pipeline.file);
        let audited = run_to_log(&run.join("audit.log"), &mut audit, RUN_TIME_MAX)?;
        let history = run.join("history.jsonl");
        self.evidence.write(&history)?;
        let judged = judge(&needs.binaries.judge, &history)?;
        let judge_verdict = judged["verdict"].as_str().unwrap_or("none").to_owned();
        if !audited.success || judge_verdict != "complete" {
            let audit = audited.tail();
            return Err(Failure::broken(format!(
                "the judge says {judge_verdict}: {judged}\nthe audit says:\n{audit}"
            )));
        }
        let some = documents.values().find_map(|document| document["id"].as_str());
        self.trace(&needs.binaries.lossproof, some.unwrap_or_default(), run)?;
        let skip = log_length(&history);
        Ok(vec![own, format!("  audit and judge: complete ({skip} bytes of evidence)")])
    }
}

/// The report of the independent judge.
fn judge(binary: &Path, history: &Path) -> Result<Value, Failure> {
    let input = File::open(history).context(history.display())?;
    let output = Command::new(binary).stdin(input).output().context(binary.display())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).context(format!("the judge says `{errors}`"))
}
