//! A Rust file taken apart into code, comments and literals, line by line.

use std::path::{Path, PathBuf};

/// One line of a file. Each text keeps the columns of the original: what belongs to another
/// kind is a blank.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    pub(crate) code: String,
    pub(crate) comment: String,
    pub(crate) literal: String,
}

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<Line>,
    /// The whole file is test code: it lies in a `tests` folder, or only tests include it.
    pub(crate) is_test_file: bool,
    /// Lines, counted from 0, that are inside a `#[cfg(test)]` item.
    pub(crate) test_lines: Vec<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// How many are open: block comments nest.
    BlockComment(usize),
    Text,
    /// How many hash signs end it.
    RawText(usize),
}

impl Source {
    pub(crate) fn parse(path: &Path, text: &str) -> Source {
        let lines = scan(&text.chars().collect::<Vec<char>>());
        let test_lines = vec![false; lines.len()];
        Source { path: path.to_path_buf(), lines, is_test_file: false, test_lines }
    }

    /// Is this line, counted from 0, test code?
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.is_test_file || self.test_lines.get(line).copied().unwrap_or(false)
    }

    /// The crate that the file belongs to, by its folder.
    pub(crate) fn package(&self) -> Option<&str> {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        match parts.next()? {
            "crates" => parts.next(),
            first => Some(first),
        }
    }
}

fn scan(text: &[char]) -> Vec<Line> {
    let mut lines = vec![Line::default()];
    let mut state = State::Code;
    let mut at = 0;
    while at < text.len() {
        let here = text[at];
        if here == '\n' {
            if state == State::LineComment {
                state = State::Code;
            }
            lines.push(Line::default());
            at += 1;
            continue;
        }
        let (next, kind, length) = step(state, &text[at..], before(text, at));
        let end = (at + length).min(text.len());
        for &character in &text[at..end] {
            if character == '\n' {
                lines.push(Line::default());
            } else if let Some(line) = lines.last_mut() {
                push(line, kind, character);
            }
        }
        state = next;
        at = end;
    }
    lines
}

fn before(text: &[char], at: usize) -> Option<char> {
    at.checked_sub(1).and_then(|index| text.get(index)).copied()
}

fn push(line: &mut Line, kind: State, character: char) {
    let blank = ' ';
    let (code, comment, literal) = match kind {
        State::Code => (character, blank, blank),
        State::LineComment | State::BlockComment(_) => (blank, character, blank),
        State::Text | State::RawText(_) => (blank, blank, character),
    };
    line.code.push(code);
    line.comment.push(comment);
    line.literal.push(literal);
}

/// The state after the next few characters, which kind they are, and how many there are.
fn step(state: State, rest: &[char], previous: Option<char>) -> (State, State, usize) {
    match state {
        State::Code => step_in_code(rest, previous),
        State::BlockComment(depth) if starts(rest, "*/") => {
            let next = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
            (next, state, 2)
        }
        State::BlockComment(depth) if starts(rest, "/*") => {
            (State::BlockComment(depth + 1), state, 2)
        }
        State::Text if rest[0] == '\\' => (state, state, 2),
        State::Text if rest[0] == '"' => (State::Code, state, 1),
        State::RawText(hashes) if rest[0] == '"' && count_hashes(&rest[1..]) >= hashes => {
            (State::Code, state, 1 + hashes)
        }
        _ => (state, state, 1),
    }
}

fn step_in_code(rest: &[char], previous: Option<char>) -> (State, State, usize) {
    if starts(rest, "//") {
        return (State::LineComment, State::LineComment, 2);
    }
    if starts(rest, "/*") {
        return (State::BlockComment(1), State::BlockComment(1), 2);
    }
    if rest[0] == '"' {
        return (State::Text, State::Text, 1);
    }
    let in_word = previous.is_some_and(|before| before.is_alphanumeric() || before == '_');
    let raw = rest[0] == 'r' && (!in_word || previous == Some('b') || previous == Some('c'));
    if raw {
        let hashes = count_hashes(&rest[1..]);
        if rest.get(1 + hashes) == Some(&'"') {
            return (State::RawText(hashes), State::RawText(hashes), 2 + hashes);
        }
    }
    if rest[0] == '\'' {
        // A character literal, or else a lifetime.
        if rest.get(1) == Some(&'\\') {
            let close = rest.iter().skip(3).position(|&character| character == '\'');
            return (State::Code, State::Text, close.map_or(2, |position| position + 4));
        }
        if rest.get(2) == Some(&'\'') {
            return (State::Code, State::Text, 3);
        }
    }
    (State::Code, State::Code, 1)
}

fn starts(rest: &[char], with: &str) -> bool {
    with.chars().enumerate().all(|(index, expected)| rest.get(index) == Some(&expected))
}

fn count_hashes(rest: &[char]) -> usize {
    rest.iter().take_while(|&&character| character == '#').count()
}

/// Does `text` hold `word` with no letter, digit or underscore on either side?
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text.get(..start).and_then(|part| part.chars().next_back());
        let after = text.get(start + word.len()..).and_then(|part| part.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Source {
        Source::parse(Path::new("crates/lossproof-log/src/lib.rs"), text)
    }

    #[test]
    fn code_comments_and_literals_are_told_apart() {
        let source = parse("let a = \"std::fs // no\"; // yes \"not text\"\nlet b = 'x';");
        assert!(!source.lines[0].code.contains("std"));
        assert!(source.lines[0].literal.contains("std::fs // no"));
        assert!(source.lines[0].comment.contains("yes \"not text\""));
        assert!(source.lines[1].code.contains("let b ="));
        assert!(source.lines[1].literal.contains("'x'"));
    }

    #[test]
    fn raw_strings_lifetimes_escapes_and_nested_comments_do_not_confuse_it() {
        let text = "let r = r#\"a \" b\"#; fn f<'a>(x: &'a str) {}\n\
                    let q = '\\''; let e = \"\\\"\"; /* a /* b */ c */ let z = b'\"';";
        let source = parse(text);
        assert!(source.lines[0].code.contains("fn f<'a>(x: &'a str) {}"));
        assert!(source.lines[1].code.contains("let e ="));
        assert!(source.lines[1].code.contains("let z ="));
        assert!(!source.lines[1].code.contains(" c "));
    }

    #[test]
    fn a_string_over_two_lines_stays_a_string() {
        let source = parse("let a = \"one\ntwo\";\nlet b = 1;");
        assert!(source.lines[1].literal.contains("two"));
        assert!(source.lines[2].code.contains("let b"));
    }

    #[test]
    fn words_end_where_words_end() {
        assert!(has_word("use std::fs;", "std::fs"));
        assert!(!has_word("use mystd::fsx;", "std::fs"));
    }

    #[test]
    fn the_package_is_the_folder() {
        assert_eq!(parse("").package(), Some("lossproof-log"));
        assert_eq!(Source::parse(Path::new("xtask/src/main.rs"), "").package(), Some("xtask"));
    }
}
