use std::fmt;

/// The most of a key or value that is shown.
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
        }
    }
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

    /// Bytes that are text, mostly: others are escaped, and what is too long is cut.
    pub(super) fn bytes(self, name: &'static str, bytes: &[u8]) -> Self {
        let shown = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
        let mut text = shown.escape_ascii().to_string();
        if shown.len() < bytes.len() {
            text.push_str("...");
        }
        self.text(name, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_made_of_words() {
        let line = Line::new("entry").number("offset", -1).id("life", 255).bytes("key", b"a b\n");
        assert_eq!(line.to_string(), r#"entry offset=-1 life=00000000000000ff key="a b\\n""#);
        let long = Line::new("entry").bytes("value", &[b'x'; SHOWN_BYTES_MAX + 1]);
        assert!(long.to_string().ends_with("x..."), "{long}");
    }
}
