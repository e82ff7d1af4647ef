//! Exactly once, with real faults: `cargo run --release --example quickstart`.
//!
//! Producers append to the partitions of a server that runs in a process of its own. On the way some acknowledgements
//! are lost, so their batches are sent again, and in the middle the server is killed with SIGKILL. At the end the files
//! are read back without the engine, and every record must be there once, in its producer's order.
//!
//! Where to read: `server.rs` is how a broker uses the library. `traffic.rs` is the clients' side, with the faults.
//! `check.rs` is the judge, which believes only the files and the `ledger.rs` of what was acknowledged.

mod arguments;
mod check;
mod identity;
mod lane;
mod ledger;
mod progress;
mod remote;
mod server;
mod summary;
mod traffic;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arguments::{Arguments, Command};
use summary::Summary;
use traffic::Traffic;

/// The topic that everything is written to.
const TOPIC: &str = "readings";

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match Command::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", arguments::USAGE);
            ExitCode::SUCCESS
        }
        Ok(Command::Serve { directory, partitions }) => exit_code(server::run(&directory, partitions)),
        Ok(Command::Run(arguments)) => exit_code(run(&arguments)),
        Err(problem) => {
            eprintln!("{problem}\n\n{}", arguments::USAGE);
            ExitCode::from(2)
        }
    }
}

fn exit_code(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result {
    let workplace = Workplace::new(arguments.directory.as_deref())?;
    println!("{arguments}, in {}", workplace.path().display());
    match prove(arguments, workplace.path()) {
        Ok(()) => {
            workplace.finish();
            Ok(())
        }
        Err(error) => Err(format!("{error}\nThe files are kept in {}", workplace.keep().display()).into()),
    }
}

/// Sends everything through all the faults, then reads the files back.
fn prove(arguments: &Arguments, directory: &Path) -> Result {
    let sent = Traffic::start(arguments, directory)?.run()?;
    let found = check::check(directory, &sent.lanes, &sent.ledger)?;
    let summary = Summary { arguments, counts: &sent.counts, found: &found };
    println!("\n{summary}");
    summary.verdict().map(|verdict| println!("{verdict}")).map_err(Into::into)
}

/// Where the files lie: a directory that was asked for and stays, or a temporary one that goes when all is well.
enum Workplace {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Workplace {
    fn new(given: Option<&Path>) -> Result<Self> {
        let Some(path) = given else {
            return Ok(Self::Temporary(tempfile::Builder::new().prefix("idemlog-quickstart-").tempdir()?));
        };
        let problem = |error| format!("cannot use {}: {error}", path.display());
        std::fs::create_dir_all(path).map_err(problem)?;
        if std::fs::read_dir(path).map_err(problem)?.next().is_some() {
            return Err(format!("{} is not empty; name a directory that is new", path.display()).into());
        }
        Ok(Self::Given(path.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    fn finish(self) {
        if let Self::Given(path) = self {
            println!("The files are in {}", path.display());
        }
    }

    fn keep(self) -> PathBuf {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.keep(),
        }
    }
}
