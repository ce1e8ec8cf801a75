//! A misspelt bug in a planted build stops the program: it would look like a bug that no test
//! finds. The test starts itself again with a name that no bug has.
#![cfg(planted)]

use std::process::Command;

use lossproof_env::{PLANTED_VARIABLE, Planted, planted};

fn child(name: &str) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "planted::child_asks_for_a_bug"])
        .env(PLANTED_VARIABLE, name)
        .env("LOSSPROOF_TEST_PLANTED_CHILD", "1")
        .output()
        .unwrap()
        .status;
    status.success()
}

#[test]
fn child_asks_for_a_bug() {
    if std::env::var_os("LOSSPROOF_TEST_PLANTED_CHILD").is_some() {
        let chosen = std::env::var(PLANTED_VARIABLE).unwrap();
        assert_eq!(planted(Planted::ReceiptLost), chosen == "receipt-lost");
        assert!(!planted(Planted::AckBeforeFsync));
    }
}

#[test]
fn a_name_that_no_bug_has_is_refused() {
    assert!(child(""));
    assert!(child("receipt-lost"));
    assert!(child("trust-page-cache"));
    assert!(!child("recept-lost"));
}
