use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{download, java};
use crate::cache::Cache;
use crate::failure::{Context, Failure};

pub(crate) const KAFKA_VERSION: &str = "4.3.1";
/// The last line before 4.0 dropped the requests of old brokers.
pub(crate) const KAFKA_3_VERSION: &str = "3.9.2";
const LOG4J_VERSION: &str = "2.25.4";
/// Pinned like the rest: what it copies must not depend on the day.
const COPY_DEPENDENCIES: &str =
    "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:copy-dependencies";

/// Everything goes to standard error, so that what a tool prints stays clean.
const LOGGING: &str = "\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
";

/// The directory of Apache Kafka's jars from Maven Central, with the logging settings beside them.
pub(crate) fn kafka_libraries(cache: &Cache) -> Result<PathBuf, Failure> {
    kafka_libraries_of(cache, KAFKA_VERSION)
}

pub(crate) fn kafka_libraries_of(cache: &Cache, version: &str) -> Result<PathBuf, Failure> {
    cache.entry(&format!("kafka-{version}"), |directory| {
        let pom = directory.join("pom.xml");
        fs::write(&pom, project_file(version)).context(pom.display())?;
        let settings = directory.join("log4j2.properties");
        fs::write(&settings, LOGGING).context(settings.display())?;
        let mut maven = Command::new("mvn");
        // Strict checksums, and no failure of an earlier try from Maven's own cache.
        maven.args(["--quiet", "--batch-mode", "--strict-checksums", "--update-snapshots"]);
        maven.arg("--file").arg(&pom).arg(COPY_DEPENDENCIES).arg("-DincludeScope=runtime");
        maven.arg(format!("-DoutputDirectory={}", directory.display()));
        download(directory, &mut maven)?;
        let mut tool = Command::new(java::any_java()?);
        tool.arg("-cp").arg(directory.join("*")).args(["kafka.Kafka", "--version"]);
        let output = tool.output().context("java")?;
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        if found.starts_with(version) {
            return Ok(());
        }
        Err(Failure::broken(format!("the fetched Kafka says it is `{found}`")))
    })
}

fn project_file(kafka: &str) -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let broker = dependency("org.apache.kafka", "kafka_2.13", kafka);
    let tools = dependency("org.apache.kafka", "kafka-tools", kafka);
    let logging = dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION);
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>lossproof</groupId><artifactId>kafka</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>{broker}{tools}{logging}</dependencies></project>"
    )
}
