//! A small Kafka-protocol broker, written the way a user of idemlog would write theirs.
//!
//! One task per connection reads requests and answers them in their order ([`connection`]); each API is a file of
//! [`api`]. Whatever may block, appends above all, runs on tokio's blocking threads; waiting for durability does not.

mod api;
mod broker;
mod connection;
mod coordinator;
mod faults;
mod frame;
mod request;
mod server;
mod shape;
mod topics;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// A small Kafka-protocol broker that keeps its partitions with idemlog.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The address to listen on. Clients are told the address that they connected to.
    #[arg(long, default_value = "127.0.0.1:9092")]
    listen: SocketAddr,
    /// The directory of the partitions; created if missing.
    #[arg(long)]
    data: PathBuf,
    /// How many partitions a topic gets that is created on first use.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=i64::from(topics::MAX_PARTITIONS)))]
    partitions: i32,
    /// The probability with which a produce request is stored and its connection closed without an answer.
    #[arg(long, default_value_t = 0.0, value_parser = faults::parse_probability)]
    lose_acks: f64,
    /// The probability with which a partition refuses a batch for now, as it does where too many producers are active.
    #[arg(long, default_value_t = 0.0, value_parser = faults::parse_probability)]
    refuse: f64,
    /// The seed for the choice of what is lost or refused.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(server::run(arguments))
}

/// A line for the operator. That nobody reads it is no reason to fail.
fn log(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
