//! `idemlog inspect`: the state that opening a partition would come to.

use std::path::PathBuf;
use std::process::ExitCode;

use idemlog::inspect::{InspectOptions, inspect};
use idemlog::{Offset, Timestamp};

use crate::{Failure, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The partition's directory.
    partition: PathBuf,
    /// Everything as JSON, rather than the recovery's report.
    #[arg(long)]
    json: bool,
    /// As if it had not been closed well.
    #[arg(long)]
    unclean: bool,
    /// The offset below which all is durable.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    recovery_point: i64,
    /// The log start offset; else that of the first segment.
    #[arg(long, value_name = "OFFSET")]
    log_start: Option<i64>,
    /// The time; else the host's.
    #[arg(long, value_name = "MS")]
    now: Option<i64>,
    /// After how long a producer is forgotten.
    #[arg(long, value_name = "MS", default_value_t = 86_400_000)]
    producer_expiry: i64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let options = InspectOptions::default()
        .clean(!arguments.unclean)
        .recovery_point(Offset(arguments.recovery_point))
        .log_start(arguments.log_start.map(Offset))
        .now(arguments.now.map(Timestamp))
        .producer_expiry(arguments.producer_expiry);
    let state = inspect(&arguments.partition, &options)?;
    if arguments.json {
        println!("{:#}", report::state(&state));
    } else {
        println!("{}", state.recovery);
    }
    Ok(ExitCode::SUCCESS)
}
