//! Pages of which a part is written by a run, and what such a part says of the run.

use std::process::Command;

use crate::failure::{Context, Failure};
use crate::workspace::Workspace;

/// The page with `part` between its two marks; `None` where they are not there.
pub(crate) fn with_part(page: &str, [begin, end]: [&str; 2], part: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}{part}{end}{after}"))
}

/// What the checkout is, as somebody else can find it.
pub(crate) fn commit(workspace: &Workspace) -> Result<String, Failure> {
    said_by(
        Command::new("git").current_dir(workspace.root()).args(["describe", "--always", "--dirty"]),
    )
}

/// The day, in Greenwich.
pub(crate) fn today() -> Result<String, Failure> {
    said_by(Command::new("date").args(["-u", "+%F"]))
}

pub(crate) fn said_by(command: &mut Command) -> Result<String, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().context(&program)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let marks = ["<begin>\n", "<end>\n"];
        let page = "before\n<begin>\nold\n<end>\nafter\n";
        let new = "before\n<begin>\nnew\n<end>\nafter\n";
        assert_eq!(with_part(page, marks, "new\n").as_deref(), Some(new));
        assert_eq!(with_part("no marks", marks, "new"), None);
    }
}
