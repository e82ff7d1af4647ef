//! `idemlog repair`: what is to be done about a damaged partition, and with `--yes`, that.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use idemlog::repair::{plan, repair};
use idemlog::verify::{Problem, ProblemKind, Severity, VerifyOptions, verify};

use crate::{Failure, place, progress, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The partition's directory.
    partition: PathBuf,
    /// Does it. Without this nothing is changed.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let path = &arguments.partition;
    place::expect_partition(path)?;
    place::note_use(path);
    let planned = progress::waiting(path, || plan(path))?;
    if planned.is_needless() {
        writeln!(out, "nothing to repair")?;
        return judge(path, Vec::new(), out);
    }
    if !arguments.yes {
        writeln!(out, "to be done, with --yes:\n{planned}")?;
        return Ok(ExitCode::FAILURE);
    }
    let done = progress::waiting(path, || repair(path))?;
    writeln!(out, "done:\n{done}")?;
    judge(path, planned.lost, out)
}

/// What `verify` has to say now: of segments that are `lost` it may have no trace any more. A gap is nothing that a repair could
/// mend, and an opening takes it; but it may be a segment that is gone, so it is told.
fn judge(path: &PathBuf, lost: Vec<Problem>, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let options = VerifyOptions::default().allow_gaps(true);
    let mut found = progress::waiting(path, || verify(path, &options))?;
    found.problems.retain(|problem| !lost.contains(problem));
    found.problems.extend(lost);
    let is_told = |problem: &&Problem| {
        problem.severity > Severity::Note || matches!(problem.kind, ProblemKind::Gaps { .. })
    };
    for problem in found.problems.iter().filter(is_told) {
        writeln!(out, "{}", report::problem(problem))?;
    }
    writeln!(out, "{}", report::verdict(&found))?;
    Ok(ExitCode::from(report::status(&found)))
}
