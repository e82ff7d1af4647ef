//! `idemlog verify`: everything that is wrong, a line each.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use idemlog::verify::{VerifyOptions, verify};
use indicatif::ProgressBar;

use crate::{Failure, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A log directory or a partition's directory.
    path: PathBuf,
    /// Offsets may be missing, as in a log that was compacted.
    #[arg(long)]
    allow_gaps: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let spinner = ProgressBar::new_spinner().with_message("reading");
    spinner.enable_steady_tick(Duration::from_millis(100));
    let found = verify(&arguments.path, &VerifyOptions::default().allow_gaps(arguments.allow_gaps));
    spinner.finish_and_clear();
    let found = found?;
    let is_watched = std::io::stdout().is_terminal();
    for problem in &found.problems {
        println!("{}", report::problem(problem, is_watched));
    }
    let verdict = if found.has_errors() { "damaged" } else { "sound" };
    println!(
        "{verdict}: {} batches, {} bytes, {} problems",
        found.batches,
        found.bytes,
        found.problems.len()
    );
    Ok(ExitCode::from(u8::from(found.has_errors())))
}
