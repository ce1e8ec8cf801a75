//! What is no history is refused with the line that is wrong: a judge that skips what it does not
//! understand would acquit for the wrong reason.

use lossproof_judge::judge;

const HEADER: &str =
    r#"{"t_ns":0,"f":"history","version":1,"declaration":{"topics":{"t":1},"sink":true}}"#;

fn error(lines: &[&str]) -> String {
    judge(lines.join("\n").as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_is_no_history_is_refused_by_line() {
    let end = r#"{"t_ns":1,"f":"end","final_read":"r"}"#;
    assert_eq!(error(&[]), "line 1 is no history header");
    assert_eq!(error(&[end]), "line 1 is no history header");
    assert_eq!(error(&[HEADER, "{}"]), "line 2 is no event");
    assert_eq!(error(&[HEADER, r#"{"t_ns":1,"f":"unheard_of"}"#]), "line 2 is no event");
    assert_eq!(error(&[HEADER, HEADER]), "line 2: a second header");
    assert_eq!(error(&[HEADER, end, end]), "line 3 comes after the end");
    let version = HEADER.replace(":1,", ":2,");
    assert!(error(&[&version]).starts_with("history version 2 is not known"));
}

#[test]
fn a_field_that_is_not_known_is_refused() {
    let misspelt = r#"{"t_ns":1,"f":"crash","process":"p","valeu":"x"}"#;
    assert_eq!(error(&[HEADER, misspelt]), "line 2 is no event");
}

#[test]
fn impossible_numbers_are_refused() {
    let position = r#"{"topic":"t","partition":0,"offset":-1}"#;
    let commit = format!(r#"{{"t_ns":1,"f":"commit","group":"g","position":{position}}}"#);
    assert_eq!(error(&[HEADER, &commit]), "line 2: a negative offset");
    let read =
        r#"{"t_ns":1,"f":"read_end","read":"r","topic":"t","partition":0,"start":5,"end":4}"#;
    assert_eq!(error(&[HEADER, read]), "line 2: a read that ends before it starts");
}
