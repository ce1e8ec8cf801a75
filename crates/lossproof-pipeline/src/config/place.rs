//! Where in the file something is wrong, and what was probably meant.

use std::ops::Range;

use super::ConfigError;

/// Turns byte ranges of one text into lines and columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    text: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn in_text(text: &'a str) -> Self {
        Self { text }
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn of_toml(&self, error: &toml::de::Error) -> ConfigError {
        let first_line = error.message().lines().next().unwrap_or("is no TOML");
        let hint = hint(first_line);
        ConfigError { hint, ..self.error(error.span().unwrap_or(0..0), first_line) }
    }
}

/// For "unknown field `a`, expected one of `b`, `c`": the nearest of the names.
fn hint(message: &str) -> Option<String> {
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next()?;
    if !message.starts_with("unknown ") {
        return None;
    }
    let nearest = names.min_by_key(|name| edits(unknown, name))?;
    let near_enough = edits(unknown, nearest) <= 1 + nearest.len() / 3;
    near_enough.then(|| format!("did you mean `{nearest}`?"))
}

/// Levenshtein distance.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, left) in one.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, right) in other.iter().enumerate() {
            let swap = row[j] + usize::from(left != *right);
            next.push(swap.min(row[j + 1] + 1).min(next[j] + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_no_far_one() {
        let message = "unknown field `topik`, expected one of `group`, `topic`, `mode`";
        assert_eq!(hint(message).as_deref(), Some("did you mean `topic`?"));
        assert_eq!(hint("unknown field `xyzzy`, expected `topic`"), None);
        assert_eq!(hint("missing field `topic`"), None);
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("a", "a")), (3, 3, 0));
    }
}
