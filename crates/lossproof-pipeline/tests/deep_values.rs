//! JSON may be nested without end, and whoever walks it by recursion ends with his stack: one valid
//! record of 400 kB, through any expression, ended the process, and again after each restart.

use crate::common;

use common::service::{Service, answer};
use common::{
    DEAD, GROUP, append, cluster, dead_letters, head, http_step, ids_in, lines_sink, place, start,
};
use lossproof_pipeline::{Document, DocumentError, EvaluateError, Expression};

/// Far beyond what any thread's stack has room for.
const ENDLESS: usize = 200_000;
/// What the documentation promises.
const DOCUMENTED: usize = 100;

/// An object whose field `a` makes it so many levels deep.
fn nested(depth: usize) -> String {
    let inner = depth - 1;
    format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
}

fn filter_step() -> &'static str {
    "[[steps]]\nkind = \"filter\"\nkeep = \"true\"\nreason = \"none\"\n"
}

#[test]
fn a_record_nested_too_deep_is_poison() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    for depth in [ENDLESS, DOCUMENTED + 1, DOCUMENTED] {
        append(&cluster, 0, None, &nested(depth));
    }
    let config = head("") + filter_step() + &lines_sink(&path) + &dead_letters();
    let running = start(&cluster, &config);
    running.wait_committed(&cluster, 0, 3);
    let counts = running.end().counts;
    assert_eq!((counts.confirmed, counts.dead_lettered), (1, 2));
    assert_eq!(ids_in(&path), ["news-0-2"]);
    let dead = cluster.records(DEAD);
    let as_it_came = |depth| dead.iter().any(|letter| letter.value == Some(nested(depth).into()));
    assert!(as_it_came(ENDLESS) && as_it_came(DOCUMENTED + 1));
    let reason = dead[0].headers.iter().find(|(name, _)| name == "lossproof.reason").unwrap();
    let reason = String::from_utf8_lossy(reason.1.as_ref().unwrap()).into_owned();
    assert_eq!(reason, "the value is nested more than 100 levels deep");
}

/// Without a dead-letter topic its partition stops, as for other poison.
#[test]
fn a_record_nested_too_deep_stops_its_partition() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = cluster(1);
    append(&cluster, 0, None, r#"{"n":1}"#);
    append(&cluster, 0, None, &nested(ENDLESS));
    let sink = lines_sink(&directory.path().join("out"));
    // One at a time: the stop of a partition ends what else runs there.
    let running = start(&cluster, &(head("mode = \"partition\"") + filter_step() + &sink));
    running.wait_committed(&cluster, 0, 1);
    let flushes = running.ledger.flushes();
    running.wait_until("the stop", || running.ledger.flushes() > flushes + 5);
    let summary = running.end();
    assert!(summary.stopped[0].1.contains("levels deep"), "{summary}");
    assert_eq!(cluster.committed(GROUP, &place(0)), Some(1));
}

/// A file of an earlier version, which knew no bound, opens still.
#[test]
fn a_line_nested_deep_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let line = nested(ENDLESS).replacen('{', "{\"_id\":\"news-0-0\",", 1);
    std::fs::write(&path, line + "\n").unwrap();
    let cluster = cluster(1);
    append(&cluster, 0, None, &nested(2));
    append(&cluster, 0, None, &nested(2));
    let config = head("") + &lines_sink(&path) + &dead_letters();
    let running = start(&cluster, &config);
    running.wait_committed(&cluster, 0, 2);
    let counts = running.end().counts;
    assert_eq!((counts.confirmed, counts.dead_lettered), (1, 1), "the first place is taken");
}

/// An answer that is as deep as may be makes the document a level deeper: the steps behind it and
/// the sink take that one.
#[test]
fn an_answer_of_the_greatest_depth_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let cluster = cluster(1);
    append(&cluster, 0, None, r#"{"text":"t"}"#);
    let entities = nested(DOCUMENTED).replace("\"a\"", "\"entities\"");
    let service = Service::start(move |number, _| {
        let endless = nested(ENDLESS).replace("\"a\"", "\"entities\"");
        answer(200, if number == 0 { endless } else { entities.clone() })
    });
    let steps = http_step(&service.url) + filter_step();
    let running = start(&cluster, &(head("") + &steps + &lines_sink(&path)));
    running.wait_committed(&cluster, 0, 1);
    assert_eq!(running.end().counts.confirmed, 1);
    let again = start(&cluster, &(head("") + &steps + &lines_sink(&path)));
    again.wait_until("it opens the file again", || again.ledger.assignments() > 0);
    assert!(again.end().is_good());
}

/// The other way from a record to a stack: text in it that an expression reads as JSON, as
/// `tonumber` does too.
#[test]
fn text_that_an_expression_reads_as_json_is_bounded_too() {
    let (open, close) = ("[".repeat(ENDLESS), "]".repeat(ENDLESS));
    let texts = [
        format!("{open}{close}"),
        // Jaq's JSON has comments: a quotation mark in one hides nothing from the count.
        format!("# \\\"\\n{open}{close}"),
        format!("[0] {open}{close}"),
    ];
    for code in ["{n: (.text | fromjson)}", "{n: (.text | tonumber)}"] {
        let expression = Expression::compile(code).unwrap();
        for text in &texts {
            let record = Document::parse(format!("{{\"text\":\"{text}\"}}").as_bytes()).unwrap();
            let said = expression.map(&record).unwrap_err();
            assert!(matches!(said, EvaluateError::Failed { .. }), "{code}");
            assert!(said.to_string().contains("100 levels"), "{code}");
        }
    }
    let map = |code: &str, text: &str| {
        let record = serde_json::json!({ "text": text }).to_string();
        let document = Document::parse(record.as_bytes()).unwrap();
        Expression::compile(code).unwrap().map(&document).map(|mapped| mapped.to_json())
    };
    let numbers = |text: &str| map("{n: (.text | tonumber)}", text).unwrap();
    assert_eq!((numbers("7").as_str(), numbers("05").as_str()), (r#"{"n":7}"#, r#"{"n":5}"#));
    assert_eq!(map("{n: [.text | fromjson]}", "1 [2]").unwrap(), r#"{"n":[1,[2]]}"#);
    let wide = format!("[{}0]", "[1],".repeat(ENDLESS));
    assert_eq!(map("{n: (.text | fromjson | length)}", &wide).unwrap(), r#"{"n":200001}"#);
    for text in ["[1", "abc", "7x", "n/a", "1,5", "]", "7 x"] {
        for function in ["fromjson", "tonumber"] {
            let said = map(&format!("{{n: (.text | {function})}}"), text).unwrap_err().to_string();
            assert!(
                said.contains("as JSON") || said.contains("cannot"),
                "{function} {text}: {said}"
            );
        }
    }
    assert_eq!(map("{n: ((.text | tonumber)? // 0)}", "n/a").unwrap(), r#"{"n":0}"#);
    assert!(map("{n: (1 | fromjson)}", "").is_err());
}

/// What is let in can be walked, on the stack of a worker.
#[test]
fn the_greatest_depth_is_no_danger() {
    let document = Document::parse(nested(DOCUMENTED).as_bytes()).unwrap();
    for code in ["[..]", "walk(.)", "[paths]", "tojson", "[.a | flatten]", "tostring", ". == ."] {
        let code = format!("{{n: ({code} | length? // 0)}}");
        let mapped = Expression::compile(&code).unwrap().map(&document);
        assert!(mapped.is_ok(), "{code}: {mapped:?}");
    }
    let deeper = Expression::compile("{a: .}").unwrap().map(&document);
    let Err(EvaluateError::NoDocument { source }) = deeper else { panic!("{deeper:?}") };
    assert!(matches!(source, DocumentError::TooDeep));
}
