//! The pipeline's settings in the demo: ordinary settings, chosen so that it fits in half a
//! minute, and printed.

use std::path::Path;

use super::scene::{DEAD_LETTERS, GROUP, Mode, TOPIC};

/// What is special about a run, in one line.
pub(crate) fn describe(mode: Mode) -> &'static str {
    match mode {
        Mode::Safe => {
            "safe settings: journal before yes, fsync before acknowledge, commit after the sink \
             has confirmed (for the demo: static members, 6 s sessions, breaker open for 500 ms)"
        }
        Mode::Unsafe => {
            "UNSAFE settings: no journal, outcomes ignored, acknowledged from the page cache, \
             committed before processing, no breaker, failures skipped"
        }
    }
}

/// The text of the pipeline file.
pub(crate) fn pipeline(mode: Mode, bootstrap: &str, url: &str, directory: &Path) -> String {
    let directory = directory.display();
    let common = format!(
        r#"
[source]
bootstrap_servers = "{bootstrap}"
topic = "{TOPIC}"
group = "{GROUP}"
static_member = "demo-1"
session_timeout = "6s"
commit_interval = "200ms"
"#
    );
    let dead_letters = format!("[dead_letters]\ntopic = \"{DEAD_LETTERS}\"\n\n");
    let (source, dead_letters, rest) = match mode {
        Mode::Safe => ("", &*dead_letters, "[breaker]\nopen = \"500ms\"\nopen_max = \"1s\"\n"),
        Mode::Unsafe => (
            "unsafe_commit_before_processing = true\n",
            "",
            "[breaker]\nunsafe_no_breaker = true\n\n[retry]\nattempts = 2\nfirst = \"20ms\"\n\
             max = \"20ms\"\nunsafe_skip_failed = true\n",
        ),
    };
    format!(
        r#"{common}{source}
[journal]
directory = "{directory}/receipts"

[[steps]]
kind = "http"
name = "analysis"
url = "{url}"
field = "text"
into = "analysis"
require = ["entities", "sentiment"]
timeout = "500ms"

[sink]
kind = "jsonl"
path = "{directory}/sink.jsonl"

{dead_letters}{rest}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_what_the_pipeline_takes() {
        for mode in [Mode::Safe, Mode::Unsafe] {
            let text = pipeline(mode, "127.0.0.1:9092", "http://127.0.0.1:1/x", Path::new("/d"));
            let config = lossproof_pipeline::config::Config::parse(&text).unwrap();
            assert_eq!(config.unsafe_switches().is_empty(), mode == Mode::Safe);
        }
    }
}
