//! How a command ends: an exit code, or a failure with a stable code that `explain` knows.

use std::fmt;
use std::process::ExitCode;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Everything asked for was done; for a verdict: proven complete.
    Proven = 0,
    /// It could not be decided, or the command failed.
    Failed = 1,
    /// A command line, a setting or a file of settings that cannot be; as by clap.
    Usage = 2,
    /// At least one message is lost.
    Loss = 3,
    /// Nothing is lost, but something is there twice.
    Duplicates = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error as a person reads it: a code that never changes meaning, what happened, what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(crate) fn exit(&self) -> Exit {
        if USAGE_CODES.contains(&self.code.name) { Exit::Usage } else { Exit::Failed }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code.name, self.message)?;
        write!(f, "  next: {} (more: lossproof explain {})", self.code.next, self.code.name)
    }
}

/// One entry of [`CODES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub(crate) name: &'static str,
    /// The next step, in a few words.
    pub(crate) next: &'static str,
    /// The page `docs/errors/NAME.md`.
    pub(crate) page: &'static str,
}

/// What is to be corrected is what the user wrote: nothing was tried yet.
const USAGE_CODES: [&str; 6] = [
    SETTINGS.name,
    LISTENER_OPEN.name,
    OTHER_CLUSTER.name,
    PIPELINE_FILE.name,
    AUDIT_QUERY.name,
    UNKNOWN_CODE.name,
];

/// Defines the codes, each with its page; a code without a page does not compile.
macro_rules! codes {
    ($($constant:ident = $name:literal: $next:literal;)+) => {
        $(pub(crate) const $constant: Code = Code {
            name: $name,
            next: $next,
            page: include_str!(concat!("../../../docs/errors/", $name, ".md")),
        };)+
        pub(crate) const CODES: &[Code] = &[$($constant),+];
    };
}

// Numbers are never reused. 1xxx start-up and storage, 2xxx producing, 3xxx pipelines,
// 4xxx audit, 5xxx the demo, 9xxx the command line.
codes! {
    PORT_TAKEN = "LP1001": "stop the other program, or choose another port";
    PORT_UNUSABLE = "LP1002": "choose an address and a port that this user may listen on";
    DIRECTORY_LOCKED = "LP1003": "stop the other process, or choose another directory";
    FORMAT_UNKNOWN = "LP1004": "use the newer lossproof that wrote it";
    DIRECTORY_FORBIDDEN = "LP1005": "give this user the right to read and write there";
    JOURNAL_DAMAGED = "LP1006": "change nothing in it, and restore it from a copy";
    DIRECTORY_MOVED = "LP1007": "use the original; if that is gone, `lossproof broker --adopt`";
    SETTINGS = "LP1008": "correct the settings; docs/config.md has all of them";
    DIRECTORY_UNUSABLE = "LP1009": "see what the operating system says, then start again";
    START_FAILED = "LP1010": "see the message, then start again";
    STOP_FAILED = "LP1011": "check the disk, then start again: the start recovers";
    PIECES_DAMAGED = "LP1012": "copy the directory before anything else, then check the disk";
    LISTENER_OPEN = "LP1013": "listen on 127.0.0.1, or add --insecure-listen on a trusted network";
    OTHER_CLUSTER = "LP1014": "correct cluster.id, or name the directory of that cluster";
    DIRECTORY_FOREIGN = "LP1015": "choose another directory, or an empty one inside it";
    OTHER_PURPOSE = "LP1016": "name the directory that is meant: each program has one of its own";
    NO_LOG = "LP1020": "name the directory that `broker --data` was given";
    LOSS_NOT_ACCEPTED = "LP1021": "see `broker --check DIR`, and name exactly what it calls lost";
    INPUT_UNREADABLE = "LP2001": "correct the path, or feed the lines on standard input";
    INPUT_CHANGED = "LP2002": "give the changed input under a new file name";
    STILL_WAITING = "LP2003": "give the same command again: it goes on where it stopped";
    LINES_REFUSED = "LP2004": "correct the lines that were named, and give them again";
    RECORDS_REJECTED = "LP2005": "see `lossproof audit losses`, and correct topic or records";
    JOURNAL_FAILED = "LP2006": "check the disk, then give the same command again";
    RECORDS_DAMAGED = "LP2007": "restore the journal from a copy, or give the input again";
    ACKNOWLEDGEMENT_FAILED = "LP2008": "keep the reader of standard output open until the end";
    PIPELINE_FILE = "LP3001": "correct the file; `lossproof run --check FILE` looks at it alone";
    PIPELINE_START_FAILED = "LP3002": "correct what the message names, then start again";
    PIPELINE_STOPPED = "LP3003": "remove the cause that is named above, then start again";
    AUDIT_CLIENT = "LP4001": "correct --bootstrap-server";
    AUDIT_QUERY = "LP4002": "give an identity, a place, or --field NAME=VALUE";
    AUDIT_NOT_FOUND = "LP4003": "check the identity, or name its topic with --topic";
    AUDIT_SINK = "LP4004": "see that the sink answers, and that the pipeline file is its own";
    AUDIT_UNREACHABLE = "LP4005": "see that the cluster runs, and correct --bootstrap-server";
    DEMO_FAILED = "LP5001": "run it again with --keep and look into its directory";
    UNKNOWN_CODE = "LP9001": "see the list that `lossproof explain` prints";
}
