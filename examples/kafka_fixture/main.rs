//! A partition directory for Kafka to load, written by random operations:
//! `cargo run --release --example kafka_fixture -- DIR --seed N [--ops N] [--crash]`.
//!
//! `DIR` becomes a log directory with the partition `fixture-0`. `DIR/expected.json` tells what was appended, what the state
//! was before the log was closed, and what files there are. It has the keys of recordings of Kafka's own log, so the same
//! program can load both. With `--crash` a process does the work and is killed with SIGKILL.
//!
//! The operations come in two parts. The first has all kinds. Between the two, producers that expired are forgotten for
//! good, by a snapshot without them; the second only appends. So whoever loads the directory comes to the state in
//! `expected.json`, whatever is done about expired producers: Kafka has fewer batches of each, because its snapshots do.

mod arguments;
mod expected;
#[path = "../../src/bin/idemlog/kafka_json.rs"]
mod kafka_json;
mod operations;
mod state;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use arguments::Arguments;
use operations::Operations;
use serde_json::Value;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kafka_fixture: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result {
    if arguments.is_child {
        return work_until_killed(arguments);
    }
    expect_new(&arguments.directory)?;
    let report = if arguments.crash { work_and_kill()? } else { work_and_close(arguments)? };
    let path = expected::write(arguments, &report)?;
    println!("{}", path.display());
    Ok(())
}

fn expect_new(directory: &Path) -> Result {
    std::fs::create_dir_all(directory)?;
    if std::fs::read_dir(directory)?.next().is_some() {
        return Err(format!("{} is not empty; name a directory that is new", directory.display()).into());
    }
    Ok(())
}

fn work_and_close(arguments: &Arguments) -> Result<Value> {
    let mut operations = Operations::begin(arguments)?;
    let report = operations.perform(arguments.ops)?;
    operations.close()?;
    Ok(report)
}

/// Has a process like this one do the work, and kills it when it is done and nothing is closed.
fn work_and_kill() -> Result<Value> {
    let program: PathBuf = std::env::current_exe()?;
    let mut child = Command::new(program)
        .args(std::env::args().skip(1))
        .arg(arguments::CHILD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut report = String::new();
    let told = child.stdout.take().map_or(Ok(0), |stdout| BufReader::new(stdout).read_line(&mut report));
    child.kill()?;
    child.wait()?;
    told?;
    serde_json::from_str(&report).map_err(|_| "the process that does the work has failed".into())
}

/// Does the work, tells what came of it, and waits for the end.
fn work_until_killed(arguments: &Arguments) -> Result {
    let mut operations = Operations::begin(arguments)?;
    let report = operations.perform(arguments.ops)?;
    println!("{report}");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    // Nobody is there any more to kill it. A destructor would be more than a killed process runs.
    std::process::abort()
}
