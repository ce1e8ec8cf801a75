//! Lines of at most 100 columns, files of at most 1,000 lines, plain ASCII, no loose ends.

use super::source::has_word;
use super::{Source, TextFile, Violation};

const LINE_COLUMNS_MAX: usize = 100;
/// Beyond it a file is refused.
const FILE_LINES_MAX: usize = 1000;
/// Beyond it a file is named in the output.
const FILE_LINES_GOOD: usize = 600;
const EM_DASH: char = '\u{2014}';
const EN_DASH: char = '\u{2013}';

/// Rules for any text file.
pub(crate) fn check(file: &TextFile) -> Vec<Violation> {
    let name = file.path.extension().unwrap_or_default();
    // Data, such as the sample texts, is what it is.
    if name == "json" {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut add = |line: usize, what: String| {
        violations.push(Violation { path: file.path.clone(), line, what });
    };
    for (index, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > LINE_COLUMNS_MAX && (name == "rs" || name == "py") {
            add(index + 1, format!("line of {columns} columns, at most {LINE_COLUMNS_MAX}"));
        }
        if line.contains([EM_DASH, EN_DASH]) {
            add(index + 1, "dash that is not ASCII: write it another way".to_owned());
        }
    }
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX && (name == "rs" || name == "py") {
        add(0, format!("file of {lines} lines, at most {FILE_LINES_MAX}: split it by subject"));
    }
    violations
}

pub(crate) fn long_file(file: &TextFile) -> Option<String> {
    let lines = file.text.lines().count();
    let long = file.is_rust() && lines > FILE_LINES_GOOD;
    long.then(|| format!("{} has {lines} lines", file.path.display()))
}

/// Rules that need to know code from comments.
pub(crate) fn check_source(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        let mut add = |what: &str| {
            let path = source.path.clone();
            violations.push(Violation { path, line: index + 1, what: what.to_owned() });
        };
        for word in ["TODO", "FIXME", "XXX"] {
            if has_word(&line.comment, word) && !line.comment.contains(&format!("{word}(#")) {
                add("reminder without an issue: write TODO(#number)");
            }
        }
        let text_may_differ = source.is_test(index);
        let ascii = line.code.is_ascii()
            && line.comment.is_ascii()
            && (text_may_differ || line.literal.is_ascii());
        if !ascii {
            add("character that is not ASCII (only literals of tests may have them)");
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn file(text: &str) -> TextFile {
        TextFile { path: Path::new("a.rs").to_path_buf(), text: text.to_owned() }
    }

    fn source(text: &str) -> Source {
        Source::parse(Path::new("crates/lossproof-log/src/lib.rs"), text)
    }

    #[test]
    fn a_long_line_is_refused() {
        assert_eq!(check(&file(&"a".repeat(100))).len(), 0);
        assert_eq!(check(&file(&"a".repeat(101)))[0].line, 1);
    }

    #[test]
    fn a_long_file_is_named_and_a_very_long_one_refused() {
        assert!(long_file(&file(&"x\n".repeat(600))).is_none());
        assert!(long_file(&file(&"x\n".repeat(601))).is_some());
        assert!(check(&file(&"x\n".repeat(1000))).is_empty());
        assert_eq!(check(&file(&"x\n".repeat(1001))).len(), 1);
    }

    #[test]
    fn an_em_dash_is_refused_everywhere() {
        assert_eq!(check(&file("one \u{2014} two")).len(), 1);
        let page = TextFile { path: Path::new("a.md").into(), text: "a \u{2014} b".to_owned() };
        assert_eq!(check(&page).len(), 1);
    }

    #[test]
    fn a_reminder_needs_an_issue() {
        assert_eq!(check_source(&source("// TODO: later")).len(), 1);
        assert_eq!(check_source(&source("// TODO(#12): later")).len(), 0);
        assert_eq!(check_source(&source("let s = \"TODO\";")).len(), 0);
    }

    #[test]
    fn only_literals_of_tests_may_leave_ascii() {
        assert_eq!(check_source(&source("// na\u{ef}ve")).len(), 1);
        assert_eq!(check_source(&source("let s = \"\u{ef}\";")).len(), 1);
        let mut test = source("let s = \"\u{ef}\";");
        test.is_test_file = true;
        assert_eq!(check_source(&test).len(), 0);
    }
}
