//! Which code is test code, and what tests must not do: be left out, expect any panic at all, or
//! hope that some time is enough.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::functions::{self, end_of_block};
use super::source::has_word;
use super::{Source, Violation};

/// Functions that wait for something they can see, with a deadline.
const POLLING_HELPERS: [&str; 4] = ["eventually", "poll_until", "wait", "wait_until"];

/// Marks test files and test items in all sources of the tree.
pub(crate) fn mark(sources: &mut [Source]) {
    let mut included = BTreeSet::new();
    for source in sources.iter_mut() {
        source.is_test_file = is_test_path(&source.path);
        included.extend(mark_items(source));
    }
    // A module that only tests include, and what lies below it.
    for source in sources.iter_mut() {
        let stem = source.path.with_extension("");
        if included.iter().any(|module| stem == *module || stem.starts_with(module)) {
            source.is_test_file = true;
        }
    }
}

fn is_test_path(path: &Path) -> bool {
    let folders = ["tests", "benches", "examples", "fuzz"];
    path.iter().any(|part| folders.iter().any(|folder| part == *folder))
        || path.file_name().is_some_and(|name| name == "build.rs")
}

/// Marks the `#[cfg(test)]` items of a file; returns the module files that they name.
fn mark_items(source: &mut Source) -> Vec<PathBuf> {
    let mut modules = Vec::new();
    for index in 0..source.lines.len() {
        let code = source.lines[index].code.replace(' ', "");
        let Some(column) = code.find("#[cfg(test)]").or_else(|| code.find("#[cfg(all(test")) else {
            continue;
        };
        if let Some(end) = end_of_block(source, index, column) {
            source.test_lines[index..=end].fill(true);
        } else {
            modules.extend(declared_module(source, index));
        }
    }
    modules
}

/// The file, without its extension, of the `mod name;` that follows an attribute.
fn declared_module(source: &Source, attribute: usize) -> Option<PathBuf> {
    let after = source.lines.iter().skip(attribute).take(3);
    let code: String = after.map(|line| line.code.trim()).collect::<Vec<_>>().join(" ");
    let (_, rest) = code.split_once("mod ")?;
    let name = rest.split(';').next()?.trim();
    let folder = source.path.parent()?;
    let stem = source.path.file_stem()?.to_str()?;
    let folder = match stem {
        "lib" | "main" | "mod" => folder.to_path_buf(),
        _ => folder.join(stem),
    };
    Some(folder.join(name))
}

pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    let functions = functions::find(source);
    for (index, line) in source.lines.iter().enumerate() {
        let mut add = |what: &str| {
            let path = source.path.clone();
            violations.push(Violation { path, line: index + 1, what: what.to_owned() });
        };
        if line.code.contains("#[ignore") {
            add("a test that is ignored tests nothing: make it fast, or a part of xtask");
        }
        if has_word(&line.code, "should_panic") {
            add("`should_panic` passes for any panic: catch it and check its message");
        }
        let sleeps = has_word(&line.code, "thread::sleep") || has_word(&line.code, "time::sleep");
        if sleeps && source.is_test(index) && !in_polling_helper(&functions, index) {
            add("a sleep hopes: wait for what is meant, in `eventually` or `poll_until`");
        }
    }
    violations
}

fn in_polling_helper(functions: &[functions::Function], line: usize) -> bool {
    functions.iter().any(|function| {
        let inside = function.first_line <= line && line <= function.last_line;
        inside && POLLING_HELPERS.contains(&function.name.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        let mut sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::parse(Path::new(path), text)).collect();
        mark(&mut sources);
        sources
    }

    #[test]
    fn test_modules_and_test_files_are_known() {
        let inline = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}";
        let marked = sources(&[
            ("crates/x/src/a.rs", inline),
            ("crates/x/src/lib.rs", "#[cfg(test)]\nmod model;\nmod other;"),
            ("crates/x/src/model.rs", "fn m() {}"),
            ("crates/x/src/other.rs", "fn o() {}"),
            ("crates/x/tests/t.rs", "fn t() {}"),
        ]);
        let lines: Vec<bool> = (0..6).map(|line| marked[0].is_test(line)).collect();
        assert_eq!(lines, [false, true, true, true, true, false]);
        let files: Vec<bool> = marked.iter().map(|source| source.is_test_file).collect();
        assert_eq!(files, [false, false, true, false, true]);
    }

    #[test]
    fn ignored_tests_and_any_panic_are_refused() {
        let text = "#[test]\n#[ignore]\nfn a() {}\n#[test]\n#[should_panic]\nfn b() {}";
        assert_eq!(check(&sources(&[("crates/x/tests/t.rs", text)])[0]).len(), 2);
    }

    #[test]
    fn a_sleep_is_refused_outside_a_polling_helper() {
        let text =
            "fn a() {\n    thread::sleep(x);\n}\nfn eventually() {\n    thread::sleep(x);\n}";
        let violations = check(&sources(&[("crates/x/tests/t.rs", text)])[0]);
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].line, 2);
    }
}
