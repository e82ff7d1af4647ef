//! `idemlog verify`: everything that is wrong, a line each.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use idemlog::verify::{VerifyOptions, verify_with_progress};
use indicatif::{HumanBytes, HumanCount};

use crate::{Failure, place, progress, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A log directory or a partition's directory.
    path: PathBuf,
    /// Offsets may be missing, as in a log that was compacted or replicated: gaps are listed and no error.
    #[arg(long)]
    allow_gaps: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let path = &arguments.path;
    place::expect_partition_or_log_directory(path)?;
    let options = VerifyOptions::default().allow_gaps(arguments.allow_gaps);
    let bar = progress::bar("verifying", progress::log_bytes_in(path), false);
    let found = verify_with_progress(path, &options, |bytes| bar.set_position(bytes))?;
    bar.finish_and_clear();
    for problem in &found.problems {
        writeln!(out, "{}", report::problem(problem))?;
    }
    writeln!(
        out,
        "{}: {} batches, {}, problems: {}",
        report::verdict(found.has_errors()),
        HumanCount(found.batches),
        HumanBytes(found.bytes),
        found.problems.len()
    )?;
    if found.has_errors() {
        eprintln!("idemlog: `idemlog repair PARTITION` says what can be done about it");
    }
    Ok(ExitCode::from(u8::from(found.has_errors())))
}
