//! Brings what the tests need and the project does not own: each into the cache, pinned, checked.

mod cargo_deny;
mod java;
mod kafka;
mod node;
mod opensearch;
mod python;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

pub(crate) use cargo_deny::cargo_deny;
pub(crate) use java::{Java, any_java, compiler, java_home};
pub(crate) use kafka::{KAFKA_3_VERSION, KAFKA_VERSION, kafka_libraries, kafka_libraries_of};
pub(crate) use node::{node, node_modules};
pub(crate) use opensearch::{OPENSEARCH_VERSION, opensearch_archive};
pub(crate) use python::{environment, kafka_python, ner_python};
pub(crate) use texts::tweets;

use crate::cache::Cache;
use crate::command::{RUN_TIME_MAX, run_to_log};
use crate::failure::{Context, Failure};
use crate::workspace::Workspace;

/// What can be fetched ahead of its use.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Thing {
    /// Apache Kafka's jars: its command line tools are foreign clients for the tests
    Kafka,
    /// The search server of the news example, and a Java runtime where none fits
    Opensearch,
    /// Python environments: the model of the news example, and kafka-python
    Ner,
    /// The tweets of the news example
    Texts,
}

pub(crate) fn fetch(workspace: &Workspace, cache: &Cache, thing: Thing) -> Result<(), Failure> {
    let places = match thing {
        Thing::Kafka => vec![kafka_libraries(cache)?],
        Thing::Opensearch => vec![opensearch_archive(cache)?, java_home(cache)?.describe()],
        Thing::Ner => vec![ner_python(workspace, cache)?, kafka_python(cache)?],
        Thing::Texts => vec![tweets(cache)?],
    };
    for place in places {
        println!("{}", place.display());
    }
    Ok(())
}

/// Runs a program that loads something; when it fails, the network or the tool is not there.
pub(crate) fn download(directory: &Path, command: &mut Command) -> Result<String, Failure> {
    let log = directory.join("download.log");
    let run = run_to_log(&log, command, RUN_TIME_MAX)?;
    if run.success {
        fs::remove_file(&log).context(log.display())?;
        return Ok(run.text);
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(Failure::missing(format!("{program} could not fetch:\n{}", run.tail())))
}

/// Downloads one pure wheel of PyPI, without what it depends on.
fn download_wheel(directory: &Path, requirement: &str) -> Result<PathBuf, Failure> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--dest"]).arg(directory).arg(requirement);
    download(directory, &mut pip)?;
    for entry in fs::read_dir(directory).context(directory.display())? {
        let path = entry.context(directory.display())?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    Err(Failure::broken(format!("pip left no wheel of {requirement}")))
}

/// Unpacks a zip file, which a wheel is too. File modes are lost: the caller sets them.
pub(crate) fn unzip(archive: &Path, directory: &Path) -> Result<(), Failure> {
    let mut python = Command::new("python3");
    python.args(["-m", "zipfile", "-e"]).arg(archive).arg(directory);
    let output = python.output().context("python3 -m zipfile")?;
    if output.status.success() {
        return Ok(());
    }
    let archive = archive.display();
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::broken(format!("cannot unpack {archive}: {errors}")))
}
