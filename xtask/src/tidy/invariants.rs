//! The numbered invariants in the heads of modules and the asserts and tests that hold them:
//! none without the other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, Violation};

pub(crate) fn check(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut defined: BTreeMap<String, (&Source, usize)> = BTreeMap::new();
    for source in sources {
        for (line, id) in definitions(source) {
            if let Some((other, _)) = defined.get(&id) {
                let what = format!("{id} is already an invariant of {}", other.path.display());
                violations.push(violation(source, line, what));
            } else {
                defined.insert(id, (source, line));
            }
        }
    }
    let prefixes: BTreeSet<&str> = defined.keys().filter_map(|id| prefix(id)).collect();
    let mut held = BTreeSet::new();
    for source in sources {
        for (line, id, holds) in quotes(source) {
            if !defined.contains_key(&id) && prefix(&id).is_some_and(|p| prefixes.contains(p)) {
                violations.push(violation(source, line, format!("{id} is nowhere defined")));
            }
            if holds {
                held.insert(id);
            }
        }
    }
    for (id, (source, line)) in defined {
        if !held.contains(&id) {
            let what = format!("{id} is quoted by no assert and no test: who holds it?");
            violations.push(violation(source, line, what));
        }
    }
    violations
}

fn violation(source: &Source, line: usize, what: String) -> Violation {
    Violation { path: source.path.clone(), line: line + 1, what }
}

/// The ids that a module's head lists under `# Invariants`, with their lines.
fn definitions(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for line in head_lines(source) {
        let text = comment_text(&source.lines[line].comment);
        let item = text.trim_start_matches(['-', '*', ' ', '`']);
        let begins_item = item.len() < text.len();
        if let Some(id) = ids_in(item).into_iter().next()
            && begins_item
            && item.starts_with(&id)
        {
            found.push((line, id));
        }
    }
    found
}

/// The lines below `//! # Invariants` up to the next heading or the end of the head.
fn head_lines(source: &Source) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut inside = false;
    for (index, line) in source.lines.iter().enumerate() {
        let comment = line.comment.trim();
        if !comment.starts_with("//!") {
            inside = false;
            continue;
        }
        let text = comment_text(comment);
        if text.starts_with('#') {
            inside = text.trim_start_matches(['#', ' ']).starts_with("Invariants");
        } else if inside {
            lines.push(index);
        }
    }
    lines
}

fn comment_text(comment: &str) -> &str {
    comment.trim().trim_start_matches(['/', '!']).trim()
}

/// Ids quoted outside of the heads: line, id, and whether an assert or a test quotes it.
fn quotes(source: &Source) -> Vec<(usize, String, bool)> {
    let head: BTreeSet<usize> = head_lines(source).into_iter().collect();
    let mut found = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        if head.contains(&index) {
            continue;
        }
        let holds = source.is_test(index) || near_assert(source, index);
        for id in ids_in(&line.literal).into_iter().chain(ids_in(&line.comment)) {
            found.push((index, id, holds));
        }
    }
    found
}

/// Is a line part of an assert, or a comment right before one?
fn near_assert(source: &Source, line: usize) -> bool {
    const LINES_AROUND: usize = 8;
    let start = line.saturating_sub(LINES_AROUND);
    let around = source.lines.iter().skip(start).take(2 * LINES_AROUND + 1);
    around.into_iter().any(|near| near.code.contains("assert") || near.code.contains("expect("))
}

/// `NAME-12` and the like: capital letters (with `_` or digits inside), a hyphen, a number.
fn ids_in(text: &str) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
    text.split(|character: char| !is_part(character))
        .filter(|word| is_id(word))
        .map(str::to_owned)
        .collect()
}

fn is_id(word: &str) -> bool {
    let Some((name, number)) = word.rsplit_once('-') else { return false };
    let named = name.len() >= 2
        && name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "-_".contains(c));
    named && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}

fn prefix(id: &str) -> Option<&str> {
    id.rsplit_once('-').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HEAD: &str = "//! # Invariants\n//!\n//! - `LOG-1`: durable before acknowledged.\n\n";

    fn check_text(code: &str, test: &str) -> Vec<String> {
        let code = Source::parse(Path::new("crates/x/src/lib.rs"), &format!("{HEAD}{code}"));
        let mut tests = Source::parse(Path::new("crates/x/tests/t.rs"), test);
        tests.is_test_file = true;
        check(&[code, tests]).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn an_invariant_that_nobody_holds_is_refused() {
        let found = check_text("fn f() {}", "");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("quoted by no assert"));
    }

    #[test]
    fn an_assert_or_a_test_holds_it() {
        assert!(check_text("fn f() { assert!(a, \"LOG-1: b\"); }", "").is_empty());
        assert!(check_text("fn f() {}", "// LOG-1\n#[test]\nfn t() {}").is_empty());
    }

    #[test]
    fn a_mere_mention_does_not_hold_it() {
        assert_eq!(check_text("// see LOG-1\nfn f() {}", "").len(), 1);
    }

    #[test]
    fn a_quote_of_nothing_is_refused_but_other_numbers_are_fine() {
        let found = check_text("", "// LOG-1 and LOG-2, but UTF-8 and KIP-848 are no ids");
        assert_eq!(found, ["LOG-2 is nowhere defined"]);
    }

    #[test]
    fn one_number_is_defined_once() {
        let first = Source::parse(Path::new("a.rs"), HEAD);
        let second = Source::parse(Path::new("b.rs"), HEAD);
        let found = check(&[first, second]);
        assert!(found.iter().any(|violation| violation.what.contains("already an invariant")));
    }
}
