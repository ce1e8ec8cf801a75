//! How deep JSON may be nested. Jaq and serde_json go into it by recursion: a record that is deep
//! enough would end the process by the stack, and again after each restart.

use bytes::Bytes;
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::{DataT, Exn};
use jaq_json::{Error, Val, ValR, read};
use serde::de::IgnoredAny;

/// Objects and arrays in each other. Servers and other readers stop at 128 (serde_json) or far
/// below (the mapping of an index at 20); the rest is for what a document is wrapped in.
pub(crate) const DEPTH_MAX: usize = 100;

/// Whether well-formed JSON, or several in a row, is within the bound.
pub(crate) fn is_shallow(json: &[u8]) -> bool {
    if openings(json) <= DEPTH_MAX {
        return true;
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest <= DEPTH_MAX
}

/// No JSON is deeper than this, whatever it is written in.
fn openings(json: &[u8]) -> usize {
    json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
}

/// The same for text that nobody has checked. Jaq's own JSON has comments and more; where that
/// could hide how deep it goes, it must be JSON as everybody knows it.
fn is_shallow_unchecked(text: &[u8]) -> bool {
    let well_formed = || {
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>();
        values.all(|value| value.is_ok())
    };
    openings(text) <= DEPTH_MAX || (well_formed() && is_shallow(text))
}

/// `fromjson` in place of jaq's own, which goes as deep as the text of the record does.
pub(crate) fn bounded_fromjson<D: for<'a> DataT<V<'a> = Val>>() -> Fun<D> {
    run(("fromjson", v(0), |(_, input)| match input.try_as_utf8_bytes_owned() {
        Ok(text) => Box::new(parse(&text).into_iter().map(|result| result.map_err(Exn::from))),
        Err(error) => bome(Err(error)),
    }))
}

fn parse(text: &Bytes) -> Vec<ValR> {
    if !is_shallow_unchecked(text) {
        let said = format!("the text is no JSON of at most {DEPTH_MAX} levels");
        return vec![Err(Error::str(said))];
    }
    let failed = |error| Error::str(format_args!("cannot parse the text as JSON: {error}"));
    let mut values = Vec::new();
    for value in read::parse_many(text) {
        // Behind an error there is nothing: jaq's reader would give it again without end.
        let is_last = value.is_err();
        values.push(value.map_err(failed));
        if is_last {
            break;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn brackets_count_where_they_nest() {
        let text = format!(r#"{{"a":"\"{}\\","b":1}}"#, "[".repeat(DEPTH_MAX * 2));
        for shallow in [nested(DEPTH_MAX), text, "[1]".repeat(DEPTH_MAX * 2)] {
            assert!(is_shallow(shallow.as_bytes()), "{shallow}");
        }
        let behind = format!(r#"{{"a":"\\","b":{}}}"#, nested(DEPTH_MAX));
        for deep in [nested(DEPTH_MAX + 1), behind, nested(DEPTH_MAX + 1).replace('[', "[ ")] {
            assert!(!is_shallow(deep.as_bytes()), "{deep}");
        }
    }

    #[test]
    fn what_hides_its_depth_is_refused() {
        let deep = format!("# \"\n{}", nested(DEPTH_MAX + 1));
        assert!(is_shallow(deep.as_bytes()) && !is_shallow_unchecked(deep.as_bytes()));
    }
}
