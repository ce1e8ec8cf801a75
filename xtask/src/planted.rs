//! Tests of the tests: with a bug planted, the test that is there for it must fail, and for the
//! reason it was written for; with none planted the same build passes it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::command::{self, Run, cargo};
use crate::failure::Failure;
use crate::report::{Counts, Outcome};
use crate::workspace::Workspace;

/// The name of the environment variable that chooses the bug, as `lossproof-env` reads it.
const VARIABLE: &str = "LOSSPROOF_PLANTED";
/// Cargo puts it before the compiler for our own crates alone, and keeps what comes of it apart: in
/// one target folder the ordinary build stays as it is, and what both depend on is built once.
const WRAPPER: &str = "xtask/rustc-planted";

/// The package that reads the variable; its tests of that are there in this build only.
const CHOOSER: &str = "lossproof-env";

/// Of our crates those that a release optimises more than the others.
const QUICKLY_BUILT: [&str; 4] =
    ["lossproof-broker", "lossproof-env", "lossproof-log", "lossproof-wire"];

/// A target: the tests inside of the library.
const UNIT_TESTS: &str = "lib";

/// A bug and the test that must find it.
struct Control {
    bug: &'static str,
    package: &'static str,
    /// The file in the package's `tests`, a module of their program; or [`UNIT_TESTS`].
    target: &'static str,
    test: &'static str,
    /// What the failing test says: it must not fail for another reason.
    says: &'static str,
}

const CONTROLS: [Control; 40] = [
    Control {
        bug: "ack-before-fsync",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "holds the first",
    },
    Control {
        bug: "shown-before-durable",
        package: "lossproof-log",
        target: "fencing",
        test: "a_failed_sync_is_never_acknowledged",
        says: "VIEW-1: nothing unacknowledged is shown",
    },
    Control {
        bug: "trust-page-cache",
        package: "lossproof-log",
        target: "crash_faults",
        test: "a_failed_sync_is_never_believed",
        says: "served, then cut",
    },
    Control {
        bug: "cut-damaged-acked",
        package: "lossproof-log",
        target: "crash_damage",
        test: "damage_of_acknowledged_data_is_reported_never_cut",
        says: "in silence",
    },
    Control {
        bug: "skip-dir-sync",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "a crash damages nothing acknowledged",
    },
    Control {
        bug: "sync-error-ignored",
        package: "lossproof-log",
        target: "fencing",
        test: "a_failed_sync_is_never_acknowledged",
        says: "the sync failed",
    },
    Control {
        bug: "sync-retried",
        package: "lossproof-log",
        target: "fencing",
        test: "a_failed_sync_is_never_acknowledged",
        says: "the sync failed",
    },
    Control {
        bug: "dedupe-window-lost",
        package: "lossproof-log",
        target: "producers",
        test: "five_batches_are_known_again_after_a_crash",
        says: "known again after the crash",
    },
    Control {
        bug: "epoch-not-raised",
        package: "lossproof-log",
        target: "reopen",
        test: "without_a_close_everything_is_kept_and_the_epochs_rise",
        says: "the epoch rises",
    },
    Control {
        bug: "segment-roll-loses-frame",
        package: "lossproof-log",
        target: "reopen",
        test: "many_segments_are_walked_in_order",
        says: "FramesLost",
    },
    Control {
        bug: "mark-ahead",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "FramesLost",
    },
    Control {
        bug: "unknown-producer-accepted",
        package: "lossproof-log",
        target: "producers",
        test: "gaps_old_epochs_and_strangers_are_refused_by_name",
        says: "a stranger begins at 0",
    },
    Control {
        bug: "damage-overlooked",
        package: "lossproof-log",
        target: "damage",
        test: "any_flipped_bit_is_noticed",
        says: "is missing",
    },
    Control {
        bug: "offset-given-again",
        package: "lossproof-log",
        target: "crash_damage",
        test: "damage_of_acknowledged_data_is_reported_never_cut",
        says: "VIEW-1: offsets only go up",
    },
    Control {
        bug: "aborted-forgotten",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "no run of commits explains",
    },
    Control {
        bug: "stable-too-far",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "is stable to",
    },
    Control {
        bug: "cold-file-not-synced",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "a crash damages nothing acknowledged",
    },
    Control {
        bug: "checkpoint-not-synced",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "CheckpointUnreadable",
    },
    Control {
        bug: "segments-given-back-early",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "FramesLost",
    },
    Control {
        bug: "checkpoint-in-one-slot",
        package: "lossproof-log",
        target: "moving",
        test: "one_of_two_files_and_one_of_two_slots_is_enough",
        says: "FramesLost",
    },
    Control {
        bug: "recycled-header-kept",
        package: "lossproof-log",
        target: "moving",
        test: "segments_are_used_again_and_nothing_of_their_earlier_life_is_read",
        says: "HeaderDamaged",
    },
    Control {
        bug: "recycled-header-not-synced",
        package: "lossproof-log",
        target: "crash_images",
        test: "every_image_holds_what_was_acknowledged_and_nothing_else",
        says: "HeaderDamaged",
    },
    Control {
        bug: "log-start-forgotten",
        package: "lossproof-log",
        target: "moving",
        test: "a_checkpoint_keeps_where_a_log_starts",
        says: "the log starts where it did",
    },
    Control {
        bug: "damage-moved",
        package: "lossproof-log",
        target: "moving",
        test: "a_damaged_cold_file_stays_and_everything_else_moves",
        says: "damage must not be copied",
    },
    Control {
        bug: "misfits-not-kept",
        package: "lossproof-log",
        target: "damage",
        test: "whole_batches_of_an_unknown_partition_are_kept",
        says: "what has no place is kept",
    },
    Control {
        bug: "producer-ids-not-moved",
        package: "lossproof-log",
        target: "damage",
        test: "producer_ids_of_a_lost_block_are_not_given_again",
        says: "may have been given",
    },
    Control {
        bug: "spare-tried-again",
        package: "lossproof-log",
        target: "fencing",
        test: "a_failed_sync_of_the_next_segment_fences_too",
        says: "a second try is believed",
    },
    Control {
        bug: "compaction-keeps-older",
        package: "lossproof-log",
        target: "compaction",
        test: "a_reader_sees_the_last_value_of_each_key_whatever_was_compacted",
        says: "COMPACTION-1: the last value of",
    },
    Control {
        bug: "compaction-passes-stable",
        package: "lossproof-log",
        target: "compaction",
        test: "a_reader_sees_the_last_value_of_each_key_whatever_was_compacted",
        says: "COMPACTION-2: ",
    },
    Control {
        bug: "mid-batch-skipped",
        package: "lossproof-broker",
        target: "protocol_traps",
        test: "a_fetch_inside_a_batch_returns_the_whole_batch",
        says: "clients skip what they did not ask for",
    },
    Control {
        bug: "open-transaction-shown",
        package: "lossproof-broker",
        target: "transactions",
        test: "committed_readers_see_a_transaction_when_it_has_committed",
        says: "FETCH-1: not before its end",
    },
    Control {
        bug: "session-leaves-out-records",
        package: "lossproof-broker",
        target: "fetch_sessions",
        test: "only_what_is_new_is_told_and_all_of_it",
        says: "it has not gone on",
    },
    Control {
        bug: "offsets-answered-early",
        package: "lossproof-broker",
        target: "group_offsets",
        test: "an_offset_that_does_not_reach_the_disk_is_not_answered_as_committed",
        says: "OFFSETS-1: ",
    },
    Control {
        bug: "assignment-told-early",
        package: "lossproof-broker",
        target: "group_storing",
        test: "an_assignment_is_told_to_nobody_before_it_is_stored",
        says: "it is on its way to the disk",
    },
    Control {
        bug: "end-txn-retry-unchecked",
        package: "lossproof-broker",
        target: "transactions",
        test: "the_end_of_a_transaction_can_be_asked_for_again_but_not_changed",
        says: "it is not a retry of its own",
    },
    Control {
        bug: "slow-peer-kept",
        package: "lossproof-broker",
        target: UNIT_TESTS,
        test: "frame::tests::a_peer_that_sends_byte_by_byte_is_dropped",
        says: "the 256 bytes may not take four minutes",
    },
    Control {
        bug: "small-answer-waits",
        package: "lossproof-broker",
        target: UNIT_TESTS,
        test: "tests::who_takes_no_answers_does_not_keep_others_from_theirs",
        says: "BUDGET-5: what is small is answered",
    },
    Control {
        bug: "receipt-lost",
        package: "lossproof-audit",
        target: "auditor",
        test: "no_receipt_is_lost_in_silence",
        says: "a receipt was lost",
    },
    Control {
        bug: "commit-before-processing",
        package: "lossproof-pipeline",
        target: "service_faults",
        test: "nothing_is_committed_while_its_record_is_with_the_service",
        says: "an offset was committed before its record was done",
    },
    Control {
        bug: "bulk-item-error-ignored",
        package: "lossproof-pipeline",
        target: "bulk_answers",
        test: "a_document_refused_among_good_ones_is_not_stored",
        says: "not what the items say",
    },
];

/// Every bug with its test and whether that finds it, and whether all are found.
pub(crate) fn table(workspace: &Workspace) -> Result<(String, bool), Failure> {
    let mut table = "| bug | crate | found by | |\n|---|---|---|---|\n".to_owned();
    let mut all_found = true;
    let mut build = PlantedBuild::make(workspace)?;
    for control in &CONTROLS {
        let Control { bug, package, target, test, .. } = control;
        let verdict = build.verdict(control)?;
        let word = if verdict.is_ok() { "caught" } else { "NOT CAUGHT" };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| {bug} | {package} | {target}: {test} | {word} |");
        if let Err(why) = verdict {
            eprintln!("{bug}: {why}");
            all_found = false;
        }
    }
    Ok((table, all_found))
}

pub(crate) fn run(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut counts = Counts::default();
    let mut notes = Vec::new();
    let mut build = PlantedBuild::make(workspace)?;
    for control in &CONTROLS {
        let Control { bug, test, .. } = control;
        let (count, note) = match build.verdict(control)? {
            Ok(()) => (Counts::PASSED, format!("  {bug}: found by {test}")),
            Err(why) => (Counts::FAILED, format!("  {bug}: FAILED: {why}")),
        };
        counts.add(count);
        notes.push(note);
    }
    let refused = build.refuses_other_names()?;
    counts.add(if refused.is_ok() { Counts::PASSED } else { Counts::FAILED });
    notes.push(match refused {
        Ok(()) => "  a name that no bug has: refused".to_owned(),
        Err(why) => format!("  a name that no bug has: FAILED: {why}"),
    });
    Ok(Outcome::Ran { counts, notes })
}

/// The test programs of a build with bugs to choose from.
struct PlantedBuild<'a> {
    workspace: &'a Workspace,
    /// What cargo says of the build, line by line.
    messages: String,
    /// Tests that pass without a bug, by package, target and name.
    pass_without: BTreeSet<[&'static str; 3]>,
}

impl<'a> PlantedBuild<'a> {
    /// All packages at once: what they depend on then has the same features for each of them.
    fn make(workspace: &'a Workspace) -> Result<Self, Failure> {
        let mut command = cargo(workspace);
        command.env("RUSTC_WORKSPACE_WRAPPER", workspace.root().join(WRAPPER));
        command.args(["test", "--release", "--no-run", "--lib", "--test", "it"]);
        command.arg("--message-format=json-render-diagnostics");
        let packages = CONTROLS.iter().map(|control| control.package);
        for package in packages.chain([CHOOSER]).collect::<BTreeSet<_>>() {
            command.args(["-p", package]);
        }
        // A build of their own in any case, which nobody measures: the least that will do.
        for package in QUICKLY_BUILT {
            let setting = format!("profile.release.package.{package}.opt-level=1");
            command.args(["--config", &setting]);
        }
        let run = command::run(workspace, "planted-build", &mut command)?;
        let messages = run.expect_success("the build with bugs to choose from")?;
        Ok(Self { workspace, messages, pass_without: BTreeSet::new() })
    }

    fn verdict(&mut self, control: &Control) -> Result<Result<(), String>, Failure> {
        let name = [control.package, control.target, control.test];
        if !self.pass_without.contains(&name) {
            let without = self.run(control, "")?;
            if !passed(&without) {
                let tail = without.tail();
                return Ok(Err(format!("it does not pass without the bug:\n{tail}")));
            }
            self.pass_without.insert(name);
        }
        let with = self.run(control, control.bug)?;
        Ok(found(&with, control.test, control.says))
    }

    /// A bug that is chosen by a name with a slip in it would look like one that no test finds.
    fn refuses_other_names(&self) -> Result<Result<(), String>, Failure> {
        let mut command = self.tests_of(CHOOSER, "test")?;
        command.args(["--nocapture", "planted::"]);
        let run = command::run(self.workspace, "planted-names", &mut command)?;
        let passed = run.success && run.text.contains("2 passed; 0 failed");
        Ok(if passed { Ok(()) } else { Err(run.tail()) })
    }

    /// A test program, to be run as cargo does.
    fn tests_of(&self, package: &str, kind: &str) -> Result<Command, Failure> {
        let program = self.messages.lines().find_map(|line| program_in(line, package, kind));
        let program = program
            .ok_or_else(|| Failure::broken(format!("cargo built no {kind} tests of {package}")))?;
        let mut command = Command::new(program);
        command.current_dir(self.workspace.root().join("crates").join(package));
        Ok(command)
    }

    fn run(&self, control: &Control, bug: &str) -> Result<Run, Failure> {
        let &Control { package, target, test, .. } = control;
        let is_unit = target == UNIT_TESTS;
        let test = if is_unit { test.to_owned() } else { format!("{target}::{test}") };
        let mut command = self.tests_of(package, if is_unit { "lib" } else { "test" })?;
        command.args(["--nocapture", "--exact", &test]).env(VARIABLE, bug);
        let log = format!("planted-{}-{}", control.bug, if bug.is_empty() { "off" } else { "on" });
        command::run(self.workspace, &log, &mut command)
    }
}

/// The path of a test program of that package and kind, when this message of cargo announces it.
fn program_in(line: &str, package: &str, kind: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let is_it = manifest.parent()?.file_name()? == package
        && message["target"]["kind"] == json!([kind])
        && message["profile"]["test"] == true;
    let path = message["executable"].as_str()?;
    is_it.then(|| PathBuf::from(path))
}

fn passed(run: &Run) -> bool {
    run.success && run.text.contains("1 passed; 0 failed")
}

/// It failed, it was this test, and it said what it should.
fn found(run: &Run, test: &str, says: &str) -> Result<(), String> {
    if run.success {
        return Err(format!("{test} passes with the bug in place"));
    }
    if !run.text.contains("0 passed; 1 failed") {
        return Err(format!("{test} was not run:\n{}", run.tail()));
    }
    if !run.text.contains(says) {
        return Err(format!("{test} fails without saying `{says}`:\n{}", run.tail()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn run_of(success: bool, text: &str) -> Run {
        Run { success, text: text.to_owned(), log: PathBuf::new() }
    }

    #[test]
    fn a_bug_is_found_only_by_its_test_and_for_its_reason() {
        let text = "test t ... FAILED\nlost 3\ntest result: FAILED. 0 passed; 1 failed; 0 ignored";
        assert!(found(&run_of(false, text), "t", "lost 3").is_ok());
        assert!(found(&run_of(false, text), "t", "another reason").is_err());
        assert!(found(&run_of(false, "error: could not compile"), "t", "").is_err());
        assert!(found(&run_of(true, "1 passed; 0 failed"), "t", "").is_err());
    }

    #[test]
    fn a_test_that_was_not_run_has_not_passed() {
        assert!(passed(&run_of(true, "test t ... ok\n1 passed; 0 failed")));
        assert!(!passed(&run_of(true, "test result: ok. 0 passed; 0 failed; 0 ignored")));
    }

    #[test]
    fn the_test_program_is_that_of_its_package_and_kind() {
        let message = |package: &str, kind: &str, test: bool| {
            let manifest = format!("/w/crates/{package}/Cargo.toml");
            let target = json!({"kind": [kind]});
            let profile = json!({"test": test});
            json!({"manifest_path": manifest, "target": target, "profile": profile,
                "executable": "/t/it"})
            .to_string()
        };
        let program = |message: &str| program_in(message, "lossproof-log", "test");
        assert_eq!(program(&message("lossproof-log", "test", true)), Some("/t/it".into()));
        for [package, kind] in [["lossproof-wire", "test"], ["lossproof-log", "lib"]] {
            assert_eq!(program(&message(package, kind, true)), None, "{package} {kind}");
        }
        assert_eq!(program(&message("lossproof-log", "test", false)), None);
        assert_eq!(program("   Compiling lossproof-log"), None);
    }

    /// Read as text, because this program knows none of our crates.
    #[test]
    fn every_planted_bug_has_a_control() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .join("crates/lossproof-env/src/planted.rs");
        let text = std::fs::read_to_string(file).unwrap();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Self::"));
        let names: BTreeSet<&str> = names.filter_map(|line| line.split('"').nth(1)).collect();
        assert_eq!(names, CONTROLS.iter().map(|control| control.bug).collect());
    }
}
