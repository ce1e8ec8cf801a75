//! What real servers answered, and what that says about each document. Status 200 says nothing:
//! only the item of a document does.

use lossproof_pipeline::config::Operation;
use lossproof_pipeline::retry::Failure;
use lossproof_pipeline::sink::bulk_answer::{Answer, Item, judge};
use serde_json::Value;

struct Recorded {
    status: u16,
    body: String,
    ids: Vec<String>,
}

fn recorded(name: &str) -> Recorded {
    let path = format!("{}/tests/responses/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let case: Value = serde_json::from_str(&text).unwrap();
    let body = case["response"]["body"].as_str().unwrap().to_owned();
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let id = |item: &Value| {
        let result = item.as_object().unwrap().values().next().unwrap();
        result["_id"].as_str().unwrap().to_owned()
    };
    let status = case["response"]["status"].as_u64().unwrap() as u16;
    Recorded { status, body, ids: items.iter().map(id).collect() }
}

fn judged(recorded: &Recorded, operation: Operation) -> Answer {
    let sent: Vec<_> = recorded.ids.iter().map(|id| (id.as_str(), operation)).collect();
    judge(recorded.status, recorded.body.as_bytes(), &sent)
}

fn items(name: &str) -> Vec<Item> {
    match judged(&recorded(name), Operation::Index) {
        Answer::Items(items) => items,
        other => panic!("{name}: {other:?}"),
    }
}

fn letters(items: &[Item]) -> String {
    let letter = |item: &Item| match item {
        Item::Stored => 's',
        Item::Exists => 'e',
        Item::Failed(Failure::Poison { .. }) => 'p',
        Item::Failed(Failure::Transient { .. }) => 't',
        Item::Failed(Failure::Pushback { .. }) => '4',
        Item::Failed(Failure::Held { .. }) => 'h',
        Item::Failed(Failure::Abandoned) => 'a',
    };
    items.iter().map(letter).collect()
}

/// BULK-1, and the negative control of the planted bug `bulk-item-error-ignored`.
#[test]
fn a_document_refused_among_good_ones_is_not_stored() {
    for server in ["opensearch", "elasticsearch"] {
        let items = items(&format!("{server}.bulk-bad-document-between-good"));
        assert_eq!(letters(&items), "spppps", "{server}: not what the items say");
        let Some(Item::Failed(Failure::Poison { reason })) = items.get(1) else { panic!() };
        assert!(reason.contains("failed to parse field [n]") && reason.len() < 700, "{reason}");
    }
}

#[test]
fn stored_documents_are_stored_also_again() {
    for name in [
        "opensearch.bulk-index-created",
        "opensearch.bulk-index-again",
        "elasticsearch.bulk-index-created",
    ] {
        let letters = letters(&items(name));
        assert!(!letters.is_empty() && letters.chars().all(|letter| letter == 's'), "{name}");
    }
}

/// BULK-3.
#[test]
fn what_is_the_fault_of_the_index_is_not_blamed_on_a_document() {
    for (case, expected) in [
        ("opensearch.bulk-block-write", "h"),
        ("opensearch.bulk-block-read-only", "h"),
        ("opensearch.bulk-no-such-index", "hs"),
        ("opensearch.bulk-index-closed", "h"),
        ("opensearch.bulk-bad-index-name", "hs"),
        ("elasticsearch.bulk-block-write", "h"),
        ("elasticsearch.bulk-no-such-index", "hs"),
        ("elasticsearch.bulk-index-closed", "h"),
        ("opensearch.bulk-shard-unavailable", "4"),
        ("elasticsearch.bulk-shard-unavailable", "4"),
        // The first two of the four faces of 429: a full disk, a full queue.
        ("opensearch.bulk-block-read-only-allow-delete", "4"),
        ("elasticsearch.bulk-block-read-only-allow-delete", "4"),
    ] {
        assert_eq!(letters(&items(case)), expected, "{case}");
    }
    let queue_full = letters(&items("opensearch.bulk-queue-full"));
    assert!(queue_full.contains('s') && queue_full.contains('4'), "{queue_full}");
    assert!(queue_full.chars().all(|letter| "s4".contains(letter)), "{queue_full}");
}

#[test]
fn whole_requests_refused() {
    let of = |name: &str| judged(&recorded(name), Operation::Index);
    for server in ["opensearch", "elasticsearch"] {
        // The other two faces of 429.
        for case in ["circuit-breaker", "indexing-pressure"] {
            let answer = of(&format!("{server}.bulk-{case}"));
            assert!(matches!(answer, Answer::All(Failure::Pushback { .. })), "{case}: {answer:?}");
        }
        let answer = of(&format!("{server}.bulk-too-large"));
        assert!(matches!(answer, Answer::Halve(Failure::Poison { .. })), "{answer:?}");
    }
    for case in ["opensearch.bulk-id-too-long", "opensearch.bulk-unknown-action"] {
        assert!(matches!(of(case), Answer::Halve(Failure::Poison { .. })), "{case}");
    }
    let answer = of("opensearch.bulk-wrong-content-type");
    assert!(matches!(answer, Answer::All(Failure::Held { .. })), "{answer:?}");
}

#[test]
fn a_conflict_of_create_is_a_document_that_exists() {
    for server in ["opensearch", "elasticsearch"] {
        let recorded = recorded(&format!("{server}.bulk-create"));
        let Answer::Items(items) = judged(&recorded, Operation::Create) else { panic!() };
        assert_eq!(letters(&items), "se", "{server}");
    }
    // With `index` a conflict says nothing about the record: it is tried again.
    assert_eq!(letters(&items("opensearch.bulk-external-gte")), "sst".to_owned() + "s");
}

/// BULK-2.
#[test]
fn an_answer_about_other_documents_stores_nothing() {
    let whole = recorded("opensearch.bulk-index-created");
    let fails = |body: &str, ids: &[&str]| {
        let sent: Vec<_> = ids.iter().map(|id| (*id, Operation::Index)).collect();
        let answer = judge(200, body.as_bytes(), &sent);
        assert!(matches!(answer, Answer::All(Failure::Transient { .. })), "{body}: {answer:?}");
    };
    let ids: Vec<&str> = whole.ids.iter().map(String::as_str).collect();
    fails(&whole.body, &ids[1..]);
    fails(&whole.body, &[ids.as_slice(), &["more"]].concat());
    let reversed: Vec<&str> = ids.iter().rev().copied().collect();
    assert!(reversed != ids);
    fails(&whole.body, &reversed);
    fails(&whole.body[..whole.body.len() / 2], &ids);
    fails("<html>it works</html>", &ids);
    fails("{}", &ids);
    fails(r#"{"errors":false,"items":[{"index":{"_id":"a"}}]}"#, &["a"]);
    fails(r#"{"errors":false,"items":[{"delete":{"_id":"a","status":200}}]}"#, &["a"]);
    fails("", &[]);
}
