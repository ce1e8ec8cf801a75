//! Nobody has to read standard output to its end.

use std::process::Command;

#[test]
fn a_reader_that_went_away_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut explain = Command::new(env!("CARGO_BIN_EXE_lossproof"));
    let output = explain.arg("explain").stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
