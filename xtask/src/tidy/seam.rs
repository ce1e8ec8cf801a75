//! Files, clocks, sockets and randomness are reached through `lossproof-env` only: that is what
//! makes crash images and simulated time possible.

use super::source::has_word;
use super::{Source, Violation};

const SEAM_PACKAGE: &str = "lossproof-env";
/// Automation is not part of the product.
const EXEMPT_PACKAGES: [&str; 2] = ["lossproof-torture", "xtask"];

/// A path that is closed, and the way to go instead.
const CLOSED: [(&str, &str); 18] = [
    ("Instant::now", "Clock::monotonic"),
    ("SystemTime", "Clock::wall"),
    ("TcpListener", "Net::listen"),
    ("TcpStream", "Net::connect"),
    ("UdpSocket", "Net"),
    ("UnixListener", "Net"),
    ("UnixStream", "Net"),
    ("getrandom", "Rng"),
    ("rand", "Rng"),
    ("rustix::fs", "Disk"),
    ("rustix::net", "Net"),
    ("std::fs", "Disk"),
    ("std::net", "Net (addresses: core::net)"),
    ("thread::sleep", "Clock::sleep"),
    ("thread_rng", "Rng"),
    ("tokio::fs", "Disk"),
    ("tokio::net", "Net"),
    ("tokio::time", "Clock::sleep"),
];

pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let package = source.package().unwrap_or_default();
    if package == SEAM_PACKAGE || EXEMPT_PACKAGES.contains(&package) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        if source.is_test(index) {
            continue;
        }
        for path in closed_in(&line.code) {
            violations.push(violation(source, index, path));
        }
    }
    for (index, statement) in use_statements(source) {
        if source.is_test(index) {
            continue;
        }
        for path in expand(&statement) {
            for closed in closed_in(&path) {
                let found = violation(source, index, closed);
                if !violations.contains(&found) {
                    violations.push(found);
                }
            }
        }
    }
    violations
}

fn violation(source: &Source, index: usize, (path, instead): (&str, &str)) -> Violation {
    let what = format!("`{path}` outside of {SEAM_PACKAGE}: use {instead}");
    Violation { path: source.path.clone(), line: index + 1, what }
}

fn closed_in(code: &str) -> Vec<(&'static str, &'static str)> {
    let closed = |entry: &&(&str, &str)| {
        // A bare crate name counts only at the root of a path.
        let word = entry.0;
        let is_crate = !word.contains("::") && matches!(word, "rand" | "getrandom");
        if is_crate {
            has_word(code, word) && code.contains(&format!("{word}::"))
        } else {
            has_word(code, word)
        }
    };
    CLOSED.iter().filter(closed).copied().collect()
}

/// The `use` statements of a file, each joined to one line, with the line it begins on.
fn use_statements(source: &Source) -> Vec<(usize, String)> {
    let mut statements: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in source.lines.iter().enumerate() {
        let code = line.code.trim();
        let begins = open.is_none() && is_use(code);
        if begins {
            open = Some((index, String::new()));
        }
        if let Some((_, statement)) = &mut open {
            statement.push_str(code);
            if code.contains(';') {
                statements.extend(open.take());
            }
        }
    }
    statements
}

fn is_use(code: &str) -> bool {
    let code = code.strip_prefix("pub").unwrap_or(code).trim_start();
    let code = match code.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map_or("", |(_, after)| after).trim_start(),
        None => code,
    };
    code.starts_with("use ")
}

/// `use a::{b, c::{d, e}};` as the paths `a::b`, `a::c::d`, `a::c::e`.
fn expand(statement: &str) -> Vec<String> {
    let Some((_, tree)) = statement.split_once("use ") else { return Vec::new() };
    let mut paths = Vec::new();
    let mut prefixes: Vec<String> = vec![String::new()];
    let mut part = String::new();
    for character in tree.chars() {
        let prefix = prefixes.last().cloned().unwrap_or_default();
        match character {
            '{' => {
                prefixes.push(format!("{prefix}{part}"));
                part.clear();
            }
            ',' | '}' | ';' => {
                if !part.trim().is_empty() {
                    paths.push(format!("{prefix}{}", part.trim()));
                }
                part.clear();
                if character == '}' && prefixes.len() > 1 {
                    prefixes.pop();
                }
            }
            ' ' if part.is_empty() => {}
            other => part.push(other),
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(package: &str, text: &str) -> usize {
        let path = format!("crates/{package}/src/lib.rs");
        check(&Source::parse(Path::new(&path), text)).len()
    }

    #[test]
    fn every_closed_path_is_refused_outside_the_seam() {
        for (path, _) in CLOSED {
            let text = format!("let a = {path}::something();");
            assert!(found("lossproof-log", &text) >= 1, "{path} is let through");
            assert_eq!(found(SEAM_PACKAGE, &text), 0);
        }
    }

    #[test]
    fn imports_in_groups_are_seen() {
        assert_eq!(found("lossproof-log", "use std::{\n    fs,\n    io,\n};"), 1);
        assert_eq!(found("lossproof-log", "pub(crate) use tokio::{sync, time::{self}};"), 1);
        assert_eq!(found("lossproof-log", "use std::time::Duration;"), 0);
    }

    #[test]
    fn comments_texts_and_tests_may_name_them() {
        assert_eq!(found("lossproof-log", "// std::fs\nlet a = \"std::fs\";"), 0);
        let mut source = Source::parse(Path::new("crates/lossproof-log/tests/a.rs"), "std::fs");
        assert_eq!(check(&source).len(), 1);
        source.is_test_file = true;
        assert_eq!(check(&source).len(), 0);
    }
}
