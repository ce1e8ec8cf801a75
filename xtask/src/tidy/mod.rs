//! Rules of the house that no other tool checks. Each rule is a function from sources to
//! violations, so that its test can show it something to refuse.

mod dependencies;
mod functions;
mod invariants;
mod lines;
mod seam;
mod source;
mod test_code;
mod test_programs;
mod traps;

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure};
use crate::torture::evidence;
use crate::workspace::Workspace;

pub(crate) use source::Source;

/// Folders deeper than this are not ours.
const DEPTH_MAX: usize = 12;
/// What is read as text and checked.
const EXTENSIONS: [&str; 6] = ["rs", "toml", "md", "py", "yml", "json"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) path: PathBuf,
    /// Counted from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// Everything in the tree that breaks a rule.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Violation>, Failure> {
    let files = read_tree(workspace.root())?;
    let mut sources: Vec<Source> =
        files.iter().filter(|file| file.is_rust()).map(TextFile::parse).collect();
    test_code::mark(&mut sources);

    let mut violations = Vec::new();
    for file in &files {
        violations.extend(lines::check(file));
    }
    for source in &sources {
        violations.extend(lines::check_source(source));
        violations.extend(functions::check(source));
        violations.extend(seam::check(source));
        violations.extend(test_code::check(source));
    }
    violations.extend(invariants::check(&sources));
    violations.extend(durability(&files));
    violations.extend(traps::check(&files));
    violations.extend(test_programs::check(&files));
    violations.extend(dependencies::check(workspace)?);
    violations.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok(violations)
}

/// The figures of the README are those of the evidence.
fn durability(files: &[TextFile]) -> Option<Violation> {
    let text = |path: &str| {
        let file = files.iter().find(|file| file.path == Path::new(path));
        file.map_or("", |file| file.text.as_str())
    };
    let what = evidence::complaint(text("README.md"), text("docs/evidence/durability.json"))?;
    Some(Violation { path: "README.md".into(), line: 0, what })
}

/// Files that have grown beyond the soft limit: no violation, but somebody should know.
pub(crate) fn long_files(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    let files = read_tree(workspace.root())?;
    Ok(files.iter().filter_map(lines::long_file).collect())
}

/// A text file of the tree; its path is relative to the root.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl TextFile {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    fn parse(&self) -> Source {
        Source::parse(&self.path, &self.text)
    }
}

fn read_tree(root: &Path) -> Result<Vec<TextFile>, Failure> {
    let mut files = Vec::new();
    let mut folders = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).context(folder.display())? {
            let path = entry.context(folder.display())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                let ours = !name.starts_with('.') && name != "target" && depth < DEPTH_MAX;
                if ours {
                    folders.push((path, depth + 1));
                }
            } else if is_text(&path) {
                let text = fs::read_to_string(&path).context(path.display())?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
                files.push(TextFile { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|found| EXTENSIONS.iter().any(|extension| found == *extension))
}
