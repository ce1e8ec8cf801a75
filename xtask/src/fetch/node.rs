use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::download;
use crate::cache::Cache;
use crate::failure::{Context, Failure};

/// The first that every client of the tests runs on, with all codecs.
const NODE_MIN: (u32, u32) = (22, 22);

/// The `node_modules` of a folder with `package.json` and `package-lock.json`.
pub(crate) fn node_modules(cache: &Cache, name: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let version = node_version()?;
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).context(path.display())
    };
    let (package, lock) = (read("package.json")?, read("package-lock.json")?);
    let mut hasher = DefaultHasher::new();
    (&package, &lock, &version).hash(&mut hasher);
    let place = cache.entry(&format!("{name}-{:016x}", hasher.finish()), |directory| {
        for (file, text) in [("package.json", &package), ("package-lock.json", &lock)] {
            let path = directory.join(file);
            fs::write(&path, text).context(path.display())?;
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        download(directory, npm.current_dir(directory)).map(drop)
    })?;
    Ok(place.join("node_modules"))
}

/// The machine's own program, or where that is too old the one that `folder` names.
pub(crate) fn node(cache: &Cache, folder: &Path) -> Result<PathBuf, Failure> {
    let version = node_version()?;
    if major_minor(&version).is_some_and(|found| found >= NODE_MIN) {
        return Ok("node".into());
    }
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(node_modules(cache, "compat-node", folder)?.join(".bin/node"));
    }
    let (major, minor) = NODE_MIN;
    Err(Failure::missing(format!("node is {version}, needed is {major}.{minor} or newer")))
}

fn node_version() -> Result<String, Failure> {
    let output = Command::new("node").arg("--version").output();
    let output = output.map_err(|_| Failure::missing("node is not installed"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(major_minor("v24.21.0") >= Some(NODE_MIN));
        assert!(major_minor("v22.9.1") < Some(NODE_MIN));
        assert!(major_minor("v100.0.0") >= Some(NODE_MIN));
        assert_eq!(major_minor("node: not found"), None);
    }
}
