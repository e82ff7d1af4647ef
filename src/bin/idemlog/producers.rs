//! `idemlog producers`: who wrote to a partition, and how far each has come.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use idemlog::inspect::{InspectOptions, inspect};

use crate::output::tell;
use crate::{Failure, place, progress, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The partition's directory.
    partition: PathBuf,
    /// As JSON, in Kafka's words.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let path = &arguments.partition;
    place::expect_partition(path)?;
    let is_in_use = place::note_use(path);
    let options = InspectOptions::of_partition(path)?;
    let state = progress::waiting(path, || inspect(path, &options))?;
    if arguments.json {
        writeln!(out, "{:#}", report::producers(&state, is_in_use))?;
        return Ok(ExitCode::SUCCESS);
    }
    for producer in &state.producers {
        writeln!(out, "{}", report::producer_line(producer))?;
    }
    if state.producers.is_empty() {
        tell("no producer is known here: none had an id, or all were forgotten");
    }
    Ok(ExitCode::SUCCESS)
}
