use std::path::PathBuf;

use super::download;
use crate::cache::Cache;
use crate::command::cargo;
use crate::failure::Failure;
use crate::workspace::Workspace;

const VERSION: &str = "0.20.2";

/// The path of cargo-deny, built from its sources the first time: about 3 minutes.
pub(crate) fn cargo_deny(workspace: &Workspace, cache: &Cache) -> Result<PathBuf, Failure> {
    let place = cache.entry(&format!("cargo-deny-{VERSION}"), |directory| {
        let mut command = cargo(workspace);
        // A target folder of its own, which cargo removes again.
        command.env_remove("CARGO_TARGET_DIR");
        command.args(["install", "--quiet", "--locked", "cargo-deny", "--version", VERSION]);
        download(directory, command.arg("--root").arg(directory)).map(drop)
    })?;
    Ok(place.join("bin").join("cargo-deny"))
}
