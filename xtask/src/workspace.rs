use std::env;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure};

/// Where the sources, the build products and the logs of the tests lie.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn find() -> Result<Workspace, Failure> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(path) => env::current_dir().context("current directory")?.join(path),
            None => root.join("target"),
        };
        Ok(Workspace { root, target })
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Workspace {
        Workspace { root: root.to_path_buf(), target: root.join("target") }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Logs of the parts, kept until the next run.
    pub(crate) fn logs(&self) -> PathBuf {
        self.target.join("xtask")
    }
}
