//! A test file that no program includes would run nowhere, and nobody would be told.

use std::path::Path;

use super::{TextFile, Violation};

/// The one program of a crate's integration tests: it names the files beside it.
const PROGRAM: &str = "it.rs";

pub(crate) fn check(files: &[TextFile]) -> Vec<Violation> {
    let left_out = files.iter().filter(|file| is_left_out(file, files));
    let what = format!("no module of {PROGRAM} beside it, so that none of its tests runs");
    left_out
        .map(|file| Violation { path: file.path.clone(), line: 0, what: what.clone() })
        .collect()
}

fn is_left_out(file: &TextFile, files: &[TextFile]) -> bool {
    let Some(program) = file.path.parent().map(|folder| folder.join(PROGRAM)) else { return false };
    let Some(program) = files.iter().find(|other| other.path == program) else { return false };
    let in_tests = file.path.parent().is_some_and(|folder| folder.ends_with(Path::new("tests")));
    let name = file.path.file_stem().unwrap_or_default().to_string_lossy();
    let module = format!("mod {name};");
    in_tests
        && file.is_rust()
        && file.path != program.path
        && !program.text.lines().any(|line| line == module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_file_that_its_program_does_not_name_is_refused() {
        let file = |path: &str, text: &str| TextFile { path: path.into(), text: text.to_owned() };
        let program = || file("crates/a/tests/it.rs", "mod named;\n");
        let named = || file("crates/a/tests/named.rs", "");
        assert_eq!(check(&[program(), named()]), []);
        let found = check(&[program(), named(), file("crates/a/tests/name.rs", "")]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, Path::new("crates/a/tests/name.rs"));
        assert_eq!(check(&[file("crates/b/tests/a_program_of_its_own.rs", "")]), []);
    }
}
