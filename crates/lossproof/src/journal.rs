//! Opening a journal, as every command does it.

use std::path::Path;

use lossproof_env::Environment;
use lossproof_log::{Log, LogConfig, OpenError, PartitionId, Purpose, RecoveryReport};

use crate::exit::{self, Failure};
use crate::output::tell;

/// Findings that are listed one by one; a ruined disk has thousands.
const LISTED_MAX: usize = 50;

pub(crate) fn open(
    environment: &Environment,
    directory: &Path,
    purpose: Purpose,
) -> Result<Log, Failure> {
    let shown = directory.display();
    let opened = Log::open(environment, directory, LogConfig { purpose, ..LogConfig::default() });
    let (log, report) = opened.map_err(|error| {
        Failure::new(open_code(&error), format_args!("journal {shown}: {error}"))
    })?;
    warn_of_damage(directory, &report, |_| None);
    Ok(log)
}

/// Tells of everything that the start found wanting; `name` gives partitions the names that users
/// know.
pub(crate) fn warn_of_damage(
    directory: &Path,
    report: &RecoveryReport,
    name: impl Fn(PartitionId) -> Option<String>,
) {
    if let Some(text) = damage(directory, report, name) {
        tell(text);
    }
}

fn damage(
    directory: &Path,
    report: &RecoveryReport,
    name: impl Fn(PartitionId) -> Option<String>,
) -> Option<String> {
    if report.is_sound() {
        return None;
    }
    let code = exit::PIECES_DAMAGED;
    let mut lines = vec![format!(
        "warning[{}]: journal {}: {} damaged, {} in doubt",
        code.name,
        directory.display(),
        report.damage.len(),
        report.in_doubt.len()
    )];
    let damaged = report.damage.iter().map(|finding| ("damaged", finding));
    let all = damaged.chain(report.in_doubt.iter().map(|finding| ("in doubt", finding)));
    for (what, finding) in all.clone().take(LISTED_MAX) {
        lines.push(format!("  {what}: {finding}"));
        for held in &finding.partitions {
            if let Some(name) = name(held.partition) {
                lines.push(format!("    {name}: offsets {}", held.range));
            }
        }
    }
    let left = all.count().saturating_sub(LISTED_MAX);
    if left > 0 {
        lines.push(format!("  and {left} more"));
    }
    lines.push(format!("  next: {} (more: lossproof explain {})", code.next, code.name));
    Some(lines.join("\n"))
}

/// The code of each way in which a journal does not open.
pub(crate) fn open_code(error: &OpenError) -> exit::Code {
    match error {
        OpenError::Locked { .. } => exit::DIRECTORY_LOCKED,
        OpenError::UnknownVersion { .. } => exit::FORMAT_UNKNOWN,
        OpenError::Moved { .. } => exit::DIRECTORY_MOVED,
        OpenError::OtherCluster { .. } => exit::OTHER_CLUSTER,
        OpenError::MetaDamaged { .. }
        | OpenError::MetaMissing { .. }
        | OpenError::MarksUnreadable { .. }
        | OpenError::CheckpointUnreadable { .. } => exit::JOURNAL_DAMAGED,
        OpenError::OtherPurpose { .. } => exit::OTHER_PURPOSE,
        OpenError::Foreign { .. } => exit::DIRECTORY_FOREIGN,
        OpenError::NoLog { .. } => exit::NO_LOG,
        OpenError::Config { .. } => exit::SETTINGS,
        OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            exit::DIRECTORY_FORBIDDEN
        }
        _ => exit::DIRECTORY_UNUSABLE,
    }
}
