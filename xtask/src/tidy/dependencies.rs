//! Which crate may use which: the figure in ARCHITECTURE.md as a table.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use super::Violation;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// Our crates that each of our crates may use; in tests too where it says so below.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("lossproof-audit", &["lossproof-client", "lossproof-env", "lossproof-log"]),
    ("lossproof-broker", &["lossproof-env", "lossproof-log", "lossproof-wire"]),
    ("lossproof-client", &["lossproof-env"]),
    ("lossproof-env", &[]),
    ("lossproof-judge", &[]),
    ("lossproof-log", &["lossproof-env", "lossproof-wire"]),
    (
        "lossproof-pipeline",
        &["lossproof-audit", "lossproof-client", "lossproof-env", "lossproof-log"],
    ),
    (
        "lossproof-relay",
        &[
            "lossproof-audit",
            "lossproof-client",
            "lossproof-env",
            "lossproof-log",
            "lossproof-wire",
        ],
    ),
    ("lossproof-torture", &["lossproof-judge"]),
    ("lossproof-wire", &[]),
    ("lossproof", &["*"]),
    ("xtask", &[]),
];

/// Crates of others that only these of ours may use: what is absent elsewhere is absent on
/// purpose.
const RESERVED: [(&str, &[&str]); 3] = [
    ("rdkafka", &["lossproof", "lossproof-client", "lossproof-torture"]),
    ("getrandom", &["lossproof-env"]),
    ("reqwest", &["lossproof", "lossproof-pipeline"]),
];

/// Not even tests of these may use crates of ours that are not in their row.
const INDEPENDENT_IN_TESTS: [&str; 3] = ["lossproof-judge", "lossproof-torture", "xtask"];
/// Crates that know nothing of tasks, files and clocks.
const SANS_IO: [&str; 2] = ["lossproof-wire", "lossproof-judge"];

pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Violation>, Failure> {
    let metadata = MetadataCommand::new()
        .current_dir(workspace.root())
        .no_deps()
        .exec()
        .map_err(|error| Failure::broken(format!("cargo metadata: {error}")))?;
    Ok(check_edges(&edges(&metadata)))
}

#[derive(Debug)]
struct Edge {
    from: String,
    to: String,
    for_tests: bool,
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let mut edges = Vec::new();
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            edges.push(Edge {
                from: package.name.to_string(),
                to: dependency.name.clone(),
                for_tests: dependency.kind == DependencyKind::Development,
            });
        }
    }
    edges
}

fn check_edges(edges: &[Edge]) -> Vec<Violation> {
    let refused = edges.iter().filter_map(|edge| refusal(edge).map(|why| (edge, why)));
    refused
        .map(|(edge, why)| {
            let folder = if edge.from == "xtask" { "" } else { "crates/" };
            let path = format!("{folder}{}/Cargo.toml", edge.from).into();
            let what = format!("{} must not use {}: {why}", edge.from, edge.to);
            Violation { path, line: 0, what }
        })
        .collect()
}

fn refusal(edge: &Edge) -> Option<&'static str> {
    let Edge { from, to, for_tests } = edge;
    if SANS_IO.contains(&from.as_str()) && to == "tokio" {
        return Some("it does no input or output");
    }
    if let Some((_, users)) = RESERVED.iter().find(|(name, _)| name == to)
        && !users.contains(&from.as_str())
        && !for_tests
    {
        return Some("that crate stays behind one trait");
    }
    if to != "lossproof" && !to.starts_with("lossproof-") {
        return None;
    }
    if *for_tests && !INDEPENDENT_IN_TESTS.contains(&from.as_str()) {
        return None;
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == from) else {
        return Some("it has no row in the table of xtask/src/tidy/dependencies.rs");
    };
    let fine = allowed.iter().any(|name| *name == "*" || name == to);
    (!fine).then_some("see the figure in ARCHITECTURE.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(from: &str, to: &str, for_tests: bool) -> usize {
        let edge = Edge { from: from.to_owned(), to: to.to_owned(), for_tests };
        check_edges(&[edge]).len()
    }

    #[test]
    fn the_table_decides() {
        assert_eq!(found("lossproof-log", "lossproof-wire", false), 0);
        assert_eq!(found("lossproof-log", "lossproof-broker", false), 1);
        assert_eq!(found("lossproof-log", "lossproof-broker", true), 0);
        assert_eq!(found("lossproof", "lossproof-judge", false), 0);
        assert_eq!(found("lossproof-torture", "lossproof-judge", false), 0);
        assert_eq!(found("lossproof-torture", "lossproof-log", true), 1);
        assert_eq!(found("lossproof-new", "lossproof-log", false), 1);
    }

    #[test]
    fn the_judge_stays_independent_even_in_tests() {
        assert_eq!(found("lossproof-judge", "lossproof-audit", true), 1);
    }

    #[test]
    fn librdkafka_has_one_door_and_the_codec_no_runtime() {
        assert_eq!(found("lossproof-broker", "rdkafka", false), 1);
        assert_eq!(found("lossproof-client", "rdkafka", false), 0);
        assert_eq!(found("lossproof-wire", "tokio", false), 1);
    }
}
