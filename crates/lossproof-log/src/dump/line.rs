use std::fmt;

use bytes::Bytes;
use lossproof_wire::batch::RecordHeader;

/// The most of a key or value that is shown in words.
const SHOWN_BYTES_MAX: usize = 1_000;

/// One thing that was found in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    pub what: &'static str,
    pub fields: Vec<(&'static str, Field)>,
}

/// What a line says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Field {
    Count(u64),
    Number(i64),
    /// Random: for comparing, not for counting.
    Id(u64),
    Flag(bool),
    Text(String),
    /// Whole and as they are. In words they are text, mostly: others are escaped, and what is too
    /// long is cut.
    Bytes(Bytes),
    /// Of a record; in words only how many there are.
    Headers(Vec<RecordHeader>),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Id(id) => write!(f, "{id:016x}"),
            Self::Flag(flag) => flag.fmt(f),
            Self::Text(text) if text.contains([' ', '"', '=']) || text.is_empty() => {
                write!(f, "{text:?}")
            }
            Self::Text(text) => f.write_str(text),
            Self::Bytes(bytes) => write_bytes(f, bytes),
            Self::Headers(headers) => headers.len().fmt(f),
        }
    }
}

fn write_bytes(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let cut = if shown.len() < bytes.len() { "..." } else { "" };
    let is_quoted = shown.is_empty() || shown.iter().any(|byte| matches!(byte, b' ' | b'=' | b'"'));
    let quote = if is_quoted { "\"" } else { "" };
    write!(f, "{quote}{}{cut}{quote}", shown.escape_ascii())
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        self.fields.iter().try_for_each(|(name, field)| write!(f, " {name}={field}"))
    }
}

impl Line {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, fields: Vec::new() }
    }

    fn with(mut self, name: &'static str, field: Field) -> Self {
        self.fields.push((name, field));
        self
    }

    pub(super) fn count(self, name: &'static str, count: u64) -> Self {
        self.with(name, Field::Count(count))
    }

    pub(super) fn number(self, name: &'static str, number: impl Into<i64>) -> Self {
        self.with(name, Field::Number(number.into()))
    }

    pub(super) fn id(self, name: &'static str, id: u64) -> Self {
        self.with(name, Field::Id(id))
    }

    pub(super) fn flag(self, name: &'static str, flag: bool) -> Self {
        self.with(name, Field::Flag(flag))
    }

    pub(super) fn text(self, name: &'static str, text: impl Into<String>) -> Self {
        self.with(name, Field::Text(text.into()))
    }

    pub(super) fn hex(self, name: &'static str, bytes: &[u8]) -> Self {
        let text = bytes.iter().map(|byte| format!("{byte:02x}"));
        self.text(name, text.collect::<String>())
    }

    pub(super) fn bytes(self, name: &'static str, bytes: &Bytes) -> Self {
        self.with(name, Field::Bytes(bytes.clone()))
    }

    pub(super) fn headers(self, headers: &[RecordHeader]) -> Self {
        self.with("headers", Field::Headers(headers.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        Line::new("entry").bytes("key", &Bytes::copy_from_slice(bytes)).to_string()
    }

    #[test]
    fn a_line_is_made_of_words() {
        let line = Line::new("entry").number("offset", -1).id("life", 255);
        assert_eq!(line.to_string(), "entry offset=-1 life=00000000000000ff");
    }

    #[test]
    fn bytes_are_escaped_once_and_quoted_where_a_word_would_not_do() {
        let cases: [(&[u8], &str); 6] = [
            (b"plain", "plain"),
            (b"", r#""""#),
            (b"a b\n", r#""a b\n""#),
            (b"a=1", r#""a=1""#),
            (br#"{"a":"\d"}"#, r#""{\"a\":\"\\d\"}""#),
            (b"\xff\x00", r"\xff\x00"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(shown(bytes), format!("entry key={expected}"));
        }
        let most = "x".repeat(SHOWN_BYTES_MAX);
        assert_eq!(shown(most.as_bytes()), format!("entry key={most}"));
        assert_eq!(shown(&[b'x'; SHOWN_BYTES_MAX + 1]), format!("entry key={most}..."));
    }
}
