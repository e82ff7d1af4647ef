//! `idemlog`: looks at logs on the disk, and repairs them if it is told to.

mod batches;
mod directory;
mod dump;
mod hint;
mod inspect;
mod kafka_json;
mod opening;
mod output;
mod place;
mod producers;
mod progress;
mod repair;
mod report;
mod verify;

use std::io::{BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use output::{UntilUnread, tell};

/// Looks at logs on the disk. Only `repair --yes` changes anything.
#[derive(Parser)]
#[command(name = "idemlog", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads everything in a log directory or a partition, and lists what is wrong. Exits with 1 if anything is; with 2 if
    /// something could not be read, whatever else was found, and at once if the log is open, but for --sealed.
    Verify(verify::Arguments),
    /// Shows the state that opening a partition would come to, by the checkpoints beside it; of a log directory, a line for each
    /// partition: whether it opens, and how much the opening reads. Exits with 1 if an opening refuses any, with 2 if something
    /// cannot be read. Of a log that is open, the end may be under way.
    Inspect(inspect::Arguments),
    /// Lists the producers that a partition knows.
    Producers(producers::Arguments),
    /// Prints the batches of a partition or a segment, or the entries of an index or a snapshot, of files that were kept aside,
    /// too. Exits with 2 if the file is damaged.
    Dump(dump::Arguments),
    /// Says how a damaged partition can be put right, and with --yes does it, keeping all that it takes away. Exits with 1
    /// if anything is left to do.
    Repair(repair::Arguments),
}

impl Command {
    /// Whether its exit status tells what it found; of the others it is enough what somebody read.
    fn judges(&self) -> bool {
        matches!(self, Self::Verify(_) | Self::Inspect(_) | Self::Repair(_))
    }
}

/// What a command can fail with.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    run(&command).unwrap_or_else(|failure| {
        if is_broken_pipe(&failure) {
            return ExitCode::SUCCESS;
        }
        tell(failure);
        ExitCode::from(2)
    })
}

fn run(command: &Command) -> Result<ExitCode, Failure> {
    let stdout = std::io::stdout().lock();
    let out: Box<dyn Write> =
        if command.judges() { Box::new(UntilUnread::new(stdout)) } else { Box::new(stdout) };
    let mut out = BufWriter::new(out);
    let outcome = match command {
        Command::Verify(arguments) => verify::run(arguments, &mut out),
        Command::Inspect(arguments) => inspect::run(arguments, &mut out),
        Command::Producers(arguments) => producers::run(arguments, &mut out),
        Command::Dump(arguments) => dump::run(arguments, &mut out),
        Command::Repair(arguments) => repair::run(arguments, &mut out),
    };
    // What came before a failure is shown before it.
    out.flush()?;
    outcome
}

/// Whether the reader of a pipe has seen enough, as `head` has.
fn is_broken_pipe(failure: &Failure) -> bool {
    failure.downcast_ref().is_some_and(|error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe)
}
