use std::path::PathBuf;
use std::process::Command;

use super::download;
use crate::cache::{Cache, verify_sha256};
use crate::failure::Failure;

pub(crate) const OPENSEARCH_VERSION: &str = "3.6.0";
const SHA256: &str = "a91faa1dc1cadc78cb278b4f63847e19e1627a4e9de698e14e7efc14ee37b286";
const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:copy";

/// The server as a zip file, from Maven Central: the package that OpenSearch's own tests use.
pub(crate) fn opensearch_archive(cache: &Cache) -> Result<PathBuf, Failure> {
    let name = format!("opensearch-{OPENSEARCH_VERSION}");
    let file = format!("{name}.zip");
    let place = cache.entry(&name, |directory| {
        let coordinates = format!(
            "org.opensearch.distribution.integ-test-zip:opensearch:{OPENSEARCH_VERSION}:zip"
        );
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "--update-snapshots", COPY]);
        maven.arg(format!("-Dartifact={coordinates}"));
        maven.arg(format!("-DoutputDirectory={}", directory.display())).current_dir(directory);
        download(directory, &mut maven)?;
        verify_sha256(&directory.join(&file), SHA256)
    })?;
    Ok(place.join(file))
}
