//! The records the demo hands in: the sample text, repeated under ids of its own, or a file.

use serde_json::Value;

use crate::exit::{DEMO_FAILED, Failure};

const SAMPLE: &str = include_str!("../../../../examples/news/sample.jsonl");
/// How many records the sample is repeated to.
const SAMPLE_RECORDS: usize = 5_000;

/// One line to be handed in, and the id by which it is found again everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) json: String,
}

/// The sample text, each round under new ids.
pub(crate) fn sample() -> Result<Vec<Line>, Failure> {
    let lines = parse(SAMPLE, "the sample")?;
    (0..SAMPLE_RECORDS)
        .map(|index| {
            let (line, round) = (&lines[index % lines.len()], index / lines.len());
            let id = format!("{}.{round}", line.id);
            let mut record: Value = serde_json::from_str(&line.json)
                .map_err(|error| Failure::new(DEMO_FAILED, format_args!("the sample: {error}")))?;
            record["id"] = Value::String(id.clone());
            Ok(Line { id, json: record.to_string() })
        })
        .collect()
}

/// Lines of JSON objects, each with a string `id` of its own and a string `text`.
pub(crate) fn parse(text: &str, origin: &str) -> Result<Vec<Line>, Failure> {
    let mut seen = std::collections::HashSet::new();
    let mut lines = Vec::new();
    for (index, json) in text.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let bad = |what: &str| {
            Failure::new(DEMO_FAILED, format_args!("{origin}, line {}: {what}", index + 1))
        };
        let record: Value = serde_json::from_str(json).map_err(|error| bad(&error.to_string()))?;
        let id = record.get("id").and_then(Value::as_str).ok_or_else(|| bad("no string 'id'"))?;
        if !record.get("text").is_some_and(Value::is_string) {
            return Err(bad("no string 'text'"));
        }
        if !seen.insert(id.to_owned()) {
            return Err(bad(&format!("id '{id}' is there twice")));
        }
        lines.push(Line { id: id.to_owned(), json: json.to_owned() });
    }
    if lines.is_empty() {
        return Err(Failure::new(DEMO_FAILED, format_args!("{origin} has no records")));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_has_as_many_ids_as_records() {
        let lines = sample().unwrap();
        let ids: std::collections::HashSet<_> = lines.iter().map(|line| &line.id).collect();
        assert_eq!((lines.len(), ids.len()), (SAMPLE_RECORDS, SAMPLE_RECORDS));
    }

    #[test]
    fn refuses_what_could_not_be_found_again() {
        let double = "{\"id\":\"a\",\"text\":\"\"}\n{\"id\":\"a\",\"text\":\"\"}\n";
        for bad in ["", "{}\n", "{\"id\":1,\"text\":\"\"}\n", "not json\n", double] {
            assert!(parse(bad, "test").is_err(), "{bad:?}");
        }
    }
}
