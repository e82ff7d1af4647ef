//! `idemlog verify`: everything that is wrong, a line each.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use idemlog::Error;
use idemlog::verify::{Problem, Severity, VerifyOptions, VerifyReport, verify_with_progress};
use indicatif::{HumanBytes, HumanCount};

use crate::output::tell;
use crate::{Failure, hint, place, progress, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Log directories or partitions' directories. Nobody may have them open, but for --sealed.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only what is durable by the checkpoint, in partitions that may be open: for scrubbing beside a running broker. Without a
    /// checkpoint, all segments but the last.
    #[arg(long)]
    sealed: bool,
    /// Offsets may be missing, as in a log that was compacted, replicated or truncated: gaps are listed and no error.
    #[arg(long)]
    allow_gaps: bool,
    /// Every problem; else one of a kind for each file, with their number.
    #[arg(long)]
    all: bool,
    /// As JSON: every problem, by partition.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let options = VerifyOptions::default().allow_gaps(arguments.allow_gaps).sealed(arguments.sealed);
    let mut found = VerifyReport::default();
    for path in &arguments.paths {
        place::expect_partition_or_log_directory(path)?;
    }
    let total = arguments.paths.iter().map(|path| progress::log_bytes_in(path)).sum();
    let bar = progress::bar("verifying", total, false);
    for path in &arguments.paths {
        let before = found.bytes;
        let verified = verify_with_progress(path, &options, |bytes| bar.set_position(before + bytes));
        add(&mut found, verified.map_err(refused)?);
    }
    bar.finish_and_clear();
    if arguments.json {
        writeln!(out, "{:#}", report::found(&found))?;
    } else {
        describe(&found, arguments, out)?;
    }
    out.flush()?;
    hint::all(&found.problems).iter().for_each(tell);
    Ok(ExitCode::from(report::status(&found)))
}

fn add(found: &mut VerifyReport, more: VerifyReport) {
    found.partitions.extend(more.partitions);
    found.problems.extend(more.problems);
    found.looked_below.extend(more.looked_below);
    found.batches += more.batches;
    found.bytes += more.bytes;
}

/// A line for each problem, how far it was looked, and the verdict.
fn describe(found: &VerifyReport, arguments: &Arguments, out: &mut impl Write) -> std::io::Result<()> {
    for (path, offset) in &found.looked_below {
        writeln!(out, "{}: looked at below offset {offset}", path.display())?;
    }
    for (problem, more) in shown(&found.problems, arguments.all) {
        let more = if more > 0 { format!(" (and {more} more of this kind)") } else { String::new() };
        writeln!(out, "{}{more}", report::problem(problem))?;
    }
    writeln!(
        out,
        "{}: {} batches, {}, {}",
        report::verdict(found),
        HumanCount(found.batches),
        HumanBytes(found.bytes),
        counts(found)
    )
}

fn refused(error: Error) -> Failure {
    match error {
        Error::Locked { path } => format!(
            "{} is open in another process: verify it when that has closed it, what is durable with --sealed, or look at it with \
             `idemlog inspect`",
            path.display()
        )
        .into(),
        error => error.into(),
    }
}

/// The problems to show, those that tell of lost data first, each with how many more of its kind its file has.
fn shown(problems: &[Problem], all: bool) -> Vec<(&Problem, usize)> {
    let (lost, others): (Vec<_>, Vec<_>) = problems.iter().partition(|problem| problem.loses_data);
    let mut shown: Vec<(&Problem, usize)> = Vec::new();
    let mut places = HashMap::new();
    for problem in lost.into_iter().chain(others) {
        let place = *places.entry(kind(problem)).or_insert(shown.len());
        match shown.get_mut(place) {
            Some((_, more)) if !all => *more += 1,
            _ => shown.push((problem, 0)),
        }
    }
    shown
}

/// What the problems of a kind have in common.
fn kind(problem: &Problem) -> (&Path, Severity, &'static str) {
    (&problem.path, problem.severity, problem.kind.name())
}

fn counts(found: &VerifyReport) -> String {
    let notes = found.problems.iter().filter(|problem| problem.severity == Severity::Note).count();
    match (found.problems.len() - notes, notes) {
        (0, notes) if notes > 0 => format!("notes: {notes}"),
        (problems, 0) => format!("problems: {problems}"),
        (problems, notes) => format!("problems: {problems}, notes: {notes}"),
    }
}
