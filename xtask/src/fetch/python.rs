use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::download;
use crate::cache::Cache;
use crate::failure::{Context, Failure};
use crate::workspace::Workspace;

const KAFKA_PYTHON: &str = "kafka-python==3.0.12\n";

/// A Python that has the model of the news example.
pub(crate) fn ner_python(workspace: &Workspace, cache: &Cache) -> Result<PathBuf, Failure> {
    let file = workspace.root().join("examples/news/requirements.txt");
    let requirements = fs::read_to_string(&file).context(file.display())?;
    environment(cache, "ner", &requirements)
}

/// A Python that has kafka-python, a client that shares no code with librdkafka or Java.
pub(crate) fn kafka_python(cache: &Cache) -> Result<PathBuf, Failure> {
    environment(cache, "kafka-python", KAFKA_PYTHON)
}

/// A virtual environment with the given packages; its name changes with them and with Python.
pub(crate) fn environment(
    cache: &Cache,
    name: &str,
    requirements: &str,
) -> Result<PathBuf, Failure> {
    let output = Command::new("python3").arg("--version").output();
    let output = output.map_err(|_| Failure::missing("python3 is not installed"))?;
    let mut hasher = DefaultHasher::new();
    (requirements, &output.stdout).hash(&mut hasher);
    let place = cache.entry(&format!("{name}-{:016x}", hasher.finish()), |directory| {
        let mut python = Command::new("python3");
        download(directory, python.args(["-m", "venv"]).arg(directory))?;
        let list = directory.join("requirements.txt");
        fs::write(&list, requirements).context(list.display())?;
        let mut pip = Command::new(interpreter(directory));
        pip.args(["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]);
        pip.args(["--only-binary", ":all:", "--requirement"]).arg(&list);
        download(directory, &mut pip).map(drop)
    })?;
    Ok(interpreter(&place))
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join("bin").join("python")
}
