//! The table of traps names tests that exist.

use std::path::Path;

use super::{TextFile, Violation};

const TABLE: &str = "crates/lossproof-broker/tests/traps.md";
/// A table that nobody can read any more would pass for one without mistakes.
const ROWS_MIN: usize = 40;

pub(crate) fn check(files: &[TextFile]) -> Vec<Violation> {
    let text = |path: &Path| {
        let file = files.iter().find(|file| file.path == path);
        file.map_or("", |file| file.text.as_str())
    };
    let mut violations = Vec::new();
    let mut add = |line: usize, what: String| {
        violations.push(Violation { path: TABLE.into(), line, what });
    };
    let rows: Vec<(usize, &str, &str)> = rows(text(Path::new(TABLE))).collect();
    for (line, file, test) in &rows {
        let path = Path::new("crates").join(file);
        if !text(&path).contains(&format!("fn {test}(")) {
            add(*line, format!("{} has no test `{test}`", path.display()));
        }
    }
    if rows.len() < ROWS_MIN {
        add(0, format!("{} traps are listed, there are at least {ROWS_MIN}", rows.len()));
    }
    violations
}

/// Line, file and test of each row.
fn rows(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let mut cells = line.trim().trim_matches('|').rsplit('|');
        let (test, file) = (quoted(cells.next()?)?, quoted(cells.next()?)?);
        Some((index + 1, file, test))
    })
}

fn quoted(cell: &str) -> Option<&str> {
    cell.trim().strip_prefix('`')?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_its_test_and_a_short_table_are_refused() {
        let row = "| a trap | `a/tests/b.rs` | `it_is_held` |\n";
        let table = |rows: usize| TextFile { path: TABLE.into(), text: row.repeat(rows) };
        let test = |name: &str| TextFile {
            path: "crates/a/tests/b.rs".into(),
            text: format!("fn {name}() {{}}\n"),
        };
        assert_eq!(check(&[table(ROWS_MIN), test("it_is_held")]), []);
        assert_eq!(check(&[table(ROWS_MIN), test("it_is_not")]).len(), ROWS_MIN);
        assert_eq!(check(&[table(1), test("it_is_held")]).len(), 1);
    }
}
