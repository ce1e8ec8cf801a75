//! Functions of at most 70 lines, from the signature to the closing brace.

use super::source::has_word;
use super::{Source, Violation};

const FUNCTION_LINES_MAX: usize = 70;

/// A function with a body; lines are counted from 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first_line: usize,
    pub(crate) last_line: usize,
}

pub(crate) fn check(source: &Source) -> Vec<Violation> {
    find(source)
        .into_iter()
        .filter_map(|function| {
            let lines = function.last_line - function.first_line + 1;
            (lines > FUNCTION_LINES_MAX).then(|| Violation {
                path: source.path.clone(),
                line: function.first_line + 1,
                what: format!(
                    "function `{}` of {lines} lines, at most {FUNCTION_LINES_MAX}",
                    function.name
                ),
            })
        })
        .collect()
}

/// All functions that have a body, nested ones too.
pub(crate) fn find(source: &Source) -> Vec<Function> {
    let mut functions = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        if !has_word(&line.code, "fn") {
            continue;
        }
        let Some(name) = name_in(&line.code) else { continue };
        let start = line.code.find("fn ").unwrap_or(0);
        if let Some(last_line) = end_of_block(source, index, start) {
            functions.push(Function { name, first_line: index, last_line });
        }
    }
    functions
}

/// The name after `fn`; a function pointer type has none.
fn name_in(code: &str) -> Option<String> {
    let rest = code.split("fn ").nth(1)?;
    let name: String =
        rest.chars().take_while(|next| next.is_alphanumeric() || *next == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The line that closes the first block after a place in the code, `None` where a semicolon
/// comes first, as it does after a declaration.
pub(crate) fn end_of_block(source: &Source, line: usize, column: usize) -> Option<usize> {
    let mut depth = 0_usize;
    // Brackets other than braces: `[u8; 4]` in a signature is no end of it.
    let mut inner = 0_usize;
    for (index, text) in source.lines.iter().enumerate().skip(line) {
        let skip = if index == line { column } else { 0 };
        for character in text.code.chars().skip(skip) {
            match character {
                '{' => depth += 1,
                '}' if depth == 1 => return Some(index),
                '}' => depth = depth.saturating_sub(1),
                '(' | '[' if depth == 0 => inner += 1,
                ')' | ']' if depth == 0 => inner = inner.saturating_sub(1),
                ';' if depth == 0 && inner == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn source(text: &str) -> Source {
        Source::parse(Path::new("crates/lossproof-log/src/lib.rs"), text)
    }

    fn function_of(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_over_the_limit_is_refused() {
        assert!(check(&source(&function_of(70))).is_empty());
        let violations = check(&source(&function_of(71)));
        assert_eq!(violations.len(), 1);
        assert!(violations[0].what.contains("long"));
    }

    #[test]
    fn braces_in_texts_and_declarations_without_body_are_no_functions() {
        let text = "trait T {\n    fn declared(&self) -> [u8; 4];\n}\n\
                    fn real(a: [u8; 2]) {\n    let s = \"}\";\n}\nstatic F: fn() = real;";
        let found = find(&source(text));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].last_line), ("real", 5));
    }
}
