//! What a pipeline file says, and what is said about a bad one.

use std::time::Duration;

use lossproof_pipeline::Config;
use lossproof_pipeline::config::{Sink, Step};
use lossproof_pipeline::flow::Mode;

const MINIMAL: &str = r#"
[source]
bootstrap_servers = "127.0.0.1:9092"
topic = "news"
group = "index"
[journal]
directory = "data"
[sink]
kind = "jsonl"
path = "out.jsonl"
"#;

#[test]
fn the_shortest_file_is_safe() {
    let config = Config::parse(MINIMAL).unwrap();
    assert_eq!(config.unsafe_switches(), Vec::<&str>::new());
    assert_eq!(config.source.mode, Mode::Unordered);
    assert!(config.breaker.is_some() && config.dead_letters.is_none() && config.steps.is_empty());
    assert_eq!(config.source.commit_interval, Duration::from_secs(1));
}

#[test]
fn every_key_that_is_documented_is_taken() {
    let text = std::fs::read_to_string("../../docs/config.md").unwrap();
    // Before it stands what a broker takes.
    let (_, text) = text.split_once("\n## The pipeline file\n").unwrap();
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut parsed = 0;
    for block in blocks {
        Config::parse(block).unwrap_or_else(|error| panic!("{error} in\n{block}"));
        parsed += 1;
    }
    assert!(parsed >= 2, "{parsed} examples");
    // And the other way round: a key that the reader knows is in the text.
    let tables = include_str!("../src/config/tables.rs");
    let keys = tables.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
    for (key, _) in keys.filter(|(key, _)| key.chars().all(|c| c.is_lowercase() || c == '_')) {
        assert!(
            text.contains(&format!("`{key}`"))
                || text.contains(&format!("[{key}]"))
                || text.contains(&format!("[[{key}]]")),
            "`{key}` is in no documentation"
        );
    }
}

#[test]
fn a_full_file() {
    let text = MINIMAL.replace("[sink]\nkind = \"jsonl\"\npath = \"out.jsonl\"", "")
        + r#"
[[steps]]
kind = "http"
name = "ner"
url = "http://127.0.0.1:8080/analyze"
field = "text"
into = "analysis"
timeout = "1500ms"
[[steps]]
kind = "filter"
keep = ".lang == \"en\""
reason = "not English"
[sink]
kind = "opensearch"
url = "http://127.0.0.1:9200/"
index = "news"
[source.client]
"fetch.min.bytes" = "1"
[breaker]
unsafe_no_breaker = true
"#;
    let config = Config::parse(&text).unwrap();
    let Some(Step::Http(step)) = config.steps.first() else { panic!() };
    assert_eq!(step.timeout, Duration::from_millis(1500));
    let Sink::Bulk(sink) = config.sink.clone() else { panic!() };
    assert_eq!(sink.url, "http://127.0.0.1:9200");
    assert_eq!(config.unsafe_switches(), ["unsafe_no_breaker"]);
}

/// Replaces one line of the minimal file, or adds it at the end; returns what is said about it.
fn complaint(old: &str, new: &str) -> String {
    let text = if old.is_empty() { format!("{MINIMAL}{new}") } else { MINIMAL.replace(old, new) };
    assert!(text != MINIMAL);
    Config::parse(&text).expect_err(new).to_string()
}

#[test]
fn unknown_keys_are_errors_with_their_place_and_a_hint() {
    let said = complaint("topic =", "topik =");
    assert!(said.starts_with("line 4, column 1: unknown field `topik`"), "{said}");
    assert!(said.ends_with("did you mean `topic`?"), "{said}");
    let said = complaint("", "[braker]\nopen = \"1s\"");
    assert!(said.starts_with("line 11, column 2: unknown field `braker`"), "{said}");
    assert!(said.ends_with("did you mean `breaker`?"), "{said}");
    let said = complaint("kind = \"jsonl\"", "  kind = \"jsnol\"");
    assert!(said.starts_with("line 9, column 10: unknown variant `jsnol`"), "{said}");
    assert!(said.ends_with("did you mean `jsonl`?"), "{said}");
    let said = complaint("", "[[steps]]\nkind = \"filter\"\nkeep = \".a\"\nreson = \"b\"");
    assert!(said.starts_with("line 14, column 1: unknown field `reson`"), "{said}");
    assert!(said.ends_with("did you mean `reason`?"), "{said}");
}

#[test]
fn bad_values_are_errors_with_their_place() {
    for (old, new, place, says) in [
        ("topic = \"news\"\n", "", "line 2, column 1", "missing field `topic`"),
        ("group = \"index\"", "group = 7", "line 5, column 9", "expected a string"),
        (
            "group = \"index\"",
            "group = \"i\"\nmode = \"keys\"",
            "line 6, column 8",
            "did you mean `key`?",
        ),
        ("group = \"index\"", "group = \"i\"\nworkers = 0", "line 6, column 11", "at least 1"),
        (
            "group = \"index\"",
            "group = \"i\"\ncommit_interval = \"1\"",
            "line 6, column 19",
            "no length of time",
        ),
        (
            "path =",
            "url = \"http://a\"\npath =",
            "line 10, column 7",
            "`url` does not belong to a sink of kind \"jsonl\"",
        ),
        ("path = \"out.jsonl\"", "", "line 9, column 8", "`path` is missing"),
        ("", "[breaker]\nfailure_percent = 101", "line 12, column 19", "at most 100"),
        (
            "",
            "[[steps]]\nkind = \"map\"\nexpression = \".a |\"",
            "line 13, column 14",
            "no jq expression",
        ),
        (
            "",
            "[[steps]]\nkind = \"http\"\nurl = \"https://a\"\ninto = \"b\"",
            "line 13, column 7",
            "no TLS",
        ),
        (
            "",
            "[[steps]]\nkind = \"http\"\nurl = \"nowhere\"\ninto = \"b\"",
            "line 13, column 7",
            "is no URL",
        ),
        (
            "",
            "[source.client]\n\"auto.offset.reset\" = \"latest\"",
            "line 12, column 23",
            "jump over records",
        ),
        (
            "kind = \"jsonl\"\npath = \"out.jsonl\"",
            "kind = \"opensearch\"\nurl = \"http://a\"\nindex = \"News\"",
            "line 11, column 9",
            "is no index name",
        ),
        ("topic = \"news\"", "topic = \"bad topic!\"", "line 4, column 9", "a topic's name has"),
        ("group = \"index\"", "group = \"\"", "line 5, column 9", "needs a name"),
        ("", "[dead_letters]\ntopic = \"a/b\"", "line 12, column 9", "a topic's name has"),
        ("", "[dead_letters]\ntopic = \"news\"", "line 12, column 9", "name another topic"),
        ("", "[sink", "line 11", ""),
    ] {
        let said = complaint(old, new);
        assert!(said.starts_with(place) && said.contains(says), "{new:?}: {said}");
    }
}
