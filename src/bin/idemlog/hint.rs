//! What can be done about a file that `verify` complains of.

use std::path::Path;

use idemlog::verify::{Problem, ProblemKind, Severity};
use idemlog::{Corruption, CorruptionKind};

/// What can be done about the problems that are no notes, once each, in order.
pub(crate) fn all(problems: &[Problem]) -> Vec<String> {
    let mut hints: Vec<String> = Vec::new();
    for hint in problems.iter().filter_map(hint) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    hints
}

/// What can be done about a file with which nothing opens.
pub(crate) fn of(damage: &Corruption) -> Option<String> {
    let usual = without_file(&damage.path);
    if is_newer(&damage.kind) { Some(by_newer(&damage.path, usual)) } else { usual }
}

fn hint(problem: &Problem) -> Option<String> {
    if problem.severity != Severity::Error {
        return None;
    }
    let usual = usual(problem);
    Some(match &problem.kind {
        ProblemKind::Corrupt(kind) if is_newer(kind) => by_newer(&problem.path, Some(usual)),
        _ => usual,
    })
}

fn is_newer(kind: &CorruptionKind) -> bool {
    matches!(kind, CorruptionKind::Version { expected, got } if got > expected)
}

fn by_newer(path: &Path, usual: Option<String>) -> String {
    let usual =
        usual.map_or(String::new(), |usual| format!(". If there was none, the file is damaged: {usual}"));
    format!("{} is as the newer program left it: go on with that one{usual}", path.display())
}

/// What can be done about a file that is damaged and need not be there.
fn without_file(path: &Path) -> Option<String> {
    let without = without(&path.file_name()?.to_string_lossy())?;
    Some(format!("close whatever has the directory open and move {} away: {without}", path.display()))
}

fn usual(problem: &Problem) -> String {
    let path = problem.path.as_path();
    let shown = path.display();
    if let Some(hint) = without_file(path) {
        return hint;
    }
    // What is missing comes back only from elsewhere; that the log ends too early can be accepted.
    let restore = || format!("what {shown} lacks can only come from a copy or a replica");
    match problem.kind {
        ProblemKind::UnfinishedCompaction => format!("let Kafka open {shown}: it finishes what it has begun"),
        ProblemKind::NotAFile => format!("{shown} must go: nothing opens the partition before"),
        ProblemKind::MissingEnd { .. } => format!("{}; {}", restore(), repair(path)),
        ProblemKind::Gap { .. } => allow_gaps(),
        ProblemKind::MissingSegment { .. } => format!("{}; else {}", allow_gaps(), restore()),
        ProblemKind::LostSegment { .. } => format!("{shown} can only come from a copy or a replica"),
        ref kind if kind.name() == "records" => format!(
            "{shown} is as its batch was appended, so nothing repairs it: the log opens, and whoever reads these records gets the error"
        ),
        _ if problem.loses_data => restore(),
        _ => repair(path.parent().unwrap_or(path)),
    }
}

fn allow_gaps() -> String {
    "if the log was compacted, replicated or truncated, offsets may be missing: --allow-gaps".to_owned()
}

fn repair(partition: &Path) -> String {
    format!("`idemlog repair {}` says what can be done", partition.display())
}

/// What an opening does without a file that `repair` does not make again.
fn without(name: &str) -> Option<&'static str> {
    Some(match name {
        "recovery-point-offset-checkpoint" => {
            "without it no partition has a recovery point. Verify again first: an opening would read every batch (of a directory \
             that is marked clean only the ends), and cut damage as an unfinished end instead of refusing it"
        }
        "log-start-offset-checkpoint" => {
            "without it every log begins with its first segment. Deleted records that are still in it come back, and a log \
             without a segment begins at offset 0 again"
        }
        "replication-offset-checkpoint" => {
            "without it no high watermark is known until the host sets it again"
        }
        "idemlog-producer-ids" => {
            "without it ids go on above the highest that a partition that opens or a named producer knows. One that was given out \
             and is known to none of them may be given out again"
        }
        "idemlog-named-producers" => {
            "without it every name begins with a new id, and whoever came under it before is not fenced"
        }
        "partition.metadata" => "without it the partition takes the next topic id that it is asked for",
        _ => return None,
    })
}
