//! The cache of what is fetched: outside the tree, shared by all clones, safe against two fetches
//! at once and against one that is killed.
//!
//! # Invariants
//!
//! - `CACHE-1`: an entry is used only when it is whole: it is made in a temporary directory beside
//!   its place and renamed there as the last step.
//! - `CACHE-2`: one fetch of an entry runs at a time; what a killed one left is removed.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure};

#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `LOSSPROOF_CACHE`, or `lossproof` in the user's cache directory.
    pub(crate) fn find() -> Result<Cache, Failure> {
        if let Some(path) = env::var_os("LOSSPROOF_CACHE") {
            let root = env::current_dir().context("current directory")?.join(path);
            return Ok(Cache { root });
        }
        let home = env::var_os("HOME")
            .ok_or_else(|| Failure::broken("neither LOSSPROOF_CACHE nor HOME is set"))?;
        Ok(Cache { root: Path::new(&home).join(".cache").join("lossproof") })
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Cache {
        Cache { root: root.to_path_buf() }
    }

    /// The directory `name`, made by `fill` in an empty directory unless it is there already.
    pub(crate) fn entry(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<PathBuf, Failure> {
        let place = self.root.join(name);
        if place.is_dir() {
            return Ok(place);
        }
        fs::create_dir_all(&self.root).context(self.root.display())?;
        let lock_path = self.root.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).context(lock_path.display())?;
        // CACHE-2: held until `lock` is closed, and by the kernel no longer than this process.
        lock.lock().context(lock_path.display())?;
        if place.is_dir() {
            return Ok(place);
        }
        eprintln!("fetching {name} into {}", self.root.display());
        let unfinished = self.root.join(format!(".{name}.unfinished"));
        remove_all(&unfinished)?;
        fs::create_dir(&unfinished).context(unfinished.display())?;
        fill(&unfinished)?;
        // CACHE-1: from here on it is found.
        fs::rename(&unfinished, &place).context(place.display())?;
        Ok(place)
    }
}

/// Removes a directory tree that may not be there.
pub(crate) fn remove_all(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.context(path.display()),
    }
}

/// Checks a fetched file against the sum that the project expects.
pub(crate) fn verify_sha256(file: &Path, expected: &str) -> Result<(), Failure> {
    let output = Command::new("sha256sum").arg(file).output().context("sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The tool escapes odd file names with a leading backslash.
    let actual = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    if actual == expected {
        return Ok(());
    }
    let file = file.display();
    Err(Failure::broken(format!("{file}: sha256 is {actual}, expected {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let id = std::process::id();
            let path = env::temp_dir().join(format!("xtask-cache-{name}-{id}"));
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_fetch_that_fails_leaves_nothing_to_use_cache_1() {
        // CACHE-1
        let scratch = Scratch::new("fails");
        let cache = Cache::at(&scratch.0);
        let failed = cache.entry("thing", |directory| {
            fs::write(directory.join("half"), "half").context("write")?;
            Err(Failure::broken("the network went away"))
        });
        assert!(failed.is_err());
        assert!(!scratch.0.join("thing").exists());
        let place = cache
            .entry("thing", |directory| {
                assert!(!directory.join("half").exists(), "CACHE-2: the half was removed");
                fs::write(directory.join("whole"), "whole").context("write")
            })
            .unwrap();
        assert_eq!(fs::read_to_string(place.join("whole")).unwrap(), "whole");
    }

    #[test]
    fn two_fetches_at_once_do_the_work_once_cache_2() {
        // CACHE-2
        let scratch = Scratch::new("twice");
        let count = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let filled = Cache::at(&scratch.0).entry("thing", |_| {
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        Ok(())
                    });
                    filled.unwrap();
                });
            }
        });
        assert_eq!(count.into_inner(), 1);
    }

    #[test]
    fn a_wrong_sum_is_refused() {
        let scratch = Scratch::new("sum");
        let file = scratch.0.join("empty");
        fs::write(&file, "").unwrap();
        let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        verify_sha256(&file, of_nothing).unwrap();
        fs::write(&file, "x").unwrap();
        assert!(verify_sha256(&file, of_nothing).is_err());
    }
}
