//! `idemlog`: looks at logs on the disk, and changes none.

mod dump;
mod inspect;
mod producers;
mod report;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Looks at logs on the disk. Changes nothing.
#[derive(Parser)]
#[command(name = "idemlog", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads everything in a log directory or a partition, and lists what is wrong. Exits with 1 if anything is.
    Verify(verify::Arguments),
    /// Shows the state that opening a partition would come to.
    Inspect(inspect::Arguments),
    /// Lists the producers that a partition knows.
    Producers(producers::Arguments),
    /// Prints the batches of a partition or a segment, or the entries of an index or a snapshot.
    Dump(dump::Arguments),
}

/// What a command can fail with.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Producers(arguments) => producers::run(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("idemlog: {failure}");
        ExitCode::from(2)
    })
}
