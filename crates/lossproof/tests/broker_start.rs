//! What the real broker says when it cannot start, or starts on a directory that has suffered: a
//! stable code, what happened, and what to do next.

use crate::hostile::Client;
use crate::support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lossproof_wire::*;
use rustix::process::getuid;
use support::{Broker, Produce, binary};

/// A start that must fail, and what it says.
fn refusal(listen: &str, data: &Path) -> String {
    refusal_of(binary(), listen, data)
}

fn refusal_of(mut command: Command, listen: &str, data: &Path) -> String {
    let output = command.args(["broker", "--listen", listen, "--data"]).arg(data).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(output.stdout, b"", "it must not say that it is ready");
    assert!(said.contains("\n  next: "), "{said}");
    said
}

/// Sends lines through `lossproof produce` until they are acknowledged.
fn produce(server: &str, scratch: &Path, lines: &[&str]) {
    let input = scratch.join("input");
    fs::write(&input, lines.join("\n")).unwrap();
    let arguments = [input.to_str().unwrap()];
    let produce = Produce::start(server, &scratch.join("producer"), &arguments);
    let (_, code, said) = produce.finish_with_talk();
    assert_eq!(code, Some(0), "{said}");
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("journal")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Flips a byte of `text` where it stands in one of `files`.
fn damage(files: &[PathBuf], text: &str) {
    for file in files {
        let mut bytes = fs::read(file).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text.as_bytes()) {
            bytes[at] ^= 1;
            return fs::write(file, bytes).unwrap();
        }
    }
    panic!("{text} stands in no file");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refusal(&address, &scratch.path().join("data"));
    assert!(said.contains("error[LP1001]") && said.contains(&address), "{said}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let first = Broker::start(&data, &[]);
    let said = refusal("127.0.0.1:0", &data);
    assert!(said.contains("error[LP1003]") && said.contains(data.to_str().unwrap()), "{said}");
    first.stop();
}

#[test]
fn a_copied_directory_is_refused_until_it_is_adopted() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, copy) = (scratch.path().join("data"), scratch.path().join("copy"));
    let broker = Broker::start(&data, &[]);
    produce(&broker.server, scratch.path(), &["kept"]);
    broker.stop();
    let copied = Command::new("cp").arg("-a").args([&data, &copy]).status().unwrap();
    assert!(copied.success());
    let said = refusal("127.0.0.1:0", &copy);
    assert!(said.contains("error[LP1007]") && said.contains("its meta file"), "{said}");
    assert!(said.contains("--adopt"), "{said}");
    Broker::start(&copy, &["--adopt"]).stop();
    Broker::start(&copy, &[]).stop();
    Broker::start(&data, &[]).stop();
}

#[test]
fn a_backup_that_is_put_back_into_the_same_files_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, backup) = (scratch.path().join("data"), scratch.path().join("backup"));
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").args(["-a", "-T"]).args([from, to]).status().unwrap();
        assert!(copied.success());
    };
    let broker = Broker::start(&data, &[]);
    produce(&broker.server, scratch.path(), &["kept"]);
    broker.stop();
    copy(&data, &backup);
    let broker = Broker::start(&data, &[]);
    let later = scratch.path().join("later");
    fs::create_dir(&later).unwrap();
    produce(&broker.server, &later, &["gone with the restore"]);
    broker.stop();
    // `cp` writes into the files that are there; whatever it does to them is younger than they say.
    copy(&backup, &data);
    let said = refusal("127.0.0.1:0", &data);
    assert!(said.contains("error[LP1007]") && said.contains("its meta file"), "{said}");
    let looked = binary().args(["broker", "--check"]).arg(&data).output().unwrap();
    let said = String::from_utf8(looked.stdout).unwrap();
    assert!(said.contains("it was copied or restored"), "{said}");
}

#[test]
fn the_directory_of_another_cluster_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let (ours, theirs) = ("MkU3OEVBNTcwNTJENDM2Qk", "4L6g3nShT-eMCtK--X86sw");
    let setting = |id: &str| format!("cluster.id={id}");
    Broker::start(&data, &["--set", &setting(ours)]).stop();
    let mut command = binary();
    let command = command.args(["broker", "--listen", "127.0.0.1:0", "--adopt"]);
    let refused = command.args(["--set", &setting(theirs), "--data"]).arg(&data);
    let said = String::from_utf8(refused.output().unwrap().stderr).unwrap();
    for expected in ["error[LP1014]", ours, theirs, data.to_str().unwrap(), "\n  next: "] {
        assert!(said.contains(expected), "no '{expected}' in: {said}");
    }
    // Who names no cluster takes what is there; a look takes it in any case.
    Broker::start(&data, &[]).stop();
    let looked = binary().args(["broker", "--check"]).arg(&data).status().unwrap();
    assert_eq!(looked.code(), Some(0));
}

#[test]
fn a_directory_with_files_of_others_is_refused_and_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    fs::create_dir_all(data.join("lost+found")).unwrap();
    fs::write(data.join("meta.properties"), "of another broker").unwrap();
    let said = refusal("127.0.0.1:0", &data);
    assert!(said.contains("error[LP1015]") && said.contains("meta.properties"), "{said}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 2, "something was made");
    fs::remove_file(data.join("meta.properties")).unwrap();
    Broker::start(&data, &[]).stop();
    // What is put there later is no business of a start.
    fs::write(data.join("notes"), "of the operator").unwrap();
    Broker::start(&data, &[]).stop();
    // Nor does it make of a log that has lost its meta file a directory of others.
    fs::remove_file(data.join("meta")).unwrap();
    let said = refusal("127.0.0.1:0", &data);
    assert!(said.contains("error[LP1006]"), "{said}");
}

/// META-6. The trap: a slip of the pen starts a broker on the journal of a producer, whose accepted
/// lines nobody can read any more from then on.
#[test]
fn the_directory_of_another_program_is_refused_and_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let (data, journal) = (scratch.path().join("data"), scratch.path().join("producer"));
    let broker = Broker::start(&data, &[]);
    produce(&broker.server, scratch.path(), &["one"]);
    let said = refusal("127.0.0.1:0", &journal);
    assert!(said.contains("error[LP1016]") && said.contains("a producer"), "{said}");
    produce(&broker.server, scratch.path(), &["one", "two"]);
    let server = broker.server.clone();
    broker.stop();
    let input = scratch.path().join("input");
    let arguments = [input.to_str().unwrap()];
    let (_, code, said) = Produce::start(&server, &data, &arguments).finish_with_talk();
    assert!(code == Some(1) && said.contains("error[LP1016]"), "{said}");
    assert!(said.contains("a broker"), "{said}");
    Broker::start(&data, &[]).stop();
}

#[test]
fn a_directory_that_is_not_there_cannot_be_adopted() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let mut command = binary();
    let command = command.args(["broker", "--listen", "127.0.0.1:0", "--adopt", "--data"]);
    let output = command.arg(&data).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("error[LP1020]"), "{said}");
    assert!(!data.exists(), "nothing was made");
}

/// The program as somebody to whom something is forbidden. Root is not: for him another user starts
/// a copy, which that one can reach wherever it was built.
fn without_privileges(scratch: &Path) -> Command {
    const NOBODY: u32 = 65_534;
    if !getuid().is_root() {
        return binary();
    }
    fs::set_permissions(scratch, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = scratch.join("lossproof");
    fs::copy(binary().get_program(), &copy).unwrap();
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).current_dir(scratch);
    command
}

#[test]
fn a_directory_without_permission_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).unwrap();
    let said = refusal_of(without_privileges(scratch.path()), "127.0.0.1:0", &data);
    assert!(said.contains("error[LP1005]"), "{said}");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    Broker::start(&data, &[]).stop();
}

#[test]
fn a_file_where_a_directory_must_be_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("journal"), "not a directory").unwrap();
    let said = refusal("127.0.0.1:0", &data);
    assert!(said.contains("error[LP1009]"), "{said}");
}

#[test]
fn an_identity_of_another_version_or_damaged_is_refused_and_left_alone() {
    // Where docs/format/journal.md has the version and an id, in each of the two copies.
    const COPY_BYTES: usize = 4096;
    for (at, code) in [(7, "error[LP1004]"), (8, "error[LP1006]")] {
        let scratch = tempfile::tempdir().unwrap();
        let data = scratch.path().join("data");
        Broker::start(&data, &[]).stop();
        let meta = data.join("meta");
        let mut bytes = fs::read(&meta).unwrap();
        bytes[at] ^= 0x40;
        bytes[COPY_BYTES + at] ^= 0x40;
        fs::write(&meta, &bytes).unwrap();
        let said = refusal("127.0.0.1:0", &data);
        assert!(said.contains(code), "{said}");
        assert_eq!(fs::read(&meta).unwrap(), bytes);
    }
}

/// The broker serves what is whole, and names what is not.
#[test]
fn damage_in_acknowledged_messages_is_named_at_the_start() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let broker = Broker::start(&data, &[]);
    produce(&broker.server, scratch.path(), &["first message", "second message"]);
    let said = broker.stop();
    assert!(!said.contains("LP1012"), "{said}");

    damage(&segments(&data), "second message");
    let said = Broker::start(&data, &[]).stop();
    for expected in ["warning[LP1012]", "1 damaged, 0 in doubt", "news-", "\n  next: "] {
        assert!(said.contains(expected), "no '{expected}' in: {said}");
    }
    let said = Broker::start(&data, &["--log-format", "json"]).stop();
    assert!(messages(&said).iter().any(|message| message.contains("1 damaged, 0 in doubt")));
}

/// Each line of a log that is JSON.
fn messages(said: &str) -> Vec<String> {
    let lines = said.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        line["fields"]["message"].as_str().expect("a message").to_owned()
    });
    lines.collect()
}

#[test]
fn a_start_that_fails_says_so_in_json_too() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let broker = Broker::start(&data, &[]);
    let arguments = ["--listen", "127.0.0.1:0", "--log-format", "json", "--data"];
    let output = binary().arg("broker").args(arguments).arg(&data).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(messages(&said).iter().any(|message| message.contains("error[LP1003]")), "{said}");
    broker.stop();
}

/// A topic stays as it was made, whatever the broker is told later.
#[test]
fn topics_that_are_not_safe_are_named_when_they_become_so_and_at_each_start() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let broker = Broker::start(&data, &[]);
    let mut client = Client::connect(&broker.server);
    client.create("safe", &[]);
    client.create("made", &[("lossproof.flush", "page-cache")]);
    client.create("altered", &[]);
    let alter = |value: &str| AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: "altered".into(),
            configs: vec![AlterableConfig {
                name: "lossproof.flush".into(),
                value: Some(value.into()),
            }],
        }],
        validate_only: false,
    };
    let answer: AlterConfigsResponse = client.call(&alter("every-second"), 2);
    assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
    drop(client);
    let said = broker.stop();
    let altered = "UNSAFE: topic altered gets lossproof.flush=every-second: a power cut";
    assert_eq!(said.matches(altered).count(), 1, "{said}");
    let said = Broker::start(&data, &[]).stop();
    for (topic, flush) in [("made", "page-cache"), ("altered", "every-second")] {
        let expected = format!("UNSAFE: topic {topic} has lossproof.flush={flush}: a power cut");
        assert_eq!(said.matches(&expected).count(), 1, "{said}");
    }
    assert_eq!(said.matches("UNSAFE").count(), 2, "{said}");
}
